//! Pictures that the journal does not know: it was lost or replaced by an older one, or a crash came between a picture and
//! its record. They were paid for, so they are set aside as orphans, and deleted only when they have been orphans for as
//! long as a result is kept.
//!
//! Known race, and its solution: a picture is written and not journalled yet when it is looked up here. Nothing that was
//! written since the start is set aside.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::config::StorageConfig;
use crate::model::{Digest, RunningTime};
use crate::storage::results::OrphanStore;
use crate::storage::{Journal, JournalError, LearnedState};

/// Pictures that are looked up in the journal at once.
const PAGE: usize = 500;
/// How much of its running time a journal may lose in a crash, which stores it about once a minute.
const LOST_AT_A_CRASH: Duration = Duration::from_mins(2);
/// Name of the stored state.
const STATE: &str = "orphans";

/// Sets aside, brings back and deletes orphans.
#[derive(Debug)]
pub(in crate::engine) struct OrphanRetention {
    journal: Arc<dyn Journal>,
    orphans: OrphanStore,
    state: LearnedState,
    ttl: Duration,
    interval: Duration,
}

/// What a restart remembers.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
struct Stored {
    /// The time for which gateways have run on this storage, and the one that the journal counts.
    running_ms: u64,
    journal_ms: u64,
}

/// The time for which gateways have run on this storage. It is counted beside the journal, because the journal may be
/// replaced, and not taken from the wall clock, which may jump.
#[derive(Clone, Copy, Debug)]
struct RunningClock {
    before: RunningTime,
    started: Instant,
}

impl RunningClock {
    fn now(&self) -> RunningTime {
        self.before.plus(self.started.elapsed())
    }
}

#[derive(Debug, thiserror::Error)]
enum OrphanError {
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl OrphanRetention {
    pub(in crate::engine) fn new(
        journal: Arc<dyn Journal>,
        orphans: OrphanStore,
        state: LearnedState,
        storage: &StorageConfig,
    ) -> Self {
        Self { journal, orphans, state, ttl: storage.results_ttl, interval: storage.eviction_interval }
    }

    /// Compares the pictures with the journal once, then deletes what has been an orphan for long enough. Runs forever.
    pub(in crate::engine) async fn run(self) {
        let state = self.state.clone();
        let stored = tokio::task::spawn_blocking(move || state.read::<Stored>(STATE)).await;
        let Stored { running_ms, journal_ms } = stored.ok().flatten().unwrap_or_default();
        let clock = RunningClock { before: RunningTime::from_millis(running_ms), started: Instant::now() };
        self.compare_time(RunningTime::from_millis(journal_ms));
        if let Err(error) = self.compare(&clock).await {
            tracing::warn!(%error, "stored pictures could not be compared with the journal; they stay where they are until a restart");
        }
        self.orphans.end_setting_aside();
        loop {
            self.save(&clock).await;
            tokio::time::sleep(self.interval).await;
            if let Err(error) = self.delete_expired(&clock).await {
                tracing::warn!(%error, "orphans could not be deleted; it is tried again after storage.eviction_interval_s");
            }
        }
    }

    /// Warns when the journal is older than the storage beside it.
    fn compare_time(&self, seen: RunningTime) {
        let lost = seen.since(self.journal.running_time());
        if lost > LOST_AT_A_CRASH {
            tracing::warn!(
                lost_s = lost.as_secs(),
                "the journal is older than the stored pictures: what was bought in this time is not in it, and the same requests buy again"
            );
        }
    }

    /// Brings back the orphans that the journal knows, and sets aside the pictures that it does not know.
    async fn compare(&self, clock: &RunningClock) -> Result<(), OrphanError> {
        let orphans = self.orphans.all().await?;
        let now = clock.now();
        // The stored time was lost, or the files come from a copy: they are kept for the whole time again.
        let undated = orphans.iter().filter(|orphan| orphan.since > now).map(|orphan| orphan.digest).collect();
        self.orphans.date(undated, now).await?;
        let mut returned = 0;
        for page in orphans.chunks(PAGE) {
            returned += self.bring_back_known(page.iter().map(|orphan| orphan.digest).collect()).await?.1;
        }
        if returned > 0 {
            tracing::info!(pictures = returned, "the journal knows orphans again; they are results as before");
        }

        let mut set_aside = 0;
        let mut listing = None;
        loop {
            let (page, rest) = self.orphans.pictures(listing, PAGE).await?;
            if page.is_empty() {
                break;
            }
            listing = Some(rest);
            let known = self.journal.stored_digests(page.clone()).await?;
            let unknown: Vec<Digest> = page.into_iter().filter(|digest| !known.contains(digest)).collect();
            set_aside += self.orphans.set_aside(unknown, clock.now()).await?;
        }
        if set_aside > 0 {
            tracing::warn!(
                pictures = set_aside,
                "stored pictures are not in the journal; they are kept in orphans/ for storage.results_ttl_s, then deleted"
            );
        }
        if returned > 0 || set_aside > 0 {
            self.orphans.all().await?;
        }
        Ok(())
    }

    /// Brings back those of some orphans that the journal knows; returns the others, and how many were brought back.
    async fn bring_back_known(&self, digests: Vec<Digest>) -> Result<(Vec<Digest>, usize), OrphanError> {
        let known = self.journal.stored_digests(digests.clone()).await?;
        let unknown = digests.into_iter().filter(|digest| !known.contains(digest)).collect();
        Ok((unknown, self.orphans.bring_back(known.into_iter().collect()).await?))
    }

    async fn delete_expired(&self, clock: &RunningClock) -> Result<(), OrphanError> {
        let now = clock.now();
        let mut orphans = self.orphans.all().await?;
        orphans.retain(|orphan| now.since(orphan.since) > self.ttl);
        if orphans.is_empty() {
            return Ok(());
        }
        let mut deleted = 0;
        for page in orphans.chunks(PAGE) {
            // Again: the comparison at the start may have failed.
            let (unknown, _) = self.bring_back_known(page.iter().map(|orphan| orphan.digest).collect()).await?;
            deleted += unknown.len();
            self.orphans.remove(unknown).await?;
        }
        tracing::info!(pictures = deleted, "deleted orphans that were kept for storage.results_ttl_s");
        self.orphans.all().await?;
        Ok(())
    }

    async fn save(&self, clock: &RunningClock) {
        let stored = Stored { running_ms: clock.now().millis(), journal_ms: self.journal.running_time().millis() };
        let state = self.state.clone();
        let saved = tokio::task::spawn_blocking(move || state.write(STATE, &stored)).await;
        if let Err(error) = saved.map_err(io::Error::other).and_then(|saved| saved) {
            tracing::warn!(%error, "the age of orphans could not be saved; a restart keeps them for longer");
        }
    }
}

#[cfg(test)]
mod tests;
