//! The supervisor that has started the process, as systemd does, and what is reported to it: that the process is ready, reloads, stops,
//! lives, and a sentence about its state (`sd_notify(3)`).
//!
//! A message is a datagram of lines `NAME=value` to the socket that `NOTIFY_SOCKET` names. Where there is none, nothing is sent. A
//! message that does not arrive changes nothing but what the supervisor knows, so it is logged and not repeated.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::time::{ClockId, Timespec, clock_gettime};

/// The longest sentence, in bytes: supervisors show one line.
const STATUS_BYTES_MAX: usize = 500;

/// Handle to the supervisor of the process. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Supervisor {
    socket: Option<Arc<Socket>>,
    watchdog: Option<Duration>,
}

#[derive(Debug)]
struct Socket {
    own: UnixDatagram,
    address: SocketAddr,
}

impl Supervisor {
    /// Returns the supervisor that the variables of the environment name; without one, a handle that does nothing.
    #[must_use]
    pub fn of(variables: &BTreeMap<String, String>) -> Self {
        let Some(name) = variables.get("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else { return Self::default() };
        match Socket::to(name) {
            Ok(socket) => Self { socket: Some(Arc::new(socket)), watchdog: watchdog(variables) },
            Err(error) => {
                tracing::warn!(%error, name, "NOTIFY_SOCKET cannot be used; nothing is reported to the supervisor");
                Self::default()
            }
        }
    }

    /// Returns how often the supervisor wants a sign of life: at least once in this time, or it ends the process.
    #[must_use]
    pub fn watchdog(&self) -> Option<Duration> {
        self.watchdog
    }

    /// Returns whether there is a supervisor that listens.
    #[must_use]
    pub fn listens(&self) -> bool {
        self.socket.is_some()
    }

    /// Says that the listeners accept connections, at the start and after each reload.
    pub fn ready(&self, status: &str) {
        self.send(&format!("READY=1\nSTATUS={}", one_line(status)));
    }

    /// Says that the configuration is being read again; [`Self::ready`] ends it.
    pub fn reloading(&self) {
        // The time tells this reload from an earlier one.
        let Timespec { tv_sec, tv_nsec } = clock_gettime(ClockId::Monotonic);
        let micros = i128::from(tv_sec) * 1_000_000 + i128::from(tv_nsec) / 1_000;
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={micros}\nSTATUS=Reading the configuration again"));
    }

    /// Says that the process has begun to stop.
    pub fn stopping(&self) {
        self.send("STOPPING=1\nSTATUS=Stopping: running requests may finish");
    }

    /// Says what the process is doing, in one sentence.
    pub fn status(&self, sentence: &str) {
        self.send(&format!("STATUS={}", one_line(sentence)));
    }

    /// Says that the process lives.
    pub fn alive(&self) {
        self.send("WATCHDOG=1");
    }

    fn send(&self, message: &str) {
        let Some(socket) = &self.socket else { return };
        if let Err(error) = socket.own.send_to_addr(message.as_bytes(), &socket.address) {
            tracing::warn!(%error, "a message to the supervisor (NOTIFY_SOCKET) was not sent");
        }
    }
}

impl Socket {
    /// Makes a socket to the one at a path, or with `@` at the start to an abstract one, which has no file.
    fn to(name: &str) -> io::Result<Self> {
        let address = match name.strip_prefix('@') {
            Some(name) => abstract_address(name)?,
            None if Path::new(name).is_absolute() => SocketAddr::from_pathname(name)?,
            None => {
                return Err(io::Error::new(io::ErrorKind::Unsupported, "it is neither a path nor an abstract name"));
            }
        };
        let own = UnixDatagram::unbound()?;
        // A supervisor that does not read must not hold up a request.
        own.set_nonblocking(true)?;
        Ok(Self { own, address })
    }
}

#[cfg(target_os = "linux")]
fn abstract_address(name: &str) -> io::Result<SocketAddr> {
    use std::os::linux::net::SocketAddrExt as _;
    SocketAddr::from_abstract_name(name)
}

#[cfg(not(target_os = "linux"))]
fn abstract_address(_: &str) -> io::Result<SocketAddr> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Returns the time of the watchdog, unless it is for another process.
fn watchdog(variables: &BTreeMap<String, String>) -> Option<Duration> {
    let is_ours = variables.get("WATCHDOG_PID").is_none_or(|pid| *pid == std::process::id().to_string());
    let micros = variables.get("WATCHDOG_USEC")?.parse().ok().filter(|&micros| micros > 0)?;
    is_ours.then_some(Duration::from_micros(micros))
}

/// Returns a text as one line of bounded length: a line break would begin another assignment.
fn one_line(text: &str) -> String {
    let mut line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    line.truncate(line.floor_char_boundary(STATUS_BYTES_MAX));
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    /// Receives at a path, and sends what `say` says there.
    fn said(say: impl Fn(&Supervisor)) -> String {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let receiver = UnixDatagram::bind(&path).unwrap();
        say(&Supervisor::of(&variables(&[("NOTIFY_SOCKET", path.to_str().unwrap())])));
        received(&receiver)
    }

    fn received(receiver: &UnixDatagram) -> String {
        receiver.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let mut bytes = [0; 4096];
        let length = receiver.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..length].to_vec()).unwrap()
    }

    #[test]
    fn a_message_is_lines_of_assignments() {
        assert_eq!(said(|one| one.ready("Ready")), "READY=1\nSTATUS=Ready");
        assert!(said(Supervisor::stopping).starts_with("STOPPING=1\nSTATUS="));
        assert_eq!(said(Supervisor::alive), "WATCHDOG=1");
        let reloading = said(Supervisor::reloading);
        let micros = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").and_then(|rest| rest.lines().next());
        assert!(micros.is_some_and(|micros| micros.parse::<u64>().unwrap() > 0), "{reloading}");
    }

    #[test]
    fn a_sentence_is_one_line_of_bounded_length() {
        assert_eq!(said(|one| one.status("not ready:\nSTOPPING=1\r")), "STATUS=not ready: STOPPING=1 ");
        let long = said(|one| one.status(&"ä".repeat(1000)));
        assert_eq!(long.len(), "STATUS=".len() + STATUS_BYTES_MAX);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn an_abstract_socket_is_reached() {
        use std::os::linux::net::SocketAddrExt as _;
        let name = format!("gptproto-gateway-test-{}", std::process::id());
        let receiver = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        Supervisor::of(&variables(&[("NOTIFY_SOCKET", &format!("@{name}"))])).ready("Ready");
        assert_eq!(received(&receiver), "READY=1\nSTATUS=Ready");
    }

    #[test]
    fn the_watchdog_is_that_of_this_process() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify").to_str().unwrap().to_owned();
        let own = std::process::id().to_string();
        for (pid, micros, expected) in [
            (Some(own.as_str()), "3000000", Some(Duration::from_secs(3))),
            (None, "3000000", Some(Duration::from_secs(3))),
            (Some("1"), "3000000", None),
            (None, "0", None),
            (None, "soon", None),
        ] {
            let mut all = variables(&[("NOTIFY_SOCKET", &path), ("WATCHDOG_USEC", micros)]);
            all.extend(pid.map(|pid| ("WATCHDOG_PID".to_owned(), pid.to_owned())));
            assert_eq!(Supervisor::of(&all).watchdog(), expected, "{pid:?} {micros}");
        }
    }

    #[test]
    fn without_a_socket_or_with_a_wrong_one_nothing_is_sent() {
        for name in ["", "relative", "vsock:2:1234"] {
            let supervisor = Supervisor::of(&variables(&[("NOTIFY_SOCKET", name), ("WATCHDOG_USEC", "1")]));
            assert!(!supervisor.listens() && supervisor.watchdog().is_none(), "{name}");
            supervisor.ready("Ready");
        }
    }
}
