//! From the headers and the body of a request to a valid request for pictures.

use std::borrow::Cow;

use axum::body::Body;
use axum::http::HeaderMap;
use axum::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, TRANSFER_ENCODING};
use http_body::Body as _;

use super::available_models::AvailableModels;
use super::body::form::{Form, FormLimits, Scalar};
use super::body::incoming::{ContentCoding, IncomingBody};
use super::body::json::chat::{self, ChatRequest};
use super::body::{json, multipart};
use super::response_options::CompletionOptions;
use super::validate::{self, ValidRequest};
use crate::api::error::ApiError;
use crate::config::{BodyConfig, ServerConfig, UnsupportedParameters};
use crate::http::header::{ParsedHeader, list_members};
use crate::model::Task;
use crate::storage::spool::Spool;
use inputs::{InputConverter, InputLimits};
use own_results::OwnResults;

/// What reading a request needs besides the request. Cheap to copy.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ParseServices<'a> {
    pub(crate) spool: &'a Spool,
    pub(crate) server: &'a ServerConfig,
    pub(crate) models: &'a AvailableModels<'a>,
    pub(crate) inputs: &'a InputConverter,
    /// `None` where nothing is stored, as in a benchmark.
    pub(crate) own_results: Option<&'a dyn OwnResults>,
}

/// Reads and validates a request. A `deployment`, the model named by the path, overrides the model of the body.
///
/// Pictures go to the spool; nothing is bought.
///
/// # Errors
///
/// The first fault of the request. The rest of the body may be unread then.
pub(crate) async fn parse(
    limits: &FormLimits,
    headers: &HeaderMap,
    deployment: Option<String>,
    body: Body,
    services: ParseServices<'_>,
) -> Result<ValidRequest, ApiError> {
    let ParseServices { spool, server, .. } = services;
    let (kind, coding) = body_kind(headers, &server.bodies)?;
    let has_length = headers.contains_key(CONTENT_LENGTH) || headers.contains_key(TRANSFER_ENCODING);
    if body.size_hint().exact() == Some(0) && !has_length {
        let problem = "it is empty, and the request has neither a Content-Length nor Transfer-Encoding: chunked";
        return Err(ApiError::MalformedBody { problem: problem.into() });
    }
    let (incoming, announced) = incoming(body, coding, &server.bodies);
    let mut form = match kind {
        BodyKind::Multipart { boundary } => multipart::read(incoming, boundary, limits, spool, announced).await?,
        BodyKind::Json => json::read(incoming, limits, spool, announced, &server.bodies).await?,
    };
    if let Some(model) = deployment {
        form.scalars.insert("model".to_owned(), Scalar::Text(model));
    }
    // As most services do it: a generation with pictures is an edit of them.
    let task = if form.images.is_empty() { limits.task } else { Task::Edit };
    check(form, task, limits, services).await
}

/// Reads and validates a chat completion, as [`parse`] does a request of the image API.
///
/// # Errors
///
/// As [`parse`], and [`ApiError::TextRequested`].
pub(crate) async fn parse_chat(
    limits: &FormLimits,
    headers: &HeaderMap,
    deployment: Option<String>,
    body: Body,
    services: ParseServices<'_>,
) -> Result<(ValidRequest, CompletionOptions), ApiError> {
    let ParseServices { spool, server, .. } = services;
    let (kind, coding) = body_kind(headers, &server.bodies)?;
    if kind != BodyKind::Json {
        let problem = "a chat completion is JSON ('application/json'), and this is a form".into();
        return Err(ApiError::MalformedBody { problem });
    }
    let (incoming, announced) = incoming(body, coding, &server.bodies);
    let ChatRequest { mut form, options, unsupported } =
        chat::read(incoming, limits, spool, announced, &server.bodies).await?;
    if let Some(model) = deployment {
        form.scalars.insert("model".to_owned(), Scalar::Text(model));
    }
    let mut dropped = Vec::new();
    for (name, problem) in unsupported {
        match server.requests.unsupported_parameters {
            UnsupportedParameters::Refuse => {
                return Err(ApiError::UnsupportedParameter { param: name.to_owned(), problem: problem.into() });
            }
            UnsupportedParameters::Drop => dropped.push(name.to_owned()),
        }
    }
    let task = if form.images.is_empty() { Task::Generate } else { Task::Edit };
    let mut valid = check(form, task, limits, services).await?;
    valid.dropped.extend(dropped);
    Ok((valid, options))
}

/// Returns a body as its reader gets it, and its length where it is known.
fn incoming(body: Body, coding: Option<ContentCoding>, bodies: &BodyConfig) -> (IncomingBody, Option<u64>) {
    // The length of a compressed body says nothing of the space that it needs.
    let announced = body.size_hint().exact().filter(|_| coding.is_none());
    (IncomingBody::new(body, bodies).unpacking(coding), announced)
}

