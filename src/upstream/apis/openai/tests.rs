use super::*;
use crate::model::{Choices, Failure};
use crate::upstream::gptproto::tests::{call, input, json, request, sent};

const PNG: &[u8] = b"\x89PNG\r\n\x1a\n and the rest of a picture";

/// Returns the parts of a form. Checks that the form ends with the boundary.
async fn parts(request: &PictureRequest, pictures: u8) -> String {
    let (call, _) = call(None, request, pictures, InputMethod::Multipart);
    assert_eq!(call.path, "/v1/images/edits");
    let boundary = call.content_type.strip_prefix("multipart/form-data; boundary=").unwrap().to_owned();
    let body = String::from_utf8(sent(call).await.to_vec()).unwrap();
    assert!(body.ends_with(&format!("\r\n--{boundary}--")), "nothing follows the last hyphen");
    body.replace(&boundary, "BOUNDARY").replace("\r\n", "\n")
}

#[tokio::test]
async fn an_edit_is_the_documented_form() {
    let mut request = request("gpt-image-1");
    request.prompt = "say \"hi\"".to_owned();
    request.mask = Some(input(b"mask"));
    request.choices.set("background", "transparent");
    request.choices.set("input_fidelity", "high");
    insta::assert_snapshot!(parts(&request, 2).await, @r##"
    --BOUNDARY
    Content-Disposition: form-data; name="model"

    gpt-image-1
    --BOUNDARY
    Content-Disposition: form-data; name="prompt"

    say "hi"
    --BOUNDARY
    Content-Disposition: form-data; name="size"

    1024x1024
    --BOUNDARY
    Content-Disposition: form-data; name="n"

    2
    --BOUNDARY
    Content-Disposition: form-data; name="background"

    transparent
    --BOUNDARY
    Content-Disposition: form-data; name="input_fidelity"

    high
    --BOUNDARY
    Content-Disposition: form-data; name="moderation"

    auto
    --BOUNDARY
    Content-Disposition: form-data; name="quality"

    low
    --BOUNDARY
    Content-Disposition: form-data; name="output_format"

    png
    --BOUNDARY
    Content-Disposition: form-data; name="image[]"; filename="image-1.png"
    Content-Type: image/png

    one
    --BOUNDARY
    Content-Disposition: form-data; name="image[]"; filename="image-2.png"
    Content-Type: image/png

    two
    --BOUNDARY
    Content-Disposition: form-data; name="mask"; filename="mask.png"
    Content-Type: image/png

    mask
    --BOUNDARY--
    "##);
}

#[tokio::test]
async fn a_plus_model_gets_prompt_and_size_only() {
    let mut request = request("gpt-image-2-plus");
    request.choices = Choices::default();
    request.prompt = "hi".to_owned();
    request.inputs.pop();
    insta::assert_snapshot!(parts(&request, 1).await, @r##"
    --BOUNDARY
    Content-Disposition: form-data; name="model"

    gpt-image-2-plus
    --BOUNDARY
    Content-Disposition: form-data; name="prompt"

    hi
    --BOUNDARY
    Content-Disposition: form-data; name="size"

    1024x1024
    --BOUNDARY
    Content-Disposition: form-data; name="image[]"; filename="image-1.png"
    Content-Type: image/png

    one
    --BOUNDARY--
    "##);
}

#[tokio::test]
async fn text_to_image_is_json() {
    let mut request = request("gpt-image-1");
    request.task = Task::Generate;
    request.inputs.clear();
    request.choices.set("moderation", "low");
    let (call, _) = call(None, &request, 3, InputMethod::Multipart);
    assert_eq!(call.path, "/v1/images/generations");
    insta::assert_json_snapshot!(json(call).await, @r##"
    {
      "background": "opaque",
      "model": "gpt-image-1",
      "moderation": "low",
      "n": 3,
      "output_format": "png",
      "prompt": "say \"hi\"\n",
      "quality": "low",
      "size": "1024x1024"
    }
    "##);
}

fn read(value: &Value) -> SubmitAnswer {
    answer(BytesMut::from(value.to_string().as_bytes()))
}

fn finished(answer: SubmitAnswer) -> Finished {
    let SubmitAnswer::Finished { prediction: None, finished } = answer else { panic!("{answer:?}") };
    finished
}

#[test]
fn pictures_are_read_as_base64_data_uris_and_urls() {
    let plain = STANDARD.encode_to_string(PNG);
    let bytes = || Output::Bytes(Bytes::from_static(PNG));
    let documented = serde_json::json!({
        "created": 1, "background": "opaque", "output_format": "png", "quality": "low", "size": "1024x1024",
        "data": [{"b64_json": plain}, {"b64_json": format!("data:image/png;base64,{plain}"), "url": null}],
        "usage": {"input_tokens": 239, "input_tokens_details": {"image_tokens": 194, "text_tokens": 45},
                  "output_tokens": 1056, "output_tokens_details": {"image_tokens": 1056, "text_tokens": 0},
                  "total_tokens": 1295}
    });
    let read_back = finished(read(&documented));
    assert_eq!(read_back.outputs, [bytes(), bytes()]);
    let usage = Usage { input_tokens: 239, output_tokens: 1056, input_image_tokens: Some(194) };
    assert_eq!(read_back.usage, Some(usage));

    let url = serde_json::json!({"created": 1, "data": [{"url": "https://x.example/1.png"}], "error": null});
    let read_back = finished(read(&url));
    assert_eq!(read_back.outputs, [Output::Url("https://x.example/1.png".to_owned())]);
    assert_eq!(read_back.usage, None);
    // Slashes that are escaped, as some encoders do, no padding, white space.
    for odd in [plain.replace('/', "\\/"), plain.trim_end_matches('=').to_owned(), format!("{plain}\\n")] {
        let body = format!("{{\"data\":[{{\"b64_json\":\"{odd}\"}}]}}");
        assert_eq!(finished(answer(BytesMut::from(body.as_bytes()))).outputs, [bytes()], "{odd}");
    }
}

#[test]
fn pictures_are_decoded_in_place() {
    let body = format!("{{\"data\":[{{\"b64_json\":\"{}\"}}]}}", STANDARD.encode_to_string(PNG));
    let body = BytesMut::from(body.as_bytes());
    let whole = body.as_ptr() as usize..body.as_ptr() as usize + body.len();
    let outputs = finished(answer(body)).outputs;
    assert!(matches!(&outputs[..], [Output::Bytes(bytes)] if whole.contains(&(bytes.as_ptr() as usize))));
}

#[test]
fn an_answer_of_very_many_values_is_unusable() {
    let items = |count: usize| serde_json::json!({"data": vec![serde_json::json!({"b64_json": STANDARD.encode_to_string(PNG)}); count]});
    assert_eq!(finished(read(&items(1000))).outputs.len(), 1000);
    assert_eq!(read(&items(30_000)), SubmitAnswer::Unusable);
    let usage = serde_json::json!({"data": [{"url": "https://x.example/1.png"}], "usage": vec![0; 30_000]});
    assert_eq!(read(&usage), SubmitAnswer::Unusable);
}

#[test]
fn an_answer_without_a_picture_is_unusable() {
    for unusable in [
        serde_json::json!({}),
        serde_json::json!({"created": 1, "data": []}),
        serde_json::json!({"data": [{"b64_json": ""}]}),
        serde_json::json!({"data": [{"b64_json": "data:image/png;base64,"}]}),
        serde_json::json!([]),
    ] {
        assert_eq!(read(&unusable), SubmitAnswer::Unusable, "{unusable}");
    }
    assert_eq!(answer(BytesMut::from(&b"<html>524</html>"[..])), SubmitAnswer::Unusable);
    assert_eq!(answer(BytesMut::from(&b"{\"data\":[{\"b64_json\":\"iVBOR"[..])), SubmitAnswer::Unusable);
    let accepted = serde_json::json!({"id": "abc", "status": "processing"});
    assert!(matches!(read(&accepted), SubmitAnswer::Accepted(prediction) if prediction.id.as_str() == "abc"));
    let failed = serde_json::json!({"data": {"status": "failed", "error": "boom"}});
    assert!(matches!(read(&failed), SubmitAnswer::Failed(Failure::TaskFailed { .. })));
}

proptest::proptest! {
    #[test]
    fn no_answer_causes_a_panic(body: Vec<u8>, text: String) {
        answer(BytesMut::from(&body[..]));
        for shape in [serde_json::json!({"data": [{"b64_json": text}]}), serde_json::json!({"data": [{"url": text}]})] {
            read(&shape);
        }
    }
}
