//! What becomes of the bytes on a connection, beneath the HTTP library.
//!
//! Two things are seen and done here that the library has no word for:
//! - Whether an answer was *written* to a connection that was still there. A body is handed to the library long before
//!   its last byte is on its way; but the library flushes the socket only once everything it held has been written, and
//!   a connection that breaks first never flushes again.
//! - *Interim answers* (`102 Processing`) while a handler waits. On HTTP/1.1 they may stand before an answer whose first
//!   byte has not left. The library polls the socket for reading meanwhile, to learn of a hang-up, and that is when they
//!   are written; once it begins to write the answer they are dropped, unless one is half out.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use futures_util::task::AtomicWaker;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;

/// Handle to one connection's writes. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct ConnectionHandle {
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    flushes: AtomicU64,
    gone: AtomicBool,
    changed: Notify,
    interim: Mutex<Interim>,
    /// The task that serves the connection, as long as it reads.
    reader: AtomicWaker,
}

/// An interim answer on its way.
#[derive(Debug, Default)]
struct Interim {
    wanted: bool,
    /// How much of it has left.
    written: usize,
}

/// Says that the request was understood and is worked on (RFC 2518 §10.1).
const PROCESSING: &[u8] = b"HTTP/1.1 102 Processing\r\n\r\n";

impl ConnectionHandle {
    /// Resolves once everything that was handed over so far has been written; `false` when the connection ended first.
    ///
    /// Counts from the call, not from the first poll.
    pub fn written(&self) -> impl Future<Output = bool> + Send + 'static {
        let state = Arc::clone(&self.state);
        let before = state.flushes.load(Ordering::Acquire);
        async move {
            loop {
                let mut changed = std::pin::pin!(state.changed.notified());
                // Listening before looking: a change between the two is not missed.
                changed.as_mut().enable();
                if state.flushes.load(Ordering::Acquire) > before {
                    return true;
                }
                if state.gone.load(Ordering::Acquire) {
                    return false;
                }
                changed.await;
            }
        }
    }

    /// Sends `102 Processing`, if nothing of the answer has left yet. Only for a request over HTTP/1.1 whose body has been
    /// read, from a client that is known to understand it.
    pub fn processing(&self) {
        self.state.interim().wanted = true;
        self.state.reader.wake();
    }

    fn note<T>(&self, result: &Poll<io::Result<T>>) {
        if let Poll::Ready(Err(_)) = result {
            self.end();
        }
    }

    fn end(&self) {
        self.state.gone.store(true, Ordering::Release);
        self.state.changed.notify_waiters();
    }
}

impl State {
    fn interim(&self) -> MutexGuard<'_, Interim> {
        self.interim.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A stream whose writes a [`ConnectionHandle`] follows.
#[derive(Debug)]
pub(super) struct FlushTrackedStream<S> {
    stream: S,
    wire: ConnectionHandle,
}

impl<S> FlushTrackedStream<S> {
    pub(super) fn new(stream: S, wire: ConnectionHandle) -> Self {
        Self { stream, wire }
    }
}

impl<S: AsyncWrite + Unpin> FlushTrackedStream<S> {
    /// Writes what is wanted of an interim answer.
    fn poll_interim(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut interim = self.wire.state.interim();
        while interim.wanted {
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, &PROCESSING[interim.written..]))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            interim.written += written;
            if interim.written == PROCESSING.len() {
                *interim = Interim::default();
            }
        }
        Poll::Ready(Ok(()))
    }

    /// The answer itself is about to be written: an interim one that has begun is finished, another is dropped.
    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut interim = self.wire.state.interim();
        interim.wanted &= interim.written > 0;
        drop(interim);
        self.poll_interim(cx)
    }
}

impl<S> Drop for FlushTrackedStream<S> {
    fn drop(&mut self) {
        self.wire.end();
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for FlushTrackedStream<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.wire.state.reader.register(cx.waker());
        if let Poll::Ready(Err(error)) = self.poll_interim(cx) {
            return Poll::Ready(Err(error));
        }
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for FlushTrackedStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_answer(cx))?;
        let result = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.wire.note(&result);
        result
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_answer(cx))?;
        let result = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.wire.note(&result);
        result
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_flush(cx);
        self.wire.note(&result);
        if let Poll::Ready(Ok(())) = result {
            self.wire.state.flushes.fetch_add(1, Ordering::Release);
            self.wire.state.changed.notify_waiters();
        }
        result
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn written_means_flushed_after_the_question() {
        let (ours, _theirs) = tokio::io::duplex(64);
        let wire = ConnectionHandle::default();
        let mut stream = FlushTrackedStream::new(ours, wire.clone());
        stream.flush().await.unwrap();
        let mut written = std::pin::pin!(wire.written());
        assert!(futures_util::poll!(written.as_mut()).is_pending(), "an earlier flush says nothing");
        stream.write_all(b"answer").await.unwrap();
        stream.flush().await.unwrap();
        assert!(written.await);
    }

    /// Lets the reader look once, and returns what the other side has received.
    async fn received(
        ours: &mut FlushTrackedStream<tokio::io::DuplexStream>,
        theirs: &mut tokio::io::DuplexStream,
    ) -> String {
        let mut nothing = [0; 1];
        assert!(futures_util::poll!(std::pin::pin!(ours.read(&mut nothing))).is_pending());
        let mut bytes = vec![0; 1000];
        match futures_util::poll!(std::pin::pin!(theirs.read(&mut bytes))) {
            Poll::Ready(count) => String::from_utf8_lossy(&bytes[..count.unwrap()]).into_owned(),
            Poll::Pending => String::new(),
        }
    }

    #[tokio::test]
    async fn an_interim_answer_stands_before_the_answer_and_never_within() {
        let (ours, mut theirs) = tokio::io::duplex(1000);
        let wire = ConnectionHandle::default();
        let mut ours = FlushTrackedStream::new(ours, wire.clone());
        assert_eq!(received(&mut ours, &mut theirs).await, "");
        wire.processing();
        wire.processing();
        assert_eq!(received(&mut ours, &mut theirs).await, "HTTP/1.1 102 Processing\r\n\r\n", "once");
        wire.processing();
        ours.write_all(b"HTTP/1.1 200 OK\r\n").await.unwrap();
        assert_eq!(received(&mut ours, &mut theirs).await, "HTTP/1.1 200 OK\r\n", "too late for another");
    }

    #[tokio::test]
    async fn an_interim_answer_that_is_half_out_is_finished_first() {
        let (ours, mut theirs) = tokio::io::duplex(10);
        let wire = ConnectionHandle::default();
        let mut ours = FlushTrackedStream::new(ours, wire.clone());
        wire.processing();
        assert_eq!(received(&mut ours, &mut theirs).await, "HTTP/1.1 1");
        let writing = async {
            ours.write_all(b"answer").await.unwrap();
            drop(ours);
        };
        let mut rest = String::new();
        let (read, ()) = tokio::join!(theirs.read_to_string(&mut rest), writing);
        read.unwrap();
        assert_eq!(rest, "02 Processing\r\n\r\nanswer");
    }

    #[tokio::test]
    async fn a_connection_that_ends_first_has_written_nothing() {
        let (ours, theirs) = tokio::io::duplex(64);
        let wire = ConnectionHandle::default();
        let mut stream = FlushTrackedStream::new(ours, wire.clone());
        let written = wire.written();
        drop(theirs);
        assert!(stream.write_all(b"answer").await.is_err());
        assert!(!written.await);
        let later = wire.written();
        drop(stream);
        assert!(!later.await);
    }
}
