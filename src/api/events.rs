//! The answer as server-sent events (`wire/openai.md` §3).
//!
//! One `completed` event for each picture, as soon as the prediction that makes it is done; comments in between, which
//! every client skips and which keep the connection alive; a failure as an `error` event, which the official SDKs raise.
//! There are no partial pictures, because the upstream makes none. A picture leaves piece by piece from where it is
//! stored, and every piece at once. Comments go on while a picture is converted.
//!
//! Whoever follows a prediction by its address is also told where it stands, first and at every change, and at the end:
//! `prediction.status` events with the prediction object, whose result is always null there.

use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderName, HeaderValue};
use axum::response::Response;
use futures_util::{FutureExt, StreamExt, stream};
use http_body_util::BodyDataStream;
use serde::Serialize;
use tokio::time::Instant;

use super::error::{ApiError, Envelope};
use super::kept::{Kept, Presenting};
use super::predictions::Statuses;
use super::presenter::Presented;
use crate::engine::{JobEvent, WaitError, Waiter};
use crate::http::StreamingBody;
use crate::model::{JobId, PurchaseResult, StoredPicture, Timestamp, Usage};

/// Keeps nginx from collecting a response before it passes it on.
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// A stream of events for one request.
#[derive(Debug)]
pub(super) struct Events {
    kept: Kept,
    /// Parts of the order that have been taken in.
    seen: usize,
    /// Pictures that are to leave, in their order; some are still being converted.
    ready: Presenting<(Presented, Ready)>,
    /// How the order has ended; what is ready leaves first.
    end: Option<Result<(), WaitError>>,
    /// When the next comment is due.
    comment_at: Instant,
    /// Whoever follows a prediction is told where it stands.
    statuses: Option<Statuses>,
}

/// What an event says besides its picture.
#[derive(Debug)]
struct Ready {
    usage: Option<Usage>,
    created: Timestamp,
}

impl Events {
    /// Begins with a comment, unless a picture is there.
    pub(super) fn new(kept: Kept) -> Self {
        Self { kept, seen: 0, ready: Presenting::new(), end: None, comment_at: Instant::now(), statuses: None }
    }

    /// Begins with where the prediction stands.
    pub(super) fn of_prediction(kept: Kept, statuses: Statuses) -> Self {
        Self { statuses: Some(statuses), ..Self::new(kept) }
    }

    pub(super) fn into_response(self) -> Response {
        let events = stream::unfold(self, |mut events| async move {
            let event = events.next().await?;
            Some((BodyDataStream::new(event), events))
        });
        let mut response = Response::new(Body::from_stream(events.flatten()));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        headers.insert(ACCEL_BUFFERING, HeaderValue::from_static("no"));
        response
    }

    /// The next event or comment; `None` at the end.
    async fn next(&mut self) -> Option<StreamingBody> {
        // Taken for the time of this call, so that an error ends the stream.
        let mut waiter = self.kept.waiter.take()?;
        let job = waiter.job();
        if let Some(statuses) = &mut self.statuses
            && let Some(status) = statuses.first(&self.kept.engine, job).await
        {
            self.kept.waiter = Some(waiter);
            return Some(status);
        }
        loop {
            if self.ready.is_empty()
                && let Some(end) = self.end.take()
            {
                return match end {
                    Ok(()) => {
                        self.kept.waiter = Some(waiter);
                        let last = self.last_status(job).await;
                        match &last {
                            Some(_) => self.end = Some(Ok(())),
                            None => self.kept.complete(),
                        }
                        last
                    }
                    Err(why) => {
                        let failed = matches!(why, WaitError::Failed(_));
                        let status = if failed { self.last_status(job).await } else { None };
                        Some(status.unwrap_or_default().then(error(&self.kept.failed(&waiter, why))))
                    }
                };
            }
            let told = self.statuses.as_ref().and_then(Statuses::told);
            tokio::select! {
                biased;
                Some(presented) = self.ready.next() => return Some(match presented {
                    Ok((picture, Ready { usage, created })) => {
                        self.comment_at = Instant::now() + self.kept.heartbeat;
                        self.kept.waiter = Some(waiter);
                        self.kept.shape.completed(picture, usage, created)
                    }
                    Err(failure) => error(&self.kept.failed(&waiter, WaitError::Failed(failure))),
                }),
                news = waiter.next_event(self.seen, told, self.kept.deadline), if self.end.is_none() => match news {
                    Ok(JobEvent::PurchaseResult(part)) => {
                        self.seen += 1;
                        self.take_in(part);
                    }
                    Ok(JobEvent::StageChanged(stage)) => {
                        if let Some(statuses) = &mut self.statuses
                            && let Some(status) = statuses.moved(stage, &self.kept.engine, job).await
                        {
                            self.kept.waiter = Some(waiter);
                            return Some(status);
                        }
                    }
                    Ok(JobEvent::End) => self.end = Some(Ok(())),
                    Err(why) => self.end = Some(Err(why)),
                },
                () = tokio::time::sleep_until(self.comment_at) => {
                    self.comment_at = Instant::now() + self.kept.heartbeat;
                    let comment = comment(&waiter);
                    self.kept.waiter = Some(waiter);
                    return Some(comment);
                }
            }
        }
    }

