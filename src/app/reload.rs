//! The configuration, read again while the gateway runs: what of it is applied, and what needs a restart.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use toml::{Table, Value};

use crate::admin::{Reload, Reloaded};
use crate::config::{ClientsConfig, Config, Environment};
use crate::telemetry;

/// Where a configuration was read from.
#[derive(Clone, Debug, Default)]
pub struct ConfigSource {
    pub file: Option<PathBuf>,
    /// The variables at the start of the process: those of a running one do not change.
    pub environment: Environment,
}

/// What was read last.
struct Known {
    layers: Table,
    clients: ClientsConfig,
    log_filter: String,
}

/// Returns what reads the configuration again. `config` is the one that is in force.
pub(super) fn reload(config: &Config, source: Option<ConfigSource>, sandbox: bool) -> Reload {
    let Some(source) = source else {
        return Arc::new(
            || Err("this gateway was started without a configuration that could be read again".to_owned()),
        );
    };
    let layers = Config::load_layers(source.file.as_deref(), &source.environment).map(|(_, layers)| layers.table);
    let known = Mutex::new(Known {
        layers: layers.unwrap_or_default(),
        clients: config.clients.clone(),
        log_filter: config.log.filter.clone(),
    });
    Arc::new(move || {
        let read = Config::load_layers(source.file.as_deref(), &source.environment);
        let (config, layers) = read.map_err(|error| error.to_string())?;
        config.clients.refuse_example_key().map_err(|error| error.to_string())?;
        let config = if sandbox { config.with_sandbox_client() } else { config };
        let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
        let mut reloaded = Reloaded::default();
        for key in changed_keys(&known.layers, &layers) {
            match key.as_str() {
                // The keys themselves may change where the layers do not, in files.
                "clients" => {}
                "log.filter" if telemetry::change_log_filter(&config.log.filter) => {
                    known.log_filter.clone_from(&config.log.filter);
                    reloaded.changed.push(key);
                }
                _ if key.starts_with("limits.") => reloaded.changed.push(key),
                _ => reloaded.needs_restart.push(key),
            }
        }
        let clients = changed_clients(&known.clients, &config.clients);
        reloaded.changed.extend(clients);
        // What needs a restart is named again by the next reload, because it is still not in force.
        apply_layers(&mut known.layers, &layers, &reloaded.changed);
        known.clients = config.clients.clone();
        Ok((config.clients, reloaded))
    })
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
    use super::*;

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
        let reload = reload(&config, Some(source), false);
        let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        assert_eq!(reload().unwrap().1, Reloaded::default());

        write("[limits]\nusd_per_day = 2\n[cache]\nttl_s = 5\n", "alice:0123456789abcdef\nbob:fedcba9876543210");
        let (clients, reloaded) = reload().unwrap();
        // A client without limits of its own has those of all.
        let expected = names(&["limits.usd_per_day", "clients.alice", "clients.bob"]);
        assert_eq!((reloaded.changed, reloaded.needs_restart), (expected, names(&["cache.ttl_s"])));
        assert_eq!(clients.entries.len(), 2);
        let (_, again) = reload().unwrap();
        assert_eq!((again.changed, again.needs_restart), (vec![], names(&["cache.ttl_s"])), "still not in force");

        write("[limits]\nusd_per_day = 2\n[cache]\nttl_s = five\n", "bob:fedcba9876543210");
        let problem = reload().unwrap_err();
        assert!(problem.contains("gateway.toml: line 4"), "{problem}");
        write("[limits]\nusd_per_day = 2\n", "bob:fedcba9876543210");
        let (clients, reloaded) = reload().unwrap();
        assert_eq!((reloaded.changed, reloaded.needs_restart), (names(&["clients.alice"]), vec![]));
        assert_eq!(clients.entries.len(), 1);
    }
}
