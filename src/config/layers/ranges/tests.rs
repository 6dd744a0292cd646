use super::*;
use crate::config::tests::{load, refusal};
use crate::config::{Config, DEFAULTS, Environment};

/// Values at which arithmetic, allocations or semaphores of a careless program break.
const EXTREMES: [&str; 9] = [
    "0",
    "1",
    "-1",
    "2147483648",
    "9007199254740992",
    "9223372036854775807",
    "1e308",
    "nan",
    // More than TOML's whole numbers have.
    "18446744073709551616",
];

/// The section and the key of every figure of the defaults.
fn figures() -> Vec<(String, String)> {
    let defaults: Table = DEFAULTS.parse().unwrap();
    let keys = |section: &String, keys: &Value| {
        let keys = keys.as_table().cloned().unwrap_or_default().into_iter();
        let figures = keys.filter(|(_, value)| value.is_integer() || value.is_float());
        figures.map(|(key, _)| (section.clone(), key)).collect::<Vec<_>>()
    };
    let figures: Vec<_> = defaults.iter().flat_map(|(section, table)| keys(section, table)).collect();
    assert!(figures.len() > 90, "{}", figures.len());
    figures
}

fn variable(section: &str, key: &str) -> String {
    format!("GATEWAY_{section}__{key}").to_uppercase()
}

/// Loads the configuration with one figure set by a variable.
fn by_variable(section: &str, key: &str, value: &str) -> Result<Config, String> {
    let environment = Environment::from([(variable(section, key), value.to_owned())]);
    Config::load(None, &environment).map_err(|error| error.to_string())
}

/// Loads the configuration with one figure set by a file.
fn by_file(section: &str, key: &str, value: &str) -> Result<Config, String> {
    load(&format!("[{section}]\n{key} = {value}\n"), &[]).map_err(|error| error.to_string())
}

#[test]
fn an_extreme_figure_is_in_its_range_or_refused_by_name() {
    let (mut loaded, mut refused) = (0, 0);
    for (section, key) in figures() {
        let range = ValueRange::of(&format!("{section}.{key}")).unwrap();
        for value in EXTREMES {
            let parsed = format!("x = {value}").parse::<Table>().ok();
            let is_allowed = parsed.is_some_and(|table| range.allows(&table["x"]));
            for (source, result) in
                [("variable", by_variable(&section, &key, value)), ("file", by_file(&section, &key, value))]
            {
                match result {
                    Ok(_) => {
                        assert!(is_allowed, "{section}.{key} = {value} by {source} is accepted");
                        loaded += 1;
                    }
                    Err(error) => {
                        assert!(!is_allowed, "{section}.{key} = {value} by {source}: {error}");
                        let named = error.contains(&format!("{section}.{key}"))
                            || error.starts_with(&format!("{}: ", variable(&section, &key)));
                        // A number that TOML cannot hold is an error of the file, which names the line.
                        let by_line = source == "file" && error.contains(":2: ") && !named;
                        assert!(named || by_line, "{error:?} does not name {section}.{key}");
                        assert!(by_line || error.contains(&range.to_string()), "{error:?} does not name the range");
                        refused += 1;
                    }
                }
            }
        }
    }
    println!("{loaded} accepted, {refused} refused");
    assert!(loaded > 100 && refused > 1000, "{loaded} accepted, {refused} refused");
}

#[test]
fn both_ends_of_every_range_can_be_loaded() {
    for (section, key) in figures() {
        let name = format!("{section}.{key}");
        let (min, max) = match ValueRange::of(&name).unwrap() {
            Whole(min, max) => (min.to_string(), max.to_string()),
            Fraction(min, max) => (min.to_string(), max.to_string()),
        };
        for end in [min, max] {
            by_variable(&section, &key, &end).unwrap_or_else(|error| panic!("{name} = {end}: {error}"));
        }
    }
}

#[test]
fn the_reference_names_the_range_of_every_figure() {
    let mut comment = String::new();
    let mut section = String::new();
    let mut compared = 0;
    for line in DEFAULTS.lines() {
        if let Some(text) = line.strip_prefix('#') {
            comment.push_str(text);
        } else if let Some(name) = line.strip_prefix('[') {
            name.trim_end_matches(']').clone_into(&mut section);
            comment.clear();
        } else if let Some((key, _)) = line.split_once(" = ") {
            if let Some(range) = ValueRange::of(&format!("{section}.{key}")) {
                let range = range.to_string();
                let range = range.split_once(" from ").unwrap().1;
                let told = comment.contains(&format!("From {range}.")) || comment.contains(&format!("From {range},"));
                assert!(told, "the comment of {section}.{key} does not say \"From {range}.\": {comment}");
                compared += 1;
            }
            comment.clear();
        } else {
            comment.clear();
        }
    }
    assert_eq!(compared, figures().len());
}

#[test]
fn every_row_is_a_figure_of_the_reference() {
    let defaults: Table = DEFAULTS.parse().unwrap();
    for (name, _) in RANGES.iter().filter(|(name, _)| *name != "clients.weight") {
        let (section, key) = name.split_once('.').unwrap();
        let value = defaults.get(section).and_then(|section| section.get(key));
        assert!(value.is_some_and(|value| value.is_integer() || value.is_float()), "{name}");
    }
}

#[test]
fn a_figure_without_a_range_is_refused() {
    let table: Table = "[server]\nnew_figure_s = 5".parse().unwrap();
    assert_eq!(check(&table)[0].to_string(), "server.new_figure_s: is a number without a range");
}

#[test]
fn entries_of_lists_have_the_ranges_of_their_sections() {
    let client = |line: &str| format!("[[clients]]\nname = \"alice\"\nkey_digest = \"{}\"\n{line}", "ab".repeat(32));
    let account = |line: &str| format!("[[upstream.accounts]]\nname = \"one\"\n{line}");
    for (text, expected) in [
        (client("weight = 1e308"), "clients.alice.weight: must be a number from 0.001 to 1000, not 1e308"),
        (client("weight = 9223372036854775807"), "clients.alice.weight: must be a number from 0.001 to 1000, not"),
        (client("requests_at_once = -1"), "clients.alice.requests_at_once: must be a whole number from 0 to 1000000"),
        (client("pictures_per_day = 9223372036854775807"), "clients.alice.pictures_per_day: must be a whole number"),
        (client("usd_per_month = nan"), "clients.alice.usd_per_month: must be a number from 0 to 1000000000, not NaN"),
        (account("submits_per_minute = 0"), "upstream.accounts.one.submits_per_minute: must be a whole number from 1"),
        (account("concurrent_predictions = 9007199254740992"), "upstream.accounts.one.concurrent_predictions: must"),
        (account("queue_max = 5"), "upstream.accounts, entry 1: unknown key queue_max"),
        (client("waiters_max = 5"), "clients, entry 1: unknown key waiters_max"),
        ("[[clients]]\nname = \"a\"".to_owned(), "clients, entry 1: has no key_digest"),
        (client("models = [1]"), "clients, entry 1: models: must be a list of texts"),
        ("clients = 5".to_owned(), "clients: must be a list of tables: [[clients]]"),
        ("[upstream]\naccounts = [5]".to_owned(), "upstream.accounts, entry 1: must be a table"),
    ] {
        let error = refusal(&text, &[]);
        assert!(error.starts_with(expected), "{error:?} is not {expected:?}");
    }
}
