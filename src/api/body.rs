//! A request body as it arrives: bounded, watched for standstill and crawl, and never faster than it is read.
//!
//! `multer` polls its input until that is pending and keeps all it gets, so a body that is always ready would be
//! buffered whole. [`Arriving`] therefore rests once after every chunk. And as a part's head is buffered until it is
//! complete, [`Appetite`] bounds how much may be read between two parts.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use bytes::Bytes;
use futures_util::Stream;
use tokio::time::{Instant, Sleep, sleep};

use super::error::ApiError;
use super::pace::Pace;
use crate::config::ServerConfig;

/// Longest head of a part of a form, in bytes, give or take a chunk.
const HEAD_BYTES_MAX: u64 = 16 * 1024;

/// The chunks of a body, in order.
#[derive(Debug)]
pub(super) struct Arriving {
    body: BodyDataStream,
    bytes: u64,
    bytes_max: u64,
    idle_timeout: Duration,
    pace: Pace,
    /// Runs while the body is awaited.
    awaited: Option<Awaited>,
    rest_due: bool,
    ended: bool,
    unclaimed: Arc<AtomicU64>,
}

/// Since when the next bytes are awaited, and until when.
#[derive(Debug)]
struct Awaited {
    since: Instant,
    end: Pin<Box<Sleep>>,
    /// It ends because the body is too slow, before it would because nothing comes.
    too_slow: bool,
}

/// Why a body could not be read to its end.
#[derive(Debug, thiserror::Error)]
pub(super) enum BodyError {
    #[error("the body is larger than {bytes_max} bytes")]
    TooLarge { bytes_max: u64 },
    #[error("the body stopped arriving")]
    Stopped,
    #[error("the body arrives at less than {bytes_per_second} bytes a second")]
    TooSlow { bytes_per_second: u64 },
    #[error("the body broke off: {0}")]
    Broken(axum::Error),
    #[error("the head of a part is too long")]
    HeadTooLong,
}

impl From<BodyError> for ApiError {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::TooLarge { bytes_max } => Self::BodyTooLarge { bytes_max },
            BodyError::Stopped => Self::BodyStopped,
            BodyError::TooSlow { bytes_per_second } => Self::BodyTooSlow { bytes_per_second },
            BodyError::Broken(_) => Self::MalformedBody { problem: "it broke off before its end".into() },
            BodyError::HeadTooLong => {
                Self::MalformedBody { problem: "the head of a part of the form is too long".into() }
            }
        }
    }
}

/// Says that what was read so far has been used, so that as much again may be read.
#[derive(Clone, Debug)]
pub(super) struct Appetite(Arc<AtomicU64>);

impl Appetite {
    pub(super) fn renew(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

impl Arriving {
    pub(super) fn new(body: Body, server: &ServerConfig) -> Self {
        Self {
            body: body.into_data_stream(),
            bytes: 0,
            bytes_max: server.body_bytes_max,
            idle_timeout: server.body_idle_timeout,
            pace: Pace::new(server),
            awaited: None,
            rest_due: false,
            ended: false,
            unclaimed: Arc::default(),
        }
    }

    /// Whoever calls this must renew the appetite; without an [`Appetite`] there is no such bound.
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        match Pin::new(&mut self.body).poll_next(cx) {
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(BodyError::Broken(error)))),
            Poll::Ready(Some(Ok(chunk))) => {
                let waited = self.awaited.take().map_or(Duration::ZERO, |awaited| awaited.since.elapsed());
                self.pace.came(chunk.len(), waited);
                self.bytes += chunk.len() as u64;
                if self.bytes > self.bytes_max {
                    let bytes_max = self.bytes_max;
                    return Poll::Ready(Some(Err(BodyError::TooLarge { bytes_max })));
                }
                let unclaimed = self.unclaimed.fetch_add(chunk.len() as u64, Ordering::Relaxed);
                if unclaimed > HEAD_BYTES_MAX {
                    return Poll::Ready(Some(Err(BodyError::HeadTooLong)));
                }
                self.rest_due = true;
                Poll::Ready(Some(Ok(chunk)))
            }
            Poll::Pending => {
                // Only time spent waiting counts, not the time the last chunk took to be written.
                let (idle, left) = (self.idle_timeout, self.pace.left().unwrap_or(Duration::MAX));
                let awaited = self.awaited.get_or_insert_with(|| Awaited {
                    since: Instant::now(),
                    end: Box::pin(sleep(idle.min(left))),
                    too_slow: left < idle,
                });
                ready!(awaited.end.as_mut().poll(cx));
                Poll::Ready(Some(Err(if awaited.too_slow {
                    BodyError::TooSlow { bytes_per_second: self.pace.bytes_per_second_min() }
                } else {
                    BodyError::Stopped
                })))
            }
        }
    }

    pub(super) fn appetite(&self) -> Appetite {
        Appetite(Arc::clone(&self.unclaimed))
    }
}

