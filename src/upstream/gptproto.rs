//! GPTProto as an [`Upstream`]: each request through the API that it names, and one exchange for all.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;

use super::answer::submit::Accepted;
use super::answer::{SubmitAnswer, UpstreamPrediction};
use super::apis::{openai, prediction, unified};
use super::exchange::{Call, Exchange, ExchangeObserver, Observer, QueryAnswer, SubmitReader};
use super::formats::{AuthStyle, InputMethod, RequestFormat, SubmitFormat};
use super::{Commit, FetchError, Output, PollError, Polled, PurchaseHandle, SubmitError, Submitted, Upstream};
use crate::budget::{Poll, Reservation, Submit};
use crate::config::{Account, UpstreamConfig};
use crate::input_urls::{InputUrlGuards, InputUrls};
use crate::model::{AccountId, ApiKind, Catalogue, Failure, PictureRequest};
use crate::telemetry::Metrics;

/// GPTProto at one origin, through any of its APIs.
#[derive(Clone)]
pub(crate) struct GptProto {
    pub(super) exchange: Exchange,
    submit_timeout: Duration,
    sync_timeout: Duration,
    answer_bytes_max: usize,
    sync_answer_bytes_max: usize,
    input_urls: Option<InputUrls>,
    catalogue: Arc<Catalogue>,
}

impl fmt::Debug for GptProto {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GptProto").field("base", &self.exchange.at("/").as_str()).finish_non_exhaustive()
    }
}

