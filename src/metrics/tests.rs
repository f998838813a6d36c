//! What a page shows of the spokes and hubs that exist, and what it costs.

use std::time::{Duration, Instant};

use super::*;
use crate::reasons::Reason;
use crate::wire::Protocol;

/// A configuration without spokes and hubs.
impl Live for () {
    fn spokes(&self) -> impl Iterator<Item = &SpokeMetrics> + Clone {
        std::iter::empty()
    }

    fn hubs(&self) -> impl Iterator<Item = &HubMetrics> + Clone {
        std::iter::empty()
    }

    fn jwks(&self) -> impl Iterator<Item = &JwksMetrics> + Clone {
        std::iter::empty()
    }

    fn listeners(&self) -> impl Iterator<Item = &ListenerMetrics> + Clone {
        std::iter::empty()
    }
}

#[derive(Debug, Default)]
struct State {
    spokes: Vec<SpokeMetrics>,
    hubs: Vec<HubMetrics>,
}

impl Live for State {
    fn spokes(&self) -> impl Iterator<Item = &SpokeMetrics> + Clone {
        self.spokes.iter()
    }

    fn hubs(&self) -> impl Iterator<Item = &HubMetrics> + Clone {
        self.hubs.iter()
    }

    fn jwks(&self) -> impl Iterator<Item = &JwksMetrics> + Clone {
        std::iter::empty()
    }

    fn listeners(&self) -> impl Iterator<Item = &ListenerMetrics> + Clone {
        std::iter::empty()
    }
}

fn page(metrics: &Metrics, state: &Arc<State>) -> String {
    metrics.encode(PageFormat::Text, Arc::clone(state)).unwrap()
}

#[track_caller]
fn expect_line(page: &str, line: &str) {
    assert!(page.lines().any(|it| it == line), "no {line:?} in\n{page}");
}

#[test]
fn every_status_code_is_counted() {
    let metrics = Metrics::new();
    let state = Arc::new(State {
        spokes: vec![SpokeMetrics::new("production", [].into_iter(), None)],
        hubs: vec![HubMetrics::new("hub", None)],
    });
    for code in 100..1000 {
        let status = StatusCode::from_u16(code).unwrap();
        metrics.count_unidentified_request(status);
        for protocol in [None, Some(Protocol::V1), Some(Protocol::V2)] {
            state.spokes[0].count_request(protocol, status, Duration::ZERO);
        }
        for protocol in [Protocol::V1, Protocol::V2] {
            state.hubs[0].count_request(protocol, status.as_str(), None);
        }
    }
    let page = page(&metrics, &state);
    for (prefix, protocols) in [
        ("requests_total{spoke=\"unknown\"", &["unknown"][..]),
        (
            "requests_total{spoke=\"production\"",
            &["unknown", "v1", "v2"],
        ),
        ("hub_requests_total{hub=\"hub\"", &["v1", "v2"]),
    ] {
        for protocol in protocols {
            let start = format!("hubgate_{prefix},protocol=\"{protocol}\",");
            let lines: Vec<_> = page.lines().filter(|it| it.starts_with(&start)).collect();
            assert_eq!(lines.len(), 900, "{start}");
            assert!(lines.iter().all(|it| it.ends_with(" 1")), "{lines:#?}");
        }
    }
}

#[test]
fn what_was_counted_goes_on_by_name() {
    let metrics = Metrics::new();
    let credentials = || ["stays", "leaves"].into_iter();
    let before = SpokeMetrics::new("production", credentials(), None);
    before.count_retry();
    before.count_request(None, StatusCode::IM_A_TEAPOT, Duration::ZERO);
    before.record_credential_use(0);
    before.record_credential_use(1);
    let hub_before = HubMetrics::new("hub", None);
    hub_before.count_lost([0, 0, 1]);
    let now = ["new", "stays"].into_iter();
    let now = SpokeMetrics::new("production", now, Some(&before));
    let without = SpokeMetrics::new("production", ["new"].into_iter(), Some(&now));
    // A request that began with the configuration before.
    before.count_retry();
    let hub = HubMetrics::new("hub", Some(&hub_before));
    hub_before.count_lost([0, 0, 1]);
    let state = Arc::new(State {
        spokes: vec![now],
        hubs: vec![hub],
    });
    let text = page(&metrics, &state);
    expect_line(
        &text,
        "hubgate_retried_requests_total{spoke=\"production\"} 2",
    );
    let labels = "spoke=\"production\",protocol=\"unknown\",code=\"418\"";
    expect_line(&text, &format!("hubgate_requests_total{{{labels}}} 1"));
    expect_line(
        &text,
        "hubgate_hub_lost_total{hub=\"hub\",part=\"start_timestamp\"} 2",
    );
    let last_used =
        "hubgate_credential_last_used_timestamp_seconds{spoke=\"production\",credential=";
    expect_line(&text, &format!("{last_used}\"new\"}} 0.0"));
    assert!(
        text.contains(&format!("{last_used}\"stays\"}} 1")),
        "{text}"
    );
    assert!(!text.contains("leaves"), "{text}");
    let back = SpokeMetrics::new("production", credentials(), Some(&without));
    let spokes = vec![back];
    let hubs = Vec::new();
    let text = page(&metrics, &Arc::new(State { spokes, hubs }));
    for name in ["stays", "leaves"] {
        expect_line(&text, &format!("{last_used}\"{name}\"}} 0.0"));
    }
}

