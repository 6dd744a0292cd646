//! Masks that can mark nothing, and masks of photos that carry a rotation.

use image::{DynamicImage, ImageFormat};

use super::*;
use crate::model::picture::test_support::{encoded, exif, png_chunk, png_head};

/// Returns a PNG of 30x20 pixels whose pixels are not there, with a colour type and these chunks.
fn png_of_colour(colour: u8, chunks: &[Vec<u8>]) -> Vec<u8> {
    let end = [png_chunk(b"IDAT", b"x"), png_chunk(b"IEND", b"")].concat();
    [png_head(30, 20, colour), chunks.concat(), end].concat()
}

/// Returns a PNG with an orientation.
fn turned(picture: &[u8], orientation: u16) -> Vec<u8> {
    [&picture[..33], &png_chunk(b"eXIf", &exif(orientation, false)), &picture[33..]].concat()
}

fn masked(image: Vec<u8>, mask: Vec<u8>) -> Form {
    let mut form = form(&[("model", "gpt-image-1")]);
    (form.images, form.mask) = (vec![bytes(image)], Some(bytes(mask)));
    form
}

#[test]
fn a_mask_that_can_mark_nothing_is_refused_and_the_message_says_how_to_make_one() {
    let (palette, transparent) = (|| png_chunk(b"PLTE", &[0; 6]), || png_chunk(b"tRNS", b"\0"));
    let blank = |picture: DynamicImage| encoded(&picture, ImageFormat::Png);
    let depth = |colour: u8, depth: u8| {
        let header = [&30_u32.to_be_bytes()[..], &20_u32.to_be_bytes(), &[depth, colour, 0, 0, 0]].concat();
        let palette = if colour == 3 { palette() } else { Vec::new() };
        let pixels = [png_chunk(b"IDAT", b"x"), png_chunk(b"IEND", b"")].concat();
        [b"\x89PNG\r\n\x1a\n".to_vec(), png_chunk(b"IHDR", &header), palette, pixels].concat()
    };
    let opaque = [
        ("RGB", blank(DynamicImage::new_rgb8(30, 20))),
        ("grey", blank(DynamicImage::new_luma8(30, 20))),
        ("RGB of 16 bits", blank(DynamicImage::new_rgb16(30, 20))),
        ("grey of 16 bits", blank(DynamicImage::new_luma16(30, 20))),
        ("black and white, 1 bit", depth(0, 1)),
        ("grey of 2 bits", depth(0, 2)),
        ("grey of 4 bits", depth(0, 4)),
        ("palette of 1 bit", depth(3, 1)),
        ("palette of 4 bits", depth(3, 4)),
        ("palette", png_of_colour(3, &[palette()])),
        ("RGB with text", png_of_colour(2, &[png_chunk(b"tEXt", b"tRNS\0x")])),
        ("palette with an empty list", png_of_colour(3, &[palette(), png_chunk(b"tRNS", b"")])),
    ];
    for (name, mask) in opaque {
        let error = edit(masked(png(30, 20), mask.clone())).unwrap_err();
        assert_eq!(error.code(), "invalid_value", "{name}: {error}");
        let text = error.to_string();
        assert!(text.contains("'mask'") && text.contains("no transparent pixel"), "{name}: {text}");
        assert!(text.contains("alpha channel") && text.contains("-transparent white"), "{name}: {text}");
        let dropped = dropping(masked(png(30, 20), mask.clone())).unwrap();
        assert!(dropped.request.mask.is_none(), "{name}");
        assert_eq!(dropped.dropped, ["mask"], "{name}");
        let mut requests = server().requests;
        requests.image_check = ImageCheck::Off;
        assert!(check(masked(png(30, 20), mask), Task::Edit, &requests, &catalogue()).is_ok(), "{name}: unchecked");
    }
    for (name, mask) in [
        ("RGBA", blank(DynamicImage::new_rgba8(30, 20))),
        ("grey with alpha", blank(DynamicImage::new_luma_a8(30, 20))),
        ("RGBA of 16 bits", blank(DynamicImage::new_rgba16(30, 20))),
        ("palette with transparent colours", png_of_colour(3, &[palette(), transparent()])),
        ("RGB with a transparent colour", png_of_colour(2, &[png_chunk(b"tRNS", &[0; 6])])),
        ("grey with a transparent shade", png_of_colour(0, &[png_chunk(b"tRNS", &[0; 2])])),
    ] {
        assert!(edit(masked(png(30, 20), mask)).unwrap().request.mask.is_some(), "{name}");
    }
}

#[test]
fn a_mask_of_another_format_is_named_with_the_one_that_it_must_have() {
    let rgb = DynamicImage::new_rgb8(30, 20);
    for (name, mask) in [
        ("JPEG", encoded(&rgb, ImageFormat::Jpeg)),
        ("WebP", encoded(&rgb, ImageFormat::WebP)),
        ("GIF", b"GIF89a\x1e\0\x14\0".to_vec()),
        ("BMP", b"BM\x46\0\0\0\0\0\0\0\x36\0\0\0".to_vec()),
        ("TIFF", exif(1, true)),
        ("HEIC", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic".to_vec()),
    ] {
        let error = edit(masked(png(30, 20), mask)).unwrap_err();
        assert_eq!(error.code(), "invalid_value", "{name}: {error}");
        assert!(error.to_string().contains("must be a PNG with an alpha channel"), "{name}: {error}");
    }
}

#[test]
fn size_and_mask_go_by_the_upright_picture() {
    for orientation in 1..=8 {
        let photo = || turned(&png(30, 20), orientation);
        let (upright, stored, size) =
            if orientation > 4 { ((20, 30), (30, 20), "1024x1536") } else { ((30, 20), (30, 20), "1536x1024") };
        let request = edit(masked(photo(), png(upright.0, upright.1))).unwrap().request;
        assert_eq!(request.size.to_string(), size, "{orientation}");
        let turned_mask = turned(&png(30, 20), orientation);
        assert!(edit(masked(photo(), turned_mask)).is_ok(), "a mask with the same rotation, {orientation}");
        if upright != stored {
            let error = edit(masked(photo(), png(stored.0, stored.1))).unwrap_err().to_string();
            assert!(error.contains("carries a rotation (EXIF orientation"), "{error}");
            assert!(error.contains("upright size, 20x30"), "{error}");
        }
        let error = edit(masked(photo(), png(31, 20))).unwrap_err().to_string();
        assert!(error.contains(&format!("31x20 and the image {}x{}", upright.0, upright.1)), "{error}");
    }
}
