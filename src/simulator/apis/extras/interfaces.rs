//! `GET /v1/cli/models` and `GET /v1/cli/models/{provider}/{model}`: how each model is called.
//!
//! The parameters are those that the scenario accepts, so that a client can compare them with what it sends.

use axum::extract::{Path, State};
use axum::http::{HeaderMap, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::account::admit;
use crate::simulator::apis::{openai, prediction};
use crate::simulator::rules::errors::Refusal;
use crate::simulator::rules::models::{MODELS, Model};
use crate::simulator::rules::values::{Api, Capability};
use crate::simulator::scenario::Scenario;
use crate::simulator::world::handle::Simulator;

/// The provider of all models.
const PROVIDER: &str = "openai";

/// `GET /v1/cli/models`
pub(crate) async fn list(State(simulator): State<Simulator>, headers: HeaderMap, uri: Uri) -> Response {
    let scenario = match admit(&simulator, &headers, &uri) {
        Ok(scenario) => scenario,
        Err(refused) => return *refused,
    };
    if scenario.extras.cli_status != 200 {
        return Refusal::new(scenario.extras.cli_status, "Not available").response(Api::Prediction, &scenario);
    }
    let data: Vec<_> = MODELS.iter().map(|model| interfaces(model, &scenario.for_model(model.name))).collect();
    axum::Json(json!({ "data": data })).into_response()
}

/// `GET /v1/cli/models/{provider}/{model}`
pub(crate) async fn describe(
    State(simulator): State<Simulator>,
    Path((provider, name)): Path<(String, String)>,
    headers: HeaderMap,
    uri: Uri,
) -> Response {
    let scenario = match admit(&simulator, &headers, &uri) {
        Ok(scenario) => scenario,
        Err(refused) => return *refused,
    };
    if scenario.extras.cli_status != 200 {
        return Refusal::new(scenario.extras.cli_status, "Not available").response(Api::Prediction, &scenario);
    }
    match Model::named(&name).filter(|_| provider == PROVIDER) {
        Some(model) => axum::Json(interfaces(model, &scenario.for_model(model.name))).into_response(),
        None => Refusal::new(404, "Model not found").response(Api::Prediction, &scenario),
    }
}

fn interfaces(model: &'static Model, scenario: &Scenario) -> Value {
    let model = Model::in_table(model.name, &scenario.models).unwrap_or(model);
    let all = [Capability::ImageEdit, Capability::TextToImage];
    let of_prediction = all.map(|capability| {
        let path = format!("/api/v3/{PROVIDER}/{}/{}", model.name, capability.name());
        let names = prediction::read::names(model, capability, scenario);
        interface(capability, &path, Some("/api/v3/predictions/{id}/result"), &parameters(model, &names))
    });
    let of_openai = all.map(|capability| {
        let path = match capability {
            Capability::ImageEdit => "/v1/images/edits",
            Capability::TextToImage => "/v1/images/generations",
        };
        interface(capability, path, None, &parameters(model, &openai::read::names(model, capability, scenario)))
    });
    let interfaces = [of_prediction, of_openai].concat();
    json!({
        "id": format!("{PROVIDER}/{}", model.name),
        "capabilities": all.map(Capability::name),
        "interfaces": interfaces,
    })
}

fn interface(capability: Capability, path: &str, poll_path: Option<&str>, parameters: &[Value]) -> Value {
    json!({
        "capability": capability.name(),
        "method": "POST",
        "path": path,
        "async": poll_path.is_some(),
        "poll_path": poll_path,
        "model_format": if poll_path.is_some() { "gptproto" } else { "openai" },
        "request": { "parameters": parameters },
    })
}

fn parameters(model: &Model, names: &[&str]) -> Vec<Value> {
    let parameter = |&name: &&str| {
        let kind = match name {
            "image" | "images" | "base64_images" => "array",
            "n" | "output_compression" | "partial_images" => "integer",
            "enable_sync_mode" | "stream" => "boolean",
            _ => "string",
        };
        let mut shown = json!({"name": name, "type": kind, "required": name == "prompt"});
        match name {
            "size" => shown["enum"] = json!(model.sizes),
            "quality" => shown["enum"] = json!(["auto", "high", "medium", "low"]),
            "response_format" => shown["enum"] = json!(["url", "b64_json"]),
            _ => {}
        }
        shown
    };
    names.iter().map(parameter).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulator::apis::tests::Upstream;

    fn names(described: &Value, path: &str) -> Vec<String> {
        let found = described["interfaces"].as_array().unwrap().iter().find(|interface| interface["path"] == path);
        let parameters = found.unwrap()["request"]["parameters"].as_array().unwrap();
        parameters.iter().map(|parameter| parameter["name"].as_str().unwrap().to_owned()).collect()
    }

    #[tokio::test]
    async fn a_model_is_described_as_the_scenario_has_it() {
        let upstream = Upstream::start(json!({})).await;
        let models = format!("{}/v1/cli/models", upstream.origin);
        let describe = async |model: &str| upstream.poll(&format!("{models}/openai/{model}")).await;
        let described: Value = describe("gpt-image-2").await.json().await.unwrap();
        assert_eq!(
            (&described["id"], &described["interfaces"][0]["async"]),
            (&json!("openai/gpt-image-2"), &json!(true))
        );
        let edit = "/api/v3/openai/gpt-image-2/image-edit";
        let documented = ["prompt", "images", "base64_images", "n", "size", "quality"];
        assert_eq!(names(&described, edit)[..6], documented);
        assert!(!names(&described, "/api/v3/openai/gpt-image-2/text-to-image").contains(&"images".to_owned()));
        assert!(names(&described, "/v1/images/edits").contains(&"partial_images".to_owned()));

        upstream
            .scenario(json!({
                "inputs": {"links_field": "image_only", "base64_images": "refuse"}, "models": {"plus_table": "strict"},
            }))
            .await;
        let described: Value = describe("gpt-image-1.5-plus").await.json().await.unwrap();
        let edit = "/api/v3/openai/gpt-image-1.5-plus/image-edit";
        assert_eq!(names(&described, edit), ["prompt", "image", "size", "enable_sync_mode", "response_format"]);

        let listed: Value = upstream.poll(&models).await.json().await.unwrap();
        assert_eq!(listed["data"].as_array().unwrap().len(), MODELS.len());
        assert_eq!(describe("gpt-image-9").await.status(), 404);
        assert_eq!(upstream.client.get(&models).send().await.unwrap().status(), 401);
        upstream.stop().await;
    }
}
