//! The formats that a request can be written in, in order of preference.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{FormatSubject, InputKind, InputMethod, RequestFormat};
use crate::config::{ApiPolicy, FirstContact, InputTransport, UpstreamConfig};
use crate::model::{AccountId, ApiKind, Capabilities, Input, Model, ModelId, PictureRequest, Size, Task};

/// Without an estimate, a picture of more pixels is not expected to be made before an edge cuts the call.
const QUICK_PIXELS_MAX: u64 = 1_600_000;
/// Without an estimate, the qualities that are expected to be made before an edge cuts the call.
const QUICK_QUALITIES: [&str; 2] = ["low", "medium"];
/// Values that mean the same as leaving the parameter out, at every API.
const NEUTRAL: [(&str, &str); 3] = [("background", "opaque"), ("input_fidelity", "low"), ("moderation", "auto")];
/// Parameters of the prediction API that are not the client's, sent with their documented defaults.
const PREDICTION_DEFAULTS: [&str; 2] = ["enable_sync_mode", "response_format"];

/// What the configuration says about formats.
#[derive(Clone, Debug)]
pub(crate) struct FormatRules {
    pub(crate) mode: FirstContact,
    pub(crate) api: ApiPolicy,
    /// How input pictures are sent, in order of preference.
    pub(crate) inputs: Vec<InputTransport>,
    /// A plain multipart submit is only used where its answer is expected earlier (`upstream.edge_timeout_s`).
    pub(crate) edge_timeout: Duration,
    /// The gateway can publish input pictures at a public address.
    pub(crate) publishes: bool,
}

/// The formats that a request can be written in without altering what its client asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FormatOptions {
    pub(crate) model: ModelId,
    pub(crate) task: Task,
    pub(crate) inputs: InputKind,
    pub(crate) masked: bool,
    /// Input methods in order of preference, each with whether the gateway fetches the client's addresses first. Never
    /// empty.
    pub(crate) methods: Vec<(InputMethod, bool)>,
    /// Parameters that may be left out: the client did not ask for them, and each is at its documented default.
    pub(crate) optional: BTreeSet<String>,
    /// The size of the model's other table, where the client left the size to the gateway.
    pub(crate) other_size: Option<Size>,
    /// Links would be one of the methods if `server.public_url` were set.
    pub(crate) lacks_public_url: bool,
}

impl FormatRules {
    /// Reads the configuration. `publishes`: input pictures can be published at a public address.
    pub(crate) fn new(config: &UpstreamConfig, publishes: bool) -> Self {
        Self {
            mode: config.first_contact,
            api: config.api,
            inputs: config.inputs.iter().collect(),
            edge_timeout: config.edge_timeout,
            publishes,
        }
    }
}

impl FormatOptions {
    /// Lists the formats for purchases of `pictures` pictures. `expected`: the time that one takes, where it is known.
    pub(crate) fn of(
        model: &Model,
        request: &PictureRequest,
        pictures: u8,
        rules: &FormatRules,
        expected: Option<Duration>,
    ) -> Self {
        let inputs = match &request.inputs[..] {
            [] => InputKind::None,
            inputs if inputs.iter().any(is_link) => InputKind::Links,
            _ => InputKind::Files,
        };
        let offer = Offer { model, request, pictures, rules, expected };
        let mut methods = match rules.mode {
            FirstContact::Adapt => offer.methods(inputs),
            FirstContact::Strict => Vec::new(),
        };
        if methods.is_empty() {
            methods.push((offer.documented(inputs), false));
        }
        let api_kinds: Vec<ApiKind> = [ApiKind::Prediction, ApiKind::OpenAi, ApiKind::Unified]
            .into_iter()
            .filter(|&api_kind| methods.iter().any(|(method, _)| method.api_kind() == api_kind))
            .collect();
        let lacks_public_url = inputs == InputKind::Files
            && !rules.publishes
            && rules.inputs.contains(&InputTransport::Links)
            && offer.offers_links();
        Self {
            model: request.model.clone(),
            task: request.task,
            inputs,
            masked: request.mask.is_some(),
            methods,
            optional: offer.optional(&api_kinds),
            other_size: offer.other_size(&api_kinds),
            lacks_public_url,
        }
    }

    /// Returns what is known about such requests through an account.
    pub(crate) fn subject(&self, account: &AccountId) -> FormatSubject {
        let Self { model, task, inputs, masked, .. } = self;
        FormatSubject { account: account.clone(), model: model.clone(), task: *task, inputs: *inputs, masked: *masked }
    }

