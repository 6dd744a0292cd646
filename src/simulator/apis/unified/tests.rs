//! The unified API over a real socket.

use std::time::Duration;

use serde_json::{Value, json};

use crate::simulator::apis::answers::UNREACHABLE;
use crate::simulator::apis::tests::{KEY, Upstream, get_url};
use crate::simulator::images::draw::tests::{data_uri, png, read_texts};

impl Upstream {
    async fn create(&self, body: &Value) -> reqwest::Response {
        let url = format!("{}/api/v3/images", self.origin);
        self.client.post(url).bearer_auth(KEY).json(body).send().await.unwrap()
    }

    /// Creates a task and waits until it has ended.
    async fn run(&self, body: &Value) -> Value {
        let response = self.create(body).await;
        assert_eq!(response.status(), 202);
        let created: Value = response.json().await.unwrap();
        for _ in 0..200 {
            let task: Value = self.poll(created["polling_url"].as_str().unwrap()).await.json().await.unwrap();
            if !matches!(task["status"].as_str(), Some("pending" | "in_progress")) {
                return task;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the task does not end");
    }

    async fn download(&self, task: &Value) -> Vec<u8> {
        let url = task["unsigned_urls"][0].as_str().unwrap();
        self.client.get(url).send().await.unwrap().bytes().await.unwrap().to_vec()
    }
}

fn low(prompt: &str) -> Value {
    json!({"model": "openai/gpt-image-2", "prompt": prompt, "quality": "low"})
}

fn reference(url: &str) -> Value {
    json!({"type": "image_url", "image_url": {"url": url}})
}

#[tokio::test]
async fn a_task_is_bought_polled_and_downloaded() {
    let upstream = Upstream::start(json!({"speed": 50, "life": {"created_percent": 100}})).await;
    let mut body = low("a fox");
    body["input_references"] = json!([reference(&data_uri(&png(8, 8))), reference("https://example.com/x.png")]);
    body["whatever"] = json!("is ignored");
    let created: Value = upstream.create(&body).await.json().await.unwrap();
    let id = created["id"].as_str().unwrap();
    assert_eq!(created["polling_url"], format!("{}/api/v3/tasks/result/{id}", upstream.origin));
    assert_eq!((&created["status"], &created["native_status"]), (&json!("pending"), &json!("created")));
    assert_eq!(created["model"], "openai/gpt-image-2");
    assert!(created.get("unsigned_urls").is_none() && created.get("usage").is_none());

    let done = upstream.run(&body).await;
    assert_eq!((&done["status"], &done["native_status"]), (&json!("completed"), &json!("completed")));
    let (from, to) = (&done["created_at"], &done["completed_at"]);
    let time = |value: &Value| value.as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    assert!(time(from) < time(to));
    assert!(done["timings"]["inference"].as_u64().unwrap() > 20_000);
    assert!(done["usage"]["output_tokens"].as_u64().unwrap() >= 196);
    let texts = read_texts(&upstream.download(&done).await);
    assert!(texts["inputs"].starts_with(blake3::hash(&png(8, 8)).to_hex().as_str()));

    let counters = upstream.control("counters").await;
    assert_eq!(counters["accepted_by_api"], json!({"unified": 2}));
    assert_eq!(upstream.control("predictions").await[0]["api"], "unified");
    upstream.stop().await;
}

#[tokio::test]
async fn each_api_knows_only_its_own_predictions() {
    let upstream = Upstream::start(json!({})).await;
    let task: Value = upstream.create(&low("p")).await.json().await.unwrap();
    let id = task["id"].as_str().unwrap();
    let polled = upstream.poll(&format!("{}/api/v3/predictions/{id}/result", upstream.origin)).await;
    assert_eq!(polled.status(), 404);
    let prediction = upstream.submit(&json!({"prompt": "p", "images": ["https://x/y.png"]})).await;
    let id = get_url(&prediction).rsplit('/').nth(1).unwrap();
    let polled = upstream.poll(&format!("{}/api/v3/tasks/result/{id}", upstream.origin)).await;
    assert_eq!(polled.status(), 404);
    assert_eq!(polled.json::<Value>().await.unwrap()["error"]["code"], 404);
    upstream.stop().await;
}

#[tokio::test]
async fn refusals_have_an_integer_code_and_create_no_task() {
    let upstream = Upstream::start(json!({})).await;
    for (key, value, text) in [
        ("model", json!("openai/gpt-image-9"), "Invalid model: gpt-image-9 does not exist"),
        ("model", json!("gpt-image-2"), "Invalid model: gpt-image-2 does not exist"),
        ("prompt", json!(""), "prompt is required"),
        ("size", json!("1000x1000"), "Invalid value for size: both edges must be multiples of 16"),
        ("output_format", json!("svg"), "output_format svg is not supported by gpt-image-2"),
        ("background", json!("transparent"), "Transparent background is not supported by gpt-image-2"),
        ("input_references", json!([reference("iVBORw0K")]), "wrong image url"),
        (
            "input_references",
            json!([reference("data:image/png;base64,AAAA")]),
            "unsupported image format: png, webp or jpg is expected",
        ),
    ] {
        let mut body = low("p");
        body[key] = value;
        let response = upstream.create(&body).await;
        assert_eq!(response.status(), 400, "{key}");
        assert_eq!(response.json::<Value>().await.unwrap(), json!({"error": {"code": 400, "message": text}}));
    }
    let url = format!("{}/api/v3/images", upstream.origin);
    let response = upstream.client.post(url).bearer_auth("sk-wrong").json(&low("p")).send().await.unwrap();
    assert_eq!(response.status(), 401);
    assert_eq!(response.json::<Value>().await.unwrap()["error"]["code"], 401);
    let policy = upstream.create(&low("a forbidden-picture")).await;
    assert_eq!(policy.status(), 400);
    assert_eq!(policy.json::<Value>().await.unwrap()["error"]["code"], 503);

    upstream.scenario(json!({"unified": {"data_uris": "refuse"}})).await;
    let mut body = low("p");
    body["input_references"] = json!([reference(&data_uri(&png(8, 8)))]);
    assert_eq!(upstream.create(&body).await.status(), 400);
    assert_eq!(upstream.control("counters").await["submits_accepted"], 0);
    upstream.stop().await;
}

#[tokio::test]
async fn parameters_are_applied() {
    let upstream = Upstream::start(json!({"unified": {"usage": "absent"}})).await;
    let mut body = low("p");
    body["output_format"] = json!("webp");
    body["n"] = json!(2);
    body["aspect_ratio"] = json!("3:2");
    body["seed"] = json!(7);
    let task = upstream.run(&body).await;
    assert_eq!(task["unsigned_urls"].as_array().unwrap().len(), 2);
    assert!(task.get("usage").is_none());
    let picture = upstream.download(&task).await;
    assert_eq!(image::guess_format(&picture).unwrap(), image::ImageFormat::WebP);
    let size = imagesize::blob_size(&picture).unwrap();
    assert_eq!((size.width, size.height), (1536, 1024));
    let url = task["unsigned_urls"][0].as_str().unwrap();
    assert_eq!(upstream.client.get(url).send().await.unwrap().headers()["content-type"], "image/webp");

    let mut body = low("p");
    body["model"] = json!("openai/gpt-image-1");
    body["size"] = json!("1024x1536");
    body["background"] = json!("transparent");
    let picture = upstream.download(&upstream.run(&body).await).await;
    let picture = image::load_from_memory(&picture).unwrap().into_rgba8();
    assert_eq!((picture.dimensions(), picture.get_pixel(0, 0).0[3]), ((1024, 1536), 0));
    upstream.stop().await;
}

#[tokio::test]
async fn faults_on_polls_do_not_change_the_task_and_failures_name_their_reason() {
    let upstream = Upstream::start(json!({})).await;
    upstream
        .faults(json!([
            {"on": "poll", "fault": "status_429"},
            {"on": "poll", "fault": "html_502"},
            {"on": "poll", "fault": "status_500"},
            {"on": "poll", "fault": "cut_answer"},
        ]))
        .await;
    let created: Value = upstream.create(&low("p")).await.json().await.unwrap();
    let url = created["polling_url"].as_str().unwrap();
    let limited = upstream.poll(url).await;
    assert_eq!(limited.status(), 429);
    assert_eq!(limited.json::<Value>().await.unwrap()["error"]["code"], 429);
    assert_eq!(upstream.poll(url).await.status(), 502);
    assert_eq!(upstream.poll(url).await.status(), 500);
    assert!(upstream.poll(url).await.json::<Value>().await.is_err());
    assert_eq!(upstream.run(&low("p")).await["status"], "completed");

    for (outcome, status) in [("failed_provider", "failed"), ("cancelled", "cancelled"), ("expired", "expired")] {
        upstream.scenario(json!({"life": {"outcome": outcome}})).await;
        let task = upstream.run(&low("p")).await;
        assert_eq!(task["status"], status);
        assert!(!task["error"].as_str().unwrap().is_empty() && task.get("unsigned_urls").is_none());
    }
    let mut linked = low("p");
    linked["input_references"] = json!([reference(&format!("{}/nothing.png", upstream.origin))]);
    upstream.scenario(json!({"life": {"outcome": "completed"}})).await;
    let task = upstream.run(&linked).await;
    assert_eq!((&task["status"], &task["error"]), (&json!("failed"), &json!(UNREACHABLE)));
    upstream.stop().await;
}

#[tokio::test]
async fn polling_urls_ids_and_failures_are_as_configured() {
    let refuse = json!({"unified": {"data_uris": "refuse"}});
    let upstream = Upstream::start(json!({"models": {"by_name": {"gpt-image-2": refuse}}})).await;
    let mut with_picture = low("p");
    with_picture["input_references"] = json!([reference(&data_uri(&png(8, 8)))]);
    assert_eq!(upstream.create(&with_picture).await.status(), 400);
    with_picture["model"] = json!("openai/gpt-image-1");
    assert_eq!(upstream.create(&with_picture).await.status(), 202);
    assert_eq!(upstream.control("predictions").await[0]["method"], "input_references");

    let changes = json!({
        "submit": {"poll_url": "relative", "ids": "uuid"}, "life": {"outcome": "failed_provider"},
        "result": {"failure_answer": "status_400"},
    });
    upstream.scenario(changes).await;
    let created: Value = upstream.create(&low("p")).await.json().await.unwrap();
    let path = created["polling_url"].as_str().unwrap();
    assert_eq!(path, format!("/api/v3/tasks/result/{}", created["id"].as_str().unwrap()));
    let failed = loop {
        let polled = upstream.poll(&format!("{}{path}", upstream.origin)).await;
        if polled.status() != 200 {
            break polled;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    assert_eq!(failed.status(), 400);
    assert_eq!(failed.json::<Value>().await.unwrap()["status"], "failed");
    upstream.stop().await;
}
