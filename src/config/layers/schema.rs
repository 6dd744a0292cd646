//! The JSON Schema of a configuration file, for editors and for checks without the program.
//!
//! Names, defaults and explanations come from the reference, ranges from the table that checks them, and choices from the
//! parser, so that the schema has no list of its own.

use serde_json::{Map, Value as Json, json};
use toml::Value;

use super::reference::{self, Key};
use super::types::{ACCOUNTS, CLIENTS, TableList, ValueType};

/// Returns the JSON Schema (2020-12) of a configuration file.
pub(in crate::config) fn schema() -> Json {
    let mut properties: Map<String, Json> = reference::sections()
        .iter()
        .map(|section| {
            let keys: Map<String, Json> = section.keys.iter().map(|key| (key.name.clone(), of_key(key))).collect();
            (section.name.clone(), object(&section.description, &keys, &[]))
        })
        .collect();
    for list in [&CLIENTS, &ACCOUNTS] {
        let entries = json!({"type": "array", "description": list.description(), "items": of_entry(list)});
        match list.name().split_once('.') {
            None => drop(properties.insert(list.name().to_owned(), entries)),
            Some((section, key)) => properties[section]["properties"][key] = entries,
        }
    }
    let mut schema =
        object("Configuration of gptproto-gateway. A key that is left out has its default.", &properties, &[]);
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema".into();
    schema["title"] = "gptproto-gateway".into();
    schema
}

fn object(description: &str, properties: &Map<String, Json>, required: &[&str]) -> Json {
    let mut object = json!({
        "type": "object",
        "description": description,
        "properties": properties,
        "additionalProperties": false,
    });
    if !required.is_empty() {
        object["required"] = json!(required);
    }
    object
}

fn of_key(key: &Key) -> Json {
    let mut schema = of_value(key);
    schema["description"] = key.description.clone().into();
    schema["default"] = json!(key.default);
    if key.example() != key.default {
        schema["examples"] = json!([key.example()]);
    }
    schema
}

fn of_value(key: &Key) -> Json {
    match &key.default {
        Value::Integer(_) => of_figure("integer", key),
        Value::Float(_) => of_figure("number", key),
        Value::Boolean(_) => json!({"type": "boolean"}),
        Value::String(_) => with_choices(of_type(ValueType::Text), key),
        Value::Array(_) => {
            let mut list = of_type(ValueType::Texts);
            list["items"] = with_choices(list["items"].take(), key);
            list
        }
        Value::Table(_) => of_type(ValueType::NamedTexts),
        Value::Datetime(_) => json!({}),
    }
}

fn of_figure(name: &str, key: &Key) -> Json {
    let mut figure = json!({"type": name});
    if let Some((min, max)) = key.range().map(super::ranges::ValueRange::ends) {
        figure["minimum"] = min;
        figure["maximum"] = max;
    }
    figure
}

fn with_choices(mut text: Json, key: &Key) -> Json {
    let choices = key.choices();
    if !choices.is_empty() {
        text["enum"] = json!(choices);
    }
    text
}

fn of_type(value_type: ValueType) -> Json {
    match value_type {
        ValueType::Text => json!({"type": "string"}),
        ValueType::Texts => json!({"type": "array", "items": {"type": "string"}}),
        ValueType::NamedTexts => json!({"type": "object", "additionalProperties": {"type": "string"}}),
    }
}

