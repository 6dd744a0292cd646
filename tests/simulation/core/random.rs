//! Chance, and the trace of what it chose.

use std::fmt::{Arguments, Write as _};
use std::time::Duration;

/// A generator of random numbers that is fast without optimisation too: `SplitMix64` (Steele, Lea and Flood, "Fast
/// splittable pseudorandom number generators", OOPSLA 2014).
#[derive(Debug)]
pub(super) struct Random {
    state: u64,
}

impl Random {
    pub(super) fn seeded(seed: u64) -> Self {
        Self { state: seed }
    }

    pub(super) fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.state;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// Returns a number below `bound`, which is small.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound).unwrap();
        usize::try_from(((self.bits() >> 32) * bound) >> 32).unwrap()
    }

    pub(super) fn one_in(&mut self, bound: usize) -> bool {
        self.below(bound) == 0
    }

    /// Returns a number from 0 to 1.
    pub(super) fn fraction(&mut self) -> f64 {
        f64::from(u32::try_from(self.bits() >> 32).unwrap()) / f64::from(u32::MAX)
    }

    /// Returns a time below `millis` milliseconds.
    pub(super) fn time(&mut self, millis: u64) -> Duration {
        Duration::from_millis(((self.bits() >> 32) * millis) >> 32)
    }
}

/// What happened in a life: a hash, and the text where it is wanted.
#[derive(Debug)]
pub(super) struct Trace {
    pub(super) hash: u64,
    pub(super) text: Option<String>,
}

impl Trace {
    pub(super) fn new(with_text: bool) -> Self {
        Self { hash: 0xcbf2_9ce4_8422_2325, text: with_text.then(String::new) }
    }

    /// Adds a line. `about` are the numbers of what it concerns.
    pub(super) fn note(&mut self, elapsed: Duration, what: &str, about: [usize; 2], details: Arguments<'_>) {
        // The first letters tell almost all kinds apart; and the numbers are small.
        let kind = what.as_bytes().first_chunk::<4>().map_or(0, |&letters| u32::from_le_bytes(letters));
        let numbers =
            u64::try_from(elapsed.as_millis()).unwrap() << 16 | u64::try_from(about[0] << 8 | about[1]).unwrap();
        self.mix(u64::from(kind));
        self.mix(numbers);
        if let Some(text) = &mut self.text {
            let _ = writeln!(text, "{:>7} {what} {}.{} {details}", elapsed.as_millis(), about[0], about[1]);
        }
    }

    fn mix(&mut self, number: u64) {
        // One step of FNV-1a, with numbers in place of bytes.
        self.hash = (self.hash ^ number).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(5);
    }
}
