//! Whose message is worked on next, and how long the others wait.

use futures_util::future::{join_all, try_join_all};
use tokio::time::sleep;

use super::*;
use crate::shares::Place;

/// All places, for one spoke.
async fn all(shares: &Arc<Shares>, share: Share) -> Vec<Place> {
    let places = 0..shares.usage().places;
    let taken = places.map(|_| shares.enter(share, Duration::ZERO));
    try_join_all(taken).await.unwrap()
}

/// Large requests of a spoke wait for each other, and not those of another spoke for them.
#[tokio::test]
async fn a_spoke_with_many_large_requests_does_not_hold_up_another() {
    let fixture = Fixture::new();
    let wide: Vec<Labels> = (0..100).map(|place| wide(place, 32 << 10)).collect();
    let body = compress(&encode_v1(&wide));
    let busy = Share::default();
    let rewrite = |share| {
        let request = fixture.request(share, Protocol::V1, &body, &[V1]);
        fixture.rewritten(request)
    };
    let large = &fixture.rewriter.large;
    let taken = all(large, busy).await;
    let waiting = join_all((0..5).map(|_| rewrite(busy)));
    let others = async {
        // It has its turn although nobody gives a place back.
        let other = rewrite(Share::default()).await;
        assert_eq!(large.usage().waiting, 5);
        drop(taken);
        other
    };
    let (waited, other) = tokio::join!(waiting, others);
    assert!(other.is_ok(), "{other:?}");
    assert!(waited.iter().all(Result::is_ok), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn a_large_request_does_not_wait_for_ever() {
    let fixture = Fixture::new();
    let share = Share::default();
    let _taken = all(&fixture.rewriter.large, share).await;
    let began = Instant::now();
    let run = async |size| {
        let mut seat = fixture.rewriter.seat(share);
        fixture.rewriter.run(&mut seat, size, |_| ()).await
    };
    let crowded = run(INLINE_BYTES_MAX + 1).await;
    assert!(matches!(crowded, Err(RewriteError::Crowded(_))));
    assert_eq!(began.elapsed(), PATIENCE);
    assert!(run(INLINE_BYTES_MAX).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_spoke_with_many_usual_requests_holds_up_neither_another_nor_what_has_begun() {
    let fixture = Fixture::new();
    let message = encode_v1(&hundred(|_| false, own));
    let body = compress(&message);
    let busy = Share::default();
    let usual = &fixture.rewriter.usual;
    let _taken = all(usual, busy).await;
    let rewrite = |share| {
        let request = fixture.request(share, Protocol::V1, &body, &[V1]);
        fixture.rewritten(request)
    };
    let began = Instant::now();
    let others = async {
        rewrite(Share::default()).await.unwrap();
        let payload = Payload {
            protocol: Protocol::V1,
            body: body.clone(),
            memory: 0,
            counts: Default::default(),
        };
        let reservation = Arc::new(fixture.budget.begin(&Arc::default(), busy));
        let (spoke, rewriter) = (&fixture.spoke, &fixture.rewriter);
        let forward = Metadata::Forward;
        let translated = rewriter.translate(&payload, forward, spoke, &reservation);
        translated.await.unwrap();
        let halves = rewriter.halve(&payload, spoke, &reservation).await;
        assert!(halves.unwrap().is_some());
        assert_eq!(
            (usual.usage().waiting, began.elapsed()),
            (1, Duration::ZERO)
        );
    };
    let (crowded, ()) = tokio::join!(rewrite(busy), others);
    assert!(matches!(crowded, Err(RewriteError::Crowded(_))));
    assert_eq!(began.elapsed(), PATIENCE);
}

/// A thousand small requests are done in a moment.
#[tokio::test(start_paused = true)]
async fn thousands_of_usual_requests_wait() {
    let fixture = Fixture::new();
    let busy = Share::default();
    let usual = &fixture.rewriter.usual;
    let taken = all(usual, busy).await;
    let waiting = (0..5000).map(|_| async { usual.enter(busy, PATIENCE).await.map(drop) });
    let (waited, ()) = tokio::join!(join_all(waiting), async {
        assert_eq!(usual.usage().waiting, 5000);
        drop(taken);
    });
    assert!(waited.iter().all(Result::is_ok));
}

/// A downgrade that turns out long has two turns.
#[tokio::test(start_paused = true)]
async fn all_turns_of_a_request_come_in_ten_seconds_together() {
    let fixture = Fixture::new();
    let series: Vec<_> = (0..1000).map(|place| wide(place, 4000)).collect();
    let body = compress(&encode_v2(&series));
    let share = Share::default();
    let usual_taken = all(&fixture.rewriter.usual, share).await;
    let _large_taken = all(&fixture.rewriter.large, share).await;
    let began = Instant::now();
    let request = fixture.request(share, Protocol::V2, &body, &[V1]);
    let (crowded, ()) = tokio::join!(fixture.rewritten(request), async {
        sleep(PATIENCE / 2).await;
        drop(usual_taken);
    });
    assert!(matches!(crowded, Err(RewriteError::Crowded(_))));
    assert_eq!(began.elapsed(), PATIENCE);
}
