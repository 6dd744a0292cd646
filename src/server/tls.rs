//! TLS on a listener: a certificate and its key from two files, reloaded when they change.
//!
//! Certificates live for weeks, the gateway for longer. The files are checked every few seconds; when one of them has changed
//! both are read, and when they fit together the next connection gets the new certificate. When they do not (one may be written
//! before the other) the old certificate stays in use, an error is logged once, and the files are read again at their next
//! change. Open connections keep the certificate they began with.
//!
//! The files are read on threads that may block, never on those that serve connections.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use prometheus_client::metrics::gauge::Gauge;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::telemetry::Metrics;

mod expiry;

/// Protocols inside TLS, in the order of preference.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// The current certificate of a listener. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Tls {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    certificate: PathBuf,
    key: PathBuf,
    /// What the files looked like before they were first read.
    first: Fingerprint,
    config: RwLock<Arc<ServerConfig>>,
    /// When the first certificate of the chain that expires does, in Unix seconds; 0 when that cannot be read.
    expiry: Gauge,
}

/// Why the files cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    #[error("cannot read {path}: {error}")]
    Unreadable { path: PathBuf, error: io::Error },
    #[error("{path} holds no {what} in PEM format: {error}")]
    NotPem { path: PathBuf, what: &'static str, error: String },
    #[error("{certificate} and {key} cannot be used as a server's certificate and key: {error}")]
    Unusable { certificate: PathBuf, key: PathBuf, error: rustls::Error },
}

/// What shows a change: modification time and length of both files.
type Fingerprint = [Option<(SystemTime, u64)>; 2];

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    ///
    /// [`TlsError`], naming the file. The key must be the certificate's.
    pub(crate) async fn load(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let (certificate, key) = (certificate.to_owned(), key.to_owned());
        blocking(move || {
            let first = fingerprint(&certificate, &key);
            let (config, expires) = read(&certificate, &key)?;
            let (config, expiry) = (RwLock::new(Arc::new(config)), Gauge::default());
            expiry.set(expires);
            Ok(Self { shared: Arc::new(Shared { certificate, key, first, config, expiry }) })
        })
        .await
    }

    /// Registers when the certificate expires.
    pub(crate) fn register(&self, metrics: &Metrics) {
        metrics.register("tls", |registry| {
            let help = "When the first certificate of server.tls_certificate_file that expires does, as Unix time";
            registry.register("certificate_expiry_timestamp_seconds", help, self.shared.expiry.clone());
        });
    }

    /// Reloads the files when one of them has changed. Runs forever; checks every `interval`.
    pub(crate) async fn reload_on_change(self, interval: Duration) {
        let mut known = self.shared.first;
        loop {
            tokio::time::sleep(interval).await;
            let tls = self.clone();
            known = blocking(move || tls.reload(known)).await;
        }
    }

    /// Reads the files if they differ from `known`, and returns what they look like now. Blocks.
    fn reload(&self, known: Fingerprint) -> Fingerprint {
        let Shared { certificate, key, config, expiry, .. } = &*self.shared;
        let found = fingerprint(certificate, key);
        if found != known {
            match read(certificate, key) {
                Ok((new, expires)) => {
                    expiry.set(expires);
                    *config.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(new);
                    tracing::info!(certificate = %certificate.display(), "TLS certificate reloaded");
                }
                Err(error) => {
                    tracing::error!(%error, "TLS certificate not reloaded; the previous one stays in use");
                }
            }
        }
        found
    }

    pub(super) async fn accept<S: AsyncRead + AsyncWrite + Unpin>(&self, stream: S) -> io::Result<TlsStream<S>> {
        let config = Arc::clone(&self.shared.config.read().unwrap_or_else(PoisonError::into_inner));
        TlsAcceptor::from(config).accept(stream).await
    }
}

/// Returns whether a client begins with the name of an HTTP method, once its first byte has arrived. TLS begins with 0x16.
///
/// # Errors
///
/// The socket's.
pub(super) async fn is_plain_http(stream: &TcpStream) -> io::Result<bool> {
    let mut first = [0];
    Ok(stream.peek(&mut first).await? == 1 && first[0].is_ascii_alphabetic())
}

/// Runs `work` on a thread that may block.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // Cancelled: the runtime is shutting down, and ends this task, too.
            Err(_) => std::future::pending().await,
        },
    }
}

/// Blocks.
fn fingerprint(certificate: &Path, key: &Path) -> Fingerprint {
    [certificate, key].map(|path| {
        let file = fs::metadata(path).ok()?;
        Some((file.modified().ok()?, file.len()))
    })
}

/// Returns what serves with the files, and when the certificate expires. Blocks.
fn read(certificate: &Path, key: &Path) -> Result<(ServerConfig, i64), TlsError> {
    let bytes = |path: &Path| fs::read(path).map_err(|error| TlsError::Unreadable { path: path.to_owned(), error });
    let not_pem = |path: &Path, what, error: String| TlsError::NotPem { path: path.to_owned(), what, error };
    let chain = CertificateDer::pem_slice_iter(&bytes(certificate)?).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(|error| not_pem(certificate, "certificate", error.to_string()))?;
    if chain.is_empty() {
        return Err(not_pem(certificate, "certificate", "the file is empty or in another format".to_owned()));
    }
    let expires = chain.iter().map(|one| expiry::not_after(one).unwrap_or_default()).min().unwrap_or_default();
    let secret = PrivateKeyDer::from_pem_slice(&bytes(key)?);
    let secret = secret.map_err(|error| not_pem(key, "private key", error.to_string()))?;
    let unusable = |error| TlsError::Unusable { certificate: certificate.to_owned(), key: key.to_owned(), error };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().map_err(unusable)?;
    let mut config = builder.with_no_client_auth().with_single_cert(chain, secret).map_err(unusable)?;
    config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).into();
    Ok((config, expires))
}
