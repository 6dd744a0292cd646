//! Whether results can be downloaded here, asked before anything is bought.
//!
//! Where a local proxy answers DNS with addresses of its own, a picture is paid for and cannot be fetched. So the hosts on
//! which GPTProto publishes results are resolved before a submit, and it is refused when their addresses are.

use std::sync::Arc;
use std::time::Duration;

use reqwest::dns::Resolve;
use tokio::sync::Mutex;
use tokio::time::Instant;
use url::Host;

use super::guard::{DownloadGuard, DownloadResolver, SystemResolver};
use crate::config::UpstreamConfig;

/// The service's own domain, and the hosts of results in its documentation.
const SERVICE: &str = "gptproto.com";
const RESULT_HOSTS: &[&str] = &["oss.gptproto.com"];

/// How long an answer is remembered.
const REMEMBERED: Duration = Duration::from_mins(5);
/// How long a failure to resolve is remembered.
const FAILURE_REMEMBERED: Duration = Duration::from_secs(10);
/// The longest time until an answer.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);

/// The hosts of results, and whether they can be reached.
#[derive(Clone)]
pub(in crate::upstream) struct ResultHosts {
    hosts: &'static [&'static str],
    resolver: DownloadResolver,
    /// Shared by the clones; locked during a lookup, so that concurrent submits wait for one.
    known: Arc<Mutex<Option<Known>>>,
}

/// The last answer.
#[derive(Clone, Debug)]
struct Known {
    until: Instant,
    /// Why results cannot be downloaded.
    answer: Result<(), String>,
}

impl ResultHosts {
    /// The hosts of GPTProto; none behind a proxy, which resolves them itself, and for other services, whose are not known.
    pub(super) fn new(config: &UpstreamConfig, guard: DownloadGuard) -> Self {
        Self::with_resolver(config, guard, Arc::new(SystemResolver))
    }

    pub(super) fn with_resolver(config: &UpstreamConfig, guard: DownloadGuard, resolver: Arc<dyn Resolve>) -> Self {
        let is_service = match config.base_url.host() {
            Some(Host::Domain(name)) => {
                name.strip_suffix(SERVICE).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
            }
            Some(Host::Ipv4(_) | Host::Ipv6(_)) | None => false,
        };
        let hosts = if is_service && config.proxy().is_none() { RESULT_HOSTS } else { &[] };
        Self { hosts, resolver: DownloadResolver::new(guard, resolver), known: Arc::default() }
    }

    /// Returns the hosts that are asked for.
    pub(in crate::upstream) fn names(&self) -> &'static [&'static str] {
        self.hosts
    }

    /// Returns whether results can be downloaded, as far as it is known: a host that cannot be resolved proves nothing.
    ///
    /// # Errors
    ///
    /// Which host has which address that may not be fetched from.
    pub(in crate::upstream) async fn check(&self) -> Result<(), String> {
        if self.hosts.is_empty() {
            return Ok(());
        }
        let mut known = self.known.lock().await;
        if let Some(Known { until, answer }) = &*known
            && Instant::now() < *until
        {
            return answer.clone();
        }
        let (answer, lifetime) = match tokio::time::timeout(LOOKUP_TIMEOUT, self.look_up()).await {
            Ok(Some(answer)) => (answer, REMEMBERED),
            Ok(None) | Err(_) => (Ok(()), FAILURE_REMEMBERED),
        };
        if let Err(problem) = &answer {
            tracing::warn!(
                %problem,
                "results could not be downloaded here; submits are refused for five minutes, and nothing is bought"
            );
        }
        *known = Some(Known { until: Instant::now() + lifetime, answer: answer.clone() });
        answer
    }

    /// Resolves the hosts; `None` when one of them cannot be resolved and none is refused.
    async fn look_up(&self) -> Option<Result<(), String>> {
        let mut all_resolved = true;
        for host in self.hosts {
            match self.resolver.allowed_addresses(host).await {
                Some(Ok(_)) => {}
                Some(Err(problem)) => return Some(Err(problem)),
                None => all_resolved = false,
            }
        }
        all_resolved.then_some(Ok(()))
    }
}

impl std::fmt::Debug for ResultHosts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ResultHosts").field("hosts", &self.hosts).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
