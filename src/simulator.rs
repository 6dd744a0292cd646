//! A small world that behaves like GPTProto's prediction API, reached only over its socket.
//!
//! It is the authority on the rules by itself and shares no code with the gateway: an error in the gateway's reading
//! of the protocol must not repeat here. It remembers what it was asked and what it would have charged, so that a test
//! can say «exactly one prediction was bought». Nothing runs in the background but the fetching of input pictures that
//! are sent as addresses, and only addresses of this machine are fetched.
//!
//! What the service does, at three faces with the same keys, budgets and money:
//!
//! | face | routes |
//! |---|---|
//! | `prediction` | `POST /api/v3/openai/{model}/{image-edit, text-to-image}`, `GET /api/v3/predictions/{id}/result` |
//! | `openai` | `POST /v1/images/generations`, `POST /v1/images/edits`: held until the pictures are done |
//! | `unified` | `POST /api/v3/images`, `GET /api/v3/tasks/result/{id}` |
//!
//! Beside them: `GET /files/{id}/{index}.png` (no key), `GET /v1/models`, `GET /api/home-model-catalog` (no key),
//! `GET /api/v3/user/me`. Everything else, cancel, webhooks and lists included, is a 404 page, so that nobody builds on
//! it by accident.
//!
//! What tests and demonstrations use, without a key:
//!
//! | route | meaning |
//! |---|---|
//! | `GET /_simulator/counters` | submits, polls, downloads, links, charges, predictions by state, `keys`: what each used |
//! | `GET`, `PUT /_simulator/scenario` | the scenario; a PUT lays an object over it, for what happens from then on |
//! | `GET`, `POST /_simulator/faults` | one-shot faults, `{"on", "fault", "times", "skip", "delay_ms"}` or an array |
//! | `GET /_simulator/predictions` | everything that was accepted, with its `face`, and digests in place of pictures |
//! | `POST /_simulator/reset` | forgets everything and returns to the scenario of the start |
//!
//! A running prediction keeps the end it was given, whatever becomes of the scenario. Keys, balances and limits hold as
//! the scenario says at the moment of each call. Each key has a budget and predictions of its own: a prediction asked for
//! with another key is unknown.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, Uri, header};
use axum::response::Response;
use axum::routing::{get, post};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::errors::Refusal;
use self::prediction::Prediction;
use self::world::{Now, World};
use crate::lifecycle::Lifecycle;

mod body;
mod control;
mod counters;
mod errors;
pub mod faults;
mod files;
mod form;
mod inputs;
mod letters;
mod limits;
mod links;
mod models;
mod openai;
mod pictures;
mod prediction;
mod result;
mod rules;
mod sample;
pub mod scenario;
mod submit;
mod unified;
mod world;

pub use sample::sample_picture;
pub use scenario::Scenario;

/// How a simulator is started.
#[derive(Clone, Debug)]
pub struct Options {
    /// The keys that are valid.
    pub keys: Vec<String>,
    /// What it does.
    pub scenario: Scenario,
    /// A durable log: one line of JSON for each accepted prediction, on disk before the answer is sent.
    pub log: Option<PathBuf>,
}

/// Serves the simulated API until `stop` is cancelled.
///
/// # Errors
///
/// When the log cannot be opened, the listener has no address, or no HTTP client can be built.
pub async fn serve(
    listener: TcpListener,
    options: Options,
    lifecycle: Lifecycle,
    stop: CancellationToken,
) -> io::Result<()> {
    let log = match &options.log {
        Some(path) => Some(Mutex::new(OpenOptions::new().create(true).append(true).open(path)?)),
        None => None,
    };
    let simulator = Simulator(Arc::new(Shared {
        keys: options.keys,
        address: listener.local_addr()?,
        log,
        client: links::client().map_err(io::Error::other)?,
        lifecycle: lifecycle.clone(),
        world: Mutex::new(World::new(Arc::new(options.scenario), Now::read())),
    }));
    crate::server::accept::serve(listener, router(simulator), lifecycle, stop).await;
    Ok(())
}

fn router(simulator: Simulator) -> Router {
    Router::new()
        .route("/api/v3/openai/{model}/{capability}", post(submit::submit))
        .route("/api/v3/predictions/{id}/result", get(result::poll))
        .route("/v1/images/generations", post(openai::generate))
        .route("/v1/images/edits", post(openai::edit))
        .route("/api/v3/images", post(unified::submit))
        .route("/api/v3/tasks/result/{id}", get(unified::poll))
        .route("/files/{id}/{name}", get(files::download))
        .route("/v1/models", get(models::list))
        .route("/api/home-model-catalog", get(models::catalog))
        .route("/api/v3/user/me", get(models::user))
        .route("/_simulator/counters", get(control::counters))
        .route("/_simulator/scenario", get(control::scenario).put(control::set_scenario))
        .route("/_simulator/faults", get(control::faults).post(control::add_faults))
        .route("/_simulator/predictions", get(control::predictions))
        .route("/_simulator/reset", post(control::reset))
        .fallback(not_found)
        .method_not_allowed_fallback(not_found)
        .with_state(simulator)
}

