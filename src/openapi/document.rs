//! Completes the documents.
//!
//! In the files, an operation names groups of errors (`x-errors`), of which every status of the table becomes a response with its
//! codes; and a response names groups of headers (`x-headers`). Both kinds of groups stand at the end of the file.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::error_codes::{self, ErrorCode};
use super::model_values;
use crate::config::WebPages;
use crate::model::Catalogue;

const CLIENTS: &str = include_str!("clients.json");
const CLIENT_COMPONENTS: &str = include_str!("components.json");
const OPERATOR: &str = include_str!("operator.json");

/// Refusals of the HTTP library, which every route has.
const OF_LIBRARY: [(&str, &str); 2] = [("414", "UriTooLong"), ("431", "HeadersTooLarge")];

/// The route that is only there with `server.web`.
const FILES_OF_PAGES: &str = "/web/{file}";

/// Members of a path item that are operations.
pub(super) const METHODS: [&str; 5] = ["get", "post", "patch", "put", "delete"];

pub(super) fn of_clients(catalogue: &Catalogue, pages: WebPages) -> Value {
    let mut document = parsed(CLIENTS);
    if pages == WebPages::Off
        && let Some(paths) = document["paths"].as_object_mut()
    {
        paths.remove(FILES_OF_PAGES);
    }
    document["components"] = parsed(CLIENT_COMPONENTS);
    document["x-error-codes"] = error_codes::all().map(row).collect();
    model_values::fill(&mut document, catalogue);
    completed(document)
}

pub(super) fn of_operator() -> Value {
    completed(parsed(OPERATOR))
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).expect("a test reads the file")
}

fn row(error: ErrorCode<'_>) -> Value {
    let ErrorCode { name: _, status, error_type, code, retry, pays_again } = error;
    json!({"status": status, "type": error_type, "code": code, "x-should-retry": retry, "retry_pays_again": pays_again})
}

fn completed(mut document: Value) -> Value {
    document["info"]["version"] = json!(env!("CARGO_PKG_VERSION"));
    let errors = Groups::take(&mut document, "x-error-groups");
    let headers = Groups::take(&mut document, "x-header-groups");
    for item in members(&mut document["paths"]) {
        for method in METHODS {
            let Some(operation) = item.get_mut(method) else { continue };
            for response in members(&mut operation["responses"]) {
                add_headers(response, &headers);
            }
            add_errors(operation, &errors, &headers);
        }
    }
    for response in members(&mut document["components"]["responses"]) {
        add_headers(response, &headers);
    }
    describe_events(&mut document);
    document
}

