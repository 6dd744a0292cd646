//! The response as server-sent events (`src/README.md`).
//!
//! One `completed` event for each picture, as soon as its purchase has ended; comments in between, which every client skips
//! and which keep the connection alive; a failure as an `error` event, which the official SDKs raise. There are no partial
//! pictures, because the upstream makes none. A picture is sent piece by piece from where it is stored. Comments go on while
//! a picture is converted. If pictures are missing in the end, because a purchase of several failed or its outcome is
//! unknown, an `error` event follows those that came. A picture that was made without looking at the input pictures follows
//! a comment that says so: the headers have been sent.
//!
//! A client that follows a prediction by its address also gets its status, at first, at every change and at the end:
//! `prediction.status` events with the prediction object, whose result is always null there.

use std::sync::Arc;

use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderName, HeaderValue};
use axum::response::Response;
use futures_util::{FutureExt, StreamExt, stream};
use http_body_util::BodyDataStream;
use serde::Serialize;
use tokio::time::Instant;

use super::converter::ReadyPicture;
use super::image_response::completion::{Completion, error_chunk};
use super::image_response::warnings::incomplete;
use super::signature::ResultUrls;
use super::status_events::StatusEvents;
use super::streaming::{PendingPictures, StreamingResponse};
use crate::api::error::ApiError;
use crate::api::error::response::ErrorEnvelope;
use crate::engine::{JobEvent, JobForecast, WaitError, Waiter};
use crate::http::StreamingBody;
use crate::http::gateway_headers::{INPUTS_UNSEEN, WARNING, whole_seconds};
use crate::model::{JobId, JobResult, PurchaseResult, StoredPicture, Timestamp, Usage};

/// Keeps nginx from buffering the response.
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// A stream of events for one request.
#[derive(Debug)]
pub(crate) struct Events {
    response: StreamingResponse,
    /// The number of purchases whose results were received.
    seen: usize,
    /// Pictures that are to be sent, in their order; some are still being converted.
    pending: PendingPictures<(ReadyPicture, EventData)>,
    /// How the job has ended; pending pictures are sent first. `Ok(None)` once what follows them has been sent.
    end: Option<Result<Option<Arc<JobResult>>, WaitError>>,
    /// When the next comment is due.
    comment_at: Instant,
    /// Status events, for a client that follows the job by its address.
    statuses: Option<StatusEvents>,
    /// The chunks of a chat completion, in place of the image API's events.
    chunks: Option<CompletionChunks>,
}

/// What has been sent of a chat completion, and what its last chunks need.
#[derive(Debug)]
struct CompletionChunks {
    urls: ResultUrls,
    begun: bool,
    has_picture: bool,
}

/// What an event carries besides its picture.
#[derive(Debug)]
struct EventData {
    usage: Option<Usage>,
    inputs_unseen: bool,
    created: Timestamp,
}

impl Events {
    /// Begins with a comment, unless a picture is ready.
    pub(crate) fn new(response: StreamingResponse) -> Self {
        Self {
            response,
            seen: 0,
            pending: PendingPictures::new(),
            end: None,
            comment_at: Instant::now(),
            statuses: None,
            chunks: None,
        }
    }

    /// Writes the chunks of a chat completion, which the response must be one of.
    pub(crate) fn of_completion(response: StreamingResponse, urls: ResultUrls) -> Self {
        Self { chunks: Some(CompletionChunks { urls, begun: false, has_picture: false }), ..Self::new(response) }
    }

    /// Begins with the status of the job.
    pub(crate) fn of_prediction(response: StreamingResponse, statuses: StatusEvents) -> Self {
        Self { statuses: Some(statuses), ..Self::new(response) }
    }

