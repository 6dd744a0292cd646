//! Edits and generations: every parameter reaches the upstream, and a whole picture is returned.

use reqwest::Method;
use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};

use crate::harness::{Answer, Client, Edit, Gateway, Raw, Upstream, data_url, digest, mask, picture, size_of};

/// Digests of the pictures that a prediction received, in order.
fn inputs(prediction: &Value) -> Vec<String> {
    let inputs = prediction["inputs"].as_array().unwrap();
    inputs.iter().map(|input| input["digest"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_form_edit_returns_a_picture_of_the_requested_size() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;

    let answer = gateway.alice().edit(&Edit::new("make it a winter night")).await;

    assert_eq!(size_of(&answer.picture()), (256, 256));
    assert_eq!(answer.header("content-type"), "application/json");
    assert_eq!(answer.cache(), "miss");
    assert!(answer.header("x-request-id").starts_with("req_"));
    assert!(!answer.header("openai-processing-ms").is_empty());
    let prediction = upstream.prediction().await;
    assert!(answer.header("x-gateway-prediction").starts_with("pred_"));
    assert_eq!(answer.header("x-gateway-upstream-id"), prediction["id"].as_str().unwrap());
    assert_eq!(inputs(&prediction), [digest(&picture(1))]);
}

#[tokio::test]
async fn the_response_has_the_shape_recorded_at_openai() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    let answer = gateway.alice().edit(&Edit::new("make it a winter night")).await;

    insta::assert_json_snapshot!(
        answer.json(),
        {".created" => "[seconds]", ".data[].b64_json" => "[base64]"},
        @r#"
    {
      "background": "opaque",
      "created": "[seconds]",
      "data": [
        {
          "b64_json": "[base64]"
        }
      ],
      "output_format": "png",
      "quality": "low",
      "size": "256x256",
      "usage": {
        "input_tokens": 200,
        "input_tokens_details": {
          "image_tokens": 194,
          "text_tokens": 6
        },
        "output_tokens": 13,
        "output_tokens_details": {
          "image_tokens": 13,
          "text_tokens": 0
        },
        "total_tokens": 213
      }
    }
    "#
    );
    assert!(answer.json()["created"].is_u64());
    let text = answer.text();
    let fields = ["created", "background", "data", "output_format", "quality", "size", "usage"];
    let positions = fields.map(|key| text.find(&format!("\"{key}\":")).unwrap());
    assert!(positions.is_sorted(), "the fields have the recorded order");
}

#[tokio::test]
async fn every_parameter_reaches_the_upstream_explicitly() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;

    gateway.alice().edit(&Edit::new("make it a winter night").field("background", "transparent")).await.picture();

    let prediction = upstream.prediction().await;
    assert_eq!(prediction["model"], "gpt-image-1.5");
    assert_eq!(prediction["capability"], "image-edit");
    assert_eq!(prediction["headers"]["authorization"], "bearer");
    let parameters = &prediction["parameters"];
    for (name, value) in [
        ("prompt", json!("make it a winter night")),
        ("n", json!(1)),
        ("size", json!("256x256")),
        ("quality", json!("low")),
        ("background", json!("transparent")),
        ("enable_sync_mode", json!(false)),
        ("response_format", json!("url")),
    ] {
        assert_eq!(parameters[name], value, "{name} in {parameters}");
    }
}

#[tokio::test]
async fn several_pictures_and_a_mask_arrive_in_order() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    // Both names of the field, mixed, with the mask between them.
    let edit = Edit::bare("put them together")
        .picture("image[]", picture(7))
        .picture("mask", mask())
        .picture("image", picture(3))
        .picture("image[2]", picture(5));

    gateway.alice().edit(&edit).await.picture();

    let prediction = upstream.prediction().await;
    assert_eq!(inputs(&prediction), [7, 3, 5].map(|seed| digest(&picture(seed))));
    assert_eq!(prediction["mask"]["digest"], json!(digest(&mask())));
}

