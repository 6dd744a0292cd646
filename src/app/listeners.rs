//! The listeners: bound before any other module is built, and their limits.

use std::io::{Error, ErrorKind};
use std::net::{Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use rustix::net::sockopt;
use tokio::net::{TcpListener, TcpSocket};

use crate::config::{
    self, Config, Environment, ListenAddresses, ResolvedAddress, ServerConfig, UpstreamConfig, WebhooksConfig,
};
use crate::lifecycle::inherited::InheritedListener;
use crate::lifecycle::{InheritedError, InheritedListeners, Lifecycle};
use crate::operator::Connections;
use crate::server::accept::{HttpServer, HttpService};
use crate::server::connection_limiter::ConnectionLimiter;
use crate::server::descriptors::{self, DescriptorDemand, DescriptorShares, TooFewDescriptors};
use crate::server::limits::{ConnectionLimits, Http1Limits, Http2Limits};
use crate::server::listener::{Listener, UnixSocket};
use crate::server::metrics::ConnectionMetrics;
use crate::server::tls::Tls;
use crate::telemetry::Metrics;

/// The `listener` label of metrics.
const CLIENTS: &str = "clients";
const OPERATOR: &str = "operator";

/// `EAFNOSUPPORT` of Linux, for which the standard library has no name.
const ADDRESS_FAMILY_UNSUPPORTED: i32 = 97;

/// Connections of a listener that wait to be accepted. The system may allow fewer.
const PENDING_CONNECTIONS_MAX: u32 = 1024;
/// Connections of the operator listener: a few people, a scraper, and probes that must never be refused.
const OPERATOR_CONNECTIONS_MAX: usize = 64;
/// Files of stored pictures that are read or written at the same time.
const RESULT_FILES: usize = 512;

/// The sockets of one listener.
#[derive(Debug)]
struct BoundListener {
    /// Never empty.
    tcp: Vec<TcpListener>,
    unix: Vec<UnixSocket>,
}

/// Sockets with reserved addresses that do not accept connections yet.
#[derive(Debug)]
pub(super) struct BoundListeners {
    client: BoundListener,
    operator: BoundListener,
    tls: Option<Tls>,
}

/// Takes the sockets that a supervisor hands on to this process; none where there is no such supervisor. Call it before there
/// is a second thread.
///
/// # Errors
///
/// [`InheritedError`], naming the socket.
pub fn inherited_listeners(config: &Config, environment: &Environment) -> Result<InheritedListeners, InheritedError> {
    InheritedListeners::take(environment, &config.server.addresses.listen.ports(), &config.operator.listen.ports())
}

impl BoundListeners {
    /// Binds every address that no inherited socket stands in for, and reads the certificate.
    ///
    /// # Errors
    ///
    /// Names the key of an address that is taken or a file that cannot be read.
    pub(super) async fn bind(config: &Config, inherited: InheritedListeners) -> anyhow::Result<Self> {
        let Config { server, operator, .. } = config;
        let tls = match server.tls.files() {
            Some(files) => Some(load_tls(files).await?),
            None => None,
        };
        let InheritedListeners { client, operator: inherited_operator } = inherited;
        let mut client = BoundListener::bind(client, &server.addresses.listen, "server.listen").await?;
        let operator = BoundListener::bind(inherited_operator, &operator.listen, "operator.listen").await?;
        if let (Some(path), true) = (server.addresses.unix_socket.as_deref(), client.unix.is_empty()) {
            let socket = UnixSocket::bind(path, server.addresses.unix_socket_mode.0)
                .with_context(|| format!("cannot listen on {} (server.unix_socket)", path.display()))?;
            client.unix.push(socket);
        }
        Ok(Self { client, operator, tls })
    }

    /// Registers when the certificate expires, where there is one.
    pub(super) fn register(&self, metrics: &Metrics) {
        if let Some(tls) = &self.tls {
            tls.register(metrics);
        }
    }

    /// Returns the addresses for clients and for the operator, at least one of each.
    ///
    /// # Errors
    ///
    /// When the system does not return them.
    pub(super) fn addresses(&self) -> std::io::Result<(Vec<SocketAddr>, Vec<SocketAddr>)> {
        let of =
            |listeners: &[TcpListener]| listeners.iter().map(TcpListener::local_addr).collect::<std::io::Result<_>>();
        Ok((of(&self.client.tcp)?, of(&self.operator.tcp)?))
    }

    /// Adds everything but the routers that are served.
    pub(super) fn with_limits(self, listeners: &Listeners, server: &ServerConfig, lifecycle: &Lifecycle) -> Serving {
        let (limits, reload_interval) = (limits(server), server.tls.reload_interval);
        Serving { bound: self, listeners: listeners.clone(), limits, reload_interval, lifecycle: lifecycle.clone() }
    }
}

impl BoundListener {
    /// Takes the inherited sockets, and binds the addresses unless one of the sockets is of TCP.
    async fn bind(
        inherited: Vec<InheritedListener>,
        listen: &ListenAddresses,
        setting: &'static str,
    ) -> anyhow::Result<Self> {
        let mut bound = Self { tcp: Vec::new(), unix: Vec::new() };
        for listener in inherited {
            tracing::info!(socket = %listener, listener = setting, "listening on an inherited socket");
            match listener {
                InheritedListener::Tcp(listener) => bound.tcp.push(TcpListener::from_std(listener)?),
                InheritedListener::Unix(listener) => bound.unix.push(UnixSocket::inherited(listener)?),
            }
        }
        if bound.tcp.is_empty() {
            bound.tcp = bind_all(listen, setting).await?;
        }
        Ok(bound)
    }
}

/// Binds a TCP listener. `setting` names the source of the address in an error.
///
/// # Errors
///
/// When the address is in use or not of this machine.
pub(super) async fn bind(address: SocketAddr, setting: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address} ({setting})"))
}

