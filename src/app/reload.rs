//! The configuration, read again while the gateway runs: what of it is applied, and what needs a restart.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use toml::{Table, Value};

use crate::admin::{ConfigRead, Reload, Reloaded};
use crate::api::OriginPolicy;
use crate::budget::BudgetControl;
use crate::config::{
    AddressConfig, ClientsConfig, Config, Environment, LoggedRequests, OperatorConfig, UpstreamConfig, WebhooksConfig,
};
use crate::model::{Catalogue, Current, Digest};
use crate::server::hosts::HostRules;
use crate::telemetry;
use crate::webhooks::Webhooks;

/// Limits of an account that can change while it is used.
const ACCOUNT_BOUNDS: [&str; 3] = ["submits_per_minute", "requests_per_minute", "concurrent_predictions"];

/// Where a configuration was read from.
#[derive(Clone, Debug, Default)]
pub struct ConfigSource {
    pub file: Option<PathBuf>,
    /// The variables at the start of the process, and the arguments that override them: those of a running one do not change.
    pub environment: Environment,
}

/// The name of the admin token among the secrets.
const ADMIN_TOKEN: &str = "GATEWAY_ADMIN_TOKEN";

/// What a reload changes, besides the clients.
#[derive(Debug)]
pub(super) struct Reloadable {
    /// With the addresses that the listeners have.
    pub(super) addresses: AddressConfig,
    pub(super) origins: Current<OriginPolicy>,
    pub(super) logged_requests: Current<LoggedRequests>,
    pub(super) operator: OperatorConfig,
    pub(super) operator_hosts: Current<HostRules>,
    pub(super) upstream: UpstreamConfig,
    pub(super) budget: BudgetControl,
    pub(super) catalogue: Arc<Catalogue>,
    pub(super) webhooks: Webhooks,
}

/// A part of the configuration that is in force at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Limits,
    LogFilter,
    LogFormat,
    LoggedRequests,
    Origins,
    OperatorHosts,
    Aliases,
    Bounds,
    Webhooks,
}

/// What was read last.
struct Known {
    layers: Table,
    secrets: BTreeMap<String, Digest>,
    clients: ClientsConfig,
    webhooks: WebhooksConfig,
}

impl Part {
    /// Returns the part that a key belongs to; `None` where it needs a restart.
    fn of(key: &str, before: &Table, after: &Table) -> Option<Self> {
        match key {
            "log.filter" => Some(Self::LogFilter),
            "log.format" => Some(Self::LogFormat),
            "log.requests" => Some(Self::LoggedRequests),
            "server.hosts" | "server.cors_origins" => Some(Self::Origins),
            "operator.hosts" => Some(Self::OperatorHosts),
            "models.aliases" => Some(Self::Aliases),
            "upstream.accounts" if has_same_accounts(before, after) => Some(Self::Bounds),
            _ => match key.split_once('.')? {
                ("limits", _) => Some(Self::Limits),
                ("webhooks", _) => Some(Self::Webhooks),
                ("upstream", key) if ACCOUNT_BOUNDS.contains(&key) => Some(Self::Bounds),
                _ => None,
            },
        }
    }
}

impl Reloadable {
    /// Puts a part in force; returns whether that was possible.
    fn apply(&self, part: Part, config: &Config) -> bool {
        match part {
            // Applied with the clients, and before all others.
            Part::Limits | Part::Webhooks => {}
            Part::LogFilter => return telemetry::change_log_filter(&config.log.filter),
            Part::LogFormat => telemetry::change_log_format(config.log.format),
            Part::LoggedRequests => self.logged_requests.set(config.log.requests),
            Part::Origins => {
                let AddressConfig { hosts, cors_origins, .. } = config.server.addresses.clone();
                self.origins.set(OriginPolicy::new(&AddressConfig { hosts, cors_origins, ..self.addresses.clone() }));
            }
            Part::OperatorHosts => self.operator_hosts.set(operator_hosts(&self.operator, &config.operator)),
            Part::Aliases => self.catalogue.take_aliases(&config.catalogue),
            Part::Bounds => self.budget.set_bounds(&self.upstream, &config.accounts),
        }
        true
    }
}

/// Returns the rules of the operator listener: where it listens, and the hosts that are listed.
pub(super) fn operator_hosts(listening: &OperatorConfig, listing: &OperatorConfig) -> HostRules {
    HostRules::new(listening.listen.is_loopback(), listening.listen.has_loopback(), &listing.hosts, None)
}

