//! One exchange with the upstream, the same for all of its APIs: the client of the account, the last byte held back, every
//! answer bounded in bytes and time, and errors classified.

use std::future::Future;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt};
use reqwest::header::{CONTENT_TYPE, DATE, HeaderMap};
use reqwest::{Response, StatusCode};
use url::Url;

use super::answer::submit::{Accepted, AnswerBody, AnswerHead, Sent, meaning, unknown_if};
use super::answer::{PollAnswer, SubmitAnswer, UpstreamPrediction, poll};
use super::client::{Clients, describe};
use super::formats::{AuthStyle, SubmitFormat};
use super::{Commit, FetchError, Output, PollError, Polled, SubmitError};
use crate::config::{Account, UpstreamConfig};
use crate::http::StreamingBody;
use crate::model::{AccountId, Failure, Timestamp};
use crate::telemetry::Metrics;
use body::{BodyLimits, ReceivedBody};
use last_byte::{GatedBody, LastByteGate};
use memory::AnswerMemory;
use metrics::{CallKind, CallMetrics};

mod body;
mod last_byte;
mod memory;
mod metrics;
mod observer;
mod query;

pub(super) use observer::Observer;
pub(crate) use observer::{ExchangeKind, ExchangeObserver, Observation};
pub(crate) use query::{EdgeRefusal, QueryAnswer};

/// GPTProto at one origin, with the key of each account.
#[derive(Clone, Debug)]
pub(super) struct Exchange {
    clients: Clients,
    /// Its path ends with `/`; all paths of the service are below it.
    base: Url,
    download_timeout: Duration,
    upload_timeout: Duration,
    answer_limits: BodyLimits,
    memory: AnswerMemory,
    metrics: CallMetrics,
    pub(super) observer: Observer,
}

/// A submit.
#[derive(Debug)]
pub(super) struct Call {
    /// On the configured origin.
    pub(super) path: String,
    pub(super) auth: AuthStyle,
    pub(super) content_type: String,
    pub(super) body: StreamingBody,
    /// From the last byte of the body to the head of the answer, and again to its end.
    pub(super) timeout: Duration,
    pub(super) answer_bytes_max: usize,
    /// The number of pictures, where the answer is a stream of events.
    pub(super) streamed: Option<u8>,
}

/// How the answer to a submit is read, and what its meaning depends on.
#[derive(Debug)]
pub(super) struct SubmitReader<'a> {
    pub(super) read: fn(BytesMut) -> SubmitAnswer,
    pub(super) format: &'a SubmitFormat,
    /// The parameters that are sent.
    pub(super) fields: Vec<String>,
}

