use axum::body::Body;
use futures_util::FutureExt;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::api::request::test_support::{content, limits, server, spool};
use crate::model::{Input, Task};

async fn read_bytes(body: impl Into<Body>, task: Task) -> Result<Form, ApiError> {
    let (_directory, spool) = spool();
    let bodies = server().bodies;
    let incoming = IncomingBody::new(body.into(), &bodies);
    read(incoming, &limits(task), &spool, None, &bodies).await
}

async fn read_json(body: Value) -> Result<Form, ApiError> {
    read_bytes(body.to_string(), Task::Edit).await
}

fn parse(text: Arc<dyn ByteSource>, spool: &Spool) -> Result<Form, ApiError> {
    let content = FormContent::new(spool.upload(None).now_or_never().unwrap().unwrap());
    let mut body = StoredBody { text, limits: limits(Task::Edit), content };
    Ok(body.parse(|parser| parser.members(Parser::member))?.0)
}

fn images(form: &Form) -> Vec<Vec<u8>> {
    form.images.iter().map(content).collect()
}

/// The beginnings of two pictures, and the same in base64.
const FIRST: &[u8] = b"\x89PNG\r\n\x1a\n1";
const SECOND: &[u8] = b"\xff\xd8\xff\xe02";
const ONE: &str = "iVBORw0KGgox";
const TWO: &str = "/9j/4DI=";

#[tokio::test]
async fn every_form_of_a_picture_is_accepted() {
    let url = format!("data:image/png;base64,{ONE}");
    let cases = [
        json!({"images": [{"image_url": url}]}),
        json!({"images": [{"image_url": {"url": url, "detail": "high"}}]}),
        json!({"images": [{"image_url": url, "file_id": null}]}),
        json!({"image": {"url": url, "type": "image_url"}}),
        json!({"images": [{"url": url, "type": "image_url"}]}),
        json!({"images": [{"type": "image_url", "b64_json": ONE}]}),
        json!({"image": url}),
        json!({"image": ONE}),
        json!({"image": [ONE]}),
        json!({"image[]": [ONE]}),
        json!({"image": [url], "mask": null, "image_2": null}),
        json!({"image": format!("DATA:;charset=utf-8 ; Base64,{ONE}")}),
        json!({"image": format!("data:application/octet-stream;base64, iVB\nORw\r\n0KGgox ")}),
        json!({"image": format!("  {url}")}),
    ];
    for case in cases {
        assert_eq!(images(&read_json(case.clone()).await.unwrap()), [FIRST], "{case}");
    }
}

#[tokio::test]
async fn order_is_kept_and_masks_have_the_same_forms() {
    let form = read_json(json!({"image": [ONE, {"b64_json": TWO}], "images": [{"url": ONE}]})).await.unwrap();
    assert_eq!(images(&form), [FIRST, SECOND, FIRST]);
    for mask in [json!(TWO), json!([TWO]), json!({"image_url": TWO}), json!([{"url": TWO}])] {
        let form = read_json(json!({"mask": mask, "image": ONE})).await.unwrap();
        assert_eq!(content(form.mask.as_ref().unwrap()), SECOND, "{mask}");
    }
    let error = read_json(json!({"mask": [ONE, TWO]})).await.unwrap_err();
    assert_eq!(error.code(), "duplicate_parameter");
}

#[tokio::test]
async fn addresses_are_passed_on_untouched() {
    let address = "HTTPS://example.com/a%20b.png?x=1&y=é#z";
    for case in [
        json!({"images": [address]}),
        json!({"image": {"image_url": address}}),
        json!({"image": {"image_url": {"url": address}}}),
    ] {
        let form = read_json(case).await.unwrap();
        assert!(matches!(&form.images[..], [Input::Link(link)] if link == address), "{form:?}");
    }
    let long = format!("https://example.com/{}", "x".repeat(8192));
    let error = read_json(json!({"image": long})).await.unwrap_err();
    assert_eq!(error.code(), "string_above_max_length");
    let fits = format!("https://example.com/{}", "x".repeat(5000));
    assert!(
        matches!(&read_json(json!({"image": fits})).await.unwrap().images[..], [Input::Link(link)] if *link == fits)
    );
}

