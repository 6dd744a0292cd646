//! Hits: the form in one pass, the digest of its picture, a look-up, and the answer with the stored picture.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Response, StatusCode};
use axum::routing::post;
use axum::serve::ListenerExt as _;
use blake3::Hash;

use crate::answer::Answer;
use crate::form::Form;
use crate::{Failure, Options};

struct Hits {
    answer: Answer,
    /// The stored pictures, by the digest of those that they were made from.
    stored: HashMap<Hash, Vec<u8>>,
}

/// Serves until the process is ended.
pub(crate) async fn serve(options: &Options) -> Result<(), Failure> {
    let (answer, picture) = Answer::read(options)?;
    let posted = blake3::hash(&options.file("--picture")?);
    let hits = Hits { answer, stored: HashMap::from([(posted, picture)]) };
    let router = Router::new().route("/v1/images/edits", post(hit)).with_state(Arc::new(hits));
    let listener = options.listener().await?.tap_io(|stream| drop(stream.set_nodelay(true)));
    Ok(axum::serve(listener, router).await?)
}

async fn hit(State(hits): State<Arc<Hits>>, headers: HeaderMap, body: Bytes) -> Result<Response<Body>, StatusCode> {
    let form = Form::read(&headers, &body).ok_or(StatusCode::BAD_REQUEST)?;
    let stored = hits.stored.get(&blake3::hash(form.picture)).ok_or(StatusCode::NOT_FOUND)?;
    Ok(hits.answer.with(stored))
}
