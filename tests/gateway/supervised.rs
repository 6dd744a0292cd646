//! The program below a supervisor such as systemd: what is reported to it, sockets that are inherited, credentials, and the wait for
//! another gateway's folder.

use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::Path;
use std::time::{Duration, Instant};

use rcgen::CertifiedKey;
use reqwest::Certificate;

use crate::harness::{ADMIN_TOKEN, ALICE, Client, Edit, Program, Raw, Run, Serving, UPSTREAM_KEY, Upstream, until};

const MODELS: &str =
    "GET /v1/models HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer sk-gw-alice-vQ7kZp3XvQ7kZp3XvQ7kZp3X\r\n\r\n";

/// The socket of a supervisor.
struct Supervisor {
    socket: UnixDatagram,
    messages: Vec<String>,
}

impl Supervisor {
    /// Listens in the folder of a program; returns the program with the variable that names the socket.
    fn of(program: Program) -> (Self, Program) {
        let path = program.directory.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_nonblocking(true).unwrap();
        let program = program.variable("NOTIFY_SOCKET", path.to_str().unwrap());
        (Self { socket, messages: Vec::new() }, program)
    }

    /// Takes what has arrived; returns the number of messages so far.
    fn take(&mut self) -> usize {
        let mut bytes = [0; 4096];
        while let Ok(length) = self.socket.recv(&mut bytes) {
            self.messages.push(String::from_utf8(bytes[..length].to_vec()).unwrap());
        }
        self.messages.len()
    }

    /// Waits for a message with this text behind the first `after`; returns how many messages there were up to it.
    async fn hears(&mut self, text: &str, after: usize) -> usize {
        let mut position = None;
        until(text, async || {
            self.take();
            position = self.messages.iter().skip(after).position(|message| message.contains(text));
            position.is_some()
        })
        .await;
        after + position.unwrap() + 1
    }

    /// Counts the signs of life among the messages behind the first `after`.
    fn signs_of_life(&mut self, after: usize) -> usize {
        self.take();
        self.messages.iter().skip(after).filter(|message| *message == "WATCHDOG=1").count()
    }
}

fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}

/// Another handle to a socket, for a program to inherit.
fn handed_on(listener: &TcpListener) -> OwnedFd {
    listener.try_clone().unwrap().into()
}

fn address(listener: &TcpListener) -> String {
    listener.local_addr().unwrap().to_string()
}

#[track_caller]
fn refused(started: Result<Serving, Run>) -> Run {
    match started {
        Ok(serving) => panic!("it serves: {}", serving.banner()),
        Err(run) => run,
    }
}

#[tokio::test]
async fn the_supervisor_learns_of_the_start_of_reloads_and_of_the_stop() {
    let upstream = Upstream::start().await;
    let (mut supervisor, program) = Supervisor::of(Program::on(&upstream));
    let file = program.file("gateway.toml", "[limits]\nrequests_per_minute = 1000\n");
    let serving = program.serve(&["serve", "--config", file.to_str().unwrap()]).await;

    let heard = supervisor.hears("READY=1\nSTATUS=", 0).await;
    assert_eq!(serving.alice().get("/v1/models").await.status, 200);

    program.file("gateway.toml", "[limits]\nrequests_per_minute = 2000\n");
    serving.signal("HUP");
    let heard = supervisor.hears("RELOADING=1\nMONOTONIC_USEC=", heard).await;
    let heard = supervisor.hears("READY=1\nSTATUS=Reloaded: in force now: limits.requests_per_minute", heard).await;

    program.file("gateway.toml", "[limits]\nrequests_per_minute = \"many\"\n");
    serving.signal("HUP");
    let heard = supervisor.hears("RELOADING=1\n", heard).await;
    let heard = supervisor.hears("READY=1\nSTATUS=Not reloaded, nothing changed: ", heard).await;

    serving.signal("TERM");
    supervisor.hears("STOPPING=1\nSTATUS=", heard).await;
    assert_eq!(serving.exit_code().await, Some(0));
    supervisor.take();
    let all = supervisor.messages.concat();
    assert!(!all.contains(UPSTREAM_KEY) && !all.contains(ALICE), "{all}");
    let ready = supervisor.messages.iter().filter(|message| message.contains("READY=1")).count();
    assert_eq!((ready, all.matches("STOPPING=1").count()), (3, 1), "{all}");
}

