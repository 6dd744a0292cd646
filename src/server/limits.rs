//! What one listener bears, and for how long. Every number is a key of the configuration; nothing is left to a library.

use std::time::Duration;

/// The limits of a listener's connections.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConnectionLimits {
    /// From the first byte of a request's head to its last; and from the opening of a connection to its first request.
    pub(crate) header_timeout: Duration,
    /// From one request to the next.
    pub(crate) keep_alive_timeout: Duration,
    /// How long a peer may take nothing of what is to be written.
    pub(crate) write_timeout: Duration,
    /// Over TLS: until the keys are exchanged.
    pub(crate) handshake_timeout: Duration,
    pub(crate) http1: Http1Limits,
    pub(crate) http2: Http2Limits,
}

/// HTTP/1.1.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Http1Limits {
    /// Fields of a request's head.
    pub(crate) headers_max: usize,
    /// Bytes of a request's head; also the largest piece of a body that is read or written at once.
    pub(crate) buffer_bytes: usize,
}

/// HTTP/2.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Http2Limits {
    /// Requests at once on one connection.
    pub(crate) streams_max: u32,
    /// All fields of a request's head, decoded.
    pub(crate) header_bytes_max: u32,
    /// Requests that the peer has taken back before anybody looked at them.
    pub(crate) pending_resets_max: usize,
    /// Requests that were ended here because the peer broke the protocol.
    pub(crate) error_resets_max: usize,
    /// Bytes of one request, and of all together, that may be on their way unread.
    pub(crate) stream_window_bytes: u32,
    pub(crate) connection_window_bytes: u32,
    /// Bytes of one answer that wait for the peer's window.
    pub(crate) send_buffer_bytes: usize,
    /// After so long a silence the peer is asked whether it is there, and has so long to say so.
    pub(crate) ping_interval: Duration,
    pub(crate) ping_timeout: Duration,
}

impl ConnectionLimits {
    /// For a face that only this machine's tests and demonstrations reach.
    pub(crate) const AMONG_OURSELVES: Self = Self {
        header_timeout: Duration::from_secs(30),
        keep_alive_timeout: Duration::from_mins(5),
        write_timeout: Duration::from_mins(5),
        handshake_timeout: Duration::from_secs(10),
        http1: Http1Limits { headers_max: 100, buffer_bytes: 400_000 },
        http2: Http2Limits {
            streams_max: 200,
            header_bytes_max: 16_384,
            pending_resets_max: 20,
            error_resets_max: 1000,
            stream_window_bytes: 1 << 20,
            connection_window_bytes: 1 << 20,
            send_buffer_bytes: 400_000,
            ping_interval: Duration::from_mins(1),
            ping_timeout: Duration::from_mins(1),
        },
    };

    /// The shortest of the times that a connection is watched by.
    pub(super) fn tick(&self) -> Duration {
        self.header_timeout.min(self.keep_alive_timeout).min(self.write_timeout)
    }
}
