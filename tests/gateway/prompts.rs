//! Prompts: kept where the operator wants it, and otherwise nowhere.

use std::path::Path;

use serde_json::json;

use crate::harness::{Edit, Gateway, Upstream, until};

/// The files below a folder that contain these bytes.
fn files_with(folder: &Path, bytes: impl AsRef<[u8]>) -> Vec<String> {
    let bytes = bytes.as_ref();
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_with(&path, bytes));
        } else if std::fs::read(&path).unwrap().windows(bytes.len()).any(|window| window == bytes) {
            found.push(path.display().to_string());
        }
    }
    found
}

const PROMPT: &str = "a lighthouse of Zanzibar-7391, \u{fc}ber dem Meer";

async fn use_prompt(gateway: &Gateway) -> String {
    let alice = gateway.alice();
    let bought = alice.edit(&Edit::new(PROMPT)).await;
    bought.picture();
    alice.edit(&Edit::new(PROMPT)).await.picture();
    // A failure, and a job that is followed by its address.
    alice.edit(&Edit::new(&format!("{PROMPT} forbidden-picture"))).await.is_refused(400, "moderation_blocked");
    let taken = alice.edit(&Edit::new(&format!("{PROMPT}, later")).header("prefer", "respond-async")).await;
    alice.prediction(taken.header("location"), "wait=30").await;
    bought.header("x-gateway-prediction").to_owned()
}

#[tokio::test]
async fn by_default_no_byte_of_a_prompt_is_written() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    let job = use_prompt(&gateway).await;
    assert_eq!(gateway.alice().get(&format!("/v1/predictions/{job}")).await.json()["prompt"], json!(null));
    assert_eq!(files_with(gateway.folder(), "Zanzibar"), Vec::<String>::new(), "while it runs");
    let stopped = gateway.stop().await;
    assert_eq!(files_with(stopped.journal().parent().unwrap(), "Zanzibar"), Vec::<String>::new());
}

#[tokio::test]
async fn kept_prompts_are_shown_found_and_forgotten_with_their_jobs() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::with(&upstream, &[("storage.keep_prompts", "on")]).await;
    let job = use_prompt(&gateway).await;
    let path = format!("/v1/predictions/{job}");
    let gateway = gateway.restart().await;
    let alice = gateway.alice();
    assert_eq!(alice.get(&path).await.json()["prompt"], PROMPT);
    assert!(!files_with(gateway.folder(), "Zanzibar").is_empty(), "the test finds what is there");
    let ids = async |query: &str| {
        let list = alice.get(&format!("/v1/predictions?{query}")).await.json();
        let ids = list["data"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap().to_owned());
        ids.collect::<Vec<_>>()
    };
    assert_eq!(ids("q=ZANZIBAR-7391").await.len(), 3);
    assert_eq!(ids("q=%C3%9Cber+dem&status=completed").await.len(), 2);
    assert_eq!(ids("q=elsewhere").await, Vec::<String>::new());
    assert_eq!(gateway.bob().get("/v1/predictions?q=zanzibar").await.json()["data"], json!([]));

    let private = alice.edit(&Edit::new("private words").header("cache-control", "no-store")).await;
    let private = format!("/v1/predictions/{}", private.header("x-gateway-prediction"));
    assert_eq!(alice.get(&private).await.json()["prompt"], json!(null), "no-store keeps nothing else");

    assert_eq!(alice.delete(&path).await.json()["deleted"], json!(true));
    assert!(!ids("q=zanzibar").await.contains(&job));
    assert_eq!(ids("q=zanzibar").await.len(), 2);
}

/// Not in free pages, and not in the log either.
#[tokio::test]
async fn nothing_of_a_deleted_job_is_left_in_a_file() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::with(&upstream, &[("storage.keep_prompts", "on")]).await;
    let alice = gateway.alice();
    use_prompt(&gateway).await;
    // As long as several pages.
    let long = Edit::new(&"Zanzibar by night, ".repeat(1000)).field("model", "gpt-image-2").without("size");
    alice.edit(&long).await.picture();
    let picture = alice.edit(&Edit::new(PROMPT)).await.picture();
    let part = &picture[picture.len() / 2..][..48];
    assert!(!files_with(gateway.folder(), part).is_empty(), "a small picture is in the journal");
    for job in alice.get("/v1/predictions").await.json()["data"].as_array().unwrap() {
        let path = format!("/v1/predictions/{}", job["id"].as_str().unwrap());
        until("it is deleted", async || alice.delete(&path).await.status == 200).await;
    }
    until("nothing is left", async || {
        files_with(gateway.folder(), "Zanzibar").is_empty() && files_with(gateway.folder(), part).is_empty()
    })
    .await;
    let stopped = gateway.stop().await;
    assert_eq!(files_with(stopped.journal().parent().unwrap(), "Zanzibar"), Vec::<String>::new());
}

#[tokio::test]
async fn kept_prompts_expire_with_their_results_and_those_of_failed_jobs_with_them() {
    let upstream = Upstream::start().await;
    let short = [
        ("storage.keep_prompts", "on"),
        ("storage.results_ttl_s", "1"),
        ("storage.eviction_interval_s", "1"),
        ("cache.ttl_s", "0"),
    ];
    let gateway = Gateway::with(&upstream, &short).await;
    use_prompt(&gateway).await;
    until("no prompt is left", async || {
        gateway.alice().get("/v1/predictions?q=zanzibar").await.json()["data"] == json!([])
    })
    .await;
    assert!(
        gateway.alice().get("/v1/predictions").await.json()["data"].as_array().unwrap().len() >= 3,
        "the jobs are listed"
    );
}
