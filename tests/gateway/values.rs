//! Values as clients write them: what they plainly mean reaches the upstream, and what cannot be had is refused by name
//! before anything is bought.

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Answer, Edit, Gateway, Upstream, data_url, mask, picture, size_of, until};

/// A generation with exactly these members, beside its prompt.
async fn generate(gateway: &Gateway, members: Value) -> Answer {
    let mut body = json!({"model": "gpt-image-2", "quality": "low", "prompt": members.to_string()});
    for (name, value) in members.as_object().unwrap() {
        body[name] = value.clone();
    }
    Answer::to(gateway.alice().request(Method::POST, "/v1/images/generations").json(&body)).await
}

#[tokio::test]
async fn values_mean_the_same_in_every_spelling() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    for (name, value) in [
        ("size", " 256x256 "),
        ("size", "256X256"),
        ("size", "256×256"),
        ("size", "256*256\r\n"),
        ("size", "256 x 256"),
        ("model", "gpt-image-1.5\n"),
        ("model", "GPT-Image-1.5"),
        ("model", "gpt-image-1.5-2025-12-16"),
        ("model", "azure/gpt-image-1.5"),
        ("model", "openai/GPT-image-1.5"),
        ("quality", "low\r\n"),
        ("quality", " LOW"),
        ("background", " Opaque "),
        ("output_format", "PNG"),
        ("response_format", " B64_JSON "),
        ("n", " 1"),
    ] {
        let answer = gateway.alice().edit(&Edit::new("the same").field(name, value)).await;
        assert_eq!(size_of(&answer.picture()), (256, 256), "{name}={value:?}");
    }
    assert_eq!(upstream.purchases().await, 1, "all of them are one request");
}

#[tokio::test]
async fn fields_of_other_apis_shape_what_is_bought() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    let cases = [
        (json!({"aspect_ratio": "16:9"}), "1536x864"),
        (json!({"aspectRatio": "9:16"}), "864x1536"),
        (json!({"size": "3:2"}), "1536x1024"),
        (json!({"width": 1280, "height": 960}), "1280x960"),
        (json!({"image_size": "square_hd"}), "1024x1024"),
        (json!({"image_size": {"width": 1280, "height": 960}}), "1280x960"),
        (json!({"image_config": {"aspect_ratio": "16:9", "image_size": "2K"}}), "2048x1152"),
        (json!({"imageConfig": {"aspectRatio": "2:3"}}), "1024x1536"),
        (json!({"resolution": "2K"}), "2048x2048"),
        (json!({"size": "auto", "ratio": "1:1"}), "1024x1024"),
    ];
    for (number, (members, size)) in cases.iter().enumerate() {
        let answer = generate(&gateway, members.clone()).await;
        assert_eq!(answer.json()["size"], *size, "{members}: {}", answer.text().get(..300).unwrap_or_default());
        assert_eq!(answer.header("x-gateway-ignored"), "", "{members}");
        assert_eq!(upstream.predictions().await[number]["parameters"]["size"], *size, "{members}");
    }
    for (members, pictures) in [(json!({"num_images": 2, "size": "1024x1024"}), 2), (json!({"numberOfImages": "3"}), 3)]
    {
        assert_eq!(generate(&gateway, members).await.pictures().len(), pictures);
    }
    let form = Edit::new("in a form").field("model", "gpt-image-2").without("size").field("image_size[width]", "1280");
    let answer = gateway.alice().edit(&form.field("image_size[height]", "960")).await;
    assert_eq!(answer.json()["size"], "1280x960");
}

#[tokio::test]
async fn fields_that_are_read_as_others_are_named() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    let url = data_url(&picture(1));
    for (members, named) in [
        (json!({"aspect_ratio": "16:9"}), "aspect_ratio=size"),
        (json!({"width": 1280, "height": 960}), "height=size,width=size"),
        (json!({"image_config": {"aspect_ratio": "16:9"}}), "image_config.aspect_ratio=size"),
        (json!({"num_images": 2}), "num_images=n"),
        (json!({"format": "jpg"}), "format=output_format"),
        (json!({"format": "json"}), ""),
        (json!({"image_url": url, "maskImage": null}), "image_url=image"),
        (json!({"image": url, "Mask_Image": data_url(&mask()), "model": "gpt-image-1"}), "Mask_Image=mask"),
        (json!({"images": [url], "image[]": url}), ""),
        (json!({"extra_body": {"image_2": url}}), "extra_body=its-members,image_2=image"),
        (json!({"size": "1024x1024", "seed": 1}), ""),
    ] {
        let answer = generate(&gateway, members.clone()).await;
        assert_eq!((answer.status, answer.header("x-gateway-renamed")), (200, named), "{members}");
    }
}

