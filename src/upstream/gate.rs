//! The last byte of a submit, held back until the purchase is in the journal.
//!
//! A service cannot act on a request whose declared length has not arrived, so before the last byte leaves nothing can
//! have been bought. The length is declared, never chunked: a missing terminator could be forgiven, a missing byte cannot.

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
pub(super) struct Gated {
    body: StreamingBody,
    held: Option<Bytes>,
    uploaded: Option<oneshot::Sender<()>>,
    open: oneshot::Receiver<()>,
    released: Arc<AtomicBool>,
    remaining: u64,
}

/// The other side of a [`Gated`] body.
#[derive(Debug)]
pub(super) struct Gate {
    /// Resolves when all but the last byte has been handed to the connection.
    pub(super) uploaded: oneshot::Receiver<()>,
    /// Sending lets the last byte go; dropping it makes the upload fail.
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

impl Gate {
    pub(super) fn released(&self) -> Released {
        self.released.clone()
    }
}

impl Gated {
    pub(super) fn new(body: StreamingBody) -> (Self, Gate) {
        let (uploaded, uploaded_receiver) = oneshot::channel();
        let (open_sender, open) = oneshot::channel();
        let released = Arc::new(AtomicBool::new(false));
        let remaining = body.length();
        let gate = Gate { uploaded: uploaded_receiver, open: open_sender, released: Released(Arc::clone(&released)) };
        (Self { body, held: None, uploaded: Some(uploaded), open, released, remaining }, gate)
    }

    fn give(&mut self, piece: Bytes) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.remaining -= piece.len() as u64;
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }
}

impl Body for Gated {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        loop {
            if self.held.is_some() {
                if let Some(uploaded) = self.uploaded.take() {
                    // Nobody listening means that the submit was given up; the wait below then fails.
                    let _ = uploaded.send(());
                }
                if ready!(self.open.poll_unpin(cx)).is_err() {
                    return Poll::Ready(Some(Err(io::Error::other("the last byte was not released"))));
                }
                self.released.store(true, Ordering::Release);
                let last = self.held.take().expect("just seen");
                return self.give(last);
            }
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => {
                    let Ok(mut piece) = frame.into_data() else { continue };
                    if (piece.len() as u64) < self.remaining {
                        return self.give(piece);
                    }
                    let last = piece.split_off(piece.len() - 1);
                    self.held = Some(last);
                    if !piece.is_empty() {
                        return self.give(piece);
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
    async fn the_last_byte_waits_for_the_gate() {
        let (mut body, gate) = Gated::new(StreamingBody::default().text("hello").text("!"));
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
    async fn a_dropped_gate_ends_the_upload_short() {
        let (mut body, gate) = Gated::new(StreamingBody::default().text("x"));
        drop(gate.open);
        assert!(body.frame().await.unwrap().is_err());
        assert!(!gate.released.get());
    }
}
