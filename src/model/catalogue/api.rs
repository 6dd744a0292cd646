//! What each face of the upstream takes for a model, and what a request sends there.

use std::collections::BTreeMap;
use std::num::NonZeroU8;

use serde::Deserialize;

use super::{Choice, Parameters, SizeRule, TaskSpec};
use crate::model::{PictureRequest, Task};

/// A face of the upstream beside the prediction API, as one model has it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct UpstreamApi {
    /// What the model is called there; absent: by its id.
    #[serde(default)]
    pub(crate) name: Option<String>,
    pub(crate) tasks: Vec<Task>,
    /// Whether edits take a mask.
    #[serde(default)]
    pub(crate) mask: bool,
    /// Largest `n` of one call; absent where it has no `n` and makes one picture.
    #[serde(default)]
    pub(crate) n_max: Option<NonZeroU8>,
    /// Absent: as everywhere.
    #[serde(default)]
    pub(crate) size: Option<SizeRule>,
    /// Parameters with a closed list of values, by name.
    #[serde(default)]
    pub(crate) choices: BTreeMap<String, Choice>,
    /// Parameters that are sent with one value, whatever the client wants: what it asks of them the gateway does itself.
    #[serde(default)]
    pub(crate) fixed: BTreeMap<String, String>,
}

impl UpstreamApi {
    /// Every parameter beside prompt, pictures, size and number, with its value for a request.
    pub(crate) fn parameters<'a>(&'a self, request: &'a PictureRequest) -> impl Iterator<Item = (&'a str, &'a str)> {
        let choices = self.choices.iter().filter(|(_, choice)| choice.is_for(request.task));
        let chosen = choices.map(|(name, choice)| {
            (name.as_str(), request.choices.get(name).map_or(choice.auto.as_str(), String::as_str))
        });
        chosen.chain(self.fixed.iter().map(|(name, value)| (name.as_str(), value.as_str())))
    }

    pub(super) fn terms<'a>(&'a self, task: Task, parameters: &'a Parameters, links: bool) -> Option<Capabilities<'a>> {
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

/// What one route takes for one task of a model.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Capabilities<'a> {
    task: Task,
    pub(crate) mask: bool,
    /// Whether input pictures may be http(s) addresses.
    pub(crate) links: bool,
    /// Whether input pictures may come as their bytes.
    pub(crate) inline: bool,
    /// Largest `n` of one prediction; `None` where there is no `n` and one picture is made.
    pub(crate) n_max: Option<NonZeroU8>,
    pub(crate) size: &'a SizeRule,
    choices: &'a BTreeMap<String, Choice>,
}

impl<'a> Capabilities<'a> {
    /// What the prediction API takes.
    pub(super) fn of_predictions(task: Task, capability: &TaskSpec, parameters: &'a Parameters) -> Self {
        Self {
            task,
            mask: capability.mask_field.is_some(),
            links: capability.links_field.is_some(),
            inline: capability.inline_field.is_some(),
            n_max: parameters.n_max,
            size: &parameters.size,
            choices: &parameters.choices,
        }
    }

    /// Parameters with a closed list of values, by name.
    pub(crate) fn choices(self) -> impl Iterator<Item = (&'a String, &'a Choice)> {
        self.choices.iter().filter(move |(_, choice)| choice.is_for(self.task))
    }

    pub(crate) fn choice(self, name: &str) -> Option<&'a Choice> {
        self.choices.get(name).filter(|choice| choice.is_for(self.task))
    }
}
