//! Finding out what a hub speaks, and when to ask it again.
//!
//! A hub that speaks V2 responds to an empty V2 message with the Written headers. VictoriaMetrics and
//! Prometheus before 2.54 respond to V2 with 204 as well, but without these headers, and store nothing.
//! A hub that was not found to speak V2 is asked again now and then: it may be upgraded.

use std::convert::Infallible;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use http::StatusCode;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};

use crate::config::HubProtocol;
use crate::reasons::HubFailure;
use crate::wire::Protocol;

use super::response::HubResponse;

/// Least time between two probes. It is doubled, up to the longest, before each further probe of a
/// hub that does not say what it speaks.
const INTERVAL_MIN: Duration = Duration::from_millis(500);

/// Time between two probes of a hub that was not found to speak V2.
const INTERVAL_MAX: Duration = Duration::from_secs(30);

/// What one hub was found to speak.
#[derive(Debug)]
pub(super) struct Discovery {
    /// False when the configuration says what the hub speaks.
    negotiates: bool,
    /// The newest protocol found: 0 none, 1 V1, 2 V2.
    found: AtomicU8,
    /// Wakes [`Self::run`] when a response makes doubtful what was found.
    doubt: Notify,
}

impl Discovery {
    /// Nothing is found yet, unless the configuration says what the hub speaks.
    pub(super) fn new(configured: HubProtocol) -> Self {
        let found = match configured {
            HubProtocol::Auto => None,
            HubProtocol::V1 => Some(Protocol::V1),
            HubProtocol::V2 => Some(Protocol::V2),
        };
        Self {
            negotiates: configured == HubProtocol::Auto,
            found: code(found).into(),
            doubt: Notify::new(),
        }
    }

    /// True when hubgate finds out by itself.
    pub(super) fn negotiates(&self) -> bool {
        self.negotiates
    }

    /// The newest protocol found.
    pub(super) fn found(&self) -> Option<Protocol> {
        match self.found.load(Ordering::Relaxed) {
            1 => Some(Protocol::V1),
            2 => Some(Protocol::V2),
            _ => None,
        }
    }

    /// Draws from the response to a V2 message what the hub speaks, and returns that if it is new.
    ///
    /// A success with a text says nothing: no receiver of remote write has anything to say, so it
    /// may be a page of something that stands before the hub. If such a page made the hub V1, V1
    /// would be sent, which the page seems to take, and the samples would be lost.
    pub(super) fn learn(&self, response: &HubResponse, probing: bool) -> Option<Protocol> {
        if !self.negotiates {
            return None;
        }
        let found = if response.written.is_some() {
            Protocol::V2
        } else if response.status == StatusCode::UNSUPPORTED_MEDIA_TYPE || response.took_nothing() {
            Protocol::V1
        } else {
            if !probing && !response.status.is_server_error() {
                self.doubt.notify_one();
            }
            return None;
        };
        let before = self.found.swap(code(Some(found)), Ordering::Relaxed);
        (before != code(Some(found))).then_some(found)
    }

    /// Sends probes for ever, whenever there is cause. `probe` sends one and has its response
    /// [learned](Self::learn).
    pub(super) async fn run<F>(&self, hub: &str, probe: impl Fn() -> F) -> Infallible
    where
        F: Future<Output = Result<HubResponse, HubFailure>>,
    {
        if !self.negotiates {
            return std::future::pending().await;
        }
        let mut interval = INTERVAL_MIN;
        let mut doubted = false;
        loop {
            if doubted || self.found() != Some(Protocol::V2) {
                let result = probe().await;
                self.log(hub, &result);
            }
            let probed = Instant::now();
            interval = match self.found() {
                None => INTERVAL_MAX.min(interval * 2),
                Some(_) => INTERVAL_MAX,
            };
            doubted = tokio::select! {
                () = sleep(interval) => false,
                () = self.doubt.notified() => true,
            };
            if doubted {
                interval = INTERVAL_MIN;
                sleep_until(probed + INTERVAL_MIN).await;
            }
        }
    }

    fn log(&self, hub: &str, result: &Result<HubResponse, HubFailure>) {
        match result {
            Err(failure) => tracing::warn!(hub, %failure, "cannot probe the hub"),
            Ok(HubResponse { status, text, .. })
                if matches!(*status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) =>
            {
                tracing::warn!(
                    hub,
                    code = status.as_u16(),
                    text,
                    "a hub refuses hubgate; check the credentials of the hub"
                );
            }
            Ok(HubResponse { status, text, .. }) if self.found().is_none() => tracing::warn!(
                hub,
                code = status.as_u16(),
                text,
                "a hub does not say what it speaks; does it take remote writes?"
            ),
            Ok(_) => {}
        }
    }
}

