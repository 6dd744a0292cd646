//! Compares the parameters that the gateway sends with those that the service says its models have.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::report::{Row, Section, Verdict};
use crate::config::{Account, Config};
use crate::model::{ApiKind, Model, Task, TaskSpec};
use crate::upstream::GptProto;
use crate::upstream::formats::AuthStyle;

/// Adds a row for the models, with the names that differ.
pub(super) async fn check(
    config: &Config,
    upstream: &GptProto,
    account: &Account,
    auth: AuthStyle,
    section: &mut Section,
) {
    if !config.upstream.api.api_kinds().contains(&ApiKind::Prediction) {
        return;
    }
    let mut compared = 0_usize;
    // By what is missing, so that one difference of all models is one row.
    let mut differences: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut silent = Vec::new();
    for model in &config.catalogue.models {
        let path = format!("/v1/cli/models/openai/{}", model.id);
        let description = match upstream.query(&account.id, auth, &path, None).await {
            Ok(answer) if answer.is_success() => answer.json(),
            Ok(_) | Err(_) => None,
        };
        let tasks = [Task::Edit, Task::Generate].into_iter().filter_map(|task| Some((task, model.task_spec(task)?)));
        for (task, spec) in tasks {
            match description.as_ref().and_then(|description| described(description, spec)) {
                Some(names) => {
                    compared += 1;
                    if let Some(missing) = missing(model, task, spec, &names) {
                        differences.entry(missing).or_default().push(format!("{} {}", model.id, task.name()));
                    }
                }
                None => silent.push(format!("{} {}", model.id, task.name())),
            }
        }
    }
    for (missing, of) in &differences {
        section.add(Row::new(
            Verdict::Warning,
            "fields",
            format!("the upstream does not name {missing}: {}", of.join(", ")),
            "check --live shows whether it matters; config/models.toml names the fields (models.file)",
        ));
    }
    if compared > 0 && differences.is_empty() {
        section.add(Row::good("fields", format!("{compared} descriptions have the fields that the gateway sends")));
    }
    if compared == 0 {
        section.add(Row::note("fields", "not compared: the upstream does not describe its models"));
    } else if !silent.is_empty() {
        section.add(Row::note("fields", format!("not described by the upstream: {}", silent.join(", "))));
    }
}

/// Returns the names of the parameters that a description has for the path of a task.
fn described(description: &Value, spec: &TaskSpec) -> Option<BTreeSet<String>> {
    let description = description.get("data").filter(|data| data.is_object()).unwrap_or(description);
    let interfaces = description.get("interfaces")?.as_array()?;
    let capability = spec.path.rsplit('/').next().unwrap_or_default();
    let is_ours = |interface: &&Value| {
        let text = |name: &str| interface.get(name).and_then(Value::as_str).unwrap_or_default();
        text("path").ends_with(&spec.path) || (text("path").is_empty() && text("capability") == capability)
    };
    let parameters = interfaces.iter().find(is_ours)?.pointer("/request/parameters")?;
    // JSON Schema, an object of parameters, or a list of them.
    let properties = parameters.get("properties").unwrap_or(parameters);
    let names: BTreeSet<String> = match properties {
        Value::Object(fields) => fields.keys().cloned().collect(),
        Value::Array(items) => {
            let name = |item: &Value| item.get("name").unwrap_or(item).as_str().map(str::to_owned);
            items.iter().filter_map(name).collect()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => return None,
    };
    (!names.is_empty()).then_some(names)
}

/// Returns the fields of a task that the service does not name. Those that control the form of the answer are not compared.
fn missing(model: &Model, task: Task, spec: &TaskSpec, names: &BTreeSet<String>) -> Option<String> {
    let capabilities = model.capabilities(ApiKind::Prediction, task)?;
    let mut sent: Vec<&str> = vec!["prompt", "size"];
    sent.extend(capabilities.n_max.map(|_| "n"));
    sent.extend(capabilities.choices().map(|(name, _)| name.as_str()));
    sent.extend([&spec.links_field, &spec.inline_field, &spec.mask_field].into_iter().flatten().map(String::as_str));
    let missing: Vec<&str> = sent.into_iter().filter(|name| !names.contains(*name)).collect();
    (!missing.is_empty()).then(|| missing.join(", "))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn spec() -> TaskSpec {
        serde_json::from_value(json!({
            "path": "/api/v3/openai/gpt-image-2/image-edit", "links_field": "images", "inline_field": "base64_images",
        }))
        .unwrap()
    }

    #[test]
    fn names_are_read_from_every_form_of_a_description() {
        let interface = |parameters: Value| {
            json!({"interfaces": [
                {"capability": "text-to-image", "path": "/api/v3/openai/gpt-image-2/text-to-image", "request": {"parameters": ["other"]}},
                {"capability": "image-edit", "path": "/api/v3/openai/gpt-image-2/image-edit", "request": {"parameters": parameters}},
            ]})
        };
        let names = BTreeSet::from(["images".to_owned(), "prompt".to_owned()]);
        for parameters in [
            json!({"prompt": {}, "images": {}}),
            json!({"type": "object", "properties": {"prompt": {}, "images": {}}}),
            json!([{"name": "prompt"}, {"name": "images"}]),
            json!(["prompt", "images"]),
        ] {
            assert_eq!(described(&interface(parameters.clone()), &spec()), Some(names.clone()), "{parameters}");
        }
        assert_eq!(described(&json!({"data": interface(json!(["prompt", "images"]))}), &spec()), Some(names));
        assert_eq!(described(&json!({"id": "gpt-image-2"}), &spec()), None);
        assert_eq!(described(&interface(json!(7)), &spec()), None);
    }
}
