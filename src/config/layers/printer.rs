//! The configuration in force as a TOML file, with where each value was written. Secrets are not in it.

use std::fmt::Write;
use std::path::Path;

use toml::{Table, Value};

use super::types::{ACCOUNTS, CLIENTS};
use super::{CLIENTS_SECTION, Layers, is_changed, reference};
use crate::config::{Environment, secret};

/// The column of the comments, unless a value is longer.
const COLUMN: usize = 52;
/// How much of a digest is shown.
const DIGEST_CHARS: usize = 8;

/// The secrets, each with the key that may name a file for it.
const SECRETS: [(&str, Option<(&str, &str)>); 7] = [
    ("GPTPROTO_API_KEY", Some(("upstream", "api_key_file"))),
    ("GPTPROTO_API_KEYS", None),
    ("GATEWAY_CLIENT_KEYS", None),
    ("GATEWAY_ADMIN_TOKEN", None),
    ("GATEWAY_PROXY_CREDENTIALS", Some(("upstream", "proxy_credentials_file"))),
    ("GATEWAY_WEBHOOK_SECRET", Some(("webhooks", "secret_file"))),
    ("server.tls_key_file", Some(("server", "tls_key_file"))),
];

/// Writes every key of the reference, or those that differ from it, then the lists of tables, and where the secrets are.
pub(crate) fn print(layers: &Layers, file: Option<&Path>, environment: &Environment, only_changed: bool) -> String {
    let file = file.map_or_else(|| "no file".to_owned(), |file| file.display().to_string());
    let which = if only_changed { "What differs from the defaults" } else { "The configuration in force" };
    let mut text = format!("# {which}: the defaults, then {file}, then the environment.\n\n");
    for section in reference::sections() {
        let mut lines = String::new();
        for key in section.keys.iter().filter(|key| !only_changed || is_changed(&layers.table, key)) {
            let value = layers.table.get(&section.name).and_then(|keys| keys.get(&key.name)).unwrap_or(&key.default);
            let origin = layers.origins.of(&key.path()).map_or_else(|| "default".to_owned(), ToString::to_string);
            line(&mut lines, &key.name, value, &origin);
        }
        if !lines.is_empty() {
            let _ = write!(text, "[{}]\n{lines}\n", section.name);
        }
    }
    let accounts = layers.table.get("upstream").and_then(|section| section.get("accounts"));
    entries(&mut text, layers, ACCOUNTS.name(), accounts);
    entries(&mut text, layers, CLIENTS.name(), layers.table.get(CLIENTS_SECTION));
    text.push_str("# Secrets, which are not shown:\n");
    for (name, key) in SECRETS {
        let file = key.and_then(|(section, key)| layers.table.get(section)?.get(key)?.as_str());
        let source = secret::source(environment, name, file.map(Path::new).filter(|file| !file.as_os_str().is_empty()));
        let source = source.unwrap_or_else(|| "not set".to_owned());
        let _ = writeln!(text, "#   {name:<26} {source}");
    }
    text
}

fn entries(text: &mut String, layers: &Layers, name: &str, list: Option<&Value>) {
    for (position, entry) in list.and_then(Value::as_array).into_iter().flatten().enumerate() {
        let origin = layers.origins.of(&format!("{name}, entry {}", position + 1));
        let origin = origin.map(ToString::to_string).unwrap_or_default();
        let _ = writeln!(text, "[[{name}]]{:1$}# {origin}", "", COLUMN.saturating_sub(name.len() + 4).max(1));
        for (key, value) in entry.as_table().unwrap_or(&Table::new()) {
            match value.as_str().filter(|_| key == "key_digest") {
                Some(digest) => {
                    let start: String = digest.chars().take(DIGEST_CHARS).collect();
                    line(text, key, &Value::String(format!("{start}…")), "shortened");
                }
                None => line(text, key, value, ""),
            }
        }
        text.push('\n');
    }
}

