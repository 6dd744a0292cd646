//! The reference, `config/default.toml`, as data: every key with its default and its explanation.

use std::sync::OnceLock;

use toml::{Table, Value};

use super::ranges::ValueRange;
use crate::config::{DEFAULTS, choices};

/// How alike a name and a suggestion are at least, from 0 to 1.
const LIKENESS_MIN: f64 = 0.6;

/// A section of the reference.
#[derive(Debug)]
pub(in crate::config) struct Section {
    pub(in crate::config) name: String,
    pub(in crate::config) description: String,
    pub(in crate::config) keys: Vec<Key>,
}

/// A key of the reference.
#[derive(Debug)]
pub(in crate::config) struct Key {
    section: String,
    pub(in crate::config) name: String,
    pub(in crate::config) default: Value,
    /// The comment above it: paragraphs and rows of a list, one a line.
    pub(in crate::config) description: String,
}

/// Returns the defaults.
///
/// # Panics
///
/// Never: the compiled-in defaults are tested.
pub(in crate::config) fn defaults() -> &'static Table {
    static DEFAULT_TABLE: OnceLock<Table> = OnceLock::new();
    DEFAULT_TABLE.get_or_init(|| DEFAULTS.parse().expect("the compiled-in defaults are valid TOML"))
}

/// Returns every section, in the order of the file.
pub(in crate::config) fn sections() -> &'static [Section] {
    static SECTIONS: OnceLock<Vec<Section>> = OnceLock::new();
    SECTIONS.get_or_init(|| parse(DEFAULTS))
}

/// Returns every key, in the order of the file.
pub(in crate::config) fn keys() -> impl Iterator<Item = &'static Key> {
    sections().iter().flat_map(|section| &section.keys)
}

/// Returns the key `section.key`, also where more follows it: `server.listen must be …`.
pub(in crate::config) fn find(path: &str) -> Option<&'static Key> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
    let path = path.split(|c| !is_name(c)).next().unwrap_or_default();
    let (section, rest) = path.split_once('.')?;
    let name = rest.split('.').next().unwrap_or_default();
    keys().find(|key| key.section == section && key.name == name)
}

/// Returns the candidate that a name was probably meant to be.
pub(in crate::config) fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let rated = candidates.map(|candidate| (strsim::normalized_damerau_levenshtein(name, candidate), candidate));
    rated.filter(|(likeness, _)| *likeness >= LIKENESS_MIN).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, found)| found)
}

impl Key {
    pub(in crate::config) fn section(&self) -> &str {
        &self.section
    }

    /// Returns `section.key`.
    pub(in crate::config) fn path(&self) -> String {
        format!("{}.{}", self.section, self.name)
    }

    /// Returns the name of the variable of the environment.
    pub(in crate::config) fn variable(&self) -> String {
        format!("GATEWAY_{}__{}", self.section, self.name).to_uppercase()
    }

    pub(in crate::config) fn range(&self) -> Option<ValueRange> {
        ValueRange::of(&self.path())
    }

    /// Returns the values of a text, or of the texts of a list, of which there are few; empty where any text is possible.
    pub(in crate::config) fn choices(&self) -> Vec<String> {
        choices(&self.section, &self.name)
    }

    /// Returns a value that says more than an empty default does: the first one that the explanation has in quotes.
    pub(in crate::config) fn example(&self) -> Value {
        let quoted = || self.description.split('"').nth(1).unwrap_or_default().to_owned();
        let pairs = || self.description.lines().find_map(pair).into_iter().collect();
        if self.default.as_str() == Some("") {
            Value::String(quoted())
        } else if self.default.as_array().is_some_and(Vec::is_empty) {
            Value::Array(vec![Value::String(quoted())])
        } else if self.default.as_table().is_some_and(Table::is_empty) {
            Value::Table(pairs())
        } else {
            self.default.clone()
        }
    }

    /// Returns the example as a line of a file.
    pub(in crate::config) fn example_line(&self) -> String {
        format!("{} = {}", self.name, self.example())
    }