/// Prepares the pictures of a form and validates it.
///
/// # Errors
///
/// The first fault of a picture or of a parameter.
async fn check(
    mut form: Form,
    task: Task,
    limits: &FormLimits,
    services: ParseServices<'_>,
) -> Result<ValidRequest, ApiError> {
    if task == Task::Generate && form.mask.take().is_some() {
        let problem = "needs an 'image' whose parts it marks; send both, here or to /v1/images/edits";
        form.note_misplaced("mask", problem);
    }
    own_results::resolve(&mut form, services).await?;
    let input_limits = InputLimits {
        spool: services.spool,
        pictures: services.server.requests.picture_limits(),
        bytes_max: limits.image_bytes_max,
    };
    // Conversions cost more than all other checks, so a request that another parameter fails is not worth one.
    if services.inputs.converts(&form, input_limits)
        && let Err(error) = validate::validate(form.clone(), task, &services.server.requests, services.models)
        && !error.is_about_picture()
    {
        return Err(error);
    }
    let form = services.inputs.prepare(form, input_limits).await?;
    validate::validate(form, task, &services.server.requests, services.models)
}

pub(crate) mod inputs;

#[derive(Debug, PartialEq, Eq)]
enum BodyKind {
    Multipart { boundary: String },
    Json,
}

/// Returns the kind of a body and how it is compressed, and refuses it where the headers alone are enough to do so.
fn body_kind(headers: &HeaderMap, bodies: &BodyConfig) -> Result<(BodyKind, Option<ContentCoding>), ApiError> {
    let text = |name| headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()));
    let encoding = text(CONTENT_ENCODING).unwrap_or_default();
    let coding =
        ContentCoding::parse(&encoding).map_err(|_| ApiError::UnsupportedEncoding { got: encoding.into_owned() })?;
    let announced = text(CONTENT_LENGTH).and_then(|length| length.trim().parse::<u64>().ok());
    if announced.is_some_and(|bytes| bytes > bodies.bytes_max) {
        return Err(ApiError::BodyTooLarge { bytes_max: bodies.bytes_max });
    }
    let Some(value) = headers.get(CONTENT_TYPE) else {
        return Err(ApiError::UnsupportedMediaType { got: None });
    };
    let types = content_types(value.as_bytes());
    let mut kinds: Vec<BodyKind> = types.iter().filter_map(|value| BodyKind::of(&ParsedHeader::parse(value))).collect();
    kinds.dedup();
    match (kinds.pop(), kinds.is_empty()) {
        (Some(kind), true) => Ok((kind, coding)),
        (Some(_), false) => Err(ApiError::DuplicateHeader { name: "Content-Type" }),
        (None, _) => Err(ApiError::UnsupportedMediaType { got: text(CONTENT_TYPE).map(Into::into) }),
    }
}

impl BodyKind {
    fn of(content_type: &ParsedHeader<'_>) -> Option<Self> {
        let word = &*content_type.word;
        if word == "application/json" || (word.starts_with("application/") && word.ends_with("+json")) {
            return Some(Self::Json);
        }
        let boundary = (word == "multipart/form-data").then(|| multipart::boundary(content_type)).flatten()?;
        Some(Self::Multipart { boundary })
    }
}

/// Splits a content type that a library has joined of two: `multipart/form-data, multipart/form-data; boundary=x`. Other commas
/// belong to a boundary.
fn content_types(value: &[u8]) -> Vec<Cow<'_, [u8]>> {
    if !value.contains(&b',') {
        return vec![value.into()];
    }
    let mut types: Vec<Cow<'_, [u8]>> = Vec::new();
    for member in list_members(value) {
        let known = ["multipart/form-data", "application/json", "text/plain", "application/x-www-form-urlencoded"];
        let begins = known.contains(&&*ParsedHeader::parse(member).word);
        match types.last_mut() {
            Some(before) if !begins => {
                let before = before.to_mut();
                before.push(b',');
                before.extend_from_slice(member);
            }
            _ => types.push(member.into()),
        }
    }
    types
}

pub(crate) mod own_results;

#[cfg(fuzzing)]
pub(crate) mod fuzz;

#[cfg(feature = "bench")]
pub(crate) mod benching;

#[cfg(test)]
mod spellings;

#[cfg(test)]
mod tests {
    use axum::http::HeaderName;

    use super::*;
    use crate::api::request::test_support::{catalogue, inputs, limits, png, server, spool};

