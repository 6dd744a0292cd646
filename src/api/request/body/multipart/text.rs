//! The texts of a form: in the character set that their part declares, and as JSON where it declares that.

use encoding_rs::{Encoding, UTF_8};

use crate::api::error::ApiError;
use crate::api::request::body::form::Scalar;
use crate::http::header::ParsedHeader;

/// The value of a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum FieldText {
    Text(String),
    /// A part that declares to be JSON, and is no single value.
    Json(Scalar),
}

impl From<FieldText> for Scalar {
    fn from(text: FieldText) -> Self {
        match text {
            FieldText::Text(text) => Self::Text(text),
            FieldText::Json(value) => value,
        }
    }
}

/// Returns the character set that a part declares.
pub(super) fn declared(content_type: Option<&ParsedHeader<'_>>) -> Option<String> {
    content_type?.text("charset").map(|charset| charset.trim().to_lowercase()).filter(|charset| !charset.is_empty())
}

/// Decodes a text. A part's own character set precedes that of the form (`_charset_`); without either it is UTF-8. A byte order
/// mark precedes both, and is removed.
///
/// # Errors
///
/// [`ApiError::MalformedBody`] for a character set that is not known, and for bytes that are none of its characters.
pub(super) fn decode(
    bytes: &[u8],
    content_type: Option<&ParsedHeader<'_>>,
    of_form: Option<&str>,
    name: &str,
) -> Result<String, ApiError> {
    let malformed = |problem: String| ApiError::MalformedBody { problem: problem.into() };
    let label = declared(content_type).or_else(|| of_form.map(str::to_owned));
    let encoding = match &label {
        None => UTF_8,
        Some(label) => Encoding::for_label(label.as_bytes()).ok_or_else(|| {
            malformed(format!("the part '{name}' has the unknown charset '{label}'; send it in UTF-8"))
        })?,
    };
    // Some clients declare a charset of their language's habit and send UTF-8: what is valid UTF-8 is hardly ever a text in a
    // charset of one byte a character.
    let encoding = if encoding.is_single_byte() && std::str::from_utf8(bytes).is_ok() { UTF_8 } else { encoding };
    let (text, used, has_errors) = encoding.decode(bytes);
    if has_errors {
        let called = if used == UTF_8 { "UTF-8" } else { used.name() };
        let hint =
            if label.is_none() { "; send it in UTF-8, or declare its charset in the part's Content-Type" } else { "" };
        return Err(malformed(format!("the value of '{name}' is not {called}{hint}")));
    }
    Ok(text.into_owned())
}

/// Returns the value of a text that declares to be JSON. A text that is none is taken as it is.
pub(super) fn of_json(text: String) -> FieldText {
    match serde_json::from_str::<serde_json::Value>(&text) {
        Ok(serde_json::Value::String(text)) => FieldText::Text(text),
        Ok(serde_json::Value::Null) => FieldText::Text(String::new()),
        // As it is written: forms have no other numbers.
        Ok(serde_json::Value::Number(_) | serde_json::Value::Bool(_)) => FieldText::Text(text.trim().to_owned()),
        Ok(serde_json::Value::Array(_)) => FieldText::Json(Scalar::Array),
        Ok(serde_json::Value::Object(_)) => FieldText::Json(Scalar::Object),
        Err(_) => FieldText::Text(text),
    }
}

/// Whether bytes read as text; the last character may be cut.
pub(super) fn is_text(head: &[u8]) -> bool {
    let text = match std::str::from_utf8(head) {
        Ok(text) => text,
        Err(error) if error.error_len().is_none() => {
            std::str::from_utf8(&head[..error.valid_up_to()]).unwrap_or_default()
        }
        Err(_) => return false,
    };
    !text.contains(|c: char| c.is_control() && !c.is_ascii_whitespace())
}

