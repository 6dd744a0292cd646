//! What bytes are that are no PNG, JPEG or WebP: a picture of another format, another file, or a picture that was damaged on its
//! way.

use super::orientation::Tags;

/// Formats of pictures that are converted to PNG before they are sent on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum ConvertibleFormat {
    Gif,
    Bmp,
    Tiff,
    Heic,
}

impl ConvertibleFormat {
    pub(crate) fn media_type(self) -> &'static str {
        match self {
            Self::Gif => "image/gif",
            Self::Bmp => "image/bmp",
            Self::Tiff => "image/tiff",
            Self::Heic => "image/heic",
        }
    }
}

/// What a file is, by its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileKind {
    Convertible(ConvertibleFormat),
    /// A file of another type. `note` ends a sentence that begins with "it is".
    Foreign {
        media_type: &'static str,
        note: &'static str,
    },
    /// A picture whose bytes were changed on their way; the text is a sentence about it.
    Altered(&'static str),
    Unknown,
}

/// First bytes of a file that decide its kind.
pub(crate) const HEAD_BYTES: usize = 4096;

use ConvertibleFormat::{Bmp, Gif, Heic, Tiff};
use FileKind::{Altered, Convertible, Foreign, Unknown};

/// Kinds that a fixed text at an offset shows.
const SIGNATURES: &[(usize, &[u8], FileKind)] = &[
    (0, b"GIF87a", Convertible(Gif)),
    (0, b"GIF89a", Convertible(Gif)),
    (0, b"\x89PNG\n", Altered(LINE_ENDS)),
    (0, b"\x89PNG\r\r\n", Altered(LINE_ENDS)),
    (0, b"\x89PNG\r\n\x1a\r\n", Altered(LINE_ENDS)),
    (0, b"\x89PNG\r\n\n", Altered(LINE_ENDS)),
    (0, b"\x09PNG", Altered("it is a PNG of which the highest bit of every byte was cleared, as transfers of text do")),
    (0, b"\xc2\x89PNG", Altered(AS_TEXT)),
    (0, b"\xc3\xbf\xc3\x98\xc3\xbf", Altered(AS_TEXT)),
    (0, b"\xef\xbf\xbd", Altered(AS_TEXT)),
    (0, b"?PNG", Altered(AS_TEXT)),
    (0, b"???\0\x10JFIF", Altered(AS_TEXT)),
    (0, b"\0\0\0\x0cjP  ", foreign("image/jp2", "a JPEG 2000 picture; save it as PNG or JPEG")),
    (0, b"\xff\x4f\xff\x51", foreign("image/jp2", "a JPEG 2000 picture; save it as PNG or JPEG")),
    (0, b"\0\0\0\x0cJXL ", foreign("image/jxl", "a JPEG XL picture; save it as PNG or JPEG")),
    (0, b"\xff\x0a", foreign("image/jxl", "a JPEG XL picture; save it as PNG or JPEG")),
    (0, b"\0\0\x01\0", foreign("image/x-icon", "an icon; save its largest picture as PNG")),
    (0, b"\0\0\x02\0", foreign("image/x-icon", "a cursor; save its picture as PNG")),
    (0, b"icns", foreign("image/icns", "an icon; save its largest picture as PNG")),
    (0, b"8BPS", foreign("image/vnd.adobe.photoshop", "a Photoshop document; export it as PNG")),
    (0, b"gimp xcf", foreign("image/x-xcf", "a GIMP document; export it as PNG")),
    (0, b"\x76\x2f\x31\x01", foreign("image/x-exr", "an OpenEXR picture; save it as PNG")),
    (0, b"#?RADIANCE", foreign("image/vnd.radiance", "a Radiance picture; save it as PNG")),
    (0, b"DDS ", foreign("image/vnd.ms-dds", "a DirectDraw surface; save it as PNG")),
    (0, b"qoif", foreign("image/qoi", "a QOI picture; save it as PNG")),
    (0, b"II\xbc\x01", foreign("image/jxr", "a JPEG XR picture; save it as PNG or JPEG")),
    (0, b"FUJIFILMCCD-RAW", foreign("image/x-raw", RAW)),
    (0, b"IIRO", foreign("image/x-raw", RAW)),
    (0, b"IIRS", foreign("image/x-raw", RAW)),
    (0, b"MMOR", foreign("image/x-raw", RAW)),
    (0, b"IIU\0", foreign("image/x-raw", RAW)),
    (0, b"FOVb", foreign("image/x-raw", RAW)),
    (0, b"II+\0", foreign("image/tiff", "a BigTIFF picture; save it as PNG")),
    (0, b"MM\0+", foreign("image/tiff", "a BigTIFF picture; save it as PNG")),
    (0, b"%PDF", foreign("application/pdf", "a PDF document; send one page of it as a PNG")),
    (0, b"%!PS", foreign("application/postscript", "a PostScript document; send one page of it as a PNG")),
    (0, b"\x1f\x8b", foreign("application/gzip", "compressed by gzip; send the picture itself")),
    (0, b"\x28\xb5\x2f\xfd", foreign("application/zstd", "compressed by zstd; send the picture itself")),
    (0, b"BZh", foreign("application/x-bzip2", "compressed by bzip2; send the picture itself")),
    (0, b"\xfd7zXZ\0", foreign("application/x-xz", "compressed by xz; send the picture itself")),
    (0, b"PK\x03\x04", foreign("application/zip", "a ZIP archive or an office document; send the picture in it")),
    (0, b"7z\xbc\xaf\x27\x1c", foreign("application/x-7z-compressed", "a 7-Zip archive; send the picture in it")),
    (0, b"Rar!\x1a\x07", foreign("application/vnd.rar", "a RAR archive; send the picture in it")),
    (0, b"\x1a\x45\xdf\xa3", foreign("video/webm", VIDEO)),
    (0, b"FLV\x01", foreign("video/x-flv", VIDEO)),
    (0, b"\0\0\x01\xba", foreign("video/mpeg", VIDEO)),
    (0, b"\0\0\x01\xb3", foreign("video/mpeg", VIDEO)),
    (4, b"moov", foreign("video/quicktime", VIDEO)),
    (4, b"mdat", foreign("video/quicktime", VIDEO)),
    (0, b"OggS", foreign("application/ogg", "an Ogg recording, and no picture")),
    (0, b"ID3", foreign("audio/mpeg", "an MP3 recording, and no picture")),
    (0, b"\x7fELF", foreign("application/x-executable", "a program, and no picture")),
    (0, b"SQLite format 3\0", foreign("application/vnd.sqlite3", "a database, and no picture")),
    (0, b"bplist00", foreign("application/x-plist", "a property list, and no picture")),
];

