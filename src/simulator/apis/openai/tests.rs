//! The OpenAI API over a real socket.

use reqwest::multipart::{Form as Multipart, Part};
use serde_json::{Value, json};

use crate::simulator::apis::answers::UNREACHABLE;
use crate::simulator::apis::tests::{KEY, Upstream};
use crate::simulator::images::draw::tests::{data_uri, png, read_texts};

impl Upstream {
    async fn generate(&self, body: &Value) -> reqwest::Response {
        self.post("generations").json(body).send().await.unwrap()
    }

    async fn edit(&self, form: Multipart) -> reqwest::Response {
        self.post("edits").multipart(form).send().await.unwrap()
    }

    fn post(&self, what: &str) -> reqwest::RequestBuilder {
        self.client.post(format!("{}/v1/images/{what}", self.origin)).bearer_auth(KEY)
    }
}

fn part(bytes: Vec<u8>) -> Part {
    Part::bytes(bytes).file_name("picture.png")
}

fn form(texts: &[(&'static str, &'static str)]) -> Multipart {
    texts.iter().fold(Multipart::new(), |form, &(name, value)| form.text(name, value))
}

fn low(prompt: &str) -> Value {
    json!({"prompt": prompt, "model": "gpt-image-1", "quality": "low"})
}

async fn drawn(response: reqwest::Response) -> (Value, Vec<u8>) {
    assert_eq!(response.status(), 200);
    let mut body: Value = response.json().await.unwrap();
    let text = body["data"][0]["b64_json"].take();
    (body, base64_simd::STANDARD.decode_to_vec(text.as_str().unwrap()).unwrap())
}

/// Returns status, type, code and message of a refusal.
async fn refused(response: reqwest::Response) -> (u16, String, String, String) {
    let status = response.status().as_u16();
    let body: Value = response.json().await.unwrap();
    let text = |key: &str| body["error"][key].as_str().unwrap().to_owned();
    (status, text("type"), text("code"), text("message"))
}

#[tokio::test]
async fn a_generation_is_answered_when_its_picture_is_done() {
    let upstream = Upstream::start(json!({})).await;
    let (body, picture) = drawn(upstream.generate(&low("a fox")).await).await;
    let usage = json!({
        "input_tokens": 2, "input_tokens_details": {"text_tokens": 2, "image_tokens": 0},
        "output_tokens": 196, "output_tokens_details": {"text_tokens": 0, "image_tokens": 196},
        "total_tokens": 198,
    });
    assert_eq!(body["usage"], usage);
    for (key, value) in [("background", "opaque"), ("output_format", "png"), ("quality", "low"), ("size", "1024x1024")]
    {
        assert_eq!(body[key], value);
    }
    assert!(body["created"].is_i64());
    assert_eq!(read_texts(&picture)["prompt-blake3"], blake3::hash(b"a fox").to_hex().as_str());

    let counters = upstream.control("counters").await;
    assert_eq!(counters["accepted_by_api"], json!({"openai": 1}));
    assert!(counters["charged_usd"].as_f64().unwrap() > 0.0);
    let predictions = upstream.control("predictions").await;
    assert_eq!((&predictions[0]["api"], &predictions[0]["capability"]), (&json!("openai"), &json!("text-to-image")));
    // The prediction cannot be polled.
    let id = predictions[0]["id"].as_str().unwrap();
    let polled = upstream.poll(&format!("{}/api/v3/predictions/{id}/result", upstream.origin)).await;
    assert_eq!(polled.status(), 404);
    upstream.stop().await;
}

