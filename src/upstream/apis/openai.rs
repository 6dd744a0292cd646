//! The OpenAI-format endpoints: `POST /v1/images/edits` with files, `POST /v1/images/generations` with JSON.
//!
//! One call that is held until the picture is made. Its answer is the result, and names no prediction to poll. So the time
//! between the last byte and the answer, in which the outcome is unknown, is as long as the picture takes.
//!
//! The last byte, which is held back, is the last hyphen of the closing boundary: without it a form is incomplete for every
//! reader, also for one that acts before the declared length has arrived. So nothing may follow the boundary.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use base64_simd::STANDARD;
use bytes::{Bytes, BytesMut};
use serde::Deserialize;
use serde::de::{Deserializer, Visitor};
use serde_json::Value;

use super::parameters::parameters;
use super::prediction::submit_answer;
use crate::http::StreamingBody;
use crate::model::{Input, PictureRequest, Task, UpstreamApi, Usage};
use crate::upstream::answer::error_text::message_in;
use crate::upstream::answer::events::PARTIAL_IMAGES;
use crate::upstream::answer::json::{SmallValue, bounded_list};
use crate::upstream::answer::{SubmitAnswer, base64, output_text, usage_of};
use crate::upstream::formats::{InputMethod, RequestFormat};
use crate::upstream::inputs::media_type;
use crate::upstream::{Finished, Output};

/// The path and body of a submit.
#[derive(Debug)]
pub(in crate::upstream) struct Form {
    pub(in crate::upstream) path: &'static str,
    pub(in crate::upstream) content_type: String,
    pub(in crate::upstream) body: StreamingBody,
}

pub(in crate::upstream) mod stream;

/// Builds a submit in its format, with every parameter explicit that the format does not leave out.
///
/// # Errors
///
/// Why the request cannot be written in this format, as the end of a sentence.
pub(in crate::upstream) fn form(
    model: &str,
    api: &UpstreamApi,
    request: &PictureRequest,
    pictures: u8,
    format: &RequestFormat,
) -> Result<Form, &'static str> {
    Ok(match request.task {
        Task::Edit => {
            let boundary = format!("gptproto-gateway-{:032x}", rand::random::<u128>());
            Form {
                path: "/v1/images/edits",
                content_type: format!("multipart/form-data; boundary={boundary}"),
                body: multipart(&boundary, model, api, request, pictures, format)?,
            }
        }
        Task::Generate => Form {
            path: "/v1/images/generations",
            content_type: "application/json".to_owned(),
            body: json_object(model, api, request, pictures, format)?.text("}"),
        },
    })
}

/// Begins a JSON object with every parameter that an API takes; the unified one has the same.
pub(super) fn json_object(
    model: &str,
    api: &UpstreamApi,
    request: &PictureRequest,
    pictures: u8,
    format: &RequestFormat,
) -> Result<StreamingBody, &'static str> {
    let name = api.name.as_deref().unwrap_or(model);
    let mut body = StreamingBody::default().text("{\"model\":").json(&name).text(",\"prompt\":").json(&request.prompt);
    for (name, value) in parameters_of(api, request, pictures, format)? {
        body = body.text(",").json(&name).text(":").json(&value);
    }
    Ok(body)
}

fn parameters_of<'a>(
    api: &'a UpstreamApi,
    request: &'a PictureRequest,
    pictures: u8,
    format: &RequestFormat,
) -> Result<Vec<(&'a str, Value)>, &'static str> {
    let chosen = api.parameters(request).map(|(name, value)| (name, Value::from(value)));
    let stream = [("stream", Value::from(true)), ("partial_images", Value::from(PARTIAL_IMAGES))];
    let stream = stream.into_iter().filter(|_| format.method == InputMethod::MultipartStream);
    parameters(request, pictures, api.n_max.is_some(), format, chosen.chain(stream))
}

fn multipart(
    boundary: &str,
    model: &str,
    api: &UpstreamApi,
    request: &PictureRequest,
    pictures: u8,
    format: &RequestFormat,
) -> Result<StreamingBody, &'static str> {
    let name = api.name.as_deref().unwrap_or(model);
    let fixed = [("model", Value::from(name)), ("prompt", Value::from(request.prompt.as_str()))];
    let mut body = StreamingBody::default();
    for (name, value) in fixed.into_iter().chain(parameters_of(api, request, pictures, format)?) {
        let head = format!("--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n");
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        body = body.text(head).text(value).text("\r\n");
    }
    if request.mask.is_some() && !api.mask {
        return Err("the OpenAI-format endpoints have no mask for the model");
    }
    let images =
        request.inputs.iter().enumerate().map(|(index, input)| ("image[]", format!("image-{}", index + 1), input));
    let mask = request.mask.iter().map(|mask| ("mask", "mask".to_owned(), mask));
    for (name, stem, input) in images.chain(mask) {
        let Input::Bytes { picture, source } = input else { return Err("a form has files only") };
        let extension = picture.structure.format.map_or("bin", |format| format.name());
        let head = format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"; filename=\"{stem}.{extension}\"\r\n\
             Content-Type: {}\r\n\r\n",
            media_type(picture)
        );
        body = body.text(head).bare(Arc::clone(source)).text("\r\n");
    }
    Ok(body.text(format!("--{boundary}--")))
}

