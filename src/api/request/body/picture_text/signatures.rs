//! The first bytes by which formats of pictures are known, also those that cannot be sent on.

/// Whether these first bytes begin a picture.
pub(crate) fn is_picture(start: &[u8]) -> bool {
    let at = |offset: usize, bytes: &[u8]| start.get(offset..offset + bytes.len()) == Some(bytes);
    at(0, b"\x89PNG")
        || at(0, b"\xff\xd8\xff")
        || (at(0, b"RIFF") && at(8, b"WEBP"))
        || at(0, b"GIF8")
        // The reserved words behind the size of a BMP are zero.
        || (at(0, b"BM") && at(6, &[0; 4]))
        || at(0, b"II*\0")
        || at(0, b"MM\0*")
        // HEIC and AVIF.
        || (at(4, b"ftyp") && at(0, &[0, 0]))
        || at(0, b"\0\0\0\x0cjP  ")
        || at(0, b"\0\0\0\x0cJXL ")
        || at(0, b"\xff\x0a")
        || at(0, b"\0\0\x01\0")
}

/// Whether these first bytes are of a format that is refused by its name, or of a picture that was damaged as a text.
pub(crate) fn is_named_format(start: &[u8]) -> bool {
    let text = start.trim_ascii_start();
    is_picture(start)
        || start.starts_with(b"%PDF")
        || start.starts_with(b"8BPS")
        || text.starts_with(b"<")
        || start.windows(3).any(|bytes| bytes == "\u{fffd}".as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_known_by_their_first_bytes() {
        let known: [&[u8]; 12] = [
            b"\x89PNG\r\n\x1a\n",
            b"\xff\xd8\xff\xe0\0\x10JFIF",
            b"RIFF\x10\0\0\0WEBPVP8 ",
            b"GIF89a",
            b"BM\x36\x10\0\0\0\0\0\0\x36",
            b"II*\0\x08\0\0\0",
            b"MM\0*\0\0\0\x08",
            b"\0\0\0\x1cftypheic",
            b"\0\0\0\x20ftypavif",
            b"\0\0\0\x0cjP  \r\n",
            b"\xff\x0a\xfa",
            b"\0\0\x01\0\x01\0",
        ];
        for start in known {
            assert!(is_picture(start), "{start:?}");
            assert!(is_named_format(start), "{start:?}");
        }
        for start in [&b"RIFF\x10\0\0\0WAVEfmt "[..], b"BM is no bitmap", b"hello", b"", b"{\"a\":1}", b"PK\x03\x04"] {
            assert!(!is_picture(start) && !is_named_format(start), "{start:?}");
        }
        for start in [&b"%PDF-1.7"[..], b"8BPS\0\x01", b"<svg/>", b" <html>", b"\xef\xbf\xbdPNG\r\n"] {
            assert!(!is_picture(start) && is_named_format(start), "{start:?}");
        }
    }
}
