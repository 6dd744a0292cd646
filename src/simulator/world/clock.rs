//! The clock of the simulator.

use tokio::time::Instant;

/// The current time, monotonic and civil, taken once for each access to the world.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Now {
    pub(crate) at: Instant,
    pub(crate) wall: jiff::Timestamp,
}

impl Now {
    /// Reads the clock.
    pub(crate) fn read() -> Self {
        Self { at: Instant::now(), wall: jiff::Timestamp::now() }
    }
}
