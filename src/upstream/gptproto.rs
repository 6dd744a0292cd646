//! The adapter for GPTProto's prediction API, v3.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use futures_util::{FutureExt, StreamExt, TryStreamExt};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::header::{CONTENT_TYPE, DATE, HeaderMap, LOCATION};
use reqwest::{Response, StatusCode};
use url::Url;

use super::classify::{message_of, submit_error, unknown_if};
use super::client::{Clients, may_fetch};
use super::gate::{Gate, Gated, Released};
use super::retry_after::retry_after;
use super::wire::{SubmitAnswer, poll_answer, submit_answer};
use super::{Commit, FetchError, Handle, KeyCheck, Output, PollError, Polled, PredictionApi, SubmitError, Submitted};
use crate::budget::{Poll, Reservation, Submit};
use crate::config::{Account, UpstreamConfig};
use crate::model::{AccountId, Capability, Catalogue, Failure, Input, Model, PictureRequest, Timestamp};
use crate::payload::Payload;

/// Redirects a download may follow, each of them checked.
const REDIRECTS_MAX: usize = 3;
/// Characters that an id keeps in a path.
const PATH_SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// GPTProto at one origin, with the key of each account.
#[derive(Clone)]
pub(crate) struct GptProto {
    clients: Clients,
    base: Url,
    loopback: bool,
    upload_timeout: Duration,
    submit_timeout: Duration,
    answer_bytes_max: usize,
    catalogue: Arc<Catalogue>,
}

impl fmt::Debug for GptProto {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GptProto").field("base", &self.base.as_str()).finish_non_exhaustive()
    }
}

