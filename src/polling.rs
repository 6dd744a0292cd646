//! When to poll: generation times as they are learned, the plan for the next poll of each purchase, and the queue that
//! spends a limited number of polls where they help most. Pure: no clock, no I/O.

pub(crate) mod latency;
pub(crate) mod planner;
pub(crate) mod queue;
