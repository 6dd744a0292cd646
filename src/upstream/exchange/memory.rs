//! The memory of answers in progress: small ones need none of it, a few of medium size are received at once, and one larger
//! one.
//!
//! An answer waits for memory while its connection waits, so nothing of it is lost; the wait of a poll has a bound, because
//! its answer can be had again. No answer waits for one that waits for
//! it: a medium share is taken by an answer that has none, and the large one by an answer that needs no other.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::telemetry::Metrics;
use crate::upstream::{Finished, Output};

/// Bytes of an answer that need no share: an answer without pictures has a few thousand.
const SMALL_BYTES: usize = 64 * 1024;
/// Answers of medium size at once. They have half of the memory.
const MEDIUM_SHARES: usize = 4;
/// Memory that a byte of an answer takes, at most: as it arrived, as a value, and decoded.
const COST: usize = 3;

/// The memory that all answers in progress share.
#[derive(Clone, Debug)]
pub(super) struct AnswerMemory {
    medium: Arc<Semaphore>,
    large: Arc<Semaphore>,
    medium_bytes: usize,
    held: Gauge,
}

/// The memory of one answer, until it is dropped.
#[derive(Debug, Default)]
pub(super) struct AnswerShare {
    medium: Option<OwnedSemaphorePermit>,
    large: Option<OwnedSemaphorePermit>,
    counted: Option<CountedBytes>,
}

/// Bytes in the metric.
#[derive(Debug)]
struct CountedBytes {
    bytes: usize,
    held: Gauge,
}

impl Drop for CountedBytes {
    fn drop(&mut self) {
        self.held.dec_by(i64::try_from(self.bytes).unwrap_or(i64::MAX));
    }
}

impl AnswerMemory {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self {
            medium: Arc::new(Semaphore::new(MEDIUM_SHARES)),
            large: Arc::new(Semaphore::new(1)),
            medium_bytes: bytes_max / 2 / MEDIUM_SHARES / COST,
            held: Gauge::default(),
        }
    }

    pub(super) fn register(&self, metrics: &Metrics) {
        metrics.register("upstream", |registry| {
            registry.register("answer_bytes", "Bytes of answers of the upstream in memory", self.held.clone());
        });
    }

    /// Waits until an answer may grow to this number of bytes; returns how long that took.
    pub(super) async fn grow(&self, share: &mut AnswerShare, bytes: usize) -> Duration {
        let began = Instant::now();
        if bytes > SMALL_BYTES && share.medium.is_none() {
            share.medium = Arc::clone(&self.medium).acquire_owned().await.ok();
        }
        if bytes > self.medium_bytes && share.large.is_none() {
            share.large = Arc::clone(&self.large).acquire_owned().await.ok();
        }
        let counted = share.counted.get_or_insert_with(|| CountedBytes { bytes: 0, held: self.held.clone() });
        let more = bytes.saturating_sub(counted.bytes);
        self.held.inc_by(i64::try_from(more).unwrap_or(i64::MAX));
        counted.bytes += more;
        began.elapsed()
    }
}

impl AnswerShare {
    /// Keeps the memory until the pictures of an answer are dropped.
    pub(super) fn hold(self, finished: &mut Finished) {
        let share = Arc::new(self);
        for output in &mut finished.outputs {
            if let Output::Bytes(bytes) = output {
                *bytes = Bytes::from_owner(HeldBytes { bytes: std::mem::take(bytes), _share: Arc::clone(&share) });
            }
        }
    }
}

/// A picture within an answer.
struct HeldBytes {
    bytes: Bytes,
    _share: Arc<AnswerShare>,
}

impl AsRef<[u8]> for HeldBytes {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    const MB: usize = 1 << 20;

    #[tokio::test]
    async fn small_answers_need_no_share_and_others_take_turns() {
        let memory = AnswerMemory::new(24 * MB);
        let mut small = AnswerShare::default();
        let mut mediums: Vec<AnswerShare> = Vec::new();
        for _ in 0..MEDIUM_SHARES {
            let mut share = AnswerShare::default();
            memory.grow(&mut share, MB).await;
            mediums.push(share);
        }
        let mut next = AnswerShare::default();
        assert!(memory.grow(&mut next, SMALL_BYTES + 1).now_or_never().is_none(), "all shares are taken");
        assert!(memory.grow(&mut small, SMALL_BYTES).now_or_never().is_some());
        // One of them may become large; the next waits for it.
        let mut large = mediums.pop().unwrap();
        assert!(memory.grow(&mut large, 100 * MB).now_or_never().is_some());
        assert!(memory.grow(&mut mediums[0], MB + 1).now_or_never().is_none());
        assert_eq!(memory.held.get(), i64::try_from(103 * MB + SMALL_BYTES).unwrap());
        drop(large);
        assert!(memory.grow(&mut mediums[0], MB + 1).now_or_never().is_some());
        assert!(memory.grow(&mut next, MB).now_or_never().is_some());
        drop((mediums, next, small));
        assert_eq!(memory.held.get(), 0);
    }

    #[tokio::test]
    async fn pictures_keep_the_share_until_they_are_dropped() {
        let memory = AnswerMemory::new(24 * MB);
        let mut share = AnswerShare::default();
        memory.grow(&mut share, 2 * MB).await;
        let picture = || Output::Bytes(Bytes::from_static(b"picture"));
        let mut finished = Finished { outputs: vec![picture(), Output::Url("u".to_owned()), picture()], usage: None };
        share.hold(&mut finished);
        assert_eq!(finished.outputs[2], picture());
        assert_eq!((memory.large.available_permits(), memory.medium.available_permits()), (0, MEDIUM_SHARES - 1));
        let last = finished.outputs.pop();
        drop(finished);
        assert_eq!(memory.large.available_permits(), 0);
        drop(last);
        assert_eq!((memory.large.available_permits(), memory.medium.available_permits()), (1, MEDIUM_SHARES));
    }
}
