//! Accidents on the way: the request is lost, or takes effect and its answer is lost.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde::{Deserialize, Serialize};

use super::errors::{Refusal, page};
use super::limits::Limit;
use super::rules::Face;
use super::scenario::{RetryAfter, Scenario};
use crate::server::accept::CloseConnection;

/// One kind of accident.
///
/// Names that end in `_after`, and those about the body, let the request take effect and spoil the answer; the others
/// keep it from having any effect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// No accident.
    #[default]
    None,
    /// The connection closes without a byte; nothing happened.
    DropBefore,
    /// The connection closes without a byte; the request took effect.
    DropAfter,
    /// The connection breaks in the middle of the answer's body.
    CutAnswer,
    /// The answer comes late.
    Delay,
    /// The answer's body comes in drips that take the delay altogether.
    SlowBody,
    /// The right status with an empty body.
    EmptyBody,
    /// A well-formed answer with half of its body.
    TruncatedJson,
    /// An HTML page with status 200.
    #[serde(rename = "html_200")]
    Html200,
    /// 429 without `Retry-After`.
    #[serde(rename = "status_429")]
    Status429,
    /// 429 with `Retry-After: 1`.
    #[serde(rename = "status_429_retry_after")]
    Status429RetryAfter,
    /// 500, shape A.
    #[serde(rename = "status_500")]
    Status500,
    /// 500, shape A, after the effect.
    #[serde(rename = "status_500_after")]
    Status500After,
    /// 502 page.
    #[serde(rename = "html_502")]
    Html502,
    /// 502 page, after the effect.
    #[serde(rename = "html_502_after")]
    Html502After,
    /// 504 page.
    #[serde(rename = "html_504")]
    Html504,
    /// 504 page, after the effect.
    #[serde(rename = "html_504_after")]
    Html504After,
    /// 524 page.
    #[serde(rename = "html_524")]
    Html524,
    /// 524 page, after the effect.
    #[serde(rename = "html_524_after")]
    Html524After,
}

impl Fault {
    /// Whether it is a refusal by 429.
    pub(super) fn refuses(self) -> bool {
        matches!(self, Self::Status429 | Self::Status429RetryAfter)
    }

    /// Whether nothing is left of the answer, so that nobody need wait for it.
    pub(super) fn replaces_answer(self) -> bool {
        match self {
            Self::DropAfter | Self::Status500After | Self::Html502After | Self::Html504After | Self::Html524After => {
                true
            }
            Self::None
            | Self::DropBefore
            | Self::CutAnswer
            | Self::Delay
            | Self::SlowBody
            | Self::EmptyBody
            | Self::TruncatedJson
            | Self::Html200
            | Self::Status429
            | Self::Status429RetryAfter
            | Self::Status500
            | Self::Html502
            | Self::Html504
            | Self::Html524 => false,
        }
    }
}

/// What an accident can hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// A submit.
    Submit,
    /// A poll.
    Poll,
    /// The download of a picture.
    Download,
}

/// An accident that is to happen a number of times.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FaultOrder {
    pub(super) on: Place,
    pub(super) fault: Fault,
    #[serde(default = "once")]
    pub(super) times: u32,
    /// Calls that pass unharmed first.
    #[serde(default)]
    pub(super) skip: u32,
    /// Replaces the scenario's delay.
    #[serde(default)]
    pub(super) delay_ms: Option<u64>,
}

fn once() -> u32 {
    1
}

/// An accident that happens to one call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Accident {
    pub(super) fault: Fault,
    pub(super) delay: Duration,
}

impl Accident {
    /// The answer of a request that has no effect, if the accident comes first.
    pub(super) fn instead(&self, face: Face, scenario: &Scenario) -> Option<Response> {
        match self.fault {
            Fault::DropBefore => Some(hang_up()),
            Fault::Status429 => Some(too_many(face, scenario, RetryAfter::Absent)),
            Fault::Status429RetryAfter => Some(too_many(face, scenario, RetryAfter::Seconds)),
            Fault::Status500 => Some(internal(face, scenario)),
            Fault::Html502 => Some(page(502)),
            Fault::Html504 => Some(page(504)),
            Fault::Html524 => Some(page(524)),
            Fault::None
            | Fault::DropAfter
            | Fault::CutAnswer
            | Fault::Delay
            | Fault::SlowBody
            | Fault::EmptyBody
            | Fault::TruncatedJson
            | Fault::Html200
            | Fault::Status500After
            | Fault::Html502After
            | Fault::Html504After
            | Fault::Html524After => None,
        }
    }

