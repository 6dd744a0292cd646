//! What clients have spent, by the journal alone: for commands that work without a gateway.

use std::collections::HashMap;
use std::sync::Arc;

use serde::Serialize;

use super::past_purchases;
use super::period;
use super::quota::{ClientQuota, Used};
use crate::config::ClientLimits;
use crate::model::{Catalogue, ClientId, Clock, Timestamp};
use crate::storage::journal::UsedQuota;

/// What a client has spent on this day and in this month (UTC).
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Spent {
    pub(crate) usd_today: f64,
    pub(crate) usd_this_month: f64,
    pub(crate) pictures_today: u64,
    pub(crate) pictures_this_month: u64,
}

impl From<Used> for Spent {
    fn from(used: Used) -> Self {
        Self {
            usd_today: used.usd_today,
            usd_this_month: used.usd_this_month,
            pictures_today: used.pictures_today,
            pictures_this_month: used.pictures_this_month,
        }
    }
}

/// Returns the first moment of this month.
pub(crate) fn start_of_month(clock: &dyn Clock) -> Timestamp {
    period::start_of_month(period::day(clock.now()))
}

/// Returns what each client has spent, of what the journal has since [`start_of_month`].
pub(crate) fn spent_by_client(
    used: Vec<UsedQuota>,
    catalogue: &Catalogue,
    clock: &Arc<dyn Clock>,
) -> HashMap<ClientId, Spent> {
    let sum = |(client, purchases): (ClientId, Vec<_>)| {
        let quota = ClientQuota::new(ClientLimits::default(), Arc::clone(clock));
        quota.count_past(&purchases);
        (client, quota.used().into())
    };
    past_purchases(used, catalogue).into_iter().map(sum).collect()
}
