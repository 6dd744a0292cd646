//! What the operator may decide: defaults, file, environment, in this order, later ones winning.
//!
//! The commented `config/default.toml` is compiled in and is the only source of defaults. This module is the only
//! reader of the environment, and gets it handed in as a map, so a test brings its own.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use serde::Deserialize;
use toml::{Table, Value};
use url::Url;

use crate::model::{Catalogue, HostName};

mod accounts;
mod apis;
mod clients;
mod connections;
mod layers;
mod limits;
mod origins;
mod secret;
mod webhooks;

pub(crate) use accounts::Account;
use accounts::AccountConfig;
pub(crate) use apis::{ApiPolicy, InputTransport};
use clients::ClientSection;
pub(crate) use clients::{ClientConfig, digest_of_key};
pub use clients::{NewKey, mint_key};
use connections::FileMode;
pub(crate) use limits::ClientLimits;
use limits::LimitsConfig;
pub(crate) use origins::PageOrigin;
pub use secret::Secret;
use webhooks::WebhooksSection;
pub(crate) use webhooks::{AllowedTargets, SigningSecret, WebhooksConfig};

const DEFAULTS: &str = include_str!("../config/default.toml");
const MODELS: &str = include_str!("../config/models.toml");

/// The environment as the process found it.
pub type Environment = BTreeMap<String, String>;

/// Everything the operator decided, valid.
#[derive(Clone, Debug)]
pub struct Config {
    pub(crate) server: ServerConfig,
    pub(crate) operator: OperatorConfig,
    pub(crate) storage: StorageConfig,
    pub(crate) cache: CacheConfig,
    pub(crate) upstream: UpstreamConfig,
    pub(crate) webhooks: WebhooksConfig,
    pub(crate) log: LogConfig,
    /// The limits of a client of which nothing else is said.
    pub(crate) limits: ClientLimits,
    pub(crate) clients: Vec<ClientConfig>,
    pub(crate) catalogue: Catalogue,
    /// The accounts with the upstream; may be none until [`Config::require_keys`] insists on one.
    pub(crate) accounts: Vec<Account>,
}

/// The file's own shape, before secrets and catalogue are fetched.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sections {
    server: ServerConfig,
    operator: OperatorConfig,
    storage: StorageConfig,
    cache: CacheConfig,
    upstream: UpstreamConfig,
    webhooks: WebhooksSection,
    models: ModelsConfig,
    log: LogConfig,
    limits: LimitsConfig,
    #[serde(default)]
    clients: Vec<ClientSection>,
}

