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

fn row(error: ErrorCode) -> Value {
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
            add_errors(operation, &errors, &headers);
            for response in members(&mut operation["responses"]) {
                add_headers(response, &headers);
            }
        }
    }
    for response in members(&mut document["components"]["responses"]) {
        add_headers(response, &headers);
    }
    document
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
    let names = errors.named_by(operation, "x-errors");
    if names.is_empty() {
        return;
    }
    let mut by_status: BTreeMap<&str, Vec<ErrorCode>> = BTreeMap::new();
    for error in error_codes::all().filter(|error| names.contains(&error.name)) {
        by_status.entry(error.status).or_default().push(error);
    }
    let responses = &mut operation["responses"];
    for (status, errors) in by_status {
        let mut names: Vec<&str> = headers.of("standard").chain(headers.of("error")).collect();
        if has_rate {
            names.extend(headers.of("rate"));
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
        let listed = |value: fn(&ErrorCode) -> &'static str| {
            let mut values: Vec<&str> = errors.iter().map(value).collect();
            values.sort_unstable();
            values.dedup();
            values
        };
        let (codes, types) = (listed(|error| error.code), listed(|error| error.error_type));
        let text: Vec<String> = codes.iter().map(|code| format!("`{code}`")).collect();
        responses[status] = json!({
            "description": text.join(", "),
            "headers": references(names),
            "content": {"application/json": {"schema": {
                "allOf": [{"$ref": "#/components/schemas/Error"}],
                "properties": {"error": {"properties": {"code": {"enum": codes}, "type": {"enum": types}}}},
            }}},
        });
    }
    for (status, name) in OF_LIBRARY {
        responses[status] = json!({"$ref": format!("#/components/responses/{name}")});
    }
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
