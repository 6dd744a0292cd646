//! Whether a connection still lives: how long it may be silent, and who tells when it was too long.
//!
//! Wanted: a peer that sends no request, none of a request's end, or takes nothing of an answer is cut, each after a time
//! of its own; a peer whose request is being worked on is never cut, however long that takes; and a connection costs one
//! timer at most, which is not touched by what goes on but looks, when it ends, at what went on meanwhile.
//!
//! - *Waiting*: no request is in service. From the opening, or from the first byte of the next head, the head's own time
//!   runs; from the end of the last answer the idle time does.
//! - *Blocked*: bytes are to be written and the peer takes none.
//! - *Stalled*, over HTTP/2: a piece of an answer was handed over and no further one asked for, because the peer's window
//!   is shut. The socket itself may write on (answers to pings), so this does not show as blocked.
//!
//! The timer never sleeps longer than the shortest of these times, so a deadline that is set while it sleeps is not missed.
//! When nothing runs, as while a request is being worked on, it rests until something does: ten thousand clients that wait
//! for their pictures have no timers.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::limits::ConnectionLimits;

/// No deadline, in milliseconds since the opening.
const NONE: u64 = u64::MAX;

/// Why a connection is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Cut {
    /// The head of a request did not come in time.
    Header,
    /// The next request did not.
    Idle,
    /// The peer took nothing of an answer.
    Write,
    /// Somebody else needs its place more.
    Evicted,
}

/// One connection's signs of life.
#[derive(Debug)]
pub(super) struct ConnectionTimers {
    opened: Instant,
    header: Duration,
    idle: Duration,
    write: Duration,
    tick: Duration,
    /// Until when a request must have come, or its head be whole.
    waiting_until: AtomicU64,
    /// That time is the head's, not the idle one's.
    in_head: AtomicBool,
    /// Until when the peer must take something.
    blocked_until: AtomicU64,
    in_service: AtomicUsize,
    /// Between two requests bytes are no beginning of a head there, but pings and the like.
    is_http2: AtomicBool,
    evicted: AtomicBool,
    /// The timer rests and must be told.
    resting: AtomicBool,
    wake: Notify,
    /// The answers of HTTP/2 that are under way.
    streams: Mutex<Vec<Weak<Stream>>>,
}

/// One answer of HTTP/2.
#[derive(Debug)]
struct Stream {
    /// When a piece was handed over after which no other was asked for.
    handed_at: AtomicU64,
}

impl ConnectionTimers {
    /// Of a connection that opens now.
    pub(super) fn new(limits: &ConnectionLimits) -> Arc<Self> {
        let pulse = Self {
            opened: Instant::now(),
            header: limits.header_timeout,
            idle: limits.keep_alive_timeout,
            write: limits.write_timeout,
            tick: limits.tick(),
            waiting_until: AtomicU64::new(NONE),
            in_head: AtomicBool::new(true),
            blocked_until: AtomicU64::new(NONE),
            in_service: AtomicUsize::new(0),
            is_http2: AtomicBool::new(false),
            evicted: AtomicBool::new(false),
            resting: AtomicBool::new(false),
            wake: Notify::new(),
            streams: Mutex::default(),
        };
        pulse.waiting_until.store(pulse.after(pulse.header), Ordering::Release);
        Arc::new(pulse)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(NONE - 1)
    }

    fn after(&self, pause: Duration) -> u64 {
        self.now().saturating_add(u64::try_from(pause.as_millis()).unwrap_or(NONE)).min(NONE - 1)
    }

    /// A request has come, and is in service until every clone of what is returned has been dropped.
    pub(super) fn request(self: &Arc<Self>, is_http2: bool) -> Arc<Service> {
        self.in_service.fetch_add(1, Ordering::AcqRel);
        self.waiting_until.store(NONE, Ordering::Release);
        self.in_head.store(false, Ordering::Relaxed);
        if is_http2 {
            self.is_http2.store(true, Ordering::Relaxed);
        }
        Arc::new(Service { pulse: Arc::clone(self) })
    }

    /// Bytes have come.
    fn received(&self) {
        let between = self.in_service.load(Ordering::Acquire) == 0 && !self.is_http2.load(Ordering::Relaxed);
        if between && !self.in_head.swap(true, Ordering::Relaxed) {
            self.waiting_until.store(self.after(self.header), Ordering::Release);
            self.rouse();
        }
    }

    fn blocked(&self) {
        if self.blocked_until.load(Ordering::Relaxed) == NONE {
            self.blocked_until.store(self.after(self.write), Ordering::Relaxed);
            self.rouse();
        }
    }

    fn moved(&self) {
        if self.blocked_until.load(Ordering::Relaxed) != NONE {
            self.blocked_until.store(NONE, Ordering::Relaxed);
        }
    }

    /// The connection is being closed: what is left has so long to be written.
    pub(super) fn closing(&self) {
        self.waiting_until.store(self.after(self.write), Ordering::Release);
    }

    /// How long no request has been in service; `None` while one is.
    pub(super) fn waits_since(&self) -> Option<Duration> {
        let until = self.waiting_until.load(Ordering::Acquire);
        if until == NONE || self.in_service.load(Ordering::Acquire) > 0 {
            return None;
        }
        let span = if self.in_head.load(Ordering::Relaxed) { self.header } else { self.idle };
        Some((Duration::from_millis(self.now()) + span).saturating_sub(Duration::from_millis(until)))
    }

