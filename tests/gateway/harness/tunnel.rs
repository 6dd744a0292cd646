//! An HTTP proxy that opens tunnels to one address, whatever host is asked for, and a TLS endpoint in front of the
//! simulator.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rcgen::CertifiedKey;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use super::{Upstream, in_background};

/// The first byte of a TLS handshake.
const HANDSHAKE: u8 = 0x16;

/// A proxy that serves CONNECT and nothing else.
#[derive(Clone, Debug)]
pub(crate) struct Tunnel {
    pub(crate) address: String,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Tunnel {
    /// Opens tunnels to `target` for those who send `authorization` in `Proxy-Authorization`.
    pub(crate) async fn to(target: &str, authorization: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        // A name, which has to be resolved although it is private.
        let address = format!("http://localhost:{}", listener.local_addr().unwrap().port());
        let tunnel = Self { address, seen: Arc::default() };
        let (serving, target, authorization) = (tunnel.clone(), target.to_owned(), authorization.to_owned());
        in_background(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (tunnel, target, authorization) = (serving.clone(), target.clone(), authorization.clone());
                in_background(async move { tunnel.serve(client, &target, &authorization).await });
            }
        });
        tunnel
    }

    /// All that clients have sent in plain text.
    pub(crate) fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn serve(&self, mut client: TcpStream, target: &str, authorization: &str) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match client.read_u8().await {
                Ok(byte) => head.push(byte),
                Err(_) => break,
            }
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        let expected = format!("proxy-authorization: {authorization}");
        let authorized = head.lines().any(|line| line.eq_ignore_ascii_case(&expected));
        self.record(head);
        if !authorized {
            let _ = client.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n").await;
            return;
        }
        let mut server = TcpStream::connect(target).await.unwrap();
        client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.unwrap();
        let mut first = [0; 4096];
        let count = client.read(&mut first).await.unwrap_or(0);
        if first[..count].first().is_some_and(|&byte| byte != HANDSHAKE) {
            self.record(String::from_utf8_lossy(&first[..count]).into_owned());
        }
        server.write_all(&first[..count]).await.unwrap();
        // A reset is an end, too.
        let _ = copy_bidirectional(&mut client, &mut server).await;
    }

    fn record(&self, text: String) {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).push(text);
    }
}

/// Serves the simulator over TLS, with a certificate for `host` that is written to a file. Returns the address.
pub(crate) async fn serve_tls(upstream: &Upstream, host: &str, certificate: &Path) -> String {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let CertifiedKey { cert, signing_key } = rcgen::generate_simple_self_signed(vec![host.to_owned()]).unwrap();
    std::fs::write(certificate, cert.pem()).unwrap();
    let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(vec![cert.der().clone()], key);
    let acceptor = TlsAcceptor::from(Arc::new(config.unwrap()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let target = upstream.origin.replace("http://", "");
    in_background(async move {
        while let Ok((client, _)) = listener.accept().await {
            let (acceptor, target) = (acceptor.clone(), target.clone());
            in_background(async move {
                let Ok(mut client) = acceptor.accept(client).await else { return };
                let mut server = TcpStream::connect(target).await.unwrap();
                let _ = copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    address
}
