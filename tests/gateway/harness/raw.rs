//! A client that is a bare connection, for odd bytes and for what a proper client hides.

use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

use super::PATIENCE;

pub(crate) struct Raw {
    stream: Box<dyn Stream>,
    got: Vec<u8>,
}

/// Whatever bytes travel on.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

impl Raw {
    pub(crate) async fn to(address: &str) -> Self {
        Self { stream: Box::new(TcpStream::connect(address).await.unwrap()), got: Vec::new() }
    }

    /// To a socket in the file system.
    pub(crate) async fn local(path: &Path) -> Self {
        Self { stream: Box::new(UnixStream::connect(path).await.unwrap()), got: Vec::new() }
    }

    /// Sends, unless the other side has hung up.
    pub(crate) async fn try_send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).await.is_ok()
    }

    /// Whether `text` has come by now; looks for a moment.
    pub(crate) async fn has(&mut self, text: &str) -> bool {
        let _ = tokio::time::timeout(super::LOOK_AGAIN, self.stream.read_buf(&mut self.got)).await;
        self.text().contains(text)
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Reads until `text` came; returns everything that came so far.
    pub(crate) async fn until(&mut self, text: &str) -> String {
        while !self.text().contains(text) {
            let read = tokio::time::timeout(PATIENCE, self.stream.read_buf(&mut self.got)).await;
            let count = read.unwrap_or_else(|_| panic!("waited in vain for {text:?} after {:?}", self.text()));
            assert_ne!(count.unwrap(), 0, "the connection ended before {text:?}: {:?}", self.text());
        }
        self.text()
    }

    /// Reads to the end of the connection.
    pub(crate) async fn rest(mut self) -> String {
        let limit: Duration = PATIENCE;
        tokio::time::timeout(limit, self.stream.read_to_end(&mut self.got)).await.expect("the end comes").unwrap();
        self.text()
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.got).into_owned()
    }
}
