//! Parses header values with parameters, `form-data; name="image[]"; filename*=utf-8''x.png`, as clients write them.

use std::borrow::Cow;

use axum::http::HeaderName;

/// The host that a client asked a proxy for.
pub(crate) const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
/// The scheme by which it did.
pub(crate) const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// The first word of a header value in lower case, and its parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ParsedHeader<'a> {
    pub(crate) word: Cow<'a, str>,
    /// The value from its first semicolon on.
    rest: &'a [u8],
}

impl<'a> ParsedHeader<'a> {
    /// Parses a value. Accepts what browsers and SDKs send: quoted or bare values in any order, spaces around `=`, stray
    /// semicolons. Never fails: parts that cannot be parsed are left out.
    pub(crate) fn parse(value: &'a [u8]) -> Self {
        let end = value.iter().position(|&b| b == b';').unwrap_or(value.len());
        let (word, rest) = value.split_at(end);
        Self { word: in_lower_case(word.trim_ascii()), rest }
    }

    /// Splits the first word at its equals sign and removes the quotes of the value: `wait=10`.
    pub(crate) fn assignment(&self) -> (String, String) {
        match self.word.split_once('=') {
            Some((name, value)) => (name.trim_end().to_owned(), value.trim_start().trim_matches('"').to_owned()),
            None => (self.word.clone().into_owned(), String::new()),
        }
    }

    /// Returns the first parameter of this name, byte for byte.
    pub(crate) fn get(&self, name: &str) -> Option<Cow<'a, [u8]>> {
        self.parameters().find(|(known, _)| known.eq_ignore_ascii_case(name.as_bytes())).map(|(_, value)| value)
    }

    /// Returns a parameter as text, its extended form (`name*=utf-8''…`, RFC 8187) first.
    pub(crate) fn text(&self, name: &str) -> Option<Cow<'a, str>> {
        let (mut plain, mut extended) = (None, None);
        for (known, value) in self.parameters() {
            let place = match known.split_at_checked(name.len()) {
                Some((known, behind)) if known.eq_ignore_ascii_case(name.as_bytes()) => match behind {
                    b"" => &mut plain,
                    b"*" => &mut extended,
                    _ => continue,
                },
                _ => continue,
            };
            place.get_or_insert(value);
        }
        extended.and_then(|value| of_extended(&value)).map(Cow::Owned).or_else(|| {
            Some(match plain? {
                Cow::Borrowed(value) => String::from_utf8_lossy(value),
                Cow::Owned(value) => String::from_utf8_lossy(&value).into_owned().into(),
            })
        })
    }

    /// Lists the names and values of the parameters.
    fn parameters(&self) -> impl Iterator<Item = (&'a [u8], Cow<'a, [u8]>)> + use<'a> {
        let mut rest = self.rest;
        std::iter::from_fn(move || {
            while let [b';', after @ ..] = rest {
                let stop = after.iter().position(|&b| b == b'=' || b == b';');
                let Some(stop) = stop.filter(|&stop| after[stop] == b'=') else {
                    // A parameter without a value.
                    rest = stop.map_or(&[], |stop| &after[stop..]);
                    continue;
                };
                let (value, behind) = read_value(after[stop + 1..].trim_ascii_start());
                rest = behind;
                return Some((after[..stop].trim_ascii(), value));
            }
            None
        })
    }
}

/// Decodes the extended form of a parameter: the character set, a language, and the text with escapes.
fn of_extended(value: &[u8]) -> Option<String> {
    let (charset, rest) = std::str::from_utf8(value).ok()?.split_once('\'')?;
    let (_language, encoded) = rest.split_once('\'')?;
    let decoded = percent_encoding::percent_decode_str(encoded).decode_utf8().ok()?;
    charset.eq_ignore_ascii_case("utf-8").then(|| decoded.into_owned())
}

fn in_lower_case(word: &[u8]) -> Cow<'_, str> {
    let word = String::from_utf8_lossy(word);
    let is_lower = word.bytes().all(|byte| byte.is_ascii() && !byte.is_ascii_uppercase());
    if is_lower { word } else { word.to_lowercase().into() }
}

