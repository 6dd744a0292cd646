//! TLS on a listener: a certificate and its key from two files, read anew when they change.
//!
//! Certificates live for weeks, the gateway for longer. The files are looked at every few seconds; when one of them has
//! changed both are read, and when they fit together the next connection gets the new certificate. When they do not (one
//! may be written before the other) the old one stays, an error is logged once, and they are read again when they change.
//! Connections that are open keep what they began with.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// What clients may speak inside, the better first.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// The certificate of a listener, as it is now. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Tls {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    certificate: PathBuf,
    key: PathBuf,
    config: RwLock<Arc<ServerConfig>>,
}

/// What is wrong with the files.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    #[error("cannot read {path}: {error}")]
    Unreadable { path: PathBuf, error: io::Error },
    #[error("{path} holds no {what} in PEM: {error}")]
    NotPem { path: PathBuf, what: &'static str, error: String },
    #[error("{certificate} and {key} make no server's certificate: {error}")]
    Unfit { certificate: PathBuf, key: PathBuf, error: rustls::Error },
}

/// By what a change shows: when both files were written, and how long they are.
type Stamp = [Option<(SystemTime, u64)>; 2];

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    ///
    /// [`TlsError`], naming the file. The key must be the certificate's.
    pub(crate) fn read(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let config = RwLock::new(Arc::new(read(certificate, key)?));
        let (certificate, key) = (certificate.to_owned(), key.to_owned());
        Ok(Self { shared: Arc::new(Shared { certificate, key, config }) })
    }

    /// Reads the files again whenever one of them has changed. Runs for ever; looks every `interval`.
    pub(crate) async fn follow(self, interval: Duration) {
        let mut known = self.stamp();
        loop {
            tokio::time::sleep(interval).await;
            let found = self.stamp();
            if found == known {
                continue;
            }
            known = found;
            let Shared { certificate, key, config } = &*self.shared;
            match read(certificate, key) {
                Ok(fresh) => {
                    *config.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(fresh);
                    tracing::info!(certificate = %certificate.display(), "a new certificate is in use");
                }
                Err(error) => tracing::error!(%error, "a new certificate cannot be used; the old one stays"),
            }
        }
    }

    fn stamp(&self) -> Stamp {
        [&self.shared.certificate, &self.shared.key].map(|path| {
            let file = fs::metadata(path).ok()?;
            Some((file.modified().ok()?, file.len()))
        })
    }

    pub(super) async fn accept<S: AsyncRead + AsyncWrite + Unpin>(&self, stream: S) -> io::Result<TlsStream<S>> {
        let config = Arc::clone(&self.shared.config.read().unwrap_or_else(PoisonError::into_inner));
        TlsAcceptor::from(config).accept(stream).await
    }
}

fn read(certificate: &Path, key: &Path) -> Result<ServerConfig, TlsError> {
    let bytes = |path: &Path| fs::read(path).map_err(|error| TlsError::Unreadable { path: path.to_owned(), error });
    let not_pem = |path: &Path, what, error: String| TlsError::NotPem { path: path.to_owned(), what, error };
    let chain = CertificateDer::pem_slice_iter(&bytes(certificate)?).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(|error| not_pem(certificate, "certificate", error.to_string()))?;
    if chain.is_empty() {
        return Err(not_pem(certificate, "certificate", "nothing was found".to_owned()));
    }
    let secret = PrivateKeyDer::from_pem_slice(&bytes(key)?);
    let secret = secret.map_err(|error| not_pem(key, "private key", error.to_string()))?;
    let unfit = |error| TlsError::Unfit { certificate: certificate.to_owned(), key: key.to_owned(), error };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().map_err(unfit)?;
    let mut config = builder.with_no_client_auth().with_single_cert(chain, secret).map_err(unfit)?;
    config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).into();
    Ok(config)
}
