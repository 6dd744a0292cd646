//! Masks without a transparent pixel, and photos that have a mask and are turned.

use super::*;
use Transparency::{Absent, Possible};

/// Returns what is known of the transparency of a mask once it was looked at.
async fn transparency(mask: Vec<u8>, pixels_max: u64) -> Transparency {
    let image = encoded(&scene(), ImageFormat::Png);
    let prepared = prepare_within(form(vec![image], Some(mask.clone())), pixels_max, 1 << 20).await.unwrap();
    let mask_kept = prepared.mask.unwrap();
    assert_eq!(content(&mask_kept), mask, "a mask is looked at and not changed");
    let Input::Bytes { picture, .. } = mask_kept else { panic!("no mask") };
    picture.structure.transparency
}

#[tokio::test]
async fn an_opaque_mask_is_found_whatever_its_channels() {
    let png = |picture: DynamicImage| encoded(&picture, ImageFormat::Png);
    let opaque = scene();
    let with = |alpha: u8| {
        let mut picture = scene().to_rgba8();
        picture.get_pixel_mut(11, 7).0[3] = alpha;
        DynamicImage::from(picture)
    };
    // A palette, or a colour, that no pixel uses is no transparency.
    let rgb = png(DynamicImage::from(opaque.to_rgb8()));
    let unused = [&rgb[..33], &png_chunk(b"tRNS", &[0, 1, 0, 2, 0, 3]), &rgb[33..]].concat();
    let used = [&rgb[..33], &png_chunk(b"tRNS", &[0; 6]), &rgb[33..]].concat();
    for (name, mask, expected) in [
        ("RGBA, opaque", png(opaque.clone()), Absent),
        ("RGBA of 16 bits, opaque", png(opaque.to_rgba16().into()), Absent),
        ("grey with alpha, opaque", png(opaque.to_luma_alpha8().into()), Absent),
        ("grey with alpha of 16 bits, opaque", png(opaque.to_luma_alpha16().into()), Absent),
        ("RGB with an unused transparent colour", unused, Absent),
        ("RGB", rgb, Absent),
        ("grey", png(opaque.to_luma8().into()), Absent),
        ("RGBA with a hole", png(with(0)), Possible),
        ("RGBA with a soft pixel", png(with(254)), Possible),
        ("RGBA of 16 bits with a hole", png(with(0).to_rgba16().into()), Possible),
        ("grey with alpha and a hole", png(with(0).to_luma_alpha8().into()), Possible),
        ("grey with alpha of 16 bits and a hole", png(with(0).to_luma_alpha16().into()), Possible),
        ("RGB with a used transparent colour", used, Possible),
        ("all transparent", png(DynamicImage::new_rgba8(12, 8)), Possible),
    ] {
        assert_eq!(transparency(mask, 1 << 20).await, expected, "{name}");
    }
    assert_eq!(transparency(png(opaque.clone()), 95).await, Possible, "too large to be looked at");
    assert_eq!(transparency(png(opaque), 96).await, Absent);
}

#[tokio::test]
async fn a_mask_whose_pixels_cannot_be_decoded_is_refused() {
    let whole = encoded(&scene(), ImageFormat::Png);
    let broken = [&whole[..33], &png_chunk(b"IDAT", b"no pixels"), &whole[whole.len() - 12..]].concat();
    let error = prepare(form(vec![whole], Some(broken))).await.unwrap_err();
    assert_eq!(error.code(), "invalid_image_file");
    assert!(error.to_string().contains("'mask'"), "{error}");
}

#[tokio::test]
async fn a_turned_photo_with_a_mask_is_made_upright() {
    let rgb = DynamicImage::from(scene().to_rgb8());
    let (png, jpeg) = (encoded(&scene(), ImageFormat::Png), encoded(&rgb, ImageFormat::Jpeg));
    let lossless = encoded(&rgb, ImageFormat::WebP);
    let stored = [&png, &jpeg, &lossless].map(|bytes| image::load_from_memory(bytes).unwrap());
    for orientation in 1..=8 {
        for little_endian in [true, false] {
            let exif = exif(orientation, little_endian);
            let header = [b"Exif\0\0", &exif[..]].concat();
            let canvas = webp_chunk(b"VP8X", &[8, 0, 0, 0, 11, 0, 0, 7, 0, 0]);
            let turned = [
                [&png[..33], &png_chunk(b"eXIf", &exif), &png[33..]].concat(),
                [&jpeg[..2], &jpeg_segment(0xe1, &header), &jpeg[2..]].concat(),
                webp(&[canvas, lossless[12..].to_vec(), webp_chunk(b"EXIF", &exif)]),
            ];
            for (picture, stored) in turned.into_iter().zip(&stored) {
                let expected = seen(stored, orientation);
                let mask = DynamicImage::new_rgba8(expected.width(), expected.height());
                let mask = encoded(&mask, ImageFormat::Png);
                let prepared = prepare(form(vec![picture.clone()], Some(mask))).await.unwrap();
                let name = format!("orientation {orientation}, {little_endian}");
                if orientation == 1 {
                    assert_eq!(content(&prepared.images[0]), picture, "{name}: it is upright");
                } else {
                    assert_same(&decoded(&prepared.images[0]), &expected, 0, &name);
                }
                let alone = prepare(form(vec![picture.clone()], None)).await.unwrap();
                assert_eq!(content(&alone.images[0]), picture, "{name}: without a mask");
            }
        }
    }
}

