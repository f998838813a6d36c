//! A spoke that sends a message until it is settled, and hubs of many kinds, with a clock of their own.

mod attempts;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use proptest::prelude::*;

use crate::wire::transcode::Unit;
use crate::wire::{Counts, Kind};

use super::{Answer, Case, Docket, Inquiry, Shot, Terms, parts};

/// Most requests of an attempt beside the message itself.
const REQUESTS_MAX: usize = 64;

/// The time between two attempts of a Prometheus, at most.
const BACKOFF: Duration = Duration::from_secs(5);

const NOW: i64 = 1_800_000_000_000;

/// What a hub makes of a request: `None` when it stores it, else the text of its 500.
type Fails = Box<dyn FnMut(&Request<'_>) -> Option<String>>;

/// A request as a hub sees it.
struct Request<'r> {
    /// The place of each sample.
    places: &'r [usize],
    units: &'r [Unit],
    /// Requests before it.
    number: usize,
    /// Since the first request.
    time: Duration,
}

/// A hub that stores the samples of a series in order only.
struct Hub {
    fails: Fails,
    newest: BTreeMap<u64, (usize, i64)>,
    stored: BTreeSet<usize>,
    requests: usize,
}

impl Hub {
    fn new(fails: impl FnMut(&Request<'_>) -> Option<String> + 'static) -> Self {
        Self {
            fails: Box::new(fails),
            newest: BTreeMap::new(),
            stored: BTreeSet::new(),
            requests: 0,
        }
    }

    fn take(&mut self, units: &[Unit], places: &[usize], time: Duration) -> Answer {
        let number = self.requests;
        self.requests += 1;
        let request = Request {
            places,
            units,
            number,
            time,
        };
        if let Some(text) = (self.fails)(&request) {
            let said = format!("the hub says (500): {text}");
            return Answer::Fault { text, said };
        }
        let in_order = |(place, unit): (usize, &Unit)| {
            let newest = self.newest.get(&unit.series);
            newest.is_none_or(|(known, time)| unit.time > Some(*time) || *known == place)
        };
        if !places
            .iter()
            .all(|place| in_order((*place, &units[*place])))
        {
            return Answer::Halve {
                status: 400,
                said: "out of order sample".to_owned(),
            };
        }
        let mut counts = Counts::default();
        for place in places {
            let unit = &units[*place];
            self.newest
                .insert(unit.series, (*place, unit.time.unwrap()));
            self.stored.insert(*place);
            counts.add(unit.kind, 1);
        }
        Answer::Stored(counts)
    }
}

/// A spoke at a hub, and its clock.
struct Spoke {
    docket: Docket,
    start: Instant,
    elapsed: Duration,
    seed: u64,
}

/// How a message ended.
#[derive(Debug, PartialEq, Eq)]
struct Ended {
    written: Counts,
    refused: BTreeSet<usize>,
    attempts: usize,
    refusals: Vec<u16>,
}

impl Spoke {
    fn new(seed: u64) -> Self {
        Self {
            docket: Docket::default(),
            start: Instant::now(),
            elapsed: Duration::ZERO,
            seed,
        }
    }

    fn now(&self) -> Instant {
        self.start + self.elapsed
    }