/// `[server]`: the client face.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ServerConfig {
    pub(crate) listen: SocketAddr,
    pub(crate) hosts: Vec<HostName>,
    pub(crate) cors_origins: Vec<PageOrigin>,
    #[serde(rename = "response_timeout_s", deserialize_with = "seconds")]
    pub(crate) response_timeout: Duration,
    #[serde(rename = "response_timeout_margin_ms", deserialize_with = "millis")]
    pub(crate) response_timeout_margin: Duration,
    #[serde(rename = "async_start_timeout_s", deserialize_with = "seconds")]
    pub(crate) async_start_timeout: Duration,
    #[serde(rename = "streamed_response_timeout_s", deserialize_with = "seconds")]
    pub(crate) streamed_response_timeout: Duration,
    #[serde(rename = "stream_heartbeat_ms", deserialize_with = "millis")]
    pub(crate) stream_heartbeat: Duration,
    #[serde(rename = "stream_grace_ms", deserialize_with = "millis")]
    pub(crate) stream_grace: Duration,
    /// Zero: never.
    #[serde(rename = "json_heartbeat_s", deserialize_with = "seconds")]
    pub(crate) json_heartbeat: Duration,
    pub(crate) interim_responses: InterimResponses,
    #[serde(rename = "interim_interval_s", deserialize_with = "seconds")]
    pub(crate) interim_interval: Duration,
    /// How words of a `User-Agent` begin.
    pub(crate) interim_clients: Vec<String>,
    #[serde(deserialize_with = "optional_url")]
    pub(crate) public_url: Option<Url>,
    #[serde(rename = "result_url_ttl_s", deserialize_with = "seconds")]
    pub(crate) result_url_ttl: Duration,
    pub(crate) unsupported_parameters: UnsupportedParameters,
    pub(crate) convert_pixels_max: u64,
    pub(crate) concurrent_conversions_max: NonZeroUsize,
    pub(crate) converted_bytes_max: u64,
    pub(crate) image_check: ImageCheck,
    pub(crate) body_bytes_max: u64,
    pub(crate) text_bytes_max: usize,
    pub(crate) form_parts_max: usize,
    pub(crate) json_depth_max: u32,
    pub(crate) json_values_max: u32,
    pub(crate) picture_pixels_max: u64,
    pub(crate) picture_side_max: u32,
    pub(crate) picture_frames_max: u32,
    #[serde(rename = "body_idle_timeout_s", deserialize_with = "seconds")]
    pub(crate) body_idle_timeout: Duration,
    pub(crate) drain_bytes_max: u64,
    #[serde(rename = "drain_timeout_s", deserialize_with = "seconds")]
    pub(crate) drain_timeout: Duration,
    pub(crate) waiters_max: usize,
    pub(crate) body_bytes_per_second_min: u64,
    #[serde(rename = "body_rate_window_s", deserialize_with = "seconds")]
    pub(crate) body_rate_window: Duration,
    pub(crate) connections_max: NonZeroUsize,
    /// Zero: as many as there are.
    pub(crate) connections_per_address_max: usize,
    pub(crate) proxy_networks: Vec<IpNet>,
    #[serde(rename = "header_timeout_s", deserialize_with = "seconds")]
    pub(crate) header_timeout: Duration,
    #[serde(rename = "keep_alive_timeout_s", deserialize_with = "seconds")]
    pub(crate) keep_alive_timeout: Duration,
    #[serde(rename = "write_timeout_s", deserialize_with = "seconds")]
    pub(crate) write_timeout: Duration,
    pub(crate) headers_max: usize,
    pub(crate) header_bytes_max: usize,
    pub(crate) http2_streams_max: u32,
    pub(crate) http2_header_bytes_max: u32,
    pub(crate) http2_pending_resets_max: usize,
    pub(crate) http2_error_resets_max: usize,
    pub(crate) http2_stream_window_bytes: u32,
    pub(crate) http2_connection_window_bytes: u32,
    pub(crate) http2_send_buffer_bytes: usize,
    #[serde(rename = "http2_ping_interval_s", deserialize_with = "seconds")]
    pub(crate) http2_ping_interval: Duration,
    #[serde(rename = "http2_ping_timeout_s", deserialize_with = "seconds")]
    pub(crate) http2_ping_timeout: Duration,
    tls_certificate_file: PathBuf,
    tls_key_file: PathBuf,
    #[serde(rename = "tls_handshake_timeout_s", deserialize_with = "seconds")]
    pub(crate) tls_handshake_timeout: Duration,
    #[serde(rename = "tls_reload_interval_s", deserialize_with = "seconds")]
    pub(crate) tls_reload_interval: Duration,
    unix_socket: PathBuf,
    pub(crate) unix_socket_mode: FileMode,
    #[serde(rename = "shutdown_delay_s", deserialize_with = "seconds")]
    pub(crate) shutdown_delay: Duration,
    #[serde(rename = "shutdown_grace_s", deserialize_with = "seconds")]
    pub(crate) shutdown_grace: Duration,
}

/// What happens to a parameter that a model cannot honour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum UnsupportedParameters {
    Refuse,
    Drop,
}

/// Who is sent `102 Processing`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum InterimResponses {
    Off,
    KnownClients,
}

/// Whether input pictures must be of a known type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ImageCheck {
    Strict,
    Off,
}

/// `[operator]`: health, metrics, status page.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OperatorConfig {
    pub(crate) listen: SocketAddr,
    pub(crate) hosts: Vec<HostName>,
}

/// `[storage]`: journal, results, spool.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StorageConfig {
    pub(crate) directory: PathBuf,
    pub(crate) spool_memory_bytes: usize,
    pub(crate) spool_memory_bytes_max: u64,
    pub(crate) spool_bytes_max: u64,
    #[serde(rename = "spool_wait_s", deserialize_with = "seconds")]
    pub(crate) spool_wait: Duration,
    pub(crate) spool_waiters_max: usize,
    #[serde(rename = "results_ttl_s", deserialize_with = "seconds")]
    pub(crate) results_ttl: Duration,
    pub(crate) results_bytes_max: u64,
    pub(crate) free_bytes_min: u64,
    #[serde(rename = "eviction_interval_s", deserialize_with = "seconds")]
    pub(crate) eviction_interval: Duration,
}