impl Exchange {
    /// Builds the HTTP clients for `config.base_url`.
    ///
    /// # Errors
    ///
    /// When no HTTP client can be built, for instance because the system has no TLS roots, or there is no account.
    pub(super) fn new(
        config: &UpstreamConfig,
        accounts: &[Account],
    ) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let mut base = config.base_url.clone();
        base.set_path(&format!("{}/", config.base_url.path().trim_end_matches('/')));
        Ok(Self {
            clients: Clients::new(config, accounts)?,
            base,
            download_timeout: config.download_timeout,
            upload_timeout: config.upload_timeout,
            answer_limits: BodyLimits {
                bytes_max: config.answer_bytes_max,
                timeout: config.poll_timeout,
                wait_max: Some(config.poll_timeout),
            },
            memory: AnswerMemory::new(config.answer_memory_bytes_max),
            metrics: CallMetrics::default(),
            observer: Observer::default(),
        })
    }

    /// Registers the memory of answers, and the counts of calls.
    pub(super) fn register(&self, metrics: &Metrics) {
        self.memory.register(metrics);
        self.metrics.register(metrics);
    }

    /// Sends a submit, and reads its answer on a blocking thread: the answer may contain many megabytes of pictures.
    pub(super) async fn submit(
        &self,
        account: &AccountId,
        call: Call,
        commit: Commit,
        reader: SubmitReader<'_>,
    ) -> Result<Accepted, SubmitError> {
        self.clients.result_hosts.check().await.map_err(|problem| {
            let message = format!("results could not be downloaded: {problem}");
            SubmitError::Rejected(Failure::Unreachable { message })
        })?;
        let Call { path, auth, content_type, body, timeout, answer_bytes_max, streamed } = call;
        let mut seen = self.observer.begin(ExchangeKind::Submit, &self.at(&path));
        let counted = self.metrics.begin(CallKind::Submit);
        let (body, gate) = GatedBody::new(body);
        let released = gate.released();
        let exchange = self
            .clients
            .of(account)
            .post(self.at(&path), auth)
            .header(CONTENT_TYPE, content_type)
            .body(reqwest::Body::wrap(body))
            .send();
        let response = self.send_gated(exchange, gate, commit, timeout).await?;
        seen.answered(&response);
        counted.answered(response.status());
        let head = AnswerHead::of(response.status(), response.headers());
        let SubmitReader { read, format, fields } = reader;
        let limits = BodyLimits { bytes_max: answer_bytes_max, timeout, wait_max: None };
        let received = match streamed.filter(|_| head.status.is_success()) {
            Some(pictures) => self.memory.receive_stream(response, pictures, limits).await,
            None => self.memory.receive(response, limits).await,
        };
        let ReceivedBody { body, share, broken } = received;
        seen.read(&body);
        let read = move || {
            let edge = head.edge_page(&body);
            match (read(body), broken) {
                (SubmitAnswer::Unusable, Some(problem)) => AnswerBody::Broken(problem),
                (answer, _) => AnswerBody::Whole { answer, edge },
            }
        };
        let read = tokio::task::spawn_blocking(read).await;
        let body = read.unwrap_or_else(|_| AnswerBody::Broken("the answer could not be read".to_owned()));
        let sent = Sent { released: released.get(), format, fields: &fields };
        let mut accepted = self.without_keys(meaning(head, body, sent)?, sent);
        if let Ok(Accepted::Finished { finished, .. }) = &mut accepted {
            share.hold(finished);
        }
        accepted
    }

    /// Takes no id and no address with a key in it from an answer: both are stored, logged and shown to clients.
    fn without_keys(&self, accepted: Accepted, sent: Sent<'_>) -> Result<Accepted, SubmitError> {
        let has_key = |text: &str| self.clients.all().any(|account| account.is_key_in(text));
        let without_key = |prediction: UpstreamPrediction| {
            let UpstreamPrediction { id, poll_url } = prediction;
            let poll_url = poll_url.filter(|url| !has_key(url));
            (!has_key(id.as_str())).then_some(UpstreamPrediction { id, poll_url })
        };
        match accepted {
            Accepted::Prediction(prediction) => {
                let prediction = without_key(prediction);
                prediction.map(Accepted::Prediction).ok_or_else(|| sent.unknown("the id is the key".to_owned()))
            }
            Accepted::Finished { prediction, finished } => {
                Ok(Accepted::Finished { prediction: prediction.and_then(without_key), finished })
            }
        }
    }

    /// Runs the exchange with the commit before its last byte: upload, journal, last byte, answer.
    async fn send_gated(
        &self,
        exchange: impl Future<Output = reqwest::Result<Response>>,
        gate: LastByteGate,
        commit: Commit,
        timeout: Duration,
    ) -> Result<Response, SubmitError> {
        let released = gate.released();
        let mut exchange = std::pin::pin!(exchange);
        let not_sent = |message: String| SubmitError::NotSent { message };
        let upload = async {
            tokio::select! {
                response = &mut exchange => Some(response),
                // A dropped sender means that the exchange has ended; its result says how.
                uploaded = gate.uploaded => match uploaded {
                    Ok(()) => None,
                    Err(_) => Some(exchange.as_mut().await),
                },
            }
        };
        match tokio::time::timeout(self.upload_timeout, upload).await {
            Err(_) => return Err(not_sent("the upload took too long".to_owned())),
            // An answer before the last byte was sent, or a broken connection.
            Ok(Some(response)) => return response.map_err(|error| not_sent(describe(&error))),
            Ok(None) => {}
        }
        // While the journal writes, the exchange is not polled: the last byte could not be sent anyway.
        if !commit().await {
            return Err(not_sent("the purchase was cancelled, or could not be recorded in the journal".to_owned()));
        }
        // Fails when the exchange has ended already; its result says how.
        let _ = gate.open.send(());
        match tokio::time::timeout(timeout, exchange).await {
            Err(_) => Err(unknown_if(released.get(), "no answer in time".to_owned())),
            Ok(response) => response.map_err(|error| unknown_if(released.get(), describe(&error))),
        }
    }

    /// Notes the auth style of an accepted submit, for polls and key checks.
    pub(super) fn accepted_with(&self, account: &AccountId, auth: AuthStyle) {
        self.clients.of(account).prefer(auth);
    }

    /// Polls a prediction, and reads the answer with `read`.
    pub(super) async fn poll(
        &self,
        account: &AccountId,
        url: Url,
        read: impl FnOnce(&[u8]) -> PollAnswer,
    ) -> Result<Polled, PollError> {
        let trouble = |message: String| PollError::Trouble { message };
        let mut seen = self.observer.begin(ExchangeKind::Poll, &url);
        let counted = self.metrics.begin(CallKind::Poll);
        let response = self.clients.of(account).get(url).await.map_err(|error| trouble(describe(&error)))?;
        seen.answered(&response);
        counted.answered(response.status());
        let head = AnswerHead::of(response.status(), response.headers());
        let ReceivedBody { body, share, broken } = self.memory.receive(response, self.answer_limits).await;
        let answer = match broken {
            None => {
                seen.read(&body);
                read(&body)
            }
            // The pause that a 429 asks for counts also without its text.
            Some(_) if head.status == StatusCode::TOO_MANY_REQUESTS => PollAnswer::Unusable,
            Some(problem) => return Err(trouble(problem)),
        };
        let mut polled = poll::meaning(head.status, head.retry_after, answer);
        if let Ok(Polled::Finished(finished)) = &mut polled {
            share.hold(finished);
        }
        polled
    }

    /// Opens one output, without a key. Only an output of the service itself that is refused without one is requested
    /// with the accounts' keys in turn: an output does not say which account it belongs to.
    pub(super) async fn open(
        &self,
        output: Output,
    ) -> Result<BoxStream<'static, Result<Bytes, FetchError>>, FetchError> {
        let url = match output {
            Output::Bytes(bytes) => return Ok(futures_util::stream::once(async { Ok(bytes) }).boxed()),
            Output::Url(url) => url,
        };
        let unreadable = |_| FetchError::Forbidden("it cannot be read".to_owned());
        let url = self.output_url(&url).map_err(unreadable)?;
        let downloads = &self.clients.downloads;
        let mut seen = self.observer.begin(ExchangeKind::Download, &url);
        let counted = self.metrics.begin(CallKind::Download);
        let mut response = downloads.get(url.clone()).await?;
        seen.answered(&response);
        counted.answered(response.status());
        // Redirects come later and lead away from `url`; they are followed without a key.
        if wants_key(response.status()) && self.is_below_base(response.url(), "") {
            for account in self.clients.all() {
                let url = response.url().clone();
                let counted = self.metrics.begin(CallKind::Download);
                let keyed = account.download(url, self.download_timeout).await;
                seen = self.observer.begin(ExchangeKind::Download, response.url());
                response = keyed.map_err(|error| FetchError::Trouble(describe(&error)))?;
                seen.answered(&response);
                counted.answered(response.status());
                if !wants_key(response.status()) {
                    break;
                }
            }
        }
        let first = response.url().clone();
        let redirected = response.status().is_redirection().then(|| self.metrics.begin(CallKind::Download));
        let response = downloads.follow(response).await?;
        if let Some(counted) = redirected {
            counted.answered(response.status());
        }
        if *response.url() != first {
            seen = self.observer.begin(ExchangeKind::Download, response.url());
            seen.answered(&response);
        }
        Ok(response.bytes_stream().map_err(|error| FetchError::Trouble(describe(&error))).boxed())
    }

    /// Opens a picture that a client gave as an address. A client must not reach more by it than by itself: it is fetched
    /// without a key, and from public addresses only.
    pub(super) async fn open_link(
        &self,
        address: &str,
    ) -> Result<BoxStream<'static, Result<Bytes, FetchError>>, FetchError> {
        let forbidden = |problem: &str| FetchError::Forbidden(problem.to_owned());
        let url = Url::parse(address).map_err(|_| forbidden("it cannot be read"))?;
        let links = self.clients.links.as_ref();
        let links = links.ok_or_else(|| forbidden("upstream.proxy is set, so where it leads cannot be checked"))?;
        let counted = self.metrics.begin(CallKind::Link);
        let response = links.follow(links.get(url).await?).await?;
        counted.answered(response.status());
        Ok(response.bytes_stream().map_err(|error| FetchError::Trouble(describe(&error))).boxed())
    }

    /// Returns the URL of a path of the service.
    pub(super) fn at(&self, path: &str) -> Url {
        let mut url = self.base.clone();
        url.set_path(&format!("{}{}", self.base.path(), path.trim_start_matches('/')));
        url
    }

    /// Returns a URL from the upstream where the key may be sent to it: on the configured origin and below `path`.
    pub(super) fn trusted(&self, given: Option<&str>, path: &str) -> Option<Url> {
        given.and_then(|given| Url::parse(given).ok()).filter(|given| self.is_below_base(given, path))
    }

    /// Returns the URL of an output. A path is one of the service, and so below the configured address.
    fn output_url(&self, given: &str) -> Result<Url, url::ParseError> {
        let is_path = given.starts_with('/') && !given.starts_with("//") && !given.starts_with("/\\");
        if is_path && !given.starts_with(self.base.path()) {
            return self.base.join(&format!("{}{}", self.base.path(), &given[1..]));
        }
        self.base.join(given)
    }

    /// Returns whether a URL is one of the service with a path that begins with `path`.
    fn is_below_base(&self, url: &Url, path: &str) -> bool {
        let below = url.path().strip_prefix(self.base.path());
        url.origin() == self.base.origin()
            && below.is_some_and(|below| below.starts_with(path.trim_start_matches('/')))
            && url.username().is_empty()
            && url.password().is_none()
    }
}

/// Returns whether an output may be there for those who have a key.
fn wants_key(status: StatusCode) -> bool {
    matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)
}

/// Returns the answer's `Date`.
fn date(headers: &HeaderMap) -> Option<Timestamp> {
    let date = httpdate::parse_http_date(headers.get(DATE)?.to_str().ok()?).ok()?;
    let since_epoch = date.duration_since(std::time::UNIX_EPOCH).ok()?;
    Some(Timestamp::from_millis(0).plus(since_epoch))
}

#[cfg(test)]
mod tests;
