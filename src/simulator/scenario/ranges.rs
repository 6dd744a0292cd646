//! The ranges of numbers in a scenario, by what their names end with, so that a new key cannot do without one.

use serde_json::Value;

use super::Error;

const DAY_MS: f64 = 86_400_000.0;
const DECADE_S: f64 = 315_360_000.0;

/// Returns the range of the numbers called `name`, both ends included; `None` where every number is valid.
fn range(name: &str) -> Option<(f64, f64)> {
    let by_ending = [
        ("_ms", (0.0, DAY_MS)),
        ("_s", (0.0, DECADE_S)),
        ("_bytes", (0.0, 1e9)),
        ("_bytes_max", (0.0, 1e12)),
        ("_percent", (0.0, 100.0)),
        ("_share", (0.0, 1.0)),
        ("_status", (200.0, 599.0)),
        ("usd", (0.0, 1e9)),
    ];
    match name {
        "seed" => None,
        "speed" => Some((0.001, 1e6)),
        _ => {
            let range = by_ending.into_iter().find(|(ending, _)| name.ends_with(ending)).map(|(_, range)| range);
            // Counts, and rates of calls.
            Some(range.unwrap_or((0.0, 1e6)))
        }
    }
}

/// Checks every number of a scenario.
///
/// # Errors
///
/// [`Error::Number`], naming the key and its range.
pub(super) fn check(scenario: &Value) -> Result<(), Error> {
    check_at("", "", scenario)
}

/// Checks the value at `path`, of which `name` is the last part that is a name.
fn check_at(path: &str, name: &str, value: &Value) -> Result<(), Error> {
    match value {
        Value::Object(members) => members.iter().try_for_each(|(name, value)| {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            check_at(&path, name, value)
        }),
        Value::Array(items) => items.iter().try_for_each(|item| check_at(path, name, item)),
        Value::Number(number) => {
            let Some((min, max)) = range(name) else { return Ok(()) };
            // `contains` refuses NaN, too.
            let is_valid = number.as_f64().is_some_and(|number| (min..=max).contains(&number));
            if is_valid { Ok(()) } else { Err(Error::Number { key: path.to_owned(), min, max }) }
        }
        // What NaN and infinity become in JSON, where the key has a number with a fraction.
        Value::Null if ["speed", "_share", "usd"].iter().any(|ending| name.ends_with(ending)) => {
            let (min, max) = range(name).unwrap_or_default();
            Err(Error::Number { key: path.to_owned(), min, max })
        }
        Value::Null | Value::Bool(_) | Value::String(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use crate::simulator::scenario::Scenario;

    const EXTREMES: [&str; 6] = ["-1", "2147483648", "9007199254740992", "9223372036854775807", "1e308", "nan"];

    /// Every number of the example, alone at an extreme.
    #[test]
    fn extreme_numbers_are_refused_by_name() {
        let example: toml::Table = include_str!("../../../config/simulator.toml").parse().unwrap();
        let mut refused = 0;
        for (section, keys) in example {
            for (key, value) in keys.as_table().cloned().unwrap_or_default() {
                if !(value.is_integer() || value.is_float()) {
                    continue;
                }
                for extreme in EXTREMES {
                    let result = Scenario::from_toml(&format!("[{section}]\n{key} = {extreme}"));
                    // Only space on disk and limits of bodies may be that large.
                    let may_be = key.ends_with("_max") && extreme == "2147483648";
                    match result {
                        Ok(_) => assert!(may_be, "{section}.{key} = {extreme}"),
                        Err(error) => {
                            let error = error.to_string();
                            assert!(error.contains(&key) || error.contains("line 2"), "{error:?} does not name {key}");
                            refused += 1;
                        }
                    }
                }
            }
        }
        assert!(refused > 150, "{refused}");
        for speed in ["0.0", "1e-300", "1e308", "nan", "inf", "-1.0"] {
            let error = Scenario::from_toml(&format!("speed = {speed}")).unwrap_err().to_string();
            assert!(error.contains("speed"), "{error}");
        }
        let error = Scenario::from_toml("[models.by_name.'m'.life]\nlow_ms = [1, 9223372036854775807]").unwrap_err();
        assert!(error.to_string().contains("low_ms"), "{error}");
        let error = Scenario::from_toml("[limits.keys.'k']\nsubmits_per_minute = 4294967295").unwrap_err();
        assert!(error.to_string().contains("limits.keys.k.submits_per_minute"), "{error}");
    }
}
