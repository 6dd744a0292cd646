//! What became of the bytes: whether an answer was written to a connection that was still there.
//!
//! A server hands a body to its HTTP library long before the last byte of it is on its way. So the socket is watched:
//! the library flushes it only once everything it held has been written, and a connection that breaks first never
//! flushes again.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;

/// Handle to one connection's writes. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Wire {
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    flushes: AtomicU64,
    gone: AtomicBool,
    changed: Notify,
}

impl Wire {
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

/// A stream whose writes a [`Wire`] follows.
#[derive(Debug)]
pub(super) struct Watched<S> {
    stream: S,
    wire: Wire,
}

impl<S> Watched<S> {
    pub(super) fn new(stream: S, wire: Wire) -> Self {
        Self { stream, wire }
    }
}

impl<S> Drop for Watched<S> {
    fn drop(&mut self) {
        self.wire.end();
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.wire.note(&result);
        result
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
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
    use tokio::io::AsyncWriteExt;

    use super::*;

    #[tokio::test]
    async fn written_means_flushed_after_the_question() {
        let (ours, _theirs) = tokio::io::duplex(64);
        let wire = Wire::default();
        let mut stream = Watched::new(ours, wire.clone());
        stream.flush().await.unwrap();
        let mut written = std::pin::pin!(wire.written());
        assert!(futures_util::poll!(written.as_mut()).is_pending(), "an earlier flush says nothing");
        stream.write_all(b"answer").await.unwrap();
        stream.flush().await.unwrap();
        assert!(written.await);
    }

    #[tokio::test]
    async fn a_connection_that_ends_first_has_written_nothing() {
        let (ours, theirs) = tokio::io::duplex(64);
        let wire = Wire::default();
        let mut stream = Watched::new(ours, wire.clone());
        let written = wire.written();
        drop(theirs);
        assert!(stream.write_all(b"answer").await.is_err());
        assert!(!written.await);
        let later = wire.written();
        drop(stream);
        assert!(!later.await);
    }
}
