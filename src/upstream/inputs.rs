//! Input pictures in bodies that take addresses and data URIs: as the operator wishes them to travel.

use std::sync::Arc;

use crate::http::StreamingBody;
use crate::input_urls::{InputUrlGuards, InputUrls};
use crate::model::{ByteSource, Input, Picture};

/// How input pictures travel (`upstream.inputs`).
#[derive(Clone, Debug)]
pub(super) enum Inputs {
    Inline,
    Link(InputUrls),
}

/// An input picture as it travels.
#[derive(Clone, Debug)]
pub(super) enum Reference {
    Address(String),
    Inline(Picture, Arc<dyn ByteSource>),
}

impl Inputs {
    /// As the operator wishes; what is lent is added to `loans`.
    pub(super) fn refer(&self, input: &Input, input_url_guards: &mut InputUrlGuards) -> Reference {
        match (input, self) {
            (Input::Link(address), Self::Inline | Self::Link(_)) => Reference::Address(address.clone()),
            (Input::Bytes { picture, source }, Self::Inline) => Reference::Inline(*picture, Arc::clone(source)),
            (Input::Bytes { picture, source }, Self::Link(input_urls)) => {
                let input_url_guard = input_urls.publish(*picture, Arc::clone(source));
                let address = input_url_guard.url().to_owned();
                input_url_guards.push(input_url_guard);
                Reference::Address(address)
            }
        }
    }
}

impl Reference {
    /// Appends a JSON string: the address, or a data URI whose base64 is made as it leaves.
    pub(super) fn append_to(self, body: StreamingBody) -> StreamingBody {
        match self {
            Self::Address(address) => body.json(&address),
            Self::Inline(picture, source) => {
                body.text(format!("\"data:{};base64,", media_type(&picture))).base64(source).text("\"")
            }
        }
    }
}

/// What a picture is declared as; by its bytes, never by what its client said.
pub(super) fn media_type(picture: &Picture) -> &'static str {
    picture.format.map_or("application/octet-stream", |format| format.media_type())
}
