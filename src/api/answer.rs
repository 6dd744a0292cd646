//! The answer with pictures, in the shape of OpenAI's recorded ones (`wire/openai.md` §2): resolved values, never
//! `auto`; `usage` complete or absent; never `url` and `b64_json` in one item.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::http::header::{AGE, CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::Response;
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use serde::Serialize;
use url::Url;

use super::conversion::Conversion;
use super::error::name_predictions;
use super::presenter::Presented;
use super::signature::Signer;
use super::validate::{Presentation, ResponseFormat};
use crate::engine::{AnswerSource, Waiter};
use crate::http::StreamingBody;
use crate::model::{JobId, JobResult, PictureRequest, Task, Timestamp, Usage};
use crate::server::connection::ConnectionHandle;

const CACHE: HeaderName = HeaderName::from_static("x-gateway-cache");
const DROPPED: HeaderName = HeaderName::from_static("x-gateway-dropped");
/// Pictures that were asked for and did not come, because one of several purchases failed.
const MISSING: HeaderName = HeaderName::from_static("x-gateway-missing");

/// What of a request the answer repeats.
#[derive(Debug)]
pub(super) struct Shape {
    task: Task,
    choices: BTreeMap<String, String>,
    presentation: Presentation,
}

impl Shape {
    pub(super) fn of(request: &PictureRequest, presentation: Presentation) -> Self {
        Self::new(request.task, request.choices.clone(), presentation)
    }

    pub(super) fn new(task: Task, choices: BTreeMap<String, String>, presentation: Presentation) -> Self {
        Self { task, choices, presentation }
    }

    pub(super) fn presentation(&self) -> &Presentation {
        &self.presentation
    }

    /// What the pictures are to be converted to.
    pub(super) fn conversion(&self) -> Option<Conversion> {
        self.presentation.conversion
    }
}

/// Makes the addresses of results.
#[derive(Clone, Debug)]
pub(super) struct Addresses {
    pub(super) signer: Signer,
    pub(super) base: Url,
    pub(super) now: Timestamp,
    pub(super) ttl: Duration,
}

impl Addresses {
    fn of(&self, job: JobId, index: usize, conversion: Option<Conversion>) -> Url {
        self.signer.address(&self.base, job, index, conversion, self.now, self.ttl)
    }
}

/// Pictures on their way to a client.
#[derive(Debug)]
pub(super) struct Answer<'a> {
    pub(super) shape: &'a Shape,
    pub(super) delivery: &'a JobResult,
    /// Ready to leave, in the order of `delivery.pictures`.
    pub(super) pictures: Vec<Presented>,
    pub(super) waiter: Waiter,
    /// The connection it goes to.
    pub(super) wire: ConnectionHandle,
}

impl Answer<'_> {
    /// The whole answer; its body produces the base64 as it leaves.
    pub(super) fn into_response(self, addresses: &Addresses) -> Response {
        let payload = self.shape.whole(self.delivery, self.pictures, addresses);
        delivering(payload, self.delivery, self.waiter, self.wire)
    }
}

/// Answers with JSON that brings all pictures of an order; the engine learns when it has reached somebody.
pub(super) fn delivering(
    payload: StreamingBody,
    delivery: &JobResult,
    waiter: Waiter,
    wire: ConnectionHandle,
) -> Response {
    let length = payload.length();
    let mut response = Response::new(Body::new(Delivered { payload, waiter: Some(waiter), wire }));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    name_predictions(headers, &delivery.purchases);
    if delivery.missing > 0 {
        headers.insert(MISSING, HeaderValue::from(u16::from(delivery.missing)));
    }
    response
}

/// Says where an answer comes from, and what of the request it does not honour.
pub(super) fn note_origin(headers: &mut HeaderMap, origin: AnswerSource, dropped: &[String]) {
    headers.insert(CACHE, HeaderValue::from_static(cache_word(origin)));
    if let AnswerSource::Hit(age) = origin {
        headers.insert(AGE, HeaderValue::from(age.as_secs()));
    }
    if let Ok(dropped) = HeaderValue::from_str(&dropped.join(","))
        && !dropped.is_empty()
    {
        headers.insert(DROPPED, dropped);
    }
}

impl Shape {
    fn background(&self) -> &str {
        self.choices.get("background").map_or("opaque", String::as_str)
    }

