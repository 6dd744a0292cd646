//! Draws pictures that a test can check: the input, visibly edited, with the prompt written on it.
//!
//! A PNG also has text chunks that repeat the request: `prompt-blake3`, `inputs` (digests of the input bytes, in
//! order), `mask`, `model` and `size`.

use std::io::Cursor;

use axum::body::Bytes;
use image::{DynamicImage, ImageReader, RgbImage};

use super::encode::{encode, with_texts};
use super::letters;
use crate::simulator::rules::inputs::Input;
use crate::simulator::rules::request::PictureRequest;
use crate::simulator::rules::values::Background;
use crate::simulator::scenario::Format;

/// Opacity of the tint, of 256.
const TINT: u32 = 72;
/// Larger inputs are not decoded.
const DECODED_PIXELS_MAX: u64 = 100_000_000;

/// One picture to draw.
#[derive(Clone, Debug)]
pub(crate) struct Drawing {
    pub(crate) request: std::sync::Arc<PictureRequest>,
    pub(crate) index: u32,
    pub(crate) format: Format,
    pub(crate) padding_bytes: usize,
}

/// Draws and encodes a picture; blocks for tens of milliseconds per megapixel.
pub(crate) fn draw(drawing: &Drawing) -> Bytes {
    let request = &drawing.request;
    let (width, height) = request.size;
    let colour = colour(&request.prompt, drawing.index);
    let original = canvas(request, colour);
    let mut edited = original.clone();
    if !request.inputs.is_empty() {
        tint(&mut edited, colour);
        thumbnails(&mut edited, &request.inputs);
    }
    border(&mut edited, colour);
    letters::write_prompt(&mut edited, &request.prompt);
    if request.n > 1 {
        letters::write_number(&mut edited, drawing.index + 1);
    }
    if let Some(Input::Picture(mask)) = &request.mask
        && let Some(mask) = decode(&mask.bytes)
    {
        restore(&mut edited, &original, &mask.resize_exact(width, height, image::imageops::FilterType::Nearest));
    }
    let finished = match request.background {
        // A JPEG has no transparency.
        Background::Transparent if drawing.format != Format::Jpeg => cut_out(edited),
        Background::Transparent | Background::Opaque => DynamicImage::ImageRgb8(edited),
    };
    let mut bytes = encode(&finished, drawing.format, request.jpeg_quality);
    if drawing.format == Format::Png {
        let mut texts = texts(request);
        if drawing.padding_bytes > 0 {
            // Inside the file, which still ends with its end marker.
            texts.push(("padding", " ".repeat(drawing.padding_bytes)));
        }
        bytes = with_texts(&bytes, &texts);
    } else {
        bytes.resize(bytes.len() + drawing.padding_bytes, 0);
    }
    Bytes::from(bytes)
}

/// Returns the colour of a prompt and index: never grey, so that it is visible on any picture.
fn colour(prompt: &str, index: u32) -> [u8; 3] {
    const LOW: usize = 60;
    const HIGH: usize = 220;
    let hash = blake3::hash(prompt.as_bytes());
    let start = usize::from(hash.as_bytes()[0]) * 6;
    // Consecutive indices are far apart on the circle of hues, which has six sides of 256 steps.
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

/// Returns the background of an edit: the first input at the requested size, grey for one without bytes, or a gradient.
fn canvas(request: &PictureRequest, colour: [u8; 3]) -> RgbImage {
    let (width, height) = request.size;
    match request.inputs.first() {
        None => gradient(width, height, colour),
        Some(Input::Url(_)) => RgbImage::from_pixel(width, height, image::Rgb([128; 3])),
        Some(Input::Picture(picture)) => match decode(&picture.bytes) {
            Some(image) => scaled(&image, width, height),
            None => RgbImage::from_pixel(width, height, image::Rgb([128; 3])),
        },
    }
}

/// Scales a picture. `DynamicImage` scales inside the `image` crate, which is optimised in every profile.
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
        // Rows of one colour are quick to fill and to compress.
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

/// Draws the inputs after the first, small, in the lower right corner.
fn thumbnails(image: &mut RgbImage, inputs: &[Input]) {
    let edge = (image.width().min(image.height()) / 8).max(4);
    let columns = (image.width() / (edge + 4)).max(1);
    for (position, input) in (0_u32..).zip(inputs.iter().skip(1)) {
        let small = match input {
            Input::Url(_) => RgbImage::from_pixel(edge, edge, image::Rgb([160; 3])),
            Input::Picture(picture) => match decode(&picture.bytes) {
                Some(decoded) => decoded.thumbnail_exact(edge, edge).into_rgb8(),
                None => continue,
            },
        };
        let x = image.width().saturating_sub((position % columns + 1) * (edge + 4));
        let y = image.height().saturating_sub((position / columns + 1) * (edge + 4));
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

/// Restores the original where the mask is opaque.
fn restore(edited: &mut RgbImage, original: &RgbImage, mask: &DynamicImage) {
    let mask = mask.to_rgba8();
    let pixels = edited.chunks_exact_mut(3).zip(original.chunks_exact(3));
    for ((edited, original), mask) in pixels.zip(mask.chunks_exact(4)) {
        if mask[3] >= 128 {
            edited.copy_from_slice(original);
        }
    }
}

/// Makes an eighth of the picture on each side transparent.
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

fn texts(request: &PictureRequest) -> Vec<(&'static str, String)> {
    let inputs: Vec<String> = request.inputs.iter().map(Input::digest).collect();
    let mut texts = vec![
        ("prompt-blake3", blake3::hash(request.prompt.as_bytes()).to_hex().to_string()),
        ("inputs", inputs.join(",")),
        ("model", request.model.name.to_owned()),
        ("size", request.size_text.clone()),
    ];
    if let Some(mask) = &request.mask {
        texts.push(("mask", mask.digest()));
    }
    texts
}

#[cfg(test)]
pub(crate) mod tests;
