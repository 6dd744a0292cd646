//! The list of models.

use std::collections::BTreeSet;
use std::num::NonZeroU8;

use serde::Deserialize;

use super::api::{Capabilities, UpstreamApi};
use super::names::OperatorAliases;
use super::parameters::{Parameters, TaskSpec, check_auto};
use super::size_rule::SizeRule;
use crate::model::ids::ModelId;
use crate::model::money::Price;
use crate::model::request::{ApiKind, Task};

/// All models, as listed in `config/models.toml`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Catalogue {
    /// The model of a request that names none.
    pub(crate) default_model: String,
    pub(crate) models: Vec<Model>,
    /// Not part of the file.
    #[serde(skip)]
    pub(super) operator_aliases: OperatorAliases,
}

impl Catalogue {
    /// Checks what types cannot: unique names, a default that exists, `auto` values among the listed values.
    ///
    /// # Errors
    ///
    /// A message that names the model and the key.
    pub(crate) fn check(&self) -> Result<(), String> {
        let mut names = BTreeSet::new();
        for model in &self.models {
            for name in std::iter::once(model.id.as_str()).chain(model.aliases.iter().map(String::as_str)) {
                if !names.insert(name.to_ascii_lowercase()) {
                    return Err(format!("model {}: the name {name} is used twice", model.id));
                }
            }
            model.check().map_err(|problem| format!("model {}: {problem}", model.id))?;
        }
        if self.find(&self.default_model).is_none() {
            return Err(format!("default_model: no model is called {}", self.default_model));
        }
        Ok(())
    }
}

/// One model of the upstream.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Model {
    /// The upstream's name, also in `GET /v1/models`.
    pub(crate) id: ModelId,
    /// Other names that clients use.
    #[serde(default)]
    pub(crate) aliases: Vec<String>,
    /// Unix seconds, as in OpenAI's model list.
    pub(crate) created: i64,
    /// Part of the error message when a request needs a task that the model lacks.
    #[serde(default)]
    pub(crate) note: Option<String>,
    pub(crate) price: Price,
    /// Image edits at the prediction API; absent when the upstream offers none there.
    #[serde(default)]
    pub(crate) edit: Option<TaskSpec>,
    /// Text to image at the prediction API.
    #[serde(default)]
    pub(crate) generate: Option<TaskSpec>,
    pub(crate) parameters: Parameters,
    /// The OpenAI-format endpoints; absent when the upstream documents none for the model.
    #[serde(default)]
    pub(crate) openai: Option<UpstreamApi>,
    /// The unified API.
    #[serde(default)]
    pub(crate) unified: Option<UpstreamApi>,
}

impl Model {
    /// Returns how the prediction API is asked for a task.
    pub(crate) fn task_spec(&self, task: Task) -> Option<&TaskSpec> {
        match task {
            Task::Edit => self.edit.as_ref(),
            Task::Generate => self.generate.as_ref(),
        }
    }