/// Binds all addresses of a listener. With port 0, all get the port that the system chose for the first.
///
/// # Errors
///
/// When a name cannot be resolved, or an address is in use or not of this machine. One of the two of `localhost` may be
/// missing, or in use by another program.
async fn bind_all(listen: &ListenAddresses, setting: &str) -> anyhow::Result<Vec<TcpListener>> {
    let names = listen.clone();
    let resolved = tokio::task::spawn_blocking(move || names.resolve()).await?;
    let resolved = resolved.map_err(|problem| anyhow::anyhow!("cannot listen on {listen} ({setting}): {problem}"))?;
    let mut bound: Vec<TcpListener> = Vec::new();
    let mut left_out: Vec<(SocketAddr, Error)> = Vec::new();
    for ResolvedAddress { mut address, optional } in resolved {
        if let Some(first) = bound.first().filter(|_| address.port() == 0) {
            address.set_port(first.local_addr()?.port());
        }
        match bind_one(address) {
            Ok(listener) => bound.push(listener),
            Err(error) if optional => left_out.push((address, error)),
            Err(error) => return Err(error).with_context(|| format!("cannot listen on {address} ({setting})")),
        }
    }
    if bound.is_empty() {
        // That one is in use says more than that the other is missing.
        let position = left_out.iter().position(|(_, error)| !is_missing(error)).unwrap_or_default();
        if left_out.is_empty() {
            anyhow::bail!("cannot listen on {listen} ({setting}): it has no address");
        }
        let (address, error) = left_out.swap_remove(position);
        return Err(error).with_context(|| format!("cannot listen on {address} ({setting})"));
    }
    for (address, error) in left_out {
        if is_missing(&error) {
            tracing::debug!(%address, %error, "this machine does not have the address; not listening on it");
        } else if error.kind() == ErrorKind::AddrInUse {
            tracing::warn!(
                %address,
                setting,
                "another program listens on the address, and clients that connect to it reach that program; not \
                 listening on it"
            );
        } else {
            return Err(error).with_context(|| format!("cannot listen on {address} ({setting})"));
        }
    }
    Ok(bound)
}

/// Binds one address, with the options of [`TcpListener::bind`]. On every IPv6 address it receives IPv4 connections too,
/// whatever the system's default is, so that no other program can have them.
fn bind_one(address: SocketAddr) -> std::io::Result<TcpListener> {
    bound_socket(address)?.listen(PENDING_CONNECTIONS_MAX)
}

/// Fails as binding the address would, and does not listen on it.
pub(super) fn can_bind(address: SocketAddr) -> std::io::Result<()> {
    bound_socket(address).map(drop)
}

fn bound_socket(address: SocketAddr) -> std::io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    if address.ip() == Ipv6Addr::UNSPECIFIED {
        sockopt::set_ipv6_v6only(&socket, false)?;
    }
    socket.bind(address)?;
    Ok(socket)
}

/// Returns whether the machine has no address of this family.
pub(super) fn is_missing(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::AddrNotAvailable | ErrorKind::Unsupported)
        || error.raw_os_error() == Some(ADDRESS_FAMILY_UNSUPPORTED)
}

/// Listeners with all they need, except what answers their requests.
#[derive(Debug)]
pub(super) struct Serving {
    bound: BoundListeners,
    listeners: Listeners,
    limits: ConnectionLimits,
    reload_interval: Duration,
    lifecycle: Lifecycle,
}

