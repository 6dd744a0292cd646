//! Rate limits of one key, which a client of the service has to discover.
//!
//! Only accepted calls count, so a refusal uses no budget. A sliding window looks back from each call, a fixed window
//! restarts at every multiple of its length since the start of the world, and a token bucket refills evenly. The times
//! of accepted calls are kept, so that a changed limit, window or way of counting also applies to earlier calls.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::errors::Refusal;
use super::values::LimitKind;
use crate::simulator::scenario::{Limits, SubmitCounting};

/// The accepted calls of one key.
#[derive(Debug, Default)]
pub(crate) struct RateLimiter {
    submits: VecDeque<Instant>,
    bucket: Option<Bucket>,
    requests: VecDeque<Instant>,
    polls: VecDeque<Instant>,
}

impl RateLimiter {
    /// Counts a submit or a poll, or refuses it.
    pub(crate) fn count_request(&mut self, limits: &Limits, now: Instant) -> Result<(), Refusal> {
        let window = Duration::from_millis(limits.rate_window_ms);
        sliding(&mut self.requests, limits.requests_per_minute, window, now).map_err(|wait| {
            Refusal::too_many(LimitKind::Requests, "Request limit reached, please try again later", wait)
        })?;
        self.requests.push_back(now);
        Ok(())
    }

    /// Counts a poll, or refuses it.
    pub(crate) fn count_poll(&mut self, limits: &Limits, now: Instant) -> Result<(), Refusal> {
        sliding(&mut self.polls, limits.polls_per_second, Duration::from_secs(1), now)
            .map_err(|wait| Refusal::too_many(LimitKind::Rate, "Too many requests, please try again later", wait))?;
        self.polls.push_back(now);
        Ok(())
    }

    /// Fails when a submit would exceed its limit. The submit counts only after [`Self::count_submit`].
    pub(crate) fn check_submit(&mut self, limits: &Limits, epoch: Instant, now: Instant) -> Result<(), Refusal> {
        let (limit, window) = (limits.submits_per_minute, Duration::from_millis(limits.rate_window_ms));
        let fits = match limits.submit_counting {
            SubmitCounting::Sliding => sliding(&mut self.submits, limit, window, now),
            SubmitCounting::Fixed => fixed(&mut self.submits, limit, window, epoch, now),
            SubmitCounting::Bucket => self.bucket(limits, now).map_or(Ok(()), |bucket| bucket.check_one()),
        };
        fits.map_err(|wait| Refusal::too_many(LimitKind::Rate, "Rate limit exceeded, please try again later", wait))
    }

    /// Counts an accepted submit.
    pub(crate) fn count_submit(&mut self, limits: &Limits, now: Instant) {
        self.submits.push_back(now);
        if limits.submit_counting == SubmitCounting::Bucket
            && let Some(bucket) = self.bucket(limits, now)
        {
            bucket.tokens -= 1.0;
        }
    }

    /// Returns the bucket, refilled until now; none without a limit. A new bucket is full.
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
    /// The time for which `tokens` holds.
    at: Instant,
    /// Tokens a second, from `at` on.
    rate: f64,
}

impl Bucket {
    fn check_one(self) -> Result<(), Duration> {
        // A millionth covers rounding, so that a client that waits exactly `Retry-After` is accepted.
        let missing = 1.0 - 1e-6 - self.tokens;
        if missing <= 0.0 { Ok(()) } else { Err(Duration::from_secs_f64((1.0 - self.tokens) / self.rate)) }
    }
}

/// Fails with the time to wait when a call exceeds the window that ends now.
fn sliding(times: &mut VecDeque<Instant>, limit: u32, window: Duration, now: Instant) -> Result<(), Duration> {
    drop_expired(times, window, now);
    if limit == 0 || times.len() < limit as usize {
        return Ok(());
    }
    let oldest = times[times.len() - limit as usize];
    Err((oldest + window).saturating_duration_since(now))
}

/// Fails with the time to wait when a call exceeds the window that began at the last multiple of its length since
/// `epoch`.
fn fixed(
    times: &mut VecDeque<Instant>,
    limit: u32,
    window: Duration,
    epoch: Instant,
    now: Instant,
) -> Result<(), Duration> {
    drop_expired(times, window, now);
    let elapsed = now.saturating_duration_since(epoch).as_nanos() % window.as_nanos().max(1);
    let elapsed = Duration::from_nanos(u64::try_from(elapsed).unwrap_or(u64::MAX));
    let used = times.iter().rev().take_while(|&&time| time + elapsed >= now).count();
    if limit == 0 || used < limit as usize { Ok(()) } else { Err(window.saturating_sub(elapsed)) }
}

