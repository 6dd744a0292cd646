//! The bytes of a connection, below the HTTP library.
//!
//! Three things happen here that the library has no interface for:
//! - Finding out whether a response was *written* while the connection was still open. The library takes a body long before its
//!   last byte is sent; but it flushes the socket only after everything it held has been written, and a connection that breaks
//!   first is never flushed again.
//! - *Interim responses* (`102 Processing`) while a handler works. On HTTP/1.1 they may precede a response whose first byte has
//!   not been sent. Meanwhile the library polls the socket for reading, to notice a disconnect, and that is when they are
//!   written; once the library begins to write the response they are dropped, unless one is half written.
//! - Finding out *which version of HTTP* a client speaks. `hyper_util::server::conn::auto` does that too, but holds the state of
//!   both versions, and hands the parser the bytes that it looked at in a read of their own. The parser then has a part of a
//!   head and doubles its buffer for the rest, which costs every connection 8 KB until it ends.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::BufMut;
use futures_util::task::AtomicWaker;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::sync::Notify;

/// Handle to the writes of one connection. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct ConnectionHandle {
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    flushes: AtomicU64,
    closed: AtomicBool,
    changed: Notify,
    interim: Mutex<Interim>,
    /// The task that serves the connection, while it reads.
    reader: AtomicWaker,
}

/// The interim response that is to be written.
#[derive(Debug, Default)]
struct Interim {
    requested: bool,
    /// Bytes of it that have been written.
    written: usize,
}

/// Says that the request was understood and is being worked on (RFC 2518 §10.1).
const PROCESSING: &[u8] = b"HTTP/1.1 102 Processing\r\n\r\n";
/// The first bytes of every connection over HTTP/2 (RFC 9113 §3.4).
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

impl ConnectionHandle {
    /// Resolves to `true` once everything handed over so far has been written, to `false` when the connection ended first.
    ///
    /// "So far" is the moment of the call, not of the first poll.
    pub fn written(&self) -> impl Future<Output = bool> + Send + 'static {
        let state = Arc::clone(&self.state);
        let before = state.flushes.load(Ordering::Acquire);
        async move {
            loop {
                let mut changed = std::pin::pin!(state.changed.notified());
                // Registered before the state is read, so that a change in between is not missed.
                changed.as_mut().enable();
                if state.flushes.load(Ordering::Acquire) > before {
                    return true;
                }
                if state.closed.load(Ordering::Acquire) {
                    return false;
                }
                changed.await;
            }
        }
    }

    /// Sends `102 Processing`, if no byte of the response has been sent yet. Only for a request over HTTP/1.1 whose body has
    /// been read, from a client that is known to understand interim responses.
    pub fn processing(&self) {
        self.state.interim().requested = true;
        self.state.reader.wake();
    }

    fn report<T>(&self, result: &Poll<io::Result<T>>) {
        if let Poll::Ready(Err(_)) = result {
            self.close();
        }
    }

    fn close(&self) {
        self.state.closed.store(true, Ordering::Release);
        self.state.changed.notify_waiters();
    }
}

