//! The OpenAI-format endpoints: `POST /v1/images/edits` with files, `POST /v1/images/generations` with JSON.
//!
//! One call, held until the picture is made; its answer is the result, and names nothing to come back for. So the gap
//! between the last byte and the answer, in which nobody knows what was bought, is as long as the picture takes.
//!
//! The last byte held back is the last hyphen of the closing boundary: a form without it is incomplete for every reader,
//! also for one that acts before the declared length has arrived. So nothing may follow the boundary.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use base64_simd::STANDARD;
use bytes::{Bytes, BytesMut};
use serde::Deserialize;
use serde::de::{Deserializer, Visitor};
use serde_json::Value;

use super::classify::message_in;
use super::inputs::media_type;
use super::wire::{SubmitAnswer, base64, output_text, submit_answer, usage_of};
use super::{Finished, Output};
use crate::http::StreamingBody;
use crate::model::{Input, PictureRequest, Task, UpstreamApi, Usage};

/// A call as it leaves.
#[derive(Debug)]
pub(super) struct Form {
    pub(super) path: &'static str,
    pub(super) content_type: String,
    pub(super) body: StreamingBody,
}

/// The body of a call: what the vendor's table documents for the model, every parameter explicit.
pub(super) fn form(model: &str, face: &UpstreamApi, request: &PictureRequest, pictures: u8) -> Form {
    match request.task {
        Task::Edit => {
            let boundary = format!("gptproto-gateway-{:032x}", rand::random::<u128>());
            Form {
                path: "/v1/images/edits",
                content_type: format!("multipart/form-data; boundary={boundary}"),
                body: multipart(&boundary, model, face, request, pictures),
            }
        }
        Task::Generate => Form {
            path: "/v1/images/generations",
            content_type: "application/json".to_owned(),
            body: parameters(model, face, request, pictures).text("}"),
        },
    }
}

/// A JSON object, still open, with every parameter that a face takes; the unified one has the same.
pub(super) fn parameters(model: &str, face: &UpstreamApi, request: &PictureRequest, pictures: u8) -> StreamingBody {
    let name = face.name.as_deref().unwrap_or(model);
    let mut body = StreamingBody::default().text("{\"model\":").json(&name).text(",\"prompt\":").json(&request.prompt);
    body = body.text(",\"size\":").json(&request.size.to_string());
    if face.n_max.is_some() {
        body = body.text(",\"n\":").json(&pictures);
    }
    for (name, value) in face.parameters(request) {
        body = body.text(",").json(&name).text(":").json(&value);
    }
    body
}

fn multipart(boundary: &str, model: &str, face: &UpstreamApi, request: &PictureRequest, pictures: u8) -> StreamingBody {
    let size = request.size.to_string();
    let n = pictures.to_string();
    let name = face.name.as_deref().unwrap_or(model);
    let fixed = [("model", name), ("prompt", request.prompt.as_str()), ("size", size.as_str())];
    let n = face.n_max.map(|_| ("n", n.as_str()));
    let mut body = StreamingBody::default();
    for (name, value) in fixed.into_iter().chain(n).chain(face.parameters(request)) {
        let head = format!("--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n");
        body = body.text(head).text(value).text("\r\n");
    }
    let images =
        request.inputs.iter().enumerate().map(|(index, input)| ("image[]", format!("image-{}", index + 1), input));
    let mask = request.mask.iter().map(|mask| ("mask", "mask".to_owned(), mask));
    for (name, stem, input) in images.chain(mask) {
        body = file(body, boundary, name, &stem, input);
    }
    body.text(format!("--{boundary}--"))
}

/// Appends a picture as a file. Addresses do not come here: only files travel on this route (`model::Capabilities::links`).
fn file(body: StreamingBody, boundary: &str, name: &str, stem: &str, input: &Input) -> StreamingBody {
    let Input::Bytes { picture, source } = input else { return body };
    let extension = picture.format.map_or("bin", |format| format.name());
    let head = format!(
        "--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"; filename=\"{stem}.{extension}\"\r\n\
         Content-Type: {}\r\n\r\n",
        media_type(picture)
    );
    body.text(head).bare(Arc::clone(source)).text("\r\n")
}