    /// Returns what an upstream API accepts for a task; `None` when it does not offer the model for it.
    pub(crate) fn capabilities(&self, api_kind: ApiKind, task: Task) -> Option<Capabilities<'_>> {
        match api_kind {
            ApiKind::Prediction => {
                self.task_spec(task).map(|spec| Capabilities::of_predictions(task, spec, &self.parameters))
            }
            // Accepts files only.
            ApiKind::OpenAi => self.openai.as_ref().and_then(|api| api.capabilities(task, &self.parameters, false)),
            ApiKind::Unified => self.unified.as_ref().and_then(|api| api.capabilities(task, &self.parameters, true)),
        }
    }

    /// Returns the number of pictures of each purchase, `n` in total.
    pub(crate) fn split(&self, api_kind: ApiKind, task: Task, n: u8) -> Vec<u8> {
        let most =
            self.capabilities(api_kind, task).and_then(|capabilities| capabilities.n_max).map_or(1, NonZeroU8::get);
        let full = usize::from(n / most);
        let rest = n % most;
        std::iter::repeat_n(most, full).chain((rest > 0).then_some(rest)).collect()
    }

    /// Returns the names of all parameters with a closed list of values, at any upstream API.
    pub(crate) fn choice_names(&self) -> impl Iterator<Item = &String> {
        let apis = self.openai.iter().chain(&self.unified).flat_map(|api| api.choices.keys());
        self.parameters.choices.keys().chain(apis)
    }

    /// Returns a value that is listed for a parameter at any upstream API, in its own spelling.
    pub(crate) fn listed_value(&self, name: &str, text: &str) -> Option<&str> {
        let apis = self.openai.iter().chain(&self.unified).filter_map(|api| api.choices.get(name));
        let values = self.parameters.choices.get(name).into_iter().chain(apis).flat_map(|choice| &choice.values);
        values.map(String::as_str).find(|value| value.eq_ignore_ascii_case(text))
    }

    /// Returns whether one of these upstream APIs offers the model for a task.
    pub(crate) fn is_offered(&self, api_kinds: &[ApiKind], task: Task) -> bool {
        api_kinds.iter().any(|&api_kind| self.capabilities(api_kind, task).is_some())
    }

    /// Returns whether one of these upstream APIs offers the model for any task.
    pub(crate) fn is_available(&self, api_kinds: &[ApiKind]) -> bool {
        [Task::Edit, Task::Generate].into_iter().any(|task| self.is_offered(api_kinds, task))
    }

    /// Checks the ranges of all figures.
    fn check_figures(&self) -> Result<(), String> {
        const BYTES: f64 = 1e12;
        let Parameters { prompt_chars_max, images_max, image_bytes_max, mask_bytes_max, .. } = &self.parameters;
        let Price { input_usd_per_million_tokens, output_usd_per_million_tokens, estimate_usd_per_picture } =
            self.price;
        #[expect(clippy::cast_precision_loss, reason = "only compared with numbers far below 2^52")]
        let figures = [
            // Until the end of the year 9999.
            ("created", self.created as f64, 0.0, 253_402_300_799.0),
            ("price.input_usd_per_million_tokens", input_usd_per_million_tokens.unwrap_or(0.0), 0.0, 1e6),
            ("price.output_usd_per_million_tokens", output_usd_per_million_tokens.unwrap_or(0.0), 0.0, 1e6),
            ("price.estimate_usd_per_picture", estimate_usd_per_picture, 0.0, 1e6),
            ("parameters.prompt_chars_max", *prompt_chars_max as f64, 1.0, 1e8),
            ("parameters.images_max", *images_max as f64, 1.0, 255.0),
            ("parameters.image_bytes_max", *image_bytes_max as f64, 1.0, BYTES),
            ("parameters.mask_bytes_max", *mask_bytes_max as f64, 1.0, BYTES),
        ];
        // `contains` refuses NaN, too.
        match figures.into_iter().find(|(_, value, min, max)| !(min..=max).contains(&value)) {
            Some((key, value, min, max)) => Err(format!("{key} must be a number from {min} to {max}, not {value:?}")),
            None => self
                .size_rules()
                .try_for_each(|(name, size)| size.check_figures().map_err(|problem| format!("{name}: {problem}"))),
        }
    }

    fn size_rules(&self) -> impl Iterator<Item = (&'static str, &SizeRule)> {
        let apis = [("openai.size", &self.openai), ("unified.size", &self.unified)].into_iter();
        let apis = apis.filter_map(|(name, api)| Some((name, api.as_ref()?.size.as_ref()?)));
        std::iter::once(("parameters.size", &self.parameters.size)).chain(apis)
    }

    fn check(&self) -> Result<(), String> {
        self.check_figures()?;
        check_auto(&self.parameters.size, &self.parameters.choices)?;
        if self.unified.as_ref().is_some_and(|api| api.stream) {
            return Err("unified: the unified API has no stream".to_owned());
        }
        for (name, spec) in [("edit", &self.edit), ("generate", &self.generate)] {
            if spec.as_ref().is_some_and(|spec| spec.data_uris_refused && spec.links_field.is_none()) {
                return Err(format!("{name}: data_uris_refused is about links_field, which is absent"));
            }
        }
        for (name, api) in [("openai", &self.openai), ("unified", &self.unified)] {
            let Some(api) = api else { continue };
            let size = api.size.as_ref().unwrap_or(&self.parameters.size);
            check_auto(size, &api.choices).map_err(|problem| format!("{name}: {problem}"))?;
        }
        Ok(())
    }
}
