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
        match (usage, self.input_usd_per_million_tokens, self.output_usd_per_million_tokens) {
            (Some(usage), Some(input), Some(output)) => {
                Usd((tokens(usage.input_tokens) * input + tokens(usage.output_tokens) * output) / 1e6)
            }
            _ => Usd(self.estimate_usd_per_picture * f64::from(u32::try_from(pictures).unwrap_or(u32::MAX))),
        }
    }
}

fn tokens(count: u64) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

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
