//! Origins of web pages, as browsers spell them.

use serde::Deserialize;

/// An entry of `server.cors_origins`: an origin, `null` (pages without one: files, sandboxed frames), or `*`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) enum PageOrigin {
    Any,
    /// The bytes that the browser sends.
    Exactly(String),
}

impl PageOrigin {
    /// Returns whether the page of this `Origin` header is meant.
    pub(crate) fn is(&self, origin: &[u8]) -> bool {
        match self {
            Self::Any => true,
            Self::Exactly(known) => known.as_bytes() == origin,
        }
    }
}

/// Why a text is not an origin. No browser would send it, so it would never match.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not an origin: write scheme://host or scheme://host:port as browsers do, in lower case, without a path, a \
     slash at the end or the scheme's default port; or \"null\", or \"*\""
)]
pub(crate) struct InvalidOrigin(String);

impl TryFrom<String> for PageOrigin {
    type Error = InvalidOrigin;

    fn try_from(text: String) -> Result<Self, InvalidOrigin> {
        if text == "*" {
            return Ok(Self::Any);
        }
        if text == "null" || is_origin(&text) { Ok(Self::Exactly(text)) } else { Err(InvalidOrigin(text)) }
    }
}

fn is_origin(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once("://") else { return false };
    let is_scheme = scheme.starts_with(|c: char| c.is_ascii_lowercase())
        && scheme.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'+' | b'-' | b'.'));
    let is_plain = rest.bytes().all(|b| b.is_ascii_graphic() && !b.is_ascii_uppercase() && !b"/?#@*,\\".contains(&b));
    let default_port = match scheme {
        "http" => ":80",
        "https" => ":443",
        // Such as `file://` and the schemes of desktop programs.
        _ => return is_scheme && is_plain,
    };
    is_scheme
        && is_plain
        && !rest.is_empty()
        && !rest.starts_with(':')
        && !rest.ends_with([':', '.'])
        && !rest.ends_with(default_port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_must_be_what_a_browser_sends() {
        let parsed = |text: &str| PageOrigin::try_from(text.to_owned());
        for good in [
            "https://app.example.com",
            "http://localhost:5173",
            "http://[::1]:3000",
            "http://10.0.0.7:80443",
            "null",
            "file://",
            "app://obsidian.md",
            "chrome-extension://abcdefghijklmnop",
            "tauri://localhost",
        ] {
            assert_eq!(parsed(good), Ok(PageOrigin::Exactly(good.to_owned())));
            assert!(parsed(good).unwrap().is(good.as_bytes()) && !parsed(good).unwrap().is(b"https://evil.example"));
        }
        for bad in [
            "",
            "app.example.com",
            "https://",
            "https://app.example.com/",
            "https://App.example.com",
            "https://app.example.com:443",
            "http://app.example.com:80",
            "https://*.example.com",
            "https://me@app.example.com",
            "https://a.example, https://b.example",
            "HTTPS://app.example.com",
            "https://app.example.com\n",
            "Null",
        ] {
            assert!(parsed(bad).is_err(), "{bad:?}");
        }
        assert!(parsed("*").unwrap().is(b"https://anything.example"));
    }
}
