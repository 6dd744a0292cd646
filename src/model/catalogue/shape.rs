//! From a shape, such as 16:9 at 2K, to a size that a model makes.

use super::size_rule::{CustomSize, SizeRule};
use crate::model::request::Size;

/// An aspect ratio as a client wrote it. The terms are not reduced.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct AspectRatio {
    width: f64,
    height: f64,
}

/// How many pixels a client wants, without the shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Resolution {
    /// The longest edge is about 1024 pixels: the sizes that a model makes when none is requested.
    OneK,
    /// About 2048.
    TwoK,
    /// About 4096; 3840 is called so too.
    FourK,
}

/// The largest factor between a requested aspect ratio and that of the size which stands for it.
const RATIO_FACTOR_MAX: f64 = 1.35;
/// The largest factor between two aspect ratios that are called by one name: 1344x768 is called 16:9.
const SAME_RATIO_FACTOR_MAX: f64 = 1.03;
/// How much more a difference in shape matters than one in area.
const SHAPE_WEIGHT: f64 = 30.0;
/// The longest edges of each [`Resolution`] above the usual one, in pixels.
const EDGES_2K: std::ops::RangeInclusive<u32> = 1920..=2880;
const EDGES_4K: std::ops::RangeInclusive<u32> = 3840..=4320;

impl AspectRatio {
    /// Returns the ratio of two positive, finite terms, from 1:100 to 100:1.
    pub(crate) fn new(width: f64, height: f64) -> Option<Self> {
        let is_term = |term: f64| term.is_finite() && term > 0.0;
        let ratio = (is_term(width) && is_term(height)).then_some(Self { width, height })?;
        ratio.ln().abs().le(&100_f64.ln()).then_some(ratio)
    }

    pub(crate) fn of(size: Size) -> Self {
        Self { width: f64::from(size.width), height: f64::from(size.height) }
    }

    pub(crate) fn is_wide(self) -> bool {
        self.width > self.height
    }

    pub(crate) fn is_tall(self) -> bool {
        self.width < self.height
    }

    /// Whether both are the same in common language.
    pub(crate) fn is_about(self, other: Self) -> bool {
        self.distance(other) <= SAME_RATIO_FACTOR_MAX.ln()
    }

    /// Returns how different two shapes are; 0 for the same.
    fn distance(self, other: Self) -> f64 {
        (self.ln() - other.ln()).abs()
    }

    fn ln(self) -> f64 {
        (self.width / self.height).ln()
    }
}

impl Resolution {
    /// Whether a size is called by this name.
    pub(crate) fn includes(self, size: Size) -> bool {
        let long = size.width.max(size.height);
        match self {
            Self::OneK => long < *EDGES_2K.start(),
            Self::TwoK => EDGES_2K.contains(&long),
            Self::FourK => EDGES_4K.contains(&long),
        }
    }

    /// Returns the longest edge of a size that is not listed, in pixels.
    fn edge(self) -> u32 {
        match self {
            Self::OneK => 1024,
            Self::TwoK => 2048,
            Self::FourK => *EDGES_4K.start(),
        }
    }
}

impl SizeRule {
    /// Returns the size for a shape: the nearest in aspect ratio, and among equals the nearest to the usual area, or to the
    /// resolution where one is given.
    ///
    /// The usual sizes are those for `auto`, which have an area that costs what a picture usually costs. Where no ratio is
    /// given, `like`, the first input picture, decides the shape. `None` where the resolution cannot be had, or no size is
    /// within a third of the requested ratio.
    pub(crate) fn nearest(
        &self,
        ratio: Option<AspectRatio>,
        resolution: Option<Resolution>,
        like: Option<(u32, u32)>,
    ) -> Option<Size> {
        let like = like.and_then(|(width, height)| AspectRatio::new(f64::from(width), f64::from(height)));
        let wanted = ratio.or(like).unwrap_or(AspectRatio { width: 1.0, height: 1.0 });
        let area = self.usual_area();
        // Between half of the usual area and four times as much: 2048x1152 is among them, and 3840x2160 is not.
        let is_usual = |size| self.auto.contains(&size) || (0.5..=4.0).contains(&(pixels(size) / area));
        let is_candidate = |size: Size| match resolution {
            None => is_usual(size),
            Some(Resolution::OneK) => is_usual(size) && Resolution::OneK.includes(size),
            Some(resolution) => resolution.includes(size),
        };
        let listed = self.auto.iter().chain(&self.values).copied().filter(|&size| is_candidate(size));
        let free = self.custom.and_then(|rule| match resolution {
            None | Some(Resolution::OneK) => self.of_area(rule, wanted, area, is_candidate),
            Some(resolution) => self.of_edge(rule, wanted, resolution.edge()),
        });
        let cost = |size: &Size| {
            let is_default = resolution <= Some(Resolution::OneK) && self.auto.contains(size);
            cost(*size, wanted, if is_default { pixels(*size) } else { area })
        };
        let best = listed.chain(free).min_by(|one, other| cost(one).total_cmp(&cost(other)))?;
        let is_near = ratio.is_none_or(|ratio| ratio.distance(AspectRatio::of(best)) <= RATIO_FACTOR_MAX.ln());
        is_near.then_some(best)
    }

