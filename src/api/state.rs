//! What the handlers share.

use std::sync::Arc;

use axum::extract::FromRef;
use axum::http::HeaderMap;

use super::error::ApiError;
use super::middleware::cors::OriginPolicy;
use super::middleware::rate;
use super::request::available_models::AvailableModels;
use super::request::body::form::FormLimits;
use super::request::parse::ParseServices;
use super::request::parse::inputs::InputConverter;
use super::response::converter::PictureConverter;
use super::response::signature::{ResultUrlBuilder, ResultUrls};
use super::response::streaming::ResponseOutcomes;
use crate::admission::{Admission, KeyCredential, Permit, Rejection};
use crate::config::{ApiPolicy, BodyConfig, ServerConfig};
use crate::engine::Engine;
use crate::input_urls::InputUrls;
use crate::model::{Catalogue, ClientId, Clock, Current, Task};
use crate::webhooks::Webhooks;

/// Services and settings of the handlers.
#[derive(Debug)]
pub(super) struct ApiState {
    pub(super) engine: Engine,
    pub(super) admission: Admission,
    pub(super) webhooks: Webhooks,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) server: Arc<ServerConfig>,
    pub(super) request_rules: RequestRules,
    pub(super) input_urls: Option<InputUrls>,
    pub(super) result_urls: ResultUrlBuilder,
    pub(super) converter: PictureConverter,
    pub(super) outcomes: ResponseOutcomes,
}

/// The models on offer, how large the body of a request for them may be, and what converts its pictures.
#[derive(Debug)]
pub(super) struct RequestRules {
    catalogue: Arc<Catalogue>,
    api_policy: ApiPolicy,
    edit_limits: FormLimits,
    generation_limits: FormLimits,
    inputs: InputConverter,
    /// The names of this gateway, among others.
    origins: Current<OriginPolicy>,
}

impl RequestRules {
    pub(super) fn new(
        catalogue: Arc<Catalogue>,
        api_policy: ApiPolicy,
        bodies: &BodyConfig,
        inputs: InputConverter,
        origins: Current<OriginPolicy>,
    ) -> Self {
        let limits = |task| FormLimits::new(task, bodies, &catalogue);
        Self {
            edit_limits: limits(Task::Edit),
            generation_limits: limits(Task::Generate),
            catalogue,
            api_policy,
            inputs,
            origins,
        }
    }

    /// Returns whether the operator lists a host as a name of this gateway.
    pub(super) fn lists_host(&self, host: &str) -> bool {
        self.origins.get().lists(host)
    }

    /// Returns the limits of a body for this task.
    pub(super) fn form_limits(&self, task: Task) -> &FormLimits {
        match task {
            Task::Edit => &self.edit_limits,
            Task::Generate => &self.generation_limits,
        }
    }
}

impl FromRef<Arc<ApiState>> for Admission {
    fn from_ref(state: &Arc<ApiState>) -> Self {
        state.admission.clone()
    }
}

impl ApiState {
    /// Returns the models that a client may use.
    pub(super) fn available_models(&self, client: &ClientId) -> AvailableModels<'_> {
        let RequestRules { catalogue, api_policy, .. } = &self.request_rules;
        AvailableModels { catalogue, allowed: self.admission.models(client), api_kinds: api_policy.api_kinds() }
    }

    /// Returns all models.
    pub(super) fn catalogue(&self) -> &Catalogue {
        &self.request_rules.catalogue
    }

    /// Returns what reading a request of a client needs that may use these models.
    pub(super) fn parse_services<'a>(&'a self, models: &'a AvailableModels<'a>) -> ParseServices<'a> {
        ParseServices {
            spool: self.engine.spool(),
            server: &self.server,
            models,
            inputs: &self.request_rules.inputs,
            own_results: Some(self),
        }
    }

    /// Takes a permit to read and answer one more request.
    ///
    /// # Errors
    ///
    /// [`ApiError::TooManyWaiting`], or the client's limit of concurrent requests.
    pub(super) fn admit(&self, client: &ClientId, credential: Arc<KeyCredential>) -> Result<Permit, ApiError> {
        self.admission.admit(client, credential).map_err(|rejection| match rejection {
            Rejection::TooManyWaiters { retry_after } => ApiError::TooManyWaiting { retry_after },
            Rejection::LimitExceeded(exceeded) => rate::limit_exceeded(exceeded),
        })
    }

    /// Returns a maker of result addresses that the client of this request can reach.
    ///
    /// # Errors
    ///
    /// [`ApiError::Internal`] when `Host` makes no address.
    pub(super) fn result_urls(&self, headers: &HeaderMap) -> Result<ResultUrls, ApiError> {
        self.result_urls.for_client(headers, self.clock.now())
    }
}
