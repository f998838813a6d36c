//! Something to scrape: OpenMetrics text that the test writes.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

/// What a scrape gets, made anew for each, by its number.
type Page = Box<dyn FnMut(u64) -> String + Send>;

/// A target on a port of its own; it ends with the runtime of the test.
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
}

impl Target {
    /// `page` is called for each scrape with how many came before, and leaves `# EOF` out.
    pub(crate) async fn start(page: impl FnMut(u64) -> String + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let page: Arc<Mutex<(u64, Page)>> = Arc::new(Mutex::new((0, Box::new(page))));
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(TokioIo::new(stream), Arc::clone(&page)));
            }
        });
        Self { address }
    }
}

async fn serve(stream: TokioIo<tokio::net::TcpStream>, page: Arc<Mutex<(u64, Page)>>) {
    let service = service_fn(|_| {
        let mut page = page.lock().unwrap();
        let (before, page) = &mut *page;
        let text = page(*before) + "# EOF\n";
        *before += 1;
        let response = Response::builder().header(
            "content-type",
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
        );
        let response = response.body(Full::new(Bytes::from(text))).unwrap();
        std::future::ready(Ok::<_, Infallible>(response))
    });
    let _ = hyper::server::conn::http1::Builder::new()
        .serve_connection(stream, service)
        .await;
}