    fn headers(pairs: &[(HeaderName, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect()
    }

    #[test]
    fn the_content_type_decides_the_kind_of_a_body() {
        let kind = |content_type: &str| body_kind(&headers(&[(CONTENT_TYPE, content_type)]), &server().bodies);
        for json in ["application/json", "Application/JSON; charset=utf-8", "application/vnd.api+json"] {
            assert_eq!(kind(json).unwrap(), (BodyKind::Json, None), "{json}");
        }
        for form in ["multipart/form-data; boundary=a=b_c", "Multipart/Form-Data; Boundary=\"a=b_c\""] {
            let boundary = "a=b_c".to_owned();
            assert_eq!(kind(form).unwrap(), (BodyKind::Multipart { boundary }, None), "{form}");
        }
        for (joined, boundary) in [
            ("multipart/form-data, multipart/form-data; boundary=x", "x"),
            ("multipart/form-data; boundary=x,multipart/form-data", "x"),
            ("multipart/form-data; boundary=x, multipart/form-data; boundary=x", "x"),
            ("text/plain, multipart/form-data; boundary=\"a,b\"", "a,b"),
            ("multipart/form-data; boundary=a,b", "a,b"),
            ("multipart/form-data; boundary=a,application/x", "a,application/x"),
        ] {
            assert_eq!(
                kind(joined).unwrap(),
                (BodyKind::Multipart { boundary: boundary.to_owned() }, None),
                "{joined}"
            );
        }
        assert_eq!(kind("application/json, application/json").unwrap(), (BodyKind::Json, None));
        for two in [
            "multipart/form-data; boundary=x, multipart/form-data; boundary=y",
            "application/json, multipart/form-data; boundary=y",
        ] {
            assert!(matches!(kind(two), Err(ApiError::DuplicateHeader { name: "Content-Type" })), "{two}");
        }
        for wrong in [
            "multipart/form-data",
            "multipart/form-data; boundary=",
            "multipart/mixed; boundary=x",
            "text/plain",
            "application/x-www-form-urlencoded",
            "",
        ] {
            assert_eq!(kind(wrong).unwrap_err().code(), "unsupported_content_type", "{wrong}");
        }
        let none = body_kind(&HeaderMap::new(), &server().bodies).unwrap_err();
        assert_eq!(none.code(), "unsupported_content_type");
    }

    #[test]
    fn headers_can_refuse_a_body_unread() {
        let json = (CONTENT_TYPE, "application/json");
        let refused = |more| body_kind(&headers(&[json.clone(), more]), &server().bodies).unwrap_err().code();
        for unknown in ["br", "gzip, gzip", "compress"] {
            assert_eq!(refused((CONTENT_ENCODING, unknown)), "unsupported_content_encoding");
        }
        assert_eq!(refused((CONTENT_LENGTH, "1200000001")), "body_too_large");
        for fine in [(CONTENT_ENCODING, "identity"), (CONTENT_ENCODING, "X-GZip"), (CONTENT_LENGTH, "1200000000")] {
            assert!(body_kind(&headers(&[json.clone(), fine]), &server().bodies).is_ok());
        }
    }

    #[tokio::test]
    async fn a_form_and_a_json_body_mean_the_same() {
        let picture = png(20, 30);
        let mut form = b"--B\r\nContent-Disposition: form-data; name=\"image[]\"; filename=\"a\"\r\n\r\n".to_vec();
        form.extend_from_slice(&picture);
        form.extend_from_slice(
            b"\r\n--B\r\nContent-Disposition: form-data; name=\"n\"\r\n\r\n2\
              \r\n--B\r\nContent-Disposition: form-data; name=\"prompt\"\r\n\r\na\r\nb\r\n--B--\r\n",
        );
        let text = base64_simd::STANDARD.encode_to_string(&picture);
        let json =
            serde_json::json!({"prompt": "a\nb", "n": 2, "images": [{"image_url": format!("data:;base64,{text}")}]});
        let bodies =
            [("multipart/form-data; boundary=B", Body::from(form)), ("application/json", Body::from(json.to_string()))];
        let (_directory, spool) = spool();
        let catalogue = catalogue();
        let models = AvailableModels {
            catalogue: &catalogue,
            allowed: None,
            api_kinds: crate::config::ApiPolicy::Auto.api_kinds(),
        };
        let server = server();
        let inputs = inputs();
        let services =
            ParseServices { spool: &spool, server: &server, models: &models, inputs: &inputs, own_results: None };
        let mut seen = Vec::new();
        for (content_type, body) in bodies {
            let headers = headers(&[(CONTENT_TYPE, content_type)]);
            let valid = parse(&limits(Task::Edit), &headers, None, body, services).await.unwrap();
            let request = valid.request;
            let inputs: Vec<_> = request.inputs.iter().map(|input| input.fingerprint_bytes().into_owned()).collect();
            assert_eq!(request.size.to_string(), "1024x1536");
            seen.push((request.prompt, request.n, request.size, inputs));
        }
        assert_eq!(seen[0], seen[1]);
    }
}
