//! What was refused at the door in the last hour, and what to do about it, for `/api/v1/status`.

use std::net::IpAddr;

use serde::Serialize;

use crate::metrics::{DoorReason, DoorRefusals};
use crate::reasons::{ConnectionRefusal, RequestReason};

use super::unix_seconds;

/// What was refused for one reason.
#[derive(Debug, Serialize)]
pub(super) struct AtTheDoor {
    reason: &'static str,
    /// What it refuses: a `request`, or a `connection`.
    refuses: &'static str,
    /// How many in the last hour.
    count: u64,
    last_timestamp_seconds: f64,
    /// Where the last one came from, if that is known.
    last_source_address: Option<IpAddr>,
    /// What is wrong, and what to do.
    remedy: &'static str,
}

impl AtTheDoor {
    /// Shows what was refused; none where a connection ended as connections do.
    pub(super) fn of(refusals: DoorRefusals) -> Option<Self> {
        let (reason, refuses, remedy) = match refusals.reason {
            DoorReason::Request(reason) => (reason.name(), "request", request_advice(reason)?),
            DoorReason::Unidentified(failure) => (failure.name(), "request", failure.advice()),
            DoorReason::Connection(refusal) => (refusal.name(), "connection", advice(refusal)?),
        };
        Some(Self {
            reason,
            refuses,
            count: refusals.count,
            last_timestamp_seconds: unix_seconds(refusals.last),
            last_source_address: refusals.address,
            remedy,
        })
    }
}

/// What is wrong with a request that is refused for this reason before it is known which spoke sends, and what
/// to do; none for reasons that are of spokes.
fn request_advice(reason: RequestReason) -> Option<&'static str> {
    Some(match reason {
        RequestReason::AuthBusy => {
            "too many passwords wait to be checked; senders should keep their connections, or use tokens"
        }
        RequestReason::ClockInDoubt => {
            "a credential has expired by the clock here, and that of a hub differs, or no hub says the time; set \
             these clocks"
        }
        RequestReason::ForwardedFor => {
            "X-Forwarded-For of a trusted proxy does not say who sends; look at the proxy, and at \
             listen.trusted_proxies"
        }
        RequestReason::KeysUnavailable => {
            "the keys that judge a JWT are not known; the log says of each jwks_url why"
        }
        RequestReason::MethodNotAllowed => "writes are POST requests; the sender is no Prometheus",
        RequestReason::NotFound => {
            "the path is wrong; the url of the spoke's remote_write ends in /api/v1/write"
        }
        RequestReason::TokenNotYetValid => {
            "the nbf of a JWT is ahead of the clock here; compare the clocks of hubgate and of the issuer"
        }
        _ => return None,
    })
}

/// What is wrong with a sender whose connections are refused, and what to do; none for a connection that
/// any sender may lose.
fn advice(refusal: ConnectionRefusal) -> Option<&'static str> {
    Some(match refusal {
        ConnectionRefusal::Evicted
        | ConnectionRefusal::IdleTimeout
        | ConnectionRefusal::Outdated => return None,
        ConnectionRefusal::ConnectionsMax => {
            "as many connections are open as may be; raise listen.connections_max, or find out who opens them"
        }
        ConnectionRefusal::ConnectionsPerAddressMax => {
            "one address has as many connections open as it may; if it is a proxy or a NAT, raise \
             listen.connections_per_address_max or name it in listen.trusted_proxies"
        }
        ConnectionRefusal::HeaderTimeout => {
            "the headers of a request did not arrive in time; the sender or the network is slow, or somebody \
             probes the port"
        }
        ConnectionRefusal::Http2Flood => {
            "many HTTP/2 frames came without a request; no Prometheus does that"
        }
        ConnectionRefusal::MalformedHead => {
            "a request can be read in two ways; look at the proxy before hubgate"
        }
        ConnectionRefusal::PlainHttp => {
            "HTTP came where TLS is spoken; write https:// in the url of the spoke's remote_write"
        }
        ConnectionRefusal::ProxyHeader => {
            "the PROXY protocol header is missing or cannot be read; have the load balancer send it"
        }
        ConnectionRefusal::SourceRange => {
            "the address is outside listen.source_ranges; add it there if it is one of a spoke"
        }
        ConnectionRefusal::TlsHandshake => {
            "a TLS handshake failed; the log says more: the sender may not trust the certificate of hubgate"
        }
        ConnectionRefusal::TlsHandshakeTimeout => {
            "a TLS handshake took too long; the sender or the network is slow, or somebody probes the port"
        }
        ConnectionRefusal::UntrustedProxy => {
            "a PROXY protocol header is required, and the address is not among listen.trusted_proxies; add \
             it there if it is the load balancer"
        }
    })
}