#[tokio::test]
async fn the_status_is_a_sentence_with_the_reason() {
    let upstream = Upstream::start().await;
    let (mut supervisor, program) = Supervisor::of(Program::on(&upstream).variable("WATCHDOG_USEC", "200000"));
    let serving = program.serve(&["serve"]).await;
    upstream.hold().await;
    let waiting = serving.alice().begin(&Edit::new("held"));
    supervisor.hears("STATUS=Ready. In flight: 1, queued: 0, requests that wait: 1", 0).await;
    upstream.release().await;
    waiting.answer().await.picture();
    supervisor.hears("STATUS=Ready. In flight: 0, queued: 0, requests that wait: 0", 0).await;
    assert_eq!(serving.terminate().await, Some(0));

    let (mut supervisor, program) = Supervisor::of(
        Program::on(&upstream)
            .variable("WATCHDOG_USEC", "200000")
            .variable("GPTPROTO_API_KEY", "sk-wrong-vQ7kZp3XvQ7kZp3XvQ7kZp3X"),
    );
    let _serving = program.serve(&["serve"]).await;
    supervisor.hears("STATUS=Not ready: no account can buy (default: ", 0).await;
}

#[tokio::test]
async fn a_stalled_journal_gives_no_sign_of_life() {
    const HALF: Duration = Duration::from_millis(200);
    let upstream = Upstream::start().await;
    let (mut supervisor, program) = Supervisor::of(Program::on(&upstream).variable("WATCHDOG_USEC", "400000"));
    let serving = program.serve(&["serve"]).await;
    until("signs of life come", async || supervisor.signs_of_life(0) >= 3).await;

    // The journal's thread waits for this transaction, with the record of an edit.
    let mut other = rusqlite::Connection::open(program.directory.path().join("journal.sqlite")).unwrap();
    let transaction = other.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).unwrap();
    let waiting = serving.alice().begin(&Edit::new("stalled"));
    until("the stall is noticed", async || serving.log().contains("the supervisor gets no sign of life")).await;
    let before = supervisor.take();
    tokio::time::sleep(5 * HALF).await;
    assert_eq!(supervisor.signs_of_life(before), 0);
    // The runtime works meanwhile: a bare timer would have gone on.
    assert_eq!(serving.page("/healthz").await.0, 200);

    drop(transaction);
    waiting.answer().await.picture();
    until("signs of life come again", async || supervisor.signs_of_life(before) >= 3).await;
    assert!(serving.log().contains("the journal and the engine answer again"));
}

#[tokio::test]
async fn a_watchdog_of_another_process_is_not_answered() {
    let upstream = Upstream::start().await;
    let program = Program::on(&upstream).variable("WATCHDOG_USEC", "200000").variable("WATCHDOG_PID", "1");
    let (mut supervisor, program) = Supervisor::of(program);
    let serving = program.serve(&["serve"]).await;
    supervisor.hears("READY=1", 0).await;
    // Several times the watchdog's.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(serving.terminate().await, Some(0));
    assert_eq!(supervisor.signs_of_life(0), 0);
}

