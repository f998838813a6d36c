//! The standard `process_*` metrics, read from `/proc/self` at each scrape.

use std::fmt;

use procfs::process::{LimitValue, Process};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;

use super::families::{ProcessFamilies, encode_families};

/// Collects what Prometheus client libraries show of a process.
#[derive(Debug)]
pub(super) struct ProcessCollector;

impl Collector for ProcessCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        match read() {
            Ok(process) => encode_families(&mut encoder, [([], &process)].into_iter()),
            Err(error) => {
                tracing::debug!(%error, "cannot read /proc/self");
                Ok(())
            }
        }
    }
}

fn read() -> procfs::ProcResult<ProcessFamilies> {
    let process = Process::myself()?;
    let stat = process.stat()?;
    let ticks = procfs::ticks_per_second() as f64;
    let families = ProcessFamilies::default();
    // In fractions of a second, so that a short load shows what it cost.
    let cpu = (stat.utime + stat.stime) as f64 / ticks;
    families.cpu_seconds.inc_by(cpu);
    families.threads.set(stat.num_threads);
    families.virtual_memory_bytes.set(stat.vsize);
    let resident_memory = stat.rss * procfs::page_size();
    families.resident_memory_bytes.set(resident_memory);
    let start_time = procfs::boot_time_secs()? as f64 + stat.starttime as f64 / ticks;
    families.start_time_seconds.set(start_time);
    families.open_fds.set(process.fd_count()? as u64);
    if let LimitValue::Value(max) = process.limits()?.max_open_files.soft_limit {
        families.max_fds.set(max);
    }
    Ok(families)
}
