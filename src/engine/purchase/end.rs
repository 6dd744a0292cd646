//! The end of a purchase: journalled, counted, and published to the waiters.

use std::time::Duration;

use tokio::time::Instant;

use crate::config::CacheMode;
use crate::engine::core::Core;
use crate::engine::jobs::PurchaseEnd;
use crate::model::{Failure, PurchaseId, StoredPicture, UpstreamId, Usage, Usd};
use crate::storage::journal::Record;

impl Core {
    /// Journals pictures that are on disk, and hands them to the waiters.
    pub(super) async fn resolve(
        &self,
        purchase: PurchaseId,
        upstream: Option<UpstreamId>,
        pictures: Vec<StoredPicture>,
        usage: Option<Usage>,
        accepted: Instant,
    ) {
        let at = self.clock.now();
        let record = Record::Resolved { purchase, pictures: pictures.clone(), usage, at };
        if self.results.failed() {
            // Left as accepted: a restart fetches the pictures again, should these not have survived.
            tracing::warn!(%purchase, "a result may not have reached the disk; it is delivered all the same");
        } else if let Err(error) = self.journal.append(record).await {
            tracing::error!(%purchase, %error, "a result could not be journalled; it is delivered all the same");
        }
        if let Some(record) = self.jobs.record(purchase.job) {
            let price = self.catalogue.find(&record.model).map(|model| model.price.of(pictures.len(), usage.as_ref()));
            self.jobs.settle_quota(purchase, pictures.len(), price.unwrap_or_default());
            self.metrics.resolved(&record.model, pictures.len(), price, accepted.elapsed());
            tracing::info!(
                %purchase,
                client = %record.client,
                model = record.model.as_str(),
                pictures = pictures.len(),
                seconds = rounded(accepted.elapsed().as_secs_f64(), 1000.0),
                usd = price.map(|price| rounded(price.0, 1e6)),
                "purchase resolved"
            );
        }
        self.settle(purchase, PurchaseEnd::Pictures { upstream, pictures, usage, at });
    }

    /// Journals that a purchase ended without pictures, and notifies the waiters.
    pub(super) async fn end(&self, purchase: PurchaseId, failure: Failure) {
        let record = Record::Failed { purchase, failure: failure.clone(), at: self.clock.now() };
        if let Err(error) = self.journal.append(record).await {
            tracing::error!(%purchase, ?failure, %error, "an end could not be journalled; the next start repeats it");
        }
        if let Some(record) = self.jobs.record(purchase.job) {
            let wanted = self.jobs.pictures(purchase);
            let usd = self.estimated_cost(&record.model, wanted);
            // A purchase that may have been paid for counts as paid.
            let (spent, made) = if failure.may_have_been_bought() { (usd, wanted) } else { (Usd::default(), 0) };
            self.jobs.settle_quota(purchase, usize::from(made), spent);
            self.metrics.ended(&failure, usd);
            let Usd(usd) = usd;
            let (client, failure_name) = (&record.client, failure.name());
            if failure.may_have_been_bought() {
                let upstream = self.jobs.with_accepted(purchase, |accepted| accepted.poll.handle.id.to_string());
                let failure = failure_name;
                tracing::warn!(%purchase, upstream, %client, failure, usd, "purchase ended without a picture");
            } else {
                tracing::info!(%purchase, %client, failure = failure_name, "purchase ended without a picture");
            }
        }
        self.settle(purchase, PurchaseEnd::Failure(failure));
    }

    /// Ends a purchase in memory; with the last purchase of a job, the job.
    pub(super) fn settle(&self, purchase: PurchaseId, end: PurchaseEnd) {
        let Some(ended) = self.jobs.end(purchase, end) else {
            return;
        };
        if let Ok(result) = &ended.outcome
            && ended.record.shareable
            && result.missing == 0
            && self.settings.cache == CacheMode::On
        {
            self.remember(ended.record.fingerprint, result, Duration::ZERO, false);
        }
        let job = ended.record.id;
        ended.publish();
        // After the outcome is published: a subscription from now on sees it.
        self.completion_listener.ended(job);
    }
}

/// A figure for people, rounded to `parts` of one.
fn rounded(value: f64, parts: f64) -> f64 {
    (value * parts).round() / parts
}
