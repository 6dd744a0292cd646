//! What `benches/pieces.rs` measures. No part of what the crate offers.

pub use crate::api::bench::{Forms, ParsedForm};
