//! Validates a form against its model: every value becomes explicit, and every refusal comes before anything is bought.
//!
//! A parameter that the model does not support is refused by name, or dropped and named where the operator says so
//! (`server.unsupported_parameters`). `model`, the input pictures, and parameters that decide the
//! shape of the response are never dropped.

use std::collections::{BTreeMap, BTreeSet};

use super::available_models::AvailableModels;
use super::body::form::{Form, Scalar};
use super::response_options::ResponseOptions;
use crate::api::error::ApiError;
use crate::config::RequestConfig;
use crate::model::{ApiKind, Capabilities, Choices, Input, Model, PictureRequest, Size, Task};

mod aliases;
mod api_choice;
mod fields;
mod output;
mod pictures;
mod refusals;
mod shape;
mod values;

use aliases::Alias;
use api_choice::{ChosenApi, RequestedFeatures};
pub(super) use pictures::error as picture_error;
use refusals::Refusals;
use shape::RequestedShape;
use values::{integer, modern, text};

/// A request that can be bought, and how its response is to look.
#[derive(Debug)]
pub(crate) struct ValidRequest {
    pub(crate) request: PictureRequest,
    pub(crate) options: ResponseOptions,
    /// Where the client wants to be notified of the end.
    pub(crate) webhook_url: Option<String>,
    /// Parameters that are not honoured; only with `server.unsupported_parameters = "drop"`.
    pub(crate) dropped: Vec<String>,
    /// Names of fields that are ignored, in alphabetical order.
    pub(crate) ignored: Vec<String>,
    /// Fields of other APIs with the parameter that they were read as: `aspect_ratio=size`, in alphabetical order.
    pub(crate) renamed: Vec<String>,
}

/// Most pictures of one request; where a model makes fewer in a purchase, there are several.
pub(in crate::api) const N_MAX: i64 = 10;
const PARTIAL_IMAGES_MAX: i64 = 3;
const USER_CHARS_MAX: usize = 512;
const SAFETY_IDENTIFIER_CHARS_MAX: usize = 128;

/// Validates a form.
///
/// # Errors
///
/// The first fault, with the name of the parameter and what is allowed.
pub(crate) fn validate(
    form: Form,
    task: Task,
    requests: &RequestConfig,
    models: &AvailableModels<'_>,
) -> Result<ValidRequest, ApiError> {
    let lacks_image = task == Task::Edit && form.images.is_empty();
    let field_names = if lacks_image { form.field_names() } else { Vec::new() };
    let Form { mut scalars, images, mask, misplaced, unknown, mut renamed } = form;
    let mut refusals = Refusals::new(requests.unsupported_parameters);
    let mut ignored: Vec<String> = unknown.into_iter().collect();
    fields::trim(&mut scalars);
    fields::refuse_null_words(&mut scalars, &mut refusals)?;
    let model = models.find(text(&scalars, "model")?.map(str::to_owned), task)?;
    fields::spell(&mut scalars, model);
    let others = Alias::take_from(&mut scalars);
    let has_pictures = !images.is_empty() || mask.is_some();
    aliases::apply(&mut scalars, &others, has_pictures, &mut refusals, &mut ignored)?;
    let features = RequestedFeatures::of(model, &scalars, &images, mask.as_ref());
    let chosen = api_choice::choose(model, task, models.api_kinds, &features).ok_or_else(|| lacks_task(model, task))?;
    let ChosenApi { api_kind, capabilities, need_files, need_auto } = chosen;
    let mut validator = Validator { scalars, model, api_kind, capabilities, need_auto, refusals, ignored };
    let mask = validator.require_files(need_files, mask)?;
    let prompt = validator.prompt()?;
    let n = validator.n()?;
    let choices = validator.choices()?;
    let conversion = validator.output(&choices)?;
    validator.defaults_only()?;
    let options = validator.options(requests.response_format_default, conversion)?;
    let webhook_url = validator.text("webhook_url")?;
    for (name, problem) in misplaced {
        validator.unsupported(&name, &problem)?;
    }
    if task == Task::Edit {
        if images.is_empty() {
            return Err(ApiError::MissingImage { fields: field_names });
        }
        pictures::check_images(&images, model, api_kind, capabilities, requests)?;
    }
    let mask = match mask {
        Some(mask) if capabilities.mask => {
            pictures::check_mask(&mask, images.first(), model, requests)?;
            match pictures::marks_nothing(&mask, requests) {
                Some(refusal) => {
                    validator.refusals.refuse("mask", refusal)?;
                    None
                }
                None => Some(mask),
            }
        }
        Some(_) => {
            let hint = validator.hint("mask");
            validator.unsupported("mask", &format!("is not supported with the model '{}'{hint}", model.id))?;
            None
        }
        None => None,
    };
    let (size, has_exact_size) = validator.size(&others, images.first())?;
    let explicit = validator.explicit(has_exact_size);
    let Validator { refusals, mut ignored, .. } = validator;
    ignored.sort_unstable();
    ignored.dedup();
    let used = others.iter().filter(|field| !refusals.has_dropped(&field.sent) && !ignored.contains(&field.sent));
    renamed.extend(used.map(|field| (field.sent.clone(), field.meaning.parameter())));
    Ok(ValidRequest {
        request: PictureRequest {
            task,
            model: model.id.clone(),
            prompt,
            inputs: images,
            mask,
            n,
            size,
            choices,
            explicit,
            api_kind,
        },
        options,
        webhook_url,
        dropped: refusals.into_dropped(),
        ignored,
        renamed: renamed.into_iter().map(|(sent, known)| format!("{sent}={known}")).collect(),
    })
}

