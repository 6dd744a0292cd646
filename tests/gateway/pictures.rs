//! Input pictures of every kind: what reaches the upstream, and what is refused before anything is bought.

use std::io::Cursor;

use image::{DynamicImage, GenericImageView, ImageFormat, Rgba, RgbaImage};
use serde_json::{Value, json};

use crate::harness::{Edit, Gateway, Upstream, data_url, digest, mask, picture};

const HEIC: &[u8] = include_bytes!("samples/plain.heic");
const AVIF: &[u8] = include_bytes!("samples/plain.avif");

/// A picture of 48x32 pixels without symmetry.
fn scene() -> DynamicImage {
    let step = |n: u32| u8::try_from(n).unwrap();
    RgbaImage::from_fn(48, 32, |x, y| Rgba([step(x * 5), step(y * 7), step(x + y), 255])).into()
}

fn encoded(picture: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    picture.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

/// Returns EXIF metadata of one tag.
fn exif(orientation: u8) -> Vec<u8> {
    [b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0", &[orientation][..], &[0; 6]].concat()
}

fn png_chunk(name: &[u8], content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).unwrap().to_be_bytes();
    let named = [name, content].concat();
    [&length[..], &named, &crc32fast::hash(&named).to_be_bytes()].concat()
}

/// Returns the scene as a PNG or a JPEG with an orientation.
fn turned(format: ImageFormat, orientation: u8) -> Vec<u8> {
    let whole = encoded(&DynamicImage::from(scene().to_rgb8()), format);
    if format == ImageFormat::Png {
        return [&whole[..33], &png_chunk(b"eXIf", &exif(orientation)), &whole[33..]].concat();
    }
    let content = [b"Exif\0\0", &exif(orientation)[..]].concat();
    let length = u16::try_from(content.len() + 2).unwrap().to_be_bytes();
    [&whole[..2], &[0xff, 0xe1], &length, &content, &whole[2..]].concat()
}

/// Returns a mask with a hole, of this size.
fn mask_of(width: u32, height: u32) -> Vec<u8> {
    encoded(&DynamicImage::new_rgba8(width, height), ImageFormat::Png)
}

fn inputs(prediction: &Value) -> Vec<String> {
    let inputs = prediction["inputs"].as_array().unwrap();
    inputs.iter().map(|input| input["digest"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn formats_that_the_upstream_does_not_take_arrive_as_png_and_a_retry_buys_nothing() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    let rgb = DynamicImage::from(scene().to_rgb8());
    let others = [
        encoded(&scene(), ImageFormat::Gif),
        encoded(&rgb, ImageFormat::Bmp),
        encoded(&rgb, ImageFormat::Tiff),
        HEIC.to_vec(),
    ];
    for (number, bytes) in others.iter().enumerate() {
        let edit =
            Edit::bare(&format!("convert {number}")).picture("image[]", picture(1)).picture("image[]", bytes.clone());
        gateway.alice().edit(&edit).await.picture();
        assert_eq!(gateway.alice().edit(&edit).await.cache(), "hit");
        let predictions = upstream.predictions().await;
        assert_eq!(predictions.len(), number + 1);
        let sent = &predictions[number]["inputs"];
        assert_eq!(sent[0]["digest"], json!(digest(&picture(1))), "a PNG is sent as it is");
        assert_ne!(sent[1]["digest"], json!(digest(bytes)));
        let size = if number == 3 { (96, 64) } else { (48, 32) };
        assert_eq!((&sent[1]["width"], &sent[1]["height"]), (&json!(size.0), &json!(size.1)), "{sent}");
    }
    // The same pixels are the same PNG, whatever they were sent in and how.
    let json = json!({"prompt": "json", "images": [data_url(&others[1]), data_url(&others[2])]});
    gateway.alice().edit_json(json).await.picture();
    let sent = inputs(upstream.predictions().await.last().unwrap());
    assert_eq!(sent[0], sent[1]);
    let (_, page) = gateway.page("/metrics").await;
    for line in [
        "gptproto_gateway_api_input_conversions_total{format=\"BMP\",result=\"converted\"} 3",
        "gptproto_gateway_api_input_conversions_total{format=\"HEIC\",result=\"converted\"} 2",
    ] {
        assert!(page.contains(line), "{line}");
    }
}

#[tokio::test]
async fn auto_goes_by_the_upright_photo_which_is_sent_as_it_is() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    for orientation in 1..=8 {
        let format = if orientation % 2 == 0 { ImageFormat::Png } else { ImageFormat::Jpeg };
        let photo = turned(format, orientation);
        let edit = Edit::bare("upright").field("size", "auto").picture("image", photo.clone());
        gateway.alice().edit(&edit).await.picture();
        let prediction = upstream.predictions().await.pop().unwrap();
        let size = if orientation > 4 { "1024x1536" } else { "1536x1024" };
        assert_eq!(prediction["parameters"]["size"], json!(size), "{orientation}");
        assert_eq!(inputs(&prediction), [digest(&photo)], "{orientation}");
    }
}

#[tokio::test]
async fn a_turned_photo_with_a_mask_arrives_upright() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    let edit = |photo: Vec<u8>, mask: Vec<u8>| {
        Edit::bare("masked").field("model", "gpt-image-1").picture("image", photo).picture("mask", mask)
    };
    // Stored as it is seen after a quarter turn, so that the upright picture is the scene again.
    let stored = |format| {
        let quarter = DynamicImage::from(scene().rotate270().to_rgb8());
        let whole = encoded(&quarter, format);
        [&whole[..33], &png_chunk(b"eXIf", &exif(6)), &whole[33..]].concat()
    };
    gateway.alice().edit(&edit(stored(ImageFormat::Png), mask_of(48, 32))).await.picture();
    let sent = upstream.prediction().await;
    let upright = encoded(&DynamicImage::from(scene().to_rgb8()), ImageFormat::Png);
    assert_eq!(inputs(&sent), [digest(&upright)]);
    assert_eq!(sent["mask"]["digest"], json!(digest(&mask_of(48, 32))));
    let answer = gateway.alice().edit(&edit(stored(ImageFormat::Png), mask_of(32, 48))).await;
    answer.is_refused(400, "invalid_value");
    assert!(answer.message().contains("upright size, 48x32"), "{}", answer.message());
    assert_eq!(upstream.submits().await, 1);
}

#[tokio::test]
async fn a_mask_that_marks_nothing_is_refused_or_dropped_by_name() {
    let upstream = Upstream::start().await;
    let refusing = Gateway::on(&upstream).await;
    let blank = |picture: DynamicImage| encoded(&picture, ImageFormat::Png);
    let mut opaque = RgbaImage::new(32, 32);
    opaque.pixels_mut().for_each(|pixel| pixel.0 = [9, 9, 9, 255]);
    let masks = [
        blank(DynamicImage::new_rgb8(32, 32)),
        blank(DynamicImage::new_luma8(32, 32)),
        blank(DynamicImage::new_luma16(32, 32)),
        blank(opaque.clone().into()),
        blank(DynamicImage::from(opaque.clone()).to_luma_alpha8().into()),
        blank(DynamicImage::from(opaque).to_rgba16().into()),
    ];
    let edit = |mask: &[u8]| Edit::new("masked").field("model", "gpt-image-1").picture("mask", mask.to_vec());
    for mask in &masks {
        let answer = refusing.alice().edit(&edit(mask)).await;
        answer.is_refused(400, "invalid_value");
        let message = answer.message();
        assert!(message.contains("no transparent pixel") && message.contains("alpha channel"), "{message}");
        let json =
            json!({"model": "gpt-image-1", "prompt": "x", "image": data_url(&picture(1)), "mask": data_url(mask)});
        refusing.alice().edit_json(json).await.is_refused(400, "invalid_value");
    }
    for format in [ImageFormat::Jpeg, ImageFormat::WebP, ImageFormat::Bmp, ImageFormat::Gif] {
        let answer = refusing.alice().edit(&edit(&encoded(&DynamicImage::new_rgb8(32, 32), format))).await;
        answer.is_refused(400, "invalid_value");
        assert!(answer.message().contains("must be a PNG with an alpha channel"), "{}", answer.message());
    }
    assert_eq!(upstream.submits().await, 0);
    let dropping = Gateway::with(&upstream, &[("server.unsupported_parameters", "drop")]).await;
    let answer = dropping.alice().edit(&edit(&masks[3])).await;
    answer.picture();
    assert_eq!(answer.header("x-gateway-dropped"), "mask");
    assert!(upstream.prediction().await["mask"].is_null());
    dropping.alice().edit(&edit(&mask())).await.picture();
    assert_eq!(upstream.predictions().await[1]["mask"]["digest"], json!(digest(&mask())));
}

#[tokio::test]
async fn a_file_that_is_no_picture_is_refused_by_what_it_is() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    let png = picture(1);
    let jpeg = turned(ImageFormat::Jpeg, 1);
    let as_text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned().into_bytes();
    let crlf: Vec<u8> =
        png.iter().flat_map(|&byte| if byte == b'\n' { vec![b'\r', b'\n'] } else { vec![byte] }).collect();
    let lf = {
        let mut lf = png.clone();
        lf.remove(4);
        lf
    };
    let half = HEIC[..HEIC.len() / 2].to_vec();
    let cases: Vec<(&str, Vec<u8>, &str, &str)> = vec![
        ("AVIF", AVIF.to_vec(), "unsupported_file_mimetype", "an AVIF picture"),
        ("JPEG 2000", b"\0\0\0\x0cjP  \r\n\x87\n\0\0".to_vec(), "unsupported_file_mimetype", "JPEG 2000"),
        ("ICO", b"\0\0\x01\0\x01\0\x10\x10\0\0".to_vec(), "unsupported_file_mimetype", "an icon"),
        ("PSD", b"8BPS\0\x01\0\0".to_vec(), "unsupported_file_mimetype", "Photoshop"),
        ("PDF", b"%PDF-1.7\n%\xe2\xe3".to_vec(), "unsupported_file_mimetype", "a PDF document"),
        ("SVG", b"<svg xmlns=\"http://www.w3.org/2000/svg\"/>".to_vec(), "unsupported_file_mimetype", "an SVG drawing"),
        ("HTML", b"<!DOCTYPE html><html><body>404</body></html>".to_vec(), "unsupported_file_mimetype", "a web page"),
        ("JSON", b"{\"error\": \"not found\"}".to_vec(), "unsupported_file_mimetype", "JSON"),
        ("raw photo", b"II*\0\x10\0\0\0CR\x02\0".to_vec(), "unsupported_file_mimetype", "raw photo"),
        ("video", b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom".to_vec(), "unsupported_file_mimetype", "a video"),
        ("gzip", b"\x1f\x8b\x08\0\0\0".to_vec(), "unsupported_file_mimetype", "gzip"),
        ("text", b"the picture of my cat".to_vec(), "unsupported_file_mimetype", "text, and no picture"),
        ("unknown", b"\0\x01\x02\x03\x04".to_vec(), "unsupported_file_mimetype", "('application/octet-stream'). Supp"),
        ("PNG read as text", as_text(&png), "invalid_image_file", "read as text"),
        ("JPEG read as text", as_text(&jpeg), "invalid_image_file", "read as text"),
        ("PNG with CRLF", crlf, "invalid_image_file", "line ends were converted"),
        ("PNG with LF", lf, "invalid_image_file", "line ends were converted"),
        ("half a HEIC", half, "invalid_image_file", "a HEIC that cannot be decoded"),
        ("half a PNG", png[..png.len() / 2].to_vec(), "invalid_image_file", "ends at byte"),
        ("empty", Vec::new(), "invalid_image_file", "empty (0 bytes)"),
    ];
    for (name, bytes, code, words) in cases {
        let answer = gateway.alice().edit(&Edit::bare("no picture").picture("image", bytes)).await;
        answer.is_refused(400, code);
        assert!(answer.message().contains(words), "{name}: {}", answer.message());
        assert_eq!(answer.json()["error"]["param"], json!("image"), "{name}");
    }
    assert_eq!(upstream.submits().await, 0);
}

#[tokio::test]
async fn limits_of_conversions_are_named_and_unchecked_bytes_are_passed_on() {
    let upstream = Upstream::start().await;
    let small = Gateway::with(&upstream, &[("server.input_pixels_max", "1535")]).await;
    let bmp = encoded(&DynamicImage::from(scene().to_rgb8()), ImageFormat::Bmp);
    let edit = || Edit::bare("large").picture("image", bmp.clone());
    let answer = small.alice().edit(&edit()).await;
    answer.is_refused(400, "image_too_large");
    assert!(answer.message().contains("48x32 pixels, and has to be converted as a BMP"), "{}", answer.message());
    assert!(answer.message().contains("server.input_pixels_max"), "{}", answer.message());
    assert_eq!(upstream.submits().await, 0);
    let unchecked = Gateway::with(&upstream, &[("server.image_check", "off")]).await;
    unchecked.alice().edit(&edit()).await;
    let attempts = upstream.submits().await;
    assert!(attempts > 0, "the upstream decides");
    assert_eq!(scene().dimensions(), (48, 32));
}

#[tokio::test]
async fn a_request_that_is_refused_anyway_converts_nothing() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    let damaged = HEIC[..HEIC.len() / 2].to_vec();
    for (field, value, code) in [
        ("model", "gpt-image-none", "model_not_found"),
        ("n", "1000", "integer_above_max_value"),
        ("quality", "splendid", "invalid_value"),
        ("output_format", "gif", "unsupported_parameter"),
        ("response_format", "hex", "invalid_value"),
        ("output_compression", "101", "integer_above_max_value"),
        ("background", "green", "invalid_value"),
        ("seed_picture", "data:image/png;base64,iVBORw0KGgo=", "unsupported_parameter"),
    ] {
        let edit = Edit::bare("no picture").picture("image", damaged.clone()).field(field, value);
        let answer = gateway.alice().edit(&edit).await;
        // The picture is damaged, which would be found first if it were decoded.
        assert_eq!(answer.json()["error"]["code"], json!(code), "{field}: {}", answer.message());
        assert_eq!(answer.json()["error"]["param"], json!(field), "{}", answer.message());
    }
    assert_eq!(upstream.submits().await, 0);
}

