//! A client that is a bare connection, for odd bytes and for what a proper client hides.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::PATIENCE;

#[derive(Debug)]
pub(crate) struct Raw {
    stream: TcpStream,
    got: Vec<u8>,
}

impl Raw {
    pub(crate) async fn to(address: &str) -> Self {
        Self { stream: TcpStream::connect(address).await.unwrap(), got: Vec::new() }
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
