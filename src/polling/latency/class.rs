//! Classes of purchases that take about the same time.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Bytes of a model's, task's or quality's name that distinguish classes.
pub(super) const NAME_BYTES_MAX: usize = 64;

/// What generation time depends on. Its text (`Display`) is bounded and made of names and numbers.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LatencyClass {
    model: String,
    task: String,
    quality: String,
    /// Half-octaves of pixels above one megapixel (2^20).
    size: i8,
    n: u8,
}

impl LatencyClass {
    /// Returns the class of `n` pictures of `pixels` each; 0 pixels means "not known" and counts as a megapixel. Models
    /// without a quality have "".
    #[must_use]
    pub fn new(model: &str, task: &str, quality: &str, pixels: u64, n: u32) -> Self {
        let bounded = |name: &str| name[..name.floor_char_boundary(NAME_BYTES_MAX)].to_owned();
        #[expect(clippy::cast_precision_loss, reason = "a logarithm is wanted")]
        let octaves = (pixels as f64).log2() - 20.0;
        #[expect(clippy::cast_possible_truncation, reason = "64 bits have 128 half-octaves, and 40 are below zero")]
        let size = if pixels == 0 { 0 } else { (2.0 * octaves).round() as i8 };
        let n = u8::try_from(n.max(1)).unwrap_or(u8::MAX);
        Self { model: bounded(model), task: bounded(task), quality: bounded(quality), size, n }
    }

    /// Generation time relative to one picture of a megapixel of the same model, task and quality.
    pub(super) fn scale(&self) -> f64 {
        (f64::from(self.size) / 4.0).exp2() * (1.0 + 0.15 * f64::from(self.n - 1))
    }

    /// The shortest and the longest time that was measured at the upstream, in seconds.
    pub(super) fn measured(&self) -> (f64, f64) {
        let (shortest, longest) = match self.quality.as_str() {
            "low" => (20.7, 25.3),
            "high" => (134.0, 147.0),
            _ => (49.0, 107.0),
        };
        (shortest * self.scale(), longest * self.scale())
    }

    /// How closely another class is related, more is closer; `None` if it is not: relatives have the same model and
    /// quality.
    pub(super) fn relatedness(&self, other: &Self) -> Option<u8> {
        let related = self.model == other.model && self.quality == other.quality && self != other;
        related.then_some(u8::from(self.task == other.task) * 2 + u8::from(self.n == other.n))
    }

    /// Whether a stored class is within the bounds that [`LatencyClass::new`] keeps.
    pub(super) fn is_sound(&self) -> bool {
        let names = [&self.model, &self.task, &self.quality];
        names.iter().all(|name| name.len() <= NAME_BYTES_MAX) && self.n > 0
    }
}

impl fmt::Display for LatencyClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { model, task, quality, size, n } = self;
        let quality = if quality.is_empty() { "-" } else { quality };
        write!(f, "{model} {task} {quality} {size:+} {n}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_bounded_and_sized_by_half_octaves() {
        let named = LatencyClass::new(&"é".repeat(100), "image-edit", "", 1, u32::MAX).to_string();
        assert!(named.len() < 2 * NAME_BYTES_MAX + 40, "{named}");
        let size = |pixels| LatencyClass::new("m", "t", "q", pixels, 1).size;
        assert_eq!(size(0), 0);
        assert_eq!([size(1024 * 1024), size(1254 * 1254), size(1024 * 1536), size(2048 * 2048)], [0, 1, 1, 4]);
        assert_eq!(size(u64::MAX), 88);
        let low = LatencyClass::new("gpt-image-2", "image-edit", "low", 1024 * 1024, 1);
        assert_eq!(low.to_string(), "gpt-image-2 image-edit low +0 1");
        assert!(low.is_sound() && !LatencyClass { n: 0, ..low }.is_sound());
    }
}