/// Returns the error for a model that no allowed upstream API offers for this task.
fn lacks_task(model: &Model, task: Task) -> ApiError {
    let all = [ApiKind::Prediction, ApiKind::OpenAi, ApiKind::Unified];
    let elsewhere = all.into_iter().find(|&api_kind| model.is_offered(&[api_kind], task)).map(|api_kind| {
        let name = api_kind.name();
        format!("The operator of this gateway can allow it with upstream.api = \"{name}\".")
    });
    ApiError::ModelLacksTask { model: model.id.to_string(), task: task.name(), note: model.note.clone().or(elsewhere) }
}

/// A validation in progress.
#[derive(Debug)]
struct Validator<'a> {
    scalars: BTreeMap<String, Scalar>,
    model: &'a Model,
    api_kind: ApiKind,
    /// What the upstream API accepts.
    capabilities: Capabilities<'a>,
    /// Parameters that `upstream.api = "auto"` would allow.
    need_auto: BTreeSet<String>,
    refusals: Refusals,
    ignored: Vec<String>,
}

impl Validator<'_> {
    fn unsupported(&mut self, name: &str, problem: &str) -> Result<(), ApiError> {
        self.refusals.refuse(name, unsupported(name, problem))
    }

    /// Says how the operator could allow a parameter that this upstream API lacks; empty where no setting would.
    fn hint(&self, name: &str) -> String {
        if self.need_auto.contains(name) {
            let name = self.api_kind.name();
            format!(
                " while this gateway sends every request to the upstream API '{name}'; its operator can allow it with \
                 upstream.api = \"auto\""
            )
        } else {
            String::new()
        }
    }

    /// Refuses parameters that need the pictures inline when these are addresses; where the operator has them dropped,
    /// removes them.
    fn require_files(&mut self, names: Vec<String>, mut mask: Option<Input>) -> Result<Option<Input>, ApiError> {
        for name in names {
            let problem = format!(
                "is not supported with the model '{}' when pictures are http(s) addresses; send the pictures themselves",
                self.model.id
            );
            self.unsupported(&name, &problem)?;
            if name == "mask" {
                mask = None;
            }
            self.scalars.remove(&name);
        }
        Ok(mask)
    }

    fn text(&self, name: &'static str) -> Result<Option<String>, ApiError> {
        Ok(text(&self.scalars, name)?.map(str::to_owned))
    }

    /// Reads a text of a closed list.
    fn one_of(&mut self, name: &'static str, allowed: &[&str]) -> Result<Option<String>, ApiError> {
        match self.text(name)? {
            Some(got) if !allowed.contains(&got.as_str()) => {
                let allowed = allowed.iter().map(|&value| value.to_owned()).collect();
                self.refusals.refuse(name, ApiError::InvalidValue { param: name.to_owned(), got, allowed })?;
                Ok(None)
            }
            value => Ok(value),
        }
    }

    fn bounded_text(&self, name: &'static str, max: usize) -> Result<Option<String>, ApiError> {
        match self.text(name)? {
            Some(text) if text.chars().count() > max => {
                Err(ApiError::TextTooLong { param: name.to_owned(), unit: "characters", max })
            }
            value => Ok(value),
        }
    }

    fn prompt(&self) -> Result<String, ApiError> {
        let prompt = match self.scalars.get("prompt") {
            None => return Err(ApiError::MissingParameter { param: "prompt" }),
            Some(Scalar::Text(prompt)) => prompt,
            Some(other) => return Err(values::wrong_type("prompt", "a string", other)),
        };
        // Browsers and Node send a newline in a form as CRLF; it is the same prompt.
        let prompt = prompt.replace("\r\n", "\n");
        if prompt.trim().is_empty() {
            return Err(ApiError::MissingParameter { param: "prompt" });
        }
        let max = self.model.parameters.prompt_chars_max;
        if prompt.chars().count() > max {
            return Err(ApiError::TextTooLong { param: "prompt".to_owned(), unit: "characters", max });
        }
        Ok(prompt)
    }

    fn n(&self) -> Result<u8, ApiError> {
        let n = integer(&self.scalars, "n", 1, N_MAX)?.unwrap_or(1);
        Ok(u8::try_from(n).expect("between 1 and 10"))
    }

    /// Returns the size, and whether the client named it exactly.
    fn size(&mut self, others: &[Alias], first: Option<&Input>) -> Result<(Size, bool), ApiError> {
        let Self { scalars, model, capabilities, refusals, .. } = self;
        let requested = RequestedShape::read(scalars, others, model, *capabilities, refusals)?;
        let size = requested.size(model, *capabilities, first.and_then(pictures::dimensions), refusals)?;
        Ok((size, requested.is_exact()))
    }

    /// Returns the names of the parameters that have a value, and not `auto`.
    fn explicit(&mut self, has_exact_size: bool) -> BTreeSet<String> {
        let Self { scalars, refusals, .. } = self;
        let is_auto = |value: &Scalar| matches!(value, Scalar::Text(text) if text == "auto");
        let named = |(name, value): (String, Scalar)| {
            // A ratio leaves the size itself to the gateway.
            let is_named = name != "size" && !is_auto(&value) && !refusals.has_dropped(&name);
            is_named.then_some(name)
        };
        let size = has_exact_size.then(|| "size".to_owned());
        std::mem::take(scalars).into_iter().filter_map(named).chain(size).collect()
    }

    /// Reads the parameters with listed values: those of this upstream API, and those that only others offer.
    fn choices(&mut self) -> Result<Choices, ApiError> {
        let mut choices = Choices::default();
        for (name, choice) in self.capabilities.choices() {
            let requested = text(&self.scalars, name)?.filter(|&value| value != "auto");
            let mut value = requested.map_or(choice.auto.as_str(), |value| modern(name, value));
            if !choice.values.iter().any(|known| known == value) {
                let hint = self.hint(name);
                // A value that another upstream API or model offers is no mistake.
                let refusal = if hint.is_empty() && !matches!((name.as_str(), value), ("background", "transparent")) {
                    let auto = Some("auto".to_owned()).filter(|auto| !choice.values.contains(auto));
                    ApiError::InvalidValue {
                        param: name.clone(),
                        got: value.to_owned(),
                        allowed: choice.values.iter().cloned().chain(auto).collect(),
                    }
                } else {
                    let problem =
                        format!("with the value '{value}' is not supported with the model '{}'{hint}", self.model.id);
                    unsupported(name, &problem)
                };
                self.refusals.refuse(name, refusal)?;
                value = &choice.auto;
            }
            // A parameter that only this upstream API offers is recorded only where it is not at its default: the
            // fingerprint of a request must not depend on its upstream API.
            if self.model.parameters.choices.contains_key(name) || value != choice.auto {
                choices.set(name, value);
            }
        }
        for (name, harmless) in [("quality", &["auto"][..]), ("background", &["auto", "opaque"])] {
            if self.is_choice(name) {
                continue;
            }
            if let Some(value) = self.text(name)?
                && !harmless.contains(&value.as_str())
            {
                let hint = self.hint(name);
                let problem =
                    format!("is not supported with the model '{}'{hint}; leave it out or send 'auto'", self.model.id);
                self.unsupported(name, &problem)?;
            }
        }
        Ok(choices)
    }

    /// Whether the catalogue lists the values of this parameter.
    fn is_choice(&self, name: &str) -> bool {
        self.capabilities.choice(name).is_some()
    }
}

fn unsupported(name: &str, problem: &str) -> ApiError {
    ApiError::UnsupportedParameter { param: name.to_owned(), problem: problem.to_owned().into() }
}

#[cfg(test)]
mod tests;
