//! Pictures under the names, and in the forms, in which clients send them: each is used, or refused by name before anything
//! is bought.

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Answer, Edit, Gateway, Upstream, data_url, digest, mask, picture};

/// Digests of the pictures that the newest prediction received, in order.
async fn newest_inputs(upstream: &Upstream) -> Vec<String> {
    let predictions = upstream.predictions().await;
    let inputs = predictions.last().unwrap()["inputs"].as_array().unwrap();
    inputs.iter().map(|input| input["digest"].as_str().unwrap().to_owned()).collect()
}

/// Sends a form that was written by hand, with the boundary `B`.
async fn send(gateway: &Gateway, path: &str, content_type: &str, body: Vec<u8>) -> Answer {
    let request = gateway.alice().request(Method::POST, path).header("content-type", content_type);
    Answer::to(request.body(body)).await
}

/// A form of parts with these heads, behind a prompt of its own.
fn form(prompt: &str, parts: &[(&str, &[u8])]) -> Vec<u8> {
    let mut body = format!("--B\r\nContent-Disposition: form-data; name=\"prompt\"\r\n\r\n{prompt}\r\n").into_bytes();
    for (head, bytes) in parts {
        body.extend_from_slice(format!("--B\r\nContent-Disposition: form-data; {head}\r\n\r\n").as_bytes());
        body.extend_from_slice(bytes);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"--B--\r\n");
    body
}

const FORM: &str = "multipart/form-data; boundary=B";
const PATHS: [&str; 2] = ["/v1/images/edits", "/v1/images/generations"];

#[tokio::test]
async fn pictures_under_other_names_are_bought_with_in_their_order() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    let (one, two) = (picture(1), picture(2));
    let both = [digest(&one), digest(&two)];
    for (index, names) in
        [["image_1", "image_2"], ["image2", "image1"], ["image", "reference_image"], ["Image", "input_image"]]
            .into_iter()
            .enumerate()
    {
        let sorted = if names[0] == "image2" { [&two, &one] } else { [&one, &two] };
        let edit = Edit::bare(&format!("form {index}"))
            .picture(names[0], sorted[0].clone())
            .picture(names[1], sorted[1].clone());
        gateway.alice().edit_at(PATHS[index % 2], &edit).await.picture();
        assert_eq!(newest_inputs(&upstream).await, both, "{names:?}");
    }
    let urls = [data_url(&one), data_url(&two)];
    for (index, fields) in [
        json!({"image_urls": urls}),
        json!({"image": urls[0], "reference_images": [urls[1]]}),
        json!({"image_2": urls[1], "image_1": {"url": urls[0]}}),
        json!({"extra_body": {"image": urls}}),
    ]
    .into_iter()
    .enumerate()
    {
        for path in PATHS {
            let mut body = fields.clone();
            body["prompt"] = format!("json {index} {path}").into();
            gateway.alice().begin_json(path, &body).answer().await.picture();
            assert_eq!(newest_inputs(&upstream).await, both, "{fields}");
        }
    }
}

#[tokio::test]
async fn masks_under_other_names_are_used() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    for name in ["mask_image", "masks", "Mask"] {
        let edit = Edit::bare(name).field("model", "gpt-image-1").picture("image", picture(1)).picture(name, mask());
        gateway.alice().edit(&edit).await.picture();
        let newest = upstream.predictions().await.pop().unwrap();
        assert!(newest.to_string().contains(&digest(&mask())), "{newest}");
    }
}