    /// Sends a message once; `None` when the spoke has to send it again.
    fn attempt(&mut self, hub: &mut Hub, name: u8, units: &[Unit]) -> Option<Case> {
        let digest = [name; 16];
        let all: Vec<_> = (0..units.len()).collect();
        let case = self.docket.take(&digest, self.now());
        let begun = case.as_ref().is_some_and(Case::is_begun);
        let splits = self.docket.refuses_histograms(self.now());
        let mut first = None;
        if !begun && !splits {
            match self.send(hub, units, &all) {
                Answer::Fault { text, said } => first = Some((text, said)),
                Answer::Stored(counts) => {
                    self.docket.stored(self.now());
                    let mut case = Case::new(self.now());
                    case.written = counts;
                    return Some(case);
                }
                other => panic!("{other:?}"),
            }
        }
        self.seed += 1;
        let terms = Terms {
            now: self.now(),
            clock: NOW,
            requests_max: REQUESTS_MAX,
            learned: self.docket.learned(self.now()),
            histograms_refused: splits,
            unreliable: self.docket.unreliable(),
            last_stored: self.docket.last_stored(),
            control: None,
            seed: self.seed,
        };
        let case = case.unwrap_or_else(|| Case::new(self.now()));
        let mut inquiry = Inquiry::open(case, units.to_vec(), terms);
        if let Some((text, said)) = first {
            inquiry.begin_with_fault(&text, &said, self.now());
        }
        let mut requests = 0;
        while let Some(shot) = inquiry.next_shot() {
            requests += 1;
            let Shot::Parts(sent) = shot else {
                panic!("there is no other message");
            };
            let places: Vec<_> = parts::places(&sent).collect();
            assert!(!places.is_empty());
            let answer = self.send(hub, units, &places);
            inquiry.answered(answer, self.now());
        }
        assert!(requests <= REQUESTS_MAX, "{requests}");
        let closed = inquiry.close();
        let (complete, now) = (closed.case.complete, self.now());
        let done = complete.then(|| {
            let mut case = Case::new(now);
            case.written = closed.case.written;
            case.refusals.clone_from(&closed.case.refusals);
            case
        });
        self.docket.close(digest, closed, now);
        done
    }

    fn send(&mut self, hub: &mut Hub, units: &[Unit], places: &[usize]) -> Answer {
        self.elapsed += Duration::from_millis(3);
        hub.take(units, places, self.elapsed)
    }

    /// Sends a message until it is settled, at most so many times.
    fn deliver(&mut self, hub: &mut Hub, units: &[Unit], attempts_max: usize) -> Option<Ended> {
        self.deliver_as(hub, 0, units, attempts_max)
    }

