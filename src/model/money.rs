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
    /// Estimate for one picture, used until the upstream has reported tokens.
    pub(crate) estimate_usd_per_picture: f64,
}

impl Price {
    /// Returns the price of `pictures` pictures: by reported tokens if their prices are known, else the estimate.
    pub(crate) fn of(&self, pictures: usize, usage: Option<&Usage>) -> Usd {
        self.cost(pictures, usage).usd
    }

    /// The same, and whether it is the estimate.
    pub(crate) fn cost(&self, pictures: usize, usage: Option<&Usage>) -> Cost {
        let by_tokens = (usage, self.input_usd_per_million_tokens, self.output_usd_per_million_tokens);
        if let (Some(usage), Some(input), Some(output)) = by_tokens {
            let usd = (tokens(usage.input_tokens) * input + tokens(usage.output_tokens) * output) / 1e6;
            Cost { usd: Usd(usd), estimated: false }
        } else {
            let usd = self.estimate_usd_per_picture * f64::from(u32::try_from(pictures).unwrap_or(u32::MAX));
            Cost { usd: Usd(usd), estimated: true }
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
        assert!((price.of(1, Some(&usage)).0 - 0.0217).abs() < 0.0001);
        assert!((price.of(2, None).0 - 0.06).abs() < 1e-9);
    }
}
