//! What a client sent, whichever way it sent it: the common result of the multipart and the JSON reader.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::error::ApiError;
use crate::config::ServerConfig;
use crate::model::{Catalogue, Input, Task};

/// A request before it is checked against a model.
#[derive(Debug, Default)]
pub(super) struct Form {
    pub(super) scalars: BTreeMap<String, Scalar>,
    /// In the client's order.
    pub(super) images: Vec<Input>,
    pub(super) mask: Option<Input>,
    /// Pictures where the task takes none, by name; their bytes were not kept.
    pub(super) misplaced: BTreeSet<&'static str>,
    /// Names nothing is known of.
    pub(super) unknown: BTreeSet<String>,
}

/// One value as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Scalar {
    /// Any value of a form, and the strings of a JSON body.
    Text(String),
    /// Numbers and truth values of a JSON body, as they were written.
    Number(String),
    Bool(bool),
    Array,
    Object,
}

impl Scalar {
    /// What it is, for error texts.
    pub(super) fn kind(&self) -> &'static str {
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

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slot<'a> {
    Image,
    Mask,
    /// A picture the task does not take.
    Misplaced(&'static str),
    Scalar(&'a str),
    Unknown,
}

/// Longest unknown name that is remembered, in characters.
const NAME_CHARS_MAX: usize = 64;

/// What a reader needs to know while bytes arrive, before the model is known: the widest limits of all models. Made once
/// for a task; cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Limits {
    pub(super) task: Task,
    names: Arc<BTreeSet<String>>,
    pub(super) parts_max: usize,
    pub(super) text_bytes_max: usize,
    pub(super) image_bytes_max: u64,
    images_max: usize,
}

impl Limits {
    pub(super) fn new(task: Task, server: &ServerConfig, catalogue: &Catalogue) -> Self {
        let parameters = || catalogue.models.iter().map(|model| &model.parameters);
        let choices = catalogue.models.iter().flat_map(|model| model.choice_names().cloned());
        Self {
            task,
            names: Arc::new(SCALARS.into_iter().map(str::to_owned).chain(choices).collect()),
            parts_max: server.form_parts_max,
            text_bytes_max: server.text_bytes_max,
            image_bytes_max: parameters().map(|parameters| parameters.image_bytes_max).max().unwrap_or(0),
            images_max: parameters().map(|parameters| parameters.images_max).max().unwrap_or(0),
        }
    }

    /// What a name of a form or a JSON body stands for: `image`, `image[]` and `image[0]` are the same.
    pub(super) fn slot<'a>(&self, name: &'a str) -> Slot<'a> {
        let stem = name.split('[').next().unwrap_or(name);
        match (stem, self.task) {
            ("image" | "images", Task::Edit) => Slot::Image,
            ("mask", Task::Edit) => Slot::Mask,
            ("image" | "images", Task::Generate) => Slot::Misplaced("image"),
            ("mask", Task::Generate) => Slot::Misplaced("mask"),
            ("markup", Task::Edit | Task::Generate) => Slot::Misplaced("markup"),
            ("svg", Task::Edit | Task::Generate) => Slot::Scalar("svg"),
            _ if self.names.contains(name) => Slot::Scalar(name),
            _ => Slot::Unknown,
        }
    }
}

impl Form {
    /// Takes a scalar. An empty text is no value; the same value twice is one value.
    ///
    /// # Errors
    ///
    /// [`ApiError::DuplicateParameter`] for a second, different value.
    pub(super) fn add_scalar(&mut self, name: &str, value: Scalar) -> Result<(), ApiError> {
        if value == Scalar::Text(String::new()) {
            return Ok(());
        }
        // Nested and never honoured: which of its members came does not matter.
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

    /// Whether one more image may be read at all.
    ///
    /// # Errors
    ///
    /// [`ApiError::TooManyImages`], beyond what any model takes.
    pub(super) fn expect_image(&self, limits: &Limits) -> Result<(), ApiError> {
        if self.images.len() >= limits.images_max {
            return Err(ApiError::TooManyImages { max: limits.images_max });
        }
        Ok(())
    }

    /// Takes the mask; the same one twice is one mask.
    ///
    /// # Errors
    ///
    /// [`ApiError::DuplicateParameter`] for a second, different one.
    pub(super) fn add_mask(&mut self, mask: Input) -> Result<(), ApiError> {
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

    /// Remembers a name that means nothing here.
    pub(super) fn note_unknown(&mut self, name: &str) {
        self.unknown.insert(name.chars().take(NAME_CHARS_MAX).collect());
    }

    /// What the next image is called in error texts.
    pub(super) fn next_image(&self) -> String {
        image_name(self.images.len())
    }
}

/// What an image is called in error texts.
pub(super) fn image_name(index: usize) -> String {
    if index == 0 { "image".to_owned() } else { format!("image[{index}]") }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::config::{Config, Environment};
    use crate::engine::Spool;

    pub(crate) fn server() -> ServerConfig {
        Config::load(None, &Environment::new()).unwrap().server
    }

    pub(crate) fn catalogue() -> Catalogue {
        Config::load(None, &Environment::new()).unwrap().catalogue
    }

    pub(crate) fn limits(task: Task) -> Limits {
        Limits::new(task, &server(), &catalogue())
    }

    pub(crate) fn spool() -> (tempfile::TempDir, Spool) {
        let directory = tempfile::tempdir().unwrap();
        let spool = Spool::for_test(directory.path().to_owned(), 64 * 1024, 1 << 30);
        (directory, spool)
    }

    /// The bytes behind an input, or its address.
    pub(crate) fn content(input: &Input) -> Vec<u8> {
        match input {
            Input::Bytes { picture, source } => {
                let size = usize::try_from(picture.bytes).unwrap();
                crate::model::picture::read_full(&**source, 0, size).unwrap()
            }
            Input::Link(address) => address.clone().into_bytes(),
        }
    }

    /// A small real PNG.
    pub(crate) fn png(width: u32, height: u32) -> Vec<u8> {
        let mut bytes = std::io::Cursor::new(Vec::new());
        image::RgbaImage::new(width, height).write_to(&mut bytes, image::ImageFormat::Png).unwrap();
        bytes.into_inner()
    }

    #[test]
    fn names_have_their_places() {
        let (edit, generate) = (limits(Task::Edit), limits(Task::Generate));
        for name in ["image", "image[]", "image[0]", "image[15]", "images", "images[]"] {
            assert_eq!(edit.slot(name), Slot::Image, "{name}");
            assert_eq!(generate.slot(name), Slot::Misplaced("image"), "{name}");
        }
        for name in ["mask", "mask[]"] {
            assert_eq!(edit.slot(name), Slot::Mask);
        }
        assert_eq!(edit.slot("markup"), Slot::Misplaced("markup"));
        assert_eq!(edit.slot("svg[reasoning][effort]"), Slot::Scalar("svg"));
        assert_eq!(edit.slot("quality"), Slot::Scalar("quality"));
        for name in ["seed", "cfg", "imagery", "prompt[]", ""] {
            assert_eq!(edit.slot(name), Slot::Unknown, "{name}");
        }
    }
}
