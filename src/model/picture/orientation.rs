//! How a picture is to be turned to be upright, by its EXIF metadata.
//!
//! EXIF is a TIFF file of tags without pixels; [`Tags`] reads the tags of its first directory, and those of TIFF pictures.

/// How the stored pixels are turned and mirrored to be upright: a value from 1 to 8, as EXIF counts them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Orientation(u8);

/// The tag of EXIF and TIFF that holds the orientation.
const ORIENTATION_TAG: u16 = 0x0112;
/// What precedes the tags in a JPEG, and in some WebP files.
pub(super) const EXIF_HEADER: &[u8] = b"Exif\0\0";

impl Default for Orientation {
    fn default() -> Self {
        Self::UPRIGHT
    }
}

impl Orientation {
    /// The pixels are stored as they are seen.
    pub(crate) const UPRIGHT: Self = Self(1);

    /// Returns the orientation with this number; `None` for one that EXIF does not define.
    pub(crate) fn new(value: u32) -> Option<Self> {
        u8::try_from(value).ok().filter(|value| (1..=8).contains(value)).map(Self)
    }

    /// Reads the orientation of EXIF metadata, with or without its header.
    pub(super) fn of_exif(exif: &[u8]) -> Option<Self> {
        let tags = Tags::of(exif.strip_prefix(EXIF_HEADER).unwrap_or(exif))?;
        Self::new(tags.number(ORIENTATION_TAG)?)
    }

    /// Returns the number that EXIF uses.
    pub(crate) fn number(self) -> u8 {
        self.0
    }

    /// Whether width and height of the upright picture are height and width of the stored pixels.
    pub(crate) fn swaps_sides(self) -> bool {
        self.0 >= 5
    }
}

/// The first directory of tags in TIFF data. Every offset is checked, and nothing behind the directory is followed.
#[derive(Debug)]
pub(super) struct Tags<'a> {
    entries: &'a [u8],
    is_little_endian: bool,
}

/// Tag, type, number of values, and the value or its offset.
const ENTRY_BYTES: usize = 12;

impl<'a> Tags<'a> {
    /// Finds the directory; `None` where there is none. Entries that are cut off are left out.
    pub(super) fn of(tiff: &'a [u8]) -> Option<Self> {
        let is_little_endian = match tiff.get(..4)? {
            b"II*\0" => true,
            b"MM\0*" => false,
            _ => return None,
        };
        let directory = Self { entries: tiff.get(4..8)?, is_little_endian }.long(0)?;
        let directory = tiff.get(usize::try_from(directory).ok()?..)?;
        let count = Self { entries: directory, is_little_endian }.short(0)?;
        let entries = directory.get(2..)?;
        Some(Self { entries: &entries[..entries.len().min(usize::from(count) * ENTRY_BYTES)], is_little_endian })
    }

    /// Whether the directory has a tag.
    pub(super) fn has(&self, tag: u16) -> bool {
        self.entry(tag).is_some()
    }

    /// Returns the whole number of a tag, of whatever width it is written.
    pub(super) fn number(&self, tag: u16) -> Option<u32> {
        let entry = self.entry(tag)?;
        match (entry.short(2)?, entry.long(4)?) {
            (1, 1) => entry.entries.get(8).copied().map(u32::from),
            (3, 1) => entry.short(8).map(u32::from),
            (4, 1) => entry.long(8),
            _ => None,
        }
    }

    fn entry(&self, tag: u16) -> Option<Self> {
        let entries = self.entries.chunks_exact(ENTRY_BYTES);
        let mut entries = entries.map(|entries| Self { entries, is_little_endian: self.is_little_endian });
        entries.find(|entry| entry.short(0) == Some(tag))
    }

    fn short(&self, at: usize) -> Option<u16> {
        let bytes = self.entries.get(at..at + 2)?.try_into().ok()?;
        Some(if self.is_little_endian { u16::from_le_bytes(bytes) } else { u16::from_be_bytes(bytes) })
    }

    fn long(&self, at: usize) -> Option<u32> {
        let bytes = self.entries.get(at..at + 4)?.try_into().ok()?;
        Some(if self.is_little_endian { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::picture::test_support::exif;

    #[test]
    fn every_orientation_is_read_in_both_byte_orders() {
        for number in 1..=8_u8 {
            for little_endian in [true, false] {
                let plain = exif(number.into(), little_endian);
                let with_header = [EXIF_HEADER, &plain].concat();
                for bytes in [plain, with_header] {
                    let orientation = Orientation::of_exif(&bytes).unwrap();
                    assert_eq!((orientation.number(), orientation.swaps_sides()), (number, number > 4));
                }
            }
        }
    }

    #[test]
    fn what_is_no_orientation_is_none() {
        for number in [0, 9, 255, 256, 65_535] {
            assert_eq!(Orientation::of_exif(&exif(number, true)), None, "{number}");
        }
        let whole = exif(6, false);
        let changed = |at: usize, byte: u8| {
            let mut changed = whole.clone();
            changed[at] = byte;
            changed
        };
        // Its byte order, its mark, the offset of its directory, the tag, the type and the number of values.
        for bytes in [
            changed(0, b'I'),
            changed(3, 0),
            changed(4, 0xff),
            changed(whole.len() - 16, 0x02),
            changed(whole.len() - 13, 0x02),
            changed(whole.len() - 9, 2),
            Vec::new(),
            b"Exif\0\0".to_vec(),
        ] {
            assert_eq!(Orientation::of_exif(&bytes), None, "{bytes:?}");
        }
        for cut in 0..whole.len() - 4 {
            assert_eq!(Orientation::of_exif(&whole[..cut]), None, "cut at {cut}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_tags_are_read_in_bounds(bytes in prop::collection::vec(any::<u8>(), 0..200), order in any::<bool>()) {
            let start = if order { *b"II*\0" } else { *b"MM\0*" };
            Orientation::of_exif(&[&start[..], &bytes].concat());
            Orientation::of_exif(&bytes);
        }
    }
}
