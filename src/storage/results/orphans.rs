//! Pictures that the journal does not know: set aside, counted, brought back, and removed when the engine says so.

use std::io;
use std::sync::Arc;

use super::shared::SharedPictures;
use super::traits::{Listing, Orphan};
use crate::model::{Digest, RunningTime};
use crate::storage::descriptors::blocking;

/// The orphans of a store of pictures. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct OrphanStore {
    pictures: Arc<SharedPictures>,
}

impl OrphanStore {
    pub(super) fn new(pictures: Arc<SharedPictures>) -> Self {
        Self { pictures }
    }

    /// Returns the next `count` pictures of a listing, with the listing; without one, those of a new listing. Fewer only at
    /// the end.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    pub(crate) async fn pictures(
        &self,
        listing: Option<Listing<Digest>>,
        count: usize,
    ) -> io::Result<(Vec<Digest>, Listing<Digest>)> {
        self.blocking(move |pictures| {
            let mut listing = match listing {
                Some(listing) => listing,
                None => pictures.store.list()?,
            };
            let page = listing.by_ref().take(count).collect::<io::Result<_>>()?;
            Ok((page, listing))
        })
        .await
    }

    /// Makes those pictures orphans that were not written since the start. Returns how many are.
    ///
    /// # Errors
    ///
    /// When the store refuses; the pictures that it refuses are where they were.
    pub(crate) async fn set_aside(&self, digests: Vec<Digest>, at: RunningTime) -> io::Result<usize> {
        self.blocking(move |pictures| {
            let mut moved = 0;
            for digest in &digests {
                moved += usize::from(pictures.set_aside(digest, at)?);
            }
            Ok(moved)
        })
        .await
    }

    /// Sets nothing aside any more until the next start.
    pub(crate) fn end_setting_aside(&self) {
        self.pictures.end_setting_aside();
    }

    /// Makes orphans pictures again, where no picture is in their place. Returns how many are.
    ///
    /// # Errors
    ///
    /// When the store refuses.
    pub(crate) async fn bring_back(&self, digests: Vec<Digest>) -> io::Result<usize> {
        self.blocking(move |pictures| {
            let mut moved = 0;
            for digest in &digests {
                moved += usize::from(pictures.store.bring_back(digest)?);
            }
            Ok(moved)
        })
        .await
    }

    /// Returns all orphans, and counts them.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    pub(crate) async fn all(&self) -> io::Result<Vec<Orphan>> {
        self.blocking(|pictures| {
            let orphans = pictures.store.orphans()?.collect::<io::Result<Vec<_>>>()?;
            pictures.count_orphans(&orphans);
            Ok(orphans)
        })
        .await
    }

    /// Changes the time at which pictures became orphans.
    ///
    /// # Errors
    ///
    /// When the store refuses.
    pub(crate) async fn date(&self, digests: Vec<Digest>, at: RunningTime) -> io::Result<()> {
        self.blocking(move |pictures| digests.iter().try_for_each(|digest| pictures.store.date_orphan(digest, at)))
            .await
    }

    /// Removes orphans.
    ///
    /// # Errors
    ///
    /// When the store refuses.
    pub(crate) async fn remove(&self, digests: Vec<Digest>) -> io::Result<()> {
        self.blocking(move |pictures| digests.iter().try_for_each(|digest| pictures.store.remove_orphan(digest))).await
    }

    /// Returns the number of the orphans and their bytes, as last counted.
    pub(crate) fn count(&self) -> (u64, u64) {
        self.pictures.orphans()
    }

    async fn blocking<T, F>(&self, work: F) -> io::Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&SharedPictures) -> io::Result<T> + Send + 'static,
    {
        let pictures = Arc::clone(&self.pictures);
        blocking(move || work(&pictures)).await
    }
}
