//! The listeners: bound before anything is built, and what each of them bears.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use tokio::net::TcpListener;

use super::bind;
use crate::config::{Config, ServerConfig, UpstreamConfig, WebhooksConfig};
use crate::lifecycle::Lifecycle;
use crate::operator::Connections;
use crate::server::accept::ConnectionSettings;
use crate::server::connection_limiter::ConnectionLimiter;
use crate::server::descriptors::{self, DescriptorDemand, DescriptorShares, TooFewDescriptors};
use crate::server::limits::{ConnectionLimits, Http1Limits, Http2Limits};
use crate::server::listener::{Listener, UnixSocket};
use crate::server::metrics::ConnectionMetrics;
use crate::server::tls::Tls;

/// The faces, as metrics name them.
pub(super) const CLIENTS: &str = "clients";
pub(super) const OPERATOR: &str = "operator";

/// Connections of the operator face: a few people, a scraper, and probes that must always get through.
const OPERATOR_CONNECTIONS_MAX: usize = 64;
/// Files of stored pictures that are read or written at the same time.
const RESULT_FILES: usize = 512;

/// Sockets that are reserved, and do not accept yet.
#[derive(Debug)]
pub(super) struct Bound {
    pub(super) client: TcpListener,
    pub(super) operator: TcpListener,
    unix: Option<UnixSocket>,
    tls: Option<Tls>,
}

impl Bound {
    /// Binds every address, and reads the certificate.
    ///
    /// # Errors
    ///
    /// Naming the key of what is taken or cannot be read.
    pub(super) async fn new(config: &Config) -> anyhow::Result<Self> {
        let Config { server, operator, .. } = config;
        let tls = server.tls().map(read_tls).transpose()?;
        let client = bind(server.listen, "server.listen").await?;
        let operator = bind(operator.listen, "operator.listen").await?;
        let unix = server.unix_socket().map(|path| {
            UnixSocket::bind(path, server.unix_socket_mode.0)
                .with_context(|| format!("cannot listen on {} (server.unix_socket)", path.display()))
        });
        Ok(Self { client, operator, unix: unix.transpose()?, tls })
    }
}

/// Listeners with all they need, but for what they serve.
#[derive(Debug)]
pub(super) struct Serving {
    bound: Bound,
    doors: Listeners,
    limits: ConnectionLimits,
    reload_interval: Duration,
    lifecycle: Lifecycle,
}

impl Serving {
    pub(super) fn new(bound: Bound, doors: &Listeners, server: &ServerConfig, lifecycle: &Lifecycle) -> Self {
        let (limits, reload_interval) = (limits(server), server.tls_reload_interval);
        Self { bound, doors: doors.clone(), limits, reload_interval, lifecycle: lifecycle.clone() }
    }

    /// Begins to accept.
    pub(super) fn start(self, api: Router, operator: Router) {
        let Self { bound, doors, limits, reload_interval, lifecycle } = self;
        let face = |name, router, caps: &ConnectionLimiter| ConnectionSettings {
            name,
            router,
            limits,
            caps: caps.clone(),
            figures: doors.figures.clone(),
            lifecycle: lifecycle.clone(),
        };
        let (clients, operator) = (face(CLIENTS, api, &doors.client), face(OPERATOR, operator, &doors.operator));
        let client_listener = match bound.tls {
            Some(tls) => {
                lifecycle.spawn_service("certificate", tls.clone().follow(reload_interval));
                Listener::Tls(bound.client, tls)
            }
            None => Listener::Tcp(bound.client),
        };
        let stop = lifecycle.stop_token();
        if let Some(socket) = bound.unix {
            lifecycle.spawn("client face, local", clients.clone().serve(Listener::Unix(socket), stop.clone()));
        }
        lifecycle.spawn("client face", clients.serve(client_listener, stop.clone()));
        lifecycle.spawn("operator face", operator.serve(Listener::Tcp(bound.operator), stop));
    }
}

/// Reads the files that `[server]` names.
///
/// # Errors
///
/// Naming the file.
pub(super) fn read_tls((certificate, key): (&Path, &Path)) -> anyhow::Result<Tls> {
    Tls::read(certificate, key).context("no TLS (server.tls_certificate_file, server.tls_key_file)")
}

