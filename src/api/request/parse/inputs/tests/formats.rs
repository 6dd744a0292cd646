//! What becomes PNG, and what is refused instead.

use super::*;

/// A HEIC of 96x64 pixels, with the colours that libheif finds in its corners.
type Sample = (&'static str, &'static [u8], (u32, u32), [[u8; 4]; 4]);

const RED: [u8; 4] = [220, 20, 20, 255];

/// Made by libheif with x265, the turned ones changed by hand, and the grid of tiles by another encoder.
const HEIC: &[Sample] = &[
    (
        "4:2:0",
        include_bytes!("../../../../../../tests/gateway/samples/plain.heic"),
        (96, 64),
        [RED, [239, 18, 95, 255], [11, 233, 62, 255], [239, 233, 149, 255]],
    ),
    (
        "4:4:4",
        include_bytes!("../../../../../../tests/gateway/samples/444.heic"),
        (96, 64),
        [RED, [239, 18, 95, 255], [11, 233, 62, 255], [239, 233, 149, 255]],
    ),
    (
        "lossless",
        include_bytes!("../../../../../../tests/gateway/samples/lossless.heic"),
        (96, 64),
        [RED, [239, 18, 95, 255], [11, 233, 62, 255], [239, 233, 149, 255]],
    ),
    (
        "alpha",
        include_bytes!("../../../../../../tests/gateway/samples/alpha.heic"),
        (96, 64),
        [[220, 20, 20, 0], [239, 18, 95, 255], [11, 233, 62, 255], [239, 233, 149, 255]],
    ),
    (
        "grey",
        include_bytes!("../../../../../../tests/gateway/samples/grey.heic"),
        (96, 64),
        [[80, 80, 80, 255], [93, 93, 93, 255], [147, 147, 147, 255], [225, 225, 225, 255]],
    ),
    (
        "10 bits",
        include_bytes!("../../../../../../tests/gateway/samples/ten-bits.heic"),
        (96, 64),
        [RED, [239, 18, 95, 255], [11, 233, 62, 255], [239, 233, 149, 255]],
    ),
    (
        "turned left",
        include_bytes!("../../../../../../tests/gateway/samples/quarter-left.heic"),
        (64, 96),
        [[239, 18, 95, 255], [239, 233, 149, 255], RED, [11, 233, 62, 255]],
    ),
    (
        "turned right",
        include_bytes!("../../../../../../tests/gateway/samples/quarter-right.heic"),
        (64, 96),
        [[11, 233, 62, 255], RED, [239, 233, 149, 255], [239, 18, 95, 255]],
    ),
    (
        "mirrored",
        include_bytes!("../../../../../../tests/gateway/samples/mirrored.heic"),
        (96, 64),
        [[239, 18, 95, 255], RED, [239, 233, 149, 255], [11, 233, 62, 255]],
    ),
    (
        "grid",
        include_bytes!("../../../../../../tests/gateway/samples/grid.heic"),
        (1100, 700),
        [RED, [253, 3, 128, 255], [3, 252, 128, 255], [253, 252, 128, 255]],
    ),
];

#[tokio::test]
async fn heic_of_every_kind_becomes_png() {
    for (name, heic, size, colours) in HEIC {
        let prepared = prepare(form(vec![heic.to_vec()], None)).await.unwrap();
        let picture = decoded(&prepared.images[0]);
        assert_eq!(picture.dimensions(), *size, "{name}");
        let (right, bottom) = (size.0 - 6, size.1 - 6);
        for ((x, y), expected) in [(5, 5), (right, 5), (5, bottom), (right, bottom)].into_iter().zip(colours) {
            let found = picture.get_pixel(x, y).0;
            let is_near = found.iter().zip(expected).all(|(&one, &other)| one.abs_diff(other) <= 8);
            assert!(is_near, "{name} at {x},{y}: {found:?} is not {expected:?}");
        }
        assert_eq!(picture.color().has_alpha(), *name == "alpha", "{name}");
    }
}

/// Returns a TIFF with an orientation.
fn tiff(picture: &DynamicImage, orientation: Option<u16>) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    picture.write_with_encoder(TiffEncoder::new(&mut bytes)).unwrap();
    let mut bytes = bytes.into_inner();
    if let Some(orientation) = orientation {
        // In place of the resolution unit, which comes in the order of tags behind this one.
        let directory = usize::try_from(u32::from_le_bytes(bytes[4..8].try_into().unwrap())).unwrap();
        let count = usize::from(u16::from_le_bytes(bytes[directory..directory + 2].try_into().unwrap()));
        let at = |index: usize| directory + 2 + 12 * index;
        let tag = |index: usize| u16::from_le_bytes(bytes[at(index)..at(index) + 2].try_into().unwrap());
        let last = (0..count).find(|&index| tag(index) == 0x0128).unwrap();
        let first = (0..count).find(|&index| tag(index) > 0x0112).unwrap();
        let entry = [
            &0x0112_u16.to_le_bytes()[..],
            &3_u16.to_le_bytes(),
            &1_u32.to_le_bytes(),
            &orientation.to_le_bytes(),
            &[0; 2],
        ]
        .concat();
        let kept = bytes[at(first)..at(last)].to_vec();
        bytes.splice(at(first)..at(last) + 12, entry.into_iter().chain(kept));
    }
    bytes
}

