//! The predictions in flight of one account: how many, and for how long on average.

use std::time::Duration;

/// Weight of the newest prediction in the mean time in flight.
const NEWEST_WEIGHT: f64 = 0.1;

/// The number of predictions in flight, and their mean time.
#[derive(Clone, Copy, Debug)]
pub(in crate::budget) struct InFlight {
    count: usize,
    mean_s: Option<f64>,
}

impl InFlight {
    /// Starts with none. `mean_s` is the mean from before a restart.
    pub(super) fn new(mean_s: Option<f64>) -> Self {
        Self { count: 0, mean_s: mean_s.filter(|mean| mean.is_finite() && *mean > 0.0) }
    }

    /// Forgets the mean time.
    pub(super) fn forget(&mut self) {
        self.mean_s = None;
    }

    pub(in crate::budget) fn count(&self) -> usize {
        self.count
    }

    /// Returns the mean time that a prediction is in flight, in seconds; `None` before the first has ended.
    pub(in crate::budget) fn mean_s(&self) -> Option<f64> {
        self.mean_s
    }

    /// Records that one more prediction is in flight.
    pub(in crate::budget) fn on_started(&mut self) {
        self.count += 1;
    }

    /// Records that a prediction is no longer in flight, and for how long it was, where that is known.
    pub(in crate::budget) fn on_ended(&mut self, time: Option<Duration>) {
        self.count = self.count.saturating_sub(1);
        if let Some(newest) = time.map(|time| time.as_secs_f64()) {
            self.mean_s = Some(self.mean_s.map_or(newest, |mean| mean + NEWEST_WEIGHT * (newest - mean)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_follows_known_times_only() {
        let mut in_flight = InFlight::new(None);
        in_flight.on_started();
        in_flight.on_started();
        in_flight.on_ended(None);
        assert_eq!((in_flight.count(), in_flight.mean_s()), (1, None));
        in_flight.on_ended(Some(Duration::from_secs(20)));
        in_flight.on_ended(Some(Duration::from_secs(30)));
        assert_eq!((in_flight.count(), in_flight.mean_s()), (0, Some(21.0)));
        for (stored, expected) in [(Some(20.0), Some(20.0)), (Some(0.0), None), (Some(f64::NAN), None)] {
            assert_eq!(InFlight::new(stored).mean_s(), expected);
        }
    }
}
