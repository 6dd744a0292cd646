//! Width and height of a picture.

use std::fmt;
use std::str::FromStr;

/// Width and height in pixels, written `WIDTHxHEIGHT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Size {
    pub(crate) width: u32,
    pub(crate) height: u32,
}

impl Size {
    pub(crate) fn pixels(self) -> u64 {
        u64::from(self.width) * u64::from(self.height)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.width, self.height)
    }
}

impl FromStr for Size {
    type Err = InvalidSize;

    fn from_str(text: &str) -> Result<Self, InvalidSize> {
        // Digits only: `u32::from_str` would also accept a sign.
        let edge = |digits: &str| -> Option<u32> {
            digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok()).flatten().filter(|&edge| edge > 0)
        };
        let (width, height) = text.split_once('x').ok_or(InvalidSize)?;
        match (edge(width), edge(height)) {
            (Some(width), Some(height)) => Ok(Self { width, height }),
            _ => Err(InvalidSize),
        }
    }
}

impl TryFrom<String> for Size {
    type Error = InvalidSize;

    fn try_from(text: String) -> Result<Self, InvalidSize> {
        text.parse()
    }
}

/// The text is not `WIDTHxHEIGHT` in positive integers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a size of the form WIDTHxHEIGHT")]
pub(crate) struct InvalidSize;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_two_positive_numbers() {
        assert_eq!("1536x1024".parse(), Ok(Size { width: 1536, height: 1024 }));
        for wrong in ["", "x", "1024", "0x5", "+5x5", "5X5", "1024x1024x3", "4294967296x1"] {
            assert_eq!(wrong.parse::<Size>(), Err(InvalidSize), "{wrong}");
        }
    }
}
