//! One purchase from the request to its pictures.
//!
//! - `start`: finds what answers a request, or lists a new job.
//! - `forecast`: whether a purchase would start in time; refused before it is made if not.
//! - `submit`: budget, upload, journal, last byte; retries.
//! - `scheduler`, `plan`, `poll`: when accepted purchases are polled, and what follows from an answer.
//! - `fetch`: downloads, checks and stores pictures.
//! - `end`: journals the end and notifies the waiters.

mod end;
mod fetch;
pub(super) mod forecast;
mod plan;
mod poll;
pub(super) mod scheduler;
mod slow_submit;
mod start;
mod submit;
