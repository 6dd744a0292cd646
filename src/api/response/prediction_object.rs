//! The prediction object: a job as its owner sees it.

use std::time::Duration;

use serde::{Serialize, Serializer};

use super::image_response::warnings::{ResultWarning, warnings};
use crate::api::error::ApiError;
use crate::engine::{JobProgress, JobStage, JobStatus, JobSummary};
use crate::http::StreamingBody;
use crate::model::{Failure, Task, Timestamp};

/// A job. Times are in seconds since 1970. Its `result` is the response of a synchronous request, which the caller writes
/// between the two halves of [`PredictionObject::around_result`].
#[derive(Debug, Serialize)]
pub(crate) struct PredictionObject<'a> {
    id: String,
    object: &'static str,
    /// `queued`, `submitting`, `processing`, `completed`, `failed` or `cancelled`.
    status: &'static str,
    task: &'static str,
    model: &'a str,
    /// As requested: `size` is resolved, and `quality` null for a model without it.
    size: String,
    quality: Option<&'a str>,
    n: u8,
    /// The number of input pictures.
    inputs: u8,
    created: i64,
    expected_completion: Option<i64>,
    /// In percent: below 100 while the job is under way; null while it waits for its turn, when nothing is known, or when it failed.
    progress: Option<u8>,
    /// 1 for the next; null for a job that is not queued.
    queue_position: Option<usize>,
    completed_at: Option<i64>,
    /// In US dollars; null while it is not known.
    cost_usd: Option<f64>,
    cost_estimated: bool,
    /// Null unless it is kept.
    prompt: Option<&'a str>,
    /// The upstream's ids of its purchases.
    predictions: Vec<&'a str>,
    /// Always null here.
    result: Option<()>,
    error: Option<SerializedError>,
    /// As in the result, and absent where it has none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<ResultWarning>,
}

/// OpenAI's error object.
#[derive(Debug)]
struct SerializedError(ApiError);

impl Serialize for SerializedError {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.object().serialize(serializer)
    }
}

/// The place of the result.
const NO_RESULT: &str = "\"result\":null";

impl<'a> PredictionObject<'a> {
    pub(crate) fn of(view: &'a JobSummary, now: Timestamp) -> Self {
        let (job, cost) = (view.id, view.state.cost);
        let mut progress = JobProgress::default();
        let (completed_at, error) = match &view.state.status {
            JobStatus::UnderWay { progress: known, .. } => {
                progress = *known;
                (None, None)
            }
            JobStatus::Completed(result) => (Some(result.resolved), None),
            JobStatus::Failed { failure, at } => {
                (Some(*at), Some(ApiError::Failed { failure: failure.clone(), job: Some(job) }))
            }
            JobStatus::Evicted => {
                progress.percent = Some(100);
                (None, Some(ApiError::ResultGone))
            }
        };
        let warnings = match &view.state.status {
            JobStatus::Completed(result) => {
                progress.percent = Some(100);
                warnings(result)
            }
            JobStatus::UnderWay { .. } | JobStatus::Failed { .. } | JobStatus::Evicted => Vec::new(),
        };
        Self {
            id: job.to_string(),
            object: "prediction",
            status: status_word(&view.state.status),
            task: task_word(view.task),
            model: view.model.as_str(),
            size: view.size.to_string(),
            quality: view.choices.quality(),
            n: view.n,
            inputs: view.inputs,
            created: view.created.seconds(),
            // An overdue job is expected now.
            expected_completion: progress.expected.map(|expected| rounded_up(expected.max(now))),
            progress: progress.percent,
            queue_position: progress.queue_position,
            completed_at: completed_at.map(Timestamp::seconds),
            cost_usd: cost.map(|cost| (cost.usd.0 * 1e6).round() / 1e6),
            cost_estimated: cost.is_some_and(|cost| cost.estimated),
            prompt: view.prompt.as_deref(),
            predictions: view.state.purchases.iter().map(crate::model::UpstreamId::as_str).collect(),
            result: None,
            error: error.map(SerializedError),
            warnings,
        }
    }

    /// Returns the object as JSON, before and after its result.
    pub(crate) fn around_result(&self) -> (StreamingBody, StreamingBody) {
        let json = serde_json::to_string(self).expect("strings and numbers make JSON");
        // The last one: foreign text comes before it, and the error after it has its quotes escaped.
        let at = json.rfind(NO_RESULT).expect("the object has a result") + NO_RESULT.len() - "null".len();
        let (head, tail) = (json[..at].to_owned(), json[at + "null".len()..].to_owned());
        (StreamingBody::default().text(head), StreamingBody::default().text(tail))
    }
}

/// Returns the word for a task in the objects of this API.
pub(crate) fn task_word(task: Task) -> &'static str {
    match task {
        Task::Edit => "edit",
        Task::Generate => "generation",
    }
}

/// Returns the word for the status of a job.
pub(crate) fn status_word(status: &JobStatus) -> &'static str {
    match status {
        JobStatus::UnderWay { stage: JobStage::Queued, .. } => "queued",
        JobStatus::UnderWay { stage: JobStage::Submitting, .. } => "submitting",
        JobStatus::UnderWay { stage: JobStage::Processing, .. } => "processing",
        JobStatus::Completed(_) | JobStatus::Evicted => "completed",
        JobStatus::Failed { failure: Failure::Abandoned, .. } => "cancelled",
        JobStatus::Failed { .. } => "failed",
    }
}

/// Returns a time in whole seconds, not before it: as the time that is left is rounded in headers.
fn rounded_up(time: Timestamp) -> i64 {
    time.plus(Duration::from_millis(999)).seconds()
}
