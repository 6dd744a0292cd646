//! The streamed answer of the OpenAI-format endpoints: server-sent events (`image_edit.partial_image`,
//! `image_edit.completed`, the same of `image_generation`, `error`), or plain JSON from a service that does not stream.
//!
//! Partial pictures are dropped as they pass. A picture counts only if its event is complete, so a connection that is cut
//! afterwards loses nothing, and one that is cut before has an unknown outcome.

use std::ops::Range;

use bytes::BytesMut;
use reqwest::StatusCode;
use serde::Deserialize;
use serde_json::Value;

use super::{Item, Location, Text, location, outputs, submit_answer};
use crate::model::Usage;
use crate::upstream::Finished;
use crate::upstream::answer::error_text::task_failure;
use crate::upstream::answer::events::{PARTIAL, field};
use crate::upstream::answer::json::{self, SmallValue, bounded_list};
use crate::upstream::answer::{SubmitAnswer, usage_of};

/// Pictures of one answer that are read; more than any model makes.
const PICTURES_MAX: usize = 64;

/// The name of an event and the lines of its data.
#[derive(Debug, Default)]
struct Event {
    name: Range<usize>,
    data: Vec<Range<usize>>,
}

/// The data of an event, with strings that borrow from it.
#[derive(Debug, Deserialize)]
struct EventData<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Option<Text<'a>>,
    #[serde(borrow, default)]
    b64_json: Option<Text<'a>>,
    #[serde(borrow, default)]
    url: Option<Text<'a>>,
    /// In an event that is a plain answer.
    #[serde(borrow, default, deserialize_with = "bounded_list")]
    data: Vec<Item<'a>>,
    #[serde(default)]
    usage: Option<SmallValue>,
}

/// What the events of a stream say.
#[derive(Debug, Default)]
struct Outcome {
    pictures: Vec<Location>,
    usage: Option<Usage>,
    /// A partial picture was made.
    started: bool,
    /// The first event without a picture that says something, for instance an error.
    other: Option<SubmitAnswer>,
}

/// Reads the answer to a streamed submit, and decodes its pictures in place.
pub(in crate::upstream) fn answer(body: BytesMut) -> SubmitAnswer {
    let is_stream =
        ["event", "data", "id", "retry", ""].iter().any(|name| field(body.trim_ascii_start(), name).is_some());
    if !is_stream {
        return super::answer(body);
    }
    let Outcome { pictures, usage, started, other } = read(&body);
    match other {
        _ if !pictures.is_empty() => {
            let finished = Finished { outputs: outputs(body, pictures), usage };
            SubmitAnswer::Finished { prediction: None, finished }
        }
        // Pictures were being made, so the task has failed; it may be billed.
        Some(SubmitAnswer::Error(text)) if started => SubmitAnswer::Failed(task_failure(text.message)),
        Some(other) => other,
        None => SubmitAnswer::Unusable,
    }
}

/// Reads the events one after the other. The last one counts also without the empty line that ends it.
fn read(body: &[u8]) -> Outcome {
    let mut outcome = Outcome::default();
    let mut event = Event::default();
    let mut start = 0;
    for line in body.split_inclusive(|&byte| byte == b'\n') {
        let text = line.strip_suffix(b"\n").unwrap_or(line);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        // A value ends where its line does.
        let range = |value: &[u8]| start + text.len() - value.len()..start + text.len();
        if text.is_empty() {
            outcome.add(body, &std::mem::take(&mut event));
        } else if let Some(name) = field(text, "event") {
            event.name = range(name);
        } else if let Some(data) = field(text, "data") {
            event.data.push(range(data));
        }
        start += line.len();
    }
    outcome.add(body, &event);
    outcome
}

impl Outcome {
    fn add(&mut self, body: &[u8], Event { name, data }: &Event) {
        let name = String::from_utf8_lossy(&body[name.clone()]);
        match &data[..] {
            [] => self.started |= name.ends_with(PARTIAL),
            [line] => self.add_data(&name, &body[line.clone()], |item| location(body, item)),
            lines => {
                let joined = lines.iter().map(|line| &body[line.clone()]).collect::<Vec<_>>().join(&b'\n');
                self.add_data(&name, &joined, separate);
            }
        }
    }

    fn add_data(&mut self, name: &str, data: &[u8], locate: impl Fn(&Item<'_>) -> Option<Location>) {
        let Ok(EventData { kind, b64_json, url, data: items, usage }) = serde_json::from_slice(data) else {
            // Of another form, or no JSON: `[DONE]`, and an event that was cut.
            self.started |= name.ends_with(PARTIAL);
            self.other = self.other.take().or_else(|| without_picture(data));
            return;
        };
        let kind = kind.as_ref().map_or(name, |Text(kind)| kind);
        if kind.ends_with(PARTIAL) {
            self.started = true;
            return;
        }
        let own = Item { b64_json, url };
        let located: Vec<Location> = std::iter::once(&own).chain(&items).filter_map(locate).collect();
        if located.is_empty() {
            self.other = self.other.take().or_else(|| without_picture(data));
            return;
        }
        self.pictures.extend(located);
        self.pictures.truncate(PICTURES_MAX);
        // Whether it is of one picture or of all is not documented, so the largest counts.
        let usage = usage.as_ref().and_then(|SmallValue(usage)| usage_of(usage));
        self.usage = [self.usage.take(), usage].into_iter().flatten().max_by_key(|usage| usage.output_tokens);
    }
}

/// Reads an event without a picture as a plain answer; `None` where it says nothing.
fn without_picture(data: &[u8]) -> Option<SubmitAnswer> {
    let mut answer = submit_answer(data);
    if let SubmitAnswer::Error(text) = &mut answer
        && text.code.is_none()
        && !text.is_policy()
        && !is_of_request(data)
    {
        // The call was accepted as a stream, and nothing says that the service had not begun.
        text.code = Some(StatusCode::INTERNAL_SERVER_ERROR);
    }
    (answer != SubmitAnswer::Unusable).then_some(answer)
}

/// Whether an error is called one of the request.
fn is_of_request(data: &[u8]) -> bool {
    let data = json::parse(data).unwrap_or_default();
    let kind = data.pointer("/error/type").and_then(Value::as_str).unwrap_or_default();
    ["invalid_request", "user_error"].iter().any(|name| kind.contains(name))
}

/// Decodes an item that does not borrow from the answer.
fn separate(item: &Item<'_>) -> Option<Location> {
    let owned = |text: &Option<Text<'_>>| text.as_ref().map(|Text(text)| Text(text.clone().into_owned().into()));
    location(b"", &Item { b64_json: owned(&item.b64_json), url: owned(&item.url) })
}

#[cfg(test)]
mod tests;
