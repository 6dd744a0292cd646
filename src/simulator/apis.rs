//! The HTTP routes of the simulated service: three APIs for the same predictions, and the routes around them.

mod answers;
pub(super) mod extras;
pub(super) mod openai;
mod poll;
pub(super) mod prediction;
mod submit;
#[cfg(test)]
pub(super) mod tests;
pub(super) mod unified;
