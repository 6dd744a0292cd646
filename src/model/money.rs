//! What pictures cost, in US dollars.

use serde::{Deserialize, Serialize};

/// An amount in US dollars, for estimates and sums; the upstream bills by its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd, Serialize, Deserialize)]
pub(crate) struct Usd(pub(crate) f64);

impl std::ops::Add for Usd {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }
}

impl std::fmt::Display for Usd {
    /// Writes at most six digits behind the point, without zeros at the end.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = format!("{:.6}", self.0);
        let text = text.trim_end_matches('0').trim_end_matches('.');
        f.write_str(if text == "-0" { "0" } else { text })
    }
}

/// What something has cost.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Cost {
    pub(crate) usd: Usd,
    /// By the catalogue's estimate for a picture, at least in part.
    pub(crate) estimated: bool,
}

impl std::ops::Add for Cost {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { usd: self.usd + other.usd, estimated: self.estimated || other.estimated }
    }
}

/// What the upstream charges for a model (`src/README.md`, Upstream facts).
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Price {
    /// US dollars for a million input tokens; `None` when the vendor publishes none.
    pub(crate) input_usd_per_million_tokens: Option<f64>,
    /// US dollars for a million output tokens.
    pub(crate) output_usd_per_million_tokens: Option<f64>,
    /// Estimate for one picture of 1024 by 1024 pixels whose quality is not known, used until the upstream has reported tokens.
    pub(crate) estimate_usd_per_picture: f64,
}

/// What the tokens of a picture depend on, as far as it is known before they are reported.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PictureTerms<'a> {
    pub(crate) quality: Option<&'a str>,
    pub(crate) pixels: u64,
    /// Input pictures, without the mask.
    pub(crate) inputs: u8,
}

/// The pixels of a picture of 1024 by 1024, which published figures are for.
const MEGAPIXEL: u32 = 1024 * 1024;
/// The input tokens of an edit with one picture (recorded).
const EDIT_INPUT_TOKENS: f64 = 368.0;

/// The qualities whose output tokens can be told beforehand, with the tokens of a picture of 1024 by 1024: 196 are documented,
/// 805 recorded, and the highest is taken for four times that, as OpenAI lists it for its first model.
const OUTPUT_TOKENS: [(&str, f64); 3] = [("low", 196.0), ("medium", 805.0), ("high", 3220.0)];

impl Price {
    /// Returns the estimate for `pictures` pictures of one purchase. They cost in proportion to their pixels.
    pub(crate) fn estimate(&self, pictures: usize, terms: PictureTerms<'_>) -> Usd {
        let PictureTerms { quality, pixels, inputs } = terms;
        let pictures = f64::from(u32::try_from(pictures).unwrap_or(u32::MAX));
        let megapixels = f64::from(u32::try_from(pixels).unwrap_or(u32::MAX)) / f64::from(MEGAPIXEL);
        let usd = match (self.input_usd_per_million_tokens, self.usd_per_megapixel(quality)) {
            (Some(input), Some(each)) => {
                pictures * megapixels * each + f64::from(inputs) * EDIT_INPUT_TOKENS * input / 1e6
            }
            // Without a quality the upstream chooses one.
            _ if self.is_metered() => pictures * self.estimate_usd_per_picture * megapixels.max(1.0),
            _ => pictures * self.estimate_usd_per_picture,
        };
        Usd(usd)
    }

    /// Returns the estimate for 1024 by 1024 pixels of a quality; `None` where it cannot be told beforehand.
    fn usd_per_megapixel(&self, quality: Option<&str>) -> Option<f64> {
        self.by_quality().find(|&(name, _)| Some(name) == quality).map(|(_, usd)| usd)
    }

    /// Returns the estimate for 1024 by 1024 pixels of each quality; none for a model that does not go by tokens.
    pub(crate) fn by_quality(&self) -> impl Iterator<Item = (&'static str, f64)> {
        let usd = self.output_usd_per_million_tokens;
        usd.into_iter().flat_map(|usd| OUTPUT_TOKENS.map(|(quality, tokens)| (quality, tokens * usd / 1e6)))
    }

    /// Returns the price by reported tokens; `None` where these or their prices are not known.
    pub(crate) fn by_tokens(&self, usage: Option<&Usage>) -> Option<Usd> {
        let (usage, input, output) = (usage?, self.input_usd_per_million_tokens?, self.output_usd_per_million_tokens?);
        Some(Usd((tokens(usage.input_tokens) * input + tokens(usage.output_tokens) * output) / 1e6))
    }

    /// Returns what the pictures of a purchase cost: by reported tokens, else the estimate.
    pub(crate) fn cost(&self, pictures: usize, usage: Option<&Usage>, terms: PictureTerms<'_>) -> Cost {
        match self.by_tokens(usage) {
            Some(usd) => Cost { usd, estimated: false },
            None => Cost { usd: self.estimate(pictures, terms), estimated: true },
        }
    }