impl GptProto {
    /// Makes the adapter for `config.base_url`.
    ///
    /// # Errors
    ///
    /// When no HTTP client can be built, for instance because the system has no TLS roots, or there is no account.
    pub(crate) fn new(
        config: &UpstreamConfig,
        accounts: &[Account],
        catalogue: Arc<Catalogue>,
    ) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self {
            clients: Clients::new(config, accounts)?,
            base: config.base_url.clone(),
            loopback: config.is_loopback(),
            upload_timeout: config.upload_timeout,
            submit_timeout: config.submit_timeout,
            answer_bytes_max: config.answer_bytes_max,
            catalogue,
        })
    }

    async fn submit_once(
        &self,
        account: &AccountId,
        request: &PictureRequest,
        pictures: u8,
        commit: Commit,
    ) -> Result<Submitted, SubmitError> {
        let (model, capability) = self.capability(request)?;
        let url = self.at(&capability.path);
        let (body, gate) = Gated::new(payload(model, capability, request, pictures));
        let released = gate.released();
        let exchange = self
            .clients
            .of(account)
            .submit
            .post(url)
            .header(CONTENT_TYPE, "application/json")
            .body(reqwest::Body::wrap(body))
            .send();
        let response = self.through_the_gate(exchange, gate, commit).await?;
        self.read_submit(response, &released).await
    }

    /// Runs the exchange, and in its midst the commit: upload, journal, last byte, answer.
    async fn through_the_gate(
        &self,
        exchange: impl Future<Output = reqwest::Result<Response>>,
        gate: Gate,
        commit: Commit,
    ) -> Result<Response, SubmitError> {
        let released = gate.released();
        let mut exchange = std::pin::pin!(exchange);
        let not_sent = |message: String| SubmitError::NotSent { message };
        let upload = async {
            tokio::select! {
                response = &mut exchange => Some(response),
                // A dropped sender means that the exchange is over; its own result says how.
                uploaded = gate.uploaded => match uploaded {
                    Ok(()) => None,
                    Err(_) => Some(exchange.as_mut().await),
                },
            }
        };
        match tokio::time::timeout(self.upload_timeout, upload).await {
            Err(_) => return Err(not_sent("the upload took too long".to_owned())),
            // An answer before the last byte has left, or a broken connection.
            Ok(Some(response)) => return response.map_err(|error| not_sent(describe(&error))),
            Ok(None) => {}
        }
        // While the journal writes, the exchange is not polled: the last byte could not leave anyway.
        if !commit().await {
            return Err(not_sent("the purchase could not be journalled".to_owned()));
        }
        // The exchange may be over already; then there is nobody to release the byte to.
        let _ = gate.open.send(());
        match tokio::time::timeout(self.submit_timeout, exchange).await {
            Err(_) => Err(unknown_if(released.get(), "no answer in time".to_owned())),
            Ok(response) => response.map_err(|error| unknown_if(released.get(), describe(&error))),
        }
    }

    async fn read_submit(&self, response: Response, released: &Released) -> Result<Submitted, SubmitError> {
        let (status, pause) = (response.status(), retry_after(response.headers()));
        let body = tokio::time::timeout(self.submit_timeout, bounded_body(response, self.answer_bytes_max))
            .await
            .unwrap_or_else(|_| Err("the answer stopped arriving".to_owned()))
            .map_err(|problem| {
                // A refusal is a refusal without its text too; a success without its id is not.
                if status.is_client_error() {
                    submit_error(status, b"", pause, released.get())
                } else {
                    unknown_if(released.get(), problem)
                }
            })?;
        if !status.is_success() {
            return Err(submit_error(status, &body, pause, released.get()));
        }
        match submit_answer(&body) {
            SubmitAnswer::Accepted(handle) => Ok(Submitted::Accepted(handle)),
            SubmitAnswer::Finished { handle, finished } => Ok(Submitted::Finished { handle, finished }),
            SubmitAnswer::Failed(failure) => Err(SubmitError::Rejected(failure)),
            SubmitAnswer::Error { code, message: _ } => {
                let status = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                Err(submit_error(status, &body, pause, released.get()))
            }
            SubmitAnswer::Unusable => {
                Err(unknown_if(released.get(), "the answer names neither a prediction nor a picture".to_owned()))
            }
        }
    }

    async fn poll_once(&self, account: &AccountId, handle: &Handle) -> Result<Polled, PollError> {
        let trouble = |message: String| PollError::Trouble { message };
        let client = &self.clients.of(account).poll;
        let response = client.get(self.result_url(handle)).send().await.map_err(|error| trouble(describe(&error)))?;
        let (status, pause) = (response.status(), retry_after(response.headers()));
        if status == StatusCode::TOO_MANY_REQUESTS {
            return Err(PollError::Refused { retry_after: pause });
        }
        let body = bounded_body(response, self.answer_bytes_max).await.map_err(trouble)?;
        if !status.is_success() {
            return Err(trouble(message_of(&body).unwrap_or_else(|| format!("HTTP {status}"))));
        }
        poll_answer(&body).ok_or_else(|| trouble("the answer is not one of the service".to_owned()))
    }

    async fn open(&self, output: Output) -> Result<BoxStream<'static, Result<Bytes, FetchError>>, FetchError> {
        let address = match output {
            Output::Bytes(bytes) => return Ok(futures_util::stream::once(async { Ok(bytes) }).boxed()),
            Output::Address(address) => address,
        };
        let forbidden = |problem: &str| FetchError::Forbidden(problem.to_owned());
        let mut url = self.base.join(&address).map_err(|_| forbidden("it cannot be read"))?;
        for _ in 0..=REDIRECTS_MAX {
            may_fetch(&url, self.loopback).map_err(forbidden)?;
            let response = self
                .clients
                .download
                .get(url.clone())
                .send()
                .await
                .map_err(|error| FetchError::Trouble(describe(&error)))?;
            let status = response.status();
            if status.is_success() {
                let stream = response.bytes_stream().map_err(|error| FetchError::Trouble(describe(&error)));
                return Ok(stream.boxed());
            }
            let next = response.headers().get(LOCATION).filter(|_| status.is_redirection());
            let Some(next) = next else {
                return Err(FetchError::Trouble(format!("HTTP {status}")));
            };
            let next = next.to_str().map_err(|_| forbidden("a redirect cannot be read"))?;
            url = url.join(next).map_err(|_| forbidden("a redirect cannot be read"))?;
        }
        Err(FetchError::Trouble(format!("more than {REDIRECTS_MAX} redirects")))
    }

    async fn ask_for_models(&self, account: &AccountId) -> KeyCheck {
        match self.clients.of(account).poll.get(self.at("/v1/models")).send().await {
            Err(error) => KeyCheck::Unclear(describe(&error)),
            Ok(response) => match response.status() {
                status if status.is_success() => KeyCheck::Good { upstream_time: date(response.headers()) },
                status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
                    let body = bounded_body(response, self.answer_bytes_max).await.unwrap_or_default();
                    KeyCheck::Refused(message_of(&body).unwrap_or_else(|| format!("HTTP {status}")))
                }
                status => KeyCheck::Unclear(format!("HTTP {status}")),
            },
        }
    }

    fn capability(&self, request: &PictureRequest) -> Result<(&Model, &Capability), SubmitError> {
        let model = self.catalogue.find(&request.model);
        model.and_then(|model| Some((model, model.capability(request.task)?))).ok_or_else(|| {
            SubmitError::Rejected(Failure::InvalidRequest {
                message: format!("the model {} has no {}", request.model, request.task.name()),
            })
        })
    }

    fn at(&self, path: &str) -> Url {
        let mut url = self.base.clone();
        url.set_path(path);
        url
    }

    /// The address the upstream gave where it is on our origin and looks like one of a result, else the documented one.
    fn result_url(&self, handle: &Handle) -> Url {
        let given = handle.poll_url.as_deref().and_then(|given| Url::parse(given).ok()).filter(|given| {
            given.origin() == self.base.origin()
                && given.path().starts_with("/api/v3/predictions/")
                && given.username().is_empty()
                && given.password().is_none()
        });
        given.unwrap_or_else(|| {
            let id = utf8_percent_encode(handle.id.as_str(), PATH_SEGMENT);
            self.at(&format!("/api/v3/predictions/{id}/result"))
        })
    }
}

