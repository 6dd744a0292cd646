//! Decodes base64 that arrives in pieces: both alphabets, with or without padding, line breaks anywhere.

/// Decodes a stream of base64 text. Holds at most three characters between pieces.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    /// Characters of the standard alphabet that are not decoded yet.
    clean: Vec<u8>,
    padding: usize,
}

/// The text is not base64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not valid base64")]
pub(crate) struct NotBase64;

impl Decoder {
    /// Decodes a piece of text and appends the bytes to `decoded`.
    ///
    /// # Errors
    ///
    /// [`NotBase64`] on a foreign character, or on characters after the padding.
    pub(crate) fn push(&mut self, text: &[u8], decoded: &mut Vec<u8>) -> Result<(), NotBase64> {
        self.clean.reserve(text.len());
        for &byte in text {
            let byte = match byte {
                b'\t' | b'\n' | b'\x0c' | b'\r' | b' ' => continue,
                b'=' if self.padding < 2 => {
                    self.padding += 1;
                    continue;
                }
                b'-' => b'+',
                b'_' => b'/',
                other => other,
            };
            if self.padding > 0 {
                return Err(NotBase64);
            }
            self.clean.push(byte);
        }
        let whole = self.clean.len() - self.clean.len() % 4;
        append(&self.clean[..whole], decoded)?;
        self.clean.drain(..whole);
        Ok(())
    }

    /// Decodes the rest.
    ///
    /// # Errors
    ///
    /// [`NotBase64`] when the text ends inside a character, or is padded to no multiple of four.
    pub(crate) fn finish(self, decoded: &mut Vec<u8>) -> Result<(), NotBase64> {
        if self.padding > 0 && !(self.clean.len() + self.padding).is_multiple_of(4) {
            return Err(NotBase64);
        }
        // Forgiving about the unused bits of the last character, which not every encoder leaves at zero.
        let last = base64_simd::forgiving_decode_to_vec(&self.clean).map_err(|_| NotBase64)?;
        decoded.extend_from_slice(&last);
        Ok(())
    }
}

fn append(clean: &[u8], decoded: &mut Vec<u8>) -> Result<(), NotBase64> {
    let start = decoded.len();
    decoded.resize(start + clean.len() / 4 * 3, 0);
    let out = base64_simd::Out::from_slice(&mut decoded[start..]);
    base64_simd::STANDARD_NO_PAD.decode(clean, out).map(|_| ()).map_err(|_| NotBase64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decode<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<u8>, NotBase64> {
        let (mut decoder, mut bytes) = (Decoder::default(), Vec::new());
        for piece in pieces {
            decoder.push(piece, &mut bytes)?;
        }
        decoder.finish(&mut bytes)?;
        Ok(bytes)
    }

    #[test]
    fn every_spelling_of_base64_is_decoded_and_nothing_else() {
        let good: [(&str, &[u8]); 10] = [
            ("", b""),
            ("Zg==", b"f"),
            ("Zg", b"f"),
            ("Zm8=", b"fo"),
            ("Zm9v", b"foo"),
            ("Zm\r\n9v\n", b"foo"),
            ("+/+/", &[0xfb, 0xff, 0xbf]),
            ("-_-_", &[0xfb, 0xff, 0xbf]),
            ("Zh==", b"f"),
            ("Z g = =", b"f"),
        ];
        for (text, bytes) in good {
            assert_eq!(decode([text.as_bytes()]).as_deref(), Ok(bytes), "{text:?}");
        }
        for bad in ["Z", "Zm9vZ", "Zm9v!", "Zg==Zg==", "Zg===", "Zm9v=", "é", "\0"] {
            assert_eq!(decode([bad.as_bytes()]), Err(NotBase64), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn chunk_borders_make_no_difference(
            bytes in prop::collection::vec(any::<u8>(), 0..500),
            cuts in prop::collection::vec(1_usize..60, 1..20),
            url_safe: bool,
            padded: bool,
        ) {
            let variant = match (url_safe, padded) {
                (false, false) => base64_simd::STANDARD_NO_PAD,
                (false, true) => base64_simd::STANDARD,
                (true, false) => base64_simd::URL_SAFE_NO_PAD,
                (true, true) => base64_simd::URL_SAFE,
            };
            let text = variant.encode_to_string(&bytes);
            let mut pieces = Vec::new();
            let mut rest = text.as_bytes();
            for &cut in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (piece, behind) = rest.split_at(cut.min(rest.len()));
                pieces.push(piece);
                rest = behind;
            }
            prop_assert_eq!(decode(pieces), Ok(bytes));
        }

        #[test]
        fn any_text_is_decoded_or_refused(text in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = decode([text.as_slice()]);
        }
    }
}
