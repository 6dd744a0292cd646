//! An answer as it arrives, in bounds that every answer of the service keeps: what is no picture is small.

use bytes::BytesMut;
use memchr::memchr2;

use super::json::{DEPTH_MAX, VALUES_MAX};

/// Bytes of an answer that is no JSON, for instance a page, that are held; the rest is not read.
const PAGE_BYTES_MAX: usize = 64 * 1024;
/// Bytes of JSON without its pictures: a documented answer has a few thousand, and may repeat a prompt.
const PLAIN_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bytes at the start of a text by which a picture is recognized.
const HEAD_BYTES: usize = 64;
/// How pictures begin in base64: PNG, JPEG in both alphabets, WebP.
const PICTURE_HEADS: [&str; 4] = ["iVBORw", "/9j/", "_9j_", "UklGR"];

/// Collects an answer. White space between values is not held, beyond one byte of it.
#[derive(Debug)]
pub(in crate::upstream) struct AnswerCollector {
    held: BytesMut,
    bytes_max: usize,
    form: AnswerForm,
    depth: usize,
    /// Commas and opening brackets: at least one for each value but the first.
    separators: usize,
    /// Bytes held that belong to no picture.
    plain: usize,
    text: Option<TextState>,
    after_space: bool,
}

/// What the first byte says of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AnswerForm {
    Unknown,
    Json,
    Page,
    /// A page whose rest is not read.
    CutPage,
}

/// The text that the last bytes belong to.
#[derive(Clone, Copy, Debug)]
struct TextState {
    /// Of its first byte in what is held.
    start: usize,
    escaped: bool,
    /// `None` before its head has arrived.
    is_picture: Option<bool>,
}

impl AnswerCollector {
    pub(in crate::upstream) fn new(bytes_max: usize) -> Self {
        Self {
            held: BytesMut::new(),
            bytes_max,
            form: AnswerForm::Unknown,
            depth: 0,
            separators: 0,
            plain: 0,
            text: None,
            after_space: false,
        }
    }

    /// Takes the next bytes of the answer.
    ///
    /// # Errors
    ///
    /// Which bound the answer exceeds.
    pub(in crate::upstream) fn push(&mut self, mut chunk: &[u8]) -> Result<(), String> {
        if self.form == AnswerForm::Unknown {
            chunk = chunk.trim_ascii_start();
            self.form = match chunk.first() {
                None => return Ok(()),
                Some(b'{' | b'[') => AnswerForm::Json,
                Some(_) => AnswerForm::Page,
            };
        }
        match self.form {
            AnswerForm::Json => self.push_json(chunk)?,
            AnswerForm::Unknown | AnswerForm::CutPage => {}
            AnswerForm::Page => {
                let space = PAGE_BYTES_MAX - self.held.len();
                if chunk.len() > space {
                    self.form = AnswerForm::CutPage;
                }
                self.held.extend_from_slice(&chunk[..chunk.len().min(space)]);
            }
        }
        Ok(())
    }

    /// Returns whether the rest of the answer need not be read.
    pub(in crate::upstream) fn is_complete(&self) -> bool {
        self.form == AnswerForm::CutPage
    }

    pub(in crate::upstream) fn bytes_held(&self) -> usize {
        self.held.len()
    }

    /// Returns what is held.
    pub(in crate::upstream) fn into_body(self) -> BytesMut {
        self.held
    }

    fn push_json(&mut self, mut chunk: &[u8]) -> Result<(), String> {
        while !chunk.is_empty() {
            let taken = match self.text {
                Some(text) => self.push_text(text, chunk),
                None => self.push_value(chunk),
            };
            chunk = &chunk[taken..];
            self.check()?;
        }
        Ok(())
    }

    /// Takes bytes of a text; returns their number.
    fn push_text(&mut self, mut text: TextState, chunk: &[u8]) -> usize {
        let found = if text.escaped { Some(0) } else { memchr2(b'"', b'\\', chunk) };
        // As much at a time as keeps the bounds meaningful, and the head within reach.
        let most = if text.is_picture.is_none() { HEAD_BYTES } else { chunk.len() };
        let taken = found.map_or(chunk.len(), |found| found + 1).min(most);
        self.held.extend_from_slice(&chunk[..taken]);
        let last = found.filter(|found| found + 1 == taken).map(|found| chunk[found]);
        let ended = last == Some(b'"') && !text.escaped;
        text.escaped = last == Some(b'\\') && !text.escaped;
        if text.is_picture.is_none() && (ended || self.held.len() - text.start >= HEAD_BYTES) {
            text.is_picture = Some(is_picture(&self.held[text.start..]));
            self.plain += self.held.len() - text.start;
        } else if text.is_picture == Some(false) {
            self.plain += taken;
        }
        self.text = Some(text).filter(|_| !ended);
        taken
    }

    /// Takes bytes between texts; returns their number.
    fn push_value(&mut self, chunk: &[u8]) -> usize {
        let end = chunk.iter().position(|&byte| byte == b'"').map_or(chunk.len(), |quote| quote + 1);
        // The counts are checked in between.
        let end = end.min(VALUES_MAX);
        for &byte in &chunk[..end] {
            if byte.is_ascii_whitespace() && std::mem::replace(&mut self.after_space, true) {
                continue;
            }
            self.after_space = byte.is_ascii_whitespace();
            match byte {
                b'{' | b'[' => {
                    self.depth += 1;
                    self.separators += 1;
                }
                b'}' | b']' => self.depth = self.depth.saturating_sub(1),
                b',' => self.separators += 1,
                _ => {}
            }
            self.held.extend_from_slice(&[byte]);
            self.plain += 1;
            if self.depth > DEPTH_MAX {
                break;
            }
        }
        if chunk[..end].ends_with(b"\"") {
            self.text = Some(TextState { start: self.held.len(), escaped: false, is_picture: None });
        }
        end
    }

