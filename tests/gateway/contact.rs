//! First contact: the upstream differs from its documents, and clients get their pictures all the same. In every case a
//! purchase is accepted at most once and refused at most three times, and what is learned outlasts a restart.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::harness::{Edit, Gateway, Upstream, in_background, mask, picture};

const REFUSES_INLINE: &str = "refuse";

/// An upstream that refuses pictures in `base64_images`.
async fn without_inline() -> Upstream {
    Upstream::with(json!({"inputs": {"base64_images": REFUSES_INLINE}})).await
}

async fn strict(upstream: &Upstream) -> Gateway {
    Gateway::with(upstream, &[("upstream.first_contact", "strict")]).await
}

fn edit(prompt: &str) -> Edit {
    Edit::new(prompt).field("quality", "low")
}

/// How each accepted prediction was submitted, oldest first.
async fn methods(upstream: &Upstream) -> Vec<String> {
    let predictions = upstream.predictions().await;
    predictions.iter().map(|prediction| prediction["method"].as_str().unwrap_or("none").to_owned()).collect()
}

/// Asserts that no prompt was accepted more than once, or refused more than three times.
async fn is_bought_once(upstream: &Upstream) {
    let mut accepted: BTreeMap<String, usize> = BTreeMap::new();
    for prediction in upstream.predictions().await {
        *accepted.entry(prediction["parameters"]["prompt"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    assert!(accepted.values().all(|&times| times == 1), "{accepted:?}");
    let mut refused: BTreeMap<String, usize> = BTreeMap::new();
    for refusal in upstream.refusals().await {
        *refused.entry(refusal["prompt"].as_str().unwrap_or_default().to_owned()).or_default() += 1;
    }
    assert!(refused.values().all(|&times| times <= 3), "{refused:?}");
}

async fn refused(upstream: &Upstream) -> u64 {
    upstream.submits().await - upstream.purchases().await
}

#[tokio::test]
async fn pictures_that_are_refused_inline_go_another_way_and_that_is_remembered() {
    let upstream = without_inline().await;
    let gateway = Gateway::on(&upstream).await;
    gateway.alice().edit(&edit("first")).await.picture();
    assert_eq!((refused(&upstream).await, methods(&upstream).await), (1, vec!["multipart".to_owned()]));
    gateway.alice().edit(&edit("second")).await.picture();
    assert_eq!(refused(&upstream).await, 1, "what was refused is not sent again");
    let (_, status) = gateway.page("/status.json").await;
    let status: Value = serde_json::from_str(&status).unwrap();
    let formats = status["engine"]["formats"].as_array().unwrap();
    for (method, state) in [("base64_images", "refused"), ("multipart", "proven")] {
        assert!(formats.iter().any(|row| row["method"] == method && row["state"] == state), "{status}");
    }
    assert!(gateway.page("/").await.1.contains("base64_images"));
    let (_, metrics) = gateway.page("/metrics").await;
    for (format, result) in [("base64_images", "format_refused"), ("multipart", "accepted")] {
        let series = format!(
            "contact_attempts_total{{model=\"gpt-image-1.5\",request_format=\"{format}\",result=\"{result}\"}}"
        );
        assert!(metrics.contains(&series), "{series} in {metrics}");
    }

    let gateway = gateway.restart().await;
    gateway.alice().edit(&edit("third")).await.picture();
    assert_eq!((upstream.purchases().await, refused(&upstream).await), (3, 1), "also after a restart");
    is_bought_once(&upstream).await;
}

#[tokio::test]
async fn of_a_burst_one_purchase_tries_what_is_not_known() {
    let upstream = without_inline().await;
    let gateway = Gateway::on(&upstream).await;
    let edits = (0..10).map(|number| {
        let (client, edit) = (gateway.alice(), edit(&format!("burst {number}")));
        in_background(async move { client.edit(&edit).await })
    });
    let edits: Vec<_> = edits.collect();
    for answer in edits {
        answer.await.unwrap().picture();
    }
    assert_eq!((upstream.purchases().await, refused(&upstream).await), (10, 1));
    is_bought_once(&upstream).await;
}

#[tokio::test]
async fn strictly_the_first_refusal_is_the_answer() {
    let upstream = without_inline().await;
    let gateway = strict(&upstream).await;
    let answer = gateway.alice().edit(&edit("strict")).await;
    answer.is_refused(400, "upstream_refused_request");
    assert!(answer.message().contains("images is required"), "{}", answer.message());
    assert_eq!((upstream.submits().await, upstream.purchases().await), (1, 0));
}

#[tokio::test]
async fn when_nothing_is_left_the_refusal_is_the_first_one_and_names_the_setting() {
    let upstream = Upstream::with(json!({
        "inputs": {"base64_images": REFUSES_INLINE},
        "edge": {"page": "page_404", "paths": ["/v1/images/"]},
    }))
    .await;
    let gateway = Gateway::on(&upstream).await;
    let answer = gateway.alice().edit(&edit("nothing works")).await;
    answer.is_refused(400, "upstream_refused_request");
    let message = answer.message();
    assert!(message.contains("images is required") && message.contains("server.public_url"), "{message}");
    assert_eq!((upstream.submits().await, upstream.purchases().await), (3, 0));
    // Its own pictures may have been at fault, so the next request is not refused unasked.
    upstream.set(json!({"inputs": {"base64_images": "accept"}})).await;
    gateway.alice().edit(&edit("something works")).await.picture();
    is_bought_once(&upstream).await;
}

/// The parameters of the only accepted prediction.
async fn parameters(upstream: &Upstream) -> Value {
    upstream.prediction().await["parameters"].clone()
}

#[tokio::test]
async fn parameters_that_are_refused_are_left_out_unless_the_client_asked_for_them() {
    let upstream = Upstream::with(json!({"models": {"plus_table": "strict"}})).await;
    let gateway = Gateway::on(&upstream).await;
    let plus = |prompt: &str| Edit::new(prompt).field("model", "gpt-image-1.5-plus").without("quality").without("size");
    let asked = gateway.alice().edit(&plus("asked").field("quality", "high")).await;
    asked.is_refused(400, "upstream_refused_request");
    assert!(asked.message().contains("quality"), "{}", asked.message());
    assert_eq!(upstream.purchases().await, 0);

    gateway.alice().edit(&plus("default")).await.picture();
    let sent = parameters(&upstream).await;
    assert!(["n", "quality", "background"].iter().all(|name| sent.get(*name).is_none()), "{sent}");
    let before = refused(&upstream).await;
    // It is known by now that the model makes one picture in a purchase.
    let two = gateway.alice().edit(&plus("two").field("n", "2")).await;
    assert_eq!(two.pictures().len(), 2);
    assert_eq!(refused(&upstream).await, before);
}

#[tokio::test]
async fn a_key_that_is_refused_as_bearer_is_sent_raw() {
    let upstream = Upstream::with(json!({"auth": {"accepts": "raw_only"}})).await;
    let gateway = Gateway::on(&upstream).await;
    gateway.alice().edit(&edit("raw")).await.picture();
    assert_eq!(upstream.count("submits_accepted").await, 1);
    let gateway = gateway.restart().await;
    gateway.alice().edit(&edit("raw again")).await.picture();
    let refusals = upstream.refusals().await;
    let submits = refusals.iter().filter(|refusal| refusal["path"].as_str().unwrap().contains("image-edit")).count();
    assert_eq!(submits, 1, "{refusals:?}");
}

#[tokio::test]
async fn a_page_of_the_edge_is_no_fault_of_the_key() {
    let upstream = Upstream::with(json!({"edge": {"page": "page_403_1010"}})).await;
    let gateway = Gateway::on(&upstream).await;
    let answer = gateway.alice().edit(&edit("banned")).await;
    answer.is_refused(502, "upstream_edge_refused");
    assert!(answer.message().contains("1010"), "{}", answer.message());
    let (_, metrics) = gateway.page("/metrics").await;
    assert!(metrics.contains("edge_refusals_total{code=\"1010\"} 1"), "{metrics}");
    upstream.set(json!({"edge": {"page": "none"}})).await;
    gateway.alice().edit(&edit("let in")).await.picture();
}

#[tokio::test]
async fn a_permission_for_one_model_takes_no_other_down() {
    let upstream = Upstream::with(json!({"models": {"no_permission": ["gpt-image-2"]}})).await;
    let gateway = Gateway::on(&upstream).await;
    let forbidden =
        gateway.alice().edit(&edit("forbidden").field("model", "gpt-image-2").field("size", "1024x640")).await;
    forbidden.is_refused(404, "model_not_found");
    gateway.alice().edit(&edit("allowed").field("model", "gpt-image-1")).await.picture();
}

#[tokio::test]
async fn pictures_that_were_not_looked_at_go_another_way_next_time() {
    let upstream = Upstream::with(json!({"inputs": {"base64_images": "ignore"}})).await;
    let gateway = Gateway::on(&upstream).await;
    let first = gateway.alice().edit(&edit("unseen")).await;
    first.picture();
    assert_eq!(first.header("x-gateway-warning"), "inputs-unseen");
    let second = gateway.alice().edit(&edit("unseen")).await;
    second.picture();
    assert_eq!((second.cache(), second.header("x-gateway-warning")), ("miss", ""), "it is bought again, and seen");
    assert_eq!(methods(&upstream).await, ["base64_images", "multipart"]);
    let third = gateway.alice().edit(&edit("unseen")).await;
    assert_eq!(third.cache(), "hit", "what was seen is shared");
}

#[tokio::test]
async fn a_task_that_fails_for_its_inputs_is_not_repeated_and_the_next_one_goes_another_way() {
    let upstream = Upstream::with(json!({"life": {"outcome": "failed_image_url"}})).await;
    let gateway = Gateway::on(&upstream).await;
    let failed = gateway.alice().edit(&edit("failed")).await;
    failed.is_refused(502, "image_generation_failed");
    assert_eq!(upstream.submits().await, 1, "it may have been billed");
    upstream.set(json!({"life": {"outcome": "completed"}})).await;
    gateway.alice().edit(&edit("another")).await.picture();
    assert_eq!(methods(&upstream).await, ["base64_images", "multipart"]);
}

/// Serves a picture on this machine. Returns its address.
async fn serve_picture() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}/cat.png", listener.local_addr().unwrap());
    let router = axum::Router::new().route("/cat.png", axum::routing::get(async || picture(1)));
    let lifecycle = gptproto_gateway::lifecycle::Lifecycle::default();
    let serving = gptproto_gateway::server::accept::serve(listener, router, lifecycle.clone(), lifecycle.stop_token());
    lifecycle.spawn("pictures", serving);
    address
}

#[tokio::test]
async fn addresses_of_clients_go_into_the_other_field_or_are_fetched() {
    for (scenario, expected) in [
        (json!({"links_field": "image_only"}), "image"),
        (json!({"links": "refuse", "base64_images": "accept"}), "base64_images"),
    ] {
        let upstream = Upstream::with(json!({"inputs": scenario})).await;
        let address = serve_picture().await;
        let gateway = Gateway::with(&upstream, &[("server.picture_addresses", "any")]).await;
        let body =
            json!({"model": "gpt-image-2", "size": "1024x640", "prompt": "linked", "images": [{"image_url": address}]});
        let answer = gateway.alice().edit_json(body).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(methods(&upstream).await, [expected]);
        is_bought_once(&upstream).await;
    }
}

#[tokio::test]
async fn a_mask_is_sent_with_files_first_and_inline_where_these_are_not_served() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    let masked = |prompt: &str| edit(prompt).field("model", "gpt-image-1").picture("mask", mask());
    gateway.alice().edit(&masked("files")).await.picture();
    upstream.set(json!({"edge": {"page": "page_404", "paths": ["/v1/images/"]}})).await;
    // A path that was served before may have been reached: that is no refusal.
    gateway.alice().edit(&masked("lost")).await.is_refused(502, "submission_outcome_unknown");

    let upstream = Upstream::with(json!({"edge": {"page": "page_404", "paths": ["/v1/images/"]}})).await;
    let gateway = Gateway::on(&upstream).await;
    gateway.alice().edit(&masked("inline")).await.picture();
    assert_eq!(methods(&upstream).await, ["base64_images"]);
    assert!(upstream.prediction().await["mask"]["digest"].is_string());
}

