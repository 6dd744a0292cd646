//! The cooldowns of an account and of its models after a refusal, each of which one submit tests when it is over.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::model::Failure;

/// The cooldown of an account after its key was refused for the first time; it doubles with every further refusal.
const FIRST_COOLDOWN: Duration = Duration::from_secs(5);
/// The cooldown of a model that an account may not use, after the first such refusal; it doubles with every further one.
const FIRST_PERMISSION_COOLDOWN: Duration = Duration::from_mins(1);
/// After this many refusals in a row, submits of a model fail instead of waiting for its cooldown.
const MODEL_REFUSALS: u32 = 3;

/// An account or a model that is not used for a while.
#[derive(Clone, Debug)]
pub(super) struct Cooldown {
    pub(super) reason: Failure,
    pub(super) until: Instant,
    refusals: u32,
    /// The refusal is no matter of a moment, so that submits fail instead of waiting.
    permanent: bool,
    /// A submit is unacknowledged that tests whether the cooldown is over.
    testing: bool,
}

impl Cooldown {
    /// A cooldown that has not begun.
    fn new(reason: Failure, now: Instant) -> Self {
        Self { reason, until: now, refusals: 0, permanent: false, testing: false }
    }

    /// Records one more refusal, and extends the cooldown to `pause` from now at least.
    fn extend(&mut self, reason: Failure, pause: Duration, now: Instant) {
        self.reason = reason;
        self.until = self.until.max(now + pause);
        self.refusals += 1;
        self.testing = false;
    }

    /// Returns `first`, doubled by every refusal so far.
    fn doubled(&self, first: Duration) -> Duration {
        first.saturating_mul(2_u32.saturating_pow(self.refusals.min(16)))
    }

    /// Whether no submit may be sent now.
    pub(super) fn is_active(&self, now: Instant) -> bool {
        self.testing || self.until > now
    }

    /// Whether a submit may be sent.
    ///
    /// # Errors
    ///
    /// The time when it may; `None` when that depends on the outcome of the submit that tests.
    pub(super) fn check(&self, now: Instant) -> Result<(), Option<Instant>> {
        match self {
            Self { testing: true, .. } => Err(None),
            Self { until, .. } if *until > now => Err(Some(*until)),
            Self { .. } => Ok(()),
        }
    }
}

/// The cooldowns of one account.
#[derive(Debug)]
pub(super) struct Cooldowns {
    account: Option<Cooldown>,
    account_max: Duration,
    models: HashMap<Arc<str>, Cooldown>,
    /// The cooldown of a model after its first refusal, if the upstream named none.
    model_first: Duration,
    model_max: Duration,
}

impl Cooldowns {
    pub(super) fn new(account_max: Duration, model_first: Duration, model_max: Duration) -> Self {
        Self { account: None, account_max, models: HashMap::new(), model_first, model_max }
    }

    /// Ends every cooldown.
    pub(super) fn forget(&mut self) {
        self.account = None;
        self.models.clear();
    }

    /// Returns the cooldown of the account, also one that is over and not tested.
    pub(super) fn account(&self) -> Option<&Cooldown> {
        self.account.as_ref()
    }

    /// Returns the models in cooldown, and until when.
    pub(super) fn models(&self, now: Instant) -> impl Iterator<Item = (&Arc<str>, Instant)> {
        let cooldowns = self.models.iter().map(|(model, cooldown)| (model, cooldown.until));
        cooldowns.filter(move |&(_, until)| until > now)
    }

    /// Whether a submit of this model may be sent.
    ///
    /// # Errors
    ///
    /// The time when it may, where that is known.
    pub(super) fn check_model(&self, model: &str, now: Instant) -> Result<(), Option<Instant>> {
        self.models.get(model).map_or(Ok(()), |cooldown| cooldown.check(now))
    }

    /// Returns why a model is unavailable here: after [`MODEL_REFUSALS`] refusals, and at once where the account may not use
    /// the model, submits fail instead of waiting. A submit after each cooldown tests whether the model is available again.
    pub(super) fn unavailable(&self, model: &str, now: Instant) -> Option<&Failure> {
        let cooldown = self.models.get(model)?;
        ((cooldown.permanent || cooldown.refusals >= MODEL_REFUSALS) && cooldown.is_active(now))
            .then_some(&cooldown.reason)
    }

    /// Records that a submit of `model` is sent, which tests the cooldowns that exist.
    pub(super) fn on_sent(&mut self, model: &str) {
        self.set_testing(model, true);
    }

    /// Records that the upstream accepted a submit of `model`. Returns whether that ends a cooldown of the account.
    pub(super) fn on_accepted(&mut self, model: &str) -> bool {
        self.models.remove(model);
        self.account.take().is_some()
    }

    /// Records that the upstream refused a submit of `model` with a 429 that concerns the account. The key was good enough
    /// for an answer; whether a model's cooldown is over is still to be tested.
    pub(super) fn on_refused(&mut self, model: &str) {
        self.account = None;
        self.set_testing(model, false);
    }

    /// Records that the upstream has no channel for a model, for which the key was good enough. Returns the model's
    /// cooldown.
    pub(super) fn on_model_refused(
        &mut self,
        model: &Arc<str>,
        reason: Failure,
        retry_after: Option<Duration>,
        now: Instant,
    ) -> Duration {
        self.account = None;
        let new = || Cooldown::new(reason.clone(), now);
        let cooldown = self.models.entry(Arc::clone(model)).or_insert_with(new);
        let pause = retry_after.unwrap_or(cooldown.doubled(self.model_first)).min(self.model_max);
        cooldown.extend(reason, pause, now);
        cooldown.permanent = false;
        pause
    }