#[tokio::test]
async fn inherited_sockets_stand_in_for_the_addresses_by_their_names() {
    let upstream = Upstream::start().await;
    // Addresses that are taken, which a gateway without inherited sockets could not bind.
    let (taken, operator, client, other) = (listener(), listener(), listener(), listener());
    let program = Program::on(&upstream)
        .variable("GATEWAY_SERVER__LISTEN", &address(&taken))
        .variable("GATEWAY_OPERATOR__LISTEN", &address(&taken))
        .variable("LISTEN_FDNAMES", "operator:client:client");
    let sockets = [&operator, &client, &other].map(handed_on).into();
    let serving = program.serve_inherited(sockets).await.unwrap();

    assert_eq!(serving.address(), address(&client));
    assert_eq!(serving.operator(), format!("http://{}", address(&operator)));
    assert_eq!(serving.page("/readyz").await.0, 200);
    serving.alice().edit(&Edit::new("inherited")).await.picture();
    let by_other = Client::new(address(&other), ALICE).edit(&Edit::new("inherited")).await;
    assert_eq!(by_other.cache(), "hit");
    assert!(serving.log().contains("listening on an inherited socket"), "{}", serving.log());
    assert_eq!(serving.terminate().await, Some(0));
}

#[tokio::test]
async fn without_names_ports_and_positions_assign_inherited_sockets() {
    let upstream = Upstream::start().await;
    let (first, second) = (listener(), listener());
    let sockets = || [&first, &second].map(handed_on).into();
    let serving = Program::on(&upstream).serve_inherited(sockets()).await.unwrap();
    assert_eq!(serving.address(), address(&first));
    assert_eq!(serving.operator(), format!("http://{}", address(&second)));
    assert_eq!(serving.terminate().await, Some(0));

    let program = Program::on(&upstream)
        .variable("GATEWAY_OPERATOR__LISTEN", &address(&first))
        .variable("GATEWAY_SERVER__LISTEN", &address(&second))
        .variable("LISTEN_FDNAMES", "gptproto-gateway.socket:gptproto-gateway.socket");
    let serving = program.serve_inherited(sockets()).await.unwrap();
    assert_eq!(serving.address(), address(&second));
    assert_eq!(serving.operator(), format!("http://{}", address(&first)));
    assert_eq!(serving.terminate().await, Some(0));

    // One alone is for clients; the operator's listener binds its own.
    let serving = Program::on(&upstream).serve_inherited(vec![handed_on(&first)]).await.unwrap();
    assert_eq!(serving.address(), address(&first));
    assert_eq!(serving.page("/healthz").await.0, 200);
}

