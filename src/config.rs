//! The configuration: defaults, then a file, then the environment. Later layers override earlier ones.
//!
//! `config/default.toml` is compiled in, explains every key and is the only source of defaults. This module is the only
//! reader of the environment, which it receives as a map, so that a test can pass its own.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::IntoDeserializer;
use serde::{Deserialize, Deserializer};
use toml::Table;
use url::Url;

use crate::model::Catalogue;

mod clients;
mod layers;
mod log;
mod secret;
mod server;
mod storage;
mod upstream;
mod webhooks;

pub(crate) use clients::{
    ClientConfig, ClientLimits, ClientsConfig, KEY_START, LimitOverrides, LimitPatch, WEIGHT_DEFAULT, check_name,
    check_weight, digest_of_key, model_ids,
};
use clients::{ClientSection, LimitsSection};
pub use clients::{NewKey, mint_key};
pub(crate) use layers::location::setup_paths;
pub use layers::location::{ConfigLocation, find_file};
pub(crate) use layers::{Layers, print};
pub(crate) use log::{LogConfig, LogFormat, LoggedRequests};
pub use secret::Secret;
pub(crate) use secret::found_credentials;
#[cfg(test)]
pub(crate) use server::ImageCheck;
pub(crate) use server::{
    AddressConfig, BodyConfig, ConversionConfig, DefaultResponseFormat, HeartbeatConfig, InterimResponses,
    ListenAddresses, OperatorConfig, PageOrigin, PictureAddresses, RequestConfig, ResolvedAddress, ResponseConfig,
    ServerConfig, UnsupportedParameters, WebPages,
};
pub(crate) use storage::{CacheConfig, CacheMode, StorageConfig};
pub(crate) use upstream::{
    Account, AllowedDownloads, ApiPolicy, FirstContact, InputTransport, OnUnknown, Switch, UpstreamConfig,
};
use webhooks::WebhooksSection;
pub(crate) use webhooks::{AllowedTargets, SigningSecret, WebhooksConfig};

const DEFAULTS: &str = include_str!("../config/default.toml");
const MODELS: &str = include_str!("../config/models.toml");

/// The client key of `serve --sandbox`. It is public, so any other configuration refuses it.
pub(crate) const SANDBOX_KEY: &str = "sk-sandbox";

/// The placeholder of `config/sidecar.env.example`. `serve` refuses it.
const EXAMPLE_API_KEY: &str = "put-your-gptproto-key-here";

/// The names under which the environment has the values of `serve --listen` and `--operator-listen`.
pub const LISTEN: &str = "--listen";
pub const OPERATOR_LISTEN: &str = "--operator-listen";

/// The variables of the environment.
pub type Environment = BTreeMap<String, String>;

/// The whole configuration, checked.
#[derive(Clone, Debug)]
pub struct Config {
    pub(crate) server: ServerConfig,
    pub(crate) operator: OperatorConfig,
    pub(crate) storage: StorageConfig,
    pub(crate) cache: CacheConfig,
    pub(crate) upstream: UpstreamConfig,
    pub(crate) webhooks: WebhooksConfig,
    pub(crate) log: LogConfig,
    pub(crate) clients: ClientsConfig,
    pub(crate) catalogue: Catalogue,
    /// The upstream accounts. May be empty; [`Config::require_keys`] refuses that.
    pub(crate) accounts: Vec<Account>,
}

/// The sections as written, before secrets and the catalogue have been read.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sections {
    /// Read in parts, by [`ServerConfig::read`].
    server: Table,
    operator: OperatorConfig,
    storage: StorageConfig,
    cache: CacheConfig,
    upstream: UpstreamConfig,
    webhooks: WebhooksSection,
    models: ModelsSection,
    log: LogConfig,
    limits: LimitsSection,
    #[serde(default)]
    clients: Vec<ClientSection>,
}

/// `[models]`: where the catalogue is, and the operator's own names of models.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ModelsSection {
    /// `None`: the compiled-in catalogue.
    #[serde(deserialize_with = "optional_path")]
    file: Option<PathBuf>,
    /// Other names of models, each with the name that it stands for.
    aliases: BTreeMap<String, String>,
}

