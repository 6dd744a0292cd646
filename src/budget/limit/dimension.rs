//! What is limited: the two dimensions, by how much a limit changes in each, and the load that limits are compared with.

use std::time::Duration;

use tokio::time::Instant;

use super::bounds::{Bounds, real};

/// The smallest learned rate, in submits per window.
pub(super) const RATE_MIN: f64 = 0.05;
/// The concurrency limit is raised after this many acceptances above it: a single one may have been accepted because of an
/// end that the gateway had not seen yet.
const ACCEPTED_ABOVE: u32 = 4;
/// The step of the concurrency limit doubles up to this fraction of the limit.
const STEP_FRACTION: f64 = 8.0;
/// A transient refusal costs this fraction of a rate that was nearly used, or one submit per window.
const NUDGE: f64 = 0.02;

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
pub(super) struct Progress {
    pub(super) at: Instant,
    pub(super) accepted: u64,
}

impl Dimension {
    pub(super) fn configured(self, bounds: &Bounds) -> f64 {
        match self {
            Self::Concurrency => real(bounds.concurrency),
            Self::Rate => bounds.rate(),
        }
    }

    /// Returns the limit that is nearest to `limit` from below, or the smallest one.
    pub(super) fn valid(self, limit: f64) -> f64 {
        match self {
            Self::Concurrency => limit.floor().max(1.0),
            Self::Rate => limit.max(RATE_MIN),
        }
    }

    /// Returns the acceptances above a limit that raise it.
    pub(super) fn accepted_above(self) -> u32 {
        match self {
            Self::Concurrency => ACCEPTED_ABOVE,
            Self::Rate => 1,
        }
    }

    /// Returns the largest increase of `limit`.
    pub(super) fn step_max(self, limit: f64) -> f64 {
        match self {
            Self::Concurrency => 1.0 + (limit / STEP_FRACTION).floor(),
            Self::Rate => 1.0,
        }
    }

    /// Returns what a transient refusal costs.
    pub(super) fn nudge(self, limit: f64) -> f64 {
        match self {
            Self::Concurrency => 1.0,
            Self::Rate => (limit * NUDGE).max(1.0),
        }
    }

    /// Returns what the upstream sustained since a limit was last exceeded: the level, or of a rate the throughput.
    pub(super) fn sustained(self, level: usize, exceeded: Option<Progress>, now: Progress, window: Duration) -> f64 {
        match (self, exceeded) {
            (Self::Concurrency, _) => real(level),
            (Self::Rate, Some(exceeded)) => now.throughput_since(exceeded, window),
            (Self::Rate, None) => f64::INFINITY,
        }
    }
}

impl Progress {
    /// Returns the submits per window that were accepted since then.
    fn throughput_since(self, earlier: Self, window: Duration) -> f64 {
        let windows = self.at.saturating_duration_since(earlier.at).as_secs_f64() / window.as_secs_f64();
        let accepted = usize::try_from(self.accepted - earlier.accepted).unwrap_or(usize::MAX);
        real(accepted) / windows.max(f64::EPSILON)
    }
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
