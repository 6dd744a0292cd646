//! How pictures are to look, in the address they are asked for by: what of a request concerns only its answer travels in
//! the query of `Location` and comes back with every `GET`.

use url::form_urlencoded;

use super::super::error::ApiError;
use super::super::validate::{Presentation, ResponseFormat};

const RESPONSE_FORMAT: &str = "response_format";
const SAFETY_IDENTIFIER: &str = "safety_identifier";

/// The query, with its question mark; empty where everything is as usual.
pub(super) fn of(presentation: &Presentation) -> String {
    // Whether it is streamed is said by `Accept`, and `user` is in no answer.
    let Presentation { response_format, stream: _, user: _, safety_identifier } = presentation;
    let mut query = form_urlencoded::Serializer::new(String::new());
    match response_format {
        ResponseFormat::B64Json => {}
        ResponseFormat::Url => {
            query.append_pair(RESPONSE_FORMAT, "url");
        }
    }
    if let Some(identifier) = safety_identifier {
        query.append_pair(SAFETY_IDENTIFIER, identifier);
    }
    let query = query.finish();
    if query.is_empty() { query } else { format!("?{query}") }
}

/// Reads a query. What is not known there means nothing, as in every other query.
///
/// # Errors
///
/// [`ApiError::InvalidValue`].
pub(super) fn read(query: Option<&str>) -> Result<Presentation, ApiError> {
    let mut presentation =
        Presentation { response_format: ResponseFormat::B64Json, stream: false, user: None, safety_identifier: None };
    for (name, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
        match (&*name, &*value) {
            (RESPONSE_FORMAT, "b64_json") => presentation.response_format = ResponseFormat::B64Json,
            (RESPONSE_FORMAT, "url") => presentation.response_format = ResponseFormat::Url,
            (RESPONSE_FORMAT, _) => {
                return Err(ApiError::InvalidValue {
                    param: RESPONSE_FORMAT.to_owned(),
                    got: value.into_owned(),
                    allowed: ["url", "b64_json"].map(str::to_owned).into(),
                });
            }
            (SAFETY_IDENTIFIER, _) => presentation.safety_identifier = Some(value.into_owned()),
            _ => {}
        }
    }
    Ok(presentation)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for response_format in [ResponseFormat::B64Json, ResponseFormat::Url] {
            for safety_identifier in [None, Some("a&b=c d?\u{e9}".to_owned())] {
                let presentation = Presentation { response_format, stream: false, user: None, safety_identifier };
                let query = of(&presentation);
                assert!(query.is_ascii());
                assert_eq!(read(query.strip_prefix('?')).unwrap(), presentation, "{query}");
            }
        }
        assert_eq!(read(Some("api-version=2025-04-01-preview&x")).unwrap(), read(None).unwrap());
        assert_eq!(read(Some("response_format=png")).unwrap_err().code(), "invalid_value");
    }
}
