//! `[upstream]`: GPTProto's address, the budget of its 429 limits, timeouts, and the pace of polls.

use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use url::Url;

use super::{Environment, Error, millis, optional_path, optional_url, seconds, url};
use accounts::AccountSection;

mod accounts;
mod api;
mod network;

pub(crate) use accounts::Account;
pub(super) use accounts::{DEFAULT_ACCOUNT, load as load_accounts};
pub(crate) use api::{ApiPolicy, FirstContact, InputPreferences, InputTransport};
pub(crate) use network::AllowedDownloads;
use network::ProxyConfig;

/// `[upstream]`. `config/default.toml` explains every key.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct UpstreamConfig {
    #[serde(deserialize_with = "url")]
    pub(crate) base_url: Url,
    #[serde(deserialize_with = "optional_path")]
    api_key_file: Option<PathBuf>,
    #[serde(default)]
    accounts: Vec<AccountSection>,
    #[serde(rename = "proxy", deserialize_with = "optional_url")]
    proxy_address: Option<Url>,
    #[serde(deserialize_with = "optional_path")]
    proxy_credentials_file: Option<PathBuf>,
    /// Read by [`UpstreamConfig::check`]; used where [`UpstreamConfig::proxy`] returns it.
    #[serde(skip)]
    proxy: Option<ProxyConfig>,
    #[serde(skip)]
    unused_proxy_variable: Option<&'static str>,
    pub(crate) download_allow: AllowedDownloads,
    pub(crate) api: ApiPolicy,
    pub(crate) inputs: InputPreferences,
    pub(crate) first_contact: FirstContact,
    #[serde(rename = "edge_timeout_s", deserialize_with = "seconds")]
    pub(crate) edge_timeout: Duration,
    #[serde(rename = "input_url_ttl_s", deserialize_with = "seconds")]
    pub(crate) input_url_ttl: Duration,

    // The budget of one account.
    pub(crate) submits_per_minute: NonZeroU32,
    pub(crate) requests_per_minute: NonZeroU32,
    pub(crate) poll_share_percent: u32,
    #[serde(rename = "burst_s", deserialize_with = "seconds")]
    pub(crate) burst: Duration,
    pub(crate) concurrent_predictions: NonZeroUsize,
    pub(crate) learning: Switch,
    #[serde(rename = "rate_window_ms", deserialize_with = "millis")]
    pub(crate) rate_window: Duration,
    pub(crate) queue_max: usize,
    pub(crate) queue_bytes_max: u64,
    #[serde(rename = "pushback_ms", deserialize_with = "millis")]
    pub(crate) pushback: Duration,
    #[serde(rename = "pushback_max_s", deserialize_with = "seconds")]
    pub(crate) pushback_max: Duration,
    #[serde(rename = "account_cooldown_max_s", deserialize_with = "seconds")]
    pub(crate) account_cooldown_max: Duration,

    // Timeouts and sizes of single calls.
    #[serde(rename = "connect_timeout_s", deserialize_with = "seconds")]
    pub(crate) connect_timeout: Duration,
    #[serde(rename = "upload_timeout_s", deserialize_with = "seconds")]
    pub(crate) upload_timeout: Duration,
    #[serde(rename = "submit_timeout_s", deserialize_with = "seconds")]
    pub(crate) submit_timeout: Duration,
    #[serde(rename = "sync_timeout_s", deserialize_with = "seconds")]
    pub(crate) sync_timeout: Duration,
    pub(crate) sync_answer_bytes_max: usize,
    #[serde(rename = "poll_timeout_s", deserialize_with = "seconds")]
    pub(crate) poll_timeout: Duration,
    pub(crate) answer_bytes_max: usize,
    pub(crate) answer_memory_bytes_max: usize,
    #[serde(rename = "download_idle_timeout_s", deserialize_with = "seconds")]
    pub(crate) download_idle_timeout: Duration,
    #[serde(rename = "download_timeout_s", deserialize_with = "seconds")]
    pub(crate) download_timeout: Duration,
    #[serde(rename = "refetch_timeout_s", deserialize_with = "seconds")]
    pub(crate) refetch_timeout: Duration,
    pub(crate) picture_bytes_max: u64,
    pub(crate) submit_attempts_max: NonZeroU32,
    pub(crate) on_unknown: OnUnknown,
    #[serde(rename = "unknown_hold_s", deserialize_with = "seconds")]
    pub(crate) unknown_hold: Duration,

    // Polls.
    pub(crate) latency_priors: Switch,
    #[serde(rename = "first_poll_ms", deserialize_with = "millis")]
    pub(crate) first_poll: Duration,
    #[serde(rename = "poll_interval_min_ms", deserialize_with = "millis")]
    pub(crate) poll_interval_min: Duration,
    #[serde(rename = "poll_interval_max_ms", deserialize_with = "millis")]
    pub(crate) poll_interval_max: Duration,
    #[serde(rename = "poll_cost_ms", deserialize_with = "millis")]
    pub(crate) poll_cost: Duration,
    pub(crate) concurrent_polls_max: NonZeroUsize,
    #[serde(rename = "deadline_s", deserialize_with = "seconds")]
    pub(crate) deadline: Duration,
}

