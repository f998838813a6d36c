//! Every refusal of a whole request: its status, its reason, its text.
//!
//! The status is a delivery contract. Prometheus drops a batch on every 4xx and retries 5xx for
//! ever, so a 4xx is only for facts about the request itself, and what a later attempt may change is
//! a 5xx.

use std::net::IpAddr;
use std::time::Duration;

use http::StatusCode;

use crate::admission::NotAdmitted;
use crate::budget::{Full, Overloaded};
use crate::config::LimitAnswer;
use crate::identify::NotIdentified;
use crate::listener::forwarded_for::ForwardedForFault;
use crate::reasons::{AuthFailure, RequestReason};
use crate::rewrite::RewriteError;
use crate::shares::Crowded;
use crate::wire::snappy::SnappyError;
use crate::wire::{Malformed, Protocol};

/// Why a request is answered without asking the hub.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// Too many password checks wait.
    #[error("{}", NotIdentified::Busy)]
    AuthBusy,
    /// The body is not framed as HTTP asks for.
    #[error("the body is not valid HTTP; check the sender and what stands between")]
    BodyFraming,
    /// The body arrives too slowly, or not at all.
    #[error("the body stalled; check the network between")]
    BodyStalled,
    /// The body did not arrive in time.
    #[error("the body did not arrive within {seconds} s; send it faster or in smaller requests")]
    BodyTimeout {
        /// The deadline.
        seconds: u64,
    },
    /// The body is over the limit.
    #[error(
        "the body is larger than {limit} bytes; lower max_samples_per_send at the spoke or raise \
         limits.body_bytes_max"
    )]
    BodyTooLarge {
        /// The limit, in bytes.
        limit: usize,
    },
    /// The connection broke within the body.
    #[error("the body ended early")]
    BodyTruncated,
    /// The requests of the spoke hold what its limit allows.
    #[error(
        "{taken} bytes are in flight, and limits.bytes_in_flight_max of the spoke is {limit}; send again \
         later in smaller requests (max_samples_per_send) or with fewer shards, or raise it"
    )]
    BytesInFlight {
        /// What they hold, in bytes.
        taken: usize,
        /// The limit, in bytes.
        limit: usize,
        /// The time until there is room, where it is known.
        wait: Option<Duration>,
    },
    /// Something is to be refused because of the time, and the clock here may be wrong.
    #[error(
        "the time decides on it, and the clocks of hubgate and of its hubs differ, or no hub could be asked for \
         the time yet; send it again, and set these clocks"
    )]
    ClockInDoubt,
    /// A Content-Encoding other than snappy.
    #[error("Content-Encoding {0}; send snappy (block format)")]
    ContentEncoding(String),
    /// A Content-Type that is not a remote-write message.
    #[error(
        "Content-Type {0}; send application/x-protobuf, with \
         proto=io.prometheus.write.v2.Request for remote write 2.0"
    )]
    ContentType(String),
    /// hubgate drains, and the request has not arrived.
    #[error("hubgate is shutting down, and the request did not arrive in time; send it again")]
    Draining,
    /// A trusted proxy does not say where the request comes from.
    #[error("{0}; check the configuration of the proxy and listen.trusted_proxies")]
    ForwardedFor(#[from] ForwardedForFault),
    /// An internal fault.
    #[error("internal error; the log of hubgate says more")]
    Internal,
    /// The keys that judge a JWT are not known.
    #[error("{}", NotIdentified::KeysUnavailable)]
    KeysUnavailable,
    /// The address behind a proxy is outside the source ranges of the listener.
    #[error("{address} is outside listen.source_ranges; add it there if spokes may write from it")]
    ListenSourceRange {
        /// The client's address.
        address: IpAddr,
    },
    /// The body is not the message that the headers name.
    #[error("the body is not a valid {}: {malformed}; check the sender", .protocol.message())]
    Malformed {
        /// The message that the headers name.
        protocol: Protocol,
        /// What is wrong.
        malformed: Malformed,
    },
    /// So many requests of the spoke wait for the CPU that this one would wait for too long.
    #[error("too many requests at once wait for the CPU; send it again later")]
    Crowded(#[from] Crowded),
    /// A method other than POST.
    #[error("remote write is a POST")]
    MethodNotAllowed,
    /// A limit of what the spoke sends in a time, or has under way.
    #[error("{0}")]
    NotAdmitted(#[from] NotAdmitted),
    /// A path that takes no writes.
    #[error("no such path; remote write goes to /api/v1/write")]
    NotFound,
    /// The budget for bytes in flight is taken.
    #[error("{0}")]
    Overloaded(Overloaded),
    /// The body does not decompress.
    #[error("{}; {}", .0, snappy_advice(.0))]
    Snappy(#[from] SnappyError),
    /// The address is outside the spoke's source ranges.
    #[error("{address} is outside the spoke's source_ranges; add it there if it is the spoke's")]
    SourceRange {
        /// The client's address.
        address: IpAddr,
    },
    /// A JWT is valid from a later time on.
    #[error("{}", NotIdentified::NotYetValid)]
    TokenNotYetValid,
    /// The sender is not identified.
    #[error("{}", .0.advice())]
    Unauthenticated(AuthFailure),
    /// The body holds only fields of another message.
    #[error(
        "the body holds no field of {}; Content-Type and body disagree",
        .0.message()
    )]
    WrongMessage(Protocol),
}

impl Refusal {
    /// The status that a spoke is told whose limits have this answer.
    pub fn status(&self, limits: LimitAnswer) -> StatusCode {
        match self {
            // These are facts about the request: it would be refused again.
            Self::BodyFraming | Self::Malformed { .. } | Self::WrongMessage(_) => {
                StatusCode::BAD_REQUEST
            }
            Self::Snappy(SnappyError::TooLarge { .. }) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Snappy(_) => StatusCode::BAD_REQUEST,
            Self::Unauthenticated(_) => StatusCode::UNAUTHORIZED,
            Self::ListenSourceRange { .. } | Self::SourceRange { .. } => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::BodyTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::ContentEncoding(_) | Self::ContentType(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            // It may pass later. With 429 it is lost unless the sender is set up for it.
            Self::BytesInFlight { .. } | Self::NotAdmitted(_) => match limits {
                LimitAnswer::ServiceUnavailable => StatusCode::SERVICE_UNAVAILABLE,
                LimitAnswer::TooManyRequests => StatusCode::TOO_MANY_REQUESTS,
            },
            // The request may be good, so the spoke must keep it.
            Self::AuthBusy
            | Self::BodyStalled
            | Self::BodyTimeout { .. }
            | Self::BodyTruncated
            | Self::ClockInDoubt
            | Self::Crowded(_)
            | Self::Draining
            | Self::ForwardedFor(_)
            | Self::KeysUnavailable
            | Self::Overloaded(_)
            | Self::TokenNotYetValid => StatusCode::SERVICE_UNAVAILABLE,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The time after which the request may pass, where that is known.
    pub fn wait(&self) -> Option<Duration> {
        match self {
            Self::NotAdmitted(NotAdmitted::SamplesPerSecond { wait, .. }) => Some(*wait),
            Self::BytesInFlight { wait, .. } | Self::Overloaded(Overloaded { wait, .. }) => *wait,
            Self::Crowded(crowded) => Some(crowded.retry_after),
            _ => None,
        }
    }

    /// True when there is too much to do at the moment, for the spoke or for all: a sender that does not wait
    /// would be refused again at once.
    pub fn is_of_load(&self) -> bool {
        matches!(
            self,
            Self::BytesInFlight { .. }
                | Self::Crowded(_)
                | Self::NotAdmitted(_)
                | Self::Overloaded(_)
        )
    }

    /// The name of the reason.
    pub fn reason(&self) -> RequestReason {
        match self {
            Self::AuthBusy => RequestReason::AuthBusy,
            Self::BodyFraming => RequestReason::BodyFraming,
            Self::BodyStalled | Self::BodyTimeout { .. } => RequestReason::BodyTimeout,
            Self::BodyTooLarge { .. } => RequestReason::BodyTooLarge,
            Self::BodyTruncated => RequestReason::BodyTruncated,
            Self::BytesInFlight { .. } => RequestReason::BytesInFlight,
            Self::ClockInDoubt => RequestReason::ClockInDoubt,
            Self::ContentEncoding(_) => RequestReason::ContentEncoding,
            Self::ContentType(_) => RequestReason::ContentType,
            Self::Draining => RequestReason::Draining,
            Self::ForwardedFor(_) => RequestReason::ForwardedFor,
            Self::Internal => RequestReason::Internal,
            Self::KeysUnavailable => RequestReason::KeysUnavailable,
            Self::Malformed { .. } => RequestReason::Malformed,
            Self::MethodNotAllowed => RequestReason::MethodNotAllowed,
            Self::NotAdmitted(NotAdmitted::RequestsInFlight { .. }) => {
                RequestReason::RequestsInFlight
            }
            Self::NotAdmitted(NotAdmitted::SamplesPerSecond { .. }) => RequestReason::RateLimited,
            Self::NotFound => RequestReason::NotFound,
            Self::Crowded(_) | Self::Overloaded(_) => RequestReason::Overloaded,
            Self::Snappy(SnappyError::TooLarge { .. }) => RequestReason::DecodedTooLarge,
            Self::Snappy(_) => RequestReason::Snappy,
            Self::ListenSourceRange { .. } | Self::SourceRange { .. } => RequestReason::SourceRange,
            Self::TokenNotYetValid => RequestReason::TokenNotYetValid,
            Self::Unauthenticated(_) => RequestReason::Unauthenticated,
            Self::WrongMessage(_) => RequestReason::WrongMessage,
        }
    }
}

/// What can be done about a body that does not decompress.
fn snappy_advice(error: &SnappyError) -> &'static str {
    match error {
        SnappyError::TooLarge { .. } => {
            "lower max_samples_per_send at the spoke or raise limits.decoded_bytes_max"
        }
        _ => "check the sender",
    }
}

impl From<NotIdentified> for Refusal {
    fn from(error: NotIdentified) -> Self {
        match error {
            NotIdentified::Busy => Self::AuthBusy,
            NotIdentified::Expired => Self::Unauthenticated(AuthFailure::Expired),
            NotIdentified::Internal => Self::Internal,
            NotIdentified::KeysUnavailable => Self::KeysUnavailable,
            NotIdentified::NotYetValid => Self::TokenNotYetValid,
            NotIdentified::Unauthenticated(failure) => Self::Unauthenticated(failure),
        }
    }
}

impl From<Overloaded> for Refusal {
    fn from(overloaded: Overloaded) -> Self {
        match overloaded.full {
            Full::Account(full) => Self::BytesInFlight {
                taken: full.taken,
                limit: full.limit,
                wait: overloaded.wait,
            },
            Full::Budget | Full::Share => Self::Overloaded(overloaded),
        }
    }
}

impl From<RewriteError> for Refusal {
    fn from(error: RewriteError) -> Self {
        match error {
            RewriteError::Crowded(crowded) => Self::Crowded(crowded),
            RewriteError::Internal => Self::Internal,
            RewriteError::Malformed {
                protocol,
                malformed,
            } => Self::Malformed {
                protocol,
                malformed,
            },
            RewriteError::Overloaded(overloaded) => overloaded.into(),
            RewriteError::Snappy(error) => error.into(),
            RewriteError::WrongMessage(protocol) => Self::WrongMessage(protocol),
        }
    }
}