#[tokio::test]
async fn every_json_form_sends_the_same_bytes() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    let url = data_url(&picture(1));
    let bare = base64_simd::STANDARD.encode_to_string(picture(1));
    let shapes = [
        json!({"images": [{"image_url": url}]}),
        json!({"images": [{"image_url": {"url": url}}]}),
        json!({"images": [{"url": url, "type": "image_url"}]}),
        json!({"images": [{"b64_json": bare}]}),
        json!({"images": [url]}),
        json!({"image": {"url": url, "type": "image_url"}}),
        json!({"image": url}),
        json!({"image": bare}),
    ];
    for (number, shape) in shapes.iter().enumerate() {
        let mut body = shape.clone();
        body["prompt"] = json!(format!("shape {number}"));
        let answer = gateway.alice().edit_json(body).await;
        assert_eq!(size_of(&answer.picture()), (256, 256), "{shape}");
        let predictions = upstream.predictions().await;
        assert_eq!(predictions.len(), number + 1, "{shape}");
        assert_eq!(inputs(&predictions[number]), [digest(&picture(1))], "{shape}");
    }
}

#[tokio::test]
async fn a_json_edit_takes_several_pictures_a_mask_and_addresses() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    let mask_reference = json!({"image_url": data_url(&mask())});
    let images = json!([{"image_url": data_url(&picture(9))}, {"image_url": data_url(&picture(2))}]);

    let with_mask = json!({"prompt": "masked", "images": images, "mask": mask_reference});
    gateway.alice().edit_json(with_mask).await.picture();
    let address = "https://example.com/cat.png";
    gateway.alice().edit_json(json!({"prompt": "by address", "images": [{"image_url": address}]})).await.picture();

    let predictions = upstream.predictions().await;
    assert_eq!(inputs(&predictions[0]), [digest(&picture(9)), digest(&picture(2))]);
    assert_eq!(predictions[0]["mask"]["digest"], json!(digest(&mask())));
    assert_eq!(predictions[1]["inputs"][0]["url"], json!(address), "passed on, not fetched");
}

#[tokio::test]
async fn a_generation_makes_a_picture_from_a_prompt() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;

    let answer = gateway.alice().generate(json!({"prompt": "a lighthouse"})).await;

    assert_eq!(size_of(&answer.picture()), (256, 256));
    assert_eq!(upstream.prediction().await["capability"], "text-to-image");
}

#[tokio::test]
async fn two_pictures_are_one_purchase_when_the_model_makes_two() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    let edit = Edit::new("twice").field("model", "gpt-image-2").field("size", "1024x1024").field("n", "2");

    let pictures = gateway.alice().edit(&edit).await.pictures();

    assert_eq!(pictures.len(), 2);
    assert_ne!(pictures[0], pictures[1]);
    assert_eq!(upstream.prediction().await["parameters"]["n"], json!(2));
}

#[tokio::test]
async fn two_pictures_are_two_purchases_when_the_model_makes_one() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    let edit = Edit::new("twice")
        .field("model", "gpt-image-2-plus")
        .field("size", "1254x1254")
        .field("n", "2")
        .without("quality");

    let answer = gateway.alice().edit(&edit).await;

    assert_eq!(answer.pictures().len(), 2);
    assert_eq!(answer.header("x-gateway-prediction").split(',').count(), 1);
    assert_eq!(answer.header("x-gateway-upstream-id").split(',').count(), 2);
    let predictions = upstream.predictions().await;
    assert_eq!(predictions.len(), 2);
    for prediction in predictions {
        assert_eq!(prediction["parameters"].get("n"), None);
        assert_eq!(prediction["parameters"].get("quality"), None);
    }
}

#[tokio::test]
async fn a_result_url_works_without_a_key_and_not_when_altered() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    let edit = Edit::new("by address").field("response_format", "url");

    let answer = gateway.alice().edit(&edit).await;

    assert_eq!(answer.status, 200, "{}", answer.text());
    let item = answer.json()["data"][0].clone();
    assert_eq!(item.get("b64_json"), None);
    let url = item["url"].as_str().unwrap().to_owned();
    assert!(url.contains(".png?s=") && !url.contains('&'), "{url}");
    let anonymous = gateway.client("");
    let shown = anonymous.get(&url).await;
    assert_eq!((shown.status, shown.header("content-type")), (200, "image/png"));
    assert_eq!(size_of(&shown.bytes), (256, 256));
    let last = url.chars().last().unwrap();
    let forged = format!("{}{}", &url[..url.len() - 1], if last == '0' { '1' } else { '0' });
    let longer = url.replace("?s=", "?s=9");
    let other = url.replace("/0.png", "/1.png");
    let bare = url.split('?').next().unwrap().to_owned();
    for altered in [forged, longer, other, bare] {
        assert_ne!(altered, url);
        anonymous.get(&altered).await.is_refused(403, "invalid_result_address");
    }
}

