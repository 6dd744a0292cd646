//! The operator listener.

use serde_json::Value;

use crate::harness::{ALICE, Edit, Gateway, UPSTREAM_KEY, Upstream, until};

#[tokio::test]
async fn a_running_gateway_is_healthy_and_ready() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    assert_eq!(gateway.page("/healthz").await, (200, "ok\n".to_owned()));
    assert_eq!(gateway.page("/readyz").await, (200, "ready\n".to_owned()));
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
        "gptproto_gateway_engine_pictures_bought_total 1",
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
    let (code, page) = gateway.page("/").await;
    assert_eq!(code, 200);
    assert!(page.starts_with("<!doctype html>") && page.contains("pictures"), "{page}");
    let metrics = gateway.page("/metrics").await.1;
    for shown in [text, page, metrics] {
        assert!(!shown.contains(UPSTREAM_KEY) && !shown.contains(ALICE) && !shown.contains("counted"), "{shown}");
    }
}
