//! Fuzzes bodies of any bytes: no panic, and for every chunking the same request or the same error.

use std::convert::Infallible;
use std::sync::OnceLock;

use axum::body::Body;
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use tokio::runtime::Runtime;

use super::inputs::InputConverter;
pub use super::inputs::fuzz::input;
use super::{ParseServices, incoming, parse, parse_chat};
use crate::api::request::available_models::AvailableModels;
use crate::api::request::body::form::FormLimits;
use crate::api::request::body::incoming::ContentCoding;
use crate::api::request::body::multipart::reference::compare;
use crate::config::{BodyConfig, Config, ConversionConfig, Environment};
use crate::model::{ClientId, Fingerprint, Task};
use crate::storage::spool::Spool;
use crate::telemetry::Metrics;

struct Gateway {
    runtime: Runtime,
    config: Config,
    limits: FormLimits,
    spool: Spool,
    inputs: InputConverter,
}

fn gateway() -> &'static Gateway {
    static GATEWAY: OnceLock<Gateway> = OnceLock::new();
    GATEWAY.get_or_init(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let config = Config::load(None, &Environment::new()).expect("the default configuration");
        // Small, so that files are used too, beside forms that are read whole.
        let spool = Spool::for_test(std::env::temp_dir(), 4096, 1 << 24);
        let limits = FormLimits::new(Task::Edit, &config.server.bodies, &config.catalogue);
        // Small, so that an input is cheap to convert.
        let conversions = ConversionConfig { input_pixels_max: 4096, ..config.server.conversions.clone() };
        let inputs = InputConverter::new(&conversions, &Metrics::default());
        Gateway { runtime, config, limits, spool, inputs }
    })
}

/// Parses a form with the boundary `B`: as one chunk, in chunks whose size is the first byte, and split by another program.
pub fn form(data: &[u8]) {
    any_chunking(Endpoint::Images("multipart/form-data; boundary=B"), data);
    compare(data.get(1..).unwrap_or_default());
}

/// Parses a JSON body. The first byte is the size of its chunks.
pub fn json(data: &[u8]) {
    any_chunking(Endpoint::Images("application/json"), data);
}

/// Parses a chat completion. The first byte is the size of its chunks.
pub fn chat(data: &[u8]) {
    any_chunking(Endpoint::Chat, data);
}

/// Unpacks a compressed body. The first byte is the size of its chunks, the second says how it is compressed.
pub fn unpack(data: &[u8]) {
    let [size, coding, body @ ..] = data else { return };
    let coding = [ContentCoding::Gzip, ContentCoding::Deflate, ContentCoding::Zstd][usize::from(coding % 3)];
    let whole = unpacked(coding, body, usize::MAX);
    let chunked = unpacked(coding, body, usize::from(*size).max(1));
    // Of a frame without content, libzstd sees some damage only where it sees the frame whole.
    let nothing = |unpacked: Option<Vec<u8>>| unpacked.unwrap_or_default();
    assert_eq!(nothing(whole), nothing(chunked), "the chunks make a difference");
}

/// Returns the unpacked bytes, or `None` for data that is refused.
fn unpacked(coding: ContentCoding, body: &[u8], chunk: usize) -> Option<Vec<u8>> {
    let Gateway { runtime, config, .. } = gateway();
    let bodies = BodyConfig { bytes_max: 1 << 20, ..config.server.bodies.clone() };
    runtime.block_on(async {
        let (mut incoming, _) = incoming(chunks(body, chunk), Some(coding), &bodies);
        let mut bytes = Vec::new();
        while let Some(chunk) = incoming.next().await {
            bytes.extend_from_slice(&chunk.ok()?);
        }
        Some(bytes)
    })
}

/// Returns a body that arrives in chunks of this size.
fn chunks(body: &[u8], chunk: usize) -> Body {
    let chunks: Vec<_> = body.chunks(chunk).map(|chunk| Ok::<_, Infallible>(Bytes::copy_from_slice(chunk))).collect();
    Body::from_stream(stream::iter(chunks))
}

/// What a body is parsed as.
#[derive(Clone, Copy)]
enum Endpoint {
    Images(&'static str),
    Chat,
}

fn any_chunking(endpoint: Endpoint, data: &[u8]) {
    let Some((&size, body)) = data.split_first() else { return };
    // Of known length, so that a short form is read whole.
    let whole = outcome(endpoint, Body::from(body.to_vec()));
    let chunked = outcome(endpoint, chunks(body, usize::from(size).max(1)));
    assert_eq!(whole, chunked, "the chunks make a difference");
}

/// Returns the fingerprint of the request, or the code of its error.
fn outcome(endpoint: Endpoint, body: Body) -> Result<Fingerprint, &'static str> {
    let Gateway { runtime, config, limits, spool, inputs } = gateway();
    let content_type = match endpoint {
        Endpoint::Images(content_type) => content_type,
        Endpoint::Chat => "application/json",
    };
    let headers = HeaderMap::from_iter([(CONTENT_TYPE, content_type.parse().expect("a header"))]);
    let models =
        AvailableModels { catalogue: &config.catalogue, allowed: None, api_kinds: config.upstream.api.api_kinds() };
    let services = ParseServices { spool, server: &config.server, models: &models, inputs, own_results: None };
    let valid = runtime.block_on(async {
        match endpoint {
            Endpoint::Images(_) => parse(limits, &headers, None, body, services).await,
            Endpoint::Chat => parse_chat(limits, &headers, None, body, services).await.map(|(valid, _)| valid),
        }
    });
    valid.map(|valid| Fingerprint::of(&ClientId("fuzz".into()), &valid.request)).map_err(|error| error.code())
}
