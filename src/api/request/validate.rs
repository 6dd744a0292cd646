//! Validates a form against its model: every value becomes explicit, and every refusal comes before anything is bought.
//!
//! A parameter that the model does not support is refused by name, or dropped and named where the operator says so
//! (`server.unsupported_parameters`). `model`, the input pictures, and parameters that decide the
//! shape of the response are never dropped.

use std::collections::{BTreeMap, BTreeSet};

use super::available_models::AvailableModels;
use super::body::form::{Form, Scalar};
use super::response_options::{Conversion, ResponseFormat, ResponseOptions};
use crate::api::error::ApiError;
use crate::config::{RequestConfig, UnsupportedParameters};
use crate::model::{ApiKind, Capabilities, Choices, Format, Input, Model, PictureRequest, Size, Task};

mod api_choice;
mod pictures;
mod values;

use api_choice::{ChosenApi, RequestedFeatures};
use values::{boolean, integer, modern, text};

/// A request that can be bought, and how its response is to look.
#[derive(Debug)]
pub(crate) struct ValidRequest {
    pub(crate) request: PictureRequest,
    pub(crate) options: ResponseOptions,
    /// Where the client wants to be notified of the end.
    pub(crate) webhook_url: Option<String>,
    /// Parameters that are not honoured; only with `server.unsupported_parameters = "drop"`.
    pub(crate) dropped: Vec<String>,
    /// Parameters that are ignored, for the log.
    pub(crate) ignored: Vec<String>,
}