#[tokio::test]
async fn format_background_and_number_are_as_requested() {
    let upstream = Upstream::start(json!({})).await;
    let mut body = low("a fox");
    body["background"] = json!("transparent");
    let (answer, picture) = drawn(upstream.generate(&body).await).await;
    assert_eq!(answer["background"], "transparent");
    assert_eq!(image::load_from_memory(&picture).unwrap().into_rgba8().get_pixel(0, 0).0[3], 0);

    body["background"] = json!("auto");
    let mut sizes = Vec::new();
    for compression in [5, 95] {
        body["output_format"] = json!("jpeg");
        body["output_compression"] = json!(compression);
        let (answer, picture) = drawn(upstream.generate(&body).await).await;
        assert_eq!(answer["output_format"], "jpeg");
        assert_eq!(image::guess_format(&picture).unwrap(), image::ImageFormat::Jpeg);
        sizes.push(picture.len());
    }
    assert!(sizes[0] < sizes[1]);
    body["n"] = json!(3);
    let many: Value = upstream.generate(&body).await.json().await.unwrap();
    assert_eq!(many["data"].as_array().unwrap().len(), 3);
    upstream.stop().await;
}

#[tokio::test]
async fn an_edit_accepts_files_in_order_and_a_mask_that_fits() {
    let upstream = Upstream::start(json!({})).await;
    let (one, two) = (png(32, 32), png(16, 16));
    let edit_with = |mask: Vec<u8>| {
        form(&[("prompt", "blend"), ("model", "gpt-image-1"), ("quality", "low"), ("n", "1"), ("stream", "false")])
            .part("image[]", part(two.clone()))
            .part("image", part(one.clone()))
            .part("mask", part(mask))
    };
    let (_, picture) = drawn(upstream.edit(edit_with(png(16, 16))).await).await;
    let hex = |bytes: &[u8]| blake3::hash(bytes).to_hex().to_string();
    let texts = read_texts(&picture);
    assert_eq!(texts["inputs"], format!("{},{}", hex(&two), hex(&one)));
    assert_eq!(texts["mask"], hex(&png(16, 16)));
    drawn(upstream.edit(edit_with(png(16, 16))).await).await;
    assert_eq!(upstream.control("counters").await["submits_repeated"], 1);

    let (status, _, _, message) = refused(upstream.edit(edit_with(png(32, 32))).await).await;
    assert_eq!((status, message.as_str()), (400, "mask must have the same size as the image"));
    let (_, _, _, message) = refused(upstream.edit(form(&[("prompt", "blend")])).await).await;
    assert_eq!(message, "image is required");
    upstream.stop().await;
}

#[tokio::test]
async fn an_edit_as_json_accepts_links_and_data_uris() {
    let upstream = Upstream::start(json!({})).await;
    let uri = data_uri(&png(16, 16));
    let body = json!({
        "prompt": "blend", "model": "gpt-image-2", "quality": "low", "mask": {"image_url": uri},
        "images": [{"image_url": uri}, {"image_url": "https://example.com/x.png"}],
    });
    drawn(upstream.post("edits").json(&body).send().await.unwrap()).await;
    let predictions = upstream.control("predictions").await;
    assert_eq!(predictions[0]["inputs"][0]["digest"], blake3::hash(&png(16, 16)).to_hex().as_str());
    assert_eq!(predictions[0]["inputs"][1]["url"], "https://example.com/x.png");

    let missing = json!([{"image_url": format!("{}/nothing.png", upstream.origin)}]);
    let body = json!({"prompt": "blend", "model": "gpt-image-2", "images": missing});
    let (status, _, _, message) = refused(upstream.post("edits").json(&body).send().await.unwrap()).await;
    assert_eq!((status, message.as_str()), (400, UNREACHABLE));
    upstream.stop().await;
}

