//! Serving of static files that are embedded with the program: a table of names and bytes.

use axum::body::Body;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::Response;

/// The content security policy of a page: its own files, pictures that its scripts have made, requests to its own origin, and
/// nothing else.
pub(crate) const PAGE_POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; \
     font-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'",
);

const OPENER_POLICY: HeaderName = HeaderName::from_static("cross-origin-opener-policy");
const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");
const SAME_ORIGIN: HeaderValue = HeaderValue::from_static("same-origin");

/// The style that all pages share.
pub(crate) const STYLE: Asset = Asset { name: "style.css", bytes: include_bytes!("style.css") };
/// The icon of all pages.
pub(crate) const ICON: Asset = Asset { name: "icon.svg", bytes: include_bytes!("icon.svg") };
/// Functions of all pages: elements made by script, and numbers and times as text.
pub(crate) const DOM: Asset = Asset { name: "dom.js", bytes: include_bytes!("dom.js") };

/// A file, by the name under which it is served. The ending of the name decides its content type.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asset {
    pub(crate) name: &'static str,
    pub(crate) bytes: &'static [u8],
}

/// The files of a page.
#[derive(Debug)]
pub(crate) struct Assets(Vec<ServedAsset>);

#[derive(Debug)]
struct ServedAsset {
    asset: Asset,
    etag: HeaderValue,
}

impl Assets {
    pub(crate) fn new(files: &[Asset]) -> Self {
        let served = |&asset: &Asset| ServedAsset { asset, etag: etag(asset.bytes) };
        Self(files.iter().map(served).collect())
    }

    /// Returns the response to a GET request for a file: 200, or 304 where the browser has it. `None` where there is no file of this
    /// name.
    pub(crate) fn response(&self, name: &str, request: &HeaderMap) -> Option<Response> {
        let ServedAsset { asset, etag } = self.0.iter().find(|served| served.asset.name == name)?;
        let known = is_known(etag, request);
        let mut response = Response::new(if known { Body::empty() } else { Body::from(asset.bytes) });
        let headers = response.headers_mut();
        restrict_page(headers);
        headers.insert(ETAG, etag.clone());
        // Kept, and asked for by its tag each time: a page never runs with files of another version.
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        if known {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
        } else {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type(name)));
            headers.insert(CONTENT_LENGTH, HeaderValue::from(asset.bytes.len()));
        }
        Some(response)
    }
}

/// Tells browsers what a page may do: load its own files, and be shown in no frame of another page.
pub(crate) fn restrict_page(headers: &mut HeaderMap) {
    headers.insert(CONTENT_SECURITY_POLICY, PAGE_POLICY);
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(OPENER_POLICY, SAME_ORIGIN);
    headers.insert(RESOURCE_POLICY, SAME_ORIGIN);
}

/// Returns the tag of a file: its digest, shortened.
fn etag(bytes: &[u8]) -> HeaderValue {
    let digest = blake3::hash(bytes).to_hex();
    HeaderValue::from_str(&format!("\"{}\"", &digest[..32])).expect("hex digits make a header value")
}

/// Whether a conditional request names this tag. A proxy may have made a weak one of it.
fn is_known(etag: &HeaderValue, request: &HeaderMap) -> bool {
    let values = request.get_all(IF_NONE_MATCH).iter().flat_map(|value| value.as_bytes().split(|&byte| byte == b','));
    let tags = values.map(<[u8]>::trim_ascii).map(|tag| tag.strip_prefix(b"W/").unwrap_or(tag));
    tags.into_iter().any(|tag| tag == b"*" || tag == etag.as_bytes())
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map_or("", |(_, ending)| ending) {
        "html" => "text/html; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "json" => "application/json",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(name: &str, if_none_match: Option<&str>) -> Option<Response> {
        let assets = Assets::new(&[
            Asset { name: "page.html", bytes: b"<!doctype html>" },
            Asset { name: "page.js", bytes: b"export {};" },
        ]);
        let request = if_none_match.map(|tag| (IF_NONE_MATCH, tag.parse().unwrap()));
        assets.response(name, &request.into_iter().collect())
    }

    async fn body(response: Response) -> Vec<u8> {
        axum::body::to_bytes(response.into_body(), 1000).await.unwrap().to_vec()
    }

    #[tokio::test]
    async fn a_file_has_its_type_its_tag_and_the_policy() {
        let page = get("page.html", None).unwrap();
        assert_eq!(
            (page.status(), page.headers()[CONTENT_TYPE].as_bytes()),
            (StatusCode::OK, &b"text/html; charset=utf-8"[..])
        );
        assert_eq!(page.headers()[CONTENT_SECURITY_POLICY], PAGE_POLICY);
        assert_eq!(page.headers()[CONTENT_LENGTH], "15");
        assert_eq!(body(page).await, b"<!doctype html>");
        let script = get("page.js", None).unwrap();
        assert_eq!(script.headers()[CONTENT_TYPE], "text/javascript; charset=utf-8");
        assert_ne!(script.headers()[ETAG], get("page.html", None).unwrap().headers()[ETAG]);
        assert!(get("other.js", None).is_none() && get("", None).is_none() && get("../page.js", None).is_none());
    }

    #[tokio::test]
    async fn a_file_that_the_browser_has_is_not_sent_again() {
        let tag = get("page.js", None).unwrap().headers()[ETAG].to_str().unwrap().to_owned();
        for known in [tag.clone(), format!("\"other\", W/{tag}"), "*".to_owned()] {
            let response = get("page.js", Some(&known)).unwrap();
            assert_eq!(
                (response.status(), response.headers()[ETAG].to_str().unwrap()),
                (StatusCode::NOT_MODIFIED, &*tag)
            );
            assert_eq!(response.headers()[CONTENT_SECURITY_POLICY], PAGE_POLICY);
            assert_eq!(body(response).await, b"", "{known}");
        }
        assert_eq!(get("page.js", Some("\"other\"")).unwrap().status(), StatusCode::OK);
    }
}
