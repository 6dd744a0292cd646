//! What a client sent, in either encoding: the common result of the multipart and the JSON reader.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::api::error::ApiError;
use crate::config::BodyConfig;
use crate::model::{Catalogue, Input, Task};
use names::{ImageName, PictureName, nearest_known, picture_name};

pub(crate) use names::image_name;

pub(crate) mod names;

pub(crate) mod aliases;

/// A request before it is checked against a model.
#[derive(Clone, Debug, Default)]
pub(crate) struct Form {
    pub(crate) scalars: BTreeMap<String, Scalar>,
    /// In the client's order.
    pub(crate) images: Vec<Input>,
    pub(crate) mask: Option<Input>,
    /// What may change the picture and cannot be used, by its name, with the problem as the end of a sentence that begins with
    /// the name.
    pub(crate) misplaced: BTreeMap<String, String>,
    /// Names that are not known.
    pub(crate) unknown: BTreeSet<String>,
    /// Names of other APIs, with the name of OpenAI's that they stand for.
    pub(crate) renamed: BTreeMap<String, &'static str>,
}

/// One value as the client wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Scalar {
    /// Any value of a multipart form, and the strings of a JSON body.
    Text(String),
    /// A number of a JSON body, as it was written.
    Number(String),
    Bool(bool),
    Array,
    Object,
}

impl Scalar {
    /// Names the type, for error messages.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) => "a string",
            Self::Number(_) => "a number",
            Self::Bool(_) => "a boolean",
            Self::Array => "an array",
            Self::Object => "an object",
        }
    }
}

/// The scalar parameters of OpenAI's image API, current and retired, and the gateway's own (`webhook_url`).
const SCALARS: [&str; 20] = [
    "background",
    "complexity",
    "frame_count",
    "frame_duration_ms",
    "input_fidelity",
    "model",
    "moderation",
    "n",
    "output_compression",
    "output_format",
    "partial_images",
    "prompt",
    "quality",
    "response_format",
    "safety_identifier",
    "size",
    "stream",
    "style",
    "user",
    "webhook_url",
];

/// What the name of a form field stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FieldKind<'a> {
    Image(ImageName),
    Mask,
    /// A picture that no task takes.
    Misplaced(&'static str),
    Scalar(&'a str),
    /// An object whose members count as if they stood beside it: some clients write what their SDK does not know there.
    Members,
    Unknown,
}

/// Longest unknown name that is logged, in characters.
const NAME_CHARS_MAX: usize = 64;

/// The limits of a body while its model is not known yet: the widest of all models. Built once for each task; cheap to
/// clone.
#[derive(Clone, Debug)]
pub(crate) struct FormLimits {
    pub(crate) task: Task,
    /// The scalars, by their names without what separates words.
    names: Arc<BTreeMap<String, String>>,
    pub(crate) parts_max: usize,
    pub(crate) text_bytes_max: usize,
    pub(crate) image_bytes_max: u64,
    images_max: usize,
    pub(crate) json_depth_max: u32,
}

impl FormLimits {
    pub(crate) fn new(task: Task, bodies: &BodyConfig, catalogue: &Catalogue) -> Self {
        let parameters = || catalogue.models.iter().map(|model| &model.parameters);
        let choices = catalogue.models.iter().flat_map(|model| model.choice_names().cloned());
        Self {
            task,
            names: Arc::new(
                SCALARS
                    .into_iter()
                    .map(str::to_owned)
                    .chain(choices)
                    .filter_map(|name| Some((aliases::plain_name(&name)?.into_owned(), name)))
                    .collect(),
            ),
            json_depth_max: bodies.json_depth_max,
            parts_max: bodies.form_parts_max,
            text_bytes_max: bodies.text_bytes_max,
            image_bytes_max: parameters().map(|parameters| parameters.image_bytes_max).max().unwrap_or(0),
            images_max: parameters().map(|parameters| parameters.images_max).max().unwrap_or(0),
        }
    }

    /// Checks that an image may be read behind `count` others.
    ///
    /// # Errors
    ///
    /// [`ApiError::TooManyImages`], beyond the maximum of all models.
    pub(crate) fn expect_image(&self, count: usize) -> Result<(), ApiError> {
        if count >= self.images_max { Err(ApiError::TooManyImages { max: self.images_max }) } else { Ok(()) }
    }

    /// Returns the largest number of images that any model takes.
    pub(crate) fn images_max(&self) -> usize {
        self.images_max
    }

    /// Returns what a name stands for; both tasks take the same names.
    pub(crate) fn field_kind<'a>(&'a self, name: &'a str) -> FieldKind<'a> {
        match name.split('[').next().unwrap_or(name) {
            "markup" => return FieldKind::Misplaced("markup"),
            "svg" => return FieldKind::Scalar("svg"),
            "image" if matches!(name, "image" | "image[]") && !self.names.contains_key("image") => {
                return FieldKind::Image(ImageName::PLAIN);
            }
            "extra_body" | "extra_json" => return FieldKind::Members,
            _ => {}
        }
        if SCALARS.contains(&name) || aliases::find(name).is_some() {
            return FieldKind::Scalar(name);
        }
        if let Some(known) = self.scalar(name) {
            return FieldKind::Scalar(known);
        }
        match picture_name(name) {
            Some(PictureName::Image(image)) => FieldKind::Image(image),
            Some(PictureName::Mask) => FieldKind::Mask,
            None => FieldKind::Unknown,
        }
    }

    /// Returns the name of a scalar in OpenAI's spelling: letter case makes no difference, nor does what separates words.
    fn scalar(&self, name: &str) -> Option<&str> {
        // Brackets are those of a list or an object.
        let plain = (!name.contains(['[', '.'])).then(|| aliases::plain_name(name)).flatten()?;
        self.names.get(&*plain).map(String::as_str)
    }
}

/// Returns the name of a parameter as a constant.
pub(crate) fn static_name(name: &str) -> Option<&'static str> {
    SCALARS.into_iter().find(|known| *known == name).or_else(|| aliases::find(name).map(|(_, name, _)| name))
}

