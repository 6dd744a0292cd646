//! The operator listener.

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{ALICE, Answer, Client, Edit, Gateway, UPSTREAM_KEY, Upstream, until};
use crate::metrics::after_events;

#[tokio::test]
async fn a_running_gateway_is_healthy_and_ready() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    assert_eq!(gateway.page("/healthz").await, (200, "ok\n".to_owned()));
    assert_eq!(gateway.page("/readyz").await, (200, "ready\n".to_owned()));
}

async fn is_not_ready(gateway: &Gateway, words: &str) -> bool {
    let (status, text) = gateway.page("/readyz").await;
    status == 503 && text.starts_with("not ready: no account can buy (default: ") && text.contains(words)
}

/// The value of a metric with these labels.
async fn metric(gateway: &Gateway, series: &str) -> f64 {
    let (_, page) = gateway.page("/metrics").await;
    let line = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {series} in\n{page}")).parse().unwrap()
}

#[tokio::test]
async fn a_wrong_key_is_known_before_the_first_picture_until_it_is_accepted() {
    let upstream = Upstream::with(json!({"auth": {"revoked": [UPSTREAM_KEY]}})).await;
    let gateway = Gateway::on(&upstream).await;
    until("the key is known to be refused", async || is_not_ready(&gateway, "refuses the key; replace it").await).await;
    assert!(metric(&gateway, "gptproto_gateway_upstream_ready{account=\"default\"}").await < 0.5);
    assert_eq!(upstream.submits().await, 0, "nothing was bought to find that out");
    upstream.set(json!({"auth": {"revoked": []}})).await;
    until("it is ready again", async || gateway.page("/readyz").await.0 == 200).await;
    assert!(metric(&gateway, "gptproto_gateway_upstream_ready{account=\"default\"}").await > 0.5);
}

#[tokio::test]
async fn one_account_that_can_buy_is_enough() {
    let upstream = Upstream::with(json!({"auth": {"revoked": [UPSTREAM_KEY]}})).await;
    let others = ("GPTPROTO_API_KEYS", "other:sk-upstream-vQ7kZp3XvQ7kZp3XvQ7kZp3X-other");
    let gateway = Gateway::with(&upstream, &[others]).await;
    until("the first account is known to be refused", async || {
        metric(&gateway, "gptproto_gateway_upstream_ready{account=\"default\"}").await == 0.0
    })
    .await;
    assert_eq!(gateway.page("/readyz").await.0, 200);
    gateway.alice().edit(&Edit::new("by the other")).await.picture();
}

#[tokio::test]
async fn an_upstream_that_is_not_reached_is_reported_after_several_questions_and_purchases_count_too() {
    // A port on which nothing listens.
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let gateway = Gateway::at(&format!("http://{closed}"), &[("upstream.submit_attempts_max", "1")]).await;
    assert_eq!(gateway.page("/readyz").await.0, 200, "one failure proves nothing");
    until("it is known to be unreachable", async || is_not_ready(&gateway, "cannot be reached").await).await;

    // A gateway that was ready, and whose key is revoked while it runs: a purchase learns it.
    let upstream = Upstream::start().await;
    let gateway = Gateway::with(&upstream, &[("upstream.account_cooldown_max_s", "1")]).await;
    gateway.alice().edit(&Edit::new("well")).await.picture();
    upstream.set(json!({"auth": {"revoked": [UPSTREAM_KEY]}})).await;
    gateway.alice().edit(&Edit::new("refused")).await.is_refused(502, "upstream_key_refused");
    assert!(is_not_ready(&gateway, "refuses the key").await);
    assert_eq!(gateway.alice().edit(&Edit::new("well")).await.cache(), "hit", "what is stored is served all the same");
    upstream.set(json!({"auth": {"revoked": []}})).await;
    gateway.alice().edit(&Edit::new("accepted again")).await.picture();
    assert_eq!(gateway.page("/readyz").await.0, 200, "a purchase that is accepted ends it");
}

