//! What a reload puts in force without a restart.

use serde_json::Value;

use crate::harness::{Answer, Edit, Program, Receiver, Serving, Upstream, WEBHOOK_SECRET, until};

/// The program with this file, and what reads the file again.
struct Reloading {
    program: Program,
    serving: Serving,
}

impl Reloading {
    async fn start(program: Program, text: &str) -> Self {
        let file = program.file("gateway.toml", text);
        let program = program.variable("GATEWAY_CONFIG", file.to_str().unwrap());
        let serving = program.serve(&[]).await;
        Self { program, serving }
    }

    /// Replaces the file and reloads; the answer names each key.
    async fn reload(&self, text: &str, named: &[&str]) {
        self.program.file("gateway.toml", text);
        let run = self.program.run(&["reload"]).await;
        assert_eq!(run.code, Some(0), "{run:?}");
        for key in named {
            assert!(run.stdout.contains(key), "{key} in {}", run.stdout);
        }
        assert!(!run.stdout.contains("restart") || named.iter().any(|key| key.contains("restart")), "{}", run.stdout);
    }

    async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        let mut request = self.serving.alice().request(reqwest::Method::GET, path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Answer::to(request).await
    }
}

#[tokio::test]
async fn hosts_and_pages_can_be_listed_and_removed() {
    let upstream = Upstream::start().await;
    let reloading = Reloading::start(Program::on(&upstream), "").await;
    let page = ("origin", "https://app.example.com");
    let host = ("host", "images.example.com");
    reloading.get("/v1/models", &[page]).await.is_refused(403, "origin_not_allowed");
    reloading.get("/v1/models", &[host]).await.is_refused(421, "host_not_allowed");
    let operator = || async {
        let request = reqwest::Client::builder().no_proxy().build().unwrap().get(reloading.serving.operator());
        request.header("host", "status.example.com").send().await.unwrap().status().as_u16()
    };
    assert_eq!(operator().await, 421);

    let text = "[server]\nhosts = [\"images.example.com\"]\ncors_origins = [\"https://app.example.com\"]\n\
                [operator]\nhosts = [\"status.example.com\"]\n";
    reloading.reload(text, &["server.hosts", "server.cors_origins", "operator.hosts"]).await;
    let answer = reloading.get("/v1/models", &[page]).await;
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (200, page.1));
    assert_eq!(reloading.get("/v1/models", &[host]).await.status, 200);
    assert_ne!(operator().await, 421);

    reloading.reload("", &["server.hosts", "server.cors_origins", "operator.hosts"]).await;
    reloading.get("/v1/models", &[page]).await.is_refused(403, "origin_not_allowed");
    reloading.get("/v1/models", &[host]).await.is_refused(421, "host_not_allowed");
    assert_eq!(operator().await, 421);
    let answer = reloading.get("/v1/models", &[]).await;
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (200, ""));
}

#[tokio::test]
async fn names_of_models_can_be_added_and_removed() {
    let upstream = Upstream::start().await;
    let reloading = Reloading::start(Program::on(&upstream), "").await;
    let edit = |prompt: &str| Edit::new(prompt).without("model").field("model", "my-deployment");
    reloading.serving.alice().edit(&edit("one")).await.is_refused(404, "model_not_found");
    reloading.reload("[models.aliases]\n\"my-deployment\" = \"gpt-image-1.5\"\n", &["models.aliases"]).await;
    reloading.serving.alice().edit(&edit("two")).await.picture();
    reloading.reload("[models.aliases]\n\"other\" = \"gpt-image-1.5\"\n", &["models.aliases"]).await;
    reloading.serving.alice().edit(&edit("three")).await.is_refused(404, "model_not_found");
    reloading
        .reload("[models]\nfile = \"\"\n[server]\nweb = \"off\"\n", &["models.aliases", "needs a restart: server.web"])
        .await;
}

#[tokio::test]
async fn the_log_changes_while_it_is_written() {
    let upstream = Upstream::start().await;
    let program = Program::on(&upstream).without("GATEWAY_LOG__FILTER");
    let reloading = Reloading::start(program, "").await;
    let alice = reloading.serving.alice();
    let lines = |text: &str| reloading.serving.log().matches(text).count();
    alice.get("/one").await.is_refused(404, "unknown_url");
    alice.get("/v1/models").await;
    assert_eq!((lines("\"message\":\"request\""), lines(" GET /")), (2, 0));
    reloading.reload("[log]\nformat = \"pretty\"\nrequests = \"errors\"\n", &["log.format", "log.requests"]).await;
    alice.get("/two").await.is_refused(404, "unknown_url");
    alice.get("/v1/models").await;
    assert_eq!((lines("\"message\":\"request\""), lines(" GET /two 404 ")), (2, 1), "{}", reloading.serving.log());
}

