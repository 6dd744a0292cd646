//! What a response with pictures says of those that are not there, and of doubtful ones: the member `warnings`.

use serde::Serialize;

use crate::api::error::ApiError;
use crate::model::{Failure, JobResult};

/// A remark about the pictures of a response.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct ResultWarning {
    /// The code of the error that a request without any picture would have had (`src/api/error/errors.md`), or `inputs_unseen`.
    code: &'static str,
    /// What happened, whether it cost money, and what to do.
    message: String,
    /// The number of pictures that it concerns.
    pictures: usize,
}

impl ResultWarning {
    pub(in crate::api::response) fn message(&self) -> &str {
        &self.message
    }
}

/// Returns the error for a reason for which pictures of a result are missing.
fn error(result: &JobResult, failure: &Failure) -> ApiError {
    ApiError::Failed { failure: failure.clone(), job: Some(result.job) }
}

/// Returns the warnings of a result, those about missing pictures first.
pub(in crate::api::response) fn warnings(result: &JobResult) -> Vec<ResultWarning> {
    let missing = result.missing.iter().map(|missing| {
        let error = error(result, &missing.failure);
        ResultWarning { code: error.code(), message: error.to_string(), pictures: usize::from(missing.pictures) }
    });
    let unseen = result.inputs_unseen.then(|| ResultWarning {
        code: "inputs_unseen",
        message:
            "By the tokens that the image service reports, it made pictures without looking at the input pictures. \
                  They were paid for; the result answers no other request, and 'Cache-Control: no-cache' buys again."
                .to_owned(),
        pictures: result.pictures.len(),
    });
    missing.chain(unseen).collect()
}

/// Returns the error with which a stream ends that brought pictures, but not all of them: the most severe reason.
pub(in crate::api::response) fn incomplete(result: &JobResult) -> Option<ApiError> {
    let worst = Failure::most_severe(result.missing.iter().map(|missing| (&missing.failure, ())));
    worst.map(|(failure, ())| error(result, failure))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{JobId, MissingPictures, Timestamp};

    fn result(missing: Vec<MissingPictures>, inputs_unseen: bool) -> JobResult {
        let resolved = Timestamp::from_millis(1_790_000_000_000);
        JobResult {
            job: JobId::new(resolved, 1),
            model: "gpt-image-2".into(),
            purchases: Vec::new(),
            pictures: Vec::new(),
            missing,
            usage: None,
            inputs_unseen,
            resolved,
        }
    }

    fn of(pictures: u8, failure: Failure) -> MissingPictures {
        MissingPictures { pictures, failure }
    }

    #[test]
    fn each_reason_is_a_warning_with_the_text_of_its_error() {
        assert_eq!(warnings(&result(Vec::new(), false)), []);
        let unknown = Failure::OutcomeUnknown { message: "cut".to_owned() };
        let all = warnings(&result(vec![of(2, Failure::Stopping), of(1, unknown)], true));
        let codes: Vec<_> = all.iter().map(|warning| (warning.code, warning.pictures)).collect();
        assert_eq!(codes, [("stopping", 2), ("submission_outcome_unknown", 1), ("inputs_unseen", 0)]);
        assert!(all[0].message.contains("Nothing was bought") && all[1].message.contains("may have cost money"));
    }

    #[test]
    fn a_stream_ends_with_the_most_severe_reason() {
        let unknown = |message: &str| Failure::OutcomeUnknown { message: message.to_owned() };
        let last = |missing| incomplete(&result(missing, false)).map(|error| error.to_string());
        assert_eq!(last(Vec::new()), None);
        let all = vec![of(1, Failure::Stopping), of(1, unknown("first")), of(1, unknown("second"))];
        assert!(last(all).unwrap().contains("(first)"));
    }
}
