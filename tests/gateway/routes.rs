//! The APIs of the upstream, and how input pictures are sent.

use std::net::TcpListener;

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Answer, Edit, Gateway, Program, Upstream, digest, mask, picture, size_of, until};

/// A small edit by a model whose prediction API has no mask.
fn gpt_image_2(prompt: &str) -> Edit {
    Edit::new(prompt).field("model", "gpt-image-2").field("size", "1024x640")
}

fn digests(prediction: &Value) -> Vec<String> {
    let inputs = prediction["inputs"].as_array().unwrap();
    inputs.iter().map(|input| input["digest"].as_str().unwrap().to_owned()).collect()
}

/// The names of the received parameters, sorted.
fn names(prediction: &Value) -> Vec<&str> {
    prediction["parameters"].as_object().unwrap().keys().map(String::as_str).collect()
}

async fn with_api(upstream: &Upstream, api: &str) -> Gateway {
    Gateway::with(upstream, &[("upstream.api", api)]).await
}

#[track_caller]
fn is_unknown(answer: &Answer) {
    answer.is_refused(502, "submission_outcome_unknown");
    assert_eq!(answer.header("x-should-retry"), "false");
}

#[tokio::test]
async fn a_mask_uses_the_openai_api_and_other_requests_the_prediction_api() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    let plain = gpt_image_2("plain").picture("image", picture(2));
    gateway.alice().edit(&plain).await.picture();
    let answer = gateway.alice().edit(&plain.clone().field("prompt", "masked").picture("mask", mask())).await;

    assert_eq!(size_of(&answer.picture()), (1024, 640));
    let body = answer.json();
    assert_eq!((&body["quality"], &body["background"]), (&json!("low"), &json!("opaque")));
    assert!(body["usage"]["input_tokens_details"]["image_tokens"].as_u64().unwrap() > 0, "{}", body["usage"]);
    let predictions = upstream.predictions().await;
    let apis: Vec<&Value> = predictions.iter().map(|prediction| &prediction["api"]).collect();
    assert_eq!(apis, ["prediction", "openai"]);
    let masked = &predictions[1];
    assert_eq!(digests(masked), [digest(&picture(1)), digest(&picture(2))]);
    assert_eq!(masked["mask"]["digest"], json!(digest(&mask())));
    assert_eq!(
        names(masked),
        ["background", "image[]", "mask", "model", "moderation", "n", "output_format", "prompt", "quality", "size"]
    );
    assert_eq!(masked["polls"], 0);
    let headers = &masked["headers"];
    assert!(headers["content-length"].is_string() && headers.get("transfer-encoding").is_none(), "{headers}");
    let (_, metrics) = gateway.page("/metrics").await;
    for route in ["prediction", "openai"] {
        let line = format!("api=\"{route}\",result=\"accepted\"}} 1");
        assert!(metrics.contains(&line), "{line} in {metrics}");
    }
    // Equal requests share a result of either API.
    assert_eq!(gateway.alice().edit(&plain).await.cache(), "hit");
    assert_eq!(upstream.submits().await, 2);
}

#[tokio::test]
async fn parameters_of_the_openai_api_reach_the_upstream_and_take_effect() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    let edit = Edit::new("fidelity").field("model", "gpt-image-1");
    let edit = edit.field("input_fidelity", "high").field("background", "transparent").field("n", "3");
    let answer = gateway.alice().edit(&edit).await;
    assert_eq!(answer.json()["background"], "transparent");
    for bytes in answer.pictures() {
        let pixels = image::load_from_memory(&bytes).unwrap().to_rgba8();
        assert!(pixels.pixels().any(|pixel| pixel.0[3] < 255), "it is transparent");
    }
    let prediction = upstream.prediction().await;
    assert_eq!(prediction["api"], "openai");
    for (name, value) in [("input_fidelity", json!("high")), ("moderation", json!("auto")), ("n", json!(3))] {
        assert_eq!(prediction["parameters"][name], value, "{name}");
    }

    let low = json!({"model": "gpt-image-2", "prompt": "generated", "size": "1024x640", "moderation": "low"});
    gateway.alice().generate(low).await.picture();
    let generated = upstream.predictions().await.pop().unwrap();
    assert_eq!((&generated["api"], &generated["parameters"]["moderation"]), (&json!("openai"), &json!("low")));
    let refused = gateway.alice().edit(&gpt_image_2("no").field("input_fidelity", "high")).await;
    refused.is_refused(400, "invalid_input_fidelity_model");
    assert_eq!(upstream.submits().await, 2);
}

