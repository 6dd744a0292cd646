//! The layers of the configuration: one table over another, and the environment as a table.

use toml::{Table, Value};

use super::secret::{IN_QUOTES, is_quoted};
use super::{Environment, Error};

pub(super) mod location;
mod messages;
mod ranges;
mod types;

pub(super) use messages::in_plain_words;
use ranges::ValueRange;
pub(super) use ranges::check as check_ranges;
use types::{ACCOUNTS, CLIENTS};

/// Variables of the gateway that do not have the form `GATEWAY_SECTION__KEY`.
const OWN_VARIABLES: &[&str] = &[
    "GATEWAY_ADMIN_TOKEN",
    "GATEWAY_ADMIN_TOKEN_FILE",
    "GATEWAY_CONFIG",
    "GATEWAY_CLIENT_KEYS",
    "GATEWAY_CLIENT_KEYS_FILE",
    "GATEWAY_PROXY_CREDENTIALS",
    "GATEWAY_PROXY_CREDENTIALS_FILE",
    "GATEWAY_WEBHOOK_SECRET",
    "GATEWAY_WEBHOOK_SECRET_FILE",
];
/// The only section that is a list of tables. It has no default to compare with.
const CLIENTS_SECTION: &str = "clients";
/// The only key that is a list of tables.
const ACCOUNTS_KEY: (&str, &str) = ("upstream", "accounts");

/// Lays one table over another. Tables are merged key by key; any other value is replaced.
pub(super) fn overlay(below: &mut Table, above: Table) {
    for (key, value) in above {
        match (below.get_mut(&key), value) {
            (Some(Value::Table(below)), Value::Table(above)) => overlay(below, above),
            (_, value) => {
                below.insert(key, value);
            }
        }
    }
}

/// Refuses keys that the defaults do not have, and values of another type. Figures are checked by [`check_ranges`].
///
/// # Errors
///
/// A text that names the section or the key in full, and repeats no value.
pub(super) fn check_known(above: &Table, defaults: &Table) -> Result<(), String> {
    for (section, value) in above {
        if section == CLIENTS_SECTION {
            continue;
        }
        let Some(Value::Table(known)) = defaults.get(section) else {
            return Err(format!("unknown section [{section}]"));
        };
        let Value::Table(keys) = value else {
            return Err(format!("{section} must be a section: [{section}]"));
        };
        for (key, value) in keys {
            match known.get(key) {
                Some(default) => {
                    types::check(value, default).map_err(|problem| format!("{section}.{key} {problem}"))?;
                }
                None if (section.as_str(), key.as_str()) == ACCOUNTS_KEY => {}
                None => return Err(format!("unknown key {section}.{key}")),
            }
        }
    }
    Ok(())
}

/// Checks `[[clients]]` and `[[upstream.accounts]]`.
///
/// # Errors
///
/// [`Error::Invalid`], naming the entry and the key.
pub(super) fn check_lists(sections: &Table) -> Result<(), Error> {
    let (section, key) = ACCOUNTS_KEY;
    sections.get(CLIENTS_SECTION).map_or(Ok(()), |list| CLIENTS.check(list))?;
    sections.get(section).and_then(|section| section.get(key)).map_or(Ok(()), |list| ACCOUNTS.check(list))
}

/// Turns every `GATEWAY_SECTION__KEY=value` into an entry of a table, of the type that the default has.
///
/// # Errors
///
/// [`Error::Invalid`], naming the variable.
pub(super) fn from_environment(environment: &Environment, defaults: &Table) -> Result<Table, Error> {
    let mut table = Table::new();
    for (variable, text) in environment {
        let Some(path) = variable.strip_prefix("GATEWAY_") else {
            continue;
        };
        if OWN_VARIABLES.contains(&variable.as_str()) || is_set_by_kubernetes(path) {
            continue;
        }
        let unknown = || {
            Error::invalid(
                variable,
                "no such key in the configuration; the form is GATEWAY_SECTION__KEY, with two underscores",
            )
        };
        let (section, key) = path.split_once("__").ok_or_else(unknown)?;
        let (section, key) = (section.to_lowercase(), key.to_lowercase());
        let default = defaults.get(&section).and_then(|section| section.get(&key)).ok_or_else(unknown)?;
        let range = ValueRange::of(&format!("{section}.{key}"));
        let value = typed(text, default, range).map_err(|problem| Error::invalid(variable, problem))?;
        let section = table.entry(section).or_insert_with(|| Value::Table(Table::new()));
        section.as_table_mut().expect("only tables are inserted here").insert(key, value);
    }
    Ok(table)
}