/// Returns what reads the configuration again. `config` is the one that is in force.
pub(super) fn reload(config: &Config, source: Option<ConfigSource>, sandbox: bool, reloadable: Reloadable) -> Reload {
    let Some(source) = source else {
        return Arc::new(
            || Err("this gateway was started without a configuration that could be read again".to_owned()),
        );
    };
    let read = Config::load_layers(source.file.as_deref(), &source.environment);
    let as_served = move |config: Config| if sandbox { config.with_sandbox_keys() } else { config };
    let (layers, secrets) =
        read.map(|(config, layers)| (layers.table, digests_of_secrets(&as_served(config)))).unwrap_or_default();
    let known =
        Mutex::new(Known { layers, secrets, clients: config.clients.clone(), webhooks: config.webhooks.clone() });
    Arc::new(move || {
        let read = Config::load_layers(source.file.as_deref(), &source.environment);
        let (config, layers) = read.map_err(|error| error.to_string())?;
        let layers = layers.table;
        config.clients.refuse_example_key().map_err(|error| error.to_string())?;
        let config = as_served(config);
        let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = changed_keys(&known.layers, &layers);
        let parts: Vec<(&String, Option<Part>)> =
            changed.iter().map(|key| (key, Part::of(key, &known.layers, &layers))).collect();
        let has_new_secret = !known.webhooks.has_same_secret(&config.webhooks);
        // The only one that can fail, before anything has changed.
        if has_new_secret || parts.iter().any(|(_, part)| *part == Some(Part::Webhooks)) {
            reloadable.webhooks.reload(&config.webhooks).map_err(|error| format!("webhooks: {error}"))?;
        }
        let mut reloaded = Reloaded::default();
        if has_new_secret && !changed.iter().any(|key| key == "webhooks.secret_file") {
            reloaded.changed.push("webhooks.secret_file".to_owned());
        }
        // The keys of clients may change where the layers do not, in files.
        for (key, part) in parts.into_iter().filter(|(key, _)| *key != "clients") {
            match part {
                Some(part) if reloadable.apply(part, &config) => reloaded.changed.push(key.clone()),
                Some(_) | None => reloaded.needs_restart.push(key.clone()),
            }
        }
        let read = digests_of_secrets(&config);
        let names: BTreeSet<&String> = known.secrets.keys().chain(read.keys()).collect();
        for name in names.into_iter().filter(|name| known.secrets.get(*name) != read.get(*name)) {
            let in_force = name == ADMIN_TOKEN;
            if in_force { &mut reloaded.changed } else { &mut reloaded.needs_restart }.push(name.clone());
        }
        match read.get(ADMIN_TOKEN) {
            Some(token) => drop(known.secrets.insert(ADMIN_TOKEN.to_owned(), *token)),
            None => drop(known.secrets.remove(ADMIN_TOKEN)),
        }
        let clients = changed_clients(&known.clients, &config.clients);
        reloaded.changed.extend(clients);
        // What needs a restart is named again by the next reload, because it is still not in force.
        apply_layers(&mut known.layers, &layers, &reloaded.changed);
        known.clients = config.clients.clone();
        known.webhooks = config.webhooks;
        Ok(ConfigRead { clients: config.clients, admin_token: config.operator.admin_token, reloaded })
    })
}

/// Returns the digests of secrets, which the layers do not have where they come from files, by what has them. Those of clients are
/// among the clients.
fn digests_of_secrets(config: &Config) -> BTreeMap<String, Digest> {
    let digest = |text: &str| Digest::of(text.as_bytes());
    let accounts = config.accounts.iter().map(|account| {
        let name = format!("upstream.accounts.{}", account.id);
        (name, digest(account.key.expose()))
    });
    let admin = config.operator.admin_token.as_ref();
    let proxy = config.upstream.proxy().and_then(|proxy| proxy.credentials.as_ref());
    let others = [
        admin.map(|token| (ADMIN_TOKEN, digest(token.expose()))),
        proxy.map(|one| ("GATEWAY_PROXY_CREDENTIALS", digest(&format!("{}:{}", one.user, one.password.expose())))),
    ];
    accounts.chain(others.into_iter().flatten().map(|(name, digest)| (name.to_owned(), digest))).collect()
}

