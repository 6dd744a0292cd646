//! The parameters of a model.

use std::collections::BTreeMap;
use std::num::NonZeroU8;

use serde::Deserialize;

use super::size_rule::SizeRule;
use crate::model::request::Task;

/// How the prediction API is asked for one task of a model.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TaskSpec {
    /// Path below `upstream.base_url`.
    pub(crate) path: String,
    /// Field for addresses of input pictures (`image` or `images`).
    #[serde(default)]
    pub(crate) links_field: Option<String>,
    /// Field for input pictures as data URIs.
    #[serde(default)]
    pub(crate) inline_field: Option<String>,
    /// Field for a mask, when the vendor documents one.
    #[serde(default)]
    pub(crate) mask_field: Option<String>,
    /// The field for addresses is known to refuse data URIs.
    #[serde(default)]
    pub(crate) data_uris_refused: bool,
}

/// The parameters that a model accepts, with their values.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Parameters {
    pub(crate) prompt_chars_max: usize,
    /// Largest `n` of one purchase; absent when the prediction API has no `n` and makes one picture.
    #[serde(default)]
    pub(crate) n_max: Option<NonZeroU8>,
    pub(crate) size: SizeRule,
    /// Parameters with a closed list of values, by name.
    #[serde(default)]
    pub(crate) choices: BTreeMap<String, Choice>,
    /// Limit of the input pictures in one request.
    pub(crate) images_max: usize,
    /// Limit of the bytes of one input picture.
    pub(crate) image_bytes_max: u64,
    /// Limit of the bytes of a mask.
    pub(crate) mask_bytes_max: u64,
}

/// A parameter with a closed list of values.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Choice {
    /// The values that are sent upstream; `auto` among them only if the answer need not name the value.
    pub(crate) values: Vec<String>,
    /// The value for a request that says `auto` or nothing.
    pub(crate) auto: String,
    /// Whether text to image lacks the parameter.
    #[serde(default)]
    pub(crate) edits_only: bool,
}

impl Choice {
    /// Returns whether a task has the parameter.
    pub(super) fn is_for(&self, task: Task) -> bool {
        task == Task::Edit || !self.edits_only
    }
}

/// Checks that the values for `auto` are allowed values.
pub(super) fn check_auto(size: &SizeRule, choices: &BTreeMap<String, Choice>) -> Result<(), String> {
    for (name, choice) in choices {
        if !choice.values.contains(&choice.auto) {
            return Err(format!("{name}.auto = {:?} is not among its values", choice.auto));
        }
    }
    if size.auto.is_empty() {
        return Err("size.auto is empty".to_owned());
    }
    if let Some(size) = size.auto.iter().find(|&&auto| size.check(auto).is_err()) {
        return Err(format!("size.auto: {size} violates the model's size rule"));
    }
    if let Some(size) = size.other.iter().flat_map(|(size, other)| [size, other]).find(|&&one| size.check(one).is_err())
    {
        return Err(format!("size.other: {size} violates the model's size rule"));
    }
    Ok(())
}