#[tokio::test]
async fn values_that_are_no_picture_are_refused_by_name() {
    let cases = [
        (json!({"images": [{"file_id": "file-abc123"}]}), "unsupported_file_id"),
        (json!({"image": "file-abc123"}), "unsupported_file_id"),
        (json!({"image": 5}), "invalid_type"),
        (json!({"image": [[ONE]]}), "invalid_type"),
        (json!({"image": {"image_url": {"url": {"url": ONE}}}}), "invalid_type"),
        (json!({"image": {}}), "invalid_value"),
        (json!({"image": {"url": ONE, "b64_json": ONE}}), "invalid_value"),
        (json!({"image": "data:image/png,rawbytes"}), "invalid_value"),
        (json!({"image": "ftp://example.com/a.png"}), "invalid_value"),
        (json!({"image": "https://"}), "invalid_value"),
        (json!({"image": "https://example.com/a b.png"}), "invalid_value"),
        (json!({"images": ["https://example.com/a\tb.png"]}), "invalid_value"),
        (json!({"image": "not base64!"}), "invalid_value"),
        (json!({"image": "b25"}), ""),
        (json!({"image": "AQIDBAUG"}), "invalid_value"),
        (json!({"image": "data:image/png;base64,b25"}), ""),
        (json!({"image": "b"}), "invalid_value"),
        (json!({"image": vec![ONE; 17]}), "array_above_max_length"),
        (json!({"image": vec![Value::Null; 17]}), "array_above_max_length"),
    ];
    for (case, code) in cases {
        let got = read_json(case.clone()).await.map_or_else(|error| error.code(), |_| "");
        assert_eq!(got, code, "{case}");
    }
}

#[tokio::test]
async fn pictures_have_many_names_and_are_sorted_by_their_number() {
    let cases = [
        json!({"image_1": ONE, "image_2": TWO}),
        json!({"image_2": TWO, "image_1": ONE}),
        json!({"image": ONE, "image_2": TWO}),
        json!({"image": ONE, "reference_images": [TWO]}),
        json!({"imageUrls": [{"url": ONE}], "image_url": TWO}),
        json!({"inputImages": [ONE], "input_image": TWO}),
        json!({"Image": ONE, "init_image": TWO}),
        json!({"referenceImages": [ONE, {"b64_json": TWO}]}),
        json!({"extra_body": {"image": ONE}, "image-2": TWO}),
        json!({"extra_body": {"image_urls": [ONE], "images": [TWO]}}),
        json!({"extra_json": {"image.0": ONE}, "image.1": TWO}),
        json!({" image ": [ONE, TWO]}),
    ];
    for task in [Task::Edit, Task::Generate] {
        for case in &cases {
            let form = read_bytes(case.to_string(), task).await.unwrap();
            assert_eq!(images(&form), [FIRST, SECOND], "{case}");
            assert!(form.misplaced.is_empty() && form.unknown.is_empty(), "{case}");
        }
    }
    for name in [
        "mask",
        "masks",
        "Mask",
        "mask_image",
        "mask_url",
        "maskImage",
        "mask[]",
        "MASK-URL",
        "maskUrl",
        "mask_image_url",
    ] {
        let form = read_json(json!({"image": ONE, name: TWO})).await.unwrap();
        assert_eq!(content(form.mask.as_ref().unwrap()), SECOND, "{name}");
    }
    let both = json!({"image": ONE, "mask": ONE, "mask_url": TWO});
    assert_eq!(read_json(both).await.unwrap_err().code(), "duplicate_parameter");
}

