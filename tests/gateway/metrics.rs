//! What `/metrics` says, and that the table, the alerts and the board of `deploy/` name what is there.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{ADMIN_TOKEN, Admin, Edit, Gateway, Program, Upstream, until};

/// One metric, as a scrape in Prometheus' text format has it.
#[derive(Debug, Default)]
struct Exported {
    kind: String,
    help: String,
    labels: BTreeSet<String>,
}

/// Reads a file of the repository.
fn file(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The value of a series; `None` when there is no such line.
fn value(page: &str, series: &str) -> Option<f64> {
    page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))?.parse().ok()
}

async fn metric(gateway: &Gateway, series: &str) -> f64 {
    let page = gateway.page("/metrics").await.1;
    value(&page, series).unwrap_or_else(|| panic!("no {series} in\n{page}"))
}

/// Adds the metrics of a page.
fn read(page: &str, to: &mut BTreeMap<String, Exported>) {
    let mut name = String::new();
    for line in page.lines() {
        if let Some((found, help)) = line.strip_prefix("# HELP ").and_then(|line| line.split_once(' ')) {
            found.clone_into(&mut name);
            help.trim_end_matches('.').clone_into(&mut to.entry(name.clone()).or_default().help);
        } else if let Some((found, kind)) = line.strip_prefix("# TYPE ").and_then(|line| line.split_once(' ')) {
            assert_eq!(found, name);
            kind.clone_into(&mut to.get_mut(&name).unwrap().kind);
        } else if let Some((_, labels)) = line.split_once('{') {
            let labels = labels.rsplit_once('}').unwrap().0;
            // No value has a quote in it.
            let names = labels.split('"').step_by(2).map(|part| part.trim_matches([',', '=']).to_owned());
            let names = names.filter(|name| !name.is_empty() && name != "le");
            to.get_mut(&name).unwrap().labels.extend(names);
        }
    }
}

/// Starts a gateway in which a picture was made, an answer was lost, and a purchase waits. Some metrics appear with the first event
/// that they count. The request waits for as long as what is returned beside the gateway is held.
pub(crate) async fn after_events(upstream: &Upstream) -> (Gateway, impl Sized + use<>) {
    let gateway = Gateway::with(upstream, &[("limits.requests_per_minute", "1000")]).await;
    gateway.alice().edit(&Edit::new("well")).await.picture();
    upstream.fault("submit", "drop_after", 1).await;
    gateway.alice().edit(&Edit::new("lost")).await;
    upstream.set(json!({"models": {"no_channel": ["gpt-image-1.5"]}})).await;
    let waiting = gateway.alice().begin(&Edit::new("waits"));
    until("it was refused", async || upstream.count("submits_429").await == 1).await;
    until("it is queued again", async || gateway.status("upstream", "queued_submits").await == 1).await;
    (gateway, waiting)
}

/// Everything that a gateway may export: of one after events, and of one with TLS.
async fn exported() -> BTreeMap<String, Exported> {
    let upstream = Upstream::start().await;
    let (gateway, _waiting) = after_events(&upstream).await;
    let mut exported = BTreeMap::new();
    read(&gateway.page("/metrics").await.1, &mut exported);

    let directory = tempfile::tempdir().unwrap();
    let (certificate, key) = certificate(directory.path(), 2060);
    let files = [("server.tls_certificate_file", certificate.as_str()), ("server.tls_key_file", key.as_str())];
    read(&Gateway::with(&upstream, &files).await.page("/metrics").await.1, &mut exported);
    exported
}

/// Writes a certificate that expires in March of a year, and its key; returns the files.
fn certificate(directory: &Path, year: i32) -> (String, String) {
    let mut parameters = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    parameters.not_after = rcgen::date_time_ymd(year, 3, 1);
    let key = rcgen::KeyPair::generate().unwrap();
    let write = |name: &str, text: String| {
        let path = directory.join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    // The key first: one that does not fit is not used.
    let key_file = write("key.pem", key.serialize_pem());
    (write("certificate.pem", parameters.self_signed(&key).unwrap().pem()), key_file)
}

/// The names that can be asked for: also those of the series of a histogram.
fn series_names(exported: &BTreeMap<String, Exported>) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (name, metric) in exported {
        let suffixes: &[&str] = if metric.kind == "histogram" { &["", "_bucket", "_sum", "_count"] } else { &[""] };
        names.extend(suffixes.iter().map(|suffix| format!("{name}{suffix}")));
    }
    names
}

