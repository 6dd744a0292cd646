//! `check`, free and with `--live`: its rows, its exit codes, and what it buys.

use gptproto_gateway::simulator::Profile;
use serde_json::{Value, json};

use crate::harness::{Program, Run, UPSTREAM_KEY, Upstream, until};

/// The smallest live check.
const LIVE: [&str; 5] = ["check", "--live", "--yes", "--model", "gpt-image-2"];

/// Asserts the exit code, and that the rows contain each text.
#[track_caller]
fn shows(run: &Run, code: i32, texts: &[&str]) {
    assert_eq!(run.code, Some(code), "{}{}", run.stdout, run.stderr);
    for text in texts {
        assert!(run.stdout.contains(text), "no {text:?} in {}", run.stdout);
    }
    assert!(!run.stdout.contains(UPSTREAM_KEY) && !run.stderr.contains(UPSTREAM_KEY), "the key is never shown");
}

/// Asserts that nothing was bought, and why.
#[track_caller]
fn buys_nothing(run: &Run, reason: &str) {
    assert_eq!(run.code, Some(64), "{}{}", run.stdout, run.stderr);
    assert!(run.stderr.contains(reason), "no {reason:?} in {}", run.stderr);
    assert_eq!(run.stdout, "");
}

#[tokio::test]
async fn a_free_check_warns_about_a_list_that_is_not_there_and_says_what_to_do() {
    let upstream = Upstream::start().await;
    let program = Program::on(&upstream);
    shows(&program.run(&["check"]).await, 0, &["ok    upstream", "ok    models", "ok    unknown id"]);
    for status in [404, 500, 503] {
        upstream.set(json!({"extras": {"models_status": status}})).await;
        shows(&program.run(&["check"]).await, 2, &["warn  upstream", &status.to_string(), "check --live proves it"]);
    }
    upstream.stop().await;
    shows(&program.run(&["check"]).await, 1, &["FAIL  upstream", "cannot be reached"]);
}

#[tokio::test]
async fn a_live_check_proves_the_chain_with_one_purchase() {
    let upstream = Upstream::start().await;
    let program = Program::on(&upstream);
    let run = program.run(&LIVE).await;
    let proved = [
        "ok    purchase",
        "ok    key",
        "ok    input method     base64_images",
        "ok    submit answer",
        "ok    poll",
        "ok    input seen       yes",
        "ok    output",
        "ok    size             1024x1024, as asked",
        "ok    usage and price",
        "ok    second poll      the same answer again",
        "ok    second download  the same bytes",
        "ok    empty request    refused with HTTP 400",
        "Everything that was checked works.",
    ];
    shows(&run, 0, &proved);
    assert!(run.stderr.contains("together at most $0.030"), "{}", run.stderr);
    assert_eq!(upstream.purchases().await, 1);
    // The ledger has it, under a client of its own.
    let ledger = program.run(&["ledger", "list", "--json"]).await;
    assert!(ledger.stdout.contains("\"check\""), "{}", ledger.stdout);
    // A second check buys anew: it is not answered from the cache.
    shows(&program.run(&LIVE).await, 0, &["ok    purchase"]);
    assert_eq!(upstream.purchases().await, 2);
}

#[tokio::test]
async fn nothing_is_bought_without_a_confirmation_or_above_the_limit_or_beside_a_gateway() {
    let upstream = Upstream::start().await;
    let program = Program::on(&upstream);
    let run = program.run(&["check", "--live"]).await;
    buys_nothing(&run, "repeat with --yes");
    assert!(run.stderr.contains("together at most $0.035"), "the plan is shown: {}", run.stderr);
    buys_nothing(&program.run(&[&LIVE[..], &["--max-usd", "0.001"]].concat()).await, "more than --max-usd");
    buys_nothing(&program.run(&["check", "--live", "--yes", "--model", "gpt-image-9"]).await, "gpt-image-9");
    buys_nothing(&program.run(&["check", "--yes"]).await, "--live");
    let serving = program.serve(&["serve"]).await;
    buys_nothing(&program.run(&LIVE).await, "is in use by another gateway");
    shows(&program.run(&["check"]).await, 0, &["note  storage"]);
    assert_eq!(serving.terminate().await, Some(0));
    assert_eq!(upstream.submits().await, 0);
}

