//! What an answer to a poll means. A status that the body names decides, whatever the HTTP status or the code in the
//! envelope; nothing else ends a purchase, which is paid for, but the same policy refusal several times running.

use std::time::Duration;

use reqwest::StatusCode;

use super::PollAnswer;
use crate::upstream::{PollError, Polled};

/// Decides what an answer to a poll means.
pub(in crate::upstream) fn meaning(
    status: StatusCode,
    retry_after: Option<Duration>,
    answer: PollAnswer,
) -> Result<Polled, PollError> {
    let trouble = |message: String| Err(PollError::Trouble { message });
    let failed = !status.is_success();
    match answer {
        PollAnswer::Other(id) => Err(PollError::OtherPrediction { id }),
        PollAnswer::Task(polled @ (Polled::Finished(_) | Polled::Failed(_)))
        | PollAnswer::Unnamed(polled @ (Polled::Finished(_) | Polled::Failed(_))) => Ok(polled),
        PollAnswer::Task(polled) | PollAnswer::Unnamed(polled) if !failed => Ok(polled),
        _ if status == StatusCode::TOO_MANY_REQUESTS => Err(PollError::Refused { retry_after }),
        PollAnswer::Task(Polled::Working) => Ok(Polled::Working),
        PollAnswer::Error(text) => {
            let code = if failed { status } else { text.code.unwrap_or(status) };
            if code.is_client_error() && text.is_policy() {
                return Err(PollError::Moderated { message: text.message });
            }
            trouble(text.message)
        }
        PollAnswer::Task(_) | PollAnswer::Unnamed(_) | PollAnswer::Unusable => {
            trouble(format!("HTTP {status} with an answer that is not from the service"))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::model::{Failure, UpstreamId};
    use crate::upstream::apis::{prediction, unified};

    type Read = fn(&[u8], &UpstreamId) -> PollAnswer;

    const READERS: [Read; 2] = [prediction::poll_answer, unified::poll_answer];

    fn by(read: Read, status: u16, body: &Value) -> Result<Polled, PollError> {
        let asked = UpstreamId::new("sora-2:task_1").unwrap();
        let answer = read(body.to_string().as_bytes(), &asked);
        meaning(StatusCode::from_u16(status).unwrap(), Some(Duration::from_secs(3)), answer)
    }

    fn polled(status: u16, body: &Value) -> Result<Polled, PollError> {
        by(prediction::poll_answer, status, body)
    }

    #[test]
    fn a_status_decides_whatever_the_codes_say() {
        for read in READERS {
            for status in [200, 400, 404, 429, 500, 503] {
                for (word, key) in [("failed", "status"), ("cancelled", "state"), ("FAILED", "state")] {
                    let failed = json!({"code": 500, "data": {"id": "task_1", key: word, "error": "boom"}});
                    let end = by(read, status, &failed);
                    assert!(
                        matches!(&end, Ok(Polled::Failed(Failure::TaskFailed { message })) if message == "boom"),
                        "{end:?}"
                    );
                }
            }
        }
        for (read, status) in READERS.into_iter().flat_map(|read| [200, 400, 500].map(|status| (read, status))) {
            let failed = json!({"status": "failed", "error": {"message": "boom"}});
            assert!(matches!(by(read, status, &failed), Ok(Polled::Failed(_))), "{status}");
        }
        for status in [200, 400, 500] {
            assert!(
                matches!(polled(status, &json!({"status": "failed", "data": null})), Ok(Polled::Failed(_))),
                "{status}"
            );
            let done = json!({"code": 400, "data": {"status": "done", "outputs": ["https://x.example/1.png"]}});
            assert!(matches!(polled(status, &done), Ok(Polled::Finished(_))), "{status}");
        }
        let working = json!({"code": 500, "message": "x", "data": {"id": "task_1", "status": "running"}});
        assert_eq!(polled(500, &working), Ok(Polled::Working));
    }

    #[test]
    fn an_error_of_the_service_is_no_end_of_the_task() {
        for status in [200, 400, 404, 500] {
            for error in [
                json!({"status": "error", "message": "busy", "code": 500}),
                json!({"status": "error", "message": "busy"}),
                json!({"error": {"message": "busy"}}),
                json!({"code": 404, "message": "no such task"}),
                json!({"status": "success", "code": 500, "message": "busy"}),
            ] {
                for read in READERS {
                    let got = by(read, status, &error);
                    assert!(matches!(got, Err(PollError::Trouble { .. })), "{status} {error} {got:?}");
                }
            }
        }
        let completed = json!({"data": {"id": "task_1", "status": "completed", "outputs": []}});
        assert_eq!(polled(200, &completed), Ok(Polled::Empty));
        assert!(matches!(polled(500, &completed), Err(PollError::Trouble { .. })), "it lags, or it breaks");
    }

    #[test]
    fn another_predictions_answer_is_not_taken() {
        let of = |id: Value| json!({"data": {"id": id, "status": "completed", "outputs": ["https://x.example/1.png"]}});
        for read in READERS {
            for status in [200, 404] {
                for other in [json!("task_2"), json!(7), json!("task_11")] {
                    let other = json!({"data": {"id": other, "status": "failed"}});
                    assert!(matches!(by(read, status, &other), Err(PollError::OtherPrediction { .. })), "{other}");
                }
            }
        }
        assert_eq!(polled(200, &of(json!("x"))), Err(PollError::OtherPrediction { id: "x".to_owned() }));
        for same in ["task_1", "sora-2:task_1"] {
            assert!(matches!(polled(200, &of(json!(same))), Ok(Polled::Finished(_))), "{same}");
        }
        let number = json!({"data": {"id": 17, "status": "running"}});
        let read = prediction::poll_answer(number.to_string().as_bytes(), &UpstreamId::new("17").unwrap());
        assert_eq!(read, PollAnswer::Task(Polled::Working));
    }

    #[test]
    fn a_refusal_for_policy_is_told_from_other_trouble() {
        let policy = json!({"error": {"message": "Input may not meet the guidelines.", "type": "503"}});
        let moderated = || Err(PollError::Moderated { message: "Input may not meet the guidelines.".to_owned() });
        assert_eq!(polled(400, &policy), moderated());
        assert_eq!(polled(200, &json!({"code": 400, "message": "Input may not meet the guidelines."})), moderated());
        assert!(matches!(polled(503, &policy), Err(PollError::Trouble { .. })));
    }

    #[test]
    fn a_429_asks_for_a_pause_unless_it_brings_an_end() {
        let refused = || Err(PollError::Refused { retry_after: Some(Duration::from_secs(3)) });
        for body in
            [json!({"error": {"message": "Too many requests"}}), json!({"data": {"id": "task_1", "status": "running"}})]
        {
            assert_eq!(polled(429, &body), refused(), "{body}");
        }
        assert_eq!(
            meaning(StatusCode::TOO_MANY_REQUESTS, Some(Duration::from_secs(3)), PollAnswer::Unusable),
            refused()
        );
    }
}