/// `[cache]`: the result cache.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CacheConfig {
    pub(crate) mode: CacheMode,
    #[serde(rename = "ttl_s", deserialize_with = "seconds")]
    pub(crate) ttl: Duration,
    pub(crate) memory_bytes_max: u64,
    pub(crate) memory_picture_bytes_max: u64,
}

/// Whether identical requests share a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum CacheMode {
    On,
    Off,
}

/// `[upstream]`: GPTProto.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct UpstreamConfig {
    pub(crate) base_url: Url,
    api_key_file: PathBuf,
    pub(crate) submits_per_minute: NonZeroU32,
    pub(crate) requests_per_minute: NonZeroU32,
    pub(crate) poll_share_percent: u32,
    #[serde(rename = "burst_s", deserialize_with = "seconds")]
    pub(crate) burst: Duration,
    pub(crate) concurrent_predictions: NonZeroUsize,
    pub(crate) learning: Switch,
    #[serde(rename = "rate_window_ms", deserialize_with = "millis")]
    pub(crate) window: Duration,
    pub(crate) queue_max: usize,
    pub(crate) queue_bytes_max: u64,
    #[serde(rename = "pushback_ms", deserialize_with = "millis")]
    pub(crate) pushback: Duration,
    #[serde(rename = "pushback_max_s", deserialize_with = "seconds")]
    pub(crate) pushback_max: Duration,
    #[serde(rename = "account_cooldown_max_s", deserialize_with = "seconds")]
    pub(crate) account_cooldown_max: Duration,
    #[serde(rename = "connect_timeout_s", deserialize_with = "seconds")]
    pub(crate) connect_timeout: Duration,
    #[serde(rename = "upload_timeout_s", deserialize_with = "seconds")]
    pub(crate) upload_timeout: Duration,
    #[serde(rename = "submit_timeout_s", deserialize_with = "seconds")]
    pub(crate) submit_timeout: Duration,
    pub(crate) api: ApiPolicy,
    #[serde(rename = "sync_timeout_s", deserialize_with = "seconds")]
    pub(crate) sync_timeout: Duration,
    pub(crate) sync_answer_bytes_max: usize,
    pub(crate) inputs: InputTransport,
    #[serde(rename = "input_url_ttl_s", deserialize_with = "seconds")]
    pub(crate) input_url_ttl: Duration,
    #[serde(rename = "poll_timeout_s", deserialize_with = "seconds")]
    pub(crate) poll_timeout: Duration,
    #[serde(rename = "download_idle_timeout_s", deserialize_with = "seconds")]
    pub(crate) download_idle_timeout: Duration,
    #[serde(rename = "download_timeout_s", deserialize_with = "seconds")]
    pub(crate) download_timeout: Duration,
    pub(crate) submit_attempts_max: NonZeroU32,
    pub(crate) on_unknown: OnUnknown,
    #[serde(rename = "unknown_hold_s", deserialize_with = "seconds")]
    pub(crate) unknown_hold: Duration,
    #[serde(rename = "first_poll_ms", deserialize_with = "millis")]
    pub(crate) first_poll: Duration,
    #[serde(rename = "poll_interval_min_ms", deserialize_with = "millis")]
    pub(crate) poll_interval_min: Duration,
    #[serde(rename = "poll_interval_max_ms", deserialize_with = "millis")]
    pub(crate) poll_interval_max: Duration,
    #[serde(rename = "poll_cost_ms", deserialize_with = "millis")]
    pub(crate) poll_cost: Duration,
    pub(crate) latency_priors: Switch,
    pub(crate) concurrent_polls_max: NonZeroUsize,
    #[serde(rename = "deadline_s", deserialize_with = "seconds")]
    pub(crate) deadline: Duration,
    pub(crate) answer_bytes_max: usize,
    pub(crate) picture_bytes_max: u64,
    #[serde(default)]
    accounts: Vec<AccountConfig>,
}

/// Something that is done, or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Switch {
    On,
    Off,
}

