//! Sends a load: each worker has one thread, one connection and one request in flight.
//!
//! A thread of its own can sleep with a precision of a tenth of a millisecond, which an open loop
//! needs; tokio's timer has a resolution of 1 ms and rounds up. In an open loop a latency counts
//! from the time when the request was due, so a slow response also shows in the requests that wait
//! for it.

use std::sync::atomic::Ordering;
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, anyhow};

use super::bodies::Body;
use super::client::{self, Client, Response};
use super::tally::Tally;
use super::{Plan, Progress};

/// How long a worker sleeps before it looks whether to stop.
const SLEEP_MAX: Duration = Duration::from_millis(100);

/// A pause after a request without a response, so that a refused connection causes no busy loop.
const ERROR_PAUSE: Duration = Duration::from_millis(100);

/// A load whose bodies are made, ready to be sent.
pub struct Load<'a> {
    plan: &'a Plan,
    workers: Vec<Worker<'a>>,
}

impl<'a> Load<'a> {
    /// Makes the bodies of all connections.
    pub fn new(plan: &'a Plan, progress: &'a Progress) -> anyhow::Result<Self> {
        let series = plan.shape.series_per_request;
        Self::with_bodies(plan, progress, |number| {
            Body::new(&plan.shape, number * series)
        })
    }

    /// Takes the bodies from `body`, which gets their numbers. Their messages must be of the version
    /// of the plan's shape, and have its number of samples.
    pub fn with_bodies(
        plan: &'a Plan,
        progress: &'a Progress,
        body: impl Fn(usize) -> Body,
    ) -> anyhow::Result<Self> {
        let workers = (0..plan.connections).map(|number| {
            let first = number * plan.bodies_per_connection;
            let bodies = (first..first + plan.bodies_per_connection).map(&body);
            Worker::new(plan, progress, number, bodies.collect())
        });
        let workers = workers.collect::<anyhow::Result<_>>()?;
        Ok(Self { plan, workers })
    }

    /// Sends the load for as long as the plan says; returns the counts and how long it took. Blocks.
    pub fn drive(mut self) -> anyhow::Result<(Tally, Duration)> {
        self.drive_for(self.plan.duration)
    }

    /// Sends the load for so long, and keeps the connections for the next time. Blocks.
    pub fn drive_for(&mut self, duration: Duration) -> anyhow::Result<(Tally, Duration)> {
        let start = Instant::now();
        let tallies = thread::scope(|scope| -> anyhow::Result<Vec<Tally>> {
            let mut threads = Vec::with_capacity(self.workers.len());
            for worker in &mut self.workers {
                let thread = thread::Builder::new().name("load".to_owned());
                let run = move || worker.run(start, start + duration);
                threads.push(thread.spawn_scoped(scope, run).context("start a thread")?);
            }
            let join = |thread: ScopedJoinHandle<'_, Tally>| {
                thread
                    .join()
                    .map_err(|_| anyhow!("a worker of the load panicked"))
            };
            threads.into_iter().map(join).collect()
        })?;
        let duration = start.elapsed();
        let mut sum = Tally::default();
        for tally in &tallies {
            sum.add(tally);
        }
        Ok((sum, duration))
    }
}

struct Worker<'a> {
    plan: &'a Plan,
    progress: &'a Progress,
    runtime: tokio::runtime::Runtime,
    client: Client,
    bodies: Vec<Body>,
    pace: Option<Pace>,
    tally: Tally,
}

