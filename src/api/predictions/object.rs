//! The prediction object: one order as its owner is told of it.

use serde::{Serialize, Serializer};

use super::super::error::ApiError;
use crate::engine::{JobStage, JobStatus, JobView};
use crate::http::StreamingBody;
use crate::model::{Failure, JobId, Task, Timestamp};

/// One order. Times are in seconds since 1970. Its `result` is the answer that a synchronous request would have got, and
/// is written by whoever has the pictures.
#[derive(Debug, Serialize)]
pub(super) struct OrderObject<'a> {
    id: String,
    object: &'static str,
    /// `queued`, `submitting`, `processing`, `completed`, `failed` or `cancelled`.
    status: &'static str,
    task: &'static str,
    model: &'a str,
    created: i64,
    expected_completion: Option<i64>,
    completed_at: Option<i64>,
    /// The upstream's names for the purchases that fulfil it.
    predictions: Vec<&'a str>,
    /// Never anything but null here.
    result: Option<()>,
    error: Option<Told>,
}

/// OpenAI's error object.
#[derive(Debug)]
struct Told(ApiError);

impl Serialize for Told {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.object().serialize(serializer)
    }
}

/// What stands in the place of the result.
const NO_RESULT: &str = "\"result\":null";

impl<'a> OrderObject<'a> {
    pub(super) fn of(job: JobId, look: &'a JobView, now: Timestamp) -> Self {
        let (status, expected, completed_at, error) = match &look.status {
            JobStatus::UnderWay { stage, expected } => (word(*stage), *expected, None, None),
            JobStatus::Completed(delivery) => ("completed", None, Some(delivery.resolved), None),
            JobStatus::Failed { failure, at } => {
                let cancelled = matches!(failure, Failure::Abandoned);
                let error = ApiError::Failed { failure: failure.clone(), job: Some(job) };
                (if cancelled { "cancelled" } else { "failed" }, None, Some(*at), Some(error))
            }
            JobStatus::Evicted => ("completed", None, None, Some(ApiError::ResultGone)),
        };
        Self {
            id: job.to_string(),
            object: "prediction",
            status,
            task: match look.task {
                Task::Edit => "edit",
                Task::Generate => "generation",
            },
            model: look.model.as_str(),
            created: look.created.seconds(),
            // What is overdue is expected now.
            expected_completion: expected.map(|expected| expected.max(now).seconds()),
            completed_at: completed_at.map(Timestamp::seconds),
            predictions: look.purchases.iter().map(crate::model::UpstreamId::as_str).collect(),
            result: None,
            error: error.map(Told),
        }
    }

    /// The object as JSON, up to its result and from there on.
    pub(super) fn around_result(&self) -> (StreamingBody, StreamingBody) {
        let json = serde_json::to_string(self).expect("our own values are JSON");
        // The last one: what comes before it may be anybody's text, what follows is an error with quotes escaped.
        let at = json.rfind(NO_RESULT).expect("the object has a result") + NO_RESULT.len() - "null".len();
        let (head, tail) = (json[..at].to_owned(), json[at + "null".len()..].to_owned());
        (StreamingBody::default().text(head), StreamingBody::default().text(tail))
    }
}

fn word(stage: JobStage) -> &'static str {
    match stage {
        JobStage::Queued => "queued",
        JobStage::Submitting => "submitting",
        JobStage::Processing => "processing",
    }
}
