//! Input pictures in bodies that take URLs and data URIs, in the form that is configured.

use std::sync::Arc;

use crate::http::StreamingBody;
use crate::input_urls::{InputUrlGuards, InputUrls};
use crate::model::{ByteSource, Input, Picture};

/// How input pictures are sent (`upstream.inputs`).
#[derive(Clone, Debug)]
pub(super) enum Inputs {
    Inline,
    Link(InputUrls),
}

/// An input picture in a body.
#[derive(Clone, Debug)]
pub(super) enum InputReference {
    Url(String),
    Inline(Picture, Arc<dyn ByteSource>),
}

impl Inputs {
    /// Returns an input picture in the configured form. The guard of a published one is added to `input_url_guards`.
    pub(super) fn refer(&self, input: &Input, input_url_guards: &mut InputUrlGuards) -> InputReference {
        match (input, self) {
            (Input::Link(url), Self::Inline | Self::Link(_)) => InputReference::Url(url.clone()),
            (Input::Bytes { picture, source }, Self::Inline) => InputReference::Inline(*picture, Arc::clone(source)),
            (Input::Bytes { picture, source }, Self::Link(input_urls)) => {
                let input_url_guard = input_urls.publish(*picture, Arc::clone(source));
                let url = input_url_guard.url().to_owned();
                input_url_guards.push(input_url_guard);
                InputReference::Url(url)
            }
        }
    }
}

impl InputReference {
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
    picture.format.map_or("application/octet-stream", |format| format.media_type())
}