    /// The whole answer as one JSON object.
    pub(super) fn whole(&self, delivery: &JobResult, pictures: Vec<Presented>, addresses: &Addresses) -> StreamingBody {
        let first = pictures.first().map(|picture| (picture.format, picture.width, picture.height));
        let head = format!("{{\"created\":{},\"background\":", delivery.resolved.seconds());
        let mut payload = StreamingBody::default().text(head).json(&self.background()).text(",\"data\":[");
        for (index, picture) in pictures.into_iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            payload = match self.presentation.response_format {
                ResponseFormat::B64Json => {
                    payload.text(format!("{comma}{{\"b64_json\":\"")).base64(picture.source).text("\"}")
                }
                ResponseFormat::Url => {
                    let address = addresses.of(delivery.job, index, self.conversion());
                    payload.text(format!("{comma}{{\"url\":")).json(&address).text("}")
                }
            };
        }
        payload = payload.text("]");
        if let Some((format, _, _)) = first {
            payload = payload.text(format!(",\"output_format\":\"{}\"", format.name()));
        }
        if let Some(quality) = self.choices.get("quality") {
            payload = payload.text(",\"quality\":").json(quality);
        }
        if let Some((_, width, height)) = first {
            payload = payload.text(format!(",\"size\":\"{width}x{height}\""));
        }
        if let Some(identifier) = &self.presentation.safety_identifier {
            payload = payload.text(",\"safety_identifier\":").json(identifier);
        }
        if let Some(usage) = delivery.usage.and_then(|usage| WireUsage::of(usage, self.task)) {
            payload = payload.text(",\"usage\":").json(&usage);
        }
        payload.text("}")
    }

    /// One `completed` event. Its schema requires every field: tokens nobody told are zero there, and a quality that the
    /// model does not have is `auto`.
    pub(super) fn completed(&self, picture: Presented, usage: Option<Usage>, created: Timestamp) -> StreamingBody {
        let name = match self.task {
            Task::Edit => "image_edit.completed",
            Task::Generate => "image_generation.completed",
        };
        let Presented { source, width, height, format } = picture;
        let mut payload = StreamingBody::default()
            .text(format!("event: {name}\ndata: {{\"type\":\"{name}\",\"b64_json\":\""))
            .base64(source)
            .text(format!("\",\"created_at\":{},\"size\":\"{width}x{height}\"", created.seconds()))
            .text(",\"quality\":")
            .json(&self.choices.get("quality").map_or("auto", String::as_str))
            .text(",\"background\":")
            .json(&self.background())
            .text(format!(",\"output_format\":\"{}\"", format.name()));
        if let Some(identifier) = &self.presentation.safety_identifier {
            payload = payload.text(",\"safety_identifier\":").json(identifier);
        }
        payload.text(",\"usage\":").json(&EventUsage::of(usage.unwrap_or_default(), self.task)).text("}\n\n")
    }
}

/// What `x-gateway-cache` says.
pub(super) fn cache_word(origin: AnswerSource) -> &'static str {
    match origin {
        AnswerSource::Hit(_) => "hit",
        AnswerSource::Joined => "joined",
        AnswerSource::Bought => "miss",
        AnswerSource::Bypass => "bypass",
    }
}

/// Tokens in OpenAI's shape, all of whose fields strict clients insist on.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct WireUsage {
    input_tokens: u64,
    input_tokens_details: TokenDetails,
    output_tokens: u64,
    output_tokens_details: TokenDetails,
    total_tokens: u64,
}

/// Tokens in the shape of an event.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct EventUsage {
    total_tokens: u64,
    input_tokens: u64,
    output_tokens: u64,
    input_tokens_details: TokenDetails,
}

impl EventUsage {
    fn of(usage: Usage, task: Task) -> Self {
        let unknown = TokenDetails { image_tokens: 0, text_tokens: 0 };
        Self {
            total_tokens: usage.input_tokens.saturating_add(usage.output_tokens),
            input_tokens: usage.input_tokens,
            output_tokens: usage.output_tokens,
            input_tokens_details: WireUsage::of(usage, task).map_or(unknown, |usage| usage.input_tokens_details),
        }
    }
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct TokenDetails {
    image_tokens: u64,
    text_tokens: u64,
}

impl WireUsage {
    /// `None` where the upstream does not say how many of the input tokens are a picture's: nothing is made up.
    fn of(usage: Usage, task: Task) -> Option<Self> {
        let images = match task {
            Task::Generate => usage.input_image_tokens.unwrap_or(0),
            Task::Edit => usage.input_image_tokens?,
        };
        Some(Self {
            input_tokens: usage.input_tokens,
            input_tokens_details: TokenDetails {
                image_tokens: images,
                text_tokens: usage.input_tokens.saturating_sub(images),
            },
            output_tokens: usage.output_tokens,
            output_tokens_details: TokenDetails { image_tokens: usage.output_tokens, text_tokens: 0 },
            total_tokens: usage.input_tokens.saturating_add(usage.output_tokens),
        })
    }
}

/// A body that tells the engine when all of it was written to a connection that was still there.
#[derive(Debug)]
struct Delivered {
    payload: StreamingBody,
    waiter: Option<Waiter>,
    wire: ConnectionHandle,
}

impl HttpBody for Delivered {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<std::io::Result<Frame<Bytes>>>> {
        Pin::new(&mut self.payload).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.payload.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.payload.size_hint()
    }
}

impl Drop for Delivered {
    fn drop(&mut self) {
        // Dropped with bytes left means that the connection went away.
        if self.payload.is_end_stream()
            && let Some(waiter) = self.waiter.take()
        {
            waiter.delivered(self.wire.written());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_is_complete_or_absent() {
        let usage = |input_image_tokens| Usage { input_tokens: 239, output_tokens: 1056, input_image_tokens };
        assert_eq!(WireUsage::of(usage(None), Task::Edit), None);
        insta::assert_json_snapshot!(WireUsage::of(usage(Some(194)), Task::Edit), @r#"
        {
          "input_tokens": 239,
          "input_tokens_details": {
            "image_tokens": 194,
            "text_tokens": 45
          },
          "output_tokens": 1056,
          "output_tokens_details": {
            "image_tokens": 1056,
            "text_tokens": 0
          },
          "total_tokens": 1295
        }
        "#);
    }
}
