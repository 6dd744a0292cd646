//! An answer of the hostile upstream: what is written, byte for byte, and what is demanded of the gateway.

use std::time::Duration;

/// The call that is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    Submit,
    Poll,
    Download,
}

/// The class of a status line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Class {
    Interim,
    Success,
    Redirect,
    Client,
    Server,
    Invalid,
}

/// The kind of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// JSON that the service could have written.
    Service,
    /// JSON without a meaning, or of a form that the service never has.
    Json,
    Html,
    Empty,
    Binary,
    Picture,
    /// A picture that no decoder should take.
    Damaged,
}

/// A body. Texts have places that are filled for each purchase, see [`Places`].
#[derive(Clone, Copy, Debug)]
pub(super) enum Body {
    Service(&'static str),
    Json(&'static str),
    Html(&'static str),
    Empty,
    Binary(&'static [u8]),
    Made(Kind, fn(&Places) -> Vec<u8>),
}

/// How an answer is written to the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Shape {
    Whole,
    /// No length: the body ends with the connection.
    UntilClose,
    Http10,
    Chunked,
    /// Without the last chunk.
    ChunkedCut,
    ChunkedInvalid,
    ChunkedWithLength,
    /// Closed after this part of the body, in percent.
    Cut(u8),
    HeadCut,
    LengthShort(usize),
    LengthLong(usize),
    LengthTwo,
    LengthNegative,
    LengthHuge,
    SilentHead,
    SilentBody,
    Trickled,
    /// A byte each 100 ms.
    Dripped,
    /// Its body is repeated until the gateway closes.
    Endless,
    Reset,
    ResetBeforeHead,
    ClosedBeforeHead,
    /// Followed by an answer about the purchase of another client.
    WithAnother,
    Headers(usize),
    LongHeader(usize),
    /// Folded, with a NUL, or with a space before the colon.
    InvalidHeader(&'static str),
    BareNewlines,
    /// Written before the last byte of the request was read, which never is.
    Early,
    EarlyReset,
    /// After this number of `100 Continue`.
    Continued(usize),
    /// `100 Continue` until the gateway closes.
    ContinuedAlways,
    /// After `103 Early Hints`.
    Hinted,
    /// With this content encoding, which it does not have.
    Encoded(&'static str),
}

/// What the client must get.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Outcome {
    /// The picture of this purchase, or all of them.
    Delivered,
    /// Some of the pictures, and a report about the others.
    Partial,
    /// An error that says that nothing was bought.
    Refused,
    Unknown,
    Lost,
    TimedOut,
    /// The task failed, or its content was refused, after it was accepted.
    Failed,
    /// Anything else, which no row may demand.
    Other,
}

/// What fills the places of a body: `{id}`, `{url}`, `{b64}`, `{origin}`, `{elsewhere}`, `{other}` and `{other_url}` (the
/// purchase of another client), `{key}`.
#[derive(Debug)]
pub(super) struct Places {
    pub(super) id: String,
    pub(super) url: String,
    pub(super) origin: String,
    pub(super) elsewhere: String,
    pub(super) other: String,
    pub(super) other_url: String,
    pub(super) key: &'static str,
    pub(super) picture: Vec<u8>,
}

impl Places {
    pub(super) fn fill(&self, text: &str) -> String {
        let base64 =
            if text.contains("{b64}") { base64_simd::STANDARD.encode_to_string(&self.picture) } else { String::new() };
        [
            ("{id}", self.id.as_str()),
            ("{url}", &self.url),
            ("{origin}", &self.origin),
            ("{elsewhere}", &self.elsewhere),
            ("{other}", &self.other),
            ("{other_url}", &self.other_url),
            ("{key}", self.key),
            ("{b64}", &base64),
        ]
        .iter()
        .fold(text.to_owned(), |text, (place, value)| text.replace(place, value))
    }
}

/// What is done to the connection.
#[derive(Debug)]
pub(super) enum Step {
    Write(Vec<u8>),
    Pause(Duration),
    /// Writes this again and again, until the gateway closes.
    Repeat(Vec<u8>, Duration),
    /// Writes nothing more, and waits until the gateway closes.
    Silence,
    Reset,
    Close,
}

/// Which gateway asks for a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sharing {
    /// The one of many rows.
    Shared,
    /// One of its own, because what it learns from the answer would disturb others.
    Own,
    /// The same, which has bought nothing before.
    Unused,
}

/// An answer, with a name, and what is demanded of the gateway that gets it.
#[derive(Clone, Debug)]
pub(super) struct Row {
    /// Also the client that asks for it: small letters, digits and hyphens.
    pub(super) name: String,
    pub(super) phase: Phase,
    /// What follows the version in the status line.
    pub(super) status: &'static str,
    pub(super) body: Body,
    pub(super) shape: Shape,
    /// More lines of the head, each with its line end.
    pub(super) head: &'static str,
    /// The upstream counts the submit as bought.
    pub(super) bought: bool,
    pub(super) wanted: Vec<Outcome>,
    /// How often it is written before the upstream is honest.
    pub(super) times: u32,
    /// The id that the upstream gives; empty for one of the usual form.
    pub(super) id: &'static str,
    /// The format of the picture: png, jpeg or webp.
    pub(super) format: &'static str,
    /// Bytes behind the end of the picture may be delivered with it.
    pub(super) trailing: bool,
    pub(super) gateway: Sharing,
    /// It is asked for with an upload of this number of bytes, unless that is 0.
    pub(super) upload: usize,
    /// Pictures, each of which is a purchase.
    pub(super) count: u8,
    /// The API that the gateway is configured for.
    pub(super) api: &'static str,
}

/// An answer that is written as often as it is asked for.
pub(super) const ALWAYS: u32 = u32::MAX;

/// Makes a row. What the upstream wrote to a submit was bought, unless [`Row::free`] says otherwise.
pub(super) fn row(name: &str, phase: Phase, status: &'static str, body: Body, shape: Shape, wanted: &[Outcome]) -> Row {
    let times = if phase == Phase::Submit { ALWAYS } else { 2 };
    Row {
        name: name.to_owned(),
        phase,
        status,
        body,
        shape,
        head: "",
        bought: true,
        wanted: wanted.to_vec(),
        times,
        id: "",
        format: "png",
        trailing: false,
        gateway: if wanted.contains(&Outcome::Refused) { Sharing::Own } else { Sharing::Shared },
        upload: 0,
        count: 1,
        api: "auto",
    }
}

impl Row {
    /// Nothing is bought by the submit.
    pub(super) fn free(self) -> Self {
        Self { bought: false, ..self }
    }

    pub(super) fn head(self, head: &'static str) -> Self {
        Self { head, ..self }
    }

    pub(super) fn times(self, times: u32) -> Self {
        Self { times, ..self }
    }

    pub(super) fn always(self) -> Self {
        self.times(ALWAYS)
    }

    pub(super) fn id(self, id: &'static str) -> Self {
        Self { id, ..self }
    }

    pub(super) fn format(self, format: &'static str) -> Self {
        Self { format, ..self }
    }

    pub(super) fn trailing(self) -> Self {
        Self { trailing: true, ..self }
    }

    pub(super) fn alone(self) -> Self {
        Self { gateway: Sharing::Own, ..self }
    }

    pub(super) fn fresh(self) -> Self {
        Self { gateway: Sharing::Unused, ..self }
    }

    pub(super) fn upload(self, bytes: usize) -> Self {
        Self { upload: bytes, ..self }
    }

    pub(super) fn count(self, count: u8) -> Self {
        Self { count, ..self }
    }

    pub(super) fn api(self, api: &'static str) -> Self {
        Self { api, ..self }
    }

    /// Whether the gateway has to give up, so that its deadline should be short.
    pub(super) fn ends_late(&self) -> bool {
        // After an interim answer the gateway waits for another.
        let silent = [Shape::SilentHead, Shape::SilentBody, Shape::Dripped, Shape::ContinuedAlways];
        let is_silent = silent.contains(&self.shape) || self.class() == Class::Interim;
        self.times == ALWAYS && is_silent
            || self.wanted.iter().any(|outcome| matches!(outcome, Outcome::Lost | Outcome::TimedOut))
    }

    pub(super) fn is_early(&self) -> bool {
        matches!(self.shape, Shape::Early | Shape::EarlyReset)
    }

    pub(super) fn class(&self) -> Class {
        match self.status.split(' ').next().and_then(|code| code.parse::<u16>().ok()) {
            Some(100..=199) => Class::Interim,
            Some(200..=299) => Class::Success,
            Some(300..=399) => Class::Redirect,
            Some(400..=499) => Class::Client,
            Some(500..=599) => Class::Server,
            Some(_) | None => Class::Invalid,
        }
    }

    pub(super) fn kind(&self) -> Kind {
        match self.body {
            Body::Service(_) => Kind::Service,
            Body::Json(_) => Kind::Json,
            Body::Html(_) => Kind::Html,
            Body::Empty => Kind::Empty,
            Body::Binary(_) => Kind::Binary,
            Body::Made(kind, _) => kind,
        }
    }

    fn body(&self, places: &Places) -> Vec<u8> {
        match self.body {
            Body::Service(text) | Body::Json(text) | Body::Html(text) => places.fill(text).into_bytes(),
            Body::Empty => Vec::new(),
            Body::Binary(bytes) => bytes.to_vec(),
            Body::Made(_, make) => make(places),
        }
    }

    /// Returns what is done to the connection.
    pub(super) fn steps(&self, places: &Places) -> Vec<Step> {
        let body = self.body(places);
        let length = body.len();
        let head = |lines: &str| self.head_with(places, lines).into_bytes();
        let with_length = |length: usize| head(&format!("content-length: {length}\r\n"));
        let whole = || [with_length(length), body.clone()].concat();
        let part = |percent: usize| [with_length(length), body[..length * percent / 100].to_vec()].concat();
        match self.shape {
            Shape::Whole => vec![Step::Write(whole())],
            Shape::UntilClose => vec![Step::Write([head("connection: close\r\n"), body].concat()), Step::Close],
            Shape::Http10 => {
                let text = self.head_with(places, "").replacen("HTTP/1.1", "HTTP/1.0", 1).into_bytes();
                vec![Step::Write([text, body].concat()), Step::Close]
            }
            Shape::Chunked => vec![Step::Write([head(CHUNKED), chunks(&body, true)].concat())],
            Shape::ChunkedCut => vec![Step::Write([head(CHUNKED), chunks(&body, false)].concat()), Step::Close],
            Shape::ChunkedInvalid => {
                vec![Step::Write([head(CHUNKED), b"zz;\r\n".to_vec(), body].concat()), Step::Close]
            }
            Shape::ChunkedWithLength => {
                let lines = format!("content-length: 3\r\n{CHUNKED}");
                vec![Step::Write([head(&lines), chunks(&body, true)].concat())]
            }
            Shape::Cut(percent) => vec![Step::Write(part(percent.into())), Step::Close],
            Shape::HeadCut => {
                let head = with_length(length);
                vec![Step::Write(head[..head.len() / 2].to_vec()), Step::Close]
            }
            Shape::LengthShort(by) => vec![Step::Write([with_length(length.saturating_sub(by)), body].concat())],
            Shape::LengthLong(by) => vec![Step::Write([with_length(length + by), body].concat()), Step::Close],
            Shape::LengthTwo => {
                let lines = format!("content-length: {length}\r\ncontent-length: {}\r\n", length + 7);
                vec![Step::Write([head(&lines), body].concat()), Step::Close]
            }
            Shape::LengthNegative => {
                vec![Step::Write([head("content-length: -5\r\n"), body].concat()), Step::Close]
            }
            Shape::LengthHuge => {
                vec![Step::Write([head("content-length: 99999999999999999999\r\n"), body].concat()), Step::Close]
            }
            Shape::SilentHead => vec![Step::Silence],
            Shape::SilentBody => vec![Step::Write(part(50)), Step::Silence],
            Shape::Trickled => in_pieces(&whole(), whole().len().div_ceil(40), Duration::from_millis(5)),
            Shape::Dripped => in_pieces(&whole(), 1, Duration::from_millis(100)),
            Shape::Endless => {
                let text = [body, vec![b' '; 65536]].concat();
                vec![Step::Write(head(CHUNKED)), Step::Repeat(chunks(&text, false), Duration::ZERO)]
            }
            Shape::ContinuedAlways => {
                vec![Step::Repeat(b"HTTP/1.1 100 Continue\r\n\r\n".to_vec(), Duration::from_millis(1))]
            }
            Shape::Reset => {
                // The gateway has read the part before the connection breaks.
                vec![Step::Write(part(50)), Step::Pause(Duration::from_millis(50)), Step::Reset]
            }
            Shape::ResetBeforeHead => vec![Step::Reset],
            Shape::ClosedBeforeHead => vec![Step::Close],
            Shape::WithAnother => {
                let other = places.fill(ANOTHER);
                let other = format!(
                    "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{other}",
                    other.len()
                );
                vec![Step::Write([whole(), other.into_bytes()].concat())]
            }
            Shape::Headers(count) => {
                let lines: Vec<String> = (0..count).map(|number| format!("x-filler-{number}: {number}\r\n")).collect();
                let lines = lines.concat();
                vec![Step::Write([head(&format!("{lines}content-length: {length}\r\n")), body].concat())]
            }
            Shape::LongHeader(bytes) => {
                let lines = format!("x-filler: {}\r\ncontent-length: {length}\r\n", "f".repeat(bytes));
                vec![Step::Write([head(&lines), body].concat())]
            }
            Shape::InvalidHeader(line) => {
                vec![Step::Write([head(&format!("{line}\r\ncontent-length: {length}\r\n")), body].concat())]
            }
            Shape::BareNewlines => {
                let text = String::from_utf8_lossy(&with_length(length)).replace("\r\n", "\n").into_bytes();
                vec![Step::Write([text, body].concat())]
            }
            Shape::Early => vec![Step::Write(whole()), Step::Pause(Duration::from_millis(300)), Step::Close],
            Shape::EarlyReset => vec![Step::Write(whole()), Step::Reset],
            Shape::Continued(times) => {
                vec![Step::Write([b"HTTP/1.1 100 Continue\r\n\r\n".repeat(times), whole()].concat())]
            }
            Shape::Hinted => {
                let hints = b"HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\n\r\n".to_vec();
                vec![Step::Write(hints), Step::Pause(Duration::from_millis(5)), Step::Write(whole())]
            }
            Shape::Encoded(coding) => {
                let lines = format!("content-encoding: {coding}\r\ncontent-length: {length}\r\n");
                vec![Step::Write([head(&lines), body].concat())]
            }
        }
    }

    /// Returns the head with some lines of the shape.
    fn head_with(&self, places: &Places, lines: &str) -> String {
        let media_type = match self.kind() {
            _ if self.head.contains("content-type:") => "",
            Kind::Service | Kind::Json => "content-type: application/json\r\n",
            Kind::Html => "content-type: text/html; charset=utf-8\r\n",
            Kind::Empty => "",
            Kind::Binary => "content-type: application/octet-stream\r\n",
            Kind::Picture | Kind::Damaged => "content-type: image/png\r\n",
        };
        format!("HTTP/1.1 {}\r\n{media_type}{}{lines}\r\n", self.status, places.fill(self.head))
    }
}

const CHUNKED: &str = "transfer-encoding: chunked\r\n";

/// The completed purchase of another client.
const ANOTHER: &str =
    r#"{"code":200,"message":"success","data":{"id":"{other}","status":"completed","outputs":["{other_url}"]}}"#;

/// Writes in pieces of this number of bytes, with a pause after each.
fn in_pieces(bytes: &[u8], size: usize, pause: Duration) -> Vec<Step> {
    bytes.chunks(size).flat_map(|piece| [Step::Write(piece.to_vec()), Step::Pause(pause)]).collect()
}

/// Writes a body in three chunks.
fn chunks(body: &[u8], ended: bool) -> Vec<u8> {
    let size = body.len().div_ceil(3).max(1);
    let mut written = Vec::new();
    for chunk in body.chunks(size) {
        written.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        written.extend_from_slice(chunk);
        written.extend_from_slice(b"\r\n");
    }
    if ended {
        written.extend_from_slice(b"0\r\n\r\n");
    }
    written
}
