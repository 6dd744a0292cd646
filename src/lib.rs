pub mod config;
pub mod lifecycle;

mod api;
mod engine;
mod model;
mod storage;
