//! What `benches/pieces.rs` measures. No part of what the crate offers.

pub use crate::api::benching::{Forms, ParsedForm};
