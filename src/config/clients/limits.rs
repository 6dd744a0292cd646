//! The limits of a client: `[limits]` for every client, the same keys in `[[clients]]` for one. A limit of 0 in the file is
//! `None` in the code.

use std::num::NonZeroU32;

use serde::Deserialize;

use crate::config::Error;
use crate::model::{Limit, Usd};

/// The highest value of each limit; a higher one is taken for a typing error.
const REQUESTS_MAX: u32 = 1_000_000;
const PREDICTIONS_MAX: u32 = 1_000_000;
const PICTURES_MAX: u32 = 1_000_000_000;
const USD_MAX: f64 = 1e9;

/// `[limits]`, as written.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct LimitsSection {
    pub(super) requests_per_minute: i64,
    pub(super) requests_at_once: i64,
    pub(super) predictions_at_once: i64,
    pub(super) pictures_per_day: i64,
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
    /// Checks the ranges.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`], naming the key below `section` and its range.
    pub(in crate::config) fn check(self, section: &str) -> Result<ClientLimits, Error> {
        Ok(ClientLimits {
            requests_per_minute: count(section, Limit::RequestsPerMinute, self.requests_per_minute, REQUESTS_MAX)?,
            requests_at_once: count(section, Limit::RequestsAtOnce, self.requests_at_once, REQUESTS_MAX)?,
            predictions_at_once: count(section, Limit::PredictionsAtOnce, self.predictions_at_once, PREDICTIONS_MAX)?,
            pictures_per_day: count(section, Limit::PicturesPerDay, self.pictures_per_day, PICTURES_MAX)?,
            usd_per_day: money(section, Limit::UsdPerDay, self.usd_per_day)?,
            usd_per_month: money(section, Limit::UsdPerMonth, self.usd_per_month)?,
        })
    }
}

fn count(section: &str, limit: Limit, value: i64, max: u32) -> Result<Option<NonZeroU32>, Error> {
    match u32::try_from(value) {
        Ok(value) if value <= max => Ok(NonZeroU32::new(value)),
        _ => Err(Error::invalid(
            format!("{section}.{}", limit.name()),
            format!("must be a whole number from 0 (no limit) to {max}, not {value}"),
        )),
    }
}

fn money(section: &str, limit: Limit, value: f64) -> Result<Option<Usd>, Error> {
    // `contains` refuses NaN, too.
    if !(0.0..=USD_MAX).contains(&value) {
        return Err(Error::invalid(
            format!("{section}.{}", limit.name()),
            format!("must be an amount of US dollars from 0 (no limit) to {USD_MAX}, not {value}"),
        ));
    }
    Ok((value > 0.0).then_some(Usd(value)))
}

#[cfg(test)]
mod tests {
    use crate::config::tests::refusal;

    #[test]
    fn values_out_of_range_name_the_key_and_the_range() {
        for (line, expected) in [
            (
                "requests_per_minute = -1",
                "limits.requests_per_minute: must be a whole number from 0 (no limit) to 1000000, not -1",
            ),
            ("requests_at_once = -1", "limits.requests_at_once: must be a whole number from 0"),
            ("predictions_at_once = 1000001", "limits.predictions_at_once: must be a whole number from 0"),
            ("usd_per_day = nan", "limits.usd_per_day: must be an amount of US dollars from 0"),
            ("usd_per_month = 1e12", "limits.usd_per_month: must be an amount of US dollars from 0"),
        ] {
            let error = refusal(&format!("[limits]\n{line}"), &[]);
            assert!(error.starts_with(expected), "{error}");
        }
        assert!(refusal("[limits]\npictures_per_day = 2.5", &[]).contains("limits.pictures_per_day"));
        assert!(refusal("", &[("GATEWAY_LIMITS__USD_PER_DAY", "-0.01")]).starts_with("limits.usd_per_day: "));
    }
}