#[tokio::test]
async fn every_other_format_becomes_png_with_the_same_pixels() {
    let scene = scene();
    let rgb = DynamicImage::from(scene.to_rgb8());
    let (grey, deep) = (DynamicImage::from(scene.to_luma8()), DynamicImage::from(scene.to_rgb16()));
    let float = DynamicImage::from(scene.to_rgb32f());
    let mut clear = scene.to_rgba8();
    clear.get_pixel_mut(3, 3).0 = [0, 0, 0, 0];
    let clear = DynamicImage::from(clear);
    let gif = |picture: &DynamicImage| encoded(picture, ImageFormat::Gif);
    let bmp = |picture: &DynamicImage| encoded(picture, ImageFormat::Bmp);
    let trailing = [bmp(&rgb), b"more".to_vec()].concat();
    for (name, picture, expected, tolerance) in [
        ("GIF", gif(&scene), scene.clone(), 6),
        ("GIF with a transparent colour", gif(&clear), clear.clone(), 6),
        ("GIF without its trailer", gif(&scene).split_last().unwrap().1.to_vec(), scene.clone(), 6),
        ("BMP of 24 bits", bmp(&rgb), rgb.clone(), 0),
        ("BMP of 32 bits", bmp(&clear), clear.clone(), 0),
        ("grey BMP", bmp(&grey), grey.clone(), 0),
        ("BMP with bytes behind it", trailing, rgb.clone(), 0),
        ("TIFF", tiff(&rgb, None), rgb.clone(), 0),
        ("TIFF with alpha", tiff(&clear, None), clear.clone(), 0),
        ("grey TIFF", tiff(&grey, None), grey.clone(), 0),
        ("TIFF of 16 bits", tiff(&deep, None), rgb.clone(), 0),
        ("TIFF of floating-point samples", tiff(&float, None), rgb.clone(), 0),
    ] {
        let first = prepare(form(vec![picture.clone()], None)).await.unwrap();
        assert_same(&decoded(&first.images[0]), &expected, tolerance, name);
        let again = prepare(form(vec![picture], None)).await.unwrap();
        assert_eq!(first.images[0].fingerprint_bytes(), again.images[0].fingerprint_bytes(), "{name}: a retry");
    }
    for orientation in 1..=8 {
        let prepared = prepare(form(vec![tiff(&rgb, Some(orientation))], None)).await.unwrap();
        let name = format!("TIFF with orientation {orientation}");
        assert_same(&decoded(&prepared.images[0]), &seen(&rgb, orientation), 0, &name);
    }
}

/// Returns a GIF of as many frames.
fn animation(frames: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    {
        let mut encoder = image::codecs::gif::GifEncoder::new(&mut bytes);
        let frame = || image::Frame::new(scene().to_rgba8());
        encoder.encode_frames((0..frames).map(|_| frame())).unwrap();
    }
    bytes
}

#[tokio::test]
async fn an_animation_is_refused_by_name_and_its_first_frame_is_not_bought() {
    assert!(prepare(form(vec![animation(1)], None)).await.is_ok());
    for frames in [2, 3, 40] {
        let still = encoded(&scene(), ImageFormat::Png);
        let error = prepare(form(vec![still, animation(frames)], None)).await.unwrap_err();
        assert_eq!(error.code(), "unsupported_file_mimetype");
        let text = error.to_string();
        assert!(text.contains("'image[1]'") && text.contains("an animated GIF; send one of its frames"), "{text}");
    }
}

