//! Answers of arbitrary bytes: no panic, and no result that a second reading contradicts.

use bytes::BytesMut;

use super::{openai, prediction, unified};
use crate::model::UpstreamId;
use crate::upstream::Polled;
use crate::upstream::answer::error_text::message_of;
use crate::upstream::answer::{PollAnswer, SubmitAnswer};

/// Reads an answer to a submit, a poll, or an error.
///
/// # Panics
///
/// When two readings contradict each other.
pub fn answer(data: &[u8]) {
    let asked = UpstreamId::new("task_1").expect("it is plain");
    let polled = prediction::poll_answer(data, &asked);
    let finished = matches!(polled, PollAnswer::Task(Polled::Finished(_)) | PollAnswer::Unnamed(Polled::Finished(_)));
    let submitted = prediction::submit_answer(data);
    assert!(
        !(finished && matches!(submitted, SubmitAnswer::Unusable | SubmitAnswer::Error(_))),
        "pictures in a poll are pictures in a submit"
    );
    let _ = openai::answer(BytesMut::from(data));
    let _ = unified::answer(BytesMut::from(data));
    let _ = unified::poll_answer(data, &asked);
    let message = message_of(data);
    assert!(message.is_none_or(|message| !message.contains('\n')), "one line");
}
