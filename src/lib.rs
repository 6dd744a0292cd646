pub mod config;
pub mod lifecycle;
pub mod telemetry;

mod engine;
mod model;
mod payload;
mod storage;
