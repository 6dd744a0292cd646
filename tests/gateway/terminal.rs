//! The terminal client: `edit`, `generate` and `fetch` of the program, against a gateway, a sandbox and a server that is neither.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::harness::{
    ALICE, Breaker, Gateway, Program, Run, Upstream, digest, in_background, mask, picture, size_of, until,
};

/// A folder with a picture, and the environment of a client of the gateway.
fn client_of(address: &str, key: &str) -> Program {
    let program =
        Program::bare().variable("OPENAI_BASE_URL", &format!("http://{address}/v1")).variable("OPENAI_API_KEY", key);
    std::fs::write(program.directory.path().join("cat.png"), picture(1)).unwrap();
    std::fs::write(program.directory.path().join("dog.png"), picture(2)).unwrap();
    std::fs::write(program.directory.path().join("mask.png"), mask()).unwrap();
    program
}

fn path(program: &Program, name: &str) -> PathBuf {
    program.directory.path().join(name)
}

fn saved(program: &Program, name: &str) -> Vec<u8> {
    std::fs::read(path(program, name)).unwrap()
}

/// The names in the folder, without those of the pictures that were there at first.
fn new_files(program: &Program) -> Vec<String> {
    let entries = std::fs::read_dir(program.directory.path()).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.filter(|name| !["cat.png", "dog.png", "mask.png"].contains(&name.as_str())).collect();
    names.sort();
    names
}

/// Asserts an exit code and a part of standard error.
#[track_caller]
fn ends(run: &Run, code: i32, part: &str) {
    assert_eq!(run.code, Some(code), "{run:?}");
    assert!(run.stderr.contains(part), "no {part:?} in {run:?}");
}

/// Asserts success, and returns the printed JSON.
#[track_caller]
fn json_of(run: &Run) -> Value {
    assert_eq!(run.code, Some(0), "{run:?}");
    serde_json::from_str(&run.stdout).unwrap_or_else(|error| panic!("{error}: {}", run.stdout))
}

#[tokio::test]
async fn an_edit_is_saved_with_its_price_and_a_repetition_costs_nothing() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    let program = client_of(&gateway.address(), ALICE);

    let run = program.run(&["edit", "cat.png", "make it night", "-o", "out.png", "--size", "1024x1024"]).await;

    assert_eq!(run.code, Some(0), "{run:?}");
    assert_eq!(size_of(&saved(&program, "out.png")), (1024, 1024));
    assert!(run.stdout.starts_with("out.png  (1024x1024, ") && run.stdout.contains("pred_"), "{}", run.stdout);
    assert!(run.stderr.contains("sending"), "without a terminal each stage is a line: {}", run.stderr);
    assert!(!run.stderr.contains('\r') && !run.stderr.contains('\u{1b}'), "{}", run.stderr);
    let bought = upstream.prediction().await;
    assert_eq!(bought["inputs"][0]["digest"], json!(digest(&picture(1))));

    let again =
        program.run(&["edit", "cat.png", "make it night", "-o", "again.png", "--size", "1024x1024", "--json"]).await;
    let object = json_of(&again);
    assert_eq!((&object["cache"], &object["cost_usd"]), (&json!("hit"), &json!(0.0)), "{object}");
    assert_eq!(object["files"][0]["path"], path(&program, "again.png").to_str().unwrap());
    assert_eq!((&object["files"][0]["width"], &object["exit_code"]), (&json!(1024), &json!(0)));
    assert_eq!(saved(&program, "again.png"), saved(&program, "out.png"));
    assert_eq!(upstream.purchases().await, 1);
    assert_eq!(new_files(&program), ["again.png", "out.png"], "no temporary file is left");

    let words = ["edit", "cat.png", "make it night", "--size", "1024x1024", "--force", "-o", "again.png"];
    let hit = program.run(&words).await;
    assert!(hit.stdout.contains("--fresh makes a new one"), "{hit:?}");
    assert_eq!(json_of(&program.run(&[&words[..], &["--fresh", "--json"]].concat()).await)["cache"], "bypass");
    assert_eq!(upstream.purchases().await, 2);
}

