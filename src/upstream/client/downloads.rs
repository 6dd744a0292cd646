//! Downloads of results, and of pictures that clients gave as addresses, without a key.

use std::sync::Arc;

use reqwest::header::LOCATION;
use reqwest::{Client, Response, StatusCode};
use url::Url;

use super::guard::{DownloadGuard, DownloadResolver, SystemResolver};
use super::{BuildError, bounded, describe};
use crate::config::UpstreamConfig;
use crate::upstream::FetchError;

/// Redirects a download may follow, each of them checked.
const REDIRECTS_MAX: usize = 3;

/// Downloads from public addresses, and from those that the configuration allows.
#[derive(Clone, Debug)]
pub(in crate::upstream) struct Downloads {
    client: Client,
    guard: DownloadGuard,
}

impl Downloads {
    pub(super) fn new(config: &UpstreamConfig, guard: DownloadGuard) -> Result<Self, BuildError> {
        let client = bounded(config)?.read_timeout(config.download_idle_timeout);
        let client = if config.proxy().is_some() {
            // The proxy resolves the hosts; here only its own name is resolved.
            client
        } else {
            client.dns_resolver(Arc::new(DownloadResolver::new(guard.clone(), Arc::new(SystemResolver))))
        };
        Ok(Self { client: client.build()?, guard })
    }

    /// Requests one URL. Follows no redirect.
    pub(in crate::upstream) async fn get(&self, url: Url) -> Result<Response, FetchError> {
        let url = self.guard.check_url(url).map_err(FetchError::Forbidden)?;
        self.client.get(url).send().await.map_err(|error| FetchError::Trouble(describe(&error)))
    }

    /// Follows the redirects from an answer. Returns the first with the status 200: others, such as 206, are not the whole
    /// picture.
    pub(in crate::upstream) async fn follow(&self, mut response: Response) -> Result<Response, FetchError> {
        let unreadable = || FetchError::Forbidden("a redirect cannot be read".to_owned());
        for _ in 0..REDIRECTS_MAX {
            let Some(next) = response.headers().get(LOCATION).filter(|_| response.status().is_redirection()) else {
                break;
            };
            let next = next.to_str().map_err(|_| unreadable())?;
            let next = response.url().join(next).map_err(|_| unreadable())?;
            response = self.get(next).await?;
        }
        match response.status() {
            StatusCode::OK => Ok(response),
            status if status.is_redirection() => {
                Err(FetchError::Trouble(format!("more than {REDIRECTS_MAX} redirects")))
            }
            status => Err(FetchError::Trouble(format!("HTTP {status}"))),
        }
    }
}

#[cfg(test)]
mod tests;
