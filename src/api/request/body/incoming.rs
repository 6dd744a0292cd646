//! A request body as it arrives: bounded in size, rate and idle time, and never read faster than it is consumed.
//!
//! A compressed body is unpacked here; `incoming/unpack.rs` says which limit sees which bytes.
//!
//! A chunk that was unpacked took time and not the network's, so [`IncomingBody`] yields once after every such chunk.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use bytes::Bytes;
use futures_util::Stream;
use tokio::time::{Instant, Sleep, sleep};

use crate::api::error::ApiError;
use crate::api::middleware::min_rate::MinRateCheck;
use crate::config::BodyConfig;
use unpack::{Step, UnpackProblem, Unpacker};

mod unpack;

pub(crate) use unpack::ContentCoding;

/// The chunks of a body, in order, within the limits of the configuration.
#[derive(Debug)]
pub(crate) struct IncomingBody {
    body: BodyDataStream,
    /// `None` for a body that is not compressed.
    unpacker: Option<Unpacker>,
    bytes: BodyBytes,
    idle_timeout: Duration,
    min_rate: MinRateCheck,
    /// The read that is pending.
    pending: Option<PendingRead>,
    /// An unpacked chunk was returned, so the next poll yields once.
    yield_due: bool,
    ended: bool,
}

/// The bytes of a body so far, and their limit.
#[derive(Debug)]
struct BodyBytes {
    /// As they came.
    arrived: u64,
    /// As they were returned: unpacked.
    returned: u64,
    max: u64,
}

impl BodyBytes {
    fn check(&self) -> Result<(), BodyError> {
        let Self { arrived, returned, max } = *self;
        if arrived > max || returned > max { Err(BodyError::TooLarge { bytes_max: max }) } else { Ok(()) }
    }
}

/// A pending read: its start, and the time at which it fails.
#[derive(Debug)]
struct PendingRead {
    since: Instant,
    timeout: Pin<Box<Sleep>>,
    /// The minimum rate is what ends it, before the idle timeout.
    too_slow: bool,
}

/// Why a body could not be read to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    #[error("the body is larger than {bytes_max} bytes")]
    TooLarge { bytes_max: u64 },
    #[error("no more bytes of the body arrived")]
    Idle,
    #[error("the body arrives at less than {bytes_per_second} bytes per second")]
    TooSlow { bytes_per_second: u64 },
    #[error("the body broke off: {0}")]
    Broken(axum::Error),
    #[error("the body cannot be unpacked: {0}")]
    Packed(UnpackProblem),
}

impl From<BodyError> for ApiError {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::TooLarge { bytes_max } => Self::BodyTooLarge { bytes_max },
            BodyError::Idle => Self::BodyTimeout,
            BodyError::TooSlow { bytes_per_second } => Self::BodyTooSlow { bytes_per_second },
            BodyError::Broken(_) => Self::MalformedBody { problem: "it broke off before its end".into() },
            BodyError::Packed(UnpackProblem::Busy) => Self::SpoolFull,
            BodyError::Packed(problem) => Self::MalformedBody { problem: problem.to_string().into() },
        }
    }
}

impl IncomingBody {
    pub(crate) fn new(body: Body, bodies: &BodyConfig) -> Self {
        Self {
            body: body.into_data_stream(),
            unpacker: None,
            bytes: BodyBytes { arrived: 0, returned: 0, max: bodies.bytes_max },
            idle_timeout: bodies.idle_timeout,
            min_rate: MinRateCheck::new(bodies),
            pending: None,
            yield_due: false,
            ended: false,
        }
    }

    /// Unpacks a body that is compressed.
    pub(crate) fn unpacking(self, coding: Option<ContentCoding>) -> Self {
        Self { unpacker: coding.map(Unpacker::new), ..self }
    }