#[tokio::test]
async fn every_row_is_in_the_json_and_each_input_method_is_a_purchase() {
    let upstream = Upstream::start().await;
    let run = Program::on(&upstream).run(&[&LIVE[..], &["--all-input-methods", "--mask", "--json"]].concat()).await;
    assert_eq!(run.code, Some(0), "{}{}", run.stdout, run.stderr);
    let report: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(report["exit_code"], 0);
    let rows = report["rows"].as_array().unwrap();
    let of = |row: &str| -> Vec<&Value> { rows.iter().filter(|found| found["row"] == row).collect() };
    let methods: Vec<&str> = of("input method").iter().map(|row| row["seen"].as_str().unwrap()).collect();
    assert_eq!(methods, ["base64_images", "multipart", "multipart"]);
    assert_eq!(of("input seen").len(), 3);
    assert_eq!(of("mask kept").len(), 1);
    assert_eq!(of("empty request").len(), 1, "once a model");
    assert!(rows.iter().all(|row| row["verdict"] == "ok" || row["verdict"] == "note"), "{report}");
    assert_eq!(upstream.purchases().await, 3);
}

#[tokio::test]
async fn a_lost_answer_is_an_unknown_outcome_that_is_not_bought_again() {
    let upstream = Upstream::start().await;
    let program = Program::on(&upstream);
    upstream.fault("submit", "drop_after", 1).await;
    shows(&program.run(&LIVE).await, 3, &["LOST? purchase", "maybe bought", "ledger resolve"]);
    shows(&program.run(&LIVE).await, 3, &["LOST? purchase"]);
    assert_eq!(upstream.purchases().await, 1);
}

#[tokio::test]
async fn a_failed_task_is_paid_without_a_picture_and_named() {
    let upstream = Upstream::with(json!({"life": {"outcome": "failed_provider"}})).await;
    let run = Program::on(&upstream).run(&LIVE).await;
    let prediction = upstream.prediction().await;
    shows(&run, 3, &["LOST? purchase", "paid without a picture", prediction["id"].as_str().unwrap()]);
}

#[tokio::test]
async fn a_refused_purchase_is_a_fault_and_costs_nothing() {
    let upstream = Upstream::with(json!({"balance": {"usd": 0.0}})).await;
    let run = Program::on(&upstream).run(&LIVE).await;
    shows(&run, 1, &["FAIL  purchase", "nothing was bought", "top up the account"]);
    assert_eq!(upstream.purchases().await, 0);
}

#[tokio::test]
async fn an_interrupted_purchase_is_followed_and_not_bought_again() {
    let upstream = Upstream::start().await;
    let program = Program::on(&upstream);
    upstream.hold().await;
    for signal in ["KILL", "INT"] {
        let checking = program.begin(&LIVE).await;
        until("it waits for the picture", async || checking.log().contains("waiting for the picture")).await;
        if signal == "INT" {
            checking.signal("INT");
            assert_eq!(checking.exit_code().await, Some(3), "the purchase is not finished");
        } else {
            checking.kill();
        }
    }
    upstream.release().await;
    shows(&program.run(&LIVE).await, 0, &["note  purchase", "an earlier check that was interrupted"]);
    assert_eq!(upstream.purchases().await, 1);
}

