//! The engine's interface: `start` answers a request, `waiter` waits for its job, `view` shows and cancels one; `refetch`
//! answers from what is stored.

pub(super) mod delete;
pub(super) mod job_request;
pub(super) mod list;
pub(super) mod progress;
pub(super) mod refetch;
mod start;
pub(super) mod view;
pub(super) mod waiter;
