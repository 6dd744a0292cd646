//! What of a request's way in and out depends on its size, one by one, for `benches/pieces.rs`.

use std::convert::Infallible;

use axum::body::Body;
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use bytes::Bytes;
use futures_util::stream;
use http_body_util::BodyExt;
use tokio::runtime::Runtime;

use super::read;
use crate::api::form::Limits;
use crate::api::offer::Offer;
use crate::config::{Config, Environment};
use crate::http::StreamingBody;
use crate::model::{ClientId, Fingerprint, Input, PictureRequest, Task};
use crate::storage::spool::{Spool, SpoolLimits};

/// Reads forms as a gateway of the default configuration does, on one thread, with the spool in the system's folder for
/// temporary files.
#[derive(Debug)]
pub struct Forms {
    runtime: Runtime,
    config: Config,
    limits: Limits,
    spool: Spool,
    client: ClientId,
}

/// A form that was read; its pictures are in the spool.
#[derive(Debug)]
pub struct Taken(PictureRequest);

impl Default for Forms {
    /// # Panics
    ///
    /// When the machine has no room for a runtime.
    fn default() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let config = Config::load(None, &Environment::new()).expect("the default configuration");
        let limits = Limits::new(Task::Edit, &config.server, &config.catalogue);
        let spool = Spool::new(std::env::temp_dir(), SpoolLimits::from(&config.storage));
        Self { runtime, config, limits, spool, client: ClientId("pieces".into()) }
    }
}

impl Forms {
    /// Scans, hashes, sniffs and spools a form with the boundary `B`, which arrives in these chunks.
    ///
    /// # Panics
    ///
    /// When the form is refused.
    #[must_use]
    pub fn read(&self, chunks: Vec<Bytes>) -> Taken {
        let headers =
            HeaderMap::from_iter([(CONTENT_TYPE, "multipart/form-data; boundary=B".parse().expect("a header"))]);
        let Config { catalogue, upstream, server, .. } = &self.config;
        let offer = Offer { catalogue, allowed: None, routes: upstream.api.api_kinds() };
        let body = Body::from_stream(stream::iter(chunks.into_iter().map(Ok::<_, Infallible>)));
        let checked = self.runtime.block_on(read(&self.limits, &headers, None, body, &self.spool, server, offer));
        Taken(checked.expect("a form without fault").request)
    }

    /// What the form has in common with its retries, as text.
    #[must_use]
    pub fn fingerprint(&self, Taken(request): &Taken) -> String {
        Fingerprint::of(&self.client, request).to_string()
    }

    /// Reads the pictures of a form back from the spool and makes base64 of them, as a submit does; says how much.
    ///
    /// # Panics
    ///
    /// When a spool file cannot be read.
    #[must_use]
    pub fn encode(&self, Taken(request): &Taken) -> usize {
        let payload = request.inputs.iter().fold(StreamingBody::default(), |payload, input| match input {
            Input::Bytes { source, .. } => payload.base64(source.clone()),
            Input::Link(_) => payload,
        });
        self.runtime.block_on(async {
            let (mut payload, mut bytes) = (payload, 0);
            while let Some(frame) = payload.frame().await {
                bytes += frame.expect("the spool can be read").data_ref().map_or(0, Bytes::len);
            }
            bytes
        })
    }
}