#[tokio::test]
async fn what_is_known_about_formats_can_be_forgotten() {
    let upstream = Upstream::start().await;
    let program = Program::on(&upstream);
    shows(&program.run(&["check", "--forget"]).await, 0, &["nothing was known about request formats"]);
    let known = program.directory.path().join("learned/contact.json");
    std::fs::write(&known, "{}").unwrap();
    shows(&program.run(&["check", "--forget"]).await, 0, &["what was known about request formats is forgotten"]);
    assert!(!known.exists());
}

/// A fast simulator that differs from the documents.
async fn differing(profile: Profile) -> Upstream {
    let scenario = profile.scenario(400.0).unwrap().merged(json!({"limits": {"poll_interval_min_ms": 0}})).unwrap();
    Upstream::with(json!(scenario)).await
}

#[tokio::test]
async fn a_refused_input_method_is_followed_by_the_next_and_remembered() {
    let upstream = differing(Profile::NoInline).await;
    let program = Program::on(&upstream);
    let run = program.run(&LIVE).await;
    shows(
        &run,
        2,
        &["warn  input method     multipart; refused before, unbilled: base64_images", "ok    input seen       yes"],
    );
    assert_eq!((upstream.submits().await, upstream.purchases().await), (3, 1), "the third is the empty request");
    // The next check knows it, and a check that forgets asks again.
    let known = ["warn  input method     multipart; base64_images is known to be refused"];
    shows(&program.run(&LIVE).await, 2, &known);
    assert_eq!(upstream.purchases().await, 2);
    let forgetting = program.run(&[&LIVE[..], &["--forget"]].concat()).await;
    shows(&forgetting, 2, &["is forgotten", "multipart; refused before, unbilled: base64_images"]);
    // Each method by itself: one that works is enough.
    let each = program.run(&[&LIVE[..], &["--all-input-methods"]].concat()).await;
    shows(&each, 2, &["warn  purchase", "nothing was bought", "ok    input method     multipart"]);
}

#[tokio::test]
async fn an_input_that_is_ignored_is_a_fault() {
    let upstream = differing(Profile::InlineIgnored).await;
    let run = Program::on(&upstream).run(&LIVE).await;
    shows(&run, 1, &["FAIL  input seen       no, the picture was made from the text alone", "upstream.inputs"]);
    assert_eq!(upstream.purchases().await, 1);
}

#[tokio::test]
async fn a_key_that_is_accepted_only_by_itself_is_a_warning() {
    let upstream = differing(Profile::RawKey).await;
    let program = Program::on(&upstream);
    shows(&program.run(&["check"]).await, 2, &["warn  upstream", "without \"Bearer\""]);
    shows(&program.run(&LIVE).await, 2, &["warn  key", "ok    input seen       yes", "ok    second poll"]);
    assert_eq!(upstream.purchases().await, 1);
}

#[tokio::test]
async fn a_page_of_the_edge_is_not_called_a_bad_key() {
    let upstream = differing(Profile::Edge403).await;
    let program = Program::on(&upstream);
    for arguments in [&["check"][..], &LIVE] {
        let run = program.run(arguments).await;
        shows(&run, 1, &["FAIL  upstream", "Cloudflare refuses this machine's address (error 1010", "exit address"]);
        assert!(!run.stdout.contains("refuses the key"), "{}", run.stdout);
    }
    assert_eq!(upstream.submits().await, 0, "nothing is bought where nothing can be served");
}

#[tokio::test]
async fn a_stricter_table_of_parameters_is_met_without_paying_twice() {
    let upstream = differing(Profile::StrictPlus).await;
    let plus = ["check", "--live", "--yes", "--model", "gpt-image-1.5-plus"];
    let program = Program::on(&upstream);
    // After the second parameter that is refused, all that differ between the tables are left out, and the size is the
    // other one: a purchase is submitted three times at most.
    let refused =
        ["warn  input method", "refused before, unbilled", "ok    input seen       yes", "1254x1254, as asked"];
    shows(&program.run(&plus).await, 2, &refused);
    assert_eq!(upstream.purchases().await, 1);
    let known = ["warn  input method", "known from earlier refusals"];
    shows(&program.run(&plus).await, 2, &known);
    assert_eq!(upstream.purchases().await, 2);
}

