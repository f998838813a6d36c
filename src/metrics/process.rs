//! The standard `process_*` metrics, read from `/proc/self` at each scrape.
//!
//! The collector of the `prometheus` crate counts CPU in whole seconds, too coarse for a process
//! that wants to show what a million samples cost.

use procfs::process::{LimitValue, Process};
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Counter, Gauge, Opts};

/// Collects what Prometheus client libraries show of a process.
#[derive(Debug)]
pub(super) struct ProcessCollector {
    cpu: Counter,
    max_fds: Gauge,
    open_fds: Gauge,
    resident_memory: Gauge,
    start_time: Gauge,
    threads: Gauge,
    virtual_memory: Gauge,
}

impl ProcessCollector {
    pub(super) fn new() -> Self {
        let named = "names are constants of this file";
        let gauge = |name: &str, help: &str| Gauge::new(name, help).expect(named);
        let cpu = Opts::new(
            "process_cpu_seconds_total",
            "Total user and system CPU time spent in seconds.",
        );
        Self {
            cpu: Counter::with_opts(cpu).expect(named),
            max_fds: gauge(
                "process_max_fds",
                "Maximum number of open file descriptors.",
            ),
            open_fds: gauge("process_open_fds", "Number of open file descriptors."),
            resident_memory: gauge(
                "process_resident_memory_bytes",
                "Resident memory size in bytes.",
            ),
            start_time: gauge(
                "process_start_time_seconds",
                "Start time of the process since unix epoch in seconds.",
            ),
            threads: gauge("process_threads", "Number of OS threads in the process."),
            virtual_memory: gauge(
                "process_virtual_memory_bytes",
                "Virtual memory size in bytes.",
            ),
        }
    }

    /// Reads `/proc/self`; what cannot be read stays as it was.
    fn update(&self) -> procfs::ProcResult<()> {
        let process = Process::myself()?;
        let stat = process.stat()?;
        let ticks = procfs::ticks_per_second() as f64;
        let cpu = (stat.utime + stat.stime) as f64 / ticks;
        // A scrape at the same time may have been faster.
        self.cpu.inc_by((cpu - self.cpu.get()).max(0.0));
        self.threads.set(stat.num_threads as f64);
        self.virtual_memory.set(stat.vsize as f64);
        self.resident_memory
            .set(stat.rss as f64 * procfs::page_size() as f64);
        self.start_time
            .set(procfs::boot_time_secs()? as f64 + stat.starttime as f64 / ticks);
        self.open_fds.set(process.fd_count()? as f64);
        if let LimitValue::Value(max) = process.limits()?.max_open_files.soft_limit {
            self.max_fds.set(max as f64);
        }
        Ok(())
    }

    fn collectors(&self) -> [&dyn Collector; 7] {
        [
            &self.cpu,
            &self.max_fds,
            &self.open_fds,
            &self.resident_memory,
            &self.start_time,
            &self.threads,
            &self.virtual_memory,
        ]
    }
}

impl Collector for ProcessCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.collectors()
            .into_iter()
            .flat_map(Collector::desc)
            .collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        if let Err(error) = self.update() {
            tracing::debug!(%error, "cannot read /proc/self");
        }
        self.collectors()
            .into_iter()
            .flat_map(Collector::collect)
            .collect()
    }
}
