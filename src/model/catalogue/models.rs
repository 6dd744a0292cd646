//! The list of models.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU8;

use serde::Deserialize;

use super::api::{Capabilities, UpstreamApi};
use super::names::{OperatorAliases, candidates, likeness};
use super::parameters::{Parameters, TaskSpec, check_auto};
use super::size_rule::SizeRule;
use crate::model::environment::Current;
use crate::model::ids::ModelId;
use crate::model::money::{Cost, PictureTerms, Price};
use crate::model::outcome::JobResult;
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
    pub(super) operator_aliases: Current<OperatorAliases>,
}

impl Catalogue {
    /// Returns the model with this id or alias, in any letter case, also behind the name of a provider.
    pub(crate) fn find(&self, name: &str) -> Option<&Model> {
        candidates(name).find_map(|name| self.named(name))
    }

    /// Returns the model with exactly this name. An id comes first, then the operator's aliases, which may replace an alias
    /// of the catalogue.
    fn named(&self, name: &str) -> Option<&Model> {
        let by_id = |id: &str| self.models.iter().find(|model| model.id.as_str().eq_ignore_ascii_case(id));
        let has_alias = |model: &&Model| model.aliases.iter().any(|alias| alias.eq_ignore_ascii_case(name));
        let of_operator = || self.operator_aliases.get().get(name).and_then(by_id);
        by_id(name).or_else(of_operator).or_else(|| self.models.iter().find(has_alias))
    }

    /// Returns what a result has cost: its pictures, and those that are missing and may have been bought. `None` for a model
    /// that is not in the catalogue.
    pub(crate) fn cost_of(&self, result: &JobResult) -> Option<Cost> {
        let price = self.find(&result.model)?.price;
        let missing = result.missing.iter().filter(|missing| missing.failure.may_have_been_bought());
        let missing: usize = missing.map(|missing| usize::from(missing.pictures)).sum();
        let pixels = result.pictures.first().map_or(0, |picture| u64::from(picture.width) * u64::from(picture.height));
        let terms = PictureTerms { pixels, ..PictureTerms::default() };
        let made = price.cost(result.pictures.len(), result.usage.as_ref(), terms);
        Some(if missing == 0 { made } else { made + price.cost(missing, None, terms) })
    }

