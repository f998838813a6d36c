//! The bounds of a capture, and what becomes of its memory.

use std::net::Ipv4Addr;

use super::*;

fn terms() -> Terms {
    Terms {
        spoke: "production".to_owned(),
        reasons: Vec::new(),
        requests: 3,
        body_bytes: 1000,
        bytes: 2000,
        until: Instant::now() + Duration::from_secs(60),
    }
}

/// What bodies hold.
fn held(captures: &Captures) -> usize {
    captures.held.load(Ordering::Relaxed)
}

/// A body that came in parts of these lengths.
fn body(capture: &Arc<Capture>, parts: &[usize]) -> Kept {
    let mut kept = Kept::new(capture);
    for part in parts {
        kept.add(&vec![7; *part]);
    }
    kept
}

fn captured(body: Kept) -> Captured {
    Captured {
        time: SystemTime::now(),
        status: StatusCode::BAD_REQUEST,
        reasons: vec!["malformed"],
        text: String::new(),
        protocol: None,
        sender: Sender {
            address: Ipv4Addr::LOCALHOST.into(),
            address_source: "socket",
            user_agent: None,
            content_type: None,
            content_encoding: None,
        },
        body,
    }
}

#[tokio::test]
async fn a_body_is_cut_at_its_bound() {
    for (parts, kept) in [
        (&[400, 600][..], 1000),
        (&[400, 601], 1000),
        (&[1001], 1000),
        (&[1000, 1], 1000),
        (&[], 0),
    ] {
        let captures = Captures::default();
        let capture = captures.begin(terms()).unwrap();
        let body = body(&capture, parts);
        assert_eq!(body.bytes().len(), kept, "{parts:?}");
        assert_eq!(body.came(), parts.iter().sum::<usize>());
        assert_eq!(held(&captures), kept, "{parts:?}");
        drop(body);
        assert_eq!(held(&captures), 0);
    }
}

#[tokio::test]
async fn all_bodies_of_the_process_together_have_a_bound() {
    let captures = Captures::default();
    let large = Terms {
        body_bytes: HELD_BYTES_MAX,
        ..terms()
    };
    let capture = captures.begin(large.clone()).unwrap();
    let first = body(&capture, &[HELD_BYTES_MAX - 10]);
    let bytes = |capture: &Arc<Capture>, parts: &[usize]| body(capture, parts).bytes().len();
    assert_eq!(bytes(&capture, &[11]), 0);
    assert_eq!(bytes(&capture, &[10]), 10);
    // Nothing may follow a gap.
    assert_eq!(bytes(&capture, &[5, 6, 1]), 5);
    // A request that is under way outlives its capture.
    captures.end(&capture, End::Gone);
    let next = captures.begin(large).unwrap();
    assert_eq!(bytes(&next, &[11]), 0);
    drop(first);
    assert_eq!(bytes(&next, &[11]), 11);
    assert_eq!(held(&captures), 0);
}

#[tokio::test]
async fn a_capture_ends_with_its_last_request_its_bytes_or_its_time() {
    let add = |capture: &Arc<Capture>, bytes| capture.add(captured(body(capture, &[bytes])));
    for (sizes, until, end, count) in [
        (&[1, 1, 1, 1][..], 60, Some(End::Requests), 3),
        (&[1000, 1000, 1], 60, Some(End::Bytes), 2),
        (&[1000, 999], 60, None, 2),
        (&[1], 0, Some(End::Time), 0),
    ] {
        let captures = Captures::default();
        let until = Instant::now() + Duration::from_secs(until);
        let capture = captures.begin(Terms { until, ..terms() }).unwrap();
        for size in sizes {
            add(&capture, *size);
        }
        assert_eq!((capture.end(), capture.captured().0), (end, count));
        assert_eq!(captures.of("production").is_some(), end.is_none());
        assert!(captures.of("staging").is_none());
        captures.end(&capture, End::Gone);
        assert!(capture.first(|_| ()).is_none());
        assert_eq!(held(&captures), 0);
        captures.begin(terms()).unwrap();
    }
}

#[tokio::test]
async fn what_may_not_be_seen_any_more_is_dropped() {
    let captures = Captures::default();
    for (sizes, taken, end) in [
        (&[][..], 0, End::Revoked),
        (&[1], 0, End::Revoked),
        // All have come, and some of them were not taken.
        (&[1, 1, 1], 2, End::Revoked),
        (&[1, 1, 1], 3, End::Requests),
    ] {
        let capture = captures.begin(terms()).unwrap();
        for size in sizes {
            capture.add(captured(body(&capture, &[*size])));
        }
        for _ in 0..taken {
            capture.drop_first();
        }
        capture.revoke();
        assert_eq!(capture.end(), Some(end), "{sizes:?}, {taken}");
        assert!(capture.first(|_| ()).is_none());
        captures.end(&capture, End::Gone);
    }
}

#[tokio::test]
async fn one_capture_goes_on_at_a_time() {
    let captures = Captures::default();
    let first = captures.begin(terms()).unwrap();
    let other = captures.begin(terms()).unwrap_err();
    assert!(Arc::ptr_eq(&first, &other));
    captures.end(&first, End::Gone);
    let second = captures.begin(terms()).unwrap();
    // The client of the first goes away late.
    captures.end(&first, End::Gone);
    assert!(Arc::ptr_eq(&captures.of("production").unwrap(), &second));
}

#[test]
fn reasons_are_chosen_whatever_the_status() {
    let captures = Captures::default();
    let wants = |chosen: &[&'static str], status: u16, reasons: &[&'static str]| {
        let terms = Terms {
            reasons: chosen.to_vec(),
            until: Instant::now(),
            ..terms()
        };
        let capture = captures.begin(terms).unwrap();
        captures.end(&capture, End::Gone);
        capture.wants(StatusCode::from_u16(status).unwrap(), reasons)
    };
    for (status, wanted) in [(204, false), (400, true), (429, true), (503, false)] {
        assert_eq!(wants(&[], status, &["malformed"]), wanted, "{status}");
    }
    assert!(wants(&["hub_failed"], 503, &["too_old", "hub_failed"]));
    assert!(!wants(&["hub_failed"], 400, &["too_old"]));
}

/// A client that reads nothing keeps no memory.
#[tokio::test(start_paused = true)]
async fn what_nobody_takes_is_dropped_some_time_after_the_end() {
    let captures = Captures::default();
    let expire = captures.expire();
    let client = async {
        let first = captures.begin(terms()).unwrap();
        captures.end(&first, End::Gone);
        let capture = captures.begin(terms()).unwrap();
        capture.add(captured(body(&capture, &[1000])));
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(held(&captures), 1000);
        tokio::time::sleep(Duration::from_secs(11)).await;
        assert_eq!(held(&captures), 0);
        assert_eq!(capture.end(), Some(End::Time));
        captures.begin(terms()).unwrap();
    };
    tokio::select! {
        never = expire => match never {},
        () = client => {}
    }
}
