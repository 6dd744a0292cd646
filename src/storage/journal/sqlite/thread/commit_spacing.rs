//! The time between commits: while many records arrive, some share a commit although each of them is due.

use std::time::{Duration, Instant};

/// Time between the beginnings of two commits while many records arrive: a record waits that long at most, which is little beside the
/// seconds of an edit. Where a sync takes longer, no record waits.
const SPACING: Duration = Duration::from_millis(4);
/// From this many records a second on, another one arrives within the time.
const BUSY_RECORDS_PER_S: f64 = 1000.0;
/// Time over which records are counted.
const WINDOW: Duration = Duration::from_millis(20);

/// Says when the next commit may begin.
#[derive(Debug)]
pub(super) struct CommitSpacing {
    last_commit: Instant,
    spacing: Duration,
    window_began: Instant,
    /// Records since then.
    records: f64,
}

impl CommitSpacing {
    pub(super) fn new(now: Instant) -> Self {
        Self { last_commit: now, spacing: Duration::ZERO, window_began: now, records: 0.0 }
    }

    /// Returns when the next commit may begin.
    pub(super) fn next(&self) -> Instant {
        self.last_commit + self.spacing
    }

    /// Notes that the commit of a number of records begins.
    pub(super) fn on_commit(&mut self, records: u32, now: Instant) {
        self.last_commit = now;
        self.records += f64::from(records);
        let counted_for = now.saturating_duration_since(self.window_began);
        if counted_for >= WINDOW {
            let is_busy = self.records >= BUSY_RECORDS_PER_S * counted_for.as_secs_f64();
            self.spacing = if is_busy { SPACING } else { Duration::ZERO };
            (self.window_began, self.records) = (now, 0.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns how long the next commit waits after commits of one record each, one every `pause`, and the time of the last.
    fn spacing_after(
        spacing: &mut CommitSpacing,
        commits: u32,
        pause: Duration,
        mut now: Instant,
    ) -> (Duration, Instant) {
        for _ in 0..commits {
            now += pause;
            spacing.on_commit(1, now);
        }
        (spacing.next() - now, now)
    }

    #[test]
    fn only_commits_of_many_records_are_spaced() {
        let began = Instant::now();
        let mut spacing = CommitSpacing::new(began);
        assert!(spacing.next() <= began);
        let (wait, now) = spacing_after(&mut spacing, 100, Duration::from_millis(2), began);
        assert_eq!(wait, Duration::ZERO, "500 records a second");
        let (wait, now) = spacing_after(&mut spacing, 100, Duration::from_micros(500), now);
        assert_eq!(wait, SPACING, "2,000 records a second");
        // The next record after a pause is not held, nor is the one that follows it.
        let later = now + Duration::from_secs(1);
        assert!(spacing.next() < later);
        let (wait, _) = spacing_after(&mut spacing, 1, Duration::from_secs(1), now);
        assert_eq!(wait, Duration::ZERO);
    }
}
