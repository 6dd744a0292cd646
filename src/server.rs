//! Connections: the accept loop, limits and time-outs, TLS, sockets in the file system, host checks, file descriptors,
//! and the metrics of all these. It knows nothing of requests beyond their heads.

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
