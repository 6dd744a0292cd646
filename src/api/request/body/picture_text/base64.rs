//! Decodes base64 that arrives in pieces: both alphabets, with or without padding, line breaks anywhere, percent-encoded
//! characters as in an address, and texts whose `+` became spaces on the way, as in a form that was decoded once too often.
//!
//! A space between two digits is a lost `+`, with two exceptions: beside a line break it is white space, and so are spaces
//! that stand between lines of equal length, which are line breaks that became spaces. At the start a space is white space; at
//! the end, too, unless it completes the last group of four digits. A space beside a line break completes a line that is too
//! short (`rows.rs`).

mod rows;

use rows::Rows;

/// Decodes a stream of base64 text. Holds few characters between pieces.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    /// Characters of the standard alphabet that are not decoded yet.
    clean: Vec<u8>,
    /// Digits in all.
    digits: usize,
    padding: usize,
    /// Spaces since the last digit.
    spaces: usize,
    /// White space other than spaces stands among them, or no digit before them.
    at_break: bool,
    /// A percent sign and the character behind it.
    percent: Vec<u8>,
    lines: Lines,
    rows: Rows,
}

/// What is known of lines that end in a space.
#[derive(Debug, Default)]
enum Lines {
    /// No space and no line break was between digits yet.
    #[default]
    Unknown,
    /// A space stood where lines often end; what follows it is held back until it is clear.
    Undecided { width: usize, held: Vec<u8> },
    /// Lines of `width` digits end in a space.
    Wrapped { width: usize, column: usize },
    /// Spaces are digits.
    None,
}

