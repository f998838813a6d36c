//! What the process of a gate uses of its machine: memory, threads, open files.

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};

use super::Gate;

impl Gate {
    /// Sets the soft limit of open files while the gate runs. Returns the one before.
    pub(crate) fn set_open_files_max(&self, files: u64) -> u64 {
        let pid = Pid::from_raw(self.process.child.id().cast_signed()).unwrap();
        let limit = getrlimit(Resource::Nofile);
        let limit = Rlimit {
            current: Some(files),
            maximum: limit.maximum,
        };
        let before = prlimit(Some(pid), Resource::Nofile, limit).unwrap();
        before.current.unwrap()
    }

    /// The threads of the process.
    pub(crate) fn threads(&self) -> u16 {
        let path = format!("/proc/{}/task", self.process.child.id());
        std::fs::read_dir(path).unwrap().count().try_into().unwrap()
    }

    /// A `kB` line of `/proc/PID/status`, in bytes.
    pub(crate) fn memory_bytes(&self, key: &str) -> u64 {
        let path = format!("/proc/{}/status", self.process.child.id());
        let status = std::fs::read_to_string(path).unwrap();
        let mut lines = status.lines();
        let line = lines.find_map(|line| line.strip_prefix(key)).unwrap();
        let kibibytes = line.trim_matches([':', ' ', '\t', 'k', 'B']);
        kibibytes.parse::<u64>().unwrap() * 1024
    }

    /// The largest resident memory since the start, in bytes.
    pub(crate) fn peak_memory_bytes(&self) -> u64 {
        self.memory_bytes("VmHWM")
    }

    /// Fails unless the largest resident memory since the start is below this many MiB.
    #[track_caller]
    pub(crate) fn expect_peak_memory_below(&self, mib: u64) {
        let peak = self.peak_memory_bytes();
        assert!(peak < mib << 20, "{peak} bytes");
    }
}
