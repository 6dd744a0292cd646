//! Texts of a document as HTML.

use std::fmt::Write;

use serde_json::Value;

use crate::web::escape::escaped as escape;

/// Returns a string; nothing for another value.
pub(super) fn escaped(value: &Value) -> String {
    escape(value.as_str().unwrap_or_default())
}

/// Returns an anchor with the letters of a name.
pub(super) fn named_by(kind: &str, name: &Value) -> String {
    let letters = name.as_str().unwrap_or_default().chars().filter(char::is_ascii_alphanumeric);
    format!("{kind}-{}", letters.collect::<String>())
}

/// Returns a text in which what stands between backticks is code.
pub(super) fn phrase(value: &Value) -> String {
    inline(value.as_str().unwrap_or_default())
}

fn inline(text: &str) -> String {
    let mut html = String::new();
    for (position, part) in text.split('`').enumerate() {
        let part = escape(part);
        if position % 2 == 0 {
            html.push_str(&part.replace("**yes**", "<strong>yes</strong>"));
        } else {
            let _ = write!(html, "<code>{part}</code>");
        }
    }
    html
}

/// Writes the paragraphs of a text.
pub(super) fn paragraphs(page: &mut String, value: &Value) {
    for paragraph in value.as_str().unwrap_or_default().split("\n\n").filter(|text| !text.is_empty()) {
        let _ = write!(page, "<p>{}</p>", inline(paragraph));
    }
}