    fn deliver_as(
        &mut self,
        hub: &mut Hub,
        name: u8,
        units: &[Unit],
        attempts_max: usize,
    ) -> Option<Ended> {
        hub.stored.clear();
        for attempt in 1..=attempts_max {
            if let Some(case) = self.attempt(hub, name, units) {
                let stored = std::mem::take(&mut hub.stored);
                let refused = (0..units.len()).filter(|place| !stored.contains(place));
                let ended = Ended {
                    written: case.written,
                    refused: refused.collect(),
                    attempts: attempt,
                    refusals: case.refusals.iter().map(|(status, _)| *status).collect(),
                };
                // What is told to be written is what is stored.
                let mut counts = Counts::default();
                stored
                    .iter()
                    .for_each(|place| counts.add(units[*place].kind, 1));
                assert_eq!(ended.written, counts);
                return Some(ended);
            }
            let backoff = Duration::from_millis(30 << attempt.min(10));
            self.elapsed += backoff.min(BACKOFF);
        }
        None
    }
}

/// `series` series with as many samples each, scrape after scrape.
fn message(series: u64, samples: u64) -> Vec<Unit> {
    let units = (0..samples).flat_map(|scrape| (0..series).map(move |series| (scrape, series)));
    let unit = |(scrape, series): (u64, u64)| Unit {
        series,
        kind: if series % 10 == 3 {
            Kind::Histogram
        } else {
            Kind::Float
        },
        time: Some(NOW - 60_000 + i64::try_from(scrape).unwrap() * 1000),
    };
    units.map(unit).collect()
}

fn histograms(units: &[Unit]) -> BTreeSet<usize> {
    let of_kind = |place: &usize| units[*place].kind == Kind::Histogram;
    (0..units.len()).filter(of_kind).collect()
}

fn poisoned(places: &[usize], text: &str) -> impl FnMut(&Request<'_>) -> Option<String> + use<> {
    let (poison, text) = (places.to_vec(), text.to_owned());
    move |request| {
        let bad = request.places.iter().any(|place| poison.contains(place));
        bad.then(|| text.clone())
    }
}

#[test]
fn a_sample_that_a_hub_never_takes_loses_only_itself() {
    for (series, samples) in [(2000, 1), (200, 10), (2, 1), (10, 3)] {
        let units = message(series, samples);
        for place in [0, units.len() / 2, units.len() - 1] {
            let mut hub = Hub::new(poisoned(&[place], "boom"));
            let ended = Spoke::new(1).deliver(&mut hub, &units, 30).unwrap();
            assert_eq!(ended.refused, [place].into(), "{series} {samples}");
            assert_eq!(ended.refusals, [400]);
            assert!(ended.attempts >= 8, "{ended:?}");
        }
    }
}

#[test]
fn a_known_text_needs_no_further_attempt() {
    let units = message(2000, 1);
    let mut hub = Hub::new(poisoned(&[77], "datapoint timestamp is not unique"));
    let ended = Spoke::new(1).deliver(&mut hub, &units, 1).unwrap();
    assert_eq!(ended.refused, [77].into());
    assert!(hub.requests <= 1 + REQUESTS_MAX);
}

#[test]
fn histograms_are_split_off_at_once_where_a_hub_takes_none() {
    let units = message(2000, 1);
    let all = histograms(&units);
    let places: Vec<_> = all.iter().copied().collect();
    let mut hub = Hub::new(poisoned(&places, "native histograms are disabled"));
    let mut spoke = Spoke::new(1);
    for round in 0..10 {
        let before = hub.requests;
        hub.newest.clear();
        let ended = spoke.deliver_as(&mut hub, round, &units, 1).unwrap();
        assert_eq!(ended.refused, all);
        let requests = hub.requests - before;
        assert!(requests <= if round == 0 { 24 } else { 2 }, "{requests}");
    }
}

#[test]
fn many_bad_samples_are_found_over_several_attempts() {
    let units = message(500, 2);
    let poison: Vec<_> = (0..1000).step_by(40).collect();
    let mut hub = Hub::new(poisoned(&poison, "boom"));
    let ended = Spoke::new(1).deliver(&mut hub, &units, 100).unwrap();
    assert_eq!(ended.refused, poison.into_iter().collect());
}

#[test]
fn a_text_that_was_refused_shortens_the_way_for_the_next_message() {
    let units = message(500, 1);
    let mut hub = Hub::new(poisoned(&[9], "boom"));
    let mut spoke = Spoke::new(1);
    assert!(spoke.deliver(&mut hub, &units, 30).unwrap().attempts >= 8);
    hub.newest.clear();
    let ended = spoke.deliver_as(&mut hub, 1, &units, 3).unwrap();
    assert_eq!(ended.refused, [9].into());
    // It expires.
    spoke.elapsed += Duration::from_secs(3600);
    hub.newest.clear();
    assert_eq!(spoke.deliver_as(&mut hub, 2, &units, 5), None);
}

#[test]
fn a_hub_that_fails_what_is_large_gets_small_messages() {
    let units = message(1000, 2);
    let mut hub = Hub::new(|request: &Request<'_>| {
        (request.places.len() > 50).then(|| "too large".to_owned())
    });
    let ended = Spoke::new(1).deliver(&mut hub, &units, 10).unwrap();
    assert_eq!(ended.refused, BTreeSet::new());
}

