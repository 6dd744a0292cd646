//! What `benches/pieces.rs` measures. No part of what the crate offers.

pub use crate::api::benching::{Forms, ParsedForm};

/// What `benches/pieces.rs` and `benches/polling.rs` measure of `crate::polling`.
pub mod polling {
    pub use crate::polling::latency::{LatencyClass, LatencyModel, LatencyPriors, SurvivalEstimate};
    pub use crate::polling::planner::PollPlanner;
    pub use crate::polling::price::PollPrice;
    pub use crate::polling::queue::PollQueue;
}
