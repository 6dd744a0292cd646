//! Parses header values with parameters, `form-data; name="image[]"; filename*=utf-8''x.png`, as clients write them.

use axum::http::HeaderName;

/// The host that a client asked a proxy for.
pub(crate) const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
/// The scheme by which it did.
pub(crate) const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// The first word of a header value in lower case, and its parameters in order, names in lower case.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ParsedHeader {
    pub(crate) word: String,
    parameters: Vec<(String, Vec<u8>)>,
}

impl ParsedHeader {
    /// Parses a value. Accepts what browsers and SDKs send: quoted or bare values in any order, spaces around `=`, stray
    /// semicolons. Never fails: parts that cannot be parsed are left out.
    pub(crate) fn parse(value: &[u8]) -> Self {
        let end = value.iter().position(|&b| b == b';').unwrap_or(value.len());
        let word = String::from_utf8_lossy(value[..end].trim_ascii()).to_lowercase();
        let mut rest = &value[end..];
        let mut parameters = Vec::new();
        while let [b';', after @ ..] = rest {
            let stop = after.iter().position(|&b| b == b'=' || b == b';');
            let Some(stop) = stop.filter(|&stop| after[stop] == b'=') else {
                // A parameter without a value.
                rest = stop.map_or(&[], |stop| &after[stop..]);
                continue;
            };
            let name = String::from_utf8_lossy(after[..stop].trim_ascii()).to_lowercase();
            let (value, behind) = read_value(after[stop + 1..].trim_ascii_start());
            parameters.push((name, value));
            rest = behind;
        }
        Self { word, parameters }
    }

    /// Splits the first word at its equals sign and removes the quotes of the value: `wait=10`.
    pub(crate) fn assignment(&self) -> (String, String) {
        match self.word.split_once('=') {
            Some((name, value)) => (name.trim_end().to_owned(), value.trim_start().trim_matches('"').to_owned()),
            None => (self.word.clone(), String::new()),
        }
    }

    /// Returns the first parameter of this name, byte for byte.
    pub(crate) fn get(&self, name: &str) -> Option<&[u8]> {
        self.parameters.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_slice())
    }

    /// Returns a parameter as text, its extended form (`name*=utf-8''…`, RFC 8187) first.
    pub(crate) fn text(&self, name: &str) -> Option<String> {
        let is_extended = |known: &str| known.strip_suffix('*') == Some(name);
        let extended = self.parameters.iter().find(|(known, _)| is_extended(known)).and_then(|(_, value)| {
            let value = std::str::from_utf8(value).ok()?;
            let (charset, rest) = value.split_once('\'')?;
            let (_language, encoded) = rest.split_once('\'')?;
            let utf8 = charset.eq_ignore_ascii_case("utf-8");
            let decoded = percent_encoding::percent_decode_str(encoded).decode_utf8().ok()?;
            utf8.then(|| decoded.into_owned())
        });
        extended.or_else(|| Some(String::from_utf8_lossy(self.get(name)?).into_owned()))
    }
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
fn read_value(text: &[u8]) -> (Vec<u8>, &[u8]) {
    let [b'"', quoted @ ..] = text else {
        let end = text.iter().position(|&b| b == b';').unwrap_or(text.len());
        return (text[..end].trim_ascii_end().to_vec(), &text[end..]);
    };
    let mut value = Vec::new();
    let mut bytes = quoted.iter().copied().enumerate();
    let mut end = quoted.len();
    while let Some((index, byte)) = bytes.next() {
        match byte {
            b'"' => {
                end = index + 1;
                break;
            }
            // Only these two: some clients send whole Windows paths unescaped.
            b'\\' if matches!(quoted.get(index + 1), Some(b'"' | b'\\')) => {
                value.extend(bytes.next().map(|(_, escaped)| escaped));
            }
            _ => value.push(byte),
        }
    }
    let behind = &quoted[end..];
    let next = behind.iter().position(|&b| b == b';').unwrap_or(behind.len());
    (value, &behind[next..])
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
                assert_eq!(parsed.get("boundary"), Some(boundary.as_bytes()), "{header}");
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
