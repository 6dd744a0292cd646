//! The program itself: its output, its exit codes, and its behaviour on signals.

use std::net::TcpListener;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{Client, Edit, Program, Raw, Run, UPSTREAM_KEY, Upstream, http, picture, until};

/// Asserts a usage error: exit code 64 and one line that names the mistake.
#[track_caller]
fn is_usage_error(run: &Run, named: &str) {
    assert_eq!(run.code, Some(64), "{run:?}");
    assert_eq!(run.stderr.lines().count(), 1, "{}", run.stderr);
    assert!(run.stderr.contains(named), "{named} in {}", run.stderr);
    assert_eq!(run.stdout, "");
}

#[tokio::test]
async fn the_lines_of_requests_can_be_left_out() {
    let upstream = Upstream::start().await;
    for (value, lines) in [("all", 3), ("no_hits", 2), ("errors", 1), ("off", 0)] {
        let program = Program::on(&upstream).variable("GATEWAY_LOG__REQUESTS", value);
        let serving = program.serve(&[]).await;
        let alice = serving.alice();
        let edit = Edit::new(value);
        alice.edit(&edit).await.picture();
        assert_eq!(alice.edit(&edit).await.cache(), "hit");
        alice.get("/nothing").await.is_refused(404, "unknown_url");
        // The log is complete when the program has ended.
        let log = serving.stderr();
        assert_eq!(serving.terminate().await, Some(0));
        let log = std::fs::read_to_string(log).unwrap();
        assert_eq!(log.matches("\"message\":\"request\"").count(), lines, "{value}: {log}");
    }
}

#[tokio::test]
async fn a_configuration_error_is_one_line_before_a_port_is_bound() {
    // The port is in use, so binding it first would fail with 1.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = taken.local_addr().unwrap().to_string();
    let program = Program::bare().variable("GATEWAY_SERVER__LISTEN", &listen);
    let with_key = program.clone().variable("GPTPROTO_API_KEY", UPSTREAM_KEY);
    is_usage_error(&program.run(&["serve"]).await, "GPTPROTO_API_KEY");
    is_usage_error(&program.run(&[]).await, "GPTPROTO_API_KEY");
    is_usage_error(&with_key.run(&["serve"]).await, "GATEWAY_CLIENT_KEYS");
    let typo = with_key.clone().variable("GATEWAY_CACHE__TTLS", "5");
    is_usage_error(&typo.run(&["serve"]).await, "GATEWAY_CACHE__TTLS");
    let file = program.file("bad.toml", "[upstream]\nfrist_poll_ms = 5\n");
    is_usage_error(&program.run(&["serve", "--config", file.to_str().unwrap()]).await, "upstream.frist_poll_ms");
    is_usage_error(&program.run(&["serve", "--config", "nowhere.toml"]).await, "nowhere.toml");
    is_usage_error(&program.run(&["serve", "--sandbx"]).await, "--sandbx");
    is_usage_error(&program.run(&["dance"]).await, "dance");
    is_usage_error(&program.run(&["keys", "new", "--name", "no spaces"]).await, "no spaces");
}

#[tokio::test]
async fn a_port_in_use_is_a_runtime_failure() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = taken.local_addr().unwrap().to_string();
    let upstream = Upstream::start().await;
    let run = Program::on(&upstream).variable("GATEWAY_SERVER__LISTEN", &listen).run(&["serve"]).await;
    assert_eq!(run.code, Some(1));
    assert!(run.stderr.contains(&listen) && run.stderr.contains("server.listen"), "{}", run.stderr);
}

