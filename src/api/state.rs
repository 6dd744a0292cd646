//! What the handlers share.

use std::sync::Arc;

use axum::extract::FromRef;
use axum::http::HeaderMap;
use axum::http::header::HOST;
use url::Url;

use super::error::ApiError;
use super::middleware::rate;
use super::request::available_models::AvailableModels;
use super::request::body::form::FormLimits;
use super::response::converter::PictureConverter;
use super::response::signature::{ResultUrls, Signer};
use super::response::streaming::ResponseOutcomes;
use crate::admission::{Admission, Permit, Rejection};
use crate::config::{ApiPolicy, ServerConfig};
use crate::engine::Engine;
use crate::input_urls::InputUrls;
use crate::model::{Catalogue, ClientId, Clock, Task};
use crate::webhooks::Webhooks;

/// Services and settings of the handlers. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct ApiState {
    pub(super) engine: Engine,
    pub(super) admission: Admission,
    pub(super) webhooks: Webhooks,
    pub(super) catalogue: Arc<Catalogue>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) server: Arc<ServerConfig>,
    pub(super) api_policy: ApiPolicy,
    pub(super) input_urls: Option<InputUrls>,
    pub(super) signer: Signer,
    pub(super) converter: PictureConverter,
    pub(super) outcomes: ResponseOutcomes,
    /// Limits of a body, for edits and for generations.
    pub(super) form_limits: [FormLimits; 2],
}

impl FromRef<ApiState> for Admission {
    fn from_ref(state: &ApiState) -> Self {
        state.admission.clone()
    }
}

impl ApiState {
    /// Returns the limits of a body for this task.
    pub(super) fn form_limits(&self, task: Task) -> &FormLimits {
        let [edits, generations] = &self.form_limits;
        match task {
            Task::Edit => edits,
            Task::Generate => generations,
        }
    }

    /// Returns the models that a client may use.
    pub(super) fn available_models(&self, client: &ClientId) -> AvailableModels<'_> {
        let (allowed, api_kinds) = (self.admission.models(client), self.api_policy.api_kinds());
        AvailableModels { catalogue: &self.catalogue, allowed, api_kinds }
    }

    /// Takes a permit to read and answer one more request.
    ///
    /// # Errors
    ///
    /// [`ApiError::TooManyWaiting`], or the client's limit of concurrent requests.
    pub(super) fn admit(&self, client: &ClientId) -> Result<Permit, ApiError> {
        self.admission.admit(client).map_err(|rejection| match rejection {
            Rejection::TooManyWaiters { retry_after } => ApiError::TooManyWaiting { retry_after },
            Rejection::LimitExceeded(exceeded) => rate::limit_exceeded(exceeded),
        })
    }

    /// Returns a maker of result addresses that this client can reach.
    ///
    /// # Errors
    ///
    /// As [`ApiState::base_url`].
    pub(super) fn result_urls(&self, headers: &HeaderMap) -> Result<ResultUrls, ApiError> {
        let (signer, base) = (self.signer.clone(), self.base_url(headers)?);
        Ok(ResultUrls { signer, base, now: self.clock.now(), ttl: self.server.addresses.result_url_ttl })
    }

    /// Returns the address clients reach the gateway by: `server.public_url`, or else the `Host` of this request.
    ///
    /// # Errors
    ///
    /// [`ApiError::Internal`] when `Host` makes no address.
    fn base_url(&self, headers: &HeaderMap) -> Result<Url, ApiError> {
        if let Some(url) = &self.server.addresses.public_url {
            return Ok(url.clone());
        }
        let host = headers.get(HOST).and_then(|host| host.to_str().ok());
        let host = host.map_or_else(|| self.server.addresses.listen.to_string(), str::to_owned);
        format!("{}://{host}", self.server.tls.scheme())
            .parse()
            .map_err(|_| ApiError::internal("the Host header makes no address"))
    }
}