    /// What is left of the answer of a request that took effect.
    pub(super) async fn spoil(&self, response: Response, face: Face, scenario: &Scenario) -> Response {
        match self.fault {
            Fault::DropAfter => hang_up(),
            Fault::CutAnswer => cut(response).await,
            Fault::Delay => {
                tokio::time::sleep(self.delay).await;
                response
            }
            Fault::SlowBody => drip(response, self.delay).await,
            Fault::EmptyBody => shortened(response, |_| 0).await,
            Fault::TruncatedJson => shortened(response, |length| length / 2).await,
            Fault::Html200 => page(200),
            Fault::Status500After => internal(face, scenario),
            Fault::Html502After => page(502),
            Fault::Html504After => page(504),
            Fault::Html524After => page(524),
            Fault::None
            | Fault::DropBefore
            | Fault::Status429
            | Fault::Status429RetryAfter
            | Fault::Status500
            | Fault::Html502
            | Fault::Html504
            | Fault::Html524 => response,
        }
    }
}

fn hang_up() -> Response {
    let mut response = Response::new(Body::empty());
    response.extensions_mut().insert(CloseConnection);
    response
}

fn internal(face: Face, scenario: &Scenario) -> Response {
    Refusal::new(500, "Internal server error").answer(face, scenario)
}

fn too_many(face: Face, scenario: &Scenario, form: RetryAfter) -> Response {
    let mut scenario = scenario.clone();
    scenario.limits.retry_after = form;
    Refusal::too_many(Limit::Fault, "Too many requests, please try again later", Duration::from_secs(1))
        .answer(face, &scenario)
}

/// The parts of an answer that this process made, so that its body is whole in memory.
async fn taken_apart(response: Response) -> (axum::http::response::Parts, Bytes) {
    let (mut parts, body) = response.into_parts();
    parts.headers.remove(header::CONTENT_LENGTH);
    let bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap_or_default();
    (parts, bytes)
}

async fn shortened(response: Response, to: impl FnOnce(usize) -> usize) -> Response {
    let (parts, bytes) = taken_apart(response).await;
    let end = to(bytes.len());
    Response::from_parts(parts, Body::from(bytes.slice(..end)))
}

async fn cut(response: Response) -> Response {
    let (parts, bytes) = taken_apart(response).await;
    let end = bytes.len() / 2;
    cut_at(parts.into_response(), &bytes, end)
}

/// `bytes` under their full length, with the connection breaking after `end` of them.
pub(super) fn cut_at(head: Response, bytes: &Bytes, end: usize) -> Response {
    let pieces = [Ok(bytes.slice(..end.min(bytes.len()))), Err(std::io::Error::other("cut on purpose"))];
    let (mut parts, _) = head.into_parts();
    parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(bytes.len()));
    // The pause lets the first piece leave before the error tears the connection down.
    let body = Body::from_stream(stream::unfold(pieces.into_iter(), |mut pieces| async move {
        let piece = pieces.next()?;
        if piece.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Some((piece, pieces))
    }));
    Response::from_parts(parts, body)
}

async fn drip(response: Response, total: Duration) -> Response {
    const DRIPS: u32 = 10;
    let (parts, bytes) = taken_apart(response).await;
    let piece = bytes.len().div_ceil(DRIPS as usize).max(1);
    in_pieces(parts.into_response(), bytes, piece, total / DRIPS)
}

/// `bytes` in pieces, with a pause before each.
pub(super) fn in_pieces(head: Response, bytes: Bytes, piece: usize, pause: Duration) -> Response {
    let (mut parts, _) = head.into_parts();
    parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(bytes.len()));
    let body = Body::from_stream(stream::unfold(bytes, move |mut rest| async move {
        if rest.is_empty() {
            return None;
        }
        tokio::time::sleep(pause).await;
        let next = rest.split_to(piece.min(rest.len()));
        Some((Ok::<_, std::io::Error>(next), rest))
    }));
    Response::from_parts(parts, body)
}
