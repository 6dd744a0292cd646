//! Input pictures in bodies that take addresses or data URIs.

use std::sync::Arc;

use crate::http::StreamingBody;
use crate::input_urls::{InputUrlGuards, InputUrls};
use crate::model::{ByteSource, Input, Picture};

/// An input picture in a body.
#[derive(Clone, Debug)]
pub(super) enum InputReference {
    Url(String),
    Inline(Picture, Arc<dyn ByteSource>),
}

impl InputReference {
    /// Returns a picture as a data URI; `None` for one that its client gave as an address.
    pub(super) fn inline(input: &Input) -> Option<Self> {
        match input {
            Input::Bytes { picture, source } => Some(Self::Inline(*picture, Arc::clone(source))),
            Input::Link(_) => None,
        }
    }

    /// Returns a picture as an address: its client's own, or one that is published; `None` for bytes that cannot be
    /// published. The guard of a published one is added to `guards`.
    pub(super) fn url(input: &Input, input_urls: Option<&InputUrls>, guards: &mut InputUrlGuards) -> Option<Self> {
        let has_url = matches!(input, Input::Link(_)) || input_urls.is_some();
        has_url.then(|| Self::either(input, input_urls, guards))
    }

    /// Returns a picture as an address where it has one or can be published, else as a data URI.
    pub(super) fn either(input: &Input, input_urls: Option<&InputUrls>, guards: &mut InputUrlGuards) -> Self {
        match (input, input_urls) {
            (Input::Link(url), _) => Self::Url(url.clone()),
            (Input::Bytes { picture, source }, None) => Self::Inline(*picture, Arc::clone(source)),
            (Input::Bytes { picture, source }, Some(input_urls)) => {
                let guard = input_urls.publish(*picture, Arc::clone(source));
                let url = guard.url().to_owned();
                guards.push(guard);
                Self::Url(url)
            }
        }
    }

    /// Appends a JSON string: the URL, or a data URI whose base64 is encoded while it is sent.
    pub(super) fn append_to(self, body: StreamingBody) -> StreamingBody {
        match self {
            Self::Url(url) => body.json(&url),
            Self::Inline(picture, source) => {
                body.text(format!("\"data:{};base64,", media_type(&picture))).base64(source).text("\"")
            }
        }
    }
}

/// Returns the media type of a picture: by its bytes, never by what its client declared.
pub(super) fn media_type(picture: &Picture) -> &'static str {
    picture.structure.format.map_or("application/octet-stream", |format| format.media_type())
}