    /// Records that the account may not use a model, for which the key was good enough. Returns the model's cooldown, after
    /// which it is asked again.
    pub(super) fn on_permission_refused(&mut self, model: &Arc<str>, reason: Failure, now: Instant) -> Duration {
        self.account = None;
        let cooldown = self.models.entry(Arc::clone(model)).or_insert_with(|| Cooldown::new(reason.clone(), now));
        let pause = cooldown.doubled(FIRST_PERMISSION_COOLDOWN).min(self.account_max);
        cooldown.extend(reason, pause, now);
        cooldown.permanent = true;
        pause
    }

    /// Records that the upstream refused the key. Returns the account's cooldown.
    pub(super) fn on_key_refused(&mut self, model: &str, reason: Failure, now: Instant) -> Duration {
        self.set_testing(model, false);
        let cooldown = self.account.get_or_insert_with(|| Cooldown::new(reason.clone(), now));
        let pause = cooldown.doubled(FIRST_COOLDOWN).min(self.account_max);
        cooldown.until = now;
        cooldown.extend(reason, pause, now);
        pause
    }

    /// Records that a submit ended in a way that says nothing: whether a cooldown is over is still to be tested.
    pub(super) fn on_no_evidence(&mut self, model: &str) {
        self.set_testing(model, false);
    }

    fn set_testing(&mut self, model: &str, testing: bool) {
        for cooldown in self.account.iter_mut().chain(self.models.get_mut(model)) {
            cooldown.testing = testing;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn cooldowns() -> Cooldowns {
        Cooldowns::new(seconds(12), seconds(2), seconds(10))
    }

    fn key() -> Failure {
        Failure::KeyRefused { message: String::new() }
    }

    fn no_channel() -> Failure {
        Failure::ModelUnavailable { message: String::new() }
    }

    #[test]
    fn cooldowns_double_up_to_their_limits_and_end_with_an_acceptance() {
        let now = Instant::now();
        let mut cooldowns = cooldowns();
        let model: Arc<str> = "m".into();
        assert_eq!([5, 10, 12, 12].map(seconds), [(); 4].map(|()| cooldowns.on_key_refused(&model, key(), now)));
        let refused = |cooldowns: &mut Cooldowns, retry_after: Option<u64>| {
            cooldowns.on_model_refused(&model, no_channel(), retry_after.map(seconds), now)
        };
        for (retry_after, pause) in [(None, 2), (None, 4), (Some(1), 1), (None, 10), (Some(99), 10)] {
            assert_eq!(refused(&mut cooldowns, retry_after), seconds(pause));
        }
        assert!(!cooldowns.on_accepted(&model), "the answers about the model ended the account's");
        assert_eq!(cooldowns.check_model(&model, now), Ok(()));
        assert_eq!(refused(&mut cooldowns, None), seconds(2));
        cooldowns.on_key_refused(&model, key(), now);
        assert!(cooldowns.on_accepted(&model) && cooldowns.account().is_none());
    }

    #[test]
    fn a_model_is_unavailable_after_three_refusals_while_its_cooldown_lasts() {
        let now = Instant::now();
        let mut cooldowns = cooldowns();
        let model: Arc<str> = "m".into();
        for refusals in 1..=3 {
            cooldowns.on_model_refused(&model, no_channel(), None, now);
            assert_eq!(cooldowns.unavailable(&model, now).is_some(), refusals == 3);
        }
        let over = now + seconds(8);
        assert_eq!(cooldowns.models(now).collect::<Vec<_>>(), [(&model, over)]);
        assert_eq!(cooldowns.models(over).count(), 0);
        assert_eq!(cooldowns.unavailable(&model, over), None, "one submit tests it");
        cooldowns.on_sent(&model);
        assert_eq!(cooldowns.unavailable(&model, over), Some(&no_channel()), "until that is answered");
        assert_eq!(cooldowns.unavailable("other", now), None);
    }

    #[test]
    fn one_submit_tests_a_cooldown_that_is_over_until_its_outcome() {
        let now = Instant::now();
        for outcome in ["no evidence", "429", "key"] {
            let mut cooldowns = cooldowns();
            let over = now + cooldowns.on_model_refused(&"m".into(), no_channel(), None, now);
            assert_eq!(cooldowns.check_model("m", now), Err(Some(over)));
            assert_eq!(cooldowns.check_model("m", over), Ok(()));
            cooldowns.on_sent("m");
            assert_eq!(cooldowns.check_model("m", over), Err(None));
            assert_eq!(cooldowns.check_model("other", over), Ok(()));
            match outcome {
                "no evidence" => cooldowns.on_no_evidence("m"),
                "429" => cooldowns.on_refused("m"),
                _ => drop(cooldowns.on_key_refused("m", key(), over)),
            }
            assert_eq!(cooldowns.check_model("m", over), Ok(()), "{outcome}");
        }
    }

    /// Two submits are unacknowledged: the key is refused for one, and the other is answered in another way.
    #[test]
    fn a_refused_key_and_an_answer_in_both_orders() {
        let now = Instant::now();
        for answer in ["accepted", "429", "model"] {
            for key_first in [true, false] {
                let mut cooldowns = cooldowns();
                cooldowns.on_sent("m");
                cooldowns.on_sent("m");
                if key_first {
                    cooldowns.on_key_refused("m", key(), now);
                }
                match answer {
                    "accepted" => drop(cooldowns.on_accepted("m")),
                    "429" => cooldowns.on_refused("m"),
                    _ => drop(cooldowns.on_model_refused(&"m".into(), no_channel(), None, now)),
                }
                if !key_first {
                    cooldowns.on_key_refused("m", key(), now);
                }
                // The last answer decides, because any other answer shows that the key is good.
                let active = cooldowns.account().is_some_and(|cooldown| cooldown.is_active(now));
                assert_eq!(active, !key_first, "{answer}");
            }
        }
    }
}
