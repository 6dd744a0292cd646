//! The routes besides the three APIs.

pub(in crate::simulator) mod account;
pub(in crate::simulator) mod files;
pub(in crate::simulator) mod interfaces;
