pub mod config;
pub mod lifecycle;

mod engine;
mod model;
mod storage;