#[tokio::test]
async fn inherited_unix_sockets_are_served_and_keep_their_files() {
    let upstream = Upstream::start().await;
    let program = Program::on(&upstream).variable("LISTEN_FDNAMES", "client:operator");
    let paths = ["client.sock", "operator.sock"].map(|name| program.directory.path().join(name));
    let bound = paths.each_ref().map(|path| UnixListener::bind(path).unwrap());
    let sockets = bound.each_ref().map(|socket| socket.try_clone().unwrap().into()).into();
    let serving = program.serve_inherited(sockets).await.unwrap();

    let mut client = Raw::local(&paths[0]).await;
    client.send(MODELS).await;
    client.until("HTTP/1.1 200 OK").await;
    let mut operator = Raw::local(&paths[1]).await;
    operator.send("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    operator.until("HTTP/1.1 200 OK").await;
    // They stand beside the addresses, which are TCP's.
    assert_eq!(serving.alice().get("/v1/models").await.status, 200);
    drop((client, operator));
    assert_eq!(serving.terminate().await, Some(0));
    assert!(paths.iter().all(|path| path.exists()));
}

#[tokio::test]
async fn inherited_descriptors_that_cannot_be_used_are_named() {
    let upstream = Upstream::start().await;
    let program = Program::on(&upstream);
    let is_refused = |run: Run, named: &[&str]| {
        assert_eq!((run.code, run.stdout.as_str()), (Some(64), ""), "{run:?}");
        assert!(named.iter().all(|part| run.stderr.contains(part)), "{named:?} in {}", run.stderr);
    };
    let file = std::fs::File::open("/dev/null").unwrap();
    is_refused(
        refused(program.serve_inherited(vec![file.into()]).await),
        &["LISTEN_FDS: descriptor 3 ", "not a socket"],
    );
    let accepting = listener();
    let connection = TcpStream::connect(address(&accepting)).unwrap();
    is_refused(refused(program.serve_inherited(vec![connection.into()]).await), &["descriptor 3 ", "Accept=yes"]);
    let (first, second) = (listener(), listener());
    let program = program.variable("LISTEN_FDNAMES", "client:web");
    let run = refused(program.serve_inherited([&first, &second].map(handed_on).into()).await);
    is_refused(run, &["descriptor 4 ", &address(&second), "\"web\"", "client or operator"]);
}

#[tokio::test]
async fn sockets_for_another_process_are_left_alone() {
    let upstream = Upstream::start().await;
    let socket = listener();
    let program = Program::on(&upstream).variable("LISTEN_PID", "1");
    let serving = program.serve_inherited(vec![handed_on(&socket)]).await.unwrap();
    assert_ne!(serving.address(), address(&socket));
}

#[tokio::test]
async fn connections_wait_in_an_inherited_socket_until_the_next_start() {
    let upstream = Upstream::start().await;
    let (client, operator) = (listener(), listener());
    let program = Program::on(&upstream)
        .variable("LISTEN_FDNAMES", "client:operator")
        .variable("GATEWAY_SERVER__SHUTDOWN_DELAY_S", "0");
    let sockets = || [&client, &operator].map(handed_on).into();
    let serving = program.serve_inherited(sockets()).await.unwrap();
    // Accepted, and silent until the stop has begun.
    let mut accepted = Raw::to(&address(&client)).await;
    until("it is accepted", async || serving.status("connections", "clients").await >= 1).await;
    serving.signal("TERM");
    until("it stops", async || serving.log().contains("a second signal aborts")).await;
    accepted.send(MODELS).await;
    accepted.until("HTTP/1.1 200 OK").await;
    assert_eq!(serving.exit_code().await, Some(0));

    let mut waiting = Raw::to(&address(&client)).await;
    waiting.send(MODELS).await;
    let edit = Client::new(address(&client), ALICE).begin(&Edit::new("waits"));
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!waiting.has("HTTP").await, "nothing runs that could answer");

    let serving = program.serve_inherited(sockets()).await.unwrap();
    waiting.until("HTTP/1.1 200 OK").await;
    edit.answer().await.picture();
    assert_eq!(upstream.submits().await, 1);
    assert_eq!(serving.terminate().await, Some(0));
}

