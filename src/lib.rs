//! An OpenAI-compatible gateway for image edits in front of GPTProto's predictions.
//!
//! A client calls OpenAI's image API and waits; behind it the gateway submits a *prediction*, polls for it, stores the
//! pictures and answers as if the call had been synchronous. A picture that was paid for is never lost and never bought
//! twice by the gateway.
//!
//! ```text
//!  clients ─▶ api ─┬─▶ admission ─┐
//!                  │              ├─▶ budget ─▶ storage ─▶ disk
//!                  └─▶ engine ────┤     ▲          ▲
//!                        │        └─────┼──────────┘
//!                        └─▶ upstream ──┘ ─▶ GPTProto
//!  webhooks ─▶ storage, and told by the engine of every order that has ended
//!  operator ─▶ status values of engine, budget and admission
//!  api, engine, upstream ─▶ lending (input pictures that the upstream fetches from us)
//!  everybody ─▶ model, its own section of config, telemetry, lifecycle, payload
//!  app ─▶ everybody (wiring only)
//! ```
//!
//! An arrow means "may import", and is the way a request travels; answers come back as return values.
//! `tests/architecture.rs` holds the table. In reading order: [`app`] wires, `api` speaks `OpenAI`, `engine` owns the life
//! of a prediction, `upstream` speaks GPTProto, `storage` survives.
//!
//! What always holds:
//! - The handler of a request never owns work: a tracked task does, so a client that hangs up cancels nothing paid.
//! - Nothing leaves for the upstream without a `Reservation` of the `budget`.
//! - The journal knows a purchase before the last byte of its submit leaves.
//! - The upstream key is held by `upstream` alone and goes to the configured origin only.
//! - The bytes decide what a picture is; nothing is answered or cached that is not whole.

pub mod app;
#[cfg(feature = "bench")]
#[doc(hidden)]
pub mod benching;
pub mod config;
#[cfg(fuzzing)]
pub mod fuzzing;
pub mod ledger;
pub mod lifecycle;
pub mod operator;
pub mod server;
pub mod simulator;
pub mod telemetry;

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
mod webhooks;
