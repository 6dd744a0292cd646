//! Whether a purchase comes in time for whoever waits for it; refused before it is made where it does not.
//!
//! A client is answered within its patience. From the forecast of the queue and from what is known of generation times
//! follows whether a picture that is queued now will be ready by then. If it will not, and waiting elsewhere helps, the
//! client is told so at the door, with the time after which it is let in. Whoever was let in is looked at again when its
//! turn does not come in time.
//!
//! A picture that takes longer than its client ever waits is bought all the same, as long as its submit leaves in time:
//! the purchase goes on without the client, whose retry finds it.

use std::collections::BTreeMap;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::{Core, JobRequest};
use crate::budget::{Forecast, QueuedSubmit};
use crate::model::{Failure, Input, PictureRequest, Size, Task, Usd};
use crate::polling::latency::{LatencyClass, LatencyModel};
use crate::storage::journal::JobRecord;

/// Share of the predictions of a class that are done within the time that one is taken to need.
const MOSTLY_DONE: f64 = 0.9;

/// The class of generation times that a prediction of so many pictures belongs to.
pub(super) fn class_of(record: &JobRecord, pictures: u8) -> LatencyClass {
    class(&record.model, record.task, &record.choices, record.size, pictures)
}

fn class(model: &str, task: Task, choices: &BTreeMap<String, String>, size: Size, pictures: u8) -> LatencyClass {
    let quality = choices.get("quality").map_or("", String::as_str);
    LatencyClass::new(model, task.name(), quality, size.pixels(), u32::from(pictures))
}

impl Core {
    pub(super) fn latencies(&self) -> MutexGuard<'_, LatencyModel> {
        self.latencies.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Until when a submit of this order is of use to its client.
    pub(super) fn start_by(&self, job: &JobRequest) -> Instant {
        let PictureRequest { model, task, choices, size, n, api_kind, .. } = &job.request;
        // Its predictions run side by side; the first makes as many pictures as any.
        let parts = self.catalogue.find(model).map(|model| model.split(*api_kind, *task, *n)).unwrap_or_default();
        let class = class(model, *task, choices, *size, parts.first().copied().unwrap_or(*n));
        let patience = job.until.saturating_duration_since(Instant::now());
        let takes = self.latencies().done_by(&class, MOSTLY_DONE);
        match takes.filter(|&takes| takes <= patience) {
            Some(takes) => job.until.checked_sub(takes).unwrap_or(job.until),
            None => job.until,
        }
    }

    /// Refuses what would not start in time; tells when it is expected to start.
    ///
    /// # Errors
    ///
    /// [`Failure::Overloaded`], [`Failure::Outpaced`] or [`Failure::Throttled`], with the time after which the same
    /// request would be let in if nothing else arrived.
    pub(super) fn check_in_time(&self, submit: &QueuedSubmit, start_by: Instant) -> Result<Duration, Failure> {
        let forecast = self.budget.forecast(submit);
        let spare = start_by.saturating_duration_since(Instant::now());
        if forecast.start <= spare {
            return Ok(forecast.start);
        }
        let retry_after = self.budget.turn_away(submit, spare);
        Err(in_vain(forecast, spare, retry_after))
    }

    /// Why something that was queued is not waited for any longer.
    pub(super) fn waited_in_vain(&self, record: &JobRecord) -> Failure {
        let usd = self.estimate(&record.model, record.n);
        let submit = QueuedSubmit { client: record.client.clone(), model: record.model.as_str().into(), usd, bytes: 0 };
        let forecast = self.budget.forecast(&submit);
        in_vain(forecast, Duration::ZERO, self.budget.turn_away(&submit, Duration::ZERO))
    }
}

/// What a client is told whose purchase would start too late by the forecast, having only so much time to spare.
fn in_vain(forecast: Forecast, spare: Duration, retry_after: Duration) -> Failure {
    if forecast.paused {
        Failure::Throttled { retry_after }
    } else if forecast.start_alone < forecast.start && forecast.start_alone <= spare {
        Failure::Outpaced { retry_after }
    } else {
        Failure::Overloaded { retry_after }
    }
}

/// What the queue is told of one prediction of an order; the uploads of an order are held once.
pub(super) fn submits(record: &JobRecord, request: &PictureRequest, prices: &[Usd]) -> Vec<QueuedSubmit> {
    let model: Arc<str> = record.model.as_str().into();
    let mut bytes: u64 = request.inputs.iter().chain(&request.mask).map(bytes_of).sum();
    let submit = |&usd: &Usd| QueuedSubmit {
        client: record.client.clone(),
        model: Arc::clone(&model),
        usd,
        bytes: std::mem::take(&mut bytes),
    };
    prices.iter().map(submit).collect()
}

fn bytes_of(input: &Input) -> u64 {
    match input {
        Input::Bytes { picture, .. } => picture.bytes,
        Input::Link(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn whose_fault_it_is_decides_what_a_client_is_told() {
        let told = |start: u32, start_alone: u32, paused| {
            in_vain(Forecast { start: S * start, start_alone: S * start_alone, paused }, S * 10, S * 20)
        };
        assert_eq!(told(30, 25, false), Failure::Overloaded { retry_after: S * 20 });
        assert_eq!(told(30, 5, false), Failure::Outpaced { retry_after: S * 20 });
        assert_eq!(told(30, 30, true), Failure::Throttled { retry_after: S * 20 });
    }
}
