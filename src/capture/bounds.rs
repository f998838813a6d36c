//! What may be asked of a capture.

use crate::reasons::{Reason, RequestReason};

/// A number of the terms.
#[derive(Debug, Clone, Copy)]
pub struct Bound {
    /// Its name in the API.
    pub name: &'static str,
    /// What it is unless somebody asks for another.
    pub default: usize,
    /// The highest that may be asked for; the lowest is 1.
    pub most: usize,
}

/// The most requests.
pub const REQUESTS: Bound = Bound {
    name: "requests",
    default: 10,
    most: 1000,
};

/// The time.
pub const SECONDS: Bound = Bound {
    name: "seconds",
    default: 300,
    most: 3600,
};

/// The most bytes of one body.
pub const BODY_BYTES: Bound = Bound {
    name: "body_bytes",
    default: 1 << 20,
    most: super::HELD_BYTES_MAX,
};

/// The bytes of all bodies together.
pub const BYTES: Bound = Bound {
    name: "bytes",
    default: 64 << 20,
    most: 1 << 30,
};

/// The reasons of requests whose sender is not known yet.
const OF_STRANGERS: [RequestReason; 7] = [
    RequestReason::AuthBusy,
    RequestReason::ForwardedFor,
    RequestReason::KeysUnavailable,
    RequestReason::MethodNotAllowed,
    RequestReason::NotFound,
    RequestReason::TokenNotYetValid,
    RequestReason::Unauthenticated,
];

impl Bound {
    /// Whether this may be asked for.
    pub fn allows(&self, number: usize) -> bool {
        (1..=self.most).contains(&number)
    }
}

/// The reason of this name, if requests with it can be captured. The error says why they cannot.
pub fn reason(name: &str) -> Result<&'static str, String> {
    if OF_STRANGERS.iter().any(|it| it.name() == name) {
        return Err(format!(
            "{name} is of requests whose spoke is not known, and those are not captured"
        ));
    }
    if name == RequestReason::Draining.name() {
        return Err(format!(
            "{name} is of requests while hubgate shuts down, and nothing is captured then"
        ));
    }
    let found = reasons().find(|it| *it == name);
    found.ok_or_else(|| {
        let known: Vec<_> = reasons().collect();
        format!("must be one of {}", known.join(", "))
    })
}

/// The names of all reasons that can be captured.
pub fn reasons() -> impl Iterator<Item = &'static str> {
    let of_requests = RequestReason::ALL.into_iter();
    let of_requests =
        of_requests.filter(|it| *it != RequestReason::Draining && !OF_STRANGERS.contains(it));
    let of_series = Reason::ALL.into_iter().map(Reason::name);
    of_requests.map(RequestReason::name).chain(of_series)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_those_of_requests_whose_spoke_is_known() {
        assert_eq!(reason("hub"), Ok("hub"));
        assert_eq!(reason("malformed"), Ok("malformed"));
        for (name, text) in [
            (
                "maleformed",
                "must be one of body_framing, body_timeout, body_too_large, ",
            ),
            (
                "unauthenticated",
                "unauthenticated is of requests whose spoke is not known",
            ),
            (
                "draining",
                "draining is of requests while hubgate shuts down",
            ),
        ] {
            let error = reason(name).unwrap_err();
            assert!(error.starts_with(text), "{error}");
        }
    }
}
