//! A form that is in memory, read in one pass.

use std::sync::LazyLock;

use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use memchr::memmem;

static HEAD_END: LazyLock<memmem::Finder<'static>> = LazyLock::new(|| memmem::Finder::new("\r\n\r\n"));

/// What an edit asks for.
#[derive(Default)]
pub(crate) struct Form<'a> {
    pub(crate) texts: Vec<(&'a str, &'a str)>,
    pub(crate) picture: &'a [u8],
}

impl<'a> Form<'a> {
    /// Reads a form; `None` when it is none, or has no picture.
    pub(crate) fn read(headers: &HeaderMap, body: &'a [u8]) -> Option<Self> {
        let (_, boundary) = headers.get(CONTENT_TYPE)?.to_str().ok()?.split_once("boundary=")?;
        let separator = format!("\r\n--{boundary}");
        let finder = memmem::Finder::new(&separator);
        let mut form = Self { texts: Vec::with_capacity(8), picture: &[] };
        // The first separator has no line before it.
        let mut rest = body.strip_prefix(&separator.as_bytes()[2..])?;
        while !rest.starts_with(b"--") {
            let head_end = HEAD_END.find(rest)?;
            let head = std::str::from_utf8(&rest[..head_end]).ok()?;
            let content = &rest[head_end + 4..];
            let end = finder.find(content)?;
            let (_, named) = head.split_once("; name=\"")?;
            let (name, _) = named.split_once('"')?;
            if name == "image[]" {
                form.picture = &content[..end];
            } else {
                form.texts.push((name, std::str::from_utf8(&content[..end]).ok()?));
            }
            rest = &content[end + separator.len()..];
        }
        (!form.picture.is_empty()).then_some(form)
    }
}