async fn not_found() -> Response {
    errors::page(404)
}

/// The handle that every route gets.
#[derive(Clone, Debug)]
struct Simulator(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    keys: Vec<String>,
    address: SocketAddr,
    log: Option<Mutex<File>>,
    /// Fetches input pictures from this machine.
    client: reqwest::Client,
    lifecycle: Lifecycle,
    /// Never held over an await.
    world: Mutex<World>,
}

impl Simulator {
    /// Looks at the world, after what has ended is settled.
    fn with<R>(&self, look: impl FnOnce(&mut World, Now) -> R) -> R {
        let now = Now::read();
        // A panic elsewhere is a failed test already; the numbers are still worth reading.
        let mut world = self.0.world.lock().unwrap_or_else(PoisonError::into_inner);
        world.settle(now.at);
        look(&mut world, now)
    }

    fn scenario(&self) -> Arc<Scenario> {
        self.with(|world, _| Arc::clone(&world.scenario))
    }

    /// The key of a caller, sent raw or as `Bearer`.
    fn caller(&self, headers: &HeaderMap) -> Result<String, Refusal> {
        let sent = headers.get(header::AUTHORIZATION).map(|value| value.to_str().unwrap_or("?"));
        let sent = sent.unwrap_or_default().trim();
        let key = match sent.split_at_checked("bearer".len()) {
            Some((scheme, rest))
                if scheme.eq_ignore_ascii_case("bearer") && (rest.is_empty() || rest.starts_with(' ')) =>
            {
                rest.trim()
            }
            _ => sent,
        };
        if key.is_empty() {
            return Err(Refusal::missing_key());
        }
        if self.scenario().auth.revoked.iter().any(|revoked| revoked == key) {
            self.with(|world, _| world.counters.key(key).calls_403 += 1);
            return Err(Refusal::new(403, "Invalid Token"));
        }
        if !self.0.keys.iter().any(|known| known == key) {
            return Err(Refusal::new(401, "Invalid signature"));
        }
        Ok(key.to_owned())
    }

    /// The origin that the caller used, for absolute addresses.
    fn origin(&self, headers: &HeaderMap, uri: &Uri) -> String {
        let named = headers.get(header::HOST).and_then(|host| host.to_str().ok());
        match named.or(uri.authority().map(axum::http::uri::Authority::as_str)) {
            Some(host) => format!("http://{host}"),
            None => format!("http://{}", self.0.address),
        }
    }

    /// Waits until a prediction has ended, and returns it as it is then; none when that is not by `gives_up`.
    async fn ended(&self, prediction: &Prediction, gives_up: Option<Instant>) -> Option<Prediction> {
        let ending = async {
            if let Some(links) = &prediction.links {
                links.wait().await;
            }
            // Links may have moved the end; whoever resets the world meanwhile gets what was promised.
            let found = self.with(|world, _| world.by_id(&prediction.id).cloned());
            let ended = found.unwrap_or_else(|| prediction.clone());
            tokio::time::sleep_until(ended.ends).await;
            ended
        };
        match gives_up {
            Some(at) => tokio::time::timeout_at(at, ending).await.ok(),
            None => Some(ending.await),
        }
    }

    /// A picture, drawn when it is first asked for.
    async fn picture(&self, number: usize, index: usize) -> Option<Bytes> {
        let (order, cell, scenario) = self.with(|world, _| {
            let (order, cell) = world.picture(number, index)?;
            Some((order, cell, Arc::clone(&world.scenario)))
        })?;
        let job = pictures::Job {
            format: order.format(&scenario),
            order,
            index: u32::try_from(index).ok()?,
            padding_bytes: scenario.pictures.padding_bytes,
        };
        let drawn = cell.get_or_try_init(|| tokio::task::spawn_blocking(move || pictures::draw(&job)));
        drawn.await.ok().cloned()
    }

    /// Writes an accepted prediction to the log, and waits until it is on disk.
    async fn log(&self, prediction: &Prediction) -> io::Result<()> {
        if self.0.log.is_none() {
            return Ok(());
        }
        let order = &prediction.order;
        let line = json!({
            "id": prediction.id,
            "face": order.face,
            "at": prediction.created.wall.to_string(),
            "model": order.model.name,
            "capability": order.capability.name(),
            "prompt_blake3": blake3::hash(order.prompt.as_bytes()).to_hex().as_str(),
            "inputs": order.inputs.iter().map(inputs::Input::digest).collect::<Vec<_>>(),
            "n": order.n,
            "size": order.size_text,
        });
        let shared = Arc::clone(&self.0);
        let written = tokio::task::spawn_blocking(move || {
            let Some(log) = &shared.log else { return Ok(()) };
            let mut file = log.lock().unwrap_or_else(PoisonError::into_inner);
            file.write_all(format!("{line}\n").as_bytes())?;
            file.sync_data()
        });
        written.await.map_err(io::Error::other)?
    }
}

#[cfg(test)]
mod tests;