#[tokio::test]
async fn parameters_outside_the_vendors_table_are_refused() {
    let upstream = Upstream::start(json!({})).await;
    for (key, value, text) in [
        ("response_format", json!("b64_json"), "Unknown parameter: 'response_format'."),
        ("mask", json!({}), "Unknown parameter: 'mask'."),
        ("images", json!([]), "Unknown parameter: 'images'."),
        ("input_fidelity", json!("high"), "Unknown parameter: 'input_fidelity'."),
        ("partial_images", json!(4), "Invalid value for partial_images: an integer from 0 to 3 is expected"),
        ("n", json!("2"), "Invalid value for n: an integer from 1 to 10 is expected"),
        ("output_format", json!("gif"), "Invalid value for output_format: 'gif' is not one of auto, png, jpeg, webp"),
        (
            "output_compression",
            json!(101),
            "Invalid value for output_compression: an integer from 0 to 100 is expected",
        ),
        ("moderation", json!("off"), "Invalid value for moderation: 'off' is not one of low, auto"),
        ("model", json!("dall-e-3"), "Invalid model: dall-e-3 does not exist"),
        ("prompt", json!(""), "prompt is required"),
    ] {
        let mut body = low("p");
        body[key] = value;
        let (status, kind, code, message) = refused(upstream.generate(&body).await).await;
        assert_eq!((status, kind.as_str(), code.as_str()), (400, "invalid_request_error", "invalid_value"), "{key}");
        assert_eq!(message, text);
    }
    for (model, key, value) in [
        ("gpt-image-2", "background", "transparent"),
        ("gpt-image-2-plus", "quality", "low"),
        ("gpt-image-1.5-plus", "user", "me"),
        ("gpt-image-2-plus", "size", "1254x1254"),
    ] {
        let body = json!({"prompt": "p", "model": model, key: value});
        assert_eq!(upstream.generate(&body).await.status(), 400, "{model} {key}");
    }
    let files = || form(&[("prompt", "p"), ("model", "gpt-image-2-plus")]).part("image[]", part(png(8, 8)));
    assert_eq!(
        refused(upstream.edit(files().part("mask", part(png(8, 8)))).await).await.3,
        "Unknown parameter: 'mask'."
    );
    let first = form(&[("prompt", "p"), ("quality", "low"), ("input_fidelity", "high")]);
    assert_eq!(upstream.edit(first.part("image[]", part(png(8, 8)))).await.status(), 200);
    let counters = upstream.control("counters").await;
    assert_eq!((&counters["submits_accepted"], &counters["submits_rejected"]), (&json!(1), &json!(16)));
    upstream.stop().await;
}

#[tokio::test]
async fn plus_models_answer_with_data_uris_and_without_other_keys() {
    let upstream = Upstream::start(json!({})).await;
    let body = json!({"prompt": "p", "model": "gpt-image-2-plus"});
    let answer: Value = upstream.generate(&body).await.json().await.unwrap();
    assert_eq!(answer.as_object().unwrap().keys().collect::<Vec<_>>(), ["created", "data"]);
    assert!(answer["data"][0]["b64_json"].as_str().unwrap().starts_with("data:image/png;base64,"));
    upstream.scenario(json!({"openai": {"data_prefix": "always"}})).await;
    let answer: Value = upstream.generate(&low("p")).await.json().await.unwrap();
    assert!(answer["data"][0]["b64_json"].as_str().unwrap().starts_with("data:image/png;base64,"));
    upstream.stop().await;
}

