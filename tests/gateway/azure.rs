//! The addresses of Azure's OpenAI service, as the class `AzureOpenAI` of OpenAI's SDKs uses them.

use reqwest::Method;
use serde_json::json;

use crate::harness::{ALICE, Answer, Client, Edit, Gateway, Upstream, size_of};

/// A client that sends its key as Azure's clients do.
fn azure(gateway: &Gateway) -> Client {
    gateway.client("")
}

const VERSION: &str = "?api-version=2025-04-01-preview";

#[tokio::test]
async fn the_deployment_overrides_the_model_of_the_request() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    // The model is absent, the same, or another: the deployment's is used. A slash at the end is accepted.
    let edits = [
        (Edit::new("absent").without("model"), ""),
        (Edit::new("same").field("model", "gpt-image-1"), "/"),
        (Edit::new("another").field("model", "gpt-image-1.5"), ""),
        (Edit::new("unknown").field("model", "my-deployment"), ""),
    ];
    for (edit, slash) in edits {
        let path = format!("/openai/deployments/gpt-image-1/images/edits{slash}{VERSION}");
        let answer = azure(&gateway).edit_at(&path, &edit.header("api-key", ALICE)).await;
        assert_eq!(size_of(&answer.picture()), (256, 256));
    }
    let path = format!("/openai/deployments/openai%2Fgpt-image-1/images/generations{VERSION}");
    let body = json!({"prompt": "drawn", "model": "gpt-image-1.5", "size": "256x256", "n": 1});
    let request = azure(&gateway).request(Method::POST, &path).header("api-key", ALICE).json(&body);
    Answer::to(request).await.picture();

    let predictions = upstream.predictions().await;
    let models: Vec<&str> = predictions.iter().map(|prediction| prediction["model"].as_str().unwrap()).collect();
    assert_eq!(models.len(), 5);
    assert!(models.iter().all(|model| model.contains("gpt-image-1") && !model.contains("1.5")), "{models:?}");
}

#[tokio::test]
async fn other_paths_below_openai_are_the_same_as_below_v1() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    let alice = gateway.alice();
    let edit = Edit::new("everywhere");
    for path in ["/v1/images/edits", "/openai/v1/images/edits", "/openai/images/edits", "/openai/v1/images/edits/"] {
        alice.edit_at(&format!("{path}{VERSION}"), &edit).await.picture();
    }
    let list = alice.get("/v1/models").await.json();
    for path in ["/openai/models", "/openai/v1/models", "/openai/models/"] {
        let answer = Answer::to(azure(&gateway).request(Method::GET, path).header("api-key", ALICE)).await;
        assert_eq!(answer.json(), list, "{path}");
    }
    assert_eq!(alice.get("/openai/v1/models/gpt-image-1").await.json()["id"], "gpt-image-1");
    assert_eq!(upstream.purchases().await, 1);
}

#[tokio::test]
async fn errors_below_openai_are_the_same_as_below_v1() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    let edit = Edit::new("wrong").header("api-key", ALICE);
    let at = |deployment: &str| format!("/openai/deployments/{deployment}/images/edits{VERSION}");
    azure(&gateway).edit_at(&at("my-deployment"), &edit).await.is_refused(404, "model_not_found");
    azure(&gateway).edit_at(&at("gpt-4o-image"), &edit).await.is_refused(400, "unsupported_model");
    azure(&gateway).edit_at(&at("gpt-image-1"), &Edit::new("keyless")).await.is_refused(401, "missing_api_key");
    let nowhere = "/openai/deployments/gpt-image-1/embeddings";
    azure(&gateway).edit_at(nowhere, &edit).await.is_refused(404, "unknown_url");
    assert_eq!(upstream.submits().await, 0);
}
