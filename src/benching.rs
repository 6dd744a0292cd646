//! What `benches/pieces.rs` measures. No part of what the crate offers.

use bytes::Bytes;

pub use crate::api::benching::{Forms, ParsedForm};

/// Returns whether a picture in memory is complete.
#[must_use]
pub fn is_complete(picture: &Bytes) -> bool {
    crate::model::picture::check_complete(picture).is_ok_and(|checked| checked.is_ok())
}

/// What `benches/pieces.rs` and `benches/polling.rs` measure of `crate::polling`.
pub mod polling {
    pub use crate::polling::latency::{LatencyClass, LatencyModel, LatencyPriors, SurvivalEstimate};
    pub use crate::polling::planner::PollPlanner;
    pub use crate::polling::price::PollPrice;
    pub use crate::polling::queue::PollQueue;
}