    /// Whether it goes by tokens, so that the price of a picture is an estimate until they are reported.
    pub(crate) fn is_metered(&self) -> bool {
        self.input_usd_per_million_tokens.is_some() && self.output_usd_per_million_tokens.is_some()
    }
}

fn tokens(count: u64) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

/// The fewest input tokens that one picture is documented to cost: OpenAI's guide "Images and vision" states 65, and 129 for
/// each tile of 512 pixels, of which there is at least one. It states them for gpt-image-1 at low input fidelity; high
/// fidelity costs more, and for the later models it states nothing. A recorded edit with one picture agrees.
const PICTURE_TOKENS_MIN: u64 = 65 + 129;

/// The tokens that the upstream reports.
#[expect(clippy::struct_field_names, reason = "the field names of OpenAI")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Usage {
    pub(crate) input_tokens: u64,
    pub(crate) output_tokens: u64,
    /// The input tokens that are of images; `None` when the upstream does not report them.
    pub(crate) input_image_tokens: Option<u64>,
}

impl Usage {
    /// Whether a purchase with this number of input pictures was made without looking at any: it has no tokens of
    /// pictures, or fewer tokens in all than one picture costs.
    pub(crate) fn missed_inputs(&self, inputs: u8) -> bool {
        // Even a prompt alone has tokens: where there are none, they are not reported.
        if inputs == 0 || self.input_tokens == 0 {
            return false;
        }
        match self.input_image_tokens {
            Some(tokens) => tokens == 0,
            None => self.input_tokens < PICTURE_TOKENS_MIN,
        }
    }

    /// Adds the usage of another purchase.
    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            input_tokens: self.input_tokens.saturating_add(other.input_tokens),
            output_tokens: self.output_tokens.saturating_add(other.output_tokens),
            input_image_tokens: self
                .input_image_tokens
                .zip(other.input_image_tokens)
                .map(|(one, two)| one.saturating_add(two)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_were_missed_where_no_tokens_can_be_theirs() {
        let missed = |input_tokens, input_image_tokens, inputs| {
            Usage { input_tokens, output_tokens: 805, input_image_tokens }.missed_inputs(inputs)
        };
        assert!(missed(45, Some(0), 1));
        assert!(missed(2000, Some(0), 16), "a long prompt");
        assert!(!missed(239, Some(194), 1), "recorded");
        assert!(!missed(3, Some(1), 1), "whatever a picture costs");
        assert!(missed(8, None, 1));
        assert!(missed(193, None, 16));
        assert!(!missed(194, None, 1));
        assert!(!missed(368, None, 16), "recorded, with a number of pictures that is not known");
        assert!(!missed(0, None, 1), "tokens that are not reported");
        assert!(!missed(0, Some(0), 1));
        for tokens in [0, 8, 368] {
            assert!(!missed(tokens, None, 0) && !missed(tokens, Some(0), 0), "a generation");
        }
    }

    #[test]
    fn reported_tokens_replace_the_estimate() {
        let price = Price {
            input_usd_per_million_tokens: Some(6.4),
            output_usd_per_million_tokens: Some(24.0),
            estimate_usd_per_picture: 0.03,
        };
        let usage = Usage { input_tokens: 368, output_tokens: 805, input_image_tokens: None };
        // A purchase that the vendor billed at this price.
        let terms = PictureTerms::default();
        assert!((price.cost(1, Some(&usage), terms).usd.0 - 0.0217).abs() < 0.0001);
        assert_eq!(price.cost(2, None, terms), Cost { usd: Usd(0.06), estimated: true });
    }

    #[test]
    fn an_estimate_goes_by_quality_and_size() {
        let price = Price {
            input_usd_per_million_tokens: Some(6.4),
            output_usd_per_million_tokens: Some(24.0),
            estimate_usd_per_picture: 0.03,
        };
        let usd = |quality, (width, height): (u64, u64), inputs| {
            let terms = PictureTerms { quality, pixels: width * height, inputs };
            format!("{:.4}", price.estimate(1, terms).0)
        };
        // What the vendor documents for a low one, and billed for a medium one with an input.
        assert_eq!(usd(Some("low"), (1024, 1024), 0), "0.0047");
        assert_eq!(usd(Some("medium"), (1024, 1024), 1), "0.0217");
        assert_eq!(usd(Some("high"), (3840, 2160), 0), "0.6113");
        assert_eq!(usd(None, (1024, 1024), 0), "0.0300");
        assert_eq!(usd(Some("auto"), (2048, 1024), 1), "0.0600");
        assert_eq!(usd(None, (512, 512), 0), "0.0300", "no less where nothing is known");
        let flat = Price { input_usd_per_million_tokens: None, output_usd_per_million_tokens: None, ..price };
        let terms = PictureTerms { quality: Some("high"), pixels: 3840 * 2160, inputs: 1 };
        assert!((flat.estimate(4, terms).0 - 0.12).abs() < 1e-9, "a price for each picture");
    }
}
