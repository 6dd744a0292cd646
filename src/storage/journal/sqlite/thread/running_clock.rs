//! The running time of a journal that is open.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::model::RunningTime;

/// Monotonic time since any fixed moment.
pub(in crate::storage::journal) type Monotonic = Arc<dyn Fn() -> Duration + Send + Sync>;

/// Counts on from the running time that was stored last.
#[derive(Clone)]
pub(in crate::storage::journal::sqlite) struct RunningClock {
    stored: RunningTime,
    opened: Duration,
    monotonic: Monotonic,
}

impl RunningClock {
    pub(in crate::storage::journal::sqlite) fn new(stored: RunningTime, monotonic: Monotonic) -> Self {
        Self { stored, opened: monotonic(), monotonic }
    }

    pub(super) fn now(&self) -> RunningTime {
        self.stored.plus((self.monotonic)().saturating_sub(self.opened))
    }
}

impl fmt::Debug for RunningClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunningClock").field("now", &self.now()).finish_non_exhaustive()
    }
}

/// Returns the machine's monotonic time.
pub(in crate::storage::journal::sqlite) fn monotonic() -> Monotonic {
    let began = Instant::now();
    Arc::new(move || began.elapsed())
}