#[tokio::test]
async fn a_fixed_api_serves_plain_and_plus_models() {
    let upstream = Upstream::start().await;
    let gateway = with_api(&upstream, "openai").await;
    let plus = Edit::new("plus").field("model", "gpt-image-2-plus").without("quality").field("size", "1536x1024");
    let answer = gateway.alice().edit(&plus.field("n", "2")).await;
    assert_eq!(answer.pictures().len(), 2, "data URIs are pictures too");
    let predictions = upstream.predictions().await;
    assert_eq!(predictions.len(), 2, "one picture a call");
    assert_eq!(names(&predictions[0]), ["image[]", "model", "prompt", "size"]);
    gateway.alice().edit(&Edit::new("plain")).await.picture();
    let models = gateway.alice().get("/v1/models").await.json();
    let ids: Vec<&str> = models["data"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap()).collect();
    assert!(ids.contains(&"gpt-image-2") && !ids.contains(&"gpt-image-2.5-flare"), "{ids:?}");

    let gateway = with_api(&upstream, "prediction").await;
    let refused = gateway.alice().edit(&gpt_image_2("masked").picture("mask", mask())).await;
    refused.is_refused(400, "unsupported_parameter");
    assert!(refused.message().contains("upstream.api"), "{}", refused.message());
    assert_eq!(upstream.submits().await, 3);
}

#[tokio::test]
async fn a_synchronous_call_whose_response_is_lost_is_never_repeated() {
    let faults = [
        "drop_before",
        "drop_after",
        "cut_answer",
        "status_500",
        "status_500_after",
        "html_502",
        "html_504_after",
        "html_524_after",
        "truncated_json",
        "empty_body",
        "html_200",
    ];
    let upstream = Upstream::start().await;
    let gateway = with_api(&upstream, "openai").await;
    for (number, fault) in (1..).zip(faults) {
        upstream.fault("submit", fault, 1).await;
        let edit = Edit::new(fault);
        is_unknown(&gateway.alice().edit(&edit).await);
        assert_eq!(upstream.submits().await, number, "{fault}");
        is_unknown(&gateway.alice().edit(&edit).await);
        assert_eq!(upstream.submits().await, number, "{fault}: its retry is held");
    }
    assert_eq!(gateway.status("engine", "unknown").await, faults.len() as u64);
}

#[tokio::test]
async fn a_refused_synchronous_call_costs_nothing_and_a_429_is_retried() {
    let upstream = Upstream::start().await;
    let gateway = with_api(&upstream, "openai").await;
    upstream.fault("submit", "status_429", 1).await;
    gateway.alice().edit(&Edit::new("patient")).await.picture();
    assert_eq!((upstream.submits().await, upstream.purchases().await), (2, 1));
    upstream.set(json!({"balance": {"empty_keys": [crate::harness::UPSTREAM_KEY]}})).await;
    gateway.alice().edit(&Edit::new("poor")).await.is_refused(429, "insufficient_quota");
    assert_eq!(upstream.purchases().await, 1);
}

#[tokio::test]
async fn a_client_that_disconnects_during_a_synchronous_call_gets_the_picture_later() {
    // About a second.
    let upstream = Upstream::with(json!({"speed": 5})).await;
    let gateway = with_api(&upstream, "openai").await;
    let edit = Edit::new("impatient");
    let waiting = gateway.alice().begin(&edit);
    until("it is bought", async || upstream.purchases().await == 1).await;
    waiting.disconnect().await;
    let again = gateway.alice().edit(&edit).await;
    again.picture();
    assert_eq!(again.cache(), "joined");
    assert_eq!(upstream.submits().await, 1);
}

#[tokio::test]
async fn a_synchronous_call_has_its_own_timeout() {
    // About a second and a half.
    let upstream = Upstream::with(json!({"speed": 4})).await;
    let changes = [("upstream.api", "openai"), ("upstream.submit_timeout_s", "1")];
    let patient = Gateway::with(&upstream, &changes).await;
    patient.alice().edit(&Edit::new("held")).await.picture();
    upstream.set(json!({"speed": 1})).await;
    let impatient = Gateway::with(&upstream, &[("upstream.api", "openai"), ("upstream.sync_timeout_s", "1")]).await;
    is_unknown(&impatient.alice().edit(&Edit::new("held for too long")).await);
    let narrow = Gateway::with(&upstream, &[("upstream.api", "openai"), ("upstream.sync_answer_bytes_max", "1024")]);
    upstream.set(json!({"speed": 400})).await;
    is_unknown(&narrow.await.alice().edit(&Edit::new("larger than is believed")).await);
}

#[tokio::test]
async fn a_stop_during_a_synchronous_call_leaves_an_unknown_outcome() {
    // About five seconds; a stop waits for one.
    let upstream = Upstream::with(json!({"speed": 1})).await;
    let gateway = with_api(&upstream, "openai").await;
    let edit = Edit::new("interrupted");
    let waiting = gateway.alice().begin(&edit);
    until("it is bought", async || upstream.purchases().await == 1).await;

    let gateway = gateway.restart().await;

    waiting.answer().await.is_refused(503, "restarting");
    assert_eq!(gateway.status("engine", "polling").await, 0, "there is no id to ask for");
    assert_eq!(gateway.status("engine", "unknown").await, 1, "the operator sees it");
    is_unknown(&gateway.alice().edit(&edit).await);
    assert_eq!(upstream.submits().await, 1);
}

