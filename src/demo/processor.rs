//! Processor time and memory of this process, from Linux' `/proc`.
//!
//! Hub, gate and load run on threads of their own names, which tells what the gate alone costs.

use std::collections::HashMap;
use std::fs;

use anyhow::Context;

/// What the kernel counts processor time in, for programs: 1/100 s on every architecture.
const TICKS_PER_SECOND: f64 = 100.0;

/// Processor seconds so far.
pub(super) struct ProcessorTime {
    /// Of all threads, ended ones too.
    pub(super) process: f64,
    threads: HashMap<String, f64>,
}

impl ProcessorTime {
    /// Reads the counters.
    pub(super) fn now() -> anyhow::Result<Self> {
        let stat = fs::read_to_string("/proc/self/stat").context("read /proc/self/stat")?;
        let (_, process) = parse(&stat).context("/proc/self/stat is not as expected")?;
        let mut threads = HashMap::new();
        for task in fs::read_dir("/proc/self/task")? {
            // A thread may end meanwhile.
            let Ok(stat) = fs::read_to_string(task?.path().join("stat")) else {
                continue;
            };
            if let Some((name, seconds)) = parse(&stat) {
                *threads.entry(name.to_owned()).or_default() += seconds;
            }
        }
        Ok(Self { process, threads })
    }

    /// Of the running threads of a name.
    pub(super) fn of(&self, threads: &str) -> f64 {
        self.threads.get(threads).copied().unwrap_or_default()
    }
}

/// Resident memory, in bytes.
pub(super) fn resident_bytes() -> anyhow::Result<f64> {
    let status = fs::read_to_string("/proc/self/status").context("read /proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB"));
    let kib: f64 = kib
        .context("no VmRSS in /proc/self/status")?
        .trim()
        .parse()?;
    Ok(kib * 1024.0)
}

/// Takes name and processor seconds out of a `stat` file; a name may hold spaces and parentheses.
fn parse(stat: &str) -> Option<(&str, f64)> {
    let (head, fields) = stat.rsplit_once(") ")?;
    let (_, name) = head.split_once('(')?;
    let mut times = fields.split(' ').skip(11);
    let user: f64 = times.next()?.parse().ok()?;
    let system: f64 = times.next()?.parse().ok()?;
    Some((name, (user + system) / TICKS_PER_SECOND))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_name_with_a_parenthesis() {
        let stat = "42 (a) b) S 1 42 42 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 4 0 300 0 0";
        assert_eq!(parse(stat), Some(("a) b", 3.0)));
    }

    #[test]
    fn counts_this_process() {
        assert!(ProcessorTime::now().unwrap().process >= 0.0);
        assert!(resident_bytes().unwrap() > 1e5);
    }
}
