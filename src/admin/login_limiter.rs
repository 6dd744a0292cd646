//! How often the admin token may be guessed: by source address, so that the guesses of one address never keep another one out.
//!
//! A source has a few attempts at once, and gets another one from time to time. While many sources fail, a source that has failed
//! gets none until its time has passed, and a new one has a single attempt. A right token resets its source.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use tokio::time::Instant;

use crate::server::listener::Peer;

/// Attempts that a source has at once.
const ATTEMPTS: u32 = 5;
/// The same while many sources fail.
const ATTEMPTS_UNDER_ATTACK: u32 = 1;
/// The time until a source has another attempt.
const REFILL: Duration = Duration::from_secs(30);
/// Failures of all sources in [`WINDOW`] from which on many sources fail.
const FAILURES_MAX: u32 = 60;
const WINDOW: Duration = Duration::from_mins(1);
/// Sources that are remembered; the one that failed longest ago gives way.
const SOURCES_MAX: usize = 4096;

/// Where a request comes from: an address, of which IPv6 has one network for each subscriber.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Source {
    V4([u8; 4]),
    V6Network([u16; 4]),
    Local,
}

impl Source {
    pub(super) fn of(peer: Option<&Peer>) -> Self {
        match peer {
            Some(Peer::Network(address)) => match address.ip().to_canonical() {
                IpAddr::V4(address) => Self::V4(address.octets()),
                IpAddr::V6(address) => {
                    let [a, b, c, d, ..] = address.segments();
                    Self::V6Network([a, b, c, d])
                }
            },
            Some(Peer::Local) | None => Self::Local,
        }
    }
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match *self {
            Self::V4(octets) => std::net::Ipv4Addr::from(octets).fmt(f),
            Self::V6Network(network) => {
                let mut segments = [0; 8];
                segments[..network.len()].copy_from_slice(&network);
                write!(f, "{}/64", std::net::Ipv6Addr::from(segments))
            }
            Self::Local => f.write_str("the Unix socket"),
        }
    }
}

/// The failed attempts.
#[derive(Debug)]
pub(super) struct LoginLimiter {
    sources: HashMap<Source, Failures>,
    window_began: Instant,
    in_window: u32,
}

#[derive(Clone, Copy, Debug)]
struct Failures {
    count: u32,
    /// When the last one was, or was forgiven.
    at: Instant,
}

impl LoginLimiter {
    pub(super) fn new(now: Instant) -> Self {
        Self { sources: HashMap::new(), window_began: now, in_window: 0 }
    }

    /// Whether a source may try.
    ///
    /// # Errors
    ///
    /// The time until it may.
    pub(super) fn check(&mut self, source: Source, now: Instant) -> Result<(), Duration> {
        if now.saturating_duration_since(self.window_began) >= WINDOW {
            (self.window_began, self.in_window) = (now, 0);
        }
        let allowed = if self.in_window >= FAILURES_MAX { ATTEMPTS_UNDER_ATTACK } else { ATTEMPTS };
        let Some(failures) = self.sources.get_mut(&source) else { return Ok(()) };
        failures.forgive(now);
        if failures.count < allowed {
            return Ok(());
        }
        let missing = failures.count - allowed + 1;
        Err((failures.at + REFILL * missing).saturating_duration_since(now))
    }

    /// Records an attempt with a wrong token.
    pub(super) fn on_failure(&mut self, source: Source, now: Instant) {
        self.in_window = self.in_window.saturating_add(1);
        if !self.sources.contains_key(&source) && self.sources.len() >= SOURCES_MAX {
            let oldest = self.sources.iter().min_by_key(|(_, failures)| failures.at).map(|(source, _)| *source);
            oldest.map(|oldest| self.sources.remove(&oldest));
        }
        let failures = self.sources.entry(source).or_insert(Failures { count: 0, at: now });
        failures.forgive(now);
        if failures.count == 0 {
            failures.at = now;
        }
        failures.count += 1;
    }

    /// Records an attempt with the right token.
    pub(super) fn on_success(&mut self, source: Source) {
        self.sources.remove(&source);
    }
}

impl Failures {
    /// Forgives one failure for each [`REFILL`] that has passed.
    fn forgive(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.at).as_secs() / REFILL.as_secs();
        let forgiven = u32::try_from(passed).unwrap_or(u32::MAX).min(self.count);
        self.count -= forgiven;
        self.at = if self.count == 0 { now } else { self.at + REFILL * forgiven };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(number: u8) -> Source {
        Source::V4([10, 0, 0, number])
    }

    #[test]
    fn a_source_has_five_attempts_and_one_more_every_half_minute() {
        let start = Instant::now();
        let mut limiter = LoginLimiter::new(start);
        let mut guesses = 0;
        for second in 0..300 {
            let now = start + Duration::from_secs(second);
            while limiter.check(source(1), now).is_ok() {
                limiter.on_failure(source(1), now);
                guesses += 1;
            }
            assert_eq!(limiter.check(source(2), now), Ok(()), "another source is not kept out");
        }
        assert_eq!(guesses, 5 + 9);
        let wait = limiter.check(source(1), start + Duration::from_mins(5)).err();
        assert_eq!(wait, None, "it is due again");
        limiter.on_success(source(1));
        assert!(limiter.sources.is_empty());
    }

    #[test]
    fn the_named_wait_is_enough() {
        let start = Instant::now();
        let mut limiter = LoginLimiter::new(start);
        (0..5).for_each(|_| limiter.on_failure(source(1), start));
        let wait = limiter.check(source(1), start).unwrap_err();
        assert_eq!(wait, REFILL);
        assert!(limiter.check(source(1), start + wait - Duration::from_millis(1)).is_err());
        assert_eq!(limiter.check(source(1), start + wait), Ok(()));
    }

    #[test]
    fn many_sources_have_one_attempt_each_and_are_bounded_in_memory() {
        let start = Instant::now();
        let mut limiter = LoginLimiter::new(start);
        for number in 0..60 {
            limiter.on_failure(source(number), start);
        }
        assert!(limiter.check(source(0), start).is_err(), "it has failed once");
        assert_eq!(limiter.check(source(200), start), Ok(()), "a new one is not kept out");
        for number in 0..10_000_u16 {
            limiter.on_failure(Source::V6Network([number, 0, 0, 0]), start);
        }
        assert_eq!(limiter.sources.len(), SOURCES_MAX);
        let later = start + WINDOW;
        assert_eq!(limiter.check(source(0), later), Ok(()));
    }

    #[test]
    fn addresses_of_one_network_are_one_source() {
        let of = |text: &str| Source::of(Some(&Peer::Network(text.parse().unwrap())));
        assert_eq!(of("[2001:db8::1]:1"), of("[2001:db8::ffff:2]:9"));
        assert_ne!(of("[2001:db8::1]:1"), of("[2001:db8:0:1::1]:1"));
        assert_eq!(of("[::ffff:10.0.0.1]:1"), of("10.0.0.1:2"));
        assert_ne!(of("10.0.0.1:1"), of("10.0.0.2:1"));
    }
}
