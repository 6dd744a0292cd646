//! The format of the result, the options of the response, and OpenAI's parameters of which only the default can be had.

use super::values::{boolean, integer};
use super::{PARTIAL_IMAGES_MAX, SAFETY_IDENTIFIER_CHARS_MAX, USER_CHARS_MAX, Validator};
use crate::api::error::ApiError;
use crate::api::request::response_options::{Conversion, ResponseFormat, ResponseOptions};
use crate::config::DefaultResponseFormat;
use crate::model::{Choices, Format};

impl Validator<'_> {
    /// Reads the output format, which the gateway makes itself: it is no part of the purchase.
    pub(super) fn output(&mut self, choices: &Choices) -> Result<Option<Conversion>, ApiError> {
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
                let format = Format::from_name(name);
                if format.is_none() {
                    let refusal = ApiError::InvalidValue {
                        param: "output_format".to_owned(),
                        got: name.to_owned(),
                        allowed: ["png", "jpeg", "webp", "auto"].map(str::to_owned).into(),
                    };
                    self.refusals.refuse("output_format", refusal)?;
                }
                format
            }
        };
        let transparent = self.text("background")?.as_deref() == Some("transparent");
        if format == Some(Format::Jpeg) && transparent && !self.refusals.has_dropped("background") {
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
    pub(super) fn defaults_only(&mut self) -> Result<(), ApiError> {
        if !self.is_choice("moderation") && self.one_of("moderation", &["auto", "low"])?.as_deref() == Some("low") {
            let hint = self.hint("moderation");
            let problem = format!("with the value 'low' is not supported{hint}; leave it out or send 'auto'");
            self.unsupported("moderation", &problem)?;
        }
        if !self.is_choice("input_fidelity")
            && self.one_of("input_fidelity", &["low", "high"])?.as_deref() == Some("high")
        {
            let (model, hint) = (self.model.id.clone(), self.hint("input_fidelity"));
            self.refusals
                .refuse("input_fidelity", ApiError::UnsupportedInputFidelity { model: model.to_string(), hint })?;
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

    pub(super) fn options(
        &mut self,
        default: DefaultResponseFormat,
        conversion: Option<Conversion>,
    ) -> Result<ResponseOptions, ApiError> {
        let stream = boolean(&self.scalars, "stream")?.unwrap_or(false);
        let response_format = match self.one_of("response_format", &["url", "b64_json"])?.as_deref() {
            Some("url") if stream => {
                let problem = "with the value 'url' is not supported together with 'stream': events carry 'b64_json'";
                self.unsupported("response_format", problem)?;
                ResponseFormat::B64Json
            }
            Some("url") => ResponseFormat::Url,
            None if default == DefaultResponseFormat::Url && !stream => ResponseFormat::Url,
            Some(_) | None => ResponseFormat::B64Json,
        };
        Ok(ResponseOptions {
            response_format,
            conversion,
            stream,
            user: self.bounded_text("user", USER_CHARS_MAX)?,
            safety_identifier: self.bounded_text("safety_identifier", SAFETY_IDENTIFIER_CHARS_MAX)?,
        })
    }
}
