//! The three APIs of the upstream: for each, the body of a submit and the reading of its answers.

#[cfg(fuzzing)]
pub(crate) mod fuzz;
pub(super) mod openai;
mod parameters;
pub(super) mod prediction;
pub(super) mod unified;

#[cfg(test)]
mod tests;