fn code(protocol: Option<Protocol>) -> u8 {
    match protocol {
        None => 0,
        Some(Protocol::V1) => 1,
        Some(Protocol::V2) => 2,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use crate::wire::Counts;

    use super::*;

    /// A response without a text.
    fn response(status: u16, written: bool) -> HubResponse {
        HubResponse {
            status: StatusCode::from_u16(status).unwrap(),
            written: written.then(Counts::default),
            retry_after: None,
            text: String::new(),
        }
    }

    fn page(status: u16) -> HubResponse {
        HubResponse {
            text: "a page".to_owned(),
            ..response(status, false)
        }
    }

    #[test]
    fn learns_from_the_response_to_a_v2_message() {
        let cases = [
            (
                "with Written headers",
                response(204, true),
                Some(Protocol::V2),
            ),
            (
                "a refusal with them",
                response(400, true),
                Some(Protocol::V2),
            ),
            ("a silent success", response(204, false), Some(Protocol::V1)),
            ("415", response(415, false), Some(Protocol::V1)),
            ("a page", page(200), None),
            ("a redirect", response(302, false), None),
            ("a refusal", response(400, false), None),
            ("a fault", response(503, false), None),
        ];
        for (case, response, expected) in cases {
            let discovery = Discovery::new(HubProtocol::Auto);
            assert_eq!(discovery.learn(&response, true), expected, "{case}");
            assert_eq!(discovery.found(), expected, "{case}");
            assert_eq!(discovery.learn(&response, true), None, "{case}: known");
            let fixed = Discovery::new(HubProtocol::V2);
            assert_eq!(fixed.learn(&response, true), None, "{case}: configured");
            assert_eq!(fixed.found(), Some(Protocol::V2), "{case}: configured");
        }
    }

    #[test]
    fn a_page_before_the_hub_changes_nothing() {
        let discovery = Discovery::new(HubProtocol::Auto);
        discovery.learn(&response(204, true), true);
        discovery.learn(&page(200), false);
        assert_eq!(discovery.found(), Some(Protocol::V2));
    }

    /// Runs a discovery whose hub gives the responses in turn, the last one again and again.
    struct Run {
        discovery: Arc<Discovery>,
        started: Instant,
        probes: Arc<Mutex<Vec<Duration>>>,
        responses: Arc<Mutex<Vec<Result<HubResponse, HubFailure>>>>,
        _task: tokio_util::task::AbortOnDropHandle<Infallible>,
    }

    impl Run {
        fn start(responses: Vec<Result<HubResponse, HubFailure>>) -> Self {
            let discovery = Arc::new(Discovery::new(HubProtocol::Auto));
            let started = Instant::now();
            let probes = Arc::new(Mutex::new(Vec::new()));
            let responses = Arc::new(Mutex::new(responses));
            let task = tokio::spawn({
                let (discovery, probes) = (Arc::clone(&discovery), Arc::clone(&probes));
                let responses = Arc::clone(&responses);
                async move {
                    let probe = || {
                        probes.lock().unwrap().push(started.elapsed());
                        let mut responses = responses.lock().unwrap();
                        let result = match responses.len() {
                            1 => responses[0].clone(),
                            _ => responses.remove(0),
                        };
                        if let Ok(response) = &result {
                            discovery.learn(response, true);
                        }
                        std::future::ready(result)
                    };
                    discovery.run("hub", probe).await
                }
            });
            Self {
                discovery,
                started,
                probes,
                responses,
                _task: tokio_util::task::AbortOnDropHandle::new(task),
            }
        }

        /// The times of the probes in milliseconds, after so many seconds.
        async fn probes_by(&self, seconds: u64) -> Vec<u128> {
            sleep_until(self.started + Duration::from_secs(seconds)).await;
            let probes = self.probes.lock().unwrap();
            probes.iter().map(Duration::as_millis).collect()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_hub_is_asked_ever_more_seldom() {
        let run = Run::start(vec![Err(HubFailure::Connect)]);
        let times = [0, 1_000, 3_000, 7_000, 15_000, 31_000, 61_000, 91_000];
        assert_eq!(run.probes_by(100).await, times);
        assert_eq!(run.discovery.found(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_v1_hub_is_asked_every_30_s_until_it_is_upgraded() {
        let responses = vec![
            Ok(response(204, false)),
            Ok(response(204, false)),
            Ok(response(204, true)),
        ];
        let run = Run::start(responses);
        assert_eq!(run.probes_by(59).await, [0, 30_000]);
        assert_eq!(run.discovery.found(), Some(Protocol::V1));
        assert_eq!(run.probes_by(600).await, [0, 30_000, 60_000]);
        assert_eq!(run.discovery.found(), Some(Protocol::V2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_doubtful_response_has_the_hub_asked_soon() {
        let run = Run::start(vec![Ok(response(204, true))]);
        assert_eq!(run.probes_by(40).await, [0]);
        run.responses.lock().unwrap()[0] = Ok(response(415, false));
        run.discovery.learn(&response(404, false), false);
        assert_eq!(run.probes_by(41).await, [0, 40_000]);
        assert_eq!(run.discovery.found(), Some(Protocol::V1));
    }

    #[tokio::test(start_paused = true)]
    async fn doubts_do_not_become_a_flood_of_probes() {
        let run = Run::start(vec![Err(HubFailure::Timeout)]);
        for _ in 0..100 {
            run.discovery.learn(&response(404, false), false);
            sleep(Duration::from_millis(10)).await;
        }
        let probes = run.probes_by(2).await;
        assert!(probes.len() <= 4, "{probes:?}");
        assert!(probes.is_sorted_by_key(|time| time / 500), "{probes:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_fault_of_the_hub_is_no_doubt() {
        let run = Run::start(vec![Ok(response(204, true))]);
        run.probes_by(1).await;
        run.discovery.learn(&response(503, false), false);
        assert_eq!(run.probes_by(600).await, [0]);
    }
}
