//! CPU time and memory of this process, from `/proc`.
//!
//! Hub, gate and load run on threads with different names, so the CPU time of the gate alone is
//! known.

use std::collections::HashMap;

use procfs::process::{Process, Stat};

/// CPU seconds since the start of the process.
pub(super) struct CpuSeconds {
    /// Of all threads, with those that have ended.
    pub(super) process: f64,
    by_thread_name: HashMap<String, f64>,
}

impl CpuSeconds {
    /// Reads the counters.
    pub(super) fn now() -> anyhow::Result<Self> {
        let ticks_per_second = procfs::ticks_per_second() as f64;
        let seconds = |stat: &Stat| (stat.utime + stat.stime) as f64 / ticks_per_second;
        let process = Process::myself()?;
        let mut by_thread_name = HashMap::new();
        for task in process.tasks()? {
            // A thread may end before it is read.
            let Ok(stat) = task.and_then(|task| task.stat()) else {
                continue;
            };
            let sum: &mut f64 = by_thread_name.entry(stat.comm.clone()).or_default();
            *sum += seconds(&stat);
        }
        Ok(Self {
            process: seconds(&process.stat()?),
            by_thread_name,
        })
    }

    /// Those of the running threads with this name.
    pub(super) fn of(&self, thread_name: &str) -> f64 {
        self.by_thread_name
            .get(thread_name)
            .copied()
            .unwrap_or_default()
    }
}

/// Resident memory, in bytes.
pub(super) fn resident_bytes() -> anyhow::Result<f64> {
    let pages = Process::myself()?.stat()?.rss;
    Ok(pages as f64 * procfs::page_size() as f64)
}

#[cfg(test)]
mod tests {
    use super::{CpuSeconds, resident_bytes};

    #[test]
    fn cpu_time_is_counted_under_the_name_of_its_thread() {
        let thread = std::thread::Builder::new().name("busy".to_owned());
        let busy = thread.spawn(|| {
            loop {
                let seconds = CpuSeconds::now().unwrap();
                if seconds.of("busy") > 0.0 {
                    return seconds;
                }
            }
        });
        let seconds = busy.unwrap().join().unwrap();
        assert!(seconds.process >= seconds.of("busy"));
        assert_eq!(seconds.of("another name"), 0.0);
    }

    #[test]
    fn resident_memory_is_in_bytes() {
        assert!(resident_bytes().unwrap() > 1e5);
    }
}
