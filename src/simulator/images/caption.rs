//! Writes the prompt under a picture, in any script, and the mark of the sandbox in a corner.

use std::sync::{Mutex, OnceLock, PoisonError};

use image::RgbImage;
use unifont_bitmap::Unifont;

/// Height of a letter in pixels, before scaling. Letters are half as wide, or as wide.
const CELL: u32 = 16;
const LINES_MAX: usize = 2;
/// Pixels around a line, before scaling.
const MARGIN: u32 = 3;
/// A longer text is not looked at: no caption shows it.
const LETTERS_MAX: usize = 600;
const MARK: &str = "sandbox";

/// Writes a text on a dark strip along the lower edge.
pub(super) fn write_prompt(image: &mut RgbImage, text: &str) {
    let scale = (image.width().min(image.height()) / 512).max(1);
    let columns = (image.width() / (CELL / 2 * scale)).saturating_sub(2);
    let line_height = (CELL + MARGIN) * scale;
    let fitting = (image.height() / line_height / 3) as usize;
    let lines = wrap(text, columns, LINES_MAX.min(fitting));
    let count = u32::try_from(lines.len()).expect("there are few lines");
    if count == 0 {
        return;
    }
    let top = image.height() - (count * line_height + MARGIN * scale).min(image.height());
    darken(image, [0, top, image.width(), image.height() - top]);
    for (number, line) in (0..).zip(&lines) {
        write(image, line, CELL / 2 * scale, top + MARGIN * scale + number * line_height, scale, [255; 3]);
    }
}

/// Writes the mark in the upper right corner; very small pictures have no room for it.
pub(super) fn write_mark(image: &mut RgbImage) {
    let scale = (image.width().min(image.height()) / 768).max(1);
    let letters = line_of(MARK);
    let width = (columns_of(&letters) * CELL / 2 + 2 * MARGIN) * scale;
    let height = (CELL + MARGIN) * scale;
    if image.width() < width * 2 || image.height() < height * 3 {
        return;
    }
    let (left, top) = (image.width() - width - MARGIN * 2 * scale, MARGIN * 2 * scale);
    darken(image, [left, top, width, height]);
    write(image, &letters, left + MARGIN * scale, top + scale, scale, [255, 236, 190]);
}

/// Writes the number of the picture in a box in the upper left corner.
pub(super) fn write_number(image: &mut RgbImage, number: u32) {
    let scale = (image.width().min(image.height()) / (CELL * 12)).max(1);
    let letters = line_of(&format!("#{number}"));
    let edge = MARGIN * scale;
    let box_width = (columns_of(&letters) * CELL / 2 + 2) * scale;
    fill(image, [edge, edge, box_width, (CELL + 2) * scale], [255; 3]);
    write(image, &letters, edge + scale, edge + scale, scale, [0; 3]);
}

/// A letter as dots: rows from above, of which the highest bit is on the left.
#[derive(Clone, Copy, Debug)]
struct Letter {
    rows: [u16; CELL as usize],
    /// The number of half cells that it takes; 0: it is written over the letter before it.
    columns: u32,
    is_space: bool,
    is_right_to_left: bool,
}

/// Returns a letter. What the font lacks is its sign for that.
fn letter(character: char) -> Letter {
    static FONT: OnceLock<Mutex<Box<Unifont>>> = OnceLock::new();
    let font = FONT.get_or_init(|| Mutex::new(Box::new(Unifont::open())));
    let mut font = font.lock().unwrap_or_else(PoisonError::into_inner);
    let bitmap = font.load_bitmap(u32::from(character));
    let (bytes, is_wide) = (bitmap.get_bytes(), bitmap.is_wide());
    let mut rows = [0; CELL as usize];
    let width = if is_wide { 2 } else { 1 };
    for (row, bytes) in rows.iter_mut().zip(bytes.chunks_exact(width)) {
        *row = (u16::from(bytes[0]) << 8) | bytes.get(1).map_or(0, |&right| u16::from(right));
    }
    let columns = match (is_mark(character), is_wide) {
        (true, _) => 0,
        (false, true) => 2,
        (false, false) => 1,
    };
    Letter {
        rows,
        columns,
        is_space: character == ' ',
        is_right_to_left: matches!(character, '\u{590}'..='\u{8ff}' | '\u{fb1d}'..='\u{fdff}' | '\u{fe70}'..='\u{fefc}'),
    }
}