/// The metrics that a text names, as words that begin with one of the prefixes.
fn named<'a>(text: &'a str, prefixes: &[&str]) -> BTreeSet<&'a str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| prefixes.iter().any(|prefix| word.starts_with(prefix))).collect()
}

#[tokio::test]
async fn the_table_has_every_metric_with_its_type_labels_and_help() {
    let exported = exported().await;
    let mut documented = BTreeMap::new();
    let text = file("deploy/prometheus/README.md");
    for line in text.lines().filter(|line| line.starts_with("| `gptproto_gateway_") || line.starts_with("| `process_"))
    {
        let cells: Vec<&str> = line.trim_matches(['|', ' ']).split(" | ").map(str::trim).collect();
        let [name, kind, labels, meaning] = cells[..] else { panic!("four cells: {line}") };
        let labels: BTreeSet<String> = labels.split('`').skip(1).step_by(2).map(str::to_owned).collect();
        let twice = documented.insert(name.trim_matches('`').to_owned(), (kind, labels, meaning));
        assert!(twice.is_none(), "{name} is in the table twice");
    }
    let mut problems = Vec::new();
    for (name, Exported { kind, help, labels }) in &exported {
        let quoted: Vec<String> = labels.iter().map(|label| format!("`{label}`")).collect();
        let row = format!("| `{name}` | {kind} | {} | {help} |", quoted.join(", "));
        // Set by builds that know their commit.
        let is_optional = |label: &String| label == "revision";
        let is_right = documented.remove(name).is_some_and(|(known, named, meaning)| {
            known == kind && named.symmetric_difference(labels).all(is_optional) && meaning.starts_with(help.as_str())
        });
        if !is_right {
            problems.push(row);
        }
    }
    assert!(
        problems.is_empty(),
        "these rows are not in the table, which may say more behind the text:\n{}",
        problems.join("\n")
    );
    assert!(documented.is_empty(), "no gateway has these: {:?}", documented.keys());
}

#[tokio::test]
async fn the_alerts_the_board_and_the_documents_name_metrics_that_exist() {
    let names = series_names(&exported().await);
    let mut missing = Vec::new();
    let mut check = |path: &str, prefixes: &[&str]| {
        let text = file(path);
        let found = named(&text, prefixes);
        for name in &found {
            // The beginning of a group of metrics ends with the underscore.
            let is_known = if name.ends_with('_') {
                names.iter().any(|known| known.starts_with(name))
            } else {
                names.contains(*name)
            };
            if !is_known {
                missing.push(format!("{path}: {name}"));
            }
        }
        found.len()
    };
    let both = ["gptproto_gateway_", "process_"];
    let counts = ["alerts.yml", "alerts_test.yml"].map(|name| check(&format!("deploy/prometheus/{name}"), &both));
    assert!(counts.iter().all(|count| *count >= 15), "{counts:?}");
    assert!(check("deploy/grafana/gptproto-gateway.json", &both) > 40);
    for path in ["README.md", "config/README.md", "deploy/prometheus/README.md", "src/openapi/operator.json"] {
        check(path, &both[..1]);
    }
    assert!(missing.is_empty(), "no gateway exports these: {missing:#?}");
}

/// The values of a key of the rules, such as the names of the alerts.
fn values<'a>(yaml: &'a str, key: &str) -> BTreeSet<&'a str> {
    yaml.lines().filter_map(|line| line.trim_start_matches(['-', ' ']).strip_prefix(key)?.strip_prefix(": ")).collect()
}