#[tokio::test]
async fn help_and_version_exit_with_success() {
    let program = Program::bare();
    let help = program.run(&["--help"]).await;
    assert_eq!((help.code, help.stderr.as_str()), (Some(0), ""));
    for word in [
        "serve",
        "init",
        "edit",
        "generate",
        "fetch",
        "check",
        "keys",
        "ledger",
        "simulate",
        "healthcheck",
        "--sandbox",
        "--config",
        "GPTPROTO_API_KEY",
        "Exit codes",
    ] {
        assert!(help.stdout.contains(word), "{word} in {}", help.stdout);
    }
    for command in [&["serve"][..], &["check"], &["keys", "new"], &["ledger", "list"], &["simulate"], &["healthcheck"]]
    {
        let help = program.run(&[command, &["--help"]].concat()).await;
        assert_eq!((help.code, help.stderr.as_str()), (Some(0), ""), "{command:?}");
        assert!(help.stdout.contains("Usage: gptproto-gateway"), "{}", help.stdout);
    }
    let version = program.run(&["--version"]).await;
    assert_eq!(version.code, Some(0));
    assert!(version.stdout.contains(env!("CARGO_PKG_VERSION")));
}

#[tokio::test]
async fn the_ledger_names_its_directory_and_invalid_arguments() {
    let program = Program::bare();
    let missing = program.run(&["ledger", "list"]).await;
    assert_eq!((missing.code, missing.stderr.lines().count()), (Some(1), 1), "{missing:?}");
    assert!(missing.stderr.contains("storage.directory"), "{}", missing.stderr);
    is_usage_error(&program.run(&["ledger", "list", "--since", "soon"]).await, "--since");
    is_usage_error(&program.run(&["ledger", "resolve", "pred_x.0", "perhaps"]).await, "perhaps");
}

#[tokio::test]
async fn a_minted_key_opens_the_gateway() {
    let upstream = Upstream::start().await;
    let minted = Program::bare().run(&["keys", "new", "--name", "carol"]).await;
    assert_eq!(minted.code, Some(0));
    let key = minted.stdout.lines().map(str::trim).find(|line| line.starts_with("sk-gw-")).unwrap().to_owned();
    let lines: Vec<&str> = minted.stdout.lines().map(str::trim).collect();
    let start = lines.iter().position(|&line| line == "[[clients]]").unwrap();
    let mut program = Program::on(&upstream);
    program.environment.remove("GATEWAY_CLIENT_KEYS");
    let file = program.file("gateway.toml", &lines[start..start + 3].join("\n"));

    let serving = program.serve(&["serve", "--config", file.to_str().unwrap()]).await;

    assert_eq!(serving.client(&key).get("/v1/models").await.status, 200);
    serving.alice().get("/v1/models").await.is_refused(401, "invalid_api_key");
    let by_environment =
        minted.stdout.lines().find_map(|line| line.trim().strip_prefix("GATEWAY_CLIENT_KEYS=")).unwrap();
    let serving = Program::on(&upstream).variable("GATEWAY_CLIENT_KEYS", by_environment).serve(&[]).await;
    assert_eq!(serving.client(&key).get("/v1/models").await.status, 200);
}

#[tokio::test]
async fn check_finds_a_bad_key_and_spends_nothing() {
    let upstream = Upstream::start().await;
    let program = Program::on(&upstream);
    let good = program.run(&["check"]).await;
    assert_eq!(good.code, Some(0), "{good:?}");
    assert!(good.stdout.contains("accepts the key"), "{}", good.stdout);

    let bad = program.clone().variable("GPTPROTO_API_KEY", "sk-wrong-upstream-key").run(&["check"]).await;
    assert_eq!(bad.code, Some(1));
    assert!(bad.stdout.contains("refuses the key: Invalid signature"), "{}", bad.stdout);
    let none = Program::bare().run(&["check"]).await;
    assert_eq!(none.code, Some(1), "{none:?}");

    for run in [good, bad, none] {
        assert!(!run.stdout.contains(UPSTREAM_KEY) && !run.stdout.contains("sk-wrong"), "{}", run.stdout);
    }
    assert_eq!(upstream.submits().await, 0);
}

