//! Pictures that were bought: content-addressed files, and a read cache of small ones in memory. Declares and exports only.

mod directory_sync;
mod files;
mod memory;
mod store;
#[cfg(test)]
mod tests;
mod writer;

pub(crate) use store::Results;
pub(crate) use writer::ResultsError;
