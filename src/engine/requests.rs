//! What requests want of the engine: to be answered (`start`), to wait (`waiter`), to look at a job (`view`).

pub(super) mod job_request;
mod start;
pub(super) mod view;
pub(super) mod waiter;