#[tokio::test]
async fn a_hostile_container_is_refused_and_the_gateway_lives() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    let (broken, rare) = ("invalid_image_file", "unsupported_file_mimetype");
    for (seed, code, words) in [
        (&include_bytes!("../fuzz/seeds/input/heic-circle")[..], broken, "a HEIC that cannot be decoded"),
        (include_bytes!("../fuzz/seeds/input/heic-own-alpha"), broken, "a HEIC that cannot be decoded"),
        (include_bytes!("../fuzz/seeds/input/heic-extents"), broken, "a HEIC that cannot be decoded"),
        (include_bytes!("../fuzz/seeds/input/heic-overlay"), rare, "a HEIC that is an overlay of pictures"),
        (include_bytes!("../fuzz/seeds/input/heic-derived"), rare, "a HEIC that is derived of another picture"),
        (include_bytes!("../fuzz/seeds/input/heic-inner-size"), rare, "a HEIC that shows a small part of its pixels"),
        (include_bytes!("../fuzz/seeds/input/heic-inner-width"), "image_too_large", "1048576"),
        (include_bytes!("../fuzz/seeds/input/heic-turns"), rare, "a HEIC that is turned more than once"),
    ] {
        // The first byte of a seed is of the fuzz target.
        let answer = gateway.alice().edit(&Edit::bare("hostile").picture("image", seed[1..].to_vec())).await;
        answer.is_refused(400, code);
        assert!(answer.message().contains(words), "{}", answer.message());
    }
    assert_eq!(upstream.submits().await, 0);
    let grid = include_bytes!("../fuzz/seeds/input/heic-grid")[1..].to_vec();
    gateway.alice().edit(&Edit::bare("a grid").picture("image", grid)).await.pictures();
}