#[tokio::test]
async fn several_inputs_a_mask_and_several_pictures() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    let program = client_of(&gateway.address(), ALICE);
    let options = ["--model", "gpt-image-1", "--mask", "mask.png", "--quality", "low", "--n", "2", "-o", "out.jpg"];

    let run = program.run(&[&["edit", "cat.png", "dog.png", "both"][..], &options, &["--json"]].concat()).await;

    let object = json_of(&run);
    assert_eq!(object["files"].as_array().unwrap().len(), 2, "{object}");
    for name in ["out-1.jpg", "out-2.jpg"] {
        assert_eq!(image::guess_format(&saved(&program, name)).unwrap(), image::ImageFormat::Jpeg, "{name}");
    }
    let bought = upstream.predictions().await.remove(0);
    let inputs: Vec<&Value> = bought["inputs"].as_array().unwrap().iter().map(|input| &input["digest"]).collect();
    assert_eq!(inputs, [&json!(digest(&picture(1))), &json!(digest(&picture(2)))]);
    assert_eq!(bought["mask"]["digest"], json!(digest(&mask())), "{bought}");

    let generated = program.run(&["generate", "a fox", "--size", "1024x1024", "--quality", "low"]).await;
    assert_eq!(generated.code, Some(0), "{generated:?}");
    assert_eq!(size_of(&saved(&program, "generated.png")), (1024, 1024));
}

#[tokio::test]
async fn what_can_be_known_before_is_refused_before_anything_is_sent() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    let program = client_of(&gateway.address(), ALICE);
    std::fs::write(path(&program, "out.png"), "precious").unwrap();
    for (arguments, problem) in [
        (&["edit", "cat.pgn", "p", "-o", "new.png"][..], "cat.pgn does not exist; did you mean cat.png?"),
        (&["edit", "cat.png", "p", "-o", "out.png"], "out.png exists; --force replaces it"),
        (&["edit", "cat.png", "p", "-o", "nowhere/out.png"], "the folder nowhere does not exist"),
        (&["edit", "cat.png", "-o", "new.png"], "the prompt is missing"),
        (&["edit", "cat.png", "p", "-o", "new.png", "--format", "webp"], "--format webp"),
        (&["edit", "cat.png", "p", "-n", "11"], "--n"),
        (&["edit", "cat.png", "p", "-o", "new.gif"], "use .png, .jpg or .webp, or --format"),
        (&["fetch", "pred_../x"], "is no id of a job"),
        (&["edit", "cat.png", "p", "--url", "gateway"], "--url"),
    ] {
        let run = program.run(arguments).await;
        ends(&run, 64, problem);
        assert_eq!(run.stderr.lines().count(), 1, "{run:?}");
    }
    assert_eq!(saved(&program, "out.png"), b"precious");
    assert_eq!((upstream.submits().await, new_files(&program)), (0, vec!["out.png".to_owned()]));

    let keyless = program.clone().without("OPENAI_API_KEY").run(&["edit", "cat.png", "p", "-o", "new.png"]).await;
    ends(&keyless, 64, "set OPENAI_API_KEY");
    let forced = program.run(&["edit", "cat.png", "p", "-o", "out.png", "--force"]).await;
    assert_eq!(forced.code, Some(0), "{forced:?}");
    assert_eq!(upstream.purchases().await, 1);
}