/// Why the configuration cannot be used. The text is one line that names the key or the file.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot read {what} {path}: {error}")]
    Unreadable { what: &'static str, path: PathBuf, error: std::io::Error },
    #[error("{origin}: {problem}")]
    Invalid { origin: String, problem: String },
    #[error(
        "no upstream key: `gptproto-gateway init` sets a gateway up, or set GPTPROTO_API_KEY (create one at https://gptproto.com \
         under API keys); to try it without an account: serve --sandbox"
    )]
    NoApiKey,
    #[error(
        "no client key: `gptproto-gateway init` makes one for a new gateway. Or set GATEWAY_CLIENT_KEYS=name:key, or add \
         [[clients]] to the configuration; `gptproto-gateway keys new --name alice` makes one. Or set GATEWAY_ADMIN_TOKEN, and make keys at /admin of the operator \
         listener"
    )]
    NoClientKeys,
}

impl Error {
    fn invalid(origin: impl Into<String>, problem: impl std::fmt::Display) -> Self {
        Self::Invalid { origin: origin.into(), problem: layers::in_plain_words(&problem.to_string()) }
    }

    /// An error about a value that is in one of `sources`. The parser names the key on a line of its own.
    fn of_value(sources: &str, error: &toml::de::Error) -> Self {
        let text = error.to_string();
        let key = text.lines().find_map(|line| line.strip_prefix("in `")?.strip_suffix('`'));
        Self::invalid(key.unwrap_or(sources), error.message())
    }
}

impl Config {
    /// Reads the defaults, then `file` (or the file that `GATEWAY_CONFIG` names), then the environment.
    ///
    /// # Errors
    ///
    /// [`Error`], naming the key and where it is written. Missing upstream and client keys are not an error here.
    ///
    /// # Panics
    ///
    /// Never: the compiled-in defaults are tested.
    pub fn load(file: Option<&Path>, environment: &Environment) -> Result<Self, Error> {
        Self::load_layers(file, environment).map(|(config, _)| config)
    }

    /// The same, and the merged layers: what each key says, to compare it later.
    ///
    /// # Errors
    ///
    /// As [`Config::load`].
    pub(crate) fn load_layers(file: Option<&Path>, environment: &Environment) -> Result<(Self, Layers), Error> {
        Self::load_all(file, environment).map_err(|mut problems| problems.swap_remove(0))
    }

    /// The same, with every mistake that can be found at once, and at least one.
    pub(crate) fn load_all(file: Option<&Path>, environment: &Environment) -> Result<(Self, Layers), Vec<Error>> {
        let layers = Layers::read(file, environment)?;
        let parsed = parse(&layers.table).map_err(|error| Error::of_value(&layers.sources(), &error));
        let checked = parsed.and_then(|(server, sections)| Self::check(server, sections, environment));
        match checked {
            Ok(config) => Ok((config, layers)),
            Err(error) => Err(vec![layers.explain(error)]),
        }
    }

    fn check(mut server: ServerConfig, sections: Sections, environment: &Environment) -> Result<Self, Error> {
        let Sections { mut operator, storage, cache, mut upstream, webhooks, models, log, limits, clients, .. } =
            sections;
        server.tls.read_credentials(environment);
        server.check()?;
        storage.check()?;
        upstream.check(environment)?;
        let publishes =
            upstream.inputs.published_below(&server.addresses, upstream.api, upstream.is_loopback()).is_some();
        upstream.inputs.check(upstream.api, publishes)?;
        log.check()?;
        let webhooks = webhooks.check(environment)?;
        let mut catalogue = catalogue(models.file.as_deref())?;
        catalogue.add_aliases(&models.aliases).map_err(|problem| Error::invalid("models.aliases", problem))?;
        let clients = ClientsConfig::load(limits, clients, environment, &catalogue)?;
        let accounts = upstream::load_accounts(&upstream, environment)?;
        check_upstream_keys(&clients, &accounts)?;
        operator.read_admin_token(environment)?;
        check_admin_token(&operator, &clients, &accounts)?;
        Ok(Self { server, operator, storage, cache, upstream, webhooks, log, clients, catalogue, accounts })
    }

