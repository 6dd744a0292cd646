//! Whether a purchase would start in time for its client; it is refused before it is made if not.
//!
//! A client is answered by its response deadline. The forecast of the queue and the learned generation times say
//! whether a picture that is queued now will be ready by then. If not, and if a later retry helps, the request is
//! refused with the time of the retry. A job that was queued and whose turn does not come in time is refused in the
//! same way.
//!
//! A picture that takes longer than its client ever waits is bought all the same, as long as its submit leaves in time:
//! the purchase goes on without the client, whose retry finds it.

use std::sync::Arc;
use std::time::Duration;

use crate::budget::{Budget, Forecast, QueuedSubmit};
use crate::model::{Failure, Input, PictureRequest, Usd};
use crate::storage::journal::JobRecord;

/// Returns the time until a submit is expected to start; fails when it has less time to `spare`.
///
/// # Errors
///
/// [`Failure::Overloaded`], [`Failure::Outpaced`] or [`Failure::Throttled`], with the time after which the same request
/// would be accepted if no other arrived.
pub(in crate::engine) fn check_starts_in_time(
    budget: &Budget,
    submit: &QueuedSubmit,
    spare: Duration,
) -> Result<Duration, Failure> {
    let forecast = budget.forecast(submit);
    if forecast.start <= spare {
        return Ok(forecast.start);
    }
    let retry_after = budget.turn_away(submit, spare);
    Err(too_late(forecast, spare, retry_after))
}

/// Returns the failure of a queued job that did not start in time for its waiters.
pub(in crate::engine) fn missed_start(budget: &Budget, record: &JobRecord, usd: Usd) -> Failure {
    let submit = QueuedSubmit { client: record.client.clone(), model: record.model.as_str().into(), usd, bytes: 0 };
    let forecast = budget.forecast(&submit);
    too_late(forecast, Duration::ZERO, budget.turn_away(&submit, Duration::ZERO))
}

/// Returns the failure of a purchase that by the forecast starts later than its client has time to spare.
fn too_late(forecast: Forecast, spare: Duration, retry_after: Duration) -> Failure {
    if forecast.paused {
        Failure::Throttled { retry_after }
    } else if forecast.start_alone < forecast.start && forecast.start_alone <= spare {
        Failure::Outpaced { retry_after }
    } else {
        Failure::Overloaded { retry_after }
    }
}

/// Returns the queue's view of each purchase of a job. The uploads of a job are held once, so the first counts them.
pub(in crate::engine) fn queued_submits(
    record: &JobRecord,
    request: &PictureRequest,
    prices: &[Usd],
) -> Vec<QueuedSubmit> {
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
    fn the_failure_names_the_cause_of_the_delay() {
        let failure = |start: u32, start_alone: u32, paused| {
            too_late(Forecast { start: S * start, start_alone: S * start_alone, paused }, S * 10, S * 20)
        };
        assert_eq!(failure(30, 25, false), Failure::Overloaded { retry_after: S * 20 });
        assert_eq!(failure(30, 5, false), Failure::Outpaced { retry_after: S * 20 });
        assert_eq!(failure(30, 30, true), Failure::Throttled { retry_after: S * 20 });
    }
}
