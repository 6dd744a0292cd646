use bytes::Bytes;
use image::{DynamicImage, ImageFormat};
use proptest::prelude::*;

use super::*;
use crate::model::picture::orientation::Orientation;
use crate::model::picture::test_support::{
    CountingSource, animated_webp, canvas, encoded, jpeg_of, jpeg_segment, lossless_pixels, lossy, pixels, png_chunk,
    png_head, png_of, webp, webp_chunk, webp_frame,
};
use crate::model::picture::window::WINDOW_BYTES;
use crate::model::picture::{InvalidPicture, check_complete};

const PROGRESSIVE: &[u8] = include_bytes!("progressive.jpg");
const RESTARTS: &[u8] = include_bytes!("restarts.jpg");

/// Reads a picture from memory and through a window, which must not differ.
fn structure(picture: &[u8]) -> Structure {
    let in_memory = Structure::of(&Bytes::copy_from_slice(picture)).unwrap();
    let source = CountingSource::new(picture.to_vec());
    assert_eq!(Structure::of(&source).unwrap(), in_memory);
    let reads = source.reads.into_inner();
    let read = source.read.into_inner();
    assert!(reads <= 4 + 2 * picture.len() / WINDOW_BYTES, "{reads} reads of {} bytes", picture.len());
    assert!(read <= picture.len() + (reads + 1) * 64, "{read} of {} bytes were read", picture.len());
    in_memory
}

fn damage(picture: &[u8]) -> String {
    structure(picture).damage.map_or_else(|| "none".to_owned(), |damage| damage.to_string())
}

/// Returns a PNG of palette colours, whose pixels are stored and not compressed.
fn indexed_png() -> Vec<u8> {
    // Two rows of two pixels, each row behind its filter.
    let stored = b"\x78\x01\x01\x06\x00\xf9\xff\x00\x00\x01\x00\x01\x00";
    let (low, high) = b"\0\0\x01\0\x01\0".iter().fold((1_u32, 0_u32), |(low, high), &byte| {
        let low = low + u32::from(byte);
        (low, high + low)
    });
    let data = [&stored[..], &((high << 16) | low).to_be_bytes()].concat();
    let chunks = [png_chunk(b"PLTE", b"\0\0\0\xff\xff\xff"), png_chunk(b"IDAT", &data), png_chunk(b"IEND", b"")];
    [png_head(2, 2, 3), chunks.concat()].concat()
}

/// Returns an APNG of two frames: the pixels of a PNG, and once more.
fn animated_png(still: &[u8]) -> Vec<u8> {
    let at = still.windows(4).position(|name| name == b"IDAT").unwrap() - 4;
    let length = usize::try_from(u32::from_be_bytes(still[at..at + 4].try_into().unwrap())).unwrap();
    let data = &still[at + 8..at + 8 + length];
    let control = |sequence: u32| {
        let sides = [24_u32, 20, 0, 0].map(u32::to_be_bytes).concat();
        png_chunk(b"fcTL", &[&sequence.to_be_bytes()[..], &sides, &[0, 1, 0, 10, 0, 0]].concat())
    };
    let chunks = [
        png_chunk(b"acTL", &[2_u32, 0].map(u32::to_be_bytes).concat()),
        control(0),
        png_chunk(b"IDAT", data),
        control(1),
        png_chunk(b"fdAT", &[&2_u32.to_be_bytes()[..], data].concat()),
    ];
    [&still[..at], &chunks.concat(), &still[at + 12 + length..]].concat()
}

/// Returns the chunks of a WebP.
fn content(webp: &[u8]) -> &[u8] {
    &webp[12..]
}

mod metadata;