#[tokio::test]
async fn a_lost_answer_is_paid_and_a_refusal_is_not() {
    // At the speed of the service, so that an answer that is lost at once comes long before the end.
    let upstream = Upstream::start(json!({"speed": 1})).await;
    for fault in ["drop_after", "html_524_after"] {
        upstream.faults(json!({"on": "submit", "fault": fault})).await;
        let sent = upstream.post("generations").json(&low(fault)).timeout(std::time::Duration::from_secs(15)).send();
        match sent.await {
            Ok(response) => assert_eq!(response.status(), 524, "{fault}"),
            Err(error) => assert!(!error.is_timeout(), "{fault}"),
        }
    }
    assert_eq!(upstream.control("counters").await["predictions"]["completed"], 0);

    upstream.scenario(json!({"speed": 1000})).await;
    upstream.faults(json!({"on": "submit", "fault": "drop_after"})).await;
    assert!(upstream.post("generations").json(&low("p")).send().await.is_err());
    while upstream.control("counters").await["predictions"]["completed"] == 0 {
        tokio::task::yield_now().await;
    }
    let counters = upstream.control("counters").await;
    assert_eq!(counters["submits_accepted"], 3);
    assert!(counters["charged_usd"].as_f64().unwrap() > 0.0);

    for fault in ["cut_answer", "truncated_json", "empty_body"] {
        upstream.faults(json!({"on": "submit", "fault": fault})).await;
        let sent = upstream.generate(&low(fault)).await;
        assert!(sent.json::<Value>().await.is_err(), "{fault}");
    }
    upstream.faults(json!({"on": "submit", "fault": "status_429"})).await;
    let (status, kind, ..) = refused(upstream.generate(&low("p")).await).await;
    assert_eq!((status, kind.as_str()), (429, "rate_limit_error"));
    assert_eq!(upstream.control("counters").await["submits_accepted"], 6);
    upstream.stop().await;
}

#[tokio::test]
async fn the_edge_cuts_a_call_while_the_prediction_continues() {
    let upstream = Upstream::start(json!({"speed": 1000, "openai": {"edge_cut_s": 1}})).await;
    upstream.scenario(json!({"life": {"low_ms": [9_000_000, 9_000_000]}})).await;
    assert_eq!(upstream.generate(&low("p")).await.status(), 524);
    let counters = upstream.control("counters").await;
    assert_eq!((&counters["submits_accepted"], &counters["predictions"]["completed"]), (&json!(1), &json!(0)));
    upstream.stop().await;
}

/// Returns the events of a stream; fails when the connection breaks first.
async fn events(response: reqwest::Response) -> reqwest::Result<Vec<Value>> {
    assert_eq!(
        (response.status().as_u16(), &response.headers()["content-type"]),
        (200, &"text/event-stream".parse().unwrap())
    );
    let text = response.text().await?;
    let frames = text.split_terminator("\n\n").map(|frame| frame.split_once('\n').unwrap());
    let events = frames.map(|(name, data)| {
        let event: Value = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
        assert_eq!(name.strip_prefix("event: ").unwrap(), event["type"]);
        event
    });
    Ok(events.collect())
}

#[tokio::test]
async fn a_stream_has_partial_pictures_and_then_the_picture() {
    let upstream = Upstream::start(json!({})).await;
    let streamed = form(&[
        ("prompt", "blend"),
        ("model", "gpt-image-2"),
        ("quality", "low"),
        ("stream", "true"),
        ("partial_images", "2"),
    ]);
    let all = events(upstream.edit(streamed.part("image", part(png(16, 16)))).await).await.unwrap();
    let kinds: Vec<_> = all.iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["image_edit.partial_image", "image_edit.partial_image", "image_edit.completed"]);
    assert_eq!((&all[1]["partial_image_index"], &all[2]["size"]), (&json!(1), &json!("1024x1024")));
    assert_eq!(all[2]["usage"]["output_tokens"], 196 + 200);
    assert!(all[0]["b64_json"] != all[2]["b64_json"] && all[0].get("usage").is_none());
    let picture = base64_simd::STANDARD.decode_to_vec(all[2]["b64_json"].as_str().unwrap()).unwrap();
    assert_eq!(read_texts(&picture)["inputs"], blake3::hash(&png(16, 16)).to_hex().as_str());
    assert_eq!(upstream.control("predictions").await[0]["method"], "multipart");

    let mut body = low("p");
    body["stream"] = json!(true);
    let all = events(upstream.generate(&body).await).await.unwrap();
    assert_eq!((all.len(), &all[0]["type"]), (1, &json!("image_generation.completed")));
    upstream.scenario(json!({"life": {"outcome": "failed_policy"}})).await;
    let all = events(upstream.generate(&body).await).await.unwrap();
    assert!(all[0]["error"]["message"].as_str().unwrap().contains("guidelines"));
    upstream.scenario(json!({"life": {"outcome": "completed"}, "openai": {"stream": "ignore"}})).await;
    drawn(upstream.generate(&body).await).await;
    upstream.scenario(json!({"openai": {"stream": "refuse"}})).await;
    assert_eq!(upstream.generate(&body).await.status(), 400);
    let refused =
        refused(upstream.generate(&json!({"prompt": "p", "model": "gpt-image-2-plus", "stream": true})).await);
    assert_eq!(refused.await.3, "Unknown parameter: 'stream'.");
    upstream.stop().await;
}

