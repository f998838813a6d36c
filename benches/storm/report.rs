//! The figures of a storm, and what must hold of them.

use crate::gate::{Account, Limits};
use crate::hub::Totals;
use crate::markdown::table;
use crate::sender::Tally;

/// What the quiet spokes send is at the hub within this time, in seconds.
const LATENESS_MAX: f64 = 30.0;

/// What hubgate may take beside its budget: the buffers of each connection and of each thread, and what
/// it takes without any of them. A buffer of a connection has 32 KiB at most; the allocator keeps some of what
/// others gave back, and there are thousands of them.
const CONNECTION_BYTES: u64 = 96 << 10;
const THREAD_BYTES: u64 = 20 << 20;
const PROCESS_BYTES: u64 = 32 << 20;

const MIB: f64 = 1_048_576.0;

/// What was seen of a storm.
pub(crate) struct Figures {
    pub(crate) spokes: usize,
    pub(crate) shards: usize,
    pub(crate) quiet_spokes: usize,
    pub(crate) scrapes: usize,
    pub(crate) hub_rate: u32,
    pub(crate) limits: Limits,
    pub(crate) storm: Tally,
    pub(crate) quiet: Tally,
    /// From the return of the hub to the end of the first shard, and of the last one.
    pub(crate) first_end: f64,
    pub(crate) seconds: f64,
    pub(crate) totals: Totals,
    /// Of the gate.
    pub(crate) cpu_seconds: f64,
    pub(crate) peak_bytes: u64,
    pub(crate) bytes_in_flight: f64,
    /// The connections that the gate closed.
    pub(crate) refused_connections: String,
    /// One for each spoke.
    pub(crate) accounts: Vec<Account>,
}

impl Figures {
    /// Prints them as a table.
    pub(crate) fn print(&self) -> anyhow::Result<()> {
        let Self {
            storm,
            quiet,
            totals,
            ..
        } = self;
        let rate = storm.samples as f64 / self.seconds;
        let lateness = totals.lateness;
        let refusals = |tally: &Tally| {
            let by_status = tally.refused.iter();
            let by_status = by_status.map(|(status, [all, with_time])| {
                format!("{all} of {status}, {with_time} with Retry-After")
            });
            let broken = tally.first_broken.iter();
            let broken =
                broken.map(|first| format!("{} without a response ({first})", tally.broken));
            let all: Vec<_> = by_status.chain(broken).collect();
            all.join("; ")
        };
        let all: Account = self.accounts.iter().copied().sum();
        let rows = [
            (
                "backlog".to_owned(),
                format!(
                    "{} spokes, {} shards each, {} samples a series",
                    self.spokes, self.shards, self.scrapes
                ),
            ),
            (
                "stored once / sent".to_owned(),
                format!("{} / {}", totals.storm, storm.samples),
            ),
            (
                "of quiet spokes".to_owned(),
                format!("{} / {}", totals.quiet, quiet.samples),
            ),
            (
                "repeated, out of order, foreign".to_owned(),
                format!(
                    "{}, {}, {}",
                    totals.repeated, totals.unordered, totals.foreign
                ),
            ),
            (
                "first shard done, all done".to_owned(),
                format!("{:.0} s, {:.0} s", self.first_end, self.seconds),
            ),
            (
                "samples/s".to_owned(),
                format!(
                    "{rate:.0}, {:.0} % of what the hub takes",
                    rate / f64::from(self.hub_rate) * 100.0
                ),
            ),
            (
                "requests written, refused".to_owned(),
                format!("{}, {}", storm.requests, storm.refusals()),
            ),
            ("refused".to_owned(), refusals(storm)),
            (
                format!("refused, {} quiet spokes", self.quiet_spokes),
                refusals(quiet),
            ),
            (
                "connections that the gate closed".to_owned(),
                self.refused_connections.clone(),
            ),
            (
                "lateness of quiet spokes, p50, p99, max".to_owned(),
                format!(
                    "{:.2} s, {:.2} s, {:.2} s",
                    lateness.p50, lateness.p99, lateness.max
                ),
            ),
            (
                "bytes in flight at most, of".to_owned(),
                format!(
                    "{:.0} MiB, {:.0} MiB",
                    self.bytes_in_flight / MIB,
                    self.limits.bytes_in_flight as f64 / MIB
                ),
            ),
            (
                "peak memory, bound".to_owned(),
                format!(
                    "{:.0} MiB, {:.0} MiB",
                    self.peak_bytes as f64 / MIB,
                    self.memory_bound() as f64 / MIB
                ),
            ),
            (
                "gate CPU-s / M samples".to_owned(),
                format!("{:.3}", self.cpu_seconds / self.samples() * 1e6),
            ),
            (
                "received = written + rejected + failed".to_owned(),
                format!(
                    "{} = {} + {} + {}",
                    all.received, all.written, all.rejected, all.failed
                ),
            ),
        ];
        let rows = rows.map(|(name, figure)| vec![name, figure]);
        table(&["storm", ""], 2, rows.into_iter())
    }