#[tokio::test]
async fn the_unified_api_serves_edits_and_generations() {
    let upstream = Upstream::start().await;
    let gateway = with_api(&upstream, "unified").await;
    let edit = Edit::new("unified").picture("image", picture(2)).field("n", "2");
    for fault in ["status_429", "status_500", "html_502", "truncated_json"] {
        upstream.fault("poll", fault, 1).await;
    }
    let answer = gateway.alice().edit(&edit).await;
    assert_eq!(answer.pictures().len(), 2);
    let prediction = upstream.prediction().await;
    assert_eq!(prediction["api"], "unified");
    assert_eq!(digests(&prediction), [digest(&picture(1)), digest(&picture(2))]);
    assert_eq!(
        names(&prediction),
        ["background", "input_references", "model", "n", "output_format", "prompt", "quality", "size"]
    );
    assert_eq!(prediction["parameters"]["model"], "openai/gpt-image-1.5");
    assert_eq!(answer.header("x-gateway-upstream-id"), prediction["id"].as_str().unwrap());
    gateway.alice().generate(json!({"prompt": "generated"})).await.picture();
    assert_eq!(upstream.predictions().await[1]["api"], "unified");

    upstream.fault("submit", "drop_after", 1).await;
    is_unknown(&gateway.alice().edit(&Edit::new("lost")).await);
    assert_eq!(upstream.submits().await, 3);
}

#[tokio::test]
async fn a_unified_purchase_is_completed_after_a_kill() {
    let upstream = Upstream::start().await;
    let program = Program::on(&upstream).variable("GATEWAY_UPSTREAM__API", "unified");
    let serving = program.serve(&[]).await;
    upstream.hold().await;
    let edit = Edit::new("interrupted");
    let waiting = serving.alice().begin(&edit);
    serving.follows(1).await;
    serving.kill();
    waiting.breaks().await;

    let serving = program.serve(&[]).await;
    serving.follows(1).await;
    upstream.release().await;
    let again = serving.alice().edit(&edit).await;
    assert_eq!(size_of(&again.picture()), (256, 256));
    assert_eq!(again.cache(), "joined");
    assert_eq!(upstream.submits().await, 1);
    let prediction = upstream.prediction().await;
    assert_eq!(prediction["api"], "unified");
    let shown = program.run(&["ledger", "show", prediction["id"].as_str().unwrap()]).await;
    assert!(shown.stdout.contains("unified"), "{shown:?}");
}

/// An address to listen on that is known beforehand. The system does not reassign a port at once.
fn address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

/// A gateway that publishes its inputs, and the prefix of their URLs.
async fn with_input_urls(upstream: &Upstream, changes: &[(&str, &str)]) -> (Gateway, String) {
    let listen = address();
    let public_url = format!("http://{listen}");
    let own = [("server.listen", listen.as_str()), ("server.public_url", &public_url), ("upstream.inputs", "links")];
    let changes: Vec<(&str, &str)> = own.into_iter().chain(changes.iter().copied()).collect();
    (Gateway::with(upstream, &changes).await, public_url)
}

#[tokio::test]
async fn input_urls_are_fetched_in_order_and_expire() {
    let upstream = Upstream::start().await;
    let (gateway, public_url) = with_input_urls(&upstream, &[]).await;
    upstream.hold().await;
    let edit = gpt_image_2("published").picture("image", picture(2)).picture("image", picture(3));
    let waiting = gateway.alice().begin(&edit);
    until("the inputs were fetched", async || upstream.count("links_fetched").await == 3).await;

    let addresses = upstream.prediction().await["parameters"]["images"].clone();
    let addresses: Vec<String> = serde_json::from_value(addresses).unwrap();
    let anonymous = gateway.client("");
    for (number, address) in (1..).zip(&addresses) {
        assert!(address.starts_with(&format!("{public_url}/v1/inputs/")), "{address}");
        let answer = anonymous.get(address).await;
        assert_eq!((answer.status, digest(&answer.bytes)), (200, digest(&picture(number))));
        let headers = ["content-type", "cache-control", "x-content-type-options"].map(|name| answer.header(name));
        assert_eq!(headers, ["image/png", "no-store", "nosniff"]);
        let head = Answer::to(anonymous.request(Method::HEAD, address)).await;
        assert_eq!((head.status, head.bytes.len()), (200, 0));
        assert_eq!(head.header("content-length"), picture(number).len().to_string());
    }
    assert_eq!(gateway.status("engine", "spool_bytes").await, (1..=3).map(|n| picture(n).len() as u64).sum::<u64>());
    let mut guessed = addresses[0].clone();
    guessed.pop();
    anonymous.get(&guessed).await.is_refused(404, "input_not_found");

    upstream.release().await;
    waiting.answer().await.picture();
    for address in &addresses {
        until("the address has expired", async || anonymous.get(address).await.status == 404).await;
    }
    assert_eq!(gateway.status("engine", "spool_bytes").await, 0, "and the picture is let go");
    let prediction = upstream.prediction().await;
    assert_eq!(digests(&prediction), [1, 2, 3].map(|number| digest(&picture(number))));
    assert_eq!(prediction["parameters"].get("base64_images"), None, "nothing travelled twice");
}