const N_MAX: i64 = 10;
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
    models: AvailableModels<'_>,
) -> Result<ValidRequest, ApiError> {
    let Form { scalars, images, mask, misplaced, unknown } = form;
    let model = models.find(text(&scalars, "model")?, task)?;
    let features = RequestedFeatures::of(model, &scalars, &images, mask.as_ref());
    let chosen = api_choice::choose(model, task, models.api_kinds, &features).ok_or_else(|| lacks_task(model, task))?;
    let ChosenApi { api_kind, capabilities, need_files, need_auto } = chosen;
    let is_explicit = |value: &Scalar| !matches!(value, Scalar::Text(text) if text == "auto");
    let explicit = scalars.iter().filter(|(_, value)| is_explicit(value)).map(|(name, _)| name.clone()).collect();
    let mut validator = Validator {
        scalars,
        model,
        api_kind,
        capabilities,
        need_auto,
        policy: requests.unsupported_parameters,
        dropped: Vec::new(),
        ignored: unknown.into_iter().collect(),
    };
    let mask = validator.require_files(need_files, mask)?;
    let prompt = validator.prompt()?;
    let n = validator.n()?;
    let choices = validator.choices()?;
    let conversion = validator.output(&choices)?;
    validator.defaults_only()?;
    let options = validator.options(conversion)?;
    let webhook_url = validator.text("webhook_url")?;
    for name in misplaced {
        validator.unsupported(name, "is not supported here")?;
    }
    if task == Task::Edit {
        pictures::check_images(&images, model, api_kind, capabilities, requests)?;
    }
    let mask = match mask {
        Some(mask) if capabilities.mask => {
            pictures::check_mask(&mask, images.first(), model, requests)?;
            match pictures::marks_nothing(&mask, requests) {
                Some(refusal) => {
                    validator.refuse("mask", refusal)?;
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
    let size = validator.size(images.first())?;
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
        dropped: validator.dropped,
        ignored: validator.ignored,
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
    policy: UnsupportedParameters,
    dropped: Vec<String>,
    ignored: Vec<String>,
}

impl Validator<'_> {
    /// Refuses a parameter that cannot be honoured, or drops it, as the operator decided.
    fn refuse(&mut self, name: &str, refusal: ApiError) -> Result<(), ApiError> {
        match self.policy {
            UnsupportedParameters::Refuse => Err(refusal),
            UnsupportedParameters::Drop => {
                self.dropped.push(name.to_owned());
                Ok(())
            }
        }
    }

    fn unsupported(&mut self, name: &str, problem: &str) -> Result<(), ApiError> {
        self.refuse(name, unsupported(name, problem))
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
        text(&self.scalars, name)
    }

    /// Reads a text of a closed list.
    fn one_of(&self, name: &'static str, allowed: &[&str]) -> Result<Option<String>, ApiError> {
        match self.text(name)? {
            Some(got) if !allowed.contains(&got.as_str()) => Err(ApiError::InvalidValue {
                param: name.to_owned(),
                got,
                allowed: allowed.iter().map(|&value| value.to_owned()).collect(),
            }),
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

    fn size(&self, first: Option<&Input>) -> Result<Size, ApiError> {
        let rule = self.capabilities.size;
        let Some(requested) = self.text("size")?.filter(|size| size != "auto") else {
            return Ok(rule.auto_for(first.and_then(pictures::dimensions)));
        };
        let Ok(size) = requested.parse() else {
            let listed = rule.values.iter().map(ToString::to_string);
            return Err(ApiError::InvalidValue {
                param: "size".to_owned(),
                got: requested,
                allowed: listed.chain(["auto".to_owned()]).collect(),
            });
        };
        rule.check(size).map_err(ApiError::BadSize)?;
        Ok(size)
    }

    /// Reads the parameters with listed values: those of this upstream API, and those that only others offer.
    fn choices(&mut self) -> Result<Choices, ApiError> {
        let mut choices = Choices::default();
        for (name, choice) in self.capabilities.choices() {
            let requested = text(&self.scalars, name)?.filter(|value| value != "auto");
            let mut value = requested.as_deref().map_or(choice.auto.as_str(), |value| modern(name, value));
            if !choice.values.iter().any(|known| known == value) {
                let hint = self.hint(name);
                // A value that another upstream API or model offers is no mistake.
                if hint.is_empty() && !matches!((name.as_str(), value), ("background", "transparent")) {
                    let auto = Some("auto".to_owned()).filter(|auto| !choice.values.contains(auto));
                    return Err(ApiError::InvalidValue {
                        param: name.clone(),
                        got: requested.unwrap_or_default(),
                        allowed: choice.values.iter().cloned().chain(auto).collect(),
                    });
                }
                let problem =
                    format!("with the value '{value}' is not supported with the model '{}'{hint}", self.model.id);
                self.unsupported(name, &problem)?;
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

    /// Reads the output format, which the gateway makes itself: it is no part of the purchase.
    fn output(&mut self, choices: &Choices) -> Result<Option<Conversion>, ApiError> {
        let requested = match choices.get("output_format") {
            // The model makes it itself, and still may return another format.
            Some(chosen) => Some(chosen.to_owned()),
            None => self.text("output_format")?,
        };
        let format = match requested.as_deref() {
            None | Some("auto") => None,
            Some(name @ ("gif" | "svg")) => {
                let problem = format!("with the value '{name}' is not supported; ask for 'png', 'jpeg' or 'webp'");
                self.unsupported("output_format", &problem)?;
                None
            }
            Some(name) => {
                let unknown = || ApiError::InvalidValue {
                    param: "output_format".to_owned(),
                    got: name.to_owned(),
                    allowed: ["png", "jpeg", "webp", "auto"].map(str::to_owned).into(),
                };
                Some(Format::from_name(name).ok_or_else(unknown)?)
            }
        };
        let transparent = self.text("background")?.as_deref() == Some("transparent");
        if format == Some(Format::Jpeg) && transparent && !self.dropped.iter().any(|name| name == "background") {
            // A contradiction within the request, which dropping a parameter does not resolve.
            let problem = "'transparent' needs an output_format that has transparency ('png' or 'webp'), not 'jpeg'";
            return Err(ApiError::Unacceptable { param: "background", problem: problem.into() });
        }
        let compression = if self.is_choice("output_compression") {
            None
        } else {
            integer(&self.scalars, "output_compression", 0, 100)?.and_then(|value| u8::try_from(value).ok())
        };
        match (format, compression) {
            (Some(format @ (Format::Jpeg | Format::Webp)), compression) => {
                Ok(Some(Conversion::new(format, compression)))
            }
            (Some(Format::Png) | None, Some(compression)) if compression < 100 => {
                let problem = "below 100 is not supported with the output_format 'png'; ask for 'jpeg' or 'webp'";
                self.unsupported("output_compression", problem)?;
                Ok(format.map(|format| Conversion::new(format, None)))
            }
            (format, _) => Ok(format.map(|format| Conversion::new(format, None))),
        }
    }

    /// Checks OpenAI's parameters of which the upstream supports only the default.
    fn defaults_only(&mut self) -> Result<(), ApiError> {
        if !self.is_choice("moderation") && self.one_of("moderation", &["auto", "low"])?.as_deref() == Some("low") {
            let hint = self.hint("moderation");
            let problem = format!("with the value 'low' is not supported{hint}; leave it out or send 'auto'");
            self.unsupported("moderation", &problem)?;
        }
        if !self.is_choice("input_fidelity")
            && self.one_of("input_fidelity", &["low", "high"])?.as_deref() == Some("high")
        {
            let (model, hint) = (self.model.id.clone(), self.hint("input_fidelity"));
            self.refuse("input_fidelity", ApiError::UnsupportedInputFidelity { model: model.to_string(), hint })?;
        }
        for name in ["complexity", "frame_count", "frame_duration_ms", "svg"] {
            if self.scalars.contains_key(name) && !self.is_choice(name) {
                self.unsupported(name, "is not supported by this gateway")?;
            }
        }
        if self.scalars.contains_key("style") && !self.is_choice("style") {
            self.ignored.push("style".to_owned());
        }
        // Fewer partial pictures than requested are legal; the upstream makes none.
        integer(&self.scalars, "partial_images", 0, PARTIAL_IMAGES_MAX)?;
        Ok(())
    }

    fn options(&self, conversion: Option<Conversion>) -> Result<ResponseOptions, ApiError> {
        let response_format = match self.one_of("response_format", &["url", "b64_json"])?.as_deref() {
            Some("url") => ResponseFormat::Url,
            _ => ResponseFormat::B64Json,
        };
        let stream = boolean(&self.scalars, "stream")?.unwrap_or(false);
        if stream && response_format == ResponseFormat::Url {
            let problem = "with the value 'url' is not supported together with 'stream': events carry 'b64_json'";
            return Err(unsupported("response_format", problem));
        }
        Ok(ResponseOptions {
            response_format,
            conversion,
            stream,
            user: self.bounded_text("user", USER_CHARS_MAX)?,
            safety_identifier: self.bounded_text("safety_identifier", SAFETY_IDENTIFIER_CHARS_MAX)?,
        })
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
