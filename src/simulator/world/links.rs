//! Fetches links: input pictures that are sent as URLs.
//!
//! Only `http` URLs on the loopback are fetched, because the simulator must not send requests to other machines. Links
//! are fetched after the submit is accepted and before the prediction runs. A prediction fails when one of its links
//! cannot be fetched. Bytes and time are limited, redirects are not followed, and no proxy is used.

use std::time::Duration;

use futures_util::future;
use reqwest::{Client, redirect};
use url::Url;

use super::handle::Simulator;
use super::prediction::{FetchedInputs, Prediction};
use crate::simulator::rules::inputs::{INPUT_BYTES_MAX, Input, Picture, check_mask};
use crate::simulator::rules::request::PictureRequest;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Limit for one picture, from connecting to the last byte.
const FETCH_TIMEOUT: Duration = Duration::from_secs(30);

/// Builds the HTTP client.
///
/// # Errors
///
/// When the TLS roots of the system cannot be read.
pub(crate) fn client() -> reqwest::Result<Client> {
    // A failure means that a gateway in the same process has installed the provider.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder()
        .no_proxy()
        .redirect(redirect::Policy::none())
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(FETCH_TIMEOUT)
        .user_agent("gptproto-simulator")
        .build()
}

/// Starts to fetch the links of a prediction in the background, if it has any.
pub(crate) fn start(simulator: &Simulator, prediction: &Prediction) {
    if prediction.links.fetched.is_none() {
        return;
    }
    let (simulator, prediction) = (simulator.clone(), prediction.clone());
    simulator.lifecycle().spawn("links", async move {
        let fetched = fetch_all(&simulator, &prediction.request).await;
        if let Err(error) = &fetched {
            tracing::debug!(id = prediction.id, error, "link not fetched; the prediction fails");
        }
        simulator.with(|world, now| world.finish_links(&prediction, fetched, now));
    });
}

async fn fetch_all(simulator: &Simulator, request: &PictureRequest) -> Result<FetchedInputs, String> {
    let mut inputs =
        future::try_join_all(request.inputs.iter().chain(&request.mask).map(|input| resolve(simulator, input))).await?;
    let mask = if request.mask.is_some() { inputs.pop() } else { None };
    if let Some(Input::Picture(mask)) = &mask {
        check_mask(mask, inputs.first()).map_err(|refusal| refusal.message)?;
    }
    Ok(FetchedInputs { inputs, mask })
}

/// Returns the picture of a link, or any other input unchanged.
async fn resolve(simulator: &Simulator, input: &Input) -> Result<Input, String> {
    let Some(url) = input.loopback_url() else { return Ok(input.clone()) };
    let fetched = fetch(simulator.client(), url).await;
    simulator.with(|world, _| match &fetched {
        Ok(_) => world.counters.links_fetched += 1,
        Err(_) => world.counters.links_failed += 1,
    });
    fetched.map(Input::Picture)
}

async fn fetch(client: &Client, url: Url) -> Result<Picture, String> {
    let mut response = client.get(url).send().await.map_err(|error| error.to_string())?;
    if !response.status().is_success() {
        return Err(format!("{}: {}", response.url(), response.status()));
    }
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| error.to_string())? {
        if bytes.len() + chunk.len() > INPUT_BYTES_MAX {
            return Err(format!("{}: more than {INPUT_BYTES_MAX} bytes", response.url()));
        }
        bytes.extend_from_slice(&chunk);
    }
    let url = response.url().clone();
    tokio::task::spawn_blocking(move || Picture::parse(bytes))
        .await
        .map_err(|error| error.to_string())?
        .map_err(|refusal| format!("{url}: {}", refusal.message))
}

#[cfg(test)]
mod tests;