    /// Fails when a key is missing without which `serve` is of no use.
    ///
    /// # Errors
    ///
    /// [`Error::NoApiKey`], or [`Error::NoClientKeys`] where there is no admin token to make one with; both say how to get one.
    /// [`Error::Invalid`] for the public keys of the examples.
    pub fn require_keys(&self) -> Result<(), Error> {
        self.require_api_key()?;
        self.clients.refuse_example_key()?;
        let can_make_one = self.operator.admin_token.is_some();
        if self.clients.entries.is_empty() && !can_make_one { Err(Error::NoClientKeys) } else { Ok(()) }
    }

    /// Fails when the upstream key is missing, or is the placeholder of the examples.
    ///
    /// # Errors
    ///
    /// [`Error`], naming the variable.
    pub fn require_api_key(&self) -> Result<(), Error> {
        if self.accounts.is_empty() {
            return Err(Error::NoApiKey);
        }
        if self.accounts.iter().any(|account| account.key.expose() == EXAMPLE_API_KEY) {
            return Err(Error::invalid("GPTPROTO_API_KEY", "is the placeholder of the example; set your own key"));
        }
        Ok(())
    }

    /// Allows a start with stored pictures and without the journal that knows them.
    #[must_use]
    pub fn accepting_new_journal(mut self) -> Self {
        self.storage.accept_new_journal = true;
        self
    }

    /// Returns the configuration of `serve --sandbox`, with the simulator at `upstream`.
    ///
    /// # Panics
    ///
    /// Never: every socket address makes a URL.
    #[must_use]
    pub fn sandboxed(mut self, upstream: SocketAddr, api_key: &str) -> Self {
        self.upstream.base_url = format!("http://{upstream}").parse().expect("a socket address makes a URL");
        self.accounts = vec![Account::new(upstream::DEFAULT_ACCOUNT, Secret::new(api_key.to_owned()), &self.upstream)];
        self.storage.directory = self.storage.sandbox();
        self.storage.keep_prompts = Switch::On;
        // The simulator is much faster than the service at which the priors were measured.
        self.upstream.latency_priors = Switch::Off;
        self.upstream.first_poll = Duration::from_secs(1);
        // The simulator forgets its predictions when it stops, so those of an earlier run never end.
        self.upstream.deadline = Duration::from_mins(2);
        self.with_sandbox_client()
    }

    /// Returns the configuration with the client and the account of the sandbox, without an address and a key of the upstream.
    #[must_use]
    pub(crate) fn with_sandbox_keys(mut self) -> Self {
        self.accounts = vec![Account::new(upstream::DEFAULT_ACCOUNT, Secret::new(String::new()), &self.upstream)];
        self.with_sandbox_client()
    }

    /// Adds the client of the sandbox.
    #[must_use]
    fn with_sandbox_client(mut self) -> Self {
        self.clients.add_sandbox();
        self
    }

    /// Returns the addresses of the operator listener, for `healthcheck`. Blocks while names are resolved.
    ///
    /// # Errors
    ///
    /// A text that names the host that cannot be resolved.
    pub fn operator_listen(&self) -> Result<Vec<SocketAddr>, String> {
        let resolved = self.operator.listen.resolve().map_err(|problem| format!("operator.listen: {problem}"))?;
        Ok(resolved.into_iter().map(|resolved| resolved.address).collect())
    }
}

/// Returns the JSON Schema (2020-12) of a configuration file.
#[must_use]
pub fn schema() -> serde_json::Value {
    layers::schema()
}

/// Returns the default of `server.connections_max`.
pub(crate) fn connections_max_default() -> usize {
    layers::default_figure("server.connections_max")
}

/// Returns the text, where it is a list of addresses to listen on.
///
/// # Errors
///
/// What such a list looks like.
pub fn check_listen(text: &str) -> Result<String, String> {
    let listen: Result<ListenAddresses, _> = text.parse();
    listen.map(|_| text.to_owned()).map_err(|error| error.to_string())
}

