//! Draws pictures that a person likes to look at and a test can check: the input, or a scene where there is none, changed as
//! the words of the prompt say, with the prompt written below. Words that change nothing leave a tint of the prompt's own.
//!
//! A PNG also has text chunks that repeat the request: `prompt-blake3`, `inputs` (digests of the input bytes, in
//! order), `mask`, `model` and `size`.

use std::io::Cursor;
use std::sync::OnceLock;

use axum::body::Bytes;
use image::{DynamicImage, ImageReader, RgbImage};

use super::encode::{encode, with_texts};
use super::scene::{self, Animal};
use super::words::{self, Effect};
use super::{caption, effects};
use crate::simulator::rules::inputs::Input;
use crate::simulator::rules::request::PictureRequest;
use crate::simulator::rules::values::Background;
use crate::simulator::scenario::Format;

/// Opacity of the tint of a prompt, of 256, and of the fainter one that distinguishes pictures of one request.
const TINT: u32 = 72;
const TINT_OF_INDEX: u32 = 20;
/// Width and height of the scenes, before they are scaled and cut.
const SCENE_EDGE: u32 = 1024;
/// Larger inputs are not decoded.
const DECODED_PIXELS_MAX: u64 = 100_000_000;

/// One picture to draw.
#[derive(Clone, Debug)]
pub(crate) struct Drawing {
    pub(crate) request: std::sync::Arc<PictureRequest>,
    pub(crate) index: u32,
    pub(crate) format: Format,
    pub(crate) padding_bytes: usize,
    /// A generation is a scene; otherwise a plain background, which is quick and small.
    pub(crate) scenes: bool,
}

/// Draws and encodes a picture; blocks for tens of milliseconds per megapixel.
pub(crate) fn draw(drawing: &Drawing) -> Bytes {
    let request = &drawing.request;
    let (width, height) = request.size;
    let original = canvas(drawing);
    let mut edited = original.clone();
    change(&mut edited, drawing);
    if !request.inputs.is_empty() {
        thumbnails(&mut edited, &request.inputs);
    }
    // Outside of a mask nothing changes, and half a text inside of it would say nothing.
    if request.mask.is_none() {
        caption::write_prompt(&mut edited, &request.prompt);
        caption::write_mark(&mut edited);
    }
    if request.n > 1 {
        caption::write_number(&mut edited, drawing.index + 1);
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
    /// Keeps ten indices at least 88 steps apart, by the golden ratio.
    const HUE_STEP: usize = 949;
    let hash = blake3::hash(prompt.as_bytes());
    let start = usize::from(hash.as_bytes()[0]) * 6;
    // Consecutive indices are far apart on the circle of hues, which has six sides of 256 steps.
    let hue = (start + index as usize * HUE_STEP) % (6 * 256);
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

/// Changes a picture as the prompt says.
fn change(image: &mut RgbImage, drawing: &Drawing) {
    let (request, index) = (&drawing.request, drawing.index);
    let hash = blake3::hash(request.prompt.as_bytes());
    let seed = u64::from_le_bytes(hash.as_bytes()[..8].try_into().expect("a hash is longer"));
    let asked: Vec<Effect> = words::effects(&request.prompt);
    effects::apply(image, &asked, seed ^ u64::from(index));
    let colour = colour(&request.prompt, index);
    match () {
        // A plain background has the colour already.
        () if request.inputs.is_empty() && !drawing.scenes => {}
        () if index > 0 && !asked.is_empty() => tint(image, colour, TINT_OF_INDEX),
        () if asked.is_empty() && !words::is_unchanged(&request.prompt) => tint(image, colour, TINT),
        () => {}
    }
}

/// Returns what is changed: the first input at the requested size, grey for one without bytes, or a background.
fn canvas(drawing: &Drawing) -> RgbImage {
    let request = &drawing.request;
    let (width, height) = request.size;
    match request.inputs.first() {
        None if drawing.scenes => scene(&request.prompt, width, height),
        None => gradient(width, height, colour(&request.prompt, drawing.index)),
        Some(Input::Url(_)) => RgbImage::from_pixel(width, height, image::Rgb([128; 3])),
        Some(Input::Picture(picture)) => match decode(&picture.bytes) {
            Some(image) => scaled(&image, width, height),
            None => RgbImage::from_pixel(width, height, image::Rgb([128; 3])),
        },
    }
}

/// Returns the scene for a prompt, cut to a size.
fn scene(prompt: &str, width: u32, height: u32) -> RgbImage {
    const CATS: &[&str] = &["cat", "kitten", "katze", "chat", "gato", "猫", "고양이", "кот", "кошк"];
    static FOX: OnceLock<DynamicImage> = OnceLock::new();
    static CAT: OnceLock<DynamicImage> = OnceLock::new();
    let (drawn, animal) = if words::names(prompt, CATS) { (&CAT, Animal::Cat) } else { (&FOX, Animal::Fox) };
    let drawn = drawn.get_or_init(|| DynamicImage::ImageRgb8(scene::draw(animal, SCENE_EDGE)));
    if (width, height) == (SCENE_EDGE, SCENE_EDGE) {
        return drawn.to_rgb8();
    }
    // A wide picture shows the middle: the animal is there.
    let (wide, high) = (u64::from(width), u64::from(height));
    let part = |one: u64, other: u64| u32::try_from(u64::from(SCENE_EDGE) * one / other.max(1)).unwrap_or(1).max(1);
    let cut = if wide >= high {
        let rows = part(high, wide);
        drawn.crop_imm(0, (SCENE_EDGE - rows) * 3 / 5, SCENE_EDGE, rows)
    } else {
        let columns = part(wide, high);
        drawn.crop_imm((SCENE_EDGE - columns) / 2, 0, columns, SCENE_EDGE)
    };
    scaled(&cut, width, height)
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

fn tint(image: &mut RgbImage, colour: [u8; 3], opacity: u32) {
    let tables = colour.map(|part| {
        let mut table = [0_u8; 256];
        for (value, slot) in (0_u32..).zip(&mut table) {
            *slot = byte(((value * (256 - opacity) + u32::from(part) * opacity) / 256) as usize);
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