    /// Has the connection cut.
    pub(super) fn evict(&self) {
        self.evicted.store(true, Ordering::Release);
        self.wake.notify_one();
    }

    fn rouse(&self) {
        if self.resting.load(Ordering::Acquire) {
            self.wake.notify_one();
        }
    }

    /// The next deadline and what it means; `None` while nothing runs.
    fn next(&self) -> Option<(u64, Cut)> {
        if self.evicted.load(Ordering::Acquire) && self.in_service.load(Ordering::Acquire) == 0 {
            return Some((0, Cut::Evicted));
        }
        let waiting = self.waiting_until.load(Ordering::Acquire);
        let cut = if self.in_head.load(Ordering::Relaxed) { Cut::Header } else { Cut::Idle };
        // A request that came while the last one ended may have been told of too early.
        let waiting = (self.in_service.load(Ordering::Acquire) == 0).then_some((waiting, cut));
        let blocked = (self.blocked_until.load(Ordering::Relaxed), Cut::Write);
        let stalled = (self.stalled(), Cut::Write);
        [waiting, Some(blocked), Some(stalled)]
            .into_iter()
            .flatten()
            .filter(|&(at, _)| at != NONE)
            .min_by_key(|&(at, _)| at)
    }

    /// When the first of the answers that are stuck is to be given up.
    fn stalled(&self) -> u64 {
        if !self.is_http2.load(Ordering::Relaxed) {
            return NONE;
        }
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        streams.retain(|stream| stream.strong_count() > 0);
        let handed = streams.iter().filter_map(Weak::upgrade).map(|stream| stream.handed_at.load(Ordering::Relaxed));
        let first = handed.min().unwrap_or(NONE);
        if first == NONE { NONE } else { first.saturating_add(u64::try_from(self.write.as_millis()).unwrap_or(NONE)) }
    }

    /// Resolves when the connection is to be cut.
    pub(super) async fn ends(&self) -> Cut {
        let mut sleep = std::pin::pin!(tokio::time::sleep(self.tick));
        loop {
            let mut woken = std::pin::pin!(self.wake.notified());
            self.resting.store(true, Ordering::Release);
            match self.next() {
                Some((at, cut)) => {
                    self.resting.store(false, Ordering::Release);
                    let now = self.now();
                    if at <= now {
                        return cut;
                    }
                    let pause = Duration::from_millis(at - now).min(self.tick);
                    sleep.as_mut().reset(Instant::now() + pause);
                    tokio::select! {
                        () = sleep.as_mut() => {}
                        () = woken.as_mut() => {}
                    }
                }
                None => woken.await,
            }
        }
    }
}

/// Held by the request's body and by the answer's: as long as one of them lives, the request is in service.
#[derive(Debug)]
pub(super) struct Service {
    pulse: Arc<ConnectionTimers>,
}

impl Drop for Service {
    fn drop(&mut self) {
        let pulse = &self.pulse;
        if pulse.in_service.fetch_sub(1, Ordering::AcqRel) == 1 {
            pulse.in_head.store(false, Ordering::Relaxed);
            pulse.waiting_until.store(pulse.after(pulse.idle), Ordering::Release);
            pulse.rouse();
        }
    }
}

/// A body that keeps its request in service.
#[derive(Debug)]
pub(super) struct InService<B> {
    body: B,
    service: Arc<Service>,
    /// Of an answer over HTTP/2.
    stream: Option<Arc<Stream>>,
}

impl<B> InService<B> {
    pub(super) fn request(body: B, service: Arc<Service>) -> Self {
        Self { body, service, stream: None }
    }
}

impl InService<Body> {
    pub(super) fn answer(body: Body, service: Arc<Service>, is_http2: bool) -> Self {
        let stream = is_http2.then(|| {
            let stream = Arc::new(Stream { handed_at: AtomicU64::new(NONE) });
            let mut streams = service.pulse.streams.lock().unwrap_or_else(PoisonError::into_inner);
            // Kept short here too, for the timer may not come by for a while.
            streams.retain(|stream| stream.strong_count() > 0);
            streams.push(Arc::downgrade(&stream));
            stream
        });
        Self { body, service, stream }
    }
}

impl<B: HttpBody<Data = Bytes> + Unpin> HttpBody for InService<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if let Some(stream) = &self.stream {
            let pulse = &self.service.pulse;
            let at = if matches!(frame, Poll::Ready(Some(Ok(_)))) { pulse.now() } else { NONE };
            stream.handed_at.store(at, Ordering::Relaxed);
            if at != NONE {
                pulse.rouse();
            }
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A socket whose signs of life a [`ConnectionTimers`] hears. Beneath TLS, where bytes are what the peer sends and takes.
#[derive(Debug)]
pub(super) struct TimedStream<S> {
    stream: S,
    pulse: Arc<ConnectionTimers>,
}

impl<S> TimedStream<S> {
    pub(super) fn new(stream: S, pulse: Arc<ConnectionTimers>) -> Self {
        Self { stream, pulse }
    }

    fn note<T>(&self, result: &Poll<io::Result<T>>) {
        match result {
            Poll::Pending => self.pulse.blocked(),
            Poll::Ready(_) => self.pulse.moved(),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for TimedStream<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.pulse.received();
        }
        result
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for TimedStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.note(&result);
        result
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.note(&result);
        result
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