    /// Returns the one of some models whose id is most like a name that no model has; the newest of equals.
    pub(crate) fn nearest<'a>(name: &str, models: impl Iterator<Item = &'a Model>) -> Option<&'a Model> {
        let alike = models.filter_map(|model| Some((likeness(name, &model.id)?, model)));
        let best =
            alike.max_by(|(one, first), (other, second)| one.total_cmp(other).then(first.created.cmp(&second.created)));
        best.map(|(_, model)| model)
    }

    /// Adds the operator's own names of models.
    ///
    /// # Errors
    ///
    /// The end of a sentence that names the alias.
    pub(crate) fn add_aliases(&mut self, aliases: &BTreeMap<String, String>) -> Result<(), String> {
        let mut added = OperatorAliases::default();
        for (alias, name) in aliases {
            if self.models.iter().any(|model| model.id.as_str().eq_ignore_ascii_case(alias)) {
                return Err(format!("{alias:?} is the id of a model, and cannot stand for another one"));
            }
            let Some(model) = self.find(name) else {
                let nearest = Self::nearest(name, self.models.iter());
                let hint = nearest.map(|model| format!("; did you mean {:?}?", model.id.as_str())).unwrap_or_default();
                return Err(format!("{alias:?} stands for {name:?}, which is not a model of the catalogue{hint}"));
            };
            added.add(alias, model.id.to_string())?;
        }
        self.operator_aliases.set(added);
        Ok(())
    }

    /// Takes over the operator's own names of models from another catalogue with the same models, also in clones of this one.
    pub(crate) fn take_aliases(&self, other: &Self) {
        self.operator_aliases.set((*other.operator_aliases.get()).clone());
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    fn catalogue() -> Catalogue {
        toml::from_str(include_str!("../../../config/models.toml")).unwrap()
    }

    fn found(catalogue: &Catalogue, name: &str) -> String {
        catalogue.find(name).map(|model| model.id.to_string()).unwrap_or_default()
    }

    #[test]
    fn a_name_is_found_in_every_spelling() {
        let catalogue = catalogue();
        for (name, id) in [
            ("gpt-image-1.5", "gpt-image-1.5"),
            ("GPT-Image-1.5", "gpt-image-1.5"),
            (" gpt-image-1\r\n", "gpt-image-1"),
            ("gpt-image-1.5-2025-12-16", "gpt-image-1.5"),
            ("openai/gpt-image-1.5-2025-12-16", "gpt-image-1.5"),
            ("gpt-image-2-2026-04-21", "gpt-image-2"),
            ("azure/gpt-image-1", "gpt-image-1"),
            ("Azure/GPT-IMAGE-1-MINI", "gpt-image-1-mini"),
            ("gptproto/gpt-image-2", "gpt-image-2"),
            ("models/gpt-image-1", "gpt-image-1"),
            ("gptproto/openai/gpt-image-2", "gpt-image-2"),
            ("litellm_proxy/openai/gpt-image-1", "gpt-image-1"),
            ("OPENAI/gpt-image-2/image-edit", "gpt-image-2"),
            ("ChatGPT-Image-Latest", "gpt-image-2"),
            ("", ""),
            ("openai/", ""),
            ("dall-e-3", ""),
            ("gpt-image-2-2026-01-01", ""),
            ("openai/openai/openai/openai/openai/gpt-image-2", ""),
            ("xopenai/gpt-image-2", ""),
            ("gpt image 1", ""),
        ] {
            assert_eq!(found(&catalogue, name), id, "{name}");
        }
    }

    #[test]
    fn the_nearest_name_is_suggested() {
        let catalogue = catalogue();
        let nearest = |name: &str| {
            Catalogue::nearest(name, catalogue.models.iter()).map(|model| model.id.to_string()).unwrap_or_default()
        };
        for (name, id) in [
            ("gpt-image-15", "gpt-image-1.5"),
            ("gpt-image1.5", "gpt-image-1.5"),
            ("gpt-image-1,5", "gpt-image-1.5"),
            ("gpt-imgae-1.5", "gpt-image-1.5"),
            ("GPT_IMAGE_2", "gpt-image-2"),
            ("gpt-image-2-2026-01-01", "gpt-image-2"),
            ("azure/gpt-image-2-2026-01-01", "gpt-image-2"),
            ("gptimage2", "gpt-image-2"),
            ("gpt-image-1-minni", "gpt-image-1-mini"),
            ("gpt-image-2.5-flair", "gpt-image-2.5-flare"),
            ("dall-e-3", ""),
            ("flux-pro", ""),
            ("", ""),
        ] {
            assert_eq!(nearest(name), id, "{name}");
        }
        assert_eq!(nearest(&"gpt-image-2".repeat(1000)), "");
    }

    #[test]
    fn aliases_of_the_operator_are_checked() {
        let add = |pairs: &[(&str, &str)]| {
            let aliases = pairs.iter().map(|&(alias, name)| (alias.to_owned(), name.to_owned())).collect();
            let mut catalogue = catalogue();
            catalogue.add_aliases(&aliases).map(|()| catalogue)
        };
        let added = add(&[
            ("dall-e-3", "gpt-image-1.5"),
            ("My-Deployment", "openai/gpt-image-2"),
            ("chatgpt-image-latest", "gpt-image-1"),
        ]);
        let added = added.unwrap();
        for (name, id) in [
            ("dall-e-3", "gpt-image-1.5"),
            ("DALL-E-3", "gpt-image-1.5"),
            ("openai/dall-e-3", "gpt-image-1.5"),
            ("my-deployment", "gpt-image-2"),
            ("chatgpt-image-latest", "gpt-image-1"),
            ("gpt-image-2", "gpt-image-2"),
        ] {
            assert_eq!(found(&added, name), id, "{name}");
        }
        let long = "x".repeat(129);
        for (alias, name, words) in [
            ("gpt-image-2", "gpt-image-1", "is the id of a model"),
            ("GPT-image-2", "gpt-image-2", "is the id of a model"),
            ("dall-e-3", "gpt-image-15", "did you mean \"gpt-image-1.5\"?"),
            ("dall-e-3", "dall-e-2", "not a model of the catalogue"),
            ("", "gpt-image-2", "1 to 128"),
            ("two words", "gpt-image-2", "no space"),
            (&long, "gpt-image-2", "1 to 128"),
        ] {
            let problem = add(&[(alias, name)]).map(|_| ()).unwrap_err();
            assert!(problem.contains(words), "{alias}: {problem}");
        }
        assert!(add(&[("a", "gpt-image-1"), ("A", "gpt-image-2")]).map(|_| ()).unwrap_err().contains("twice"));
    }
}