#[tokio::test]
async fn failed_requests_are_kept_with_their_story() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    let alice = gateway.alice();
    alice.edit(&Edit::new("a prompt that is shown nowhere")).await.picture();
    alice.edit(&Edit::new("a prompt that is shown nowhere")).await.picture();
    upstream.fault("submit", "drop_after", 1).await;
    let lost = alice.edit(&Edit::new("lost")).await;
    alice.edit(&Edit::bare("no picture")).await.is_refused(400, "missing_required_parameter");
    upstream.fault("submit", "drop_after", 1).await;
    let streamed = alice.edit(&Edit::new("streamed").field("stream", "true")).await;

    let (_, text) = gateway.page("/status.json").await;
    assert!(!text.contains("shown nowhere"), "{text}");
    let status: Value = serde_json::from_str(&text).unwrap();
    let outcomes: Vec<&str> =
        status["recent_requests"].as_array().unwrap().iter().map(|row| row["outcome"].as_str().unwrap()).collect();
    assert_eq!(outcomes, ["unknown", "refused", "unknown", "hit", "made"], "{status}");
    let failures = status["recent_failures"].as_array().unwrap();
    assert_eq!(failures.len(), 2, "a client's own mistake is none: {status}");
    let (failure, job) = (&failures[1], lost.header("x-gateway-prediction"));
    assert_eq!(failure["request"], lost.header("x-request-id"));
    assert_eq!(failures[0]["request"], streamed.header("x-request-id"), "{status}");
    for (name, value) in [("client", "alice"), ("code", "submission_outcome_unknown"), ("payment", "unknown")] {
        assert_eq!(failure[name], value, "{failure}");
    }
    let help = failure["help"].as_str().unwrap();
    assert!(help.starts_with("gptproto-gateway ledger resolve pred_") && help.contains(job), "{failure}");
    assert!(failure["money"].as_str().unwrap().contains("may have been bought"), "{failure}");
}

#[tokio::test]
async fn a_job_that_fails_without_a_waiting_request_is_among_the_failures_once() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    upstream.fault("submit", "drop_after", 1).await;
    let later = gateway.alice().edit(&Edit::new("later").header("prefer", "respond-async")).await;
    assert_eq!(later.status, 202, "{}", later.text());
    let job = later.header("x-gateway-prediction").to_owned();
    let failures = async || -> Vec<Value> {
        let status: Value = serde_json::from_str(&gateway.page("/status.json").await.1).unwrap();
        status["recent_failures"].as_array().unwrap().clone()
    };
    until("the failure is known", async || !failures().await.is_empty()).await;
    // A request that is told of it has a row of its own, and the job keeps its only one.
    gateway.alice().edit(&Edit::new("later")).await.is_refused(502, "submission_outcome_unknown");
    let failures = failures().await;
    assert_eq!(failures.len(), 2, "{failures:?}");
    let failure = &failures[1];
    assert_eq!((&failure["request"], &failure["prediction"]), (&Value::Null, &Value::from(job.as_str())), "{failure}");
    for (name, value) in [("client", "alice"), ("route", "edits"), ("payment", "unknown")] {
        assert_eq!(failure[name], value, "{failure}");
    }
}

#[tokio::test]
async fn a_stopping_gateway_is_healthy_and_not_ready() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::with(&upstream, &[("server.shutdown_delay_s", "2")]).await;
    let (operator, alice) = (gateway.operator(), gateway.alice());
    let stopping = gateway.begin_to_stop();
    until("it is not ready", async || alice.get(&format!("{operator}/readyz")).await.status == 503).await;

    let ready = alice.get(&format!("{operator}/readyz")).await;
    assert_eq!(ready.text(), "not ready: the gateway is stopping\n");
    assert_eq!(alice.get(&format!("{operator}/healthz")).await.status, 200);
    let refused = alice.edit(&Edit::new("too late")).await;
    refused.is_refused(503, "stopping");
    assert_eq!(refused.header("x-should-retry"), "true");
    assert_eq!(upstream.submits().await, 0);
    stopping.await.unwrap();
}