type Sample = (&'static str, Vec<u8>, Format, u32);

/// Pictures of all kinds, with the number of their frames. Each is decoded by the test that uses it, or made of such.
fn samples() -> Vec<Sample> {
    let picture = pixels();
    let rgb = DynamicImage::from(picture.to_rgb8());
    let png = |picture: DynamicImage| encoded(&picture, ImageFormat::Png);
    let (still, lossless) = (png(picture.clone()), encoded(&picture, ImageFormat::WebP));
    let frames = [&lossy(&rgb), &lossless].map(|pixels| webp_frame((0, 0), (24, 20), content(pixels)));
    let head = [canvas(2, 24, 20), webp_chunk(b"ANIM", &[0; 6])];
    let animated_png = animated_png(&still);
    vec![
        ("grey PNG", png(picture.to_luma8().into()), Format::Png, 1),
        ("grey PNG with alpha", png(picture.to_luma_alpha8().into()), Format::Png, 1),
        ("grey PNG of 16 bits", png(picture.to_luma16().into()), Format::Png, 1),
        ("RGB PNG", png(rgb.clone()), Format::Png, 1),
        ("RGB PNG of 16 bits", png(picture.to_rgb16().into()), Format::Png, 1),
        ("RGBA PNG of 16 bits", png(picture.to_rgba16().into()), Format::Png, 1),
        ("RGBA PNG", still, Format::Png, 1),
        ("palette PNG", indexed_png(), Format::Png, 1),
        ("animated PNG", animated_png, Format::Png, 2),
        ("JPEG", encoded(&rgb, ImageFormat::Jpeg), Format::Jpeg, 1),
        ("grey JPEG", encoded(&picture.to_luma8().into(), ImageFormat::Jpeg), Format::Jpeg, 1),
        ("progressive JPEG", PROGRESSIVE.to_vec(), Format::Jpeg, 1),
        ("JPEG with restarts", RESTARTS.to_vec(), Format::Jpeg, 1),
        ("lossy WebP", lossy(&rgb), Format::Webp, 1),
        ("lossy WebP with alpha", lossy(&picture), Format::Webp, 1),
        ("lossless WebP", lossless, Format::Webp, 1),
        ("animated WebP", webp(&head.into_iter().chain(frames).collect::<Vec<_>>()), Format::Webp, 2),
    ]
}

#[test]
fn pictures_of_all_kinds_are_complete_with_bytes_behind_their_end_too() {
    for (name, picture, format, frames) in samples() {
        let decoded = image::load_from_memory(&picture).unwrap();
        let dimensions = Some((decoded.width(), decoded.height()));
        let expected = structure(&picture);
        let found = (expected.format, expected.dimensions, expected.frames, expected.damage);
        assert_eq!(found, (Some(format), dimensions, frames, None), "{name}");
        assert_eq!(expected.orientation, Orientation::UPRIGHT, "{name}");
        let zeros = vec![0; 100_000];
        for behind in [&b""[..], b"\n", b"ab", b"\xff", b"\xff\xd8\xff", PROGRESSIVE, &zeros] {
            let whole = [&picture[..], behind].concat();
            assert_eq!(structure(&whole), expected, "{name} and {} bytes", behind.len());
            assert!(image::load_from_memory(&whole).is_ok(), "{name}: the decoder takes it too");
        }
    }
}

#[test]
fn every_cut_is_found() {
    for (name, picture, _, _) in samples() {
        for cut in 0..picture.len() {
            assert_ne!(structure(&picture[..cut]).damage, None, "{name} cut at {cut} of {}", picture.len());
        }
    }
}

#[test]
fn every_changed_bit_of_a_png_is_found_and_every_hole() {
    // Outside the chunks that a decoder passes over when their checksum is wrong.
    let is_found = |whole: &[u8], changed: &[u8], tolerated: &[bool]| {
        let differs = |at: usize| whole[at] != changed[at];
        let is_damaged = structure(changed).damage.is_some();
        is_damaged || (0..whole.len()).all(|at| !differs(at) || tolerated[at])
    };
    let still = encoded(&pixels(), ImageFormat::Png);
    for (picture, bits) in [(indexed_png(), 0..8), (animated_png(&still), 3..4)] {
        let tolerated = tolerated(&picture);
        for at in 0..picture.len() {
            for bit in bits.clone() {
                let mut changed = picture.clone();
                changed[at] ^= 1 << bit;
                assert!(is_found(&picture, &changed, &tolerated), "bit {bit} of byte {at}");
            }
            for length in [1, 4, 12, 100] {
                let after = (at + length).min(picture.len());
                if at > 0 && after < picture.len() {
                    let hole = [&picture[..at], &picture[after..]].concat();
                    assert_ne!(structure(&hole).damage, None, "{length} bytes are missing at {at}");
                    let mut zeroed = picture.clone();
                    zeroed[at..after].fill(0);
                    assert!(is_found(&picture, &zeroed, &tolerated), "{length} zeros at {at}");
                }
            }
        }
    }
}

/// Returns which bytes of a PNG are the name, content and checksum of an ancillary chunk, or the name of pixels of an
/// animation, which becomes another ancillary one.
fn tolerated(png: &[u8]) -> Vec<bool> {
    let mut tolerated = vec![false; png.len()];
    let mut at = 8;
    while at < png.len() {
        let length = usize::try_from(u32::from_be_bytes(png[at..at + 4].try_into().unwrap())).unwrap();
        let (name, end) = (at + 4..at + 8, at + 12 + length);
        if &png[name.clone()] == b"fdAT" {
            tolerated[name].fill(true);
        } else if png[at + 4].is_ascii_lowercase() {
            tolerated[at + 4..end].fill(true);
        }
        at = end;
    }
    tolerated
}

#[test]
fn an_ancillary_chunk_with_a_wrong_checksum_is_no_damage() {
    let still = encoded(&pixels(), ImageFormat::Png);
    let pixels_at = still.windows(4).position(|name| name == b"IDAT").unwrap() - 4;
    for name in [b"tEXt", b"caBX", b"eXIf"] {
        let mut chunk = png_chunk(name, b"a\0b");
        *chunk.last_mut().unwrap() ^= 1;
        for at in [pixels_at, still.len() - 12] {
            let picture = [&still[..at], &chunk, &still[at..]].concat();
            assert_eq!(damage(&picture), "none");
            assert!(image::load_from_memory(&picture).is_ok(), "the decoder takes it too");
        }
    }
    for (name, expected) in [(b"IDAT", "IDAT"), (b"iDAT", "iDAT"), (b"fdAT", "fdAT"), (b"XYZW", "XYZW")] {
        let mut chunk = png_chunk(name, b"a\0b");
        *chunk.last_mut().unwrap() ^= 1;
        let at = still.len() - 12;
        let picture = [&still[..at], &chunk, &still[at..]].concat();
        assert_eq!(damage(&picture), format!("the checksum of PNG chunk {expected} at byte {at} is wrong"));
    }
}

#[test]
fn a_few_stray_bytes_between_two_segments_of_a_jpeg_are_no_damage() {
    let rgb = DynamicImage::from(pixels().to_rgb8());
    for whole in [encoded(&rgb, ImageFormat::Jpeg), PROGRESSIVE.to_vec(), RESTARTS.to_vec()] {
        let tables = whole.windows(2).position(|pair| pair == [0xff, 0xdb]).unwrap();
        let with = |stray: &[u8]| [&whole[..tables], stray, &whole[tables..]].concat();
        for stray in [&b"\0"[..], b"ab", b"\xff\0", b"\0\xff\xff", b"abcd"] {
            assert_eq!(damage(&with(stray)), "none", "{stray:?}");
        }
        assert!(image::load_from_memory(&with(b"\0")).is_ok(), "the decoder takes it too");
        assert!(damage(&with(b"abcde")).starts_with("no JPEG marker follows"), "more is what is left of a segment");
    }
}

#[test]
fn damage_of_a_png_is_named_with_its_place() {
    let (data, end) = (png_chunk(b"IDAT", b"pixels"), png_chunk(b"IEND", b""));
    let mut flipped = png_of(8, 8, &[png_chunk(b"tEXt", b"a\0b"), data.clone()]);
    flipped[33 + 15 + 10] ^= 1;
    let palette = |chunks: &[Vec<u8>]| [png_head(8, 8, 3), chunks.concat(), end.clone()].concat();
    let text = png_chunk(b"tEXt", b"a\0b");
    for (picture, expected) in [
        (flipped, "the checksum of PNG chunk IDAT at byte 48 is wrong"),
        (png_of(8, 8, &[]), "the PNG ends without pixels (at byte 33)"),
        (png_of(8, 8, &[png_chunk(b"IDAT", b"")]), "the PNG ends without pixels (at byte 45)"),
        (png_of(0, 8, std::slice::from_ref(&data)), "the PNG has no pixels by its IHDR (at byte 8)"),
        (png_of(1 << 31, 8, std::slice::from_ref(&data)), "the PNG's width or height is out of range (at byte 8)"),
        (
            [png_head(8, 8, 5), data.clone(), end.clone()].concat(),
            "the PNG's colour type and bit depth do not go together (at byte 8)",
        ),
        (
            png_of(8, 8, &[data.clone(), text.clone(), data.clone()]),
            "another PNG chunk lies between the pixels (at byte 66)",
        ),
        (
            palette(std::slice::from_ref(&data)),
            "a PNG of palette colours has no palette before its pixels (at byte 33)",
        ),
        (palette(&[png_chunk(b"PLTE", b"ab"), data.clone()]), "the PNG's palette has a wrong length (at byte 33)"),
        (png_head(8, 8, 6)[..20].to_vec(), "it ends at byte 20, within what begins at byte 8"),
        ([b"\x89PNG\r\n\x1a\n".to_vec(), text, data, end].concat(), "the first PNG chunk is not IHDR (at byte 8)"),
        (b"<html>".to_vec(), "it is no PNG, JPEG or WebP picture"),
        (Vec::new(), "it is no PNG, JPEG or WebP picture"),
    ] {
        assert_eq!(damage(&picture), expected);
    }
}

#[test]
fn damage_of_a_jpeg_is_found_where_the_format_shows_it() {
    let thumbnail = jpeg_segment(0xe1, &jpeg_of(4, 4, &[]));
    let whole = jpeg_of(80, 60, &[thumbnail, jpeg_segment(0xe2, &vec![0xff; 60_000])]);
    assert_eq!(structure(&whole).dimensions, Some((80, 60)), "not those of its thumbnail");
    let cut = &whole[..whole.len() - 2];
    assert!(damage(cut).starts_with(&format!("it ends at byte {}", cut.len())), "{}", damage(cut));
    let frame = whole.len() - 28;
    let without = |range: std::ops::Range<usize>| [&whole[..range.start], &whole[range.end..]].concat();
    assert!(damage(&without(frame..frame + 13)).starts_with("a JPEG scan comes before the frame header"));
    assert!(damage(&without(frame + 13..whole.len() - 2)).starts_with("the JPEG ends without pixels"));
    assert!(damage(&without(whole.len() - 5..whole.len() - 2)).starts_with("a JPEG scan is empty"));
    let mut flat = whole.clone();
    flat[frame + 5..frame + 7].fill(0);
    assert!(damage(&flat).starts_with("the JPEG has no pixels"), "{}", damage(&flat));
    let mut zeroed = whole.clone();
    zeroed[20_000..frame + 2].fill(0);
    assert!(damage(&zeroed).starts_with("no JPEG marker follows"), "{}", damage(&zeroed));
    // Two parts of the scan, and the marker between them.
    let restarts: Vec<usize> = RESTARTS
        .windows(2)
        .enumerate()
        .filter(|(_, pair)| matches!(pair, [0xff, 0xd0..=0xd7]))
        .map(|(at, _)| at)
        .collect();
    let hole = [&RESTARTS[..restarts[0]], &RESTARTS[restarts[1]..]].concat();
    assert!(damage(&hole).starts_with("a part of a JPEG scan is missing"), "{}", damage(&hole));
    for (name, picture, format, _) in samples() {
        // The headers, in which no byte of a marker or length may be lost.
        let headers = if format == Format::Jpeg {
            20..picture.windows(2).position(|pair| pair == [0xff, 0xda]).unwrap()
        } else {
            0..0
        };
        for at in headers {
            let hole = [&picture[..at], &picture[at + 1..]].concat();
            assert_ne!(structure(&hole).damage, None, "{name} without byte {at}");
        }
    }
}

#[test]
fn damage_of_a_webp_is_found_where_the_format_shows_it() {
    let lossless = |width, height| webp_chunk(b"VP8L", &lossless_pixels(width, height));
    let animation = webp_chunk(b"ANIM", &[0; 6]);
    let framed = |frame: Vec<u8>| webp(&[canvas(2, 64, 64), animation.clone(), frame]);
    assert_eq!(damage(&framed(webp_frame((8, 8), (48, 48), &lossless(48, 48)))), "none");
    let lossy = lossy(&DynamicImage::from(pixels().to_rgb8()));
    let mut cut_partition = lossy.clone();
    cut_partition[22] = 0xff;
    let mut no_start = lossy;
    no_start[23] = 0;
    for (picture, expected) in [
        (webp(&[]), "the WebP is empty"),
        (webp(&[webp_chunk(b"JUNK", b"x")]), "the first WebP chunk is no picture"),
        (webp(&[webp_chunk(b"VP8L", b"\x2f")]), "the WebP's lossless pixels have no header"),
        (cut_partition, "the WebP's lossy pixels are cut"),
        (no_start, "the WebP's lossy pixels have no header"),
        (webp(&[canvas(0, 64, 64)]), "the WebP ends without a picture"),
        (webp(&[canvas(0, 64, 64), lossless(64, 63)]), "the WebP's picture and its canvas have different sizes"),
        (webp(&[canvas(0, 1 << 24, 1 << 24), lossless(64, 64)]), "the WebP's canvas is out of range"),
        (webp(&[canvas(2, 64, 64), animation.clone()]), "the WebP ends without a picture"),
        (webp(&[canvas(2, 64, 64), webp_frame((0, 0), (8, 8), &lossless(8, 8))]), "a frame comes before the header"),
        (framed(webp_frame((8, 9), (48, 48), &lossless(48, 48))), "a frame of the WebP lies outside its canvas"),
        (framed(webp_frame((0, 0), (48, 48), &lossless(48, 47))), "a frame of the WebP has another size"),
        (framed(webp_frame((0, 0), (48, 48), b"")), "a frame of the WebP has no pixels"),
        (framed(webp_chunk(b"ANMF", b"x")), "a frame of the WebP is too short"),
    ] {
        assert!(damage(&picture).starts_with(expected), "{} is not {expected}", damage(&picture));
    }
    let mut long = webp(&[canvas(0, 64, 64), lossless(64, 64)]);
    long[34] = 0xff;
    assert!(damage(&long).starts_with("a WebP chunk is longer"), "{}", damage(&long));
    // A container whose length leaves out the last byte of padding, as some encoders write it.
    let mut unpadded = webp(&[lossless(64, 64)]);
    unpadded[4] -= 1;
    assert_eq!(damage(&unpadded), "none");
}

#[test]
fn hostile_files_cost_one_pass() {
    let many = |head: &[u8], chunk: &[u8], end: &[u8]| [head, &chunk.repeat(200_000), end].concat();
    let empty = png_chunk(b"tEXt", b"");
    let picture = many(&png_head(8, 8, 6), &empty, &png_of(8, 8, &[png_chunk(b"IDAT", b"x")])[33..]);
    assert_eq!(damage(&picture), "none");
    let mut picture = many(&webp(&[canvas(2, 64, 64), webp_chunk(b"ANIM", &[0; 6])]), &webp_chunk(b"JUNK", b"x"), b"");
    let length = u32::try_from(picture.len() - 8).unwrap();
    picture[4..8].copy_from_slice(&length.to_le_bytes());
    assert!(damage(&picture).starts_with("the WebP ends without a picture"));
    // Whole frames inside a frame, and scans, segments and stuffed bytes of a JPEG.
    let nested = webp_frame((0, 0), (64, 64), &webp_chunk(b"JUNK", b"x").repeat(200_000));
    let picture = webp(&[canvas(2, 64, 64), webp_chunk(b"ANIM", &[0; 6]), nested]);
    assert!(damage(&picture).starts_with("a frame of the WebP has no pixels"));
    for filler in [&jpeg_segment(0xe1, b"")[..], b"\xff\x01", b"\xff"] {
        let whole = jpeg_of(8, 8, &[]);
        let picture = [&whole[..2], &filler.repeat(200_000), &whole[2..]].concat();
        assert_eq!(damage(&picture), "none", "{filler:?}");
    }
    let whole = jpeg_of(8, 8, &[]);
    let data = [&whole[..whole.len() - 2], &b"\xff\0".repeat(200_000), &whole[whole.len() - 2..]].concat();
    assert_eq!(damage(&data), "none");
    assert_eq!(structure(&animated_webp(64, 20_000)).frames, 20_000);
}

#[test]
fn a_result_that_no_model_makes_is_invalid() {
    let png = |width, height| Bytes::from(png_of(width, height, &[png_chunk(b"IDAT", b"x")]));
    assert_eq!(check_complete(&png(3840, 2160)).unwrap(), Ok((Format::Png, (3840, 2160))));
    assert_eq!(check_complete(&png(16_384, 16_384)).unwrap(), Ok((Format::Png, (16_384, 16_384))));
    for (width, height) in [(32_769, 1), (1, 1 << 31), (16_385, 16_384), (u32::MAX, u32::MAX)] {
        assert_eq!(check_complete(&png(width, height)).unwrap(), Err(InvalidPicture::TooLarge { width, height }));
    }
    let page = Bytes::from_static(b"<html>not found</html>");
    assert_eq!(check_complete(&page).unwrap(), Err(InvalidPicture::Damaged(Damage::UnknownFormat)));
}

/// Bytes behind the first bytes of a picture, or a picture of which some bytes are others.
fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let start = prop::sample::select(vec![
        b"\x89PNG\r\n\x1a\n".to_vec(),
        b"\xff\xd8\xff".to_vec(),
        b"RIFF\x40\0\0\0WEBPVP8X".to_vec(),
        png_head(9, 9, 3),
        Vec::new(),
    ]);
    let random = (start, prop::collection::vec(any::<u8>(), 0..300)).prop_map(|(start, rest)| [start, rest].concat());
    let edits = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..10);
    let sample = prop::sample::select(samples().into_iter().map(|(_, picture, _, _)| picture).collect::<Vec<_>>());
    let changed = (sample, edits).prop_map(|(mut picture, edits)| {
        for (at, byte) in edits {
            let at = at.index(picture.len());
            picture[at] = byte;
        }
        picture
    });
    prop_oneof![random, changed]
}

proptest! {
    #[test]
    fn hostile_bytes_have_a_structure(picture in hostile()) {
        let found = structure(&picture);
        prop_assert!(found.damage.is_some() || (found.format.is_some() && found.dimensions.is_some()));
    }

    #[test]
    fn a_png_of_any_size_and_chunks_is_complete(
        width in 1..5000_u32, height in 1..5000_u32,
        sizes in prop::collection::vec(0..3000_usize, 1..8), text in 0..70_000_usize,
    ) {
        let mut chunks = vec![png_chunk(b"tEXt", &vec![1; text])];
        chunks.extend(sizes.iter().map(|&size| png_chunk(b"IDAT", &vec![7; size + 1])));
        let found = structure(&png_of(width, height, &chunks));
        prop_assert_eq!((found.damage, found.dimensions), (None, Some((width, height))));
    }
}
