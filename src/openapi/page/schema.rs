//! Schemas in a few words, and their members as rows of a table.

use std::fmt::Write;

use serde_json::Value;

use super::text::phrase;
use crate::web::escape::escaped as escape;

/// Longest list of examples that is shown.
const EXAMPLES_MAX: usize = 12;

/// Says what a schema allows, in a few words.
pub(super) fn kind(schema: &Value) -> String {
    if let Some(reference) = schema["$ref"].as_str() {
        let name = escape(reference.rsplit('/').next().unwrap_or_default());
        return format!("<a href=\"#schema-{name}\">{name}</a>");
    }
    if let Some(value) = schema.get("const") {
        return code(value);
    }
    if let Some(values) = schema["enum"].as_array() {
        return values.iter().map(code).collect::<Vec<_>>().join(", ");
    }
    for (member, separator) in [("anyOf", " or "), ("allOf", " and ")] {
        if let Some(schemas) = schema[member].as_array() {
            return schemas.iter().map(kind).collect::<Vec<_>>().join(separator);
        }
    }
    let names = match &schema["type"] {
        Value::Array(names) => names.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" or "),
        Value::String(name) => name.clone(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => "any".to_owned(),
    };
    let mut text = match names.as_str() {
        "array" => format!("list of {}", kind(&schema["items"])),
        _ if schema["format"] == "binary" => "file".to_owned(),
        _ => escape(&names),
    };
    text.push_str(&bounds(schema));
    text
}

/// Says what bounds a value has.
fn bounds(schema: &Value) -> String {
    let range = |min: &str, max: &str, what: &str| {
        Some(match (schema[min].as_u64(), schema[max].as_u64()) {
            (Some(min), Some(max)) => format!(", {min} to {max}{what}"),
            (Some(min), None) if min > 0 => format!(", from {min}{what}"),
            (None, Some(max)) => format!(", up to {max}{what}"),
            _ => return None,
        })
    };
    let found = [
        range("minimum", "maximum", ""),
        range("minLength", "maxLength", " characters"),
        range("minItems", "maxItems", " items"),
    ];
    found.into_iter().flatten().collect()
}

fn code(value: &Value) -> String {
    let text = value.as_str().map_or_else(|| value.to_string(), |text| text.escape_debug().to_string());
    format!("<code>{}</code>", escape(&text))
}

/// Writes a row for each member of an object, and for those of the objects within.
pub(super) fn properties(page: &mut String, schema: &Value) {
    rows(page, schema, "");
}

fn rows(page: &mut String, schema: &Value, before: &str) {
    let required = |name: &str| schema["required"].as_array().is_some_and(|names| names.iter().any(|one| one == name));
    for (name, member) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{before}{name}");
        let optional = if required(name) { "" } else { "<br>optional" };
        let _ = write!(
            page,
            "<tr><th scope=row><code>{}</code></th><td>{}{optional}</td><td>{}{}",
            escape(&path),
            kind(member),
            phrase(&member["description"]),
            examples(member)
        );
        rows(page, member, &format!("{path}."));
        rows(page, &member["items"], &format!("{path}[]."));
    }
}

fn examples(schema: &Value) -> String {
    let mut text = String::new();
    if let Some(values) = schema["examples"].as_array() {
        let shown: Vec<String> = values.iter().take(EXAMPLES_MAX).map(code).collect();
        let more = if values.len() > EXAMPLES_MAX { ", …" } else { "" };
        let _ = write!(text, " For example {}{more}.", shown.join(", "));
    }
    if let Some(value) = schema.get("default") {
        let _ = write!(text, " By default {}.", code(value));
    }
    text
}