#[tokio::test]
async fn the_alerts_are_tested_and_name_commands_and_keys_that_exist() {
    let (rules, tests) = (file("deploy/prometheus/alerts.yml"), file("deploy/prometheus/alerts_test.yml"));
    let alerts = values(&rules, "alert");
    assert!(alerts.len() >= 12, "{alerts:?}");
    for alert in &alerts {
        assert!(tests.contains(&format!("alertname=\"{alert}\"")), "{alert} is not tested");
    }
    for key in ["severity", "summary", "description"] {
        assert_eq!(rules.matches(&format!(" {key}: ")).count(), alerts.len(), "each alert has a {key}");
    }
    let words: Vec<&str> = rules.split_whitespace().filter(|word| *word != "#").collect();
    let text = words.join(" ");
    let commands: Vec<&str> =
        text.split('`').skip(1).step_by(2).filter_map(|command| command.strip_prefix("gptproto-gateway ")).collect();
    assert!(commands.len() > 8, "{commands:?}");
    let program = Program::bare();
    for command in commands {
        // `--help` is looked at after everything before it was understood.
        let command = command.replace("{{ $labels.account }}", "default").replace("{{ $labels.model }}", "gpt-image-2");
        let quoted = command.split('"').enumerate();
        let words =
            quoted.flat_map(|(at, part)| if at % 2 == 1 { vec![part] } else { part.split_whitespace().collect() });
        let arguments: Vec<&str> = words.chain(["--help"]).collect();
        let run = program.run(&arguments).await;
        assert_eq!(run.code, Some(0), "{command}: {}", run.stderr);
    }
    let defaults: toml::Table = file("config/default.toml").parse().unwrap();
    let keys = text.split([' ', ':', ';', ',', '`', '(', ')']).map(|word| word.trim_end_matches('.'));
    let keys = keys.filter_map(|word| word.split_once('.')).filter(|(section, _)| defaults.contains_key(*section));
    let mut count = 0;
    for (section, key) in keys {
        // Files and keys of the environment are not in the defaults.
        let is_known = defaults[section].get(key).is_some() || key.ends_with("_file");
        assert!(is_known, "{section}.{key} is no key of the configuration");
        count += 1;
    }
    assert!(count > 8, "{count}");
}

#[test]
fn the_board_is_one_that_grafana_can_load() {
    let board: Value = serde_json::from_str(&file("deploy/grafana/gptproto-gateway.json")).unwrap();
    assert!(board["schemaVersion"].as_u64().unwrap() >= 39 && board["id"].is_null());
    let variables: BTreeSet<&str> =
        board["templating"]["list"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
    assert!(variables.contains("datasource"));
    let (mut ids, mut cells) = (BTreeSet::new(), BTreeSet::new());
    let panels = board["panels"].as_array().unwrap();
    for panel in panels {
        let title = panel["title"].as_str().unwrap();
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "the id of {title} is used twice");
        let [x, y, width, height] = ["x", "y", "w", "h"].map(|name| panel["gridPos"][name].as_u64().unwrap());
        assert!(x + width <= 24, "{title} is beyond the edge");
        for cell in (x..x + width).flat_map(|x| (y..y + height).map(move |y| (x, y))) {
            assert!(cells.insert(cell), "{title} lies on another panel");
        }
        if panel["type"] == "row" {
            continue;
        }
        for target in panel["targets"].as_array().unwrap() {
            assert_eq!(
                (&target["datasource"]["uid"], &panel["datasource"]["uid"]),
                (&json!("${datasource}"), &json!("${datasource}"))
            );
            let query = target["expr"].as_str().unwrap();
            let used = query
                .split('$')
                .skip(1)
                .map(|rest| rest.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap());
            for variable in used.filter(|name| !name.starts_with("__")) {
                assert!(variables.contains(variable), "{title} uses ${variable}");
            }
            assert_eq!(query.matches('(').count(), query.matches(')').count(), "{query}");
        }
    }
    assert!(panels.len() > 35);
    let provisioned = file("deploy/grafana/provisioning/datasources/prometheus.yml");
    let default = board["templating"]["list"][0]["current"]["value"].as_str().unwrap();
    assert!(values(&provisioned, "uid").contains(default), "{provisioned}");
}