#[tokio::test]
async fn an_id_beside_an_error_is_followed() {
    for answer in ["code429_with_id", "status400_with_id", "status500_with_id"] {
        let upstream = Upstream::with(json!({"submit": {"answer": answer}})).await;
        let gateway = Gateway::on(&upstream).await;
        gateway.alice().edit(&edit(answer)).await.picture();
        assert_eq!((upstream.submits().await, upstream.purchases().await), (1, 1), "{answer}");
    }
}

#[tokio::test]
async fn one_id_for_two_purchases_shows_no_client_the_picture_of_another() {
    let upstream = Upstream::with(json!({"submit": {"ids": "repeat"}})).await;
    let gateway = Gateway::on(&upstream).await;
    gateway.alice().edit(&edit("mine")).await.picture();
    let other = gateway.bob().edit(&edit("another")).await;
    other.is_refused(502, "submission_outcome_unknown");
    let (_, metrics) = gateway.page("/metrics").await;
    assert!(metrics.contains("upstream_id_conflicts_total 1"), "{metrics}");
}

#[tokio::test]
async fn a_long_picture_is_streamed_past_the_edge() {
    // At this speed the edge cuts a silent call after 2.5 s, and a picture of high quality takes almost 3 s.
    let upstream = Upstream::with(json!({
        "speed": 40,
        "inputs": {"base64_images": REFUSES_INLINE},
        "openai": {"edge_cut_s": 100},
    }))
    .await;
    let gateway = Gateway::on(&upstream).await;
    let high = Edit::bare("long").picture("image", picture(1)).field("model", "gpt-image-2").field("size", "1024x640");
    let high = high.field("quality", "high");
    gateway.alice().edit(&high).await.picture();
    assert_eq!(methods(&upstream).await, ["multipart"]);
    assert_eq!(parameters(&upstream).await["stream"], json!(true));
}