    /// Returns the parameters of the model's table that may be left out.
    pub(super) fn of_table(&self) -> impl Iterator<Item = &str> {
        let of_gateway = |name: &str| PREDICTION_DEFAULTS.contains(&name) || name == "output_format";
        self.optional.iter().map(String::as_str).filter(move |name| !of_gateway(name))
    }

    /// Returns the preferred format.
    pub(crate) fn first(&self) -> RequestFormat {
        let (method, fetch_links) = self.methods[0];
        RequestFormat { fetch_links, ..RequestFormat::documented(method) }
    }
}

/// A request, and what decides how it can be written.
#[derive(Clone, Copy)]
struct Offer<'a> {
    model: &'a Model,
    request: &'a PictureRequest,
    pictures: u8,
    rules: &'a FormatRules,
    expected: Option<Duration>,
}

impl<'a> Offer<'a> {
    /// Lists the methods that the operator allows and that offer everything the request asks for.
    fn methods(self, inputs: InputKind) -> Vec<(InputMethod, bool)> {
        if self.request.api_kind == ApiKind::Unified {
            return vec![(InputMethod::Unified, false)];
        }
        match inputs {
            InputKind::None => {
                let none = self.has(ApiKind::Prediction).then_some(InputMethod::None);
                none.into_iter().chain(self.synchronous()).map(|method| (method, false)).collect()
            }
            InputKind::Files => self.of_files(),
            InputKind::Links => {
                let own = [InputMethod::Links, InputMethod::OtherLinks].into_iter().filter(|_| self.offers_links());
                let fetched = self.of_files().into_iter().map(|(method, _)| (method, true));
                own.map(|method| (method, false)).chain(fetched).collect()
            }
        }
    }

    /// Lists the methods for pictures that the gateway has.
    fn of_files(self) -> Vec<(InputMethod, bool)> {
        let masked = self.request.mask.is_some();
        let mut order = self.rules.inputs.clone();
        if masked {
            // Masks are documented there alone for most models.
            order.sort_by_key(|&transport| transport != InputTransport::Multipart);
        }
        let spec = self.model.task_spec(self.request.task);
        let of = |transport: InputTransport| -> Vec<InputMethod> {
            let predictions = |method| Some(method).filter(|_| self.has(ApiKind::Prediction)).into_iter().collect();
            match transport {
                InputTransport::Base64Images if spec.is_some_and(|spec| spec.inline_field.is_some()) => {
                    predictions(InputMethod::Base64Images)
                }
                InputTransport::Links if self.rules.publishes && self.offers_links() => vec![InputMethod::Links],
                InputTransport::DataUris
                    if !masked && spec.is_some_and(|spec| spec.links_field.is_some() && !spec.data_uris_refused) =>
                {
                    predictions(InputMethod::DataUris)
                }
                InputTransport::Multipart => self.synchronous(),
                InputTransport::Base64Images | InputTransport::Links | InputTransport::DataUris => Vec::new(),
            }
        };
        // The prediction API documents the address of a mask, and a form has files alone.
        let fetches = |method: InputMethod| {
            self.request.mask.as_ref().is_some_and(is_link) && method.api_kind() == ApiKind::OpenAi
        };
        order.into_iter().flat_map(of).map(|method| (method, fetches(method))).collect()
    }

    /// Lists the methods of the OpenAI-format endpoints, whose answer must come before an edge cuts the call.
    fn synchronous(self) -> Vec<InputMethod> {
        if !self.has(ApiKind::OpenAi) {
            return Vec::new();
        }
        if self.is_quick() {
            return vec![InputMethod::Multipart];
        }
        let streams = self.model.openai.as_ref().is_some_and(|api| api.stream);
        let streamed = streams.then_some(InputMethod::MultipartStream);
        // A call that may be cut is better than none.
        let plain = (self.request.api_kind == ApiKind::OpenAi).then_some(InputMethod::Multipart);
        streamed.into_iter().chain(plain).collect()
    }

    /// Returns whether a picture is expected to be made before an edge cuts the call.
    fn is_quick(self) -> bool {
        if let Some(expected) = self.expected {
            return expected < self.rules.edge_timeout;
        }
        let is_quick = |quality| QUICK_QUALITIES.contains(&quality);
        self.request.size.pixels() <= QUICK_PIXELS_MAX && self.request.choices.quality().is_some_and(is_quick)
    }

    /// Returns whether addresses can be sent to the prediction API.
    fn offers_links(self) -> bool {
        let spec = self.model.task_spec(self.request.task);
        self.has(ApiKind::Prediction) && spec.is_some_and(|spec| spec.links_field.is_some())
    }

