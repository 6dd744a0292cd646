//! Slots of conversions: the work runs on the blocking threads, at most one conversion in a slot.
//!
//! Known races:
//! - A waiter gives up while its work runs: the work ends all the same, and holds its slot until then.

use std::sync::Arc;
use std::time::Instant;

use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// One conversion, in seconds.
const SECONDS_BUCKETS: [f64; 8] = [0.005, 0.02, 0.05, 0.1, 0.3, 1.0, 3.0, 10.0];

/// Slots of one kind of conversions, and what is measured of them.
#[derive(Debug)]
pub(crate) struct ConversionSlots {
    slots: Arc<Semaphore>,
    seconds: Histogram,
    pending: Gauge,
}

/// A slot that is held; released when it is dropped, and at the end of its work.
#[derive(Debug)]
pub(crate) struct ConversionSlot {
    _permit: OwnedSemaphorePermit,
    _pending: Pending,
    seconds: Histogram,
}

/// Counts a conversion as pending until it is dropped.
#[derive(Debug)]
struct Pending(Gauge);

impl Drop for Pending {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl ConversionSlots {
    pub(crate) fn new(slots: usize) -> Self {
        let seconds = Histogram::new(SECONDS_BUCKETS);
        Self { slots: Arc::new(Semaphore::new(slots)), seconds, pending: Gauge::default() }
    }

    /// Registers `<name>_duration_seconds` and `<name>s_pending`.
    pub(crate) fn register(&self, registry: &mut Registry, name: &str, work: &str) {
        let help = format!("Seconds to {work}");
        registry.register(format!("{name}_duration_seconds"), help, self.seconds.clone());
        let help = format!("Conversions that run or wait for a slot, to {work}");
        registry.register(format!("{name}s_pending"), help, self.pending.clone());
    }

    /// Waits for a slot.
    pub(crate) async fn enter(&self) -> ConversionSlot {
        self.pending.inc();
        let pending = Pending(self.pending.clone());
        let slots = Arc::clone(&self.slots);
        let permit = slots.acquire_owned().await.expect("the slots are never closed");
        ConversionSlot { _permit: permit, _pending: pending, seconds: self.seconds.clone() }
    }

    #[cfg(test)]
    pub(crate) fn pending(&self) -> i64 {
        self.pending.get()
    }

    #[cfg(test)]
    pub(crate) fn free(&self) -> usize {
        self.slots.available_permits()
    }
}

impl ConversionSlot {
    /// Runs work on a blocking thread.
    ///
    /// # Errors
    ///
    /// The text of a panic, as decoders may have them.
    pub(crate) async fn run<T: Send + 'static>(self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, String> {
        let work = move || {
            // All of it: the permit belongs to the work, not to the one who waits for it.
            let slot = self;
            let started = Instant::now();
            let result = work();
            slot.seconds.observe(started.elapsed().as_secs_f64());
            result
        };
        tokio::task::spawn_blocking(work).await.map_err(|error| error.to_string())
    }
}
