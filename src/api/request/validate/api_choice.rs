//! Which upstream API a request uses: the first one the operator allows that offers all features of the request.
//!
//! Where none does, the one that lacks least, so that only what no API offers is refused by name, or dropped.

use std::collections::{BTreeMap, BTreeSet};

use super::values::{modern, text};
use crate::api::request::body::form::Scalar;
use crate::model::{ApiKind, Capabilities, Input, Model, Task};

/// The features of a request that not every API offers.
#[derive(Debug)]
pub(super) struct RequestedFeatures<'a> {
    /// Parameters with the requested values, without those at their default, in the order of their names.
    values: Vec<(&'a str, &'a str)>,
    mask: bool,
    /// Input pictures, or the mask, as http(s) addresses.
    links: bool,
    /// Input pictures sent inline.
    inline: bool,
}

/// The upstream API of a request.
#[derive(Debug)]
pub(super) struct ChosenApi<'a> {
    pub(super) api_kind: ApiKind,
    pub(super) capabilities: Capabilities<'a>,
    /// Parameters that another allowed API would offer if the input pictures were sent inline.
    pub(super) need_files: Vec<String>,
    /// Parameters that `upstream.api = "auto"` would allow.
    pub(super) need_auto: BTreeSet<String>,
}

impl<'a> RequestedFeatures<'a> {
    pub(super) fn of(
        model: &'a Model,
        scalars: &'a BTreeMap<String, Scalar>,
        images: &[Input],
        mask: Option<&Input>,
    ) -> Self {
        let is_link = |input: &Input| matches!(input, Input::Link(_));
        let is_choice = |name: &str| model.choice_names().any(|choice| choice == name);
        let requested = |name: &'a String| {
            // A value of the wrong type is refused later.
            let value = modern(name, text(scalars, name).ok()??);
            (!is_default(name, value) && is_choice(name)).then_some((name.as_str(), value))
        };
        Self {
            values: scalars.keys().filter_map(requested).collect(),
            mask: mask.is_some(),
            links: images.iter().chain(mask).any(is_link),
            inline: images.iter().any(|image| !is_link(image)),
        }
    }

    /// Lists the requested parameters that an API lacks.
    fn lacking(&self, capabilities: Capabilities<'_>) -> Vec<String> {
        let has = |name: &str, value: &str| {
            capabilities.choice(name).is_some_and(|choice| choice.values.iter().any(|known| known == value))
        };
        let values = self.values.iter().filter(|(name, value)| !has(name, value)).map(|&(name, _)| name.to_owned());
        values.chain((self.mask && !capabilities.mask).then(|| "mask".to_owned())).collect()
    }

    /// Whether an API accepts the pictures in the form they were sent.
    fn accepts_pictures(&self, capabilities: Capabilities<'_>) -> bool {
        (capabilities.links || !self.links) && (capabilities.inline || !self.inline)
    }
}

/// Chooses among `api_kinds`, which are in order of preference; `None` where none of them offers the model for this task.
pub(super) fn choose<'a>(
    model: &'a Model,
    task: Task,
    api_kinds: &[ApiKind],
    features: &RequestedFeatures<'_>,
) -> Option<ChosenApi<'a>> {
    let capabilities_of =
        |&api_kind: &ApiKind| model.capabilities(api_kind, task).map(|capabilities| (api_kind, capabilities));
    let candidates: Vec<(ApiKind, Capabilities<'a>)> = api_kinds.iter().filter_map(capabilities_of).collect();
    let fit = candidates.iter().find(|(_, capabilities)| {
        features.lacking(*capabilities).is_empty() && features.accepts_pictures(*capabilities)
    });
    if let Some(&(api_kind, capabilities)) = fit {
        return Some(ChosenApi { api_kind, capabilities, need_files: Vec::new(), need_auto: BTreeSet::new() });
    }
    let able = candidates.iter().filter(|(_, capabilities)| features.accepts_pictures(*capabilities));
    let nearest = able.min_by_key(|(_, capabilities)| features.lacking(*capabilities).len()).or(candidates.first());
    let &(api_kind, capabilities) = nearest?;
    let lacking = features.lacking(capabilities);
    let had_by = |name: &String, capabilities: Capabilities<'_>| !features.lacking(capabilities).contains(name);
    let need_files = |name: &&String| {
        candidates
            .iter()
            .any(|&(_, capabilities)| had_by(name, capabilities) && !features.accepts_pictures(capabilities))
    };
    let need_auto = |name: &&String| {
        let elsewhere =
            [ApiKind::Prediction, ApiKind::OpenAi].into_iter().filter(|api_kind| !api_kinds.contains(api_kind));
        elsewhere
            .filter_map(|api_kind| model.capabilities(api_kind, task))
            .any(|capabilities| had_by(name, capabilities))
    };
    Some(ChosenApi {
        api_kind,
        capabilities,
        need_files: lacking.iter().filter(need_files).cloned().collect(),
        need_auto: lacking.iter().filter(need_auto).cloned().collect(),
    })
}

/// Whether a value is a default that every API offers.
fn is_default(name: &str, value: &str) -> bool {
    matches!((name, value), (_, "auto") | ("background", "opaque") | ("input_fidelity", "low"))
}
