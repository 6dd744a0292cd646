//! What the system says about this process: the `process_*` metrics that every Prometheus client library has.
//!
//! On Linux they come from `/proc`; elsewhere only the file descriptors are known, and the other metrics are absent.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use rustix::process::{Resource, getrlimit};

#[cfg(target_os = "linux")]
const OPEN_FDS: &str = "/proc/self/fd";
#[cfg(not(target_os = "linux"))]
const OPEN_FDS: &str = "/dev/fd";

/// Returns how many file descriptors are open; `None` where the system does not say.
pub(crate) fn open_fds() -> Option<usize> {
    // The descriptor that reads the directory is one of its entries.
    std::fs::read_dir(OPEN_FDS).ok().map(|entries| entries.count().saturating_sub(1))
}

/// Returns how many file descriptors may be open; `None` without a limit.
pub(crate) fn max_fds() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}

/// Reads the metrics of the process at each scrape.
#[derive(Clone, Copy, Debug)]
pub(super) struct ProcessCollector;

impl Collector for ProcessCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut counter = |name: &str, help: &str, value: Option<f64>| match value {
            Some(value) => encode(&mut encoder, name, help, &ConstCounter::new(value)),
            None => Ok(()),
        };
        let usage = Usage::read();
        counter("process_cpu_seconds", "User and system CPU time", usage.map(|usage| usage.cpu_seconds))?;
        let mut gauge = |name: &str, help: &str, value: Option<f64>| match value {
            Some(value) => encode(&mut encoder, name, help, &ConstGauge::new(value)),
            None => Ok(()),
        };
        gauge("process_resident_memory_bytes", "Resident memory", usage.map(|usage| usage.resident_bytes))?;
        gauge("process_virtual_memory_bytes", "Virtual memory", usage.map(|usage| usage.virtual_bytes))?;
        gauge("process_start_time_seconds", "Start of the process, as Unix time", usage.map(|usage| usage.started))?;
        gauge("process_open_fds", "File descriptors that are open", open_fds().map(as_f64))?;
        gauge("process_max_fds", "File descriptors that may be open", max_fds().map(as_f64))
    }
}

fn encode(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, metric: &impl EncodeMetric) -> fmt::Result {
    metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)
}

/// Metrics are floating-point numbers: exact up to 2^53, which no memory or descriptor count reaches.
fn as_f64(value: impl TryInto<u64>) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "exact up to 2^53")]
    value.try_into().map_or(f64::MAX, |value: u64| value as f64)
}

/// Memory and time of the process.
#[derive(Clone, Copy, Debug)]
struct Usage {
    cpu_seconds: f64,
    resident_bytes: f64,
    virtual_bytes: f64,
    started: f64,
}

impl Usage {
    #[cfg(target_os = "linux")]
    fn read() -> Option<Self> {
        let read = |path| std::fs::read_to_string(path).ok();
        Self::parse(&read("/proc/self/stat")?, &read("/proc/self/status")?, &read("/proc/stat")?)
    }

    #[cfg(not(target_os = "linux"))]
    fn read() -> Option<Self> {
        None
    }

    /// Reads the three files as proc(5) describes them.
    #[cfg(target_os = "linux")]
    fn parse(stat: &str, status: &str, system: &str) -> Option<Self> {
        /// Ticks a second in `/proc`: the same on all architectures that Rust supports with `std`.
        const TICKS: f64 = 100.0;
        // The name of the program comes second, in parentheses, and may contain anything.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let ticks = |field: usize| fields.get(field - 3)?.parse::<f64>().ok();
        let bytes = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next()?.parse::<f64>().ok().map(|kib| kib * 1024.0)
        };
        let boot = system.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse::<f64>().ok()?;
        Some(Self {
            cpu_seconds: (ticks(14)? + ticks(15)?) / TICKS,
            resident_bytes: bytes("VmRSS:")?,
            virtual_bytes: bytes("VmSize:")?,
            started: boot + ticks(22)? / TICKS,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_descriptors_are_counted() {
        let before = open_fds().unwrap();
        // Other tests of this process open and close files meanwhile, so these are many.
        let files: Vec<_> = (0..200).map(|_| std::fs::File::open("Cargo.toml").unwrap()).collect();
        assert!(open_fds().unwrap() >= before + 100);
        drop(files);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_program_name_with_spaces_and_parentheses_is_skipped() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 1 0 0 0 250 150 0 0 20 0 3 0 6000 999 9 18446744073709551615";
        let status = "Name:\ta) b (c\nVmPeak:\t 9 kB\nVmSize:\t  2048 kB\nVmRSS:\t   1024 kB\n";
        let usage = Usage::parse(stat, status, "cpu 1 2\nbtime 1700000000\n").unwrap();
        assert_eq!([usage.cpu_seconds, usage.started].map(f64::to_bits), [4.0, 1_700_000_060.0].map(f64::to_bits));
        let memory = [usage.resident_bytes, usage.virtual_bytes].map(f64::to_bits);
        assert_eq!(memory, [1_048_576.0, 2_097_152.0].map(f64::to_bits));
        assert!(Usage::parse("7 (a", status, "").is_none());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_system_says_what_this_process_uses() {
        let usage = Usage::read().unwrap();
        assert!(usage.resident_bytes > 1e6 && usage.virtual_bytes >= usage.resident_bytes, "{usage:?}");
        assert!(usage.started > 1.6e9, "{usage:?}");
    }
}
