//! A simulator of GPTProto, reached only over its socket.
//!
//! The simulator shares nothing with the gateway except the accept loop and the shutdown, so that an error in the
//! gateway's reading of the protocol is not repeated here. The simulator counts requests and charges, so that a test can assert
//! that exactly one prediction was bought. The only background work is the fetching of links (input pictures that are
//! sent as URLs), and only URLs of this machine are fetched.
//!
//! Three APIs share keys, limits and the balance:
//!
//! | API | routes |
//! |---|---|
//! | `prediction` | `POST /api/v3/openai/{model}/{image-edit, text-to-image}`, `GET /api/v3/predictions/{id}/result` |
//! | `openai` | `POST /v1/images/generations`, `POST /v1/images/edits`: answered when the pictures are done |
//! | `unified` | `POST /api/v3/images`, `GET /api/v3/tasks/result/{id}` |
//!
//! Besides them: `GET /files/{id}/{index}.png` (no key), `GET /v1/models`, `GET /v1/cli/models` and
//! `GET /v1/cli/models/{provider}/{model}`, `GET /api/home-model-catalog` (no key), `GET /api/v3/user/me`. Every other route, including cancel, webhooks and lists, is a 404 page, so that the gateway
//! cannot depend on it by accident.
//!
//! Control routes for tests and demonstrations, without a key:
//!
//! | route | meaning |
//! |---|---|
//! | `GET /_simulator/counters` | submits (accepted and refused by path too), polls, downloads, links, charges, predictions by state, and `keys` |
//! | `GET`, `PUT /_simulator/scenario` | the scenario; a PUT replaces the keys it names, for all later calls |
//! | `GET`, `POST /_simulator/faults` | one-shot faults, `{"on", "fault", "times", "skip", "delay_ms"}` or an array |
//! | `GET /_simulator/predictions` | all accepted predictions, with their `api`, the `method` of their pictures, and digests in place of pictures |
//! | `GET /_simulator/refusals` | the last refused submits: path, status, form of the key, names of fields, prompt |
//! | `POST /_simulator/reset` | returns to the initial state and scenario |
//!
//! A running prediction keeps its end when the scenario changes. Keys, balances and limits follow the scenario at the
//! time of each call. Each key has its own limits and predictions: a prediction bought with another key is unknown.
//!
//! The rooms, each of which imports only those above it: `scenario` (configuration), `rules` (validation), `images`
//! (drawing), `faults`, `world` (state), `apis` and `control` (routes).

use std::fs::OpenOptions;
use std::io;
use std::path::PathBuf;

use axum::Router;
use axum::response::Response;
use axum::routing::{get, post};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use self::apis::extras::{account, files, interfaces};
use self::apis::{openai, prediction, unified};
use self::rules::errors;
use self::world::handle::Simulator;
use self::world::links;
use crate::lifecycle::Lifecycle;

mod apis;
mod control;
mod faults;
mod images;
mod rules;
mod scenario;
mod world;

pub use self::images::sample_picture;
pub use self::scenario::{Profile, Scenario};

/// Options of a simulator.
#[derive(Clone, Debug)]
pub struct Options {
    /// The valid keys.
    pub keys: Vec<String>,
    /// The behaviour.
    pub scenario: Scenario,
    /// A durable log: one line of JSON for each accepted prediction, on disk before the answer is sent.
    pub log: Option<PathBuf>,
}

/// Serves the simulated service until `stop` is cancelled.
///
/// # Errors
///
/// When the log cannot be opened, the listener has no address, or the HTTP client cannot be built.
pub async fn serve(
    listener: TcpListener,
    options: Options,
    lifecycle: Lifecycle,
    stop: CancellationToken,
) -> io::Result<()> {
    let log = match &options.log {
        Some(path) => Some(OpenOptions::new().create(true).append(true).open(path)?),
        None => None,
    };
    let address = listener.local_addr()?;
    let client = links::client().map_err(io::Error::other)?;
    let simulator = Simulator::new(options.keys, options.scenario, address, log, client, lifecycle.clone());
    crate::server::accept::serve(listener, router(simulator), lifecycle, stop).await;
    Ok(())
}

fn router(simulator: Simulator) -> Router {
    Router::new()
        .route("/api/v3/openai/{model}/{capability}", post(prediction::create))
        .route("/api/v3/predictions/{id}/result", get(prediction::result))
        .route("/v1/images/generations", post(openai::generate))
        .route("/v1/images/edits", post(openai::edit))
        .route("/api/v3/images", post(unified::create))
        .route("/api/v3/tasks/result/{id}", get(unified::result))
        .route("/files/{id}/{name}", get(files::download))
        .route("/v1/models", get(account::models))
        .route("/v1/cli/models", get(interfaces::list))
        .route("/v1/cli/models/{provider}/{model}", get(interfaces::describe))
        .route("/api/home-model-catalog", get(account::catalog))
        .route("/api/v3/user/me", get(account::user))
        .route("/_simulator/counters", get(control::counters))
        .route("/_simulator/scenario", get(control::scenario).put(control::set_scenario))
        .route("/_simulator/faults", get(control::faults).post(control::add_faults))
        .route("/_simulator/predictions", get(control::predictions))
        .route("/_simulator/refusals", get(control::refusals))
        .route("/_simulator/reset", post(control::reset))
        .fallback(not_found)
        .method_not_allowed_fallback(not_found)
        .with_state(simulator)
}

async fn not_found() -> Response {
    errors::page(404)
}