#[tokio::test]
async fn the_exit_code_says_whether_money_may_be_gone() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    let program = client_of(&gateway.address(), ALICE);
    let edit = ["edit", "cat.png", "p", "-o", "out.png"];

    let wrong_key = program.clone().variable("OPENAI_API_KEY", "sk-gw-0123456789abcdef").run(&edit).await;
    ends(&wrong_key, 1, "key");
    let visible = program.run(&[&edit[..], &["--key", "sk-gw-0123456789abcdef", "--json"]].concat()).await;
    ends(&visible, 1, "others on this machine can see --key");
    let object: Value = serde_json::from_str(&visible.stdout).unwrap();
    assert_eq!((&object["error"]["code"], &object["exit_code"]), (&json!("invalid_api_key"), &json!(1)));
    assert_eq!(object["error"]["may_have_cost_money"], json!(false));
    ends(&program.run(&[&edit[..], &["--model", "gpt-image-9"]].concat()).await, 1, "gpt-image-9");
    assert_eq!(upstream.submits().await, 0);

    upstream.fault("submit", "drop_after", 1).await;
    let unknown = program.run(&edit).await;
    ends(&unknown, 2, "pred_");
    upstream.set(json!({"life": {"outcome": "failed_provider"}})).await;
    ends(&program.run(&["edit", "cat.png", "another", "-o", "out.png"]).await, 2, "");

    let nobody_there = Program::bare().variable("OPENAI_BASE_URL", "http://127.0.0.1:9/v1");
    std::fs::write(path(&nobody_there, "cat.png"), picture(1)).unwrap();
    ends(&nobody_there.run(&edit).await, 1, "is the gateway running");
    assert!(!path(&program, "out.png").exists());
}

#[tokio::test]
async fn lost_connections_are_resumed_with_one_purchase() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::with(&upstream, &[("cache.mode", "off")]).await;
    // Without a cache, nothing but the idempotency key says that a request is repeated.
    // The answers to the first two requests and to the first two questions about the job are lost.
    let breaker = Breaker::to(&gateway.address(), &[("POST", 2), ("GET /v1/predictions", 2)]).await;
    let program = client_of(&breaker.address, ALICE);

    let run = program.run(&["edit", "cat.png", "cut", "-o", "out.png"]).await;

    assert_eq!(run.code, Some(0), "{run:?}");
    assert_eq!(size_of(&saved(&program, "out.png")).0, 1024);
    assert!(run.stdout.contains("$0.0") && !run.stdout.contains("$0,"), "its own job is not free: {}", run.stdout);
    assert!(run.stderr.contains("connection lost, asking again"), "{}", run.stderr);
    assert_eq!(breaker.broken(), 4);
    assert_eq!(upstream.submits().await, 1);
}

#[tokio::test]
async fn a_refusal_after_a_lost_answer_or_of_an_accepted_job_does_not_say_that_nothing_was_bought() {
    let upstream = Upstream::start().await;
    let program = Program::on(&upstream);
    let serving = program.serve(&["serve"]).await;
    let object = json_of(&program.run(&["keys", "new", "--name", "carol", "--json"]).await);
    let breaker = Breaker::to(&serving.address(), &[("POST", 5)]).await;
    let client = client_of(&breaker.address, object["key"].as_str().unwrap());
    let running = in_background({
        let client = client.clone();
        async move { client.run(&["edit", "cat.png", "leaked", "-o", "out.png", "--json"]).await }
    });
    until("the first attempt is bought", async || upstream.purchases().await == 1).await;
    assert_eq!(program.run(&["keys", "revoke", "carol"]).await.code, Some(0));
    let refused = running.await.unwrap();
    assert_eq!(refused.code, Some(2), "{refused:?}");
    let error: Value = serde_json::from_str(&refused.stdout).unwrap();
    assert_eq!(error["error"]["may_have_cost_money"], json!(true), "{error}");
    assert!(
        error["error"]["message"].as_str().unwrap().contains("An earlier attempt may have been accepted"),
        "{error}"
    );

    let object = json_of(&program.run(&["keys", "new", "--name", "dave", "--json"]).await);
    let dave = object["key"].as_str().unwrap();
    until("the key is known", async || serving.client(dave).get("/v1/models").await.status == 200).await;
    upstream.hold().await;
    let client = client_of(&serving.address(), dave);
    let running = in_background(async move { client.run(&["edit", "cat.png", "held", "-o", "out.png"]).await });
    until("it is being made", async || serving.status("engine", "polling").await == 1).await;
    assert_eq!(program.run(&["keys", "revoke", "dave"]).await.code, Some(0));
    ends(&running.await.unwrap(), 2, "The job was accepted and may cost money; fetch it later:");
    upstream.release().await;
}

