//! The place of a request that is read and worked on.
//!
//! A worker does what comes first, and what comes first is mostly of the spoke with the most connections. So only as
//! many requests as there are threads are read and worked on at once, and spokes have these places in turn. The
//! others are in no worker's queue, and what they have not sent yet waits at the sender. So the queues are short,
//! and a request of another spoke waits for no more than what is in them.
//!
//! A request has a place from the first byte of its body until it is worked on, but not while it waits for
//! something else: a slow sender, or memory. A body that keeps coming gives it up after a while if others wait.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::task::yield_now;
use tokio::time::Instant;

use crate::shares::{Crowded, Place, Share, Shares};

/// So long a request has its place while others wait. A body of tiny chunks would keep it for as long as it comes.
const TURN: Duration = Duration::from_millis(2);

/// The place of one request.
#[derive(Debug)]
pub(crate) struct Seat {
    places: Arc<Shares>,
    share: Share,
    /// How long the request waits for it, all together since a part of its body arrived.
    patience: Duration,
    place: Option<Place>,
    /// Since when it has the place.
    since: Instant,
}

impl Seat {
    /// A request without a place.
    pub(super) fn new(places: &Arc<Shares>, share: Share, patience: Duration) -> Self {
        Self {
            places: Arc::clone(places),
            share,
            patience,
            place: None,
            since: Instant::now(),
        }
    }

    /// Waits for a place, unless the request has one.
    pub(crate) async fn take(&mut self) -> Result<(), Crowded> {
        if self.place.is_none() {
            let began = Instant::now();
            let place = self.places.enter(self.share, self.patience).await;
            self.waited(began.elapsed());
            self.place = Some(place?);
            self.since = Instant::now();
        }
        Ok(())
    }

    /// Gives the place to others.
    pub(crate) fn leave(&mut self) {
        self.place = None;
    }

    /// More of the body has arrived. Others have the place next if the request has had it for long, and it may wait
    /// for it again for as long as at first: the time for a whole body bounds all of that.
    pub(crate) fn arrived(&mut self) {
        self.patience = super::PATIENCE;
        if self.place.is_some() && self.since.elapsed() >= TURN && self.places.usage().waiting > 0 {
            self.leave();
        }
    }

    /// Waits for something, and gives the place to others if it takes longer than to ask the system for it.
    pub(crate) async fn wait_for<T>(&mut self, what: impl Future<Output = T>) -> T {
        let mut what = pin!(what);
        tokio::select! {
            biased;
            done = &mut what => return done,
            // The worker asks the system before it goes on here.
            () = yield_now() => {}
        }
        let asked = poll_fn(|context| Poll::Ready(what.as_mut().poll(context)));
        if let Poll::Ready(done) = asked.await {
            return done;
        }
        self.leave();
        what.await
    }

    /// Who competes for the place.
    pub(super) fn share(&self) -> Share {
        self.share
    }

    /// How long the request may still wait.
    pub(super) fn patience(&self) -> Duration {
        self.patience
    }

    /// The request has waited.
    pub(super) fn waited(&mut self, time: Duration) {
        self.patience = self.patience.saturating_sub(time);
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;
    use tokio::time::sleep;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    /// A place, and two requests of a spoke, of which the first has it.
    async fn seats() -> (Arc<Shares>, Seat, Seat) {
        let (places, share) = (Shares::new(1), Share::default());
        let [mut first, second] = [(); 2].map(|()| Seat::new(&places, share, PATIENCE));
        first.take().await.unwrap();
        (places, first, second)
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_waits_for_its_sender_gives_its_place_to_others() {
        let (places, mut first, mut second) = seats().await;
        let (send, sent) = oneshot::channel();
        let other = async {
            second.take().await.unwrap();
            send.send(7).unwrap();
            sleep(PATIENCE / 2).await;
            second.leave();
        };
        let (sent, ()) = tokio::join!(first.wait_for(sent), other);
        assert_eq!((sent, places.usage().taken), (Ok(7), 0));
        first.take().await.unwrap();
        assert_eq!((first.patience(), places.usage().taken), (PATIENCE, 1));
        drop(first);
        assert_eq!(places.usage().taken, 0);
    }

    /// Each chunk of a body is there when the one before is read.
    #[tokio::test(start_paused = true)]
    async fn a_body_that_comes_for_long_gives_its_place_to_others() {
        let (places, mut first, mut second) = seats().await;
        sleep(TURN * 2).await;
        first.arrived();
        assert_eq!(places.usage().taken, 1, "nobody waits");
        let others = async {
            yield_now().await;
            first.wait_for(std::future::ready(())).await;
            first.arrived();
            first.take().await
        };
        let (taken, again) = tokio::join!(
            async {
                let taken = second.take().await;
                second.leave();
                taken
            },
            others
        );
        assert!(taken.is_ok() && again.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_comes_slowly_waits_anew_for_each_part() {
        let (places, first, mut second) = seats().await;
        let (taken, ()) = tokio::join!(second.take(), async {
            sleep(PATIENCE - TURN).await;
            drop(first);
        });
        taken.unwrap();
        assert!(second.patience() <= TURN);
        second.arrived();
        assert_eq!((second.patience(), places.usage().taken), (PATIENCE, 1));
    }

    #[tokio::test]
    async fn what_comes_at_once_costs_no_place() {
        let (places, mut first, mut second) = seats().await;
        let took = async {
            first.wait_for(std::future::ready(())).await;
            first.wait_for(yield_now()).await;
            assert_eq!((places.usage().taken, places.usage().waiting), (1, 1));
            first.leave();
        };
        let (taken, ()) = tokio::join!(second.take(), took);
        assert!(taken.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn all_waits_for_a_place_are_counted_together() {
        let (places, first, mut second) = seats().await;
        let began = Instant::now();
        let (taken, ()) = tokio::join!(second.take(), async {
            sleep(PATIENCE / 4).await;
            drop(first);
        });
        taken.unwrap();
        second.leave();
        let _taken = places.enter(Share::default(), PATIENCE).await.unwrap();
        sleep(PATIENCE).await;
        assert!(second.take().await.is_err());
        assert_eq!(began.elapsed(), 2 * PATIENCE);
    }
}