/// Whether a character is written over the one before it, as accents are.
fn is_mark(character: char) -> bool {
    matches!(character,
        '\u{300}'..='\u{36f}' | '\u{483}'..='\u{489}' | '\u{591}'..='\u{5bd}' | '\u{610}'..='\u{61a}' | '\u{64b}'..='\u{65f}'
        | '\u{900}'..='\u{902}' | '\u{93c}' | '\u{941}'..='\u{948}' | '\u{94d}' | '\u{e31}' | '\u{e34}'..='\u{e3a}'
        | '\u{e47}'..='\u{e4e}' | '\u{1ab0}'..='\u{1aff}' | '\u{20d0}'..='\u{20ff}' | '\u{fe20}'..='\u{fe2f}')
}

/// Whether a character has no shape at all: controls, joiners, directions, variants of the character before.
fn is_invisible(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{fe00}'..='\u{fe0f}'
            | '\u{feff}' | '\u{e0000}'..='\u{e0fff}')
}

/// Returns the letters of a text, with each white space as one space.
fn line_of(text: &str) -> Vec<Letter> {
    let mut letters: Vec<Letter> = Vec::new();
    for character in text.chars().take(LETTERS_MAX) {
        if character.is_whitespace() {
            if letters.last().is_some_and(|last| !last.is_space) {
                letters.push(letter(' '));
            }
        } else if !is_invisible(character) {
            letters.push(letter(character));
        }
    }
    letters
}

fn columns_of(letters: &[Letter]) -> u32 {
    letters.iter().map(|letter| letter.columns).sum()
}

/// Breaks a text into lines, between words if possible. A text that is too long ends in dots.
fn wrap(text: &str, columns: u32, lines_max: usize) -> Vec<Vec<Letter>> {
    if lines_max == 0 || columns < 8 {
        return Vec::new();
    }
    let mut rest = line_of(text);
    let mut lines = Vec::new();
    while !rest.is_empty() && lines.len() < lines_max {
        let fitting = fitting(&rest, columns);
        if fitting == rest.len() {
            lines.push(std::mem::take(&mut rest));
            break;
        }
        if lines.len() + 1 == lines_max {
            let kept = self::fitting(&rest, columns - 3);
            rest.truncate(kept);
            rest.extend([letter('.'); 3]);
            lines.push(std::mem::take(&mut rest));
            break;
        }
        let at_space = rest[..=fitting].iter().rposition(|letter| letter.is_space).filter(|at| *at > 0);
        let next = rest.split_off(at_space.unwrap_or(fitting));
        lines.push(std::mem::replace(&mut rest, next));
        if rest.first().is_some_and(|first| first.is_space) {
            rest.remove(0);
        }
    }
    for line in &mut lines {
        turn_right_to_left(line);
    }
    lines
}

/// Returns how many letters fit into a number of half cells.
fn fitting(letters: &[Letter], columns: u32) -> usize {
    let mut used = 0;
    letters
        .iter()
        .take_while(|letter| {
            used += letter.columns;
            used <= columns
        })
        .count()
}

/// Reverses the pieces of a line that are written from right to left. Marks stay behind their letters.
fn turn_right_to_left(line: &mut [Letter]) {
    let mut start = 0;
    while start < line.len() {
        if !line[start].is_right_to_left {
            start += 1;
            continue;
        }
        let run = line[start..].iter().take_while(|letter| letter.is_right_to_left || letter.is_space).count();
        let spaces = line[start..start + run].iter().rev().take_while(|letter| letter.is_space).count();
        let end = start + run - spaces;
        line[start..end].reverse();
        let mut at = start;
        while at < end {
            let marks = line[at..end].iter().take_while(|letter| letter.columns == 0).count();
            let group_end = (at + marks + 1).min(end);
            line[at..group_end].reverse();
            at = group_end;
        }
        start += run;
    }
}

