//! Reads the pages of the servers that a load is sent to, above all the counters of `/metrics`.

use std::net::SocketAddr;

use anyhow::{Context, ensure};
use http::Request;
use http_body_util::Full;

use super::client::{Client, Response, Server};

/// Gets a page over a connection of its own.
///
/// # Errors
///
/// Fails if there is no response, or if it is not 2xx.
pub async fn get(address: SocketAddr, path: &str) -> anyhow::Result<Response> {
    let request = Request::get(path)
        .body(Full::default())
        .context("build the request")?;
    let response = Client::new(Server::at(address)).send(request).await?;
    ensure!(
        response.status.is_success(),
        "http://{address}{path} answered {}: {}",
        response.status,
        response.text()
    );
    Ok(response)
}

/// Adds up the series of a metric on a page of `/metrics`; `None` if there are none.
///
/// `labels` are written as on the page, such as `spoke="production"`. A series must have all of
/// them, and it may have more.
pub fn sum(page: &str, metric: &str, labels: &[&str]) -> Option<f64> {
    let values = page.lines().filter_map(|line| {
        let rest = line.strip_prefix(metric)?;
        let is_wanted =
            rest.starts_with(['{', ' ']) && labels.iter().all(|label| rest.contains(label));
        let (_, value) = rest.rsplit_once(' ').filter(|_| is_wanted)?;
        value.parse::<f64>().ok()
    });
    values.reduce(|sum, value| sum + value)
}

#[cfg(test)]
mod tests {
    use super::sum;

    const PAGE: &str = "# TYPE samples_total counter\n\
        samples_total{kind=\"float\",spoke=\"a\"} 70\n\
        samples_total{kind=\"float\",spoke=\"ab\"} 1e+03\n\
        samples_total{kind=\"histogram\",spoke=\"a\"} 1\n\
        samples_total_more{kind=\"float\",spoke=\"a\"} 5\n\
        requests_total 3\n";

    #[test]
    fn adds_up_the_series_that_have_all_labels() {
        let samples = |labels: &[&str]| sum(PAGE, "samples_total", labels);
        assert_eq!(samples(&[]), Some(1_071.0));
        assert_eq!(samples(&["spoke=\"a\""]), Some(71.0));
        assert_eq!(samples(&["spoke=\"a\"", "kind=\"float\""]), Some(70.0));
        assert_eq!(samples(&["spoke=\"b\""]), None);
        assert_eq!(sum(PAGE, "requests_total", &[]), Some(3.0));
        assert_eq!(sum(PAGE, "requests", &[]), None);
    }
}
