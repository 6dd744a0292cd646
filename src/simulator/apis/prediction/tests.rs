//! The prediction API over a real socket.

use serde_json::{Value, json};

use crate::simulator::apis::tests::{KEY, Upstream, edit, get_url};
use crate::simulator::images::draw::tests::{png, read_texts};

#[tokio::test]
async fn an_edit_is_bought_polled_and_downloaded() {
    let log = tempfile::NamedTempFile::new().unwrap();
    let upstream = Upstream::with_log(json!({}), Some(log.path().to_owned())).await;
    let created = upstream.submit(&edit()).await;
    assert_eq!(created["data"]["status"], "created");
    assert_eq!(created["data"]["id"].as_str().unwrap().len(), 32);
    assert!(get_url(&created).starts_with(&upstream.origin));
    let logged = std::fs::read_to_string(log.path()).unwrap();
    assert!(logged.contains(created["data"]["id"].as_str().unwrap()) && logged.ends_with('\n'));

    let done = upstream.wait(get_url(&created)).await;
    assert_eq!(done["data"]["status"], "completed");
    assert!(done["data"]["usage"]["total_tokens"].as_u64().unwrap() > 196);
    let file = done["data"]["outputs"][0].as_str().unwrap();
    let response = upstream.client.get(file).send().await.unwrap();
    assert_eq!(response.headers()["content-type"], "image/png");
    let picture = response.bytes().await.unwrap();
    assert_eq!(image::load_from_memory(&picture).unwrap().width(), 1024);
    assert_eq!(read_texts(&picture)["inputs"], blake3::hash(&png(32, 32)).to_hex().as_str());

    let counters = upstream.control("counters").await;
    assert_eq!((&counters["submits"], &counters["downloads"]), (&json!(1), &json!(1)));
    assert!(counters["charged_usd"].as_f64().unwrap() > 0.0);
    let predictions = upstream.control("predictions").await;
    assert_eq!(predictions[0]["parameters"]["base64_images"][0]["bytes"], png(32, 32).len());
    assert_eq!(predictions[0]["headers"]["authorization"], "bearer");
    upstream.stop().await;
}

#[tokio::test]
async fn a_lost_answer_leaves_a_paid_prediction_and_a_lost_request_leaves_none() {
    let upstream = Upstream::start(json!({})).await;
    for fault in
        ["drop_after", "cut_answer", "html_524_after", "truncated_json", "empty_body", "drop_before", "status_500"]
    {
        upstream.faults(json!({"on": "submit", "fault": fault})).await;
        let sent = upstream.submit_request(&edit()).send().await;
        let readable = match sent {
            Ok(response) if response.status() == 200 => response.json::<Value>().await.is_ok(),
            Ok(_) | Err(_) => false,
        };
        assert!(!readable, "{fault}");
    }
    let counters = upstream.control("counters").await;
    assert_eq!(counters["submits"], 7);
    assert_eq!(counters["submits_accepted"], 5);
    assert_eq!(counters["submits_repeated"], 4);
    assert_eq!(counters["submits_lost"], 2);
    upstream.stop().await;
}

#[tokio::test]
async fn faults_on_polls_do_not_change_the_prediction() {
    let upstream = Upstream::start(json!({})).await;
    let created = upstream.submit(&edit()).await;
    upstream
        .faults(json!([
            {"on": "poll", "fault": "status_429_retry_after"},
            {"on": "poll", "fault": "html_502"},
            {"on": "poll", "fault": "drop_before"},
        ]))
        .await;
    let limited = upstream.poll(get_url(&created)).await;
    assert_eq!((limited.status().as_u16(), &limited.headers()["retry-after"]), (429, &"1".parse().unwrap()));
    assert_eq!(upstream.poll(get_url(&created)).await.status(), 502);
    assert!(upstream.client.get(get_url(&created)).bearer_auth(KEY).send().await.is_err());
    assert_eq!(upstream.wait(get_url(&created)).await["data"]["status"], "completed");
    upstream.stop().await;
}