#[tokio::test]
async fn counters_exist_before_anything_is_counted() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    let page = gateway.page("/metrics").await.1;
    for series in [
        "engine_submits_total{api=\"openai\",result=\"unknown\"}",
        "engine_polls_total{result=\"refused_429\"}",
        "engine_edge_refusals_total{code=\"1010\"}",
        "engine_purchases_failed_total{reason=\"key_refused\"}",
        "engine_inputs_unseen_total{model=\"gpt-image-2\"}",
        "engine_purchases_undecided",
        "upstream_calls_total{account=\"default\",call=\"submit\"}",
        "upstream_pushbacks_total{account=\"default\",concerns=\"key\"}",
        "upstream_not_ready{account=\"default\",reason=\"balance_exhausted\"}",
        "upstream_responses_total{call=\"submit\",status=\"429\"}",
        "upstream_responses_total{call=\"download\",status=\"(none)\"}",
        "api_requests_total{route=\"edits\",status=\"200\",code=\"ok\"}",
        "api_cache_total{result=\"hit\"}",
        "api_streaming_responses_total{mode=\"events\",code=\"ok\"}",
        "api_conversions_total{format=\"webp\",result=\"failed\"}",
        "admin_attempts_total{outcome=\"refused\"}",
        "admin_changes_total{action=\"key.created\"}",
        "admission_rejections_total{limit=\"usd_per_day\"}",
        "connections_refused_total{listener=\"clients\",reason=\"connections_max\"}",
        "connections_closed_total{listener=\"operator\",reason=\"header_timeout_s\"}",
        "webhooks_ended_total{result=\"given_up\"}",
        "not_ready{reason=\"disk_full\"}",
    ] {
        let series = format!("gptproto_gateway_{series}");
        assert_eq!(value(&page, &series), Some(0.0), "{series} in\n{page}");
    }
    assert_eq!(value(&page, "gptproto_gateway_ready"), Some(1.0));
    assert!(value(&page, "gptproto_gateway_storage_disk_free_bytes").unwrap() > 0.0);
    assert!(value(&page, "gptproto_gateway_storage_disk_used_bytes").unwrap() > 0.0);
}

#[tokio::test]
async fn requests_and_dollars_are_counted_by_client_and_model_and_no_label_is_a_name_that_a_client_chose() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::with(&upstream, &[("operator.metric_clients_max", "1")]).await;
    for _ in 0..2 {
        gateway.alice().edit(&Edit::new("twice")).await.picture();
    }
    let mini = Edit::new("of bob").field("model", "gpt-image-1-mini").field("size", "1024x1024");
    gateway.bob().edit(&mini).await.picture();
    gateway
        .alice()
        .edit(&Edit::new("another").field("model", "model-of-alice"))
        .await
        .is_refused(404, "model_not_found");
    gateway
        .client("sk-nobody-vQ7kZp3XvQ7kZp3XvQ7kZp3X")
        .edit(&Edit::new("without a key"))
        .await
        .is_refused(401, "invalid_api_key");

    let page = gateway.page("/metrics").await.1;
    let requests = |client: &str, model: &str, outcome: &str| {
        let labels = format!("{{client=\"{client}\",model=\"{model}\",outcome=\"{outcome}\"}}");
        value(&page, &format!("gptproto_gateway_api_picture_requests_total{labels}"))
    };
    assert_eq!(requests("alice", "gpt-image-1.5", "made"), Some(1.0), "{page}");
    assert_eq!(requests("alice", "gpt-image-1.5", "hit"), Some(1.0));
    assert_eq!(requests("alice", "gpt-image-1.5", "unknown"), Some(0.0), "the others exist, too");
    assert_eq!(requests("(other)", "gpt-image-1-mini", "made"), Some(1.0), "bob is one client too many");
    assert_eq!(requests("alice", "(none)", "refused"), Some(1.0));
    assert_eq!(requests("(none)", "(none)", "refused"), None, "without a key it is only one of all requests");
    assert!(!page.contains("model-of-alice") && !page.contains("bob") && !page.contains("nobody"), "{page}");
    let bought = |name: &str, client: &str, model: &str| {
        value(&page, &format!("gptproto_gateway_engine_{name}_total{{client=\"{client}\",model=\"{model}\"}}")).unwrap()
    };
    for (client, model) in [("alice", "gpt-image-1.5"), ("(other)", "gpt-image-1-mini")] {
        assert!(bought("spent_usd", client, model) > 0.0);
        assert!((bought("pictures_bought", client, model) - 1.0).abs() < f64::EPSILON);
    }
    assert_eq!(value(&page, "gptproto_gateway_metric_clients"), Some(1.0));
    let status = gateway.status("engine", "pictures").await;
    assert_eq!(status, 2, "the status page has the sum");
    let syncs = value(&page, "gptproto_gateway_storage_journal_sync_seconds_count").unwrap();
    assert!(syncs >= 4.0, "the intents and the commits of two purchases reach the disk: {syncs}");
    let accepted = "gptproto_gateway_upstream_responses_total{call=\"submit\",status=\"200\"}";
    assert_eq!(value(&page, accepted), Some(2.0), "{page}");
}

