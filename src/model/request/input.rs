//! An input picture.

use std::borrow::Cow;
use std::sync::Arc;

#[cfg(test)]
use crate::model::picture::Structure;
use crate::model::picture::{ByteSource, Picture};

/// A picture that a client sent, or its http(s) address.
#[derive(Clone, Debug)]
pub(crate) enum Input {
    Bytes { picture: Picture, source: Arc<dyn ByteSource> },
    Link(String),
}

impl Input {
    /// Returns what enters the fingerprint: the digest of the bytes, or the address.
    pub(crate) fn fingerprint_bytes(&self) -> Cow<'_, [u8]> {
        match self {
            Self::Bytes { picture, .. } => picture.digest.as_bytes().as_slice().into(),
            Self::Link(address) => format!("link:{address}").into_bytes().into(),
        }
    }

    #[cfg(test)]
    pub(crate) fn for_test(bytes: &'static [u8]) -> Self {
        let picture = Picture {
            digest: crate::model::ids::Digest::of(bytes),
            bytes: bytes.len() as u64,
            structure: Structure::new(None),
        };
        Self::Bytes { picture, source: Arc::new(bytes::Bytes::from_static(bytes)) }
    }
}
