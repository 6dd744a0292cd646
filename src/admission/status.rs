//! What the operator sees of each client. Neither keys nor their digests.

use serde::Serialize;

use super::{Admission, ClientState};
use crate::model::{ClientId, Limit, Usd};

/// A client, for the status page.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct ClientStatus {
    pub(crate) name: String,
    pub(crate) weight: f64,
    /// Ids; `None` for every model.
    pub(crate) models: Option<Vec<String>>,
    /// `None` where they are not limited: nobody counts them then.
    pub(crate) requests_per_minute: Option<LimitUsage<u64>>,
    /// Counted only where they are limited.
    pub(crate) requests_at_once: LimitUsage<u64>,
    pub(crate) predictions_at_once: LimitUsage<u64>,
    pub(crate) pictures_per_day: LimitUsage<u64>,
    pub(crate) pictures_this_month: u64,
    pub(crate) usd_per_day: LimitUsage<f64>,
    pub(crate) usd_per_month: LimitUsage<f64>,
}

/// What is used, or reserved for what is under way, of a limit; `None` is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct LimitUsage<T> {
    pub(crate) used: T,
    pub(crate) limit: Option<T>,
}

impl ClientStatus {
    fn of(name: &ClientId, guest: &ClientState) -> Self {
        let (limits, used) = (guest.account.limits(), guest.account.used());
        let count = |limit: Option<std::num::NonZeroU32>| limit.map(|limit| u64::from(limit.get()));
        let dollars = |limit: Option<Usd>| limit.map(|Usd(usd)| usd);
        let requests = guest.door.as_ref().map(|door| {
            let rate = door.rate();
            LimitUsage { used: u64::from(rate.limit - rate.remaining), limit: Some(u64::from(rate.limit)) }
        });
        let at_once = match (&guest.places, count(limits.requests_at_once)) {
            (Some(places), Some(limit)) => {
                LimitUsage { used: limit.saturating_sub(places.available_permits() as u64), limit: Some(limit) }
            }
            (None, _) | (_, None) => LimitUsage { used: 0, limit: None },
        };
        Self {
            name: name.to_string(),
            weight: guest.weight,
            models: guest.models.as_ref().map(|models| models.iter().cloned().collect()),
            requests_per_minute: requests,
            requests_at_once: at_once,
            predictions_at_once: LimitUsage { used: used.purchases, limit: count(limits.predictions_at_once) },
            pictures_per_day: LimitUsage { used: used.pictures_today, limit: count(limits.pictures_per_day) },
            pictures_this_month: used.pictures_this_month,
            usd_per_day: LimitUsage { used: used.usd_today, limit: dollars(limits.usd_per_day) },
            usd_per_month: LimitUsage { used: used.usd_this_month, limit: dollars(limits.usd_per_month) },
        }
    }

    /// The limits it has: which, how much of it is used, and the limit.
    #[expect(clippy::cast_precision_loss, reason = "no limit comes near the numbers that a float cannot hold")]
    pub(crate) fn levels(&self) -> Vec<(Limit, f64, f64)> {
        let count = |limit: Limit, of: LimitUsage<u64>| of.limit.map(|most| (limit, of.used as f64, most as f64));
        let money = |limit: Limit, of: LimitUsage<f64>| of.limit.map(|most| (limit, of.used, most));
        [
            self.requests_per_minute.and_then(|of| count(Limit::RequestsPerMinute, of)),
            count(Limit::RequestsAtOnce, self.requests_at_once),
            count(Limit::PredictionsAtOnce, self.predictions_at_once),
            count(Limit::PicturesPerDay, self.pictures_per_day),
            money(Limit::UsdPerDay, self.usd_per_day),
            money(Limit::UsdPerMonth, self.usd_per_month),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

impl Admission {
    /// Every client, by name.
    pub(crate) fn status(&self) -> Vec<ClientStatus> {
        let mut clients: Vec<ClientStatus> =
            self.guests.iter().map(|(name, guest)| ClientStatus::of(name, guest)).collect();
        clients.sort_by(|one, two| one.name.cmp(&two.name));
        clients
    }
}