    async fn last_status(&mut self, job: JobId) -> Option<StreamingBody> {
        match &mut self.statuses {
            Some(statuses) => statuses.last(&self.kept.engine, job).await,
            None => None,
        }
    }

    fn take_in(&mut self, part: PurchaseResult) {
        for (picture, ready) in shared_out(part) {
            let presented = self.kept.presented(vec![picture]);
            self.ready.push_back(async move { Ok((presented.await?.swap_remove(0), ready)) }.boxed());
        }
    }
}

/// The pictures of a part, each with its share of the tokens: events have figures of their own, the upstream counts for
/// all pictures of a prediction together.
fn shared_out(
    PurchaseResult { pictures, usage, resolved }: PurchaseResult,
) -> impl Iterator<Item = (StoredPicture, Ready)> {
    let count = u64::try_from(pictures.len()).unwrap_or(u64::MAX);
    (0..).zip(pictures).map(move |(position, picture)| {
        // The first ones take what does not divide, so that the shares add up.
        let share = |tokens: u64| tokens / count + u64::from(position < tokens % count);
        let usage = usage.map(|usage| Usage {
            input_tokens: share(usage.input_tokens),
            output_tokens: share(usage.output_tokens),
            input_image_tokens: usage.input_image_tokens.map(share),
        });
        (picture, Ready { usage, created: resolved })
    })
}

fn comment(waiter: &Waiter) -> StreamingBody {
    StreamingBody::default().text(if waiter.is_bought() { ": processing\n\n" } else { ": queued\n\n" })
}

/// A failure as the official SDKs raise it.
fn error(error: &ApiError) -> StreamingBody {
    #[derive(Serialize)]
    struct Event<'a> {
        r#type: &'static str,
        #[serde(flatten)]
        envelope: Envelope<'a>,
    }
    let event = Event { r#type: "error", envelope: error.envelope() };
    StreamingBody::default().text("event: error\ndata: ").json(&event).text("\n\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Digest, Failure, Format};

    #[test]
    fn shares_of_the_tokens_add_up() {
        let digest = Digest::from(blake3::hash(b"x"));
        let picture = StoredPicture { digest, bytes: 1, format: Format::Png, width: 1, height: 1 };
        let usage = Usage { input_tokens: 239, output_tokens: 1056, input_image_tokens: Some(194) };
        let resolved = Timestamp::from_millis(7);
        let part = PurchaseResult { pictures: vec![picture; 5], usage: Some(usage), resolved };
        let shares: Vec<Usage> = shared_out(part).map(|(_, ready)| ready.usage.unwrap()).collect();
        assert_eq!(shares.iter().map(|share| share.input_tokens).sum::<u64>(), 239);
        assert_eq!(shares.iter().map(|share| share.output_tokens).sum::<u64>(), 1056);
        assert_eq!(shares.iter().filter_map(|share| share.input_image_tokens).sum::<u64>(), 194);
        assert!(shares.iter().all(|share| (47..=48).contains(&share.input_tokens)));
        let unknown = shared_out(PurchaseResult { pictures: vec![picture], usage: None, resolved });
        assert!(unknown.into_iter().all(|(_, ready)| ready.usage.is_none()));
    }

    #[tokio::test]
    async fn an_error_is_one_event_on_one_line() {
        use http_body_util::BodyExt;
        let failure = Failure::TaskFailed { message: "first\nsecond".to_owned() };
        let event = error(&ApiError::Failed { failure, job: None }).collect().await.unwrap().to_bytes();
        let event = std::str::from_utf8(&event).unwrap();
        let data = event.strip_prefix("event: error\ndata: ").unwrap().strip_suffix("\n\n").unwrap();
        assert!(!data.contains('\n'));
        let data: serde_json::Value = serde_json::from_str(data).unwrap();
        assert_eq!((&data["type"], &data["error"]["code"]), (&"error".into(), &"image_generation_failed".into()));
    }
}
