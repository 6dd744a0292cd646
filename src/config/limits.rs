//! What one client may use: `[limits]` for everybody, the same keys in `[[clients]]` for one. 0 is "no limit" on the
//! wire of the configuration and `None` from here on.

use std::num::NonZeroU32;

use serde::Deserialize;

use super::Error;
use crate::model::{Limit, Usd};

/// Highest number that is believed for each limit; beyond it somebody has mistyped.
const REQUESTS_MAX: u32 = 1_000_000;
const PREDICTIONS_MAX: u32 = 1_000_000;
const PICTURES_MAX: u32 = 1_000_000_000;
const USD_MAX: f64 = 1e9;

/// `[limits]`, as it is written.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LimitsConfig {
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

impl LimitsConfig {
    /// Checks the numbers.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] with the key below `section`.
    pub(super) fn check(self, section: &str) -> Result<ClientLimits, Error> {
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
    // NaN is in no range.
    if !(0.0..=USD_MAX).contains(&value) {
        return Err(Error::invalid(
            format!("{section}.{}", limit.name()),
            format!("must be US dollars from 0 (no limit) to {USD_MAX}, not {value}"),
        ));
    }
    Ok((value > 0.0).then_some(Usd(value)))
}
