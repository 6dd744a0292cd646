//! Bodies of any bytes: no panic, and however they are cut into chunks, the same request or the same refusal.

use std::convert::Infallible;
use std::sync::OnceLock;

use axum::body::Body;
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use bytes::Bytes;
use futures_util::stream;
use tokio::runtime::Runtime;

use super::read;
use crate::api::form::Limits;
use crate::api::offer::Offer;
use crate::config::{Config, Environment};
use crate::model::{ClientId, Fingerprint, Task};
use crate::storage::spool::Spool;

struct World {
    runtime: Runtime,
    config: Config,
    limits: Limits,
    spool: Spool,
}

fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let config = Config::load(None, &Environment::new()).expect("the default configuration");
        // Small, so that files are used too.
        let spool = Spool::for_test(std::env::temp_dir(), 1024, 1 << 24);
        let limits = Limits::new(Task::Edit, &config.server, &config.catalogue);
        World { runtime, config, limits, spool }
    })
}

/// A form with the boundary `B`. The first byte says how large its chunks are.
pub fn form(data: &[u8]) {
    any_chunking("multipart/form-data; boundary=B", data);
}

/// A JSON body. The first byte says how large its chunks are.
pub fn json(data: &[u8]) {
    any_chunking("application/json", data);
}

fn any_chunking(content_type: &'static str, data: &[u8]) {
    let Some((&size, body)) = data.split_first() else { return };
    let whole = outcome(content_type, body, usize::MAX);
    let pieces = outcome(content_type, body, usize::from(size).max(1));
    assert_eq!(whole, pieces, "the chunks make a difference");
}

/// What the request is, or the code of its refusal.
fn outcome(content_type: &'static str, body: &[u8], chunk: usize) -> Result<Fingerprint, &'static str> {
    let World { runtime, config, limits, spool } = world();
    let chunks: Vec<_> = body.chunks(chunk).map(|chunk| Ok::<_, Infallible>(Bytes::copy_from_slice(chunk))).collect();
    let headers = HeaderMap::from_iter([(CONTENT_TYPE, content_type.parse().expect("a header"))]);
    let offer = Offer { catalogue: &config.catalogue, allowed: None, routes: config.upstream.api.api_kinds() };
    let body = Body::from_stream(stream::iter(chunks));
    let checked = runtime.block_on(read(limits, &headers, None, body, spool, &config.server, offer));
    checked.map(|checked| Fingerprint::of(&ClientId("fuzz".into()), &checked.request)).map_err(|error| error.code())
}