#[tokio::test]
async fn pictures_under_unknown_names_are_recorded_and_other_values_ignored() {
    let long = base64_simd::STANDARD.encode_to_string([FIRST, &[0; 100]].concat());
    let url = format!("data:image/png;base64,{ONE}");
    for (name, value) in [
        ("style_reference", json!(url)),
        ("subject", json!([url])),
        ("picture", json!({"data": long})),
        ("input", json!([{"role": "user", "content": [{"type": "input_image", "image_url": url}]}])),
        ("control", json!({"deep": [1, {"x": {"y": [long]}}]})),
        ("messages", json!([{"content": [{"type": "image_url", "image_url": {"url": "https://example.com/1"}}]}])),
        ("photo", json!("https://example.com/get?id=1")),
        ("subject_2", json!("https://example.com/cat.jpg")),
        ("sourceUrl", json!("https://example.com/1")),
        ("image_file", json!("file-abc123")),
        ("face_mask", json!(url)),
        ("extra_query", json!({"image": long})),
    ] {
        let form = read_json(json!({"image": ONE, name: value})).await.unwrap();
        assert_eq!(form.misplaced.keys().collect::<Vec<_>>(), [name]);
        let nearest = if name == "face_mask" { "'mask'" } else { "'image'" };
        assert!(form.misplaced[name].contains(nearest), "{:?}", form.misplaced);
        assert_eq!(images(&form), [FIRST]);
    }
    for (name, value) in [
        ("seed", json!(7)),
        ("callback_url", json!("https://example.com/hook")),
        ("metadata", json!({"page": "https://example.com/", "referrer": "https://example.com/a.html"})),
        ("image_settings", json!({"aspect_ratio": "16:9"})),
        ("file", json!("")),
        ("source", json!("my program")),
        ("image_weight", json!(2)),
        ("negative_prompt", json!("https://example.com/a.png is ugly")),
        ("trace", json!("QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVpBQkNERUZHSElKS0xNTk9QUVJTVFVWV1hZWg==")),
        ("input", json!([{"text": "hello"}, null, 1.5, true])),
    ] {
        let form = read_json(json!({"image": ONE, name: value})).await.unwrap();
        assert!(form.misplaced.is_empty(), "{:?}", form.misplaced);
        assert_eq!(form.unknown.iter().collect::<Vec<_>>(), [name]);
    }
    // One level only, and an object only.
    let form = read_json(json!({"extra_body": {"n": 2, "extra_body": {"n": 3}}, "extra_json": "x"})).await.unwrap();
    assert_eq!(form.scalars["n"], Scalar::Number("2".to_owned()));
    assert_eq!(form.unknown.iter().collect::<Vec<_>>(), ["extra_body", "extra_json"]);
}

#[tokio::test]
async fn addresses_that_are_no_picture_are_ignored() {
    let page = "https://app.example.com/page";
    let logo = "https://example.com/logo.png";
    for (name, value) in [
        ("metadata", json!({"source": page})),
        ("metadata", json!({"logo": logo})),
        ("metadata", json!({"image": page, "deep": {"image_url": logo}})),
        ("metadata", json!({"file": "file-abc123"})),
        ("image_webhook_url", json!(page)),
        ("file_callback_url", json!(page)),
        ("imageCallback", json!({"url": page})),
        ("picture_notify_url", json!(page)),
        ("source", json!(page)),
        ("file", json!(page)),
        ("input", json!([page])),
        ("ref", json!(page)),
        ("src", json!({"url": page})),
        ("source_page", json!(page)),
    ] {
        let form = read_json(json!({"image": ONE, name: value})).await.unwrap();
        assert!(form.misplaced.is_empty(), "{:?}", form.misplaced);
        assert_eq!(form.unknown.iter().collect::<Vec<_>>(), [name]);
    }
    for (name, value) in [
        ("metadata", json!({"source": format!("data:image/png;base64,{ONE}")})),
        ("source", json!(logo)),
        ("input", json!({"image": page})),
        ("file", json!("file-abc123")),
    ] {
        let form = read_json(json!({"image": ONE, name: value})).await.unwrap();
        assert_eq!(form.misplaced.keys().collect::<Vec<_>>(), [name]);
    }
}

#[tokio::test]
async fn only_what_was_read_under_another_name_is_named() {
    for (name, value) in [
        ("extra_body", json!("x")),
        ("extra_json", json!([1])),
        ("mask_url", json!("")),
        ("image_url", json!("")),
        ("image_urls", json!([])),
        ("init_image", json!(null)),
    ] {
        let form = read_json(json!({"image": ONE, "mask": ONE, name: value})).await.unwrap();
        assert!(form.renamed.is_empty(), "{:?}", form.renamed);
        assert_eq!(images(&form), [FIRST]);
    }
    let form = read_json(json!({"image_url": ONE, "mask_url": ONE, "extra_body": {"n": 1}})).await.unwrap();
    assert_eq!(form.renamed.into_keys().collect::<Vec<_>>(), ["extra_body", "image_url", "mask_url"]);
}

