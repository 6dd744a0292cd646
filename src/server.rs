//! Connections: accept loop, limits and timeouts, TLS, Unix sockets, host checks, file descriptors, and the metrics of these.
//! Of a request it knows the head and that there are bodies, no more.

pub mod accept;
pub mod connection;
pub(crate) mod connection_limiter;
pub(crate) mod descriptors;
pub(crate) mod hosts;
pub(crate) mod limits;
pub(crate) mod listener;
pub(crate) mod metrics;
mod timers;
pub(crate) mod tls;