    /// Polls for the next chunk, and fails when a limit is exceeded.
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        loop {
            if let Some(unpacker) = &mut self.unpacker {
                match unpacker.step() {
                    Ok(Step::Unpacked(chunk)) => return Poll::Ready(Some(self.count(chunk))),
                    Ok(Step::Working) => {
                        cx.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                    Ok(Step::Starved) => {}
                    Ok(Step::Ended) => return Poll::Ready(None),
                    Err(problem) => return Poll::Ready(Some(Err(BodyError::Packed(problem)))),
                }
            }
            let Some(chunk) = ready!(self.poll_arriving(cx))? else {
                let Some(unpacker) = &mut self.unpacker else { return Poll::Ready(None) };
                unpacker.finish();
                continue;
            };
            match &mut self.unpacker {
                Some(unpacker) => unpacker.give(chunk),
                None => return Poll::Ready(Some(self.count(chunk))),
            }
        }
    }

    /// Counts a chunk for the reader.
    fn count(&mut self, chunk: Bytes) -> Result<Bytes, BodyError> {
        self.bytes.returned += chunk.len() as u64;
        self.bytes.check()?;
        self.yield_due = self.unpacker.is_some();
        Ok(chunk)
    }

    /// Polls for the next bytes of the sender, and fails when they are too many or come too slowly.
    fn poll_arriving(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, BodyError>> {
        match Pin::new(&mut self.body).poll_next(cx) {
            Poll::Ready(None) => Poll::Ready(Ok(None)),
            Poll::Ready(Some(Err(error))) => Poll::Ready(Err(BodyError::Broken(error))),
            Poll::Ready(Some(Ok(chunk))) => {
                let waited = self.pending.take().map_or(Duration::ZERO, |pending| pending.since.elapsed());
                self.min_rate.received(chunk.len(), waited);
                self.bytes.arrived += chunk.len() as u64;
                Poll::Ready(self.bytes.check().map(|()| Some(chunk)))
            }
            Poll::Pending => {
                // Only the time spent waiting counts, not the time it took to write the last chunk.
                let (idle, left) = (self.idle_timeout, self.min_rate.time_left().unwrap_or(Duration::MAX));
                let pending = self.pending.get_or_insert_with(|| PendingRead {
                    since: Instant::now(),
                    timeout: Box::pin(sleep(idle.min(left))),
                    too_slow: left < idle,
                });
                ready!(pending.timeout.as_mut().poll(cx));
                Poll::Ready(Err(if pending.too_slow {
                    BodyError::TooSlow { bytes_per_second: self.min_rate.bytes_per_second_min() }
                } else {
                    BodyError::Idle
                }))
            }
        }
    }
}

impl Stream for IncomingBody {
    type Item = Result<Bytes, BodyError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        if std::mem::take(&mut self.yield_due) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let chunk = ready!(self.poll_chunk(cx));
        self.ended = !matches!(chunk, Some(Ok(_)));
        Poll::Ready(chunk)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::num::NonZeroU64;

    use futures_util::{StreamExt, stream};

    use super::*;
    use crate::api::request::test_support::server;

    fn endless(chunk: &'static [u8]) -> Body {
        Body::from_stream(stream::repeat_with(move || Ok::<_, Infallible>(chunk)))
    }

    #[tokio::test]
    async fn polling_yields_after_every_chunk_that_was_unpacked() {
        let packed = Body::from(gzip(&vec![b' '; 1_000_000]));
        let mut incoming = IncomingBody::new(packed, &server().bodies).unpacking(Some(ContentCoding::Gzip));
        let mut chunks = 0;
        loop {
            match futures_util::poll!(incoming.next()) {
                Poll::Ready(None) => break,
                Poll::Ready(Some(chunk)) => assert!(chunk.is_ok()),
                Poll::Pending => continue,
            }
            chunks += 1;
            assert!(futures_util::poll!(incoming.next()).is_pending());
        }
        assert!(chunks > 10, "{chunks}");
    }