/// Splits a list at its commas, except those inside quotes.
pub(crate) fn list_members(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let (mut quoted, mut escaped) = (false, false);
    value.split(move |&byte| {
        let ends = byte == b',' && !quoted;
        (quoted, escaped) = match byte {
            b'"' if !escaped => (!quoted, false),
            b'\\' => (quoted, quoted && !escaped),
            _ => (quoted, false),
        };
        ends
    })
}

/// Reads one value; returns it and the rest, which is empty or begins with a semicolon.
fn read_value(text: &[u8]) -> (Cow<'_, [u8]>, &[u8]) {
    let [b'"', quoted @ ..] = text else {
        let end = text.iter().position(|&b| b == b';').unwrap_or(text.len());
        return (text[..end].trim_ascii_end().into(), &text[end..]);
    };
    // Only these two: some clients send whole Windows paths unescaped.
    let is_escape = |at: usize| quoted[at] == b'\\' && matches!(quoted.get(at + 1), Some(b'"' | b'\\'));
    let (mut end, mut unescaped) = (0, None::<Vec<u8>>);
    while end < quoted.len() && quoted[end] != b'"' {
        if is_escape(end) {
            unescaped.get_or_insert_with(|| quoted[..end].to_vec());
            end += 1;
        }
        if let Some(value) = &mut unescaped {
            value.push(quoted[end]);
        }
        end += 1;
    }
    let behind = &quoted[(end + 1).min(quoted.len())..];
    let next = behind.iter().position(|&b| b == b';').unwrap_or(behind.len());
    (unescaped.map_or(Cow::Borrowed(&quoted[..end]), Cow::Owned), &behind[next..])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_parsed_as_clients_write_them() {
        let cases = [
            (r#"form-data; name="image""#, "image"),
            ("form-data; name=image", "image"),
            (r#"form-data; name="image[]"; filename="a.png""#, "image[]"),
            (r#"form-data; filename="a.png"; name="image""#, "image"),
            (r#"FORM-DATA; NAME="prompt""#, "prompt"),
            (r#"form-data; filename="name=mask; name=\"mask\""; name=image"#, "image"),
            ("form-data; name = image ; filename = x", "image"),
            ("form-data;name=image;filename=x.png", "image"),
            ("form-data; name*=utf-8''im%61ge", "image"),
            ("form-data; name=\"x\"; name*=UTF-8'en'image", "image"),
            (r#"form-data; ; x; name="image";"#, "image"),
            ("form-data; name=image; filename=\"Assets/x.png\"; filename*=utf-8''Assets%2fx.png", "image"),
            (r#"form-data; filename="C:\dir\"; name="image""#, ""),
            (r#"form-data; filename="C:\dir\x.png"; name="image""#, "image"),
            (r#"form-data; name="a\"b\\c""#, "a\"b\\c"),
            ("form-data; name=\"", ""),
            ("form-data", ""),
            ("", ""),
        ];
        for (header, name) in cases {
            let parsed = ParsedHeader::parse(header.as_bytes());
            assert_eq!(parsed.text("name").unwrap_or_default(), name, "{header}");
        }
    }

    #[test]
    fn boundaries_keep_their_case_and_punctuation() {
        let seventy = "x".repeat(70);
        for boundary in ["----=_Part_1.2", "AaB03x", "openai-1_2=3", seventy.as_str()] {
            for header in [
                format!("multipart/form-data; boundary={boundary}"),
                format!("Multipart/Form-Data;BOUNDARY=\"{boundary}\"; charset=utf-8"),
            ] {
                let parsed = ParsedHeader::parse(header.as_bytes());
                assert_eq!(parsed.word, "multipart/form-data");
                assert_eq!(parsed.get("boundary").as_deref(), Some(boundary.as_bytes()), "{header}");
            }
        }
    }

    proptest! {
        #[test]
        fn any_bytes_can_be_parsed(value in prop::collection::vec(any::<u8>(), 0..200)) {
            let parsed = ParsedHeader::parse(&value);
            let _ = parsed.text("name");
        }
    }
}
