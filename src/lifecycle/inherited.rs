//! Listening sockets that the supervisor has opened and hands on (`LISTEN_FDS`, `sd_listen_fds(3)`).
//!
//! They stay open in the supervisor when this process ends, so connections wait in them until the next process accepts.
//!
//! Which listener a socket is for says, in this order: its name in `LISTEN_FDNAMES`, `client` or `operator`; its port, when that
//! is one of the listener's own in the configuration; and where neither says it of any socket, its position: the first is for
//! clients, a second for the operator.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;

use listenfd::ListenFd;
use rustix::net::sockopt::socket_acceptconn;

/// The number of the first descriptor that is handed on.
const FIRST: usize = 3;
/// Names of sockets.
const CLIENT: &str = "client";
const OPERATOR: &str = "operator";

/// The inherited sockets of each listener. Those of a listener may be none: it binds its own.
#[derive(Debug, Default)]
pub struct InheritedListeners {
    pub(crate) client: Vec<InheritedListener>,
    pub(crate) operator: Vec<InheritedListener>,
}

/// A socket that listens.
#[derive(Debug)]
pub(crate) enum InheritedListener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// Why inherited sockets cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum InheritedError {
    #[error(
        "LISTEN_FDS: descriptor {number} is no socket that listens for streams, over TCP or Unix ({problem}); the socket unit \
         must have ListenStream= and no Accept=yes"
    )]
    NotListening { number: usize, problem: String },
    #[error(
        "LISTEN_FDS: descriptor {number} ({socket}) is for no listener: name it client or operator (FileDescriptorName= of its \
         socket unit, or LISTEN_FDNAMES=client:operator), or give it a port of server.listen or operator.listen"
    )]
    Unassigned { number: usize, socket: String },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    Client,
    Operator,
}

impl InheritedListeners {
    /// Takes the sockets that are meant for this process; none where the environment names none. The ports are those of the
    /// configuration.
    ///
    /// Call it once, and before there is a second thread: it removes the variables, so that no child takes them for its own.
    ///
    /// # Errors
    ///
    /// [`InheritedError`], naming the descriptor.
    pub(crate) fn take(
        variables: &BTreeMap<String, String>,
        client_ports: &[u16],
        operator_ports: &[u16],
    ) -> Result<Self, InheritedError> {
        let mut passed = ListenFd::from_env();
        let names: Vec<&str> =
            variables.get("LISTEN_FDNAMES").map_or_else(Vec::new, |names| names.split(':').collect());
        let mut sockets = Vec::new();
        for position in 0..passed.len() {
            let listener = take_one(&mut passed, position)
                .map_err(|problem| InheritedError::NotListening { number: FIRST + position, problem })?;
            sockets.push((listener, names.get(position).copied().unwrap_or_default()));
        }
        Self::divide(sockets, client_ports, operator_ports)
    }

    fn divide(
        sockets: Vec<(InheritedListener, &str)>,
        client_ports: &[u16],
        operator_ports: &[u16],
    ) -> Result<Self, InheritedError> {
        let said = |(listener, name): &(InheritedListener, &str)| match (*name, listener.port()) {
            (CLIENT, _) => Some(Purpose::Client),
            (OPERATOR, _) => Some(Purpose::Operator),
            (_, Some(port)) if client_ports.contains(&port) => Some(Purpose::Client),
            (_, Some(port)) if operator_ports.contains(&port) => Some(Purpose::Operator),
            (_, Some(_) | None) => None,
        };
        let mut purposes: Vec<Option<Purpose>> = sockets.iter().map(said).collect();
        if sockets.len() <= 2 && purposes.iter().all(Option::is_none) {
            purposes = [Purpose::Client, Purpose::Operator].into_iter().map(Some).take(sockets.len()).collect();
        }
        let mut divided = Self::default();
        for (position, ((listener, name), purpose)) in sockets.into_iter().zip(purposes).enumerate() {
            match purpose {
                Some(Purpose::Client) => divided.client.push(listener),
                Some(Purpose::Operator) => divided.operator.push(listener),
                None => {
                    let socket = if name.is_empty() { listener.to_string() } else { format!("{listener}, {name:?}") };
                    return Err(InheritedError::Unassigned { number: FIRST + position, socket });
                }
            }
        }
        Ok(divided)
    }
}

impl InheritedListener {
    fn port(&self) -> Option<u16> {
        match self {
            Self::Tcp(listener) => listener.local_addr().ok().map(|address| address.port()),
            Self::Unix(_) => None,
        }
    }
}

