//! The three actors, and what they have in common.

use std::future::Future;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::Instant;

mod client;
mod gateway;
mod output;
mod pictures;
mod program;
mod raw;
mod receiver;
mod relay;
mod upstream;

pub(crate) use client::{Answer, Client, Edit};
pub(crate) use gateway::Gateway;
pub(crate) use pictures::{data_url, digest, mask, picture, size_of};
pub(crate) use program::{Program, Run};
pub(crate) use raw::Raw;
pub(crate) use receiver::{Receiver, WEBHOOK_SECRET};
pub(crate) use relay::Relay;
pub(crate) use upstream::Upstream;

// All secrets carry the mark that `tests/canary/scan.py` looks for.

/// The upstream key, which nobody but the upstream may ever see.
pub(crate) const UPSTREAM_KEY: &str = "sk-upstream-vQ7kZp3XvQ7kZp3XvQ7kZp3X-one";
/// The key of a second account.
pub(crate) const OTHER_UPSTREAM_KEY: &str = "sk-upstream-vQ7kZp3XvQ7kZp3XvQ7kZp3X-other";
pub(crate) const ALICE: &str = "sk-gw-alice-vQ7kZp3XvQ7kZp3XvQ7kZp3X";
pub(crate) const BOB: &str = "sk-gw-bob-vQ7kZp3XvQ7kZp3XvQ7kZp3X";

/// How long a condition may take to become true. Far more than is ever needed, so that a busy machine fails nothing.
const PATIENCE: Duration = Duration::from_secs(30);
/// Pause between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Looks again and again until `condition` holds.
pub(crate) async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition().await {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Runs something beside the test.
pub(crate) fn in_background<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
    tokio::runtime::Handle::current().spawn(work)
}

/// A client without limits of its own.
fn http() -> reqwest::Client {
    // Another test may have been first; either way it is installed.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap()
}
