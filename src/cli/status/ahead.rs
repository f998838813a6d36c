//! What will break next at a hubgate, by the thresholds of the alerts.

use super::answers::{InUse, Status};
use crate::cli::status::table::time;
use crate::telemetry::words;

/// A certificate that ends within this time is told, in seconds.
const ENDS_SOON_SECONDS: f64 = 14.0 * 24.0 * 3600.0;

/// The part of the bytes in flight, and of the connections, from which on it is told.
const BYTES_SHARE: f64 = 0.7;
const CONNECTIONS_SHARE: f64 = 0.8;

/// A sentence for each thing that needs an operator soon.
pub(super) fn sentences(status: &Status) -> Vec<String> {
    let now = status.timestamp_seconds;
    let mut sentences = Vec::new();
    for certificate in &status.certificates {
        let (shown_to, left) = (
            &certificate.shown_to,
            certificate.expiry_timestamp_seconds - now,
        );
        if left <= 0.0 {
            let since = time(-left);
            sentences.push(format!("The certificate for {shown_to} ended {since} ago."));
        } else if left < ENDS_SOON_SECONDS {
            let left = time(left);
            sentences.push(format!("The certificate for {shown_to} ends in {left}."));
        }
    }
    for (what, InUse { used, limit }, most) in [
        ("bytes in flight", &status.bytes_in_flight, BYTES_SHARE),
        ("connections", &status.connections, CONNECTIONS_SHARE),
    ] {
        let share = used / limit;
        if share > most {
            let share = words::share(share);
            sentences.push(format!("{share} of the {what} that may be are in use."));
        }
    }
    sentences
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_ends_or_fills_soon_is_told() {
        let status = |expiries: &[f64], bytes: f64, connections: f64| -> Status {
            let certificate = |it| json!({"shown_to": "write", "expiry_timestamp_seconds": it});
            let certificates = expiries.iter().map(certificate);
            let status = json!({
                "summary": "", "version": "1", "timestamp_seconds": 1e9,
                "start_timestamp_seconds": 0.0, "configuration": {"errors": []},
                "certificates": certificates.collect::<Vec<_>>(),
                "bytes_in_flight": {"used": bytes, "limit": 100.0},
                "connections": {"used": connections, "limit": 100.0},
            });
            serde_json::from_value(status).unwrap()
        };
        let day = 24.0 * 3600.0;
        let none = status(&[1e9 + 15.0 * day], 70.0, 80.0);
        assert!(sentences(&none).is_empty());
        let all = status(&[1e9 - 60.0, 1e9 + 13.0 * day], 71.0, 81.0);
        assert_eq!(
            sentences(&all),
            [
                "The certificate for write ended 60 s ago.",
                "The certificate for write ends in 13 d.",
                "71 % of the bytes in flight that may be are in use.",
                "81 % of the connections that may be are in use.",
            ]
        );
    }
}
