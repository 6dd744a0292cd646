//! The limits of clients, as the engine sees them.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::ids::ClientId;
use super::money::Usd;

/// The expected cost of a job, before the upstream has reported the actual one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct CostEstimate {
    pub(crate) purchases: usize,
    pub(crate) pictures: usize,
    pub(crate) usd: Usd,
}

/// The limits of all clients.
pub(crate) trait Quotas: Send + Sync + fmt::Debug {
    /// Reserves the expected cost of a job.
    ///
    /// # Errors
    ///
    /// [`LimitExceeded`], naming the first limit that the job would exceed; nothing is reserved then.
    fn reserve(&self, client: &ClientId, expense: CostEstimate) -> Result<Box<dyn QuotaHold>, LimitExceeded>;

    /// Reserves the cost of a job that is under way already, regardless of limits.
    fn adopt(&self, client: &ClientId, expense: CostEstimate) -> Box<dyn QuotaHold>;
}

/// What a client has proved with that it is one. It may end before what was begun with it.
pub(crate) trait Credential: Send + Sync + fmt::Debug {
    fn is_valid(&self) -> bool;
}

/// The reservation of one job. Dropping it releases what was not settled.
pub(crate) trait QuotaHold: Send + Sync + fmt::Debug {
    /// Replaces the part of one purchase by its actual pictures and cost, when the purchase has ended.
    fn settle(&self, pictures: usize, usd: Usd);
}

/// A limit of a client.
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
    pub(crate) const ALL: [Self; 6] = [
        Self::RequestsPerMinute,
        Self::RequestsAtOnce,
        Self::PredictionsAtOnce,
        Self::PicturesPerDay,
        Self::UsdPerDay,
        Self::UsdPerMonth,
    ];

    /// Returns whether the limit is in US dollars.
    pub(crate) fn is_money(self) -> bool {
        match self {
            Self::UsdPerDay | Self::UsdPerMonth => true,
            Self::RequestsPerMinute | Self::RequestsAtOnce | Self::PredictionsAtOnce | Self::PicturesPerDay => false,
        }
    }

    /// Returns the key in the configuration, which is also the label of metrics.
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

/// Why a job of a client is refused for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LimitExceeded {
    pub(crate) limit: Limit,
    /// Time until the same request would be accepted, if the client sends no other.
    pub(crate) retry_after: Duration,
}