#[tokio::test]
async fn what_is_cut_or_changed_is_refused_as_damaged() {
    let rgb = DynamicImage::from(scene().to_rgb8());
    let gif = encoded(&scene(), ImageFormat::Gif);
    let bmp = encoded(&rgb, ImageFormat::Bmp);
    let tiff = tiff(&rgb, None);
    let (_, heic, ..) = HEIC[0];
    let cut = |picture: &[u8], by: usize| picture[..picture.len() - by].to_vec();
    let mut wide = bmp.clone();
    wide[18..22].copy_from_slice(&40_u32.to_le_bytes());
    let mut none = bmp.clone();
    none[18..22].fill(0);
    for (name, picture) in [
        ("half a GIF", cut(&gif, gif.len() / 2)),
        ("the head of a GIF", gif[..13].to_vec()),
        ("half a BMP", cut(&bmp, bmp.len() / 2)),
        ("a BMP that is wider than it has pixels", wide),
        ("a BMP without width", none),
        ("the head of a BMP", bmp[..54].to_vec()),
        ("half a TIFF", cut(&tiff, tiff.len() / 2)),
        ("the head of a TIFF", tiff[..8].to_vec()),
        ("a TIFF of EXIF alone", exif(1, true)),
        ("half a HEIC", heic[..heic.len() / 2].to_vec()),
        ("a HEIC without its last bytes", heic[..heic.len() - 100].to_vec()),
        ("the head of a HEIC", heic[..40].to_vec()),
        ("brands alone", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic".to_vec()),
    ] {
        let error = prepare(form(vec![picture], None)).await.unwrap_err();
        assert_eq!(error.code(), "invalid_image_file", "{name}: {error}");
        let text = error.to_string();
        assert!(text.contains("cannot be decoded") && text.contains("Nothing was bought"), "{name}: {text}");
    }
}

#[tokio::test]
async fn limits_are_looked_at_before_pixels_and_named() {
    let rgb = DynamicImage::from(scene().to_rgb8());
    let mut bomb = encoded(&rgb, ImageFormat::Bmp);
    bomb[18..26].copy_from_slice(&[30_000_u32, 30_000].map(u32::to_le_bytes).concat());
    let mut screen = b"GIF89a\xff\xff\xff\xff\0\0\0".to_vec();
    screen.extend(b",\0\0\0\0\x01\0\x01\0\0\x02\x02D\x01\0;");
    let (_, heic, ..) = HEIC[0];
    for (name, picture, pixels_max, words) in [
        ("BMP", encoded(&rgb, ImageFormat::Bmp), 95, "12x8 pixels, and has to be converted as a BMP"),
        ("GIF", encoded(&scene(), ImageFormat::Gif), 95, "at most 95 pixels for that (server.input_pixels_max)"),
        ("TIFF", tiff(&rgb, None), 95, "server.input_pixels_max"),
        ("HEIC", heic.to_vec(), 6143, "96x64 pixels"),
        ("a bomb", bomb, 1 << 24, "(server.picture_pixels_max)"),
        ("a wide screen", screen, 1 << 24, "(server.picture_side_max)"),
        ("none at all", heic.to_vec(), 0, "at most 0 pixels"),
    ] {
        let error = prepare_within(form(vec![picture], None), pixels_max, 1 << 20).await.unwrap_err();
        assert_eq!(error.code(), "image_too_large", "{name}: {error}");
        assert!(error.to_string().contains(words), "{name}: {error}");
    }
    assert!(prepare_within(form(vec![heic.to_vec()], None), 6144, 1 << 20).await.is_ok(), "as many as are allowed");
    let error = prepare_within(form(vec![heic.to_vec()], None), 6144, 1000).await.unwrap_err();
    assert_eq!(error.code(), "unsupported_file_mimetype");
    assert!(error.to_string().contains("once it is converted to PNG"), "{error}");
}

#[tokio::test]
async fn a_picture_that_takes_more_memory_than_its_pixels_is_refused_by_the_limit() {
    let floats = DynamicImage::from(scene().to_rgba32f()).resize_exact(600, 600, image::imageops::FilterType::Nearest);
    let wide = tiff(&floats, None);
    let error = prepare_within(form(vec![wide.clone()], None), 360_000, 1 << 24).await.unwrap_err();
    assert_eq!(error.code(), "image_too_large", "{error}");
    assert!(error.to_string().contains("more memory") && error.to_string().contains("input_pixels_max"), "{error}");
    assert!(prepare_within(form(vec![wide], None), 800_000, 1 << 24).await.is_ok());
}

#[tokio::test]
async fn nothing_is_decoded_where_images_are_not_checked() {
    let (_directory, spool) = spool();
    let pictures = PictureLimits { known_only: false, ..server().requests.picture_limits() };
    let limits = InputLimits { spool: &spool, pictures, bytes_max: 1 << 20 };
    let (_, heic, ..) = HEIC[0];
    let opaque = encoded(&scene(), ImageFormat::Png);
    let prepared = converter(1 << 20).prepare(form(vec![heic.to_vec()], Some(opaque.clone())), limits).await.unwrap();
    assert_eq!(content(&prepared.images[0]), heic.to_vec());
    let Some(Input::Bytes { picture, .. }) = prepared.mask else { panic!("no mask") };
    assert_eq!(picture.structure.transparency, Transparency::Possible);
}

#[tokio::test]
async fn a_colour_profile_is_kept() {
    let mut profile = vec![0; 128];
    profile[16..20].copy_from_slice(b"RGB ");
    let mut png = Vec::new();
    let encoder = encoding::with_profile(PngEncoder::new(&mut png), Some(profile.clone())).unwrap();
    scene().write_with_encoder(encoder).unwrap();
    let turned = [&png[..33], &png_chunk(b"eXIf", &exif(3, true)), &png[33..]].concat();
    let mask = encoded(&DynamicImage::new_rgba8(12, 8), ImageFormat::Png);
    let prepared = prepare(form(vec![turned], Some(mask))).await.unwrap();
    let bytes = content(&prepared.images[0]);
    let mut decoder = image::ImageReader::with_format(Cursor::new(bytes), ImageFormat::Png).into_decoder().unwrap();
    assert_eq!(image::ImageDecoder::icc_profile(&mut decoder).unwrap(), Some(profile));
}
