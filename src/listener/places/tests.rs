//! Tests of places: which connection gives way, and whom it counts for.

use super::*;

fn address(last: u8) -> IpAddr {
    IpAddr::from([203, 0, 113, last])
}

async fn take(places: &Arc<Places>, last: u8) -> Option<Place> {
    let taker = Taker::Address(address(last), None);
    places.take(taker, None).await.ok()
}

/// Keeps a place until it has to give way.
fn hold(place: Place) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move { place.evicted().await })
}

#[tokio::test(start_paused = true)]
async fn the_oldest_connection_that_is_not_told_to_stay_gives_way() {
    let places = Places::new(3, GivesWay::Unknown);
    let served = take(&places, 1).await.unwrap();
    served.turn().stay("first");
    let oldest = take(&places, 2).await.unwrap();
    // A request alone does not keep it.
    oldest.turn().busy();
    let oldest = hold(oldest);
    let second = hold(take(&places, 3).await.unwrap());
    let third = take(&places, 4).await.unwrap();
    oldest.await.unwrap();
    assert!(!second.is_finished());
    third.turn().stay("second");
    let fourth = take(&places, 5).await.unwrap();
    second.await.unwrap();
    fourth.turn().stay("third");
    assert!(take(&places, 6).await.is_none());
    fourth.turn().idle();
    assert!(take(&places, 6).await.is_none());
    drop(served);
    assert!(take(&places, 6).await.is_some());
}

/// Takes a place for a connection of this sender, which has a request.
async fn take_known(places: &Arc<Places>, last: u8, sender: &str) -> Place {
    let place = take(places, last).await.unwrap();
    place.turn().busy();
    place.turn().stay(sender);
    place
}

#[tokio::test(start_paused = true)]
async fn a_known_sender_does_not_keep_others_out() {
    let places = Places::new(6, GivesWay::Unknown);
    let mut storm = Vec::new();
    for _ in 0..6 {
        storm.push(take_known(&places, 1, "storm").await);
    }
    storm[1].turn().rest();
    storm[2].turn().rest();
    storm[2].turn().busy();
    let turns: Vec<_> = storm.iter().map(|it| Arc::clone(it.turn())).collect();
    let mut storm: Vec<_> = storm.into_iter().map(hold).collect();
    // The one without a request is first, then the newest.
    let mut others = vec![hold(take_known(&places, 1, "other").await)];
    storm.remove(1).await.unwrap();
    others.push(hold(take_known(&places, 1, "other").await));
    storm.pop().unwrap().await.unwrap();
    others.push(hold(take_known(&places, 1, "other").await));
    storm.pop().unwrap().await.unwrap();
    let third = take_known(&places, 1, "third").await;
    storm.extend(others);
    tokio::task::yield_now().await;
    let left = storm.iter().filter(|it| !it.is_finished()).count();
    assert_eq!(left, 5, "either lost one of three");
    // A request may end after its connection.
    turns[1].stay("storm");
    drop(third);
    for task in storm {
        task.abort();
        let _ = task.await;
    }
    assert!(places.lock().is_empty());
}

/// Behind a NAT, several spokes have one address.
#[tokio::test(start_paused = true)]
async fn a_known_sender_does_not_keep_others_out_at_its_address() {
    let places = Places::new(10, GivesWay::Unknown);
    let takes = async |sender: &str| {
        let taker = Taker::Address(address(1), Some(4));
        let place = places.take(taker, None).await?;
        place.turn().busy();
        place.turn().stay(sender);
        Ok(place)
    };
    let elsewhere = take_known(&places, 2, "elsewhere").await;
    let mut storm = Vec::new();
    for _ in 0..4 {
        storm.push(takes("storm").await.unwrap());
    }
    storm[1].turn().rest();
    let mut storm: Vec<_> = storm.into_iter().map(hold).collect();
    // The one without a request is first, then the newest.
    let mut others = vec![takes("second").await.unwrap()];
    storm.remove(1).await.unwrap();
    others.push(takes("third").await.unwrap());
    storm.pop().unwrap().await.unwrap();
    others.push(takes("fourth").await.unwrap());
    storm.pop().unwrap().await.unwrap();
    let refused = takes("fifth").await.map(|_| ());
    assert_eq!(refused, Err(ConnectionRefusal::ConnectionsPerAddressMax));
    assert!(!storm[0].is_finished());
    drop((others, elsewhere));
    storm[0].abort();
    let _ = storm.remove(0).await;
    assert!(places.lock().is_empty());
}

