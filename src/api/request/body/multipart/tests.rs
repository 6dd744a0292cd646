use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use proptest::prelude::*;

use super::*;
use crate::api::request::body::form::Scalar;
use crate::api::request::test_support::{content, limits, server, spool};
use crate::model::Task;

/// A part by the raw text of its head, and its bytes.
type Raw<'a> = (&'a str, &'a [u8]);

fn form_of(parts: &[Raw<'_>], end: &str) -> Vec<u8> {
    let mut body = Vec::new();
    for (head, bytes) in parts {
        body.extend_from_slice(b"--B\r\n");
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(b"\r\n\r\n");
        body.extend_from_slice(bytes);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(end.as_bytes());
    body
}

async fn read_body(body: Body, task: Task) -> Result<Form, ApiError> {
    let (_directory, spool) = spool();
    let incoming = IncomingBody::new(body, &server().bodies);
    read(incoming, "B".to_owned(), &limits(task), &spool, None).await
}

/// Reads a form of known length, which is read whole where it is short.
async fn read_announced(body: Vec<u8>, cuts: &[usize]) -> Result<Form, ApiError> {
    let (_directory, spool) = spool();
    let length = body.len() as u64;
    let incoming = IncomingBody::new(chunked(&body, cuts), &server().bodies);
    let form = read(incoming, "B".to_owned(), &limits(Task::Edit), &spool, Some(length)).await;
    let inputs = form.iter().flat_map(|form| form.images.iter().chain(&form.mask));
    let held: usize = inputs.map(|input| content(input).len()).sum();
    assert_eq!(spool.status().bytes, held as u64);
    form
}

async fn read_parts(parts: &[Raw<'_>]) -> Result<Form, ApiError> {
    read_body(Body::from(form_of(parts, "--B--\r\n")), Task::Edit).await
}

fn images(form: &Form) -> Vec<Vec<u8>> {
    form.images.iter().map(content).collect()
}

const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\0\0";
const JPEG: &[u8] = b"\xff\xd8\xff\xe0\r\n--b\r";

#[tokio::test]
async fn every_spelling_of_image_is_an_image_in_order_of_arrival() {
    let file = |name: &str| format!("Content-Disposition: form-data; name=\"{name}\"; filename=\"a.png\"");
    for names in [
        ["image", "image"],
        ["image[]", "image[]"],
        ["image[0]", "image[1]"],
        ["image", "image[]"],
        ["images", "images[]"],
    ] {
        let heads = names.map(file);
        let form = read_parts(&[(&heads[0], PNG), (&heads[1], JPEG)]).await.unwrap();
        assert_eq!(images(&form), [PNG, JPEG], "{names:?}");
    }
}

#[tokio::test]
async fn a_file_is_a_file_whatever_its_head_says() {
    let heads = [
        // Python with bytes, Node, Go.
        "Content-Disposition: form-data; name=\"image\"; filename=\"upload\"\r\nContent-Type: application/octet-stream",
        // async-openai: no type.
        "Content-Disposition: form-data; name=\"image\"; filename=\"a.png\"",
        // .NET: bare name, path in the file name, no type.
        "Content-Disposition: form-data; name=image; filename=\"Assets/x.png\"; filename*=utf-8''Assets%2fx.png",
        // Ruby: no file name.
        "Content-Disposition: form-data; name=\"image\"\r\nContent-Type: application/octet-stream",
        // Neither: by its bytes.
        "Content-Disposition: form-data; name=\"image\"",
        // aiohttp: the type first. LiteLLM: the wrong type.
        "Content-Type: text/plain; charset=utf-8\r\ncontent-disposition: form-data; name=\"image[]\"; filename=\"image.png\"",
        "CONTENT-DISPOSITION: FORM-DATA; FILENAME=\"name=mask; name=\\\"mask\\\"\"; NAME=\"image\"",
        "Content-Disposition: form-data; name*=utf-8''image; filename=blob\r\nContent-Length: 10",
    ];
    for head in heads {
        let form = read_parts(&[(head, PNG)]).await.unwrap();
        assert_eq!(images(&form), [PNG], "{head}");
    }
    // A file that is text is still a file, to be refused for its type and not for being a string.
    let svg: Raw<'_> = ("Content-Disposition: form-data; name=\"image\"; filename=\"a.svg\"", b"<svg/>");
    assert_eq!(images(&read_parts(&[svg]).await.unwrap()), [b"<svg/>"]);
}

#[tokio::test]
async fn masks_and_texts_come_in_any_order_and_with_types() {
    let form = read_parts(&[
        ("Content-Disposition: form-data; name=\"mask[]\"; filename=\"m.png\"", PNG),
        (
            "Content-Type: text/plain; charset=utf-8\r\nContent-Disposition: form-data; name=prompt",
            "a\r\nblue é".as_bytes(),
        ),
        ("Content-Disposition: form-data; name=\"image[]\"; filename=\"i.png\"", JPEG),
        ("Content-Disposition: form-data; name=\"n\"", b"2"),
        ("Content-Disposition: form-data; name=\"user\"", b""),
        ("Content-Disposition: form-data; name=\"svg[model]\"", b"x"),
        ("Content-Disposition: form-data; name=\"svg[reasoning][effort]\"", b"low"),
        ("Content-Disposition: form-data; name=\"seed\"", b"1"),
        ("Content-Disposition: form-data; name=\"extra\"; filename=\"x\"", b"1"),
        ("Content-Disposition: form-data; name=\"markup\"; filename=\"x\"", PNG),
    ])
    .await
    .unwrap();
    assert_eq!(content(form.mask.as_ref().unwrap()), PNG);
    assert_eq!(images(&form), [JPEG]);
    assert_eq!(form.scalars["prompt"], Scalar::Text("a\r\nblue é".to_owned()));
    assert_eq!(form.scalars["n"], Scalar::Text("2".to_owned()));
    assert_eq!(form.scalars["svg"], Scalar::Object);
    assert!(!form.scalars.contains_key("user"), "an empty text is no value");
    assert_eq!(form.unknown.iter().collect::<Vec<_>>(), ["seed"]);
    assert_eq!(form.misplaced.keys().collect::<Vec<_>>(), ["extra", "markup"]);
}

#[tokio::test]
async fn equal_duplicates_are_accepted_and_others_refused() {
    let part = |value: &'static [u8]| ("Content-Disposition: form-data; name=\"output_compression\"", value);
    assert!(read_parts(&[part(b"50"), part(b"50")]).await.is_ok());
    let error = read_parts(&[part(b"50"), part(b"51")]).await.unwrap_err();
    assert_eq!(error.code(), "duplicate_parameter");
    assert!(error.to_string().contains("output_compression"), "{error}");

    let mask = |value: &'static [u8]| ("Content-Disposition: form-data; name=\"mask\"; filename=\"m\"", value);
    assert!(read_parts(&[mask(PNG), mask(PNG)]).await.is_ok());
    assert_eq!(read_parts(&[mask(PNG), mask(JPEG)]).await.unwrap_err().code(), "duplicate_parameter");
}

#[tokio::test]
async fn names_of_objects_in_the_place_of_files_are_refused_unless_files_follow() {
    let file: Raw<'_> = ("Content-Disposition: form-data; name=\"image[]\"; filename=\"a.png\"", PNG);
    let text: Raw<'_> = ("Content-Disposition: form-data; name=\"image[]\"", b"UploadFile(filename='a.png', size=10)");
    for parts in [[file, text], [text, file]] {
        assert_eq!(images(&read_parts(&parts).await.unwrap()), [PNG]);
    }
    let error = read_parts(&[text]).await.unwrap_err();
    assert_eq!(error.to_string(), "Invalid type for 'image': expected a file, but got a string instead.");
    let mask: Raw<'_> = ("Content-Disposition: form-data; name=\"mask\"", b"a cat");
    assert_eq!(read_parts(&[file, mask]).await.unwrap_err().code(), "invalid_value");
    // And a file in the place of a string, which is taken where it is text.
    let head = "Content-Disposition: form-data; name=\"prompt\"; filename=\"p.txt\"";
    let form = read_parts(&[file, (head, b"\xef\xbb\xbfa cat\n")]).await.unwrap();
    assert_eq!(form.scalars["prompt"], Scalar::Text("a cat\n".to_owned()));
    assert_eq!(
        read_parts(&[file, (head, PNG)]).await.unwrap_err().to_string(),
        "Invalid type for 'prompt': expected a string, but got a file instead."
    );
}

fn field(name: &str) -> String {
    format!("Content-Disposition: form-data; name=\"{name}\"")
}

fn file(name: &str) -> String {
    format!("{}; filename=\"a.png\"\r\nContent-Type: image/png", field(name))
}

#[tokio::test]
async fn pictures_have_many_names_and_are_sorted_by_their_number() {
    for names in [
        ["image_1", "image_2"],
        ["image1", "image2"],
        ["image", "image_2"],
        ["image.0", "image.1"],
        ["image-1", "image-2"],
        ["Image", "IMAGE"],
        ["image ", " image"],
        ["image", "reference_image"],
        ["input_image", "input_image"],
        ["referenceImages[0]", "referenceImages[1]"],
        ["init_image", "image"],
        ["image_url", "imageUrls[]"],
    ] {
        for task in [Task::Edit, Task::Generate] {
            let heads = names.map(file);
            let body = form_of(&[(&heads[0], PNG), (&heads[1], JPEG)], "--B--");
            let form = read_body(Body::from(body), task).await.unwrap();
            assert_eq!(images(&form), [PNG, JPEG], "{names:?}");
            assert!(form.misplaced.is_empty() && form.unknown.is_empty());
        }
    }
    let heads = ["image_2", "image", "image_1"].map(file);
    let form = read_parts(&[(&heads[0], PNG), (&heads[1], b"middle"), (&heads[2], JPEG)]).await.unwrap();
    assert_eq!(images(&form), [JPEG, b"middle", PNG]);
    for name in [
        "masks",
        "Mask",
        "mask_image",
        "maskImage",
        "mask_url",
        "mask[0]",
        "mask ",
        "MASK_IMAGE",
        "mask-image",
        "mask.url",
    ] {
        let form = read_parts(&[(&file("image"), PNG), (&file(name), JPEG)]).await.unwrap();
        assert_eq!(content(form.mask.as_ref().unwrap()), JPEG, "{name}");
    }
}

#[tokio::test]
async fn files_and_pictures_under_unknown_names_are_recorded() {
    let long = base64_simd::STANDARD.encode_to_string([PNG, &[0; 100]].concat());
    let url = format!("data:image/png;base64,{long}");
    let list = format!("[{{\"x\": \"{url}\"}}]");
    let huge = format!("{{\"image\": \"{url}\", \"x\": \"{}\"}}", "y".repeat(300_000));
    let cases: [(String, &[u8]); 12] = [
        (file("photo"), PNG),
        (file("file"), b"GIF89a"),
        (format!("{}; filename=notes.txt", field("notes")), b"hello"),
        (format!("{}\r\nContent-Type: application/octet-stream", field("upload")), PNG),
        (field("raw"), PNG),
        (field("subject"), long.as_bytes()),
        (field("subject"), url.as_bytes()),
        (field("photo_url"), b"https://example.com/1"),
        (field("subject"), b"https://example.com/1.webp"),
        (field("control"), list.as_bytes()),
        (format!("{}\r\nContent-Type: application/json", field("control")), huge.as_bytes()),
        (field("face_mask"), b"https://example.com/1"),
    ];
    for (head, value) in cases {
        let form = read_parts(&[(&file("image"), PNG), (&head, value)]).await.unwrap();
        let names: Vec<&String> = form.misplaced.keys().collect();
        assert!(names.len() == 1 && head.contains(names[0]), "{head}: {names:?}");
        let nearest = if head.contains("mask") { "'mask'" } else { "'image'" };
        assert!(form.misplaced[names[0]].contains(nearest), "{:?}", form.misplaced);
        assert_eq!(images(&form), [PNG]);
    }
    let harmless: [(&str, &[u8]); 10] = [
        ("seed", b"7"),
        ("cfg", b"7.5"),
        ("negative_prompt", b"a dog"),
        ("callback_url", b"https://example.com/"),
        ("loras", b"[{\"path\": \"x\"}]"),
        ("metadata", b"{\"a\": 1}"),
        ("broken", b"{\"a\": "),
        ("file", b""),
        ("extra_body", b"x"),
        ("source", b"app"),
    ];
    for (name, value) in harmless {
        let form = read_parts(&[(&file("image"), PNG), (&field(name), value)]).await.unwrap();
        assert!(form.misplaced.is_empty(), "{:?}", form.misplaced);
        assert_eq!(form.unknown.iter().collect::<Vec<_>>(), [name]);
    }
}

#[tokio::test]
async fn texts_are_no_files_whatever_type_their_parts_declare() {
    for content_type in [
        "application/octet-stream",
        "application/x-www-form-urlencoded",
        "application/xml",
        "binary/octet-stream",
        "application/x-yaml",
        "image/png",
    ] {
        for (name, value) in [("seed", &b"42"[..]), ("cfg", b"7.5"), ("note", "caf\u{e9}".as_bytes())] {
            let head = format!("{}\r\nContent-Type: {content_type}", field(name));
            let form = read_parts(&[(&file("image"), PNG), (&head, value)]).await.unwrap();
            assert!(form.misplaced.is_empty(), "{content_type}: {:?}", form.misplaced);
            assert_eq!(form.unknown.iter().collect::<Vec<_>>(), [name]);
        }
        for value in [PNG, JPEG, b"\0\x01\x02"] {
            let head = format!("{}\r\nContent-Type: {content_type}", field("seed"));
            let form = read_parts(&[(&file("image"), PNG), (&head, value)]).await.unwrap();
            assert_eq!(form.misplaced.keys().collect::<Vec<_>>(), ["seed"], "{content_type}");
        }
    }
    for (name, value) in [
        ("priority", "P1 urgent"),
        ("priority", "P2\tlater"),
        ("page", "P7\n"),
        ("source", "https://example.com/page"),
        ("metadata[logo]", "https://example.com/logo.png"),
        ("metadata", "{\"source\": \"https://example.com/logo.png\"}"),
    ] {
        let form = read_parts(&[(&file("image"), PNG), (&field(name), value.as_bytes())]).await.unwrap();
        assert!(form.misplaced.is_empty(), "{:?}", form.misplaced);
        assert_eq!(form.unknown.iter().collect::<Vec<_>>(), [name]);
    }
    for (name, value) in [("raw", &b"P6\n8 8\n255\n\0\x01\xff"[..]), ("raw", b"<svg xmlns=\"x\"/>")] {
        let form = read_parts(&[(&file("image"), PNG), (&field(name), value)]).await.unwrap();
        assert_eq!(form.misplaced.keys().collect::<Vec<_>>(), [name]);
    }
}

#[tokio::test]
async fn objects_of_other_apis_are_read_as_in_json() {
    let json = "\r\nContent-Type: application/json";
    for (name, value, expected) in [
        ("image_config", r#"{"aspect_ratio":"16:9"}"#, "image_config.aspect_ratio"),
        ("imageConfig", r#" {"aspectRatio": "16:9"}"#, "imageConfig.aspectRatio"),
        ("generationConfig", r#"{"imageConfig":{"aspectRatio":"16:9"}}"#, "generationConfig.imageConfig.aspectRatio"),
        ("parameters", r#"{"aspect_ratio":"16:9","seed":7}"#, "parameters.aspect_ratio"),
        ("image_options", r#"{"ratio":"16:9"}"#, "image_options.ratio"),
        ("output_options", r#"{"ratio":"16:9"}"#, "output_options.ratio"),
        ("size", r#"{"ratio":"16:9"}"#, "size.ratio"),
        ("image_size", r#"{"ratio":"16:9","x":null}"#, "image_size.ratio"),
        ("resolution", "\n{\n\"ratio\": \"16:9\"}\n", "resolution.ratio"),
        ("Parameters", r#"{"image-ratio":"16:9"}"#, "Parameters.image-ratio"),
    ] {
        for head in [field(name), field(name) + json] {
            let form = read_parts(&[(&file("image"), PNG), (&head, value.as_bytes())]).await.unwrap();
            assert_eq!(form.scalars.get(expected), Some(&Scalar::Text("16:9".to_owned())), "{head}: {form:?}");
            assert!(form.misplaced.is_empty(), "{:?}", form.misplaced);
        }
    }
    let size = read_parts(&[(&field("size"), b"1024x1024")]).await.unwrap();
    assert_eq!(size.scalars["size"], Scalar::Text("1024x1024".to_owned()));
    let plain = read_parts(&[(&field("parameters"), b"{seed: 7}")]).await.unwrap();
    assert_eq!(plain.unknown.iter().collect::<Vec<_>>(), ["parameters"]);
    let broken = read_parts(&[(&field("parameters"), b"{\"ratio\": ")]).await.unwrap_err().to_string();
    assert!(broken.contains("the JSON text of 'parameters'"), "{broken}");
    let long = format!("{{\"x\": \"{}\"}}", "y".repeat(300_000));
    let long = read_parts(&[(&field("parameters"), long.as_bytes())]).await.unwrap_err();
    assert!(matches!(long, ApiError::TextTooLong { .. }), "{long}");
}

#[tokio::test]
async fn an_empty_picture_between_others_is_recorded() {
    let untouched = |name: &str| format!("{}; filename=\"\"\r\nContent-Type: application/octet-stream", field(name));
    for (heads, gaps) in [
        ([file("image_1"), untouched("image_2"), file("image_3")], "image_2"),
        ([file("image_1"), field("image_2"), file("image_3")], "image_2"),
        ([file("image[]"), untouched("image[]"), file("image[]")], "image[]"),
        ([file("image_1"), untouched("image_2"), untouched("image_3")], ""),
        ([untouched("image[]"), file("image[]"), untouched("image[]")], ""),
    ] {
        let parts: Vec<Raw<'_>> =
            heads.iter().map(|head| (head.as_str(), if head.contains("a.png") { PNG } else { b"" })).collect();
        let form = read_parts(&parts).await.unwrap();
        assert_eq!(form.misplaced.keys().cloned().collect::<Vec<_>>().join(" "), gaps, "{heads:?}");
    }
    let blank = read_parts(&[(&file("image_1"), PNG), (&field("image_2"), b" \n"), (&file("image_3"), JPEG)]).await;
    assert_eq!(blank.unwrap().misplaced.keys().collect::<Vec<_>>(), ["image_2"]);
}

#[tokio::test]
async fn only_what_was_read_under_another_name_is_named() {
    let named = |form: Form| form.renamed.into_keys().collect::<Vec<_>>();
    let heads = [file("image_url"), file("mask_image"), field("extra_body")];
    let both = read_parts(&[(&heads[0], PNG), (&heads[1], PNG), (&heads[2], b"{}")]).await;
    assert_eq!(named(both.unwrap()), ["extra_body", "image_url", "mask_image"]);
    for (name, value) in
        [("extra_body", "x"), ("extra_json", "[1]"), ("mask_url", ""), ("image_url", " "), ("init_image", "")]
    {
        let form = read_parts(&[(&file("image"), PNG), (&file("mask"), PNG), (&field(name), value.as_bytes())]).await;
        assert_eq!(named(form.unwrap()), Vec::<String>::new(), "{name}");
    }
    let twice = read_parts(&[(&file("image"), PNG), (&file("images"), PNG), (&file("image_url"), PNG)]).await.unwrap();
    assert_eq!(images(&twice), [PNG]);
}

#[tokio::test]
async fn texts_in_the_place_of_files_are_read_as_in_json() {
    let picture = [PNG, &[0xfb; 200]].concat();
    let base64 = base64_simd::STANDARD.encode_to_string(&picture);
    let url = format!("data:image/png;base64,{base64}");
    let json = "\r\nContent-Type: application/json";
    let cases = [
        (field("image"), url.clone()),
        (field("image"), format!(" {base64}\r\n")),
        (field("image[]"), url.replace('+', " ")),
        (field("image_url"), base64.replace('+', "%2B")),
        (field("image"), format!("[\"{url}\"]")),
        (field("images"), format!("[{{\"image_url\": \"{url}\"}}]")),
        (field("image"), format!("{{\"image_url\": {{\"url\": \"{url}\"}}}}")),
        (field("image") + json, format!("\"{url}\"")),
        (field("image") + json, format!(" {{\"b64_json\": \"{base64}\"}}")),
        (format!("{}; filename=blob{json}", field("image")), format!("[\"{base64}\"]")),
        (field("extra_body"), format!("{{\"image\": \"{base64}\"}}")),
        (format!("{}; filename=a.png", field("image")), base64.clone()),
        (file("image"), url.clone()),
        (format!("{}\r\nContent-Transfer-Encoding: base64", file("image")), base64.replace("AAAA", "AAAA\r\n")),
        (format!("{}\r\nContent-Type: text/plain; charset=utf-8", field("image")), url.clone()),
    ];
    for (head, value) in &cases {
        let form = read_parts(&[(head, value.as_bytes())]).await.unwrap();
        assert!(images(&form) == [picture.as_slice()], "{head}: {value}");
    }
    // Large ones are read on another thread.
    let large = [PNG, &vec![0xfb; 200_000]].concat();
    let base64 = base64_simd::STANDARD.encode_to_string(&large);
    for value in [base64.clone(), format!("[\"{base64}\"]")] {
        let form = read_parts(&[(&field("image"), value.as_bytes()), (&file("image"), PNG)]).await.unwrap();
        assert!(images(&form) == [large.as_slice(), PNG]);
    }
    let address: Raw<'_> = ("Content-Disposition: form-data; name=image", b"https://example.com/b.png\r\n");
    let form = read_parts(&[address]).await.unwrap();
    assert!(matches!(&form.images[..], [Input::Link(link)] if link == "https://example.com/b.png"));
    let list = (&*field("images"), &b"[\"https://example.com/1\", null, \"https://example.com/2\"]"[..]);
    let form = read_parts(&[list]).await.unwrap();
    assert_eq!((form.images.len(), form.misplaced.keys().next().unwrap().as_str()), (2, "image[1]"));
    for (head, value, expected) in [
        (field("image"), "/etc/passwd", "a path"),
        (field("image"), "null", "the word 'null'"),
        (field("image"), "[object File]", "JavaScript"),
        (field("image"), "undefined", "the word 'undefined'"),
        (field("mask"), "C:\\mask.png", "the path of a file"),
        (field("image"), "file-abc", "file_id"),
        (field("images"), "[{\"file_id\": \"file-abc\"}]", "file_id"),
        (field("image"), "[\"x", "the JSON text of 'image'"),
        (field("image"), "AQIDBAUGBwgJCgsM", "no picture"),
        (file("image"), "iVBORw0KGgox!", "base64"),
        (file("image"), "data:image/png,raw", "base64"),
        (field("image[]"), "blob:https://example.com/1", "browser"),
        (format!("{}\r\nContent-Transfer-Encoding: uuencode", file("image")), "x", "'uuencode'"),
    ] {
        let error = read_parts(&[(&head, value.as_bytes())]).await.unwrap_err().to_string();
        assert!(error.contains(expected), "{value}: {error}");
        assert!(!error.contains("octet-stream"));
    }
}

#[tokio::test]
async fn a_part_is_read_as_its_head_declares() {
    let json = "\r\nContent-Type: application/json";
    let cases: [(&str, String, &[u8], &str); 12] = [
        ("model", format!("{}{json}", field("model")), b"\"gpt-image-1\"", "gpt-image-1"),
        ("prompt", format!("{}{json}; charset=utf-8", field("prompt")), b"\"a \\\"cat\\\"\"", "a \"cat\""),
        ("n", format!("{}{json}", field("n")), b"2", "2"),
        ("stream", format!("{}{json}", field("stream")), b"true", "true"),
        ("size", format!("{}{json}", field("size")), b"auto", "auto"),
        ("user", format!("{}\r\nContent-Type: text/plain; charset=ISO-8859-1", field("user")), b"caf\xe9", "caf\u{e9}"),
        ("prompt", format!("{}\r\nContent-Type: text/plain; charset=utf-16", field("prompt")), b"\xff\xfea\0", "a"),
        ("prompt", format!("{}\r\nContent-Transfer-Encoding: base64", field("prompt")), b"YSBjYXQ=", "a cat"),
        (
            "prompt",
            format!("{}\r\nContent-Transfer-Encoding: quoted-printable", field("prompt")),
            b"caf=C3=A9",
            "caf\u{e9}",
        ),
        ("prompt", format!("{}\r\nContent-Transfer-Encoding: 8bit", field("prompt")), b"a=41", "a=41"),
        ("prompt", format!("{}; filename=\"p.txt\"\r\nContent-Type: text/plain", field("prompt")), b"a cat", "a cat"),
        (
            "size",
            format!("{}; filename=\"blob\"\r\nContent-Type: application/octet-stream", field("size")),
            b"auto",
            "auto",
        ),
    ];
    for (name, head, value, expected) in cases {
        let form = read_parts(&[(&head, value)]).await.unwrap();
        assert_eq!(form.scalars[name], Scalar::Text(expected.to_owned()), "{head}");
    }
    // Of several headers of one name, the last counts.
    let twice = format!("{}\r\n{}", field("user"), field("prompt"));
    assert!(read_parts(&[(&twice, b"a cat")]).await.unwrap().scalars.contains_key("prompt"));
    let null = format!("{}{json}", field("size"));
    assert!(read_parts(&[(&null, b"null")]).await.unwrap().scalars.is_empty());
    let charset = field("_charset_");
    let form = read_parts(&[(&charset, b"ISO-8859-1"), (&field("prompt"), b"caf\xe9")]).await.unwrap();
    assert_eq!(form.scalars["prompt"], Scalar::Text("caf\u{e9}".to_owned()));
    let unknown = format!("{}\r\nContent-Type: text/plain; charset=klingon", field("prompt"));
    assert!(read_parts(&[(&unknown, b"x")]).await.unwrap_err().to_string().contains("'klingon'"));
}

#[tokio::test]
async fn a_form_that_cannot_be_split_is_described() {
    let part = "Content-Disposition: form-data; name=\"prompt\"\r\n\r\nx\r\n";
    let large = "y".repeat(100_000);
    for (boundary, body, expected) in [
        (
            "other",
            format!("--B\r\n{part}--B--\r\n"),
            "announces the boundary 'other', and the form begins with the boundary 'B'",
        ),
        ("other", format!("--B\r\n{part}{large}--B--\r\n"), "begins with the boundary 'B'"),
        ("B", format!("----C\r\n{part}----C--\r\n"), "begins with the boundary '--C'"),
        ("B", format!("B\r\n{part}B--\r\n"), "without the two dashes"),
        ("B", format!("--B\n{}--B--\n", part.replace("\r\n", "\n")), "end in LF alone"),
        ("B", String::new(), "it is empty"),
        ("B", "{\"prompt\":\"x\"}".to_owned(), "it is JSON"),
        ("B", "prompt=x".to_owned(), "does not begin with the boundary '--B'"),
        ("B", format!("--B\r\n{part}"), "ends before its closing boundary"),
        ("B", "--B\r\nContent-Disposition: form-data;\r\n name=\"prompt\"\r\n\r\nx\r\n--B--".to_owned(), "folded"),
        ("B", "--B\r\nno colon\r\n\r\nx\r\n--B--".to_owned(), "the head of a part cannot be read"),
        ("B", format!("--B\r\n{part}--B\r\n"), "ends before its closing boundary"),
    ] {
        for cut in [3, 100_000] {
            let (_directory, spool) = spool();
            let incoming = IncomingBody::new(chunked(body.as_bytes(), &[cut]), &server().bodies);
            let read = read(incoming, boundary.to_owned(), &limits(Task::Edit), &spool, None).await;
            let error = read.unwrap_err();
            assert!(error.to_string().contains(expected), "{boundary}: {error}");
            assert_eq!(error.code(), "malformed_body");
        }
    }
    // What can be used is used: the dashes in the header, and no line break before the closing boundary.
    for (boundary, body) in [
        ("--B", format!("--B\r\n{part}--B--\r\n")),
        ("--B", format!("----B\r\n{part}----B--\r\n")),
        ("B", format!("----B\r\n{part}----B--\r\n")),
        ("B", format!("--B\r\n{}--B--\r\n", part.trim_end())),
        ("B", format!("--B\r\n{}--B--", part.trim_end())),
        ("B", format!("--B\r\n{}\n--B--\n", part.trim_end())),
        ("--B", format!("--B\r\n{}--B--\r\n", part.trim_end())),
    ] {
        for cut in [1, 5, 17, 1000] {
            let (_directory, spool) = spool();
            let incoming = IncomingBody::new(chunked(body.as_bytes(), &[cut]), &server().bodies);
            let form = read(incoming, boundary.to_owned(), &limits(Task::Edit), &spool, None).await.unwrap();
            let Scalar::Text(prompt) = &form.scalars["prompt"] else { panic!("{form:?}") };
            assert_eq!(prompt.trim_end(), "x", "{boundary} {body}");
        }
    }
}

#[tokio::test]
async fn empty_parts_count_as_absent_except_named_files() {
    // A browser's untouched file input, and an empty text.
    for head in [
        "Content-Disposition: form-data; name=\"mask\"; filename=\"\"\r\nContent-Type: application/octet-stream",
        "Content-Disposition: form-data; name=\"mask\"",
    ] {
        assert!(read_parts(&[(head, b"")]).await.unwrap().mask.is_none(), "{head}");
    }
    // A named file is a file although it is empty, and is refused as empty.
    let head = "Content-Disposition: form-data; name=\"image\"; filename=\"a.png\"";
    assert_eq!(read_parts(&[(head, b"")]).await.unwrap().images.len(), 1);
}

#[tokio::test]
async fn forms_end_as_clients_end_them_and_not_before() {
    let part: Raw<'_> = ("Content-Disposition: form-data; name=\"prompt\"", b"x");
    for end in ["--B--", "--B--\r\n", "--B--\r\n\r\n", "--B--\r\nepilogue"] {
        let body = Body::from(form_of(&[part], end));
        assert_eq!(read_body(body, Task::Edit).await.unwrap().scalars.len(), 1, "{end:?}");
    }
    let preamble = [b"preamble\r\n".to_vec(), form_of(&[part], "--B--")].concat();
    assert!(read_body(Body::from(preamble), Task::Edit).await.is_ok());
    for body in [form_of(&[part], ""), form_of(&[part], "--B\r\n"), Vec::new(), b"x".to_vec()] {
        let error = read_body(Body::from(body.clone()), Task::Edit).await.unwrap_err();
        assert_eq!(error.code(), "malformed_body", "{:?}", String::from_utf8_lossy(&body));
    }
    let nameless = form_of(&[("Content-Disposition: form-data", b"x")], "--B--");
    assert_eq!(read_body(Body::from(nameless), Task::Edit).await.unwrap_err().code(), "malformed_body");
}

#[tokio::test]
async fn parts_images_texts_and_bytes_are_limited() {
    let part: Raw<'_> = ("Content-Disposition: form-data; name=\"x\"", b"x");
    let error = read_parts(&[part; 101]).await.unwrap_err();
    assert_eq!(error.code(), "malformed_body");
    let image: Raw<'_> = ("Content-Disposition: form-data; name=\"image[]\"; filename=\"a\"", PNG);
    assert_eq!(read_parts(&[image; 16]).await.unwrap().images.len(), 16);
    assert_eq!(read_parts(&[image; 17]).await.unwrap_err().code(), "array_above_max_length");
    let long = vec![b'x'; 262_145];
    let error = read_parts(&[("Content-Disposition: form-data; name=\"prompt\"", &long)]).await;
    assert_eq!(error.unwrap_err().code(), "string_above_max_length");

    let (_directory, spool) = spool();
    let mut narrow = limits(Task::Edit);
    narrow.image_bytes_max = 5;
    let incoming = IncomingBody::new(Body::from(form_of(&[image], "--B--")), &server().bodies);
    let error = read(incoming, "B".to_owned(), &narrow, &spool, None).await.unwrap_err();
    assert_eq!(error.code(), "image_too_large");
    assert_eq!(spool.status().bytes, 0);
}

#[tokio::test]
async fn pictures_of_a_generation_are_read() {
    let body = form_of(
        &[
            ("Content-Disposition: form-data; name=\"image\"; filename=\"a\"", PNG),
            ("Content-Disposition: form-data; name=\"prompt\"", b"x"),
        ],
        "--B--",
    );
    let form = read_body(Body::from(body), Task::Generate).await.unwrap();
    assert_eq!(images(&form), [PNG]);
    assert!(form.misplaced.is_empty());
}

/// A body that is always ready and counts the bytes that were read from it.
struct Eager {
    head: Option<Bytes>,
    read_bytes: Arc<AtomicUsize>,
}

impl Stream for Eager {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut std::task::Context<'_>) -> std::task::Poll<Option<Self::Item>> {
        let chunk = self.head.take().unwrap_or_else(|| Bytes::from_static(&[b'x'; 1024]));
        self.read_bytes.fetch_add(chunk.len(), Ordering::Relaxed);
        std::task::Poll::Ready(Some(Ok(chunk)))
    }
}

#[tokio::test]
async fn a_body_that_is_always_ready_is_not_buffered() {
    let endless = |head: &'static str| {
        let read_bytes = Arc::new(AtomicUsize::new(0));
        let eager = Eager { head: Some(Bytes::from_static(head.as_bytes())), read_bytes: Arc::clone(&read_bytes) };
        (Body::from_stream(eager), read_bytes)
    };
    // In a file: no more is read than a file may hold.
    let (_directory, spool) = spool();
    let mut narrow = limits(Task::Edit);
    narrow.image_bytes_max = 10_000;
    let (body, read_bytes) = endless("--B\r\nContent-Disposition: form-data; name=image; filename=a\r\n\r\n");
    let error = read(IncomingBody::new(body, &server().bodies), "B".to_owned(), &narrow, &spool, None).await;
    assert_eq!(error.unwrap_err().code(), "image_too_large");
    assert!(read_bytes.load(Ordering::Relaxed) < 20_000, "{read_bytes:?}");
    // Before the first part, and in the head of one.
    for head in ["preamble", "--B\r\nContent-Disposition: form-data; name="] {
        let (body, read_bytes) = endless(head);
        assert_eq!(read_body(body, Task::Edit).await.unwrap_err().code(), "malformed_body");
        assert!(read_bytes.load(Ordering::Relaxed) < 30_000, "{read_bytes:?}");
    }
}

#[tokio::test]
async fn the_head_of_a_part_is_limited_as_it_is_unpacked() {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    std::io::Write::write_all(&mut encoder, &vec![b' '; 500_000]).unwrap();
    let bomb = Body::from(encoder.finish().unwrap());
    let gzip = crate::api::request::body::incoming::ContentCoding::Gzip;
    let incoming = IncomingBody::new(bomb, &server().bodies).unpacking(Some(gzip));
    let (_directory, spool) = spool();
    let error = read(incoming, "B".to_owned(), &limits(Task::Edit), &spool, None).await.unwrap_err();
    assert_eq!(error.code(), "malformed_body");
}

#[tokio::test]
async fn the_pictures_of_a_short_form_are_one_buffer_of_the_spool() {
    let parts: [Raw<'_>; 2] =
        [(&file("image"), &[PNG, &[7; 9000]].concat()), (&file("mask"), &[PNG, &[8; 9000]].concat())];
    let body = form_of(&parts, "--B--");
    let (directory, spool) = spool();
    let length = body.len() as u64;
    let incoming = IncomingBody::new(chunked(&body, &[7000]), &server().bodies);
    let form = read(incoming, "B".to_owned(), &limits(Task::Edit), &spool, Some(length)).await.unwrap();
    assert_eq!(images(&form), [parts[0].1]);
    assert_eq!((spool.status().memory_bytes, spool.status().bytes), (length, 18_020));
    drop(form.images);
    assert_eq!(spool.status().memory_bytes, length, "the mask is a slice of the same buffer");
    drop(form.mask);
    assert_eq!((spool.status().memory_bytes, spool.status().reserved), (0, 0));
    // Without memory, the parts are spooled one by one.
    let full = Spool::for_test(directory.path().to_owned(), 0, 1 << 30);
    let incoming = IncomingBody::new(chunked(&body, &[7000]), &server().bodies);
    let form = read(incoming, "B".to_owned(), &limits(Task::Edit), &full, Some(length)).await.unwrap();
    assert_eq!((images(&form), full.status().memory_bytes), (vec![parts[0].1.to_vec()], 0));
}

#[tokio::test(start_paused = true)]
async fn a_short_form_is_refused_before_it_has_arrived() {
    let start = form_of(&[("a: b", b"1"), (&field("prompt"), b"x")], "");
    let cut: Vec<_> = start.chunks(20).map(|chunk| Ok::<_, Infallible>(Bytes::copy_from_slice(chunk))).collect();
    let (_directory, spool) = spool();
    let incoming = IncomingBody::new(Body::from_stream(stream::iter(cut).chain(stream::pending())), &server().bodies);
    let began = tokio::time::Instant::now();
    let error = read(incoming, "B".to_owned(), &limits(Task::Edit), &spool, Some(5000)).await.unwrap_err();
    assert!(error.to_string().contains("has no name"), "{error}");
    assert_eq!(began.elapsed(), Duration::ZERO);
}

#[tokio::test]
async fn the_framing_explains_a_first_head_that_cannot_be_read() {
    let error =
        read_body(Body::from("a preamble\r\n--B\r\nno colon here\r\n\r\n\r\n--B--"), Task::Edit).await.unwrap_err();
    assert!(error.to_string().contains("does not begin with the boundary '--B'"), "{error}");
}

#[tokio::test]
async fn a_body_that_breaks_off_is_reported_behind_the_parts_before_it() {
    let whole = form_of(&[(&field("n"), b"1"), (&field("prompt"), b"x")], "--B--");
    let broken = |end: usize| {
        let start = Ok(Bytes::copy_from_slice(&whole[..end]));
        Body::from_stream(stream::iter([start, Err(std::io::Error::other("reset"))]))
    };
    let nameless = form_of(&[("a: b", b"1"), (&field("prompt"), b"x")], "--B--");
    let nameless = Body::from_stream(stream::iter([Ok(Bytes::from(nameless)), Err(std::io::Error::other("reset"))]));
    for (body, expected) in
        [(broken(whole.len() - 9), "broke off"), (broken(3), "broke off"), (nameless, "has no name")]
    {
        let (_directory, spool) = spool();
        let incoming = IncomingBody::new(body, &server().bodies);
        let error = read(incoming, "B".to_owned(), &limits(Task::Edit), &spool, Some(1000)).await.unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        assert_eq!(spool.status().memory_bytes, 0);
    }
}

#[tokio::test]
async fn an_idle_body_fails() {
    let start = Bytes::from_static(b"--B\r\nContent-Disposition: form-data; name=prompt\r\n\r\nhal");
    let body = stream::iter([Ok::<_, Infallible>(start)]);
    let body = Body::from_stream(futures_util::StreamExt::chain(body, stream::pending()));
    let mut config = server().bodies;
    config.idle_timeout = std::time::Duration::from_millis(50);
    let (_directory, spool) = spool();
    let incoming = IncomingBody::new(body, &config);
    let error = read(incoming, "B".to_owned(), &limits(Task::Edit), &spool, None).await;
    assert_eq!(error.unwrap_err().code(), "body_timeout");
}

/// `bytes` cut into pieces, the sizes repeating.
fn chunked(bytes: &[u8], cuts: &[usize]) -> Body {
    let mut chunks = Vec::new();
    let mut rest = bytes;
    for &cut in cuts.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (chunk, behind) = rest.split_at(cut.min(rest.len()));
        chunks.push(Ok::<_, Infallible>(Bytes::copy_from_slice(chunk)));
        rest = behind;
    }
    Body::from_stream(stream::iter(chunks))
}

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
}

fn summary(form: Result<Form, ApiError>) -> String {
    match form {
        Ok(form) => format!(
            "{:?} {:?} {:?} {:?} {:?}",
            form.scalars,
            images(&form),
            form.mask.as_ref().map(content),
            form.misplaced,
            form.unknown
        ),
        Err(error) => error.to_string(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn chunk_borders_make_no_difference(
        picture in prop::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'-'), Just(b'A'), any::<u8>()], 0..300),
        prompt in "[a-zé\r\n-]{0,40}",
        cuts in prop::collection::vec(1_usize..80, 1..10),
    ) {
        // A form may not contain its own boundary.
        prop_assume!(!picture.windows(5).any(|window| window == b"\r\n--B"));
        let body = form_of(
            &[
                ("Content-Disposition: form-data; name=\"image[]\"; filename=\"a\"", &picture),
                ("Content-Disposition: form-data; name=\"prompt\"", prompt.as_bytes()),
                ("Content-Disposition: form-data; name=\"mask\"; filename=\"m\"", PNG),
            ],
            "--B--\r\n",
        );
        let cut = block_on(read_body(chunked(&body, &cuts), Task::Edit));
        let whole = block_on(read_announced(body, &cuts));
        let form = whole.as_ref().unwrap();
        prop_assert_eq!(&images(form)[0], &picture);
        prop_assert_eq!(summary(whole), summary(cut));
    }

    #[test]
    fn a_form_that_is_read_whole_means_the_same_whatever_it_holds(
        pieces in prop::collection::vec(
            prop_oneof![
                Just(b"--B\r\n".to_vec()),
                Just(b"\r\n--B--".to_vec()),
                Just(b"\r\n--B\r\n".to_vec()),
                Just(b"Content-Disposition: form-data; name=image; filename=x\r\n".to_vec()),
                Just(b"Content-Disposition: form-data; name=image; filename=x\r\n\r\n\x89PNG\r\n\x1a\n".to_vec()),
                Just(b"Content-Disposition: form-data; name=n\r\n\r\n".to_vec()),
                Just(b"\r\n--B\r\nContent-Disposition: form-data; name=n\r\n\r\n".to_vec()),
                Just(b"Content-Type: application/json\r\nContent-Transfer-Encoding: base64\r\n".to_vec()),
                Just(b"\r\n\r\n".to_vec()),
                prop::collection::vec(any::<u8>(), 0..40),
            ],
            0..12,
        ),
        cuts in prop::collection::vec(1_usize..50, 1..5),
    ) {
        let body = pieces.concat();
        let cut = block_on(read_body(chunked(&body, &cuts), Task::Edit));
        prop_assert_eq!(summary(block_on(read_announced(body, &cuts))), summary(cut));
    }
}