#[tokio::test]
async fn upper_bounds_of_the_budget_change_while_purchases_wait() {
    let upstream = Upstream::start().await;
    let bound = |count: u32| format!("[upstream]\nconcurrent_predictions = {count}\n");
    let reloading = Reloading::start(Program::on(&upstream), &bound(1)).await;
    upstream.hold().await;
    let alice = reloading.serving.alice();
    let pending: Vec<_> = (0..4).map(|number| alice.begin(&Edit::new(&format!("number {number}")))).collect();
    let in_flight = async |count: u64| {
        until("purchases are in flight and the others wait", async || {
            reloading.serving.status("engine", "polling").await == count
                && reloading.serving.status("upstream", "queued_submits").await == 4 - count
        })
        .await;
    };
    in_flight(1).await;
    reloading.reload(&bound(3), &["upstream.concurrent_predictions"]).await;
    in_flight(3).await;
    // A lower bound ends nothing that is in flight, and the next one waits.
    reloading.reload(&bound(2), &["upstream.concurrent_predictions"]).await;
    assert_eq!(reloading.serving.status("upstream", "queued_submits").await, 1);
    let status: Value = serde_json::from_str(&reloading.serving.page("/status.json").await.1).unwrap();
    assert_eq!(status["upstream"]["accounts"][0]["in_flight_max"], 2);
    upstream.release().await;
    for one in pending {
        one.answer().await.picture();
    }

    // One submit in ten seconds is the burst of six a minute.
    reloading
        .reload(
            "[upstream]\nsubmits_per_minute = 6\n",
            &["upstream.submits_per_minute", "upstream.concurrent_predictions"],
        )
        .await;
    let submits = upstream.submits().await;
    let pending: Vec<_> = (0..3).map(|number| alice.begin(&Edit::new(&format!("slow {number}")))).collect();
    until("one is sent and two wait", async || {
        upstream.submits().await == submits + 1 && reloading.serving.status("upstream", "queued_submits").await == 2
    })
    .await;
    reloading.reload("[upstream]\nsubmits_per_minute = 600\n", &["upstream.submits_per_minute"]).await;
    for one in pending {
        one.answer().await.picture();
    }
}

#[tokio::test]
async fn webhooks_can_be_switched_on_moved_and_off() {
    let upstream = Upstream::start().await;
    let (one, other) = (Receiver::start().await, Receiver::start().await);
    let secret = Program::on(&upstream);
    let program = secret.clone().variable("GATEWAY_WEBHOOK_SECRET", WEBHOOK_SECRET);
    let reloading = Reloading::start(program, "").await;
    let to = |receiver: &Receiver| {
        format!("[webhooks]\nallowed_origins = [\"{}\"]\nretry_delay_min_ms = 20\n", receiver.origin)
    };
    let edit = |prompt: &str, receiver: &Receiver| Edit::new(prompt).field("webhook_url", &receiver.at("/hook"));
    let alice = reloading.serving.alice();
    alice.edit(&edit("off", &one)).await.is_refused(400, "unsupported_parameter");

    reloading.reload(&to(&one), &["webhooks.allowed_origins", "webhooks.retry_delay_min_ms"]).await;
    alice.edit(&edit("to one", &one)).await.picture();
    until("the event has arrived", async || one.seen().len() == 1).await;
    one.seen()[0].has_valid_signature();
    alice.edit(&edit("to other", &other)).await.is_refused(400, "invalid_value");

    reloading.reload(&to(&other), &["webhooks.allowed_origins"]).await;
    alice.edit(&edit("to other now", &other)).await.picture();
    until("the event has arrived", async || other.seen().len() == 1).await;
    alice.edit(&edit("to one again", &one)).await.is_refused(400, "invalid_value");

    // What is pending when nothing is allowed any more stays pending, and is sent when it is allowed again.
    other.answer(&[500; 3]);
    alice.edit(&edit("stays", &other)).await.picture();
    until("it was attempted", async || other.seen().len() >= 2).await;
    reloading.reload("", &["webhooks.allowed_origins"]).await;
    alice.edit(&edit("refused", &other)).await.is_refused(400, "unsupported_parameter");
    other.answer(&[]);
    let seen = other.seen().len();
    reloading.reload(&to(&other), &["webhooks.allowed_origins"]).await;
    until("the event has arrived", async || other.seen().len() > seen).await;
}
