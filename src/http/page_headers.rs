//! Headers that tell browsers what they may do with a response.

use axum::http::header::{ACCEPT, CONTENT_SECURITY_POLICY, REFERRER_POLICY};
use axum::http::{HeaderMap, HeaderValue};

use super::header::{ParsedHeader, list_members};

/// Forbids to guess another media type from the bytes.
pub(crate) const NOSNIFF: HeaderValue = HeaderValue::from_static("nosniff");
/// Forbids every cache to keep the response.
pub(crate) const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

/// Browsers show a picture in a page of their own making, with a style in it.
const PICTURE_POLICY: HeaderValue = HeaderValue::from_static("default-src 'none'; style-src 'unsafe-inline'; sandbox");

/// Restricts a picture that is opened by its address: it runs nothing, and its address goes to no other site.
pub(crate) fn restrict_picture(headers: &mut HeaderMap) {
    headers.insert(CONTENT_SECURITY_POLICY, PICTURE_POLICY);
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
}

/// Whether `Accept` names HTML, as browsers do; a wildcard does not.
pub(crate) fn wants_page(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(ACCEPT).iter().flat_map(|value| list_members(value.as_bytes()));
    accepted.into_iter().map(ParsedHeader::parse).any(|member| {
        let refused = member.text("q").is_some_and(|quality| quality.parse() == Ok(0.0_f32));
        matches!(&*member.word, "text/html" | "application/xhtml+xml") && !refused
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_client_that_names_html_gets_the_page() {
        let wants = |accept: &str| wants_page(&HeaderMap::from_iter([(ACCEPT, accept.parse().unwrap())]));
        assert!(wants("text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"));
        assert!(wants("Text/HTML;q=0.1"));
        for accept in ["*/*", "application/json", "application/json, */*;q=0.5", "text/*", "text/html;q=0, */*", ""] {
            assert!(!wants(accept), "{accept}");
        }
        assert!(!wants_page(&HeaderMap::new()));
    }
}