/// How many may come in, and what is counted of them. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Listeners {
    pub(super) client: ConnectionLimiter,
    pub(super) operator: ConnectionLimiter,
    pub(super) figures: ConnectionMetrics,
    pub(super) shares: DescriptorShares,
}

/// What is wanted of the process's descriptors.
pub(super) fn wanted(config: &Config, sandbox: bool) -> DescriptorDemand {
    let Config { server, upstream, webhooks, accounts, .. } = config;
    let UpstreamConfig { concurrent_predictions, concurrent_polls_max, queue_max, .. } = upstream;
    let WebhooksConfig { concurrent_max, .. } = webhooks;
    let calls = concurrent_predictions.get().saturating_mul(accounts.len().max(1));
    let outward = calls.saturating_add(concurrent_polls_max.get()).saturating_add(*concurrent_max);
    DescriptorDemand {
        connections: server.connections_max.get(),
        operator: OPERATOR_CONNECTIONS_MAX,
        // The sandbox's simulator has the other end of each of them.
        upstream: if sandbox { outward.saturating_mul(2) } else { outward },
        // One file of uploads for each order that is queued or being submitted.
        spool: queue_max.saturating_add(calls),
        results: RESULT_FILES,
    }
}

/// Shares out the descriptors of the process, and says so where clients get less than was wanted.
///
/// # Errors
///
/// [`TooFewDescriptors`].
pub(super) fn share(wanted: DescriptorDemand) -> Result<DescriptorShares, TooFewDescriptors> {
    // Where the system does not tell, as many as a gateway has open at its start.
    const USUALLY_OPEN: usize = 40;
    let shares = descriptors::share(descriptors::limit(), descriptors::open().unwrap_or(USUALLY_OPEN), wanted)?;
    let DescriptorShares { limit, connections, .. } = shares;
    if connections < wanted.connections {
        tracing::warn!(
            limit,
            connections,
            connections_max = wanted.connections,
            "the process may open so few files that fewer connections are accepted than server.connections_max (ulimit -n)"
        );
    }
    Ok(shares)
}

impl Listeners {
    pub(super) fn new(server: &ServerConfig, shares: DescriptorShares) -> Self {
        let per_address = server.connections_per_address_max;
        Self {
            client: ConnectionLimiter::new(shares.connections, per_address, server.proxy_networks.clone()),
            operator: ConnectionLimiter::new(shares.operator, None, Vec::new()),
            figures: ConnectionMetrics::default(),
            shares,
        }
    }

    /// Brings the gauges up to date.
    pub(super) fn refresh_metrics(&self) {
        self.figures.level(CLIENTS, &self.client);
        self.figures.level(OPERATOR, &self.operator);
        self.figures.descriptors(descriptors::open(), self.shares.limit);
    }

    pub(super) fn status(&self) -> Connections {
        Connections {
            clients: self.client.open(),
            clients_max: self.client.connections_max(),
            operator: self.operator.open(),
            operator_max: self.operator.connections_max(),
            descriptors_open: descriptors::open(),
            descriptors: self.shares,
        }
    }
}

/// The limits of every connection.
fn limits(server: &ServerConfig) -> ConnectionLimits {
    ConnectionLimits {
        header_timeout: server.header_timeout,
        keep_alive_timeout: server.keep_alive_timeout,
        write_timeout: server.write_timeout,
        handshake_timeout: server.tls_handshake_timeout,
        http1: Http1Limits { headers_max: server.headers_max, buffer_bytes: server.header_bytes_max },
        http2: Http2Limits {
            streams_max: server.http2_streams_max,
            header_bytes_max: server.http2_header_bytes_max,
            pending_resets_max: server.http2_pending_resets_max,
            error_resets_max: server.http2_error_resets_max,
            stream_window_bytes: server.http2_stream_window_bytes,
            connection_window_bytes: server.http2_connection_window_bytes,
            send_buffer_bytes: server.http2_send_buffer_bytes,
            ping_interval: server.http2_ping_interval,
            ping_timeout: server.http2_ping_timeout,
        },
    }
}
