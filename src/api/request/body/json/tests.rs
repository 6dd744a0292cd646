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

fn images(form: &Form) -> Vec<Vec<u8>> {
    form.images.iter().map(content).collect()
}

fn parse(text: Arc<dyn ByteSource>, upload: Upload) -> Result<Form, ApiError> {
    let mut body = SpooledBody { text, limits: limits(Task::Edit), depth_max: 64, upload };
    Ok(body.parse(|parser| parser.body())?.0)
}

/// "one" and "two" in base64.
const ONE: &str = "b25l";
const TWO: &str = "dHdv";

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
        json!({"image": [null, url], "mask": null}),
        json!({"image": format!("DATA:;charset=utf-8 ; Base64,{ONE}")}),
        json!({"image": format!("data:application/octet-stream;base64, b2\n5\r\nl ")}),
        json!({"image": format!("  {url}")}),
    ];
    for case in cases {
        assert_eq!(images(&read_json(case.clone()).await.unwrap()), [b"one"], "{case}");
    }
}

#[tokio::test]
async fn order_is_kept_and_masks_have_the_same_forms() {
    let form = read_json(json!({"image": [ONE, {"b64_json": TWO}], "images": [{"url": ONE}]})).await.unwrap();
    assert_eq!(images(&form), [b"one", b"two", b"one"]);
    for mask in [json!(TWO), json!([TWO]), json!({"image_url": TWO}), json!([{"url": TWO}])] {
        let form = read_json(json!({"mask": mask, "image": ONE})).await.unwrap();
        assert_eq!(content(form.mask.as_ref().unwrap()), b"two", "{mask}");
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
        (json!({"image": "b"}), "invalid_value"),
        (json!({"image": vec![ONE; 17]}), "array_above_max_length"),
    ];
    for (case, code) in cases {
        let got = read_json(case.clone()).await.map_or_else(|error| error.code(), |_| "");
        assert_eq!(got, code, "{case}");
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
async fn pictures_of_a_generation_are_discarded_and_named() {
    let body = json!({"prompt": "x", "image": ONE, "images": [ONE], "mask": null}).to_string();
    let form = read_bytes(body, Task::Generate).await.unwrap();
    assert_eq!(form.misplaced.iter().collect::<Vec<_>>(), [&"image"]);
    assert!(form.images.is_empty());
    let body = json!({"prompt": "x", "image": "", "images": []}).to_string();
    assert!(read_bytes(body, Task::Generate).await.unwrap().misplaced.is_empty());
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
        let upload = spool.upload(None).now_or_never().unwrap().unwrap();
        let _ = parse(source, upload);
    }

    #[test]
    fn a_truncated_body_is_never_accepted(cut in 0_usize..1000) {
        let body = json!({"prompt": "x", "images": [{"image_url": format!("data:;base64,{ONE}")}], "n": 1}).to_string();
        let cut = cut % body.len();
        let (_directory, spool) = spool();
        let source: Arc<dyn ByteSource> = Arc::new(bytes::Bytes::from(body.as_bytes()[..cut].to_vec()));
        let upload = spool.upload(None).now_or_never().unwrap().unwrap();
        prop_assert!(parse(source, upload).is_err());
    }
}
