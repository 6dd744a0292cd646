//! A request for pictures, as it is sent: a form with files for an edit, JSON for a generation.

use std::path::PathBuf;

use reqwest::RequestBuilder;
use reqwest::multipart::{Form, Part};
use serde_json::{Map, Value};

use super::arguments::{FileFormat, RequestArguments};
use super::inputs::Inputs;

/// A request for pictures. It can be sent several times.
#[derive(Debug)]
pub(super) struct PictureForm {
    files: Vec<PathBuf>,
    mask: Option<PathBuf>,
    /// Parameters with their values, without those that are left to the server.
    fields: Vec<(&'static str, String)>,
    n: u8,
    is_fresh: bool,
}

impl PictureForm {
    pub(super) fn new(inputs: Inputs, request: &RequestArguments) -> Self {
        let Inputs { files, mask, prompt } = inputs;
        let RequestArguments { model, size, quality, background, n, fresh, format: _ } = request;
        let optional = [("model", model), ("size", size), ("quality", quality), ("background", background)];
        let optional = optional.into_iter().filter_map(|(name, value)| Some((name, value.clone()?)));
        let fields = [("prompt", prompt)].into_iter().chain(optional).collect();
        Self { files, mask, fields, n: *n, is_fresh: *fresh }
    }

    /// Asks for an encoding; `None` leaves it to the server.
    pub(super) fn with_format(mut self, format: Option<FileFormat>) -> Self {
        // PNG is the default of every server.
        let format = format.filter(|format| *format != FileFormat::Png);
        self.fields.extend(format.map(|format| ("output_format", format.name().to_owned())));
        self
    }

    /// Whether an earlier result is refused.
    pub(super) fn is_fresh(&self) -> bool {
        self.is_fresh
    }

    /// Returns the route, relative to the base address.
    pub(super) fn path(&self) -> &'static str {
        if self.files.is_empty() { "images/generations" } else { "images/edits" }
    }

    /// Adds the body to a request. A gateway is asked for the bytes themselves; `OpenAI` refuses that parameter.
    ///
    /// # Errors
    ///
    /// When a file cannot be read any more.
    pub(super) async fn fill(&self, request: RequestBuilder, is_gateway: bool) -> Result<RequestBuilder, String> {
        let bytes_themselves = is_gateway.then(|| ("response_format", "b64_json".to_owned()));
        let fields = self.fields.iter().cloned().chain(bytes_themselves);
        if self.files.is_empty() {
            let mut body: Map<String, Value> =
                fields.map(|(name, value)| (name.to_owned(), Value::String(value))).collect();
            if self.n > 1 {
                body.insert("n".to_owned(), Value::from(self.n));
            }
            let body = Value::Object(body).to_string();
            return Ok(request.header(reqwest::header::CONTENT_TYPE, "application/json").body(body));
        }
        let mut form = fields.fold(Form::new(), |form, (name, value)| form.text(name, value));
        if self.n > 1 {
            form = form.text("n", self.n.to_string());
        }
        let name = if self.files.len() == 1 { "image" } else { "image[]" };
        let files = self.files.iter().map(|file| (name, file)).chain(self.mask.iter().map(|mask| ("mask", mask)));
        for (name, file) in files {
            let part = Part::file(file).await.map_err(|error| format!("{}: {error}", file.display()))?;
            form = form.part(name, part);
        }
        Ok(request.multipart(form))
    }
}
