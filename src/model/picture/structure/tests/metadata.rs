//! Orientation and transparency, wherever a picture may carry them.

use super::*;
use crate::model::picture::properties::Transparency;
use crate::model::picture::test_support::exif;

/// A JPEG, PNG and WebP of 24x20 pixels, with this EXIF metadata in every place that a decoder reads.
fn with_exif(exif: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let header = [b"Exif\0\0", exif].concat();
    let (still, rgb) = (encoded(&pixels(), ImageFormat::Png), DynamicImage::from(pixels().to_rgb8()));
    let (jpeg, lossless) = (encoded(&rgb, ImageFormat::Jpeg), encoded(&pixels(), ImageFormat::WebP));
    let (lossy, frame) = (lossy(&rgb), webp_frame((0, 0), (24, 20), content(&lossless)));
    let png_at = |at: usize| [&still[..at], &png_chunk(b"eXIf", exif), &still[at..]].concat();
    let jpeg_with = |segments: &[Vec<u8>]| [&jpeg[..2], &segments.concat(), &jpeg[2..]].concat();
    let chunk = |exif: &[u8]| webp_chunk(b"EXIF", exif);
    let other = jpeg_segment(0xe1, b"http://ns.adobe.com/xap/1.0/\0<x/>");
    let long = jpeg_segment(0xe2, &vec![7; 65_000]);
    vec![
        ("JPEG", jpeg_with(&[jpeg_segment(0xe1, &header)])),
        ("JPEG behind XMP", jpeg_with(&[other, jpeg_segment(0xe1, &header)])),
        ("JPEG at the edge of the window", jpeg_with(&[long.clone(), jpeg_segment(0xe1, &header)])),
        ("JPEG with long EXIF", jpeg_with(&[long, jpeg_segment(0xe1, &[&header[..], &[0; 60_000]].concat())])),
        ("progressive JPEG", [&PROGRESSIVE[..2], &jpeg_segment(0xe1, &header), &PROGRESSIVE[2..]].concat()),
        ("PNG before its pixels", png_at(33)),
        ("PNG behind its pixels", png_at(still.len() - 12)),
        ("PNG with a header in its EXIF", [&still[..33], &png_chunk(b"eXIf", &header), &still[33..]].concat()),
        ("WebP before its pixels", webp(&[canvas(8, 24, 20), chunk(exif), content(&lossy).to_vec()])),
        ("WebP behind its pixels", webp(&[canvas(8, 24, 20), content(&lossless).to_vec(), chunk(exif)])),
        ("WebP with a header in its EXIF", webp(&[canvas(8, 24, 20), content(&lossy).to_vec(), chunk(&header)])),
        ("animated WebP", webp(&[canvas(10, 24, 20), webp_chunk(b"ANIM", &[0; 6]), frame, chunk(exif)])),
    ]
}

#[test]
fn every_orientation_is_found_wherever_it_stands() {
    for number in 1..=8_u16 {
        for little_endian in [true, false] {
            for (name, picture) in with_exif(&exif(number, little_endian)) {
                let in_memory = Structure::of(&Bytes::copy_from_slice(&picture)).unwrap();
                let source = CountingSource::new(picture.clone());
                assert_eq!(Structure::of(&source).unwrap(), in_memory, "{name}");
                assert!(source.read.into_inner() <= 2 * picture.len(), "{name}");
                let stored = image::load_from_memory(&picture).unwrap();
                let (width, height) = (stored.width(), stored.height());
                assert_eq!(in_memory.damage, None, "{name}");
                assert_eq!(u16::from(in_memory.orientation.number()), number, "{name}, {little_endian}");
                assert_eq!(in_memory.dimensions, Some((width, height)), "{name}");
                let upright = if number > 4 { (height, width) } else { (width, height) };
                assert_eq!(in_memory.upright_dimensions(), Some(upright), "{name}");
            }
        }
    }
}

#[test]
fn what_decoders_pass_over_turns_nothing() {
    let turned = exif(6, true);
    let header = [b"Exif\0\0", &turned[..]].concat();
    let (still, rgb) = (encoded(&pixels(), ImageFormat::Png), DynamicImage::from(pixels().to_rgb8()));
    let jpeg = encoded(&rgb, ImageFormat::Jpeg);
    let scan = jpeg.windows(2).position(|pair| pair == [0xff, 0xda]).unwrap();
    let mut damaged = png_chunk(b"eXIf", &turned);
    *damaged.last_mut().unwrap() ^= 1;
    let first = jpeg_segment(0xe1, &[b"Exif\0\0", &exif(1, true)[..]].concat());
    let thumbnail = jpeg_of(4, 4, &[jpeg_segment(0xe1, &header)]);
    let segments = |segments: &[Vec<u8>]| [&jpeg[..2], &segments.concat(), &jpeg[2..]].concat();
    for (name, picture) in [
        ("no EXIF", jpeg.clone()),
        ("a checksum that is wrong", [&still[..33], &damaged, &still[33..]].concat()),
        ("a second EXIF segment", segments(&[first, jpeg_segment(0xe1, &header)])),
        ("a segment of another number", segments(&[jpeg_segment(0xe2, &header)])),
        ("a thumbnail's EXIF", segments(&[jpeg_segment(0xe2, &thumbnail)])),
        ("a comment", segments(&[jpeg_segment(0xfe, &header)])),
        ("EXIF cut short", segments(&[jpeg_segment(0xe1, &header[..20])])),
        ("an empty EXIF segment", segments(&[jpeg_segment(0xe1, b"Exif\0\0")])),
        ("text", [&still[..33], &png_chunk(b"tEXt", &turned), &still[33..]].concat()),
        ("behind the end", [&still[..], &png_chunk(b"eXIf", &turned)].concat()),
        ("within the scan", [&jpeg[..scan + 14], b"\xff\0", &jpeg[scan + 14..]].concat()),
        ("a WebP without a canvas", [&lossy(&rgb)[..], &webp_chunk(b"EXIF", &turned)].concat()),
    ] {
        let found = Structure::of(&Bytes::copy_from_slice(&picture)).unwrap();
        assert_eq!((found.damage, found.orientation), (None, Orientation::UPRIGHT), "{name}");
    }
}

