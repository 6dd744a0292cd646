//! Draws pictures that can be checked: the input comes back, edited visibly, with the prompt written on it.
//!
//! A PNG also carries text chunks that tell what was asked: `prompt-blake3`, `inputs` (digests of the input bytes, in
//! order), `mask`, `model` and `size`.

use std::io::Cursor;

use axum::body::Bytes;
use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::codecs::webp::WebPEncoder;
use image::{DynamicImage, ImageReader, RgbImage};

use super::inputs::Input;
use super::letters;
use super::rules::{Background, Order};
use super::scenario::Format;

/// How much of the tint shows, of 256.
const TINT: u32 = 72;
/// Inputs whose headers promise more pixels than this are not decoded.
const DECODED_PIXELS_MAX: u64 = 100_000_000;

/// One picture to draw.
#[derive(Clone, Debug)]
pub(super) struct Job {
    pub(super) order: std::sync::Arc<Order>,
    pub(super) index: u32,
    pub(super) format: Format,
    pub(super) padding_bytes: usize,
}

/// Draws and encodes; takes tens of milliseconds for a megapixel.
pub(super) fn draw(job: &Job) -> Bytes {
    let order = &job.order;
    let (width, height) = order.size;
    let colour = colour(&order.prompt, job.index);
    let original = canvas(order, colour);
    let mut edited = original.clone();
    if !order.inputs.is_empty() {
        tint(&mut edited, colour);
        thumbnails(&mut edited, &order.inputs);
    }
    border(&mut edited, colour);
    letters::write_prompt(&mut edited, &order.prompt);
    if order.n > 1 {
        letters::write_number(&mut edited, job.index + 1);
    }
    if let Some(Input::Picture(mask)) = &order.mask
        && let Some(mask) = decode(&mask.bytes)
    {
        restore(&mut edited, &original, &mask.resize_exact(width, height, image::imageops::FilterType::Nearest));
    }
    let finished = match order.background {
        // A JPEG has no transparency.
        Background::Transparent if job.format != Format::Jpeg => cut_out(edited),
        Background::Transparent | Background::Opaque => DynamicImage::ImageRgb8(edited),
    };
    let mut bytes = encode(&finished, job.format, order.jpeg_quality);
    if job.format == Format::Png {
        let mut texts = texts(order);
        if job.padding_bytes > 0 {
            // Inside of the picture, which ends with its end marker like any other.
            texts.push(("padding", " ".repeat(job.padding_bytes)));
        }
        bytes = with_texts(&bytes, &texts);
    } else {
        bytes.resize(bytes.len() + job.padding_bytes, 0);
    }
    Bytes::from(bytes)
}

/// A colour that follows from the prompt and the number of the picture: never grey, so that it shows on any picture.
fn colour(prompt: &str, index: u32) -> [u8; 3] {
    const LOW: usize = 60;
    const HIGH: usize = 220;
    let hash = blake3::hash(prompt.as_bytes());
    let start = usize::from(hash.as_bytes()[0]) * 6;
    // Neighbouring numbers are far apart on the circle of hues, which has six sides of 256 steps.
    let hue = (start + index as usize * 491) % (6 * 256);
    let step = hue % 256 * (HIGH - LOW) / 256;
    let (rising, falling) = (LOW + step, HIGH - step);
    match hue / 256 {
        0 => [HIGH, rising, LOW],
        1 => [falling, HIGH, LOW],
        2 => [LOW, HIGH, rising],
        3 => [LOW, falling, HIGH],
        4 => [rising, LOW, HIGH],
        _ => [HIGH, LOW, falling],
    }
    .map(byte)
}

/// What is under the edit: the first input at the asked size, grey for one that is not here, or a gradient.
fn canvas(order: &Order, colour: [u8; 3]) -> RgbImage {
    let (width, height) = order.size;
    match order.inputs.first() {
        None => gradient(width, height, colour),
        Some(Input::Url(_)) => RgbImage::from_pixel(width, height, image::Rgb([128; 3])),
        Some(Input::Picture(picture)) => match decode(&picture.bytes) {
            Some(image) => scaled(&image, width, height),
            None => RgbImage::from_pixel(width, height, image::Rgb([128; 3])),
        },
    }
}

/// `DynamicImage` scales inside of the `image` crate, which is optimised in every profile.
fn scaled(image: &DynamicImage, width: u32, height: u32) -> RgbImage {
    let scaled = if image.width() >= width && image.height() >= height {
        image.thumbnail_exact(width, height)
    } else {
        image.resize_exact(width, height, image::imageops::FilterType::Triangle)
    };
    scaled.into_rgb8()
}

fn decode(bytes: &[u8]) -> Option<DynamicImage> {
    let size = imagesize::blob_size(bytes).ok()?;
    if size.width as u64 * size.height as u64 > DECODED_PIXELS_MAX {
        return None;
    }
    ImageReader::new(Cursor::new(bytes)).with_guessed_format().ok()?.decode().ok()
}

