//! A form against its model: every value explicit, every refusal before anything is bought.
//!
//! A parameter that the model cannot honour is refused by name, or dropped and named where the operator says so
//! (`server.unsupported_parameters`). Never dropped are `model`, the input pictures, and what the answer's form depends on.

use std::collections::{BTreeMap, BTreeSet};

use super::conversion::Conversion;
use super::error::ApiError;
use super::form::{Form, Scalar};
use super::offer::Offer;
use crate::config::{ServerConfig, UnsupportedParameters};
use crate::model::{ApiKind, Capabilities, Format, Input, Model, PictureRequest, Size, Task};

mod pictures;
mod route;
mod values;

use route::{Chosen, QueuedSubmit};
use values::{integer, text, truth};

/// A request that can be bought, and how its answer is to look.
#[derive(Debug)]
pub(super) struct Checked {
    pub(super) request: PictureRequest,
    pub(super) presentation: Presentation,
    /// Where the client wants to be told of the end.
    pub(super) webhook_url: Option<String>,
    /// Parameters that were asked for and will not be honoured; only with `server.unsupported_parameters = "drop"`.
    pub(super) dropped: Vec<String>,
    /// Parameters that mean nothing here, to be logged.
    pub(super) ignored: Vec<String>,
}

/// What of a request concerns only its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Presentation {
    pub(super) response_format: ResponseFormat,
    /// What the pictures are converted to; `None` where they may stay what they are.
    pub(super) conversion: Option<Conversion>,
    /// As server-sent events.
    pub(super) stream: bool,
    pub(super) user: Option<String>,
    pub(super) safety_identifier: Option<String>,
}

/// How the pictures travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ResponseFormat {
    B64Json,
    Url,
}

const N_MAX: i64 = 10;
const PARTIAL_IMAGES_MAX: i64 = 3;
const USER_CHARS_MAX: usize = 512;
const SAFETY_IDENTIFIER_CHARS_MAX: usize = 128;

/// Checks a form.
///
/// # Errors
///
/// The first thing that is wrong, naming the parameter and what is allowed.
pub(super) fn check(form: Form, task: Task, server: &ServerConfig, offer: Offer<'_>) -> Result<Checked, ApiError> {
    let Form { scalars, images, mask, misplaced, unknown } = form;
    let model = offer.find(text(&scalars, "model")?, task)?;
    let submit = QueuedSubmit::of(model, &scalars, &images, mask.as_ref());
    let chosen = route::choose(model, task, offer.routes, &submit).ok_or_else(|| lacks_task(model, task))?;
    let Chosen { route, terms, need_files, need_auto } = chosen;
    let mut check = Check {
        scalars,
        model,
        route,
        terms,
        need_auto,
        policy: server.unsupported_parameters,
        dropped: Vec::new(),
        ignored: unknown.into_iter().collect(),
    };
    let mask = check.files_needed(need_files, mask)?;
    let prompt = check.prompt()?;
    let n = check.n()?;
    let choices = check.choices()?;
    let conversion = check.output(&choices)?;
    check.defaults_only()?;
    let presentation = check.presentation(conversion)?;
    let webhook_url = check.text("webhook_url")?;
    for name in misplaced {
        check.unsupported(name, "is not supported here")?;
    }
    if task == Task::Edit {
        pictures::check_images(&images, model, route, terms, server)?;
    }
    let mask = match mask {
        Some(mask) if terms.mask => {
            pictures::check_mask(&mask, images.first(), model, server)?;
            Some(mask)
        }
        Some(_) => {
            let hint = check.hint("mask");
            check.unsupported("mask", &format!("is not supported with the model '{}'{hint}", model.id))?;
            None
        }
        None => None,
    };
    let size = check.size(images.first())?;
    Ok(Checked {
        request: PictureRequest {
            task,
            model: model.id.clone(),
            prompt,
            inputs: images,
            mask,
            n,
            size,
            choices,
            api_kind: route,
        },
        presentation,
        webhook_url,
        dropped: check.dropped,
        ignored: check.ignored,
    })
}

/// No route that the operator allows has the model for this task.
fn lacks_task(model: &Model, task: Task) -> ApiError {
    let routes = [ApiKind::Prediction, ApiKind::OpenAi, ApiKind::Unified];
    let elsewhere = routes.into_iter().find(|&route| model.is_offered(&[route], task)).map(|route| {
        let route = route.name();
        format!("The operator of this gateway has chosen another way to it than upstream.api = \"{route}\".")
    });
    ApiError::ModelLacksTask { model: model.id.to_string(), task: task.name(), note: model.note.clone().or(elsewhere) }
}

/// A check under way.
#[derive(Debug)]
struct Check<'a> {
    scalars: BTreeMap<String, Scalar>,
    model: &'a Model,
    route: ApiKind,
    /// What the route takes.
    terms: Capabilities<'a>,
    /// Parameters that `upstream.api = "auto"` would allow.
    need_auto: BTreeSet<String>,
    policy: UnsupportedParameters,
    dropped: Vec<String>,
    ignored: Vec<String>,
}

