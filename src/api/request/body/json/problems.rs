//! What is wrong with a JSON text, in plain words and with the position, without the words of the parser.

use std::borrow::Cow;

use struson::reader::SyntaxErrorKind;

pub(super) const NOT_UTF8: &str = "it is not valid UTF-8";
/// How much of the text at an error is looked at, in bytes.
pub(super) const NEAR_BYTES: usize = 16;

/// Returns what a syntax error is. `near` begins at `position`, which counts from 0.
#[expect(clippy::wildcard_enum_match_arm, reason = "the parser may name more kinds in a later version")]
pub(super) fn of_syntax(kind: SyntaxErrorKind, position: Option<u64>, near: &[u8]) -> Cow<'static, str> {
    let at = position.map(|position| format!(" near byte {position}")).unwrap_or_default();
    let first = near.first().copied();
    match kind {
        SyntaxErrorKind::IncompleteDocument => {
            let at = position.map(|position| format!(" after byte {position}")).unwrap_or_default();
            format!("it ends before the JSON is complete{at}; it was cut, or a quotation mark or bracket is missing")
        }
        SyntaxErrorKind::TrailingData => format!("something follows the JSON object{at}"),
        SyntaxErrorKind::NotEscapedControlCharacter => {
            let (what, written) = match first {
                Some(b'\n') => ("a line break", "\\n"),
                Some(b'\r') => ("a line break", "\\r"),
                Some(b'\t') => ("a tab", "\\t"),
                _ => ("a control character", "\\u and its four digits"),
            };
            format!("a string has {what} in it{at}, which JSON writes as {written}")
        }
        SyntaxErrorKind::UnpairedSurrogatePairEscapeSequence => format!(
            "a string has half of a surrogate pair{at} (a unicode escape from \\ud800 to \\udfff without its other half); a text was \
             probably cut inside a character"
        ),
        SyntaxErrorKind::UnknownEscapeSequence | SyntaxErrorKind::MalformedEscapeSequence => {
            format!("a string has a backslash{at} that begins no escape sequence of JSON; write \\\\ for the backslash itself")
        }
        SyntaxErrorKind::TrailingCommaNotEnabled => format!("a comma{at} is followed by no value; leave it out"),
        SyntaxErrorKind::CommentsNotEnabled
        | SyntaxErrorKind::IncompleteComment
        | SyntaxErrorKind::BlockCommentNotClosed => format!("it has a comment{at}, which JSON does not allow"),
        SyntaxErrorKind::MissingComma => format!("a comma is missing{at}"),
        SyntaxErrorKind::MissingColon => format!("a colon is missing behind a name{at}"),
        SyntaxErrorKind::UnexpectedComma => format!("a comma stands in the place of a value{at}"),
        SyntaxErrorKind::MalformedNumber | SyntaxErrorKind::TrailingDataAfterNumber => {
            format!("a number is not valid{at}: JSON has no leading zeros or plus signs, and no digit may be missing")
        }
        _ => format!("it is not valid JSON{at}{}", by_text(near)),
    }
    .into()
}

/// Returns a hint by the text that JSON does not allow.
fn by_text(near: &[u8]) -> &'static str {
    let starts = |words: &[&str]| words.iter().any(|word| near.starts_with(word.as_bytes()));
    if near.starts_with(b"'") {
        ": names and strings stand in double quotes, not in single ones"
    } else if near.starts_with("\u{201c}".as_bytes()) || near.starts_with("\u{201d}".as_bytes()) {
        ": names and strings stand in straight double quotes, not in typographic ones"
    } else if starts(&["NaN", "Inf", "-Inf"]) {
        ": JSON has no NaN and no infinity; leave the value out"
    } else if starts(&["True", "False", "None", "undefined", "Null", "TRUE", "FALSE", "NULL", "nil"]) {
        ": the words of JSON are true, false and null"
    } else if near.first().is_some_and(u8::is_ascii_alphabetic) {
        ": names and strings stand in double quotes"
    } else {
        ""
    }
}

/// Returns what a text is whose first character begins no JSON object.
pub(super) fn no_object(first: u8) -> &'static str {
    match first {
        b'[' => "it is a JSON array; a JSON object with the parameters is expected",
        b'"' => "it is a JSON string; a JSON object is expected, which was perhaps encoded twice",
        b'-' => "it is not a JSON object; a form needs the Content-Type multipart/form-data and its boundary",
        b'0'..=b'9' | b't' | b'f' | b'n' => "it is a single value; a JSON object with the parameters is expected",
        b'\'' => "it begins with a single quote; a JSON object is expected, as it is",
        b'<' => "it is XML or HTML; a JSON object with the parameters is expected",
        0xff | 0xfe | 0 => "it is not UTF-8, but perhaps UTF-16; JSON is sent in UTF-8",
        _ => "it is not a JSON object, though its Content-Type says JSON",
    }
}

/// Returns what is wrong with a body without JSON.
pub(super) fn empty(bytes: u64) -> &'static str {
    if bytes == 0 {
        "it is empty; a JSON object with the parameters is expected"
    } else {
        "it is empty but for white space; a JSON object with the parameters is expected"
    }
}
