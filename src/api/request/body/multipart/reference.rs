//! Compares the parts that the splitter finds with those that `multer` does, a program for the same forms.

use std::convert::Infallible;

use bytes::Bytes;
use futures_util::{FutureExt, stream};

use super::headers::PartHeaders;
use super::splitter::{Piece, SplitError, Splitter};

/// The parts of a form, each with its head and its bytes, and how the form ends.
pub(super) type Parts = (Vec<(Vec<u8>, Vec<u8>)>, Result<(), SplitError>);

/// Splits a form at the boundary `B`.
pub(super) fn split(chunks: &[&[u8]], may_lack_line_break: bool) -> Parts {
    let mut splitter = Splitter::new("B", may_lack_line_break);
    let mut chunks = chunks.iter();
    let mut parts: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    loop {
        match splitter.next() {
            Ok(Piece::Head(head)) => parts.push((head.to_vec(), Vec::new())),
            Ok(Piece::Data(bytes)) => parts.last_mut().expect("behind a head").1.extend_from_slice(&bytes),
            Ok(Piece::PartEnd) => {}
            Ok(Piece::FormEnd) => return (parts, Ok(())),
            Ok(Piece::Starved) => match chunks.next() {
                Some(chunk) => splitter.push(Bytes::copy_from_slice(chunk)),
                None => splitter.end(),
            },
            Err(error) => return (parts, Err(error)),
        }
    }
}

/// Asserts that a form with the boundary `B` has the parts that `multer` finds, or is refused as there.
pub(in crate::api::request) fn compare(form: &[u8]) {
    let (parts, end) = split(&[form], false);
    let is_readable = parts.iter().all(|(head, _)| PartHeaders::parse(head).is_ok());
    let found: Vec<Vec<u8>> = parts.into_iter().map(|(_, bytes)| bytes).collect();
    let found = Some(found).filter(|_| end.is_ok() && is_readable);
    // Heads of that length are refused here alone.
    if end != Err(SplitError::HeadTooLong) {
        assert_eq!(found, by_multer(form));
    }
}

fn by_multer(form: &[u8]) -> Option<Vec<Vec<u8>>> {
    let body = stream::iter([Ok::<_, Infallible>(Bytes::copy_from_slice(form))]);
    let mut multipart = multer::Multipart::new(body, "B");
    let parts = async {
        let mut parts = Vec::new();
        while let Some(field) = multipart.next_field().await.ok()? {
            parts.push(field.bytes().await.ok()?.to_vec());
        }
        Some(parts)
    };
    parts.now_or_never().expect("all bytes are there")
}