/// Adds a schema of one event wherever the events of a stream are named (`x-events`), for programs: before OpenAPI 3.2, the
/// schema of a stream is that of each event.
fn describe_events(value: &mut Value) {
    if let Some(events) = value["x-events"].as_object() {
        let of_event = |(name, schema): (&String, &Value)| {
            let data = json!({"type": "string", "contentMediaType": "application/json", "contentSchema": schema});
            match name.as_str() {
                // Chunks have no name, and the last one is no JSON.
                "" => json!({"type": "object", "required": ["data"], "properties": {"data": {"type": "string"}}}),
                name => json!({
                    "type": "object",
                    "required": ["event", "data"],
                    "properties": {"event": {"const": name}, "data": data},
                }),
            }
        };
        let events: Vec<Value> = events.iter().map(of_event).collect();
        value["schema"] =
            json!({"description": "One event; comments between events keep the connection open.", "anyOf": events});
    }
    match value {
        Value::Object(object) => object.values_mut().for_each(describe_events),
        Value::Array(items) => items.iter_mut().for_each(describe_events),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn members(value: &mut Value) -> impl Iterator<Item = &mut Value> {
    value.as_object_mut().into_iter().flat_map(Map::values_mut)
}

/// Lists of names, by the name of the group.
struct Groups(BTreeMap<String, Vec<String>>);

impl Groups {
    /// Takes the groups out of a document.
    fn take(document: &mut Value, name: &str) -> Self {
        let groups = document.as_object_mut().and_then(|document| document.remove(name)).unwrap_or_else(|| json!({}));
        Self(serde_json::from_value(groups).expect("groups are lists of names"))
    }

    /// Returns the names of all groups that a member of an object lists, and removes the member.
    fn named_by(&self, object: &mut Value, member: &str) -> Vec<&str> {
        let Some(named) = object.as_object_mut().and_then(|object| object.remove(member)) else { return Vec::new() };
        let named: Vec<String> = serde_json::from_value(named).expect("an object names its groups by a list");
        named.iter().flat_map(|group| self.of(group)).collect()
    }

    fn of(&self, group: &str) -> impl Iterator<Item = &str> {
        self.0.get(group).unwrap_or_else(|| panic!("no group {group}")).iter().map(String::as_str)
    }
}

/// Adds a response for every status that the errors of an operation have.
fn add_errors(operation: &mut Value, errors: &Groups, headers: &Groups) {
    let has_rate = operation["x-errors"].as_array().is_some_and(|groups| groups.contains(&json!("rate")))
        || operation["tags"].as_array().is_some_and(|tags| tags.contains(&json!("Predictions")));
    // Also an error says what it cost, where it may be that of a job.
    let has_cost = operation["x-errors"].as_array().is_some_and(|groups| groups.contains(&json!("outcome")));
    let names = errors.named_by(operation, "x-errors");
    if names.is_empty() {
        return;
    }
    let mut by_status: BTreeMap<&str, Vec<ErrorCode<'_>>> = BTreeMap::new();
    for error in error_codes::all().filter(|error| names.contains(&error.name)) {
        by_status.entry(error.status).or_default().push(error);
    }
    for error in names.iter().filter_map(|name| ErrorCode::of_operator(name)) {
        by_status.entry(error.status).or_default().push(error);
    }
    let responses = &mut operation["responses"];
    for (status, errors) in by_status {
        let mut names: Vec<&str> = headers.of("standard").chain(headers.of("error")).collect();
        if has_rate {
            names.extend(headers.of("rate"));
        }
        if has_cost {
            names.extend(headers.of("job").chain(headers.of("cost")));
        }
        if status == "401" {
            names.push("www-authenticate");
        }
        if errors.iter().any(|error| error.has_retry_after()) {
            names.push("retry-after");
        }
        if errors.iter().any(|error| error.names_job()) {
            names.extend(headers.of("job"));
        }
        let headers = references(names);
        let response = &mut responses[status];
        if response.is_null() {
            *response = json!({"description": "", "headers": {}, "content": {}});
        }
        merge(&mut response["headers"], headers);
        merge(&mut response["content"], bodies(&errors));
        let described = response["description"].as_str().unwrap_or_default();
        response["description"] = json!(format!("{described} {}", description(&errors)).trim());
    }
    for (status, name) in OF_LIBRARY {
        responses[status] = json!({"$ref": format!("#/components/responses/{name}")});
    }
}

/// Adds the members of one object to another.
fn merge(value: &mut Value, other: Value) {
    if let (Value::Object(members), Value::Object(others)) = (value, other) {
        members.extend(others);
    }
}

/// Names the codes of errors with one status.
fn description(errors: &[ErrorCode<'_>]) -> String {
    let codes = listed(errors, |error| error.code);
    let names = codes.iter().map(|code| format!("`{code}`"));
    let text = errors.iter().any(|error| error.is_text()).then(|| "`Host` is wrong, as one line says.".to_owned());
    [names.collect::<Vec<_>>().join(", "), text.unwrap_or_default()].join(" ").trim().to_owned()
}

/// Returns the bodies that errors with one status have.
fn bodies(errors: &[ErrorCode<'_>]) -> Value {
    let mut content = Map::new();
    let codes = listed(errors, |error| error.code);
    if !codes.is_empty() {
        let types = listed(errors, |error| error.error_type);
        let schema = json!({
            "allOf": [{"$ref": "#/components/schemas/Error"}],
            "properties": {"error": {"properties": {"code": {"enum": codes}, "type": {"enum": types}}}},
        });
        content.insert("application/json".to_owned(), json!({"schema": schema}));
    }
    if errors.iter().any(|error| error.is_text()) {
        content.insert("text/plain".to_owned(), json!({"schema": {"type": "string", "minLength": 1}}));
    }
    Value::Object(content)
}

/// Returns one value of all errors that are JSON, each once.
fn listed<'a>(errors: &[ErrorCode<'a>], value: fn(&ErrorCode<'a>) -> &'a str) -> Vec<&'a str> {
    let mut values: Vec<&str> = errors.iter().filter(|error| !error.is_text()).map(value).collect();
    values.sort_unstable();
    values.dedup();
    values
}

fn add_headers(response: &mut Value, headers: &Groups) {
    let names = headers.named_by(response, "x-headers");
    if !names.is_empty() {
        response["headers"] = references(names);
    }
}

fn references(names: Vec<&str>) -> Value {
    names.into_iter().map(|name| (name, json!({"$ref": format!("#/components/headers/{name}")}))).collect()
}

#[cfg(test)]
mod tests;
