//! Input pictures in bodies that take addresses and data URIs: as the operator wishes them to travel.

use std::sync::Arc;

use crate::lending::{Lending, Loans};
use crate::model::{Input, Picture, Source};
use crate::payload::Payload;

/// How input pictures travel (`upstream.inputs`).
#[derive(Clone, Debug)]
pub(super) enum Inputs {
    Inline,
    Link(Lending),
}

/// An input picture as it travels.
#[derive(Clone, Debug)]
pub(super) enum Reference {
    Address(String),
    Inline(Picture, Arc<dyn Source>),
}

impl Inputs {
    /// As the operator wishes; what is lent is added to `loans`.
    pub(super) fn refer(&self, input: &Input, loans: &mut Loans) -> Reference {
        match (input, self) {
            (Input::Link(address), Self::Inline | Self::Link(_)) => Reference::Address(address.clone()),
            (Input::Bytes { picture, source }, Self::Inline) => Reference::Inline(*picture, Arc::clone(source)),
            (Input::Bytes { picture, source }, Self::Link(lending)) => {
                let loan = lending.lend(*picture, Arc::clone(source));
                let address = loan.address().to_owned();
                loans.keep(loan);
                Reference::Address(address)
            }
        }
    }
}

impl Reference {
    /// Appends a JSON string: the address, or a data URI whose base64 is made as it leaves.
    pub(super) fn append_to(self, body: Payload) -> Payload {
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