impl GptProto {
    /// Builds the adapter for `config.base_url`. With `input_urls`, input pictures can be sent as URLs.
    ///
    /// # Errors
    ///
    /// When no HTTP client can be built, for instance because the system has no TLS roots, or there is no account.
    pub(crate) fn new(
        config: &UpstreamConfig,
        accounts: &[Account],
        catalogue: Arc<Catalogue>,
        input_urls: Option<InputUrls>,
    ) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self {
            exchange: Exchange::new(config, accounts)?,
            submit_timeout: config.submit_timeout,
            sync_timeout: config.sync_timeout,
            answer_bytes_max: config.answer_bytes_max,
            sync_answer_bytes_max: config.sync_answer_bytes_max,
            input_urls,
            catalogue,
        })
    }

    /// Reports every exchange to `observer`.
    pub(crate) fn observed_by(mut self, observer: Arc<dyn ExchangeObserver>) -> Self {
        self.exchange.observer = Observer::new(observer);
        self
    }

    /// Registers the metrics of the exchanges.
    pub(crate) fn measured_by(self, metrics: &Metrics) -> Self {
        self.exchange.register(metrics);
        self
    }

    /// Sends a call that is no part of a purchase, with an account's key written in one style; with a body it is a POST
    /// of JSON.
    ///
    /// # Errors
    ///
    /// Why there is no answer.
    pub(crate) async fn query(
        &self,
        account: &AccountId,
        auth: AuthStyle,
        path: &str,
        body: Option<&'static str>,
    ) -> Result<QueryAnswer, String> {
        self.exchange.query(account, auth, path, body).await
    }

    /// Returns the hosts of results that the service names, and whether pictures may be downloaded from them.
    pub(crate) async fn check_result_hosts(&self) -> (&'static [&'static str], Result<(), String>) {
        self.exchange.check_result_hosts().await
    }

    pub(super) async fn submit_once(
        &self,
        account: &AccountId,
        request: &PictureRequest,
        pictures: u8,
        submit_format: &SubmitFormat,
        commit: Commit,
    ) -> Result<Submitted, SubmitError> {
        let format = &submit_format.format;
        let api_kind = format.method.api_kind();
        let (call, input_url_guards) = self.call(request, pictures, format)?;
        let read: fn(BytesMut) -> SubmitAnswer = match api_kind {
            ApiKind::Prediction => prediction::answer,
            ApiKind::OpenAi if format.method == InputMethod::MultipartStream => openai::stream::answer,
            ApiKind::OpenAi => openai::answer,
            ApiKind::Unified => unified::answer,
        };
        let fields = self.fields(request, format);
        let reader = SubmitReader { read, format: submit_format, fields };
        let accepted = self.exchange.submit(account, call, commit, reader).await?;
        self.exchange.accepted_with(account, format.auth);
        // The OpenAI-format API has no predictions of its own: an id in its answer is one of the prediction API.
        let api_kind = api_kind.polled_at();
        let handle = |UpstreamPrediction { id, poll_url }| PurchaseHandle { id, poll_url, api_kind, input_url_guards };
        match accepted {
            Accepted::Prediction(prediction) => Ok(Submitted::Accepted(handle(prediction))),
            Accepted::Finished { prediction, finished } => {
                Ok(Submitted::Finished { handle: prediction.map(handle), finished })
            }
        }
    }

    /// Returns the names of the parameters of a submit that a refusal may name. The model and the prompt are in every one.
    fn fields(&self, request: &PictureRequest, format: &RequestFormat) -> Vec<String> {
        let model = self.catalogue.find(&request.model);
        let api = model.and_then(|model| match format.method.api_kind() {
            ApiKind::Prediction => None,
            ApiKind::OpenAi => model.openai.as_ref(),
            ApiKind::Unified => model.unified.as_ref(),
        });
        let own: &[&str] = if api.is_some() { &["n"] } else { &["n", "enable_sync_mode", "response_format"] };
        let of_api = api.into_iter().flat_map(|api| api.parameters(request)).map(|(name, _)| name);
        let chosen = request.choices.pairs().map(|(name, _)| name).filter(|_| api.is_none());
        let streamed: &[&str] =
            if format.method == InputMethod::MultipartStream { &["stream", "partial_images"] } else { &[] };
        let names = own.iter().chain(streamed).copied().chain(of_api).chain(chosen);
        names.filter(|name| !format.omitted.contains(*name)).map(str::to_owned).collect()
    }

    /// Builds the call for a request in a format, and publishes its input pictures where the format has them as URLs.
    ///
    /// # Errors
    ///
    /// [`SubmitError::Rejected`] when the request cannot be written in this format.
    pub(super) fn call(
        &self,
        request: &PictureRequest,
        pictures: u8,
        format: &RequestFormat,
    ) -> Result<(Call, InputUrlGuards), SubmitError> {
        let PictureRequest { model, task, .. } = request;
        let rejected = |message: String| SubmitError::Rejected(Failure::InvalidRequest { message });
        let api_kind = format.method.api_kind();
        let unavailable =
            || rejected(format!("the model {model} has no {} through the API {}", task.name(), api_kind.name()));
        let unwritable = |problem| rejected(format!("the request cannot be sent as {}: {problem}", format.describe()));
        let model = self.catalogue.find(model).ok_or_else(unavailable)?;
        model.capabilities(api_kind, *task).ok_or_else(unavailable)?;
        let input_urls = self.input_urls.as_ref();
        let json = |path: &str, body| Call {
            path: path.to_owned(),
            auth: format.auth,
            content_type: "application/json".to_owned(),
            body,
            timeout: self.submit_timeout,
            answer_bytes_max: self.answer_bytes_max,
            streamed: None,
        };
        Ok(match api_kind {
            ApiKind::Prediction => {
                let spec = model.task_spec(*task).ok_or_else(unavailable)?;
                let (body, guards) =
                    prediction::body(model, spec, request, pictures, format, input_urls).map_err(unwritable)?;
                (json(&spec.path, body), guards)
            }
            ApiKind::OpenAi => {
                let api = model.openai.as_ref().ok_or_else(unavailable)?;
                let openai::Form { path, content_type, body } =
                    openai::form(&model.id, api, request, pictures, format).map_err(unwritable)?;
                let call = Call {
                    path: path.to_owned(),
                    auth: format.auth,
                    content_type,
                    body,
                    timeout: self.sync_timeout,
                    answer_bytes_max: self.sync_answer_bytes_max,
                    streamed: (format.method == InputMethod::MultipartStream).then_some(pictures),
                };
                (call, InputUrlGuards::default())
            }
            ApiKind::Unified => {
                let api = model.unified.as_ref().ok_or_else(unavailable)?;
                let (body, guards) =
                    unified::body(&model.id, api, request, pictures, format, input_urls).map_err(unwritable)?;
                (json(unified::SUBMIT_PATH, body), guards)
            }
        })
    }

    async fn poll_once(&self, account: &AccountId, handle: &PurchaseHandle) -> Result<Polled, PollError> {
        let exchange = &self.exchange;
        let polled = match handle.api_kind {
            ApiKind::Unified => {
                let url = unified::result_url(exchange, handle);
                exchange.poll(account, url, |body| unified::poll_answer(body, &handle.id)).await
            }
            // The OpenAI-format API has no predictions of its own.
            ApiKind::Prediction | ApiKind::OpenAi => {
                let url = prediction::result_url(exchange, handle);
                exchange.poll(account, url, |body| prediction::poll_answer(body, &handle.id)).await
            }
        };
        if let Err(PollError::OtherPrediction { id }) = &polled {
            tracing::error!(
                %account, asked = %handle.id, answered = %id,
                "a poll was answered with another prediction, which is not delivered; polling again"
            );
        }
        polled
    }
}

