//! The answer to a chat completion, in the shape of OpenAI's chat API: one object, or the chunks of a stream.
//!
//! A chat program shows the text of the first choice, so all pictures stand there, whatever `n` is. They are Markdown with the
//! addresses of the results, because a program sends every text of a conversation again with each message, and not every
//! program shows a data URL. A client that asks for `modalities` with `image` reads `images` instead, beside an empty text: there
//! pictures are data URLs. No picture stands in both places, because the programs that read both would show it twice, and Cherry
//! Studio takes an address in `images` for base64.

use serde::Serialize;

use super::warnings::warnings;
use crate::api::error::ApiError;
use crate::api::request::response_options::{CompletionOptions, Conversion, PictureLocation, ResponseFormat};
use crate::api::response::converter::ReadyPicture;
use crate::api::response::signature::ResultUrls;
use crate::http::StreamingBody;
use crate::model::{Format, JobId, JobResult, ModelId, Timestamp, Usage};

/// What the answer to a chat completion says beside its pictures.
#[derive(Clone, Debug)]
pub(crate) struct Completion {
    options: CompletionOptions,
    model: ModelId,
    /// When the request was accepted.
    created: Timestamp,
}

/// How one picture is written.
#[derive(Clone, Copy, Debug)]
enum Style {
    /// `![image](…)`, within a JSON string.
    Markdown,
    /// `{"type":"image_url","image_url":{"url":"…"}}`.
    Part,
}

impl Completion {
    pub(crate) fn new(options: CompletionOptions, model: ModelId, created: Timestamp) -> Self {
        Self { options, model, created }
    }

    /// Whether pictures are sent as addresses.
    pub(crate) fn sends_addresses(&self) -> bool {
        self.options.response_format() == ResponseFormat::Url
    }

    /// Writes the whole answer as one JSON object.
    pub(crate) fn object(
        &self,
        result: &JobResult,
        pictures: Vec<ReadyPicture>,
        urls: &ResultUrls,
        conversion: Option<Conversion>,
    ) -> StreamingBody {
        let mut body =
            self.head(result.job, "chat.completion").text("\"message\":{\"role\":\"assistant\",\"content\":\"");
        let formats = pictures.iter().map(|picture| picture.format);
        let addresses = self.addresses(result.job, formats, urls, conversion);
        let (mut parts, mut first) = (StreamingBody::default(), true);
        for (index, picture) in pictures.into_iter().enumerate() {
            let separator = if first { "" } else { "," };
            match (self.options.location, addresses.get(index)) {
                (PictureLocation::Text, Some(address)) => {
                    body = body.text(paragraph(first)).then(picture_at(address, Style::Markdown));
                }
                (PictureLocation::Text, None) => {
                    body = body.text(paragraph(first)).then(picture_data(picture, Style::Markdown));
                }
                (PictureLocation::Images, Some(address)) => {
                    parts = parts.text(separator).then(picture_at(address, Style::Part));
                }
                (PictureLocation::Images, None) => {
                    parts = parts.text(separator).then(picture_data(picture, Style::Part));
                }
            }
            first = false;
        }
        let warnings = warnings(result);
        for warning in &warnings {
            body = body.text(inner_json(&format!("\n\n{}", warning.message())));
        }
        body = body.text("\",\"refusal\":null");
        if parts.length() > 0 {
            body = body.text(",\"images\":[").then(parts).text("]");
        }
        body = body.text("},\"logprobs\":null,\"finish_reason\":\"stop\"}]");
        if let Some(usage) = result.usage {
            body = body.text(",\"usage\":").json(&CompletionUsage::of(usage));
        }
        if !warnings.is_empty() {
            body = body.text(",\"warnings\":").json(&warnings);
        }
        body.text("}")
    }

    /// Writes the chunk with which a stream begins.
    pub(crate) fn first_chunk(&self, job: JobId) -> StreamingBody {
        self.chunk(job, StreamingBody::default().text("{\"role\":\"assistant\",\"content\":\"\"}"))
    }

    /// Writes the chunk of one picture that is sent as data.
    pub(crate) fn picture_chunk(&self, job: JobId, picture: ReadyPicture, first: bool) -> StreamingBody {
        let delta = StreamingBody::default();
        let delta = match self.options.location {
            PictureLocation::Text => delta
                .text("{\"content\":\"")
                .text(paragraph(first))
                .then(picture_data(picture, Style::Markdown))
                .text("\"}"),
            PictureLocation::Images => delta.text("{\"images\":[").then(picture_data(picture, Style::Part)).text("]}"),
        };
        self.chunk(job, delta)
    }

