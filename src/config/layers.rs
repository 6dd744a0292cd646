//! The layers of the configuration: the defaults, a file over them, the environment over both, and arguments on top.

use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::secret::{IN_QUOTES, is_quoted};
use super::{Environment, Error, LISTEN, OPERATOR_LISTEN};

pub(super) mod location;
mod messages;
mod origins;
mod printer;
mod ranges;
mod reference;
mod schema;
mod types;

pub(super) use messages::in_plain_words;
use origins::line_at;
pub(crate) use origins::{Origin, Origins};
pub(crate) use printer::print;
use ranges::ValueRange;
pub(super) use ranges::check as check_ranges;
pub(super) use reference::defaults;
pub(super) use schema::schema;
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
/// Variables with the upstream's name.
const UPSTREAM_VARIABLES: &[&str] =
    &["GPTPROTO_API_KEY", "GPTPROTO_API_KEY_FILE", "GPTPROTO_API_KEYS", "GPTPROTO_API_KEYS_FILE"];
/// Arguments of the command line that set a key. They are entries of the environment, whose names no variable has.
const ARGUMENTS: &[(&str, &str)] = &[(LISTEN, "server.listen"), (OPERATOR_LISTEN, "operator.listen")];
/// The only section that is a list of tables. It has no default to compare with.
const CLIENTS_SECTION: &str = "clients";
/// The only key that is a list of tables.
const ACCOUNTS_KEY: (&str, &str) = ("upstream", "accounts");

/// What is configured: every key, and where those above the defaults were written.
#[derive(Clone, Debug, Default)]
pub(crate) struct Layers {
    pub(crate) table: Table,
    pub(crate) origins: Origins,
    /// The file, and the environment where it sets a key, by their names.
    sources: Vec<String>,
}

impl Layers {
    /// Reads the file and the environment, and checks names, types and ranges.
    ///
    /// # Errors
    ///
    /// Every mistake, the file's first.
    pub(super) fn read(file: Option<&Path>, environment: &Environment) -> Result<Self, Vec<Error>> {
        let mut layers = Self { table: reference::defaults().clone(), ..Self::default() };
        let mut problems = quoted_variables(environment);
        let variable = || environment.get("GATEWAY_CONFIG").map(PathBuf::from);
        // Where the name of the file is in quotes, that is the mistake.
        if let Some(path) = file.map(Path::to_owned).or_else(variable).filter(|_| problems.is_empty()) {
            problems.extend(layers.add_file(&path));
        }
        problems.extend(layers.add_environment(environment));
        if problems.is_empty() {
            problems.extend(check_lists(&layers.table).err());
        }
        if problems.is_empty() {
            problems.extend(check_ranges(&layers.table));
        }
        if problems.is_empty() {
            Ok(layers)
        } else {
            Err(problems.into_iter().map(|error| layers.explain(error)).collect())
        }
    }

    fn add_file(&mut self, path: &Path) -> Vec<Error> {
        let shown = path.display().to_string();
        let text = match super::read(path, "the configuration") {
            Ok(text) => text,
            Err(error) => return vec![error],
        };
        let layer: Table = match text.parse() {
            Ok(layer) => layer,
            Err(error) => return vec![syntax_error(&shown, &text, &error)],
        };
        self.origins.add_file(path, &text);
        let problems = check_known(&layer);
        overlay(&mut self.table, layer);
        self.sources.push(shown);
        problems
    }

    fn add_environment(&mut self, environment: &Environment) -> Vec<Error> {
        let (entries, problems) = from_environment(environment);
        for EnvironmentEntry { variable, key, value } in entries {
            self.origins.add_variable(key.path(), variable);
            let section = Table::from_iter([(key.name.clone(), value)]);
            overlay(&mut self.table, Table::from_iter([(key.section().to_owned(), Value::Table(section))]));
            let source = "the environment".to_owned();
            if !self.sources.contains(&source) {
                self.sources.push(source);
            }
        }
        problems
    }

    /// Returns how many keys there are, and how many of them have another value than the default.
    pub(crate) fn count(&self) -> (usize, usize) {
        let changed = reference::keys().filter(|key| is_changed(&self.table, key)).count();
        (reference::keys().count(), changed)
    }

    /// Names the sources that a value may be in.
    pub(super) fn sources(&self) -> String {
        self.sources.join(" or ")
    }