impl Form {
    /// Adds a scalar. An empty text counts as absent, the same value twice as one.
    ///
    /// # Errors
    ///
    /// [`ApiError::DuplicateParameter`] for a second, different value.
    pub(crate) fn add_scalar(&mut self, name: &str, value: Scalar) -> Result<(), ApiError> {
        if value == Scalar::Text(String::new()) {
            return Ok(());
        }
        // Nested and never honoured, so its members do not matter.
        if name == "svg" {
            self.scalars.insert(name.to_owned(), Scalar::Object);
            return Ok(());
        }
        match self.scalars.get(name) {
            Some(known) if *known != value => Err(ApiError::DuplicateParameter { param: name.to_owned() }),
            Some(_) => Ok(()),
            None => {
                self.scalars.insert(name.to_owned(), value);
                Ok(())
            }
        }
    }

    /// Adds the mask; the same one twice counts as one.
    ///
    /// # Errors
    ///
    /// [`ApiError::DuplicateParameter`] for a second, different one.
    pub(crate) fn add_mask(&mut self, mask: Input) -> Result<(), ApiError> {
        match &self.mask {
            Some(known) if known.fingerprint_bytes() != mask.fingerprint_bytes() => {
                Err(ApiError::DuplicateParameter { param: "mask".to_owned() })
            }
            Some(_) | None => {
                self.mask = Some(mask);
                Ok(())
            }
        }
    }

    /// Records an unknown name.
    pub(crate) fn note_unknown(&mut self, name: &str) {
        self.unknown.insert(clipped(name));
    }

    /// Records the name of a field that is read under another name.
    pub(crate) fn note_renamed(&mut self, name: &str, kind: FieldKind<'_>) {
        let stem = name.split('[').next().unwrap_or(name);
        let known = match kind {
            FieldKind::Image(_) if !matches!(stem, "image" | "images") => "image",
            FieldKind::Mask if stem != "mask" => "mask",
            FieldKind::Members => "its-members",
            FieldKind::Image(_)
            | FieldKind::Mask
            | FieldKind::Misplaced(_)
            | FieldKind::Scalar(_)
            | FieldKind::Unknown => return,
        };
        self.renamed.insert(clipped(name), known);
    }

    /// Records the name of a field that stands in an object, and is read as the scalar `known`.
    pub(crate) fn note_moved(&mut self, name: &str, known: &str) {
        if let Some(known) = static_name(known) {
            self.renamed.insert(clipped(name), known);
        }
    }

    /// Records a name whose value may change the picture and cannot be used.
    pub(crate) fn note_misplaced(&mut self, name: &str, problem: impl Into<String>) {
        self.misplaced.insert(clipped(name), problem.into());
    }

    /// Records an unknown name that holds a picture, or a file.
    pub(crate) fn note_unknown_picture(&mut self, name: &str, what: &str) {
        let known = nearest_known(name);
        self.note_misplaced(
            name,
            format!("holds {what} under a name that is not known here; send it as '{known}', or leave it out"),
        );
    }

    /// Returns the names of all that came, apart from images.
    pub(crate) fn field_names(&self) -> Vec<String> {
        let mask = self.mask.as_ref().map(|_| "mask".to_owned());
        let Self { scalars, misplaced, unknown, .. } = self;
        scalars.keys().chain(misplaced.keys()).chain(unknown).cloned().chain(mask).collect()
    }
}

fn clipped(name: &str) -> String {
    name.chars().take(NAME_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::request::test_support::limits;

    #[test]
    fn both_tasks_know_the_same_names() {
        for limits in [limits(Task::Edit), limits(Task::Generate)] {
            for name in ["image", "image[0]", "images", "Image_2", "image_url"] {
                assert!(matches!(limits.field_kind(name), FieldKind::Image(_)), "{name}");
            }
            for name in ["mask", "mask[]", "maskImage"] {
                assert_eq!(limits.field_kind(name), FieldKind::Mask, "{name}");
            }
            assert_eq!(limits.field_kind("extra_body"), FieldKind::Members);
            assert_eq!(limits.field_kind("markup"), FieldKind::Misplaced("markup"));
            assert_eq!(limits.field_kind("svg[reasoning][effort]"), FieldKind::Scalar("svg"));
            assert_eq!(limits.field_kind("quality"), FieldKind::Scalar("quality"));
            for name in ["seed", "cfg", "imagery", "prompt[]", ""] {
                assert_eq!(limits.field_kind(name), FieldKind::Unknown, "{name}");
            }
        }
    }

    #[test]
    fn scalars_are_known_in_other_letters() {
        let limits = limits(Task::Generate);
        for name in ["quality", "Quality", "QUALITY", " quality"] {
            assert_eq!(limits.field_kind(name), FieldKind::Scalar("quality"), "{name}");
        }
        assert_eq!(limits.field_kind("outputFormat"), FieldKind::Scalar("output_format"));
        assert_eq!(limits.field_kind("aspectRatio"), FieldKind::Scalar("aspectRatio"));
        for name in ["n[]", "seed", "promptx"] {
            assert_eq!(limits.field_kind(name), FieldKind::Unknown, "{name}");
        }
    }
}
