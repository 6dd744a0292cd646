//! Injects faults: a request is lost, or takes effect and its answer is lost or damaged.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use rand::RngExt;
use rand::rngs::StdRng;
use serde::{Deserialize, Serialize};

use super::rules::errors::{Refusal, page};
use super::rules::values::{Api, LimitKind};
use super::scenario::{Fault, FaultTarget, Faults, RetryAfter, Scenario};
use crate::server::accept::CloseConnection;

/// A fault that is injected a number of times.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ScheduledFault {
    pub(crate) on: FaultTarget,
    pub(crate) fault: Fault,
    #[serde(default = "once")]
    pub(crate) times: u32,
    /// Number of calls without a fault before the first one with it.
    #[serde(default)]
    pub(crate) skip: u32,
    /// Replaces the scenario's delay.
    #[serde(default)]
    pub(crate) delay_ms: Option<u64>,
}

fn once() -> u32 {
    1
}

/// Returns the fault of the next call: the first one that is scheduled for it, or else the standing one.
pub(crate) fn next_fault(
    scheduled: &mut Vec<ScheduledFault>,
    target: FaultTarget,
    rules: &Faults,
    random: &mut StdRng,
) -> InjectedFault {
    let (standing, share) = match target {
        FaultTarget::Submit => (rules.submit, rules.submit_share),
        FaultTarget::Poll => (rules.poll, rules.poll_share),
        FaultTarget::Download => (rules.download, rules.download_share),
    };
    let mut injected = InjectedFault { fault: Fault::None, delay: Duration::from_millis(rules.delay_ms) };
    if let Some(index) = scheduled.iter().position(|fault| fault.on == target) {
        let next = &mut scheduled[index];
        if next.skip > 0 {
            next.skip -= 1;
        } else {
            injected.fault = next.fault;
            if let Some(delay_ms) = next.delay_ms {
                injected.delay = Duration::from_millis(delay_ms);
            }
            next.times = next.times.saturating_sub(1);
            if next.times == 0 {
                scheduled.remove(index);
            }
        }
    } else if standing != Fault::None && random.random::<f64>() < share {
        injected.fault = standing;
    }
    injected
}

/// The fault of one call, or [`Fault::None`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct InjectedFault {
    pub(crate) fault: Fault,
    pub(crate) delay: Duration,
}

impl InjectedFault {
    pub(crate) fn is_some(&self) -> bool {
        self.fault != Fault::None
    }

    /// Returns the answer in place of the effect, if the fault prevents the effect.
    pub(crate) fn before_effect(&self, api: Api, scenario: &Scenario) -> Option<Response> {
        match self.fault {
            Fault::DropBefore => Some(hang_up()),
            Fault::Status429 => Some(too_many(api, scenario, RetryAfter::Absent)),
            Fault::Status429RetryAfter => Some(too_many(api, scenario, RetryAfter::Seconds)),
            Fault::Status500 => Some(internal(api, scenario)),
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

    /// Returns the answer of a request that took effect, damaged by the fault.
    pub(crate) async fn after_effect(&self, response: Response, api: Api, scenario: &Scenario) -> Response {
        match self.fault {
            Fault::DropAfter => hang_up(),
            Fault::CutAnswer => cut(response).await,
            Fault::Delay => {
                tokio::time::sleep(self.delay).await;
                response
            }
            Fault::SlowBody => in_slow_pieces(response, self.delay).await,
            Fault::EmptyBody => shortened(response, |_| 0).await,
            Fault::TruncatedJson => shortened(response, |length| length / 2).await,
            Fault::Html200 => page(200),
            Fault::Status500After => internal(api, scenario),
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

fn internal(api: Api, scenario: &Scenario) -> Response {
    Refusal::new(500, "Internal server error").response(api, scenario)
}

fn too_many(api: Api, scenario: &Scenario, form: RetryAfter) -> Response {
    let mut scenario = scenario.clone();
    scenario.limits.retry_after = form;
    Refusal::too_many(LimitKind::Fault, "Too many requests, please try again later", Duration::from_secs(1))
        .response(api, &scenario)
}

/// Returns head and body of an answer; the body is in memory.
async fn split(response: Response) -> (axum::http::response::Parts, Bytes) {
    let (mut parts, body) = response.into_parts();
    parts.headers.remove(header::CONTENT_LENGTH);
    let bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap_or_default();
    (parts, bytes)
}

async fn shortened(response: Response, to: impl FnOnce(usize) -> usize) -> Response {
    let (parts, bytes) = split(response).await;
    let end = to(bytes.len());
    Response::from_parts(parts, Body::from(bytes.slice(..end)))
}

async fn cut(response: Response) -> Response {
    let (parts, bytes) = split(response).await;
    let end = bytes.len() / 2;
    cut_at(parts.into_response(), &bytes, end)
}

/// Returns `bytes` with their full `Content-Length`; the connection breaks after `end` of them.
pub(crate) fn cut_at(head: Response, bytes: &Bytes, end: usize) -> Response {
    let pieces = [Ok(bytes.slice(..end.min(bytes.len()))), Err(std::io::Error::other("injected fault"))];
    let (mut parts, _) = head.into_parts();
    parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(bytes.len()));
    // The pause lets the first piece leave before the error closes the connection.
    let body = Body::from_stream(stream::unfold(pieces.into_iter(), |mut pieces| async move {
        let piece = pieces.next()?;
        if piece.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Some((piece, pieces))
    }));
    Response::from_parts(parts, body)
}

async fn in_slow_pieces(response: Response, total: Duration) -> Response {
    const PIECES: u32 = 10;
    let (parts, bytes) = split(response).await;
    let piece = bytes.len().div_ceil(PIECES as usize).max(1);
    in_pieces(parts.into_response(), bytes, piece, total / PIECES)
}

/// Returns `bytes` in pieces, with a pause before each.
pub(crate) fn in_pieces(head: Response, bytes: Bytes, piece: usize, pause: Duration) -> Response {
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
