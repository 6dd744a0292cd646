//! Limits and timeouts of the connections of a listener. Every number is a key of the configuration; none is left to a
//! library's default.

use std::time::Duration;

/// The limits of a listener's connections.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConnectionLimits {
    /// From the first byte of a request's head to its last; and from the opening of a connection to its first request.
    pub(crate) header_timeout: Duration,
    /// From the end of one request to the start of the next.
    pub(crate) keep_alive_timeout: Duration,
    /// How long a peer may read nothing of what is to be written.
    pub(crate) write_timeout: Duration,
    /// How long the TLS handshake may take.
    pub(crate) handshake_timeout: Duration,
    pub(crate) http1: Http1Limits,
    pub(crate) http2: Http2Limits,
}

/// Limits of HTTP/1.1.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Http1Limits {
    /// Fields of a request's head.
    pub(crate) headers_max: usize,
    /// Bytes of a request's head; also the largest piece of a body that is read or written at once.
    pub(crate) buffer_bytes: usize,
}

/// Limits of HTTP/2.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Http2Limits {
    /// Concurrent requests of one connection.
    pub(crate) streams_max: u32,
    /// Bytes of all fields of a request's head, decoded.
    pub(crate) header_bytes_max: u32,
    /// Requests that the peer has reset before they were accepted.
    pub(crate) pending_resets_max: usize,
    /// Requests that were reset here because the peer broke the protocol.
    pub(crate) error_resets_max: usize,
    /// Bytes in flight and unread of one request, and of all requests of a connection.
    pub(crate) stream_window_bytes: u32,
    pub(crate) connection_window_bytes: u32,
    /// Bytes of one response that wait for the peer's window.
    pub(crate) send_buffer_bytes: usize,
    /// Keep-alive: ping after this time without a frame; close when the ping is unanswered for `ping_timeout`.
    pub(crate) ping_interval: Duration,
    pub(crate) ping_timeout: Duration,
}

impl ConnectionLimits {
    /// For listeners that only the tests and the sandbox of this machine reach.
    pub(crate) const TRUSTED: Self = Self {
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

    /// Returns the shortest of the timeouts that [`super::timers`] enforces.
    pub(super) fn shortest_timeout(&self) -> Duration {
        self.header_timeout.min(self.keep_alive_timeout).min(self.write_timeout)
    }
}