#[tokio::test]
async fn the_same_pictures_under_two_names_are_one_list_and_gaps_are_recorded() {
    for body in [
        json!({"image": ONE, "images": [ONE]}),
        json!({"image": ONE, "image_url": {"url": ONE}}),
        json!({"image_url": ONE, "image": ONE, "images": [ONE], "extra_body": {"input_image": ONE}}),
    ] {
        assert_eq!(images(&read_json(body.clone()).await.unwrap()), [FIRST], "{body}");
    }
    assert_eq!(images(&read_json(json!({"images": [ONE, ONE]})).await.unwrap()), [FIRST, FIRST]);
    let form = read_json(json!({"image_1": ONE, "image_2": "", "image_3": ONE, "image_4": ""})).await.unwrap();
    assert_eq!(form.misplaced.keys().collect::<Vec<_>>(), ["image_2"]);
}

#[tokio::test]
async fn objects_of_other_apis_are_read_member_by_member() {
    let form = read_json(json!({
        "image_config": {"aspect_ratio": "16:9", "x": null, "y": 1},
        "generationConfig": {"imageConfig": {"imageSize": "2K"}},
        "size": {"width": 1024, "height": 512},
        "parameters": {"photo": format!("data:image/png;base64,{ONE}")},
    }))
    .await
    .unwrap();
    let mut names: Vec<&str> = form.scalars.keys().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(
        names,
        ["generationConfig.imageConfig.imageSize", "image_config.aspect_ratio", "size.height", "size.width"]
    );
    assert_eq!(form.unknown.iter().collect::<Vec<_>>(), ["image_config.y"]);
    assert_eq!(form.misplaced.keys().collect::<Vec<_>>(), ["parameters.photo"]);
}

#[tokio::test]
async fn pictures_in_objects_of_other_apis_are_recorded_by_their_member() {
    let url = format!("data:image/png;base64,{ONE}");
    let address = json!("https://cdn.example.com/abc?sig=1");
    for (body, name) in [
        (json!({"parameters": {"image_url": address}}), "parameters.image_url"),
        (json!({"parameters": {"image": address}}), "parameters.image"),
        (json!({"parameters": {"mask": {"url": address}}}), "parameters.mask"),
        (json!({"parameters": {"x": {"image_url": address}}}), "parameters.x"),
        (json!({"generationConfig": {"referenceImages": [address]}}), "generationConfig.referenceImages"),
        (json!({"generationConfig": {"imageConfig": {"image": url}}}), "generationConfig.imageConfig.image"),
        (json!({"image_config": {"subject": url}}), "image_config.subject"),
        (json!({"image_options": {"photo": address}}), "image_options.photo"),
        (json!({"imageSize": {"url": url}}), "imageSize.url"),
        (json!({"size": {"like": url}}), "size.like"),
        (json!({"size": {"like": "https://example.com/a.png"}}), "size.like"),
        (json!({"extra_body": {"parameters": {"image_url": address}}}), "parameters.image_url"),
        (json!({"parameters": {"width": {"image_url": url}}}), "parameters.width"),
    ] {
        let form = read_json(body.clone()).await.unwrap();
        assert_eq!(form.misplaced.keys().collect::<Vec<_>>(), [name], "{body}");
    }
    for member in ["callback_url", "seed", "addWatermark", "x"] {
        let form = read_json(json!({"parameters": {member: "https://example.com/hook"}})).await.unwrap();
        assert!(form.misplaced.is_empty(), "{:?}", form.misplaced);
        assert_eq!(form.unknown.iter().cloned().collect::<Vec<_>>(), [format!("parameters.{member}")]);
    }
}

