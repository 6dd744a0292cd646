//! The JSON response behind white space, for clients that wait in silence behind a proxy with an idle timeout.
//!
//! JSON may begin with any amount of white space, and the SDKs accept it (`src/README.md`). The price: the status is sent
//! before the outcome is known. The official SDKs would take a 200 with `{"error": …}` for a success, so a failure breaks
//! the connection instead: the SDKs retry, and the retry gets the true status.

use std::io;
use std::sync::Arc;

use axum::body::Body;
use axum::http::HeaderValue;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::Response;
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt, stream};
use http_body_util::BodyDataStream;

use super::converter::ReadyPicture;
use super::signature::ResultUrls;
use super::streaming::{PendingPictures, StreamingResponse};
use crate::engine::WaitError;
use crate::http::StreamingBody;
use crate::model::JobResult;

/// A space at every heartbeat, and the JSON at the end.
#[derive(Debug)]
pub(crate) struct PaddedJson {
    response: StreamingResponse,
    urls: ResultUrls,
    /// The pictures while they are opened and converted.
    pending: PendingPictures<(Arc<JobResult>, Vec<ReadyPicture>)>,
    answered: bool,
}

impl PaddedJson {
    pub(crate) fn new(response: StreamingResponse, urls: ResultUrls) -> Self {
        Self { response, urls, pending: PendingPictures::new(), answered: false }
    }

    pub(crate) fn into_response(self) -> Response {
        let chunks = stream::unfold(self, |mut padded| async move {
            let chunk = match padded.next().await? {
                Ok(body) => BodyDataStream::new(body).left_stream(),
                Err(error) => stream::once(async { Err::<Bytes, io::Error>(error) }).right_stream(),
            };
            Some((chunk, padded))
        });
        let mut response = Response::new(Body::from_stream(chunks.flatten()));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        response
    }

    async fn next(&mut self) -> Option<io::Result<StreamingBody>> {
        if self.answered {
            self.response.complete();
            return None;
        }
        // Taken for the time of this call, so that an error ends the response.
        let mut waiter = self.response.waiter.take()?;
        let prepared = loop {
            tokio::select! {
                biased;
                () = self.response.permit.ended() => {
                    return Some(Err(io::Error::other(self.response.revoked().to_string())));
                }
                Some(prepared) = self.pending.next() => break prepared.map_err(WaitError::Failed),
                result = waiter.wait(self.response.deadline), if self.pending.is_empty() => match result {
                    Ok(result) => {
                        let prepared = self.response.prepare(result.pictures.clone());
                        self.pending.push_back(async move { Ok((result, prepared.await?)) }.boxed());
                    }
                    Err(error) => break Err(error),
                },
                () = tokio::time::sleep(self.response.heartbeat) => {
                    self.response.waiter = Some(waiter);
                    return Some(Ok(StreamingBody::default().text(" ")));
                }
            }
        };
        Some(match prepared {
            Ok((result, pictures)) => {
                self.response.waiter = Some(waiter);
                self.answered = true;
                Ok(self.response.shape.object(&result, pictures, &self.urls))
            }
            Err(wait_error) => {
                let error = self.response.failed(&waiter, wait_error.clone());
                if let WaitError::Failed(failure) = wait_error
                    && !error.invites_retry()
                {
                    // The broken connection makes the client retry, although this error says it should not.
                    waiter.keep_failure_for_retry(failure).await;
                }
                Err(io::Error::other(error.to_string()))
            }
        })
    }
}
