//! Splits the bytes of a form at its boundary, as they arrive.
//!
//! What is found depends on the bytes alone and not on how they are cut into chunks. A form that arrives as one chunk is split into
//! slices of it, without a copy. At most the head of a part, or what may be the beginning of a boundary, is held back.

use bytes::{Bytes, BytesMut};
use memchr::memmem::{self, Finder};

/// Longest head of a part, and longest text before the first one, in bytes.
pub(super) const HEAD_BYTES_MAX: usize = 16 * 1024;
const CRLF: &[u8] = b"\r\n";
/// Between the head of a part and its bytes.
const HEAD_END: &[u8] = b"\r\n\r\n";
/// White space behind the closing boundary, in bytes, where the line break before it is missing.
const TRAILER_BYTES_MAX: usize = 6;

/// Finds the parts of a form in its bytes.
#[derive(Debug)]
pub(super) struct Splitter {
    /// The line break, two dashes and the boundary.
    delimiter: Finder<'static>,
    /// The line break before the closing boundary may be missing.
    may_lack_line_break: bool,
    stage: Stage,
    /// Bytes that precede those of `buffer`, and of which no boundary begins.
    passed: Option<Bytes>,
    buffer: Bytes,
    /// No more bytes arrive.
    ended: bool,
}

/// What the next bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Preamble,
    /// Directly behind a boundary.
    BoundaryEnd,
    Head,
    Data,
    Ended,
}

/// What a form holds next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// The head of the next part, with the empty line that ends it.
    Head(Bytes),
    /// The next bytes of the part.
    Data(Bytes),
    PartEnd,
    FormEnd,
    /// More bytes are needed.
    Starved,
}

/// Why a form cannot be split.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum SplitError {
    #[error("the form ends before its closing boundary")]
    CutShort,
    #[error("the head of a part of the form is too long")]
    HeadTooLong,
    #[error(
        "the head of a part cannot be read: each of its lines must be 'Name: value' and end in CRLF, and none may be folded"
    )]
    UnreadableHead,
}

impl Splitter {
    /// Splits at a boundary. It may lack the line break before it where it closes the form, if that is so for this form.
    pub(super) fn new(boundary: &str, may_lack_line_break: bool) -> Self {
        let delimiter = Finder::new(&[CRLF, b"--", boundary.as_bytes()].concat()).into_owned();
        let (passed, buffer) = (None, Bytes::new());
        Self { delimiter, may_lack_line_break, stage: Stage::Preamble, passed, buffer, ended: false }
    }

    /// Takes the next bytes of the form.
    pub(super) fn push(&mut self, chunk: Bytes) {
        let kept = self.kept_bytes();
        if self.stage == Stage::Data
            && self.passed.is_none()
            && (1..=kept).contains(&self.buffer.len())
            && chunk.len() >= kept
        {
            let seam = [&self.buffer[..], &chunk[..kept]].concat();
            if self.delimiter.find(&seam).is_none_or(|at| at >= self.buffer.len()) {
                self.passed = Some(std::mem::replace(&mut self.buffer, chunk));
                return;
            }
        }
        self.buffer = joined(std::mem::take(&mut self.buffer), chunk);
    }

    /// Records that no more bytes arrive.
    pub(super) fn end(&mut self) {
        self.ended = true;
    }

    /// Returns what the form holds next.
    ///
    /// # Errors
    ///
    /// Why it cannot be split; the splitter is of no use then.
    pub(super) fn next(&mut self) -> Result<Piece, SplitError> {
        loop {
            match self.stage {
                Stage::Preamble => {
                    let boundary = &self.delimiter.needle()[CRLF.len()..];
                    let Some(end) = self.find_near(boundary)? else { return self.starved() };
                    self.discard(end);
                    self.stage = Stage::BoundaryEnd;
                }
                Stage::BoundaryEnd => match self.buffer.get(..2) {
                    None => return self.starved(),
                    Some(b"--") => self.stage = Stage::Ended,
                    Some(_) => {
                        let Some(line_end) = self.padding()? else { return self.starved() };
                        if self.buffer[line_end..line_end + CRLF.len()] != *CRLF {
                            return Err(SplitError::CutShort);
                        }
                        self.discard(line_end + CRLF.len());
                        self.stage = Stage::Head;
                    }
                },
                Stage::Head => {
                    let Some(end) = self.find_near(HEAD_END)? else { return self.starved() };
                    self.stage = Stage::Data;
                    return Ok(Piece::Head(self.buffer.split_to(end)));
                }
                Stage::Data => return self.data(),
                Stage::Ended => return Ok(Piece::FormEnd),
            }
        }
    }

    fn data(&mut self) -> Result<Piece, SplitError> {
        if let Some(passed) = self.passed.take() {
            return Ok(Piece::Data(passed));
        }
        if let Some(at) = self.delimiter.find(&self.buffer) {
            if at > 0 {
                return Ok(Piece::Data(self.buffer.split_to(at)));
            }
            self.discard(self.delimiter.needle().len());
            self.stage = Stage::BoundaryEnd;
            return Ok(Piece::PartEnd);
        }
        if self.ended
            && let Some(at) = self.closing()
        {
            let last = self.buffer.split_to(at);
            // What follows is then the whole boundary.
            self.buffer = [self.delimiter.needle(), b"--"].concat().into();
            return Ok(Piece::Data(last));
        }
        let spare = self.buffer.len().saturating_sub(self.kept_bytes());
        if spare > 0 {
            return Ok(Piece::Data(self.buffer.split_to(spare)));
        }
        self.starved()
    }

