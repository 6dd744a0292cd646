//! Decodes the `Content-Transfer-Encoding` of a part, which mail libraries set.

use bytes::Bytes;

use crate::api::error::ApiError;
use crate::api::request::body::picture_text::base64::Decoder;

/// Decodes the bytes of a part as they arrive.
#[derive(Debug)]
pub(super) enum TransferDecoder {
    /// 7bit, 8bit and binary.
    Identity,
    Base64(Decoder),
    /// With an escape sequence that is not complete.
    QuotedPrintable(Vec<u8>),
}

impl TransferDecoder {
    /// # Errors
    ///
    /// [`ApiError::MalformedBody`] for an encoding that is not known, naming it.
    pub(super) fn new(encoding: &str, name: &str) -> Result<Self, ApiError> {
        match encoding {
            "" | "7bit" | "8bit" | "binary" | "identity" => Ok(Self::Identity),
            "base64" => Ok(Self::Base64(Decoder::default())),
            "quoted-printable" => Ok(Self::QuotedPrintable(Vec::new())),
            other => {
                let problem = format!(
                    "the part '{name}' has the Content-Transfer-Encoding '{other}'; binary, base64 and quoted-printable are \
                     supported"
                );
                Err(ApiError::MalformedBody { problem: problem.into() })
            }
        }
    }

    /// Whether the bytes are sent as they are.
    pub(super) fn is_identity(&self) -> bool {
        matches!(self, Self::Identity)
    }

    /// Decodes the next bytes.
    ///
    /// # Errors
    ///
    /// [`ApiError::MalformedBody`] for bytes that are not encoded as declared.
    pub(super) fn decode(&mut self, chunk: Bytes, name: &str) -> Result<Bytes, ApiError> {
        let mut bytes = Vec::new();
        match self {
            Self::Identity => return Ok(chunk),
            Self::Base64(decoder) => decoder.push(&chunk, &mut bytes).map_err(|_| invalid(name, "base64"))?,
            Self::QuotedPrintable(pending) => {
                for &byte in &chunk {
                    unquote(pending, byte, &mut bytes);
                }
            }
        }
        Ok(bytes.into())
    }

    /// Returns the last bytes, if there are any.
    ///
    /// # Errors
    ///
    /// As [`TransferDecoder::decode`].
    pub(super) fn finish(self, name: &str) -> Result<Option<Bytes>, ApiError> {
        let mut bytes = Vec::new();
        match self {
            Self::Identity => {}
            Self::Base64(decoder) => decoder.finish(&mut bytes).map_err(|_| invalid(name, "base64"))?,
            Self::QuotedPrintable(pending) => bytes = pending,
        }
        Ok(Some(bytes).filter(|bytes| !bytes.is_empty()).map(Bytes::from))
    }
}

fn invalid(name: &str, encoding: &str) -> ApiError {
    let problem =
        format!("the part '{name}' declares the Content-Transfer-Encoding {encoding}, and its bytes are none");
    ApiError::MalformedBody { problem: problem.into() }
}

/// Decodes one byte of quoted-printable text: `=C3` is a byte, `=` at the end of a line is nothing; anything else is itself.
fn unquote(pending: &mut Vec<u8>, byte: u8, decoded: &mut Vec<u8>) {
    if pending.is_empty() && byte != b'=' {
        decoded.push(byte);
        return;
    }
    pending.push(byte);
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    match pending[..] {
        [b'='] | [b'=', b'\r'] => return,
        [b'=', b'\n'] | [b'=', b'\r', b'\n'] => {}
        [b'=', high] if digit(high).is_some() => return,
        [b'=', high, low] if digit(high).is_some() && digit(low).is_some() => {
            decoded.extend(digit(high).zip(digit(low)).map(|(high, low)| (high << 4) | low));
        }
        _ => decoded.extend_from_slice(pending),
    }
    pending.clear();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(encoding: &str, text: &str, chunk: usize) -> Result<Vec<u8>, ApiError> {
        let mut decoder = TransferDecoder::new(encoding, "image")?;
        let mut bytes = Vec::new();
        for chunk in text.as_bytes().chunks(chunk) {
            bytes.extend_from_slice(&decoder.decode(Bytes::copy_from_slice(chunk), "image")?);
        }
        bytes.extend_from_slice(&decoder.finish("image")?.unwrap_or_default());
        Ok(bytes)
    }

    #[test]
    fn bytes_are_decoded_as_declared() {
        for (encoding, text, expected) in [
            ("", "a=\r\nb", "a=\r\nb"),
            ("7bit", "a=41", "a=41"),
            ("8bit", "\u{e9}", "\u{e9}"),
            ("binary", "Zm9v", "Zm9v"),
            ("base64", "Zm9v", "foo"),
            ("base64", "Zm\r\n9v\r\nYg==\r\n", "foob"),
            ("quoted-printable", "caf=C3=A9", "caf\u{e9}"),
            ("quoted-printable", "caf=c3=a9 a=\r\nb=\nc", "caf\u{e9} abc"),
            ("quoted-printable", "1 =3D 1", "1 = 1"),
            ("quoted-printable", "a=zb=4", "a=zb=4"),
        ] {
            for chunk in 1..=text.len() {
                assert_eq!(
                    decoded(encoding, text, chunk).unwrap(),
                    expected.as_bytes(),
                    "{encoding} {text} by {chunk}"
                );
            }
        }
        for (encoding, text, named) in
            [("gzip", "x", "'gzip'"), ("x-uuencode", "x", "'x-uuencode'"), ("base64", "no!", "base64")]
        {
            let error = decoded(encoding, text, 9).unwrap_err().to_string();
            assert!(error.contains(named) && error.contains("'image'"), "{error}");
        }
    }
}
