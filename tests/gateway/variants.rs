//! Every known form of a successful upstream response yields the picture, for one purchase.

use image::ImageFormat;
use serde_json::{Value, json};

use crate::harness::{Edit, Gateway, Upstream, size_of};

/// Sends an edit under each scenario, and expects one more purchase each time.
async fn each(scenarios: impl IntoIterator<Item = Value>, check: impl Fn(&Value, &Value)) {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    let usual = json!({
        "submit": {"answer": "documented", "status": "created"},
        "life": {"created": "created", "processing": "processing", "completed": "completed"},
        "result": {
            "outputs": "as_asked", "outputs_place": "outputs", "empty_polls": 0, "usage": "data", "no_error": "empty",
            "nsfw": "empty", "timestamps": "rfc3339", "keys": "snake",
        },
        "pictures": {"format": "png"},
        "files": {"content_type": "right", "redirects": 0},
    });
    for (number, scenario) in scenarios.into_iter().enumerate() {
        upstream.set(usual.clone()).await;
        upstream.set(scenario.clone()).await;
        let answer = gateway.alice().edit(&Edit::new(&scenario.to_string())).await;
        assert_eq!(answer.status, 200, "{scenario}: {}", answer.text());
        assert_eq!(size_of(&answer.picture()), (256, 256), "{scenario}");
        assert_eq!(upstream.submits().await, number as u64 + 1, "{scenario}");
        assert_eq!(upstream.purchases().await, number as u64 + 1, "{scenario}");
        check(&scenario, &answer.json());
    }
}

#[tokio::test]
async fn every_form_of_a_submit_answer_is_understood() {
    let answers = [
        "documented",
        "urls_array",
        "data_array",
        "id_in_url",
        "top_level_id",
        "colon_id",
        "immediate_url",
        "immediate_b64",
        "completed",
        "foreign_host",
    ];
    each(answers.map(|answer| json!({"submit": {"answer": answer}})), |_, _| {}).await;
}

#[tokio::test]
async fn every_form_of_an_output_is_understood() {
    let forms = ["url", "relative_url", "base64", "data_uri", "object_url", "object_image_url", "object_b64", "mixed"];
    each(forms.map(|form| json!({"result": {"outputs": form}})), |_, _| {}).await;
}

#[tokio::test]
async fn outputs_are_found_in_every_known_field() {
    let places = ["outputs", "output", "images", "image_url", "url"];
    each(places.map(|place| json!({"result": {"outputs_place": place}})), |_, _| {}).await;
}

#[tokio::test]
async fn usage_is_complete_or_absent() {
    let places = ["data", "extra_params", "absent"].map(|place| json!({"result": {"usage": place}}));
    each(places, |scenario, body| {
        if scenario["result"]["usage"] == "absent" {
            assert_eq!(body.get("usage"), None);
            return;
        }
        let usage = &body["usage"];
        let number =
            |path: &str| usage.pointer(path).and_then(Value::as_u64).unwrap_or_else(|| panic!("{path}: {usage}"));
        assert_eq!(number("/total_tokens"), number("/input_tokens") + number("/output_tokens"));
        assert_eq!(
            number("/input_tokens"),
            number("/input_tokens_details/image_tokens") + number("/input_tokens_details/text_tokens")
        );
        assert_eq!(
            number("/output_tokens"),
            number("/output_tokens_details/image_tokens") + number("/output_tokens_details/text_tokens")
        );
    })
    .await;
}

#[tokio::test]
async fn every_status_word_is_understood() {
    let words = [
        ("pending", "running", "succeeded"),
        ("queued", "in_progress", "SUCCESS"),
        ("starting", "PROCESSING", "Completed"),
        ("CREATED", "a-word-nobody-knows", "done"),
        ("a word", "", "finished"),
    ];
    each(
        words.map(|(created, processing, completed)| {
            json!({
                "submit": {"status": created},
                "life": {"created": created, "processing": processing, "completed": completed},
            })
        }),
        |_, _| {},
    )
    .await;
}

#[tokio::test]
async fn odd_results_are_accepted() {
    let oddities = [
        json!({"result": {"empty_polls": 1}}),
        json!({"result": {"no_error": "null"}}),
        json!({"result": {"no_error": "object"}}),
        json!({"result": {"no_error": "absent"}}),
        json!({"result": {"nsfw": "flagged"}}),
        json!({"result": {"nsfw": "null"}}),
        json!({"result": {"timestamps": "zoneless", "keys": "camel", "nsfw": "absent"}}),
        json!({"files": {"content_type": "octet_stream"}}),
        json!({"files": {"content_type": "html"}}),
        json!({"files": {"content_type": "missing"}}),
        json!({"files": {"redirects": 2}}),
    ];
    each(oddities, |_, _| {}).await;
}

#[tokio::test]
async fn the_reported_format_is_that_of_the_bytes() {
    let formats = [("png", ImageFormat::Png), ("jpeg", ImageFormat::Jpeg), ("webp", ImageFormat::WebP)];
    each(formats.map(|(name, _)| json!({"pictures": {"format": name}})), |scenario, body| {
        let name = &scenario["pictures"]["format"];
        assert_eq!(&body["output_format"], name);
        let text = body["data"][0]["b64_json"].as_str().unwrap();
        let bytes = base64_simd::STANDARD.decode_to_vec(text).unwrap();
        let format = formats.iter().find(|(known, _)| name == known).unwrap().1;
        assert_eq!(image::guess_format(&bytes).unwrap(), format);
    })
    .await;
}