#[tokio::test]
async fn the_unified_api_gets_input_urls_and_the_openai_api_files() {
    let upstream = Upstream::with(json!({"unified": {"data_uris": "refuse"}})).await;
    let inline = with_api(&upstream, "unified").await;
    inline.alice().edit(&Edit::new("inline")).await.is_refused(400, "upstream_refused_request");
    let (gateway, _) = with_input_urls(&upstream, &[("upstream.api", "unified")]).await;
    gateway.alice().edit(&Edit::new("published").picture("image", picture(2))).await.picture();
    assert_eq!(digests(&upstream.prediction().await), [digest(&picture(1)), digest(&picture(2))]);
    assert_eq!(upstream.count("links_fetched").await, 2);

    let (gateway, _) = with_input_urls(&upstream, &[]).await;
    gateway.alice().edit(&gpt_image_2("masked").picture("mask", mask())).await.picture();
    let masked = upstream.predictions().await.pop().unwrap();
    assert_eq!((&masked["api"], &masked["mask"]["digest"]), (&json!("openai"), &json!(digest(&mask()))));
    assert_eq!(upstream.count("links_fetched").await, 2, "files travel there");
}

#[tokio::test]
async fn the_log_of_an_input_url_does_not_contain_its_path() {
    let upstream = Upstream::start().await;
    let listen = address();
    let program = Program::on(&upstream)
        .variable("GATEWAY_LOG__FILTER", "info")
        .variable("GATEWAY_SERVER__LISTEN", &listen)
        .variable("GATEWAY_SERVER__PUBLIC_URL", &format!("http://{listen}"))
        .variable("GATEWAY_UPSTREAM__INPUTS", "links");
    let serving = program.serve(&[]).await;
    serving.alice().edit(&Edit::new("logged")).await.picture();
    let address = upstream.prediction().await["parameters"]["image"][0].as_str().unwrap().to_owned();
    let token = address.rsplit('/').next().unwrap();
    until("the fetch is logged", async || serving.log().contains("/v1/inputs/")).await;
    assert_eq!((token.len(), serving.log().contains(token)), (64, false));
}

#[tokio::test]
async fn an_expired_input_url_fails_its_purchase() {
    let upstream = Upstream::start().await;
    // Its lifetime ends before the upstream can fetch it.
    let (gateway, _) = with_input_urls(&upstream, &[("upstream.input_url_ttl_s", "0")]).await;
    gateway.alice().edit(&Edit::new("too late")).await.is_refused(502, "image_generation_failed");
    assert_eq!(upstream.count("links_failed").await, 1);
}

#[tokio::test]
async fn with_inline_inputs_no_input_url_exists() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    gateway.alice().edit(&Edit::new("inline")).await.picture();
    let token = "0".repeat(64);
    gateway.client("").get(&format!("/v1/inputs/{token}")).await.is_refused(404, "input_not_found");
    assert_eq!(upstream.count("links_fetched").await, 0);
}

#[tokio::test]
async fn check_names_the_api_and_the_inputs_that_are_not_the_default() {
    let upstream = Upstream::start().await;
    let program = Program::on(&upstream);
    assert!(!program.run(&["check"]).await.stdout.contains("every request uses"));
    let unified = program.clone().variable("GATEWAY_UPSTREAM__API", "unified");
    assert!(unified.run(&["check"]).await.stdout.contains("every request uses the API unified"));
    let linked = program.variable("GATEWAY_UPSTREAM__INPUTS", "links");
    let refused = linked.run(&["check"]).await;
    assert_eq!((refused.code, refused.stderr.lines().count()), (Some(64), 1), "{refused:?}");
    assert!(refused.stderr.contains("upstream.inputs") && refused.stderr.contains("server.public_url"), "{refused:?}");
    let checked = linked.variable("GATEWAY_SERVER__PUBLIC_URL", "https://gateway.example").run(&["check"]).await;
    assert!(checked.stdout.contains("may fetch input pictures from https://gateway.example"), "{checked:?}");
}
