//! Client keys that are made, limited, rotated and revoked while the gateway runs: over HTTP, and by the command line beside it.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{
    ADMIN_TOKEN, Admin, Answer, BOB, Client, Edit, Gateway, Program, Raw, Run, Serving, Upstream, http, in_background,
    until,
};

/// A gateway with the administration on.
async fn administrated(upstream: &Upstream, changes: &[(&str, &str)]) -> (Gateway, Admin) {
    let changes = [&[("GATEWAY_ADMIN_TOKEN", ADMIN_TOKEN)], changes].concat();
    let gateway = Gateway::with(upstream, &changes).await;
    let admin = Admin::new(gateway.operator());
    (gateway, admin)
}

/// Waits until a client is refused, and returns how long that took.
async fn refused(client: &Client) -> Duration {
    let start = Instant::now();
    until("the key is refused", async || client.get("/v1/models").await.status == 401).await;
    start.elapsed()
}

#[tokio::test]
async fn a_key_is_made_used_limited_and_revoked() {
    let upstream = Upstream::start().await;
    let (gateway, admin) = administrated(&upstream, &[("limits.usd_per_month", "50")]).await;
    let body = json!({"name": "carol", "models": ["gpt-image-1.5"], "limits": {"requests_per_minute": 3}, "weight": 2});
    let made = admin.send(Method::POST, "/admin/keys", body).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let made = made.json();
    let (id, key) = (made["id"].as_str().unwrap().to_owned(), made["key"].as_str().unwrap().to_owned());
    assert!(id.starts_with("key_") && key.starts_with(made["prefix"].as_str().unwrap()), "{made}");
    assert_eq!((&made["limits"]["requests_per_minute"], &made["limits"]["usd_per_month"]), (&json!(3), &json!(50.0)));
    assert_eq!((&made["last_used"], &made["expires"], &made["status"]), (&Value::Null, &Value::Null, &json!("active")));

    let carol = gateway.client(&key);
    carol.edit(&Edit::new("hers")).await.picture();
    carol.edit(&Edit::new("other model").field("model", "gpt-image-2")).await.is_refused(403, "model_not_found");
    assert_eq!(gateway.alice().edit(&Edit::new("hers")).await.cache(), "miss", "a client has a cache of its own");

    let listed = admin.list("/admin/keys").await;
    let names: Vec<&str> = listed.iter().map(|key| key["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["alice", "bob", "carol"]);
    assert!(listed[2].get("key").is_none() && !Value::from(listed.clone()).to_string().contains(&key), "shown once");
    assert!(listed[2]["last_used"].as_i64().unwrap() >= listed[2]["created"].as_i64().unwrap());
    assert!(listed[2]["spent"]["usd_today"].as_f64().unwrap() > 0.0 && listed[2]["spent"]["pictures_this_month"] == 1);

    // What was counted stays counted.
    let changed =
        admin.send(Method::PATCH, &format!("/admin/keys/{id}"), json!({"limits": {"requests_per_minute": 2}})).await;
    assert_eq!(changed.json()["limits"]["requests_per_minute"], 2, "{}", changed.text());
    assert_eq!(changed.json()["models"], json!(["gpt-image-1.5"]), "the rest is as it was");
    carol.edit(&Edit::new("third")).await.is_refused(429, "rate_limit_exceeded");
    admin.send(Method::PATCH, &format!("/admin/keys/{id}"), json!({"limits": {"requests_per_minute": 0}})).await;
    carol.edit(&Edit::new("third")).await.picture();

    let revoked = admin.send(Method::DELETE, &format!("/admin/keys/{id}"), Value::Null).await;
    assert_eq!((revoked.status, &revoked.json()["status"]), (200, &json!("revoked")), "{}", revoked.text());
    carol.get("/v1/models").await.is_refused(401, "invalid_api_key");
    let gateway = gateway.restart().await;
    gateway.client(&key).get("/v1/models").await.is_refused(401, "invalid_api_key");
    let admin = Admin::new(gateway.operator());
    let lines = admin.list("/admin/audit").await;
    let actions: Vec<&str> = lines.iter().map(|line| line["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["key.revoked", "key.changed", "key.changed", "key.created"]);
    assert!(lines.iter().all(|line| line["actor"] == "admin" && line["subject"] == id.as_str()));
    assert!(!Value::from(lines).to_string().contains(&key));
}

#[tokio::test]
async fn a_rotated_key_is_valid_for_its_grace_and_an_expired_one_is_not() {
    let upstream = Upstream::start().await;
    let (gateway, admin) = administrated(&upstream, &[]).await;
    let (id, old) = admin.make("carol").await;
    gateway.client(&old).edit(&Edit::new("hers")).await.picture();
    let rotated = admin.send(Method::POST, &format!("/admin/keys/{id}/rotate"), json!({"grace": 2})).await;
    assert_eq!(rotated.status, 201, "{}", rotated.text());
    let rotated = rotated.json();
    let new = rotated["key"].as_str().unwrap();
    assert_ne!(rotated["id"], id.as_str());
    let listed = admin.list("/admin/keys").await;
    assert_eq!((&listed[2]["status"], &listed[3]["status"]), (&json!("rotated"), &json!("active")));
    let hit = gateway.client(new).edit(&Edit::new("hers")).await;
    assert_eq!(hit.cache(), "hit", "one client, one cache");
    assert_eq!(gateway.client(&old).get("/v1/models").await.status, 200, "in its grace");
    refused(&gateway.client(&old)).await;
    assert_eq!(gateway.client(new).get("/v1/models").await.status, 200);
    // Rotated without grace.
    let new_id = rotated["id"].as_str().unwrap();
    let third = admin.send(Method::POST, &format!("/admin/keys/{new_id}/rotate"), json!({"grace": "0s"})).await.json();
    gateway.client(new).get("/v1/models").await.is_refused(401, "invalid_api_key");
    assert_eq!(gateway.client(third["key"].as_str().unwrap()).get("/v1/models").await.status, 200);

    let (_, short) = admin.make_with(json!({"name": "dave", "expires": "2s"})).await;
    assert_eq!(gateway.client(&short).get("/v1/models").await.status, 200);
    refused(&gateway.client(&short)).await;
}

#[tokio::test]
async fn after_a_revocation_running_jobs_are_stored_and_delivered_to_no_one() {
    let upstream = Upstream::start().await;
    let (gateway, admin) = administrated(&upstream, &[]).await;
    let (id, key) = admin.make("carol").await;
    let carol = gateway.client(&key);
    let by_address = carol.edit(&Edit::new("by address").field("response_format", "url")).await.json();
    let address = by_address["data"][0]["url"].as_str().unwrap().to_owned();
    assert_eq!(gateway.client("").get(&address).await.status, 200);
    upstream.hold().await;
    let held = carol.begin(&Edit::new("held"));
    let later = carol.edit(&Edit::new("later").header("prefer", "respond-async")).await;
    assert_eq!(later.status, 202);
    until("both are followed", async || gateway.status("engine", "polling").await == 2).await;

    admin.send(Method::DELETE, &format!("/admin/keys/{id}"), Value::Null).await;
    upstream.release().await;

    held.answer().await.is_refused(401, "invalid_api_key");
    until("both are stored", async || gateway.status("engine", "pictures").await == 3).await;
    let prediction = format!("/v1/predictions/{}", later.json()["id"].as_str().unwrap());
    carol.get(&prediction).await.is_refused(401, "invalid_api_key");
    assert_ne!(gateway.alice().get(&prediction).await.status, 200);
    assert_ne!(gateway.client("").get(&address).await.status, 200, "also by its signed address");
    assert_eq!(upstream.purchases().await, 3);
    // The name is free again, and its new key has what was bought.
    let (_, again) = admin.make("carol").await;
    assert_ne!(gateway.client(&again).edit(&Edit::new("held")).await.cache(), "miss");
    assert_eq!(gateway.client("").get(&address).await.status, 200);
    assert_eq!(upstream.purchases().await, 3);
}

#[tokio::test]
async fn what_waits_in_the_queue_is_not_bought_for_a_key_that_has_ended() {
    let upstream = Upstream::start().await;
    let (gateway, admin) = administrated(&upstream, &[("upstream.concurrent_predictions", "1")]).await;
    for (number, (name, rotates)) in [("carol", false), ("dave", true)].into_iter().enumerate() {
        let bought = number as u64;
        let (id, key) = admin.make(name).await;
        let client = gateway.client(&key);
        upstream.hold().await;
        for number in 0..4 {
            let queued = client.edit(&Edit::new(&format!("queued {number}")).header("prefer", "respond-async")).await;
            assert_eq!(queued.status, 202);
        }
        until("one is bought", async || gateway.status("engine", "polling").await == 1).await;
        assert_eq!(gateway.status("engine", "queued").await, 3);

        let ended = if rotates {
            admin.send(Method::POST, &format!("/admin/keys/{id}/rotate"), json!({"grace": 0})).await
        } else {
            admin.send(Method::DELETE, &format!("/admin/keys/{id}"), Value::Null).await
        };
        upstream.release().await;

        until("nothing is under way", async || {
            gateway.status("engine", "queued").await + gateway.status("engine", "polling").await == 0
        })
        .await;
        assert_eq!(upstream.purchases().await, bought + 1, "what was bought before, alone");
        // Who comes with a valid key sees that they were cancelled.
        let key = if rotates { ended.json()["key"].as_str().unwrap().to_owned() } else { admin.make(name).await.1 };
        let listed = gateway.client(&key).get("/v1/predictions").await.json();
        let states: Vec<&str> =
            listed["data"].as_array().unwrap().iter().map(|job| job["status"].as_str().unwrap()).collect();
        assert_eq!(states.iter().filter(|&&state| state == "completed").count(), 1, "{listed}");
        assert_eq!(states.iter().filter(|&&state| state == "cancelled").count(), 3, "{listed}");
    }
}

#[tokio::test]
async fn a_request_whose_body_ends_after_the_revocation_is_not_bought() {
    let upstream = Upstream::start().await;
    let (gateway, admin) = administrated(&upstream, &[]).await;
    let (id, key) = admin.make("carol").await;
    let body = json!({"model": "gpt-image-2", "prompt": "late"}).to_string();
    let mut raw = Raw::to(&gateway.address()).await;
    let head = format!(
        "POST /v1/images/generations HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n\
         Content-Type: application/json\r\nPrefer: respond-async\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    raw.send(head + &body[..10]).await;
    until("the request is counted", async || {
        let clients = gateway.page("/status.json").await.1;
        let clients = serde_json::from_str::<Value>(&clients).unwrap()["clients"].clone();
        clients.as_array().unwrap().iter().any(|one| one["name"] == "carol" && one["requests_at_once"]["used"] == 1)
    })
    .await;
    admin.send(Method::DELETE, &format!("/admin/keys/{id}"), Value::Null).await;
    raw.send(&body[10..]).await;
    let answer = raw.until("invalid_api_key").await;
    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
    assert_eq!(upstream.submits().await, 0);
}

#[tokio::test]
async fn requests_of_a_key_that_ends_end_at_once_and_its_client_goes_on_with_another_key() {
    let upstream = Upstream::start().await;
    let (gateway, admin) = administrated(&upstream, &[("server.stream_heartbeat_ms", "600000")]).await;
    let (id, old) = admin.make("carol").await;
    let carol = gateway.client(&old);
    upstream.hold().await;
    let plain = carol.begin(&Edit::new("plain"));
    let mut stream = carol.begin(&Edit::new("stream").field("stream", "true"));
    let later = carol.edit(&Edit::new("later").header("prefer", "respond-async")).await.json();
    let prediction = format!("/v1/predictions/{}", later["id"].as_str().unwrap());
    let waiting = in_background({
        let (carol, prediction) = (carol.clone(), prediction.clone());
        async move { carol.prediction(&prediction, "wait=60").await }
    });
    stream.first_bytes().await;
    until("all are followed", async || gateway.status("engine", "polling").await == 3).await;
    until("all wait", async || gateway.status("engine", "waiters").await >= 3).await;

    let rotated = admin.send(Method::POST, &format!("/admin/keys/{id}/rotate"), json!({"grace": "0s"})).await.json();
    let start = Instant::now();
    plain.answer().await.is_refused(401, "invalid_api_key");
    waiting.await.unwrap().is_refused(401, "invalid_api_key");
    let events = stream.answer().await.text();
    assert!(events.contains("invalid_api_key") && !events.contains("b64_json"), "{events}");
    assert!(start.elapsed() < Duration::from_secs(5), "not when the pictures are there: {:?}", start.elapsed());

    upstream.release().await;
    let carol = gateway.client(rotated["key"].as_str().unwrap());
    until("they are stored", async || gateway.status("engine", "polling").await == 0).await;
    assert_ne!(carol.edit(&Edit::new("plain")).await.cache(), "miss", "they are the client's");
    assert_eq!(carol.get(&prediction).await.json()["status"], "completed");
    assert_eq!(upstream.purchases().await, 3);
}

#[tokio::test]
async fn clients_of_the_configuration_cannot_be_changed_and_say_so() {
    let upstream = Upstream::start().await;
    let (gateway, admin) = administrated(&upstream, &[]).await;
    for (method, path, body) in [
        (Method::POST, "/admin/keys", json!({"name": "alice"})),
        (Method::PATCH, "/admin/keys/config:alice", json!({"limits": {"usd_per_day": 1}})),
        (Method::DELETE, "/admin/keys/config:alice", Value::Null),
        (Method::DELETE, "/admin/keys/alice", Value::Null),
        (Method::POST, "/admin/keys/config:alice/rotate", json!({})),
    ] {
        let answer = admin.send(method, path, body).await;
        answer.is_refused(409, "configured_client");
        assert!(answer.message().contains("configuration"), "{}", answer.message());
    }
    assert_eq!(gateway.alice().get("/v1/models").await.status, 200);
}

/// Runs a command beside a gateway.
async fn run(program: &Program, arguments: &[&str]) -> Run {
    let run = program.run(arguments).await;
    assert_eq!(run.code, Some(0), "{run:?}");
    run
}

async fn json_of(program: &Program, arguments: &[&str]) -> Value {
    serde_json::from_str(&run(program, arguments).await.stdout).unwrap()
}

#[tokio::test]
async fn the_command_line_changes_keys_of_a_running_gateway_within_a_second() {
    let upstream = Upstream::start().await;
    let program = Program::on(&upstream);
    let serving = program.serve(&[]).await;
    let made = json_of(&program, &["keys", "new", "--name", "carol", "--usd-per-day", "0.001", "--json"]).await;
    let carol = serving.client(made["key"].as_str().unwrap());
    until("the key is accepted", async || carol.get("/v1/models").await.status == 200).await;
    carol.edit(&Edit::new("too dear")).await.is_refused(429, "insufficient_quota");
    let set = run(&program, &["keys", "set", "carol", "--usd-per-day", "default"]).await;
    assert!(set.stdout.contains("running gateway"), "{}", set.stdout);
    until("the limit is gone", async || carol.edit(&Edit::new("now")).await.status == 200).await;

    let rotated = json_of(&program, &["keys", "rotate", "carol", "--grace", "0s", "--json"]).await;
    let took = refused(&carol).await;
    assert!(took < Duration::from_secs(1), "{took:?}");
    let carol = serving.client(rotated["key"].as_str().unwrap());
    assert_eq!(carol.get("/v1/models").await.status, 200);
    let mut longest = Duration::ZERO;
    let listed = run(&program, &["keys", "list"]).await;
    assert!(listed.stdout.contains("carol") && listed.stdout.contains("configuration"), "{}", listed.stdout);
    run(&program, &["keys", "revoke", "carol"]).await;
    longest = longest.max(refused(&carol).await);
    assert!(longest < Duration::from_secs(1), "{longest:?}");

    // Neither a crash nor a restart brings it back.
    serving.kill();
    let serving = program.serve(&[]).await;
    serving.client(rotated["key"].as_str().unwrap()).get("/v1/models").await.is_refused(401, "invalid_api_key");
    let again = program.run(&["keys", "revoke", rotated["id"].as_str().unwrap()]).await;
    assert_eq!((again.code, again.stderr.lines().count()), (Some(1), 1), "{again:?}");
    assert!(again.stderr.contains("is revoked"), "{}", again.stderr);
    let wrong = program.run(&["keys", "set", "carol", "--weight", "2"]).await;
    assert!(wrong.code == Some(1) && wrong.stderr.contains("no key carol"), "{wrong:?}");
    let wrong = program.run(&["keys", "new", "--name", "dave", "--usd-per-day=-1"]).await;
    assert!(wrong.code == Some(64) && wrong.stderr.contains("usd_per_day: must be"), "{wrong:?}");
}

#[tokio::test]
async fn after_a_rotation_all_keys_of_a_client_are_revoked_by_its_name() {
    let upstream = Upstream::start().await;
    let program = Program::on(&upstream);
    let serving = program.serve(&[]).await;
    let old = json_of(&program, &["keys", "new", "--name", "carol", "--json"]).await;
    let new = json_of(&program, &["keys", "rotate", "carol", "--grace", "10m", "--json"]).await;
    let keys = [&old, &new].map(|key| (key["id"].as_str().unwrap(), serving.client(key["key"].as_str().unwrap())));
    until("both are valid", async || keys[1].1.get("/v1/models").await.status == 200).await;

    // Limits are those of the client; an expiry is that of one key.
    let set = json_of(&program, &["keys", "set", "carol", "--usd-per-day", "5", "--json"]).await;
    assert_eq!(set["limits"]["usd_per_day"], 5.0);
    let expiry = program.run(&["keys", "set", "carol", "--expires", "30d"]).await;
    let revoke = program.run(&["keys", "revoke", "carol"]).await;
    for run in [&expiry, &revoke] {
        assert_eq!(run.code, Some(1), "{run:?}");
        assert!(keys.iter().all(|(id, _)| run.stderr.contains(id)) && run.stderr.contains("--all"), "{run:?}");
    }

    run(&program, &["keys", "revoke", "carol", "--all"]).await;
    for (_, client) in &keys {
        refused(client).await;
    }
}

#[tokio::test]
async fn the_command_line_knows_what_is_in_the_environment_of_the_gateway() {
    let upstream = Upstream::start().await;
    let program = Program::on(&upstream);
    let serving = program.serve(&[]).await;
    // Another shell, as that of an operator beside a container.
    let shell = program.clone().without("GATEWAY_CLIENT_KEYS").without("GPTPROTO_API_KEY");
    let stored = async || run(&shell, &["accounts", "list"]).await.stdout.contains("default");
    until("the gateway has stored its names", stored).await;
    let refused = shell.run(&["keys", "new", "--name", "bob", "--usd-per-day", "0.01"]).await;
    assert_eq!((refused.code, refused.stdout.as_str()), (Some(1), ""), "{refused:?}");
    assert!(refused.stderr.contains("bob is a client of the gateway's configuration"), "{}", refused.stderr);
    assert_eq!(run(&shell, &["keys", "list"]).await.stdout.matches("bob").count(), 0, "nothing was made");

    run(&shell, &["accounts", "pause", "default"]).await;
    until("it is paused", async || account_status(&serving).await["paused"] == true).await;

    // What the command line changes is in the log of the gateway.
    run(&shell, &["keys", "new", "--name", "carol"]).await;
    until("it is logged", async || serving.log().contains("key.created")).await;
    assert_eq!(serving.log().matches("key.created").count(), 1);
    let metrics = serving.page("/metrics").await.1;
    assert!(metrics.contains("gptproto_gateway_admin_changes_total{action=\"key.created\"} 1"), "{metrics}");
}

#[tokio::test]
async fn without_storage_a_new_key_comes_with_lines_for_its_terms_or_is_refused() {
    let program = Program::bare().variable("GATEWAY_STORAGE__DIRECTORY", "./nowhere");
    let terms = ["--usd-per-day", "5", "--models", "gpt-image-2", "--weight", "7"];
    let new = ["keys", "new", "--name", "carol"];
    let made = run(&program, &[&new[..], &terms].concat()).await.stdout;
    for line in [
        "Nothing was stored",
        "nowhere/journal.sqlite",
        "usd_per_day = 5.0",
        "models = [\"gpt-image-2\"]",
        "weight = 7.0",
    ] {
        assert!(made.contains(line), "{line} in {made}");
    }
    assert!(!made.contains("GATEWAY_CLIENT_KEYS="), "the environment has no place for them: {made}");
    // The lines are of use.
    let lines = made.split("For the configuration file:").nth(1).unwrap();
    let file = program.file("gateway.toml", lines);
    let configured = program.clone().variable("GATEWAY_CONFIG", file.to_str().unwrap());
    let listed = configured.run(&["keys", "list"]).await;
    assert!(listed.code == Some(1) && listed.stderr.contains("no journal"), "the file is read: {listed:?}");
    let json = json_of(&program, &[&new[..], &terms, &["--json", "--print-only"]].concat()).await;
    assert_eq!((&json["limits"]["usd_per_day"], &json["weight"]), (&json!(5.0), &json!(7.0)), "{json}");
    for (wrong, named) in [
        (["--expires", "30d"], "--expires needs the storage"),
        (["--expires", "yesterday"], "--expires must be"),
        (["--usd-per-day", "abc"], "--usd-per-day must be"),
        (["--usd-per-day", "-5"], "usd_per_day"),
        (["--models", "nosuch"], "models"),
    ] {
        for only in [&[][..], &["--print-only"]] {
            let refused = program.run(&[&new[..], &wrong, only].concat()).await;
            assert_eq!((refused.code, refused.stdout.as_str()), (Some(64), ""), "{wrong:?}: {refused:?}");
            assert!(refused.stderr.contains(named), "{wrong:?}: {}", refused.stderr);
        }
    }
    // A folder that cannot be looked into is none that is not there.
    program.file("closed", "");
    let closed = program.variable("GATEWAY_STORAGE__DIRECTORY", "./closed");
    let refused = closed.run(&new).await;
    assert_eq!((refused.code, refused.stdout.as_str()), (Some(1), ""), "{refused:?}");
    assert!(refused.stderr.contains("closed/journal.sqlite"), "{}", refused.stderr);
}

#[tokio::test]
async fn a_new_admin_token_is_in_force_after_a_reload_and_ends_what_was_begun_with_the_old_one() {
    let upstream = Upstream::start().await;
    let program = Program::on(&upstream);
    let token = program.file("token", ADMIN_TOKEN);
    let program = program.variable("GATEWAY_ADMIN_TOKEN_FILE", token.to_str().unwrap());
    let serving = program.serve(&[]).await;
    let admin = Admin::new(serving.operator());
    assert_eq!(admin.get("/admin/keys").await.status, 200);
    let new = "another-admin-token-0123456789";
    program.file("token", new);
    assert_eq!(admin.get("/admin/keys").await.status, 200, "until the reload");
    let reloaded = run(&program, &["reload"]).await.stdout;
    assert!(reloaded.contains("in force now: GATEWAY_ADMIN_TOKEN"), "{reloaded}");
    admin.get("/admin/keys").await.is_refused(401, "invalid_admin_token");
    let answer = Answer::to(http().get(format!("{}/admin/keys", serving.operator())).bearer_auth(new)).await;
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn a_stored_key_or_an_admin_token_is_enough_for_a_start() {
    let upstream = Upstream::start().await;
    let program = Program::on(&upstream);
    // The storage is there, and no gateway runs.
    program.serve(&[]).await.terminate().await;
    let made = json_of(&program, &["keys", "new", "--name", "carol", "--json"]).await;
    let alone = program.clone().without("GATEWAY_CLIENT_KEYS");
    let serving = alone.serve(&[]).await;
    assert_eq!(serving.client(made["key"].as_str().unwrap()).get("/v1/models").await.status, 200);
    serving.client(BOB).get("/v1/models").await.is_refused(401, "invalid_api_key");
    serving.terminate().await;

    let bare = Program::on(&upstream).without("GATEWAY_CLIENT_KEYS");
    let refused = bare.run(&[]).await;
    assert!(refused.code == Some(64) && refused.stderr.contains("GATEWAY_ADMIN_TOKEN"), "{refused:?}");
    let serving = bare.variable("GATEWAY_ADMIN_TOKEN", ADMIN_TOKEN).serve(&[]).await;
    let (_, key) = Admin::new(serving.operator()).make("first").await;
    assert_eq!(serving.client(&key).get("/v1/models").await.status, 200);
}

#[tokio::test]
async fn no_key_that_was_acknowledged_is_lost_by_a_kill() {
    let upstream = Upstream::start().await;
    let program = Program::on(&upstream).variable("GATEWAY_ADMIN_TOKEN", ADMIN_TOKEN);
    let mut acknowledged: Vec<String> = Vec::new();
    let mut cut = 0;
    for round in 0..5_u64 {
        let serving = program.serve(&[]).await;
        for key in &acknowledged {
            assert_eq!(serving.client(key).get("/v1/models").await.status, 200, "after {round} kills");
        }
        let operator = serving.operator();
        let making: Vec<_> = (0..12)
            .map(|number| {
                let admin = Admin::new(operator.clone());
                let body = json!({"name": format!("client-{round}-{number}")});
                in_background(async move { admin.try_send(Method::POST, "/admin/keys", body).await })
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(10 + 25 * round)).await;
        serving.kill();
        for one in making {
            match one.await.unwrap() {
                Some(answer) if answer.status == 201 => {
                    acknowledged.push(answer.json()["key"].as_str().unwrap().to_owned());
                }
                _ => cut += 1,
            }
        }
    }
    println!("{} keys acknowledged, {cut} calls cut", acknowledged.len());
    assert!(!acknowledged.is_empty() && cut > 0, "{} acknowledged, {cut} cut", acknowledged.len());
}

async fn account_status(serving: &Serving) -> Value {
    let (_, text) = serving.page("/status.json").await;
    serde_json::from_str::<Value>(&text).unwrap()["upstream"]["accounts"][0].clone()
}

#[tokio::test]
async fn an_account_is_paused_within_a_second_and_stays_so_over_a_restart() {
    let upstream = Upstream::start().await;
    let program = Program::on(&upstream);
    let serving = program.serve(&[]).await;
    let paused = async |serving: &Serving| account_status(serving).await["paused"] == true;
    run(&program, &["accounts", "pause", "default"]).await;
    let start = Instant::now();
    until("it is paused", async || paused(&serving).await).await;
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    let refused = serving.alice().edit(&Edit::new("paused")).await;
    refused.is_refused(503, "model_unavailable");
    assert!(refused.message().contains("paused every account"), "{}", refused.message());
    assert!(run(&program, &["accounts", "list"]).await.stdout.contains("paused"));
    serving.terminate().await;
    let serving = program.serve(&[]).await;
    assert!(paused(&serving).await);
    run(&program, &["accounts", "resume", "default"]).await;
    until("it is in use", async || !paused(&serving).await).await;
    serving.alice().edit(&Edit::new("paused")).await.picture();
    assert_eq!(upstream.submits().await, 1);

    let forgotten = run(&program, &["accounts", "forget", "default"]).await;
    assert!(forgotten.stdout.contains("forgotten"), "{}", forgotten.stdout);
    let unknown = program.run(&["accounts", "pause", "sk-not-a-name"]).await;
    assert!(unknown.code == Some(1) && unknown.stderr.contains("default"), "{unknown:?}");
    assert!(!unknown.stderr.contains("sk-not"), "a key in the place of a name is not repeated");
    serving.terminate().await;
    run(&program, &["accounts", "forget", "default"]).await;
}

#[tokio::test]
async fn the_configuration_is_read_again_by_signal_by_command_and_over_http() {
    let upstream = Upstream::start().await;
    let program = Program::on(&upstream).without("GATEWAY_LOG__FILTER").variable("GATEWAY_ADMIN_TOKEN", ADMIN_TOKEN);
    let digest = |key: &str| blake3::hash(key.as_bytes()).to_hex().to_string();
    let client = |name: &str, key: &str| format!("[[clients]]\nname = \"{name}\"\nkey_digest = \"{}\"\n", digest(key));
    let file = program.file("gateway.toml", "");
    let program = program.variable("GATEWAY_CONFIG", file.to_str().unwrap());
    let serving = program.serve(&[]).await;
    let carol = serving.client("carol-0123456789abcdef");
    carol.get("/v1/models").await.is_refused(401, "invalid_api_key");

    program.file("gateway.toml", &client("carol", "carol-0123456789abcdef"));
    serving.signal("HUP");
    until("the client is known", async || carol.get("/v1/models").await.status == 200).await;

    // A file that cannot be used changes nothing and says why.
    program.file("gateway.toml", "[limits]\nusd_per_day = -1\n");
    let broken = program.clone().without("GATEWAY_CONFIG");
    let refused = broken.run(&["reload"]).await;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("nothing changed") && refused.stderr.contains("limits.usd_per_day"), "{refused:?}");
    let admin = Admin::new(serving.operator());
    let answer = admin.send(Method::POST, "/admin/reload", Value::Null).await;
    answer.is_refused(422, "configuration_invalid");
    assert_eq!(carol.get("/v1/models").await.status, 200);

    let text =
        format!("[limits]\nrequests_per_minute = 1\n[cache]\nttl_s = 7\n{}", client("dave", "dave-0123456789abcdef"));
    program.file("gateway.toml", &text);
    let reloaded = run(&program, &["reload"]).await.stdout;
    for named in ["limits.requests_per_minute", "clients.carol", "clients.dave", "needs a restart: cache.ttl_s"] {
        assert!(reloaded.contains(named), "{named} in {reloaded}");
    }
    carol.get("/v1/models").await.is_refused(401, "invalid_api_key");
    let dave = serving.client("dave-0123456789abcdef");
    dave.edit(&Edit::new("one")).await.picture();
    dave.edit(&Edit::new("two")).await.is_refused(429, "rate_limit_exceeded");
    let again = admin.send(Method::POST, "/admin/reload", Value::Null).await.json();
    assert_eq!((&again["changed"], &again["needs_restart"]), (&json!([]), &json!(["cache.ttl_s"])));

    assert!(!serving.log().contains("\"level\":\"DEBUG\""));
    program.file("gateway.toml", &format!("[log]\nfilter = \"debug\"\n{}", client("dave", "dave-0123456789abcdef")));
    assert!(run(&program, &["reload"]).await.stdout.contains("log.filter"));
    dave.edit(&Edit::new("logged")).await.picture();
    assert!(serving.log().contains("\"level\":\"DEBUG\""), "the log has more");
    let alone = Program::on(&upstream);
    alone.serve(&[]).await.terminate().await;
    let none = alone.run(&["reload"]).await;
    assert!(none.code == Some(1) && none.stderr.contains("no gateway runs"), "{none:?}");
}
