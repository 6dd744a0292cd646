//! The options of a result in the address of its prediction: the part of a request that concerns only its response
//! travels in the query of `Location` and returns with every `GET`.

use url::form_urlencoded;

use crate::api::error::ApiError;
use crate::api::request::response_options::{Conversion, ResponseFormat, ResponseOptions};
use crate::model::Format;

const RESPONSE_FORMAT: &str = "response_format";
const OUTPUT_FORMAT: &str = "output_format";
const OUTPUT_COMPRESSION: &str = "output_compression";
const SAFETY_IDENTIFIER: &str = "safety_identifier";

/// The values that a request may give them.
const RESPONSE_FORMATS: [&str; 2] = ["url", "b64_json"];
const OUTPUT_FORMATS: [&str; 3] = ["png", "jpeg", "webp"];

/// Writes the query with its question mark; empty where everything is at its default.
pub(crate) fn of(options: &ResponseOptions) -> String {
    // `Accept` says whether the response is streamed, and `user` is in no response.
    let ResponseOptions { response_format, conversion, stream: _, user: _, safety_identifier } = options;
    let mut query = form_urlencoded::Serializer::new(String::new());
    match response_format {
        ResponseFormat::B64Json => {}
        ResponseFormat::Url => {
            query.append_pair(RESPONSE_FORMAT, "url");
        }
    }
    if let Some(Conversion { format, compression }) = conversion {
        query.append_pair(OUTPUT_FORMAT, format.name());
        if let Some(compression) = compression {
            query.append_pair(OUTPUT_COMPRESSION, &compression.to_string());
        }
    }
    if let Some(identifier) = safety_identifier {
        query.append_pair(SAFETY_IDENTIFIER, identifier);
    }
    let query = query.finish();
    if query.is_empty() { query } else { format!("?{query}") }
}

/// Reads a query. Unknown names are ignored.
///
/// # Errors
///
/// [`ApiError::InvalidValue`].
pub(crate) fn read(query: Option<&str>) -> Result<ResponseOptions, ApiError> {
    let mut options = defaults();
    let (mut format, mut compression) = (None, None);
    for (name, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
        match &*name {
            RESPONSE_FORMAT => {
                options.response_format = match &*value {
                    "b64_json" => ResponseFormat::B64Json,
                    "url" => ResponseFormat::Url,
                    other => return Err(invalid(RESPONSE_FORMAT, other, &RESPONSE_FORMATS)),
                }
            }
            OUTPUT_FORMAT => {
                let known = Format::from_name(&value);
                format = Some(known.ok_or_else(|| invalid(OUTPUT_FORMAT, &value, &OUTPUT_FORMATS))?);
            }
            OUTPUT_COMPRESSION => {
                let known = value.parse().ok().filter(|&percent: &u8| percent <= 100);
                compression = Some(known.ok_or_else(|| invalid(OUTPUT_COMPRESSION, &value, &["0 to 100"]))?);
            }
            SAFETY_IDENTIFIER => options.safety_identifier = Some(value.into_owned()),
            _ => {}
        }
    }
    options.conversion = format.map(|format| Conversion::new(format, compression));
    Ok(options)
}

/// Returns the options of an address without a query.
pub(super) fn defaults() -> ResponseOptions {
    ResponseOptions {
        response_format: ResponseFormat::B64Json,
        conversion: None,
        stream: false,
        user: None,
        safety_identifier: None,
    }
}

/// Returns the error for a value that a parameter of a query does not have.
pub(super) fn invalid(param: &str, got: &str, allowed: &[&str]) -> ApiError {
    let allowed = allowed.iter().map(|&value| value.to_owned()).collect();
    ApiError::InvalidValue { param: param.to_owned(), got: got.to_owned(), allowed }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_query_that_is_written_can_be_read() {
        let conversions = [
            None,
            Some(Conversion::new(Format::Png, None)),
            Some(Conversion::new(Format::Jpeg, Some(0))),
            Some(Conversion::new(Format::Webp, Some(80))),
        ];
        for (response_format, conversion) in
            [ResponseFormat::B64Json, ResponseFormat::Url].into_iter().flat_map(|one| conversions.map(|two| (one, two)))
        {
            for safety_identifier in [None, Some("a&b=c d?\u{e9}".to_owned())] {
                let options =
                    ResponseOptions { response_format, conversion, stream: false, user: None, safety_identifier };
                let query = of(&options);
                assert!(query.is_ascii());
                assert_eq!(read(query.strip_prefix('?')).unwrap(), options, "{query}");
            }
        }
        assert_eq!(read(Some("api-version=2025-04-01-preview&x")).unwrap(), read(None).unwrap());
        for wrong in ["response_format=png", "output_format=gif", "output_format=", "output_compression=101"] {
            assert_eq!(read(Some(wrong)).unwrap_err().code(), "invalid_value", "{wrong}");
        }
    }
}