/// Two token files in different folders can have the same name.
#[test]
fn credentials_with_the_same_name_are_one_series() {
    let spoke = SpokeMetrics::new("production", ["token", "token"].into_iter(), None);
    spoke.record_credential_use(1);
    let state = Arc::new(State {
        spokes: vec![spoke],
        hubs: Vec::new(),
    });
    let text = page(&Metrics::new(), &state);
    let name = "hubgate_credential_last_used_timestamp_seconds{";
    let lines: Vec<_> = text.lines().filter(|it| it.starts_with(name)).collect();
    assert_eq!(lines.len(), 1, "{lines:#?}");
    assert!(!lines[0].ends_with(" 0.0"), "{lines:#?}");
}

#[test]
fn the_newest_sample_does_not_become_older() {
    let spoke = SpokeMetrics::new("production", [].into_iter(), None);
    let written = Counts::one(Kind::Float);
    for newest in [1500, 2500, 500, -1] {
        spoke.count_written(&written, Some(newest));
    }
    let state = Arc::new(State {
        spokes: vec![spoke],
        hubs: Vec::new(),
    });
    let line = "hubgate_newest_sample_timestamp_seconds{spoke=\"production\"} 2.5";
    expect_line(&page(&Metrics::new(), &state), line);
}

#[test]
fn a_page_is_written_while_requests_count() {
    let metrics = Metrics::new();
    let state = Arc::new(State {
        spokes: vec![SpokeMetrics::new("production", [].into_iter(), None)],
        hubs: vec![HubMetrics::new("hub", None)],
    });
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for code in (100..1000).cycle().take(3600) {
                    let status = StatusCode::from_u16(code).unwrap();
                    state.spokes[0].count_request(None, status, Duration::ZERO);
                    state.hubs[0].count_request(Protocol::V1, status.as_str(), None);
                }
            });
        }
        for _ in 0..20 {
            page(&metrics, &state);
        }
    });
    let text = page(&metrics, &state);
    let count = "hubgate_request_duration_seconds_count{spoke=\"production\"} 7200";
    expect_line(&text, count);
    let code = "hubgate_hub_requests_total{hub=\"hub\",protocol=\"v1\",code=\"999\"} 8";
    expect_line(&text, code);
}

/// A scraper holds the whole page in memory and may have a limit for it.
#[test]
#[allow(
    clippy::print_stdout,
    reason = "the time is for people; it decides nothing"
)]
fn a_page_of_a_thousand_spokes_stays_below_16_mib() {
    let metrics = Metrics::new();
    let spokes = (0..1000).map(|number| {
        let name = format!("production-eu-central-1-cluster-{number:04}");
        let credentials = ["token_sha256:0123abcd", "token_sha256:4567cdef"];
        let spoke = SpokeMetrics::new(&name, credentials.into_iter(), None);
        // Numbers as long as those of a year.
        let counts = Counts::new([1_234_567_890_123; 4]);
        spoke.count_received(&counts);
        spoke.count_failed(&counts);
        for reason in Reason::ALL {
            spoke.count_rejected(reason, &counts);
        }
        spoke.count_written(&counts, Some(1_795_387_664_432));
        spoke.record_sizes(123_456, 1_234_567);
        let duration = Duration::from_nanos(123_456_789);
        spoke.count_request(Some(Protocol::V2), StatusCode::NO_CONTENT, duration);
        spoke
    });
    let state = Arc::new(State {
        spokes: spokes.collect(),
        hubs: vec![HubMetrics::new("hub", None)],
    });
    for format in [PageFormat::Text, PageFormat::OpenMetrics] {
        let started = Instant::now();
        let page = metrics.encode(format, Arc::clone(&state)).unwrap();
        let (elapsed, bytes) = (started.elapsed(), page.len());
        println!(
            "{format:?}: {bytes} bytes, {} lines, {elapsed:?}",
            page.lines().count()
        );
        assert!(bytes < 16 << 20, "{format:?}: {bytes} bytes");
    }
}