/// What happens when nobody can know whether a submit was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum OnUnknown {
    /// The same request gets the same error for a while.
    Hold,
    /// Better pay twice than have no picture.
    Resubmit,
}

/// `[models]`: the catalogue.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ModelsConfig {
    file: PathBuf,
}

/// `[log]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LogConfig {
    pub(crate) filter: String,
    pub(crate) format: LogFormat,
}

impl LogConfig {
    fn check(&self) -> Result<(), Error> {
        self.filter
            .parse::<tracing_subscriber::filter::Targets>()
            .map(drop)
            .map_err(|error| Error::invalid("log.filter", error))
    }
}

/// How logs are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    Auto,
    Pretty,
    Json,
}

/// Why the configuration cannot be used: one line that names the key and its source.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot read {what} {path}: {error}")]
    Unreadable { what: &'static str, path: PathBuf, error: std::io::Error },
    #[error("{origin}: {problem}")]
    Invalid { origin: String, problem: String },
    #[error(
        "no upstream key: set GPTPROTO_API_KEY (make one at https://gptproto.com under API keys), \
         or try the gateway without an account: serve --sandbox"
    )]
    NoApiKey,
    #[error(
        "no client key: set GATEWAY_CLIENT_KEYS=name:key, or add [[clients]] to the configuration; \
         `gptproto-gateway keys new --name alice` makes one"
    )]
    NoClientKeys,
}

impl Error {
    fn invalid(origin: impl Into<String>, problem: impl std::fmt::Display) -> Self {
        // One line: TOML errors draw the place over several, which only the last of them explains.
        let problem = problem.to_string();
        let problem = problem.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ");
        Self::Invalid { origin: origin.into(), problem }
    }
}

/// The client key of `serve --sandbox`. Refused anywhere else.
pub(crate) const SANDBOX_KEY: &str = "sk-sandbox";

/// The placeholders of `config/sidecar.env.example`, with which nothing is served.
const EXAMPLE_API_KEY: &str = "put-your-gptproto-key-here";
const EXAMPLE_CLIENT_KEY: &str = "put-a-key-of-your-own-here";

impl Config {
    /// Reads defaults, then `file` (or the one `GATEWAY_CONFIG` names), then the environment.
    ///
    /// # Errors
    ///
    /// [`Error`], naming the key and where it came from. Missing keys are not an error yet.
    ///
    /// # Panics
    ///
    /// Never: the compiled-in defaults are tested.
    pub fn load(file: Option<&Path>, environment: &Environment) -> Result<Self, Error> {
        let defaults: Table = DEFAULTS.parse().expect("the compiled-in defaults are valid TOML");
        let mut table = defaults.clone();
        let file = file.map(Path::to_owned).or_else(|| environment.get("GATEWAY_CONFIG").map(PathBuf::from));
        if let Some(path) = &file {
            let origin = path.display().to_string();
            let text = read(path, "the configuration")?;
            let above: Table = text.parse().map_err(|error| Error::invalid(&origin, error))?;
            layers::check_known(&above, &defaults).map_err(|problem| Error::invalid(&origin, problem))?;
            layers::overlay(&mut table, above);
        }
        let above = layers::from_environment(environment, &defaults)?;
        layers::overlay(&mut table, above);
        Self::from_table(table, environment)
    }

    fn from_table(table: Table, environment: &Environment) -> Result<Self, Error> {
        let sections: Sections =
            Value::Table(table).try_into().map_err(|error| Error::invalid("configuration", error))?;
        let Sections { server, operator, storage, cache, upstream, webhooks, models, log, limits: everybody, clients } =
            sections;
        server.check()?;
        upstream.check()?;
        upstream.inputs.check(&server)?;
        log.check()?;
        let webhooks = webhooks.check(environment)?;
        let catalogue = catalogue(&models.file)?;
        let limits = everybody.check("limits")?;
        let clients = clients.into_iter().map(|client| client.check(everybody, &catalogue));
        let mut clients = clients.collect::<Result<Vec<_>, _>>()?;
        clients.extend(clients::from_environment(environment, limits)?);
        clients::check(&clients)?;
        let accounts = accounts::gather(&upstream, environment)?;
        Ok(Self { server, operator, storage, cache, upstream, webhooks, log, limits, clients, catalogue, accounts })
    }

