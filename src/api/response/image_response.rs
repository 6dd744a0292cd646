//! The response with pictures, in the shape OpenAI's API returns (`src/README.md`): resolved values, never `auto`; `usage`
//! complete or absent; never `url` and `b64_json` in one item.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::http::HeaderValue;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::response::Response;
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use serde::Serialize;

use super::converter::ReadyPicture;
use super::signature::ResultUrls;
use crate::api::request::response_options::{Conversion, ResponseFormat, ResponseOptions};
use crate::engine::Waiter;
use crate::http::StreamingBody;
use crate::http::gateway_headers::{name_job, qualify_result};
use crate::model::{Choices, JobResult, PictureRequest, StoredPicture, Task, Timestamp, Usage};
use crate::server::connection::ConnectionHandle;
use completion::Completion;
use warnings::warnings;

pub(in crate::api) mod completion;
pub(super) mod warnings;

/// The part of a request that its response repeats.
#[derive(Debug)]
pub(crate) struct ResponseShape {
    task: Task,
    /// What the endpoint is for, after which events are named: a generation with pictures is an edit.
    endpoint: Task,
    choices: Choices,
    options: ResponseOptions,
    /// The response is a chat completion.
    completion: Option<Completion>,
}

impl ResponseShape {
    pub(crate) fn of(request: &PictureRequest, options: ResponseOptions) -> Self {
        Self::new(request.task, request.choices.clone(), options)
    }

    pub(crate) fn new(task: Task, choices: Choices, options: ResponseOptions) -> Self {
        Self { task, endpoint: task, choices, options, completion: None }
    }

    /// Names events as this endpoint does.
    pub(crate) fn at_endpoint(self, endpoint: Task) -> Self {
        Self { endpoint, ..self }
    }

    /// The same as the answer to a chat completion.
    pub(crate) fn with_completion(self, completion: Completion) -> Self {
        Self { completion: Some(completion), ..self }
    }

    pub(crate) fn completion(&self) -> Option<&Completion> {
        self.completion.as_ref()
    }

    pub(crate) fn options(&self) -> &ResponseOptions {
        &self.options
    }

    /// Returns what the pictures are to be converted to.
    pub(crate) fn conversion(&self) -> Option<Conversion> {
        self.options.conversion
    }

    fn background(&self) -> &str {
        self.choices.background().unwrap_or("opaque")
    }

    /// Writes the whole result as one JSON object; its body encodes the base64 as it leaves.
    pub(crate) fn object(&self, result: &JobResult, pictures: Vec<ReadyPicture>, urls: &ResultUrls) -> StreamingBody {
        match &self.completion {
            Some(completion) => completion.object(result, pictures, urls, self.conversion()),
            None => self.image_object(result, pictures, urls),
        }
    }

    /// Writes the whole result with the addresses of its pictures, which are not opened.
    pub(crate) fn addresses(&self, result: &JobResult, urls: &ResultUrls) -> StreamingBody {
        let unopened = |picture: &StoredPicture| {
            let StoredPicture { format, width, height, .. } = *picture;
            ReadyPicture { source: Arc::new(Bytes::new()), format, width, height }
        };
        self.image_object(result, result.pictures.iter().map(unopened).collect(), urls)
    }

