//! Answers of arbitrary bytes: no panic, and no result that a second reading contradicts.

use bytes::BytesMut;

use super::Polled;
use super::answer::SubmitAnswer;
use super::apis::{openai, prediction, unified};
use super::classify::message_of;

/// Reads an answer to a submit, a poll, or an error.
///
/// # Panics
///
/// When two readings contradict each other.
pub fn answer(data: &[u8]) {
    let finished = matches!(prediction::poll_answer(data), Some(Polled::Finished(_)));
    let unusable = matches!(prediction::submit_answer(data), SubmitAnswer::Unusable);
    assert!(!(finished && unusable), "pictures in a poll are pictures in a submit");
    let _ = openai::answer(BytesMut::from(data));
    let _ = unified::answer(BytesMut::from(data));
    let _ = unified::poll_answer(data);
    let message = message_of(data);
    assert!(message.is_none_or(|message| !message.contains('\n')), "one line");
}
