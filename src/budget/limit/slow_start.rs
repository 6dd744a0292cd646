//! How many submits may be unacknowledged: the congestion window, and its slow start.
//!
//! At the start and after a pause the window is small and doubles with every round of answers (Jacobson, "Congestion
//! avoidance and control", 1988). A refusal then meets few other unacknowledged submits, and locates the limit more exactly.
//! Unlike TCP's, this window is not what holds the load down later: the learned limits do that.

use super::permission::Wait;

/// The initial window.
const INITIAL: usize = 4;
/// The window after a refusal.
const AFTER_REFUSAL: usize = 1;

/// The congestion window: how many submits may be unacknowledged, and how many are.
#[derive(Clone, Debug)]
pub(super) struct SlowStart {
    unacknowledged: usize,
    window: usize,
}

impl SlowStart {
    pub(super) fn new() -> Self {
        Self { unacknowledged: 0, window: INITIAL }
    }

    /// Whether one more submit may be sent.
    ///
    /// # Errors
    ///
    /// That one must be answered before.
    pub(super) fn check(&self) -> Result<(), Wait> {
        if self.unacknowledged < self.window { Ok(()) } else { Err(Wait::ForAnswer) }
    }

    pub(super) fn unacknowledged(&self) -> usize {
        self.unacknowledged
    }

    pub(super) fn on_sent(&mut self) {
        self.unacknowledged += 1;
    }

    /// Records that the outcome of a submit is known. Returns how many others are unacknowledged.
    pub(super) fn on_result(&mut self) -> usize {
        self.unacknowledged = self.unacknowledged.saturating_sub(1);
        self.unacknowledged
    }

    /// Grows by one for every acceptance, which doubles the window in a round of answers.
    pub(super) fn on_accepted(&mut self) {
        self.window = self.window.saturating_add(1);
    }

    /// Starts again from the smallest window.
    pub(super) fn on_refused(&mut self) {
        self.window = AFTER_REFUSAL;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends as many as the window allows.
    fn fill(window: &mut SlowStart) -> usize {
        let before = window.unacknowledged();
        while window.check().is_ok() {
            window.on_sent();
        }
        window.unacknowledged() - before
    }

    #[test]
    fn the_window_doubles_with_every_round_of_acceptances_and_restarts_at_one() {
        let mut window = SlowStart::new();
        for expected in [4, 8, 16] {
            assert_eq!(fill(&mut window), expected);
            for others in (0..expected).rev() {
                assert_eq!(window.on_result(), others);
                window.on_accepted();
            }
        }
        window.on_refused();
        assert_eq!(fill(&mut window), 1);
        assert_eq!(window.check(), Err(Wait::ForAnswer));
    }

    #[test]
    fn submits_that_were_unacknowledged_at_a_refusal_fill_the_smaller_window() {
        let mut window = SlowStart::new();
        fill(&mut window);
        window.on_result();
        window.on_refused();
        for others in [2, 1, 0] {
            assert_eq!(window.check(), Err(Wait::ForAnswer));
            assert_eq!(window.on_result(), others);
        }
        assert_eq!(window.check(), Ok(()));
    }

    #[test]
    fn an_outcome_that_is_no_evidence_frees_a_slot_without_growth() {
        let mut window = SlowStart::new();
        fill(&mut window);
        window.on_result();
        assert_eq!(fill(&mut window), 1);
    }
}