impl Check<'_> {
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

    /// How the operator could allow a parameter that this route lacks; empty where nothing would.
    fn hint(&self, name: &str) -> String {
        if self.need_auto.contains(name) {
            let route = self.route.name();
            format!(
                " while this gateway takes the route '{route}' for every request; its operator can allow it with \
                 upstream.api = \"auto\""
            )
        } else {
            String::new()
        }
    }

    /// Refuses what could be had if the pictures were no addresses. Where it is dropped instead, nothing is left of it.
    fn files_needed(&mut self, names: Vec<String>, mut mask: Option<Input>) -> Result<Option<Input>, ApiError> {
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

    /// A text of a closed list.
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
        let rule = self.terms.size;
        let Some(submit) = self.text("size")?.filter(|size| size != "auto") else {
            return Ok(rule.auto_for(first.and_then(pictures::dimensions)));
        };
        let Ok(size) = submit.parse() else {
            let listed = rule.values.iter().map(ToString::to_string);
            return Err(ApiError::InvalidValue {
                param: "size".to_owned(),
                got: submit,
                allowed: listed.chain(["auto".to_owned()]).collect(),
            });
        };
        rule.check(size).map_err(ApiError::BadSize)?;
        Ok(size)
    }

    /// The choices the route has, and those that others have.
    fn choices(&mut self) -> Result<BTreeMap<String, String>, ApiError> {
        let mut choices = BTreeMap::new();
        for (name, choice) in self.terms.choices() {
            let submit = text(&self.scalars, name)?.filter(|value| value != "auto");
            let mut value = submit.as_deref().map_or(choice.auto.as_str(), |submit| modern(name, submit));
            if !choice.values.iter().any(|known| known == value) {
                let hint = self.hint(name);
                // A value that another route or model has is no mistake.
                if hint.is_empty() && !matches!((name.as_str(), value), ("background", "transparent")) {
                    let auto = Some("auto".to_owned()).filter(|auto| !choice.values.contains(auto));
                    return Err(ApiError::InvalidValue {
                        param: name.clone(),
                        got: submit.unwrap_or_default(),
                        allowed: choice.values.iter().cloned().chain(auto).collect(),
                    });
                }
                let problem =
                    format!("with the value '{value}' is not supported with the model '{}'{hint}", self.model.id);
                self.unsupported(name, &problem)?;
                value = &choice.auto;
            }
            // What only this route has is part of the wish where it is not at its default: the same wish by another
            // route stays the same.
            if self.model.parameters.choices.contains_key(name) || value != choice.auto {
                choices.insert(name.clone(), value.to_owned());
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

    /// What the pictures are to be encoded as, which the gateway does itself: the purchase knows nothing of it.
    fn output(&mut self, choices: &BTreeMap<String, String>) -> Result<Option<Conversion>, ApiError> {
        let submit = match choices.get("output_format") {
            // What the model makes itself, it may still make otherwise.
            Some(chosen) => Some(chosen.clone()),
            None => self.text("output_format")?,
        };
        let format = match submit.as_deref() {
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
            // A contradiction within the request, which nothing that is dropped could resolve.
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

    /// Parameters of OpenAI's of which this upstream only does the default.
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
        // Fewer partial pictures than asked for are legal; this upstream makes none.
        integer(&self.scalars, "partial_images", 0, PARTIAL_IMAGES_MAX)?;
        Ok(())
    }

    fn presentation(&self, conversion: Option<Conversion>) -> Result<Presentation, ApiError> {
        let response_format = match self.one_of("response_format", &["url", "b64_json"])?.as_deref() {
            Some("url") => ResponseFormat::Url,
            _ => ResponseFormat::B64Json,
        };
        let stream = truth(&self.scalars, "stream")?.unwrap_or(false);
        if stream && response_format == ResponseFormat::Url {
            let problem = "with the value 'url' is not supported together with 'stream': events carry 'b64_json'";
            return Err(unsupported("response_format", problem));
        }
        Ok(Presentation {
            response_format,
            conversion,
            stream,
            user: self.bounded_text("user", USER_CHARS_MAX)?,
            safety_identifier: self.bounded_text("safety_identifier", SAFETY_IDENTIFIER_CHARS_MAX)?,
        })
    }

    /// Whether the catalogue lists values for this parameter, which then rule.
    fn is_choice(&self, name: &str) -> bool {
        self.terms.choice(name).is_some()
    }
}

fn unsupported(name: &str, problem: &str) -> ApiError {
    ApiError::UnsupportedParameter { param: name.to_owned(), problem: problem.to_owned().into() }
}

/// Today's word for a value of the dall-e days.
fn modern<'a>(name: &str, value: &'a str) -> &'a str {
    match (name, value) {
        ("quality", "standard") => "medium",
        ("quality", "hd") => "high",
        _ => value,
    }
}

#[cfg(test)]
mod tests;