    /// Returns the geometric mean of the smallest and the largest area for `auto`, in pixels.
    fn usual_area(&self) -> f64 {
        let areas = || self.auto.iter().map(|&size| pixels(size));
        let (least, most) = (areas().fold(f64::INFINITY, f64::min), areas().fold(0.0, f64::max));
        (least * most).sqrt()
    }

    /// Returns the best free size near an area.
    fn of_area(
        &self,
        rule: CustomSize,
        wanted: AspectRatio,
        area: f64,
        is_candidate: impl Fn(Size) -> bool,
    ) -> Option<Size> {
        let ratio = wanted.width / wanted.height;
        let short = (area / ratio.max(1.0 / ratio)).sqrt();
        let multiple = f64::from(rule.edge_multiple);
        let first = ((short * 0.7) / multiple).floor().max(1.0);
        let steps = ((short * 0.7) / multiple).ceil().min(2000.0);
        let mut best: Option<Size> = None;
        let mut step = 0.0;
        while step <= steps {
            let short = (first + step) * multiple;
            step += 1.0;
            let Some(size) =
                sized(short, ratio, multiple).filter(|&size| self.check(size).is_ok() && is_candidate(size))
            else {
                continue;
            };
            if best.is_none_or(|best| cost(size, wanted, area) < cost(best, wanted, area)) {
                best = Some(size);
            }
        }
        best
    }

    /// Returns the free size with this longest edge.
    fn of_edge(&self, rule: CustomSize, wanted: AspectRatio, edge: u32) -> Option<Size> {
        let ratio = wanted.width / wanted.height;
        let multiple = f64::from(rule.edge_multiple);
        let long = (f64::from(edge) / multiple).floor() * multiple;
        let short = ((long * ratio.min(1.0 / ratio)) / multiple).round() * multiple;
        let (width, height) = if ratio >= 1.0 { (long, short) } else { (short, long) };
        size(width, height).filter(|&size| self.check(size).is_ok())
    }
}

/// Returns how far a size is from what is wanted; 0 for the very shape and area.
fn cost(size: Size, wanted: AspectRatio, area: f64) -> f64 {
    SHAPE_WEIGHT * wanted.distance(AspectRatio::of(size)) + (pixels(size) / area).ln().abs()
}

