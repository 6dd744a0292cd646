//! Pictures of a finished purchase: downloaded, checked, stored.

use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::future::join_all;
use tokio::time::Instant;

use crate::engine::core::Core;
use crate::engine::jobs::transitions::{AfterFetch, FetchFailure, after_fetch};
use crate::model::{Failure, PurchaseId, StoredPicture};
use crate::storage::results::ResultsError;
use crate::upstream::{FetchError, Finished, Output};

/// Outputs of one purchase that are fetched; more than any model makes.
const OUTPUTS_MAX: usize = 16;

impl Core {
    /// Fetches the outputs of a finished purchase and settles it, or polls again for fresh addresses.
    pub(super) async fn collect(self: &Arc<Self>, purchase: PurchaseId, finished: Finished) {
        let (stored, trouble) = self.fetch_all(finished.outputs).await;
        let deadline = self.settings.deadline;
        let next = self.jobs.with_accepted(purchase, |accepted| {
            let expired = accepted.accepted.elapsed() >= deadline;
            if trouble.is_some() {
                accepted.troubles = accepted.troubles.saturating_add(1);
            }
            let next = after_fetch(stored.len(), trouble, expired);
            (next, accepted.poll.handle.id.clone(), accepted.accepted)
        });
        let Some((next, upstream, accepted)) = next else {
            return;
        };
        match next {
            AfterFetch::Resolve => self.resolve(purchase, Some(upstream), stored, finished.usage, accepted).await,
            AfterFetch::PollAgain => self.plan_poll(purchase),
            AfterFetch::End(failure) => self.end(purchase, failure).await,
        }
    }

    /// Fetches outputs that came with the answer to the submit of `sent`, without an id. There is nothing to poll for
    /// fresh addresses, so the rounds of fetching follow each other here.
    pub(super) async fn collect_without_id(&self, purchase: PurchaseId, finished: Finished, sent: Instant) {
        let started = Instant::now();
        let mut rounds = 0;
        loop {
            rounds += 1;
            let (stored, trouble) = self.fetch_all(finished.outputs.clone()).await;
            let expired = started.elapsed() >= self.settings.deadline;
            match trouble {
                Some(_) if !expired => tokio::time::sleep(self.backoff(rounds)).await,
                Some(FetchFailure::Upstream(message) | FetchFailure::Storage(message)) if stored.is_empty() => {
                    return self.end(purchase, Failure::ResultLost { message }).await;
                }
                _ => return self.resolve(purchase, None, stored, finished.usage, sent).await,
            }
        }
    }

    /// Fetches, checks and stores outputs. Returns the stored pictures in the order of the outputs, and the trouble of
    /// the last output that failed.
    async fn fetch_all(&self, outputs: Vec<Output>) -> (Vec<StoredPicture>, Option<FetchFailure>) {
        let fetched = join_all(outputs.into_iter().take(OUTPUTS_MAX).map(|output| self.fetch(output))).await;
        let mut stored = Vec::new();
        let mut trouble = None;
        for result in fetched {
            match result {
                Ok(picture) => stored.push(picture),
                Err(problem) => {
                    tracing::warn!(?problem, "an output could not be stored; it is fetched again until the deadline");
                    trouble = Some(problem);
                }
            }
        }
        (stored, trouble)
    }

    async fn fetch(&self, output: Output) -> Result<StoredPicture, FetchFailure> {
        let timeout = self.settings.download_timeout;
        let late = |_| Err(FetchFailure::Upstream("the download took too long".to_owned()));
        tokio::time::timeout(timeout, self.fetch_once(output)).await.unwrap_or_else(late)
    }

    async fn fetch_once(&self, output: Output) -> Result<StoredPicture, FetchFailure> {
        let upstream = |error: FetchError| FetchFailure::Upstream(error.to_string());
        let mut bytes = self.upstream.fetch(output).await.map_err(upstream)?;
        let bytes_max = self.settings.picture_bytes_max;
        let mut writer = self.results.write(bytes_max);
        while let Some(chunk) = bytes.next().await {
            writer.push(chunk.map_err(upstream)?).await?;
        }
        Ok(writer.finish().await?)
    }
}

impl From<ResultsError> for FetchFailure {
    fn from(error: ResultsError) -> Self {
        match error {
            ResultsError::InvalidPicture(_) | ResultsError::TooLarge { .. } => Self::Upstream(error.to_string()),
            ResultsError::Io(_) => Self::Storage(error.to_string()),
        }
    }
}
