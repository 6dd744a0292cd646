pub mod app;
pub mod config;
pub mod lifecycle;
pub mod operator;
pub mod simulator;
pub mod telemetry;

mod admission;
mod api;
mod budget;
mod engine;
mod model;
mod payload;
mod storage;
mod upstream;