fn gradient(width: u32, height: u32, colour: [u8; 3]) -> RgbImage {
    let mut image = RgbImage::new(width, height);
    let row_bytes = width as usize * 3;
    for (y, row) in image.chunks_exact_mut(row_bytes).enumerate() {
        // One colour a row compresses to almost nothing and is quick to fill.
        let share = 255 - (y * 200 / height as usize);
        let pixel = colour.map(|part| byte(usize::from(part) * share / 255 + (255 - share) / 4));
        for target in row.chunks_exact_mut(3) {
            target.copy_from_slice(&pixel);
        }
    }
    image
}

fn byte(value: usize) -> u8 {
    u8::try_from(value.min(255)).expect("it is at most 255")
}

fn tint(image: &mut RgbImage, colour: [u8; 3]) {
    let tables = colour.map(|part| {
        let mut table = [0_u8; 256];
        for (value, slot) in (0_u32..).zip(&mut table) {
            *slot = byte(((value * (256 - TINT) + u32::from(part) * TINT) / 256) as usize);
        }
        table
    });
    for pixel in image.chunks_exact_mut(3) {
        for (value, table) in pixel.iter_mut().zip(&tables) {
            *value = table[usize::from(*value)];
        }
    }
}

/// The inputs after the first, small, in the lower right corner.
fn thumbnails(image: &mut RgbImage, inputs: &[Input]) {
    let edge = (image.width().min(image.height()) / 8).max(4);
    let columns = (image.width() / (edge + 4)).max(1);
    for (place, input) in (0_u32..).zip(inputs.iter().skip(1)) {
        let small = match input {
            Input::Url(_) => RgbImage::from_pixel(edge, edge, image::Rgb([160; 3])),
            Input::Picture(picture) => match decode(&picture.bytes) {
                Some(decoded) => decoded.thumbnail_exact(edge, edge).into_rgb8(),
                None => continue,
            },
        };
        let x = image.width().saturating_sub((place % columns + 1) * (edge + 4));
        let y = image.height().saturating_sub((place / columns + 1) * (edge + 4));
        image::imageops::replace(image, &small, i64::from(x), i64::from(y));
    }
}

fn border(image: &mut RgbImage, colour: [u8; 3]) {
    let (width, height) = image.dimensions();
    let thickness = (width.min(height) / 64).max(2);
    letters::fill(image, [0, 0, width, thickness], colour);
    letters::fill(image, [0, height - thickness, width, thickness], colour);
    letters::fill(image, [0, 0, thickness, height], colour);
    letters::fill(image, [width - thickness, 0, thickness, height], colour);
}

/// Where the mask is opaque, the original stays.
fn restore(edited: &mut RgbImage, original: &RgbImage, mask: &DynamicImage) {
    let mask = mask.to_rgba8();
    let pixels = edited.chunks_exact_mut(3).zip(original.chunks_exact(3));
    for ((edited, original), mask) in pixels.zip(mask.chunks_exact(4)) {
        if mask[3] >= 128 {
            edited.copy_from_slice(original);
        }
    }
}

/// The middle of a picture; an eighth on each side becomes transparent.
fn cut_out(image: RgbImage) -> DynamicImage {
    let mut image = DynamicImage::ImageRgb8(image).into_rgba8();
    let (width, height) = (image.width() as usize, image.height() as usize);
    let (side, above) = (width / 8, height / 8);
    for (y, row) in image.chunks_exact_mut(width * 4).enumerate() {
        if y < above || y >= height - above {
            row.fill(0);
        } else {
            row[..side * 4].fill(0);
            row[(width - side) * 4..].fill(0);
        }
    }
    DynamicImage::ImageRgba8(image)
}

fn encode(image: &DynamicImage, format: Format, jpeg_quality: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    match format {
        Format::Png => {
            let encoder = PngEncoder::new_with_quality(&mut bytes, CompressionType::Fast, FilterType::Sub);
            image.write_with_encoder(encoder)
        }
        Format::Jpeg => image.write_with_encoder(JpegEncoder::new_with_quality(&mut bytes, jpeg_quality)),
        Format::Webp => image.write_with_encoder(WebPEncoder::new_lossless(&mut bytes)),
    }
    .expect("the buffer grows and has the size of the picture");
    bytes
}

fn texts(order: &Order) -> Vec<(&'static str, String)> {
    let inputs: Vec<String> = order.inputs.iter().map(Input::digest).collect();
    let mut texts = vec![
        ("prompt-blake3", blake3::hash(order.prompt.as_bytes()).to_hex().to_string()),
        ("inputs", inputs.join(",")),
        ("model", order.model.name.to_owned()),
        ("size", order.size_text.clone()),
    ];
    if let Some(mask) = &order.mask {
        texts.push(("mask", mask.digest()));
    }
    texts
}

/// Length, type, 13 bytes and checksum of the header chunk, after the 8 bytes that begin every PNG.
const AFTER_HEADER: usize = 8 + 4 + 4 + 13 + 4;

