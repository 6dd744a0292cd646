//! `healthcheck`: asks a gateway on this machine whether it is ready.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::reachable_address;

/// Timeout of `healthcheck` for all addresses together, below that of the `HEALTHCHECK` in the Dockerfile.
const PROBE_TIMEOUT: Duration = Duration::from_millis(2500);
/// How much of an answer is read, in bytes.
const PROBE_BYTES_MAX: usize = 4096;

/// Asks a gateway on this machine whether it is ready, at its addresses in turn until one answers over HTTP. Blocks.
///
/// # Errors
///
/// One line that says why the gateway is not ready, or that none answers.
pub fn probe(listen: &[SocketAddr]) -> Result<(), String> {
    let deadline = Instant::now() + PROBE_TIMEOUT;
    let mut problem = "no address to ask at".to_owned();
    for (position, &address) in listen.iter().enumerate() {
        let address = reachable_address(address);
        // An address that does not answer leaves time for those after it.
        let others = u32::try_from(listen.len() - position).unwrap_or(u32::MAX);
        let until = Instant::now() + deadline.saturating_duration_since(Instant::now()) / others;
        match ask(address, "/readyz", until) {
            Ok(answer) if answer.starts_with("HTTP/1.1 200") => return Ok(()),
            Ok(answer) if answer.starts_with("HTTP/1.") => {
                let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body).trim();
                return Err(format!("{address}: {body}"));
            }
            Ok(_) => problem = format!("no gateway answers at {address}: the answer is not HTTP"),
            Err(error) => problem = format!("no gateway answers at {address}: {error}"),
        }
    }
    Err(problem)
}

/// Returns the answer of an address, or the beginning of it. Blocks.
///
/// # Errors
///
/// When nothing answers in time.
pub(crate) fn ask(address: SocketAddr, path: &str, until: Instant) -> std::io::Result<String> {
    let left = || {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok::<_, std::io::Error>(left) }
    };
    let mut stream = TcpStream::connect_timeout(&address, left()?)?;
    stream.set_write_timeout(Some(left()?))?;
    // In one write: a program that answers to its beginning and closes would break the rest.
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes())?;
    let mut answer = Vec::new();
    let mut piece = [0; 1024];
    while answer.len() < PROBE_BYTES_MAX {
        let read = left().and_then(|left| {
            stream.set_read_timeout(Some(left))?;
            stream.read(&mut piece)
        });
        match read {
            Ok(0) => break,
            Ok(read) => answer.extend_from_slice(&piece[..read]),
            // What arrived before decides.
            Err(_) if !answer.is_empty() => break,
            Err(error) => return Err(error),
        }
    }
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// An address that gives this answer to every connection; with `None` it gives none.
    fn answering(answer: Option<&'static str>) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let mut open = Vec::new();
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                match answer {
                    Some(answer) => {
                        let _ = stream.read(&mut [0; 1024]);
                        let _ = stream.write_all(answer.as_bytes());
                    }
                    None => open.push(stream),
                }
            }
        });
        address
    }

    #[test]
    fn the_first_address_that_answers_over_http_decides() {
        let ready = || answering(Some("HTTP/1.1 200 OK\r\n\r\nready\n"));
        let busy = || answering(Some("HTTP/1.1 503 Service Unavailable\r\n\r\nnot ready: storage\n"));
        let closed = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        assert_eq!(probe(&[ready()]), Ok(()));
        assert_eq!(probe(&[closed(), ready()]), Ok(()));
        assert_eq!(probe(&[answering(Some("SSH-2.0-OpenSSH\r\n")), answering(Some("")), ready()]), Ok(()));
        assert!(probe(&[busy(), ready()]).unwrap_err().ends_with("not ready: storage"));
        assert!(probe(&[closed(), busy(), closed()]).unwrap_err().ends_with("not ready: storage"));
        assert!(probe(&[closed()]).unwrap_err().contains("no gateway answers"));
        assert!(probe(&[]).is_err());
    }

    #[test]
    fn all_addresses_have_one_deadline() {
        let start = Instant::now();
        let silent: Vec<SocketAddr> = (0..4).map(|_| answering(None)).collect();
        assert!(probe(&silent).is_err());
        assert!(start.elapsed() < Duration::from_millis(2900), "{:?}", start.elapsed());
        let start = Instant::now();
        let ready = answering(Some("HTTP/1.1 200 OK\r\n\r\nready\n"));
        assert_eq!(probe(&[silent[0], ready]), Ok(()));
        assert!(start.elapsed() < PROBE_TIMEOUT, "{:?}", start.elapsed());
    }
}