impl Upstream for GptProto {
    fn submit<'a>(
        &'a self,
        reservation: Reservation<Submit>,
        request: &'a PictureRequest,
        pictures: u8,
        format: &'a SubmitFormat,
        commit: Commit,
    ) -> BoxFuture<'a, Result<Submitted, SubmitError>> {
        async move { self.submit_once(reservation.account(), request, pictures, format, commit).await }.boxed()
    }

    fn poll<'a>(
        &'a self,
        reservation: Reservation<Poll>,
        handle: &'a PurchaseHandle,
    ) -> BoxFuture<'a, Result<Polled, PollError>> {
        async move { self.poll_once(reservation.account(), handle).await }.boxed()
    }

    fn fetch(
        &self,
        output: Output,
    ) -> BoxFuture<'_, Result<BoxStream<'static, Result<Bytes, FetchError>>, FetchError>> {
        self.exchange.open(output).boxed()
    }

    fn fetch_link<'a>(
        &'a self,
        address: &'a str,
    ) -> BoxFuture<'a, Result<BoxStream<'static, Result<Bytes, FetchError>>, FetchError>> {
        self.exchange.open_link(address).boxed()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use http_body_util::BodyExt;

    use super::*;
    use crate::config::{Config, Environment};
    use crate::model::{Choices, Format, Input, Size, Task};

    pub(crate) fn adapter(input_urls: Option<InputUrls>) -> GptProto {
        let environment = Environment::from([("GPTPROTO_API_KEY".to_owned(), "sk-test".to_owned())]);
        let config = Config::load(None, &environment).unwrap();
        GptProto::new(&config.upstream, &config.accounts, Arc::new(config.catalogue), input_urls).unwrap()
    }

    pub(crate) fn input_urls() -> InputUrls {
        InputUrls::new("https://gateway.example".parse().unwrap(), Duration::from_mins(1))
    }

    pub(crate) fn input(bytes: &'static [u8]) -> Input {
        match Input::for_test(bytes) {
            Input::Bytes { mut picture, source } => {
                picture.structure.format = Some(Format::Png);
                Input::Bytes { picture, source }
            }
            link @ Input::Link(_) => link,
        }
    }

    pub(crate) fn request(model: &str) -> PictureRequest {
        PictureRequest {
            task: Task::Edit,
            model: model.into(),
            prompt: "say \"hi\"\n".to_owned(),
            inputs: vec![input(b"one"), input(b"two")],
            mask: None,
            n: 2,
            size: Size { width: 1024, height: 1024 },
            choices: Choices::from([("quality", "low")]),
            explicit: std::collections::BTreeSet::new(),
            api_kind: ApiKind::Prediction,
        }
    }

    /// Returns the whole body of a call. Checks its declared length.
    pub(crate) async fn sent(call: Call) -> Bytes {
        let declared = call.body.length();
        let body = call.body.collect().await.unwrap().to_bytes();
        assert_eq!(declared, body.len() as u64);
        body
    }

    pub(crate) async fn json(call: Call) -> serde_json::Value {
        assert_eq!(call.content_type, "application/json");
        serde_json::from_slice(&sent(call).await).unwrap()
    }

    /// Returns the call for a request in the documented format of an input method.
    pub(crate) fn call(
        input_urls: Option<InputUrls>,
        request: &PictureRequest,
        pictures: u8,
        method: InputMethod,
    ) -> (Call, InputUrlGuards) {
        adapter(input_urls).call(request, pictures, &RequestFormat::documented(method)).unwrap()
    }

    #[test]
    fn each_api_has_its_own_time_out() {
        for (method, seconds) in
            [(InputMethod::Base64Images, 120), (InputMethod::Multipart, 600), (InputMethod::Unified, 120)]
        {
            let (call, _) = call(None, &request("gpt-image-2"), 1, method);
            assert_eq!(call.timeout.as_secs(), seconds, "{method:?}");
        }
    }

    #[test]
    fn an_api_that_a_model_lacks_is_rejected_before_a_call() {
        let format = RequestFormat::documented(InputMethod::Multipart);
        let refused = adapter(None).call(&request("gpt-image-2.5-flare"), 1, &format).unwrap_err();
        assert!(matches!(refused, SubmitError::Rejected(Failure::InvalidRequest { .. })), "{refused:?}");
    }
}