#[test]
fn what_a_hub_finds_too_old_is_only_refused_if_it_is_old_or_the_present_is_stored() {
    let mut units = message(100, 1);
    let too_old = |request: &Request<'_>, limit: i64| {
        let old = |place: &usize| request.units[*place].time < Some(limit);
        let any = request.places.iter().any(old);
        any.then(|| "too old sample".to_owned())
    };
    // Another sender wrote a sample a year ahead.
    let mut hub = Hub::new(move |request: &Request<'_>| too_old(request, NOW + 1_000_000_000));
    assert_eq!(Spoke::new(1).deliver(&mut hub, &units, 2000), None);
    assert!(hub.requests <= 2000 * 4, "{}", hub.requests);
    // Three days old, at a hub that takes two hours.
    units[40].time = Some(NOW - 3 * 86_400_000);
    let mut hub = Hub::new(move |request: &Request<'_>| too_old(request, NOW - 7_200_000));
    let ended = Spoke::new(1).deliver(&mut hub, &units, 1).unwrap();
    assert_eq!(ended.refused, [40].into());
    // Three hours old: refused after a while, since the hub stores current samples.
    units[40].time = Some(NOW - 3 * 3_600_000);
    let mut hub = Hub::new(move |request: &Request<'_>| too_old(request, NOW - 7_200_000));
    let ended = Spoke::new(1).deliver(&mut hub, &units, 30).unwrap();
    assert_eq!((ended.refused, ended.attempts >= 8), ([40].into(), true));
}

#[test]
fn a_hub_that_is_down_gets_few_requests_and_loses_nothing() {
    for text in [
        "boom",
        "too old sample",
        "out of order sample",
        "unavailable",
    ] {
        let units = message(2000, 1);
        let minute = Duration::from_secs(60);
        let mut hub =
            Hub::new(move |request: &Request<'_>| (request.time < minute).then(|| text.to_owned()));
        let ended = Spoke::new(1).deliver(&mut hub, &units, 50).unwrap();
        assert_eq!(ended.refused, BTreeSet::new());
        assert!(
            hub.requests <= 4 * ended.attempts,
            "{text}: {}",
            hub.requests
        );
    }
}

/// Hubs that do not look at the samples: whatever they fail, they would take later.
fn blind_hub(kind: u8, chance: f64, seed: u64, text: String) -> Hub {
    let mut random = fastrand::Rng::with_seed(seed);
    let period = random.u64(1..20);
    let mut left = 0_u32;
    let mut failing = false;
    Hub::new(move |request: &Request<'_>| {
        let failed = match kind {
            0 => random.f64() < chance,
            // Every second one, or every third.
            1 => (request.number as u64).is_multiple_of(2 + period % 2),
            // Bursts of requests.
            2 => {
                if left == 0 {
                    failing = !failing;
                    left = random.u32(1..40);
                }
                left -= 1;
                failing && random.f64() < 0.95
            }
            // Some seconds of each period.
            3 => request.time.as_secs() % (2 * period) < period,
            // Large ones, some of them.
            4 => request.places.len() > 30 && random.f64() < chance,
            // The load of the last requests.
            _ => random.f64() < chance * (request.places.len() as f64 / 100.0).min(1.0),
        };
        failed.then(|| text.clone())
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// A hub that does not look at the samples has nothing refused, whatever it says.
    #[test]
    fn nothing_is_refused_for_a_hub_that_fails_blindly(
        kind in 0_u8..6,
        chance in 0.05..0.95,
        seed in any::<u64>(),
        series in 1_u64..300,
        samples in 1_u64..4,
        text in prop_oneof![Just("boom"), Just("unavailable"), Just("internal error")],
    ) {
        let units = message(series, samples);
        let mut hub = blind_hub(kind, chance, seed, text.to_owned());
        let mut spoke = Spoke::new(seed);
        let ended = spoke.deliver(&mut hub, &units, 1000);
        prop_assert_eq!(ended.map(|it| it.refused), Some(BTreeSet::new()));
    }

    /// With bad samples at a hub that also fails by chance, only these are refused.
    #[test]
    fn only_bad_samples_are_refused_at_a_flaky_hub(
        chance in 0.0..0.2,
        seed in any::<u64>(),
        series in 2_u64..200,
        samples in 1_u64..4,
        bad in proptest::collection::btree_set(0_usize..600, 0..6),
    ) {
        let units = message(series, samples);
        let bad: Vec<_> = bad.into_iter().filter(|place| *place < units.len()).collect();
        let mut poison = poisoned(&bad, "boom");
        let mut random = fastrand::Rng::with_seed(seed);
        let mut hub = Hub::new(move |request: &Request<'_>| {
            let failed = random.f64() < chance;
            poison(request).or_else(|| failed.then(|| "boom".to_owned()))
        });
        let mut spoke = Spoke::new(seed);
        if let Some(ended) = spoke.deliver(&mut hub, &units, 500) {
            prop_assert_eq!(ended.refused, bad.into_iter().collect::<BTreeSet<_>>());
        }
    }
}
