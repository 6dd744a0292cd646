//! Pictures of arbitrary bytes: no panic, and the same structure from memory and through a window, in few reads.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

use super::Structure;
use crate::model::picture::source::ByteSource;

/// Bytes that count how many of them were read.
#[derive(Debug)]
struct Counting(Bytes, AtomicUsize);

impl ByteSource for Counting {
    fn size(&self) -> u64 {
        self.0.size()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let count = self.0.read_at(buffer, offset)?;
        self.1.fetch_add(count, Ordering::Relaxed);
        Ok(count)
    }
}

/// Reads a picture in both ways.
///
/// # Panics
///
/// When they differ, when a picture without damage has no dimensions, and when much is read twice.
pub fn picture(data: &[u8]) {
    let whole = Bytes::copy_from_slice(data);
    let structure = Structure::of(&whole).expect("memory can be read");
    let counting = Counting(whole.clone(), AtomicUsize::new(0));
    assert_eq!(Structure::of(&counting).expect("memory can be read"), structure, "memory and window");
    assert!(counting.1.into_inner() <= 2 * data.len() + 64, "bytes are read once");
    assert!(structure.damage.is_some() || structure.dimensions.is_some(), "a whole picture has dimensions");
    if structure.damage.is_none() {
        let longer = Bytes::from([data, b"\n"].concat());
        assert_eq!(Structure::of(&longer).expect("memory can be read"), structure, "a byte behind the end");
    }
}