#[tokio::test]
async fn ways_of_sending_pictures_are_refused_ignored_or_fail_by_model() {
    let refuse = json!({"inputs": {"base64_images": "refuse_200", "base64_refusal": "wrong image url"}});
    let upstream = Upstream::start(json!({"models": {"by_name": {"gpt-image-2": refuse}}})).await;
    let refused = upstream.submit(&edit()).await;
    assert_eq!(refused, json!({"error": {"message": "wrong image url", "type": "400"}}));
    let other = upstream.client.post(format!("{}/api/v3/openai/gpt-image-1/image-edit", upstream.origin));
    assert_eq!(other.bearer_auth(KEY).json(&edit()).send().await.unwrap().status(), 200);

    let changes = json!({"models": {"by_name": {"gpt-image-2": null}}, "inputs": {"base64_images": "ignore"}});
    upstream.scenario(changes).await;
    let done = upstream.wait(get_url(&upstream.submit(&edit()).await)).await;
    assert_eq!(done["data"]["usage"]["input_tokens_details"]["image_tokens"], 0);
    let file = upstream.client.get(done["data"]["outputs"][0].as_str().unwrap()).send().await.unwrap();
    assert_eq!(read_texts(&file.bytes().await.unwrap())["inputs"], "");

    upstream.scenario(json!({"inputs": {"links": "fail_task"}})).await;
    let links = json!({"prompt": "p", "quality": "low", "images": [format!("{}/x.png", upstream.origin)]});
    let failed = upstream.wait(get_url(&upstream.submit(&links).await)).await;
    assert_eq!((&failed["data"]["status"], &failed["data"]["error"]), (&json!("failed"), &json!("wrong image url")));

    let predictions = upstream.control("predictions").await;
    let methods: Vec<_> = predictions.as_array().unwrap().iter().map(|shown| shown["method"].clone()).collect();
    assert_eq!(methods, ["base64_images", "base64_images", "images"]);
    let counters = upstream.control("counters").await;
    assert_eq!(counters["paths"]["/api/v3/openai/gpt-image-2/image-edit"], json!({"accepted": 2, "refused": 1}));
    assert_eq!(counters["links_failed"], 0);
    upstream.stop().await;
}

#[tokio::test]
async fn every_form_of_answer_can_be_configured() {
    let upstream = Upstream::start(json!({})).await;
    for (answer, pointer) in [
        ("urls_array", "/data/urls/0/get"),
        ("data_array", "/data/0/urls/get"),
        ("id_in_url", "/data/urls/get"),
        ("top_level_id", "/task_id"),
        ("immediate_url", "/data/0/url"),
        ("immediate_b64", "/data/0/b64_json"),
        ("completed", "/data/outputs/0"),
        ("foreign_host", "/data/urls/get"),
    ] {
        upstream.scenario(json!({"submit": {"answer": answer}})).await;
        let body = upstream.submit(&edit()).await;
        assert!(body.pointer(pointer).is_some_and(Value::is_string), "{answer}: {body}");
    }
    upstream.scenario(json!({"submit": {"answer": "colon_id"}})).await;
    let created = upstream.submit(&edit()).await;
    assert!(get_url(&created).contains("gpt-image-2:task_"));
    for (outputs, pointer) in [
        ("base64", "/data/outputs/0"),
        ("data_uri", "/data/outputs/0"),
        ("object_b64", "/data/outputs/0/b64_json"),
        ("relative_url", "/data/outputs/0"),
    ] {
        upstream.scenario(json!({"result": {"outputs": outputs}})).await;
        let body = upstream.wait(get_url(&created)).await;
        assert!(body.pointer(pointer).is_some_and(Value::is_string), "{outputs}");
    }
    upstream.scenario(json!({"submit": {"answer": "code500"}})).await;
    assert_eq!(upstream.submit(&edit()).await["code"], 500);
    upstream.stop().await;
}

