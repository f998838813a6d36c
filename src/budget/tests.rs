//! What requests take of the budget, give back, wait for and leave to others.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Mutex;
use std::task::Poll;

use tokio::task::JoinSet;
use tokio::time::{Instant, advance, sleep};

use crate::config::LimitMode;

use super::*;

/// A request that holds `bytes`.
fn holding(budget: &Arc<Budget>, bytes: usize) -> Result<Reservation, Overloaded> {
    let reservation = budget.begin(&Arc::default(), Share::default());
    reservation.grow(bytes).map(|()| reservation)
}

#[test]
fn takes_all_or_nothing_and_gives_back() {
    let gauge = Gauge::default();
    let budget = Budget::new(100, gauge.clone());
    let (account, other) = (Arc::default(), Arc::default());
    let first = budget.begin(&account, Share::default());
    let second = budget.begin(&other, Share::default());
    first.grow(60).unwrap();
    second.grow(41).unwrap_err();
    assert_eq!(holding(&budget, 41).unwrap_err().needed, 41);
    second.grow(40).unwrap();
    assert_eq!(gauge.get(), 100);
    assert_eq!((account.bytes(), other.bytes()), (60, 40));
    first.resize(10).unwrap();
    assert_eq!(gauge.get(), 50);
    let first = Arc::new(first);
    first.permit(51).unwrap_err();
    let mut permit = first.permit(40).unwrap();
    assert_eq!(permit.grow(11).unwrap_err().needed, 61);
    permit.grow(10).unwrap();
    assert_eq!((gauge.get(), first.bytes()), (100, 60));
    let part = permit.split(20);
    drop(permit);
    assert_eq!((gauge.get(), first.bytes()), (70, 30));
    drop(part);
    assert_eq!((gauge.get(), first.bytes()), (50, 10));
    second.grow(usize::MAX).unwrap_err();
    drop(first);
    second.resize(120).unwrap();
    holding(&budget, 1).unwrap_err();
    drop(second);
    holding(&budget, 101).unwrap_err();
    assert_eq!(gauge.get(), 0);
    assert_eq!((account.bytes(), other.bytes()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn one_request_at_a_time_waits_in_its_turn() {
    let budget = Budget::new(100, Gauge::default());
    let first = holding(&budget, 50).unwrap();
    let second = holding(&budget, 50).unwrap();
    let third = holding(&budget, 0).unwrap();
    let (first_grows, ()) = tokio::join!(first.grow_in_turn(50), async {
        assert_eq!(third.grow_in_turn(10).await.unwrap_err().needed, 10);
        let refused = second.grow_in_turn(10).await.unwrap_err();
        assert_eq!(refused.needed, 60);
        drop(second);
    });
    first_grows.unwrap();
    let began = Instant::now();
    first.resize(50).unwrap();
    let held = holding(&budget, 50).unwrap();
    first.grow_in_turn(10).await.unwrap_err();
    assert_eq!(began.elapsed(), TURN_TIMEOUT);
    // The turn of the first is over.
    let third = holding(&budget, 0).unwrap();
    let (third_grows, ()) = tokio::join!(third.grow_in_turn(10), async { drop(held) });
    third_grows.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_large_body_yields_to_a_request_that_waits() {
    let budget = Budget::new(10 * BYTES_BESIDE_A_TURN_MAX, Gauge::default());
    let first = holding(&budget, BYTES_BESIDE_A_TURN_MAX).unwrap();
    let other = holding(&budget, BYTES_BESIDE_A_TURN_MAX).unwrap();
    let small = holding(&budget, 0).unwrap();
    let waits = first.grow_in_turn(9 * BYTES_BESIDE_A_TURN_MAX);
    let (grown, ()) = tokio::join!(waits, async {
        small.grow_in_turn(BYTES_BESIDE_A_TURN_MAX).await.unwrap();
        other.wait_to_begin(1).await.unwrap_err();
        other.grow_in_turn(1).await.unwrap_err();
        other.grow(1).unwrap();
        drop((small, other));
    });
    grown.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_spoke_leaves_room_for_others() {
    let budget = Budget::new(900, Gauge::default());
    let share = Share::default();
    let fill = async |account: &Arc<Account>, share| {
        let mut requests = Vec::new();
        loop {
            let request = budget.begin(account, share);
            match request.grow_in_turn(1).await {
                Ok(()) => requests.push(request),
                Err(overloaded) => {
                    assert_eq!((overloaded.needed, overloaded.full), (1, Full::Share));
                    return requests;
                }
            }
        }
    };
    let (first, second) = (Arc::default(), Arc::default());
    let began = Instant::now();
    let mut of_first = fill(&first, share).await;
    assert_eq!(first.bytes(), 900 * 4 / 5);
    let of_second = fill(&second, share).await;
    assert_eq!(second.bytes(), 180 * 4 / 5);
    of_first.truncate(400);
    let more_of_second = fill(&second, share).await;
    let more_of_first = fill(&first, share).await;
    assert_eq!((first.bytes(), second.bytes()), (400, 400));
    assert_eq!(
        began.elapsed(),
        Duration::ZERO,
        "small ones wait for nobody"
    );
    // What was admitted is finished.
    of_first[0].grow(100).unwrap();
    drop((of_first, more_of_first, of_second, more_of_second));
    let heavy = share.with_weight(2.try_into().unwrap());
    let of_second = fill(&second, heavy).await;
    assert_eq!(second.bytes(), 900 * 8 / 9);
    let alone = budget.begin(&Arc::default(), share);
    alone.grow_in_turn(100).await.unwrap();
    drop((of_second, alone));
    let heaviest = share.with_weight(1000.try_into().unwrap());
    let _of_second = fill(&second, heaviest).await;
    assert_eq!(second.bytes(), 900 * 16 / 17);
    let other = budget.begin(&Arc::default(), share);
    other.grow_in_turn(900 / 17).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn who_holds_much_yields_to_a_request_that_waits() {
    const MIB: usize = 1024 * 1024;
    let budget = Budget::new(100 * MIB, Gauge::default());
    let (much, little) = (Arc::default(), Arc::default());
    let share = Share::default();
    let held = budget.begin(&much, share);
    held.grow(60 * MIB).unwrap();
    let large = budget.begin(&little, share);
    let (grown, ()) = tokio::join!(large.grow_in_turn(50 * MIB), async {
        let more = budget.begin(&much, share);
        more.grow_in_turn(MIB).await.unwrap_err();
        let other = budget.begin(&Arc::default(), share);
        other.grow_in_turn(MIB).await.unwrap();
        drop(held);
        more.grow_in_turn(MIB).await.unwrap();
    });
    grown.unwrap();
}

/// When it is encoded, a message may need more than there is. It must not have to be alone for that, nor keep
/// others out while it waits.
#[tokio::test(start_paused = true)]
async fn a_request_that_is_too_large_for_the_budget_passes_beside_others() {
    const MIB: usize = 1024 * 1024;
    let budget = Budget::new(100 * MIB, Gauge::default());
    let large = budget.begin(&Arc::default(), Share::default());
    large.grow_in_turn(60 * MIB).await.unwrap();
    let refused = Arc::new(AtomicUsize::new(0));
    let mut others = JoinSet::new();
    let [first, second, _, _] = [(); 4].map(|()| {
        let (budget, refused) = (Arc::clone(&budget), Arc::clone(&refused));
        others.spawn(async move {
            let account = Arc::default();
            let mut held = None;
            loop {
                let request = budget.begin(&account, Share::default());
                match request.grow_in_turn(5 * MIB).await {
                    Ok(()) => drop(held.replace(request)),
                    Err(_) => drop(refused.fetch_add(1, Ordering::Relaxed)),
                }
                sleep(Duration::from_millis(100)).await;
            }
        })
    });
    sleep(Duration::from_secs(1)).await;
    let began = Instant::now();
    let overloaded = large.grow(90 * MIB).unwrap_err();
    let (waited, ()) = tokio::join!(large.wait_for_room(overloaded), async {
        sleep(Duration::from_secs(2)).await;
        first.abort();
        second.abort();
    });
    waited.unwrap();
    large.grow(90 * MIB).unwrap();
    assert_eq!(refused.load(Ordering::Relaxed), 0);
    assert_eq!(began.elapsed(), Duration::from_secs(2));
    assert!(others.len() == 4 && large.bytes() == 150 * MIB);
    large.end_turn();
    others.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_kept_for_later_gives_way() {
    let budget = Budget::new(100, Gauge::default());
    let kept = budget.keep();
    kept.grow(60).unwrap();
    let kept = Arc::new(Mutex::new(Some(kept)));
    let reclaimed = Arc::clone(&kept);
    budget.on_shortage(move || drop(reclaimed.lock().unwrap().take()));
    let account = Arc::default();
    let first = budget.begin(&account, Share::default());
    first.grow(40).unwrap();
    let second = budget.begin(&account, Share::default());
    // They are as good as free, so they need not go for a spoke that has its share.
    second.grow_in_turn(41).await.unwrap_err();
    assert!(kept.lock().unwrap().is_some());
    second.grow_in_turn(40).await.unwrap();
    assert!(kept.lock().unwrap().is_none());
    first.grow(20).unwrap();
}

#[tokio::test(start_paused = true)]
async fn who_is_refused_is_told_how_long_it_takes() {
    let budget = Budget::new(1000, Gauge::default());
    let work = async {
        loop {
            let request = holding(&budget, 0).unwrap();
            request.grow_in_turn(500).await.unwrap();
            // The room in which it is encoded comes back at once, and is taken again.
            request.resize(900).unwrap();
            request.resize(500).unwrap();
            sleep(Duration::from_secs(1)).await;
            drop(request);
        }
    };
    let refusals = async {
        let account = Arc::default();
        let refused = async || {
            let request = budget.begin(&account, Share::default());
            request.wait_to_begin(600).await.unwrap_err().wait
        };
        sleep(Duration::from_millis(500)).await;
        assert_eq!(refused().await, None, "nobody was refused before");
        sleep(Duration::from_secs(4)).await;
        let second = Duration::from_secs_f64(600.0 / 500.0);
        for number in 1..=3 {
            assert_eq!(refused().await, Some(second * number));
        }
        // Another spoke does not wait for what this one was refused.
        let other = budget.begin(&Arc::default(), Share::default());
        let refused = other.wait_to_begin(600).await.unwrap_err();
        assert_eq!(refused.wait, Some(second));
        // The room in which one is encoded is not what it waits for.
        let encoded = budget.begin(&Arc::default(), Share::default());
        encoded.grow_in_turn(50).await.unwrap();
        let overloaded = encoded.grow(950).unwrap_err();
        let refused = encoded.wait_for_room(overloaded).await.unwrap_err();
        let wait = refused.wait.unwrap();
        assert!(wait <= second / 10, "{wait:?}");
    };
    tokio::select! {
        () = work => {}
        () = refusals => {}
    }
}

/// Has a future go on until it waits, or returns what it is ready with.
async fn step<T>(future: Pin<&mut impl Future<Output = T>>) -> Option<T> {
    let mut future = future;
    let poll = poll_fn(|context| Poll::Ready(future.as_mut().poll(context)));
    match poll.await {
        Poll::Ready(ready) => Some(ready),
        Poll::Pending => None,
    }
}

/// Its request may notice later than the one that has the next turn.
#[tokio::test(start_paused = true)]
async fn a_turn_that_has_lapsed_takes_nothing_from_the_next() {
    const PART: usize = BYTES_BESIDE_A_TURN_MAX;
    let budget = Budget::new(10 * PART, Gauge::default());
    let _held = holding(&budget, 5 * PART).unwrap();
    let [first, second, third] = [(); 3].map(|()| holding(&budget, 0).unwrap());
    let mut lapses = pin!(first.grow_in_turn(8 * PART));
    assert!(step(lapses.as_mut()).await.is_none());
    advance(TURN_TIMEOUT).await;
    let mut waits = pin!(second.grow_in_turn(8 * PART));
    assert!(step(waits.as_mut()).await.is_none());
    step(lapses).await.unwrap().unwrap_err();
    let refused = third.grow_in_turn(PART + 1).await;
    assert_eq!(refused.unwrap_err().full, Full::Budget);
}

#[tokio::test(start_paused = true)]
async fn a_turn_of_a_spoke_that_has_lapsed_takes_nothing_from_the_next() {
    let budget = Budget::new(1000, Gauge::default());
    let account: Arc<Account> = Arc::default();
    account.set_limit(Some(100), LimitMode::Enforce);
    let begin = || budget.begin(&account, Share::default());
    let (held, first, second) = (begin(), begin(), begin());
    held.grow(60).unwrap();
    let mut lapses = pin!(first.grow_in_turn(90));
    assert!(step(lapses.as_mut()).await.is_none());
    advance(TURN_TIMEOUT).await;
    let mut waits = pin!(second.grow_in_turn(50));
    assert!(step(waits.as_mut()).await.is_none());
    // It wakes the first, which has waited for longer.
    held.resize(50).unwrap();
    step(lapses).await.unwrap().unwrap_err();
    assert_eq!(account.turn().lacks(), 50);
    step(waits).await.unwrap().unwrap();
}

/// A spoke that holds much gives something back, and one that waits has a larger share.
#[tokio::test(start_paused = true)]
async fn what_another_spoke_gives_back_is_seen_at_once() {
    let budget = Budget::new(1000, Gauge::default());
    let share = Share::default();
    let other = holding(&budget, 700).unwrap();
    let account = Arc::default();
    let [held, waits] = [(); 2].map(|()| budget.begin(&account, share));
    held.grow(200).unwrap();
    let began = Instant::now();
    let (grown, ()) = tokio::join!(waits.grow_in_turn(100), async {
        sleep(Duration::from_secs(1)).await;
        drop(other);
    });
    grown.unwrap();
    assert_eq!(began.elapsed(), Duration::from_secs(1));
}

/// Each step of a request may have to wait for room.
#[tokio::test(start_paused = true)]
async fn all_waits_of_a_request_take_ten_seconds_together() {
    let budget = Budget::new(100, Gauge::default());
    let held = holding(&budget, 100).unwrap();
    let request = holding(&budget, 0).unwrap();
    let began = Instant::now();
    let (waited, ()) = tokio::join!(request.grow_in_turn(50), async {
        sleep(Duration::from_secs(4)).await;
        held.resize(50).unwrap();
    });
    waited.unwrap();
    let overloaded = request.grow(50).unwrap_err();
    request.wait_for_room(overloaded).await.unwrap_err();
    request.grow_in_turn(50).await.unwrap_err();
    assert_eq!(began.elapsed(), TURN_TIMEOUT);
}

/// A body that trickles in its turn must not keep it from others.
#[tokio::test(start_paused = true)]
async fn a_turn_ends_though_nothing_of_the_request_comes() {
    let budget = Budget::new(1000, Gauge::default());
    let account: Arc<Account> = Arc::default();
    account.set_limit(Some(100), LimitMode::Enforce);
    let begin = || budget.begin(&account, Share::default());
    let (held, trickles) = (begin(), begin());
    held.grow(60).unwrap();
    let (passed, ()) = tokio::join!(trickles.wait_to_begin(80), async { drop(held) });
    passed.unwrap();
    // It has room for the whole, and takes next to nothing of it.
    trickles.grow_in_turn(1).await.unwrap();
    let refused = begin().grow_in_turn(30).await.unwrap_err();
    assert!(matches!(refused.full, Full::Account(_)), "{refused:?}");
    sleep(TURN_TIMEOUT).await;
    begin().grow_in_turn(30).await.unwrap();
}