    /// Insists on what `serve` needs to talk to the real service.
    ///
    /// # Errors
    ///
    /// [`Error::NoApiKey`] or [`Error::NoClientKeys`], which say how to get one; also for keys that everybody can read in
    /// the examples.
    pub fn require_keys(&self) -> Result<(), Error> {
        if self.accounts.is_empty() {
            return Err(Error::NoApiKey);
        }
        if self.accounts.iter().any(|account| account.key.expose() == EXAMPLE_API_KEY) {
            return Err(Error::invalid("GPTPROTO_API_KEY", "is still the example's; put your own key there"));
        }
        let example = digest_of_key(EXAMPLE_CLIENT_KEY);
        if let Some(client) = self.clients.iter().find(|client| client.key_digest == example) {
            let problem = format!("the key of {} is still the example's, which everybody knows", client.name);
            return Err(Error::invalid("GATEWAY_CLIENT_KEYS", problem));
        }
        if self.clients.is_empty() {
            return Err(Error::NoClientKeys);
        }
        Ok(())
    }

    /// Points the gateway at the simulator on `upstream`, for `serve --sandbox`.
    ///
    /// # Panics
    ///
    /// Never: every socket address makes an address.
    #[must_use]
    pub fn sandboxed(mut self, upstream: SocketAddr, api_key: &str) -> Self {
        self.upstream.base_url = format!("http://{upstream}").parse().expect("a socket address makes an address");
        self.accounts = vec![Account::new(accounts::DEFAULT, Secret::new(api_key.to_owned()), &self.upstream)];
        // Make-believe pictures stay apart from paid ones.
        self.storage.directory = self.storage.sandbox();
        // It is many times faster than the service that the priors were measured at.
        self.upstream.latency_priors = Switch::Off;
        self.upstream.first_poll = Duration::from_secs(1);
        // The simulator forgets when it stops: what was under way before cannot be found any more.
        self.upstream.deadline = Duration::from_mins(2);
        self.clients.retain(|client| client.name != "sandbox");
        self.clients.push(ClientConfig::of_key("sandbox", SANDBOX_KEY, self.limits));
        self
    }

    /// The address the operator face is asked at by `healthcheck`.
    #[must_use]
    pub fn operator_listen(&self) -> SocketAddr {
        self.operator.listen
    }
}

impl StorageConfig {
    /// Where the sandbox keeps its own journal and pictures.
    pub(crate) fn sandbox(&self) -> PathBuf {
        self.directory.join("sandbox")
    }
}

impl UpstreamConfig {
    /// Whether the upstream is on this machine: the simulator, or a test's stand-in.
    pub(crate) fn is_loopback(&self) -> bool {
        match self.base_url.host() {
            Some(url::Host::Domain(name)) => name == "localhost",
            Some(url::Host::Ipv4(address)) => address.is_loopback(),
            Some(url::Host::Ipv6(address)) => address.is_loopback(),
            None => false,
        }
    }

    fn check(&self) -> Result<(), Error> {
        let url = &self.base_url;
        let loopback = self.is_loopback();
        let complain = |problem: &str| Err(Error::invalid("upstream.base_url", problem));
        match url.scheme() {
            "https" => {}
            "http" if loopback => {}
            "http" => return complain("must be https, or the key would travel in the clear (http is for loopback)"),
            other => return complain(&format!("has the scheme {other}; use https")),
        }
        if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
            return complain("must be an origin such as https://gptproto.com, without a path");
        }
        if !url.username().is_empty() || url.password().is_some() {
            return complain("must not carry a user name or password");
        }
        if !(1..=90).contains(&self.poll_share_percent) {
            return Err(Error::invalid("upstream.poll_share_percent", "must be from 1 to 90"));
        }
        if self.window.is_zero() {
            return Err(Error::invalid("upstream.rate_window_ms", "must not be 0"));
        }
        Ok(())
    }
}

fn catalogue(file: &Path) -> Result<Catalogue, Error> {
    let (origin, text) = if file.as_os_str().is_empty() {
        ("config/models.toml".to_owned(), MODELS.to_owned())
    } else {
        (file.display().to_string(), read(file, "the model catalogue")?)
    };
    let catalogue: Catalogue = toml::from_str(&text).map_err(|error| Error::invalid(&origin, error))?;
    catalogue.check().map_err(|problem| Error::invalid(&origin, problem))?;
    Ok(catalogue)
}

