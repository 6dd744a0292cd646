//! What a client may still buy, as whoever buys for it sees it.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{ClientId, Usd};

/// What an order is expected to come to, before the upstream has reported what it cost.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct CostEstimate {
    pub(crate) purchases: usize,
    pub(crate) pictures: usize,
    pub(crate) usd: Usd,
}

/// Whoever knows the limits of each client.
pub(crate) trait Quotas: Send + Sync + fmt::Debug {
    /// Reserves what an order is expected to come to.
    ///
    /// # Errors
    ///
    /// [`LimitExceeded`], naming the first limit that the order would break; nothing is reserved then.
    fn reserve(&self, client: &ClientId, expense: CostEstimate) -> Result<Box<dyn QuotaHold>, LimitExceeded>;

    /// Reserves for an order that is under way already, whatever the limits say.
    fn adopt(&self, client: &ClientId, expense: CostEstimate) -> Box<dyn QuotaHold>;
}

/// A reservation of one order. Dropping it gives back what was not settled.
pub(crate) trait QuotaHold: Send + Sync + fmt::Debug {
    /// One prediction of the order has ended, with so many pictures and for so much: replaces its part of the
    /// reservation.
    fn settle(&self, pictures: usize, usd: Usd);
}

/// A limit of a client that something would break.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Limit {
    RequestsPerMinute,
    RequestsAtOnce,
    PredictionsAtOnce,
    PicturesPerDay,
    UsdPerDay,
    UsdPerMonth,
}

impl Limit {
    /// Whether it is in US dollars.
    pub(crate) fn is_money(self) -> bool {
        match self {
            Self::UsdPerDay | Self::UsdPerMonth => true,
            Self::RequestsPerMinute | Self::RequestsAtOnce | Self::PredictionsAtOnce | Self::PicturesPerDay => false,
        }
    }

    /// The key in the configuration, also the label of metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::RequestsPerMinute => "requests_per_minute",
            Self::RequestsAtOnce => "requests_at_once",
            Self::PredictionsAtOnce => "predictions_at_once",
            Self::PicturesPerDay => "pictures_per_day",
            Self::UsdPerDay => "usd_per_day",
            Self::UsdPerMonth => "usd_per_month",
        }
    }
}

/// Why a client gets nothing more for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LimitExceeded {
    pub(crate) limit: Limit,
    /// When the same request is let in, if nothing else happens.
    pub(crate) retry_after: Duration,
}
