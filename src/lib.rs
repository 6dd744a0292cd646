//! An OpenAI-compatible gateway for image edits, in front of GPTProto's prediction API.
//!
//! A client calls OpenAI's image API and waits. The gateway submits a prediction, polls for its result, stores the pictures and
//! responds as if the call had been synchronous. A picture that was paid for is never lost, and never bought twice by the
//! gateway.
//!
//! ```text
//!  clients ─▶ api ─┬─▶ admission ──────────────▶ storage ─▶ disk
//!                  └─▶ engine ────┬─▶ polling       ▲
//!                                 ├─▶ budget        │
//!                                 ├─────────────────┘
//!                                 └─▶ upstream ─▶ GPTProto
//! ```
//!
//! An arrow means "may import" and is the way a request takes; results come back as return values. `tests/architecture.rs` has
//! the complete table, `src/README.md` the map and the glossary. In reading order: [`app`] builds everything, `api` speaks
//! `OpenAI`, `engine` runs jobs, `upstream` speaks GPTProto, `storage` survives a crash.
//!
//! What always holds:
//! - The handler of a request never owns work: a tracked task does, so a client that disconnects cancels nothing that is paid.
//! - Nothing is sent to the upstream without a `Reservation` of the `budget`.
//! - The journal records a purchase before the last byte of its submit is sent.
//! - Only `upstream` has the upstream key, and sends it to the configured origin alone.
//! - The bytes decide what a picture is; an incomplete picture is neither sent to a client nor cached.

#[cfg(not(unix))]
compile_error!("gptproto-gateway runs on Linux and macOS. On Windows use the container image or WSL 2.");

pub mod app;
#[cfg(feature = "bench")]
#[doc(hidden)]
pub mod benching;
pub mod cli;
pub mod config;
#[cfg(fuzzing)]
pub mod fuzzing;
pub mod ledger;
pub mod lifecycle;
pub mod openapi;
pub mod operator;
pub mod server;
pub mod simulator;
pub mod telemetry;

mod admin;
mod admission;
mod api;
mod budget;
mod engine;
mod http;
mod input_urls;
mod model;
mod polling;
mod storage;
mod upstream;
mod web;
mod webhooks;