/// The schema of an entry. Its figures are those of the sections that have them.
fn of_entry(list: &TableList) -> Json {
    let texts = list.texts().map(|(name, value_type)| (name.to_owned(), of_type(value_type)));
    let figures = list.figures().map(|(name, path)| {
        let schema = if let Some(key) = reference::find(&path) {
            let mut figure = of_value(key);
            figure["description"] = key.description.clone().into();
            figure
        } else {
            // The only figure that no section has.
            let range = super::ranges::ValueRange::of(&path).map(super::ranges::ValueRange::ends);
            let (min, max) = range.unwrap_or_default();
            json!({"type": "number", "minimum": min, "maximum": max})
        };
        (name.to_owned(), schema)
    });
    let required: Vec<&str> = list.required().collect();
    object("One entry.", &texts.chain(figures).collect(), &required)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::DEFAULTS;
    use crate::config::tests::load;

    /// Checks a value by the keywords that the schema has. `tests/config/run.sh` has it done by a validator of others.
    fn check(schema: &Json, value: &Json, at: &str) -> Result<(), String> {
        let schema = schema.as_object().unwrap();
        for (keyword, expected) in schema {
            let is_met = match keyword.as_str() {
                "type" => match expected.as_str().unwrap() {
                    "object" => value.is_object(),
                    "array" => value.is_array(),
                    "string" => value.is_string(),
                    "integer" => value.is_i64(),
                    "number" => value.is_number(),
                    "boolean" => value.is_boolean(),
                    other => panic!("type {other}"),
                },
                "enum" => expected.as_array().unwrap().contains(value),
                "minimum" => value.as_f64().is_none_or(|value| value >= expected.as_f64().unwrap()),
                "maximum" => value.as_f64().is_none_or(|value| value <= expected.as_f64().unwrap()),
                "required" => {
                    expected.as_array().unwrap().iter().all(|name| value.get(name.as_str().unwrap()).is_some())
                }
                "items" => {
                    value.as_array().into_iter().flatten().try_for_each(|item| check(expected, item, at))?;
                    true
                }
                "properties" => {
                    for (name, value) in value.as_object().into_iter().flatten() {
                        let known = expected
                            .get(name)
                            .or_else(|| schema.get("additionalProperties").filter(|it| it.is_object()));
                        match known {
                            Some(schema) => check(schema, value, &format!("{at}.{name}"))?,
                            None => return Err(format!("{at}.{name} is unknown")),
                        }
                    }
                    true
                }
                "additionalProperties" => {
                    if expected.is_object() {
                        value
                            .as_object()
                            .into_iter()
                            .flatten()
                            .try_for_each(|(_, value)| check(expected, value, at))?;
                    }
                    true
                }
                "$schema" | "title" | "description" | "default" | "examples" => true,
                other => panic!("keyword {other}"),
            };
            if !is_met {
                return Err(format!("{at}: {keyword}"));
            }
        }
        Ok(())
    }

    fn checked(toml: &str) -> Result<(), String> {
        let table: toml::Table = toml.parse().unwrap();
        check(&schema(), &serde_json::to_value(table).unwrap(), "")
    }

    #[test]
    fn the_reference_and_the_example_fit() {
        checked(DEFAULTS).unwrap();
        checked(include_str!("../../../config/example.toml")).unwrap();
        let digest = "ab".repeat(32);
        let lists = format!(
            "[[clients]]\nname = \"a\"\nkey_digest = \"{digest}\"\nmodels = [\"gpt-image-2\"]\nweight = 2\nusd_per_day = 1.5\n\
             [[upstream.accounts]]\nname = \"one\"\nsubmits_per_minute = 60\n[models.aliases]\n\"x\" = \"gpt-image-2\"\n"
        );
        checked(&lists).unwrap();
    }

    #[test]
    fn what_the_schema_refuses_the_program_refuses_too() {
        for broken in [
            "[upstream]\nfrist_poll_ms = 5",
            "[sever]\nlisten = \"x\"",
            "server = 5",
            "[server]\nweb = \"perhaps\"",
            "[server]\nweb = true",
            "[server]\nhosts = \"a.test\"",
            "[cache]\nttl_s = -1",
            "[cache]\nttl_s = 1.5",
            "[limits]\nusd_per_day = 1e10",
            "[upstream]\ninputs = [\"inline\"]",
            "[models]\naliases = [\"x\"]",
            "[models.aliases]\n\"x\" = 5",
            "[[clients]]\nname = \"a\"",
            "[[clients]]\nname = \"a\"\nkey_digest = \"b\"\nweight = 1001",
            "[[clients]]\nname = \"a\"\nkey_digest = \"b\"\nwaiters_max = 5",
            "[[upstream.accounts]]\nsubmits_per_minute = 5",
            "[[upstream.accounts]]\nname = \"one\"\nsubmits_per_minute = 0",
        ] {
            assert!(checked(broken).is_err(), "{broken}");
            assert!(load(broken, &[]).is_err(), "{broken}");
        }
    }

    #[test]
    fn every_key_says_all_that_is_known_of_it() {
        let schema = schema();
        let of = |section: &str, key: &str| schema["properties"][section]["properties"][key].clone();
        let timeout = of("server", "response_timeout_s");
        assert_eq!(timeout["type"], "integer");
        assert_eq!(
            (&timeout["minimum"], &timeout["maximum"], &timeout["default"]),
            (&json!(1), &json!(86400), &json!(590))
        );
        assert!(timeout["description"].as_str().unwrap().starts_with("The longest time until a synchronous response"));
        assert_eq!(of("limits", "usd_per_day")["type"], "number");
        assert_eq!(of("cache", "mode")["enum"], json!(["on", "off"]));
        assert_eq!(of("upstream", "inputs")["items"]["enum"].as_array().unwrap().len(), 4);
        assert_eq!(of("server", "hosts")["examples"], json!([["images.example.com"]]));
        assert_eq!(of("upstream", "accounts")["items"]["required"], json!(["name"]));
        assert_eq!(schema["properties"]["clients"]["items"]["required"], json!(["name", "key_digest"]));
        assert!(schema["properties"]["limits"]["description"].as_str().unwrap().contains("limits of each client"));
    }
}
