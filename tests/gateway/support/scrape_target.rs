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

use super::body::field;

/// Writes the page for a scrape from the number of scrapes before it.
type Page = Box<dyn FnMut(u64) -> Vec<u8> + Send>;

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

    /// Serves `count` gauges `steady` and as many native histograms `native`, as the protobuf messages
    /// that a Prometheus asks for if it scrapes native histograms.
    pub(crate) async fn with_native_histograms(count: usize) -> Self {
        const DELIMITED: &str = "application/vnd.google.protobuf; \
                                 proto=io.prometheus.client.MetricFamily; encoding=delimited";
        Self::serving_bytes(DELIMITED, move |before| families(count, before)).await
    }

    /// Serves pages of a content type. `page` is called for each scrape with the number of scrapes
    /// before it.
    pub(crate) async fn serving(
        content_type: &'static str,
        mut page: impl FnMut(u64) -> String + Send + 'static,
    ) -> Self {
        Self::serving_bytes(content_type, move |before| page(before).into_bytes()).await
    }

    async fn serving_bytes(
        content_type: &'static str,
        page: impl FnMut(u64) -> Vec<u8> + Send + 'static,
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

/// Two `io.prometheus.client.MetricFamily`, each after its length.
fn families(count: usize, before: u64) -> Vec<u8> {
    const GAUGE: u8 = 1;
    const HISTOGRAM: u8 = 4;
    let varint = |number: u8, value: u64| {
        let mut field = vec![number << 3];
        prost::encoding::encode_varint(value, &mut field);
        field
    };
    let double =
        |number: u8, value: f64| [vec![number << 3 | 1], value.to_le_bytes().to_vec()].concat();
    let gauge = || field(2, &double(1, before as f64));
    // Schema 3, a span of one bucket at offset 1, and a delta, all in zigzag encoding.
    let span = [varint(1, 2), varint(2, 1)].concat();
    let histogram = || {
        let fields = [
            varint(1, before + 1),
            double(2, 4.5),
            varint(5, 6),
            double(6, 0.001),
            varint(7, 0),
            field(12, &span),
            varint(13, 2 * (before + 1)),
        ];
        field(7, &fields.concat())
    };
    let family = |name: &str, metric_type, value: &dyn Fn() -> Vec<u8>| {
        let mut message = [field(1, name.as_bytes()), varint(3, u64::from(metric_type))].concat();
        for n in 0..count {
            let label = [field(1, b"n"), field(2, n.to_string().as_bytes())].concat();
            message.extend(field(4, &[field(1, &label), value()].concat()));
        }
        let mut delimited = Vec::new();
        prost::encoding::encode_varint(message.len() as u64, &mut delimited);
        delimited.extend(message);
        delimited
    };
    [
        family("steady", GAUGE, &gauge),
        family("native", HISTOGRAM, &histogram),
    ]
    .concat()
}
