//! Drawn pictures, decoded again.

use std::sync::Arc;

use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder};
use serde_json::json;

use super::super::encode::crc;
use super::*;
use crate::simulator::apis::prediction::read::read;
use crate::simulator::rules::models::Model;
use crate::simulator::rules::request::JPEG_QUALITY;
use crate::simulator::rules::values::Capability;
use crate::simulator::scenario::Scenario;

/// Returns a grey PNG.
pub(crate) fn png(width: u32, height: u32) -> Vec<u8> {
    encode(&RgbImage::from_pixel(width, height, image::Rgb([120; 3])).into(), Format::Png, JPEG_QUALITY)
}

pub(crate) fn data_uri(bytes: &[u8]) -> String {
    format!("data:image/png;base64,{}", base64_simd::STANDARD.encode_to_string(bytes))
}

/// Returns the text chunks; panics when a checksum is wrong.
pub(crate) fn read_texts(png: &[u8]) -> std::collections::BTreeMap<String, String> {
    let mut texts = std::collections::BTreeMap::new();
    let mut rest = &png[8..];
    while rest.len() >= 12 {
        let length = u32::from_be_bytes(rest[..4].try_into().unwrap()) as usize;
        let chunk = &rest[4..8 + length];
        assert_eq!(crc(chunk).to_be_bytes(), rest[8 + length..12 + length]);
        if let Some(text) = chunk.strip_prefix(b"tEXt") {
            let text = String::from_utf8(text.to_vec()).unwrap();
            let (key, value) = text.split_once('\0').unwrap();
            texts.insert(key.to_owned(), value.to_owned());
        }
        rest = &rest[12 + length..];
    }
    texts
}

fn drawing(model: &str, capability: Capability, body: &serde_json::Value) -> Drawing {
    let body = Bytes::from(serde_json::to_vec(body).unwrap());
    let request = read(Model::named(model).unwrap(), capability, &body, &Scenario::default()).unwrap();
    Drawing { request: Arc::new(request), index: 0, format: Format::Png, padding_bytes: 0, scenes: false }
}

#[test]
fn a_picture_has_the_requested_size_and_repeats_the_request() {
    let (one, two) = (png(40, 30), png(10, 10));
    let body =
        json!({"prompt": "paint it blue", "size": "1536x1024", "base64_images": [data_uri(&one), data_uri(&two)]});
    let drawn = draw(&drawing("gpt-image-2", Capability::ImageEdit, &body));
    let image = image::load_from_memory(&drawn).unwrap();
    assert_eq!((image.width(), image.height()), (1536, 1024));
    let texts = read_texts(&drawn);
    assert_eq!(texts["inputs"], format!("{},{}", blake3::hash(&one).to_hex(), blake3::hash(&two).to_hex()));
    assert_eq!(texts["prompt-blake3"], blake3::hash(b"paint it blue").to_hex().as_str());
    assert_eq!((texts["model"].as_str(), texts["size"].as_str()), ("gpt-image-2", "1536x1024"));
    assert!(!texts.contains_key("mask"));
}

#[test]
fn pictures_of_one_request_differ_and_other_formats_decode() {
    let mut drawing =
        drawing("gpt-image-1.5", Capability::TextToImage, &json!({"prompt": "p", "n": 2, "size": "256x256"}));
    let first = draw(&drawing);
    drawing.index = 1;
    assert_ne!(image::load_from_memory(&first).unwrap(), image::load_from_memory(&draw(&drawing)).unwrap());
    for (format, guessed) in [(Format::Jpeg, image::ImageFormat::Jpeg), (Format::Webp, image::ImageFormat::WebP)] {
        drawing.format = format;
        let drawn = draw(&drawing);
        assert_eq!(image::guess_format(&drawn).unwrap(), guessed);
        assert_eq!(image::load_from_memory(&drawn).unwrap().width(), 256);
    }
}

#[test]
fn a_transparent_background_is_transparent() {
    let body = json!({"prompt": "p", "size": "256x256", "background": "transparent"});
    let mut drawing = drawing("gpt-image-1", Capability::TextToImage, &body);
    for format in [Format::Png, Format::Webp] {
        drawing.format = format;
        let drawn = image::load_from_memory(&draw(&drawing)).unwrap().into_rgba8();
        assert_eq!((drawn.get_pixel(0, 0).0[3], drawn.get_pixel(128, 128).0[3]), (0, 255), "{format:?}");
    }
    drawing.format = Format::Jpeg;
    assert!(!image::load_from_memory(&draw(&drawing)).unwrap().color().has_alpha());
}

#[test]
fn only_the_transparent_part_of_the_mask_is_edited() {
    let mut mask = image::RgbaImage::from_pixel(64, 64, image::Rgba([0, 0, 0, 255]));
    for (x, _, pixel) in mask.enumerate_pixels_mut() {
        if x >= 32 {
            pixel.0[3] = 0;
        }
    }
    let mut mask_png = Vec::new();
    PngEncoder::new(&mut mask_png).write_image(&mask, 64, 64, ExtendedColorType::Rgba8).unwrap();
    let body = json!({
        "prompt": "p", "size": "256x256", "image": [], "base64_images": [data_uri(&png(64, 64))],
        "mask": data_uri(&mask_png),
    });
    let drawn = image::load_from_memory(&draw(&drawing("gpt-image-1.5-plus", Capability::ImageEdit, &body)))
        .unwrap()
        .into_rgb8();
    assert!((0..256).all(|y| drawn.get_pixel(10, y).0 == [120; 3]));
    assert!((0..256).all(|y| drawn.get_pixel(200, y).0 != [120; 3]));
}

