//! How slowly a body may arrive.
//!
//! A client has a credit of time, the whole span at the start. Waiting for its bytes uses it up; its bytes earn as much as
//! they may take at the slowest rate that is allowed, and never more than the span. So who is slower than that rate over
//! the span is cut, who only pauses is not, and who was fast at first has not earned an hour. Time that passes here, while
//! what came is being written, is not the client's.

use std::time::Duration;

use crate::config::ServerConfig;

/// One body's credit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// Zero: any.
    bytes_per_second_min: u64,
    credit: Duration,
    span: Duration,
}

impl Pace {
    pub(super) fn new(server: &ServerConfig) -> Self {
        let span = server.body_rate_window;
        Self {
            bytes_per_second_min: server.body_bytes_per_second_min.map_or(0, std::num::NonZeroU64::get),
            credit: span,
            span,
        }
    }

    /// The same with another credit at most, now and later.
    pub(super) fn within(self, span: Duration) -> Self {
        Self { credit: self.credit.min(span), span: self.span.min(span), ..self }
    }

    pub(super) fn bytes_per_second_min(&self) -> u64 {
        self.bytes_per_second_min
    }

    /// How much longer the next bytes may be waited for; `None` for ever.
    pub(super) fn left(&self) -> Option<Duration> {
        (self.bytes_per_second_min > 0).then_some(self.credit)
    }

    /// So many bytes have come, after so long a wait.
    pub(super) fn came(&mut self, bytes: usize, waited: Duration) {
        if self.bytes_per_second_min == 0 {
            return;
        }
        let nanos = (bytes as u128) * 1_000_000_000 / u128::from(self.bytes_per_second_min);
        let earned = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        self.credit = self.credit.saturating_sub(waited).saturating_add(earned).min(self.span);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::form::tests::server;

    const SECOND: Duration = Duration::from_secs(1);

    fn pace(bytes_per_second_min: u64) -> Pace {
        let mut config = server();
        config.body_bytes_per_second_min = std::num::NonZeroU64::new(bytes_per_second_min);
        config.body_rate_window = 10 * SECOND;
        Pace::new(&config)
    }

    /// After how many seconds a client is cut that sends so many bytes each second.
    fn cut_after(pace: &mut Pace, bytes: usize) -> Option<u32> {
        (1..1000).find(|_| {
            if pace.left().is_some_and(|left| left < SECOND) {
                return true;
            }
            pace.came(bytes, SECOND);
            false
        })
    }

    #[test]
    fn who_is_too_slow_over_the_span_is_cut_and_no_sooner() {
        assert_eq!(cut_after(&mut pace(1000), 0), Some(11));
        assert_eq!(cut_after(&mut pace(1000), 1), Some(11));
        assert_eq!(cut_after(&mut pace(1000), 500), Some(20));
        assert_eq!(cut_after(&mut pace(1000), 1000), None);
        assert_eq!(cut_after(&mut pace(0), 0), None);
        assert_eq!(pace(0).left(), None);
    }

    #[test]
    fn a_fast_start_earns_no_more_than_the_span() {
        let mut pace = pace(1000);
        pace.came(1 << 30, SECOND);
        assert_eq!(pace.left(), Some(10 * SECOND));
        pace.came(5000, 9 * SECOND);
        assert_eq!(pace.left(), Some(6 * SECOND), "a pause is made good by what follows");
        assert_eq!(pace.within(2 * SECOND).left(), Some(2 * SECOND));
    }
}