#[tokio::test]
async fn the_own_parameters_are_read_in_objects_of_other_apis_too() {
    for (body, known, value) in [
        (json!({"parameters": {"quality": "low"}}), "quality", "low"),
        (json!({"parameters": {"prompt": "a"}}), "prompt", "a"),
        (json!({"parameters": {"outputFormat": "webp"}}), "output_format", "webp"),
        (json!({"parameters": {"Quality": "low"}, "quality": "low"}), "quality", "low"),
        (json!({"generationConfig": {"background": "opaque"}}), "background", "opaque"),
        (json!({"generation_config": {"image_config": {"quality": "high"}}}), "quality", "high"),
        (json!({"image_config": {"moderation": "low"}}), "moderation", "low"),
        (json!({"output_options": {"output_format": "jpeg"}}), "output_format", "jpeg"),
        (json!({"imageOptions": {"input_fidelity": "low"}}), "input_fidelity", "low"),
        (json!({"extra_body": {"parameters": {"user": "u"}}}), "user", "u"),
    ] {
        let form = read_json(body.clone()).await.unwrap();
        assert_eq!(form.scalars[known], Scalar::Text(value.to_owned()), "{body}");
        assert!(form.unknown.is_empty() && form.misplaced.is_empty(), "{body}");
        assert!(form.renamed.values().any(|name| *name == known), "{body}: {:?}", form.renamed);
    }
    let contradiction = json!({"quality": "high", "parameters": {"quality": "low"}});
    assert_eq!(read_json(contradiction).await.unwrap_err().code(), "duplicate_parameter");
}

#[tokio::test]
async fn pictures_in_the_place_of_a_scalar_are_recorded() {
    let url = format!("data:image/png;base64,{ONE}");
    for (name, value) in [
        ("style", json!({"image_url": url})),
        ("style", json!([url])),
        ("style", json!(url)),
        ("style", json!("https://example.com/ref.png")),
        ("style", json!({"reference_url": "https://example.com/ref"})),
        ("Style", json!({"url": url})),
        ("format", json!({"image": url})),
        ("format", json!([{"url": "https://example.com/ref.webp"}])),
        ("format", json!(url)),
        ("mime_type", json!({"type": "image/png", "data": url})),
        ("user", json!({"avatar": url})),
        ("quality", json!([url])),
        ("width", json!({"image_url": url})),
    ] {
        let form = read_json(json!({"image": ONE, name: value})).await.unwrap();
        assert_eq!(form.misplaced.keys().collect::<Vec<_>>(), [name], "{value}");
    }
    for (name, value) in [
        ("style", json!("vivid")),
        ("style", json!("as on https://example.com/ref.png")),
        ("style", json!({"name": "vivid"})),
        ("format", json!("json")),
        ("format", json!({"type": "json"})),
        ("user", json!("https://example.com/me.png")),
        ("prompt", json!("https://example.com/me.png")),
        ("prompt", json!(url)),
        ("webhook_url", json!("https://example.com/hook.png")),
        ("style", json!([])),
    ] {
        let form = read_json(json!({"image": ONE, name: value})).await.unwrap();
        assert!(form.misplaced.is_empty(), "{name}: {:?}", form.misplaced);
    }
}

#[tokio::test]
async fn a_picture_beside_a_picture_is_recorded() {
    let url = format!("data:image/png;base64,{TWO}");
    for (image, name) in [
        (json!({"image_url": ONE, "mask": url}), "image.mask"),
        (json!({"mask": url, "image_url": ONE}), "image.mask"),
        (json!({"image_url": ONE, "mask_url": "https://example.com/m?sig=1"}), "image.mask_url"),
        (json!({"url": ONE, "reference": {"url": url}}), "image.reference"),
        (json!({"b64_json": ONE, "extra": [url]}), "image.extra"),
        (json!({"image_url": {"url": ONE, "mask": url}}), "image.mask"),
        (json!({"image_url": ONE, "image": url}), "image.image"),
        (json!({"image_url": ONE, "second": "https://example.com/2.jpg"}), "image.second"),
        (json!({"url": ONE, "file": "https://example.com/2.png"}), "image.file"),
        (json!({"url": ONE, "source": {"data": url}}), "image.source"),
    ] {
        for body in [json!({"image": image}), json!({"images": [image]})] {
            let form = read_json(body.clone()).await.unwrap();
            assert_eq!(form.misplaced.keys().collect::<Vec<_>>(), [name], "{body}");
            assert_eq!(images(&form), [FIRST], "{body}");
        }
    }
    let second = json!({"images": [ONE, {"url": ONE, "mask": url}], "mask": {"url": TWO, "image": url}});
    let form = read_json(second).await.unwrap();
    assert_eq!(form.misplaced.keys().collect::<Vec<_>>(), ["image[1].mask", "mask.image"]);
    for (member, value) in [
        ("detail", json!("high")),
        ("type", json!("image_url")),
        ("mime_type", json!("image/png")),
        ("mask", json!(null)),
        ("alt", json!("a cat")),
        ("weight", json!(0.5)),
        ("page", json!("https://example.com/")),
        ("thumbnail", json!("https://example.com/small.png")),
        ("preview_url", json!(url)),
        ("file_id", json!(null)),
    ] {
        let form = read_json(json!({"image": {"url": ONE, member: value}})).await.unwrap();
        assert!(form.misplaced.is_empty(), "{member}: {:?}", form.misplaced);
    }
}

