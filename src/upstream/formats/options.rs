//! The formats that a request can be written in, in order of preference.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{FormatSubject, InputKind, InputMethod, RequestFormat};
use crate::model::{AccountId, Input, Model, ModelId, PictureRequest, Size, Task};

/// What the configuration says about formats.
#[derive(Clone, Debug)]
pub(crate) struct FormatRules {
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
}

impl FormatOptions {
    /// Lists the formats for purchases of `pictures` pictures. `expected`: the time that one takes, where it is known.
    pub(crate) fn of(
        _model: &Model,
        request: &PictureRequest,
        _pictures: u8,
        _rules: &FormatRules,
        _expected: Option<Duration>,
    ) -> Self {
        let is_link = |input: &Input| matches!(input, Input::Link(_));
        let inputs = match &request.inputs[..] {
            [] => InputKind::None,
            inputs if inputs.iter().any(is_link) => InputKind::Links,
            _ => InputKind::Files,
        };
        let method = match request.api_kind {
            crate::model::ApiKind::Prediction => match inputs {
                InputKind::None => InputMethod::None,
                InputKind::Files => InputMethod::Base64Images,
                InputKind::Links => InputMethod::Links,
            },
            crate::model::ApiKind::OpenAi => InputMethod::Multipart,
            crate::model::ApiKind::Unified => InputMethod::Unified,
        };
        Self {
            model: request.model.clone(),
            task: request.task,
            inputs,
            masked: request.mask.is_some(),
            methods: vec![(method, false)],
            optional: BTreeSet::new(),
            other_size: None,
        }
    }

    /// Returns what is known about such requests through an account.
    pub(crate) fn subject(&self, account: &AccountId) -> FormatSubject {
        let Self { model, task, inputs, masked, .. } = self;
        FormatSubject { account: account.clone(), model: model.clone(), task: *task, inputs: *inputs, masked: *masked }
    }

    /// Returns the preferred format.
    pub(crate) fn first(&self) -> RequestFormat {
        let (method, fetch_links) = self.methods[0];
        RequestFormat { fetch_links, ..RequestFormat::documented(method) }
    }
}
