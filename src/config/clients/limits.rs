//! The limits of a client: `[limits]` for every client, the same keys in `[[clients]]` for one. A limit of 0 in the file is
//! `None` in the code.

use std::num::NonZeroU32;

use serde::Deserialize;

use crate::model::Usd;

/// `[limits]`, as written.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct LimitsSection {
    pub(super) requests_per_minute: u32,
    pub(super) requests_at_once: u32,
    pub(super) predictions_at_once: u32,
    pub(super) pictures_per_day: u32,
    pub(super) usd_per_day: f64,
    pub(super) usd_per_month: f64,
}

/// The limits of one client; `None` is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct ClientLimits {
    pub(crate) requests_per_minute: Option<NonZeroU32>,
    pub(crate) requests_at_once: Option<NonZeroU32>,
    pub(crate) predictions_at_once: Option<NonZeroU32>,
    pub(crate) pictures_per_day: Option<NonZeroU32>,
    pub(crate) usd_per_day: Option<Usd>,
    pub(crate) usd_per_month: Option<Usd>,
}

impl LimitsSection {
    /// Returns the limits, of which 0 is none. The ranges are checked by then.
    pub(in crate::config) fn limits(self) -> ClientLimits {
        let money = |amount: f64| (amount > 0.0).then_some(Usd(amount));
        ClientLimits {
            requests_per_minute: NonZeroU32::new(self.requests_per_minute),
            requests_at_once: NonZeroU32::new(self.requests_at_once),
            predictions_at_once: NonZeroU32::new(self.predictions_at_once),
            pictures_per_day: NonZeroU32::new(self.pictures_per_day),
            usd_per_day: money(self.usd_per_day),
            usd_per_month: money(self.usd_per_month),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::tests::refusal;

    #[test]
    fn values_out_of_range_name_the_key_and_the_range() {
        for (line, expected) in [
            (
                "requests_per_minute = -1",
                "limits.requests_per_minute: must be a whole number from 0 to 1000000, not -1",
            ),
            ("requests_at_once = -1", "limits.requests_at_once: must be a whole number from 0"),
            ("predictions_at_once = 1000001", "limits.predictions_at_once: must be a whole number from 0"),
            ("usd_per_day = nan", "limits.usd_per_day: must be a number from 0 to 1000000000"),
            ("usd_per_month = 1e12", "limits.usd_per_month: must be a number from 0 to 1000000000"),
        ] {
            let error = refusal(&format!("[limits]\n{line}"), &[]);
            assert!(error.starts_with(expected), "{error}");
        }
        assert!(refusal("[limits]\npictures_per_day = 2.5", &[]).contains("limits.pictures_per_day"));
        assert!(refusal("", &[("GATEWAY_LIMITS__USD_PER_DAY", "-0.01")]).starts_with("limits.usd_per_day: "));
    }
}