#[tokio::test]
async fn undecided_purchases_are_counted_over_restarts_until_they_are_decided() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::with(&upstream, &[("GATEWAY_ADMIN_TOKEN", ADMIN_TOKEN)]).await;
    for number in 0..2 {
        upstream.fault("submit", "drop_after", 1).await;
        gateway.alice().edit(&Edit::new(&format!("lost {number}"))).await.is_refused(502, "submission_outcome_unknown");
        assert_eq!(gateway.status("engine", "unknown").await, number + 1, "it is there with the answer");
    }
    let undecided = "gptproto_gateway_engine_purchases_undecided";
    let usd = metric(&gateway, "gptproto_gateway_engine_undecided_usd").await;
    assert!(usd > 0.0);

    let gateway = gateway.restart().await;
    assert!((metric(&gateway, undecided).await - 2.0).abs() < f64::EPSILON);
    assert!((metric(&gateway, "gptproto_gateway_engine_undecided_usd").await - usd).abs() < 1e-9);
    assert!(
        metric(&gateway, "gptproto_gateway_engine_purchases_unknown_total").await < 0.5,
        "a counter of this process"
    );
    let page = gateway.page("/").await.1;
    assert!(page.contains("data-text=\"unknown\">2<") && page.contains("2 purchases may have cost about $"), "{page}");

    let admin = Admin::new(gateway.operator());
    let ids: Vec<String> =
        admin.list("/admin/purchases").await.iter().map(|one| one["id"].as_str().unwrap().to_owned()).collect();
    let folder = gateway.folder().display().to_string();
    let program = Program::bare().variable("GATEWAY_STORAGE__DIRECTORY", &folder);
    let resolved = program.run(&["ledger", "resolve", &ids[0], "lost"]).await;
    assert_eq!(resolved.code, Some(0), "{resolved:?}");
    until("another program's decision shows", async || metric(&gateway, undecided).await < 1.5).await;
    let path = format!("/admin/purchases/{}/resolve", ids[1]);
    assert_eq!(admin.send(Method::POST, &path, json!({"decision": "bought"})).await.status, 200);
    until("the administration's decision shows", async || metric(&gateway, undecided).await < 0.5).await;
    let page = gateway.page("/").await.1;
    assert!(page.contains("data-text=\"unknown\">0<") && !page.contains("may have cost"), "{page}");
    assert!(metric(&gateway, "gptproto_gateway_engine_undecided_usd").await < 1e-9);
}

#[tokio::test]
async fn the_expiry_of_the_certificate_follows_the_files() {
    let upstream = Upstream::start().await;
    let directory = tempfile::tempdir().unwrap();
    let (file, key) = certificate(directory.path(), 2040);
    let files = [
        ("server.tls_certificate_file", file.as_str()),
        ("server.tls_key_file", key.as_str()),
        ("server.tls_reload_interval_s", "1"),
    ];
    let gateway = Gateway::with(&upstream, &files).await;
    let expiry = "gptproto_gateway_tls_certificate_expiry_timestamp_seconds";
    let is = async |seconds: f64| (metric(&gateway, expiry).await - seconds).abs() < 0.5;
    assert!(is(2_214_172_800.0).await, "2040-03-01");
    certificate(directory.path(), 2060);
    until("the new one is read", async || is(2_845_324_800.0).await).await;
}
