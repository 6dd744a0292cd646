use std::collections::BTreeSet;

use super::*;

fn documents() -> [Value; 2] {
    let catalogue: Catalogue = toml::from_str(include_str!("../../../config/models.toml")).unwrap();
    [of_clients(&catalogue, WebPages::On), of_operator()]
}

/// Calls a function with every object of a value.
fn visit(value: &Value, see: &mut impl FnMut(&Map<String, Value>)) {
    match value {
        Value::Object(object) => {
            see(object);
            object.values().for_each(|member| visit(member, see));
        }
        Value::Array(items) => items.iter().for_each(|item| visit(item, see)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[test]
fn every_reference_is_there_and_every_component_is_used() {
    for document in documents() {
        let mut used = BTreeSet::new();
        visit(&document, &mut |object| {
            if let Some(reference) = object.get("$ref").and_then(Value::as_str) {
                assert!(document.pointer(reference.strip_prefix('#').unwrap()).is_some(), "{reference}");
                used.insert(reference.to_owned());
            }
        });
        for (kind, components) in document["components"].as_object().unwrap() {
            for name in components.as_object().unwrap().keys().filter(|_| kind != "securitySchemes") {
                assert!(used.contains(&format!("#/components/{kind}/{name}")), "{kind} {name} is never used");
            }
        }
    }
}

#[test]
fn nothing_is_left_to_be_filled_in() {
    for document in documents() {
        visit(&document, &mut |object| {
            for mark in ["x-errors", "x-headers", "x-catalogue", "x-also", "x-error-groups", "x-header-groups"] {
                assert!(!object.contains_key(mark), "{mark} in {object:?}");
            }
        });
        assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    }
}

#[test]
fn every_operation_is_described_and_has_no_default_response() {
    for document in documents() {
        let mut ids = BTreeSet::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                assert!(METHODS.contains(&method.as_str()), "{method} {path}");
                let place = format!("{method} {path}");
                assert!(ids.insert(operation["operationId"].as_str().unwrap()), "{place}");
                assert!(operation["summary"].as_str().unwrap().ends_with('.'), "{place}");
                let tag = &operation["tags"][0];
                assert!(document["tags"].as_array().unwrap().iter().any(|known| known["name"] == *tag), "{place}");
                let responses = operation["responses"].as_object().unwrap();
                assert!(responses.keys().all(|status| status.parse::<u16>().is_ok()), "{place}");
                let in_path: BTreeSet<&str> =
                    path.split('{').skip(1).map(|rest| rest.split('}').next().unwrap()).collect();
                let parameters = operation["parameters"].as_array().map_or(&[][..], Vec::as_slice);
                let parameters = parameters.iter().map(|parameter| match parameter["$ref"].as_str() {
                    Some(reference) => document.pointer(&reference[1..]).unwrap(),
                    None => parameter,
                });
                let described =
                    parameters.filter(|parameter| parameter["in"] == "path" && parameter["required"] == true);
                let described = described.map(|parameter| parameter["name"].as_str().unwrap()).collect();
                assert_eq!(in_path, described, "{place}");
            }
        }
    }
}

/// `UnknownRoute` and `MethodNotAllowed` belong to no operation.
#[test]
fn every_error_of_the_table_is_one_of_an_operation() {
    let groups = Groups::take(&mut parsed(CLIENTS), "x-error-groups");
    let grouped: BTreeSet<&str> = groups.0.values().flatten().map(String::as_str).collect();
    let table: BTreeSet<&str> = error_codes::all().map(|error| error.name).collect();
    let missing: Vec<_> = table.difference(&grouped).filter(|name| **name != "MethodNotAllowed").collect();
    let unknown: Vec<_> = grouped.difference(&table).collect();
    assert_eq!((missing, unknown), (vec![], vec![]), "errors in no group, and groups with errors that are not there");
    let text = CLIENTS.split("x-error-groups").next().unwrap();
    for group in groups.0.keys() {
        let named = text
            .split("\"x-errors\": [")
            .skip(1)
            .any(|rest| rest.split(']').next().is_some_and(|list| list.contains(&format!("\"{group}\""))));
        assert!(named, "no operation has the errors of {group}");
    }
}

#[test]
fn a_document_is_the_same_every_time() {
    let [first, second] = [documents(), documents()].map(|documents| serde_json::to_vec(&documents).unwrap());
    assert_eq!(first, second);
}
