//! The state of the simulated service, and the only code that changes it.
//!
//! Time drives it: the start and the end of a prediction are known when it is accepted, and every access first charges
//! the predictions that have ended since the last one. So the state is always current, and the only background work is
//! the fetching of links, before which a prediction does not run.

pub(super) mod clock;
pub(super) mod cost;
pub(super) mod counters;
pub(super) mod handle;
mod ids;
pub(super) mod links;
pub(super) mod prediction;
pub(super) mod predictions;
pub(super) mod schedule;
pub(super) mod state;
