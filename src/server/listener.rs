//! Sources of connections: TCP, TLS over TCP, or a Unix socket. The caller binds, so that an address is known and reserved
//! before anything else is built; a test passes port 0.

use std::fs;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio_rustls::server::TlsStream;

use super::timers::ConnectionTimers;
use super::timers::stream::TimedStream;
use super::tls::{Tls, is_plain_http};

/// A bound source of connections.
#[derive(Debug)]
pub(crate) enum Listener {
    Tcp(TcpListener),
    Tls(TcpListener, Tls),
    Unix(UnixSocket),
}

/// The other end of a connection. Every handler finds it as an extension of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    Network(SocketAddr),
    /// A program of this machine that may open the Unix socket. No web page can make a browser do that.
    Local,
}

impl std::fmt::Display for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Network(address) => address.fmt(f),
            Self::Local => f.write_str("the Unix socket"),
        }
    }
}

/// A connection before any TLS handshake.
#[derive(Debug)]
pub(super) enum AcceptedStream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Listener {
    pub(super) async fn accept(&self) -> io::Result<(AcceptedStream, Peer)> {
        match self {
            Self::Tcp(listener) | Self::Tls(listener, _) => {
                let (stream, peer) = listener.accept().await?;
                // Responses are written in large pieces; waiting for more bytes only adds latency.
                let _ = stream.set_nodelay(true);
                Ok((AcceptedStream::Tcp(stream), Peer::Network(peer)))
            }
            Self::Unix(socket) => Ok((AcceptedStream::Unix(socket.listener.accept().await?.0), Peer::Local)),
        }
    }

    pub(super) fn tls(&self) -> Option<&Tls> {
        match self {
            Self::Tls(_, tls) => Some(tls),
            Self::Tcp(_) | Self::Unix(_) => None,
        }
    }
}

impl AcceptedStream {
    /// Performs the TLS handshake where the listener has TLS.
    ///
    /// # Errors
    ///
    /// When the handshake fails.
    pub(super) async fn handshake(self, tls: Option<&Tls>, timers: &Arc<ConnectionTimers>) -> io::Result<Handshake> {
        let timers = Arc::clone(timers);
        Ok(Handshake::Done(match (self, tls) {
            (Self::Tcp(stream), None) => Socket::Tcp(TimedStream::new(stream, timers)),
            (Self::Tcp(stream), Some(_)) if is_plain_http(&stream).await? => return Ok(Handshake::PlainHttp(stream)),
            (Self::Tcp(stream), Some(tls)) => {
                Socket::Tls(Box::new(tls.accept(TimedStream::new(stream, timers)).await?))
            }
            (Self::Unix(stream), _) => Socket::Unix(TimedStream::new(stream, timers)),
        }))
    }
}

/// How a connection began.
#[derive(Debug)]
pub(super) enum Handshake {
    Done(Socket),
    /// The client speaks plain HTTP where TLS is expected. Nothing has been read from it.
    PlainHttp(TcpStream),
}

/// A connection that carries HTTP. One type for all three, so that the HTTP library is compiled once.
#[derive(Debug)]
pub(super) enum Socket {
    Tcp(TimedStream<TcpStream>),
    Tls(Box<TlsStream<TimedStream<TcpStream>>>),
    Unix(TimedStream<UnixStream>),
}

/// Calls a method of the stream inside.
macro_rules! each {
    ($self:ident, $stream:ident => $call:expr) => {
        match $self.get_mut() {
            Socket::Tcp(stream) => {
                let $stream = Pin::new(stream);
                $call
            }
            Socket::Tls(stream) => {
                let $stream = Pin::new(stream.as_mut());
                $call
            }
            Socket::Unix(stream) => {
                let $stream = Pin::new(stream);
                $call
            }
        }
    };
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => stream.poll_read(cx, buffer))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        each!(self, stream => stream.poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        each!(self, stream => stream.poll_write_vectored(cx, slices))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
            Self::Unix(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => stream.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => stream.poll_shutdown(cx))
    }
}

/// A listening Unix socket. A file that it made itself is removed when it is dropped.
#[derive(Debug)]
pub(crate) struct UnixSocket {
    listener: UnixListener,
    /// The file that this socket made, with device and inode. `None`: the socket is inherited, and so is its file.
    file: Option<(PathBuf, (u64, u64))>,
}

impl UnixSocket {
    /// Listens on a socket at `path` with the permissions `mode` (as of `chmod`). A socket file that a process left behind is
    /// replaced; a socket that a process listens on, and a file of another kind, are not.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::AddrInUse`] for such a socket or file, otherwise the error of the system.
    pub(crate) fn bind(path: &Path, mode: u32) -> io::Result<Self> {
        remove_stale_socket(path)?;
        // Until its permissions are set it has those that the umask of the process leaves: access for the owner alone.
        let listener = UnixListener::bind(path)?;
        fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
        let file = identity(path)?;
        Ok(Self { listener, file: Some((path.to_owned(), file)) })
    }

    /// Listens on a socket that another process has bound, and keeps.
    ///
    /// # Errors
    ///
    /// When the runtime does not take it.
    pub(crate) fn inherited(listener: std::os::unix::net::UnixListener) -> io::Result<Self> {
        Ok(Self { listener: UnixListener::from_std(listener)?, file: None })
    }
}

impl Drop for UnixSocket {
    fn drop(&mut self) {
        // Another gateway may have replaced the file by its own.
        if let Some((path, made)) = &self.file
            && identity(path).is_ok_and(|file| file == *made)
        {
            let _ = fs::remove_file(path);
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let file = fs::symlink_metadata(path)?;
    Ok((file.dev(), file.ino()))
}

fn remove_stale_socket(path: &Path) -> io::Result<()> {
    let file = match fs::symlink_metadata(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let taken = |problem: &str| Err(io::Error::new(io::ErrorKind::AddrInUse, problem));
    if !file.file_type().is_socket() {
        return taken("the file exists and is not a socket");
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => taken("another process listens on it"),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_file_of_an_inherited_socket_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("gateway.sock");
        let bound = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let handed_on = bound.try_clone().unwrap();
        handed_on.set_nonblocking(true).unwrap();
        drop(UnixSocket::inherited(handed_on).unwrap());
        assert!(path.exists());
        std::os::unix::net::UnixStream::connect(&path).unwrap();
    }

    #[tokio::test]
    async fn a_unix_socket_has_its_mode_replaces_a_stale_one_and_removes_its_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("gateway.sock");
        let first = UnixSocket::bind(&path, 0o600).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let error = UnixSocket::bind(&path, 0o600).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse, "{error}");
        drop(first);
        assert!(!path.exists());

        // A crash leaves the file behind.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let second = UnixSocket::bind(&path, 0o660).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
        fs::remove_file(&path).unwrap();
        fs::write(&path, "another program's").unwrap();
        drop(second);
        assert_eq!(fs::read_to_string(&path).unwrap(), "another program's");
        let error = UnixSocket::bind(&path, 0o600).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse, "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "another program's");
    }
}