#[tokio::test]
async fn ids_have_the_form_of_the_scenario() {
    let upstream = Upstream::start(json!({"submit": {"ids": "uuid"}})).await;
    let created = upstream.submit(&edit()).await;
    let uuid = created["data"]["id"].as_str().unwrap();
    let lengths: Vec<_> = uuid.split('-').map(str::len).collect();
    assert_eq!(lengths, [8, 4, 4, 4, 12]);
    assert_eq!(upstream.wait(get_url(&created)).await["data"]["id"], uuid);

    upstream.scenario(json!({"submit": {"ids": "numeric", "poll_url": "absent"}})).await;
    let created = upstream.submit(&edit()).await;
    assert_eq!(created["data"].get("urls"), None);
    let id = created["data"]["id"].as_u64().unwrap();
    let done = upstream.wait(&format!("{}/api/v3/predictions/{id}/result", upstream.origin)).await;
    assert_eq!(done["data"]["id"], id);

    upstream.scenario(json!({"submit": {"ids": "task_id", "poll_url": "relative"}})).await;
    let created = upstream.submit(&edit()).await;
    let id = created["data"]["taskId"].as_str().unwrap();
    assert_eq!(created["data"].get("id"), None);
    assert_eq!(get_url(&created), format!("/api/v3/predictions/{id}/result"));

    upstream.scenario(json!({"submit": {"ids": "dots", "poll_url": "absolute"}})).await;
    assert_eq!(upstream.submit(&edit()).await["data"]["id"], "..");

    upstream.scenario(json!({"submit": {"ids": "repeat"}})).await;
    let mut ids = Vec::new();
    for _ in 0..4 {
        ids.push(upstream.submit(&edit()).await["data"]["id"].take());
    }
    assert!(ids[0] == ids[1] && ids[1] != ids[2] && ids[2] == ids[3]);
    assert_eq!(upstream.control("counters").await["submits_accepted"], 8);
    upstream.stop().await;
}

#[tokio::test]
async fn an_error_beside_an_id_is_an_accepted_prediction() {
    let upstream = Upstream::start(json!({})).await;
    for (answer, status, code) in
        [("code429_with_id", 200, 429), ("status400_with_id", 400, 400), ("status500_with_id", 500, 500)]
    {
        upstream.scenario(json!({"submit": {"answer": answer}})).await;
        let response = upstream.submit_request(&edit()).send().await.unwrap();
        assert_eq!(response.status(), status);
        let body: Value = response.json().await.unwrap();
        assert_eq!(body["code"], code);
        let id = body["data"]["id"].as_str().unwrap();
        let done = upstream.wait(&format!("{}/api/v3/predictions/{id}/result", upstream.origin)).await;
        assert_eq!(done["data"]["status"], "completed", "{answer}");
    }
    let counters = upstream.control("counters").await;
    assert_eq!((&counters["submits_accepted"], &counters["submits_rejected"]), (&json!(3), &json!(0)));
    upstream.stop().await;
}

#[tokio::test]
async fn a_failure_is_reported_as_configured() {
    let upstream = Upstream::start(json!({"life": {"outcome": "failed_policy"}})).await;
    let created = upstream.submit(&edit()).await;
    let url = get_url(&created);
    upstream.wait(url).await;
    let text = "Input may not meet the guidelines. Please adjust and try again.";
    for (answer, status, at, word) in [
        ("documented", 200, "/data/error", json!("failed")),
        ("status_400", 400, "/message", json!("failed")),
        ("status_400_bare", 400, "/error/message", Value::Null),
        ("code_400", 200, "/message", json!("failed")),
        ("code_400_bare", 200, "/message", Value::Null),
    ] {
        upstream.scenario(json!({"result": {"failure_answer": answer}})).await;
        let response = upstream.poll(url).await;
        assert_eq!(response.status(), status, "{answer}");
        let body: Value = response.json().await.unwrap();
        assert_eq!(body.pointer(at), Some(&json!(text)), "{answer}");
        assert_eq!(body["data"]["status"], word, "{answer}");
        let is_error = answer == "documented" || body["code"] == 400 || body.get("error").is_some();
        assert!(is_error, "{body}");
    }
    upstream.scenario(json!({"result": {"failure_answer": "documented", "status_key": "state"}})).await;
    for key in ["fail_reason", "error_message", "reason"] {
        upstream.scenario(json!({"result": {"failure_error": key}})).await;
        let body: Value = upstream.poll(url).await.json().await.unwrap();
        assert_eq!((&body["data"][key], &body["data"]["state"]), (&json!(text), &json!("failed")));
        assert!(body["data"].get("status").is_none() && body["data"].get("error").is_none());
    }
    upstream.scenario(json!({"errors": {"texts": "relay"}})).await;
    let body: Value = upstream.poll(url).await.json().await.unwrap();
    assert!(body["data"]["reason"].as_str().unwrap().contains("违规"));
    upstream.stop().await;
}

