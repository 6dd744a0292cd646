//! Pictures that were bought: content-addressed, with a read cache of small ones in memory. Declares and exports only.

mod checked;
#[cfg(test)]
mod contract;
mod directory;
mod directory_sync;
#[cfg(test)]
pub(crate) mod memory;
mod orphans;
mod read_cache;
mod shared;
mod store;
#[cfg(test)]
mod tests;
mod traits;
mod writer;

pub(crate) use checked::{PictureDamage, examine};
pub(crate) use directory::PictureDirectory;
pub(crate) use orphans::OrphanStore;
pub(crate) use store::Results;
pub(crate) use traits::PictureStore;
pub(crate) use writer::ResultsError;