#[tokio::test]
async fn the_edge_cuts_a_silent_stream_and_not_one_with_partial_pictures() {
    // A second is 10 ms. The edge waits for 200 s, and a picture takes 240 s.
    let life = json!({"low_ms": [240_000, 240_000], "size_counts": "no"});
    let upstream = Upstream::start(json!({"speed": 100, "life": life, "openai": {"edge_cut_s": 200}})).await;
    let mut body = low("p");
    body["size"] = json!("256x256");
    let plain = body.clone();
    body["stream"] = json!(true);
    let silent = async { events(upstream.generate(&body).await).await };
    let (plain, silent) = tokio::join!(upstream.generate(&plain), silent);
    assert_eq!(plain.status(), 524);
    assert!(silent.is_err());
    body["partial_images"] = json!(3);
    let all = events(upstream.generate(&body).await).await.unwrap();
    assert_eq!((all.len(), &all[3]["type"]), (4, &json!("image_generation.completed")));
    assert_eq!(upstream.control("counters").await["submits_accepted"], 3);
    upstream.stop().await;
}

#[tokio::test]
async fn an_unanswered_call_counts_as_concurrent() {
    let upstream = Upstream::start(json!({"speed": 10, "limits": {"concurrent": 1}})).await;
    let first = low("first");
    let first_call = upstream.generate(&first);
    let second = async {
        while upstream.control("counters").await["submits_accepted"] == 0 {
            tokio::task::yield_now().await;
        }
        refused(upstream.generate(&low("second")).await).await
    };
    let (answer, (status, kind, code, _)) = tokio::join!(first_call, second);
    assert_eq!(answer.status(), 200);
    assert_eq!((status, kind.as_str(), code.as_str()), (429, "rate_limit_error", "rate_limit_exceeded"));
    upstream.scenario(json!({"speed": 1000})).await;
    assert_eq!(upstream.generate(&low("third")).await.status(), 200);
    upstream.stop().await;
}

#[tokio::test]
async fn refusals_of_keys_policy_and_failures_have_the_openai_shape() {
    let upstream = Upstream::start(json!({})).await;
    let sent = upstream.client.post(format!("{}/v1/images/generations", upstream.origin)).json(&low("p"));
    assert_eq!(refused(sent.send().await.unwrap()).await.2, "invalid_api_key");
    let policy = (400, "invalid_request_error".to_owned(), "content_policy_violation".to_owned());
    let (status, kind, code, message) = refused(upstream.generate(&low("a forbidden-picture")).await).await;
    assert_eq!((status, kind, code), policy);
    assert!(message.contains("guidelines"));
    upstream.scenario(json!({"policy": {"answer": "task"}})).await;
    let (status, kind, code, _) = refused(upstream.generate(&low("a forbidden-picture")).await).await;
    assert_eq!((status, kind, code), policy);
    upstream.scenario(json!({"life": {"outcome": "failed_provider"}})).await;
    let (status, kind, ..) = refused(upstream.generate(&low("p")).await).await;
    assert_eq!((status, kind.as_str()), (500, "server_error"));
    assert!(upstream.control("counters").await["charged_usd"].as_f64().unwrap() < f64::EPSILON);
    upstream.stop().await;
}
