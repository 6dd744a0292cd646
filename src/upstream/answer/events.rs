//! A streamed answer as it arrives: server-sent events, of which the pictures are read later.

use bytes::BytesMut;

/// Partial pictures of a streamed answer: the bytes keep an edge from cutting the connection while the picture is made. Each
/// costs 100 output tokens. Nothing documents when they are sent; two divide the time into three, so the longest
/// recorded generation, 147 s, has no pause of 100 s.
pub(in crate::upstream) const PARTIAL_IMAGES: u8 = 2;
/// Bytes at the start of an event's data by which an event without a name is recognized.
pub(in crate::upstream) const HEAD_BYTES: usize = 512;
pub(in crate::upstream) const PARTIAL: &str = "partial_image";
const COMPLETED: &str = "completed";
/// Lines of a streamed answer that are held: a picture has four.
const LINES_MAX: usize = 10_000;

/// Collects a streamed answer without the data of its partial pictures. Any other body is collected as it is.
#[derive(Debug)]
pub(in crate::upstream) struct EventCollector {
    held: BytesMut,
    bytes_max: usize,
    /// Bytes that have arrived, held or dropped.
    arrived: usize,
    /// Start of the last line in `held`.
    line: usize,
    /// The rest of the line is dropped.
    dropping: bool,
    event: EventKind,
    completed: usize,
    lines: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum EventKind {
    Unnamed,
    Partial,
    Completed,
    Other,
}

impl EventKind {
    fn of_name(name: &str) -> Self {
        match name {
            _ if name.ends_with(PARTIAL) => Self::Partial,
            _ if name.ends_with(COMPLETED) => Self::Completed,
            _ => Self::Other,
        }
    }

    /// Recognizes an event by the start of its data.
    fn of_data(head: &[u8]) -> Self {
        let contains = |name: &str| head.windows(name.len() + 2).any(|part| part == format!(".{name}\"").as_bytes());
        match () {
            () if contains(PARTIAL) => Self::Partial,
            () if contains(COMPLETED) => Self::Completed,
            () => Self::Unnamed,
        }
    }
}

impl EventCollector {
    /// `bytes_max`: the limit of what is held, and of each of the partial pictures.
    pub(in crate::upstream) fn new(bytes_max: usize) -> Self {
        let (held, event) = (BytesMut::new(), EventKind::Unnamed);
        Self { held, bytes_max, arrived: 0, line: 0, dropping: false, event, completed: 0, lines: 0 }
    }

    /// Takes the next bytes of the answer.
    ///
    /// # Errors
    ///
    /// When the answer is larger than the limit.
    pub(in crate::upstream) fn push(&mut self, mut chunk: &[u8]) -> Result<(), String> {
        let Self { bytes_max, .. } = *self;
        let too_large = || format!("the answer is larger than {bytes_max} bytes");
        self.arrived += chunk.len();
        if self.arrived > bytes_max.saturating_mul(1 + usize::from(PARTIAL_IMAGES)) {
            return Err(too_large());
        }
        while !chunk.is_empty() {
            let end = chunk.iter().position(|&byte| byte == b'\n').map(|end| end + 1);
            let (piece, rest) = chunk.split_at(end.unwrap_or(chunk.len()));
            chunk = rest;
            if self.dropping {
                self.dropping = end.is_none();
                continue;
            }
            if self.held.len() + piece.len() > bytes_max {
                return Err(too_large());
            }
            self.held.extend_from_slice(piece);
            self.drop_partial_picture(end.is_some());
            if end.is_some() && !self.dropping {
                self.lines += 1;
                if self.lines > LINES_MAX {
                    return Err(format!("the answer has more than {LINES_MAX} lines"));
                }
                self.end_line();
            }
        }
        Ok(())
    }

    /// Returns the number of complete pictures.
    pub(in crate::upstream) fn completed(&self) -> usize {
        self.completed
    }

    pub(in crate::upstream) fn bytes_held(&self) -> usize {
        self.held.len()
    }

    /// Returns what is held.
    pub(in crate::upstream) fn into_body(self) -> BytesMut {
        self.held
    }

    /// Drops the line if it has a partial picture. An event without a name gets one, which says that there was a picture.
    fn drop_partial_picture(&mut self, ended: bool) {
        let line = &self.held[self.line..];
        if !line.starts_with(b"data:") {
            return;
        }
        if self.event == EventKind::Unnamed && (ended || line.len() >= HEAD_BYTES) {
            self.event = EventKind::of_data(&line[..line.len().min(HEAD_BYTES)]);
            if self.event == EventKind::Partial {
                self.held.truncate(self.line);
                self.held.extend_from_slice(format!("event: {PARTIAL}\n").as_bytes());
                self.line = self.held.len();
                self.dropping = !ended;
                return;
            }
        }
        if self.event == EventKind::Partial {
            self.held.truncate(self.line);
            self.dropping = !ended;
        }
    }

    fn end_line(&mut self) {
        let line = self.held[self.line..].trim_ascii_end();
        if line.is_empty() && self.line < self.held.len() {
            self.completed += usize::from(self.event == EventKind::Completed);
            self.event = EventKind::Unnamed;
        } else if let Some(name) = field(line, "event") {
            self.event = EventKind::of_name(&String::from_utf8_lossy(name));
        }
        self.line = self.held.len();
    }
}

/// Returns the value of a line of an event, if it is the line of this field.
pub(in crate::upstream) fn field<'a>(line: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let value = line.strip_prefix(name.as_bytes())?.strip_prefix(b":")?;
    Some(value.strip_prefix(b" ").unwrap_or(value))
}