/// Puts `tEXt` chunks after the header of a PNG; the encoder cannot.
fn with_texts(png: &[u8], texts: &[(&str, String)]) -> Vec<u8> {
    let (head, tail) = png.split_at(AFTER_HEADER);
    let mut out = head.to_vec();
    for (key, text) in texts {
        let mut chunk = b"tEXt".to_vec();
        chunk.extend(key.bytes());
        chunk.push(0);
        chunk.extend(text.bytes());
        let length = u32::try_from(chunk.len() - 4).expect("a text is short");
        out.extend(length.to_be_bytes());
        out.extend(&chunk);
        out.extend(crc(&chunk).to_be_bytes());
    }
    out.extend(tail);
    out
}

/// The checksum of PNG chunks, per RFC 2083 §15; bit by bit, as the texts are short.
fn crc(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for &byte in bytes {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xEDB8_8320 & 0_u32.wrapping_sub(crc & 1));
        }
    }
    !crc
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;

    use image::{ExtendedColorType, ImageEncoder};
    use serde_json::json;

    use super::*;
    use crate::simulator::models::Model;
    use crate::simulator::rules::{Capability, JPEG_QUALITY, read};
    use crate::simulator::scenario::Scenario;

    /// A grey PNG.
    pub(in crate::simulator) fn png(width: u32, height: u32) -> Vec<u8> {
        encode(&RgbImage::from_pixel(width, height, image::Rgb([120; 3])).into(), Format::Png, JPEG_QUALITY)
    }

    pub(in crate::simulator) fn data_uri(bytes: &[u8]) -> String {
        format!("data:image/png;base64,{}", base64_simd::STANDARD.encode_to_string(bytes))
    }

    /// The text chunks, read with the checksums verified.
    pub(in crate::simulator) fn read_texts(png: &[u8]) -> std::collections::BTreeMap<String, String> {
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

    fn job(model: &str, capability: Capability, body: &serde_json::Value) -> Job {
        let body = Bytes::from(serde_json::to_vec(body).unwrap());
        let order = read(Model::named(model).unwrap(), capability, &body, &Scenario::default()).unwrap();
        Job { order: Arc::new(order), index: 0, format: Format::Png, padding_bytes: 0 }
    }

    #[test]
    fn a_picture_has_the_asked_size_and_tells_what_was_asked() {
        let (one, two) = (png(40, 30), png(10, 10));
        let body =
            json!({"prompt": "paint it blue", "size": "1536x1024", "base64_images": [data_uri(&one), data_uri(&two)]});
        let drawn = draw(&job("gpt-image-2", Capability::ImageEdit, &body));
        let image = image::load_from_memory(&drawn).unwrap();
        assert_eq!((image.width(), image.height()), (1536, 1024));
        let texts = read_texts(&drawn);
        assert_eq!(texts["inputs"], format!("{},{}", blake3::hash(&one).to_hex(), blake3::hash(&two).to_hex()));
        assert_eq!(texts["prompt-blake3"], blake3::hash(b"paint it blue").to_hex().as_str());
        assert_eq!((texts["model"].as_str(), texts["size"].as_str()), ("gpt-image-2", "1536x1024"));
        assert!(!texts.contains_key("mask"));
    }

    #[test]
    fn n_pictures_differ_and_other_formats_decode() {
        let mut job = job("gpt-image-1.5", Capability::TextToImage, &json!({"prompt": "p", "n": 2, "size": "256x256"}));
        let first = draw(&job);
        job.index = 1;
        assert_ne!(image::load_from_memory(&first).unwrap(), image::load_from_memory(&draw(&job)).unwrap());
        for (format, guessed) in [(Format::Jpeg, image::ImageFormat::Jpeg), (Format::Webp, image::ImageFormat::WebP)] {
            job.format = format;
            let drawn = draw(&job);
            assert_eq!(image::guess_format(&drawn).unwrap(), guessed);
            assert_eq!(image::load_from_memory(&drawn).unwrap().width(), 256);
        }
    }

    #[test]
    fn a_transparent_background_is_really_transparent() {
        let body = json!({"prompt": "p", "size": "256x256", "background": "transparent"});
        let mut job = job("gpt-image-1", Capability::TextToImage, &body);
        for format in [Format::Png, Format::Webp] {
            job.format = format;
            let drawn = image::load_from_memory(&draw(&job)).unwrap().into_rgba8();
            assert_eq!((drawn.get_pixel(0, 0).0[3], drawn.get_pixel(128, 128).0[3]), (0, 255), "{format:?}");
        }
        job.format = Format::Jpeg;
        assert!(!image::load_from_memory(&draw(&job)).unwrap().color().has_alpha());
    }

    #[test]
    fn the_edit_stays_where_the_mask_is_transparent() {
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
        let drawn = image::load_from_memory(&draw(&job("gpt-image-1.5-plus", Capability::ImageEdit, &body)))
            .unwrap()
            .into_rgb8();
        assert!((0..256).all(|y| drawn.get_pixel(10, y).0 == [120; 3]));
        assert!((0..256).all(|y| drawn.get_pixel(200, y).0 != [120; 3]));
    }
}
