//! The lines of a text that has real line breaks. Spaces beside a break are white space where the line is whole; a line that is
//! short by just these has lost that many `+`.

use super::{LINE_WIDTHS, NotBase64};

/// The line that is read, and what those before it say of its width.
#[derive(Debug, Default)]
pub(super) struct Rows {
    width: Width,
    /// Digits of this line so far.
    pub(super) digits: usize,
    /// Spaces between its last digit and the break behind it.
    pub(super) spaces_behind: usize,
    spaces_before: usize,
    /// Spaces before the last line that was whole.
    indent: usize,
    /// The digits of a line that begins with spaces, until it is clear what these are.
    held: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Width {
    /// This is the first line.
    #[default]
    Unknown,
    /// The first line has this width if its spaces are digits.
    Assumed(usize),
    Known(usize),
    /// Lines differ in width.
    Irregular,
}

impl Rows {
    /// Whether digits may not be appended without a further look.
    pub(super) fn holds_back(&self) -> bool {
        self.spaces_before > 0
    }

    /// Takes a digit of the line.
    pub(super) fn digit(&mut self, digit: u8, clean: &mut Vec<u8>) {
        self.digits += 1;
        if self.spaces_before == 0 {
            clean.push(digit);
            return;
        }
        self.held.push(digit);
        if self.width().is_none_or(|width| self.held.len() > width) {
            self.width = Width::Irregular;
            self.release(clean);
        }
    }

    /// Ends the line; the next one begins behind `spaces`. Returns the number of digits that were restored.
    ///
    /// # Errors
    ///
    /// [`NotBase64`] where the line is short, and it is not clear which spaces are digits.
    pub(super) fn next(&mut self, spaces: usize, clean: &mut Vec<u8>) -> Result<usize, NotBase64> {
        let edges = self.spaces_before + self.spaces_behind;
        let mut restored = 0;
        match self.width {
            Width::Unknown => {
                let all = self.digits + edges;
                let is_near = |&&width: &&usize| self.digits < width && width <= all;
                self.width = match LINE_WIDTHS.iter().find(is_near) {
                    Some(&width) if width == all && !LINE_WIDTHS.contains(&self.digits) => Width::Assumed(width),
                    Some(_) => return Err(NotBase64),
                    None if LINE_WIDTHS.contains(&self.digits) => Width::Known(self.digits),
                    None => Width::Irregular,
                };
                if matches!(self.width, Width::Assumed(_)) {
                    restored = self.restore(clean);
                }
            }
            Width::Assumed(width) | Width::Known(width) if self.digits == width => {
                (self.width, self.indent) = (Width::Known(width), self.spaces_before);
            }
            Width::Known(width) if self.digits < width && edges > 0 => {
                if self.digits + edges != width {
                    return Err(NotBase64);
                }
                restored = self.restore(clean);
            }
            Width::Assumed(_) => return Err(NotBase64),
            Width::Known(_) | Width::Irregular => self.width = Width::Irregular,
        }
        self.release(clean);
        self.spaces_before = if self.width().is_some() { spaces } else { 0 };
        (self.digits, self.spaces_behind) = (0, 0);
        Ok(restored)
    }

    /// Ends the last line of a text with this number of `digits` and signs of `padding`, which white space other than spaces or the
    /// padding follows. Returns the number of digits that were restored.
    ///
    /// # Errors
    ///
    /// [`NotBase64`] where it is not clear which spaces are digits.
    pub(super) fn finish(&mut self, digits: usize, padding: usize, clean: &mut Vec<u8>) -> Result<usize, NotBase64> {
        let missing = (digits + padding).wrapping_neg() % 4;
        let edges = self.spaces_before + self.spaces_behind;
        let mut restored = 0;
        if self.width().is_some() {
            if missing > 0 && matches!(self.width, Width::Assumed(_)) {
                return Err(NotBase64);
            }
            let is_indented = self.spaces_before > 0 && self.spaces_before == self.indent;
            if missing > 0 && edges == missing && (padding > 0 || !is_indented) {
                restored = self.restore(clean);
            } else if self.spaces_before > 0 && !is_indented && edges % 4 == missing {
                return Err(NotBase64);
            }
        }
        self.release(clean);
        Ok(restored)
    }

    fn width(&self) -> Option<usize> {
        match self.width {
            Width::Assumed(width) | Width::Known(width) => Some(width),
            Width::Unknown | Width::Irregular => None,
        }
    }

    /// Takes the spaces at both edges of the line for digits, and returns their number.
    fn restore(&mut self, clean: &mut Vec<u8>) -> usize {
        let edges = self.spaces_before + self.spaces_behind;
        clean.resize(clean.len() + self.spaces_before, b'+');
        self.release(clean);
        clean.resize(clean.len() + self.spaces_behind, b'+');
        edges
    }

    fn release(&mut self, clean: &mut Vec<u8>) {
        clean.append(&mut self.held);
        self.spaces_before = 0;
    }
}
