//! The JSON answer behind white space, for clients that wait in silence behind a proxy that does not.
//!
//! JSON may begin with any amount of white space, and the SDKs read it so (`wire/openai.md` §6.3). The price: the status
//! is out before the outcome is known. A body that said `{"error": …}` would be taken for a success by the official SDKs;
//! so on a failure the connection breaks, their own retry follows, and that one gets the true status.

use std::io;
use std::sync::Arc;

use axum::body::Body;
use axum::http::HeaderValue;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::Response;
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt, stream};
use http_body_util::BodyDataStream;

use super::answer::Addresses;
use super::kept::{Kept, Presenting};
use super::presenter::Presented;
use crate::engine::WaitError;
use crate::http::StreamingBody;
use crate::model::JobResult;

/// One byte now and then, and an answer at last.
#[derive(Debug)]
pub(super) struct Spaces {
    kept: Kept,
    addresses: Addresses,
    /// The pictures while they are opened and converted, once there are any.
    ready: Presenting<(Arc<JobResult>, Vec<Presented>)>,
    answered: bool,
}

impl Spaces {
    pub(super) fn new(kept: Kept, addresses: Addresses) -> Self {
        Self { kept, addresses, ready: Presenting::new(), answered: false }
    }

    pub(super) fn into_response(self) -> Response {
        let pieces = stream::unfold(self, |mut spaces| async move {
            let piece = match spaces.next().await? {
                Ok(payload) => BodyDataStream::new(payload).left_stream(),
                Err(error) => stream::once(async { Err::<Bytes, io::Error>(error) }).right_stream(),
            };
            Some((piece, spaces))
        });
        let mut response = Response::new(Body::from_stream(pieces.flatten()));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        response
    }

    async fn next(&mut self) -> Option<io::Result<StreamingBody>> {
        if self.answered {
            self.kept.complete();
            return None;
        }
        // Taken for the time of this call, so that an error ends the answer.
        let mut waiter = self.kept.waiter.take()?;
        let opened = loop {
            tokio::select! {
                biased;
                Some(opened) = self.ready.next() => break opened.map_err(WaitError::Failed),
                delivery = waiter.wait(self.kept.deadline), if self.ready.is_empty() => match delivery {
                    Ok(delivery) => {
                        let presented = self.kept.presented(delivery.pictures.clone());
                        self.ready.push_back(async move { Ok((delivery, presented.await?)) }.boxed());
                    }
                    Err(why) => break Err(why),
                },
                () = tokio::time::sleep(self.kept.heartbeat) => {
                    self.kept.waiter = Some(waiter);
                    return Some(Ok(StreamingBody::default().text(" ")));
                }
            }
        };
        Some(match opened {
            Ok((delivery, pictures)) => {
                self.kept.waiter = Some(waiter);
                self.answered = true;
                Ok(self.kept.shape.whole(&delivery, pictures, &self.addresses))
            }
            Err(why) => {
                let error = self.kept.failed(&waiter, why.clone());
                if let WaitError::Failed(failure) = why
                    && !error.invites_retry()
                {
                    // The client will ask again, because nobody has told it not to.
                    waiter.keep_failure_for_retry(failure).await;
                }
                Err(io::Error::other(error.to_string()))
            }
        })
    }
}
