//! The boundary of a form: which one the body uses, and why a form cannot be split at it.

use bytes::Bytes;

use super::splitter::SplitError;
use crate::api::error::ApiError;

/// Longest first line that is looked at, in bytes.
const LINE_BYTES_MAX: usize = 512;
/// Most characters of a boundary that a message repeats.
const SHOWN_CHARS: usize = 80;

/// What is known of the lines of a form: at which boundary it is to be split, and why that may be impossible.
#[derive(Clone, Debug)]
pub(super) struct Framing {
    pub(super) boundary: String,
    /// The first line without its end.
    first_line: Bytes,
    ends_in_lf: bool,
    empty: bool,
}

impl Framing {
    /// Whether the beginning of a form is enough to know its framing.
    pub(super) fn is_known(start: &[u8]) -> bool {
        start.len() >= LINE_BYTES_MAX || start.contains(&b'\n')
    }

    /// Returns the framing of a form that begins with `start`. A boundary that is announced with two dashes too many or too few is
    /// accepted.
    pub(super) fn of(start: &Bytes, announced: String) -> Self {
        let end = start.iter().position(|&byte| byte == b'\n').unwrap_or(start.len()).min(LINE_BYTES_MAX);
        let line = start[..end].strip_suffix(b"\r").unwrap_or(&start[..end]);
        let ends_in_lf = start.get(end) == Some(&b'\n') && line.len() == end;
        // Copied: a slice would hold the buffer that it was received in until the form ends.
        let first_line = Bytes::copy_from_slice(line.trim_ascii_end());
        let boundary = dashed(&first_line, &announced).map(str::to_owned).unwrap_or(announced);
        Self { boundary, first_line, ends_in_lf, empty: start.is_empty() }
    }

    /// Whether the form begins with the boundary at which it is to be split.
    pub(super) fn is_used(&self) -> bool {
        self.first_line.strip_prefix(b"--") == Some(self.boundary.as_bytes())
    }

    /// Returns the error for a form that failed with `error` before its first part was read.
    pub(super) fn explain(&self, error: ApiError) -> ApiError {
        let is_of_form = matches!(error, ApiError::MalformedBody { .. });
        match self.problem().filter(|_| is_of_form) {
            Some(problem) => ApiError::MalformedBody { problem: problem.into() },
            None => error,
        }
    }

    fn problem(&self) -> Option<String> {
        if self.empty {
            return Some("it is empty; a form with its parts is expected".to_owned());
        }
        let announced = shown(self.boundary.as_bytes());
        let line = &self.first_line[..];
        let used = line.strip_prefix(b"--").filter(|used| !used.is_empty());
        if used == Some(self.boundary.as_bytes()) {
            return self
                .ends_in_lf
                .then(|| "the lines of the form end in LF alone; they must end in CRLF (\\r\\n)".to_owned());
        }
        match (used, line) {
            (Some(used), _) => Some(format!(
                "the Content-Type header announces the boundary '{announced}', and the form begins with the boundary '{}'; leave \
                 the header to the library that writes the form",
                shown(used)
            )),
            (None, [b'{' | b'[', ..]) => {
                Some("it is JSON, and its Content-Type says multipart/form-data; send application/json".to_owned())
            }
            (None, _) if line == self.boundary.as_bytes() => Some(format!(
                "the form begins with its boundary without the two dashes before it: '--{announced}' is expected"
            )),
            (None, _) => {
                Some(format!("it does not begin with the boundary '--{announced}' of its Content-Type header"))
            }
        }
    }
}

/// Returns the boundary where the two dashes that precede it in the body stand in the header too, or twice in the body.
fn dashed<'a>(line: &'a [u8], announced: &'a str) -> Option<&'a str> {
    let line = std::str::from_utf8(line.strip_suffix(b"--").unwrap_or(line)).ok()?;
    if line == announced {
        return announced.strip_prefix("--").filter(|boundary| !boundary.is_empty());
    }
    line.strip_prefix("--").filter(|used| used.strip_prefix("--") == Some(announced))
}

fn shown(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut shown: String = text.chars().take(SHOWN_CHARS).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
}

impl From<SplitError> for ApiError {
    fn from(error: SplitError) -> Self {
        Self::MalformedBody { problem: error.to_string().into() }
    }
}
