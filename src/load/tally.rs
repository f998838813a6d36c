//! The counts and latencies of a load, and their JSON.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use http::StatusCode;
use serde::{Deserialize, Serialize};

/// A higher latency counts as this one. The latencies of an open loop that falls behind include its
/// backlog, so they have no natural limit.
const LATENCY_MAX: Duration = Duration::from_secs(3_600);

/// The counts and latencies of one connection, or of all of them.
#[derive(Debug)]
pub struct Tally {
    /// Requests that were sent, with a response or without.
    pub requests: u64,
    /// Requests that an open loop did not send because it fell behind its rate.
    pub requests_unsent: u64,
    /// Samples of requests whose response was 2xx.
    pub samples: u64,
    /// The sum of the receiver's Written headers; `None` if it sent none.
    pub samples_written: Option<u64>,
    /// Responses by status code.
    pub responses: BTreeMap<u16, u64>,
    /// Requests without a response.
    pub errors: u64,
    /// Bytes of the bodies of requests that have a response.
    pub bytes_sent: u64,
    /// The response or the error of the first request that failed.
    pub first_failure: Option<String>,
    latency_micros: Histogram<u64>,
}

impl Default for Tally {
    fn default() -> Self {
        let highest = u64::try_from(LATENCY_MAX.as_micros()).unwrap_or(u64::MAX);
        Self {
            requests: 0,
            requests_unsent: 0,
            samples: 0,
            samples_written: None,
            responses: BTreeMap::new(),
            errors: 0,
            bytes_sent: 0,
            first_failure: None,
            latency_micros: Histogram::new_with_bounds(1, highest, 3)
                .expect("the bounds are constants"),
        }
    }
}

impl Tally {
    /// Counts a response that came `latency` after its request was due.
    pub fn count_response(&mut self, status: StatusCode, latency: Duration) {
        *self.responses.entry(status.as_u16()).or_default() += 1;
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        self.latency_micros.saturating_record(micros);
    }

    /// Adds the counts and latencies of another connection.
    pub fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.requests_unsent += other.requests_unsent;
        self.samples += other.samples;
        if let Some(written) = other.samples_written {
            *self.samples_written.get_or_insert(0) += written;
        }
        for (code, count) in &other.responses {
            *self.responses.entry(*code).or_default() += count;
        }
        self.errors += other.errors;
        self.bytes_sent += other.bytes_sent;
        if self.first_failure.is_none() {
            self.first_failure.clone_from(&other.first_failure);
        }
        self.latency_micros
            .add(&other.latency_micros)
            .expect("all tallies have the same bounds");
    }

    /// Tells whether requests were sent and every response was 2xx.
    pub fn is_clean(&self) -> bool {
        let all_2xx = self.responses.keys().all(|code| (200..300).contains(code));
        self.requests > 0 && self.errors == 0 && all_2xx
    }

    /// Sums up a load that took `duration`.
    pub fn summary(&self, duration: Duration) -> Summary {
        let seconds = duration.as_secs_f64();
        Summary {
            duration_seconds: seconds,
            requests: self.requests,
            requests_unsent: self.requests_unsent,
            samples: self.samples,
            samples_per_second: (self.samples as f64 / seconds).round(),
            samples_written: self.samples_written,
            responses: self.responses.clone(),
            errors: self.errors,
            latency_seconds: Latency {
                p50: self.latency_seconds(0.5),
                p90: self.latency_seconds(0.9),
                p99: self.latency_seconds(0.99),
                max: self.latency_seconds(1.0),
            },
            bytes_sent: self.bytes_sent,
        }
    }

    fn latency_seconds(&self, quantile: f64) -> f64 {
        Duration::from_micros(self.latency_micros.value_at_quantile(quantile)).as_secs_f64()
    }
}

/// What `hubgate load` prints as JSON. Counts are those of [`Tally`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names say it, and Tally documents them")]
pub struct Summary {
    pub duration_seconds: f64,
    pub requests: u64,
    pub requests_unsent: u64,
    pub samples: u64,
    pub samples_per_second: f64,
    pub samples_written: Option<u64>,
    pub responses: BTreeMap<u16, u64>,
    pub errors: u64,
    pub latency_seconds: Latency,
    pub bytes_sent: u64,
}

/// Latency quantiles, in seconds.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Latency {
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub max: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_add_up_and_quantiles_are_in_seconds() {
        let mut tally = Tally::default();
        for (code, millis) in [(StatusCode::NO_CONTENT, 1), (StatusCode::BAD_REQUEST, 9)] {
            let mut one = Tally {
                requests: 50,
                samples: 100,
                ..Tally::default()
            };
            for _ in 0..50 {
                one.count_response(code, Duration::from_millis(millis));
            }
            tally.add(&one);
        }
        assert!(!tally.is_clean());
        let json = serde_json::to_value(tally.summary(Duration::from_secs(2))).unwrap();
        assert_eq!(json["samples_per_second"], 100.0);
        assert_eq!(json["responses"], serde_json::json!({"204": 50, "400": 50}));
        let quantile = |name: &str| json["latency_seconds"][name].as_f64().unwrap();
        assert!((quantile("p50") - 0.001).abs() < 0.000_1);
        assert!((quantile("p99") - 0.009).abs() < 0.000_1);
        assert!(json["samples_written"].is_null());
        let summary: Summary = serde_json::from_value(json).unwrap();
        assert_eq!(summary.responses, tally.responses);
    }
}
