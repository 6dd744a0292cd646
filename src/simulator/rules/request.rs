//! A validated picture request, the same for all APIs.

use super::inputs::Input;
use super::models::Model;
use super::values::{Api, Background, Capability, Mode, Quality, ResponseFormat};
use crate::simulator::scenario::{FetchLinks, Format, Links, Scenario};

/// Default quality of the JPEG encoder.
pub(crate) const JPEG_QUALITY: u8 = 85;

/// A validated picture request.
#[derive(Clone, Debug)]
pub(crate) struct PictureRequest {
    pub(crate) api: Api,
    pub(crate) model: &'static Model,
    pub(crate) capability: Capability,
    pub(crate) prompt: String,
    pub(crate) inputs: Vec<Input>,
    /// The fields that the inputs came in, or `multipart`; also those that were ignored.
    pub(crate) methods: Vec<&'static str>,
    pub(crate) mask: Option<Input>,
    pub(crate) n: u32,
    /// Width and height in pixels.
    pub(crate) size: (u32, u32),
    /// The size as it was sent, or the default.
    pub(crate) size_text: String,
    pub(crate) quality: Quality,
    pub(crate) background: Background,
    /// The requested encoding; the scenario's if none.
    pub(crate) format: Option<Format>,
    /// From 1 to 100.
    pub(crate) jpeg_quality: u8,
    pub(crate) mode: Mode,
    pub(crate) response_format: ResponseFormat,
    /// Number of partial pictures of an answer that is streamed; none for an answer in one piece.
    pub(crate) stream: Option<u8>,
    /// The body as it was sent, with digests in place of pictures.
    pub(crate) parameters: serde_json::Value,
}

impl PictureRequest {
    /// Returns the encoding of the pictures.
    pub(crate) fn format(&self, scenario: &Scenario) -> Format {
        self.format.unwrap_or(scenario.pictures.format)
    }

    /// Returns whether links have to be fetched before the prediction can run.
    pub(crate) fn has_links_to_fetch(&self, scenario: &Scenario) -> bool {
        match (scenario.inputs.fetch_links, scenario.inputs.links) {
            (FetchLinks::Never, _) | (_, Links::FailTask) => false,
            (FetchLinks::Loopback, Links::Accept | Links::Refuse) => {
                self.inputs.iter().chain(&self.mask).any(|input| input.loopback_url().is_some())
            }
        }
    }

    /// Returns the number of input bytes kept in memory.
    pub(crate) fn input_bytes(&self) -> usize {
        self.inputs.iter().chain(&self.mask).map(Input::len).sum()
    }

    /// Drops the input bytes and keeps the digests.
    pub(crate) fn drop_input_bytes(&mut self) {
        for input in self.inputs.iter_mut().chain(&mut self.mask) {
            if let Input::Picture(picture) = input {
                picture.bytes = std::sync::Arc::default();
            }
        }
    }
}
