//! A target for a Prometheus to scrape: the test writes its OpenMetrics text.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

/// Writes the page for a scrape from the number of scrapes before it.
type Page = Box<dyn FnMut(u64) -> String + Send>;

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A target on a port of its own. It ends with the runtime of the test.
pub(crate) struct ScrapeTarget {
    pub(crate) address: SocketAddr,
}

impl ScrapeTarget {
    /// Serves OpenMetrics. `page` is called for each scrape with the number of scrapes before it. It
    /// must leave out the final `# EOF`.
    pub(crate) async fn start(mut page: impl FnMut(u64) -> String + Send + 'static) -> Self {
        Self::serving(OPEN_METRICS, move |before| page(before) + "# EOF\n").await
    }

    /// Serves pages of a content type. `page` is called for each scrape with the number of scrapes
    /// before it.
    pub(crate) async fn serving(
        content_type: &'static str,
        page: impl FnMut(u64) -> String + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let page: Arc<Mutex<(u64, Page)>> = Arc::new(Mutex::new((0, Box::new(page))));
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let page = Arc::clone(&page);
                tokio::spawn(serve(TokioIo::new(stream), content_type, page));
            }
        });
        Self { address }
    }
}

async fn serve(
    stream: TokioIo<tokio::net::TcpStream>,
    content_type: &'static str,
    page: Arc<Mutex<(u64, Page)>>,
) {
    let service = service_fn(|_| {
        let mut page = page.lock().unwrap();
        let (before, page) = &mut *page;
        let text = page(*before);
        *before += 1;
        let response = Response::builder().header("content-type", content_type);
        let response = response.body(Full::new(Bytes::from(text))).unwrap();
        std::future::ready(Ok::<_, Infallible>(response))
    });
    let _ = hyper::server::conn::http1::Builder::new()
        .serve_connection(stream, service)
        .await;
}