const RAW: &str = "a camera's raw photo; develop it to JPEG or PNG";
const VIDEO: &str = "a video; send one frame of it as a PNG";
const LINE_ENDS: &str = "it is a PNG in which line ends were converted, as transfers of text do";
const AS_TEXT: &str =
    "it was read as text on its way (as UTF-8, say), which changed its bytes; read and send it as bytes";
const REPLACEMENT: &[u8] = "\u{fffd}".as_bytes();
/// Replacement characters that no whole picture has in its first bytes.
const REPLACEMENTS_MIN: usize = 8;
/// Shortest text that is taken for base64.
const BASE64_BYTES_MIN: usize = 24;

/// Tags of the first directory of a TIFF file that raw photos have: what the picture is, what its samples are, and the version of
/// DNG. A directory of further pictures says nothing: editors write their layers and smaller copies there.
const SUBFILE_TAG: u16 = 0x00fe;
const SAMPLES_TAG: u16 = 0x0106;
const DNG_TAG: u16 = 0xc612;
/// Samples under a colour filter.
const FILTERED: u32 = 32_803;

const fn foreign(media_type: &'static str, note: &'static str) -> FileKind {
    Foreign { media_type, note }
}

impl FileKind {
    /// Returns the kind of a file that begins with these bytes, [`HEAD_BYTES`] or all of them.
    pub(crate) fn of(head: &[u8]) -> Self {
        let is_here =
            |(at, text, _): &&(usize, &[u8], Self)| head.get(*at..).is_some_and(|rest| rest.starts_with(text));
        if let Some((_, _, kind)) = SIGNATURES.iter().find(is_here) {
            return *kind;
        }
        match head {
            [b'B', b'M', _, _, _, _, 0, 0, 0, 0, ..] => Convertible(Bmp),
            [b'I', b'I', b'*', 0, ..] | [b'M', b'M', 0, b'*', ..] => tiff(head),
            [_, _, _, _, b'f', b't', b'y', b'p', ..] => by_brand(head),
            [b'R', b'I', b'F', b'F', _, _, _, _, b'A', b'V', b'I', b' ', ..] => foreign("video/x-msvideo", VIDEO),
            [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'A', b'V', b'E', ..] => {
                foreign("audio/wav", "a WAVE recording, and no picture")
            }
            [b'P', b'1'..=b'7', b' ' | b'\n' | b'\r' | b'\t', ..] => {
                foreign("image/x-portable-anymap", "a Netpbm picture; save it as PNG")
            }
            _ if was_text(head) => Altered(AS_TEXT),
            _ => text(head),
        }
    }

