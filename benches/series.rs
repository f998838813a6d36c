//! What a table of active series costs while it grows and while it is full: how long a request may wait for
//! it at most, and its memory.
//!
//! All of a spoke's requests meet at its table, so the longest time that one of them works on it counts, not
//! the mean. Each run has new threads and a new table; of three, the best is shown, since whatever else
//! the machine does makes a time longer. What a look-up costs beside the walk is in `benches/wire.rs`.
//!
//! The smoke form for CI is `cargo bench --bench series -- --test`; its figures mean nothing.

#[allow(dead_code, reason = "the load bench uses all of it")]
#[path = "load/markdown.rs"]
mod markdown;

use std::time::{Duration, Instant};

use anyhow::Context;
use hubgate::policy::Census;
use hubgate::series::ActiveSeries;
use markdown::{machine, note, table};
use procfs::process::Process;

/// The allocator of the binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The series of a request.
const REQUEST: u64 = 2_000;

const RUNS: usize = 3;

const HEAD: [&str; 7] = [
    "series",
    "bytes a series",
    "at the peak",
    "ns a new one",
    "longest µs, a new one",
    "longest µs, a second's sweep",
    "longest µs, a request",
];

fn main() -> anyhow::Result<()> {
    let is_test = std::env::args().any(|argument| argument == "--test");
    let sizes: &[u64] = match is_test {
        true => &[10_000],
        false => &[100_000, 1_000_000, 10_000_000],
    };
    let mut rows = Vec::new();
    for &series in sizes {
        note(&format!("{series} series ..."))?;
        let mut best: Option<Figures> = None;
        for _ in 0..RUNS {
            let run = std::thread::spawn(move || measure(series));
            let figures = run.join().ok().context("a run panicked")??;
            best = Some(match best {
                Some(best) => best.least(&figures),
                None => figures,
            });
        }
        rows.extend(best.map(|best| best.row(series)));
    }
    table(&HEAD, 0, rows.into_iter())?;
    machine()
}

struct Figures {
    bytes: f64,
    peak_bytes: f64,
    admission: Duration,
    longest_admission: Duration,
    longest_sweep: Duration,
    longest_request: Duration,
}

impl Figures {
    fn least(self, other: &Self) -> Self {
        Self {
            // Later runs use what the allocator kept.
            bytes: self.bytes.max(other.bytes),
            peak_bytes: self.peak_bytes.max(other.peak_bytes),
            admission: self.admission.min(other.admission),
            longest_admission: self.longest_admission.min(other.longest_admission),
            longest_sweep: self.longest_sweep.min(other.longest_sweep),
            longest_request: self.longest_request.min(other.longest_request),
        }
    }

    fn row(&self, series: u64) -> Vec<String> {
        let micros = |time: Duration| format!("{:.0}", time.as_secs_f64() * 1e6);
        vec![
            series.to_string(),
            format!("{:.1}", self.bytes),
            format!("{:.1}", self.peak_bytes),
            self.admission.as_nanos().to_string(),
            micros(self.longest_admission),
            micros(self.longest_sweep),
            micros(self.longest_request),
        ]
    }
}

/// Sends so many new series, and then known ones for an hour.
fn measure(count: u64) -> anyhow::Result<Figures> {
    let process = Process::myself()?;
    // Forgets the peak of what was before.
    std::fs::write("/proc/self/clear_refs", "5")?;
    let before = memory(&process)?.0;
    let limit = usize::try_from(count)?;
    let series = ActiveSeries::new()?;
    let (mut longest_admission, mut longest_request) = (Duration::ZERO, Duration::ZERO);
    let began = Instant::now();
    for request in 0..count / REQUEST {
        let start = Instant::now();
        let mut watching = series.watch_at(limit, Duration::ZERO);
        for number in request * REQUEST..(request + 1) * REQUEST {
            let identity = identity(number);
            let start = Instant::now();
            let known = watching.knows(identity);
            assert!(!known && watching.admit(identity, b"up"), "it has room");
            longest_admission = longest_admission.max(start.elapsed());
        }
        drop(watching);
        longest_request = longest_request.max(start.elapsed());
    }
    let admission = began.elapsed() / u32::try_from(count)?;
    let (after, peak) = memory(&process)?;
    let of_each = |bytes: u64| bytes.saturating_sub(before) as f64 / count as f64;
    let mut longest_sweep = Duration::ZERO;
    // After an hour, nothing has come again.
    for second in (1..3_500).step_by(50).chain(3_500..3_800) {
        let start = Instant::now();
        drop(series.watch_at(limit, Duration::from_secs(second)));
        longest_sweep = longest_sweep.max(start.elapsed());
    }
    Ok(Figures {
        bytes: of_each(after),
        peak_bytes: of_each(peak),
        admission,
        longest_admission,
        longest_sweep,
        longest_request,
    })
}

/// A number that looks like the identity of a series.
fn identity(series: u64) -> u64 {
    let mixed = (series + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ mixed >> 31).wrapping_mul(0xbf58_476d_1ce4_e5b9) ^ mixed >> 27
}

/// The memory of this process, and the most that it had, in bytes.
fn memory(process: &Process) -> anyhow::Result<(u64, u64)> {
    let status = process.status()?;
    let kib = |value: Option<u64>| value.context("the system tells").map(|kib| kib * 1024);
    Ok((kib(status.vmrss)?, kib(status.vmhwm)?))
}