/// Returns the size with this shortest edge.
fn sized(short: f64, ratio: f64, multiple: f64) -> Option<Size> {
    let long = ((short * ratio.max(1.0 / ratio)) / multiple).round() * multiple;
    if ratio >= 1.0 { size(long, short) } else { size(short, long) }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked to be in range")]
fn size(width: f64, height: f64) -> Option<Size> {
    let is_edge = |edge: f64| (1.0..=1e6).contains(&edge);
    (is_edge(width) && is_edge(height)).then_some(Size { width: width as u32, height: height as u32 })
}

fn pixels(size: Size) -> f64 {
    f64::from(size.width) * f64::from(size.height)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn rule(custom: bool) -> SizeRule {
        let size = |text: &&str| text.parse().unwrap();
        SizeRule {
            auto: ["1024x1024", "1536x1024", "1024x1536"].iter().map(size).collect(),
            values: [
                "256x256",
                "512x512",
                "1024x1024",
                "1536x1024",
                "1024x1536",
                "2048x2048",
                "2048x1152",
                "3840x2160",
                "2160x3840",
            ]
            .iter()
            .map(size)
            .collect(),
            custom: custom.then_some(CustomSize {
                edge_pixels_max: 3840,
                edge_multiple: 16,
                ratio_max: 3,
                pixels_min: 655_360,
                pixels_max: 8_294_400,
            }),
            other: BTreeMap::new(),
        }
    }

    fn nearest(custom: bool, ratio: (f64, f64), resolution: Option<Resolution>) -> Option<String> {
        let ratio = AspectRatio::new(ratio.0, ratio.1).unwrap();
        rule(custom).nearest(Some(ratio), resolution, None).map(|size| size.to_string())
    }

    #[test]
    fn a_shape_becomes_the_nearest_size_that_costs_what_is_usual() {
        // Ratio, resolution, and the sizes of a model with listed sizes and of one with free ones.
        let cases = [
            ((1.0, 1.0), None, "1024x1024", "1024x1024"),
            ((3.0, 2.0), None, "1536x1024", "1536x1024"),
            ((2.0, 3.0), None, "1024x1536", "1024x1536"),
            ((16.0, 9.0), None, "2048x1152", "1536x864"),
            ((9.0, 16.0), None, "1024x1536", "864x1536"),
            ((4.0, 3.0), None, "1536x1024", "1280x960"),
            ((3.0, 4.0), None, "1024x1536", "960x1280"),
            ((5.0, 4.0), None, "1536x1024", "1280x1024"),
            ((21.0, 9.0), None, "2048x1152", "1680x720"),
            ((3.0, 1.0), None, "", "1968x656"),
            ((8.0, 1.0), None, "", ""),
            ((1.0, 1.0), Some(Resolution::OneK), "1024x1024", "1024x1024"),
            ((1.0, 1.0), Some(Resolution::TwoK), "2048x2048", "2048x2048"),
            ((16.0, 9.0), Some(Resolution::TwoK), "2048x1152", "2048x1152"),
            ((4.0, 3.0), Some(Resolution::TwoK), "2048x1152", "2048x1536"),
            ((16.0, 9.0), Some(Resolution::FourK), "3840x2160", "3840x2160"),
            ((9.0, 16.0), Some(Resolution::FourK), "2160x3840", "2160x3840"),
            ((1.0, 1.0), Some(Resolution::FourK), "", ""),
        ];
        for (ratio, resolution, listed, free) in cases {
            for (custom, expected) in [(false, listed), (true, free)] {
                let got = nearest(custom, ratio, resolution).unwrap_or_default();
                assert_eq!(got, expected, "{ratio:?} {resolution:?}, free sizes: {custom}");
            }
        }
    }

    #[test]
    fn without_a_ratio_the_first_picture_decides() {
        let at = |resolution, like| rule(true).nearest(None, Some(resolution), like).map(|size| size.to_string());
        assert_eq!(at(Resolution::TwoK, None).as_deref(), Some("2048x2048"));
        assert_eq!(at(Resolution::TwoK, Some((1920, 1080))).as_deref(), Some("2048x1152"));
        assert_eq!(at(Resolution::FourK, None).as_deref(), Some("3840x2160"));
        assert_eq!(at(Resolution::FourK, Some((600, 900))).as_deref(), Some("2160x3840"));
        let mut small = rule(false);
        small.values.retain(|size| size.width < 2000 && size.height < 2000);
        assert_eq!(small.nearest(None, Some(Resolution::FourK), None), None);
    }

    #[test]
    fn ratios_are_positive_and_finite() {
        for (width, height) in
            [(0.0, 1.0), (1.0, 0.0), (-1.0, 1.0), (f64::NAN, 1.0), (f64::INFINITY, 1.0), (101.0, 1.0)]
        {
            assert_eq!(AspectRatio::new(width, height), None, "{width}:{height}");
        }
        let ratio = |width, height| AspectRatio::new(width, height).unwrap();
        assert!(ratio(16.0, 9.0).is_about(ratio(1344.0, 768.0)));
        assert!(!ratio(3.0, 2.0).is_about(ratio(4.0, 3.0)));
    }

    proptest! {
        #[test]
        fn every_size_for_a_shape_is_allowed(width in 1_u32..4000, height in 1_u32..4000, custom: bool, class in 0_usize..4) {
            let resolution = [None, Some(Resolution::OneK), Some(Resolution::TwoK), Some(Resolution::FourK)][class];
            let Some(ratio) = AspectRatio::new(f64::from(width), f64::from(height)) else { return Ok(()) };
            let rule = rule(custom);
            if let Some(size) = rule.nearest(Some(ratio), resolution, None) {
                prop_assert!(rule.check(size).is_ok(), "{size}");
                prop_assert!(ratio.distance(AspectRatio::of(size)) <= RATIO_FACTOR_MAX.ln());
                prop_assert!(resolution.is_none_or(|resolution| resolution.includes(size)), "{size}");
            } else {
                let is_common = width <= 3 * height && height <= 3 * width;
                prop_assert!(!custom || resolution > Some(Resolution::OneK) || !is_common, "{width}:{height}");
            }
        }
    }
}
