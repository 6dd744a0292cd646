//! The bodies of submits in every format, where the tests of one API do not show them.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::model::{Failure, Input, PictureRequest, Size, Task};
use crate::upstream::SubmitError;
use crate::upstream::formats::{InputMethod, RequestFormat};
use crate::upstream::gptproto::tests::{adapter, call, input, input_urls, json, request, sent};

fn links(model: &str) -> PictureRequest {
    let links = ["https://x.example/1.png?a=1&b=\"2\"", "https://x.example/2.png"];
    PictureRequest { inputs: links.map(|link| Input::Link(link.to_owned())).to_vec(), ..request(model) }
}

fn text_to_image(model: &str) -> PictureRequest {
    PictureRequest { task: Task::Generate, inputs: Vec::new(), ..request(model) }
}

async fn body(request: &PictureRequest, pictures: u8, format: &RequestFormat) -> Value {
    json(adapter(None).call(request, pictures, format).unwrap().0).await
}

/// Returns why a request cannot be written in a format.
fn problem(request: &PictureRequest, pictures: u8, format: &RequestFormat) -> String {
    match adapter(None).call(request, pictures, format) {
        Err(SubmitError::Rejected(Failure::InvalidRequest { message })) => message,
        other => panic!("{format:?}: {other:?}"),
    }
}

