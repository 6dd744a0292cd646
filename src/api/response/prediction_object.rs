//! The prediction object: a job as its owner sees it.

use serde::{Serialize, Serializer};

use super::image_response::warnings::{ResultWarning, warnings};
use crate::api::error::ApiError;
use crate::engine::{JobStage, JobStatus, JobView};
use crate::http::StreamingBody;
use crate::model::{Failure, JobId, Task, Timestamp};

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
    created: i64,
    expected_completion: Option<i64>,
    completed_at: Option<i64>,
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
    pub(crate) fn of(job: JobId, view: &'a JobView, now: Timestamp) -> Self {
        let (status, expected, completed_at, error) = match &view.status {
            JobStatus::UnderWay { stage, expected } => (status_word(*stage), *expected, None, None),
            JobStatus::Completed(result) => ("completed", None, Some(result.resolved), None),
            JobStatus::Failed { failure, at } => {
                let cancelled = matches!(failure, Failure::Abandoned);
                let error = ApiError::Failed { failure: failure.clone(), job: Some(job) };
                (if cancelled { "cancelled" } else { "failed" }, None, Some(*at), Some(error))
            }
            JobStatus::Evicted => ("completed", None, None, Some(ApiError::ResultGone)),
        };
        let warnings = match &view.status {
            JobStatus::Completed(result) => warnings(result),
            JobStatus::UnderWay { .. } | JobStatus::Failed { .. } | JobStatus::Evicted => Vec::new(),
        };
        Self {
            id: job.to_string(),
            object: "prediction",
            status,
            task: match view.task {
                Task::Edit => "edit",
                Task::Generate => "generation",
            },
            model: view.model.as_str(),
            created: view.created.seconds(),
            // An overdue job is expected now.
            expected_completion: expected.map(|expected| expected.max(now).seconds()),
            completed_at: completed_at.map(Timestamp::seconds),
            predictions: view.purchases.iter().map(crate::model::UpstreamId::as_str).collect(),
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

fn status_word(stage: JobStage) -> &'static str {
    match stage {
        JobStage::Queued => "queued",
        JobStage::Submitting => "submitting",
        JobStage::Processing => "processing",
    }
}