/// Returns whether Kubernetes sets this variable in every container of a namespace with a service called `gateway`.
fn is_set_by_kubernetes(rest: &str) -> bool {
    rest == "PORT" || rest.starts_with("PORT_") || rest.starts_with("SERVICE_HOST") || rest.starts_with("SERVICE_PORT")
}

fn typed(text: &str, default: &Value, range: Option<ValueRange>) -> Result<Value, String> {
    let problem = || range.map_or_else(|| "must be a number".to_owned(), |range| range.problem(text));
    if is_quoted(text) {
        return Err(IN_QUOTES.to_owned());
    }
    match default {
        Value::Integer(_) => text.trim().parse().map(Value::Integer).map_err(|_| problem()),
        Value::Float(_) => text.trim().parse().map(Value::Float).map_err(|_| problem()),
        Value::Boolean(_) => text.trim().parse().map(Value::Boolean).map_err(|_| "must be true or false".to_owned()),
        // Commas separate the items: no host, network or origin contains one.
        Value::Array(_) => {
            let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
            Ok(Value::Array(items.map(|item| Value::String(item.to_owned())).collect()))
        }
        // `name=text,name=text`.
        Value::Table(_) => {
            let pairs = text.split(',').map(str::trim).filter(|pair| !pair.is_empty());
            let pairs = pairs.map(|pair| {
                let (name, text) = pair.split_once('=').ok_or("must have the form name=text,name=text")?;
                Ok((name.trim().to_owned(), Value::String(text.trim().to_owned())))
            });
            pairs.collect::<Result<Table, String>>().map(Value::Table)
        }
        Value::String(_) | Value::Datetime(_) => Ok(Value::String(text.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::tests::{load, refusal};
    use super::super::{CacheMode, PageOrigin};
    use crate::model::HostName;

    #[test]
    fn the_environment_overrides_the_file() {
        let variables = [
            ("GATEWAY_CACHE__TTL_S", "7"),
            ("GATEWAY_SERVER__LISTEN", "0.0.0.0:80"),
            ("GATEWAY_PORT", "tcp://10.0.0.1:80"),
        ];
        let config = load("[cache]\nttl_s = 5\nmode = \"off\"", &variables).unwrap();
        assert_eq!(config.cache.ttl, Duration::from_secs(7));
        assert_eq!(config.cache.mode, CacheMode::Off);
        let with_mark = load("\u{feff}[cache]\r\nttl_s = 5\r\n", &[]).unwrap();
        assert_eq!(with_mark.cache.ttl, Duration::from_secs(5), "as editors of Windows write it");
        assert_eq!(config.server.addresses.listen.to_string(), "0.0.0.0:80");
    }

    #[test]
    fn a_list_in_the_environment_has_commas() {
        let variables = [("GATEWAY_SERVER__HOSTS", " a.test ,*.b.test,"), ("GATEWAY_SERVER__CORS_ORIGINS", "null")];
        let config = load("[operator]\nhosts = [\"c.test\"]\n", &variables).unwrap();
        let hosts = |hosts: &[HostName]| hosts.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(hosts(&config.server.addresses.hosts), ["a.test", "*.b.test"]);
        assert_eq!(hosts(&config.operator.hosts), ["c.test"]);
        assert_eq!(config.server.addresses.cors_origins, [PageOrigin::Exactly("null".to_owned())]);
        let none = load("", &[("GATEWAY_SERVER__HOSTS", "")]).unwrap();
        assert!(none.server.addresses.hosts.is_empty());
    }

    #[test]
    fn unknown_keys_and_wrong_types_name_the_key() {
        for (toml, named) in [
            ("[upstream]\nfrist_poll_ms = 5", "unknown key upstream.frist_poll_ms"),
            ("[sever]\nlisten = \"x\"", "unknown section [sever]"),
            ("server = 5", "server must be a section"),
        ] {
            let error = refusal(toml, &[]);
            assert!(error.contains(named), "{error:?} does not name {named}");
        }
        for (variable, value) in [
            ("GATEWAY_SERVER__LISTNE", "x"),
            ("GATEWAY_CACHE__TTL_S", "soon"),
            ("GATEWAY_LIMITS__USD_PER_DAY", "much"),
            ("GATEWAY_LIMITS__REQUESTS_PER_MINUTE", "1.5"),
            ("GATEWAY_CACHE__TTL_S", "\"60\""),
            ("GATEWAY_STORAGE__DIRECTORY", "'./data'"),
            ("GATEWAY_SERVER__HOSTS", "\"a.test,b.test\""),
        ] {
            let error = refusal("", &[(variable, value)]);
            assert!(error.starts_with(variable), "{error:?} does not name {variable}");
        }
    }
}
