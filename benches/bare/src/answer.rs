//! The answer of the gateway, with another picture in it.

use axum::body::Body;
use axum::http::header::{CONNECTION, CONTENT_LENGTH, DATE, HeaderName, HeaderValue, TRANSFER_ENCODING};
use axum::http::{HeaderMap, Response};
use base64_simd::STANDARD;

use crate::{Failure, Options};

/// What surrounds the picture in an answer.
pub(crate) struct Answer {
    head: Vec<u8>,
    tail: Vec<u8>,
    headers: HeaderMap,
}

impl Answer {
    /// Reads an answer of the gateway; returns it and its picture.
    pub(crate) fn read(options: &Options) -> Result<(Self, Vec<u8>), Failure> {
        const BEFORE: &[u8] = br#""b64_json":""#;
        let whole = options.file("--answer")?;
        let begin = memchr::memmem::find(&whole, BEFORE).ok_or("the answer has no b64_json")? + BEFORE.len();
        let end = begin + memchr::memchr(b'"', &whole[begin..]).ok_or("b64_json does not end")?;
        let picture = STANDARD.decode_to_vec(&whole[begin..end]).map_err(|_| "b64_json is no base64")?;
        let mut headers = HeaderMap::new();
        for line in String::from_utf8(options.file("--headers")?)?.lines() {
            let (name, value) = line.split_once(": ").ok_or_else(|| format!("no header: {line}"))?;
            let name = HeaderName::from_bytes(name.as_bytes())?;
            // Those that hyper writes.
            if ![CONNECTION, CONTENT_LENGTH, DATE, TRANSFER_ENCODING].contains(&name) {
                headers.insert(name, HeaderValue::from_str(value)?);
            }
        }
        Ok((Self { head: whole[..begin].to_vec(), tail: whole[end..].to_vec(), headers }, picture))
    }

    /// Writes the answer with a picture.
    pub(crate) fn with(&self, picture: &[u8]) -> Response<Body> {
        let length = STANDARD.encoded_length(picture.len());
        let mut body = Vec::with_capacity(self.head.len() + length + self.tail.len());
        body.extend_from_slice(&self.head);
        STANDARD.encode_append(picture, &mut body);
        body.extend_from_slice(&self.tail);
        let mut response = Response::new(Body::from(body));
        *response.headers_mut() = self.headers.clone();
        response
    }
}