/// The digits of the standard alphabet.
const PLAIN_DIGITS: [bool; 256] = {
    let mut plain = [false; 256];
    let mut byte = 0_u8;
    while byte < 128 {
        plain[byte as usize] = byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/';
        byte += 1;
    }
    plain
};
/// Lengths of lines that encoders write.
const LINE_WIDTHS: [usize; 4] = [60, 64, 72, 76];
/// Most spaces that are taken for digits in a row: more occur in no picture.
const SPACES_MAX: usize = 1 << 20;

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
        let mut rest = text;
        while let [byte, behind @ ..] = rest {
            if self.is_within_digits() {
                let run = rest.iter().take_while(|&&byte| PLAIN_DIGITS[usize::from(byte)]).count();
                if run > 0 {
                    self.clean.extend_from_slice(&rest[..run]);
                    self.rows.digits += run;
                    self.digits += run;
                    rest = &rest[run..];
                    continue;
                }
            }
            rest = behind;
            if *byte != b'%' && self.percent.is_empty() {
                self.character(*byte)?;
                continue;
            }
            self.percent.push(*byte);
            if let [_, high, low] = self.percent[..] {
                self.percent.clear();
                let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
                let (Some(high), Some(low)) = (digit(high), digit(low)) else { return Err(NotBase64) };
                self.character((high << 4) | low)?;
            }
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
    pub(crate) fn finish(mut self, decoded: &mut Vec<u8>) -> Result<(), NotBase64> {
        if !self.percent.is_empty() {
            return Err(NotBase64);
        }
        self.decide_lines();
        if !self.at_break {
            self.rows.spaces_behind = self.spaces;
        }
        let restored = self.rows.finish(self.digits, self.padding, &mut self.clean)?;
        if restored > 0 {
            self.digits += restored;
            self.spaces = 0;
        }
        let is_short = self.padding == 0 && !self.digits.is_multiple_of(4);
        if is_short && !self.at_break && (self.digits + self.spaces).is_multiple_of(4) {
            self.restore_spaces();
        }
        if self.padding > 0 && !(self.digits + self.padding).is_multiple_of(4) {
            return Err(NotBase64);
        }
        let whole = self.clean.len() - self.clean.len() % 4;
        append(&self.clean[..whole], decoded)?;
        // Forgiving about the unused bits of the last character, which not every encoder leaves at zero.
        let last = base64_simd::forgiving_decode_to_vec(&self.clean[whole..]).map_err(|_| NotBase64)?;
        decoded.extend_from_slice(&last);
        Ok(())
    }

    /// Whether a digit that follows needs no further look.
    fn is_within_digits(&self) -> bool {
        let Self { digits, padding, spaces, at_break, percent, lines, rows, .. } = self;
        *digits > 0
            && *padding == 0
            && *spaces == 0
            && !at_break
            && percent.is_empty()
            && matches!(lines, Lines::Unknown | Lines::None)
            && !rows.holds_back()
    }

    /// Takes one character, and white space before it for what it is.
    fn character(&mut self, byte: u8) -> Result<(), NotBase64> {
        let byte = match byte {
            b' ' => {
                self.spaces += 1;
                return if self.spaces > SPACES_MAX && self.digits > 0 { Err(NotBase64) } else { Ok(()) };
            }
            b'\t' | b'\n' | b'\x0c' | b'\r' => {
                if !self.at_break {
                    self.rows.spaces_behind = self.spaces;
                }
                (self.spaces, self.at_break) = (0, true);
                return Ok(());
            }
            // What encoders write before the padding is never a `+`, whose unused bits would not be zero.
            b'=' if self.padding < 2 => {
                self.padding += 1;
                self.rows.spaces_behind = 0;
                (self.spaces, self.at_break) = (0, true);
                return Ok(());
            }
            b'-' => b'+',
            b'_' => b'/',
            other => other,
        };
        if self.padding > 0 {
            return Err(NotBase64);
        }
        if self.at_break || self.digits == 0 {
            // Lines that end in a break do not end in a space.
            if self.digits > 0 {
                self.decide_lines();
                self.lines = Lines::None;
                self.digits += self.rows.next(self.spaces, &mut self.clean)?;
            }
            (self.spaces, self.at_break) = (0, false);
        } else if self.spaces > 0 {
            self.restore_spaces();
        }
        self.digit(byte);
        Ok(())
    }

    /// Takes the spaces before a digit for digits, or for the end of a line.
    fn restore_spaces(&mut self) {
        if matches!(self.lines, Lines::Unknown) {
            self.lines = if LINE_WIDTHS.contains(&self.digits) {
                self.spaces -= 1;
                Lines::Undecided { width: self.digits, held: Vec::new() }
            } else {
                Lines::None
            };
        }
        for _ in 0..std::mem::take(&mut self.spaces) {
            self.digit(b' ');
        }
    }

    /// Takes one digit, or a space in the place of one.
    fn digit(&mut self, byte: u8) {
        match &mut self.lines {
            Lines::Undecided { width, held } => {
                held.push(byte);
                if held.len() > 2 * *width + 1 {
                    self.decide_lines();
                }
                return;
            }
            Lines::Wrapped { width, column } => {
                if *column == *width && byte == b' ' {
                    *column = 0;
                    return;
                }
                *column += 1;
            }
            Lines::Unknown | Lines::None => {}
        }
        self.digits += 1;
        self.rows.digit(if byte == b' ' { b'+' } else { byte }, &mut self.clean);
    }

    /// Decides whether the space before the characters held back ended a line: the lines behind it must be as long, and the
    /// digits must fill groups of four where the text ends with them.
    fn decide_lines(&mut self) {
        let Lines::Undecided { width, held } = std::mem::replace(&mut self.lines, Lines::None) else { return };
        let ends = |at: usize| held.get(at).is_none_or(|&byte| byte == b' ');
        let regular = ends(width) && ends(2 * width + 1);
        let is_end = held.len() < 2 * width + 2;
        let digits = width + held.len() - usize::from(held.len() > width);
        let wrapped = regular && (!is_end || (digits + self.padding).is_multiple_of(4));
        if wrapped {
            self.lines = Lines::Wrapped { width, column: 0 };
        } else {
            self.digit(b' ');
        }
        for byte in held {
            self.digit(byte);
        }
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

    /// Bytes of which many become `+`.
    fn any_byte() -> impl Strategy<Value = u8> {
        prop_oneof![any::<u8>(), prop::sample::select(vec![0xfb, 0xef, 0xbe])]
    }

    #[test]
    fn every_spelling_of_base64_is_decoded_and_nothing_else() {
        let good: [(&str, &[u8]); 19] = [
            ("", b""),
            ("Zg==", b"f"),
            ("Zg", b"f"),
            ("Zm8=", b"fo"),
            ("Zm9v", b"foo"),
            ("Zm\r\n9v\n", b"foo"),
            ("+/+/", &[0xfb, 0xff, 0xbf]),
            ("-_-_", &[0xfb, 0xff, 0xbf]),
            ("Zh==", b"f"),
            ("Zg = =", b"f"),
            (" Zm9v ", b"foo"),
            ("Zm \n 9v", b"foo"),
            ("Zm9\t v", b"foo"),
            ("%2B/%2b%2F", &[0xfb, 0xff, 0xbf]),
            ("Zg%3D%3d", b"f"),
            ("Zm9v%0AZm9v", b"foofoo"),
            ("a/ /", &[0x6b, 0xff, 0xbf]),
            ("a/  ", &[0x6b, 0xff, 0xbe]),
            ("Zm9v\t a/ /\n", &[0x66, 0x6f, 0x6f, 0x6b, 0xff, 0xbf]),
        ];
        for (text, bytes) in good {
            assert_eq!(decode([text.as_bytes()]).as_deref(), Ok(bytes), "{text:?}");
        }
        let line = "A".repeat(76);
        let short = &line[1..];
        for (text, digits) in [
            // The lost sign at the end, at the start, at both, in the first line, and in the last.
            (format!("{line}\n{short} \n{line}\n"), format!("{line}{short}+{line}")),
            (format!("{line}\n {short}\n{line}\n"), format!("{line}+{short}{line}")),
            (format!("{line}\n {} \n{line}\n", &line[2..]), format!("{line}+{}+{line}", &line[2..])),
            (format!("{short} \n{line}\n{line}"), format!("{short}+{line}{line}")),
            (format!("{line}\n AA=\n"), format!("{line}+AA=")),
            (format!("{line}\r\n AAA"), format!("{line}+AAA")),
            (format!("{line}\nAAA \n"), format!("{line}AAA+")),
            // White space.
            (format!("{line} \n {line} \n AAA="), format!("{line}{line}AAA=")),
            (format!("{line}\n  {line}\n  AA"), format!("{line}{line}AA")),
            (format!("{line}\n{short}\nA"), format!("{line}{short}A")),
        ] {
            let whole = base64_simd::forgiving_decode_to_vec(digits.as_bytes()).unwrap();
            assert_eq!(decode([text.as_bytes()]), Ok(whole), "{text:?}");
        }
        for unclear in [
            format!("{line}\n  {short}\n{line}\n"),
            format!("{line}\n {short} \n{line}\n"),
            format!("{short}  \n{line}\n"),
            format!("{short} \n{short} \n{line}\n"),
            format!("{}    \n{line}\n", &line[4..]),
            format!("{line}\n    AAAA\n"),
        ] {
            assert_eq!(decode([unclear.as_bytes()]), Err(NotBase64), "{unclear:?}");
        }
        for bad in
            ["Z", "Zm9vZ", "Zm9v!", "Zg==Zg==", "Zg===", "Zm9v=", "é", "\0", "Zm9v%", "Zm9v%2", "%zz", "Z g = =", "%00"]
        {
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
        fn a_plus_that_became_a_space_is_restored(bytes in prop::collection::vec(any_byte(), 1..4000), cut in 1_usize..500) {
            // The start of a picture is known, and has none.
            let bytes = [b"\x89PNG".to_vec(), bytes].concat();
            for spelling in [base64_simd::STANDARD, base64_simd::STANDARD_NO_PAD] {
                let text = spelling.encode_to_string(&bytes).replace('+', " ");
                // Spaces at the end that complete no group are white space, and nothing tells whether they were digits.
                let trailing = text.len() - text.trim_end().len();
                if trailing > 0 && (trailing > 3 || !text.len().is_multiple_of(4)) {
                    continue;
                }
                let pieces = text.as_bytes().chunks(cut);
                prop_assert_eq!(decode(pieces), Ok(bytes.clone()), "{}", text);
            }
        }

        #[test]
        fn white_space_at_the_ends_of_lines_is_no_digit(
            bytes in prop::collection::vec(any::<u8>(), 1..2000),
            width in prop::sample::select(LINE_WIDTHS.to_vec()),
            between in prop::sample::select(vec!["\n", "\r\n", "\n ", " \n", "\r\n\t", " \r\n  "]),
        ) {
            let text = base64_simd::STANDARD.encode_to_string(&bytes);
            let lines: Vec<&str> = text.as_bytes().chunks(width).map(|line| std::str::from_utf8(line).unwrap()).collect();
            let broken = lines.join(between) + between;
            prop_assert_eq!(decode([broken.as_bytes()]), Ok(bytes.clone()));
            let spaced = lines.join(" ");
            prop_assert_eq!(decode(spaced.as_bytes().chunks(50)), Ok(bytes.clone()), "{}", spaced);
            // Both at once: the lines end in spaces, and the plus signs are lost.
            if lines.len() > 3 {
                let spaced = format!("iVBORw0K{}", &spaced[8..]).replace('+', " ");
                let whole = format!("iVBORw0K{}", &text[8..]);
                let decoded = base64_simd::forgiving_decode_to_vec(whole.as_bytes()).unwrap();
                if !spaced.as_bytes()[..width].contains(&b' ') {
                    prop_assert_eq!(decode([spaced.as_bytes()]), Ok(decoded), "{}", spaced);
                }
            }
        }

        #[test]
        fn a_plus_that_was_lost_at_the_edge_of_a_line_is_restored_or_the_text_is_refused(
            bytes in prop::collection::vec(any_byte(), 400..2000),
            width in prop::sample::select(LINE_WIDTHS.to_vec()),
            end in prop::sample::select(vec!["\n", "\r\n"]),
            closed: bool,
            cut in 1_usize..100,
        ) {
            let bytes = [b"\x89PNG".to_vec(), bytes].concat();
            let text = base64_simd::STANDARD.encode_to_string(&bytes);
            // White space at the end of the text.
            prop_assume!(!text.ends_with("++++"));
            let lines: Vec<&str> = text.as_bytes().chunks(width).map(|line| std::str::from_utf8(line).unwrap()).collect();
            let wrapped = lines.join(end) + if closed { end } else { "" };
            match decode(wrapped.replace('+', " ").as_bytes().chunks(cut)) {
                Ok(decoded) => prop_assert_eq!(decoded, bytes, "{}", wrapped),
                // Where whole groups at an edge are lost, the width is unclear.
                Err(NotBase64) => prop_assert!([["+", end].concat(), [end, "+"].concat()].iter().any(|edge| wrapped.contains(edge))),
            }
        }

        #[test]
        fn one_plus_at_the_edge_of_a_line_is_restored(
            bytes in prop::collection::vec(0_u8..0xf0, 300..1000),
            width in prop::sample::select(LINE_WIDTHS.to_vec()),
            at_start: bool,
            line in 1_usize..4,
            end in prop::sample::select(vec!["\n", "\r\n"]),
        ) {
            let mut text = base64_simd::STANDARD.encode_to_string(&bytes).replace('+', "A").into_bytes();
            text[if at_start { line * width } else { (line + 1) * width - 1 }] = b'+';
            let whole = base64_simd::forgiving_decode_to_vec(&text).unwrap();
            let lines: Vec<&str> = text.chunks(width).map(|line| std::str::from_utf8(line).unwrap()).collect();
            prop_assert_eq!(decode([lines.join(end).replace('+', " ").as_bytes()]), Ok(whole));
        }

        #[test]
        fn percent_encoded_digits_are_decoded(bytes in prop::collection::vec(any::<u8>(), 0..500), cut in 1_usize..60) {
            let text = base64_simd::STANDARD.encode_to_string(&bytes);
            let text = text.replace('+', "%2B").replace('/', "%2f").replace('=', "%3D");
            prop_assert_eq!(decode(text.as_bytes().chunks(cut)), Ok(bytes));
        }

        #[test]
        fn any_text_is_decoded_or_refused(text in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = decode([text.as_slice()]);
        }
    }
}