/// What gives way in all of the listener must not do so once more at its address.
#[tokio::test(start_paused = true)]
async fn a_connection_gives_way_once() {
    let places = Places::new(4, GivesWay::Unknown);
    let taker = Taker::Address(address(1), Some(3));
    let mut storm = Vec::new();
    for _ in 0..3 {
        let place = places.take(taker, None).await.unwrap();
        place.turn().busy();
        place.turn().stay("storm");
        storm.push(hold(place));
    }
    let other = take_known(&places, 2, "other").await;
    let (third, second) = (storm.pop().unwrap(), storm.pop().unwrap());
    let elsewhere = take(&places, 3).await.unwrap();
    third.await.unwrap();
    elsewhere.turn().stay("elsewhere");
    let fewer = Taker::Address(address(1), Some(2));
    let here = places.take(fewer, None).await.unwrap();
    second.await.unwrap();
    assert!(!storm[0].is_finished());
    drop((here, other, elsewhere));
    storm[0].abort();
    let _ = storm.remove(0).await;
    assert!(places.lock().is_empty());
}

/// A sender above its part, all of whose connections have requests, connects again whenever one of them is
/// cut, without a pause.
#[tokio::test(start_paused = true)]
async fn each_request_of_a_sender_that_always_connects_again_is_finished_in_the_end() {
    const REQUESTS: u64 = 12;
    let places = Places::new(4, GivesWay::Unknown);
    let attempts = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let requests = (0..REQUESTS).map(|_| {
        let (places, attempts) = (Arc::clone(&places), Arc::clone(&attempts));
        tokio::spawn(async move {
            loop {
                attempts.fetch_add(1, Ordering::Relaxed);
                let taker = Taker::Address(address(1), None);
                let Ok(place) = places.take(taker, None).await else {
                    continue;
                };
                place.turn().busy();
                place.turn().stay("storm");
                tokio::select! {
                    () = place.evicted() => {}
                    () = tokio::time::sleep(Duration::from_secs(1)) => break,
                }
            }
        })
    });
    let began = tokio::time::Instant::now();
    for request in requests.collect::<Vec<_>>() {
        request.await.unwrap();
    }
    // Those that came first are never cut, so in each second three are finished, if one is cut for others.
    let seconds = began.elapsed().as_secs();
    assert!(seconds <= REQUESTS / 3 + 1, "{seconds}");
    let attempts = attempts.load(Ordering::Relaxed);
    // Of four places, 80 in a second give way at most.
    assert!(attempts <= REQUESTS + 80 * (seconds + 1), "{attempts}");
    assert!(places.lock().is_empty());
}

#[tokio::test(start_paused = true)]
async fn strangers_give_way_before_any_known_sender() {
    let places = Places::new(4, GivesWay::Unknown);
    let mut known = Vec::new();
    for _ in 0..4 {
        known.push(hold(take_known(&places, 1, "spoke").await));
    }
    let mut stranger = hold(take(&places, 2).await.unwrap());
    for address in 3..20 {
        let next = hold(take(&places, address).await.unwrap());
        stranger.await.unwrap();
        stranger = next;
    }
    known.retain(|it| !it.is_finished());
    assert_eq!(known.len(), 3, "all strangers together cost one");
}

#[tokio::test(start_paused = true)]
async fn the_only_connection_of_a_sender_stays() {
    let places = Places::new(2, GivesWay::Unknown);
    let first = take_known(&places, 1, "first").await;
    let second = take_known(&places, 1, "second").await;
    first.turn().rest();
    assert!(take(&places, 3).await.is_none());
    drop((first, second));
    assert!(places.lock().is_empty());
}