#[tokio::test]
async fn pictures_that_cannot_be_used_are_refused_by_name_before_anything_is_bought() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    let url = data_url(&picture(1));
    for (fields, code, words) in [
        (json!({"images": [url, null, url]}), "unsupported_parameter", "'image[1]' is null"),
        (json!({"images": [url, "", url]}), "unsupported_parameter", "'image[1]' is an empty string"),
        (json!({"image": url, "subject": url}), "unsupported_parameter", "'subject' holds a picture"),
        (json!({"image": url, "input": [{"image_url": url}]}), "unsupported_parameter", "'input' holds a picture"),
        (json!({"image": url, "face_mask": url}), "unsupported_parameter", "send it as 'mask'"),
        (json!({"image": "/etc/passwd"}), "invalid_value", "a path"),
        (json!({"image": "null"}), "invalid_value", "the word 'null'"),
        (json!({"image": "AQIDBAUGBwgJCgsM"}), "invalid_value", "no picture"),
        (json!({"image": {"file_id": "file-1"}}), "unsupported_file_id", "file_id"),
        (json!({"mask": url}), "", "'mask'"),
    ] {
        for path in PATHS {
            let mut body = fields.clone();
            body["prompt"] = "x".into();
            let answer = gateway.alice().begin_json(path, &body).answer().await;
            assert_eq!(answer.status, 400, "{path} {fields}: {}", answer.text());
            let message = answer.message();
            assert!(
                message.contains(words) || fields.get("mask").is_some() && message.contains("'image'"),
                "{message}"
            );
            assert!(code.is_empty() || answer.json()["error"]["code"] == code, "{}", answer.text());
            assert!(!message.contains("octet-stream"), "{message}");
        }
    }
    let stranger = Edit::bare("x").picture("image", picture(1)).picture("attachment", picture(2));
    let answer = gateway.alice().edit(&stranger).await;
    answer.is_refused(400, "unsupported_parameter");
    assert!(answer.message().contains("'attachment' holds a file"), "{}", answer.message());
    let answer = gateway.alice().edit(&Edit::bare("x").field("seed", "7")).await;
    answer.is_refused(400, "missing_required_parameter");
    assert!(
        answer.message().starts_with("Missing required parameter: 'image'. Your request has only "),
        "{}",
        answer.message()
    );
    assert!(answer.message().contains("'seed'"), "{}", answer.message());
    assert_eq!(upstream.submits().await, 0);
}

#[tokio::test]
async fn notes_and_addresses_of_pages_refuse_nothing_and_copies_are_sent_once() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    let url = data_url(&picture(1));
    let page = "https://app.example.com/page";
    for fields in [
        json!({"metadata": {"source": page, "logo": "https://example.com/logo.png"}}),
        json!({"image_webhook_url": page}),
        json!({"source": page}),
        json!({"images": [url]}),
        json!({"image_url": url}),
        json!({"mime_type": "image/webp"}),
    ] {
        let mut body = fields.clone();
        body["prompt"] = fields.to_string().chars().take(30).collect::<String>().into();
        body["image"] = url.clone().into();
        gateway.alice().edit_json(body).await.picture();
        assert_eq!(newest_inputs(&upstream).await, [digest(&picture(1))], "{fields}");
    }
    let bought = upstream.submits().await;
    let parts = [("name=\"image_1\"", picture(1)), ("name=\"image_2\"", Vec::new()), ("name=\"image_3\"", picture(2))];
    let parts: Vec<(&str, &[u8])> = parts.iter().map(|(head, bytes)| (*head, bytes.as_slice())).collect();
    let answer = send(&gateway, PATHS[0], FORM, form("the third", &parts)).await;
    answer.is_refused(400, "unsupported_parameter");
    assert!(answer.message().contains("'image_2' is empty"), "{}", answer.message());
    assert_eq!(upstream.submits().await, bought);
    let config: (&str, &[u8]) = ("name=\"image_config\"", br#"{"aspect_ratio":"16:9"}"#);
    let model: (&str, &[u8]) = ("name=\"model\"", b"gpt-image-2");
    let body = form("an object in a form", &[model, config, ("name=\"image\"", &picture(1))]);
    let answer = send(&gateway, PATHS[0], FORM, body).await;
    assert_eq!(answer.json()["size"], "1536x864", "{}", answer.text().get(..300).unwrap_or_default());
}

#[tokio::test]
async fn where_the_operator_says_so_they_are_left_out_and_named() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::with(&upstream, &[("server.unsupported_parameters", "drop")]).await;
    let url = data_url(&picture(1));
    let body = json!({"prompt": "x", "images": [url, null], "subject": data_url(&picture(2)), "seed": 7});
    let answer = gateway.alice().edit_json(body).await;
    answer.picture();
    assert_eq!(answer.header("x-gateway-dropped"), "image[1],subject");
    assert_eq!(newest_inputs(&upstream).await, [digest(&picture(1))]);
}