#[tokio::test]
async fn entries_of_a_list_that_are_no_picture_are_recorded_by_their_position() {
    for (case, position, what) in [
        (json!({"images": [ONE, null, TWO]}), "image[1]", "null"),
        (json!({"images": [null, ONE, TWO]}), "image", "null"),
        (json!({"images": [ONE, TWO, null]}), "image[2]", "null"),
        (json!({"image": [ONE, "", TWO]}), "image[1]", "an empty string"),
        (json!({"image": [ONE, " \n", TWO]}), "image[1]", "an empty string"),
        (json!({"image": ONE, "reference_images": [null, TWO]}), "image[1]", "null"),
        (json!({"image_urls": ["", ONE, TWO]}), "image", "an empty string"),
        (json!({"image[]": [ONE, null, TWO]}), "image[1]", "null"),
        (json!({"images": [{"url": ONE}, null, {"url": TWO}]}), "image[1]", "null"),
        (json!({"extra_body": {"image": [ONE, null, TWO]}}), "image[1]", "null"),
    ] {
        let form = read_json(case.clone()).await.unwrap();
        assert_eq!(form.misplaced.keys().collect::<Vec<_>>(), [position], "{case}");
        assert!(form.misplaced[position].contains(what), "{case}: {:?}", form.misplaced);
        assert_eq!(images(&form), [FIRST, SECOND], "and what is there is read");
    }
    for absent in [json!({"image": null, "images": ""}), json!({"image": " ", "images": []})] {
        let form = read_json(absent).await.unwrap();
        assert!(form.images.is_empty() && form.misplaced.is_empty());
    }
}

#[tokio::test]
async fn broken_json_is_described_in_plain_words() {
    for (body, expected) in [
        (&b""[..], "it is empty"),
        (b" \r\n", "empty but for white space"),
        (b"[{\"prompt\":\"x\"}]", "a JSON array"),
        (b"\"{}\"", "encoded twice"),
        (b"42", "a single value"),
        (b"{\"prompt\":\"a\nb\"}", "a line break in it near byte 12, which JSON writes as \\n"),
        (b"{\"prompt\":\"a\rb\"}", "a line break in it near byte 12, which JSON writes as \\r"),
        (b"{\"prompt\":\"a\tb\"}", "a tab in it near byte 12"),
        (b"{\"x\":\"a\x01b\"}", "a control character in it near byte 7"),
        (b"{\"prompt\":\"\\ud83d\"}", "half of a surrogate pair near byte"),
        (b"{\"prompt\":\"\\ude00 x\"}", "half of a surrogate pair near byte"),
        (b"{'prompt': 'x'}", "in double quotes, not in single ones"),
        (b"{\"prompt\": 'x'}", "in double quotes, not in single ones"),
        ("{\u{201c}prompt\u{201d}: 1}".as_bytes(), "straight double quotes"),
        (b"{\"prompt\":\"x\",}", "a comma near byte"),
        (b"{\"n\": NaN}", "no NaN"),
        (b"{\"n\": -Infinity}", "near byte"),
        (b"{\"stream\": True}", "true, false and null"),
        (b"{prompt: \"x\"}", "stand in double quotes"),
        (b"{\"prompt\":\"x\"", "it ends before the JSON is complete"),
        (b"{\"prompt\":\"x", "it ends before the JSON is complete"),
        (b"{\"prompt\":\"x\"} {}", "something follows the JSON object"),
        (b"{\"prompt\" \"x\"}", "a colon is missing"),
        (b"{\"prompt\":\"x\" \"n\":1}", "near byte"),
        (b"{\"path\":\"C:\\Users\"}", "a backslash near byte"),
        (b"{// x\n}", "a comment"),
        (b"{\"n\":01}", "a number is not valid"),
        (b"{\"prompt\":\"\xe9\"}", "not valid UTF-8"),
        (b"\xff\xfe{\0}\0", "UTF-16"),
        (b"prompt=x&n=1", "not a JSON object"),
        (b"--B\r\n", "multipart/form-data"),
        (b"<html>", "XML or HTML"),
    ] {
        let error = read_bytes(body.to_vec(), Task::Edit).await.unwrap_err();
        let message = error.to_string();
        assert!(message.contains(expected), "{:?}: {message}", String::from_utf8_lossy(body));
        assert_eq!(error.code(), "malformed_body");
        for foreign in ["Incomplete", "NotEscaped", "Malformed", "data pos", "line 0"] {
            assert!(!message.contains(foreign), "{message:?} has words of the parser");
        }
    }
    let marked = read_bytes("\u{feff}{\"prompt\":\"x\"}", Task::Edit).await.unwrap();
    assert_eq!(marked.scalars["prompt"], Scalar::Text("x".to_owned()));
    let error = read_bytes("\u{feff}{\"prompt\":\"a\nb\"}", Task::Edit).await.unwrap_err().to_string();
    assert!(error.contains("near byte 15"), "{error}");
}