    /// Returns the example as a variable of the environment.
    pub(in crate::config) fn example_variable(&self) -> String {
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let example = self.example();
        let items: Vec<String> = match (example.as_array(), example.as_table()) {
            (Some(items), _) => items.iter().map(text).collect(),
            (_, Some(pairs)) => pairs.iter().map(|(name, value)| format!("{name}={}", text(value))).collect(),
            (None, None) => vec![text(&example)],
        };
        let example = items.join(",");
        format!("{}={example}", self.variable())
    }
}

/// Reads `"name" = "text"`.
fn pair(line: &str) -> Option<(String, Value)> {
    let (name, text) = line.trim().strip_prefix('"')?.split_once("\" = \"")?;
    Some((name.to_owned(), Value::String(text.strip_suffix('"')?.to_owned())))
}

fn parse(text: &str) -> Vec<Section> {
    let mut sections: Vec<Section> = Vec::new();
    let (mut comment, mut title) = (Vec::new(), String::new());
    for line in text.lines() {
        if let Some(text) = line.strip_prefix("# ---- ") {
            text.trim_end_matches('-').trim().clone_into(&mut title);
        } else if let Some(text) = line.strip_prefix('#') {
            comment.push(text);
        } else if let Some(name) = line.strip_prefix('[') {
            let name = name.trim_end_matches(']').to_owned();
            let description = [std::mem::take(&mut title), paragraphs(&comment)].join("\n").trim().to_owned();
            sections.push(Section { name, description, keys: Vec::new() });
            comment.clear();
        } else if let Some((name, _)) = line.split_once(" = ") {
            if let Some(section) = sections.last_mut()
                && let Some(default) = defaults().get(&section.name).and_then(|keys| keys.get(name))
            {
                let key = Key {
                    section: section.name.clone(),
                    name: name.to_owned(),
                    default: default.clone(),
                    description: paragraphs(&comment),
                };
                section.keys.push(key);
            }
            comment.clear();
        } else {
            comment.clear();
        }
    }
    sections
}

