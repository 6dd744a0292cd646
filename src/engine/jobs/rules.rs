//! The operator's settings that the jobs depend on.

use std::sync::Arc;
use std::time::Duration;

use crate::config::OnUnknown;
use crate::model::{Catalogue, Choices, Cost, Size, Task, Usage, Usd};
use crate::polling::latency::LatencyClass;
use crate::polling::planner::PollPlanner;
use crate::storage::journal::{JobRecord, Resolution, StoredJob, StoredState};
use crate::upstream::formats::FormatRules;

/// The operator's settings that the jobs depend on, and the prices.
#[derive(Clone, Debug)]
pub(in crate::engine) struct Rules {
    pub(in crate::engine) catalogue: Arc<Catalogue>,
    pub(in crate::engine) planner: PollPlanner,
    /// Submits of a purchase that may fail before it ends as unreachable.
    pub(in crate::engine) submit_attempts_max: u32,
    /// What follows an unknown outcome.
    pub(in crate::engine) on_unknown: OnUnknown,
    /// Time from its acceptance after which a purchase is given up.
    pub(in crate::engine) deadline: Duration,
    /// Time for which a stored picture that is damaged is fetched again.
    pub(in crate::engine) refetch_time: Duration,
    /// Which request formats may be used.
    pub(in crate::engine) formats: FormatRules,
}

impl Rules {
    /// Returns what pictures of a job's model cost by the catalogue, before the upstream has reported tokens; `None` for
    /// a model that is not in it.
    pub(in crate::engine) fn price(&self, record: &JobRecord, pictures: u8) -> Option<Usd> {
        self.price_of(record, usize::from(pictures), None)
    }

    /// Returns what pictures of a job's model cost, by the tokens where they are known.
    pub(super) fn price_of(&self, record: &JobRecord, pictures: usize, usage: Option<&Usage>) -> Option<Usd> {
        self.catalogue.find(&record.model).map(|model| model.price.cost(pictures, usage, record.terms()).usd)
    }

    /// Returns what a stored job without pictures may have cost. `None` for a model that is not in the
    /// catalogue, unless nothing was bought.
    pub(in crate::engine) fn cost_of_failed(&self, stored: &StoredJob) -> Option<Cost> {
        let bought = stored.purchases.iter().filter(|purchase| match &purchase.state {
            // The operator has decided that it was not bought.
            _ if purchase.resolution == Some(Resolution::Lost) => false,
            StoredState::Failed { failure, .. } => failure.may_have_been_bought(),
            StoredState::Intent => false,
            StoredState::Committing { .. } | StoredState::Accepted { .. } | StoredState::Resolved { .. } => true,
        });
        match bought.map(|purchase| usize::from(purchase.pictures)).sum() {
            0 => Some(Cost::default()),
            bought => Some(self.catalogue.find(&stored.record.model)?.price.cost(bought, None, stored.record.terms())),
        }
    }
}

/// Returns the class of generation times of a purchase of `pictures` pictures.
pub(in crate::engine) fn class_of(record: &JobRecord, pictures: u8) -> Arc<LatencyClass> {
    Arc::new(class(&record.model, record.task, &record.choices, record.size, pictures))
}

/// Returns the class of generation times of a purchase.
pub(in crate::engine) fn class(model: &str, task: Task, choices: &Choices, size: Size, pictures: u8) -> LatencyClass {
    let quality = choices.quality().unwrap_or_default();
    LatencyClass::new(model, task.name(), quality, size.pixels(), u32::from(pictures))
}
