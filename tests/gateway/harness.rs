//! Client, gateway and simulated upstream, and what they have in common.

use std::future::Future;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::Instant;

mod breaker;
mod client;
mod document;
mod gateway;
mod output;
mod pictures;
mod program;
mod raw;
mod receiver;
mod relay;
mod tunnel;
mod upstream;

pub(crate) use breaker::Breaker;
pub(crate) use client::{Answer, Client, Edit};
pub(crate) use gateway::{Admin, Gateway};
pub(crate) use pictures::{data_url, digest, mask, picture, plain_picture, size_of};
pub(crate) use program::{Program, Run, Serving};
pub(crate) use raw::Raw;
pub(crate) use receiver::{Receiver, WEBHOOK_SECRET};
pub(crate) use relay::Relay;
pub(crate) use tunnel::{Tunnel, serve_tls};
pub(crate) use upstream::Upstream;

// All secrets contain the mark that `tests/canary/scan.py` searches.

/// The upstream key, which only the upstream may receive.
pub(crate) const UPSTREAM_KEY: &str = "sk-upstream-vQ7kZp3XvQ7kZp3XvQ7kZp3X-one";
/// The key of a second account.
pub(crate) const OTHER_UPSTREAM_KEY: &str = "sk-upstream-vQ7kZp3XvQ7kZp3XvQ7kZp3X-other";
/// The password of the proxy, which only the proxy may receive.
pub(crate) const PROXY_PASSWORD: &str = "proxy-vQ7kZp3XvQ7kZp3XvQ7kZp3X-password";
/// The admin token, which only the operator may send.
pub(crate) const ADMIN_TOKEN: &str = "admin-vQ7kZp3XvQ7kZp3XvQ7kZp3X-token";
pub(crate) const ALICE: &str = "sk-gw-alice-vQ7kZp3XvQ7kZp3XvQ7kZp3X";
pub(crate) const BOB: &str = "sk-gw-bob-vQ7kZp3XvQ7kZp3XvQ7kZp3X";

/// The longest time until a condition holds: far more than needed, so that no test fails on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The pause between two checks of a condition.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// Waits until `condition` holds.
pub(crate) async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + TIMEOUT;
    while !condition().await {
        assert!(Instant::now() < deadline, "timed out waiting until {what}");
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

/// Runs something beside the test.
pub(crate) fn in_background<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
    tokio::runtime::Handle::current().spawn(work)
}

/// A client that follows no redirect and uses no proxy.
pub(crate) fn http() -> reqwest::Client {
    // Fails when another test has installed it already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap()
}
