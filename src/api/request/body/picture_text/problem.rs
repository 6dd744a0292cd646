//! Names what a text in the place of a picture is, when it is none.

use std::borrow::Cow;

/// Most characters of a text that a message repeats.
const SHOWN_CHARS: usize = 60;

/// Whether a text is the name of an upload object, which a proxy once wrote beside the files themselves (litellm#41602).
pub(crate) fn is_quoted_upload(head: &[u8]) -> bool {
    head.windows(10).any(|bytes| bytes == b"UploadFile")
}

/// Returns what a text is; `None` where it may be base64. `whole` where `head` is all of it.
pub(super) fn of(head: &[u8], whole: bool) -> Option<Cow<'static, str>> {
    let text = String::from_utf8_lossy(head);
    let text = text.trim();
    let lower = text.chars().take(200).collect::<String>().to_lowercase();
    if let Some(problem) = words_of_programs(text, &lower, whole).or_else(|| addresses(text, &lower, whole)) {
        return Some(problem.into());
    }
    // Percent signs are encoded digits.
    let is_digit = |c: char| c.is_ascii_alphanumeric() || c.is_ascii_whitespace() || "+/-_=%".contains(c);
    let foreign = text.chars().find(|&c| !is_digit(c))?;
    let problem = if foreign == '\u{fffd}' {
        "it is no text: send the base64 of the picture".to_owned()
    } else {
        format!(
            "'{}' is neither a data URL nor base64 nor an http(s) address: base64 has no character '{}'",
            shown(text),
            foreign.escape_debug()
        )
    };
    Some(problem.into())
}

/// Texts that a program wrote in the place of a value.
fn words_of_programs(text: &str, lower: &str, whole: bool) -> Option<String> {
    if whole && ["null", "undefined", "none", "nil", "nan", "true", "false"].contains(&lower) {
        return Some(format!(
            "it is the word '{}' and no picture; leave the parameter out where there is none",
            shown(text)
        ));
    }
    if lower.starts_with("[object") {
        return Some(format!(
            "it is '{}', which JavaScript writes for an object that became a string; send the file itself",
            shown(text)
        ));
    }
    if lower.starts_with("b'") || lower.starts_with("b\"") {
        return Some("it is Python's notation of bytes (b'…'); decode() them to a string first".to_owned());
    }
    if is_quoted_upload(text.as_bytes()) || (lower.starts_with('<') && lower.contains(" object at 0x")) {
        return Some("it is the name of an object of the client's program, and not its bytes".to_owned());
    }
    if lower.starts_with("<svg") || (lower.starts_with("<?xml") && lower.contains("svg")) {
        return Some("it is the source of an SVG drawing; send it as PNG, JPEG or WebP".to_owned());
    }
    if lower.starts_with('<') {
        let what = if lower.contains("html") { "HTML, perhaps of an error page," } else { "markup" };
        return Some(format!("it is {what} and no picture"));
    }
    if lower.starts_with(['{', '[', '"']) {
        return Some("it is JSON that was written as a string; send its value itself".to_owned());
    }
    None
}

/// Addresses and paths from which the gateway cannot read.
fn addresses(text: &str, lower: &str, whole: bool) -> Option<String> {
    let way_on = "send the picture itself as a data URL or base64, or its whole http(s) address";
    let quoted = shown(text);
    if lower.starts_with("blob:") {
        return Some(format!("a blob: address is known only to the browser that made it; {way_on}"));
    }
    let bytes = lower.as_bytes();
    let has_drive =
        bytes.len() > 2 && bytes[0].is_ascii_alphabetic() && bytes[1] == b':' && matches!(bytes[2], b'\\' | b'/');
    if has_drive || lower.starts_with("file:") || lower.starts_with("\\\\") {
        return Some(format!("'{quoted}' is the path of a file, which the gateway cannot read; {way_on}"));
    }
    if let Some((scheme, _)) = lower.split_once(':')
        && scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.len() <= 20
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+.-".contains(c))
    {
        return Some(match scheme {
            "http" | "https" => format!("'{quoted}' is not a whole address: 'https://' and a host are expected"),
            _ if scheme.contains('.') || scheme == "localhost" => format!("'{quoted}' has no 'https://'; {way_on}"),
            _ => format!("addresses of the scheme '{scheme}' are not supported; {way_on}"),
        });
    }
    let is_short = whole && text.len() <= 500 && !text.contains(char::is_whitespace);
    if lower.starts_with("//") {
        return Some(format!("'{quoted}' has no 'https:'; {way_on}"));
    }
    let is_rooted =
        lower.starts_with('/') || lower.starts_with("./") || lower.starts_with("../") || lower.starts_with("~/");
    if is_rooted && is_short {
        let relative = ["/api", "/v1", "/openai", "/files", "?", "/content"].iter().any(|part| lower.contains(part));
        let what = if relative { "an address without a host" } else { "a path" };
        return Some(format!("'{quoted}' is {what}, which the gateway cannot read; {way_on}"));
    }
    if !is_short || !lower.contains('.') {
        return None;
    }
    let first = lower.split('/').next().unwrap_or_default();
    Some(if first.len() < lower.len() && first.contains('.') && !first.starts_with('.') || lower.starts_with("www.") {
        format!("'{quoted}' has no 'https://'; {way_on}")
    } else {
        format!("'{quoted}' is the name of a file and not its bytes; {way_on}")
    })
}

fn shown(text: &str) -> String {
    let mut shown: String = text.chars().take(SHOWN_CHARS).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
}