/// Returns whether a line is valid in the text format: a known comment, or a name, labels and a number.
fn is_metric_line(line: &str) -> bool {
    if let Some(comment) = line.strip_prefix("# ") {
        return comment == "EOF" || ["HELP ", "TYPE ", "UNIT "].iter().any(|word| comment.starts_with(word));
    }
    let Some((series, value)) = line.rsplit_once(' ') else { return false };
    let name = series.split('{').next().unwrap_or_default();
    let labels = &series[name.len()..];
    !name.is_empty()
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && (labels.is_empty() || (labels.starts_with('{') && labels.ends_with('}')))
        && value.parse::<f64>().is_ok()
}

#[tokio::test]
async fn every_metric_is_present_and_well_formed() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    for _ in 0..2 {
        gateway.alice().edit(&Edit::new("counted")).await.picture();
    }
    upstream.fault("submit", "drop_after", 1).await;
    gateway.alice().edit(&Edit::new("lost")).await.is_refused(502, "submission_outcome_unknown");

    let (status, page) = gateway.page("/metrics").await;

    assert_eq!(status, 200);
    for line in page.lines() {
        assert!(is_metric_line(line), "{line:?}");
    }
    for series in [
        "gptproto_gateway_engine_jobs_started_total 2",
        "gptproto_gateway_engine_pictures_bought_total{client=\"alice\",model=\"gpt-image-1.5\"} 1",
        "gptproto_gateway_engine_cache_hits_total 1",
        "gptproto_gateway_engine_purchases_unknown_total 1",
        "gptproto_gateway_engine_submits_total{api=\"prediction\",result=\"accepted\"} 1",
        "gptproto_gateway_engine_submits_total{api=\"prediction\",result=\"unknown\"} 1",
        "gptproto_gateway_engine_purchases_failed_total{reason=\"outcome_unknown\"} 1",
        "gptproto_gateway_engine_waiters 0",
        "gptproto_gateway_upstream_calls_total{account=\"default\",call=\"submit\"} 2",
        "gptproto_gateway_upstream_in_flight{account=\"default\"} 0",
        "gptproto_gateway_upstream_queued_submits 0",
        "gptproto_gateway_api_requests_total{route=\"edits\",status=\"200\",code=\"ok\"} 2",
        "gptproto_gateway_api_requests_total{route=\"edits\",status=\"502\",code=\"submission_outcome_unknown\"} 1",
        "gptproto_gateway_api_cache_total{result=\"hit\"} 1",
    ] {
        assert!(page.lines().any(|line| line == series), "no {series} in\n{page}");
    }
    for family in [
        "gptproto_gateway_engine_polls",
        "gptproto_gateway_engine_spent_usd",
        "gptproto_gateway_engine_generation_seconds",
        "gptproto_gateway_api_request_duration_seconds",
    ] {
        let declared = ["", "_total"].map(|suffix| format!("# TYPE {family}{suffix} "));
        assert!(declared.iter().any(|line| page.contains(line)), "no {family} in\n{page}");
    }
    let build = format!("gptproto_gateway_build_info{{version=\"{}\"", env!("CARGO_PKG_VERSION"));
    assert!(page.contains(&build), "no {build} in\n{page}");
    let series = page.lines().filter(|line| !line.starts_with('#'));
    for line in series {
        assert!(line.starts_with("gptproto_gateway_") || line.starts_with("process_"), "{line}");
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn the_metrics_include_those_of_the_process() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    let (_, page) = gateway.page("/metrics").await;
    let value = |name: &str| {
        let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in\n{page}")).parse::<f64>().unwrap()
    };
    let (resident, size) = (value("process_resident_memory_bytes"), value("process_virtual_memory_bytes"));
    assert!(resident > 1e6 && size >= resident, "{resident} {size}");
    let (open, max) = (value("process_open_fds"), value("process_max_fds"));
    assert!(open > 5.0 && max >= open, "{open} {max}");
    assert!(value("process_cpu_seconds_total") > 0.0);
    assert!(value("process_start_time_seconds") > 1.6e9);
}

