pub mod lifecycle;
pub mod simulator;
