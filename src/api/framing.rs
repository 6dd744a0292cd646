//! How a request says where its body ends, where the HTTP library is more lenient than we are.
//!
//! What is understood differently by a proxy in front and by us can be used to smuggle a request past it. The library
//! refuses nearly all of it (RFC 9112 §6). Two things are left: a list of transfer codings of which only the last is
//! `chunked`, which is refused here; and `Transfer-Encoding` beside `Content-Length`, of which the library hides the latter
//! whatever their order, so it cannot be refused. It goes by the former then, and closes the connection after the answer, as
//! RFC 9112 §6.1 has it: nothing that follows is taken for a request.

use axum::http::HeaderMap;
use axum::http::header::TRANSFER_ENCODING;

use super::error::ApiError;

/// Refuses every transfer coding but `chunked` alone.
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
    fn chunked_alone_or_nothing() {
        let checked = |codings: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for coding in codings {
                headers.append(TRANSFER_ENCODING, coding.parse().unwrap());
            }
            check(&headers).is_ok()
        };
        assert!(checked(&[]) && checked(&["chunked"]) && checked(&["Chunked "]));
        for bad in [&["identity, chunked"][..], &["chunked, chunked"], &["chunked", "chunked"], &["gzip"], &[""]] {
            assert!(!checked(bad), "{bad:?}");
        }
    }
}
