use image::{Rgba, RgbaImage};

use super::*;
use crate::model::picture::check_complete;

const PIXELS_MAX: u64 = 1 << 20;

/// As long as a profile's header, and in RGB.
fn profile(space: [u8; 4]) -> Vec<u8> {
    let mut profile = vec![7; 132];
    profile[16..20].copy_from_slice(&space);
    profile
}

/// Left half transparent red, right half opaque blue.
fn picture() -> DynamicImage {
    RgbaImage::from_fn(64, 32, |x, _| if x < 32 { Rgba([255, 0, 0, 0]) } else { Rgba([0, 0, 255, 255]) }).into()
}

fn encoded(picture: &DynamicImage, profile: Option<Vec<u8>>) -> Bytes {
    png(picture, profile).unwrap()
}

fn to(format: Format, compression: Option<u8>) -> Conversion {
    Conversion::new(format, compression)
}

fn decoded(bytes: &[u8]) -> DynamicImage {
    image::load_from_memory(bytes).unwrap()
}

fn near(pixel: [u8; 4], wanted: [u8; 4]) -> bool {
    pixel.iter().zip(wanted).all(|(&got, wanted)| got.abs_diff(wanted) <= 6)
}

const FORMATS: [Format; 3] = [Format::Png, Format::Jpeg, Format::Webp];

#[test]
fn every_format_becomes_every_other() {
    let picture = DynamicImage::from(picture().into_rgb8());
    for from in FORMATS {
        let original = convert(&encoded(&picture, None), Format::Png, to(from, None), PIXELS_MAX).unwrap().bytes;
        for format in FORMATS {
            let converted = convert(&original, from, to(format, None), PIXELS_MAX).unwrap();
            assert_eq!(check_complete(&converted.bytes).unwrap(), Ok((format, (64, 32))), "{from:?} to {format:?}");
            let pixels = decoded(&converted.bytes).into_rgba8();
            assert!(near(pixels.get_pixel(5, 5).0, [255, 0, 0, 255]), "{from:?} to {format:?}");
            assert!(near(pixels.get_pixel(60, 5).0, [0, 0, 255, 255]), "{from:?} to {format:?}");
        }
    }
}

#[test]
fn transparency_is_kept_except_in_jpeg_where_it_is_white() {
    let original = encoded(&picture(), None);
    for (format, left) in [(Format::Png, [255, 0, 0, 0]), (Format::Jpeg, [255, 255, 255, 255])] {
        let converted = convert(&original, Format::Png, to(format, None), PIXELS_MAX).unwrap().bytes;
        assert!(near(decoded(&converted).into_rgba8().get_pixel(5, 5).0, left), "{format:?}");
    }
    let webp = convert(&original, Format::Png, to(Format::Webp, None), PIXELS_MAX).unwrap().bytes;
    let pixels = decoded(&webp).into_rgba8();
    assert_eq!((pixels.get_pixel(5, 5).0[3], pixels.get_pixel(60, 5).0[3]), (0, 255));

    let half = DynamicImage::from(RgbaImage::from_pixel(1, 1, Rgba([0, 100, 255, 128])));
    assert_eq!(flattened(half).get_pixel(0, 0).0, [127, 177, 255]);
}

#[test]
fn less_quality_is_fewer_bytes() {
    let noisy = RgbImage::from_fn(128, 128, |x, y| {
        let hash = (x.wrapping_mul(2_654_435_761) ^ y.wrapping_mul(40503)).to_le_bytes();
        image::Rgb([hash[1], hash[2], hash[3]])
    });
    let original = encoded(&noisy.into(), None);
    for format in [Format::Jpeg, Format::Webp] {
        let sizes = [0, 1, 30, 60, 90, 99, 100].map(|compression| {
            convert(&original, Format::Png, to(format, Some(compression)), PIXELS_MAX).unwrap().bytes.len()
        });
        assert!(sizes.is_sorted() && sizes[0] * 3 < sizes[6], "{format:?}: {sizes:?}");
    }
    assert_eq!(to(Format::Jpeg, Some(100)), to(Format::Jpeg, None));
    assert!(to(Format::Jpeg, Some(100)).is_met_by(Format::Jpeg));
    assert!(!to(Format::Jpeg, Some(99)).is_met_by(Format::Jpeg));
}