impl Stream for Arriving {
    type Item = Result<Bytes, BodyError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        if std::mem::take(&mut self.rest_due) {
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

    use futures_util::{StreamExt, stream};

    use super::*;
    use crate::api::form::tests::server;

    fn endless(chunk: &'static [u8]) -> Body {
        Body::from_stream(stream::repeat_with(move || Ok::<_, Infallible>(chunk)))
    }

    #[tokio::test]
    async fn it_rests_after_every_chunk() {
        let mut arriving = Arriving::new(endless(b"x"), &server());
        let mut cx = Context::from_waker(std::task::Waker::noop());
        for _ in 0..10 {
            assert!(arriving.poll_next_unpin(&mut cx).is_ready());
            assert!(arriving.poll_next_unpin(&mut cx).is_pending());
        }
    }

    #[tokio::test]
    async fn it_ends_at_its_limits() {
        let mut config = server();
        config.body_bytes_max = 10;
        let mut arriving = Arriving::new(endless(b"four"), &config);
        assert!(arriving.next().await.unwrap().is_ok());
        assert!(arriving.next().await.unwrap().is_ok());
        let error = arriving.next().await.unwrap().unwrap_err();
        assert!(matches!(error, BodyError::TooLarge { bytes_max: 10 }), "{error}");
        assert!(arriving.next().await.is_none());
    }

    #[tokio::test]
    async fn what_is_not_claimed_is_bounded() {
        let mut arriving = Arriving::new(endless(&[0; 1024]), &server());
        let appetite = arriving.appetite();
        for _ in 0..100 {
            appetite.renew();
            assert!(arriving.next().await.unwrap().is_ok());
        }
        let mut taken = 0;
        while let Some(Ok(chunk)) = arriving.next().await {
            taken += chunk.len() as u64;
        }
        assert!(taken <= HEAD_BYTES_MAX + 1024, "{taken}");
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_standstill_or_a_crawl_is_given_up() {
        let mut config = server();
        config.body_bytes_per_second_min = None;
        config.body_idle_timeout = Duration::from_millis(200);
        let slow = stream::unfold(0, |count| async move {
            tokio::time::sleep(Duration::from_millis(50)).await;
            (count < 6).then_some((Ok::<_, Infallible>("x"), count + 1))
        });
        let arriving = Arriving::new(Body::from_stream(slow), &config);
        let whole = arriving.filter(|chunk| std::future::ready(chunk.is_ok()));
        assert_eq!(whole.count().await, 6, "longer in all than the time-out, never that long between two");

        config.body_bytes_per_second_min = std::num::NonZeroU64::new(20);
        config.body_rate_window = Duration::from_secs(1);
        let crawling = Body::from_stream(stream::unfold((), |()| async {
            sleep(Duration::from_millis(100)).await;
            Some((Ok::<_, Infallible>("x"), ()))
        }));
        let began = Instant::now();
        let error = Arriving::new(crawling, &config).filter_map(async |chunk| chunk.err());
        let error = std::pin::pin!(error).next().await.unwrap();
        assert!(matches!(error, BodyError::TooSlow { bytes_per_second: 20 }), "{error}");
        let (span, took) = (config.body_rate_window, began.elapsed());
        assert!(took > span && took < span * 9 / 4, "half the rate uses up the credit in twice the span: {took:?}");

        let stuck = Body::from_stream(stream::pending::<Result<Bytes, Infallible>>());
        let error = Arriving::new(stuck, &config).next().await.unwrap().unwrap_err();
        assert!(matches!(error, BodyError::Stopped), "{error}");
    }
}
