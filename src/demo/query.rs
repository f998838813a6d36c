//! Instant queries: how a check asks a hub for series, and the selectors that the demo's hub knows.
//!
//! The demo's hub knows one form, `metric{label="value"}`, and responds in the JSON of Prometheus.
//! So the same checks work with both.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::load::scrape;

/// The path of instant queries.
pub(super) const QUERY_PATH: &str = "/api/v1/query";

/// The JSON of the response to an instant query.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct QueryResponse {
    pub(super) status: String,
    pub(super) data: Data,
}

/// The `data` of a response.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Data {
    pub(super) result_type: String,
    pub(super) result: Vec<Found>,
}

/// A series with its last value.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Found {
    pub(super) metric: BTreeMap<String, String>,
    /// Seconds since the Unix epoch, and the value as text.
    pub(super) value: (f64, String),
}

impl Found {
    /// The value of a label; empty if the series does not have it.
    pub(super) fn label(&self, name: &str) -> &str {
        self.metric.get(name).map_or("", String::as_str)
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let labels = self.metric.iter().filter(|(name, _)| *name != "__name__");
        let labels: Vec<String> = labels
            .map(|(name, value)| format!("{name}={value:?}"))
            .collect();
        write!(
            f,
            "{}{{{}}} {}",
            self.label("__name__"),
            labels.join(","),
            self.value.1
        )
    }
}

/// Asks a hub for the series that a selector selects.
pub(super) async fn query(hub: SocketAddr, selector: &str) -> anyhow::Result<Vec<Found>> {
    let path = format!("{QUERY_PATH}?query={}", percent_encode(selector));
    let response = scrape::get(hub, &path).await?;
    let response: QueryResponse = serde_json::from_slice(&response.body)
        .with_context(|| format!("the hub's response to {selector} is not as expected"))?;
    Ok(response.data.result)
}

/// The metric name and the labels that a series must have.
#[derive(Debug, PartialEq)]
pub(super) struct Selector(Vec<(String, String)>);

impl Selector {
    /// Parses `metric{label="value",...}`; `None` for any other PromQL.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (metric, matchers) = text.split_once('{').unwrap_or((text, "}"));
        let matchers = matchers.strip_suffix('}')?;
        let is_name = |name: &str| {
            !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        };
        let mut labels = vec![("__name__".to_owned(), metric.to_owned())];
        for matcher in matchers.split(',').filter(|matcher| !matcher.is_empty()) {
            let (name, value) = matcher.split_once('=')?;
            let value = value.strip_prefix('"')?.strip_suffix('"')?;
            labels.push((name.to_owned(), value.to_owned()));
        }
        (is_name(metric) && labels.iter().all(|(name, _)| is_name(name))).then_some(Self(labels))
    }

    /// Tells whether a series has all of the labels.
    pub(super) fn matches<'a>(&self, label: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.0
            .iter()
            .all(|(name, value)| label(name).unwrap_or("") == value)
    }
}

fn percent_encode(text: &str) -> String {
    let encode = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(encode).collect()
}

/// Decodes percent-encoding; `None` if an escape is not valid.
pub(super) fn percent_decode(text: &str) -> Option<String> {
    let mut pieces = text.split('%');
    let mut bytes = pieces.next()?.as_bytes().to_vec();
    for piece in pieces {
        bytes.push(u8::from_str_radix(piece.get(..2)?, 16).ok()?);
        bytes.extend_from_slice(&piece.as_bytes()[2..]);
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selector_needs_the_metric_and_every_label() {
        let labels = BTreeMap::from([("__name__", "up"), ("cluster", "staging")]);
        let check = |text: &str, expected: Option<bool>| {
            let selector = Selector::parse(text);
            let found = selector.map(|selector| selector.matches(|name| labels.get(name).copied()));
            assert_eq!(found, expected, "{text}");
        };
        check("up", Some(true));
        check(r#"up{cluster="staging"}"#, Some(true));
        check(r#"up{cluster="production"}"#, Some(false));
        check(r#"up{cluster="staging",job=""}"#, Some(true));
        check("sum(up)", None);
        check(r#"up{cluster=~"staging"}"#, None);
        check(r#"{cluster="staging"}"#, None);
    }

    #[test]
    fn percent_encoding_decodes_to_the_text() {
        let text = r#"up{cluster="größer %"}"#;
        assert_eq!(percent_decode(&percent_encode(text)).as_deref(), Some(text));
        assert_eq!(percent_decode("100%"), None);
    }
}
