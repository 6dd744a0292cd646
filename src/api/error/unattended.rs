//! Jobs that failed while no request waited for them: no response reports it, so it is recorded here.

use super::ApiError;
use crate::model::{Task, Timestamp, UnattendedFailure};
use crate::telemetry::recent::{EndedRequest, Payment, RecentRequests};

/// Records a job among the last failures. One that its client had dropped, or that a limit of the client ended, is none.
pub(crate) fn record_unattended(recent: &RecentRequests, failed: UnattendedFailure, now: Timestamp) {
    let UnattendedFailure { job, client, model, task, created, failure } = failed;
    let error = ApiError::Failed { failure, job: Some(job) };
    let failure = error.report().failure();
    if !failure.outcome.is_failure() {
        return;
    }
    let mut ended = EndedRequest {
        at_ms: now.millis(),
        request: None,
        route: match task {
            Task::Edit => "edits",
            Task::Generate => "generations",
        },
        client: client.0,
        model: Some(model.as_str().into()),
        outcome: failure.outcome,
        status: error.row().status.as_u16(),
        code: failure.code,
        ms: u64::try_from(now.millis().saturating_sub(created.millis())).unwrap_or_default(),
        payment: Payment::Unknown,
        usd: None,
        usd_estimated: false,
        prediction: Some(job.to_string()),
        cause: None,
    };
    ended.failed(failure);
    recent.record(ended);
}