    /// Returns the documented method at the API that was chosen for the request.
    fn documented(self, inputs: InputKind) -> InputMethod {
        let spec = self.model.task_spec(self.request.task);
        match (self.request.api_kind, inputs) {
            (ApiKind::OpenAi, _) => InputMethod::Multipart,
            (ApiKind::Unified, _) => InputMethod::Unified,
            (ApiKind::Prediction, InputKind::None) => InputMethod::None,
            (ApiKind::Prediction, InputKind::Links) => InputMethod::Links,
            (ApiKind::Prediction, InputKind::Files) => {
                let of = |transport: &InputTransport| match transport {
                    InputTransport::Base64Images => Some(InputMethod::Base64Images),
                    InputTransport::Links => {
                        let has_field = spec.is_some_and(|spec| spec.links_field.is_some());
                        (self.rules.publishes && has_field).then_some(InputMethod::Links)
                    }
                    InputTransport::DataUris | InputTransport::Multipart => None,
                };
                self.rules.inputs.iter().find_map(of).unwrap_or(InputMethod::Base64Images)
            }
        }
    }

    /// Returns whether the operator allows an API, and the API makes what the request asks for, with the same values.
    fn has(self, api_kind: ApiKind) -> bool {
        self.rules.api.api_kinds().contains(&api_kind)
            && self.capabilities(api_kind).is_some_and(|capabilities| self.fits(capabilities))
    }

    fn capabilities(self, api_kind: ApiKind) -> Option<Capabilities<'a>> {
        self.model.capabilities(api_kind, self.request.task)
    }

    fn fits(self, capabilities: Capabilities<'_>) -> bool {
        let request = self.request;
        let has_value = |(name, value): (&str, &str)| match capabilities.choice(name) {
            Some(choice) => choice.values.iter().any(|known| known == value),
            // It is left out there, which only means the same where the client did not ask for it.
            None => !request.explicit.contains(name) || NEUTRAL.contains(&(name, value)),
        };
        capabilities.size.check(request.size).is_ok()
            && request.choices.pairs().all(has_value)
            && (capabilities.mask || request.mask.is_none())
            && self.pictures <= capabilities.n_max.map_or(1, std::num::NonZeroU8::get)
    }

    /// Lists the parameters that may be left out at these APIs.
    fn optional(self, api_kinds: &[ApiKind]) -> BTreeSet<String> {
        let request = self.request;
        let at = |api_kind: &ApiKind| self.capabilities(*api_kind);
        let names = api_kinds.iter().filter_map(at).flat_map(Capabilities::choices).map(|(name, _)| name);
        let is_default = |name: &&String| {
            let of = |capabilities: Capabilities<'a>| capabilities.choice(name);
            let value = request.choices.get(name);
            !request.explicit.contains(*name)
                && api_kinds
                    .iter()
                    .filter_map(at)
                    .filter_map(of)
                    .all(|choice| value.is_none_or(|value| value == choice.auto))
        };
        let mut optional: BTreeSet<String> = names.filter(is_default).cloned().collect();
        // One picture is made without it too, whether or not the client asked for one.
        if self.pictures == 1 && api_kinds.iter().filter_map(at).any(|capabilities| capabilities.n_max.is_some()) {
            optional.insert("n".to_owned());
        }
        for api_kind in api_kinds {
            let fixed = match api_kind {
                ApiKind::Prediction => {
                    optional.extend(PREDICTION_DEFAULTS.map(str::to_owned));
                    None
                }
                ApiKind::OpenAi => self.model.openai.as_ref(),
                ApiKind::Unified => self.model.unified.as_ref(),
            };
            // The gateway converts the picture to what the client asked for.
            optional.extend(fixed.into_iter().flat_map(|api| api.fixed.keys().cloned()));
        }
        optional
    }

    /// Returns the size of the model's other table, where every API in question makes it and the client named none.
    fn other_size(self, api_kinds: &[ApiKind]) -> Option<Size> {
        if self.request.explicit.contains("size") {
            return None;
        }
        let rules = || api_kinds.iter().filter_map(|&api_kind| self.capabilities(api_kind)).map(|found| found.size);
        let other = rules().find_map(|rule| rule.other.get(&self.request.size).copied())?;
        rules().all(|rule| rule.check(other).is_ok()).then_some(other)
    }
}

fn is_link(input: &Input) -> bool {
    matches!(input, Input::Link(_))
}

#[cfg(test)]
mod tests;
