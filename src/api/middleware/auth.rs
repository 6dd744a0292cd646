//! Checks the client's key, from the headers alone: a request with an unknown key never costs an upload.

use std::sync::Arc;

use axum::extract::{FromRef, FromRequestParts};
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName};

use crate::admission::{Admission, KeyCredential};
use crate::api::error::ApiError;
use crate::model::ClientId;

/// The headers that may carry the key, and their names as they are written in errors: OpenAI's, Azure's, and Anthropic's.
const HEADERS: [(HeaderName, &str); 3] = [
    (AUTHORIZATION, "Authorization"),
    (HeaderName::from_static("api-key"), "api-key"),
    (HeaderName::from_static("x-api-key"), "x-api-key"),
];
/// Schemes of `Authorization` that carry no key of this gateway. A proxy in front may have added one of them.
const OTHER_SCHEMES: [&str; 5] = ["basic", "digest", "negotiate", "ntlm", "aws4-hmac-sha256"];

/// A client whose key was accepted.
#[derive(Clone, Debug)]
pub(crate) struct VerifiedClient(pub(crate) ClientId, pub(crate) Arc<KeyCredential>);

impl<S: Sync> FromRequestParts<S> for VerifiedClient
where
    Admission: FromRef<S>,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let key = key(&parts.headers)?;
        let (client, credential) = Admission::from_ref(state).client(key).ok_or_else(|| wrong_key(key))?;
        Ok(Self(client, credential))
    }
}

/// What one header says about the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum KeyHeader<'a> {
    Key(&'a str),
    /// Nothing, or the word Bearer alone.
    Empty,
    OtherScheme,
    Unreadable,
}

/// Returns the key, from the headers that may carry it: bare, or behind the word Bearer. One that is empty or belongs to a
/// proxy does not count where another has a key.
///
/// # Errors
///
/// When no header has a key, or two have different ones.
fn key(headers: &HeaderMap) -> Result<&str, ApiError> {
    let mut found = None;
    let mut problem = ApiError::MissingKey;
    for (header, name) in HEADERS.iter().rev() {
        let Some(value) = headers.get(header) else { continue };
        match value.to_str().map_or(KeyHeader::Unreadable, read) {
            KeyHeader::Key(key) if found.is_some_and(|known| known != key) => {
                return Err(malformed(
                    "the headers Authorization, api-key and x-api-key carry different keys, of which only one may be sent",
                ));
            }
            KeyHeader::Key(key) => found = Some(key),
            KeyHeader::Empty => problem = ApiError::EmptyKey { header: name },
            KeyHeader::OtherScheme => problem = malformed("the scheme of the Authorization header is not Bearer"),
            KeyHeader::Unreadable => problem = malformed("it contains characters that are not ASCII"),
        }
    }
    found.ok_or(problem)
}

fn read(value: &str) -> KeyHeader<'_> {
    let value = value.trim();
    let (scheme, rest) = value.split_once([' ', '\t']).unwrap_or((value, ""));
    if scheme.eq_ignore_ascii_case("bearer") || scheme.is_empty() {
        return if rest.is_empty() { KeyHeader::Empty } else { KeyHeader::Key(rest.trim_start()) };
    }
    if OTHER_SCHEMES.iter().any(|other| scheme.eq_ignore_ascii_case(other)) {
        return KeyHeader::OtherScheme;
    }
    KeyHeader::Key(value)
}

/// Returns the error for a key that no client has: what of its form shows a mistake, without a letter of it.
fn wrong_key(key: &str) -> ApiError {
    const PLACEHOLDERS: [&str; 7] =
        ["undefined", "null", "none", "your_key", "your-key", "your_api_key", "your-api-key"];
    let starts = |word: &str| key.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word));
    let is_quote = |c: char| matches!(c, '"' | '\'' | '`' | '<' | '>');
    let assigned = key.split_once('=').is_some_and(|(name, value)| {
        let is_name = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_';
        !value.is_empty() && name.bytes().all(is_name) && name.contains('_')
    });
    if starts("bearer ") {
        malformed("the word Bearer stands in front of it twice")
    } else if starts("bearer") {
        malformed("the word Bearer is not separated from it by one space")
    } else if key.starts_with('$') || key.starts_with("{{") || key.starts_with('%') {
        malformed("it is the name of a variable that your client did not replace by its value")
    } else if PLACEHOLDERS.iter().any(|word| key.eq_ignore_ascii_case(word)) {
        malformed("it is a word that stands for a missing key")
    } else if key.starts_with(is_quote) || key.ends_with(is_quote) {
        malformed("it is in quotation marks, which do not belong to it")
    } else if assigned {
        malformed("the name of a variable and '=' stand in front of it")
    } else if key.contains(char::is_whitespace) {
        malformed("it contains white space, so it may be two values or have another scheme in front")
    } else if key.ends_with("\\n") || key.ends_with("\\r") || key.ends_with("%0A") || key.ends_with("%20") {
        malformed("it ends with a line break or a space that was written out")
    } else {
        ApiError::WrongKey
    }
}