/// Writes the address.
impl fmt::Display for InheritedListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unnamed = |_| fmt::Error;
        match self {
            Self::Tcp(listener) => SocketAddr::fmt(&listener.local_addr().map_err(unnamed)?, f),
            Self::Unix(listener) => match listener.local_addr().map_err(unnamed)?.as_pathname() {
                Some(path) => path.display().fmt(f),
                None => f.write_str("a Unix socket without a path"),
            },
        }
    }
}

/// Takes one socket, ready for an asynchronous runtime.
fn take_one(passed: &mut ListenFd, position: usize) -> Result<InheritedListener, String> {
    let text = |error: io::Error| error.to_string();
    let listener = match passed.take_tcp_listener(position) {
        Ok(Some(listener)) => InheritedListener::Tcp(listener),
        Ok(None) => return Err("it was taken before".to_owned()),
        Err(not_tcp) => match passed.take_unix_listener(position) {
            Ok(Some(listener)) => InheritedListener::Unix(listener),
            Ok(None) | Err(_) => return Err(text(not_tcp)),
        },
    };
    let listens = match &listener {
        InheritedListener::Tcp(listener) => {
            listener.set_nonblocking(true).and_then(|()| Ok(socket_acceptconn(listener)?))
        }
        InheritedListener::Unix(listener) => {
            listener.set_nonblocking(true).and_then(|()| Ok(socket_acceptconn(listener)?))
        }
    };
    if listens.map_err(text)? { Ok(listener) } else { Err("it is a connection, or not listening yet".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp() -> (InheritedListener, u16) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        (InheritedListener::Tcp(listener), port)
    }

    /// Divides one socket for each name, with the ports of some of them configured; returns the ports of each listener.
    fn divided(names: &[&str], client: &[usize], operator: &[usize]) -> Result<(Vec<usize>, Vec<usize>), String> {
        let (sockets, ports): (Vec<_>, Vec<_>) = names.iter().map(|_| tcp()).unzip();
        let of = |positions: &[usize]| positions.iter().map(|&at| ports[at]).collect::<Vec<_>>();
        let sockets = sockets.into_iter().zip(names.iter().copied()).collect();
        let divided =
            InheritedListeners::divide(sockets, &of(client), &of(operator)).map_err(|error| error.to_string())?;
        let positions = |listeners: &[InheritedListener]| {
            listeners.iter().map(|one| ports.iter().position(|port| one.port() == Some(*port)).unwrap()).collect()
        };
        Ok((positions(&divided.client), positions(&divided.operator)))
    }

    #[test]
    fn names_come_before_ports_and_ports_before_positions() {
        assert_eq!(divided(&["operator", "client", "client"], &[], &[]), Ok((vec![1, 2], vec![0])));
        assert_eq!(divided(&["operator", "client"], &[0], &[1]), Ok((vec![1], vec![0])), "names before ports");
        let unit = "gptproto-gateway.socket";
        assert_eq!(divided(&[unit, unit, unit], &[1, 2], &[0]), Ok((vec![1, 2], vec![0])));
        assert_eq!(divided(&["unknown", "unknown"], &[1], &[0]), Ok((vec![1], vec![0])), "ports before positions");
        assert_eq!(divided(&["", ""], &[], &[]), Ok((vec![0], vec![1])));
        assert_eq!(divided(&[""], &[], &[]), Ok((vec![0], vec![])));
        assert_eq!(divided(&["operator"], &[], &[]), Ok((vec![], vec![0])));
        assert_eq!(divided(&[], &[], &[]), Ok((vec![], vec![])));
    }

    #[test]
    fn a_socket_that_nothing_assigns_is_an_error_that_names_it() {
        let error = divided(&["", "", ""], &[], &[]).unwrap_err();
        assert!(error.contains("descriptor 3 (127.0.0.1:") && error.contains("LISTEN_FDNAMES"), "{error}");
        let error = divided(&["client", "web"], &[], &[]).unwrap_err();
        assert!(error.contains("descriptor 4 (127.0.0.1:") && error.contains("\"web\""), "{error}");
    }

    #[test]
    fn a_unix_socket_goes_by_its_name_and_has_no_port() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("gateway.sock");
        let socket = || InheritedListener::Unix(UnixListener::bind(&path).unwrap());
        let (client, _) = tcp();
        let divided = InheritedListeners::divide(vec![(client, "client"), (socket(), "client")], &[], &[]).unwrap();
        assert_eq!((divided.client.len(), divided.operator.len()), (2, 0));
        std::fs::remove_file(&path).unwrap();
        let (client, _) = tcp();
        let error =
            InheritedListeners::divide(vec![(client, "client"), (socket(), "")], &[], &[]).unwrap_err().to_string();
        assert!(error.contains(path.to_str().unwrap()), "{error}");
    }
}