#[tokio::test]
async fn without_inherited_sockets_a_restart_refuses_connections() {
    let upstream = Upstream::start().await;
    let program = Program::on(&upstream).variable("GATEWAY_SERVER__SHUTDOWN_DELAY_S", "0");
    let serving = program.serve(&["serve"]).await;
    let address = serving.address();
    TcpStream::connect(&address).unwrap();
    assert_eq!(serving.terminate().await, Some(0));
    assert_eq!(TcpStream::connect(&address).unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn a_start_waits_until_the_other_gateway_has_let_go_of_the_folder() {
    let upstream = Upstream::start().await;
    let program = Program::on(&upstream);
    let first = program.serve(&["serve"]).await;
    let refused_at_once = second(&program).try_serve(&["serve"]).await.unwrap_err();
    assert_eq!(refused_at_once.code, Some(1));
    assert!(refused_at_once.stderr.contains("in use by another gateway"), "{refused_at_once:?}");

    let started = Instant::now();
    let patient = second(&program).variable("GATEWAY_STORAGE__LOCK_WAIT_S", "1");
    let refused_later = patient.try_serve(&["serve"]).await.unwrap_err();
    assert_eq!(refused_later.code, Some(1));
    assert!(started.elapsed() >= Duration::from_secs(1), "{:?}", started.elapsed());
    assert!(refused_later.stderr.contains("storage.lock_wait_s"), "{refused_later:?}");

    let (mut supervisor, patient) = Supervisor::of(second(&program).variable("GATEWAY_STORAGE__LOCK_WAIT_S", "30"));
    let mut heard = 0;
    let (next, ()) = tokio::join!(patient.serve(&["serve"]), async {
        heard = supervisor.hears("STATUS=Waiting until another gateway has ended that uses ", 0).await;
        first.alice().edit(&Edit::new("handed over")).await.picture();
        assert_eq!(first.terminate().await, Some(0));
    });
    supervisor.hears("READY=1", heard).await;
    assert_eq!(next.alice().edit(&Edit::new("handed over")).await.cache(), "hit");
    let (_, metrics) = next.page("/metrics").await;
    let line = metrics.lines().find_map(|line| line.strip_prefix("gptproto_gateway_storage_lock_wait_seconds "));
    assert!(line.is_some_and(|seconds| seconds.parse::<f64>().unwrap() > 0.0), "{metrics}");
    assert_eq!(upstream.submits().await, 1);
}

/// Another program on the data of `program`, with a folder of its own for its output.
fn second(program: &Program) -> Program {
    let mut second = Program::bare();
    second.environment.clone_from(&program.environment);
    second
}

/// Writes credentials into a folder of the program, as systemd does, and names it.
fn with_credentials(program: Program, credentials: &[(&str, &str)]) -> Program {
    let folder = program.directory.path().join("credentials");
    std::fs::create_dir(&folder).unwrap();
    for (name, text) in credentials {
        std::fs::write(folder.join(name), text).unwrap();
    }
    // Every other file is searched for keys.
    let files: Vec<String> = credentials.iter().map(|(name, _)| folder.join(name).display().to_string()).collect();
    program.file("inputs", &files.join("\n"));
    program.variable("CREDENTIALS_DIRECTORY", folder.to_str().unwrap())
}

/// Returns a certificate for `localhost` and its key, as PEM, and a client that trusts it.
fn certificate() -> (String, String, reqwest::Client) {
    let CertifiedKey { cert, signing_key } = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let _ = rustls::crypto::ring::default_provider().install_default();
    let trusted = Certificate::from_pem(cert.pem().as_bytes()).unwrap();
    let client = reqwest::Client::builder().no_proxy().tls_certs_only([trusted]).build().unwrap();
    (cert.pem(), signing_key.serialize_pem(), client)
}

#[tokio::test]
async fn keys_and_certificate_may_be_credentials() {
    let upstream = Upstream::start().await;
    let (certificate, key, https) = certificate();
    let program = Program::on(&upstream).without("GPTPROTO_API_KEY").without("GATEWAY_CLIENT_KEYS");
    let program = with_credentials(
        program,
        &[
            ("gptproto-api-key", &format!("{UPSTREAM_KEY}\n")),
            ("client-keys", &format!("alice:{ALICE}")),
            ("admin-token", ADMIN_TOKEN),
            ("tls-certificate", &certificate),
            ("tls-key", &key),
        ],
    );
    let serving = program.serve(&["serve"]).await;
    let origin = |serving: &Serving| serving.address().replace("127.0.0.1", "localhost");
    assert!(origin(&serving).starts_with("https://localhost:"), "{}", serving.banner());
    let alice = serving.alice().with_http(https);
    alice.edit_at(&format!("{}/v1/images/edits", origin(&serving)), &Edit::new("sealed")).await.picture();
    assert_eq!(serving.client(ADMIN_TOKEN).get(&format!("{}/admin/keys", serving.operator())).await.status, 200);
    let log = serving.log();
    for name in ["gptproto-api-key", "client-keys", "admin-token", "tls-certificate", "tls-key"] {
        let file = Path::new("credentials").join(name);
        assert!(log.contains(&format!("{}\"", file.display())), "{name} in {log}");
    }
    assert!(!log.contains(UPSTREAM_KEY) && !log.contains(ALICE) && !log.contains(ADMIN_TOKEN), "{log}");
    assert_eq!(serving.terminate().await, Some(0));

    // What is set otherwise comes first.
    let serving =
        program.variable("GATEWAY_CLIENT_KEYS", "bob:another-vQ7kZp3XvQ7kZp3XvQ7kZp3X").serve(&["serve"]).await;
    assert_eq!(alice.get(&format!("{}/v1/models", origin(&serving))).await.status, 401);
}
