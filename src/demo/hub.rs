//! A hub in the process of the demo, for machines without a Prometheus: it accepts remote writes
//! and instant queries.
//!
//! It decodes messages with prost and not with the gate's own code, so it notices what the gate
//! damages. It keeps the last sample of each series in memory and refuses no sample for its time.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, ensure};
use axum::extract::{DefaultBodyLimit, RawQuery, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

use super::message::{self, Series};
use super::query::{self, Data, Found, QUERY_PATH, QueryResponse, Selector};
use crate::load::drive::unix_ms;
use crate::remote_write::{self, WRITE_PATH};
use crate::wire::proto::v1::Label;
use crate::wire::{Counts, Protocol};

/// The metric that counts all samples that the hub accepted, with those of the load.
pub(super) const SAMPLES_METRIC: &str = "demo_hub_samples_total";

/// The limit of Prometheus.
const BODY_BYTES_MAX: usize = 32 << 20;

/// The checks send about 40,000 series. The hub of a demo that stays up must not grow for ever.
const SERIES_MAX: usize = 200_000;

/// A running hub. It ends when it is dropped.
pub(super) struct Hub {
    address: SocketAddr,
    _server: AbortOnDropHandle<std::io::Result<()>>,
}

impl Hub {
    /// Binds a free port and serves in the background.
    pub(super) async fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .context("bind the hub")?;
        let address = listener.local_addr()?;
        let router = Router::new()
            .route(WRITE_PATH, post(write))
            .route(QUERY_PATH, get(instant_query))
            .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
            .with_state(Arc::new(Mutex::new(Store::default())));
        let server = tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(Self {
            address,
            _server: AbortOnDropHandle::new(server),
        })
    }

    /// The address on which it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }
}

#[derive(Default)]
struct Store {
    series: HashMap<Vec<Label>, Last>,
    samples: u64,
}

struct Last {
    value: f64,
    timestamp_ms: i64,
}

impl Store {
    /// Stores a message, whole or not at all; returns how many samples it has.
    fn store(&mut self, message: Vec<Series>) -> anyhow::Result<u64> {
        ensure!(
            self.series.len() + message.len() <= SERIES_MAX,
            "the demo's hub is full"
        );
        let samples = message
            .iter()
            .map(|series| series.samples.len() as u64)
            .sum();
        for series in message {
            let Some(&(value, timestamp_ms)) = series.samples.last() else {
                continue;
            };
            let last = Last {
                value,
                timestamp_ms,
            };
            match self.series.get_mut(&series.labels) {
                Some(stored) => *stored = last,
                None => drop(self.series.insert(series.labels, last)),
            }
        }
        self.samples += samples;
        Ok(samples)
    }

    fn select(&self, selector: &Selector) -> Vec<Found> {
        let selected = |labels: &[Label]| {
            let label = |name: &str| labels.iter().find(|label| label.name == name);
            selector.matches(|name| label(name).map(|label| label.value.as_str()))
        };
        let found = self.series.iter().filter(|(labels, _)| selected(labels));
        let found = found.map(|(labels, last)| found_series(labels, last));
        let own = [Label {
            name: "__name__".to_owned(),
            value: SAMPLES_METRIC.to_owned(),
        }];
        let last = Last {
            value: self.samples as f64,
            timestamp_ms: unix_ms(),
        };
        let count = selected(&own).then(|| found_series(&own, &last));
        found.chain(count).collect()
    }
}

fn found_series(labels: &[Label], last: &Last) -> Found {
    let pair = |label: &Label| (label.name.clone(), label.value.clone());
    let seconds = last.timestamp_ms as f64 / 1e3;
    Found {
        metric: labels.iter().map(pair).collect(),
        value: (seconds, last.value.to_string()),
    }
}

async fn write(
    State(store): State<Arc<Mutex<Store>>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let content_type = headers
        .get(CONTENT_TYPE)
        .map_or(&b""[..], |value| value.as_bytes());
    let v2 = content_type == remote_write::content_type(Protocol::V2).as_bytes();
    let protocol = if v2 { Protocol::V2 } else { Protocol::V1 };
    let message = match message::decode(protocol, &body) {
        Ok(message) => message,
        Err(error) => return (StatusCode::BAD_REQUEST, format!("{error:#}\n")).into_response(),
    };
    let stored = store
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .store(message);
    match (stored, protocol) {
        (Err(error), _) => {
            (StatusCode::SERVICE_UNAVAILABLE, format!("{error:#}\n")).into_response()
        }
        (Ok(_), Protocol::V1) => StatusCode::NO_CONTENT.into_response(),
        (Ok(samples), Protocol::V2) => {
            let mut response = StatusCode::NO_CONTENT.into_response();
            let written = Counts::new([samples, 0, 0, 0]);
            remote_write::insert_written(response.headers_mut(), &written);
            response
        }
    }
}

async fn instant_query(
    State(store): State<Arc<Mutex<Store>>>,
    RawQuery(parameters): RawQuery,
) -> Response {
    let parameters = parameters.unwrap_or_default();
    let text = parameters
        .split('&')
        .find_map(|pair| pair.strip_prefix("query="));
    let text = text.and_then(query::percent_decode);
    let Some(selector) = text.as_deref().and_then(Selector::parse) else {
        let text = "the demo's hub only knows query=metric{label=\"value\"}\n";
        return (StatusCode::BAD_REQUEST, text).into_response();
    };
    let result = store
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .select(&selector);
    let data = Data {
        result_type: "vector".to_owned(),
        result,
    };
    Json(QueryResponse {
        status: "success".to_owned(),
        data,
    })
    .into_response()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::load::client::Server;
    use crate::load::drive::Load;
    use crate::load::shape::{Mix, Shape};
    use crate::load::{Plan, Progress};

    fn plan(hub: SocketAddr, protocol: Protocol) -> Plan {
        Plan {
            server: Server::at(hub),
            path: WRITE_PATH.to_owned(),
            authorization: None,
            shape: Shape {
                protocol,
                series_per_request: 50,
                mix: Mix::Uniform { labels: 14 },
                extra: None,
                cluster: None,
            },
            connections: 2,
            bodies_per_connection: 2,
            duration: Duration::from_millis(100),
            samples_per_second: None,
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn hub_counts_the_samples_of_a_load_and_finds_its_series() {
        let hub = Hub::start().await.unwrap();
        let mut sent = 0;
        for protocol in [Protocol::V1, Protocol::V2] {
            let plan = plan(hub.address(), protocol);
            let load = move || Load::new(&plan, &Progress::default())?.drive();
            let (tally, _) = tokio::task::spawn_blocking(load).await.unwrap().unwrap();
            assert!(tally.is_clean(), "{tally:?}");
            let written = (protocol == Protocol::V2).then_some(tally.samples);
            assert_eq!(tally.samples_written, written);
            sent += tally.samples;
        }
        let count = query::query(hub.address(), SAMPLES_METRIC).await.unwrap();
        assert_eq!(count[0].value.1, sent.to_string());
        let selector = "container_cpu_usage_seconds_total{service=\"kubelet\"}";
        let found = query::query(hub.address(), selector).await.unwrap();
        assert!(!found.is_empty());
        assert!(query::query(hub.address(), "sum(up)").await.is_err());
    }
}