#[tokio::test]
async fn what_all_models_lack_is_one_row() {
    let upstream = differing(Profile::NoInline).await;
    let run = Program::on(&upstream).run(&["check"]).await;
    let names = ["the upstream does not name base64_images: gpt-image-1 image-edit,", ", gpt-image-2 image-edit,"];
    shows(&run, 2, &names);
    assert_eq!(run.stdout.matches("warn  fields").count(), 1, "{}", run.stdout);
}

#[tokio::test]
async fn a_live_check_needs_no_client_key_and_says_that_serving_does() {
    let upstream = Upstream::start().await;
    let program = Program::on(&upstream).without("GATEWAY_CLIENT_KEYS");
    shows(&program.run(&["check"]).await, 1, &["FAIL  keys"]);
    shows(&program.run(&LIVE).await, 2, &["warn  keys", "ok    purchase"]);
    assert_eq!(upstream.purchases().await, 1);
}

#[tokio::test]
async fn a_check_makes_no_folder_and_looks_at_the_ports() {
    let upstream = Upstream::start().await;
    let program = Program::on(&upstream).variable("GATEWAY_STORAGE__DIRECTORY", "./below/data");
    let run = program.run(&["check"]).await;
    shows(
        &run,
        0,
        &[
            "ok    storage          ./below/data does not exist yet",
            "ok    client port      127.0.0.1:0 can be listened on",
        ],
    );
    shows(&program.run(&["check", "--forget"]).await, 0, &["ok    formats          nothing was known"]);
    assert!(!program.directory.path().join("below").exists(), "nothing is made");

    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let other = program.clone().variable("GATEWAY_OPERATOR__LISTEN", &address);
    let in_use = format!("FAIL  operator port    {address} is in use: by ");
    shows(&other.run(&["check"]).await, 1, &[&in_use, "serve --operator-listen ADDR", "operator.listen"]);

    // A gateway on the same folder has its own ports; one on another folder is in the way.
    let serving = program.serve(&[]).await;
    let beside = program.clone().variable("GATEWAY_SERVER__LISTEN", &serving.address());
    let own = format!("note  client port      {} is in use by the gateway that runs", serving.address());
    shows(&beside.run(&["check"]).await, 0, &["note  storage", &own]);
    let elsewhere = beside.clone().variable("GATEWAY_STORAGE__DIRECTORY", "./elsewhere");
    let foreign = format!("FAIL  client port      {} is in use: another gateway answers there", serving.address());
    shows(&elsewhere.run(&["check"]).await, 1, &[&foreign]);
    let operator = serving.operator().replace("http://", "");
    let elsewhere = elsewhere.variable("GATEWAY_OPERATOR__LISTEN", &operator);
    shows(&elsewhere.run(&["check"]).await, 1, &["FAIL  operator port", "another gateway answers there"]);
    assert_eq!(serving.terminate().await, Some(0));
}

#[tokio::test]
async fn the_sandbox_can_be_checked_without_a_key_and_buys_for_nothing() {
    let program = Program::bare()
        .variable("GATEWAY_SERVER__LISTEN", "127.0.0.1:0")
        .variable("GATEWAY_OPERATOR__LISTEN", "127.0.0.1:0");
    // What is configured for the service does not matter.
    program.file("gptproto-gateway.toml", "[upstream]\napi_key_file = \"/nowhere/key\"\n");
    let run = program.run(&["check", "--sandbox"]).await;
    shows(&run, 0, &["ok    storage          ./data/sandbox does not exist yet", "accepts the key", "ok    models"]);
    assert!(!program.directory.path().join("data").exists(), "nothing is made");
    shows(&program.run(&["check", "--sandbox", "--live", "--yes"]).await, 0, &["ok    purchase"]);
}
