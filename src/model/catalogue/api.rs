//! What each upstream API accepts for a model, and what a request sends there.

use std::collections::BTreeMap;
use std::num::NonZeroU8;

use serde::Deserialize;

use super::parameters::{Choice, Parameters, TaskSpec};
use super::size_rule::SizeRule;
use crate::model::request::{PictureRequest, Task};

/// An upstream API other than the prediction API, for one model.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct UpstreamApi {
    /// The model's name at this API; absent: its id.
    #[serde(default)]
    pub(crate) name: Option<String>,
    pub(crate) tasks: Vec<Task>,
    /// Whether edits accept a mask.
    #[serde(default)]
    pub(crate) mask: bool,
    /// Largest `n` of one call; absent when the API has no `n` and makes one picture.
    #[serde(default)]
    pub(crate) n_max: Option<NonZeroU8>,
    /// Absent: as at the prediction API.
    #[serde(default)]
    pub(crate) size: Option<SizeRule>,
    /// Parameters with a closed list of values, by name.
    #[serde(default)]
    pub(crate) choices: BTreeMap<String, Choice>,
    /// Whether the answer can be streamed while the picture is made; the OpenAI-format endpoints only.
    #[serde(default)]
    pub(crate) stream: bool,
    /// Parameters that are sent with a fixed value; the gateway itself converts the result to what the client asked for.
    #[serde(default)]
    pub(crate) fixed: BTreeMap<String, String>,
}

impl UpstreamApi {
    /// Returns every parameter except prompt, pictures, size and `n`, with its value for a request.
    pub(crate) fn parameters<'a>(&'a self, request: &'a PictureRequest) -> impl Iterator<Item = (&'a str, &'a str)> {
        let choices = self.choices.iter().filter(|(_, choice)| choice.is_for(request.task));
        let chosen = choices.map(|(name, choice)| (name.as_str(), request.choices.get(name).unwrap_or(&choice.auto)));
        chosen.chain(self.fixed.iter().map(|(name, value)| (name.as_str(), value.as_str())))
    }

    /// Returns what the API accepts for a task; `None` when it does not offer the model for it.
    pub(super) fn capabilities<'a>(
        &'a self,
        task: Task,
        parameters: &'a Parameters,
        links: bool,
    ) -> Option<Capabilities<'a>> {
        self.tasks.contains(&task).then(|| Capabilities {
            task,
            mask: self.mask && task == Task::Edit,
            links,
            inline: true,
            n_max: self.n_max,
            size: self.size.as_ref().unwrap_or(&parameters.size),
            choices: &self.choices,
        })
    }
}

/// What an upstream API accepts for one task of a model.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Capabilities<'a> {
    task: Task,
    pub(crate) mask: bool,
    /// Whether input pictures may be http(s) addresses.
    pub(crate) links: bool,
    /// Whether input pictures may be bytes.
    pub(crate) inline: bool,
    /// Largest `n` of one purchase; `None` when the API has no `n` and makes one picture.
    pub(crate) n_max: Option<NonZeroU8>,
    pub(crate) size: &'a SizeRule,
    choices: &'a BTreeMap<String, Choice>,
}

impl<'a> Capabilities<'a> {
    /// What the prediction API accepts.
    pub(super) fn of_predictions(task: Task, spec: &TaskSpec, parameters: &'a Parameters) -> Self {
        Self {
            task,
            mask: spec.mask_field.is_some(),
            links: spec.links_field.is_some(),
            inline: spec.inline_field.is_some(),
            n_max: parameters.n_max,
            size: &parameters.size,
            choices: &parameters.choices,
        }
    }

    /// Returns the parameters with a closed list of values, by name.
    pub(crate) fn choices(self) -> impl Iterator<Item = (&'a String, &'a Choice)> {
        self.choices.iter().filter(move |(_, choice)| choice.is_for(self.task))
    }

    /// Returns one parameter with a closed list of values.
    pub(crate) fn choice(self, name: &str) -> Option<&'a Choice> {
        self.choices.get(name).filter(|choice| choice.is_for(self.task))
    }
}
