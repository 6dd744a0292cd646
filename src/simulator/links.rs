//! Input pictures that are sent as addresses, fetched from this machine.
//!
//! Only `http` addresses of the loopback are fetched: a simulator is no crawler, and whoever tests links serves them
//! here. It happens after the answer to the submit and before the prediction runs; a prediction whose inputs cannot all
//! be had fails. Bytes and time are bounded, redirects are not followed, no proxy is asked.

use std::time::Duration;

use futures_util::future;
use reqwest::{Client, redirect};
use url::{Host, Url};

use super::Simulator;
use super::inputs::{INPUT_BYTES_MAX, Input, Picture, check_mask};
use super::prediction::Prediction;
use super::rules::Order;
use super::scenario::{FetchLinks, Scenario};
use super::world::Fetched;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// For one picture, from the first byte sent to the last one read.
const FETCH_TIMEOUT: Duration = Duration::from_secs(30);

/// Builds the client.
///
/// # Errors
///
/// When the TLS roots of the system cannot be read, although nothing is fetched by TLS.
pub(super) fn client() -> reqwest::Result<Client> {
    // Twice is fine: a gateway in the same process may have been first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder()
        .no_proxy()
        .redirect(redirect::Policy::none())
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(FETCH_TIMEOUT)
        .user_agent("gptproto-simulator")
        .build()
}

/// Whether an order waits for addresses to be fetched.
pub(super) fn is_fetched(order: &Order, scenario: &Scenario) -> bool {
    match scenario.inputs.fetch_links {
        FetchLinks::Loopback => order.inputs.iter().chain(&order.mask).any(|input| near(input).is_some()),
        FetchLinks::Never => false,
    }
}

/// The address of an input, if it is one of this machine.
fn near(input: &Input) -> Option<Url> {
    let Input::Url(text) = input else { return None };
    let url = Url::parse(text).ok().filter(|url| url.scheme() == "http")?;
    let near = match url.host()? {
        Host::Domain(name) => name.eq_ignore_ascii_case("localhost"),
        Host::Ipv4(ip) => ip.is_loopback(),
        Host::Ipv6(ip) => ip.is_loopback(),
    };
    near.then_some(url)
}

/// Fetches the links of a prediction that waits for them, beside whatever else happens.
pub(super) fn start(simulator: &Simulator, prediction: &Prediction) {
    if prediction.links.is_none() {
        return;
    }
    let (simulator, id) = (simulator.clone(), prediction.id.clone());
    let order = std::sync::Arc::clone(&prediction.order);
    simulator.0.lifecycle.clone().spawn("links", async move {
        let fetched = fetch_all(&simulator, &order).await;
        if let Err(error) = &fetched {
            tracing::debug!(id, error, "an input cannot be fetched");
        }
        simulator.with(|world, now| world.links_arrived(&id, fetched, now));
    });
}

async fn fetch_all(simulator: &Simulator, order: &Order) -> Result<Fetched, String> {
    let mut inputs =
        future::try_join_all(order.inputs.iter().chain(&order.mask).map(|input| resolved(simulator, input))).await?;
    let mask = if order.mask.is_some() { inputs.pop() } else { None };
    if let Some(Input::Picture(mask)) = &mask {
        check_mask(mask, inputs.first()).map_err(|refusal| refusal.message)?;
    }
    Ok(Fetched { inputs, mask })
}

/// An input as it is, or the picture at its address.
async fn resolved(simulator: &Simulator, input: &Input) -> Result<Input, String> {
    let Some(url) = near(input) else { return Ok(input.clone()) };
    let fetched = fetch(&simulator.0.client, url).await;
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
    tokio::task::spawn_blocking(move || Picture::read(bytes))
        .await
        .map_err(|error| error.to_string())?
        .map_err(|refusal| format!("{url}: {}", refusal.message))
}

#[cfg(test)]
mod tests;