    fn check(&self) -> Result<(), String> {
        let Self { bytes_max, .. } = *self;
        if self.held.len() > bytes_max {
            return Err(format!("the answer is larger than {bytes_max} bytes"));
        }
        if self.depth > DEPTH_MAX || self.separators > 2 * VALUES_MAX {
            return Err("the answer has more values than any answer of the service".to_owned());
        }
        if self.plain > PLAIN_BYTES_MAX {
            return Err(format!("the answer has more than {PLAIN_BYTES_MAX} bytes that are no picture"));
        }
        Ok(())
    }
}

/// Returns whether a text begins as a picture in base64 does, or as a data URI of one.
fn is_picture(text: &[u8]) -> bool {
    // Slashes may be escaped.
    let head: String =
        text.iter().take(HEAD_BYTES).filter(|&&byte| byte != b'\\').map(|&byte| char::from(byte)).collect();
    let head = head.strip_prefix("data:").and_then(|uri| uri.split_once(',')).map_or(head.as_str(), |(_, data)| data);
    PICTURE_HEADS.iter().any(|start| head.trim_start().starts_with(start))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn collect(body: &[u8], size: usize) -> Result<BytesMut, String> {
        let mut collector = AnswerCollector::new(100 << 20);
        for chunk in body.chunks(size) {
            if collector.is_complete() {
                break;
            }
            collector.push(chunk)?;
        }
        Ok(collector.into_body())
    }

    #[test]
    fn an_answer_is_held_as_it_is_but_for_its_white_space() {
        let answer =
            json!({"code": 200, "data": {"id": "a \"b\\", "outputs": ["https://x.example/1.png", {}]}, "e": [[1, 2]]});
        let spaced = serde_json::to_string_pretty(&answer).unwrap().replace(": ", " :  \t\r\n ");
        for size in [1, 2, 3, 7, 1000] {
            for text in [&answer.to_string(), &spaced, &format!(" \n{spaced}  ")] {
                let held = collect(text.as_bytes(), size).unwrap();
                assert_eq!(serde_json::from_slice::<Value>(&held).unwrap(), answer);
            }
            assert_eq!(&collect(b"<html> <p>", size).unwrap()[..], b"<html> <p>");
            assert_eq!(&collect(b"{\"a\":1  2}", size).unwrap()[..], b"{\"a\":1 2}", "it stays no JSON");
        }
        let padding = [&b" \r\n".repeat(1 << 20)[..], b"[1", &b" \n".repeat(1 << 20), b"]"].concat();
        assert_eq!(&collect(&padding, 60_000).unwrap()[..], b"[1 ]");
    }

    #[test]
    fn what_is_no_picture_is_small() {
        let large = "A".repeat(PLAIN_BYTES_MAX);
        for (body, problem) in [
            (format!("[{}0]", "0,".repeat(8 << 20)), "more values"),
            (format!("[{}0]", "[],".repeat(5 << 20)), "more values"),
            (format!("{{{}\"a\":0}}", "\"a\":\"\",".repeat(2 << 20)), "more values"),
            ("[".repeat(1 << 20), "more values"),
            ("{\"a\":".repeat(1 << 20), "more values"),
            (format!("[{}]", "7".repeat(5 << 20)), "no picture"),
            (format!("{{\"{large}\":1}}"), "no picture"),
            (format!("{{\"a\":\"{large}\"}}"), "no picture"),
            (format!("[\"{}\"]", "\\u0041".repeat(1 << 20)), "no picture"),
            (format!("[\"data:image/png;base64,{large}\"]"), "no picture"),
            (format!("[1] {}", "x".repeat(5 << 20)), "no picture"),
        ] {
            for size in [1021, 64 * 1024] {
                let mut collector = AnswerCollector::new(100 << 20);
                let refused = body.as_bytes().chunks(size).find_map(|chunk| collector.push(chunk).err());
                assert!(refused.as_ref().is_some_and(|refused| refused.contains(problem)), "{body:.40} {refused:?}");
                assert!(collector.bytes_held() <= PLAIN_BYTES_MAX + 2 * size, "{body:.40}");
            }
        }
        let page = vec![b'<'; 16 << 20];
        assert_eq!(collect(&page, 60_000).unwrap().len(), PAGE_BYTES_MAX);
    }

    #[test]
    fn pictures_may_be_large() {
        let data = "A".repeat(6 << 20);
        for head in [
            "iVBORw0KGgo",
            "/9j/4AAQ",
            "\\/9j\\/4AAQ",
            "_9j_",
            "UklGRg",
            "data:image\\/png;base64,iVBORw",
            "data:;base64,/9j/",
        ] {
            let body = format!("{{\"data\":{{\"outputs\":[\"{head}{data}\"]}}}}");
            for size in [61, 64 * 1024] {
                assert_eq!(collect(body.as_bytes(), size).as_deref(), Ok(body.as_bytes()), "{head}");
            }
        }
        let mut collector = AnswerCollector::new(1000);
        let larger = collector.push(format!("[\"iVBORw{data}").as_bytes());
        assert_eq!(larger, Err("the answer is larger than 1000 bytes".to_owned()));
    }

    proptest! {
        #[test]
        fn chunks_make_no_difference(text in r#"[\[{"\\ ,:a1}\]]{0,80}"#, size in 1..80_usize) {
            let whole = collect(text.as_bytes(), 1000);
            prop_assert_eq!(collect(text.as_bytes(), size), whole.clone());
            let read = |text: &[u8]| serde_json::from_slice::<Value>(text).ok();
            if let Ok(held) = whole {
                prop_assert_eq!(read(&held), read(text.as_bytes()));
            }
        }
    }
}