/// The mean colour of a part of a picture: left, top, width and height.
fn mean(image: &image::RgbImage, [left, top, width, height]: [u32; 4]) -> [u32; 3] {
    let part = image::imageops::crop_imm(image, left, top, width, height).to_image();
    let sum = |channel: usize| part.pixels().map(|pixel| u32::from(pixel.0[channel])).sum::<u32>();
    [0, 1, 2].map(|channel| sum(channel) / (width * height))
}

/// Returns an edit of a green picture, without the strip of the prompt.
fn edit_of_green(prompt: &str) -> image::RgbImage {
    let green = RgbImage::from_pixel(64, 64, image::Rgb([70, 150, 60]));
    let input = encode(&green.into(), Format::Png, JPEG_QUALITY);
    let body = json!({"prompt": prompt, "size": "1024x1024", "base64_images": [data_uri(&input)]});
    image::load_from_memory(&draw(&drawing("gpt-image-2", Capability::ImageEdit, &body))).unwrap().into_rgb8()
}

#[test]
fn an_edit_changes_its_input_as_the_prompt_says() {
    let middle = [100, 400, 800, 300];
    let of = |prompt: &str| mean(&edit_of_green(prompt), middle);
    let brightness = |colour: [u32; 3]| colour.iter().sum::<u32>();
    let same = of("return it unchanged");
    assert_eq!(same, [70, 150, 60]);
    assert!(brightness(of("make it night")) < brightness(same) / 2, "{:?}", of("make it night"));
    let winter = of("in winter");
    assert!(brightness(winter) > brightness(same) && winter[2] >= winter[0], "{winter:?}");
    let autumn = of("autumn");
    assert!(autumn[0] > autumn[1] && autumn[1] > autumn[2], "{autumn:?}");
    let [red, green, blue] = of("black and white");
    assert!(red.abs_diff(green) < 3 && green.abs_diff(blue) < 3);
    let (night, winter_night) = (of("make it night"), of("make it a winter night"));
    assert!(brightness(winter_night) > brightness(night) && brightness(winter_night) < brightness(winter));
    // Words that mean nothing leave a tint of their own.
    assert!(of("a hat") != same && of("a hat") != of("a coat"));
    assert_eq!(edit_of_green("a winter night"), edit_of_green("a winter night"), "equal requests make equal pictures");
}

#[test]
fn the_prompt_and_a_mark_stand_at_the_edges_and_not_on_the_subject() {
    let strip = |prompt: &str| mean(&edit_of_green(prompt), [0, 990, 1024, 30]);
    let plain = edit_of_green("unchanged");
    assert!(mean(&plain, [0, 990, 1024, 30])[1] < 110, "the strip is dark");
    assert_ne!(strip("unchanged: 冬の夜"), strip("unchanged: 夏の朝"));
    assert!(mean(&plain, [930, 12, 80, 16])[1] < 130, "the mark");
    assert_eq!(mean(&plain, [0, 60, 1024, 860]), [70, 150, 60], "nothing else");
}

#[test]
fn every_effect_works_on_pictures_of_any_size() {
    let effects = "winter night sunset autumn spring rain storm fog desert underwater neon watercolor pixel comic ink \
                   pencil sepia vintage monochrome negative dark bright red";
    for (width, height) in [(16, 16), (64, 256), (256, 64)] {
        let mut image = RgbImage::from_pixel(width, height, image::Rgb([90; 3]));
        super::super::effects::apply(&mut image, &super::super::words::effects(effects), 1);
        assert_eq!(image.dimensions(), (width, height));
    }
    let mut one = RgbImage::new(1, 1);
    super::super::effects::apply(&mut one, &super::super::words::effects(effects), 1);
}

#[test]
fn a_generation_is_a_scene_that_fills_every_shape_or_a_plain_background() {
    let generation = |prompt: &str, size: &str, scenes: bool| {
        let body = json!({"prompt": prompt, "size": size});
        draw(&Drawing { scenes, ..drawing("gpt-image-2", Capability::TextToImage, &body) })
    };
    for size in ["1024x1024", "1536x1024", "1024x1536"] {
        let (cat, fox) = (generation("a cat at night", size, true), generation("a fox at night", size, true));
        let picture = image::load_from_memory(&cat).unwrap().into_rgb8();
        assert_eq!(format!("{}x{}", picture.width(), picture.height()), size);
        assert_ne!(cat, fox);
        let colours: std::collections::HashSet<[u8; 3]> = picture.pixels().map(|pixel| pixel.0).collect();
        assert!(colours.len() > 500, "{size}: {} colours", colours.len());
        assert!(cat.len() < 1_000_000, "{size}: {} bytes", cat.len());
    }
    let plain = generation("kill loop 17", "1024x1024", false);
    assert!(plain.len() < 40_000, "{} bytes", plain.len());
}