/// Reads every section.
fn parse(table: &Table) -> Result<(ServerConfig, Sections), toml::de::Error> {
    let sections: Sections = table.clone().try_into()?;
    Ok((ServerConfig::read(&sections.server)?, sections))
}

/// Returns the values of a text, or of the texts of a list, as the parser names them; empty where it takes any text.
fn choices(section: &str, key: &str) -> Vec<String> {
    let mut table = layers::defaults().clone();
    let value = table.get_mut(section).and_then(|section| section.get_mut(key));
    // No key has this value.
    let impossible = toml::Value::String("?".to_owned());
    match value {
        Some(value @ toml::Value::String(_)) => *value = impossible,
        Some(toml::Value::Array(items)) => *items = vec![impossible],
        _ => return Vec::new(),
    }
    let Err(error) = parse(&table) else { return Vec::new() };
    let Some((_, expected)) = error.message().split_once("unknown variant `?`, expected ") else { return Vec::new() };
    expected.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Fails when a client's key is the key of an upstream account: every holder of it could go around the gateway.
///
/// # Errors
///
/// [`Error::Invalid`], naming the client and the account.
fn check_upstream_keys(clients: &ClientsConfig, accounts: &[Account]) -> Result<(), Error> {
    for account in accounts {
        let digest = digest_of_key(account.key.expose());
        if let Some(client) = clients.entries.iter().find(|client| client.key_digest == digest) {
            let problem = format!(
                "the key of {name} is the upstream key of the account {}; `gptproto-gateway keys new --name {name}` makes \
                 another one",
                account.id,
                name = client.name
            );
            return Err(Error::invalid("clients", problem));
        }
    }
    Ok(())
}

/// Fails when the admin token is a key of something else: its holder could administrate the gateway.
///
/// # Errors
///
/// [`Error::Invalid`], naming the client or the account.
fn check_admin_token(operator: &OperatorConfig, clients: &ClientsConfig, accounts: &[Account]) -> Result<(), Error> {
    let Some(token) = &operator.admin_token else { return Ok(()) };
    let digest = digest_of_key(token.expose());
    let client = clients.entries.iter().find(|client| client.key_digest == digest);
    let account = accounts.iter().find(|account| digest_of_key(account.key.expose()) == digest);
    let other = match (client, account) {
        (Some(client), _) => format!("is the key of the client {}", client.name),
        (None, Some(account)) => format!("is the upstream key of the account {}", account.id),
        (None, None) => return Ok(()),
    };
    Err(Error::invalid("GATEWAY_ADMIN_TOKEN", format!("{other}; use a token of its own")))
}

fn catalogue(file: Option<&Path>) -> Result<Catalogue, Error> {
    let (origin, text) = match file {
        None => ("config/models.toml".to_owned(), MODELS.to_owned()),
        Some(file) => (file.display().to_string(), read(file, "the model catalogue")?),
    };
    let catalogue: Catalogue = toml::from_str(&text).map_err(|error| layers::syntax_error(&origin, &text, &error))?;
    catalogue.check().map_err(|problem| Error::invalid(&origin, problem))?;
    Ok(catalogue)
}

fn read(path: &Path, what: &'static str) -> Result<String, Error> {
    std::fs::read_to_string(path).map_err(|error| Error::Unreadable { what, path: path.to_owned(), error })
}

fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    u64::deserialize(deserializer).map(Duration::from_secs)
}

fn millis<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    u64::deserialize(deserializer).map(Duration::from_millis)
}

/// Reads seconds, of which 0 is `None`.
fn optional_seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    Ok(optional_count(deserializer)?.map(|seconds: NonZeroU64| Duration::from_secs(seconds.get())))
}

/// Reads a number, of which 0 is `None`.
fn optional_count<'de, D, N>(deserializer: D) -> Result<Option<N>, D::Error>
where
    D: Deserializer<'de>,
    N: TryFrom<NonZeroU64, Error: std::fmt::Display>,
{
    NonZeroU64::new(u64::deserialize(deserializer)?).map(N::try_from).transpose().map_err(serde::de::Error::custom)
}