/// Joins the lines of a comment. A row of a list is indented, and what belongs to it further still.
fn paragraphs(comment: &[&str]) -> String {
    const ROW: usize = 3;
    let mut text = String::new();
    let mut last = 0;
    for line in comment {
        let indent = line.len() - line.trim_start().len();
        let starts = indent == ROW || (indent < ROW && last >= ROW);
        if !text.is_empty() {
            text.push(if starts { '\n' } else { ' ' });
        }
        text.push_str(&line.split_whitespace().collect::<Vec<_>>().join(" "));
        last = indent;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::{load, refusal};

    #[test]
    fn every_key_has_an_explanation_and_an_example_that_loads() {
        let count: usize = defaults().values().filter_map(Value::as_table).map(Table::len).sum();
        assert_eq!(keys().count(), count);
        assert!(count > 120, "{count}");
        for key in keys() {
            let path = key.path();
            assert!(key.description.len() > 10, "{path} has no comment");
            let example = key.example_variable();
            let is_empty = example.ends_with('=');
            assert!(!is_empty, "the comment of {path} has no example in quotes");
            // Files that are named must exist, and some keys need another one.
            let needs_more = path.ends_with("_file")
                || ["models.file", "upstream.proxy_credentials_file", "webhooks.allowed_origins"]
                    .contains(&path.as_str());
            if needs_more {
                continue;
            }
            load(&format!("[{}]\n{}\n", key.section, key.example_line()), &[])
                .unwrap_or_else(|error| panic!("{error}"));
            let variable = key.example_variable();
            let (name, value) = variable.split_once('=').unwrap();
            load("", &[(name, value)]).unwrap_or_else(|error| panic!("{variable}: {error}"));
        }
    }

    #[test]
    fn choices_are_those_that_the_parser_accepts_and_the_comment_explains() {
        let mut with_choices = 0;
        for key in keys() {
            let choices = key.choices();
            for choice in &choices {
                assert!(key.description.contains(&format!("\"{choice}\"")), "{}: {choice}", key.path());
            }
            with_choices += usize::from(!choices.is_empty());
        }
        assert!(with_choices >= 14, "{with_choices}");
        assert_eq!(find("server.web").unwrap().choices(), ["on", "off"]);
        assert_eq!(find("upstream.inputs").unwrap().choices().len(), 4);
        assert!(find("server.listen").unwrap().choices().is_empty());
        assert!(find("server.json_depth_max").unwrap().choices().is_empty());
    }

    #[test]
    fn a_misspelled_name_has_a_suggestion() {
        for (toml, meant) in [
            ("[upstream]\nfrist_poll_ms = 5", "did you mean upstream.first_poll_ms?"),
            ("[sever]\nlisten = \"x\"", "did you mean [server]?"),
            ("[server]\nresults_ttl_s = 5", "did you mean storage.results_ttl_s?"),
            ("[server]\nListen = \"x\"", "did you mean server.listen?"),
            ("listen = \"localhost:1\"", "did you mean server.listen?"),
            ("[[client]]\nname = \"a\"", "did you mean [[clients]]?"),
            ("[[clients]]\nname = \"a\"\nkey_digst = \"b\"\nkey_digest = \"c\"", "did you mean key_digest?"),
        ] {
            let error = refusal(toml, &[]);
            assert!(error.contains(meant), "{error:?} does not say {meant}");
        }
        for (variable, meant) in [
            ("GATEWAY_SERVER_LISTEN", "did you mean GATEWAY_SERVER__LISTEN?"),
            ("GATEWAY_CACHE__TTLS", "did you mean GATEWAY_CACHE__TTL_S?"),
            ("GATEWAY_CLIENT_KEY", "did you mean GATEWAY_CLIENT_KEYS?"),
            ("GATEWAY_STORAGE_DIR", "did you mean GATEWAY_STORAGE__DIRECTORY?"),
        ] {
            let error = refusal("", &[(variable, "5")]);
            assert!(error.starts_with(variable) && error.contains(meant), "{error:?} does not say {meant}");
        }
        let error = refusal("[server]\nzzzzzz = 5", &[]);
        assert!(!error.contains("did you mean"), "{error}");
    }

    /// The keys of the reference that a text has in backquotes.
    fn keys_in(text: &str) -> Vec<String> {
        let quoted = text.split('`').skip(1).step_by(2);
        quoted.filter(|name| find(name).is_some_and(|key| key.path() == **name)).map(str::to_owned).collect()
    }

    /// The rows of the table below a heading.
    fn rows(text: &str, heading: &str) -> String {
        let section =
            text.split(&format!("\n## {heading}\n")).nth(1).unwrap_or_else(|| panic!("no section {heading:?}"));
        let section = section.split("\n## ").next().unwrap();
        section.lines().filter(|line| line.starts_with('|')).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn every_key_has_exactly_one_rank() {
        let example = include_str!("../../../config/example.toml");
        let documents = include_str!("../../../config/README.md");
        let mut section = "";
        let mut common = Vec::new();
        for line in example.lines() {
            if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
                section = name;
            } else if let Some((name, _)) = line.trim_start_matches("# ").split_once(" = ")
                && find(&format!("{section}.{name}")).is_some()
            {
                common.push(format!("{section}.{name}"));
            }
        }
        assert_eq!(common.len(), 10, "{common:?}");
        let mut table = keys_in(&rows(documents, "The ten that most people set"));
        let mut advanced = keys_in(&rows(documents, "Advanced"));
        let mut readme = keys_in(&rows(include_str!("../../../README.md"), "Settings that most people need"));
        for keys in [&mut common, &mut table, &mut readme] {
            keys.sort();
        }
        assert_eq!(table, common, "config/README.md has the keys of config/example.toml");
        assert_eq!(readme, common, "README.md has the keys of config/example.toml");
        for path in keys().map(Key::path) {
            let ranks = common.iter().chain(&advanced).filter(|known| **known == path).count();
            assert_eq!(
                ranks, 1,
                "{path} is in {ranks} ranks: a new key goes into one row of \"Advanced\" in config/README.md"
            );
        }
        advanced.dedup();
        assert_eq!(common.len() + advanced.len(), keys().count());
    }
}