    /// Returns where the closing boundary begins that ends the form and lacks the line break before it.
    fn closing(&self) -> Option<usize> {
        let closing = [&self.delimiter.needle()[CRLF.len()..], b"--"].concat();
        let passed = self.buffer.len().saturating_sub(self.kept_bytes());
        let last = &self.buffer[passed..];
        let at = memmem::rfind(last, &closing).filter(|_| self.may_lack_line_break)?;
        let is_last = last[at + closing.len()..].trim_ascii().is_empty();
        (is_last && at > 0 && !last[..at].ends_with(CRLF)).then_some(passed + at)
    }

    /// Bytes that are held back because a boundary may begin in them, and so that the closing one is found at the end.
    fn kept_bytes(&self) -> usize {
        self.delimiter.needle().len() + TRAILER_BYTES_MAX
    }

    /// Returns the end of a text that must come soon; `None` where more bytes are needed.
    fn find_near(&self, text: &[u8]) -> Result<Option<usize>, SplitError> {
        let found = memmem::find(&self.buffer, text);
        // Where it begins at the earliest.
        let at = found.unwrap_or((self.buffer.len() + 1).saturating_sub(text.len()));
        if at > HEAD_BYTES_MAX { Err(SplitError::HeadTooLong) } else { Ok(found.map(|at| at + text.len())) }
    }

    /// Returns the length of the white space behind a boundary; `None` where more bytes are needed to know it.
    fn padding(&self) -> Result<Option<usize>, SplitError> {
        let is_padding = |byte: &u8| matches!(byte, b' ' | b'\t');
        let length = self.buffer.iter().take_while(|byte| is_padding(byte)).count();
        if length > HEAD_BYTES_MAX {
            return Err(SplitError::HeadTooLong);
        }
        Ok(Some(length).filter(|length| length + CRLF.len() <= self.buffer.len()))
    }

    fn discard(&mut self, bytes: usize) {
        drop(self.buffer.split_to(bytes));
    }

    fn starved(&self) -> Result<Piece, SplitError> {
        if self.ended { Err(SplitError::CutShort) } else { Ok(Piece::Starved) }
    }
}

/// Joins two pieces, without a copy of the first where nothing else refers to it.
pub(super) fn joined(first: Bytes, second: Bytes) -> Bytes {
    if first.is_empty() {
        return second;
    }
    let mut joined = first.try_into_mut().unwrap_or_else(|first| BytesMut::from(&first[..]));
    joined.extend_from_slice(&second);
    joined.freeze()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::reference::{compare, split};
    use super::*;

    fn pieces() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            4 => Just(b"--B\r\n".to_vec()),
            6 => Just(b"\r\n--B\r\n".to_vec()),
            2 => Just(b"\r\n--B--".to_vec()),
            1 => Just(b"--B--".to_vec()),
            1 => Just(b"\r\n--B \t\r\n".to_vec()),
            6 => Just(b"Content-Disposition: form-data; name=n\r\n\r\n".to_vec()),
            2 => Just(b"a: b\r\n".to_vec()),
            2 => Just(b"\r\n".to_vec()),
            3 => prop::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'-'), Just(b'B'), any::<u8>()], 0..40),
        ];
        prop::collection::vec(piece, 0..10).prop_map(|pieces| pieces.concat())
    }

    fn cut<'a>(form: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
        let (mut chunks, mut rest) = (Vec::new(), form);
        for &cut in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (chunk, behind) = rest.split_at(cut.min(rest.len()));
            chunks.push(chunk);
            rest = behind;
        }
        chunks
    }

    #[test]
    fn a_whole_form_is_split_into_slices_of_it() {
        let form = Bytes::from_static(b"--B\r\na: b\r\n\r\nbytes\r\n--B--");
        let mut splitter = Splitter::new("B", true);
        splitter.push(form.clone());
        splitter.end();
        assert!(matches!(splitter.next(), Ok(Piece::Head(head)) if head == "a: b\r\n\r\n"));
        let Ok(Piece::Data(bytes)) = splitter.next() else { panic!("the part has bytes") };
        assert_eq!(bytes.as_ptr(), form[13..].as_ptr());
        assert_eq!([splitter.next(), splitter.next()], [Ok(Piece::PartEnd), Ok(Piece::FormEnd)]);
    }

    #[test]
    fn heads_and_preambles_are_limited() {
        for (length, expected) in [(HEAD_BYTES_MAX, Ok(())), (HEAD_BYTES_MAX + 1, Err(SplitError::HeadTooLong))] {
            let long = "x".repeat(length);
            let padding = " ".repeat(length);
            for form in [
                format!("--B\r\n{long}\r\n\r\n\r\n--B--"),
                format!("{long}--B\r\na: b\r\n\r\n\r\n--B--"),
                format!("--B{padding}\r\na: b\r\n\r\n\r\n--B--"),
            ] {
                for size in [1000, usize::MAX] {
                    assert_eq!(split(&cut(form.as_bytes(), &[size]), false).1, expected, "{length} {size}");
                }
            }
        }
        let endless = [b'x'; 1000];
        assert_eq!(split(&[&endless[..]; 20], false).1, Err(SplitError::HeadTooLong));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]

        #[test]
        fn chunks_make_no_difference(form in pieces(), cuts in prop::collection::vec(1_usize..60, 1..6), lacks in any::<bool>()) {
            prop_assert_eq!(split(&[&form], lacks), split(&cut(&form, &cuts), lacks));
        }

        #[test]
        fn the_parts_are_those_that_multer_finds(form in pieces()) {
            compare(&form);
        }
    }
}