#[tokio::test]
async fn healthcheck_succeeds_only_when_the_gateway_is_ready() {
    let upstream = Upstream::start().await;
    let program = Program::on(&upstream);
    let serving = program.serve(&["serve"]).await;
    let operator = serving.operator().replace("http://", "");
    let probe = program.clone().variable("GATEWAY_OPERATOR__LISTEN", &operator);
    let run = probe.run(&["healthcheck"]).await;
    assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""));
    assert_eq!(serving.terminate().await, Some(0));
    let run = probe.run(&["healthcheck"]).await;
    assert_eq!(run.code, Some(1));
    assert!(run.stderr.contains(&operator), "{}", run.stderr);
}

#[tokio::test]
async fn the_simulator_serves_by_itself() {
    let program = Program::bare();
    let serving = program.serve_simulator().await;
    // The command for a gateway in front of it, except for its addresses.
    let banner = serving.banner();
    let command = banner.split("\n\n").find(|part| part.contains("GATEWAY_CLIENT_KEYS=")).unwrap();
    let listen = "GATEWAY_SERVER__LISTEN=127.0.0.1:0 GATEWAY_OPERATOR__LISTEN=127.0.0.1:0";
    let (variables, start) = command.trim().split_once("    /").unwrap();
    let variables: Vec<_> =
        format!("{variables} {listen}").replace('\\', " ").split_whitespace().map(str::to_owned).collect();
    let gateway = variables
        .iter()
        .filter_map(|variable| variable.split_once('='))
        .fold(Program::bare(), |program, (name, value)| program.variable(name, value));
    assert!(start.ends_with("gptproto-gateway serve --config /dev/null"), "{command}");
    // A file of its own would not fit in front of the simulator.
    gateway.file("gptproto-gateway.toml", "[upstream]\napi_key_file = \"/nowhere/key\"\n");
    let gateway = gateway.serve(&["serve", "--config", "/dev/null"]).await;
    assert_eq!(gateway.client("sk-try-the-simulator").get("/v1/models").await.status, 200);

    // The line that buys a picture, word by word.
    let line = banner.split("\n\n").find(|part| part.contains("curl ")).unwrap().replace("\\\n", " ");
    let quoted: Vec<&str> = line.split('\'').skip(1).step_by(2).collect();
    let [authorization, content_type, body] = quoted[..] else { panic!("{line}") };
    let url = line.split_whitespace().find(|word| word.starts_with("http")).unwrap();
    let mut bought = http().post(url).body(body.to_owned());
    for header in [authorization, content_type] {
        let (name, value) = header.split_once(": ").unwrap();
        bought = bought.header(name, value);
    }
    let bought: Value = bought.send().await.unwrap().json().await.unwrap();
    assert_eq!((&bought["code"], &bought["data"]["model"]), (&json!(200), &json!("gpt-image-2")));

    let models = format!("{}/v1/models", serving.banner_value("API").replace("/api/v3/...", ""));
    assert_eq!(Client::new(String::new(), "sk-simulator").get(&models).await.status, 200);
    assert_eq!(Client::new(String::new(), "sk-other").get(&models).await.status, 401);
    assert_eq!(serving.terminate().await, Some(0));
}

/// Runs of letters that look like what Rust's debug output writes.
const DEBUG_OUTPUT: [&str; 8] = ["Some(", "None", "Ok(", "Err(", "::", "\"", " { ", "\\u{"];

