use image::codecs::png::PngEncoder;
use image::codecs::tiff::TiffEncoder;
use image::{DynamicImage, GenericImageView, ImageFormat, Rgba, RgbaImage};
use std::io::Cursor;
use std::time::Duration;

use super::*;
use crate::api::request::test_support::{content, server, spool};
use crate::model::picture::Structure;
use crate::model::picture::test_support::{encoded, exif, jpeg_segment, png_chunk, webp, webp_chunk};
use crate::model::{Digest, Picture};

mod formats;
mod masks;

fn converter(pixels_max: u64) -> InputConverter {
    let conversions = ConversionConfig { input_pixels_max: pixels_max, ..server().conversions };
    InputConverter::new(&conversions, &Metrics::default())
}

fn bytes(content: Vec<u8>) -> Input {
    let content = Bytes::from(content);
    let structure = Structure::of(&content).unwrap();
    let picture = Picture { digest: Digest::of(&content), bytes: content.len() as u64, structure };
    Input::Bytes { picture, source: Arc::new(content) }
}

fn form(images: Vec<Vec<u8>>, mask: Option<Vec<u8>>) -> Form {
    Form { images: images.into_iter().map(bytes).collect(), mask: mask.map(bytes), ..Form::default() }
}

/// Prepares a form with a limit of pixels and one of the bytes of a PNG.
async fn prepare_within(form: Form, pixels_max: u64, bytes_max: u64) -> Result<Form, ApiError> {
    let (_directory, spool) = spool();
    let limits = InputLimits { spool: &spool, pictures: server().requests.picture_limits(), bytes_max };
    converter(pixels_max).prepare(form, limits).await
}

async fn prepare(form: Form) -> Result<Form, ApiError> {
    prepare_within(form, 1 << 24, 50_000_000).await
}

/// Returns a picture of 12x8 pixels of which every pixel is another, in large steps.
fn scene() -> DynamicImage {
    let step = |n: u32| u8::try_from(n).unwrap();
    RgbaImage::from_fn(12, 8, |x, y| Rgba([step(x * 20), step(y * 30), step((x + y) * 12), 255])).into()
}

/// Decodes a prepared input, which must be a PNG.
fn decoded(input: &Input) -> DynamicImage {
    let bytes = content(input);
    let Input::Bytes { picture, .. } = input else { panic!("{input:?}") };
    assert_eq!((picture.digest, picture.bytes), (Digest::of(&bytes), bytes.len() as u64));
    assert_eq!(picture.structure, Structure::of(&Bytes::from(bytes.clone())).unwrap());
    assert_eq!((picture.structure.format, picture.structure.damage), (Some(Format::Png), None));
    assert_eq!(picture.structure.orientation, Orientation::UPRIGHT);
    image::load_from_memory_with_format(&bytes, ImageFormat::Png).unwrap()
}

/// Compares two pictures pixel by pixel.
fn assert_same(found: &DynamicImage, expected: &DynamicImage, tolerance: u8, name: &str) {
    assert_eq!(found.dimensions(), expected.dimensions(), "{name}");
    let (found, expected) = (found.to_rgba8(), expected.to_rgba8());
    for (x, y, pixel) in found.enumerate_pixels() {
        let other = expected.get_pixel(x, y);
        let is_near = pixel.0.iter().zip(other.0).all(|(&one, other)| one.abs_diff(other) <= tolerance);
        assert!(is_near, "{name} at {x},{y}: {pixel:?} is not {other:?}");
    }
}

/// Returns what is seen of stored pixels with an orientation, by the definition in EXIF: where row 0 and column 0 lie.
fn seen(stored: &DynamicImage, orientation: u16) -> DynamicImage {
    let (width, height) = stored.dimensions();
    let (right, bottom) = (width - 1, height - 1);
    let size = if orientation > 4 { (height, width) } else { (width, height) };
    RgbaImage::from_fn(size.0, size.1, |x, y| {
        let (x, y) = match orientation {
            2 => (right - x, y),
            3 => (right - x, bottom - y),
            4 => (x, bottom - y),
            5 => (y, x),
            6 => (y, bottom - x),
            7 => (right - y, bottom - x),
            8 => (right - y, x),
            _ => (x, y),
        };
        stored.get_pixel(x, y)
    })
    .into()
}

