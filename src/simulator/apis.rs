//! The HTTP routes of the simulated service: three APIs for the same predictions, and the routes around them.

pub(super) mod account;
mod answers;
pub(super) mod files;
pub(super) mod openai;
mod poll;
pub(super) mod prediction;
mod submit;
#[cfg(test)]
pub(super) mod tests;
pub(super) mod unified;
