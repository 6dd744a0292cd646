//! Pages that the network edge in front of the upstream certainly made itself: the service behind it never saw the request.
//!
//! The header `server: cloudflare` alone proves nothing, because it is on the answers of the service too. What proves it is
//! the header `cf-mitigated`, or a page with one of the edge's own error numbers.

use std::ops::RangeInclusive;

use serde_json::Value;

use super::json;

/// The edge's own errors that concern the caller: its address, its client, its rate.
const ERRORS: RangeInclusive<u16> = 1006..=1020;
/// The bytes of a page that are read.
const PAGE_BYTES_MAX: usize = 64 * 1024;

/// A refusal by the edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::upstream) struct EdgePage {
    /// The edge's error number, where the page shows it.
    pub(in crate::upstream) code: Option<u16>,
}

impl EdgePage {
    /// Recognizes a page of the edge. `mitigated`: the answer has the header `cf-mitigated`.
    pub(in crate::upstream) fn of(body: &[u8], mitigated: bool) -> Option<Self> {
        if let Some(body) = json::parse(body) {
            // A text of the service may quote the edge of another service; only the edge itself calls the error its own.
            if body.get("cloudflare_error") != Some(&Value::Bool(true)) {
                return mitigated.then_some(Self { code: None });
            }
            let code = body.get("error_code").and_then(Value::as_u64).and_then(|code| u16::try_from(code).ok());
            return Some(Self { code: code.filter(|code| ERRORS.contains(code)) });
        }
        let page = String::from_utf8_lossy(&body[..body.len().min(PAGE_BYTES_MAX)]).to_lowercase();
        let text = without_tags(&page);
        let code = error_number(&text);
        let names_edge = text.contains("cloudflare") || text.contains("ray id") || text.trim().len() < 24;
        let restricts = text.contains("used cloudflare to restrict access");
        (mitigated || (code.is_some() && names_edge) || restricts).then_some(Self { code })
    }
}

/// Replaces the tags of a page by spaces, and the entity of a space.
fn without_tags(page: &str) -> String {
    let mut text = String::with_capacity(page.len());
    let mut in_tag = false;
    for c in page.chars() {
        match c {
            '<' => in_tag = true,
            '>' if in_tag => {
                in_tag = false;
                text.push(' ');
            }
            _ if in_tag => {}
            c => text.push(c),
        }
    }
    text.replace("&nbsp;", " ")
}

/// Finds "error 1010", "error code: 1010" and the like in a text of small letters.
fn error_number(text: &str) -> Option<u16> {
    text.match_indices("error").find_map(|(at, word)| {
        let rest = text[at + word.len()..].trim_start();
        let rest = rest.strip_prefix("code").unwrap_or(rest).trim_start_matches([':', '#', ' ', '\n', '\r', '\t']);
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        rest[..digits].parse().ok().filter(|code| ERRORS.contains(code))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(page: &str) -> Option<EdgePage> {
        EdgePage::of(page.as_bytes(), false)
    }

    fn of_code(code: u16) -> EdgePage {
        EdgePage { code: Some(code) }
    }

    #[test]
    fn pages_of_the_edge_are_recognized() {
        let recorded = "<html><head><title>Access denied | gptproto.com used Cloudflare to restrict access</title></head>\
                        <body><span>Error</span> <span class=\"code\">1010</span> Ray ID: 8f</body></html>";
        assert_eq!(read(recorded), Some(of_code(1010)));
        assert_eq!(read("error code: 1020"), Some(of_code(1020)));
        assert_eq!(read("<h1>Error&nbsp;1015</h1> You are being rate limited. Cloudflare"), Some(of_code(1015)));
        assert_eq!(
            read("<title>Access denied | x used Cloudflare to restrict access</title>"),
            Some(EdgePage { code: None })
        );
        assert_eq!(
            read(r#"{"title":"x","status":403,"error_code":1010,"cloudflare_error":true}"#),
            Some(of_code(1010))
        );
    }

    #[test]
    fn other_pages_are_not() {
        for page in [
            "",
            "<html>404 Not Found</html>",
            "<html><center>cloudflare</center> Error 520</html>",
            "error code: 502",
            "error code: 10100",
            // A database has such numbers too.
            "Database failure. ERROR 1010 (HY000): Error dropping database. Please tell the administrator.",
            r#"{"error":{"message":"the provider answered: error code: 1015, cloudflare"}}"#,
        ] {
            assert_eq!(read(page), None, "{page}");
        }
        assert_eq!(EdgePage::of(b"", true), Some(EdgePage { code: None }), "by its header");
    }
}