/// Drops the calls before the window.
fn drop_expired(times: &mut VecDeque<Instant>, window: Duration, now: Instant) {
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

    /// Returns how many of a hundred submits at once are accepted.
    fn burst(limiter: &mut RateLimiter, limits: &Limits, epoch: Instant, now: Instant) -> usize {
        let mut accepted = 0;
        for _ in 0..100 {
            if limiter.check_submit(limits, epoch, now).is_ok() {
                limiter.count_submit(limits, now);
                accepted += 1;
            }
        }
        accepted
    }

    #[test]
    fn the_ways_of_counting_differ_at_the_edge_of_a_window() {
        let epoch = Instant::now();
        let before = epoch + WINDOW - Duration::from_secs(1);
        let after = epoch + WINDOW + Duration::from_secs(1);
        for (counting, second) in
            [(SubmitCounting::Sliding, 0), (SubmitCounting::Fixed, 10), (SubmitCounting::Bucket, 0)]
        {
            let (mut limiter, limits) = (RateLimiter::default(), limits(counting, 10));
            assert_eq!(burst(&mut limiter, &limits, epoch, before), 10, "{counting:?}");
            assert_eq!(burst(&mut limiter, &limits, epoch, after), second, "{counting:?}");
        }
    }

    #[test]
    fn a_client_is_accepted_exactly_after_retry_after() {
        for counting in [SubmitCounting::Sliding, SubmitCounting::Fixed, SubmitCounting::Bucket] {
            let epoch = Instant::now();
            let (mut limiter, limits) = (RateLimiter::default(), limits(counting, 7));
            let mut now = epoch + Duration::from_secs(17);
            for round in 0..5 {
                burst(&mut limiter, &limits, epoch, now);
                let wait = limiter.check_submit(&limits, epoch, now).unwrap_err().retry_after.unwrap();
                let early = now + wait - Duration::from_millis(2);
                assert!(limiter.check_submit(&limits, epoch, early).is_err(), "{counting:?} {round}");
                now += wait;
                assert!(limiter.check_submit(&limits, epoch, now).is_ok(), "{counting:?} {round}");
            }
        }
    }

    #[test]
    fn a_bucket_refills_evenly_up_to_its_capacity_and_follows_a_changed_rate() {
        let epoch = Instant::now();
        let mut limiter = RateLimiter::default();
        let mut limits = Limits { submit_burst: 3, ..limits(SubmitCounting::Bucket, 60) };
        assert_eq!(burst(&mut limiter, &limits, epoch, epoch), 3);
        assert_eq!(burst(&mut limiter, &limits, epoch, epoch + Duration::from_secs(2)), 2);
        assert_eq!(burst(&mut limiter, &limits, epoch, epoch + WINDOW), 3);
        limits.submits_per_minute = 30;
        assert_eq!(burst(&mut limiter, &limits, epoch, epoch + WINDOW), 0);
        assert_eq!(burst(&mut limiter, &limits, epoch, epoch + WINDOW + Duration::from_secs(4)), 2);
        limits.submits_per_minute = 0;
        assert_eq!(burst(&mut limiter, &limits, epoch, epoch + 2 * WINDOW), 100);
    }

    #[test]
    fn a_changed_limit_applies_at_once_to_earlier_submits() {
        let epoch = Instant::now();
        let mut limiter = RateLimiter::default();
        assert_eq!(burst(&mut limiter, &limits(SubmitCounting::Sliding, 10), epoch, epoch), 10);
        assert_eq!(burst(&mut limiter, &limits(SubmitCounting::Sliding, 20), epoch, epoch), 10);
        assert_eq!(burst(&mut limiter, &limits(SubmitCounting::Fixed, 25), epoch, epoch), 5);
        assert_eq!(burst(&mut limiter, &limits(SubmitCounting::Sliding, 5), epoch, epoch), 0);
    }

    #[test]
    fn submits_and_polls_share_the_request_limit() {
        let (mut limiter, now) = (RateLimiter::default(), Instant::now());
        let limits = Limits { requests_per_minute: 2, ..Limits::default() };
        limiter.count_request(&limits, now).unwrap();
        limiter.count_request(&limits, now + Duration::from_secs(20)).unwrap();
        let refusal = limiter.count_request(&limits, now + Duration::from_secs(30)).unwrap_err();
        assert_eq!((refusal.limit, refusal.retry_after), (Some(LimitKind::Requests), Some(Duration::from_secs(30))));
        limiter.count_request(&limits, now + WINDOW).unwrap();
    }
}
