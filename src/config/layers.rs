//! One table over another, and the environment as a table.

use toml::{Table, Value};

use super::{Environment, Error};

/// Variables of ours that are not `GATEWAY_SECTION__KEY`.
const OWN_VARIABLES: &[&str] = &[
    "GATEWAY_CONFIG",
    "GATEWAY_CLIENT_KEYS",
    "GATEWAY_CLIENT_KEYS_FILE",
    "GATEWAY_WEBHOOK_SECRET",
    "GATEWAY_WEBHOOK_SECRET_FILE",
];
/// The only section that is a list of tables and so has no default to compare with.
const CLIENTS: &str = "clients";
/// The only key that is a list of tables.
const ACCOUNTS: (&str, &str) = ("upstream", "accounts");

/// Later layers win, table by table; anything that is not a table is replaced whole.
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

/// Refuses keys that the defaults do not have, by their full name.
pub(super) fn check_known(above: &Table, defaults: &Table) -> Result<(), String> {
    for (section, value) in above {
        if section == CLIENTS {
            continue;
        }
        let Some(Value::Table(known)) = defaults.get(section) else {
            return Err(format!("unknown section [{section}]"));
        };
        let Value::Table(keys) = value else {
            return Err(format!("{section} must be a section: [{section}]"));
        };
        if let Some(unknown) =
            keys.keys().find(|&key| !known.contains_key(key) && (section.as_str(), key.as_str()) != ACCOUNTS)
        {
            return Err(format!("unknown key {section}.{unknown}"));
        }
    }
    Ok(())
}

/// Turns `GATEWAY_SECTION__KEY=value` into a table; the default says which type the value has.
pub(super) fn from_environment(environment: &Environment, defaults: &Table) -> Result<Table, Error> {
    let mut table = Table::new();
    for (variable, text) in environment {
        let Some(path) = variable.strip_prefix("GATEWAY_") else {
            continue;
        };
        if OWN_VARIABLES.contains(&variable.as_str()) || is_of_kubernetes(path) {
            continue;
        }
        let unknown = || Error::invalid(variable, "no such key; a section and a key are joined by two underscores");
        let (section, key) = path.split_once("__").ok_or_else(unknown)?;
        let (section, key) = (section.to_lowercase(), key.to_lowercase());
        let default = defaults.get(&section).and_then(|section| section.get(&key)).ok_or_else(unknown)?;
        let value = typed(text, default).map_err(|problem| Error::invalid(variable, problem))?;
        let section = table.entry(section).or_insert_with(|| Value::Table(Table::new()));
        section.as_table_mut().expect("only tables are inserted here").insert(key, value);
    }
    Ok(table)
}

/// Kubernetes sets these in every container of a namespace that has a service called `gateway`.
fn is_of_kubernetes(rest: &str) -> bool {
    rest == "PORT" || rest.starts_with("PORT_") || rest.starts_with("SERVICE_HOST") || rest.starts_with("SERVICE_PORT")
}

fn typed(text: &str, default: &Value) -> Result<Value, String> {
    match default {
        Value::Integer(_) => {
            text.trim().parse().map(Value::Integer).map_err(|_| format!("{text:?} is not a whole number"))
        }
        Value::Boolean(_) => {
            text.trim().parse().map(Value::Boolean).map_err(|_| format!("{text:?} is neither true nor false"))
        }
        Value::Float(_) => text.trim().parse().map(Value::Float).map_err(|_| format!("{text:?} is not a number")),
        // As in a list of models or hosts: nothing that has commas itself.
        Value::Array(_) => {
            let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
            Ok(Value::Array(items.map(|item| Value::String(item.to_owned())).collect()))
        }
        Value::String(_) | Value::Datetime(_) | Value::Table(_) => Ok(Value::String(text.to_owned())),
    }
}