/// The answer, with strings that borrow from it.
#[derive(Debug, Deserialize)]
struct Answer<'a> {
    #[serde(borrow, default, deserialize_with = "bounded_list")]
    data: Vec<Item<'a>>,
    #[serde(default)]
    usage: Option<SmallValue>,
    #[serde(default)]
    error: Option<SmallValue>,
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

/// The location of an output.
#[derive(Debug)]
enum Location {
    /// Valid base64 in the answer, which is decoded in place.
    InAnswer(Range<usize>),
    Separate(Output),
}

/// Reads the answer to a submit, and decodes its pictures in place: there may be hundreds of megabytes of them.
pub(in crate::upstream) fn answer(body: BytesMut) -> SubmitAnswer {
    let Some((locations, usage)) = locations(&body) else {
        // Not the documented form. An id in it is one of the prediction API.
        return submit_answer(&body);
    };
    SubmitAnswer::Finished { prediction: None, finished: Finished { outputs: outputs(body, locations), usage } }
}

/// Decodes the pictures of an answer in place.
fn outputs(mut body: BytesMut, locations: Vec<Location>) -> Vec<Output> {
    let decoded: Vec<Location> = locations
        .into_iter()
        .filter_map(|location| match location {
            Location::InAnswer(range) => {
                let start = range.start;
                let length = STANDARD.decode_inplace(&mut body[range]).ok()?.len();
                Some(Location::InAnswer(start..start + length))
            }
            separate @ Location::Separate(_) => Some(separate),
        })
        .collect();
    let body: Bytes = body.freeze();
    let outputs = decoded.into_iter().map(|location| match location {
        Location::InAnswer(range) => Output::Bytes(body.slice(range)),
        Location::Separate(output) => output,
    });
    outputs.collect()
}

/// Finds the outputs and the usage of an answer in the documented form; `None` for any other answer, and for an error.
fn locations(body: &[u8]) -> Option<(Vec<Location>, Option<Usage>)> {
    let Answer { data, usage, error } = serde_json::from_slice(body).ok()?;
    if error.as_ref().and_then(|SmallValue(error)| error_message(error)).is_some() {
        return None;
    }
    let locations: Vec<Location> = data.iter().filter_map(|item| location(body, item)).collect();
    (!locations.is_empty()).then(|| (locations, usage.as_ref().and_then(|SmallValue(usage)| usage_of(usage))))
}

fn error_message(error: &Value) -> Option<String> {
    error.as_str().map(str::to_owned).filter(|text| !text.is_empty()).or_else(|| message_in(error))
}

fn location(body: &[u8], item: &Item<'_>) -> Option<Location> {
    let Some(Text(text)) = &item.b64_json else {
        return item.url.as_ref().and_then(|Text(text)| output_text(text)).map(Location::Separate);
    };
    let encoded = match text.strip_prefix("data:") {
        Some(rest) => rest.split_once(',')?.1,
        None => text,
    };
    // A string that was copied or is not valid base64 as it stands is decoded separately.
    match text {
        Cow::Borrowed(_) if !encoded.is_empty() && STANDARD.check(encoded.as_bytes()).is_ok() => {
            let start = encoded.as_ptr() as usize - body.as_ptr() as usize;
            Some(Location::InAnswer(start..start + encoded.len()))
        }
        Cow::Borrowed(_) | Cow::Owned(_) => base64(encoded).map(|bytes| Location::Separate(Output::Bytes(bytes))),
    }
}

#[cfg(test)]
mod tests;