/// Whether two configurations have the same accounts with the same keys, whatever their limits are.
fn has_same_accounts(before: &Table, after: &Table) -> bool {
    let accounts = |layers: &Table| {
        let list = layers.get("upstream").and_then(|section| section.get("accounts")).and_then(Value::as_array);
        let mut accounts = list.cloned().unwrap_or_default();
        for account in accounts.iter_mut().filter_map(Value::as_table_mut) {
            account.retain(|key, _| !ACCOUNT_BOUNDS.contains(&key));
        }
        accounts
    };
    accounts(before) == accounts(after)
}

/// Returns the keys, as `section.key`, that differ between two configurations. A list of tables is one key.
fn changed_keys(before: &Table, after: &Table) -> Vec<String> {
    let empty = Value::Table(Table::new());
    let mut changed = Vec::new();
    let sections: std::collections::BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    for section in sections {
        match (before.get(section).unwrap_or(&empty), after.get(section).unwrap_or(&empty)) {
            (Value::Table(before), Value::Table(after)) => {
                let keys: std::collections::BTreeSet<&String> = before.keys().chain(after.keys()).collect();
                let differing = keys.into_iter().filter(|key| before.get(*key) != after.get(*key));
                changed.extend(differing.map(|key| format!("{section}.{key}")));
            }
            (before, after) if before != after => changed.push(section.clone()),
            _ => {}
        }
    }
    changed
}

/// Takes over those keys that are in force now.
fn apply_layers(known: &mut Table, read: &Table, keys: &[String]) {
    for key in keys {
        let Some((section, key)) = key.split_once('.') else { continue };
        let (Some(Value::Table(known)), Some(Value::Table(read))) = (known.get_mut(section), read.get(section)) else {
            continue;
        };
        match read.get(key) {
            Some(value) => drop(known.insert(key.to_owned(), value.clone())),
            None => drop(known.remove(key)),
        }
    }
}

