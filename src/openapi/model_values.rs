//! Fills in what the catalogue says: names of models, sizes, and parameters with a closed list of values.
//!
//! A schema asks for it by `x-catalogue`: `models` and `sizes` give examples, because aliases and free sizes are accepted too; the
//! name of a parameter gives the list of its values at any model, with those of `x-also` behind them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use crate::model::{ApiKind, Capabilities, Catalogue, Task};

const MARK: &str = "x-catalogue";
const ALSO: &str = "x-also";

/// Fills in all schemas within a value.
pub(super) fn fill(value: &mut Value, catalogue: &Catalogue) {
    match value {
        Value::Object(members) => {
            if let Some(Value::String(name)) = members.remove(MARK) {
                fill_schema(members, &name, catalogue);
            }
            members.values_mut().for_each(|member| fill(member, catalogue));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| fill(item, catalogue)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn fill_schema(schema: &mut Map<String, Value>, name: &str, catalogue: &Catalogue) {
    let also = schema.remove(ALSO);
    match name {
        "models" => {
            let ids: Vec<&str> = catalogue.models.iter().map(|model| model.id.as_str()).collect();
            schema.insert("examples".to_owned(), json!(ids));
            if schema.get("type").is_some_and(|kind| kind == "string") && is_optional(schema) {
                schema.insert("default".to_owned(), json!(catalogue.default_model));
            }
        }
        "sizes" => {
            let sizes = sizes(catalogue);
            let mut listed: Vec<&str> = sizes.values().flat_map(|size| &size.listed).map(String::as_str).collect();
            listed.sort_unstable();
            listed.dedup();
            listed.insert(0, "auto");
            let models = sizes.iter().map(|(model, size)| format!("{model}: {}", size.text())).collect::<Vec<_>>();
            schema.insert("examples".to_owned(), json!(listed));
            let text = format!(
                "`auto`, a ratio such as `16:9`, or a size of the model. {}. `auto` is the size nearest in shape to the first picture.",
                models.join("; ")
            );
            schema.insert("description".to_owned(), json!(text));
        }
        parameter => {
            let mut values: Vec<Value> = Vec::new();
            for value in choices(catalogue, parameter) {
                values.push(json!(value));
            }
            for value in also.iter().filter_map(Value::as_array).flatten() {
                if !values.contains(value) {
                    values.push(value.clone());
                }
            }
            schema.insert("enum".to_owned(), Value::Array(values));
        }
    }
}

/// Whether a schema is of a field of a request, which may be left out.
fn is_optional(schema: &Map<String, Value>) -> bool {
    schema.get("description").is_some_and(|text| text == "An id or alias of the catalogue.")
}

fn capabilities(catalogue: &Catalogue) -> impl Iterator<Item = (&str, Capabilities<'_>)> {
    const KINDS: [ApiKind; 3] = [ApiKind::Prediction, ApiKind::OpenAi, ApiKind::Unified];
    catalogue.models.iter().flat_map(|model| {
        let pairs = KINDS.into_iter().flat_map(|kind| [Task::Edit, Task::Generate].map(|task| (kind, task)));
        pairs.filter_map(|(kind, task)| Some((model.id.as_str(), model.capabilities(kind, task)?)))
    })
}

/// Returns the values of a parameter at any model.
fn choices<'a>(catalogue: &'a Catalogue, parameter: &str) -> BTreeSet<&'a str> {
    let choices = capabilities(catalogue).filter_map(|(_, capabilities)| capabilities.choice(parameter));
    choices.flat_map(|choice| &choice.values).map(String::as_str).collect()
}

/// The sizes of one model.
#[derive(Debug, Default)]
struct Sizes {
    listed: BTreeSet<String>,
    custom: Option<String>,
}

impl Sizes {
    fn text(&self) -> String {
        let listed = self.listed.iter().map(String::as_str);
        let custom = self.custom.as_deref().map(|custom| format!("any {custom}"));
        listed.map(str::to_owned).chain(custom).collect::<Vec<_>>().join(", ")
    }
}

fn sizes(catalogue: &Catalogue) -> BTreeMap<&str, Sizes> {
    let mut sizes: BTreeMap<&str, Sizes> = BTreeMap::new();
    for (model, capabilities) in capabilities(catalogue) {
        let of_model = sizes.entry(model).or_default();
        of_model.listed.extend(capabilities.size.values.iter().map(ToString::to_string));
        of_model.custom = of_model.custom.take().or_else(|| capabilities.size.custom.map(|custom| custom.to_string()));
    }
    sizes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_from_the_catalogue() {
        let catalogue: Catalogue = toml::from_str(include_str!("../../config/models.toml")).unwrap();
        let mut schema = json!({"items": [{"x-catalogue": "quality", "x-also": ["auto", "low", null]}]});
        fill(&mut schema, &catalogue);
        assert_eq!(schema["items"][0], json!({"enum": ["high", "low", "medium", "auto", null]}));
        let mut schema = json!({"x-catalogue": "models"});
        fill(&mut schema, &catalogue);
        assert_eq!(schema["examples"].as_array().unwrap().len(), catalogue.models.len());
        let mut schema = json!({"x-catalogue": "sizes"});
        fill(&mut schema, &catalogue);
        let text = schema["description"].as_str().unwrap();
        assert!(text.contains("gpt-image-2: ") && text.contains("any WIDTHxHEIGHT of multiples of 16"), "{text}");
    }
}
