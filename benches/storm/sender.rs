//! Senders: shards of the queue of a Prometheus.
//!
//! As in its queue manager, a shard has one request under way, repeats it until it is taken, and then
//! goes on with the next samples of its series. A response of 5xx and a broken connection are
//! repeated, after the time of `Retry-After` or else after a pause that doubles; everything else but a
//! success would be dropped, which is an error here.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use bytes::Bytes;
use http::HeaderMap;
use http::header::RETRY_AFTER;
use hubgate::load::client::{self, Client, Server};
use hubgate::load::drive::unix_ms;
use hubgate::remote_write::{RETRY_ATTEMPT, WRITE_PATH};
use hubgate::wire::Protocol;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use crate::message::{self, Labels};
use crate::plan::Group;
use crate::spokes::Spoke;

/// `min_backoff` of a Prometheus.
const BACKOFF_MIN: Duration = Duration::from_millis(30);

/// `max_backoff` of a Prometheus.
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// What a shard sends.
pub(crate) struct Shard {
    pub(crate) gate: Server,
    pub(crate) spoke: Spoke,
    pub(crate) group: Group,
    /// The labels of its series.
    pub(crate) series: Arc<[Labels]>,
}

/// What became of requests.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Samples of those that were taken.
    pub(crate) samples: u64,
    /// Those that were taken.
    pub(crate) requests: u64,
    /// Responses of 5xx by status: all of them, and those with a `Retry-After`.
    pub(crate) refused: BTreeMap<u16, [u64; 2]>,
    /// Those without a response, and why the first has none.
    pub(crate) broken: u64,
    pub(crate) first_broken: Option<String>,
    /// When the last one was taken.
    pub(crate) ended: Option<Instant>,
}

/// A shard under way.
struct Sender {
    client: Client,
    shard: Shard,
    tally: Tally,
}

impl Shard {
    /// Sends all that the group has, in requests of so many samples.
    pub(crate) async fn catch_up(self, samples_per_request: usize) -> anyhow::Result<Tally> {
        let Self { group, series, .. } = &self;
        let (group, series) = (*group, Arc::clone(series));
        let mut sender = Sender::new(self);
        let all = group.scrapes * series.len();
        for first in (0..all).step_by(samples_per_request) {
            let numbers = first..all.min(first + samples_per_request);
            let samples = numbers.map(|number| {
                let (scrape, series_number) = (number / series.len(), number % series.len());
                (&series[series_number], group.due_ms(scrape))
            });
            sender.send(samples).await?;
        }
        Ok(sender.tally)
    }

    /// Sends each scrape when it is due, or with others as soon as it can, until it is told to stop.
    pub(crate) async fn keep_up(
        self,
        samples_per_request: usize,
        mut stop: watch::Receiver<bool>,
    ) -> anyhow::Result<Tally> {
        let (group, series) = (self.group, Arc::clone(&self.series));
        let mut sender = Sender::new(self);
        let scrapes_max = (samples_per_request / series.len()).max(1);
        let mut next = 0;
        while next < group.scrapes {
            let left = u64::try_from(group.due_ms(next) - unix_ms()).unwrap_or(0);
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => break,
                () = sleep(Duration::from_millis(left)) => {}
            }
            let due = (next..group.scrapes).take(scrapes_max);
            let due: Vec<_> = due.map(|scrape| group.due_ms(scrape)).collect();
            let now_ms = unix_ms();
            let count = due
                .iter()
                .filter(|due_ms| **due_ms <= now_ms)
                .count()
                .max(1);
            let samples = (0..count * series.len())
                .map(|number| (&series[number % series.len()], due[number / series.len()]));
            sender.send(samples).await?;
            next += count;
        }
        Ok(sender.tally)
    }
}

impl Sender {
    fn new(shard: Shard) -> Self {
        Self {
            client: Client::new(shard.gate.clone()),
            shard,
            tally: Tally::default(),
        }
    }

    /// Sends samples until they are taken.
    async fn send<'l>(
        &mut self,
        samples: impl ExactSizeIterator<Item = (&'l Labels, i64)>,
    ) -> anyhow::Result<()> {
        let count = samples.len() as u64;
        let body = message::body(samples)?;
        self.deliver(body).await?;
        self.tally.samples += count;
        self.tally.requests += 1;
        self.tally.ended = Some(Instant::now());
        Ok(())
    }

    async fn deliver(&mut self, body: Bytes) -> anyhow::Result<()> {
        let authorization = client::bearer(&self.shard.spoke.token)?;
        let (mut backoff, mut attempt) = (BACKOFF_MIN, 0_u32);
        loop {
            let mut request = client::write_request(
                WRITE_PATH,
                Protocol::V1,
                Some(&authorization),
                body.clone(),
            )?;
            if attempt > 0 {
                request.headers_mut().insert(RETRY_ATTEMPT, attempt.into());
            }
            let mut pause = backoff;
            match self.client.send(request).await {
                Ok(response) if response.status.is_success() => return Ok(()),
                Ok(response) if response.status.is_server_error() => {
                    let after = retry_after(&response.headers);
                    let refused = self.tally.refused.entry(response.status.as_u16());
                    let [all, with_time] = refused.or_default();
                    *all += 1;
                    *with_time += u64::from(after.is_some());
                    pause = after.unwrap_or(backoff);
                }
                Ok(response) => {
                    let (spoke, status) = (&self.shard.spoke.name, response.status);
                    bail!("{spoke} would drop samples: {status}: {}", response.text());
                }
                Err(error) => {
                    self.tally.broken += 1;
                    let first = &mut self.tally.first_broken;
                    first.get_or_insert_with(|| format!("{error:#}"));
                }
            }
            sleep(pause).await;
            backoff = (pause * 2).min(BACKOFF_MAX);
            attempt += 1;
        }
    }
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}

impl Tally {
    pub(crate) fn add(&mut self, other: &Self) {
        self.samples += other.samples;
        self.requests += other.requests;
        for (status, [all, with_time]) in &other.refused {
            let sum = self.refused.entry(*status).or_default();
            sum[0] += all;
            sum[1] += with_time;
        }
        self.broken += other.broken;
        if self.first_broken.is_none() {
            self.first_broken.clone_from(&other.first_broken);
        }
        self.ended = self.ended.max(other.ended);
    }

    /// Responses of 5xx.
    pub(crate) fn refusals(&self) -> u64 {
        self.refused.values().map(|[all, _]| all).sum()
    }
}