#[tokio::test]
async fn a_turned_photo_whose_mask_does_not_fit_is_left_as_it_is() {
    let png = encoded(&scene(), ImageFormat::Png);
    let turned = [&png[..33], &png_chunk(b"eXIf", &exif(6, true)), &png[33..]].concat();
    for (width, height, is_converted) in [(12, 8, false), (8, 13, false), (8, 12, true)] {
        let mask = encoded(&DynamicImage::new_rgba8(width, height), ImageFormat::Png);
        let prepared = prepare(form(vec![turned.clone()], Some(mask))).await.unwrap();
        assert_eq!(content(&prepared.images[0]) != turned, is_converted, "{width}x{height}");
    }
    let linked =
        Form { mask: Some(Input::Link("https://example.com/mask.png".to_owned())), ..form(vec![turned], None) };
    assert_eq!(decoded(&prepare(linked).await.unwrap().images[0]).dimensions(), (8, 12), "its size is not known");
}

#[tokio::test]
async fn a_turned_photo_that_is_too_large_to_be_turned_is_refused_by_name() {
    let png = encoded(&scene(), ImageFormat::Png);
    let turned = [&png[..33], &png_chunk(b"eXIf", &exif(6, true)), &png[33..]].concat();
    let mask = encoded(&DynamicImage::new_rgba8(8, 12), ImageFormat::Png);
    let error = prepare_within(form(vec![turned], Some(mask)), 95, 1 << 20).await.unwrap_err();
    assert_eq!(error.code(), "image_too_large");
    assert!(error.to_string().contains("a PNG that EXIF turns and that has a mask"), "{error}");
}

/// Returns a PNG with an orientation.
fn turned_png(picture: &DynamicImage, orientation: u16) -> Vec<u8> {
    let png = encoded(picture, ImageFormat::Png);
    [&png[..33], &png_chunk(b"eXIf", &exif(orientation, true)), &png[33..]].concat()
}

#[tokio::test]
async fn a_turned_mask_is_made_upright_and_does_not_grow() {
    // Colours of a mask mark nothing, and those without an order need the most bytes.
    let noise = |x: u32, y: u32| (x * 7919 + y * 104_729).wrapping_mul(2_654_435_761).to_le_bytes();
    let holes = RgbaImage::from_fn(120, 80, |x, y| {
        let [red, green, blue, _] = noise(x, y);
        Rgba([red, green, blue, if x < 40 && y < 20 { 0 } else { 255 }])
    });
    for orientation in 2..=8 {
        let mask = turned_png(&holes.clone().into(), orientation);
        let expected = seen(&holes.clone().into(), orientation).to_rgba8();
        let image = encoded(&DynamicImage::new_rgb8(expected.width(), expected.height()), ImageFormat::Png);
        let prepared = prepare(form(vec![image], Some(mask.clone()))).await.unwrap();
        let made = prepared.mask.unwrap();
        assert!(content(&made).len() < mask.len(), "orientation {orientation}");
        let found = decoded(&made).to_rgba8();
        assert_eq!(found.dimensions(), expected.dimensions());
        for (x, y, pixel) in found.enumerate_pixels() {
            assert_eq!(pixel.0, [0, 0, 0, expected.get_pixel(x, y).0[3]], "orientation {orientation} at {x},{y}");
        }
    }
}

#[tokio::test]
async fn a_mask_of_another_format_is_not_converted() {
    let rgb = DynamicImage::from(scene().to_rgb8());
    let exif = exif(6, true);
    let jpeg = encoded(&rgb, ImageFormat::Jpeg);
    let lossless = encoded(&rgb, ImageFormat::WebP);
    let canvas = webp_chunk(b"VP8X", &[8, 0, 0, 0, 11, 0, 0, 7, 0, 0]);
    for mask in [
        [&jpeg[..2], &jpeg_segment(0xe1, &[b"Exif\0\0", &exif[..]].concat()), &jpeg[2..]].concat(),
        webp(&[canvas, lossless[12..].to_vec(), webp_chunk(b"EXIF", &exif)]),
        encoded(&scene(), ImageFormat::Gif),
        encoded(&rgb, ImageFormat::Bmp),
    ] {
        let image = encoded(&DynamicImage::new_rgb8(8, 12), ImageFormat::Png);
        let prepared = prepare(form(vec![image], Some(mask.clone()))).await.unwrap();
        assert_eq!(content(&prepared.mask.unwrap()), mask, "it is refused as a mask, by its own format");
    }
}

#[tokio::test]
async fn an_animation_that_would_be_turned_is_refused() {
    let still = turned_png(&scene(), 6);
    let animated = [&still[..33], &png_chunk(b"acTL", &[0, 0, 0, 3, 0, 0, 0, 0]), &still[33..]].concat();
    let mask = encoded(&DynamicImage::new_rgba8(8, 12), ImageFormat::Png);
    let error = prepare(form(vec![animated.clone()], Some(mask))).await.unwrap_err();
    assert_eq!(error.code(), "unsupported_file_mimetype");
    assert!(error.to_string().contains("an animated PNG"), "{error}");
    let alone = prepare(form(vec![animated.clone()], None)).await.unwrap();
    assert_eq!(content(&alone.images[0]), animated, "without a mask nothing is turned");
}
