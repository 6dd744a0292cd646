//! The simulator, beside a gateway in the sandbox or by itself.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use tokio::net::TcpListener;

use super::listeners::bind;
use crate::lifecycle::{Grace, Lifecycle};
use crate::simulator::{self, Options, Profile};

/// The upstream key of the simulator.
pub const SIMULATOR_KEY: &str = "sk-simulator";
/// A picture to edit, in the data directory of the sandbox.
pub(super) const SAMPLE: &str = "sample.png";
/// How much faster than the real service the sandbox's simulator is: a medium edit takes 2 to 5 seconds.
const SANDBOX_SPEED: f64 = 20.0;

/// A simulator that runs, with a lifecycle of its own: it outlasts a gateway, which drains while the simulator still works.
#[derive(Debug)]
pub(super) struct RunningSimulator {
    pub(super) address: SocketAddr,
    lifecycle: Lifecycle,
}

impl RunningSimulator {
    /// Starts the simulator of the sandbox on a free port.
    ///
    /// # Errors
    ///
    /// When no port is free.
    pub(super) async fn for_sandbox(profile: Profile) -> anyhow::Result<Self> {
        let mut scenario = profile.scenario(SANDBOX_SPEED)?;
        scenario.pictures.scenes = true;
        let options = Options { keys: vec![SIMULATOR_KEY.to_owned()], scenario, log: None };
        Self::start((Ipv4Addr::LOCALHOST, 0).into(), "the simulator", options).await
    }

    /// Starts a simulator. `setting` names the source of the address in an error.
    ///
    /// # Errors
    ///
    /// When the address is in use.
    pub(super) async fn start(address: SocketAddr, setting: &str, options: Options) -> anyhow::Result<Self> {
        let listener = bind(address, setting).await?;
        let address = listener.local_addr()?;
        let lifecycle = Lifecycle::default();
        spawn(listener, options, &lifecycle);
        Ok(Self { address, lifecycle })
    }

    /// Resolves when the simulator stops by itself, because it failed.
    pub(super) async fn failing(&self) {
        self.lifecycle.draining().await;
    }

    /// Stops the simulator, and returns whether no task of it had panicked.
    pub(super) async fn stop(self, finish: Duration) -> bool {
        self.lifecycle.drain(Grace { delay: Duration::ZERO, finish }).await;
        !self.lifecycle.has_failed()
    }
}

fn spawn(listener: TcpListener, options: Options, lifecycle: &Lifecycle) {
    let serving = simulator::serve(listener, options, lifecycle.clone(), lifecycle.stop_token());
    let inner = lifecycle.clone();
    lifecycle.spawn("simulator", async move {
        if let Err(error) = serving.await {
            tracing::error!(%error, "the simulator failed and stops");
            inner.start_draining();
        }
    });
}

/// Writes the sample picture.
///
/// # Errors
///
/// When the file cannot be written.
pub(super) fn write_sample(directory: &Path) -> anyhow::Result<()> {
    let sample = directory.join(SAMPLE);
    std::fs::write(&sample, simulator::sample_picture()).with_context(|| format!("cannot write {}", sample.display()))
}
