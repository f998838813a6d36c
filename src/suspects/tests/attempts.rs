//! What an attempt leaves to the next one, and to other messages.

use std::time::{Duration, Instant};

use crate::suspects::{Answer, Case, Inquiry, Shot, Terms, parts};
use crate::wire::transcode::Unit;
use crate::wire::{Counts, Kind};

use super::{Hub, NOW, REQUESTS_MAX, Request, Spoke, message, poisoned};

/// Terms of an attempt of which nothing is known before.
fn terms(now: Instant) -> Terms {
    Terms {
        now,
        clock: NOW,
        requests_max: REQUESTS_MAX,
        learned: Vec::new(),
        histograms_refused: false,
        unreliable: None,
        last_stored: None,
        control: None,
        seed: 1,
    }
}

/// What is known of a message whose second sample the hub never takes, after an attempt.
fn begun(units: &[Unit], now: Instant) -> Case {
    let mut case = Case::new(now);
    case.arrivals = 1;
    let mut hub = Hub::new(poisoned(&[1], "boom"));
    let mut inquiry = Inquiry::open(case, units.to_vec(), terms(now));
    while let Some(Shot::Parts(sent)) = inquiry.next_shot() {
        let places: Vec<_> = parts::places(&sent).collect();
        inquiry.answered(hub.take(units, &places, Duration::ZERO), now);
    }
    let closed = inquiry.close();
    assert!(!closed.case.complete);
    assert_eq!(closed.case.written.samples(), 9);
    closed.case
}

#[test]
fn a_fault_for_a_message_that_is_looked_into_meanwhile_counts_nothing_twice() {
    let (units, now) = (message(10, 1), Instant::now());
    let mut inquiry = Inquiry::open(begun(&units, now), units, terms(now));
    inquiry.begin_with_fault("boom", "boom", now);
    while let Some(Shot::Parts(_)) = inquiry.next_shot() {
        inquiry.answered(Answer::Stored(Counts::one(Kind::Float)), now);
    }
    let closed = inquiry.close();
    assert_eq!(
        (closed.case.complete, closed.case.written.samples()),
        (true, 10)
    );
}

#[test]
fn a_suspect_that_is_settled_stays_so_when_its_line_up_is_not_ended() {
    let (units, now) = (message(10, 1), Instant::now());
    let mut inquiry = Inquiry::open(begun(&units, now), units.clone(), terms(now));
    while let Some(Shot::Parts(sent)) = inquiry.next_shot() {
        if parts::places(&sent).eq([1]) {
            let said = "out of order sample".to_owned();
            inquiry.answered(Answer::Halve { status: 400, said }, now);
            break;
        }
        inquiry.answered(Answer::Stored(Counts::one(Kind::Float)), now);
    }
    let closed = inquiry.close();
    assert!(closed.case.complete);
    let mut again = Inquiry::open(closed.case, units, terms(now));
    assert!(again.next_shot().is_none());
}

#[test]
fn no_answer_says_nothing_of_the_suspects() {
    let (units, now) = (message(10, 1), Instant::now());
    let mut inquiry = Inquiry::open(begun(&units, now), units, terms(now));
    assert!(inquiry.next_shot().is_some());
    inquiry.broken();
    assert!(inquiry.next_shot().is_none());
    let closed = inquiry.close();
    assert!(!closed.unreliable);
    assert_eq!(closed.case.suspects.len(), 1);
}

#[test]
fn a_series_that_was_refused_shortens_the_way_when_the_text_is_another_one_each_time() {
    let units = message(500, 1);
    let mut hub = Hub::new(|request: &Request<'_>| {
        let bad = request.places.contains(&9);
        let id = "x".repeat(request.number % 97);
        bad.then(|| format!("request {id} cannot be taken"))
    });
    let mut spoke = Spoke::new(1);
    assert!(spoke.deliver(&mut hub, &units, 30).unwrap().attempts >= 8);
    for name in 1..20 {
        hub.newest.clear();
        let ended = spoke.deliver_as(&mut hub, name, &units, 3).unwrap();
        assert_eq!(ended.refused, [9].into());
    }
}

#[test]
fn a_message_that_is_settled_is_not_sent_again_when_the_spoke_missed_the_answer() {
    let units = message(500, 1);
    let mut hub = Hub::new(poisoned(&[9], "boom"));
    let mut spoke = Spoke::new(1);
    let ended = spoke.deliver(&mut hub, &units, 30).unwrap();
    let requests = hub.requests;
    let case = spoke.attempt(&mut hub, 0, &units).unwrap();
    assert_eq!(case.written, ended.written);
    assert_eq!(hub.requests, requests);
}