/// Returns the clients that were added, removed or changed, as `clients.name`.
fn changed_clients(before: &ClientsConfig, after: &ClientsConfig) -> Vec<String> {
    let find = |clients: &ClientsConfig, name: &str| clients.entries.iter().find(|client| client.name == name).cloned();
    let names = before.entries.iter().chain(&after.entries).map(|client| client.name.clone());
    let names: std::collections::BTreeSet<String> = names.collect();
    names
        .into_iter()
        .filter(|name| find(before, name) != find(after, name))
        .map(|name| format!("clients.{name}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::budget::Budget;
    use crate::lifecycle::Lifecycle;
    use crate::model::{Rng, SystemClock};
    use crate::storage::journal::memory::{Disk, MemoryJournal, SyncMode};
    use crate::telemetry::Metrics;
    use crate::webhooks;

    fn reloadable(config: &Config) -> Reloadable {
        let metrics = Metrics::default();
        let budget = Budget::new(&config.upstream, &config.accounts, <_>::default(), <_>::default(), &metrics);
        let parts = webhooks::Parts {
            journal: Arc::new(MemoryJournal::on(&Disk::default(), Duration::ZERO, SyncMode::Full)),
            clock: Arc::new(SystemClock),
            rng: Rng::seeded(1),
            lifecycle: Lifecycle::default(),
            metrics,
        };
        Reloadable {
            addresses: config.server.addresses.clone(),
            origins: Current::new(OriginPolicy::new(&config.server.addresses)),
            logged_requests: Current::new(config.log.requests),
            operator: config.operator.clone(),
            operator_hosts: Current::new(operator_hosts(&config.operator, &config.operator)),
            upstream: config.upstream.clone(),
            budget: BudgetControl::of(&budget),
            catalogue: Arc::new(config.catalogue.clone()),
            webhooks: Webhooks::new(&config.webhooks, parts).unwrap().0,
        }
    }

    fn variables(directory: &std::path::Path) -> ConfigSource {
        let keys = directory.join("keys");
        let environment = [("GATEWAY_CLIENT_KEYS_FILE", keys.display().to_string())];
        let environment = environment.map(|(name, value)| (name.to_owned(), value)).into();
        ConfigSource { file: Some(directory.join("gateway.toml")), environment }
    }

    #[test]
    fn what_is_in_force_and_what_needs_a_restart_are_named_until_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let source = variables(directory.path());
        let write = |toml: &str, keys: &str| {
            std::fs::write(directory.path().join("gateway.toml"), toml).unwrap();
            std::fs::write(directory.path().join("keys"), keys).unwrap();
        };
        write("[limits]\nusd_per_day = 1\n", "alice:0123456789abcdef");
        let config = Config::load(source.file.as_deref(), &source.environment).unwrap();
        let reload = reload(&config, Some(source), false, reloadable(&config));
        let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        assert_eq!(reload().unwrap().reloaded, Reloaded::default());

        write("[limits]\nusd_per_day = 2\n[cache]\nttl_s = 5\n", "alice:0123456789abcdef\nbob:fedcba9876543210");
        let ConfigRead { clients, reloaded, .. } = reload().unwrap();
        // A client without limits of its own has those of all.
        let expected = names(&["limits.usd_per_day", "clients.alice", "clients.bob"]);
        assert_eq!((reloaded.changed, reloaded.needs_restart), (expected, names(&["cache.ttl_s"])));
        assert_eq!(clients.entries.len(), 2);
        let again = reload().unwrap().reloaded;
        assert_eq!((again.changed, again.needs_restart), (vec![], names(&["cache.ttl_s"])), "still not in force");

        write("[limits]\nusd_per_day = 2\n[cache]\nttl_s = five\n", "bob:fedcba9876543210");
        let problem = reload().unwrap_err();
        assert!(problem.contains("gateway.toml:4: "), "{problem}");
        write("[limits]\nusd_per_day = 2\n", "bob:fedcba9876543210");
        let ConfigRead { clients, reloaded, .. } = reload().unwrap();
        assert_eq!((reloaded.changed, reloaded.needs_restart), (names(&["clients.alice"]), vec![]));
        assert_eq!(clients.entries.len(), 1);
    }

    #[test]
    fn a_changed_secret_is_named_by_what_has_it_and_the_admin_token_is_in_force() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str| directory.path().join(name).display().to_string();
        let write = |name: &str, secret: &str| std::fs::write(file(name), secret).unwrap();
        let mut source = variables(directory.path());
        std::fs::write(
            directory.path().join("gateway.toml"),
            "[webhooks]\nallowed_origins = [\"https://example.com\"]\n",
        )
        .unwrap();
        write("keys", "alice:0123456789abcdef");
        write("token", "the-first-admin-token-0123456789");
        write("upstream", "sk-upstream-0123456789");
        write("webhooks", "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=");
        for (variable, name) in
            [("GATEWAY_ADMIN_TOKEN", "token"), ("GPTPROTO_API_KEY", "upstream"), ("GATEWAY_WEBHOOK_SECRET", "webhooks")]
        {
            source.environment.insert(format!("{variable}_FILE"), file(name));
        }
        let config = Config::load(source.file.as_deref(), &source.environment).unwrap();
        let reload = reload(&config, Some(source), false, reloadable(&config));
        assert_eq!(reload().unwrap().reloaded, Reloaded::default());

        write("token", "the-second-admin-token-0123456789");
        write("upstream", "sk-upstream-9876543210");
        write("webhooks", "whsec_OTg3NjU0MzIxMDk4NzY1NDMyMTA5ODc2NTQzMjEwOTg=");
        let ConfigRead { admin_token, reloaded, .. } = reload().unwrap();
        assert_eq!(admin_token.unwrap().expose(), "the-second-admin-token-0123456789");
        assert_eq!(reloaded.changed, ["webhooks.secret_file", ADMIN_TOKEN]);
        assert_eq!(reloaded.needs_restart, ["upstream.accounts.default"]);
        let again = reload().unwrap().reloaded;
        assert_eq!((again.changed.len(), again.needs_restart.len()), (0, 1), "still not in force");
    }

    #[test]
    fn limits_of_an_account_may_change_and_the_account_may_not() {
        let accounts = |text: &str| text.parse::<Table>().unwrap();
        let before = accounts("[[upstream.accounts]]\nname = \"one\"\nsubmits_per_minute = 5");
        let part = |after: &str| Part::of("upstream.accounts", &before, &accounts(after));
        assert_eq!(part("[[upstream.accounts]]\nname = \"one\"\nconcurrent_predictions = 5"), Some(Part::Bounds));
        assert_eq!(part("[[upstream.accounts]]\nname = \"two\"\nsubmits_per_minute = 5"), None);
        assert_eq!(part("[[upstream.accounts]]\nname = \"one\"\napi_key_file = \"other\""), None);
        assert_eq!(part(""), None);
    }
}