    /// Returns the kind of a picture of a known format that is damaged, if its bytes show how that happened.
    pub(crate) fn of_damaged(head: &[u8]) -> Option<Self> {
        was_text(head).then_some(Altered(AS_TEXT))
    }
}

/// Whether bytes that were no text were replaced, when something read them as text.
fn was_text(head: &[u8]) -> bool {
    head.windows(REPLACEMENT.len()).filter(|bytes| *bytes == REPLACEMENT).count() >= REPLACEMENTS_MIN
}

/// Tells a TIFF picture from a raw photo, of which the first picture is a preview.
fn tiff(head: &[u8]) -> FileKind {
    let is_raw = head.get(8..10) == Some(b"CR")
        || Tags::of(head).is_some_and(|tags| {
            let is_preview = tags.number(SUBFILE_TAG).is_some_and(|bits| bits & 1 == 1);
            is_preview || tags.has(DNG_TAG) || tags.number(SAMPLES_TAG) == Some(FILTERED)
        });
    if is_raw { foreign("image/x-raw", RAW) } else { Convertible(Tiff) }
}

/// Tells the files apart that begin with a list of brands.
fn by_brand(head: &[u8]) -> FileKind {
    let length = head.get(..4).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_be_bytes);
    let list = head.get(8..usize::try_from(length).unwrap_or(0).min(head.len())).unwrap_or_default();
    // The main brand, its version, and the compatible ones.
    let mut brands = list.chunks_exact(4).enumerate().filter(|(index, _)| *index != 1).map(|(_, brand)| brand);
    let is_known = |brand: &[u8]| match brand {
        b"avif" | b"avis" => Some(foreign("image/avif", "an AVIF picture; save it as PNG, JPEG or WebP")),
        b"heic" | b"heix" | b"heim" | b"heis" | b"hevc" | b"hevx" => Some(Convertible(Heic)),
        b"crx " => Some(foreign("image/x-raw", RAW)),
        b"qt  " => Some(foreign("video/quicktime", VIDEO)),
        b"isom" | b"iso2" | b"iso4" | b"iso5" | b"iso6" | b"mp41" | b"mp42" | b"M4V " | b"avc1" | b"3gp4" | b"3gp5"
        | b"dash" => Some(foreign("video/mp4", VIDEO)),
        b"M4A " | b"M4B " => Some(foreign("audio/mp4", "a recording, and no picture")),
        _ => None,
    };
    let heif = foreign("image/heif", "a HEIF picture of an unknown kind; save it as PNG or JPEG");
    brands.find_map(is_known).unwrap_or(heif)
}

