//! What happened at the upstream while a purchase was made: the exchanges, and the formats of the submits.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;

use crate::budget::{Poll, Reservation, Submit};
use crate::model::{AccountId, Failure, PictureRequest};
use crate::upstream::formats::{RequestFormat, SubmitFormat};
use crate::upstream::{
    Commit, ExchangeObserver, FetchError, Finished, GptProto, Observation, Output, PollError, Polled, PurchaseHandle,
    SubmitError, Submitted, Upstream,
};

/// Collects what happens at the upstream.
#[derive(Debug, Default)]
pub(super) struct UpstreamObserver {
    seen: Mutex<Observed>,
}

/// What happened so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Observed {
    pub(super) submits: Vec<ObservedSubmit>,
    /// In the order in which they ended.
    pub(super) exchanges: Vec<Observation>,
    /// The outputs of the last purchase that finished.
    pub(super) outputs: Vec<Output>,
}

/// One submit.
#[derive(Clone, Debug)]
pub(super) struct ObservedSubmit {
    pub(super) account: AccountId,
    pub(super) format: RequestFormat,
    /// Why it was not accepted.
    pub(super) refusal: Option<String>,
}

impl UpstreamObserver {
    /// Returns what happened so far.
    pub(super) fn seen(&self) -> Observed {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Observed> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn finished(&self, finished: &Finished) {
        self.lock().outputs.clone_from(&finished.outputs);
    }
}

impl ExchangeObserver for UpstreamObserver {
    fn observed(&self, observation: Observation) {
        self.lock().exchanges.push(observation);
    }
}

/// GPTProto, observed.
#[derive(Debug)]
pub(super) struct ObservedUpstream {
    gptproto: GptProto,
    observer: Arc<UpstreamObserver>,
}

impl ObservedUpstream {
    pub(super) fn new(gptproto: &GptProto, observer: &Arc<UpstreamObserver>) -> Self {
        let gptproto = gptproto.clone().observed_by(Arc::clone(observer) as Arc<_>);
        Self { gptproto, observer: Arc::clone(observer) }
    }
}

impl Upstream for ObservedUpstream {
    fn submit<'a>(
        &'a self,
        reservation: Reservation<Submit>,
        request: &'a PictureRequest,
        pictures: u8,
        format: &'a SubmitFormat,
        commit: Commit,
    ) -> BoxFuture<'a, Result<Submitted, SubmitError>> {
        async move {
            let account = reservation.account().clone();
            let result = self.gptproto.submit(reservation, request, pictures, format, commit).await;
            if let Ok(Submitted::Finished { finished, .. }) = &result {
                self.observer.finished(finished);
            }
            let refusal = result.as_ref().err().map(describe);
            self.observer.lock().submits.push(ObservedSubmit { account, format: format.format.clone(), refusal });
            result
        }
        .boxed()
    }

    fn poll<'a>(
        &'a self,
        reservation: Reservation<Poll>,
        handle: &'a PurchaseHandle,
    ) -> BoxFuture<'a, Result<Polled, PollError>> {
        async move {
            let result = self.gptproto.poll(reservation, handle).await;
            if let Ok(Polled::Finished(finished)) = &result {
                self.observer.finished(finished);
            }
            result
        }
        .boxed()
    }

    fn fetch(
        &self,
        output: Output,
    ) -> BoxFuture<'_, Result<BoxStream<'static, Result<Bytes, FetchError>>, FetchError>> {
        self.gptproto.fetch(output)
    }

    fn fetch_link<'a>(
        &'a self,
        address: &'a str,
    ) -> BoxFuture<'a, Result<BoxStream<'static, Result<Bytes, FetchError>>, FetchError>> {
        self.gptproto.fetch_link(address)
    }
}

/// Describes why a submit was not accepted.
fn describe(error: &SubmitError) -> String {
    match error {
        SubmitError::NotSent { message } | SubmitError::Unknown { message } | SubmitError::Refused { message, .. } => {
            message.clone()
        }
        SubmitError::Rejected(failure) | SubmitError::FormatRefused { failure, .. } => failure_text(failure),
    }
}

/// Returns the upstream's text in a failure, or the failure's name.
pub(super) fn failure_text(failure: &Failure) -> String {
    let message = failure.message().filter(|text| !text.is_empty());
    message.map_or_else(|| failure.name().replace('_', " "), str::to_owned)
}
