use base64_simd::STANDARD;
use bytes::Bytes;
use serde_json::json;

use super::*;
use crate::model::{ApiKind, Choices, Failure, Input};
use crate::upstream::gptproto::tests::{adapter, call, input, input_urls, json as sent, request};
use crate::upstream::{Output, Polled};

async fn body_for(request: &PictureRequest, pictures: u8, method: InputMethod) -> serde_json::Value {
    sent(call(None, request, pictures, method).0).await
}

#[tokio::test]
async fn every_parameter_is_explicit() {
    insta::assert_json_snapshot!(body_for(&request("gpt-image-2"), 2, InputMethod::Base64Images).await, @r#"
    {
      "base64_images": [
        "data:image/png;base64,b25l",
        "data:image/png;base64,dHdv"
      ],
      "enable_sync_mode": false,
      "n": 2,
      "prompt": "say \"hi\"\n",
      "quality": "low",
      "response_format": "url",
      "size": "1024x1024"
    }
    "#);
}

#[tokio::test]
async fn a_model_without_n_gets_none() {
    let mut request = request("gpt-image-2-plus");
    request.choices = Choices::default();
    let body = body_for(&request, 1, InputMethod::Base64Images).await;
    assert_eq!(body.get("n"), None);
    assert_eq!(body.get("quality"), None);
}

#[tokio::test]
async fn links_and_masks_are_sent_in_the_documented_fields() {
    let mut request = request("gpt-image-1.5-plus");
    request.inputs = vec![Input::Link("https://x.example/1.png".to_owned())];
    request.mask = Some(input(b"mask"));
    let body = body_for(&request, 1, InputMethod::Links).await;
    assert_eq!(body["image"], serde_json::json!(["https://x.example/1.png"]));
    assert_eq!(body["mask"], "data:image/png;base64,bWFzaw==");
    assert_eq!(body.get("base64_images"), None);
}

#[tokio::test]
async fn published_pictures_are_sent_as_urls_in_their_order() {
    let input_urls = input_urls();
    let mut request = request("gpt-image-1.5");
    request.mask = Some(input(b"mask"));
    let (call, input_url_guards) = call(Some(input_urls.clone()), &request, 1, InputMethod::Links);
    let body = sent(call).await;
    let published = |url: &serde_json::Value| {
        let token = url.as_str().unwrap().strip_prefix("https://gateway.example/v1/inputs/").unwrap();
        input_urls.find(token).map(|published| published.source.in_memory().unwrap())
    };
    assert_eq!(body["image"].as_array().unwrap().len(), 2);
    assert_eq!(published(&body["image"][0]).unwrap(), "one");
    assert_eq!(published(&body["image"][1]).unwrap(), "two");
    assert_eq!(published(&body["mask"]).unwrap(), "mask");
    assert_eq!(body.get("base64_images"), None);
    drop(input_url_guards);
    assert!(published(&body["image"][0]).is_none(), "the purchase has ended");
}

/// Returns what an answer to a poll says, whether or not it names the prediction.
fn poll_answer(body: &[u8]) -> Option<Polled> {
    match super::poll_answer(body, &UpstreamId::new(ID).unwrap()) {
        PollAnswer::Task(polled) | PollAnswer::Unnamed(polled) => Some(polled),
        PollAnswer::Other(_) | PollAnswer::Error(_) | PollAnswer::Unusable => None,
    }
}

#[test]
fn the_key_is_sent_to_the_configured_origin_only() {
    let exchange = adapter(None).exchange;
    let url = |poll_url: Option<&str>| {
        let id = UpstreamId::new("a:b..&c").unwrap();
        let handle = PurchaseHandle {
            id,
            poll_url: poll_url.map(str::to_owned),
            api_kind: ApiKind::Prediction,
            input_url_guards: InputUrlGuards::default(),
        };
        result_url(&exchange, &handle).to_string()
    };
    let documented = "https://gptproto.com/api/v3/predictions/a%3Ab..%26c/result";
    let good = "https://gptproto.com/api/v3/predictions/xyz/result";
    assert_eq!(url(None), documented);
    assert_eq!(url(Some(good)), good);
    for foreign in [
        "https://evil.example/api/v3/predictions/xyz/result",
        "http://gptproto.com/api/v3/predictions/xyz/result",
        "https://gptproto.com:444/api/v3/predictions/xyz/result",
        "https://gptproto.com.evil.example/api/v3/predictions/xyz/result",
        "https://gptproto.com@evil.example/api/v3/predictions/xyz/result",
        "https://user@gptproto.com/api/v3/predictions/xyz/result",
        "https://gptproto.com/redirect?to=evil",
        "not a URL",
    ] {
        assert_eq!(url(Some(foreign)), documented, "{foreign}");
    }
}

const ID: &str = "4ec5973904e74f31bc9cd4ce94e3878e";
const PNG: &[u8] = b"\x89PNG\r\n\x1a\n and the rest of a picture";

fn submit(value: &Value) -> SubmitAnswer {
    submit_answer(value.to_string().as_bytes())
}

fn get() -> String {
    format!("https://gptproto.com/api/v3/predictions/{ID}/result")
}

#[test]
fn every_form_of_an_accepted_submit_is_read() {
    let documented = json!({"data": {"id": ID, "outputs": [], "urls": {"get": get()}, "hasNsfwContents": [],
        "status": "created", "executionTime": 0}, "message": "success", "code": 200});
    let shapes = [
        documented,
        json!({"data": {"id": ID, "urls": [{"get": get()}], "status": "PENDING"}}),
        json!({"data": [{"id": ID, "status": "queued", "urls": {"get": get()}}], "code": 200}),
        json!({"data": {"urls": {"get": get()}, "status": "starting"}}),
        json!({"data": {"task_id": ID, "status": "a word of tomorrow", "urls": {"get": get()}}}),
        json!({"id": ID, "status": "processing", "urls": {"get": get()}}),
        json!({"code": "200", "data": {"prediction_id": ID, "urls": {"get": get()}}}),
        json!({"data": {"id": ID, "status": "completed", "outputs": [], "urls": {"get": get()}}}),
    ];
    for shape in shapes {
        let expected = UpstreamPrediction { id: UpstreamId::new(ID).unwrap(), poll_url: Some(get()) };
        assert_eq!(submit(&shape), SubmitAnswer::Accepted(expected), "{shape}");
    }
    let colon = json!({"data": {"id": "sora-2:task_1", "status": "created"}});
    assert!(matches!(submit(&colon), SubmitAnswer::Accepted(prediction) if prediction.id.as_str() == "sora-2:task_1"));
}

#[test]
fn immediate_results_and_errors_are_distinguished() {
    let picture = STANDARD.encode_to_string(PNG);
    let immediate = [
        json!({"data": [{"url": "https://x.example/a.png"}]}),
        json!({"data": [{"b64_json": picture}], "created": 1}),
        json!({"data": {"id": ID, "status": "completed", "outputs": ["https://x.example/a.png"]}, "code": 200}),
    ];
    for shape in immediate {
        assert!(matches!(submit(&shape), SubmitAnswer::Finished { .. }), "{shape}");
    }
    let error = json!({"code": 500, "message": "no luck", "data": null});
    assert!(matches!(submit(&error), SubmitAnswer::Error(text) if text.message == "no luck"));
    assert_eq!(submit(&json!({"data": {"status": "created"}})), SubmitAnswer::UnusableId);
    for unusable in [json!({"data": {}}), json!({"data": []}), json!([]), json!({"data": {"status": "a word"}})] {
        assert_eq!(submit(&unusable), SubmitAnswer::Unusable, "{unusable}");
    }
    assert_eq!(submit_answer(b"{\"data\": {\"id\": \"4ec"), SubmitAnswer::Unusable);
}

#[test]
fn every_status_word_is_classified() {
    let poll = |word: &str, outputs: Value| {
        poll_answer(json!({"data": {"status": word, "outputs": outputs}}).to_string().as_bytes()).unwrap()
    };
    for word in ["created", "pending", "queued", "starting", "processing", "running", "in_progress", "zzz", " Running "]
    {
        assert_eq!(poll(word, json!([])), Polled::Working, "{word}");
    }
    for word in ["completed", "succeeded", "succeed", "success", "complete", "done", "finished", "COMPLETED"] {
        assert!(matches!(poll(word, json!(["https://x.example/1.png"])), Polled::Finished(_)), "{word}");
        assert_eq!(poll(word, json!([])), Polled::Empty, "{word}");
        assert_eq!(poll(word, json!(null)), Polled::Empty, "{word}");
    }
    for word in ["failed", "error", "failure", "cancelled", "canceled", "timeout", "Expired"] {
        assert!(matches!(poll(word, json!([])), Polled::Failed(Failure::TaskFailed { .. })), "{word}");
    }
    assert_eq!(poll_answer(b"<html>502</html>"), None);
    assert_eq!(poll_answer(b""), None);
    assert_eq!(poll_answer(br#"{"code":500,"message":"x"}"#), None);
}

#[test]
fn the_reason_of_a_failure_is_found_in_every_place() {
    let text = |value: Value| match poll_answer(value.to_string().as_bytes()) {
        Some(Polled::Failed(Failure::TaskFailed { message })) => message,
        other => panic!("{other:?}"),
    };
    assert_eq!(text(json!({"data": {"status": "failed", "error": "boom"}})), "boom");
    assert_eq!(text(json!({"data": {"status": "failed", "error": {"message": "boom", "code": 1}}})), "boom");
    assert_eq!(text(json!({"data": {"status": "failed", "error": ""}, "message": "boom"})), "boom");
    for field in ["fail_reason", "error_message", "reason"] {
        assert_eq!(text(json!({"data": {"status": "failed", field: "boom"}, "message": "success"})), "boom");
    }
    assert!(text(json!({"data": {"status": "failed", "error": null}, "message": "success"})).contains("without"));
    let policy = json!({"data": {"status": "failed", "error": "Input may not meet the guidelines."}});
    assert!(matches!(
        poll_answer(policy.to_string().as_bytes()),
        Some(Polled::Failed(Failure::Moderated { bought: true, .. }))
    ));
}

#[test]
fn every_form_of_an_output_is_read() {
    let plain = STANDARD.encode_to_string(PNG);
    let spaced = format!("{}\r\n {}", &plain[..8], plain[8..].trim_end_matches('='));
    let read = |outputs: Value| match poll_answer(
        json!({"data": {"status": "done", "outputs": outputs}}).to_string().as_bytes(),
    ) {
        Some(Polled::Finished(finished)) => finished.outputs,
        other => panic!("{other:?}"),
    };
    let bytes = || Output::Bytes(Bytes::from_static(PNG));
    let url = || Output::Url("https://x.example/1.png".to_owned());
    assert_eq!(read(json!(["https://x.example/1.png", plain, spaced])), [url(), bytes(), bytes()]);
    assert_eq!(read(json!([format!("data:image/png;base64,{plain}")])), [bytes()]);
    assert_eq!(read(json!([{"url": "https://x.example/1.png"}, {"b64_json": plain}])), [url(), bytes()]);
    assert_eq!(read(json!([{"image_url": {"url": "https://x.example/1.png"}}])), [url()]);
    assert_eq!(read(json!(["/files/1.png"])), [Output::Url("/files/1.png".to_owned())]);
    assert_eq!(read(json!("https://x.example/1.png")), [url()]);
    assert_eq!(read(json!([{"uri": "https://x.example/1.png"}, {"b64Json": plain}])), [url(), bytes()]);
    for (place, value) in [
        ("images", json!([{"url": "https://x.example/1.png"}])),
        ("result", json!("https://x.example/1.png")),
        ("result", json!(["https://x.example/1.png"])),
        ("result", json!({"uri": "https://x.example/1.png"})),
        ("result", json!({"images": [{"url": "https://x.example/1.png"}]})),
    ] {
        let elsewhere = json!({"data": {"status": "done", place: value}});
        let read = poll_answer(elsewhere.to_string().as_bytes());
        assert!(
            matches!(&read, Some(Polled::Finished(finished)) if finished.outputs == [url()]),
            "{elsewhere} {read:?}"
        );
    }
}

#[test]
fn usage_is_found_in_both_places() {
    for usage in [
        json!({"usage": {"input_tokens": 368, "output_tokens": 805, "total_tokens": 1173}}),
        json!({"extra_params": {"usage": {"input_tokens": 368, "output_tokens": 805}}}),
    ] {
        let mut data = json!({"status": "completed", "outputs": ["https://x.example/1.png"]});
        data.as_object_mut().unwrap().extend(usage.as_object().unwrap().clone());
        match poll_answer(json!({"data": data}).to_string().as_bytes()) {
            Some(Polled::Finished(Finished { usage: Some(usage), .. })) => {
                assert_eq!((usage.input_tokens, usage.output_tokens), (368, 805));
            }
            other => panic!("{other:?}"),
        }
    }
}

proptest::proptest! {
    #[test]
    fn no_answer_causes_a_panic(body: Vec<u8>, text: String) {
        let _ = submit_answer(&body);
        let _ = poll_answer(&body);
        for shape in [json!({"data": {"id": text, "status": text, "outputs": [text]}}), json!({"code": text})] {
            let _ = submit(&shape);
            let _ = poll_answer(shape.to_string().as_bytes());
        }
    }
}
