//! The last hour in steps of ten seconds, in memory: what the charts of the page are drawn from. A task looks at the status at
//! each step; no request pays for it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::Snapshot;
use crate::telemetry::recent::RequestTotals;

/// The time between two points.
pub(super) const STEP: Duration = Duration::from_secs(10);
/// Points that are kept: an hour.
pub(super) const POINTS_MAX: usize = 360;

/// What happened in one step, and how it was at its end.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Point {
    /// The end of the step, in Unix seconds.
    pub(super) at_s: i64,
    /// Requests for pictures that ended.
    pub(super) requests: RequestTotals,
    pub(super) in_flight: usize,
    pub(super) queued: usize,
    /// Calls that the upstream refused because there were too many.
    pub(super) pushbacks: u64,
    pub(super) spent_usd: f64,
    pub(super) saved_usd: f64,
    /// The generation times of the last minutes.
    pub(super) times: Vec<ModelTimes>,
}

/// How long the pictures of a model took.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ModelTimes {
    pub(super) model: Arc<str>,
    pub(super) median_s: f64,
    pub(super) p90_s: f64,
}

/// The counters at the end of a step, from which the next one is computed.
#[derive(Clone, Copy, Debug, Default)]
struct Counters {
    requests: RequestTotals,
    pushbacks: u64,
    spent_usd: f64,
    saved_usd: f64,
}

impl Counters {
    fn of(snapshot: &Snapshot) -> Self {
        Self {
            requests: snapshot.requests,
            pushbacks: snapshot.upstream.accounts.iter().flat_map(|account| account.pushbacks.values()).sum(),
            spent_usd: snapshot.engine.spent_usd,
            saved_usd: snapshot.engine.joined_usd + snapshot.engine.hits_usd,
        }
    }
}

/// The points of the last hour. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct History {
    shared: Arc<Mutex<Points>>,
}

#[derive(Debug, Default)]
struct Points {
    points: VecDeque<Point>,
    before: Counters,
}

impl Points {
    /// Returns the point for what has happened since the last one.
    fn next(&self, snapshot: &Snapshot, at_s: i64) -> Point {
        let (now, before) = (Counters::of(snapshot), &self.before);
        let times = snapshot.engine.generation_times.iter().map(|time| ModelTimes {
            model: time.model.as_str().into(),
            median_s: time.median_s,
            p90_s: time.p90_s,
        });
        Point {
            at_s,
            requests: now.requests.since(&before.requests),
            in_flight: snapshot.upstream.predictions_in_flight,
            queued: snapshot.upstream.queued_submits,
            pushbacks: now.pushbacks.saturating_sub(before.pushbacks),
            spent_usd: (now.spent_usd - before.spent_usd).max(0.0),
            saved_usd: (now.saved_usd - before.saved_usd).max(0.0),
            times: times.collect(),
        }
    }
}

impl History {
    /// Adds a point for what has happened since the last one.
    pub(super) fn add(&self, snapshot: &Snapshot, at_s: i64) {
        let mut points = self.lock();
        let point = points.next(snapshot, at_s);
        points.before = Counters::of(snapshot);
        if points.points.len() >= POINTS_MAX {
            points.points.pop_front();
        }
        points.points.push_back(point);
    }

    /// Returns all points, the oldest first, and one for the step that has begun.
    pub(super) fn points(&self, snapshot: &Snapshot, now_s: i64) -> Vec<Point> {
        let points = self.lock();
        let current = points.next(snapshot, now_s);
        points.points.iter().cloned().chain([current]).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Points> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
