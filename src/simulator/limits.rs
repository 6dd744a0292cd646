//! What a key may do at a time: the hidden budgets that a client of the service has to find out.
//!
//! Only what was let through counts, so a refusal costs nothing but itself. A sliding window looks back from each
//! call; a fixed one begins anew at every multiple of its length since the start of the world, whoever calls; a bucket
//! fills evenly. What was let through is remembered by its time, so that a limit, a window or the way of counting can
//! change while running and holds at once, over what happened before.

use std::collections::VecDeque;
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use super::errors::Refusal;
use super::scenario::{Limits, SubmitCounting};

/// What refused a call with 429.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Limit {
    /// Submits in a window, or polls in a second.
    Rate,
    /// Predictions that have not ended.
    Concurrent,
    /// Submits and polls in a window.
    Requests,
    /// The least time between two polls of one prediction.
    Interval,
    /// The model has no channel.
    Channel,
    /// A fault that was ordered.
    Fault,
}

/// What one key was let through with.
#[derive(Debug, Default)]
pub(super) struct Meter {
    submits: VecDeque<Instant>,
    bucket: Option<Bucket>,
    requests: VecDeque<Instant>,
    polls: VecDeque<Instant>,
}

impl Meter {
    /// Counts a submit or a poll at the door, or refuses it.
    pub(super) fn enter(&mut self, limits: &Limits, now: Instant) -> Result<(), Refusal> {
        let window = Duration::from_millis(limits.rate_window_ms);
        sliding(&mut self.requests, limits.requests_per_minute, window, now).map_err(|wait| {
            Refusal::too_many(Limit::Requests, "Request limit reached, please try again later", wait)
        })?;
        self.requests.push_back(now);
        Ok(())
    }

    /// Counts a poll, or refuses it.
    pub(super) fn poll(&mut self, limits: &Limits, now: Instant) -> Result<(), Refusal> {
        sliding(&mut self.polls, limits.polls_per_second, Duration::from_secs(1), now)
            .map_err(|wait| Refusal::too_many(Limit::Rate, "Too many requests, please try again later", wait))?;
        self.polls.push_back(now);
        Ok(())
    }

    /// Whether a submit fits; it counts only when [`Self::submitted`] says that it was accepted.
    pub(super) fn may_submit(&mut self, limits: &Limits, epoch: Instant, now: Instant) -> Result<(), Refusal> {
        let (limit, window) = (limits.submits_per_minute, Duration::from_millis(limits.rate_window_ms));
        let fits = match limits.submit_counting {
            SubmitCounting::Sliding => sliding(&mut self.submits, limit, window, now),
            SubmitCounting::Fixed => fixed(&mut self.submits, limit, window, epoch, now),
            SubmitCounting::Bucket => self.bucket(limits, now).map_or(Ok(()), |bucket| bucket.has_one()),
        };
        fits.map_err(|wait| Refusal::too_many(Limit::Rate, "Rate limit exceeded, please try again later", wait))
    }

    /// Counts an accepted submit.
    pub(super) fn submitted(&mut self, limits: &Limits, now: Instant) {
        self.submits.push_back(now);
        if limits.submit_counting == SubmitCounting::Bucket
            && let Some(bucket) = self.bucket(limits, now)
        {
            bucket.tokens -= 1.0;
        }
    }

    /// The bucket as it stands now; none without a limit. A new one is full.
    fn bucket(&mut self, limits: &Limits, now: Instant) -> Option<&mut Bucket> {
        let rate = f64::from(limits.submits_per_minute) / Duration::from_millis(limits.rate_window_ms).as_secs_f64();
        if rate <= 0.0 || !rate.is_finite() {
            self.bucket = None;
            return None;
        }
        let size = if limits.submit_burst == 0 { limits.submits_per_minute } else { limits.submit_burst };
        let bucket = self.bucket.get_or_insert(Bucket { tokens: f64::from(size), at: now, rate });
        let gained = now.saturating_duration_since(bucket.at).as_secs_f64() * bucket.rate;
        *bucket = Bucket { tokens: (bucket.tokens + gained).min(f64::from(size)), at: now, rate };
        Some(bucket)
    }
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    tokens: f64,
    /// When `tokens` was right.
    at: Instant,
    /// Tokens a second, from `at` on.
    rate: f64,
}

impl Bucket {
    fn has_one(self) -> Result<(), Duration> {
        // A millionth, so that who waits exactly as told is let in.
        let missing = 1.0 - 1e-6 - self.tokens;
        if missing <= 0.0 { Ok(()) } else { Err(Duration::from_secs_f64((1.0 - self.tokens) / self.rate)) }
    }
}

/// Whether a call fits into the window that ends now, or how long it has to wait.
fn sliding(times: &mut VecDeque<Instant>, limit: u32, window: Duration, now: Instant) -> Result<(), Duration> {
    forget(times, window, now);
    if limit == 0 || times.len() < limit as usize {
        return Ok(());
    }
    let oldest = times[times.len() - limit as usize];
    Err((oldest + window).saturating_duration_since(now))
}

