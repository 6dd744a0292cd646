//! The pages with which the edge in front of the service refuses a call.

use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};

use super::errors::status;
use crate::simulator::scenario::{EdgePage, Scenario};

/// Returns the page in place of an answer, if the edge refuses a call with a body of `body_bytes`.
pub(crate) fn refused(scenario: &Scenario, path: &str, body_bytes: usize) -> Option<Response> {
    let rules = &scenario.edge;
    let is_covered = rules.paths.is_empty() || rules.paths.iter().any(|start| path.starts_with(start.as_str()));
    let is_small = rules.page == EdgePage::Page413 && body_bytes <= rules.body_bytes_max;
    let code = rules.page.status().filter(|_| is_covered && !is_small)?;
    let ray = format!("{:016x}-FRA", rand::random::<u64>());
    let (content_type, body) = match title(rules.page) {
        Some(title) => ("text/html; charset=UTF-8", plain(title)),
        None if rules.page == EdgePage::Text403Banned => ("text/plain; charset=UTF-8", "error code: 1010".to_owned()),
        None => ("text/html; charset=UTF-8", banned(&ray)),
    };
    let mut response = (status(code), [(header::CONTENT_TYPE, content_type)], body).into_response();
    let headers = response.headers_mut();
    headers.insert(header::SERVER, HeaderValue::from_static("cloudflare"));
    if let Ok(ray) = HeaderValue::from_str(&ray) {
        headers.insert(HeaderName::from_static("cf-ray"), ray);
    }
    if rules.page == EdgePage::Page403Challenge {
        headers.insert(HeaderName::from_static("cf-mitigated"), HeaderValue::from_static("challenge"));
    }
    Some(response)
}

/// Returns the page of error 1010, with the title that was recorded.
fn banned(ray: &str) -> String {
    format!(
        "<!DOCTYPE html>\n<html lang=\"en-US\"><head><title>Access denied | gptproto.com used Cloudflare to restrict \
         access</title></head>\n<body><h1><span class=\"cf-error-type\">Error</span> <span \
         class=\"cf-error-code\">1010</span></h1><small>Ray ID: {ray}</small>\n<h2>Access denied</h2><p>The owner of this \
         website has banned your access based on your browser's signature.</p></body></html>\n"
    )
}

/// Returns the title of a page without a code of its own.
fn title(page: EdgePage) -> Option<&'static str> {
    match page {
        EdgePage::None | EdgePage::Page403Banned | EdgePage::Text403Banned => None,
        EdgePage::Page403Challenge => Some("Just a moment..."),
        EdgePage::Page403 => Some("403 Forbidden"),
        EdgePage::Page404 => Some("404 Not Found"),
        EdgePage::Page405 => Some("405 Not Allowed"),
        EdgePage::Page408 => Some("408 Request Time-out"),
        EdgePage::Page409 => Some("409 Conflict"),
        EdgePage::Page413 => Some("413 Request Entity Too Large"),
        EdgePage::Page425 => Some("425 Too Early"),
        EdgePage::Page499 => Some("499 Client Closed Request"),
    }
}

fn plain(title: &str) -> String {
    format!(
        "<html>\n<head><title>{title}</title></head>\n<body>\n<center><h1>{title}</h1></center>\n\
         <hr><center>cloudflare</center>\n</body>\n</html>\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scenario(page: EdgePage) -> Scenario {
        let mut scenario = Scenario::default();
        scenario.edge.page = page;
        scenario
    }

    #[test]
    fn every_page_has_its_status_and_the_headers_of_the_edge() {
        for (page, code) in [
            (EdgePage::Page403Banned, 403),
            (EdgePage::Text403Banned, 403),
            (EdgePage::Page403Challenge, 403),
            (EdgePage::Page409, 409),
            (EdgePage::Page499, 499),
        ] {
            let response = refused(&scenario(page), "/v1/models", 0).unwrap();
            assert_eq!(response.status(), code);
            assert_eq!(response.headers()["server"], "cloudflare");
            assert!(response.headers().contains_key("cf-ray"));
            let is_challenge = response.headers().get("cf-mitigated").is_some_and(|value| value == "challenge");
            assert_eq!(is_challenge, page == EdgePage::Page403Challenge);
        }
        assert!(refused(&Scenario::default(), "/v1/models", 0).is_none());
    }

    #[test]
    fn the_size_of_a_body_and_the_path_decide() {
        let mut scenario = scenario(EdgePage::Page413);
        scenario.edge.body_bytes_max = 1000;
        assert!(refused(&scenario, "/api/v3/images", 1000).is_none());
        assert_eq!(refused(&scenario, "/api/v3/images", 1001).unwrap().status(), 413);
        scenario.edge.paths = vec!["/v1/images/".to_owned()];
        assert!(refused(&scenario, "/api/v3/images", 1001).is_none());
        assert!(refused(&scenario, "/v1/images/edits", 1001).is_some());
    }
}