#[tokio::test]
async fn lost_plus_signs_are_restored() {
    // Every sixth bit pattern is a plus sign.
    let picture = [FIRST, &[0xfb, 0xef, 0xbe, 0x12, 0x3f].repeat(200)].concat();
    let text = base64_simd::STANDARD.encode_to_string(&picture);
    assert!(text.contains("++") && text.contains('='));
    for text in [text.replace('+', " "), text.replace('+', "%2B").replace('=', "%3D")] {
        for value in [json!(text), json!(format!("data:image/png;base64,{text}"))] {
            let form = read_json(json!({"image": value})).await.unwrap();
            assert_eq!(images(&form), [picture.as_slice()], "{value}");
        }
    }
}

#[tokio::test]
async fn scalars_keep_their_kind() {
    let form = read_json(json!({
        "prompt": "a\r\n\"é\" \u{1f600}", "n": 2, "stream": false, "size": null, "quality": "", "user": ["x"],
        "svg": {"model": "x"}, "seed": {"deep": [1, {"x": null}]}, "cfg": 7.5, "moderation": {"a": 1},
    }))
    .await
    .unwrap();
    let scalar = |name: &str| form.scalars.get(name).cloned();
    assert_eq!(scalar("prompt"), Some(Scalar::Text("a\r\n\"é\" \u{1f600}".to_owned())));
    assert_eq!(scalar("n"), Some(Scalar::Number("2".to_owned())));
    assert_eq!(scalar("stream"), Some(Scalar::Bool(false)));
    assert_eq!(scalar("user"), Some(Scalar::Array));
    assert_eq!(scalar("svg"), Some(Scalar::Object));
    assert_eq!(scalar("moderation"), Some(Scalar::Object));
    assert_eq!(scalar("size"), None);
    assert_eq!(scalar("quality"), None);
    assert_eq!(form.unknown.iter().collect::<Vec<_>>(), ["cfg", "seed"]);
}

