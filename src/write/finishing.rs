//! Work that is finished whatever becomes of who waits for it.
//!
//! It is done where it is waited for, and becomes a task only when nobody waits any more. A task for
//! each request would wake another thread to run it, for nothing, as long as the sender stays.

use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::runtime::Handle;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::listener::Drain;

/// Waits for some work.
pub(super) struct Finishing<T: Send + 'static> {
    /// Gone once it is done.
    work: Option<Pin<Box<dyn Future<Output = T> + Send>>>,
    drain: Drain,
    /// Draining waits for the work also where no task of the drain does it, as with HTTP/2.
    _token: TaskTrackerToken,
    runtime: Handle,
}

impl<T: Send + 'static> Finishing<T> {
    /// Work that becomes a task of `drain` if it must.
    pub(super) fn new(work: impl Future<Output = T> + Send + 'static, drain: &Drain) -> Self {
        Self {
            work: Some(Box::pin(work)),
            drain: drain.clone(),
            _token: drain.tasks().token(),
            runtime: Handle::current(),
        }
    }
}

impl<T: Send + 'static> Future for Finishing<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let Some(work) = &mut self.work else {
            return Poll::Pending;
        };
        let polled = work.as_mut().poll(context);
        if polled.is_ready() {
            self.work = None;
        }
        polled
    }
}

impl<T: Send + 'static> Drop for Finishing<T> {
    fn drop(&mut self) {
        if let Some(work) = self.work.take() {
            let tasks = self.drain.tasks();
            tasks.spawn_on(async move { drop(work.await) }, &self.runtime);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn work_that_is_waited_for_needs_no_task() {
        let drain = Drain::default();
        let (go, gone) = oneshot::channel();
        let mut work = Finishing::new(gone, &drain);
        tokio::select! {
            biased;
            _ = &mut work => panic!("nothing was sent"),
            () = std::future::ready(()) => {}
        }
        assert_eq!(drain.tasks().len(), 1, "that of the work itself");
        go.send(7).unwrap();
        assert_eq!(work.await, Ok(7));
        assert!(drain.tasks().is_empty());
    }

    #[tokio::test]
    async fn draining_waits_for_work_that_no_task_of_the_drain_does() {
        let drain = Drain::default();
        let work = Finishing::new(std::future::pending::<()>(), &drain);
        assert!(!drain.drain(Duration::ZERO).await);
        drop(work);
    }

    #[tokio::test]
    async fn work_that_nobody_waits_for_is_finished_before_the_end_of_the_drain() {
        let drain = Drain::default();
        let (go, gone) = oneshot::channel();
        let (done, ended) = oneshot::channel();
        let work = async move { done.send(gone.await) };
        drop(Finishing::new(work, &drain));
        assert_eq!(drain.tasks().len(), 1);
        assert!(!drain.drain(Duration::ZERO).await);
        go.send(7).unwrap();
        assert_eq!(ended.await.unwrap(), Ok(7));
        assert!(drain.drain(Duration::from_secs(60)).await);
    }
}
