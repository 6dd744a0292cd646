//! Pictures that were bought: content-addressed, with a read cache of small ones in memory. Declares and exports only.

#[cfg(test)]
mod contract;
mod directory;
#[cfg(test)]
pub(crate) mod memory;
mod orphans;
mod shared;
mod sources;
mod store;
#[cfg(test)]
mod tests;
mod traits;
mod writer;

pub(crate) use directory::PictureDirectory;
pub(crate) use orphans::OrphanStore;
pub(crate) use sources::checked::{PictureDamage, examine};
pub(crate) use store::Results;
pub(crate) use traits::PictureStore;
pub(crate) use writer::ResultsError;