#[tokio::test(start_paused = true)]
async fn idle_connections_give_way_where_anybody_may_send_requests() {
    let places = Places::new(2, GivesWay::Idle);
    let first = take(&places, 1).await.unwrap();
    let (first_turn, second) = (Arc::clone(first.turn()), take(&places, 2).await.unwrap());
    first_turn.busy();
    second.turn().busy();
    assert!(take(&places, 3).await.is_none());
    first_turn.idle();
    let first = hold(first);
    let third = take(&places, 3).await.unwrap();
    first.await.unwrap();
    drop((second, third));
    // A request may end after its connection.
    first_turn.idle();
    assert!(places.lock().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_does_not_go_costs_the_new_one_its_place() {
    let places = Places::new(1, GivesWay::Unknown);
    let stuck = take(&places, 1).await.unwrap();
    assert!(take(&places, 2).await.is_none());
    drop(stuck);
    assert!(take(&places, 2).await.is_some());
}

#[tokio::test(start_paused = true)]
async fn the_address_with_most_connections_that_give_way_is_first() {
    let places = Places::new(4, GivesWay::Unknown);
    let alone = take(&places, 1).await.unwrap();
    let mut crowd = Vec::new();
    for _ in 0..3 {
        crowd.push(hold(take(&places, 2).await.unwrap()));
    }
    let mut stay = Vec::new();
    for gives_way in crowd.drain(..2) {
        let new = take(&places, 3).await.unwrap();
        gives_way.await.unwrap();
        new.turn().stay("spoke");
        stay.push(new);
    }
    // Both have one left, and this one is older.
    let alone = hold(alone);
    take(&places, 3).await.unwrap();
    alone.await.unwrap();
}

#[tokio::test]
async fn those_with_most_connections_are_named_first() {
    let places = Places::new(10, GivesWay::Unknown);
    let mut held = Vec::new();
    for address in [
        "203.0.113.1",
        "2001:db8::1",
        "2001:db8::ffff:2",
        "203.0.113.2",
    ] {
        let taker = Taker::Address(address.parse().unwrap(), None);
        held.push(places.take(taker, None).await.ok());
    }
    held.push(take(&places, 2).await);
    held.push(take(&places, 2).await);
    let most = places.lock().most();
    assert_eq!(most, "203.0.113.2: 3, 2001:db8::/64: 2, 203.0.113.1: 1");
}

#[tokio::test(start_paused = true)]
async fn beyond_its_limit_an_address_has_only_its_own_connections_give_way() {
    let places = Places::new(10, GivesWay::Unknown);
    let other = take(&places, 1).await.unwrap();
    let takes = async |address: &str| {
        let taker = Taker::Address(address.parse().unwrap(), Some(2));
        places.take(taker, None).await
    };
    let network = ["2001:db8::1", "2001:db8::2", "2001:db8::3"];
    let first = hold(takes(network[0]).await.unwrap());
    let second = takes(network[1]).await.unwrap();
    let third = takes(network[2]).await.unwrap();
    first.await.unwrap();
    second.turn().stay("spoke");
    third.turn().stay("another");
    let refused = takes(network[0]).await.map(|_| ());
    assert_eq!(refused, Err(ConnectionRefusal::ConnectionsPerAddressMax));
    takes("2001:db8:0:1::1").await.unwrap();
    drop(second);
    takes(network[0]).await.unwrap();
    assert!(other.turn().waits());
}

#[tokio::test(start_paused = true)]
async fn connections_behind_a_proxy_count_one_by_one() {
    let places = Places::new(6, GivesWay::Unknown);
    let behind = Taker::Behind(address(9));
    let mut proxied = Vec::new();
    for _ in 0..3 {
        proxied.push(hold(places.take(behind, None).await.unwrap()));
    }
    let mut stranger = Vec::new();
    for _ in 0..3 {
        stranger.push(hold(take(&places, 1).await.unwrap()));
    }
    assert_eq!(places.lock().most(), "203.0.113.1: 3, 203.0.113.9: 3");
    let new = take(&places, 2).await.unwrap();
    stranger.remove(0).await.unwrap();
    assert!(proxied.iter().all(|it| !it.is_finished()));
    drop(new);
}

#[tokio::test(start_paused = true)]
async fn a_place_passes_to_whoever_is_behind_the_proxy() {
    let places = Places::new(3, GivesWay::Unknown);
    let sender = Taker::Address(address(1), Some(2));
    let mut passed = Vec::new();
    for spoke in ["first", "second", "third"] {
        let place = places.take(Taker::Behind(address(9)), None).await.unwrap();
        place.turn().stay(spoke);
        passed.push(place);
    }
    passed[0].pass_to(sender).unwrap();
    passed[1].pass_to(sender).unwrap();
    assert_eq!(places.lock().most(), "203.0.113.1: 2, 203.0.113.9: 1");
    let refused = passed[2].pass_to(sender);
    assert_eq!(refused, Err(ConnectionRefusal::ConnectionsPerAddressMax));
    passed.clear();
    let waiting = places.take(Taker::Behind(address(9)), None).await.unwrap();
    waiting.pass_to(sender).unwrap();
    assert!(waiting.turn().waits());
    waiting.turn().stay("spoke");
    drop(waiting);
    assert!(places.lock().is_empty());
}
