//! Headers that tell browsers what they may do with a response.

use axum::http::header::{CONTENT_SECURITY_POLICY, REFERRER_POLICY};
use axum::http::{HeaderMap, HeaderValue};

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