    /// Writes the chunks behind the pictures; those with the pictures first, where these are addresses.
    pub(crate) fn last_chunks(
        &self,
        result: &JobResult,
        urls: &ResultUrls,
        conversion: Option<Conversion>,
        error: Option<&ApiError>,
    ) -> StreamingBody {
        let job = result.job;
        let mut body = StreamingBody::default();
        // A picture that is too large for a conversion stays as it is stored, whatever its address says.
        let formats =
            result.pictures.iter().map(|picture| conversion.map_or(picture.format, |conversion| conversion.format));
        for (index, address) in self.addresses(job, formats, urls, conversion).iter().enumerate() {
            let delta = StreamingBody::default();
            let delta = match self.options.location {
                PictureLocation::Text => delta
                    .text("{\"content\":\"")
                    .text(paragraph(index == 0))
                    .then(picture_at(address, Style::Markdown))
                    .text("\"}"),
                PictureLocation::Images => {
                    delta.text("{\"images\":[").then(picture_at(address, Style::Part)).text("]}")
                }
            };
            body = body.then(self.chunk(job, delta));
        }
        if let Some(error) = error {
            return body.then(error_chunk(error));
        }
        let end =
            self.head(job, "chat.completion.chunk").text("\"delta\":{},\"logprobs\":null,\"finish_reason\":\"stop\"}]");
        body = body.text("data: ").then(end).text("}\n\n");
        if let Some(usage) = result.usage.filter(|_| self.options.include_usage) {
            body = body
                .text("data: ")
                .then(self.beginning(job, "chat.completion.chunk"))
                .text(",\"choices\":[],\"usage\":")
                .json(&CompletionUsage::of(usage))
                .text("}\n\n");
        }
        body.text("data: [DONE]\n\n")
    }

    /// Returns the addresses of pictures with these formats; none where pictures are sent as data.
    fn addresses(
        &self,
        job: JobId,
        formats: impl IntoIterator<Item = Format>,
        urls: &ResultUrls,
        conversion: Option<Conversion>,
    ) -> Vec<String> {
        if !self.sends_addresses() {
            return Vec::new();
        }
        let address = |(index, format)| {
            let made = conversion.filter(|conversion| conversion.format == format);
            urls.url(job, index, made.unwrap_or(Conversion::new(format, None)))
        };
        formats.into_iter().enumerate().map(address).collect()
    }

    fn chunk(&self, job: JobId, delta: StreamingBody) -> StreamingBody {
        let head = self.head(job, "chat.completion.chunk").text("\"delta\":");
        let tail = ",\"logprobs\":null,\"finish_reason\":null}]}\n\n";
        StreamingBody::default().text("data: ").then(head).then(delta).text(tail)
    }

    /// Writes an object up to the index of its only choice.
    fn head(&self, job: JobId, object: &str) -> StreamingBody {
        self.beginning(job, object).text(",\"choices\":[{\"index\":0,")
    }

    fn beginning(&self, job: JobId, object: &str) -> StreamingBody {
        let created = self.created.seconds();
        StreamingBody::default()
            .text(format!("{{\"id\":\"chatcmpl-{job}\",\"object\":\"{object}\",\"created\":{created},\"model\":"))
            .json(&self.model.as_str())
    }
}

/// Writes an error as OpenAI's chat streams do; the SDKs raise it.
pub(crate) fn error_chunk(error: &ApiError) -> StreamingBody {
    StreamingBody::default().text("data: ").json(&error.envelope()).text("\n\n")
}

/// Returns what separates a picture from the one before it in Markdown, within a JSON string.
fn paragraph(first: bool) -> &'static str {
    if first { "" } else { "\\n\\n" }
}

fn picture_at(address: &str, style: Style) -> StreamingBody {
    // A serialized URL has neither brackets nor white space that would end it in Markdown.
    let address = inner_json(&address.replace('(', "%28").replace(')', "%29"));
    around(style, StreamingBody::default().text(address))
}

fn picture_data(picture: ReadyPicture, style: Style) -> StreamingBody {
    let head = format!("data:{};base64,", picture.format.media_type());
    around(style, StreamingBody::default().text(head).base64(picture.source))
}

fn around(style: Style, address: StreamingBody) -> StreamingBody {
    let (before, behind) = match style {
        Style::Markdown => ("![image](", ")"),
        Style::Part => ("{\"type\":\"image_url\",\"image_url\":{\"url\":\"", "\"}}"),
    };
    StreamingBody::default().text(before).then(address).text(behind)
}

/// Returns a text as it stands within a JSON string.
fn inner_json(text: &str) -> String {
    let quoted = serde_json::to_string(text).expect("a string is JSON");
    quoted[1..quoted.len() - 1].to_owned()
}

/// Token counts in the shape of a chat completion.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct CompletionUsage {
    prompt_tokens: u64,
    completion_tokens: u64,
    total_tokens: u64,
    prompt_tokens_details: PromptTokens,
    completion_tokens_details: CompletionTokens,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct PromptTokens {
    cached_tokens: u64,
    /// Absent where the upstream does not report it.
    #[serde(skip_serializing_if = "Option::is_none")]
    image_tokens: Option<u64>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct CompletionTokens {
    reasoning_tokens: u64,
    image_tokens: u64,
}

impl CompletionUsage {
    fn of(usage: Usage) -> Self {
        let Usage { input_tokens, output_tokens, input_image_tokens } = usage;
        Self {
            prompt_tokens: input_tokens,
            completion_tokens: output_tokens,
            total_tokens: input_tokens.saturating_add(output_tokens),
            prompt_tokens_details: PromptTokens { cached_tokens: 0, image_tokens: input_image_tokens },
            completion_tokens_details: CompletionTokens { reasoning_tokens: 0, image_tokens: output_tokens },
        }
    }
}