#[test]
fn only_rgb_colour_profiles_are_copied() {
    let original = encoded(&picture(), Some(profile(*b"RGB ")));
    for format in FORMATS {
        let converted = convert(&original, Format::Png, to(format, Some(80)), PIXELS_MAX).unwrap().bytes;
        let mut decoder =
            ImageReader::with_format(Cursor::new(&converted), image_format(format)).into_decoder().unwrap();
        assert_eq!(decoder.icc_profile().unwrap(), Some(profile(*b"RGB ")), "{format:?}");
        assert_eq!(check_complete(&converted).unwrap(), Ok((format, (64, 32))));
    }
    let grey = encoded(&DynamicImage::from(picture().into_luma8()), Some(profile(*b"GRAY")));
    for format in FORMATS {
        let converted = convert(&grey, Format::Png, to(format, Some(80)), PIXELS_MAX).unwrap().bytes;
        let mut decoder =
            ImageReader::with_format(Cursor::new(&converted), image_format(format)).into_decoder().unwrap();
        assert_eq!(decoder.icc_profile().unwrap(), None, "{format:?}");
    }
}

#[test]
fn an_orientation_is_applied() {
    let upright = convert(&encoded(&picture(), None), Format::Png, to(Format::Jpeg, None), PIXELS_MAX).unwrap();
    // Little-endian TIFF with one entry: orientation (0x112), a short, one of them, 6: turn right.
    let exif = [b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0".as_slice()].concat();
    let mut jpeg = img_parts::jpeg::Jpeg::from_bytes(upright.bytes).unwrap();
    img_parts::ImageEXIF::set_exif(&mut jpeg, Some(exif.into()));
    let turned = convert(&jpeg.encoder().bytes(), Format::Jpeg, to(Format::Png, None), PIXELS_MAX).unwrap();
    assert_eq!((turned.width, turned.height), (32, 64));
    assert_eq!(check_complete(&turned.bytes).unwrap(), Ok((Format::Png, (32, 64))));
}

#[test]
fn too_many_pixels_are_refused_by_the_header_alone() {
    let mut original = encoded(&picture(), None).to_vec();
    // A height of 0x20000020, of which no pixel is there.
    original[20] = 0x20;
    let checksum = crc32(&original[12..29]);
    original[29..33].copy_from_slice(&checksum.to_be_bytes());
    let error = convert(&original, Format::Png, to(Format::Jpeg, None), PIXELS_MAX).unwrap_err();
    assert!(matches!(error, ConversionError::TooLarge { width: 64, height: 0x2000_0020, .. }), "{error}");
}

/// Of PNG (ISO 15948 §D), bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & 0u32.wrapping_sub(crc & 1)))
    })
}

#[test]
fn damaged_pictures_are_refused_and_nothing_panics() {
    for from in FORMATS {
        let whole = convert(&encoded(&picture(), None), Format::Png, to(from, None), PIXELS_MAX).unwrap().bytes;
        for at in (0..whole.len()).step_by(7) {
            let mut damaged = whole.to_vec();
            damaged[at] ^= 0x55;
            let converted = convert(&damaged, from, to(Format::Jpeg, Some(50)), PIXELS_MAX);
            if let Ok(converted) = converted {
                assert!(check_complete(&converted.bytes).unwrap().is_ok());
            }
            let _ = convert(&damaged[..at], from, to(Format::Webp, Some(50)), PIXELS_MAX);
        }
        assert!(convert(b"", from, to(Format::Png, None), PIXELS_MAX).is_err());
    }
}