fn malformed(problem: &'static str) -> ApiError {
    ApiError::MalformedKey { problem }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderName;

    use super::*;

    fn headers(pairs: &[(&str, &[u8])]) -> HeaderMap {
        let pair = |&(name, value): &(&str, &[u8])| (name.parse::<HeaderName>().unwrap(), value.try_into().unwrap());
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn keys_are_found_where_clients_put_them() {
        for pairs in [
            &[("authorization", &b"Bearer abc"[..])][..],
            &[("authorization", b"bearer  abc ")],
            &[("authorization", b"BEARER\tabc")],
            &[("authorization", b"abc")],
            &[("api-key", b"abc")],
            &[("api-key", b"Bearer abc")],
            &[("x-api-key", b" abc ")],
            &[("x-api-key", b"abc"), ("api-key", b"abc"), ("authorization", b"Bearer abc")],
            &[("x-api-key", b"abc"), ("authorization", b"Bearer")],
            &[("x-api-key", b""), ("authorization", b"Bearer abc")],
            &[("api-key", b"abc"), ("authorization", b"Basic dXNlcjpwYXNz")],
        ] {
            assert_eq!(key(&headers(pairs)).unwrap(), "abc", "{pairs:?}");
        }
    }

    #[test]
    fn headers_without_a_key_say_why() {
        for (pairs, code, part) in [
            (&[][..], "missing_api_key", "You need to provide your API key"),
            (&[("x-other", &b"abc"[..])], "missing_api_key", "You need to provide your API key"),
            (&[("authorization", b"Bearer ")], "missing_api_key", "the Authorization header is empty"),
            (&[("authorization", b"")], "missing_api_key", "the Authorization header is empty"),
            (&[("x-api-key", b" ")], "missing_api_key", "the x-api-key header is empty"),
            (&[("authorization", b"Basic dXNlcjpwYXNz")], "invalid_api_key", "scheme"),
            (&[("authorization", b"Digest a=b")], "invalid_api_key", "scheme"),
            (&[("authorization", b"Bearer k\xc3\xa9y")], "invalid_api_key", "not ASCII"),
            (&[("authorization", b"Bearer a"), ("x-api-key", b"b")], "invalid_api_key", "different keys"),
            (&[("api-key", b"a"), ("x-api-key", b"b")], "invalid_api_key", "different keys"),
        ] {
            let error = key(&headers(pairs)).unwrap_err();
            assert_eq!(error.code(), code, "{pairs:?}");
            assert!(error.to_string().contains(part), "{pairs:?}: {error}");
        }
    }

    #[test]
    fn a_wrong_key_is_explained_by_its_form_and_never_shown() {
        for (wrong, part) in [
            ("Bearer Zq7x", "twice"),
            ("bearer  Zq7x", "twice"),
            ("Bearer:Zq7x", "one space"),
            ("BearerZq7x", "one space"),
            ("\"Zq7x\"", "quotation marks"),
            ("'Zq7x'", "quotation marks"),
            ("Zq7x'", "quotation marks"),
            ("<Zq7x>", "quotation marks"),
            ("Zq7x 9yWv", "white space"),
            ("Token Zq7x", "white space"),
            ("Zq7x\\n", "line break"),
            ("Zq7x%0A", "line break"),
            ("$Zq7x", "variable"),
            ("${Zq7x}", "variable"),
            ("{{Zq7x}}", "variable"),
            ("OPENAI_API_KEY=Zq7x", "variable"),
            ("undefined", "missing key"),
            ("None", "missing key"),
            ("YOUR_API_KEY", "missing key"),
            ("Zq7x", "come from its operator"),
            ("sk-Zq7x=", "come from its operator"),
        ] {
            let error = wrong_key(wrong);
            assert_eq!(error.code(), "invalid_api_key");
            let message = error.to_string();
            assert!(message.contains(part), "{wrong}: {message}");
            assert!(!message.contains("Zq7x") && !message.contains("9yWv"), "{message}");
        }
    }
}