#[tokio::test]
async fn lines_for_a_terminal_are_narrow_and_plain_and_a_request_is_one() {
    let program = Program::bare()
        .variable("GATEWAY_LOG__FORMAT", "pretty")
        .variable("GATEWAY_SERVER__LISTEN", "127.0.0.1:0")
        .variable("GATEWAY_OPERATOR__LISTEN", "127.0.0.1:0");
    let serving = program.serve(&["serve", "--sandbox"]).await;
    let client = serving.client("sk-sandbox");
    let edit = Edit::new("a winter night");
    let made = client.edit(&edit).await;
    made.picture();
    assert_eq!(client.edit(&edit).await.cache(), "hit");
    client.generate(json!({"prompt": "a lighthouse"})).await.picture();
    client.get("/nothing").await.is_refused(404, "unknown_url");
    client.edit(&Edit::new("wrong").field("size", "17x17")).await;
    client.edit(&Edit::new("ignored").field("seed", "5").field("user", "x")).await.picture();
    let asynchronous = client.edit(&Edit::new("later").header("prefer", "respond-async")).await;
    let path = asynchronous.header("location").to_owned();
    client.prediction(&path, "wait=30").await;
    client.with_key("sk-other").get("/v1/models").await.is_refused(401, "invalid_api_key");
    let log = serving.stderr();
    assert_eq!(serving.terminate().await, Some(0));

    let log = std::fs::read_to_string(log).unwrap();
    assert!(!log.contains("ulimit"), "the default of server.connections_max is no wish: {log}");
    for row in log.lines() {
        assert!(row.chars().count() <= 120, "{} columns: {row}", row.chars().count());
        for debug in DEBUG_OUTPUT {
            assert!(!row.contains(debug), "{debug:?} in {row}");
        }
    }
    let is_event =
        |row: &&str| row.chars().take(3).enumerate().all(|(at, c)| if at == 2 { c == ':' } else { c.is_ascii_digit() });
    let requests: Vec<&str> = log.lines().filter(|row| row.contains(" POST /") || row.contains(" GET /")).collect();
    assert_eq!(requests.len(), 9, "{log}");
    assert!(requests.iter().all(is_event), "{log}");
    let made = requests[0];
    for part in ["POST /v1/images/edits 200 ", " sandbox gpt-image-1.5 miss $0.0", " pred_"] {
        assert!(made.contains(part), "{part:?} in {made}");
    }
    // Four purchases, each with a line of its own, and nothing else but the start and the stop.
    assert_eq!(log.lines().filter(|row| row.contains("purchase accepted")).count(), 4, "{log}");
    let others: Vec<&str> = log
        .lines()
        .filter(is_event)
        .filter(|row| !requests.contains(row) && !row.contains("purchase accepted"))
        .collect();
    assert!(others.len() <= 4, "{others:#?}");
}

