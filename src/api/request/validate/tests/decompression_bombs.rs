//! Pictures that are small to send and huge to decode: each is refused or accepted by rule, and none is decoded.

use super::*;
use crate::model::picture::WINDOW_BYTES;
use crate::model::picture::test_support::{
    CountingSource, animated_webp, canvas, jpeg_of, jpeg_segment, lossless_pixels, png_chunk, png_of, webp, webp_chunk,
};

fn apng(frames: u32) -> Vec<u8> {
    let control = [frames.to_be_bytes(), [0; 4]].concat();
    png_of(64, 64, &[png_chunk(b"acTL", &control), png_chunk(b"IDAT", &[0; 10])])
}

/// Returns a WebP of a canvas and `count` chunks that are no frames.
fn hidden_frames(count: usize) -> Vec<u8> {
    let head = [canvas(2, 64, 64), webp_chunk(b"ANIM", &[0; 6])];
    webp(&head.into_iter().chain(std::iter::repeat_n(webp_chunk(b"JUNK", &[0; 16]), count)).collect::<Vec<_>>())
}

fn lossless_webp(width: u32, height: u32) -> Vec<u8> {
    webp(&[webp_chunk(b"VP8L", &lossless_pixels(width, height))])
}

fn jpeg(width: u16, height: u16, metadata: usize) -> Vec<u8> {
    jpeg_of(width, height, &vec![jpeg_segment(0xe2, &vec![0; 60_000]); metadata])
}

fn gif(frames: usize) -> Vec<u8> {
    let mut bytes = b"GIF89a\xff\xff\xff\xff\0\0\0".to_vec();
    bytes.extend(std::iter::repeat_n(b"\x2c\0\0\0\0\xff\xff\xff\xff\0\x02\x02\x4c\x01\0", frames).flatten());
    bytes
}

const TOO_LARGE: &str = "image_too_large";
const UNREADABLE: &str = "invalid_image_file";
const UNKNOWN: &str = "unsupported_file_mimetype";