    fn image_object(&self, result: &JobResult, pictures: Vec<ReadyPicture>, urls: &ResultUrls) -> StreamingBody {
        let first = pictures.first().map(|picture| (picture.format, picture.width, picture.height));
        let mut body = StreamingBody::default()
            .format(format_args!("{{\"created\":{},\"background\":", result.resolved.seconds()))
            .json(&self.background())
            .text(",\"data\":[");
        for (index, picture) in pictures.into_iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            body = match self.options.response_format {
                ResponseFormat::B64Json => body.text(comma).text("{\"b64_json\":\"").base64(picture.source).text("\"}"),
                ResponseFormat::Url => {
                    let made = self.conversion().filter(|conversion| conversion.format == picture.format);
                    let conversion = made.unwrap_or(Conversion::new(picture.format, None));
                    let url = urls.url(result.job, index, conversion);
                    body.text(comma).text("{\"url\":").json(&url).text("}")
                }
            };
        }
        body = body.text("]");
        if let Some((format, _, _)) = first {
            body = body.text(",\"output_format\":\"").text(format.name()).text("\"");
        }
        if let Some(quality) = self.choices.quality() {
            body = body.text(",\"quality\":").json(&quality);
        }
        if let Some((_, width, height)) = first {
            body = body.format(format_args!(",\"size\":\"{width}x{height}\""));
        }
        if let Some(identifier) = &self.options.safety_identifier {
            body = body.text(",\"safety_identifier\":").json(identifier);
        }
        if let Some(usage) = result.usage.and_then(|usage| UsageObject::of(usage, self.task)) {
            body = body.text(",\"usage\":").json(&usage);
        }
        let warnings = warnings(result);
        if !warnings.is_empty() {
            body = body.text(",\"warnings\":").json(&warnings);
        }
        body.text("}")
    }

    /// Writes one `completed` event. Its schema requires every field: unknown token counts are zero, and the quality of a
    /// model without quality is `auto`.
    pub(crate) fn completed_event(
        &self,
        picture: ReadyPicture,
        usage: Option<Usage>,
        created: Timestamp,
    ) -> StreamingBody {
        let name = match self.endpoint {
            Task::Edit => "image_edit.completed",
            Task::Generate => "image_generation.completed",
        };
        let ReadyPicture { source, width, height, format } = picture;
        let mut body = StreamingBody::default()
            .format(format_args!("event: {name}\ndata: {{\"type\":\"{name}\",\"b64_json\":\""))
            .base64(source)
            .format(format_args!("\",\"created_at\":{},\"size\":\"{width}x{height}\"", created.seconds()))
            .text(",\"quality\":")
            .json(&self.choices.quality().unwrap_or("auto"))
            .text(",\"background\":")
            .json(&self.background())
            .format(format_args!(",\"output_format\":\"{}\"", format.name()));
        if let Some(identifier) = &self.options.safety_identifier {
            body = body.text(",\"safety_identifier\":").json(identifier);
        }
        body.text(",\"usage\":").json(&EventUsage::of(usage.unwrap_or_default(), self.task)).text("}\n\n")
    }
}

/// Builds a JSON response that brings all pictures of a job; the engine is notified once it has reached the client.
pub(crate) fn deliver(
    body: StreamingBody,
    result: &JobResult,
    waiter: Waiter,
    connection: ConnectionHandle,
) -> Response {
    let length = body.length();
    let mut response = Response::new(Body::new(DeliveryBody { body, waiter: Some(waiter), connection }));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    name_job(headers, result.job, &result.purchases);
    qualify_result(headers, result);
    response
}

/// Token counts in OpenAI's shape; strict clients require all fields.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct UsageObject {
    input_tokens: u64,
    input_tokens_details: TokenDetails,
    output_tokens: u64,
    output_tokens_details: TokenDetails,
    total_tokens: u64,
}

/// Token counts in the shape of an event.
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
            input_tokens_details: UsageObject::of(usage, task).map_or(unknown, |usage| usage.input_tokens_details),
        }
    }
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct TokenDetails {
    image_tokens: u64,
    text_tokens: u64,
}

impl UsageObject {
    /// Returns `None` where the upstream does not report how many input tokens are a picture's: nothing is invented.
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

/// A body that notifies the engine once all of it was written to a connection that was still open.
#[derive(Debug)]
struct DeliveryBody {
    body: StreamingBody,
    waiter: Option<Waiter>,
    connection: ConnectionHandle,
}

impl HttpBody for DeliveryBody {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<std::io::Result<Frame<Bytes>>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for DeliveryBody {
    fn drop(&mut self) {
        // A body dropped before its end belongs to a connection that has closed.
        if self.body.is_end_stream()
            && let Some(waiter) = self.waiter.take()
        {
            waiter.delivered(self.connection.written());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_is_complete_or_absent() {
        let usage = |input_image_tokens| Usage { input_tokens: 239, output_tokens: 1056, input_image_tokens };
        assert_eq!(UsageObject::of(usage(None), Task::Edit), None);
        insta::assert_json_snapshot!(UsageObject::of(usage(Some(194)), Task::Edit), @r#"
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