/// Whether a text begins as a JSON array or object does.
pub(super) fn is_json(head: &[u8]) -> bool {
    let mut signs = head.iter().copied().filter(|byte| !byte.is_ascii_whitespace());
    match signs.next() {
        Some(b'[') => matches!(signs.next(), Some(b'"' | b'{' | b'[' | b']' | b'n')),
        Some(b'{') => matches!(signs.next(), Some(b'"' | b'}')),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(bytes: &[u8], content_type: &str, of_form: Option<&str>) -> Result<String, String> {
        let content_type = ParsedHeader::parse(content_type.as_bytes());
        decode(bytes, Some(&content_type), of_form, "prompt").map_err(|error| error.to_string())
    }

    #[test]
    fn texts_are_read_in_their_charset() {
        for (bytes, content_type, expected) in [
            (&b"caf\xc3\xa9"[..], "text/plain", "caf\u{e9}"),
            (b"caf\xe9", "text/plain; charset=ISO-8859-1", "caf\u{e9}"),
            (b"caf\xe9", "text/plain; charset=\"latin1\"", "caf\u{e9}"),
            (b"caf\xe9", "text/plain;charset=Windows-1252", "caf\u{e9}"),
            (b"\x80 10", "text/plain; charset=windows-1252", "\u{20ac} 10"),
            (b"c\0a\0f\0\xe9\0", "text/plain; charset=utf-16le", "caf\u{e9}"),
            (b"\0c\0a\0f\0\xe9", "text/plain; charset=UTF-16BE", "caf\u{e9}"),
            (b"\xff\xfec\0a\0f\0\xe9\0", "text/plain; charset=utf-16", "caf\u{e9}"),
            (b"\xfe\xff\0c\0a\0f\0\xe9", "text/plain; charset=utf-16", "caf\u{e9}"),
            (b"\xff\xfec\0a\0f\0\xe9\0", "text/plain", "caf\u{e9}"),
            (b"\xef\xbb\xbfcaf\xc3\xa9", "text/plain; charset=utf8", "caf\u{e9}"),
            (b"\x83\x4c\x83\x83\x83\x62\x83\x67", "text/plain; charset=Shift_JIS", "\u{30ad}\u{30e3}\u{30c3}\u{30c8}"),
            (b"\xcb\xee\xf8\xea\xe0", "text/plain; charset=windows-1251", "\u{41b}\u{43e}\u{448}\u{43a}\u{430}"),
            // Declared by habit.
            (b"caf\xc3\xa9", "text/plain; charset=ISO-8859-1", "caf\u{e9}"),
            (b"caf\xc3\xa9", "text/plain; charset=US-ASCII", "caf\u{e9}"),
        ] {
            assert_eq!(decoded(bytes, content_type, None).as_deref(), Ok(expected), "{content_type} {bytes:?}");
        }
        assert_eq!(decoded(b"caf\xe9", "text/plain", Some("iso-8859-1")).as_deref(), Ok("caf\u{e9}"));
        for (bytes, content_type, problem) in [
            (&b"caf\xe9"[..], "text/plain", "is not UTF-8"),
            (b"caf\xe9", "text/plain; charset=utf-8", "is not UTF-8"),
            (b"x", "text/plain; charset=klingon", "the unknown charset 'klingon'"),
            (b"\xd8\0", "text/plain; charset=utf-16be", "is not UTF-16BE"),
        ] {
            let error = decoded(bytes, content_type, None).unwrap_err();
            assert!(error.contains(problem) && error.contains("'prompt'"), "{error}");
        }
    }

    #[test]
    fn json_values_are_unquoted() {
        for (json, text) in [
            ("\"gpt-image-1\"", "gpt-image-1"),
            (" \"a \\\"cat\\\"\" ", "a \"cat\""),
            ("2", "2"),
            (" true\n", "true"),
            ("null", ""),
            ("1e400", "1e400"),
            ("a cat", "a cat"),
            ("\"a\" and \"b\"", "\"a\" and \"b\""),
            ("\"\\u00e9\"", "\u{e9}"),
            ("", ""),
        ] {
            assert_eq!(of_json(json.to_owned()), FieldText::Text(text.to_owned()), "{json}");
        }
        assert_eq!(of_json("[1]".to_owned()), FieldText::Json(Scalar::Array));
        assert_eq!(of_json("{}".to_owned()), FieldText::Json(Scalar::Object));
    }
}
