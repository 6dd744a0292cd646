//! A client's wish, checked against the catalogue: every value explicit, nothing left at `auto`.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::Deserialize;

use super::{ApiKind, ByteSource, ModelId, Picture};

/// What a model is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Task {
    Edit,
    Generate,
}

impl Task {
    /// The name of the capability, also in the journal and in metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Edit => "image-edit",
            Self::Generate => "text-to-image",
        }
    }

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        [Self::Edit, Self::Generate].into_iter().find(|task| task.name() == name)
    }
}

/// Width and height in pixels, written `WIDTHxHEIGHT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Size {
    pub(crate) width: u32,
    pub(crate) height: u32,
}

impl Size {
    pub(crate) fn pixels(self) -> u64 {
        u64::from(self.width) * u64::from(self.height)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.width, self.height)
    }
}

impl FromStr for Size {
    type Err = InvalidSize;

    fn from_str(text: &str) -> Result<Self, InvalidSize> {
        // Digits alone: `u32::from_str` would also take a sign.
        let edge = |digits: &str| -> Option<u32> {
            digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok()).flatten().filter(|&edge| edge > 0)
        };
        let (width, height) = text.split_once('x').ok_or(InvalidSize)?;
        match (edge(width), edge(height)) {
            (Some(width), Some(height)) => Ok(Self { width, height }),
            _ => Err(InvalidSize),
        }
    }
}

impl TryFrom<String> for Size {
    type Error = InvalidSize;

    fn try_from(text: String) -> Result<Self, InvalidSize> {
        text.parse()
    }
}

/// The text is not `WIDTHxHEIGHT` in positive whole pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a size of the form WIDTHxHEIGHT")]
pub(crate) struct InvalidSize;

/// A picture a client sent, or the address of one.
#[derive(Clone, Debug)]
pub(crate) enum Input {
    Bytes { picture: Picture, source: Arc<dyn ByteSource> },
    Link(String),
}

impl Input {
    /// What tells this input from another: the digest of its bytes, or its address.
    pub(crate) fn identity(&self) -> Vec<u8> {
        match self {
            Self::Bytes { picture, .. } => picture.digest.as_bytes().to_vec(),
            Self::Link(address) => format!("link:{address}").into_bytes(),
        }
    }

    #[cfg(test)]
    pub(crate) fn for_test(bytes: &'static [u8]) -> Self {
        let picture = Picture {
            digest: super::Digest::of(bytes),
            bytes: bytes.len() as u64,
            format: None,
            dimensions: None,
            frames: Some(1),
        };
        Self::Bytes { picture, source: Arc::new(bytes::Bytes::from_static(bytes)) }
    }
}

/// What is to be bought, valid for its model by construction (`api::validate`).
#[derive(Clone, Debug)]
pub(crate) struct PictureRequest {
    pub(crate) task: Task,
    /// The catalogue's id of the model, aliases resolved.
    pub(crate) model: ModelId,
    pub(crate) prompt: String,
    /// In the client's order; empty for [`Task::Generate`].
    pub(crate) inputs: Vec<Input>,
    pub(crate) mask: Option<Input>,
    /// How many pictures, 1 to 10.
    pub(crate) n: u8,
    pub(crate) size: Size,
    /// The model's own parameters by name (`quality`, `background`), each with an explicit value; and those that only
    /// the route has, where they are not at their default.
    pub(crate) choices: BTreeMap<String, String>,
    /// Which face of the upstream it is asked through. No part of what is wished for: the fingerprint leaves it out.
    pub(crate) api_kind: ApiKind,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_two_positive_numbers() {
        assert_eq!("1536x1024".parse(), Ok(Size { width: 1536, height: 1024 }));
        for wrong in ["", "x", "1024", "0x5", "+5x5", "5X5", "1024x1024x3", "4294967296x1"] {
            assert_eq!(wrong.parse::<Size>(), Err(InvalidSize), "{wrong}");
        }
    }
}
