//! How a job has ended: its pictures, or the one failure that its client is shown.
//!
//! A job of several purchases may have several failures. All answers name the same one: the answer to the request, the
//! answer to its retry, and `GET /v1/predictions/{id}`, before and after a restart. It is the most severe: an unknown
//! outcome first, then a failure that may have cost money. Among equally severe failures it is that of the first slot.

use crate::model::{
    Failure, JobId, JobResult, MissingPictures, ModelId, RunningTime, StoredPicture, Timestamp, UpstreamId, Usage,
};
use crate::storage::journal::{JobRecord, StoredJob, StoredState};

/// Which failures count for the failure of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) enum FailureScope {
    /// All: for the answer to the job's client.
    All,
    /// Those that an operator has not resolved: for the question whether a request may buy again.
    Unresolved,
}

/// Returns the failure of a stored job, and when it happened; `None` while the job is under way, when it brought
/// pictures, and when no failure is in the scope.
pub(in crate::engine) fn stored_failure(stored: &StoredJob, scope: FailureScope) -> Option<(Failure, Timestamp)> {
    let mut failures = Vec::with_capacity(stored.purchases.len());
    for purchase in &stored.purchases {
        match &purchase.state {
            StoredState::Failed { failure, at, .. } => {
                if scope == FailureScope::All || purchase.resolution.is_none() {
                    failures.push((failure, *at));
                }
            }
            StoredState::Intent
            | StoredState::Committing { .. }
            | StoredState::Accepted { .. }
            | StoredState::Resolved { .. } => return None,
        }
    }
    Failure::most_severe(failures).map(|(failure, at)| (failure.clone(), at))
}

/// Returns the failure of a job that has ended without pictures, from the failures of its purchases by slot.
pub(in crate::engine::jobs) fn job_failure<'a>(failures: impl IntoIterator<Item = &'a Failure>) -> Failure {
    let failures = failures.into_iter().map(|failure| (failure, ()));
    Failure::most_severe(failures).map_or_else(without_pictures, |(failure, ())| failure.clone())
}

/// Returns the failure of a job that has ended without pictures although no purchase of it failed: done, and empty.
pub(in crate::engine) fn without_pictures() -> Failure {
    Failure::ResultLost { message: "it ended without a picture".to_owned() }
}

/// Returns the unknown outcome of a stored job that has ended, whether or not it brought pictures: the last one that an
/// operator has not resolved, and when it ended by the journal's running time.
pub(in crate::engine) fn unresolved_unknown(stored: &StoredJob) -> Option<(&Failure, Option<RunningTime>)> {
    stored.end()?;
    let unknown =
        stored.purchases.iter().filter(|purchase| purchase.resolution.is_none()).filter_map(|purchase| match &purchase
            .state
        {
            StoredState::Failed { failure: failure @ Failure::OutcomeUnknown { .. }, .. } => {
                Some((failure, purchase.ended))
            }
            StoredState::Intent
            | StoredState::Committing { .. }
            | StoredState::Accepted { .. }
            | StoredState::Resolved { .. }
            | StoredState::Failed { .. } => None,
        });
    unknown.max_by_key(|(_, ended)| *ended)
}

/// Returns the pictures of a stored job; `None` while it is under way or when it brought none.
pub(in crate::engine) fn stored_result(stored: &StoredJob) -> Option<JobResult> {
    let mut result = JobResultBuilder::of(&stored.record);
    for purchase in &stored.purchases {
        match &purchase.state {
            StoredState::Resolved { upstream, pictures, usage, at, .. } => {
                result.add(purchase.pictures, upstream.as_ref(), pictures, *usage, *at);
            }
            StoredState::Failed { failure, .. } => result.fail(purchase.pictures, failure),
            StoredState::Intent | StoredState::Committing { .. } | StoredState::Accepted { .. } => return None,
        }
    }
    result.finish()
}

/// Puts the result of a job together from the results of its purchases.
pub(in crate::engine::jobs) struct JobResultBuilder {
    job: JobId,
    model: ModelId,
    /// The number of input pictures.
    inputs: u8,
    purchases: Vec<UpstreamId>,
    pictures: Vec<StoredPicture>,
    missing: Vec<MissingPictures>,
    usage: Option<Usage>,
    inputs_unseen: bool,
    resolved: Option<Timestamp>,
}

impl JobResultBuilder {
    pub(in crate::engine::jobs) fn of(record: &JobRecord) -> Self {
        Self {
            job: record.id,
            model: record.model.clone(),
            inputs: record.inputs,
            purchases: Vec::new(),
            pictures: Vec::new(),
            missing: Vec::new(),
            usage: None,
            inputs_unseen: false,
            resolved: None,
        }
    }

    /// Adds the result of one purchase, of which a number of pictures was requested.
    pub(in crate::engine::jobs) fn add(
        &mut self,
        requested: u8,
        upstream: Option<&UpstreamId>,
        pictures: &[StoredPicture],
        usage: Option<Usage>,
        at: Timestamp,
    ) {
        // One purchase without usage makes the sum unknown: the usage is complete, or none.
        let first = self.pictures.is_empty();
        self.usage = match (self.usage, usage) {
            (None, usage) if first => usage,
            (Some(sum), Some(usage)) => Some(sum.plus(usage)),
            _ => None,
        };
        self.inputs_unseen |= !pictures.is_empty() && usage.is_some_and(|usage| usage.missed_inputs(self.inputs));
        self.purchases.extend(upstream.cloned());
        self.pictures.extend_from_slice(pictures);
        self.resolved = self.resolved.max(Some(at));
        let message = "fewer pictures than requested could be had".to_owned();
        let made = u8::try_from(pictures.len()).unwrap_or(u8::MAX);
        self.fail(requested.saturating_sub(made), &Failure::ResultLost { message });
    }

    /// Adds pictures that are missing. Those that are missing for the same reason are counted together.
    pub(in crate::engine::jobs) fn fail(&mut self, pictures: u8, failure: &Failure) {
        if pictures == 0 {
            return;
        }
        match self.missing.iter_mut().find(|missing| missing.failure == *failure) {
            Some(missing) => missing.pictures = missing.pictures.saturating_add(pictures),
            None => self.missing.push(MissingPictures { pictures, failure: failure.clone() }),
        }
    }

    /// Returns the result; `None` when there is no picture.
    pub(in crate::engine::jobs) fn finish(self) -> Option<JobResult> {
        let Self { job, model, purchases, pictures, missing, usage, inputs_unseen, resolved, .. } = self;
        let resolved = resolved.filter(|_| !pictures.is_empty())?;
        Some(JobResult { job, model, purchases, pictures, missing, usage, inputs_unseen, resolved })
    }
}

#[cfg(test)]
mod tests;
