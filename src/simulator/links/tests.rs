//! Links over real sockets: the simulator's own pictures are its inputs.

use serde_json::{Value, json};

use super::*;
use crate::simulator::tests::{Upstream, get_url};

fn asked(links: &[String]) -> Value {
    json!({"prompt": "combine them", "quality": "low", "images": links})
}

/// The address of a picture that was made here, and its digest.
async fn picture(upstream: &Upstream, prompt: &str) -> (String, String) {
    let created = upstream.submit(&json!({"prompt": prompt, "quality": "low", "images": ["https://x/y.png"]})).await;
    let done = upstream.wait(get_url(&created)).await;
    let address = done["data"]["outputs"][0].as_str().unwrap().to_owned();
    let bytes = upstream.client.get(&address).send().await.unwrap().bytes().await.unwrap();
    (address, blake3::hash(&bytes).to_hex().to_string())
}

fn digests(predictions: &Value, number: usize) -> Vec<&str> {
    predictions[number]["inputs"].as_array().unwrap().iter().map(|one| one["digest"].as_str().unwrap()).collect()
}

#[test]
fn only_addresses_of_this_machine_are_fetched() {
    let is_near = |text: &str| near(&Input::Url(text.to_owned())).is_some();
    for text in ["http://127.0.0.1/x.png", "http://127.9.9.9:80/", "http://LOCALHOST:8080/a", "http://[::1]:1/"] {
        assert!(is_near(text), "{text}");
    }
    for text in [
        "https://127.0.0.1/x.png",
        "http://localhost.example.com/",
        "http://10.0.0.1/",
        "http://127.0.0.1@example.com/",
        "http://[::ffff:10.0.0.1]/",
        "https://example.com/x.png",
    ] {
        assert!(!is_near(text), "{text}");
    }
}

#[tokio::test]
async fn the_bytes_behind_links_arrive_in_their_order() {
    let upstream = Upstream::start(json!({})).await;
    let (first, first_digest) = picture(&upstream, "a sun").await;
    let (second, second_digest) = picture(&upstream, "a moon").await;
    let given = "https://example.com/given.png".to_owned();
    let created = upstream.submit(&asked(&[second.clone(), given.clone(), first.clone()])).await;
    assert_eq!(created["data"]["status"], "created");
    assert_eq!(upstream.wait(get_url(&created)).await["data"]["status"], "completed");
    let predictions = upstream.control("predictions").await;
    let taken_as_given = format!("url-{}", blake3::hash(given.as_bytes()).to_hex());
    assert_eq!(digests(&predictions, 2), [&second_digest, &taken_as_given, &first_digest]);
    assert_eq!(predictions[2]["parameters"]["images"], json!([second, given, first]));

    upstream.scenario(json!({"inputs": {"fetch_links": "never"}})).await;
    upstream.submit(&asked(&[first])).await;
    assert!(digests(&upstream.control("predictions").await, 3)[0].starts_with("url-"));
    let counters = upstream.control("counters").await;
    assert_eq!((&counters["links_fetched"], &counters["links_failed"]), (&json!(2), &json!(0)));
    upstream.end().await;
}

#[tokio::test]
async fn a_task_fails_whose_link_holds_no_picture() {
    let upstream = Upstream::start(json!({})).await;
    let (good, _) = picture(&upstream, "a sun").await;
    let page = format!("{}/nothing.png", upstream.origin);
    let json = format!("{}/_simulator/counters", upstream.origin);
    for (bad, why) in [(page, "404"), (json, "unsupported image format"), ("http://127.0.0.1:1/x".into(), "error")] {
        let created = upstream.submit(&asked(&[good.clone(), bad.clone()])).await;
        let failed = upstream.wait(get_url(&created)).await;
        assert_eq!(failed["data"]["status"], "failed", "{bad}");
        assert_eq!(failed["data"]["error"], crate::simulator::result::UNREACHABLE);
        let predictions = upstream.control("predictions").await;
        let last = predictions.as_array().unwrap().last().unwrap();
        assert!(last["link_error"].as_str().unwrap().contains(why), "{last}");
        assert_eq!(last["charged"], false);
    }
    upstream.scenario(json!({"files": {"redirects": 1}})).await;
    let created = upstream.submit(&asked(&[good])).await;
    assert_eq!(upstream.wait(get_url(&created)).await["data"]["status"], "failed");
    upstream.end().await;
}

#[tokio::test]
async fn a_call_that_waits_for_its_end_waits_for_the_links_too() {
    let upstream = Upstream::start(json!({"files": {"piece_pause_ms": 20}})).await;
    let (link, digest) = picture(&upstream, "a sun").await;
    let mut sync = asked(&[link]);
    sync["enable_sync_mode"] = json!(true);
    assert_eq!(upstream.submit(&sync).await["data"]["status"], "completed");
    assert_eq!(digests(&upstream.control("predictions").await, 1), [digest]);
    upstream.end().await;
}
