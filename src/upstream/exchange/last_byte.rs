//! The last byte of a submit, held back until the purchase is in the journal.
//!
//! A service cannot act on a request whose declared length has not arrived, so nothing is bought before the last byte is
//! sent. The length is declared, never chunked: a service might tolerate a missing terminator, but not a missing byte.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::FutureExt;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::oneshot;

use crate::http::StreamingBody;

/// A body that stops before its last byte.
#[derive(Debug)]
pub(super) struct GatedBody {
    body: StreamingBody,
    held: Option<Bytes>,
    uploaded: Option<oneshot::Sender<()>>,
    open: oneshot::Receiver<()>,
    released: Arc<AtomicBool>,
    remaining: u64,
}

/// The other side of a [`GatedBody`].
#[derive(Debug)]
pub(super) struct LastByteGate {
    /// Resolves when all but the last byte has been handed to the connection.
    pub(super) uploaded: oneshot::Receiver<()>,
    /// Sending releases the last byte; dropping it makes the upload fail.
    pub(super) open: oneshot::Sender<()>,
    released: Released,
}

/// Whether the last byte has been handed to the connection.
#[derive(Clone, Debug)]
pub(super) struct Released(Arc<AtomicBool>);

impl Released {
    pub(super) fn get(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

impl LastByteGate {
    pub(super) fn released(&self) -> Released {
        self.released.clone()
    }
}

impl GatedBody {
    pub(super) fn new(body: StreamingBody) -> (Self, LastByteGate) {
        let (uploaded, uploaded_receiver) = oneshot::channel();
        let (open_sender, open) = oneshot::channel();
        let released = Arc::new(AtomicBool::new(false));
        let remaining = body.length();
        let gate =
            LastByteGate { uploaded: uploaded_receiver, open: open_sender, released: Released(Arc::clone(&released)) };
        (Self { body, held: None, uploaded: Some(uploaded), open, released, remaining }, gate)
    }

    fn emit(&mut self, piece: Bytes) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.remaining -= piece.len() as u64;
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }
}

impl Body for GatedBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        loop {
            if self.held.is_some() {
                if let Some(uploaded) = self.uploaded.take() {
                    // Fails when the submit was abandoned; the wait below then fails too.
                    let _ = uploaded.send(());
                }
                if ready!(self.open.poll_unpin(cx)).is_err() {
                    return Poll::Ready(Some(Err(io::Error::other("the last byte was not released"))));
                }
                self.released.store(true, Ordering::Release);
                let last = self.held.take().expect("checked above");
                return self.emit(last);
            }
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => {
                    let Ok(mut piece) = frame.into_data() else { continue };
                    if (piece.len() as u64) < self.remaining {
                        return self.emit(piece);
                    }
                    let last = piece.split_off(piece.len() - 1);
                    self.held = Some(last);
                    if !piece.is_empty() {
                        return self.emit(piece);
                    }
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.remaining == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.remaining)
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test]
    async fn the_last_byte_waits_until_the_gate_opens() {
        let (mut body, gate) = GatedBody::new(StreamingBody::default().text("hello").text("!"));
        assert_eq!(body.size_hint().exact(), Some(6));
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "hello");
        assert!(futures_util::poll!(body.frame()).is_pending());
        assert!(!gate.released().get());
        let released = gate.released();
        gate.uploaded.await.unwrap();
        gate.open.send(()).unwrap();
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "!");
        assert!(released.get());
        assert!(body.frame().await.is_none());
    }

    #[tokio::test]
    async fn a_dropped_gate_makes_the_upload_fail() {
        let (mut body, gate) = GatedBody::new(StreamingBody::default().text("x"));
        drop(gate.open);
        assert!(body.frame().await.unwrap().is_err());
        assert!(!gate.released.get());
    }
}