/// Whether a call fits into the window that began at the last multiple of its length since `epoch`.
fn fixed(
    times: &mut VecDeque<Instant>,
    limit: u32,
    window: Duration,
    epoch: Instant,
    now: Instant,
) -> Result<(), Duration> {
    forget(times, window, now);
    let gone = now.saturating_duration_since(epoch).as_nanos() % window.as_nanos().max(1);
    let gone = Duration::from_nanos(u64::try_from(gone).unwrap_or(u64::MAX));
    let used = times.iter().rev().take_while(|&&time| time + gone >= now).count();
    if limit == 0 || used < limit as usize { Ok(()) } else { Err(window.saturating_sub(gone)) }
}

/// Forgets what has left the window.
fn forget(times: &mut VecDeque<Instant>, window: Duration, now: Instant) {
    while times.front().is_some_and(|&first| first + window <= now) {
        times.pop_front();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_mins(1);

    fn limits(submit_counting: SubmitCounting, submits_per_minute: u32) -> Limits {
        Limits { submits_per_minute, submit_counting, ..Limits::default() }
    }

    /// How many submits of a hundred at once are let through.
    fn burst(meter: &mut Meter, limits: &Limits, epoch: Instant, now: Instant) -> usize {
        let mut accepted = 0;
        for _ in 0..100 {
            if meter.may_submit(limits, epoch, now).is_ok() {
                meter.submitted(limits, now);
                accepted += 1;
            }
        }
        accepted
    }

    #[test]
    fn the_ways_of_counting_differ_at_the_edge_of_a_window() {
        let epoch = Instant::now();
        let late = epoch + WINDOW - Duration::from_secs(1);
        let soon_after = epoch + WINDOW + Duration::from_secs(1);
        for (counting, second) in
            [(SubmitCounting::Sliding, 0), (SubmitCounting::Fixed, 10), (SubmitCounting::Bucket, 0)]
        {
            let (mut meter, limits) = (Meter::default(), limits(counting, 10));
            assert_eq!(burst(&mut meter, &limits, epoch, late), 10, "{counting:?}");
            assert_eq!(burst(&mut meter, &limits, epoch, soon_after), second, "{counting:?}");
        }
    }

    #[test]
    fn who_waits_as_told_is_let_in_and_not_before() {
        for counting in [SubmitCounting::Sliding, SubmitCounting::Fixed, SubmitCounting::Bucket] {
            let epoch = Instant::now();
            let (mut meter, limits) = (Meter::default(), limits(counting, 7));
            let mut now = epoch + Duration::from_secs(17);
            for round in 0..5 {
                burst(&mut meter, &limits, epoch, now);
                let wait = meter.may_submit(&limits, epoch, now).unwrap_err().retry_after.unwrap();
                let early = now + wait - Duration::from_millis(2);
                assert!(meter.may_submit(&limits, epoch, early).is_err(), "{counting:?} {round}");
                now += wait;
                assert!(meter.may_submit(&limits, epoch, now).is_ok(), "{counting:?} {round}");
            }
        }
    }

    #[test]
    fn a_bucket_fills_evenly_up_to_its_size_and_follows_a_changed_rate() {
        let epoch = Instant::now();
        let mut meter = Meter::default();
        let mut limits = Limits { submit_burst: 3, ..limits(SubmitCounting::Bucket, 60) };
        assert_eq!(burst(&mut meter, &limits, epoch, epoch), 3);
        assert_eq!(burst(&mut meter, &limits, epoch, epoch + Duration::from_secs(2)), 2);
        assert_eq!(burst(&mut meter, &limits, epoch, epoch + WINDOW), 3);
        limits.submits_per_minute = 30;
        assert_eq!(burst(&mut meter, &limits, epoch, epoch + WINDOW), 0);
        assert_eq!(burst(&mut meter, &limits, epoch, epoch + WINDOW + Duration::from_secs(4)), 2);
        limits.submits_per_minute = 0;
        assert_eq!(burst(&mut meter, &limits, epoch, epoch + 2 * WINDOW), 100);
    }

    #[test]
    fn a_changed_limit_holds_at_once_over_what_happened_before() {
        let epoch = Instant::now();
        let mut meter = Meter::default();
        assert_eq!(burst(&mut meter, &limits(SubmitCounting::Sliding, 10), epoch, epoch), 10);
        assert_eq!(burst(&mut meter, &limits(SubmitCounting::Sliding, 20), epoch, epoch), 10);
        assert_eq!(burst(&mut meter, &limits(SubmitCounting::Fixed, 25), epoch, epoch), 5);
        assert_eq!(burst(&mut meter, &limits(SubmitCounting::Sliding, 5), epoch, epoch), 0);
    }

    #[test]
    fn submits_and_polls_share_the_requests() {
        let (mut meter, now) = (Meter::default(), Instant::now());
        let limits = Limits { requests_per_minute: 2, ..Limits::default() };
        meter.enter(&limits, now).unwrap();
        meter.enter(&limits, now + Duration::from_secs(20)).unwrap();
        let refusal = meter.enter(&limits, now + Duration::from_secs(30)).unwrap_err();
        assert_eq!((refusal.limit, refusal.retry_after), (Some(Limit::Requests), Some(Duration::from_secs(30))));
        meter.enter(&limits, now + WINDOW).unwrap();
    }
}
