//! Who has a place next, and when.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use tokio::task::{JoinSet, yield_now};

use super::*;

const PATIENCE: Duration = Duration::from_secs(10);

fn weight(weight: u32) -> Share {
    Share::new(NonZeroU32::new(weight).unwrap())
}

/// A place that is free.
async fn free(shares: &Arc<Shares>, share: Share) -> Place {
    shares.enter(share, Duration::ZERO).await.unwrap()
}

fn usage(shares: &Shares) -> (usize, usize, usize) {
    let Use {
        places,
        taken,
        waiting,
    } = shares.usage();
    (places, taken, waiting)
}

/// Each of these asks for a place that it holds for `hold`; returns who had one, in order.
async fn order(shares: &Arc<Shares>, asking: &[Share], hold: Duration) -> Vec<u64> {
    let order = Arc::new(Mutex::new(Vec::new()));
    let mut tasks = JoinSet::new();
    for share in asking {
        let (shares, order, share) = (Arc::clone(shares), Arc::clone(&order), *share);
        tasks.spawn(async move {
            let _place = shares.enter(share, 100 * PATIENCE).await.unwrap();
            order.lock().unwrap().push(share.id);
            tokio::time::sleep(hold).await;
        });
        yield_now().await;
    }
    tasks.join_all().await;
    assert_eq!(shares.usage().taken, 0);
    std::mem::take(&mut *order.lock().unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_spoke_alone_has_all_places() {
    let shares = Shares::new(3);
    let spoke = Share::default();
    let first = free(&shares, spoke).await;
    let _second = free(&shares, spoke).await;
    let _third = free(&shares, spoke).await;
    assert_eq!(usage(&shares), (3, 3, 0));
    let crowded = shares.enter(spoke, PATIENCE).await.unwrap_err();
    assert_eq!(crowded.retry_after, PATIENCE / 3, "any of them may be next");
    assert_eq!(usage(&shares), (3, 3, 0));
    drop(first);
    let _fourth = free(&shares, spoke).await;
    assert_eq!(usage(&shares), (3, 3, 0));
}

#[tokio::test(start_paused = true)]
async fn many_requests_of_one_spoke_delay_another_by_one_place() {
    for places in [1, 4, 16] {
        let shares = Shares::new(places);
        let (many, few) = (Share::default(), Share::default());
        let mut asking = vec![many; 300];
        asking.push(few);
        let order = order(&shares, &asking, Duration::from_millis(10)).await;
        let place = order.iter().position(|id| *id == few.id);
        assert!(place <= Some(places), "{places}: {place:?}");
        assert_eq!(order.len(), asking.len());
    }
}

#[tokio::test(start_paused = true)]
async fn places_follow_weights() {
    for places in [1, 8] {
        let shares = Shares::new(places);
        let (heavy, light) = (weight(3), weight(1));
        let asking = [vec![light; 400], vec![heavy; 400]].concat();
        let order = order(&shares, &asking, Duration::from_millis(10)).await;
        let heavy = order[places..400]
            .iter()
            .filter(|id| **id == heavy.id)
            .count();
        assert!((290..=310).contains(&heavy), "{places}: {heavy}");
    }
}

/// One that returns as soon as it had its place must not pass those who wait again and again.
#[tokio::test(start_paused = true)]
async fn returning_is_no_advantage() {
    let shares = Shares::new(1);
    let place = free(&shares, Share::default()).await;
    let mut tasks = JoinSet::new();
    for _ in 0..100 {
        let (shares, share) = (Arc::clone(&shares), Share::default());
        tasks.spawn(async move {
            for _ in 0..100 {
                let place = shares.enter(share, 100 * PATIENCE).await.unwrap();
                yield_now().await;
                drop(place);
            }
        });
    }
    yield_now().await;
    let waits = shares.enter(Share::default(), PATIENCE);
    drop(place);
    let place = waits.await.unwrap();
    assert!(tasks.len() > 90, "{} are left", tasks.len());
    drop(place);
    tasks.join_all().await;
    assert_eq!(usage(&shares), (1, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn who_leaves_a_line_leaves_nothing_behind() {
    let shares = Shares::new(1);
    let (first, second) = (Share::default(), Share::default());
    let place = free(&shares, first).await;
    {
        let mut leaves = pin!(shares.enter(second, PATIENCE));
        poll_fn(|context| {
            assert!(leaves.as_mut().poll(context).is_pending());
            Poll::Ready(())
        })
        .await;
        assert_eq!(usage(&shares), (1, 1, 1));
    }
    assert_eq!(usage(&shares), (1, 1, 0));
    {
        let mut leaves = pin!(shares.enter(second, PATIENCE));
        poll_fn(|context| {
            assert!(leaves.as_mut().poll(context).is_pending());
            Poll::Ready(())
        })
        .await;
        drop(place);
        // It was given the place, and does not know yet.
        assert_eq!(usage(&shares), (1, 1, 0));
    }
    assert_eq!(usage(&shares), (1, 0, 0));
    free(&shares, first).await;
}

#[tokio::test(start_paused = true)]
async fn the_time_to_wait_follows_from_how_places_become_free() {
    let shares = Shares::new(1);
    let spoke = Share::default();
    let mut tasks = JoinSet::new();
    for _ in 0..20 {
        let shares = Arc::clone(&shares);
        tasks.spawn(async move {
            let place = shares.enter(spoke, PATIENCE).await;
            tokio::time::sleep(Duration::from_secs(1)).await;
            place.is_ok()
        });
    }
    let results = tasks.join_all().await;
    let served = results.iter().filter(|served| **served).count();
    assert_eq!(served, 10, "a second each, and the patience is ten");
    let place = free(&shares, spoke).await;
    let _waits = {
        let shares = Arc::clone(&shares);
        tokio::spawn(async move { shares.enter(spoke, PATIENCE).await })
    };
    yield_now().await;
    let crowded = shares.enter(spoke, Duration::from_millis(1500)).await;
    assert_eq!(crowded.unwrap_err().retry_after, Duration::from_secs(2));
    let other = shares.enter(Share::default(), Duration::from_millis(500));
    assert_eq!(other.await.unwrap_err().retry_after, Duration::from_secs(1));
    drop(place);
}

#[tokio::test(start_paused = true)]
async fn a_line_is_bounded() {
    let shares = Shares::new(1);
    let spoke = Share::default();
    let place = free(&shares, spoke).await;
    let mut tasks = JoinSet::new();
    for _ in 0..2 * WAITING_MAX {
        let shares = Arc::clone(&shares);
        tasks.spawn(async move { drop(shares.enter(spoke, PATIENCE).await) });
        yield_now().await;
    }
    assert_eq!(usage(&shares), (1, 1, WAITING_MAX));
    drop(place);
    tasks.join_all().await;
    assert_eq!(usage(&shares), (1, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn places_come_and_go() {
    let shares = Shares::new(0);
    let spoke = Share::default();
    let waits = {
        let shares = Arc::clone(&shares);
        tokio::spawn(async move { shares.enter(spoke, PATIENCE).await.unwrap() })
    };
    yield_now().await;
    assert_eq!(usage(&shares), (0, 0, 1));
    shares.set_places(2);
    let first = waits.await.unwrap();
    let second = free(&shares, spoke).await;
    shares.set_places(1);
    drop(first);
    shares.enter(spoke, Duration::ZERO).await.unwrap_err();
    drop(second);
    free(&shares, spoke).await;
}

/// A limit that was lowered holds back who is responsible for what is under way, and nobody else.
#[tokio::test(start_paused = true)]
async fn who_holds_none_does_not_wait_for_those_that_hold_more_than_their_share() {
    let shares = Shares::new(8);
    let many = Share::default();
    let mut held = Vec::new();
    for _ in 0..8 {
        held.push(free(&shares, many).await);
    }
    shares.set_places(3);
    let few = [Share::default(), Share::default(), Share::default()];
    let first = free(&shares, few[0]).await;
    let _second = free(&shares, few[1]).await;
    assert_eq!(usage(&shares), (3, 10, 0));
    for waits in [many, few[0], few[2]] {
        shares.enter(waits, Duration::ZERO).await.unwrap_err();
    }
    // One that leaves makes room for another one of the few, though too many are under way.
    let waits = {
        let (shares, share) = (Arc::clone(&shares), few[2]);
        tokio::spawn(async move { shares.enter(share, PATIENCE).await.unwrap() })
    };
    yield_now().await;
    assert_eq!(usage(&shares), (3, 10, 1));
    drop(first);
    let _third = waits.await.unwrap();
    assert_eq!(usage(&shares), (3, 10, 0));
    held.clear();
    free(&shares, many).await;
    assert_eq!(usage(&shares), (3, 2, 0));
}

#[tokio::test(start_paused = true)]
async fn spokes_that_are_gone_are_forgotten() {
    let shares = Shares::new(2);
    let spoke = Share::default();
    let place = free(&shares, spoke).await;
    for _ in 0..100 * SWEEP_AT {
        free(&shares, spoke).await;
        free(&shares, Share::default()).await;
    }
    assert!(shares.lock().spokes.len() <= SWEEP_AT);
    drop(place);
    assert!(shares.lock().spokes.is_empty());
}

/// What happened an hour ago says nothing, whatever came since without waiting.
#[tokio::test(start_paused = true)]
async fn an_old_pace_refuses_nobody() {
    let shares = Shares::new(1);
    let spoke = Share::default();
    let place = free(&shares, spoke).await;
    let (_, waited) = tokio::join!(
        async {
            tokio::time::sleep(Duration::from_secs(5)).await;
            drop(place);
        },
        shares.enter(spoke, PATIENCE)
    );
    drop(waited.unwrap());
    for _ in 0..720 {
        tokio::time::sleep(Duration::from_secs(5)).await;
        drop(free(&shares, spoke).await);
    }
    let held = free(&shares, spoke).await;
    let mut waiting = JoinSet::new();
    for _ in 0..3 {
        let shares = Arc::clone(&shares);
        waiting.spawn(async move { shares.enter(spoke, PATIENCE).await.map(drop) });
        yield_now().await;
    }
    assert_eq!(usage(&shares), (1, 1, 3));
    drop(held);
    assert!(waiting.join_all().await.iter().all(Result::is_ok));
}

/// A stall says nothing about the requests behind it, once nobody waits any more.
#[tokio::test(start_paused = true)]
async fn a_stall_that_is_over_refuses_nobody() {
    let shares = Shares::new(1);
    let spoke = Share::default();
    let place = free(&shares, spoke).await;
    let (_, waited) = tokio::join!(
        async {
            tokio::time::sleep(Duration::from_secs(3)).await;
            drop(place);
        },
        shares.enter(spoke, PATIENCE)
    );
    drop(waited.unwrap());
    let held = free(&shares, spoke).await;
    let waiting = (0..5).map(|_| async { shares.enter(spoke, PATIENCE).await.map(drop) });
    let waiting = futures_util::future::join_all(waiting);
    let (waited, ()) = tokio::join!(waiting, async {
        assert_eq!(usage(&shares), (1, 1, 5));
        drop(held);
    });
    assert!(waited.iter().all(Result::is_ok), "{waited:?}");
}

/// Requests that were sent at once are answered at once, and the first answers are no measure.
#[tokio::test(start_paused = true)]
async fn many_places_that_become_free_at_once_refuse_nobody() {
    let shares = Shares::new(32);
    let spoke = Share::default();
    let mut held = Vec::new();
    for _ in 0..32 {
        held.push(free(&shares, spoke).await);
    }
    let wait = || async {
        let place = shares.enter(spoke, PATIENCE).await?;
        tokio::time::sleep(Duration::from_millis(1500)).await;
        drop(place);
        Ok::<_, Crowded>(())
    };
    let waiting = futures_util::future::join_all((0..100).map(|_| wait()));
    let (waited, late) = tokio::join!(waiting, async {
        tokio::time::sleep(Duration::from_millis(1400)).await;
        let before = futures_util::future::join_all((0..25).map(|_| wait()));
        let after = async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            drop(held.pop());
            let after = futures_util::future::join_all((0..25).map(|_| wait()));
            tokio::join!(after, async { drop(held) }).0
        };
        let (before, after) = tokio::join!(before, after);
        [before, after].concat()
    });
    assert!(waited.iter().all(Result::is_ok), "{waited:?}");
    assert!(late.iter().all(Result::is_ok), "{late:?}");
}

/// Nobody knows yet how long they take.
#[tokio::test(start_paused = true)]
async fn many_who_come_at_once_all_wait() {
    let shares = Shares::new(2);
    let spoke = Share::default();
    let held = [free(&shares, spoke).await, free(&shares, spoke).await];
    let mut waiting = JoinSet::new();
    for _ in 0..500 {
        let shares = Arc::clone(&shares);
        waiting.spawn(async move { shares.enter(spoke, PATIENCE).await.map(drop) });
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(usage(&shares), (2, 2, 500));
    drop(held);
    assert!(waiting.join_all().await.iter().all(Result::is_ok));
}

/// Its turn comes with the next place, however many the others want.
#[tokio::test(start_paused = true)]
async fn a_spoke_that_holds_least_is_told_of_its_own_turn() {
    let shares = Shares::new(40);
    let mut held = Vec::new();
    let mut waiting = JoinSet::new();
    let quiet = Share::default();
    for _ in 0..40 {
        let spoke = Share::default();
        held.push(free(&shares, spoke).await);
        for _ in 0..10 {
            let shares = Arc::clone(&shares);
            waiting.spawn(async move {
                let place = shares.enter(spoke, 100 * PATIENCE).await.unwrap();
                std::future::pending::<()>().await;
                drop(place);
            });
        }
    }
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        drop(held.pop());
    }
    let shares = Arc::clone(&shares);
    let quiet = tokio::spawn(async move { shares.enter(quiet, PATIENCE).await.map(drop) });
    yield_now().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    drop(held.pop());
    assert!(quiet.await.unwrap().is_ok());
}
