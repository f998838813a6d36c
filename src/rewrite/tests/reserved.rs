//! What is reserved for the work on a request.

use super::*;

/// Rewrites a request within so many bytes, while another one holds more than an eighth of the budget, so
/// that the limit is not stretched.
async fn fits(
    fixture: &Fixture,
    limit: usize,
    from: Protocol,
    targets: &[Target],
    body: &Bytes,
) -> bool {
    let other_bytes = limit / 7 + 2;
    fixture.budget.set_limit(limit + other_bytes);
    let other = fixture.begin(other_bytes);
    if body.len() >= limit {
        return false;
    }
    let changes = &fixture.spoke.throttles.changes;
    changes.store(true, Ordering::Relaxed);
    let (rewritten, _) = fixture.rewrite(from, body, targets).await;
    drop(other);
    match rewritten {
        Ok(rewritten) => {
            let sent = rewritten.outgoing.iter().all(|it| it.message.is_some());
            assert!(sent, "each target has its message");
            true
        }
        Err(RewriteError::Overloaded(_)) => false,
        Err(error) => panic!("{error}"),
    }
}

/// The least limit of the budget within which a request is rewritten.
async fn least_limit(fixture: &Fixture, from: Protocol, targets: &[Target], body: &Bytes) -> usize {
    let (mut too_little, mut enough) = (0, BUDGET);
    while enough - too_little > 1024 {
        let middle = usize::midpoint(too_little, enough);
        if fits(fixture, middle, from, targets, body).await {
            enough = middle;
        } else {
            too_little = middle;
        }
    }
    enough
}

#[tokio::test(start_paused = true)]
async fn targets_that_do_not_fit_into_the_budget_at_once_are_encoded_in_turn() {
    let fixture = Fixture::new();
    let series: Vec<_> = (0..1000).map(|place| wide(place, 1000)).collect();
    let message = encode(Protocol::V1, &series);
    let body = compress(&message);
    let from = Protocol::V1;
    let one = least_limit(&fixture, from, &[V2], &body).await;
    let two = least_limit(&fixture, from, &[V2, V2_WITHOUT_METADATA], &body).await;
    let payload = body.len();
    assert!(
        one > message.len() && two < one + 2 * payload + 4096,
        "{one} {two}"
    );
    fixture.judged.take();
    assert!(fits(&fixture, two, from, &[V2, V2_WITHOUT_METADATA], &body).await);
    assert!(fixture.judged.take().values().all(|count| *count == 1));
}

/// Short symbols take many times their length in tables.
#[tokio::test(start_paused = true)]
async fn tables_of_symbols_are_reserved() {
    const SYMBOLS: usize = 100_000;
    let fixture = Fixture::new();
    let mut message = encode(Protocol::V2, &[own(0)]);
    message.extend(b"\x22\x01a".repeat(SYMBOLS));
    let body = compress(&message);
    let messages = message.len() * (1 + DOWNGRADE_FACTOR);
    // Eight bytes and one in the table of the walk, and eight in that of the encoder.
    let reserved = messages + 17 * SYMBOLS;
    let least = least_limit(&fixture, Protocol::V2, &[V1], &body).await;
    assert!(least > reserved, "{least} where {reserved} are needed");

    let payload = Payload {
        protocol: Protocol::V2,
        body,
        memory: 0,
        counts: Default::default(),
    };
    fixture.budget.set_limit(reserved);
    let (_other, reservation) = (fixture.begin(1), fixture.begin(0));
    let translated =
        fixture
            .rewriter
            .translate(&payload, Metadata::Forward, &fixture.spoke, &reservation);
    let translated = translated.await;
    assert!(matches!(translated, Err(RewriteError::Overloaded(_))));
}