impl Serving {
    /// Starts to accept connections.
    pub(super) fn start(self, api: Arc<dyn HttpService>, operator: Arc<dyn HttpService>) {
        let Self { bound, listeners, limits, reload_interval, lifecycle } = self;
        let server = |listener_name, service, limiter: &ConnectionLimiter| HttpServer {
            listener_name,
            service,
            limits,
            limiter: limiter.clone(),
            refusals: crate::api::connection_refusals(),
            metrics: listeners.metrics.clone(),
            lifecycle: lifecycle.clone(),
        };
        let clients = server(CLIENTS, api, &listeners.client);
        let operator = server(OPERATOR, operator, &listeners.operator);
        if let Some(tls) = &bound.tls {
            lifecycle.spawn_service("certificate", tls.clone().reload_on_change(reload_interval));
        }
        let stop = lifecycle.stop_token();
        for (server, sockets) in [(&clients, bound.client.unix), (&operator, bound.operator.unix)] {
            for socket in sockets {
                lifecycle.spawn("Unix socket", server.clone().serve(Listener::Unix(socket), stop.clone()));
            }
        }
        for listener in bound.client.tcp {
            let listener = match &bound.tls {
                Some(tls) => Listener::Tls(listener, tls.clone()),
                None => Listener::Tcp(listener),
            };
            lifecycle.spawn("client listener", clients.clone().serve(listener, stop.clone()));
        }
        for listener in bound.operator.tcp {
            let serving = operator.clone().serve(Listener::Tcp(listener), stop.clone());
            lifecycle.spawn("operator listener", serving);
        }
    }
}

/// Reads the files that `[server]` names.
///
/// # Errors
///
/// Names the file.
pub(super) async fn load_tls((certificate, key): (&Path, &Path)) -> anyhow::Result<Tls> {
    Tls::load(certificate, key).await.context("TLS is not available (server.tls_certificate_file, server.tls_key_file)")
}

/// Limits and metrics of the listeners. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Listeners {
    client: ConnectionLimiter,
    operator: ConnectionLimiter,
    metrics: ConnectionMetrics,
    shares: DescriptorShares,
}

/// Returns how many descriptors the configuration asks for.
pub(super) fn descriptor_demand(config: &Config, sandbox: bool) -> DescriptorDemand {
    let Config { server, upstream, webhooks, accounts, .. } = config;
    let UpstreamConfig { concurrent_predictions, concurrent_polls_max, queue_max, .. } = upstream;
    let WebhooksConfig { concurrent_max, .. } = webhooks;
    let concurrent = concurrent_predictions.get().saturating_mul(accounts.len().max(1));
    let outgoing = concurrent.saturating_add(concurrent_polls_max.get()).saturating_add(*concurrent_max);
    DescriptorDemand {
        connections: server.connections.connections_max.get(),
        operator: OPERATOR_CONNECTIONS_MAX,
        // In the sandbox the simulator holds the other end of each connection.
        upstream: if sandbox { outgoing.saturating_mul(2) } else { outgoing },
        // One file of uploads for each purchase that is queued or being submitted.
        spool: queue_max.saturating_add(concurrent),
        results: RESULT_FILES,
    }
}

/// Fewer connections than this are too few for a gateway that serves more than one machine.
const CONNECTIONS_ENOUGH: usize = 1_000;

/// Returns whether fewer connections than configured matter: where their number was chosen, or few are left. The default is
/// more than most systems allow, and than most deployments have.
pub(super) fn has_too_few(shares: &DescriptorShares, demand: &DescriptorDemand) -> bool {
    let is_chosen = demand.connections != config::connections_max_default();
    shares.connections < demand.connections && (is_chosen || shares.connections < CONNECTIONS_ENOUGH)
}

/// Divides the descriptors of the process, and logs a warning when that leaves too few connections.
///
/// # Errors
///
/// [`TooFewDescriptors`].
pub(super) fn divide_descriptors(demand: DescriptorDemand) -> Result<DescriptorShares, TooFewDescriptors> {
    // Where the system does not say: what a gateway has open at its start.
    const USUALLY_OPEN: usize = 40;
    let open = descriptors::open().unwrap_or(USUALLY_OPEN);
    let shares = descriptors::divide(descriptors::limit(), open, demand)?;
    let DescriptorShares { limit, connections, .. } = shares;
    if has_too_few(&shares, &demand) {
        tracing::warn!(
            limit,
            connections,
            connections_max = demand.connections,
            "the limit of open files (ulimit -n) is low: fewer connections are accepted than server.connections_max"
        );
    }
    Ok(shares)
}