#[tokio::test]
async fn a_reader_that_leaves_ends_no_work() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    let program = client_of(&gateway.address(), ALICE);
    for (name, more) in [("one.png", &[][..]), ("two.png", &["--json"])] {
        let code = program.run_unread(&[&["edit", "cat.png", name, "-o", name], more].concat()).await;
        assert_eq!((code, size_of(&saved(&program, name)).0), (Some(0), 1024), "{name}");
    }
    assert_eq!(program.run_unread(&["edit", "cat.png", "p", "-o", "one.png"]).await, Some(64));
    assert_eq!(program.run_unread(&["keys", "list"]).await, Some(1), "without storage");
}

#[tokio::test]
async fn a_job_goes_on_after_a_signal_and_is_fetched_with_the_printed_command() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    let program = client_of(&gateway.address(), ALICE);
    for (bought, signal) in [(1, "INT"), (2, "TERM")] {
        upstream.hold().await;
        std::fs::write(path(&program, "my out.dat"), "replaced").unwrap();
        let words = ["edit", "cat.png", signal, "-o", "my out.dat", "--format", "webp", "--force"];
        let mut running = program.begin(&words).await;
        until("it is being made", async || gateway.status("engine", "polling").await == 1).await;
        until("the client knows the id", async || running.log().contains("being made")).await;
        running.signal(signal);
        let mut code = None;
        until("the client has stopped", async || {
            code = running.ended();
            code.is_some()
        })
        .await;
        let log = running.log();
        assert_eq!(code.unwrap().code(), Some(2), "{log}");
        let (before, rest) = log.trim().split_once(" fetch pred_").unwrap_or_else(|| panic!("{log}"));
        assert!(before.ends_with(env!("CARGO_BIN_EXE_gptproto-gateway")), "not in the PATH: {log}");
        let (id, rest) = rest.split_once(' ').unwrap();
        assert_eq!(rest, "-o 'my out.dat' --format webp --force", "{log}");
        let id = format!("pred_{id}");
        assert!(log.contains(&format!("job {id}\n")), "also when it is killed: {log}");
        upstream.release().await;

        let fetch = ["fetch", &id, "-o", "my out.dat", "--format", "webp", "--force"];
        let fetched = program.run(&fetch).await;

        assert_eq!(fetched.code, Some(0), "{fetched:?}");
        let saved = saved(&program, "my out.dat");
        assert_eq!((size_of(&saved).0, image::guess_format(&saved).unwrap()), (1024, image::ImageFormat::WebP));
        assert_eq!(upstream.submits().await, bought);
    }
    ends(&program.run(&["fetch", "pred_01ARZ3NDEKTSV4RRFFQ69G5FAV"]).await, 1, "");
}

#[tokio::test]
async fn a_parameter_that_the_gateway_left_out_is_named() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::with(&upstream, &[("server.unsupported_parameters", "drop")]).await;
    let program = client_of(&gateway.address(), ALICE);
    let words = ["edit", "cat.png", "p", "--model", "gpt-image-2", "--background", "transparent", "-o", "out.png"];
    let run = program.run(&words).await;
    ends(&run, 0, "warning: left out by the gateway: background");
}