    #[tokio::test]
    async fn a_body_ends_at_its_size_limit() {
        let mut config = server().bodies;
        config.bytes_max = 10;
        let mut incoming = IncomingBody::new(endless(b"four"), &config);
        assert!(incoming.next().await.unwrap().is_ok());
        assert!(incoming.next().await.unwrap().is_ok());
        let error = incoming.next().await.unwrap().unwrap_err();
        assert!(matches!(error, BodyError::TooLarge { bytes_max: 10 }), "{error}");
        assert!(incoming.next().await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn only_an_idle_or_a_slow_body_fails() {
        let mut config = server().bodies;
        config.bytes_per_second_min = None;
        config.idle_timeout = Duration::from_millis(200);
        let slow = stream::unfold(0, |count| async move {
            tokio::time::sleep(Duration::from_millis(50)).await;
            (count < 6).then_some((Ok::<_, Infallible>("x"), count + 1))
        });
        let incoming = IncomingBody::new(Body::from_stream(slow), &config);
        let whole = incoming.filter(|chunk| std::future::ready(chunk.is_ok()));
        assert_eq!(whole.count().await, 6, "longer than the timeout in total, never between two chunks");

        config.bytes_per_second_min = NonZeroU64::new(20);
        config.rate_window = Duration::from_secs(1);
        let slow = Body::from_stream(stream::unfold((), |()| async {
            sleep(Duration::from_millis(100)).await;
            Some((Ok::<_, Infallible>("x"), ()))
        }));
        let started = Instant::now();
        let error = IncomingBody::new(slow, &config).filter_map(async |chunk| chunk.err());
        let error = std::pin::pin!(error).next().await.unwrap();
        assert!(matches!(error, BodyError::TooSlow { bytes_per_second: 20 }), "{error}");
        let (window, duration) = (config.rate_window, started.elapsed());
        assert!(duration > window && duration < window * 9 / 4, "half the rate uses up the window in twice its length");

        let idle = Body::from_stream(stream::pending::<Result<Bytes, Infallible>>());
        let error = IncomingBody::new(idle, &config).next().await.unwrap().unwrap_err();
        assert!(matches!(error, BodyError::Idle), "{error}");
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        std::io::Write::write_all(&mut encoder, bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[tokio::test]
    async fn a_compressed_body_is_limited_as_it_is_unpacked() {
        let bomb = gzip(&vec![b' '; 50_000_000]);
        assert!(bomb.len() < 60_000);
        let mut config = server().bodies;
        config.bytes_max = 1_000_000;
        let mut incoming = IncomingBody::new(Body::from(bomb), &config).unpacking(Some(ContentCoding::Gzip));
        let mut unpacked = 0;
        let error = loop {
            match incoming.next().await.unwrap() {
                Ok(chunk) => unpacked += chunk.len() as u64,
                Err(error) => break error,
            }
        };
        assert!(matches!(error, BodyError::TooLarge { bytes_max: 1_000_000 }), "{error}");
        assert!(unpacked <= 1_000_000);
        // Members that unpack to nothing have no end of their own.
        config.bytes_max = 10_000;
        let empty = gzip(b"").repeat(1000);
        let mut incoming = IncomingBody::new(Body::from(empty), &config).unpacking(Some(ContentCoding::Gzip));
        let error = incoming.next().await.unwrap().unwrap_err();
        assert!(matches!(error, BodyError::TooLarge { .. }), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_compressed_body_must_arrive_at_the_minimum_rate() {
        let mut config = server().bodies;
        config.idle_timeout = Duration::from_millis(200);
        let packed = gzip(&vec![b' '; 100_000]);
        let start = Bytes::copy_from_slice(&packed[..packed.len() / 2]);
        let stalled = stream::once(async { Ok::<_, Infallible>(start) }).chain(stream::pending());
        let incoming = IncomingBody::new(Body::from_stream(stalled), &config).unpacking(Some(ContentCoding::Gzip));
        let error = incoming.filter_map(async |chunk| chunk.err());
        let error = std::pin::pin!(error).next().await.unwrap();
        assert!(matches!(error, BodyError::Idle), "{error}");
    }
}