#[tokio::test]
async fn the_accept_header_chooses_the_format_of_metrics() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let metrics = async |accept: Option<&str>| {
        let request = http.get(format!("{}/metrics", gateway.operator()));
        let request = accept.into_iter().fold(request, |request, accept| request.header("accept", accept));
        let response = request.send().await.unwrap();
        let content_type = response.headers()["content-type"].to_str().unwrap().to_owned();
        (content_type, response.text().await.unwrap())
    };

    let (content_type, text) = metrics(None).await;
    assert_eq!(content_type, "text/plain; version=0.0.4; charset=utf-8");
    assert!(text.contains("# TYPE gptproto_gateway_engine_cache_hits_total counter\n"), "{text}");
    assert!(!text.contains("# EOF") && !text.contains("# UNIT"), "{text}");

    let (content_type, text) = metrics(Some("application/openmetrics-text;version=1.0.0,text/plain;q=0.5")).await;
    assert_eq!(content_type, "application/openmetrics-text; version=1.0.0; charset=utf-8");
    assert!(text.contains("# TYPE gptproto_gateway_engine_cache_hits counter\n"), "{text}");
    assert!(text.ends_with("# EOF\n"), "{text}");
}

#[tokio::test]
async fn the_status_page_shows_numbers_and_no_secret() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    gateway.alice().edit(&Edit::new("counted")).await.picture();

    let (_, text) = gateway.page("/status.json").await;
    let status: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(status["ready"], true);
    assert_eq!(status["sandbox"], false);
    assert_eq!(status["engine"]["jobs"], 1);
    assert_eq!(status["engine"]["pictures"], 1);
    assert_eq!(status["engine"]["storage"], "ok");
    assert!(status["engine"]["spent_usd"].as_f64().unwrap() > 0.0);
    assert_eq!(status["upstream"]["predictions_in_flight"], 0);
    let page = html(&gateway).await;
    assert!(page.contains("<h2 id=\"verdict\" data-text=\"verdict\">Ready</h2>"), "{page}");
    assert!(page.contains("<td>alice</td>") && page.contains("<span class=\"badge good\">made</span>"), "{page}");
    let metrics = gateway.page("/metrics").await.1;
    for shown in [text, page, metrics] {
        assert!(!shown.contains(UPSTREAM_KEY) && !shown.contains(ALICE) && !shown.contains("counted"), "{shown}");
    }
}

/// The page as a browser gets it.
async fn html(gateway: &Gateway) -> String {
    let request = gateway.client("").request(Method::GET, &format!("{}/", gateway.operator()));
    let answer = Answer::to(request.header("accept", "text/html,*/*;q=0.8")).await;
    assert_eq!(answer.status, 200);
    answer.text()
}

#[tokio::test]
async fn every_metric_that_the_page_links_to_exists() {
    let upstream = Upstream::start().await;
    let (gateway, _waiting) = after_events(&upstream).await;
    let page = html(&gateway).await;
    let (_, metrics) = gateway.page("/metrics").await;
    let linked: Vec<&str> =
        page.split("href=\"metrics#:~:text=").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    assert!(linked.len() > 25, "{page}");
    for name in linked {
        let declared = ["", "_total"].map(|suffix| format!("# TYPE {name}{suffix} "));
        assert!(declared.iter().any(|line| metrics.contains(line)), "no {name} in\n{metrics}");
    }
}