impl PredictionApi for GptProto {
    fn submit<'a>(
        &'a self,
        reservation: Reservation<Submit>,
        request: &'a PictureRequest,
        pictures: u8,
        commit: Commit,
    ) -> BoxFuture<'a, Result<Submitted, SubmitError>> {
        async move { self.submit_once(reservation.account(), request, pictures, commit).await }.boxed()
    }

    fn poll<'a>(
        &'a self,
        reservation: Reservation<Poll>,
        handle: &'a Handle,
    ) -> BoxFuture<'a, Result<Polled, PollError>> {
        async move { self.poll_once(reservation.account(), handle).await }.boxed()
    }

    fn fetch(
        &self,
        output: Output,
    ) -> BoxFuture<'_, Result<BoxStream<'static, Result<Bytes, FetchError>>, FetchError>> {
        self.open(output).boxed()
    }

    fn check_key<'a>(&'a self, account: &'a AccountId) -> BoxFuture<'a, KeyCheck> {
        self.ask_for_models(account).boxed()
    }
}

/// The submit body: what the model's page documents, every parameter explicit.
fn payload(model: &Model, capability: &Capability, request: &PictureRequest, pictures: u8) -> Payload {
    let mut body = Payload::default().text("{\"prompt\":").json(&request.prompt);
    body = body.text(",\"size\":").json(&request.size.to_string());
    if model.parameters.n_max.is_some() {
        body = body.text(",\"n\":").json(&pictures);
    }
    for (name, value) in &request.choices {
        body = body.text(",").json(name).text(":").json(value);
    }
    let links: Vec<&str> = request
        .inputs
        .iter()
        .filter_map(|input| match input {
            Input::Link(address) => Some(address.as_str()),
            Input::Bytes { .. } => None,
        })
        .collect();
    if let Some(field) = capability.links_field.as_ref().filter(|_| !links.is_empty()) {
        body = body.text(",").json(field).text(":").json(&links);
    }
    if let Some(field) = capability.inline_field.as_ref().filter(|_| links.len() < request.inputs.len()) {
        body = body.text(",").json(field).text(":[");
        for (position, input) in request.inputs.iter().filter(|input| matches!(input, Input::Bytes { .. })).enumerate()
        {
            body = data_uri(if position == 0 { body } else { body.text(",") }, input);
        }
        body = body.text("]");
    }
    if let Some((field, mask)) = capability.mask_field.as_ref().zip(request.mask.as_ref()) {
        body = data_uri(body.text(",").json(field).text(":"), mask);
    }
    body.text(",\"enable_sync_mode\":false,\"response_format\":\"url\"}")
}

fn data_uri(body: Payload, input: &Input) -> Payload {
    match input {
        Input::Link(address) => body.json(address),
        Input::Bytes { picture, source } => {
            let media_type = picture.format.map_or("application/octet-stream", |format| format.media_type());
            body.text(format!("\"data:{media_type};base64,")).base64(Arc::clone(source)).text("\"")
        }
    }
}

/// The answer's `Date`.
fn date(headers: &HeaderMap) -> Option<Timestamp> {
    let date = httpdate::parse_http_date(headers.get(DATE)?.to_str().ok()?).ok()?;
    let since_epoch = date.duration_since(std::time::UNIX_EPOCH).ok()?;
    Some(Timestamp::from_millis(0).plus(since_epoch))
}