#[tokio::test]
async fn a_generation_with_pictures_is_an_edit_of_them() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    let body = json!({
        "prompt": "x", "model": "gpt-image-1", "quality": "low", "size": "auto", "image": data_url(&picture(1)),
        "mask": data_url(&mask()),
    });
    let made = gateway.alice().generate(body.clone()).await;
    made.picture();
    assert!(made.json()["usage"]["input_tokens_details"]["image_tokens"].as_u64().unwrap() > 0, "{}", made.text());
    assert_eq!(newest_inputs(&upstream).await.first(), Some(&digest(&picture(1))));
    let again = gateway.alice().edit_json(body.clone()).await;
    assert_eq!(again.cache(), "hit", "the same edit at either endpoint is one purchase");
    assert_eq!(upstream.purchases().await, 1);
    for (path, event) in PATHS.into_iter().zip(["image_edit.completed", "image_generation.completed"]) {
        let mut body = body.clone();
        body["stream"] = true.into();
        let events = gateway.alice().begin_json(path, &body).answer().await.text();
        assert!(
            events.contains(&format!("event: {event}\n")),
            "{path}: {}",
            events.chars().take(200).collect::<String>()
        );
    }
    assert_eq!(upstream.purchases().await, 1);
    let lone = json!({"prompt": "x", "model": "gpt-image-1", "mask": data_url(&mask())});
    let answer = gateway.alice().generate(lone).await;
    answer.is_refused(400, "unsupported_parameter");
    assert!(answer.message().contains("/v1/images/edits"), "{}", answer.message());
}

#[tokio::test]
async fn parts_are_read_as_they_declare_themselves() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    let url = data_url(&picture(1));
    let base64 = url.split(',').nth(1).unwrap();
    let list = json!([url]).to_string();
    let quoted = json!(url).to_string();
    let file = "name=\"image\"; filename=\"a.png\"\r\nContent-Type: image/png";
    let encoded = format!("{file}\r\nContent-Transfer-Encoding: base64");
    let whole = picture(1);
    for (index, (head, bytes)) in [
        ("name=\"image\"", url.as_bytes()),
        ("name=\"image[]\"", base64.as_bytes()),
        ("name=\"images\"", list.as_bytes()),
        ("name=\"image\"\r\nContent-Type: application/json", quoted.as_bytes()),
        (file, base64.as_bytes()),
        (&encoded, base64.as_bytes()),
        ("name=\"image\"\r\nContent-Transfer-Encoding: binary", &whole),
        ("name=\"image_1\"; filename=\"\"", &whole),
    ]
    .into_iter()
    .enumerate()
    {
        let model: (&str, &[u8]) = ("name=\"model\"\r\nContent-Type: application/json", b"\"gpt-image-1.5\"");
        let user: (&str, &[u8]) = ("name=\"user\"\r\nContent-Type: text/plain; charset=ISO-8859-1", b"caf\xe9");
        let body = form(&format!("parts {index}"), &[model, (head, bytes), user]);
        send(&gateway, PATHS[0], FORM, body).await.picture();
        assert_eq!(newest_inputs(&upstream).await, [digest(&picture(1))], "{head}");
    }
    let prompt: (&str, &[u8]) = ("name=\"prompt\"; filename=\"p.txt\"\r\nContent-Type: text/plain", b"from a file");
    let body = form("from a file", &[prompt, (file, &whole)]);
    send(&gateway, PATHS[0], FORM, body).await.picture();
    let newest: Value = upstream.predictions().await.pop().unwrap();
    assert!(newest.to_string().contains("from a file"), "{newest}");
}

#[tokio::test]
async fn broken_bodies_are_called_what_they_are() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    let whole = form("x", &[("name=\"image\"; filename=\"a.png\"", &picture(1))]);
    let text = String::from_utf8_lossy(&whole).replace("\r\n", "\n").into_bytes();
    for (content_type, body, words) in [
        ("multipart/form-data; boundary=other", whole.clone(), "the form begins with the boundary 'B'"),
        (FORM, text, "end in LF alone"),
        (FORM, Vec::new(), "it is empty"),
        (FORM, b"{\"prompt\":\"x\"}".to_vec(), "it is JSON"),
        (FORM, whole[..whole.len() - 9].to_vec(), "ends before its closing boundary"),
        ("application/json", Vec::new(), "it is empty"),
        ("application/json", b"{\"prompt\":\"a\nb\"}".to_vec(), "a line break in it near byte 12"),
        ("application/json", b"{\"prompt\":\"a \\ud83d b\"}".to_vec(), "half of a surrogate pair"),
        ("application/json", b"{'prompt':'x'}".to_vec(), "double quotes"),
        ("application/json", b"[]".to_vec(), "a JSON array"),
        ("application/json", b"{\"prompt\":\"x\",}".to_vec(), "leave it out"),
        ("application/json", b"{\"prompt\":\"x\"".to_vec(), "it ends before the JSON is complete"),
    ] {
        let answer = send(&gateway, PATHS[0], content_type, body).await;
        answer.is_refused(400, "malformed_body");
        assert!(answer.message().contains(words), "{words}: {}", answer.message());
    }
    assert_eq!(upstream.submits().await, 0);
    let joined = String::from_utf8_lossy(&form("dashes", &[])).into_owned();
    assert!(joined.ends_with("--B--\r\n"));
    let body = form("dashes", &[("name=\"image\"; filename=\"a.png\"", &picture(1))]);
    send(&gateway, PATHS[0], "multipart/form-data; boundary=--B", body.clone()).await.picture();
    let mut unclosed = body[..body.len() - 9].to_vec();
    unclosed.extend_from_slice(b"--B--\r\n");
    assert_eq!(send(&gateway, PATHS[0], FORM, unclosed).await.cache(), "hit", "the line break before the end is added");
    assert_eq!(newest_inputs(&upstream).await, [digest(&picture(1))]);
    let mut marked = b"\xef\xbb\xbf".to_vec();
    marked.extend_from_slice(json!({"prompt": "dashes", "image": data_url(&picture(1))}).to_string().as_bytes());
    assert_eq!(send(&gateway, PATHS[0], "application/json", marked).await.cache(), "hit");
}