fn line(text: &mut String, name: &str, value: &Value, comment: &str) {
    let assignment = format!("{name} = {value}");
    let _ = if comment.is_empty() {
        writeln!(text, "{assignment}")
    } else {
        writeln!(text, "{assignment:COLUMN$} # {comment}")
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, DEFAULTS};

    fn printed(toml: &str, variables: &[(&str, &str)], only_changed: bool) -> (String, tempfile::NamedTempFile) {
        let file = tempfile::NamedTempFile::with_suffix(".toml").unwrap();
        std::fs::write(file.path(), toml).unwrap();
        let environment = variables.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
        let (_, layers) = Config::load_layers(Some(file.path()), &environment).unwrap();
        (print(&layers, Some(file.path()), &environment, only_changed), file)
    }

    #[test]
    fn what_is_printed_is_a_file_with_the_same_meaning() {
        let toml = "[server]\nhosts = [\"a.test\", \"*.b.test\"]\n[limits]\nusd_per_day = 2\n[models.aliases]\n\"x\" = \"gpt-image-2\"\n\
                    [[upstream.accounts]]\nname = \"one\"\nsubmits_per_minute = 7\n";
        let variables = [("GPTPROTO_API_KEYS", "one:sk-1"), ("GATEWAY_STORAGE__DIRECTORY", "/a \"b\"/c\\d")];
        for only_changed in [false, true] {
            let (text, _) = printed(toml, &variables, only_changed);
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), &text).unwrap();
            let layers = |file: &Path, variables: &[(&str, &str)]| {
                let environment = variables.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
                Config::load_layers(Some(file), &environment).unwrap().1.table
            };
            let (_, original) = printed(toml, &variables, only_changed);
            assert_eq!(layers(file.path(), &variables[..1]), layers(original.path(), &variables), "{text}");
        }
        let (text, _) = printed("", &[], false);
        let printed: Table = text.parse().unwrap();
        assert_eq!(printed, DEFAULTS.parse().unwrap());
    }

    #[test]
    fn every_value_says_where_it_is_written() {
        let variables = [("GATEWAY_CACHE__TTL_S", "7"), ("--listen", "127.0.0.1:1")];
        let (text, file) = printed("[server]\nweb = \"off\"\n\n[cache]\nmode = \"on\"\nttl_s = 5\n", &variables, false);
        let path = file.path().display();
        let comment_of = |key: &str| {
            let line = text.lines().find(|line| line.starts_with(&format!("{key} = "))).unwrap();
            line.split_once("# ").unwrap().1.to_owned()
        };
        assert_eq!(comment_of("web"), format!("{path}:2"));
        assert_eq!(comment_of("mode"), format!("{path}:5"));
        assert_eq!(comment_of("ttl_s"), "GATEWAY_CACHE__TTL_S");
        assert_eq!(comment_of("listen"), "--listen");
        assert_eq!(comment_of("waiters_max"), "default");
        let (changed, _) = printed("[cache]\nmode = \"on\"\nttl_s = 5\n", &[], true);
        let keys: Vec<&str> = changed.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).collect();
        assert!(keys.len() == 2 && keys[0] == "[cache]" && keys[1].starts_with("ttl_s = 5 "), "{changed}");
    }

    #[test]
    fn no_secret_is_printed_and_each_has_its_source() {
        let key = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(key.path(), "sk-hunter2").unwrap();
        let digest = "abcdef01".repeat(8);
        let toml = format!(
            "[upstream]\napi_key_file = {:?}\n[[clients]]\nname = \"alice\"\nkey_digest = \"{digest}\"\n",
            key.path()
        );
        let variables = [
            ("GATEWAY_CLIENT_KEYS", "bob:hunter2-hunter2-hunter2"),
            ("GATEWAY_ADMIN_TOKEN", "hunter2-hunter2-hunter2-hunter2"),
        ];
        let (text, _) = printed(&toml, &variables, false);
        assert!(!text.contains("hunter2") && !text.contains(&digest), "{text}");
        assert!(text.contains("key_digest = \"abcdef01…\""), "{text}");
        let source_of = |name: &str| {
            let line = text.lines().find(|line| line.starts_with(&format!("#   {name} "))).unwrap();
            line.trim_start_matches('#').trim().trim_start_matches(name).trim().to_owned()
        };
        assert_eq!(source_of("GATEWAY_CLIENT_KEYS"), "set by the variable");
        assert_eq!(source_of("GPTPROTO_API_KEY"), format!("in the file {}", key.path().display()));
        assert_eq!(source_of("GATEWAY_WEBHOOK_SECRET"), "not set");
    }
}