fn write(image: &mut RgbImage, letters: &[Letter], left: u32, top: u32, scale: u32, colour: [u8; 3]) {
    let mut x = left;
    for letter in letters {
        // A mark stands over the letter before.
        let at = if letter.columns == 0 { x.saturating_sub(CELL / 2 * scale) } else { x };
        for (row, bits) in (0..).zip(letter.rows) {
            for column in (0..CELL).filter(|column| (bits << column) & 0x8000 != 0) {
                fill(image, [at + column * scale, top + row * scale, scale, scale], colour);
            }
        }
        x += letter.columns * CELL / 2 * scale;
    }
}

/// Fills a rectangle, given as left, top, width and height; the part outside the picture is ignored.
fn fill(image: &mut RgbImage, rectangle: [u32; 4], colour: [u8; 3]) {
    change(image, rectangle, |row| {
        for pixel in row.chunks_exact_mut(3) {
            pixel.copy_from_slice(&colour);
        }
    });
}

fn darken(image: &mut RgbImage, rectangle: [u32; 4]) {
    change(image, rectangle, |row| {
        for value in row {
            *value = *value / 3 + 6;
        }
    });
}

/// Changes the rows of a rectangle, as far as it is in the picture.
fn change(image: &mut RgbImage, [left, top, width, height]: [u32; 4], change: impl Fn(&mut [u8])) {
    let (right, bottom) = ((left + width).min(image.width()), (top + height).min(image.height()));
    let row_bytes = image.width() as usize * 3;
    let values: &mut [u8] = image;
    for y in top..bottom {
        let row = y as usize * row_bytes;
        change(&mut values[row + left.min(right) as usize * 3..row + right as usize * 3]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn widths(text: &str, columns: u32, lines_max: usize) -> Vec<u32> {
        wrap(text, columns, lines_max).iter().map(|line| columns_of(line)).collect()
    }

    #[test]
    fn lines_are_broken_between_words_and_long_texts_end_in_dots() {
        assert_eq!(widths("paint the sky red", 10, 5), [9, 7]);
        assert_eq!(widths("abcdefghijkl", 8, 5), [8, 4]);
        assert_eq!(widths("冬の夜にする", 8, 5), [8, 4], "without spaces, and twice as wide");
        assert_eq!(widths("one two three four five", 9, 2), [7, 9]);
        assert_eq!(widths("  a \n\t b  ", 9, 2), [4]);
        assert!(widths("too narrow", 4, 2).is_empty() && widths("", 40, 2).is_empty());
    }

    #[test]
    fn every_script_has_letters_of_its_own() {
        let missing = letter('\u{fffd}').rows;
        for character in "aß日本語한국어Жαעברيतไ☃é🦊".chars() {
            let found = letter(character);
            assert!(found.rows != missing && found.rows.iter().any(|row| *row != 0), "{character}");
        }
        assert_eq!((letter('e').columns, letter('語').columns, letter('\u{301}').columns), (1, 2, 0));
        assert_eq!(line_of("a\u{200d}\u{fe0f}\u{7}b").len(), 2, "what has no shape is left out");
    }

    #[test]
    fn hebrew_runs_from_right_to_left_inside_of_a_line() {
        let mut line = line_of("a אב גד z");
        turn_right_to_left(&mut line);
        let expected = line_of("a דג בא z");
        let rows = |line: &[Letter]| line.iter().map(|letter| letter.rows).collect::<Vec<_>>();
        assert_eq!(rows(&line), rows(&expected));
    }

    #[test]
    fn text_is_clipped_on_tiny_pictures() {
        for edge in [1, 2, 16, 64] {
            let mut image = RgbImage::new(edge, edge);
            write_prompt(&mut image, "a long prompt on a small picture");
            write_mark(&mut image);
            write_number(&mut image, 10);
        }
    }
}