    /// Adds to an error where the value is written, and an example of a valid one.
    pub(super) fn explain(&self, error: Error) -> Error {
        let Error::Invalid { origin, problem } = error else { return error };
        let place = self.origins.of(&origin);
        let has_example = ["such as", "for example", "must have the form", "; set ", "; use "];
        let key = reference::find(&origin).filter(|_| !has_example.iter().any(|words| problem.contains(words)));
        let example = key.map(|key| match place {
            Some(Origin::Variable(variable)) if variable.starts_with("GATEWAY_") => key.example_variable(),
            _ => key.example_line(),
        });
        let example = example.map(|line| format!("; for example: {line}")).unwrap_or_default();
        let origin = match place {
            // The problem names it.
            Some(place) if problem.starts_with("unknown ") && problem.contains(&origin) => place.to_string(),
            Some(place) => format!("{place}: {origin}"),
            None => origin,
        };
        Error::Invalid { origin, problem: format!("{problem}{example}") }
    }
}

/// Returns the default of a figure.
pub(super) fn default_figure(path: &str) -> usize {
    let default = reference::find(path).and_then(|key| key.default.as_integer());
    default.and_then(|default| usize::try_from(default).ok()).unwrap_or_default()
}

fn is_changed(table: &Table, key: &reference::Key) -> bool {
    let value = table.get(key.section()).and_then(|section| section.get(&key.name));
    value.is_some_and(|value| *value != key.default)
}

/// Lays one table over another. Tables are merged key by key; any other value is replaced.
fn overlay(below: &mut Table, above: Table) {
    for (key, value) in above {
        match (below.get_mut(&key), value) {
            (Some(Value::Table(below)), Value::Table(above)) => overlay(below, above),
            (_, value) => {
                below.insert(key, value);
            }
        }
    }
}

/// Names the line of a mistake in a file. A value is not repeated.
pub(super) fn syntax_error(path: &str, text: &str, error: &toml::de::Error) -> Error {
    match error.span() {
        Some(span) => Error::invalid(format!("{path}:{}", line_at(text, span.start)), error.message()),
        None => Error::invalid(path, error.message()),
    }
}

/// Finds keys that the defaults do not have, and values of another type. Figures are checked by [`check_ranges`]. An error
/// names the section or the key in full, and repeats no value.
fn check_known(above: &Table) -> Vec<Error> {
    let mut problems = Vec::new();
    for (section, value) in above {
        if section == CLIENTS_SECTION {
            continue;
        }
        let Some(Value::Table(known)) = reference::defaults().get(section) else {
            let hint = suggest_section(section, value);
            problems.push(Error::invalid(section, format!("unknown section [{section}]{hint}")));
            continue;
        };
        let Value::Table(keys) = value else {
            problems.push(Error::invalid(section, format!("must be a section: [{section}]")));
            continue;
        };
        for (key, value) in keys {
            let path = format!("{section}.{key}");
            match known.get(key) {
                Some(default) => {
                    problems.extend(types::check(value, default).err().map(|problem| Error::invalid(path, problem)));
                }
                None if (section.as_str(), key.as_str()) == ACCOUNTS_KEY => {}
                None => {
                    let hint = suggest_key(section, key);
                    problems.push(Error::invalid(path, format!("unknown key {section}.{key}{hint}")));
                }
            }
        }
    }
    problems
}

/// Returns "; did you mean …?" for a section that there is not, or for a key outside of its section.
fn suggest_section(name: &str, value: &Value) -> String {
    if value.is_array() || value.is_table() {
        let sections = reference::sections().iter().map(|section| section.name.as_str()).chain([CLIENTS_SECTION]);
        return match reference::nearest(name, sections) {
            Some(CLIENTS_SECTION) => format!("; did you mean [[{CLIENTS_SECTION}]]?"),
            Some(section) => format!("; did you mean [{section}]?"),
            None => String::new(),
        };
    }
    let found = reference::keys().find(|key| key.name.eq_ignore_ascii_case(name));
    found.map(|key| format!("; did you mean {}?", key.path())).unwrap_or_default()
}

