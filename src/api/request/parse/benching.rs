//! The steps of a request whose cost depends on its size, one by one, for `benches/pieces.rs`.

use std::convert::Infallible;

use axum::body::Body;
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use bytes::Bytes;
use futures_util::stream;
use http_body_util::BodyExt;
use tokio::runtime::Runtime;

use super::inputs::InputConverter;
use super::{ParseServices, parse};
use crate::api::request::available_models::AvailableModels;
use crate::api::request::body::form::FormLimits;
use crate::config::{Config, Environment};
use crate::http::StreamingBody;
use crate::model::{ClientId, Fingerprint, Input, PictureRequest, Task};
use crate::storage::spool::{Spool, SpoolLimits};
use crate::telemetry::Metrics;

/// Reads forms with the default configuration, on one thread, with the spool in the system's temporary folder.
#[derive(Debug)]
pub struct Forms {
    runtime: Runtime,
    config: Config,
    limits: FormLimits,
    spool: Spool,
    inputs: InputConverter,
    client: ClientId,
}

/// A parsed form; its pictures are in the spool.
#[derive(Debug)]
pub struct ParsedForm(PictureRequest);

impl Default for Forms {
    /// # Panics
    ///
    /// When no runtime can be started.
    fn default() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let config = Config::load(None, &Environment::new()).expect("the default configuration");
        let limits = FormLimits::new(Task::Edit, &config.server.bodies, &config.catalogue);
        let spool = Spool::new(std::env::temp_dir(), SpoolLimits::from(&config.storage));
        let conversions = &config.server.conversions;
        let inputs = InputConverter::new(conversions, &Metrics::default());
        Self { runtime, config, limits, spool, inputs, client: ClientId("pieces".into()) }
    }
}

impl Forms {
    /// Scans, hashes, sniffs and spools a form with the boundary `B` that arrives in these chunks.
    ///
    /// # Panics
    ///
    /// When the form is refused.
    #[must_use]
    pub fn read(&self, chunks: Vec<Bytes>) -> ParsedForm {
        let headers =
            HeaderMap::from_iter([(CONTENT_TYPE, "multipart/form-data; boundary=B".parse().expect("a header"))]);
        let Config { catalogue, upstream, server, .. } = &self.config;
        let models = AvailableModels { catalogue, allowed: None, api_kinds: upstream.api.api_kinds() };
        let services =
            ParseServices { spool: &self.spool, server, models: &models, inputs: &self.inputs, own_results: None };
        let body = Body::from_stream(stream::iter(chunks.into_iter().map(Ok::<_, Infallible>)));
        let valid = self.runtime.block_on(parse(&self.limits, &headers, None, body, services));
        ParsedForm(valid.expect("a valid form").request)
    }

    /// Returns the fingerprint of the form, which its retries share, as text.
    #[must_use]
    pub fn fingerprint(&self, ParsedForm(request): &ParsedForm) -> String {
        Fingerprint::of(&self.client, request).to_string()
    }

    /// Reads the pictures of a form from the spool and encodes them as base64, as a submit does; returns the number of bytes.
    ///
    /// # Panics
    ///
    /// When a spool file cannot be read.
    #[must_use]
    pub fn encode(&self, ParsedForm(request): &ParsedForm) -> usize {
        let body = request.inputs.iter().fold(StreamingBody::default(), |body, input| match input {
            Input::Bytes { source, .. } => body.base64(source.clone()),
            Input::Link(_) => body,
        });
        self.runtime.block_on(async {
            let (mut body, mut bytes) = (body, 0);
            while let Some(frame) = body.frame().await {
                bytes += frame.expect("the spool can be read").data_ref().map_or(0, Bytes::len);
            }
            bytes
        })
    }
}
