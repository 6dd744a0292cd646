//! The state of one client, and what the operator sees of it: neither keys nor their digests.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::Serialize;

use super::concurrency::Concurrency;
use super::quota::ClientQuota;
use super::rate_limiter::RateLimiter;
use crate::model::{ClientId, Limit, Usd};

/// What is known of a client.
#[derive(Debug)]
pub(super) struct ClientState {
    pub(super) weight: f64,
    /// `None`: all of them.
    pub(super) models: Option<Arc<BTreeSet<String>>>,
    /// `None` where requests per minute are not limited.
    pub(super) rate_limiter: Option<Arc<RateLimiter>>,
    pub(super) requests: Concurrency,
    pub(super) quota: Arc<ClientQuota>,
}

/// A client on the status page.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct ClientStatus {
    pub(crate) name: String,
    /// It has a valid key; one without has spent something this month.
    pub(crate) has_key: bool,
    pub(crate) weight: f64,
    /// Ids; `None` for every model.
    pub(crate) models: Option<Vec<String>>,
    /// `None` where they are not limited, because they are not counted then.
    pub(crate) requests_per_minute: Option<LimitUsage<u64>>,
    pub(crate) requests_at_once: LimitUsage<u64>,
    pub(crate) predictions_at_once: LimitUsage<u64>,
    pub(crate) pictures_per_day: LimitUsage<u64>,
    pub(crate) pictures_this_month: u64,
    pub(crate) usd_per_day: LimitUsage<f64>,
    pub(crate) usd_per_month: LimitUsage<f64>,
}

/// The part of a limit that is used, or reserved for unfinished jobs. A limit of `None` is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct LimitUsage<T> {
    pub(crate) used: T,
    pub(crate) limit: Option<T>,
}

impl ClientStatus {
    pub(super) fn of(name: &ClientId, client: &ClientState) -> Self {
        let (limits, used) = (client.quota.limits(), client.quota.used());
        let count = |limit: Option<std::num::NonZeroU32>| limit.map(|limit| u64::from(limit.get()));
        let dollars = |limit: Option<Usd>| limit.map(|Usd(usd)| usd);
        let requests = client.rate_limiter.as_ref().map(|limiter| {
            let rate = limiter.rate();
            LimitUsage { used: u64::from(rate.used()), limit: Some(u64::from(rate.limit)) }
        });
        let at_once = LimitUsage { used: u64::from(client.requests.count()), limit: count(limits.requests_at_once) };
        Self {
            name: name.to_string(),
            has_key: client.requests.is_listed(),
            weight: client.weight,
            models: client.models.as_ref().map(|models| models.iter().cloned().collect()),
            requests_per_minute: requests,
            requests_at_once: at_once,
            predictions_at_once: LimitUsage { used: used.purchases, limit: count(limits.predictions_at_once) },
            pictures_per_day: LimitUsage { used: used.pictures_today, limit: count(limits.pictures_per_day) },
            pictures_this_month: used.pictures_this_month,
            usd_per_day: LimitUsage { used: used.usd_today, limit: dollars(limits.usd_per_day) },
            usd_per_month: LimitUsage { used: used.usd_this_month, limit: dollars(limits.usd_per_month) },
        }
    }

    /// Returns the limits that are set: which, how much of it is used, and the limit.
    #[expect(clippy::cast_precision_loss, reason = "limits are far below 2^52")]
    pub(crate) fn levels(&self) -> Vec<(Limit, f64, f64)> {
        let count = |limit: Limit, of: LimitUsage<u64>| of.limit.map(|max| (limit, of.used as f64, max as f64));
        let money = |limit: Limit, of: LimitUsage<f64>| of.limit.map(|max| (limit, of.used, max));
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