#[tokio::test]
async fn what_can_be_sent_as_it_is_keeps_its_bytes() {
    let rgb = DynamicImage::from(scene().to_rgb8());
    let turned = [b"Exif\0\0", &exif(6, true)[..]].concat();
    let jpeg = encoded(&rgb, ImageFormat::Jpeg);
    let jpeg = [&jpeg[..2], &jpeg_segment(0xe1, &turned), &jpeg[2..]].concat();
    let images = vec![
        encoded(&scene(), ImageFormat::Png),
        jpeg.clone(),
        encoded(&rgb, ImageFormat::WebP),
        b"%PDF-1.7".to_vec(),
        b"\0\x01\x02".to_vec(),
        Vec::new(),
        include_bytes!("../../../../../tests/gateway/samples/plain.avif").to_vec(),
        jpeg[..jpeg.len() - 30].to_vec(),
    ];
    let prepared = prepare(form(images.clone(), None)).await.unwrap();
    assert_eq!(prepared.images.iter().map(content).collect::<Vec<_>>(), images);
    // With a mask, the first picture alone is made upright.
    let mask = encoded(&DynamicImage::new_rgba8(8, 12), ImageFormat::Png);
    let prepared = prepare(form(vec![jpeg.clone(), jpeg.clone()], Some(mask.clone()))).await.unwrap();
    assert_eq!(decoded(&prepared.images[0]).dimensions(), (8, 12));
    assert_eq!(content(&prepared.images[1]), jpeg);
    assert_eq!(content(prepared.mask.as_ref().unwrap()), mask);
    let address = Input::Link("https://example.com/a.gif".to_owned());
    let linked = Form { images: vec![address.clone()], mask: Some(address), ..Form::default() };
    assert!(matches!(prepare(linked).await.unwrap().images[0], Input::Link(_)));
}

#[tokio::test]
async fn a_conversion_waits_for_a_slot_and_a_disconnect_releases_everything() {
    let (_directory, spool) = spool();
    let limits = InputLimits { spool: &spool, pictures: server().requests.picture_limits(), bytes_max: 1 << 20 };
    let converter = converter(1 << 20);
    let gif = || form(vec![encoded(&scene(), ImageFormat::Gif)], None);
    let held = converter.slots.enter().await;
    {
        let mut waiting = std::pin::pin!(converter.prepare(gif(), limits));
        assert!(tokio::time::timeout(Duration::from_millis(100), &mut waiting).await.is_err(), "no slot is free");
        assert_eq!(converter.slots.pending(), 2);
    }
    assert_eq!((converter.slots.pending(), spool.status().reserved), (1, 0));
    drop(held);
    let prepared = converter.prepare(gif(), limits).await.unwrap();
    assert!(spool.status().bytes > 0, "the PNG is in the spool");
    let labels = InputLabels { format: "GIF", result: "converted" };
    assert_eq!(converter.conversions.get_or_create(&labels).get(), 1);
    drop(prepared);
    assert_eq!((spool.status().reserved, converter.slots.free()), (0, 1));
}

#[tokio::test]
async fn without_space_in_the_spool_a_picture_is_refused_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let spool = Spool::for_test(directory.path().to_owned(), 64, 4096);
    let limits = InputLimits { spool: &spool, pictures: server().requests.picture_limits(), bytes_max: 1 << 20 };
    let noise = RgbaImage::from_fn(90, 90, |x, y| {
        let n = (x * 7919 + y * 104_729).wrapping_mul(2_654_435_761).to_le_bytes();
        Rgba([n[1], n[2], n[3], 255])
    });
    let bmp = encoded(&DynamicImage::from(noise), ImageFormat::Bmp);
    let error = converter(1 << 20).prepare(form(vec![bmp], None), limits).await.unwrap_err();
    assert_eq!(error.code(), "upload_space_full");
    assert_eq!(spool.status().reserved, 0);
}

#[tokio::test]
async fn a_request_waits_only_for_a_time_and_its_work_keeps_the_slot() {
    let (_directory, spool) = spool();
    let limits = InputLimits { spool: &spool, pictures: server().requests.picture_limits(), bytes_max: 1 << 20 };
    let short = InputConverter { timeout: Duration::from_millis(50), ..converter(1 << 20) };
    let held = short.slots.enter().await;
    let (finish, finished) = std::sync::mpsc::channel::<()>();
    #[expect(clippy::disallowed_methods, reason = "a request of the test, which is aborted")]
    let work = tokio::spawn(held.run(move || finished.recv()));
    let gif = || form(vec![encoded(&scene(), ImageFormat::Gif)], None);
    let error = short.prepare(gif(), limits).await.unwrap_err();
    assert_eq!(error.code(), "too_many_conversions");
    work.abort();
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(short.slots.free(), 0, "the work goes on");
    // What needs no conversion does not wait.
    let png = encoded(&scene(), ImageFormat::Png);
    assert!(short.prepare(form(vec![png], None), limits).await.is_ok());
    finish.send(()).unwrap();
    let patient = InputConverter { timeout: Duration::from_mins(1), ..short };
    assert!(patient.prepare(gif(), limits).await.is_ok());
    assert_eq!((spool.status().reserved, patient.slots.free()), (0, 1));
}

#[tokio::test]
async fn a_decoder_that_panics_releases_its_slot() {
    let slots = ConversionSlots::new(1);
    let panicked = slots.enter().await.run(|| assert_eq!(1, 2, "a fault of a decoder")).await;
    assert!(panicked.unwrap_err().contains("panic"));
    assert_eq!((slots.free(), slots.pending()), (1, 0));
}