async fn bounded_body(mut response: Response, bytes_max: usize) -> Result<Bytes, String> {
    let mut body = BytesMut::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| describe(&error))? {
        if body.len() + chunk.len() > bytes_max {
            return Err(format!("the answer is larger than {bytes_max} bytes"));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

/// The error and its causes, without the address: it may hold a signature.
fn describe(error: &reqwest::Error) -> String {
    let mut text = match () {
        () if error.is_timeout() => "timed out".to_owned(),
        () if error.is_connect() => "cannot connect".to_owned(),
        () => "the exchange broke off".to_owned(),
    };
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.ends_with(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use http_body_util::BodyExt;

    use super::*;
    use crate::config::{Config, Environment};
    use crate::model::{Format, Size, Task, UpstreamId};

    fn adapter() -> GptProto {
        let environment = Environment::from([("GPTPROTO_API_KEY".to_owned(), "sk-test".to_owned())]);
        let config = Config::load(None, &environment).unwrap();
        GptProto::new(&config.upstream, &config.accounts, Arc::new(config.catalogue)).unwrap()
    }

    fn input(bytes: &'static [u8]) -> Input {
        match Input::for_test(bytes) {
            Input::Bytes { mut picture, source } => {
                picture.format = Some(Format::Png);
                Input::Bytes { picture, source }
            }
            link @ Input::Link(_) => link,
        }
    }

    async fn body_for(request: &PictureRequest, pictures: u8) -> serde_json::Value {
        let adapter = adapter();
        let (model, capability) = adapter.capability(request).unwrap();
        let body = payload(model, capability, request, pictures).collect().await.unwrap().to_bytes();
        serde_json::from_slice(&body).unwrap()
    }

    fn request(model: &str) -> PictureRequest {
        PictureRequest {
            task: Task::Edit,
            model: model.to_owned(),
            prompt: "say \"hi\"\n".to_owned(),
            inputs: vec![input(b"one"), input(b"two")],
            mask: None,
            n: 2,
            size: Size { width: 1024, height: 1024 },
            choices: BTreeMap::from([("quality".to_owned(), "low".to_owned())]),
        }
    }

    #[tokio::test]
    async fn every_parameter_is_explicit() {
        insta::assert_json_snapshot!(body_for(&request("gpt-image-2"), 2).await, @r#"
        {
          "base64_images": [
            "data:image/png;base64,b25l",
            "data:image/png;base64,dHdv"
          ],
          "enable_sync_mode": false,
          "n": 2,
          "prompt": "say \"hi\"\n",
          "quality": "low",
          "response_format": "url",
          "size": "1024x1024"
        }
        "#);
    }

    #[tokio::test]
    async fn a_model_without_n_is_not_sent_one() {
        let request = PictureRequest { choices: BTreeMap::new(), ..request("gpt-image-2-plus") };
        let body = body_for(&request, 1).await;
        assert_eq!(body.get("n"), None);
        assert_eq!(body.get("quality"), None);
    }

    #[tokio::test]
    async fn links_and_masks_go_into_the_fields_of_their_page() {
        let mut request = request("gpt-image-1.5-plus");
        request.inputs = vec![Input::Link("https://x.example/1.png".to_owned())];
        request.mask = Some(input(b"mask"));
        let body = body_for(&request, 1).await;
        assert_eq!(body["image"], serde_json::json!(["https://x.example/1.png"]));
        assert_eq!(body["mask"], "data:image/png;base64,bWFzaw==");
        assert_eq!(body.get("base64_images"), None);
    }

    #[test]
    fn the_key_goes_to_the_configured_origin_only() {
        let url = |poll_url: Option<&str>| {
            let id = UpstreamId::new("a:b/../c").unwrap();
            adapter().result_url(&Handle { id, poll_url: poll_url.map(str::to_owned) }).to_string()
        };
        let documented = "https://gptproto.com/api/v3/predictions/a%3Ab%2F..%2Fc/result";
        let good = "https://gptproto.com/api/v3/predictions/xyz/result";
        assert_eq!(url(None), documented);
        assert_eq!(url(Some(good)), good);
        for foreign in [
            "https://evil.example/api/v3/predictions/xyz/result",
            "http://gptproto.com/api/v3/predictions/xyz/result",
            "https://gptproto.com:444/api/v3/predictions/xyz/result",
            "https://gptproto.com.evil.example/api/v3/predictions/xyz/result",
            "https://gptproto.com@evil.example/api/v3/predictions/xyz/result",
            "https://user@gptproto.com/api/v3/predictions/xyz/result",
            "https://gptproto.com/redirect?to=evil",
            "not an address",
        ] {
            assert_eq!(url(Some(foreign)), documented, "{foreign}");
        }
    }
}