#[tokio::test]
async fn a_sandbox_needs_no_key_and_its_banner_has_a_command_that_works() {
    let program = Program::bare()
        .variable("GATEWAY_SERVER__LISTEN", "127.0.0.1:0")
        .variable("GATEWAY_OPERATOR__LISTEN", "127.0.0.1:0")
        // Meant for another server, and not sent to the sandbox as long as its address is the configured one.
        .variable("OPENAI_API_KEY", "sk-of-another-server");
    let serving = program.serve(&["serve", "--sandbox"]).await;
    let banner = serving.banner();
    assert!(banner.contains(&format!("http://{}/#key=sk-sandbox", serving.address())), "{banner}");
    let here = program.clone().variable("GATEWAY_SERVER__LISTEN", &serving.address());
    std::fs::write(path(&program, "cat.png"), picture(1)).unwrap();
    let edited = here.run(&["edit", "cat.png", "p", "--quality", "low"]).await;
    assert_eq!(edited.code, Some(0), "{edited:?}");
    assert!(path(&program, "cat-edited.png").exists());

    // Pasted into a shell in another folder, with nothing of this environment and a key for another server.
    let elsewhere = tempfile::tempdir().unwrap();
    let start = banner.find("terminal (takes").unwrap();
    let command: Vec<&str> = banner[start..].split("\n\n").collect();
    let mut shell = std::process::Command::new("/bin/sh");
    shell.arg("-c").arg(command[1]).env_clear().current_dir(elsewhere.path());
    shell.env("OPENAI_API_KEY", "sk-proj-of-another-server");
    let output = tokio::task::spawn_blocking(move || shell.output()).await.unwrap().unwrap();
    assert!(output.status.success(), "{}{output:?}", command[1]);
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(printed.contains(" simulated  ·"), "{printed}");
    let file = Path::new(printed.split("  (").next().unwrap());
    assert_eq!(size_of(&std::fs::read(file).unwrap()).1, 1024);
}

#[tokio::test]
async fn the_gateway_of_the_configuration_needs_no_key_of_the_environment() {
    let upstream = Upstream::start().await;
    let program = Program::on(&upstream);
    let serving = program.serve(&["serve"]).await;
    let here = program.clone().variable("GATEWAY_SERVER__LISTEN", &serving.address());
    let here = here.variable("OPENAI_API_KEY", "sk-proj-of-another-server");
    for name in ["one.png", "two.png"] {
        let run = here.run(&["generate", "a fox", "--quality", "low", "-o", name, "--json"]).await;
        let object = json_of(&run);
        assert_eq!(object["cache"], if name == "one.png" { "miss" } else { "hit" }, "one client, whatever its key");
    }
    assert_eq!(states_of_terminal(&here).await, ["revoked", "revoked"], "a key ends with its command");
    assert_eq!(upstream.purchases().await, 1);
    // With an address that is named, the key has to be named, too.
    let url = format!("http://{}", serving.address());
    let keyless = here.clone().without("OPENAI_API_KEY");
    ends(&keyless.run(&["generate", "a fox", "--url", &url]).await, 64, "set OPENAI_API_KEY");

    let at_once = ["a", "b", "c", "d"].map(|name| {
        let here = here.clone();
        let file = format!("{name}.png");
        in_background(async move { here.run(&["generate", "a fox", "--quality", "low", "-o", &file]).await })
    });
    for run in at_once {
        ends(&run.await.unwrap(), 0, "");
    }
    assert_eq!(states_of_terminal(&here).await, ["revoked"; 6]);

    // What may go on keeps its key.
    upstream.hold().await;
    let mut elsewhere = Program::bare();
    elsewhere.environment = here.environment.clone();
    let mut running = elsewhere.begin(&["generate", "a hen", "-o", "hen.png"]).await;
    until("the client knows the id", async || running.log().contains("job pred_")).await;
    running.signal("INT");
    until("the client has stopped", async || running.ended().is_some()).await;
    assert_eq!(states_of_terminal(&here).await[6..], ["active"]);
    upstream.release().await;
    assert_eq!(here.run(&["keys", "revoke", "terminal"]).await.code, Some(0));

    // The limits of the client stay, also when it has no key meanwhile.
    let limited = here.run(&["keys", "new", "--name", "terminal", "--usd-per-day", "0.0001"]).await;
    assert_eq!(limited.code, Some(0), "{limited:?}");
    ends(&here.run(&["generate", "a cow", "-o", "cow.png"]).await, 1, "");
    assert_eq!(here.run(&["keys", "revoke", "terminal", "--all"]).await.code, Some(0));
    ends(&here.run(&["generate", "a cow", "-o", "cow.png"]).await, 1, "");
    assert!(!path(&here, "cow.png").exists());
}