#[tokio::test]
async fn a_pictures_type_comes_from_its_bytes_not_from_the_form() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    for (number, declared) in [Some("application/octet-stream"), None, Some("image/jpeg")].into_iter().enumerate() {
        let edit = Edit::bare(&format!("declared {declared:?}")).picture_as("image", picture(1), declared);
        gateway.alice().edit(&edit).await.picture();
        assert_eq!(inputs(&upstream.predictions().await[number]), [digest(&picture(1))], "{declared:?}");
    }
}

#[tokio::test]
async fn a_chunked_body_is_read() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    let bytes = picture(1);
    let (first, second) = bytes.split_at(40);
    let pieces: Vec<std::io::Result<Vec<u8>>> = vec![Ok(first.to_vec()), Ok(second.to_vec())];
    let body = reqwest::Body::wrap_stream(futures_util::stream::iter(pieces));
    let form = Form::new()
        .part("image", Part::stream(body).file_name("cat.png"))
        .text("model", "gpt-image-1.5")
        .text("prompt", "chunked")
        .text("size", "256x256")
        .text("quality", "low");

    let request = gateway.alice().request(Method::POST, "/v1/images/edits").multipart(form);
    Answer::to(request).await.picture();

    assert_eq!(inputs(&upstream.prediction().await), [digest(&bytes)]);
}

#[tokio::test]
async fn a_client_that_expects_100_continue_receives_it() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    let body = json!({
        "model": "gpt-image-1.5", "prompt": "patiently", "quality": "low", "size": "256x256",
        "image": data_url(&picture(1)),
    })
    .to_string();
    let head = format!(
        "POST /v1/images/edits HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n",
        crate::harness::ALICE,
        body.len(),
    );

    let mut raw = Raw::to(&gateway.address()).await;
    raw.send(head).await;
    let interim = raw.until("\r\n\r\n").await;
    assert!(interim.starts_with("HTTP/1.1 100 Continue\r\n"), "{interim}");
    raw.send(body).await;

    let answer = raw.rest().await;
    assert!(answer.contains("HTTP/1.1 200 OK\r\n") && answer.contains("b64_json"), "{answer}");
}

#[tokio::test]
async fn every_spelling_of_the_path_works() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    let paths = [
        "/v1/images/edits",
        "/v1/images/edits/",
        "/images/edits",
        "/images/edits/",
        "/v1/images/edits?api-version=2026-01-01",
    ];
    for path in paths {
        gateway.alice().edit_at(path, &Edit::new("the same for all")).await.picture();
    }
    assert_eq!(upstream.purchases().await, 1, "all of them are the same request");
}

#[tokio::test]
async fn a_multipart_form_of_dotnet_is_read() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    let mut body = Vec::new();
    for (name, value) in [("model", "gpt-image-1.5"), ("prompt", "from .NET"), ("size", "256x256"), ("quality", "low")]
    {
        body.extend(
            format!(
                "--b=x_1\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Disposition: form-data; name={name}\r\n\r\n{value}\r\n"
            )
            .into_bytes(),
        );
    }
    body.extend(
        b"--b=x_1\r\nContent-Disposition: form-data; name=image; filename=\"Assets/x.png\"; filename*=utf-8''Assets%2fx.png\r\n\r\n",
    );
    body.extend(picture(4));
    body.extend(b"\r\n--b=x_1--\r\n\r\n");

    let request = gateway.alice().request(Method::POST, "/v1/images/edits");
    let request = request.header("content-type", "multipart/form-data; boundary=\"b=x_1\"").body(body);
    Answer::to(request).await.picture();

    assert_eq!(inputs(&upstream.prediction().await), [digest(&picture(4))]);
}

#[tokio::test]
async fn the_models_are_listed_as_openai_lists_them() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    let client: Client = gateway.alice();

    let list = client.get("/v1/models").await.json();
    assert_eq!(list["object"], "list");
    let models = list["data"].as_array().unwrap();
    assert!(models.iter().any(|model| model["id"] == "gpt-image-1.5" && model["object"] == "model"), "{list}");
    assert_eq!(client.get("/v1/models/gpt-image-2").await.json()["id"], "gpt-image-2");
    client.get("/v1/models/no-such-model").await.is_refused(404, "model_not_found");
    assert_eq!(upstream.submits().await, 0);
}