/// Reads a path, of which the empty one is `None`.
fn optional_path<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<PathBuf>, D::Error> {
    PathBuf::deserialize(deserializer).map(|path| (!path.as_os_str().is_empty()).then_some(path))
}

/// Reads an address.
fn url<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Url, D::Error> {
    // The error of `Url` as a value would repeat the text, which may contain a password.
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(|error| serde::de::Error::custom(format!("is not an address: {error}")))
}

/// Reads an address, of which the empty one is `None`.
fn optional_url<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Url>, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.is_empty() { Ok(None) } else { url(text.into_deserializer()).map(Some) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Loads a file with this text, below these variables.
    pub(super) fn load(toml: &str, variables: &[(&str, &str)]) -> Result<Config, Error> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), toml).unwrap();
        let environment = variables.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
        Config::load(Some(file.path()), &environment)
    }

    /// The text of the error, which must be one line, without the place in the file or the variable before a key.
    pub(super) fn refusal(toml: &str, variables: &[(&str, &str)]) -> String {
        let error = load(toml, variables).unwrap_err().to_string();
        assert!(!error.contains('\n'), "{error:?} is not one line");
        let name = error.split(": ").next().unwrap_or_default();
        let rest = error.get(name.len() + 2..).unwrap_or_default();
        let is_line =
            name.rsplit_once(':').is_some_and(|(file, line)| file.contains('/') && line.parse::<usize>().is_ok());
        let is_variable = variables.iter().any(|(variable, _)| *variable == name)
            && rest.split(':').next().is_some_and(|key| key.contains('.') && !key.contains(' '));
        if is_line || is_variable { rest.to_owned() } else { error }
    }

    #[test]
    fn the_defaults_and_the_example_load() {
        let config = Config::load(None, &Environment::new()).unwrap();
        assert_eq!(config.server.addresses.listen.to_string(), "localhost:8787");
        assert_eq!(config.server.responses.timeout, Duration::from_secs(590));
        assert!(matches!(config.require_keys(), Err(Error::NoApiKey)));
        load(include_str!("../config/example.toml"), &[]).unwrap();
    }

    #[test]
    fn the_catalogue_has_every_model() {
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
    fn models_have_names_of_the_operator() {
        let named = |config: &Config, name: &str| config.catalogue.find(name).map(|model| model.id.to_string());
        let alias = "\"dall-e-3\" = \"gpt-image-1.5\"";
        for (toml, variables) in [
            (format!("[models.aliases]\n{alias}"), &[][..]),
            (format!("[models]\naliases = {{ {alias} }}"), &[]),
            (String::new(), &[("GATEWAY_MODELS__ALIASES", " dall-e-3 = gpt-image-1.5 ,")]),
            // Both layers hold: the environment replaces what it names.
            (
                "[models.aliases]\n\"dall-e-3\" = \"gpt-image-2\"".to_owned(),
                &[("GATEWAY_MODELS__ALIASES", "dall-e-3=gpt-image-1.5")],
            ),
        ] {
            let config = load(&toml, variables).unwrap();
            assert_eq!(named(&config, "dall-e-3").as_deref(), Some("gpt-image-1.5"), "{toml} {variables:?}");
            assert_eq!(named(&config, "dall-e-2"), None);
        }
        let digest = "0".repeat(64);
        let client = format!(
            "[models.aliases]\n{alias}\n[[clients]]\nname = \"a\"\nkey_digest = \"{digest}\"\nmodels = [\"dall-e-3\"]"
        );
        let config = load(&client, &[]).unwrap();
        assert!(config.clients.entries[0].models.as_ref().unwrap().contains("gpt-image-1.5"));
        for (toml, words) in [
            (
                "[models.aliases]\n\"gpt-image-2\" = \"gpt-image-1\"",
                "models.aliases: \"gpt-image-2\" is the id of a model",
            ),
            ("[models.aliases]\n\"dall-e-3\" = \"gpt-image-15\"", "did you mean \"gpt-image-1.5\"?"),
            ("[models.aliases]\n\"dall-e-3\" = 5", "models.aliases: must be a table of texts"),
            ("[models]\naliases = \"dall-e-3\"", "models.aliases: must be a table of texts"),
            ("[server]\nresponse_format_default = \"base64\"", "server.response_format_default"),
        ] {
            let error = refusal(toml, &[]);
            assert!(error.contains(words), "{error:?} does not say {words}");
        }
        let error = refusal("", &[("GATEWAY_MODELS__ALIASES", "dall-e-3")]);
        assert!(error.contains("GATEWAY_MODELS__ALIASES") && error.contains("name=text"), "{error}");
    }

    #[test]
    fn figures_of_the_catalogue_have_ranges() {
        let model = |price: &str, parameters: &str, size: &str| {
            let text = format!(
                "default_model = \"m\"\n[[models]]\nid = \"m\"\ncreated = 1\nprice = {{ estimate_usd_per_picture = {price} }}\n\
                 [models.parameters]\nprompt_chars_max = 9\nimages_max = 1\nimage_bytes_max = 9\nmask_bytes_max = 9\n{parameters}\n\
                 [models.parameters.size]\nauto = [\"{size}\"]\nvalues = [\"{size}\"]\n"
            );
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), text).unwrap();
            load(&format!("[models]\nfile = {:?}", file.path()), &[]).map(drop).map_err(|error| error.to_string())
        };
        model("0.1", "", "64x64").unwrap();
        for (price, parameters, size, named) in [
            ("nan", "", "64x64", "model m: price.estimate_usd_per_picture must be a number from 0 to 1000000, not NaN"),
            ("-1.0", "", "64x64", "model m: price.estimate_usd_per_picture must be a number from 0"),
            ("1e308", "", "64x64", "model m: price.estimate_usd_per_picture must be a number from 0"),
            ("0.1", "n_max = 0", "64x64", "must be a whole number above 0"),
            ("0.1", "n_max = 256", "64x64", "must be a whole number above 0"),
            ("0.1", "", "0x64", "0x64"),
            ("0.1", "", "64x4294967295", "64x4294967295 must have edges from 1 to 1000000"),
        ] {
            let error = model(price, parameters, size).unwrap_err();
            assert!(error.contains(named), "{error:?} does not name {named}");
        }
    }

    #[test]
    fn an_error_names_its_source() {
        let environment = Environment::from([("GATEWAY_SERVER__LISTEN".to_owned(), "here".to_owned())]);
        let error = Config::load(None, &environment).unwrap_err().to_string();
        assert!(error.starts_with("GATEWAY_SERVER__LISTEN: server.listen: "), "{error}");
        let placed = |toml: &str| load(toml, &[]).unwrap_err().to_string();
        let error = placed("[cache]\n\nmode = on");
        assert!(error.contains(":3: "), "{error}");
        let error = placed("[cache]\n\nmode = \"perhaps\"");
        let expected = ":3: cache.mode: must be \"on\" or \"off\"; for example: mode = \"on\"";
        assert!(error.starts_with('/') && error.ends_with(expected), "{error}");
        let error = placed("[cache]\nttl_s = -5");
        assert!(
            error.ends_with(
                ":2: cache.ttl_s: must be a whole number from 0 to 315360000, not -5; for example: ttl_s = 86400"
            ),
            "{error}"
        );
        assert!(refusal("[models]\nfile = \"/nowhere/models.toml\"", &[]).contains("/nowhere/models.toml"));
    }

    #[test]
    fn the_keys_of_the_example_are_refused() {
        let mut variables: Environment = include_str!("../config/sidecar.env.example")
            .lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| line.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let refusal =
            |variables: &Environment| Config::load(None, variables).unwrap().require_keys().unwrap_err().to_string();
        assert!(refusal(&variables).contains("GPTPROTO_API_KEY"));
        variables.insert("GPTPROTO_API_KEY".to_owned(), "sk-real".to_owned());
        assert!(refusal(&variables).contains("GATEWAY_CLIENT_KEYS"));
        variables.insert("GATEWAY_CLIENT_KEYS".to_owned(), "app:0123456789abcdef".to_owned());
        Config::load(None, &variables).unwrap().require_keys().unwrap();
    }
}
