//! The engine's interface: `start` answers a request, `waiter` waits for its job, `view` shows and cancels one.

pub(super) mod job_request;
mod start;
pub(super) mod view;
pub(super) mod waiter;
