//! Whether the addresses of the configuration are free, and what has those that are not.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::report::{Row, Section, Verdict};
use crate::app::listeners;
use crate::config::{Config, ListenAddresses, ResolvedAddress};
use crate::operator::{self, reachable_address};

/// How long the program at an address may take to say what it is.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(1500);

/// What listens at an address.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Occupant {
    Gateway,
    /// A program, by its name and the id of its process where the system tells them.
    Other(Option<String>),
}

/// Adds a row for each listener. `storage_in_use`: a gateway runs on the storage, and probably has these addresses.
pub(super) async fn check(config: &Config, storage_in_use: bool, section: &mut Section) {
    let server = &config.server.addresses.listen;
    section.add(row("client port", "server.listen", server, "--listen", storage_in_use).await);
    let operator = &config.operator.listen;
    section.add(row("operator port", "operator.listen", operator, "--operator-listen", storage_in_use).await);
}

async fn row(subject: &'static str, key: &str, listen: &ListenAddresses, argument: &str, storage_in_use: bool) -> Row {
    let names = listen.clone();
    let resolved = tokio::task::spawn_blocking(move || names.resolve()).await;
    let resolved = match resolved {
        Ok(Ok(resolved)) => resolved,
        Ok(Err(problem)) => return fault(subject, problem, key),
        Err(error) => return fault(subject, error.to_string(), key),
    };
    let (mut free, mut taken) = (Vec::new(), Vec::new());
    for ResolvedAddress { address, optional } in resolved {
        match listeners::can_bind(address) {
            Ok(()) => free.push(address.to_string()),
            Err(error) if optional && listeners::is_missing(&error) => {}
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => taken.push((address, optional)),
            Err(error) => return fault(subject, format!("cannot listen on {address}: {error}"), key),
        }
    }
    let Some((address, optional)) = taken.first().copied() else {
        return match free.as_slice() {
            [] => fault(subject, format!("{listen} has no address on this machine"), key),
            _ => Row::good(subject, format!("{} can be listened on", free.join(" and "))),
        };
    };
    let occupant = tokio::task::spawn_blocking(move || occupant(address)).await.unwrap_or(Occupant::Other(None));
    if occupant == Occupant::Gateway && storage_in_use {
        return Row::note(subject, format!("{address} is in use by the gateway that runs"));
    }
    let by = match occupant {
        Occupant::Gateway => "another gateway answers there".to_owned(),
        Occupant::Other(Some(program)) => format!("by {program}"),
        Occupant::Other(None) => "by another program".to_owned(),
    };
    let seen = format!("{address} is in use: {by}");
    // As the start does, which goes on with the other address of localhost.
    let verdict = if optional && !free.is_empty() { Verdict::Warning } else { Verdict::Fault };
    Row::new(
        verdict,
        subject,
        seen,
        format!("stop that program, or choose another address: serve {argument} ADDR, or {key}"),
    )
}

fn fault(subject: &'static str, seen: String, key: &str) -> Row {
    Row::new(Verdict::Fault, subject, seen, format!("correct {key}"))
}

/// Asks what is at an address. Blocks.
fn occupant(address: SocketAddr) -> Occupant {
    let until = Instant::now() + ANSWER_TIMEOUT;
    match operator::ask(reachable_address(address), "/healthz", until) {
        // The headers of both listeners.
        Ok(answer)
            if answer.contains("\r\nx-request-id: req_") || answer.contains("\r\nreferrer-policy: no-referrer") =>
        {
            Occupant::Gateway
        }
        Ok(_) | Err(_) => Occupant::Other(program_at(address.port())),
    }
}

/// Returns the program that listens on a port, where it belongs to this user or the user is root.
#[cfg(target_os = "linux")]
fn program_at(port: u16) -> Option<String> {
    const LISTENS: &str = "0A";
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| std::fs::read_to_string(path).unwrap_or_default());
    let sockets: Vec<String> = tables
        .iter()
        .flat_map(|table| table.lines().skip(1))
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let (_, found) = fields.get(1)?.rsplit_once(':')?;
            let is_it = u16::from_str_radix(found, 16) == Ok(port) && *fields.get(3)? == LISTENS;
            is_it.then(|| format!("socket:[{}]", fields.get(9).unwrap_or(&"")))
        })
        .collect();
    let processes = std::fs::read_dir("/proc/").ok()?.filter_map(Result::ok);
    for process in processes.filter(|entry| entry.file_name().to_string_lossy().bytes().all(|b| b.is_ascii_digit())) {
        // Those of other users cannot be read.
        let Ok(descriptors) = std::fs::read_dir(process.path().join("fd")) else { continue };
        let targets = descriptors.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
        if targets.into_iter().any(|target| sockets.iter().any(|socket| target.as_os_str() == socket.as_str())) {
            let name = std::fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            return Some(format!("{} (process {})", name.trim(), process.file_name().to_string_lossy()));
        }
    }
    None
}

#[cfg(not(target_os = "linux"))]
fn program_at(_: u16) -> Option<String> {
    None
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;

    async fn seen(listen: &str, storage_in_use: bool) -> (Verdict, String) {
        let row = row("client port", "server.listen", &listen.parse().unwrap(), "--listen", storage_in_use).await;
        (row.verdict, row.seen)
    }

    /// A program that gives this answer to every connection.
    fn answering(answer: &'static str) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let _ = stream.read(&mut [0; 1024]);
                let _ = stream.write_all(answer.as_bytes());
            }
        });
        address
    }

    #[tokio::test]
    async fn a_free_address_is_good_and_stays_free() {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        for _ in 0..2 {
            assert_eq!(seen(&free.to_string(), false).await, (Verdict::Good, format!("{free} can be listened on")));
        }
        TcpListener::bind(free).unwrap();
    }

    #[tokio::test]
    async fn what_has_an_address_is_named_where_that_is_known() {
        let gateway = answering("HTTP/1.1 200 OK\r\nx-request-id: req_01\r\n\r\n{}").to_string();
        let (verdict, text) = seen(&gateway, false).await;
        assert!(verdict == Verdict::Fault && text.contains("another gateway answers there"), "{text}");
        let (verdict, text) = seen(&gateway, true).await;
        assert!(verdict == Verdict::Note && text.contains("in use by the gateway that runs"), "{text}");
        let other = answering("SSH-2.0-OpenSSH\r\n").to_string();
        for storage_in_use in [false, true] {
            let (verdict, text) = seen(&other, storage_in_use).await;
            assert!(verdict == Verdict::Fault && text.contains("is in use: by "), "{text}");
            // It is this process.
            #[cfg(target_os = "linux")]
            assert!(text.contains(&format!("(process {})", std::process::id())), "{text}");
        }
    }

    #[tokio::test]
    async fn one_address_of_localhost_may_be_taken_and_a_foreign_one_is_a_fault() {
        let taken = answering("");
        if TcpListener::bind(("::1", taken.port())).is_ok() {
            assert_eq!(seen(&format!("localhost:{}", taken.port()), false).await.0, Verdict::Warning);
        }
        let (verdict, text) = seen("192.0.2.1:8787", false).await;
        assert!(verdict == Verdict::Fault && text.contains("192.0.2.1:8787"), "{text}");
    }
}