impl<'a> Worker<'a> {
    fn new(
        plan: &'a Plan,
        progress: &'a Progress,
        number: usize,
        bodies: Vec<Body>,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            plan,
            progress,
            runtime: tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?,
            client: Client::new(plan.server.clone()),
            bodies,
            pace: plan
                .samples_per_second
                .map(|rate| Pace::new(plan, rate, number)),
            tally: Tally::default(),
        })
    }

    fn run(&mut self, start: Instant, end: Instant) -> Tally {
        for turn in 0_u32.. {
            let due = match self.pace {
                Some(pace) => start + pace.offset + pace.interval * turn,
                None => Instant::now(),
            };
            // It waits for the end even if nothing more is due: a rate is over the whole time.
            if !self.sleep_until(due.min(end)) || due >= end {
                break;
            }
            if Instant::now() >= end {
                self.tally.requests_unsent = self.pace.map_or(0, |pace| pace.count(end - due));
                break;
            }
            self.send(turn as usize % self.bodies.len(), due);
        }
        std::mem::take(&mut self.tally)
    }

    /// Sleeps until `due`; returns false if the load is to stop before.
    fn sleep_until(&self, due: Instant) -> bool {
        loop {
            if self.progress.stop.load(Ordering::Relaxed) {
                return false;
            }
            let left = due.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            thread::sleep(left.min(SLEEP_MAX));
        }
    }

    fn send(&mut self, body: usize, due: Instant) {
        let body = &mut self.bodies[body];
        let samples = body.samples() as u64;
        let bytes = body.next(unix_ms());
        self.tally.requests += 1;
        let body_bytes = bytes.len() as u64;
        let plan = self.plan;
        let response = client::write_request(
            &plan.path,
            plan.shape.protocol,
            plan.authorization.as_ref(),
            bytes,
        )
        .and_then(|request| self.runtime.block_on(self.client.send(request)));
        match response {
            Ok(response) => {
                self.tally.bytes_sent += body_bytes;
                self.count_response(&response, samples, due.elapsed());
            }
            Err(error) => {
                self.tally.errors += 1;
                self.count_failure(|| format!("{error:#}"));
                thread::sleep(ERROR_PAUSE);
            }
        }
    }

    fn count_response(&mut self, response: &Response, samples: u64, latency: Duration) {
        self.tally.count_response(response.status, latency);
        if let Some(written) = response.samples_written() {
            *self.tally.samples_written.get_or_insert(0) += written;
        }
        if response.status.is_success() {
            self.tally.samples += samples;
            self.progress.samples.fetch_add(samples, Ordering::Relaxed);
        } else {
            self.count_failure(|| format!("{}: {}", response.status, response.text()));
        }
    }

    fn count_failure(&mut self, text: impl FnOnce() -> String) {
        self.progress.failures.fetch_add(1, Ordering::Relaxed);
        self.tally.first_failure.get_or_insert_with(text);
    }
}

/// When the requests of a worker are due, counted from the start of the load.
#[derive(Debug, Clone, Copy)]
struct Pace {
    /// Differs from worker to worker, so that the requests of all workers are evenly spaced.
    offset: Duration,
    interval: Duration,
}

impl Pace {
    fn new(plan: &Plan, samples_per_second: f64, worker: usize) -> Self {
        let request_seconds = plan.shape.samples_per_request() as f64 / samples_per_second;
        Self {
            offset: Duration::from_secs_f64(request_seconds * worker as f64),
            interval: Duration::from_secs_f64(request_seconds * plan.connections as f64),
        }
    }

    /// How many requests are due within `span`, with one at its start.
    fn count(self, span: Duration) -> u64 {
        let count = span.as_nanos().div_ceil(self.interval.as_nanos().max(1));
        u64::try_from(count).unwrap_or(u64::MAX)
    }
}

/// The wall clock in milliseconds since the Unix epoch, as samples have it.
pub fn unix_ms() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::client::Server;
    use crate::load::shape::{Mix, Shape};
    use crate::wire::Protocol;

    #[test]
    fn requests_of_an_open_loop_are_evenly_spaced_over_connections() {
        let plan = Plan {
            server: Server::new(&"http://127.0.0.1".parse().unwrap(), None).unwrap(),
            path: "/".to_owned(),
            authorization: None,
            shape: Shape {
                protocol: Protocol::V1,
                series_per_request: 100,
                mix: Mix::Uniform { labels: 14 },
                extra: None,
                cluster: None,
            },
            connections: 4,
            bodies_per_connection: 1,
            duration: Duration::from_secs(1),
            samples_per_second: None,
        };
        let offsets = [0, 1, 2, 3].map(|worker| Pace::new(&plan, 1_000.0, worker).offset);
        assert_eq!(offsets, [0, 100, 200, 300].map(Duration::from_millis));
        let pace = Pace::new(&plan, 1_000.0, 0);
        assert_eq!(pace.interval, Duration::from_millis(400));
        let counts = [1, 400, 401].map(|millis| pace.count(Duration::from_millis(millis)));
        assert_eq!(counts, [1, 1, 2]);
    }
}
