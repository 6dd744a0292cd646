//! Where each value of the configuration was written.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A line of the file, counted from 1.
    File(PathBuf, usize),
    /// A variable of the environment, or an argument of the command line.
    Variable(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path, line) => write!(f, "{}:{line}", path.display()),
            Self::Variable(name) => f.write_str(name),
        }
    }
}

/// Where the values above the defaults were written, by what errors call them: `server.listen`; `clients, entry 1`,
/// `clients.alice` and `clients.alice.weight`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Origins(BTreeMap<String, Origin>);

impl Origins {
    /// Adds every section, key and entry of a file, whose text can be parsed.
    pub(super) fn add_file(&mut self, path: &Path, text: &str) {
        let Ok(table) = DeTable::parse(text) else { return };
        let mut lines = Vec::new();
        for (section, value) in table.get_ref() {
            let name = section.get_ref();
            lines.push((name.to_string(), section.span().start));
            add_value(&mut lines, name, value);
        }
        for (name, start) in lines {
            let line = line_at(text, start);
            self.0.entry(name).or_insert_with(|| Origin::File(path.to_owned(), line));
        }
    }

    /// Adds a key that a variable of the environment or an argument has set.
    pub(super) fn add_variable(&mut self, key: String, variable: &str) {
        self.0.insert(key, Origin::Variable(variable.to_owned()));
    }

    /// Returns where the subject of an error was written, or what contains it; `None` for a default.
    pub(crate) fn of(&self, subject: &str) -> Option<&Origin> {
        let mut name = subject;
        loop {
            if let Some(origin) = self.0.get(name) {
                // A key that is not written has its default, whatever else its section has.
                let is_default = !name.contains(['.', ',']) && name.len() < subject.len();
                return (!is_default || is_list(name)).then_some(origin);
            }
            name = name.get(..name.rfind(['.', ':', ' ', ',', '['])?)?;
        }
    }
}

/// Whether a section has entries instead of keys.
fn is_list(section: &str) -> bool {
    section == "clients"
}

/// Adds the keys of a section, or the entries of a list of tables.
fn add_value(lines: &mut Vec<(String, usize)>, name: &str, value: &Spanned<DeValue<'_>>) {
    match value.get_ref() {
        DeValue::Table(keys) => {
            for (key, value) in keys {
                let name = format!("{name}.{}", key.get_ref());
                lines.push((name.clone(), key.span().start));
                if let DeValue::Array(_) = value.get_ref() {
                    add_value(lines, &name, value);
                }
            }
        }
        DeValue::Array(entries) => {
            for (position, entry) in entries.iter().enumerate() {
                let DeValue::Table(keys) = entry.get_ref() else { continue };
                lines.push((format!("{name}, entry {}", position + 1), entry.span().start));
                let name_of = keys.iter().find(|(key, _)| key.get_ref() == "name");
                let called = name_of.and_then(|(_, value)| value.get_ref().as_str().map(str::to_owned));
                let Some(called) = called else { continue };
                lines.push((format!("{name}.{called}"), entry.span().start));
                // As `upstream.accounts second`, the other spelling of errors.
                lines.push((format!("{name} {called}"), entry.span().start));
                for (key, _) in keys {
                    lines.push((format!("{name}.{called}.{}", key.get_ref()), key.span().start));
                }
            }
        }
        DeValue::String(_) | DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) | DeValue::Datetime(_) => {}
    }
}

/// Returns the line of a position, counted from 1.
pub(in crate::config) fn line_at(text: &str, position: usize) -> usize {
    text.bytes().take(position).filter(|&byte| byte == b'\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_written_key_has_its_line_and_no_other_has_one() {
        let text = "# a comment\n[server]\nlisten = \"a\"\n\nhosts = [\n  \"b\",\n]\n[[clients]]\nname = \"alice\"\n\
                    weight = 2\n[[upstream.accounts]]\nname = \"one\"\n[models.aliases]\n\"x\" = \"y\"\n";
        let mut origins = Origins::default();
        origins.add_file(Path::new("g.toml"), text);
        origins.add_variable("cache.ttl_s".to_owned(), "GATEWAY_CACHE__TTL_S");
        let of = |subject: &str| origins.of(subject).map(ToString::to_string);
        for (subject, line) in [
            ("server.listen", 3),
            ("server.hosts", 5),
            ("clients", 8),
            ("clients, entry 1", 8),
            ("clients, entry 1: models", 8),
            ("clients.alice.weight", 10),
            ("clients.alice.models", 8),
            ("upstream.accounts, entry 1", 11),
            ("upstream.accounts one", 11),
            ("upstream.accounts.one.queue_max", 11),
            ("models.aliases", 13),
        ] {
            assert_eq!(of(subject), Some(format!("g.toml:{line}")), "{subject}");
        }
        assert_eq!(of("cache.ttl_s").as_deref(), Some("GATEWAY_CACHE__TTL_S"));
        for default in ["server.public_url", "cache.mode", "GATEWAY_CLIENT_KEYS, entry 1", ""] {
            assert_eq!(of(default), None, "{default}");
        }
    }
}
