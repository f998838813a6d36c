//! Finding out what a hub speaks, and when to ask it again.
//!
//! A hub that speaks V2 responds to an empty V2 message with the Written headers. VictoriaMetrics and
//! Prometheus before 2.54 respond to V2 with 204 as well, but without these headers, and store nothing.
//! A hub that was not found to speak V2 is asked again now and then: it may be upgraded.
//!
//! Something that stands before a hub, such as a balancer in maintenance, may take everything in that
//! way, V1 too. So a hub that spoke V2 is believed to speak V1 only when it says so with 415, or when it
//! is silent for a while and refuses a broken V1 message all the time, which only a receiver does.

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
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

/// Time between two probes of a hub that spoke V2 and is silent.
const INTERVAL_SILENT: Duration = Duration::from_secs(5);

/// A hub that spoke V2 is silent for so long before it is believed to speak V1. Its spokes retry meanwhile.
const SILENCE: Duration = Duration::from_secs(30);

/// What one hub was found to speak.
#[derive(Debug)]
pub(super) struct Discovery {
    /// False when the configuration says what the hub speaks.
    negotiates: bool,
    /// The newest protocol found: 0 none, 1 V1, 2 V2.
    found: AtomicU8,
    /// Wakes [`Self::run`] when a response makes doubtful what was found.
    doubt: Notify,
    /// The hub spoke V2 and was silent for so long that the next silent probe is believed.
    silent_for_long: AtomicBool,
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
            silent_for_long: false.into(),
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
    /// would be sent, which the page seems to take, and the samples would be lost. A success that says
    /// nothing at all may come from there as well, if the hub was found to speak V2.
    pub(super) fn learn(&self, response: &HubResponse, probing: bool) -> Option<Protocol> {
        if !self.negotiates {
            return None;
        }
        let believes_silence = self.found() != Some(Protocol::V2)
            || (probing && self.silent_for_long.load(Ordering::Relaxed));
        let found = if response.written.is_some() {
            Protocol::V2
        } else if response.status == StatusCode::UNSUPPORTED_MEDIA_TYPE
            || (response.took_nothing() && believes_silence)
        {
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
    /// [learned](Self::learn) if it is V2: an empty message of V2, or a broken one of V1.
    pub(super) async fn run<F>(&self, hub: &str, probe: impl Fn(Protocol) -> F) -> Infallible
    where
        F: Future<Output = Result<HubResponse, HubFailure>>,
    {
        if !self.negotiates {
            return std::future::pending().await;
        }
        let mut interval = INTERVAL_MIN;
        let mut doubted = false;
        let mut was_silent = false;
        let mut silent: Option<Instant> = None;
        loop {
            if doubted || silent.is_some() || self.found() != Some(Protocol::V2) {
                let long = silent.is_some_and(|since| since.elapsed() >= SILENCE);
                self.silent_for_long.store(long, Ordering::Relaxed);
                let result = probe(Protocol::V2).await;
                self.log(hub, &result);
                let is_silent = self.found() == Some(Protocol::V2)
                    && result.is_ok_and(|response| response.took_nothing());
                if is_silent && !was_silent {
                    tracing::warn!(
                        hub,
                        "a hub that speaks remote write 2.0 does not say any more what it wrote; does \
                         something before it respond?"
                    );
                }
                was_silent = is_silent;
                silent = match is_silent && refuses(probe(Protocol::V1).await) {
                    true => silent.or_else(|| Some(Instant::now())),
                    false => None,
                };
            }
            let probed = Instant::now();
            interval = match self.found() {
                None => INTERVAL_MAX.min(interval * 2),
                Some(_) if silent.is_some() => INTERVAL_SILENT,
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

/// True for the response to a broken message of something that reads it.
fn refuses(result: Result<HubResponse, HubFailure>) -> bool {
    result.is_ok_and(|response| !response.status.is_success())
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
    use std::sync::atomic::AtomicU16;
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
            date: None,
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
    fn what_something_before_the_hub_says_changes_nothing() {
        let discovery = Discovery::new(HubProtocol::Auto);
        discovery.learn(&response(204, true), true);
        for response in [page(200), response(204, false), response(200, false)] {
            for probing in [false, true] {
                assert_eq!(discovery.learn(&response, probing), None, "{response:?}");
            }
        }
        assert_eq!(discovery.found(), Some(Protocol::V2));
        // A hub says this of itself.
        discovery.learn(&response(415, false), false);
        assert_eq!(discovery.found(), Some(Protocol::V1));
    }

    /// Runs a discovery whose hub gives the responses to V2 in turn, the last one again and again, and one
    /// response to all of V1.
    struct Run {
        discovery: Arc<Discovery>,
        started: Instant,
        probes: Arc<Mutex<Vec<Duration>>>,
        responses: Arc<Mutex<Vec<Result<HubResponse, HubFailure>>>>,
        to_v1: Arc<AtomicU16>,
        _task: tokio_util::task::AbortOnDropHandle<Infallible>,
    }

    impl Run {
        fn start(responses: Vec<Result<HubResponse, HubFailure>>) -> Self {
            let discovery = Arc::new(Discovery::new(HubProtocol::Auto));
            let started = Instant::now();
            let probes = Arc::new(Mutex::new(Vec::new()));
            let responses = Arc::new(Mutex::new(responses));
            let to_v1 = Arc::new(AtomicU16::new(400));
            let task = tokio::spawn({
                let (discovery, probes) = (Arc::clone(&discovery), Arc::clone(&probes));
                let (responses, to_v1) = (Arc::clone(&responses), Arc::clone(&to_v1));
                async move {
                    let probe = |protocol| {
                        if protocol == Protocol::V1 {
                            let status = to_v1.load(Ordering::Relaxed);
                            return std::future::ready(Ok(response(status, false)));
                        }
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
                to_v1,
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

    /// A run that found V2, and then a hub that is silent.
    async fn silenced(to_v1: u16) -> Run {
        let run = Run::start(vec![Ok(response(204, true))]);
        assert_eq!(run.probes_by(10).await, [0]);
        run.to_v1.store(to_v1, Ordering::Relaxed);
        run.responses.lock().unwrap()[0] = Ok(response(204, false));
        run.discovery.learn(&response(204, false), false);
        run
    }

    #[tokio::test(start_paused = true)]
    async fn a_hub_that_was_replaced_by_an_older_one_is_believed_after_30_s() {
        let run = silenced(400).await;
        run.probes_by(39).await;
        assert_eq!(run.discovery.found(), Some(Protocol::V2));
        let probes = run.probes_by(41).await;
        assert_eq!(run.discovery.found(), Some(Protocol::V1));
        assert_eq!(probes.len(), 1 + 7, "{probes:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_hub_that_speaks_again_must_be_silent_from_the_start() {
        let run = silenced(400).await;
        run.probes_by(35).await;
        run.responses.lock().unwrap()[0] = Ok(response(204, true));
        run.probes_by(43).await;
        run.responses.lock().unwrap()[0] = Ok(response(204, false));
        run.discovery.learn(&response(204, false), false);
        run.probes_by(72).await;
        assert_eq!(run.discovery.found(), Some(Protocol::V2));
        run.probes_by(74).await;
        assert_eq!(run.discovery.found(), Some(Protocol::V1));
    }

    #[tokio::test(start_paused = true)]
    async fn what_takes_a_broken_message_is_no_hub() {
        let run = silenced(204).await;
        for second in 10..1000 {
            run.discovery.learn(&response(204, false), false);
            run.probes_by(second).await;
        }
        assert_eq!(run.discovery.found(), Some(Protocol::V2));
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
