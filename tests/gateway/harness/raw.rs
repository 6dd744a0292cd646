//! A bare connection, for malformed requests and for details that an HTTP client hides.

use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

use super::TIMEOUT;

pub(crate) struct Raw {
    stream: Box<dyn Stream>,
    received: Vec<u8>,
}

/// A connection over TCP or a Unix socket.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

impl Raw {
    pub(crate) async fn to(address: &str) -> Self {
        Self { stream: Box::new(TcpStream::connect(address).await.unwrap()), received: Vec::new() }
    }

    /// Connects to a Unix socket.
    pub(crate) async fn local(path: &Path) -> Self {
        Self { stream: Box::new(UnixStream::connect(path).await.unwrap()), received: Vec::new() }
    }

    /// Sends; returns whether the connection is still open.
    pub(crate) async fn try_send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).await.is_ok()
    }

    /// Reads for a moment; returns whether `text` has arrived.
    pub(crate) async fn has(&mut self, text: &str) -> bool {
        let _ = tokio::time::timeout(super::POLL_INTERVAL, self.stream.read_buf(&mut self.received)).await;
        self.text().contains(text)
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Reads until `text` has arrived; returns everything so far.
    pub(crate) async fn until(&mut self, text: &str) -> String {
        while !self.text().contains(text) {
            let read = tokio::time::timeout(TIMEOUT, self.stream.read_buf(&mut self.received)).await;
            let count = read.unwrap_or_else(|_| panic!("timed out waiting for {text:?} after {:?}", self.text()));
            assert_ne!(count.unwrap(), 0, "the connection ended before {text:?}: {:?}", self.text());
        }
        self.text()
    }

    /// Reads to the end of the connection.
    pub(crate) async fn rest(mut self) -> String {
        let limit: Duration = TIMEOUT;
        tokio::time::timeout(limit, self.stream.read_to_end(&mut self.received)).await.expect("the end comes").unwrap();
        self.text()
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.received).into_owned()
    }
}