/// Returns a PNG of one colour type and depth, with these chunks before its pixels.
fn png_of_colour(colour: u8, depth: u8, chunks: &[Vec<u8>]) -> Vec<u8> {
    let header = [&8_u32.to_be_bytes()[..], &8_u32.to_be_bytes(), &[depth, colour, 0, 0, 0]].concat();
    let palette = png_chunk(b"PLTE", &[0; 12]);
    [
        b"\x89PNG\r\n\x1a\n".to_vec(),
        png_chunk(b"IHDR", &header),
        if colour == 3 { palette } else { Vec::new() },
        chunks.concat(),
        png_chunk(b"IDAT", b"x"),
        png_chunk(b"IEND", b""),
    ]
    .concat()
}

#[test]
fn every_colour_type_of_a_png_says_whether_it_can_be_transparent() {
    let (mut absent, mut possible) = (0, 0);
    for (colour, depths, has_alpha) in [
        (0, &[1, 2, 4, 8, 16][..], false),
        (2, &[8, 16], false),
        (3, &[1, 2, 4, 8], false),
        (4, &[8, 16], true),
        (6, &[8, 16], true),
    ] {
        for &depth in depths {
            let of = |chunks: &[Vec<u8>]| structure(&png_of_colour(colour, depth, chunks));
            let plain = of(&[]);
            assert_eq!(plain.damage, None);
            let expected = if has_alpha { Transparency::Possible } else { Transparency::Absent };
            assert_eq!(plain.transparency, expected, "colour type {colour}, {depth} bits");
            assert_eq!(of(&[png_chunk(b"tRNS", b"\0\0")]).transparency, Transparency::Possible, "{colour}, {depth}");
            assert_eq!(of(&[png_chunk(b"tRNS", b"")]).transparency, expected, "an empty list, {colour}, {depth}");
            let count = if has_alpha { &mut possible } else { &mut absent };
            *count += 1;
        }
    }
    assert_eq!((absent, possible), (11, 4));
    // Behind the pixels it is passed over.
    let late = png_of_colour(2, 8, &[]);
    let late = [&late[..late.len() - 12], &png_chunk(b"tRNS", b"\0\0"), &late[late.len() - 12..]].concat();
    assert_eq!(structure(&late).transparency, Transparency::Absent);
    assert_eq!(structure(&jpeg_of(8, 8, &[])).transparency, Transparency::Unknown);
}

#[test]
fn members_of_the_table_of_damage_are_found() {
    let rgb = DynamicImage::from(pixels().to_rgb8());
    let (png, jpeg) = (encoded(&pixels(), ImageFormat::Png), encoded(&rgb, ImageFormat::Jpeg));
    let (lossy, lossless) = (lossy(&rgb), encoded(&pixels(), ImageFormat::WebP));
    let half = |picture: &[u8]| picture[..picture.len() / 2].to_vec();
    let zeroed = |picture: &[u8], from: usize, to: usize| {
        let mut changed = picture.to_vec();
        changed[from..to].fill(0);
        changed
    };
    // A `+` of base64 that became a space is skipped by many decoders: three bytes of four are shifted from there on.
    let shifted = |picture: &[u8]| {
        let text = base64_simd::STANDARD.encode_to_string(picture);
        let kept: String = text.chars().filter(|&c| c != '+').collect();
        base64_simd::STANDARD_NO_PAD.decode_to_vec(&kept.trim_end_matches('=')[..kept.len() / 4 * 4 - 4]).unwrap()
    };
    let crc = |name: &[u8]| png.windows(4).position(|found| found == name).unwrap() + 6;
    for (name, picture) in [
        ("a PNG of 33 bytes", png[..33].to_vec()),
        ("half a PNG", half(&png)),
        ("a PNG without IEND", png[..png.len() - 12].to_vec()),
        ("a PNG without its last byte", png[..png.len() - 1].to_vec()),
        ("a PNG with zeros in its middle", zeroed(&png, png.len() / 2, png.len() / 2 + 50)),
        ("a PNG with a wrong checksum", zeroed(&png, crc(b"IDAT"), crc(b"IDAT") + 1)),
        ("a PNG without its pluses", shifted(&png)),
        ("half a JPEG", half(&jpeg)),
        ("a JPEG without its last 30 bytes", jpeg[..jpeg.len() - 30].to_vec()),
        ("a JPEG without its end", jpeg[..jpeg.len() - 2].to_vec()),
        ("the header of a JPEG", jpeg[..200].to_vec()),
        ("a progressive JPEG cut in a scan", half(PROGRESSIVE)),
        ("half a lossy WebP", half(&lossy)),
        ("half a lossless WebP", half(&lossless)),
        ("a WebP without its last byte", lossy[..lossy.len() - 1].to_vec()),
        ("the header of a WebP", lossy[..30].to_vec()),
        ("a WebP with zeros for a header", zeroed(&lossy, 20, 30)),
    ] {
        assert_ne!(structure(&picture).damage, None, "{name}");
    }
}