    /// Why the spokes have reason to complain, if they have.
    pub(crate) fn failures(&self) -> Vec<String> {
        let Self {
            storm,
            quiet,
            totals,
            limits,
            ..
        } = self;
        let all: Account = self.accounts.iter().copied().sum();
        let unbalanced = self.accounts.iter().filter(|it| !it.balances()).count();
        let without_time = storm
            .refused
            .get(&503)
            .map_or(0, |[all, with_time]| all - with_time);
        let lateness = totals.lateness.max;
        let checks = [
            (
                (totals.storm, totals.quiet) == (storm.samples, quiet.samples),
                "samples are lost".to_owned(),
            ),
            (
                totals.repeated == 0,
                format!("{} samples came again", totals.repeated),
            ),
            (
                totals.unordered == 0,
                format!("{} samples came out of order", totals.unordered),
            ),
            (
                totals.foreign == 0,
                format!("{} samples are of nobody", totals.foreign),
            ),
            (
                lateness > 0.0 && lateness <= LATENESS_MAX,
                format!("a quiet spoke was {lateness} s late"),
            ),
            (
                storm.refusals() > 0,
                "nothing was refused, so there was no outage".to_owned(),
            ),
            (
                without_time == 0,
                format!("{without_time} responses of 503 have no Retry-After"),
            ),
            (
                self.bytes_in_flight <= limits.bytes_in_flight as f64,
                "more bytes are in flight than may be".to_owned(),
            ),
            (
                self.peak_bytes <= self.memory_bound(),
                format!("{} bytes of memory", self.peak_bytes),
            ),
            (
                unbalanced == 0,
                format!("the counts of {unbalanced} spokes do not add up"),
            ),
            (
                all.written == self.samples() && all.rejected == 0.0,
                format!("{all:?} of {} samples", self.samples()),
            ),
        ];
        let failed = checks.into_iter().filter(|(holds, _)| !holds);
        failed.map(|(_, failure)| failure).collect()
    }

    /// Samples of all spokes.
    fn samples(&self) -> f64 {
        (self.storm.samples + self.quiet.samples) as f64
    }

    fn memory_bound(&self) -> u64 {
        let threads = std::thread::available_parallelism().map_or(1, |it| it.get() as u64);
        self.limits.bytes_in_flight
            + CONNECTION_BYTES * self.limits.connections as u64
            + THREAD_BYTES * threads
            + PROCESS_BYTES
    }
}

impl Account {
    /// Counts are far below what a float holds exactly.
    fn balances(&self) -> bool {
        self.received == self.written + self.rejected + self.failed
    }
}

impl std::iter::Sum for Account {
    fn sum<I: Iterator<Item = Self>>(accounts: I) -> Self {
        accounts.fold(Self::default(), |sum, it| Self {
            received: sum.received + it.received,
            written: sum.written + it.written,
            rejected: sum.rejected + it.rejected,
            failed: sum.failed + it.failed,
        })
    }
}