#[tokio::test]
async fn usage_and_places_of_pictures_are_as_configured() {
    let upstream = Upstream::start(json!({})).await;
    let created = upstream.submit(&edit()).await;
    let url = get_url(&created);
    let full = upstream.wait(url).await["data"]["usage"].take();
    assert!(full["input_tokens_details"]["image_tokens"].as_u64().unwrap() > 0);
    for (details, shown) in [("absent", None), ("no_pictures", Some(0))] {
        upstream.scenario(json!({"result": {"usage_details": details}})).await;
        let usage = upstream.wait(url).await["data"]["usage"].take();
        assert_eq!(usage.pointer("/input_tokens_details/image_tokens").and_then(Value::as_u64), shown);
        assert_eq!(usage["input_tokens"] == full["input_tokens"], details == "absent");
    }
    for (outputs, place, pointer) in [
        ("object_uri", "outputs", "/data/outputs/0/uri"),
        ("object_b64_camel", "images", "/data/images/0/b64Json"),
        ("url", "result", "/data/result/0"),
    ] {
        upstream.scenario(json!({"result": {"outputs": outputs, "outputs_place": place}})).await;
        let body = upstream.wait(url).await;
        assert!(body.pointer(pointer).is_some_and(Value::is_string), "{outputs}: {body}");
    }
    upstream.stop().await;
}

#[tokio::test]
async fn failures_policy_and_sync_mode_answer_as_recorded() {
    let upstream = Upstream::start(json!({})).await;
    let mut refused = edit();
    refused["prompt"] = json!("a Forbidden-Picture");
    let response = upstream.submit_request(&refused).send().await.unwrap();
    assert_eq!(response.status(), 400);
    assert_eq!(response.json::<Value>().await.unwrap()["error"]["type"], "503");
    upstream.scenario(json!({"policy": {"answer": "task"}})).await;
    let created = upstream.submit(&refused).await;
    let failed = upstream.wait(get_url(&created)).await;
    assert_eq!(failed["data"]["status"], "failed");
    assert!(failed["data"]["error"].as_str().unwrap().contains("guidelines"));

    let mut sync = edit();
    sync["enable_sync_mode"] = json!(true);
    assert_eq!(upstream.submit(&sync).await["data"]["status"], "completed");
    // Much longer than the limits, on a slow machine too.
    upstream.scenario(json!({"life": {"low_ms": [9_000_000, 9_000_000]}})).await;
    upstream.scenario(json!({"sync": {"mode": "give_up", "give_up_s": 1}})).await;
    assert_eq!(upstream.submit(&sync).await["data"]["code"], 5004);
    upstream.scenario(json!({"sync": {"mode": "edge_cut", "edge_cut_s": 1}})).await;
    assert_eq!(upstream.submit_request(&sync).send().await.unwrap().status(), 524);
    assert_eq!(upstream.control("counters").await["charged_usd"].as_f64().map(|usd| usd > 0.0), Some(true));
    upstream.stop().await;
}