impl Listeners {
    pub(super) fn new(server: &ServerConfig, shares: DescriptorShares, registry: &Metrics) -> Self {
        let per_address = server.connections.per_address_max;
        let metrics = ConnectionMetrics::default();
        registry.register("connections", |registry| metrics.register(registry));
        for listener in [CLIENTS, OPERATOR] {
            metrics.begin(listener);
        }
        Self {
            client: ConnectionLimiter::new(shares.connections, per_address, server.connections.proxy_networks.clone()),
            operator: ConnectionLimiter::new(shares.operator, None, Vec::new()),
            metrics,
            shares,
        }
    }

    /// Updates the gauges.
    pub(super) fn update_metrics(&self) {
        self.metrics.update(CLIENTS, &self.client);
        self.metrics.update(OPERATOR, &self.operator);
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

/// Returns the limits of every connection.
fn limits(server: &ServerConfig) -> ConnectionLimits {
    let ServerConfig { connections, http2, tls, .. } = server;
    ConnectionLimits {
        header_timeout: connections.header_timeout,
        keep_alive_timeout: connections.keep_alive_timeout,
        write_timeout: connections.write_timeout,
        handshake_timeout: tls.handshake_timeout,
        http1: Http1Limits { headers_max: connections.headers_max, buffer_bytes: connections.header_bytes_max },
        http2: Http2Limits {
            streams_max: http2.streams_max,
            header_bytes_max: http2.header_bytes_max,
            pending_resets_max: http2.pending_resets_max,
            error_resets_max: http2.error_resets_max,
            stream_window_bytes: http2.stream_window_bytes,
            connection_window_bytes: http2.connection_window_bytes,
            send_buffer_bytes: http2.send_buffer_bytes,
            ping_interval: http2.ping_interval,
            ping_timeout: http2.ping_timeout,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has_ipv6() -> bool {
        std::net::TcpListener::bind("[::1]:0").is_ok()
    }

    async fn bound(listen: &str) -> anyhow::Result<Vec<String>> {
        let listeners = bind_all(&listen.parse().unwrap(), "server.listen").await?;
        Ok(listeners.iter().map(|listener| listener.local_addr().unwrap().to_string()).collect())
    }

    /// A listener of another program on a free port of this address, and the port.
    fn taken(address: &str) -> (std::net::TcpListener, u16) {
        let other = std::net::TcpListener::bind(format!("{address}:0")).unwrap();
        let port = other.local_addr().unwrap().port();
        (other, port)
    }

    #[tokio::test]
    async fn one_address_of_localhost_may_be_in_use() {
        if !has_ipv6() {
            return;
        }
        let (_other, port) = taken("[::1]");
        assert_eq!(bound(&format!("localhost:{port}")).await.unwrap(), [format!("127.0.0.1:{port}")]);
        let (_other, port) = taken("127.0.0.1");
        assert_eq!(bound(&format!("localhost:{port}")).await.unwrap(), [format!("[::1]:{port}")]);
        // What is listed by itself may not.
        for listen in [format!("127.0.0.1:{port},localhost:{port}"), format!("localhost:{port},127.0.0.1:{port}")] {
            let error = format!("{:#}", bound(&listen).await.unwrap_err());
            assert!(error.contains(&format!("127.0.0.1:{port} (server.listen)")), "{error}");
        }
        let _both = std::net::TcpListener::bind(format!("[::1]:{port}")).unwrap();
        let error = format!("{:#}", bound(&format!("localhost:{port}")).await.unwrap_err());
        assert!(error.contains(&format!("127.0.0.1:{port} (server.listen)")) && error.contains("in use"), "{error}");
    }

    #[tokio::test]
    async fn addresses_that_overlap_are_bound_once() {
        for (listen, expected) in [
            ("0.0.0.0:0,127.0.0.1:0", "0.0.0.0"),
            ("127.0.0.1:0,0.0.0.0:0,127.0.0.2:0", "0.0.0.0"),
            ("[::]:0,localhost:0", "[::]"),
            ("localhost:0,0.0.0.0:0,[::]:0", "[::]"),
        ] {
            if expected == "[::]" && !has_ipv6() {
                continue;
            }
            let addresses = bound(listen).await.unwrap();
            assert!(addresses.len() == 1 && addresses[0].starts_with(expected), "{listen}: {addresses:?}");
        }
    }

    #[tokio::test]
    async fn every_ipv6_address_includes_ipv4_or_is_refused() {
        if !has_ipv6() {
            return;
        }
        let listener = bind_one("[::]:0".parse().unwrap()).unwrap();
        let only_v6 = rustix::net::sockopt::ipv6_v6only(&listener).unwrap();
        assert!(!only_v6);
        let port = listener.local_addr().unwrap().port();
        std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
        let (_other, port) = taken("0.0.0.0");
        let error = bound(&format!("[::]:{port},127.0.0.1:{port}")).await.unwrap_err();
        assert!(format!("{error:#}").contains(&format!("[::]:{port} (server.listen)")), "{error:#}");
    }
}