fn read(path: &Path, what: &'static str) -> Result<String, Error> {
    std::fs::read_to_string(path).map_err(|error| Error::Unreadable { what, path: path.to_owned(), error })
}

fn seconds<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    u64::deserialize(deserializer).map(Duration::from_secs)
}

fn millis<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    u64::deserialize(deserializer).map(Duration::from_millis)
}

fn optional_url<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Url>, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Usd;

    fn load(toml: &str, variables: &[(&str, &str)]) -> Result<Config, Error> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), toml).unwrap();
        let environment = variables.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
        Config::load(Some(file.path()), &environment)
    }

    #[test]
    fn the_defaults_load_and_so_do_the_examples() {
        let config = Config::load(None, &Environment::new()).unwrap();
        assert_eq!(config.server.listen.to_string(), "127.0.0.1:8787");
        assert_eq!(config.server.response_timeout, Duration::from_secs(590));
        assert!(matches!(config.require_keys(), Err(Error::NoApiKey)));
        load(include_str!("../config/example.toml"), &[]).unwrap();
    }

    #[test]
    fn every_model_of_the_catalogue_is_there() {
        let catalogue = Config::load(None, &Environment::new()).unwrap().catalogue;
        for name in [
            "gpt-image-1",
            "gpt-image-1-mini",
            "gpt-image-1.5",
            "gpt-image-1.5-plus",
            "gpt-image-2",
            "gpt-image-2-plus",
            "gpt-image-2.5-flare",
            "gpt-image-2.5-sunburst",
            "gpt-4o-image",
            "gpt-4o-image-vip",
            "gpt-image-1-vip",
            "gpt-image-2-2026-04-21",
            "chatgpt-image-latest",
        ] {
            assert!(catalogue.find(name).is_some(), "{name}");
        }
    }

    #[test]
    fn the_environment_wins_over_the_file() {
        let config = load(
            "[cache]\nttl_s = 5\nmode = \"off\"",
            &[
                ("GATEWAY_CACHE__TTL_S", "7"),
                ("GATEWAY_SERVER__LISTEN", "0.0.0.0:80"),
                ("GATEWAY_PORT", "tcp://10.0.0.1:80"),
            ],
        )
        .unwrap();
        assert_eq!(config.cache.ttl, Duration::from_secs(7));
        assert_eq!(config.cache.mode, CacheMode::Off);
        assert_eq!(config.server.listen.to_string(), "0.0.0.0:80");
    }

    #[test]
    fn mistakes_name_themselves_in_one_line() {
        type Case = (&'static str, &'static [(&'static str, &'static str)], &'static str);
        let cases: &[Case] = &[
            ("[upstream]\nfrist_poll_ms = 5", &[], "upstream.frist_poll_ms"),
            ("[sever]\nlisten = \"x\"", &[], "sever"),
            ("", &[("GATEWAY_SERVER__LISTNE", "x")], "GATEWAY_SERVER__LISTNE"),
            ("", &[("GATEWAY_CACHE__TTL_S", "soon")], "GATEWAY_CACHE__TTL_S"),
            ("[server]\nlisten = \"here\"", &[], "listen"),
            ("[upstream]\nbase_url = \"http://gptproto.com\"", &[], "upstream.base_url"),
            ("[upstream]\nsubmits_per_minute = 0", &[], "submits_per_minute"),
            ("[upstream]\npoll_share_percent = 100", &[], "upstream.poll_share_percent"),
            ("[[upstream.accounts]]\nname = \"one\"", &[], "upstream.accounts one"),
            ("", &[("GPTPROTO_API_KEYS", "one:sk-1,one:sk-2")], "one"),
            ("[cache]\nmode = \"perhaps\"", &[], "mode"),
            ("[[clients]]\nname = \"a\"\nkey_digest = \"12\"", &[], "key_digest"),
            ("", &[("GATEWAY_CLIENT_KEYS", "alice:short")], "GATEWAY_CLIENT_KEYS"),
            ("", &[("GATEWAY_CLIENT_KEYS", "alice:sk-sandbox")], "GATEWAY_CLIENT_KEYS"),
            ("[models]\nfile = \"/nowhere/models.toml\"", &[], "/nowhere/models.toml"),
            ("[limits]\nrequests_per_minute = -1", &[], "limits.requests_per_minute"),
            ("[limits]\npredictions_at_once = 1000001", &[], "limits.predictions_at_once"),
            ("[limits]\npictures_per_day = 2.5", &[], "pictures_per_day"),
            ("[limits]\nusd_per_day = nan", &[], "limits.usd_per_day"),
            ("[limits]\nusd_per_month = 1e12", &[], "limits.usd_per_month"),
            ("", &[("GATEWAY_LIMITS__USD_PER_DAY", "-0.01")], "limits.usd_per_day"),
            ("[server]\nhosts = [\"gateway:8787\"]", &[], "server.hosts"),
            ("[operator]\nhosts = [\"*.\"]", &[], "operator.hosts"),
            ("[server]\nhosts = \"gateway\"", &[], "server.hosts"),
            ("", &[("GATEWAY_SERVER__HOSTS", "a.test,https://b.test")], "server.hosts"),
            ("[server]\ncors_origins = [\"https://app.example.com/\"]", &[], "server.cors_origins"),
            ("", &[("GATEWAY_SERVER__CORS_ORIGINS", "app.example.com")], "server.cors_origins"),
            ("[server]\nconcurrent_conversions_max = 0", &[], "server.concurrent_conversions_max"),
            ("[limits]\nrequests_at_once = -1", &[], "limits.requests_at_once"),
            ("[server]\nconnections_max = 0", &[], "server.connections_max"),
            ("[server]\nheader_timeout_s = 0", &[], "server.header_timeout_s"),
            ("[server]\nheader_bytes_max = 100", &[], "server.header_bytes_max"),
            ("[server]\nhttp2_stream_window_bytes = 3000000000", &[], "server.http2_stream_window_bytes"),
            ("[server]\nbody_rate_window_s = 0", &[], "server.body_rate_window_s"),
            ("", &[("GATEWAY_SERVER__PROXY_NETWORKS", "10.0.0.0/8,here")], "server.proxy_networks"),
            ("", &[("GATEWAY_SERVER__TLS_KEY_FILE", "key.pem")], "server.tls_certificate_file"),
            ("[server]\nunix_socket_mode = \"rw\"", &[], "server.unix_socket_mode"),
            ("[server]\nunix_socket_mode = \"1777\"", &[], "server.unix_socket_mode"),
            ("", &[("GATEWAY_LIMITS__USD_PER_DAY", "much")], "GATEWAY_LIMITS__USD_PER_DAY"),
            ("", &[("GATEWAY_LIMITS__REQUESTS_PER_MINUTE", "1.5")], "GATEWAY_LIMITS__REQUESTS_PER_MINUTE"),
        ];
        for (toml, variables, named) in cases {
            let error = load(toml, variables).unwrap_err().to_string();
            assert!(error.contains(named), "{error:?} does not name {named}");
            assert!(!error.contains('\n'), "{error:?} is not one line");
        }
    }

    #[test]
    fn a_list_in_the_environment_has_commas() {
        let variables = [("GATEWAY_SERVER__HOSTS", " a.test ,*.b.test,"), ("GATEWAY_SERVER__CORS_ORIGINS", "null")];
        let config = load("[operator]\nhosts = [\"c.test\"]\n", &variables).unwrap();
        let hosts = |hosts: &[HostName]| hosts.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(hosts(&config.server.hosts), ["a.test", "*.b.test"]);
        assert_eq!(hosts(&config.operator.hosts), ["c.test"]);
        assert_eq!(config.server.cors_origins, [PageOrigin::Exactly("null".to_owned())]);
        let none = load("", &[("GATEWAY_SERVER__HOSTS", "")]).unwrap();
        assert!(none.server.hosts.is_empty());
    }

    /// A client called alice, of which `lines` are said.
    fn alice(lines: &str) -> String {
        format!("[[clients]]\nname = \"alice\"\nkey_digest = \"{}\"\n{lines}\n", "ab".repeat(32))
    }

    #[test]
    fn a_client_has_the_limits_of_everybody_unless_it_has_its_own() {
        let everybody = "[limits]\nrequests_per_minute = 60\npictures_per_day = 100\nusd_per_day = 10\n";
        let own = alice("pictures_per_day = 0\nusd_per_day = 2.5\nusd_per_month = 40\nweight = 3");
        let variables = [("GATEWAY_CLIENT_KEYS", "bob:0123456789abcdef"), ("GATEWAY_LIMITS__USD_PER_MONTH", "99")];
        let config = load(&format!("{everybody}{own}"), &variables).unwrap();
        let [alice, bob] = &config.clients[..] else { panic!("two clients") };
        let count = |count| std::num::NonZeroU32::new(count);
        let of_bob = ClientLimits {
            requests_per_minute: count(60),
            requests_at_once: None,
            predictions_at_once: None,
            pictures_per_day: count(100),
            usd_per_day: Some(Usd(10.0)),
            usd_per_month: Some(Usd(99.0)),
        };
        assert_eq!(bob.limits, of_bob);
        let of_alice = ClientLimits {
            pictures_per_day: None,
            usd_per_day: Some(Usd(2.5)),
            usd_per_month: Some(Usd(40.0)),
            ..of_bob
        };
        assert_eq!(alice.limits, of_alice);
        assert_eq!((alice.weight, bob.weight), (3.0, 1.0));
        assert_eq!((&alice.models, &bob.models), (&None, &None));
        let sandbox = config.sandboxed("127.0.0.1:1".parse().unwrap(), "key").clients.pop().unwrap();
        assert_eq!(sandbox.limits, of_bob);
        let unlimited = Config::load(None, &Environment::new()).unwrap();
        assert_eq!(unlimited.limits, ClientLimits::default());
    }

    #[test]
    fn models_of_a_client_may_be_named_by_an_alias() {
        let config = load(&alice("models = [\"openai/gpt-image-2\", \"gpt-image-1\", \"gpt-image-2\"]"), &[]).unwrap();
        let models: Vec<&str> = config.clients[0].models.iter().flatten().map(String::as_str).collect();
        assert_eq!(models, ["gpt-image-1", "gpt-image-2"]);
    }

    #[test]
    fn mistakes_about_a_client_name_it() {
        for (lines, named) in [
            ("models = [\"dall-e-9\"]", "clients.alice.models: no model is called \"dall-e-9\""),
            ("models = []", "clients.alice.models"),
            ("weight = 0", "clients.alice.weight"),
            ("weight = -1.5", "clients.alice.weight"),
            ("weight = nan", "clients.alice.weight"),
            ("weight = 1001", "clients.alice.weight"),
            ("usd_per_day = inf", "clients.alice.usd_per_day"),
            ("pictures_per_day = -3", "clients.alice.pictures_per_day"),
            ("picture_per_day = 3", "picture_per_day"),
        ] {
            let error = load(&alice(lines), &[]).unwrap_err().to_string();
            assert!(error.contains(named), "{error:?} does not name {named}");
            assert!(!error.contains('\n'), "{error:?} is not one line");
        }
    }

    #[test]
    fn the_examples_keys_open_nothing() {
        let mut variables: Environment = include_str!("../config/sidecar.env.example")
            .lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| line.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let complaint =
            |variables: &Environment| Config::load(None, variables).unwrap().require_keys().unwrap_err().to_string();
        assert!(complaint(&variables).contains("GPTPROTO_API_KEY"));
        variables.insert("GPTPROTO_API_KEY".to_owned(), "sk-real".to_owned());
        assert!(complaint(&variables).contains("GATEWAY_CLIENT_KEYS"));
        variables.insert("GATEWAY_CLIENT_KEYS".to_owned(), "app:0123456789abcdef".to_owned());
        Config::load(None, &variables).unwrap().require_keys().unwrap();
    }

    #[test]
    fn secrets_are_text_and_do_not_print() {
        let variables = [("GPTPROTO_API_KEY", "1234567890"), ("GATEWAY_CLIENT_KEYS", "alice:0123456789abcdef")];
        let config = load("", &variables).unwrap();
        config.require_keys().unwrap();
        assert_eq!(config.accounts[0].key.expose(), "1234567890");
        let printed = format!("{config:?}");
        assert!(!printed.contains("1234567890") && !printed.contains("0123456789abcdef"), "{printed}");
    }
}