/// The answer, with texts that point into it.
#[derive(Debug, Deserialize)]
struct Answer<'a> {
    #[serde(borrow, default)]
    data: Vec<Item<'a>>,
    #[serde(default)]
    usage: Option<Value>,
    #[serde(default)]
    error: Option<Value>,
}

#[derive(Debug, Deserialize)]
struct Item<'a> {
    #[serde(borrow, default)]
    b64_json: Option<Text<'a>>,
    #[serde(borrow, default)]
    url: Option<Text<'a>>,
}

/// A string of the answer, copied only where it has escapes.
#[derive(Debug)]
struct Text<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Borrowed;
        impl<'de> Visitor<'de> for Borrowed {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Borrowed)
    }
}

/// Where an output is.
#[derive(Debug)]
enum Place {
    /// Clean base64 within the answer, to be decoded where it is.
    Here(Range<usize>),
    Elsewhere(Output),
}

/// Reads the answer to a call, and decodes its pictures where they are: there may be hundreds of megabytes of them.
pub(super) fn answer(mut body: BytesMut) -> SubmitAnswer {
    let Some((places, usage)) = places(&body) else {
        // Not in the documented shape: whatever else it says.
        return match submit_answer(&body) {
            // An id would be one of another face's.
            SubmitAnswer::Accepted(_) => SubmitAnswer::Unusable,
            SubmitAnswer::Finished { finished, .. } => SubmitAnswer::Finished { named: None, finished },
            other @ (SubmitAnswer::Failed(_) | SubmitAnswer::Error { .. } | SubmitAnswer::Unusable) => other,
        };
    };
    let decoded: Vec<Place> = places
        .into_iter()
        .filter_map(|place| match place {
            Place::Here(range) => {
                let start = range.start;
                let length = STANDARD.decode_inplace(&mut body[range]).ok()?.len();
                Some(Place::Here(start..start + length))
            }
            elsewhere @ Place::Elsewhere(_) => Some(elsewhere),
        })
        .collect();
    let body: Bytes = body.freeze();
    let outputs = decoded.into_iter().map(|place| match place {
        Place::Here(range) => Output::Bytes(body.slice(range)),
        Place::Elsewhere(output) => output,
    });
    SubmitAnswer::Finished { named: None, finished: Finished { outputs: outputs.collect(), usage } }
}

/// The outputs of an answer in the documented shape, with its usage; `None` for any other answer, and for an error.
fn places(body: &[u8]) -> Option<(Vec<Place>, Option<Usage>)> {
    let Answer { data, usage, error } = serde_json::from_slice(body).ok()?;
    if error.as_ref().and_then(message_of_error).is_some() {
        return None;
    }
    let places: Vec<Place> = data.iter().filter_map(|item| place(body, item)).collect();
    (!places.is_empty()).then(|| (places, usage.as_ref().and_then(usage_of)))
}

fn message_of_error(error: &Value) -> Option<String> {
    error.as_str().map(str::to_owned).filter(|text| !text.is_empty()).or_else(|| message_in(error))
}

fn place(body: &[u8], item: &Item<'_>) -> Option<Place> {
    let Some(Text(text)) = &item.b64_json else {
        return item.url.as_ref().and_then(|Text(text)| output_text(text)).map(Place::Elsewhere);
    };
    let encoded = match text.strip_prefix("data:") {
        Some(rest) => rest.split_once(',')?.1,
        None => text,
    };
    // A text that was copied, or that is not clean, is decoded elsewhere.
    match text {
        Cow::Borrowed(_) if !encoded.is_empty() && STANDARD.check(encoded.as_bytes()).is_ok() => {
            let start = encoded.as_ptr() as usize - body.as_ptr() as usize;
            Some(Place::Here(start..start + encoded.len()))
        }
        Cow::Borrowed(_) | Cow::Owned(_) => base64(encoded).map(|bytes| Place::Elsewhere(Output::Bytes(bytes))),
    }
}

#[cfg(test)]
mod tests;