impl State {
    fn interim(&self) -> MutexGuard<'_, Interim> {
        self.interim.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A stream that reports its writes to a [`ConnectionHandle`].
#[derive(Debug)]
pub(super) struct FlushTrackedStream<S> {
    stream: S,
    handle: ConnectionHandle,
    /// Bytes that were read to find out the version, and that the library has not read yet.
    read_ahead: Vec<u8>,
}

impl<S> FlushTrackedStream<S> {
    pub(super) fn new(stream: S, handle: ConnectionHandle) -> Self {
        Self { stream, handle, read_ahead: Vec::new() }
    }
}

impl<S: AsyncRead + Unpin> FlushTrackedStream<S> {
    /// Returns whether the client speaks HTTP/2, once enough has been received to tell. Nothing is taken from what
    /// [`AsyncRead`] returns later.
    ///
    /// # Errors
    ///
    /// The stream's.
    pub(super) async fn is_http2(&mut self) -> io::Result<bool> {
        let received = &mut self.read_ahead;
        while received.len() < HTTP2_PREFACE.len() {
            let missing = HTTP2_PREFACE.len() - received.len();
            let count = self.stream.read_buf(&mut received.limit(missing)).await?;
            if count == 0 || !HTTP2_PREFACE.starts_with(received) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl<S: AsyncWrite + Unpin> FlushTrackedStream<S> {
    /// Writes the interim response that is requested, if any.
    fn poll_interim(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut interim = self.handle.state.interim();
        while interim.requested {
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

    /// Called before the response is written: completes an interim response that is half written, drops one that is not.
    fn poll_before_response(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut interim = self.handle.state.interim();
        interim.requested &= interim.written > 0;
        drop(interim);
        self.poll_interim(cx)
    }
}

impl<S> Drop for FlushTrackedStream<S> {
    fn drop(&mut self) {
        self.handle.close();
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for FlushTrackedStream<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.handle.state.reader.register(cx.waker());
        if let Poll::Ready(Err(error)) = self.poll_interim(cx) {
            return Poll::Ready(Err(error));
        }
        let count = self.read_ahead.len().min(buffer.remaining());
        buffer.put_slice(&self.read_ahead[..count]);
        self.read_ahead.drain(..count);
        // What follows is read into the same buffer: a head in two pieces would cost the library a larger one.
        let following = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if count > 0 { Poll::Ready(Ok(())) } else { following }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for FlushTrackedStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_before_response(cx))?;
        let result = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.handle.report(&result);
        result
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_before_response(cx))?;
        let result = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.handle.report(&result);
        result
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_flush(cx);
        self.handle.report(&result);
        if let Poll::Ready(Ok(())) = result {
            self.handle.state.flushes.fetch_add(1, Ordering::Release);
            self.handle.state.changed.notify_waiters();
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
    async fn written_resolves_after_a_flush_that_follows_the_call() {
        let (ours, _theirs) = tokio::io::duplex(64);
        let handle = ConnectionHandle::default();
        let mut stream = FlushTrackedStream::new(ours, handle.clone());
        stream.flush().await.unwrap();
        let mut written = std::pin::pin!(handle.written());
        assert!(futures_util::poll!(written.as_mut()).is_pending(), "an earlier flush does not count");
        stream.write_all(b"answer").await.unwrap();
        stream.flush().await.unwrap();
        assert!(written.await);
    }

    /// Polls the reader once, and returns what the other end has received.
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
    async fn the_version_is_found_out_and_nothing_is_lost() {
        let preface = std::str::from_utf8(HTTP2_PREFACE).unwrap();
        for (sent, is_http2) in [
            (format!("{preface}frames"), true),
            ("PRI * HTTP/1.1\r\nhost: a\r\n\r\n".to_owned(), false),
            ("GET / HTTP/1.1\r\nhost: a\r\n\r\n".to_owned(), false),
            (preface[..10].to_owned(), false),
            ("P".to_owned(), false),
            (String::new(), false),
        ] {
            for piece in [1, 7, 1000] {
                let (ours, mut theirs) = tokio::io::duplex(3);
                let sending = async {
                    for piece in sent.as_bytes().chunks(piece) {
                        theirs.write_all(piece).await.unwrap();
                        tokio::task::yield_now().await;
                    }
                    drop(theirs);
                };
                let reading = async {
                    let mut ours = FlushTrackedStream::new(ours, ConnectionHandle::default());
                    assert_eq!(ours.is_http2().await.unwrap(), is_http2, "{sent:?} by {piece}");
                    let mut read = String::new();
                    ours.read_to_string(&mut read).await.unwrap();
                    assert_eq!(read, sent, "by {piece}");
                };
                tokio::join!(sending, reading);
            }
        }
    }

    #[tokio::test]
    async fn a_head_is_read_at_once_although_its_start_was_looked_at() {
        let (ours, mut theirs) = tokio::io::duplex(1000);
        let mut ours = FlushTrackedStream::new(ours, ConnectionHandle::default());
        let head = b"GET / HTTP/1.1\r\nhost: example.com\r\n\r\n";
        theirs.write_all(head).await.unwrap();
        assert!(!ours.is_http2().await.unwrap());
        let mut buffer = [0; 1000];
        let count = ours.read(&mut buffer).await.unwrap();
        assert_eq!(&buffer[..count], head);
    }

    #[tokio::test]
    async fn an_interim_response_precedes_the_response_and_never_interrupts_it() {
        let (ours, mut theirs) = tokio::io::duplex(1000);
        let handle = ConnectionHandle::default();
        let mut ours = FlushTrackedStream::new(ours, handle.clone());
        assert_eq!(received(&mut ours, &mut theirs).await, "");
        handle.processing();
        handle.processing();
        assert_eq!(received(&mut ours, &mut theirs).await, "HTTP/1.1 102 Processing\r\n\r\n", "once");
        handle.processing();
        ours.write_all(b"HTTP/1.1 200 OK\r\n").await.unwrap();
        assert_eq!(received(&mut ours, &mut theirs).await, "HTTP/1.1 200 OK\r\n", "too late for another");
    }

    #[tokio::test]
    async fn an_interim_response_that_is_half_written_is_completed_first() {
        let (ours, mut theirs) = tokio::io::duplex(10);
        let handle = ConnectionHandle::default();
        let mut ours = FlushTrackedStream::new(ours, handle.clone());
        handle.processing();
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
    async fn written_resolves_to_false_when_the_connection_ends_first() {
        let (ours, theirs) = tokio::io::duplex(64);
        let handle = ConnectionHandle::default();
        let mut stream = FlushTrackedStream::new(ours, handle.clone());
        let written = handle.written();
        drop(theirs);
        assert!(stream.write_all(b"answer").await.is_err());
        assert!(!written.await);
        let later = handle.written();
        drop(stream);
        assert!(!later.await);
    }
}
