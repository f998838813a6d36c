//! What a page shows of the spokes and hubs that exist, and what it costs.

use std::time::{Duration, Instant};

use super::*;
use crate::config::Mismatch;
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
    let page = metrics.encode(PageFormat::Text, Arc::clone(state));
    page.unwrap().to_owned()
}

#[track_caller]
fn expect_line(page: &str, line: &str) {
    assert!(page.lines().any(|it| it == line), "no {line:?} in\n{page}");
}

#[test]
fn every_status_code_is_counted() {
    let metrics = Metrics::new();
    let state = Arc::new(State {
        spokes: vec![SpokeMetrics::new(
            "production",
            Mismatch::Reject,
            [].into_iter(),
            None,
        )],
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

/// `rate` sees a rise between two scrapes only, so nothing that was shown may be absent later.
#[test]
fn a_late_counter_has_a_series_from_its_first_count_on() {
    let metrics = Metrics::new();
    let spoke = |policy, before: Option<&_>| {
        SpokeMetrics::new("production", policy, [].into_iter(), before)
    };
    let labels = "spoke=\"production\",kind=\"histogram\",reason=\"label_length\"";
    let series = format!("hubgate_samples_rejected_total{{{labels}}}");
    let mut state = Arc::new(State {
        spokes: vec![spoke(Mismatch::Reject, None)],
        hubs: Vec::new(),
    });
    let none = Counts::default();
    state.spokes[0].count_rejected(Reason::LabelLength, &none);
    assert!(!page(&metrics, &state).contains(&series));
    let one = Counts::one(Kind::Histogram);
    for count in 1..3 {
        state.spokes[0].count_rejected(Reason::LabelLength, &one);
        expect_line(&page(&metrics, &state), &format!("{series} {count}"));
        let spokes = vec![spoke(Mismatch::Rename, Some(&state.spokes[0]))];
        let hubs = Vec::new();
        state = Arc::new(State { spokes, hubs });
        expect_line(&page(&metrics, &state), &format!("{series} {count}"));
    }
}

#[test]
fn what_was_counted_goes_on_by_name() {
    let metrics = Metrics::new();
    let credentials = || ["stays", "leaves"].into_iter();
    let before = SpokeMetrics::new("production", Mismatch::Reject, credentials(), None);
    before.count_retry();
    before.count_request(None, StatusCode::IM_A_TEAPOT, Duration::ZERO);
    before.record_credential_use(0);
    before.record_credential_use(1);
    let hub_before = HubMetrics::new("hub", None);
    hub_before.count_lost([0, 0, 1]);
    let now = ["new", "stays"].into_iter();
    let now = SpokeMetrics::new("production", Mismatch::Reject, now, Some(&before));
    let without = SpokeMetrics::new(
        "production",
        Mismatch::Reject,
        ["new"].into_iter(),
        Some(&now),
    );
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
    let back = SpokeMetrics::new(
        "production",
        Mismatch::Reject,
        credentials(),
        Some(&without),
    );
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
    let spoke = SpokeMetrics::new(
        "production",
        Mismatch::Reject,
        ["token", "token"].into_iter(),
        None,
    );
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
    let spoke = SpokeMetrics::new("production", Mismatch::Reject, [].into_iter(), None);
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
        spokes: vec![SpokeMetrics::new(
            "production",
            Mismatch::Reject,
            [].into_iter(),
            None,
        )],
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

fn thousand_spokes(then: impl Fn(&SpokeMetrics)) -> Arc<State> {
    let spokes = (0..1000).map(|number| {
        let name = format!("production-eu-central-1-cluster-{number:04}");
        let credentials = ["token_sha256:0123abcd"].into_iter();
        let spoke = SpokeMetrics::new(&name, Mismatch::Reject, credentials, None);
        then(&spoke);
        spoke
    });
    Arc::new(State {
        spokes: spokes.collect(),
        hubs: vec![HubMetrics::new("hub", None)],
    })
}

/// What a page costs a scraper, and a store that keeps its series: it holds the whole page in memory.
#[track_caller]
#[allow(
    clippy::print_stdout,
    reason = "the time is for people; it decides nothing"
)]
fn expect_page(state: &Arc<State>, series_max: usize, mib_max: usize) {
    let metrics = Metrics::new();
    for format in [PageFormat::Text, PageFormat::OpenMetrics] {
        let started = Instant::now();
        let page = metrics.encode(format, Arc::clone(state)).unwrap();
        let elapsed = started.elapsed();
        let is_ours = |line: &&str| line.contains("spoke=\"production-eu-central-1-cluster-0123\"");
        let (bytes, series) = (page.len(), page.lines().filter(is_ours).count());
        println!("{format:?}: {bytes} bytes, {series} series a spoke, {elapsed:?}");
        assert!(series <= series_max, "{format:?}: {series} series a spoke");
        assert!(bytes <= mib_max << 20, "{format:?}: {bytes} bytes");
    }
}

#[test]
fn a_spoke_at_rest_has_at_most_40_series_and_a_thousand_of_them_3_mib() {
    expect_page(&thousand_spokes(|_| ()), 40, 3);
}

#[test]
fn a_spoke_that_writes_has_at_most_40_series() {
    let state = thousand_spokes(|spoke| {
        let counts = Counts::new([1_234_567_890_123; 4]);
        spoke.record_credential_use(0);
        spoke.count_received_bytes(1_234_567_890_123);
        spoke.count_received(&counts);
        spoke.count_written(&counts, Some(1_795_387_664_432));
        let duration = Duration::from_nanos(123_456_789);
        spoke.count_request(Some(Protocol::V2), StatusCode::NO_CONTENT, duration);
    });
    expect_page(&state, 40, 4);
}

#[test]
fn a_page_of_a_thousand_spokes_that_all_lost_something_for_every_reason_stays_below_15_mib() {
    let state = thousand_spokes(|spoke| {
        // Numbers as long as those of a year.
        let counts = Counts::new([1_234_567_890_123; 4]);
        spoke.record_credential_use(0);
        spoke.count_received_bytes(1_234_567_890_123);
        spoke.count_label_mismatches(1_234_567_890_123);
        spoke.count_received(&counts);
        spoke.count_failed(&counts);
        for reason in Reason::ALL {
            spoke.count_rejected(reason, &counts);
        }
        spoke.count_written(&counts, Some(1_795_387_664_432));
        let duration = Duration::from_nanos(123_456_789);
        for status in [204, 400, 413, 503] {
            let status = StatusCode::from_u16(status).unwrap();
            spoke.count_request(Some(Protocol::V2), status, duration);
        }
    });
    expect_page(&state, 105, 15);
}
