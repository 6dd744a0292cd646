//! What limits are compared with: the load of the upstream when a submit arrived there, and when that was.

use tokio::time::Instant;

/// What a limit bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dimension {
    /// The predictions that the upstream holds.
    Concurrency,
    /// The submits that it accepts within a window.
    Rate,
}

/// The load of the upstream when a submit arrived there, that submit not included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Load {
    /// Predictions that were accepted and have not ended.
    pub(super) held: usize,
    /// Submits that were accepted within the last window.
    pub(super) counted: usize,
    /// Other submits that are unacknowledged.
    pub(super) unacknowledged: usize,
    /// Whether the submit was a probe.
    pub(super) probe: bool,
}

/// A time, and how many submits were accepted up to then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Checkpoint {
    pub(super) at: Instant,
    pub(super) accepted: u64,
}

impl Load {
    /// Returns the level that the upstream had accepted.
    pub(super) fn accepted(&self, dimension: Dimension) -> usize {
        match dimension {
            Dimension::Concurrency => self.held,
            Dimension::Rate => self.counted,
        }
    }

    /// Returns the level that an outcome says something about. A probe was sent because unacknowledged submits filled the
    /// limit as well, so they count for it.
    pub(super) fn tested(&self, dimension: Dimension) -> usize {
        self.accepted(dimension) + if self.probe { self.unacknowledged } else { 0 }
    }

    /// Returns the level that would be reached if all unacknowledged submits were accepted.
    pub(super) fn expected(&self, dimension: Dimension) -> usize {
        self.accepted(dimension) + self.unacknowledged
    }
}