#[tokio::test]
async fn malformed_bodies_are_refused() {
    let deep = format!("{{\"x\":{}1{}}}", "[".repeat(70), "]".repeat(70));
    let long_name = format!("{{\"{}\":1}}", "x".repeat(40_000));
    let long_number = format!("{{\"n\":{}}}", "1".repeat(40_000));
    let many: Vec<String> = (0..101).map(|i| format!("\"x{i}\":1")).collect();
    let many = format!("{{{}}}", many.join(","));
    for body in [
        "",
        " ",
        "[]",
        "\"x\"",
        "null",
        "{",
        "{\"image\":\"b25l",
        "{} x",
        "{\"a\":1,}",
        "{a:1}",
        "{\"n\":\"\\x\"}",
        &deep,
        &long_name,
        &long_number,
        &many,
    ] {
        let error = read_bytes(body.to_owned(), Task::Edit).await.unwrap_err();
        let start: String = body.chars().take(40).collect();
        assert_eq!(error.code(), "malformed_body", "{start}: {error}");
        let message = error.to_string();
        for foreign in ["path", "column", "syntax", "IncompleteDocument", "IO error", "data pos"] {
            assert!(!message.contains(foreign), "{message:?} has words of the parser");
        }
    }
    let not_utf8 = b"{\"prompt\":\"\xff\"}".to_vec();
    assert_eq!(read_bytes(not_utf8, Task::Edit).await.unwrap_err().code(), "malformed_body");
    assert!(read_bytes(" \n{\"prompt\":\"x\"}\r\n", Task::Edit).await.is_ok());
}

#[tokio::test]
async fn equal_duplicates_are_accepted_and_others_refused() {
    assert!(read_bytes("{\"n\":1,\"n\":1}", Task::Edit).await.is_ok());
    let error = read_bytes("{\"n\":1,\"n\":2}", Task::Edit).await.unwrap_err();
    assert_eq!(error.code(), "duplicate_parameter");
}

#[tokio::test]
async fn texts_have_a_limit_in_bytes() {
    let error = read_json(json!({"prompt": "x".repeat(262_145)})).await.unwrap_err();
    assert_eq!(error.code(), "string_above_max_length");
    assert!(read_json(json!({"prompt": "x".repeat(262_144)})).await.is_ok());
}

#[tokio::test]
async fn pictures_of_a_generation_are_read() {
    let body = json!({"prompt": "x", "image": ONE, "images": [ONE], "mask": null}).to_string();
    let form = read_bytes(body, Task::Generate).await.unwrap();
    assert_eq!(images(&form), [FIRST], "the same list under two names");
    assert!(form.misplaced.is_empty());
    let body = json!({"prompt": "x", "image": "", "images": []}).to_string();
    let form = read_bytes(body, Task::Generate).await.unwrap();
    assert!(form.images.is_empty() && form.misplaced.is_empty());
}

#[tokio::test]
async fn long_white_space_is_an_empty_picture() {
    let form = read_json(json!({"image": " ".repeat(5000)})).await.unwrap();
    assert_eq!(images(&form), [b""]);
    assert!(read_json(json!({"image": "  "})).await.unwrap().images.is_empty());
}

#[tokio::test]
async fn pictures_are_spooled_and_the_body_is_released() {
    let picture: Vec<u8> = (0..700_000_u32).map(|i| i.to_le_bytes()[i as usize % 3]).collect();
    let text = base64_simd::STANDARD.encode_to_string(&picture);
    let (_directory, spool) = spool();
    let bodies = server().bodies;
    let body = Body::from(json!({"images": [{"image_url": format!("data:image/png;base64,{text}")}]}).to_string());
    let incoming = IncomingBody::new(body, &bodies);
    let form = read(incoming, &limits(Task::Edit), &spool, None, &bodies).await.unwrap();
    assert_eq!(images(&form), [picture.as_slice()]);
    assert_eq!(spool.status().bytes, 700_000, "the body itself is released");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_bytes_are_read_or_refused(body in "[\\{\\}\\[\\],:\"imagesnul0-9 \\\\]{0,60}") {
        let (_directory, spool) = spool();
        let source: Arc<dyn ByteSource> = Arc::new(bytes::Bytes::from(body.into_bytes()));
        let _ = parse(source, &spool);
    }

    #[test]
    fn a_truncated_body_is_never_accepted(cut in 0_usize..1000) {
        let body = json!({"prompt": "x", "images": [{"image_url": format!("data:;base64,{ONE}")}], "n": 1}).to_string();
        let cut = cut % body.len();
        let (_directory, spool) = spool();
        let source: Arc<dyn ByteSource> = Arc::new(bytes::Bytes::from(body.as_bytes()[..cut].to_vec()));
        prop_assert!(parse(source, &spool).is_err());
    }
}