    pub(crate) fn into_response(self) -> Response {
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

    /// Returns the next event or comment; `None` at the end. Once the key of the request has ended it is an error, and the last one.
    async fn next(&mut self) -> Option<StreamingBody> {
        self.response.waiter.as_ref()?;
        let credential = self.response.permit.credential();
        tokio::select! {
            biased;
            () = credential.ended() => {}
            event = self.next_event() => return event,
        }
        self.response.waiter = None;
        let error = self.response.revoked();
        Some(self.error(&error))
    }

    async fn next_event(&mut self) -> Option<StreamingBody> {
        // Taken for the time of this call, so that an error ends the stream.
        let mut waiter = self.response.waiter.take()?;
        let job = waiter.job();
        if let Some(statuses) = &mut self.statuses
            && let Some(status) = statuses.first(&self.response.engine, job).await
        {
            self.response.waiter = Some(waiter);
            return Some(status);
        }
        if let Some((completion, chunks)) = self.response.shape.completion().zip(self.chunks.as_mut())
            && !std::mem::replace(&mut chunks.begun, true)
        {
            let first = completion.first_chunk(job);
            self.response.waiter = Some(waiter);
            return Some(first);
        }
        loop {
            if self.pending.is_empty()
                && let Some(end) = self.end.take()
            {
                return match end {
                    Ok(result) => {
                        self.response.waiter = Some(waiter);
                        let last = self.last_events(job, result).await;
                        match &last {
                            Some(_) => self.end = Some(Ok(None)),
                            None => self.response.complete(),
                        }
                        last
                    }
                    Err(wait_error) => {
                        let failed = matches!(wait_error, WaitError::Failed(_));
                        let status = if failed { self.last_status(job).await } else { None };
                        let error = self.response.failed(&waiter, wait_error);
                        Some(status.unwrap_or_default().then(self.error(&error)))
                    }
                };
            }
            let sent = self.statuses.as_ref().and_then(StatusEvents::sent);
            let look_at = self.statuses.as_ref().map(StatusEvents::look_at).filter(|_| self.end.is_none());
            tokio::select! {
                biased;
                Some(prepared) = self.pending.next() => return Some(match prepared {
                    Ok((picture, EventData { usage, inputs_unseen, created })) => {
                        self.comment_at = Instant::now() + self.response.heartbeat;
                        self.response.waiter = Some(waiter);
                        warning(inputs_unseen).then(self.picture(job, picture, usage, created))
                    }
                    Err(failure) => {
                        let error = self.response.failed(&waiter, WaitError::Failed(failure));
                        self.error(&error)
                    }
                }),
                event = waiter.next_event(self.seen, sent, self.response.deadline), if self.end.is_none() => match event {
                    Ok(JobEvent::PurchaseResult(result)) => {
                        self.seen += 1;
                        self.prepare(result);
                    }
                    Ok(JobEvent::StageChanged(stage)) => {
                        if let Some(statuses) = &mut self.statuses
                            && let Some(status) = statuses.changed(stage, &self.response.engine, job).await
                        {
                            self.response.waiter = Some(waiter);
                            return Some(status);
                        }
                    }
                    Ok(JobEvent::End(result)) => self.end = Some(Ok(Some(result))),
                    Err(error) => self.end = Some(Err(error)),
                },
                () = sleep_until(look_at) => {
                    if let Some(statuses) = &mut self.statuses
                        && let Some(status) = statuses.progressed(&self.response.engine, job).await
                    {
                        self.response.waiter = Some(waiter);
                        return Some(status);
                    }
                }
                () = tokio::time::sleep_until(self.comment_at) => {
                    self.comment_at = Instant::now() + self.response.heartbeat;
                    let comment = comment(&waiter);
                    self.response.waiter = Some(waiter);
                    return Some(comment);
                }
            }
        }
    }

    /// Returns what follows the pictures: the status of the job for a client that follows it, and an error if pictures are
    /// missing.
    async fn last_events(&mut self, job: JobId, result: Option<Arc<JobResult>>) -> Option<StreamingBody> {
        let result = result?;
        if let Some((completion, chunks)) = self.response.shape.completion().zip(self.chunks.as_ref()) {
            let conversion = self.response.shape.conversion();
            let error = incomplete(&result);
            // Behind pictures that were sent as data, the comment has been sent.
            let unseen = warning(result.inputs_unseen && completion.sends_addresses());
            return Some(unseen.then(completion.last_chunks(&result, &chunks.urls, conversion, error.as_ref())));
        }
        let status = self.last_status(job).await;
        let error = incomplete(&result).map(|error| error_event(&error));
        (status.is_some() || error.is_some()).then(|| status.unwrap_or_default().then(error.unwrap_or_default()))
    }

    async fn last_status(&mut self, job: JobId) -> Option<StreamingBody> {
        match &mut self.statuses {
            Some(statuses) => statuses.last(&self.response.engine, job).await,
            None => None,
        }
    }

    /// Writes one picture.
    fn picture(
        &mut self,
        job: JobId,
        picture: ReadyPicture,
        usage: Option<Usage>,
        created: Timestamp,
    ) -> StreamingBody {
        match self.response.shape.completion().zip(self.chunks.as_mut()) {
            Some((completion, chunks)) => {
                let first = !std::mem::replace(&mut chunks.has_picture, true);
                completion.picture_chunk(job, picture, first)
            }
            None => self.response.shape.completed_event(picture, usage, created),
        }
    }

    /// Writes an error with which the stream ends.
    fn error(&self, error: &ApiError) -> StreamingBody {
        if self.chunks.is_some() { error_chunk(error) } else { error_event(error) }
    }

    fn prepare(&mut self, result: PurchaseResult) {
        if self.response.shape.completion().is_some_and(Completion::sends_addresses) {
            // The address of a picture is known at the end: purchases end in any order.
            return;
        }
        for (picture, data) in split_usage(result) {
            let prepared = self.response.prepare(vec![picture]);
            self.pending.push_back(async move { Ok((prepared.await?.swap_remove(0), data)) }.boxed());
        }
    }
}

/// Splits the tokens of a purchase among its pictures: each event has its own counts, the upstream reports one for all.
fn split_usage(
    PurchaseResult { pictures, usage, inputs_unseen, resolved }: PurchaseResult,
) -> impl Iterator<Item = (StoredPicture, EventData)> {
    let count = u64::try_from(pictures.len()).unwrap_or(u64::MAX);
    (0..).zip(pictures).map(move |(position, picture)| {
        // The first ones get the remainder, so that the shares add up.
        let share = |tokens: u64| tokens / count + u64::from(position < tokens % count);
        let usage = usage.map(|usage| Usage {
            input_tokens: share(usage.input_tokens),
            output_tokens: share(usage.output_tokens),
            input_image_tokens: usage.input_image_tokens.map(share),
        });
        (picture, EventData { usage, inputs_unseen, created: resolved })
    })
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Returns what keeps a connection alive: when the pictures are expected, where that is known.
fn comment(waiter: &Waiter) -> StreamingBody {
    let body = StreamingBody::default();
    match JobForecast::of(waiter).left {
        Some(left) => body.format(format_args!(": expected in {} s\n\n", whole_seconds(left))),
        None => body.text(if waiter.is_bought() { ": processing\n\n" } else { ": queued\n\n" }),
    }
}

/// Returns the comment before a picture that was made without looking at the input pictures; otherwise nothing.
fn warning(inputs_unseen: bool) -> StreamingBody {
    let body = StreamingBody::default();
    if inputs_unseen { body.text(format!(": {WARNING}: {INPUTS_UNSEEN}\n\n")) } else { body }
}

/// Writes an error as the event that the official SDKs raise.
fn error_event(error: &ApiError) -> StreamingBody {
    #[derive(Serialize)]
    struct Event<'a> {
        r#type: &'static str,
        #[serde(flatten)]
        envelope: ErrorEnvelope<'a>,
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
        let result = PurchaseResult { pictures: vec![picture; 5], usage: Some(usage), inputs_unseen: false, resolved };
        let shares: Vec<Usage> = split_usage(result).map(|(_, data)| data.usage.unwrap()).collect();
        assert_eq!(shares.iter().map(|share| share.input_tokens).sum::<u64>(), 239);
        assert_eq!(shares.iter().map(|share| share.output_tokens).sum::<u64>(), 1056);
        assert_eq!(shares.iter().filter_map(|share| share.input_image_tokens).sum::<u64>(), 194);
        assert!(shares.iter().all(|share| (47..=48).contains(&share.input_tokens)));
        let unknown =
            split_usage(PurchaseResult { pictures: vec![picture], usage: None, inputs_unseen: false, resolved });
        assert!(unknown.into_iter().all(|(_, data)| data.usage.is_none()));
    }

    #[tokio::test]
    async fn an_error_is_one_event_on_one_line() {
        use http_body_util::BodyExt;
        let failure = Failure::TaskFailed { message: "first\nsecond".to_owned() };
        let event = error_event(&ApiError::Failed { failure, job: None }).collect().await.unwrap().to_bytes();
        let event = std::str::from_utf8(&event).unwrap();
        let data = event.strip_prefix("event: error\ndata: ").unwrap().strip_suffix("\n\n").unwrap();
        assert!(!data.contains('\n'));
        let data: serde_json::Value = serde_json::from_str(data).unwrap();
        assert_eq!((&data["type"], &data["error"]["code"]), (&"error".into(), &"image_generation_failed".into()));
    }
}