#[tokio::test]
async fn what_cannot_be_had_is_refused_by_name() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    for (members, name) in [
        (json!({"size": "1024x1024", "aspect_ratio": "16:9"}), "aspect_ratio"),
        (json!({"width": 1024}), "width"),
        (json!({"height": 1024}), "height"),
        (json!({"width": 1000, "height": 1000}), "1000x1000"),
        (json!({"resolution": "8K"}), "resolution"),
        (json!({"resolution": "4K", "model": "gpt-image-2-plus", "quality": "auto"}), "resolution"),
        (json!({"aspect_ratio": "20:1"}), "aspect_ratio"),
        (json!({"image_size": {"width": 100, "height": 100}}), "100x100"),
        (json!({"n": 1, "num_images": 2}), "num_images"),
        (json!({"format": "gif"}), "gif"),
        (json!({"size": "null"}), "the word 'null'"),
        (json!({"size": "large"}), "WIDTHxHEIGHT"),
        (json!({"model": "gpt-image-15"}), "Did you mean 'gpt-image-1.5'?"),
    ] {
        let answer = generate(&gateway, members.clone()).await;
        assert!((400..500).contains(&answer.status), "{members}: {}", answer.status);
        assert!(answer.message().contains(name), "{members}: {}", answer.message());
    }
    assert_eq!(upstream.submits().await, 0);
    let answer = gateway.alice().get("/v1/models/gpt-image-22").await;
    answer.is_refused(404, "model_not_found");
    assert!(answer.message().ends_with("Did you mean 'gpt-image-2'?"), "{}", answer.message());
}

#[tokio::test]
async fn fields_without_an_effect_are_named_in_every_kind_of_response() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    let alice = gateway.alice();
    let named = "negative_prompt,seed,strength,style";
    let edit = Edit::new("a cat").field("style", "vivid").field("strength", "0.5");
    let edit = edit.field("seed", "7").field("negative_prompt", "dogs");
    for edit in [
        edit.clone(),
        edit.clone(),
        edit.clone().field("stream", "true"),
        edit.clone().field("prompt", "a dog").field("stream", "true"),
    ] {
        assert_eq!(alice.edit(&edit).await.header("x-gateway-ignored"), named, "{edit:?}");
    }
    let accepted = alice.edit(&edit.clone().field("prompt", "later").header("prefer", "respond-async")).await;
    assert_eq!((accepted.status, accepted.header("x-gateway-ignored")), (202, named));
    let many = (0..60).fold(Edit::new("a cat"), |edit, number| edit.field(&format!("unknown_{number}_é"), "x"));
    let answer = alice.edit(&many).await;
    assert!(answer.header("x-gateway-ignored").ends_with(",+36"), "{}", answer.header("x-gateway-ignored"));
    assert_eq!(alice.edit(&Edit::new("a cat")).await.header("x-gateway-ignored"), "");
    // What was answered with a 202 is bought later.
    until("the third purchase", async || upstream.purchases().await == 3).await;
}

#[tokio::test]
async fn with_drop_all_of_it_is_left_out_and_named() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::with(&upstream, &[("server.unsupported_parameters", "drop")]).await;
    for (name, value) in [
        ("quality", "ultra"),
        ("background", "green"),
        ("output_format", "psd"),
        ("response_format", "png"),
        ("aspect_ratio", "16:9"),
        ("width", "1024"),
        ("num_images", "many"),
        ("n", "undefined"),
        ("moderation", "None"),
        ("resolution", "16K"),
    ] {
        let answer = gateway.alice().edit(&Edit::new(name).field(name, value)).await;
        assert_eq!(size_of(&answer.picture()), (256, 256), "{name}={value}");
        assert_eq!(answer.header("x-gateway-dropped"), name);
    }
    let stream = Edit::new("stream").field("stream", "true").field("response_format", "url");
    let answer = gateway.alice().edit(&stream).await;
    assert_eq!(answer.header("x-gateway-dropped"), "response_format");
    assert!(answer.text().contains("\"b64_json\""));
}

#[tokio::test]
async fn names_of_the_operator_stand_for_models() {
    let upstream = Upstream::start().await;
    let aliases = "dall-e-3=gpt-image-1.5,My-Deployment=gpt-image-2";
    let gateway = Gateway::with(&upstream, &[("models.aliases", aliases)]).await;
    let alice = gateway.alice();
    for name in ["dall-e-3", "DALL-E-3", "openai/dall-e-3"] {
        alice.edit(&Edit::new("by its alias").field("model", name)).await.picture();
    }
    assert!(upstream.prediction().await["model"].as_str().unwrap().contains("gpt-image-1.5"));
    let path = "/openai/deployments/my-deployment/images/generations?api-version=2025-04-01-preview";
    let body = json!({"prompt": "at Azure", "quality": "low"});
    let answer = Answer::to(alice.request(Method::POST, path).json(&body)).await;
    assert_eq!(size_of(&answer.picture()), (1024, 1024));
    assert!(upstream.predictions().await[1]["model"].as_str().unwrap().contains("gpt-image-2"));
    assert_eq!(alice.get("/v1/models/dall-e-3").await.json()["id"], "dall-e-3");
    assert!(!alice.get("/v1/models").await.text().contains("dall-e-3"));
    assert_eq!(upstream.purchases().await, 2);
}

#[tokio::test]
async fn the_operator_decides_how_pictures_travel_by_default() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::with(&upstream, &[("server.response_format_default", "url")]).await;
    let alice = gateway.alice();
    let answer = alice.edit(&Edit::new("an address")).await.json();
    assert!(answer["data"][0]["url"].is_string() && answer["data"][0].get("b64_json").is_none(), "{answer}");
    alice.edit(&Edit::new("an address").field("response_format", "b64_json")).await.picture();
    let stream = alice.edit(&Edit::new("an address").field("stream", "true")).await;
    assert!(stream.text().contains("\"b64_json\""), "a stream is not refused");
}
