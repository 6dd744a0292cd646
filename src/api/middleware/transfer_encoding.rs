//! Refuses ambiguous `Transfer-Encoding` headers, where the HTTP library is more lenient than the gateway.
//!
//! A request that a proxy in front and the gateway delimit differently can smuggle a second request past the proxy. The
//! library refuses nearly all of these (RFC 9112 §6). Two cases are left:
//!
//! - A list of transfer codings of which only the last is `chunked`: refused here.
//! - `Transfer-Encoding` beside `Content-Length`: the library hides the latter, so it cannot be refused. The library goes by
//!   `Transfer-Encoding` and closes the connection after the response (RFC 9112 §6.1), so no second request is read.

use axum::http::HeaderMap;
use axum::http::header::TRANSFER_ENCODING;

use crate::api::error::ApiError;

/// Refuses every transfer coding except `chunked` alone.
///
/// # Errors
///
/// [`ApiError::BadTransferEncoding`].
pub(super) fn check(headers: &HeaderMap) -> Result<(), ApiError> {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let Some(coding) = codings.next() else { return Ok(()) };
    let is_chunked = codings.next().is_none() && coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked");
    if is_chunked { Ok(()) } else { Err(ApiError::BadTransferEncoding) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_chunked_alone_or_no_coding_is_accepted() {
        let is_accepted = |codings: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for coding in codings {
                headers.append(TRANSFER_ENCODING, coding.parse().unwrap());
            }
            check(&headers).is_ok()
        };
        assert!(is_accepted(&[]) && is_accepted(&["chunked"]) && is_accepted(&["Chunked "]));
        for bad in [&["identity, chunked"][..], &["chunked, chunked"], &["chunked", "chunked"], &["gzip"], &[""]] {
            assert!(!is_accepted(bad), "{bad:?}");
        }
    }
}