/// The states of the terminal's keys, the oldest first.
async fn states_of_terminal(program: &Program) -> Vec<String> {
    let listed = json_of(&program.run(&["keys", "list", "--json"]).await);
    let keys = listed["data"].as_array().unwrap().iter().filter(|key| key["name"] == "terminal");
    keys.map(|key| key["status"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_server_that_is_no_gateway_is_asked_once() {
    let answer = json!({"created": 1, "data": [{"b64_json": base64_simd::STANDARD.encode_to_string(picture(7))}]});
    let server = Breaker::answering(&answer.to_string()).await;
    let program = client_of(&server.address, "sk-any");
    let run = program.run(&["edit", "cat.png", "plain", "-o", "out.png"]).await;
    assert_eq!(run.code, Some(0), "{run:?}");
    assert_eq!(saved(&program, "out.png"), picture(7));
    assert!(run.stdout.contains("price not reported"), "{}", run.stdout);

    let gone = Breaker::answering("").await;
    let lost = client_of(&gone.address, "sk-any").run(&["edit", "cat.png", "plain", "-o", "out.png"]).await;
    ends(&lost, 2, "may cost money");
    assert_eq!(gone.broken(), 1, "it is not repeated");
}

#[tokio::test]
async fn what_a_server_says_is_believed_as_far_as_it_can_be_true() {
    let item =
        |bytes: &[u8]| json!({"data": [{"b64_json": base64_simd::STANDARD.encode_to_string(bytes)}]}).to_string();
    let headers = "x-gateway-prediction: pred_1; touch pwned\r\nx-gateway-cost-usd: -5\r\n";
    let server = Breaker::answering_with(headers, &item(&picture(7))).await;
    let run = client_of(&server.address, "sk-any").run(&["edit", "cat.png", "p", "-o", "out.png", "--json"]).await;
    let object = json_of(&run);
    assert_eq!((&object["prediction"], &object["cost_usd"]), (&Value::Null, &Value::Null), "{object}");

    let server = Breaker::answering(&item(b"#!/bin/sh\ntouch pwned\n")).await;
    let program = client_of(&server.address, "sk-any");
    ends(&program.run(&["edit", "cat.png", "p", "-o", "out.png"]).await, 2, "is no picture");
    assert!(new_files(&program).is_empty());
}

#[tokio::test]
async fn the_prompt_may_come_from_standard_input() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    let program = client_of(&gateway.address(), ALICE);
    let run = program.run_with_input(&["edit", "cat.png", "-", "-o", "out.png"], "from a pipe\n").await;
    assert_eq!(run.code, Some(0), "{run:?}");
    assert_eq!(upstream.prediction().await["parameters"]["prompt"], "from a pipe");
}

#[tokio::test]
async fn equal_edits_at_the_same_time_are_paid_once() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    upstream.hold().await;
    let program = client_of(&gateway.address(), ALICE);
    let [first, second] = ["one.png", "two.png"].map(|name| {
        let program = program.clone();
        in_background(async move { program.run(&["edit", "cat.png", "same", "-o", name, "--json"]).await })
    });
    until("one is bought", async || gateway.status("engine", "polling").await == 1).await;
    until("both wait", async || gateway.status("engine", "waiters").await >= 2).await;
    upstream.release().await;
    let objects = [json_of(&first.await.unwrap()), json_of(&second.await.unwrap())];
    assert!(objects.iter().any(|object| object["cache"] == "joined" && object["cost_usd"] == 0.0), "{objects:?}");
    assert_eq!((saved(&program, "one.png"), upstream.purchases().await), (saved(&program, "two.png"), 1));
}