/// Tells files of text apart.
fn text(head: &[u8]) -> FileKind {
    let head = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head).trim_ascii_start();
    let lower = head.to_ascii_lowercase();
    let has = |words: &[u8]| lower.windows(words.len()).any(|bytes| bytes == words);
    // The last character may be cut.
    let valid = match std::str::from_utf8(head) {
        Ok(text) => text,
        Err(error) if error.error_len().is_none() => std::str::from_utf8(&head[..error.valid_up_to()]).unwrap_or(""),
        Err(_) => "",
    };
    let is_text = !valid.is_empty() && !valid.chars().any(|c| c.is_control() && !c.is_ascii_whitespace());
    if head.starts_with(b"--") && has(b"content-disposition:") {
        return foreign("multipart/form-data", "another multipart form; send the picture in it");
    }
    if !is_text {
        return Unknown;
    }
    if lower.starts_with(b"<svg") || (lower.starts_with(b"<") && has(b"<svg")) {
        return foreign("image/svg+xml", "an SVG drawing; render it as PNG");
    }
    if lower.starts_with(b"<!doctype html") || lower.starts_with(b"<html") || has(b"<body") {
        return foreign("text/html", "a web page, such as the error page of a failed download");
    }
    match head.first() {
        Some(b'<') => return foreign("text/xml", "XML, such as the error of a failed download"),
        Some(b'{' | b'[') => return foreign("application/json", "JSON, such as the error of a failed download"),
        _ => {}
    }
    if lower.starts_with(b"data:") {
        return foreign("text/plain", "the text of a data URL that holds no picture");
    }
    if lower.starts_with(b"http://") || lower.starts_with(b"https://") {
        return foreign("text/plain", "an address; send it as text, or the picture behind it as a file");
    }
    let is_base64 = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'-' | b'_' | b'=' | b'\r' | b'\n');
    if head.len() >= BASE64_BYTES_MIN && head.iter().all(is_base64) {
        return foreign("text/plain", "text that looks like base64; send the bytes that it stands for");
    }
    foreign("text/plain", "text, and no picture")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::Format;
    use crate::model::picture::test_support::{exif, jpeg_of, png_of};

    fn media_type(head: &[u8]) -> &'static str {
        match FileKind::of(head) {
            Convertible(Gif) => "gif",
            Convertible(Bmp) => "bmp",
            Convertible(Tiff) => "tiff",
            Convertible(Heic) => "heic",
            Foreign { media_type, note } => {
                assert!(!note.ends_with('.') && !note.is_empty(), "{note}");
                media_type
            }
            Altered(problem) => {
                assert!(problem.starts_with("it "), "{problem}");
                "altered"
            }
            Unknown => "unknown",
        }
    }

    #[test]
    fn every_kind_of_file_has_its_name() {
        let tiff_of = |tag: u16, value: u16| {
            let mut bytes = exif(value, true);
            let at = bytes.len() - 16;
            bytes[at..at + 2].copy_from_slice(&tag.to_le_bytes());
            bytes
        };
        let nested = b"--x\r\nContent-Disposition: form-data; name=\"image\"\r\n\r\n\x89PNG\r\n\x1a\n".to_vec();
        for (head, expected) in [
            (b"GIF87a\x01\0\x01\0".to_vec(), "gif"),
            (b"GIF89a\x01\0\x01\0".to_vec(), "gif"),
            (b"BM\x46\0\0\0\0\0\0\0\x36\0\0\0".to_vec(), "bmp"),
            (exif(1, true), "tiff"),
            (exif(1, false), "tiff"),
            (tiff_of(0xc612, 1), "image/x-raw"),
            (tiff_of(0x014a, 1), "tiff"),
            (tiff_of(0x0106, 32803), "image/x-raw"),
            (tiff_of(0x0106, 2), "tiff"),
            (tiff_of(0x00fe, 1), "image/x-raw"),
            (tiff_of(0x00fe, 2), "tiff"),
            (b"II*\0\x10\0\0\0CR\x02\0".to_vec(), "image/x-raw"),
            (b"FUJIFILMCCD-RAW 0201".to_vec(), "image/x-raw"),
            (b"IIRO\x08\0\0\0".to_vec(), "image/x-raw"),
            (b"IIU\0\x18\0\0\0".to_vec(), "image/x-raw"),
            (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic".to_vec(), "heic"),
            (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic".to_vec(), "heic"),
            (b"\0\0\0\x18ftypmsf1\0\0\0\0msf1hevc".to_vec(), "heic"),
            (b"\0\0\0\x1cftypavif\0\0\0\0mif1avifmiaf".to_vec(), "image/avif"),
            (b"\0\0\0\x1cftypmif1\0\0\0\0mif1avifmiaf".to_vec(), "image/avif"),
            (b"\0\0\0\x14ftypmif1\0\0\0\0mif1".to_vec(), "image/heif"),
            (b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom".to_vec(), "video/mp4"),
            (b"\0\0\0\x14ftypqt  \0\0\0\0qt  ".to_vec(), "video/quicktime"),
            (b"\0\0\0\x18ftypcrx \0\0\0\x01crx isom".to_vec(), "image/x-raw"),
            (b"\0\0\x10\0moov".to_vec(), "video/quicktime"),
            (b"\x1a\x45\xdf\xa3\x9fB\x86\x81".to_vec(), "video/webm"),
            (b"RIFF\x10\0\0\0AVI LIST".to_vec(), "video/x-msvideo"),
            (b"RIFF\x10\0\0\0WAVEfmt ".to_vec(), "audio/wav"),
            (b"\0\0\0\x0cjP  \r\n\x87\n".to_vec(), "image/jp2"),
            (b"\xff\x4f\xff\x51\0".to_vec(), "image/jp2"),
            (b"\0\0\0\x0cJXL \r\n\x87\n".to_vec(), "image/jxl"),
            (b"\xff\x0a\x7f".to_vec(), "image/jxl"),
            (b"\0\0\x01\0\x01\0\x10\x10".to_vec(), "image/x-icon"),
            (b"8BPS\0\x01".to_vec(), "image/vnd.adobe.photoshop"),
            (b"P6\n8 8\n255\n".to_vec(), "image/x-portable-anymap"),
            (b"%PDF-1.7\n".to_vec(), "application/pdf"),
            (b"<svg xmlns=\"http://www.w3.org/2000/svg\"/>".to_vec(), "image/svg+xml"),
            (b"<?xml version=\"1.0\"?>\n<!-- a -->\n<svg/>".to_vec(), "image/svg+xml"),
            (b"<!DOCTYPE html><html>".to_vec(), "text/html"),
            (b"\xef\xbb\xbf  <HTML><body>404".to_vec(), "text/html"),
            (b"<?xml version=\"1.0\"?><Error/>".to_vec(), "text/xml"),
            (b"{\"error\": 404}".to_vec(), "application/json"),
            (b"hello there".to_vec(), "text/plain"),
            ("gr\u{fc}\u{df} dich".as_bytes().to_vec(), "text/plain"),
            (b"iVBORw0KGgoAAAANSUhEUgAAAAEAAAAB".to_vec(), "text/plain"),
            (b"data:image/png;base64,AAAA".to_vec(), "text/plain"),
            (b"https://example.com/a.png".to_vec(), "text/plain"),
            (nested, "multipart/form-data"),
            (b"\x1f\x8b\x08\0".to_vec(), "application/gzip"),
            (b"PK\x03\x04\x14\0".to_vec(), "application/zip"),
            (b"\x89PNG\n\x1a\n\0\0\0".to_vec(), "altered"),
            (b"\x89PNG\r\r\n\x1a\r\n\0\0".to_vec(), "altered"),
            (b"\x89PNG\r\n\x1a\r\n\0\0\0".to_vec(), "altered"),
            (b"\xc2\x89PNG\r\n\x1a\n".to_vec(), "altered"),
            ("\u{fffd}PNG\r\n\u{1a}\n".as_bytes().to_vec(), "altered"),
            ("\u{fffd}\u{fffd}\u{fffd}\u{fffd}\0\u{10}JFIF".as_bytes().to_vec(), "altered"),
            ("RIFF\u{fffd}x".repeat(9).into_bytes(), "altered"),
            (b"\x00\x01\x02\x03\x04\x05".to_vec(), "unknown"),
            (b"BM".to_vec(), "text/plain"),
            (b"\x80abc".to_vec(), "unknown"),
        ] {
            assert_eq!(media_type(&head), expected, "{}", head.escape_ascii());
        }
    }

    #[test]
    fn text_that_is_cut_within_a_character_is_text() {
        let long = "\u{fc}".repeat(HEAD_BYTES);
        assert_eq!(media_type(&long.as_bytes()[..HEAD_BYTES - 1]), "text/plain");
    }

    #[test]
    fn a_whole_picture_was_not_text_and_one_that_was_is_found() {
        let noise: Vec<u8> = (0..4000_u32).map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect();
        let chunk = crate::model::picture::test_support::png_chunk(b"IDAT", &noise);
        for picture in [png_of(8, 8, &[chunk]), jpeg_of(8, 8, std::slice::from_ref(&noise))] {
            assert_eq!(FileKind::of_damaged(&picture), None);
            let text = String::from_utf8_lossy(&picture).into_owned().into_bytes();
            assert_eq!(FileKind::of(&text), Altered(AS_TEXT));
            assert_eq!(FileKind::of_damaged(&text), Some(Altered(AS_TEXT)));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_have_a_kind(bytes in prop::collection::vec(any::<u8>(), 0..64), start in 0..SIGNATURES.len()) {
            let (_, signature, _) = SIGNATURES[start];
            media_type(&bytes);
            media_type(&[signature, &bytes].concat());
            media_type(&[&b"\0\0\0\x20ftyp"[..], &bytes].concat());
        }

        #[test]
        fn no_known_format_is_another_kind(bytes in prop::collection::vec(any::<u8>(), 12..64)) {
            for start in [&b"\x89PNG\r\n\x1a\n"[..], b"\xff\xd8\xff", b"RIFF\x10\0\0\0WEBP"] {
                let head = [start, &bytes].concat();
                prop_assert!(Format::sniff(&head).is_some());
                let is_other = matches!(FileKind::of(&head), Convertible(_) | Foreign { .. });
                prop_assert!(!is_other);
            }
        }
    }
}
