//! Writes text on pictures, legible on any background.

use font8x8::UnicodeFonts;
use image::RgbImage;

/// Width and height of a letter in pixels, before scaling.
const CELL: u32 = 8;
/// Approximate number of letters in a line.
const COLUMNS: u32 = 26;
const LINES_MAX: usize = 7;

/// Writes a text in the middle of the picture, on a dark translucent band.
pub(crate) fn write_prompt(image: &mut RgbImage, text: &str) {
    let scale = (image.width() / (CELL * COLUMNS)).max(1);
    let columns = (image.width() / (CELL * scale)).saturating_sub(2).max(1) as usize;
    let line_height = (CELL + 3) * scale;
    let fitting = (image.height() / line_height).saturating_sub(2).max(1) as usize;
    let lines = wrap(text, columns, LINES_MAX.min(fitting));
    let count = u32::try_from(lines.len()).expect("there are few lines");
    let band = count * line_height + CELL * scale;
    let top = image.height().saturating_sub(band) / 2;
    darken(image, top, band);
    for (number, line) in (0..).zip(&lines) {
        let width = u32::try_from(line.chars().count()).expect("a line is short") * CELL * scale;
        let x = image.width().saturating_sub(width) / 2;
        let y = top + CELL * scale / 2 + number * line_height + scale;
        write(image, line, x, y, scale, [255; 3]);
    }
}

/// Writes the number of the picture in a box in the upper left corner.
pub(crate) fn write_number(image: &mut RgbImage, number: u32) {
    let scale = (image.width().min(image.height()) / (CELL * 12)).max(1);
    let text = format!("#{number}");
    let width = u32::try_from(text.len()).expect("a number is short") * CELL * scale;
    let edge = 3 * scale;
    fill(image, [edge, edge, width + 2 * scale, (CELL + 2) * scale], [255; 3]);
    write(image, &text, edge + scale, edge + scale, scale, [0; 3]);
}

/// Fills a rectangle, given as left, top, width and height; the part outside the picture is ignored.
pub(crate) fn fill(image: &mut RgbImage, [left, top, width, height]: [u32; 4], colour: [u8; 3]) {
    let (right, bottom) = ((left + width).min(image.width()), (top + height).min(image.height()));
    let row_bytes = image.width() as usize * 3;
    let values: &mut [u8] = image;
    for y in top..bottom {
        let row = y as usize * row_bytes;
        let (from, to) = (row + left.min(right) as usize * 3, row + right as usize * 3);
        for pixel in values[from..to].chunks_exact_mut(3) {
            pixel.copy_from_slice(&colour);
        }
    }
}

fn darken(image: &mut RgbImage, top: u32, height: u32) {
    let row_bytes = image.width() as usize * 3;
    let bottom = (top + height).min(image.height());
    let values: &mut [u8] = image;
    for value in &mut values[top as usize * row_bytes..bottom as usize * row_bytes] {
        *value /= 3;
    }
}

fn write(image: &mut RgbImage, text: &str, left: u32, top: u32, scale: u32, colour: [u8; 3]) {
    for (column, letter) in (0..).zip(text.chars()) {
        for (row, bits) in (0..).zip(glyph(letter)) {
            for bit in 0..CELL {
                if bits >> bit & 1 == 1 {
                    let x = left + (column * CELL + bit) * scale;
                    fill(image, [x, top + row * scale, scale, scale], colour);
                }
            }
        }
    }
}

fn glyph(letter: char) -> [u8; 8] {
    font8x8::BASIC_FONTS
        .get(letter)
        .or_else(|| font8x8::LATIN_FONTS.get(letter))
        .or_else(|| font8x8::GREEK_FONTS.get(letter))
        .or_else(|| font8x8::HIRAGANA_FONTS.get(letter))
        .or_else(|| font8x8::BASIC_FONTS.get('?'))
        .unwrap_or([0xFF; 8])
}

/// Breaks a text into lines, between words if possible. A text that is too long ends in dots.
fn wrap(text: &str, columns: usize, lines_max: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    let mut used = 0;
    // More cannot be shown, and a prompt may have 32000 characters.
    let shown: String = text.chars().take((columns + 1) * (lines_max + 1)).collect();
    for word in shown.split_whitespace() {
        let letters: Vec<char> = word.chars().collect();
        for piece in letters.chunks(columns) {
            if used > 0 && used + 1 + piece.len() > columns {
                lines.push(String::new());
                used = 0;
            }
            let line = lines.last_mut().expect("there is always a line");
            if used > 0 {
                line.push(' ');
                used += 1;
            }
            line.extend(piece);
            used += piece.len();
        }
    }
    if lines.len() > lines_max {
        lines.truncate(lines_max);
        let last = lines.last_mut().expect("at least one line is kept");
        let kept: String = last.chars().take(columns.saturating_sub(3)).collect();
        *last = kept + "...";
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_broken_between_words_and_long_texts_end_in_dots() {
        assert_eq!(wrap("paint the sky red", 9, 5), ["paint the", "sky red"]);
        assert_eq!(wrap("abcdefgh", 3, 5), ["abc", "def", "gh"]);
        assert_eq!(wrap("a b c d e", 1, 2), ["a", "..."]);
    }

    #[test]
    fn text_is_clipped_on_tiny_pictures() {
        for edge in [1, 2, 16] {
            let mut image = RgbImage::new(edge, edge);
            write_prompt(&mut image, "a long prompt on a small picture");
            write_number(&mut image, 10);
        }
    }
}