#[tokio::test]
async fn base64_whose_plus_signs_became_spaces_is_restored() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    let (seed, text) = (1..=255)
        .map(|seed| (seed, data_url(&picture(seed))))
        .find(|(_, text)| text.matches('+').count() % 4 == 0 && text.matches('+').count() > 0)
        .unwrap();
    for (index, damaged) in
        [text.replace('+', " "), text.replace('+', "%2B"), text[22..].replace('+', " ")].iter().enumerate()
    {
        let body = json!({"prompt": format!("plus {index}"), "image": damaged});
        gateway.alice().edit_json(body).await.picture();
        assert_eq!(newest_inputs(&upstream).await, [digest(&picture(seed))]);
    }
}

#[tokio::test]
async fn pictures_inside_other_values_are_refused_by_name() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    let url = data_url(&picture(1));
    let address = "https://cdn.example.com/abc?sig=1";
    for (fields, name) in [
        (json!({"parameters": {"image_url": address}}), "'parameters.image_url'"),
        (json!({"parameters": {"image": url}}), "'parameters.image'"),
        (json!({"generationConfig": {"imageConfig": {"image": url}}}), "'generationConfig.imageConfig.image'"),
        (json!({"size": {"like": url}}), "'size.like'"),
        (json!({"style": {"image_url": url}}), "'style'"),
        (json!({"style": [url]}), "'style'"),
        (json!({"style": url}), "'style'"),
        (json!({"style": "https://example.com/ref.png"}), "'style'"),
        (json!({"format": {"image": url}}), "'format'"),
        (json!({"images": [{"image_url": url, "mask": url}]}), "'image.mask'"),
        (json!({"image": {"url": url, "reference": {"url": url}}}), "'image.reference'"),
    ] {
        for path in PATHS {
            let mut body = fields.clone();
            body["prompt"] = "x".into();
            if path == PATHS[0] && body.get("image").is_none() && body.get("images").is_none() {
                body["image"] = url.clone().into();
            }
            let answer = gateway.alice().begin_json(path, &body).answer().await;
            answer.is_refused(400, "unsupported_parameter");
            assert!(answer.message().contains(name), "{name}: {}", answer.message());
        }
    }
    assert_eq!(upstream.submits().await, 0);
}

#[tokio::test]
async fn parameters_in_an_object_of_another_api_are_used_and_what_is_not_known_there_is_named() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    let body = json!({
        "model": "gpt-image-1.5", "size": "256x256",
        "parameters": {"prompt": "a cat", "quality": "low", "seed": 7},
    });
    let answer = gateway.alice().begin_json(PATHS[1], &body).answer().await;
    answer.picture();
    assert_eq!(answer.header("x-gateway-ignored"), "parameters.seed");
    assert_eq!(answer.header("x-gateway-renamed"), "parameters.prompt=prompt,parameters.quality=quality");
    let bought = upstream.prediction().await;
    assert_eq!((&bought["parameters"]["prompt"], &bought["parameters"]["quality"]), (&json!("a cat"), &json!("low")));
    let contradiction = json!({"prompt": "a cat", "quality": "high", "parameters": {"quality": "low"}});
    gateway.alice().begin_json(PATHS[1], &contradiction).answer().await.is_refused(400, "duplicate_parameter");
    assert_eq!(upstream.submits().await, 1);
}
