//! What the history of a spoke keeps, and for how long.

use super::*;

fn written(total: u64) -> Totals {
    Totals {
        written: total,
        ..Totals::default()
    }
}

fn refused(refusals: &[(&'static str, u64)]) -> Totals {
    Totals {
        refusals: refusals.to_vec(),
        ..Totals::default()
    }
}

#[test]
fn a_step_has_what_was_counted_since_the_one_before() {
    let history = History::default();
    let totals = Totals {
        written: 150,
        rejected: 15,
        failed: 30,
        lag: Some(Duration::from_millis(2500)),
        limits: vec![(Limit::SamplesPerSecond, 0.25)],
        refusals: Vec::new(),
    };
    history.record(7, totals.clone());
    let without = Totals {
        lag: None,
        limits: Vec::new(),
        ..totals
    };
    history.record(8, without);
    let [first, second] = history.since(None).steps[..] else {
        panic!("two steps");
    };
    assert_eq!(
        (first.written, first.rejected, first.failed, first.lag),
        (10.0, 1.0, 2.0, 2.5)
    );
    assert_eq!(first.limit(Limit::SamplesPerSecond), 0.25);
    assert!(first.limit(Limit::ActiveSeries).is_nan());
    assert_eq!(
        (second.written, second.rejected, second.failed),
        (0.0, 0.0, 0.0)
    );
    assert!(second.lag.is_nan() && second.limit(Limit::SamplesPerSecond).is_nan());
}

#[test]
fn what_was_counted_in_missed_steps_is_spread_over_them() {
    let history = History::default();
    history.record(0, written(15));
    history.record(3, written(60));
    let steps = history.since(None).steps;
    assert_eq!((steps[0].written, steps[3].written), (1.0, 1.0));
    assert!(steps[1].written.is_nan() && steps[2].written.is_nan());
}

#[test]
fn a_limit_that_is_exceeded_is_more_than_used_and_never_unknown() {
    assert_eq!(Part::new(1.5).get(), 1.5);
    assert_eq!(Part::new(1e9).get(), 6.5534);
}

#[test]
fn refusals_are_known_by_step_and_reason_for_an_hour() {
    let history = History::default();
    history.record(65_535, refused(&[("a", 15)]));
    history.record(65_536, refused(&[("a", 15), ("b", 30)]));
    history.record(65_538, refused(&[("a", 45), ("b", 30)]));
    let shown = history.shown().refusals;
    let [("a", a), ("b", b)] = &shown[..] else {
        panic!("{shown:?}");
    };
    assert_eq!((a[0], a[1], a[3]), (1.0, 0.0, 1.0));
    assert_eq!((b[0], b[1], b[3]), (0.0, 2.0, 0.0));
    assert!(a[2].is_nan() && b[2].is_nan());
    for number in 65_539..65_538 + STEPS as u64 {
        history.record(number, refused(&[("a", 45), ("b", 30)]));
    }
    let shown = history.shown().refusals;
    assert_eq!((shown[0].1[0], shown[0].1.len()), (1.0, STEPS));
    history.record(65_538 + STEPS as u64, refused(&[("a", 45), ("b", 30)]));
    let shown = history.shown().refusals;
    assert!(
        shown
            .iter()
            .all(|(_, rates)| rates.iter().all(|it| *it == 0.0))
    );
    assert!(history.lock().refused.is_empty());
}

#[test]
fn what_had_to_make_room_is_not_known() {
    let history = History::default();
    let names = ["a", "b", "c", "d"];
    for number in 0..STEPS as u64 {
        let all = names.map(|name| (name, 15 * (number + 1)));
        // One reason in each of the first steps, and four in the others.
        history.record(number, refused(if number < 60 { &all[..1] } else { &all }));
    }
    // 60 refusals of 60 steps, and 720 of 180 steps, are 60 too many.
    let shown = history.shown().refusals;
    let [("a", a), .., ("d", d)] = &shown[..] else {
        panic!("{shown:?}");
    };
    assert!(a[..60].iter().chain(&d[..60]).all(|it| it.is_nan()));
    assert!(a[60..].iter().all(|it| *it == 1.0));
    history.record(STEPS as u64, refused(&[("a", 15 * 241)]));
    let shown = history.shown().refusals;
    // The oldest of the four that were refused in a step made room; the others of it are known.
    let first = shown.iter().map(|(_, rates)| rates[59]);
    let known: Vec<_> = first.map(|it| !it.is_nan()).collect();
    assert_eq!(known, [false, true, true, true]);
    assert!(shown.iter().all(|(_, rates)| rates[58].is_nan()));
    assert_eq!((shown[1].1[239], shown[1].1[60]), (0.0, 1.0));
}

#[test]
fn the_ratio_is_of_the_last_steps() {
    let history = History::default();
    assert_eq!(history.rejected_ratio(2 * STEP), 0.0);
    let totals = |rejected, written| Totals {
        written,
        rejected,
        failed: 1000,
        ..Totals::default()
    };
    history.record(0, totals(1000, 0));
    history.record(1, totals(1000, 300));
    history.record(2, totals(1100, 300));
    assert_eq!(history.rejected_ratio(2 * STEP), 0.25);
}

#[test]
fn a_lag_that_changes_by_more_than_a_step_has_a_trend() {
    let five_minutes = Duration::from_secs(300);
    let trend = |lags: &[Option<u64>]| {
        let history = History::default();
        for (number, lag) in lags.iter().enumerate() {
            let lag = lag.map(Duration::from_secs);
            let totals = Totals {
                lag,
                ..Totals::default()
            };
            history.record(number as u64, totals);
        }
        history.lag_trend(five_minutes)
    };
    assert_eq!(trend(&[]), None);
    assert_eq!(trend(&[Some(0), Some(100)]), None);
    let [none, low, high] = [None, Some(5), Some(60)];
    assert_eq!(trend(&[none, low, low, low, high]), None);
    assert_eq!(trend(&[low, none, low, low, high]), Some(LagTrend::Rising));
    assert_eq!(trend(&[high, low, low, low, low]), Some(LagTrend::Falling));
    let jitter = [Some(60), Some(70), Some(62), Some(58), Some(75)];
    assert_eq!(trend(&jitter), Some(LagTrend::Steady));
    // What was before these five minutes is past.
    let mut past = vec![Some(3000)];
    past.extend([low; 20]);
    assert_eq!(trend(&past), Some(LagTrend::Steady));
}

/// A thousand spokes, each refused for all reasons in each step.
#[test]
fn a_thousand_spokes_take_at_most_16_mib() {
    let series = Reason::ALL.map(Reason::name);
    let reasons: Vec<_> = series
        .into_iter()
        .chain(RequestReason::ALL.map(RequestReason::name))
        .collect();
    let history = History::default();
    for number in 0..1000 {
        let each: Vec<_> = reasons.iter().map(|it| (*it, number + 1)).collect();
        history.record(number, refused(&each));
    }
    let kept = history.lock();
    let bytes = size_of::<History>()
        + kept.hour.bytes()
        + kept.refused.capacity() * size_of::<Refused>()
        + kept.reasons.capacity() * size_of::<Counted>();
    assert_eq!(kept.refused.len(), REFUSALS_MAX);
    assert!(bytes <= BYTES_MAX, "{bytes} of {BYTES_MAX}");
    const { assert!(BYTES_MAX * 1000 <= 16 << 20) };
}
