//! The handle that every route gets: authentication, access to the world, pictures and the log.

use std::fs::File;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Bytes;
use axum::http::{HeaderMap, Uri, header};
use reqwest::Client;
use serde_json::json;
use tokio::time::Instant;

use super::clock::Now;
use super::prediction::Prediction;
use super::state::World;
use crate::lifecycle::Lifecycle;
use crate::simulator::images::draw::{Drawing, draw};
use crate::simulator::rules::errors::Refusal;
use crate::simulator::rules::inputs::Input;
use crate::simulator::scenario::{KeyForm, Scenario};

/// Index of the first partial picture, which differs from those of all pictures.
const PARTIAL_INDEX: u32 = 1000;

/// A running simulator. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Simulator(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    keys: Vec<String>,
    address: SocketAddr,
    log: Option<Mutex<File>>,
    /// Fetches links.
    client: Client,
    lifecycle: Lifecycle,
    /// Never held over an await.
    world: Mutex<World>,
}

impl Simulator {
    /// Creates a simulator that listens on `address` and accepts `keys`.
    pub(crate) fn new(
        keys: Vec<String>,
        scenario: Scenario,
        address: SocketAddr,
        log: Option<File>,
        client: Client,
        lifecycle: Lifecycle,
    ) -> Self {
        Self(Arc::new(Shared {
            keys,
            address,
            log: log.map(Mutex::new),
            client,
            lifecycle,
            world: Mutex::new(World::new(Arc::new(scenario), Now::read())),
        }))
    }

    pub(crate) fn client(&self) -> &Client {
        &self.0.client
    }

    pub(crate) fn lifecycle(&self) -> Lifecycle {
        self.0.lifecycle.clone()
    }

    /// Runs a function on the world, after the predictions that have ended are charged.
    pub(crate) fn with<R>(&self, access: impl FnOnce(&mut World, Now) -> R) -> R {
        let now = Now::read();
        // After a panic a test has already failed; the counters are still useful.
        let mut world = self.0.world.lock().unwrap_or_else(PoisonError::into_inner);
        world.settle(now.at);
        access(&mut world, now)
    }

    pub(crate) fn scenario(&self) -> Arc<Scenario> {
        self.with(|world, _| Arc::clone(&world.scenario))
    }

    /// Returns the key of a request, sent raw or as `Bearer`.
    ///
    /// # Errors
    ///
    /// When the key is missing, revoked or unknown.
    pub(crate) fn authenticate(&self, headers: &HeaderMap) -> Result<String, Refusal> {
        let sent = headers.get(header::AUTHORIZATION).map(|value| value.to_str().unwrap_or("?"));
        let sent = sent.unwrap_or_default().trim();
        let (form, key) = match sent.split_at_checked("bearer".len()) {
            Some((scheme, rest))
                if scheme.eq_ignore_ascii_case("bearer") && (rest.is_empty() || rest.starts_with(' ')) =>
            {
                (KeyForm::BearerOnly, rest.trim())
            }
            _ => (KeyForm::RawOnly, sent),
        };
        if key.is_empty() {
            return Err(Refusal::missing_key());
        }
        let rules = &self.scenario().auth;
        if rules.accepts != KeyForm::Both && rules.accepts != form {
            return Err(Refusal::new(401, "Invalid signature"));
        }
        if rules.revoked.iter().any(|revoked| revoked == key) {
            self.with(|world, _| world.counters.key(key).calls_403 += 1);
            return Err(Refusal::new(403, "Invalid Token"));
        }
        if !self.0.keys.iter().any(|known| known == key) {
            return Err(Refusal::new(401, "Invalid signature"));
        }
        Ok(key.to_owned())
    }

    /// Returns the origin that the client used, for absolute URLs.
    pub(crate) fn origin(&self, headers: &HeaderMap, uri: &Uri) -> String {
        let named = headers.get(header::HOST).and_then(|host| host.to_str().ok());
        match named.or(uri.authority().map(axum::http::uri::Authority::as_str)) {
            Some(host) => format!("http://{host}"),
            None => format!("http://{}", self.0.address),
        }
    }

    /// Waits until the links of a prediction are fetched, which may move its end, and returns its state then. After a reset
    /// that is the state in which it was accepted.
    pub(crate) async fn wait_for_links(&self, prediction: &Prediction) -> Prediction {
        if let Some(links) = &prediction.links.fetched {
            links.wait().await;
        }
        let found = self.with(|world, _| world.predictions.current(prediction).cloned());
        found.unwrap_or_else(|| prediction.clone())
    }

    /// Waits until a prediction has ended and returns its final state; none if it has not ended by `deadline`.
    pub(crate) async fn wait_for_end(&self, prediction: &Prediction, deadline: Option<Instant>) -> Option<Prediction> {
        let waiting = async {
            let ended = self.wait_for_links(prediction).await;
            tokio::time::sleep_until(ended.schedule.ends).await;
            ended
        };
        match deadline {
            Some(at) => tokio::time::timeout_at(at, waiting).await.ok(),
            None => Some(waiting.await),
        }
    }

    /// Returns a picture, drawn on first use.
    pub(crate) async fn picture(&self, number: usize, index: usize) -> Option<Bytes> {
        let (request, cell, scenario) = self.with(|world, _| {
            let (request, cell) = world.predictions.picture(number, index, world.scenario.pictures.kept)?;
            let scenario = world.scenario.for_model(request.model.name);
            Some((request, cell, scenario))
        })?;
        let drawing = Drawing {
            format: request.format(&scenario),
            request,
            index: u32::try_from(index).ok()?,
            padding_bytes: scenario.pictures.padding_bytes,
            scenes: scenario.pictures.scenes,
        };
        let drawn = cell.get_or_try_init(|| tokio::task::spawn_blocking(move || draw(&drawing)));
        drawn.await.ok().cloned()
    }

    /// Draws a picture as it looks before it is done; not kept in memory.
    pub(crate) async fn partial_picture(&self, prediction: &Prediction, index: u8) -> Option<Bytes> {
        let request = Arc::clone(&prediction.request);
        let scenario = self.scenario().for_model(request.model.name);
        let index = PARTIAL_INDEX + u32::from(index);
        let scenes = scenario.pictures.scenes;
        let drawing = Drawing { format: request.format(&scenario), request, index, padding_bytes: 0, scenes };
        tokio::task::spawn_blocking(move || draw(&drawing)).await.ok()
    }

    /// Writes an accepted prediction to the log and waits until the log is on disk.
    pub(crate) async fn log(&self, prediction: &Prediction) -> io::Result<()> {
        if self.0.log.is_none() {
            return Ok(());
        }
        let request = &prediction.request;
        let line = json!({
            "id": prediction.id,
            "api": request.api,
            "at": prediction.schedule.created.wall.to_string(),
            "model": request.model.name,
            "capability": request.capability.name(),
            "prompt_blake3": blake3::hash(request.prompt.as_bytes()).to_hex().as_str(),
            "inputs": request.inputs.iter().map(Input::digest).collect::<Vec<_>>(),
            "n": request.n,
            "size": request.size_text,
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