/// Returns "; did you mean …?" for a key: one of the same name in another section, or one of a similar name.
fn suggest_key(section: &str, name: &str) -> String {
    let same = || reference::keys().find(|key| key.name == name).map(reference::Key::path);
    let lower = name.to_lowercase();
    let similar = || {
        let of_section = reference::keys().filter(|key| key.section() == section).map(|key| key.name.as_str());
        reference::nearest(&lower, of_section).map(|name| format!("{section}.{name}"))
    };
    same().or_else(similar).map(|path| format!("; did you mean {path}?")).unwrap_or_default()
}

/// Checks `[[clients]]` and `[[upstream.accounts]]`.
///
/// # Errors
///
/// [`Error::Invalid`], naming the entry and the key.
fn check_lists(sections: &Table) -> Result<(), Error> {
    let (section, key) = ACCOUNTS_KEY;
    sections.get(CLIENTS_SECTION).map_or(Ok(()), |list| CLIENTS.check(list))?;
    sections.get(section).and_then(|section| section.get(key)).map_or(Ok(()), |list| ACCOUNTS.check(list))
}

/// Finds variables of the gateway whose value is in quotes.
fn quoted_variables(environment: &Environment) -> Vec<Error> {
    let is_ours = |name: &str| {
        OWN_VARIABLES.contains(&name)
            || UPSTREAM_VARIABLES.contains(&name)
            || name.starts_with("GATEWAY_") && name.contains("__")
    };
    let quoted = environment.iter().filter(|(name, value)| is_ours(name) && is_quoted(value.trim()));
    quoted.map(|(name, _)| Error::invalid(name, IN_QUOTES)).collect()
}

/// A key that a variable or an argument sets.
struct EnvironmentEntry<'a> {
    variable: &'a str,
    key: &'static reference::Key,
    value: Value,
}

/// Turns every `GATEWAY_SECTION__KEY=value` into an entry of the type that the default has. Arguments come last.
fn from_environment(environment: &Environment) -> (Vec<EnvironmentEntry<'_>>, Vec<Error>) {
    let (mut entries, mut problems) = (Vec::new(), Vec::new());
    let mut add = |variable, key: &'static reference::Key, text: &str| match typed(text, &key.default, key.range()) {
        Ok(value) => entries.push(EnvironmentEntry { variable, key, value }),
        Err(problem) => {
            let example = format!("{problem}; for example: {}", key.example_variable());
            problems.push(Error::invalid(variable, example));
        }
    };
    let mut unknown = Vec::new();
    for (variable, text) in environment {
        let Some(rest) = variable.strip_prefix("GATEWAY_") else { continue };
        if OWN_VARIABLES.contains(&variable.as_str()) || is_set_by_kubernetes(rest) {
            continue;
        }
        let key = rest.split_once("__").map(|(section, key)| format!("{section}.{key}").to_lowercase());
        match key.and_then(|path| reference::find(&path).filter(|key| key.path() == path)) {
            // Reported by `quoted_variables`.
            Some(_) if is_quoted(text.trim()) => {}
            Some(key) => add(variable.as_str(), key, text),
            None => unknown.push(unknown_variable(variable)),
        }
    }
    for (argument, path) in ARGUMENTS {
        if let (Some(text), Some(key)) = (environment.get(*argument), reference::find(path)) {
            add(argument, key, text);
        }
    }
    problems.extend(unknown);
    (entries, problems)
}

fn unknown_variable(variable: &str) -> Error {
    let known: Vec<String> = reference::keys().map(reference::Key::variable).collect();
    let candidates = known.iter().map(String::as_str).chain(OWN_VARIABLES.iter().copied());
    let hint = match reference::nearest(variable, candidates) {
        Some(meant) => format!("did you mean {meant}?"),
        None => "the form is GATEWAY_SECTION__KEY, with two underscores".to_owned(),
    };
    Error::invalid(variable, format!("no such key in the configuration; {hint}"))
}

/// Returns whether Kubernetes sets this variable in every container of a namespace with a service called `gateway`.
fn is_set_by_kubernetes(rest: &str) -> bool {
    rest == "PORT" || rest.starts_with("PORT_") || rest.starts_with("SERVICE_HOST") || rest.starts_with("SERVICE_PORT")
}

fn typed(text: &str, default: &Value, range: Option<ValueRange>) -> Result<Value, String> {
    let problem = || range.map_or_else(|| "must be a number".to_owned(), |range| range.problem(text));
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
            ("server = 5", "server: must be a section"),
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
