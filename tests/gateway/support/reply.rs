//! What a scripted hub does with a request instead of its usual work: a response that the test
//! writes, a delay, or a broken connection.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http_body_util::BodyExt;
use http_body_util::combinators::BoxBody;
use hyper::body::{Body, Frame, SizeHint};

/// The body of a hub's response.
pub(super) type ResponseBody = BoxBody<Bytes, io::Error>;

/// How many bytes of the announced body a cut response lacks.
const CUT_BYTES: usize = 100;

/// What the hub does with a request.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reply {
    /// `None` when the hub judges and stores the request as usual.
    pub(super) status: Option<u16>,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) text: String,
    pub(super) delay: Duration,
    pub(super) fault: Option<Fault>,
}

/// A way to give no whole response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// The connection is reset.
    Reset,
    /// The body ends before its announced length.
    CutOff,
    /// No response is sent.
    Never,
}

impl Reply {
    /// A response of this status; the hub stores nothing.
    pub(crate) fn status(status: u16) -> Self {
        Self {
            status: Some(status),
            ..Self::default()
        }
    }

    /// The usual reply of the hub, to which the other methods add something.
    pub(crate) fn as_usual() -> Self {
        Self::default()
    }

    /// Resets the connection without a response.
    pub(crate) fn reset() -> Self {
        Self::fault(Fault::Reset, 0)
    }

    /// Announces a longer body than it sends, then closes the connection.
    pub(crate) fn cut_off(status: u16) -> Self {
        Self::fault(Fault::CutOff, status)
    }

    /// Sends no response and keeps the connection open.
    pub(crate) fn never() -> Self {
        Self::fault(Fault::Never, 0)
    }

    fn fault(fault: Fault, status: u16) -> Self {
        Self {
            fault: Some(fault),
            ..Self::status(status)
        }
    }

    pub(crate) fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    /// Sets the three Written headers.
    pub(crate) fn written(self, samples: usize, histograms: usize, exemplars: usize) -> Self {
        self.header(
            "x-prometheus-remote-write-samples-written",
            &samples.to_string(),
        )
        .header(
            "x-prometheus-remote-write-histograms-written",
            &histograms.to_string(),
        )
        .header(
            "x-prometheus-remote-write-exemplars-written",
            &exemplars.to_string(),
        )
    }

    pub(crate) fn text(mut self, text: &str) -> Self {
        text.clone_into(&mut self.text);
        self
    }

    /// Waits this long before it replies.
    pub(crate) fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// The response of this reply, which must have a status.
    pub(super) fn into_response(self) -> Response<ResponseBody> {
        let status = self.status.expect("a status");
        let mut response = Response::builder().status(status);
        for (name, value) in self.headers {
            response = response.header(name, value);
        }
        let cut_off = self.fault == Some(Fault::CutOff);
        let body = CutBody {
            text: Bytes::from(self.text),
            missing: if cut_off { CUT_BYTES } else { 0 },
            sent: false,
        };
        response.body(body.boxed()).unwrap()
    }
}

/// A body that announces `missing` bytes more than it has. It fails after its last byte when some
/// are missing.
struct CutBody {
    text: Bytes,
    missing: usize,
    /// What comes before the failure is on its way.
    sent: bool,
}

impl Body for CutBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let text = std::mem::take(&mut self.text);
        Poll::Ready(match (text.is_empty(), self.missing) {
            (false, _) => Some(Ok(Frame::data(text))),
            (true, 0) => None,
            (true, _) if !self.sent => {
                // The server sends what it has before it asks again.
                self.sent = true;
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            (true, _) => Some(Err(io::ErrorKind::UnexpectedEof.into())),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.text.is_empty() && self.missing == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact((self.text.len() + self.missing) as u64)
    }
}