#[tokio::test]
async fn text_to_image_has_no_field_for_pictures() {
    let format = RequestFormat::documented(InputMethod::None);
    let (call, _) = adapter(None).call(&text_to_image("gpt-image-2"), 2, &format).unwrap();
    assert_eq!(call.path, "/api/v3/openai/gpt-image-2/text-to-image");
    insta::assert_json_snapshot!(json(call).await, @r##"
    {
      "enable_sync_mode": false,
      "n": 2,
      "prompt": "say \"hi\"\n",
      "quality": "low",
      "response_format": "url",
      "size": "1024x1024"
    }
    "##);
}

#[tokio::test]
async fn data_uris_and_a_mask_are_in_their_own_fields() {
    let mut request = request("gpt-image-1.5");
    request.mask = Some(input(b"mask"));
    insta::assert_json_snapshot!(body(&request, 1, &RequestFormat::documented(InputMethod::Base64Images)).await, @r##"
    {
      "base64_images": [
        "data:image/png;base64,b25l",
        "data:image/png;base64,dHdv"
      ],
      "enable_sync_mode": false,
      "mask": "data:image/png;base64,bWFzaw==",
      "n": 1,
      "prompt": "say \"hi\"\n",
      "quality": "low",
      "response_format": "url",
      "size": "1024x1024"
    }
    "##);
}

#[tokio::test]
async fn addresses_are_in_the_documented_field_or_the_other_one() {
    let links = links("gpt-image-2");
    insta::assert_json_snapshot!(body(&links, 2, &RequestFormat::documented(InputMethod::Links)).await, @r##"
    {
      "enable_sync_mode": false,
      "images": [
        "https://x.example/1.png?a=1&b=\"2\"",
        "https://x.example/2.png"
      ],
      "n": 2,
      "prompt": "say \"hi\"\n",
      "quality": "low",
      "response_format": "url",
      "size": "1024x1024"
    }
    "##);
    for (model, documented, other) in [("gpt-image-2", "images", "image"), ("gpt-image-1", "image", "images")] {
        let request = PictureRequest { model: model.into(), ..links.clone() };
        let mut first = body(&request, 1, &RequestFormat::documented(InputMethod::Links)).await;
        let second = body(&request, 1, &RequestFormat::documented(InputMethod::OtherLinks)).await;
        let field = first.as_object_mut().unwrap().remove(documented).unwrap();
        first[other] = field;
        assert_eq!(second, first, "{model}");
    }
}

#[tokio::test]
async fn data_uris_are_in_the_field_for_addresses() {
    let mut request = request("gpt-image-1.5");
    request.mask = Some(input(b"mask"));
    insta::assert_json_snapshot!(body(&request, 1, &RequestFormat::documented(InputMethod::DataUris)).await, @r##"
    {
      "enable_sync_mode": false,
      "image": [
        "data:image/png;base64,b25l",
        "data:image/png;base64,dHdv"
      ],
      "mask": "data:image/png;base64,bWFzaw==",
      "n": 1,
      "prompt": "say \"hi\"\n",
      "quality": "low",
      "response_format": "url",
      "size": "1024x1024"
    }
    "##);
}

#[tokio::test]
async fn files_are_published_only_where_the_format_has_addresses() {
    for (method, urls) in [
        (InputMethod::Base64Images, 0),
        (InputMethod::DataUris, 0),
        (InputMethod::Multipart, 0),
        (InputMethod::Links, 3),
        (InputMethod::OtherLinks, 3),
    ] {
        let mut request = request("gpt-image-1.5");
        request.mask = Some(input(b"mask"));
        let (call, _guards) = call(Some(input_urls()), &request, 1, method);
        let body = String::from_utf8(sent(call).await.to_vec()).unwrap();
        assert_eq!(body.matches("https://gateway.example/v1/inputs/").count(), urls, "{method:?}");
    }
}

#[tokio::test]
async fn a_streamed_form_asks_for_partial_pictures_and_is_otherwise_the_same() {
    let form = async |method| {
        let (call, _) = call(None, &request("gpt-image-2"), 1, method);
        assert_eq!(call.path, "/v1/images/edits");
        let boundary = call.content_type.strip_prefix("multipart/form-data; boundary=").unwrap().to_owned();
        let body = String::from_utf8(sent(call).await.to_vec()).unwrap();
        body.replace(&boundary, "BOUNDARY").replace("\r\n", "\n")
    };
    let (plain, streamed) = (form(InputMethod::Multipart).await, form(InputMethod::MultipartStream).await);
    let part =
        |name: &str, value: &str| format!("--BOUNDARY\nContent-Disposition: form-data; name=\"{name}\"\n\n{value}\n");
    let added = part("stream", "true") + &part("partial_images", "2");
    assert!(streamed.contains(&added), "{streamed}");
    assert_eq!(streamed.replacen(&added, "", 1), plain);

    let (call, _) = call(None, &text_to_image("gpt-image-2"), 1, InputMethod::MultipartStream);
    assert_eq!(call.path, "/v1/images/generations");
    insta::assert_json_snapshot!(json(call).await, @r##"
    {
      "background": "opaque",
      "model": "gpt-image-2",
      "moderation": "auto",
      "n": 1,
      "output_format": "png",
      "partial_images": 2,
      "prompt": "say \"hi\"\n",
      "quality": "low",
      "size": "1024x1024",
      "stream": true
    }
    "##);
}

#[tokio::test]
async fn parameters_are_left_out_and_the_size_is_replaced_at_every_api() {
    let mut request = request("gpt-image-1.5");
    request.choices.set("background", "opaque");
    for method in [InputMethod::Base64Images, InputMethod::Unified] {
        let mut all = body(&request, 1, &RequestFormat::documented(method)).await;
        let omitted = ["n", "quality", "background"].map(str::to_owned);
        let size = Some(Size { width: 1254, height: 1254 });
        let format = RequestFormat { omitted: omitted.clone().into(), size, ..RequestFormat::documented(method) };
        for name in omitted {
            assert!(all.as_object_mut().unwrap().remove(&name).is_some(), "{method:?}: {name}");
        }
        all["size"] = "1254x1254".into();
        assert_eq!(body(&request, 1, &format).await, all, "{method:?}");
    }
    let format = RequestFormat {
        omitted: BTreeSet::from(["quality".to_owned()]),
        ..RequestFormat::documented(InputMethod::Multipart)
    };
    let (call, _) = adapter(None).call(&request, 1, &format).unwrap();
    let body = String::from_utf8(sent(call).await.to_vec()).unwrap();
    assert!(!body.contains("name=\"quality\"") && body.contains("name=\"background\""), "{body}");
}

#[test]
fn a_format_that_would_alter_the_request_is_rejected() {
    let documented = RequestFormat::documented(InputMethod::Base64Images);
    let without = |name: &str| RequestFormat { omitted: BTreeSet::from([name.to_owned()]), ..documented.clone() };
    let size = Some(Size { width: 1254, height: 1254 });
    let asked = |name: &str| PictureRequest { explicit: BTreeSet::from([name.to_owned()]), ..request("gpt-image-1.5") };
    let text = problem(&asked("quality"), 1, &without("quality"));
    assert!(text.contains("base64_images, without quality") && text.contains("the client asked for"), "{text}");
    problem(&asked("size"), 1, &RequestFormat { size, ..documented.clone() });
    problem(&asked("n"), 2, &without("n"));
    problem(&request("gpt-image-1.5"), 2, &without("n"));
    assert!(adapter(None).call(&asked("n"), 1, &without("n")).is_ok(), "one picture is the default");
    assert!(adapter(None).call(&asked("size"), 1, &without("quality")).is_ok());
}

#[test]
fn pictures_that_a_format_cannot_have_are_never_left_out() {
    let (files, links) = (request("gpt-image-1.5"), links("gpt-image-1.5"));
    for method in [InputMethod::None, InputMethod::Links, InputMethod::OtherLinks] {
        problem(&files, 1, &RequestFormat::documented(method));
    }
    for method in [
        InputMethod::None,
        InputMethod::Base64Images,
        InputMethod::DataUris,
        InputMethod::Multipart,
        InputMethod::MultipartStream,
    ] {
        problem(&links, 1, &RequestFormat::documented(method));
    }
    let masked = |model| PictureRequest { mask: Some(input(b"mask")), ..request(model) };
    problem(&masked("gpt-image-2"), 1, &RequestFormat::documented(InputMethod::Base64Images));
    problem(&masked("gpt-image-2"), 1, &RequestFormat::documented(InputMethod::Unified));
    problem(&masked("gpt-image-2-plus"), 1, &RequestFormat::documented(InputMethod::Multipart));
    problem(&text_to_image("gpt-image-2"), 1, &RequestFormat::documented(InputMethod::Base64Images));
}