#[tokio::test]
async fn a_stop_as_the_first_request_is_served_is_in_order() {
    // It never answers, so that the text at the start waits for what is known of the account.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let program = Program::on(&Upstream::start().await)
        .variable("GATEWAY_UPSTREAM__BASE_URL", &format!("http://{}", silent.local_addr().unwrap()))
        .variable("GATEWAY_SERVER__UNIX_SOCKET", "gateway.sock");
    let socket = program.directory.path().join("gateway.sock");
    let serving = program.begin(&["serve"]).await;
    until("it listens", async || socket.exists()).await;
    let mut client = Raw::local(&socket).await;
    client.send("GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    client.until("HTTP/1.1 401").await;
    assert_eq!(serving.terminate().await, Some(0));
}

#[tokio::test]
async fn a_stop_during_the_start_ends_it() {
    let program = Program::on(&Upstream::start().await)
        .variable("GATEWAY_SERVER__TLS_CERTIFICATE_FILE", "certificate.pem")
        .variable("GATEWAY_SERVER__TLS_KEY_FILE", "key.pem");
    let certificate = program.directory.path().join("certificate.pem");
    assert!(Command::new("mkfifo").arg(&certificate).status().unwrap().success());
    let serving = program.begin(&["serve"]).await;
    // Opens once the program reads the other end, and keeps it from coming to an end.
    let open = move || std::fs::OpenOptions::new().write(true).open(certificate).unwrap();
    let _held = tokio::task::spawn_blocking(open).await.unwrap();
    assert_eq!(serving.terminate().await, Some(0));
}

#[tokio::test]
async fn a_stop_during_an_edit_loses_nothing() {
    let upstream = Upstream::start().await;
    let program = Program::on(&upstream);
    let serving = program.serve(&["serve"]).await;
    let edit = Edit::bare("stopped").picture("image", picture(6));
    upstream.hold().await;
    let waiting = serving.alice().begin(&edit);
    serving.follows(1).await;

    assert_eq!(serving.terminate().await, Some(0));
    waiting.answer().await.is_refused(503, "restarting");

    let serving = program.serve(&["serve"]).await;
    serving.follows(1).await;
    upstream.release().await;
    let again = serving.alice().edit(&edit).await;
    again.picture();
    assert_eq!(again.cache(), "joined");
    assert_eq!(upstream.submits().await, 1);
}

#[tokio::test]
async fn a_second_signal_aborts_at_once_and_loses_nothing() {
    let upstream = Upstream::start().await;
    let program = Program::on(&upstream).variable("GATEWAY_SERVER__SHUTDOWN_GRACE_S", "600");
    let edit = Edit::bare("aborted").picture("image", picture(6));
    upstream.hold().await;
    for signals in [["TERM", "TERM"], ["INT", "INT"], ["TERM", "INT"]] {
        let serving = program.serve(&["serve"]).await;
        let waiting = serving.alice().begin(&edit);
        serving.follows(1).await;
        until("the request waits", async || serving.waiters().await == 1).await;

        serving.signal(signals[0]);
        until("it stops in order", async || serving.log().contains("a second signal aborts")).await;
        let stderr = serving.stderr();
        serving.signal(signals[1]);
        let started = Instant::now();
        assert_eq!(serving.exit_code().await, Some(1));

        assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
        let log = std::fs::read_to_string(stderr).unwrap();
        assert!(log.contains("second signal: aborting; unfinished jobs resume at the next start"), "{log}");
        waiting.breaks().await;
    }

    let serving = program.serve(&["serve"]).await;
    serving.follows(1).await;
    upstream.release().await;
    let again = serving.alice().edit(&edit).await;
    again.picture();
    assert_eq!(again.cache(), "joined");
    assert_eq!(upstream.submits().await, 1);
}

#[tokio::test]
async fn a_kill_during_an_edit_loses_nothing() {
    let upstream = Upstream::start().await;
    let program = Program::on(&upstream);
    let edit = Edit::bare("killed").picture("image", picture(6));
    upstream.hold().await;
    // Killed while the job runs, and again while it is resumed.
    let serving = program.serve(&["serve"]).await;
    let waiting = serving.alice().begin(&edit);
    serving.follows(1).await;
    serving.kill();
    waiting.breaks().await;
    let serving = program.serve(&["serve"]).await;
    serving.follows(1).await;
    serving.kill();

    let serving = program.serve(&["serve"]).await;
    serving.follows(1).await;
    upstream.release().await;
    let again = serving.alice().edit(&edit).await;
    again.picture();
    assert_eq!(again.cache(), "joined");
    assert_eq!(upstream.submits().await, 1);
}

#[tokio::test]
async fn after_a_kill_before_a_submits_response_the_outcome_is_unknown_and_nothing_is_resent() {
    let upstream = Upstream::with(serde_json::json!({"submit": {"delay_ms": 60_000}})).await;
    let program = Program::on(&upstream);
    let serving = program.serve(&["serve"]).await;
    let waiting = serving.alice().begin(&Edit::new("killed"));
    until("it is bought", async || upstream.purchases().await == 1).await;
    serving.kill();
    waiting.breaks().await;

    let serving = program.serve(&["serve"]).await;

    assert!(serving.log().contains("purchases with an unknown outcome"), "{}", serving.log());
    let metrics = serving.alice().get(&format!("{}/metrics", serving.operator())).await.text();
    assert!(metrics.contains("gptproto_gateway_engine_purchases_unknown_total 1\n"), "{metrics}");
    serving.follows(0).await;
    assert_eq!(upstream.submits().await, 1);
    // Reported once: the next start has nothing to resume.
    serving.kill();
    let serving = program.serve(&["serve"]).await;
    assert!(!serving.log().contains("purchases with an unknown outcome"), "{}", serving.log());
}