#[tokio::test]
async fn after_failures_the_page_says_so_first() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    let alice = gateway.alice();
    for number in 0..4 {
        alice.edit(&Edit::new(&format!("well {number}"))).await.picture();
    }
    for number in 0..2 {
        upstream.fault("submit", "drop_after", 1).await;
        alice.edit(&Edit::new(&format!("lost {number}"))).await;
    }
    let page = html(&gateway).await;
    let (_, verdict) = page.split_once("data-text=\"verdict\">").unwrap();
    assert!(verdict.starts_with("Ready, and 2 of 6 requests failed</h2>"), "{page}");
    for part in [
        "2 of the last 6 requests for pictures failed: no usable answer came to the submit (2).",
        "2 purchases may have cost about $",
        "<code>gptproto-gateway ledger list --state unknown</code>",
        "<code>gptproto-gateway ledger resolve pred_",
    ] {
        assert!(page.contains(part), "no {part} in\n{page}");
    }
}

/// Reads events of the live page until `wanted` is in one; returns all of them.
async fn events_until(response: &mut reqwest::Response, wanted: &str) -> String {
    let mut text = String::new();
    until("the event comes", async || {
        text.contains(wanted) || {
            let piece = tokio::time::timeout(std::time::Duration::from_secs(3), response.chunk()).await;
            text += &String::from_utf8_lossy(&piece.unwrap().unwrap().expect("the stream goes on"));
            false
        }
    })
    .await;
    text
}

#[tokio::test]
async fn an_open_page_gets_everything_and_then_what_changes() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let open = async || http.get(format!("{}/events", gateway.operator())).send().await.unwrap();
    let mut first = open().await;
    assert_eq!(
        (first.status().as_u16(), &first.headers()["content-type"]),
        (200, &"text/event-stream".parse().unwrap())
    );
    let everything = events_until(&mut first, "\n\n").await;
    assert!(everything.starts_with("event: view\ndata: {\"texts\":{"), "{everything}");
    for part in ["\"version\":", "\"waiting\":\"0\"", "\"charts\":{", "\"requests.none\":true"] {
        assert!(everything.contains(part), "no {part} in {everything}");
    }
    gateway.alice().edit(&Edit::new("seen live")).await.picture();
    let changes = events_until(&mut first, "\"pictures\":\"1\"").await;
    assert!(changes.contains("\"requests.none\":false") && changes.contains("\"alice\""), "{changes}");
    assert!(!changes.contains("\"version\":") && !changes.contains("seen live"), "only what changes: {changes}");
    let mut second = open().await;
    let everything = events_until(&mut second, "\n\n").await;
    assert!(everything.contains("\"pictures\":\"1\"") && everything.contains("\"version\":"), "{everything}");

    // Pages that stay open do not hold up the stop, and leave room for probes.
    let mut open_pages = Vec::new();
    for _ in 0..30 {
        let page = open().await;
        assert_eq!(page.status(), 200);
        open_pages.push(page);
    }
    assert_eq!(open().await.status(), 503);
    assert_eq!(gateway.page("/readyz").await.0, 200);
    let stopping = std::time::Instant::now();
    gateway.stop().await;
    assert!(stopping.elapsed() < std::time::Duration::from_secs(1), "{:?}", stopping.elapsed());
    while let Ok(Some(_)) = first.chunk().await {}
}

#[tokio::test]
async fn an_sdk_at_the_operators_port_is_shown_the_way() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    let lost = Client::new(gateway.operator().trim_start_matches("http://").to_owned(), crate::harness::ALICE);
    let edited = lost.edit(&Edit::new("to the wrong port")).await;
    let listed = lost.get("/v1/models").await;
    let odd = lost.get("/nothing").await;
    for answer in [&edited, &listed, &odd] {
        answer.is_refused(404, "unknown_url");
        let address = format!("http://{}/v1", gateway.address());
        assert!(answer.message().contains(&address) && answer.message().contains("operator"), "{}", answer.message());
        assert_eq!(answer.header("x-should-retry"), "false");
    }
    assert_eq!(upstream.submits().await, 0);
}