fn corpus() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let entities = (0..9).map(|n| format!("<!ENTITY l{}'&l{n};&l{n};&l{n};&l{n};&l{n};&l{n};&l{n};&l{n};'>", n + 1));
    let svg = format!("<svg><!DOCTYPE x [<!ENTITY l0 'lol'>{}]>&l9;</svg>", entities.collect::<String>());
    // Stands for compressed zeros, a thousand to one.
    let zeros = png_chunk(b"IDAT", &vec![0; 400_000]);
    let many = vec![png_chunk(b"tEXt", b""); 2000];
    let polyglot =
        [png_of(8, 8, &[png_chunk(b"IDAT", b"x")]), b"PK\x03\x04<html><script>alert(1)</script>%PDF-1.7".to_vec()];
    let hidden = [b"GIF89a".to_vec(), png_of(8, 8, &[])].concat();
    vec![
        ("a PNG of the most pixels", png_of(65_535, 65_535, &[]), TOO_LARGE),
        ("a PNG of one row", png_of(u32::MAX, 1, &[]), TOO_LARGE),
        ("a PNG of one column", png_of(1, 0x8000_0000, &[]), TOO_LARGE),
        ("a PNG of nothing", png_of(0, 0, &[]), UNREADABLE),
        (
            "a PNG that decodes to gigabytes, of few pixels by its header",
            png_of(4000, 4000, std::slice::from_ref(&zeros)),
            "",
        ),
        ("the largest photograph of a telephone", png_of(16_320, 12_240, &[zeros]), ""),
        ("an animation that is too long", apng(10_000), TOO_LARGE),
        ("an animation without end", apng(u32::MAX), TOO_LARGE),
        ("an animation", apng(100), ""),
        ("an animation of no frames", apng(0), ""),
        ("a PNG of metadata alone", png_of(64, 64, &many), UNREADABLE),
        ("a huge animated canvas", animated_webp(16_383, 2), TOO_LARGE),
        ("a WebP animation that is too long", animated_webp(64, 10_000), TOO_LARGE),
        ("one that hides its frames", hidden_frames(20_000), UNREADABLE),
        ("a WebP animation", animated_webp(64, 100), ""),
        ("a WebP of most pixels", lossless_webp(16_384, 16_384), TOO_LARGE),
        ("a WebP", lossless_webp(8000, 8000), ""),
        ("a huge JPEG", jpeg(65_535, 65_535, 0), TOO_LARGE),
        ("a JPEG behind its metadata", jpeg(8000, 6000, 3), ""),
        ("a JPEG behind much metadata", jpeg(8000, 6000, 10), ""),
        ("a PNG cut short", b"\x89PNG\r\n\x1a\n".to_vec(), UNREADABLE),
        ("a JPEG cut short", b"\xff\xd8\xff".to_vec(), UNREADABLE),
        ("a WebP cut short", b"RIFF\x00\x00\x00\x00WEBP".to_vec(), UNREADABLE),
        ("a WebP of no chunk", b"RIFF\xff\xff\xff\xffWEBPVP8X".to_vec(), UNREADABLE),
        ("a PNG that is a page and an archive too", polyglot.concat(), ""),
        ("a PNG behind the head of a GIF", hidden, UNKNOWN),
        ("a GIF of many frames", gif(100_000), UNKNOWN),
        ("entities of entities", svg.into_bytes(), UNKNOWN),
        (
            "an external entity",
            b"<?xml version='1.0'?><!DOCTYPE x [<!ENTITY f SYSTEM 'file:///etc/passwd'>]>".to_vec(),
            UNKNOWN,
        ),
        ("a TIFF", b"II*\0\x08\0\0\0\xff\xff".to_vec(), UNKNOWN),
        ("an icon", b"\0\0\x01\0\xff\xff\0\0".to_vec(), UNKNOWN),
        (
            "a bitmap",
            b"BM\xff\xff\xff\x7f\0\0\0\0\x36\0\0\0\x28\0\0\0\xff\xff\xff\x7f\xff\xff\xff\x7f".to_vec(),
            UNKNOWN,
        ),
        ("an AVIF", b"\0\0\0\x1cftypavif\0\0\0\0".to_vec(), UNKNOWN),
        ("a JPEG XL", b"\xff\x0a\xff\xff\xff\xff".to_vec(), UNKNOWN),
        ("a Photoshop file", b"8BPS\0\x01\0\0\0\0\0\0\0\x03\xff\xff\xff\xff\xff\xff\xff\xff".to_vec(), UNKNOWN),
        ("PostScript", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 99999 99999".to_vec(), UNKNOWN),
        ("a command for ImageMagick", b"push graphic-context\nfill 'url(https://x/\"|ls \"-la)'".to_vec(), UNKNOWN),
        ("compressed zeros", b"\x1f\x8b\x08\0\0\0\0\0\0\x03".to_vec(), UNKNOWN),
    ]
}

#[test]
fn each_is_refused_or_accepted_by_rule_and_none_is_decoded() {
    for (name, content, code) in corpus() {
        let counting = CountingSource::new(content.clone());
        Structure::of(&counting).unwrap();
        let read = counting.read.into_inner();
        assert!(read <= content.len() + content.len() / WINDOW_BYTES * 64 + 100, "{name}: {read} bytes were read");
        let form = Form { images: vec![bytes(content)], ..form(&[]) };
        let checked = check(form, Task::Edit, &server().requests, &catalogue());
        let got = checked.as_ref().map_or_else(ApiError::code, |_| "");
        assert_eq!(got, code, "{name}");
        if let Err(error) = checked {
            let text = error.to_string();
            assert!(text.contains("'image'"), "{name}: {text}");
            assert!(code != TOO_LARGE || text.contains("(server.picture_"), "{name}: {text}");
        }
    }
}

#[test]
fn masks_and_pictures_of_any_type_have_the_same_limits() {
    let form = |image: Vec<u8>, mask: Option<Vec<u8>>| Form {
        images: vec![bytes(image)],
        mask: mask.map(bytes),
        ..form(&[("model", "gpt-image-1.5")])
    };
    let huge = || png_of(65_535, 65_535, &[]);
    let error = check(form(png(30, 20), Some(huge())), Task::Edit, &server().requests, &catalogue()).unwrap_err();
    assert_eq!((error.code(), error.to_string().contains("'mask'")), (TOO_LARGE, true), "{error}");
    let mut unchecked = server().requests;
    unchecked.image_check = ImageCheck::Off;
    let error = check(form(huge(), None), Task::Edit, &unchecked, &catalogue()).unwrap_err();
    assert_eq!(error.code(), TOO_LARGE);
    assert!(check(form(b"of a type to come".to_vec(), None), Task::Edit, &unchecked, &catalogue()).is_ok());
}
