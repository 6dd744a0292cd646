//! Headers that say where a response comes from, and which parameters of the request were dropped or ignored.

use axum::http::header::AGE;
use axum::http::{HeaderMap, HeaderName, HeaderValue};

use crate::engine::AnswerSource;
use crate::http::gateway_headers::{CACHE, DROPPED, HIT, IGNORED, RENAMED};

/// Most names in one header; the number of the others follows them.
const NAMES_MAX: usize = 24;
/// Longest name in a header, in characters.
const NAME_CHARS_MAX: usize = 64;

/// What of a request had no effect, or another one than its name says, by name.
#[derive(Clone, Debug, Default)]
pub(crate) struct FieldReport {
    /// Parameters that are not honoured.
    pub(crate) dropped: Vec<String>,
    /// Fields that are not known.
    pub(crate) ignored: Vec<String>,
    /// Fields of other APIs with the parameter that they were read as.
    pub(crate) renamed: Vec<String>,
}

/// Adds `x-gateway-cache`, `age` of a hit, and the names of dropped, ignored and renamed parameters.
pub(crate) fn add_cache_headers(headers: &mut HeaderMap, source: AnswerSource, fields: &FieldReport) {
    headers.insert(CACHE, HeaderValue::from_static(cache_word(source)));
    if let AnswerSource::Hit(age) = source {
        headers.insert(AGE, HeaderValue::from(age.as_secs()));
    }
    add_names(headers, DROPPED, &fields.dropped);
    add_names(headers, IGNORED, &fields.ignored);
    add_names(headers, RENAMED, &fields.renamed);
}

/// Adds a list of names. They may be the client's own words: what is no visible ASCII character, or separates names, becomes
/// a question mark.
pub(crate) fn add_names(headers: &mut HeaderMap, header: HeaderName, names: &[String]) {
    let clean = |name: &String| -> String {
        let shown = |c: char| if c.is_ascii_graphic() && c != ',' { c } else { '?' };
        name.chars().take(NAME_CHARS_MAX).map(shown).collect()
    };
    let mut list: Vec<String> = names.iter().take(NAMES_MAX).map(clean).collect();
    if names.len() > NAMES_MAX {
        list.push(format!("+{}", names.len() - NAMES_MAX));
    }
    if let Ok(value) = HeaderValue::from_str(&list.join(","))
        && !value.is_empty()
    {
        headers.insert(header, value);
    }
}

/// Returns the value of `x-gateway-cache`, one of [`CACHE_WORDS`].
pub(crate) fn cache_word(source: AnswerSource) -> &'static str {
    match source {
        AnswerSource::Hit(_) => HIT,
        AnswerSource::Joined => "joined",
        AnswerSource::Bought => "miss",
        AnswerSource::Bypass => "bypass",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ignored(names: &[&str]) -> String {
        let ignored = names.iter().map(|&name| name.to_owned()).collect();
        let fields = FieldReport { ignored, ..FieldReport::default() };
        let mut headers = HeaderMap::new();
        add_cache_headers(&mut headers, AnswerSource::Bought, &fields);
        assert!(!headers.contains_key(DROPPED));
        headers.get(IGNORED).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
    }

    #[test]
    fn names_of_clients_are_clipped_and_harmless() {
        assert_eq!(ignored(&[]), "");
        assert_eq!(ignored(&["seed", "steps"]), "seed,steps");
        for (name, shown) in [
            ("caf\u{e9}", "caf?"),
            ("a,b", "a?b"),
            ("two words", "two?words"),
            ("line\r\nx-evil: 1", "line??x-evil:?1"),
            ("\u{0}", "?"),
            ("", ""),
            ("image[0]", "image[0]"),
        ] {
            assert_eq!(ignored(&[name]), shown, "{name:?}");
        }
        assert_eq!(ignored(&[&"x".repeat(1000)]).len(), NAME_CHARS_MAX);
        let many: Vec<String> = (0..100).map(|number| format!("f{number}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(ignored(&many).ends_with("f23,+76"));
    }
}