/// Whether a feature is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Switch {
    On,
    Off,
}

/// What happens when the response to a submit was lost, so that it may have been bought.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum OnUnknown {
    /// The same request gets the same error for a while.
    Hold,
    /// The submit is sent again, which may pay twice.
    Resubmit,
}

impl UpstreamConfig {
    /// Returns whether the upstream is on this machine: the simulator, or a test's stand-in.
    pub(crate) fn is_loopback(&self) -> bool {
        match self.base_url.host() {
            Some(url::Host::Domain(name)) => name == "localhost",
            Some(url::Host::Ipv4(address)) => address.is_loopback(),
            Some(url::Host::Ipv6(address)) => address.is_loopback(),
            None => false,
        }
    }

    /// Checks the address, and reads what the environment says about proxies.
    ///
    /// # Errors
    ///
    /// [`Error`], naming the key or the variable.
    pub(super) fn check(&mut self, environment: &Environment) -> Result<(), Error> {
        let file = self.proxy_credentials_file.as_deref();
        self.proxy = network::read_proxy(self.proxy_address.as_ref(), file, environment)?;
        self.unused_proxy_variable = network::unused_proxy_variable(environment);
        network::check_base_url(&self.base_url, self.is_loopback())
            .map_err(|problem| Error::invalid("upstream.base_url", problem))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::refusal;

    #[test]
    fn mistakes_name_the_key() {
        for (line, named) in [
            ("submits_per_minute = 0", "upstream.submits_per_minute"),
            ("poll_share_percent = 100", "upstream.poll_share_percent: must be a whole number from 1 to 90, not 100"),
            ("rate_window_ms = 0", "upstream.rate_window_ms: must be a whole number from 1 to 86400000, not 0"),
            ("refetch_timeout_s = 0", "upstream.refetch_timeout_s: must be a whole number from 1 to 3600, not 0"),
            ("base_url = \"http://gptproto.com\"", "upstream.base_url: must be https"),
            ("base_url = \"ftp://gptproto.com\"", "upstream.base_url: has the scheme ftp"),
            ("base_url = \"https://me@gptproto.com\"", "upstream.base_url: must not contain"),
            ("inputs = [\"links\"]", "upstream.inputs: lists no method that can be used"),
            ("inputs = []", "server.public_url"),
            ("inputs = [\"multipart\", \"multipart\"]", "upstream.inputs: lists the same method twice"),
            ("inputs = [\"multipart\"]\napi = \"prediction\"", "upstream.inputs: lists no method"),
            ("inputs = [\"base64_images\"]\napi = \"openai\"", "allows \"multipart\" only"),
            ("inputs = [\"multipart\"]\napi = \"unified\"", "upstream.inputs: lists no method"),
            ("inputs = [\"inline\"]", "inputs"),
        ] {
            let error = refusal(&format!("[upstream]\n{line}"), &[]);
            assert!(error.contains(named), "{error:?} does not name {named}");
        }
    }
}
