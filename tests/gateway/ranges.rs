//! Figures at the ends of their ranges, and beyond.

use crate::harness::{Edit, Gateway, Program, Upstream};

const REFERENCE: &str = include_str!("../../config/default.toml");

/// Figures that are left out at one end, because the test itself would take as long as they say: the end, and the reason.
const TOO_SLOW: [(&str, End, &str); 5] = [
    ("server.shutdown_delay_s", End::Max, "the gateway stops after an hour"),
    ("server.shutdown_grace_s", End::Max, "the gateway stops after a day, when a request is left"),
    ("upstream.first_poll_ms", End::Max, "the picture comes after a day"),
    ("upstream.poll_interval_min_ms", End::Max, "the picture comes after an hour"),
    ("storage.free_bytes_min", End::Max, "nothing is bought; tests/gateway/money.rs has it"),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Min,
    Max,
}

/// The key and the two ends of every figure, as the comments of the reference have them.
fn ranges() -> Vec<(String, [String; 2])> {
    let (mut section, mut comment, mut ranges) = (String::new(), String::new(), Vec::new());
    for line in REFERENCE.lines() {
        if let Some(text) = line.strip_prefix('#') {
            comment.push_str(text);
            continue;
        }
        if let Some(name) = line.strip_prefix('[') {
            name.trim_end_matches(']').clone_into(&mut section);
        } else if let Some((key, value)) = line.split_once(" = ")
            && value.parse::<f64>().is_ok()
        {
            let (_, range) = comment.rsplit_once("From ").unwrap_or_else(|| panic!("{section}.{key} has no range"));
            let (min, max) = range.trim_end_matches('.').split_once(" to ").unwrap();
            ranges.push((format!("{section}.{key}"), [min.to_owned(), max.to_owned()]));
        }
        comment.clear();
    }
    assert!(ranges.len() > 90, "{}", ranges.len());
    ranges
}

/// Starts a gateway with one figure at one end of its range, lets it serve an edit, and stops it. Returns the status of the
/// answer, which may be a refusal; [`Gateway::stop`] fails when anything has panicked.
async fn serve_at(upstream: &Upstream, key: &str, value: &str) -> u16 {
    // A picture that comes too late is left to the next start.
    let patience = ("server.response_timeout_s", "3");
    let changes = [patience, (key, value)];
    let gateway = Gateway::with(upstream, &changes[usize::from(key == patience.0)..]).await;
    let edit = Edit::new(&format!("{key} = {value}")).header("x-stainless-read-timeout", "1e300");
    let answer = gateway.alice().edit(&edit).await;
    assert_ne!(answer.status, 500, "{key} = {value}: {}", answer.text());
    gateway.stop().await;
    answer.status
}

async fn serve_at_ends(figures: impl Iterator<Item = (String, [String; 2])>) {
    let upstream = Upstream::start().await;
    let (mut served, mut refused) = (0, Vec::new());
    for (key, ends) in figures {
        for (end, value) in [End::Min, End::Max].into_iter().zip(ends) {
            if TOO_SLOW.iter().any(|&(slow, at, _)| slow == key && at == end) {
                continue;
            }
            match serve_at(&upstream, &key, &value).await {
                200 => served += 1,
                status => refused.push(format!("{key} = {value}: {status}")),
            }
        }
    }
    println!("{served} served, {} refused: {refused:#?}", refused.len());
    assert!(served > refused.len(), "{refused:#?}");
}

#[tokio::test]
async fn a_gateway_with_a_figure_at_the_end_of_its_range_serves() {
    serve_at_ends(ranges().into_iter().step_by(9)).await;
}

/// Every figure, which takes minutes: `cargo test --test gateway -- --ignored ends_of_all_ranges --nocapture`.
#[tokio::test]
#[ignore = "takes minutes; a sample runs with the other tests"]
async fn a_gateway_serves_at_the_ends_of_all_ranges() {
    serve_at_ends(ranges().into_iter()).await;
}

#[tokio::test]
async fn a_gateway_with_every_figure_at_its_largest_serves() {
    let upstream = Upstream::start().await;
    let ranges = ranges();
    let largest = ranges.iter().filter(|(key, _)| !TOO_SLOW.iter().any(|(slow, ..)| slow == key));
    // Polls would be an hour apart.
    let largest = largest.filter(|(key, _)| key != "upstream.poll_interval_max_ms");
    let changes: Vec<(&str, &str)> = largest.map(|(key, [_, max])| (key.as_str(), max.as_str())).collect();
    let gateway = Gateway::with(&upstream, &changes).await;
    gateway.alice().edit(&Edit::new("largest")).await.picture();
    assert_eq!(gateway.alice().edit(&Edit::new("largest")).await.cache(), "hit");
    gateway.stop().await;
}

#[tokio::test]
async fn the_program_refuses_a_figure_beyond_its_range_by_name() {
    let upstream = Upstream::start().await;
    for (key, value, range) in [
        ("cache.ttl_s", "9223372036854775807", "from 0 to 315360000, not 9223372036854775807"),
        ("server.headers_max", "1000000000", "from 1 to 10000, not 1000000000"),
        ("upstream.deadline_s", "0", "from 1 to 2592000, not 0"),
    ] {
        let variable = format!("GATEWAY_{}", key.replace('.', "__").to_uppercase());
        let run = Program::on(&upstream).variable(&variable, value).run(&[]).await;
        assert_eq!((run.code, run.stderr.lines().count()), (Some(64), 1), "{}", run.stderr);
        assert!(run.stderr.contains(key) && run.stderr.contains(range), "{}", run.stderr);
    }
}

#[tokio::test]
async fn long_times_in_headers_are_shortened() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    for value in ["18446744073709551615", "9223372036854775807", "1e308", "1e18", "nan", "-1", "0"] {
        for name in ["x-stainless-read-timeout", "x-stainless-timeout", "x-stainless-retry-count"] {
            let edit = Edit::new(&format!("{name} {value}")).header(name, value);
            gateway.alice().edit(&edit).await.picture();
        }
        let edit = Edit::new(&format!("prefer {value}")).header("prefer", &format!("respond-async, wait={value}"));
        let answer = gateway.alice().edit(&edit).await;
        assert!(matches!(answer.status, 200 | 202), "{}", answer.text());
    }
    gateway.stop().await;
}
