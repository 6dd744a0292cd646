//! Links over real sockets, with the simulator's own pictures as inputs.

use serde_json::{Value, json};

use crate::simulator::apis::tests::{Upstream, get_url};

fn edit(links: &[String]) -> Value {
    json!({"prompt": "combine them", "quality": "low", "images": links})
}

/// Returns the URL of a picture that this simulator drew, and its digest.
async fn picture(upstream: &Upstream, prompt: &str) -> (String, String) {
    let created = upstream.submit(&json!({"prompt": prompt, "quality": "low", "images": ["https://x/y.png"]})).await;
    let done = upstream.wait(get_url(&created)).await;
    let url = done["data"]["outputs"][0].as_str().unwrap().to_owned();
    let bytes = upstream.client.get(&url).send().await.unwrap().bytes().await.unwrap();
    (url, blake3::hash(&bytes).to_hex().to_string())
}

fn digests(predictions: &Value, number: usize) -> Vec<&str> {
    predictions[number]["inputs"].as_array().unwrap().iter().map(|input| input["digest"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn fetched_links_keep_their_order() {
    let upstream = Upstream::start(json!({})).await;
    let (first, first_digest) = picture(&upstream, "a sun").await;
    let (second, second_digest) = picture(&upstream, "a moon").await;
    let given = "https://example.com/given.png".to_owned();
    let created = upstream.submit(&edit(&[second.clone(), given.clone(), first.clone()])).await;
    assert_eq!(created["data"]["status"], "created");
    assert_eq!(upstream.wait(get_url(&created)).await["data"]["status"], "completed");
    let predictions = upstream.control("predictions").await;
    let not_fetched = format!("url-{}", blake3::hash(given.as_bytes()).to_hex());
    assert_eq!(digests(&predictions, 2), [&second_digest, &not_fetched, &first_digest]);
    assert_eq!(predictions[2]["parameters"]["images"], json!([second, given, first]));

    upstream.scenario(json!({"inputs": {"fetch_links": "never"}})).await;
    upstream.submit(&edit(&[first])).await;
    assert!(digests(&upstream.control("predictions").await, 3)[0].starts_with("url-"));
    let counters = upstream.control("counters").await;
    assert_eq!((&counters["links_fetched"], &counters["links_failed"]), (&json!(2), &json!(0)));
    upstream.stop().await;
}

#[tokio::test]
async fn a_prediction_fails_when_a_link_has_no_picture() {
    let upstream = Upstream::start(json!({})).await;
    let (good, _) = picture(&upstream, "a sun").await;
    let page = format!("{}/nothing.png", upstream.origin);
    let json = format!("{}/_simulator/counters", upstream.origin);
    for (bad, why) in [(page, "404"), (json, "unsupported image format"), ("http://127.0.0.1:1/x".into(), "error")] {
        let created = upstream.submit(&edit(&[good.clone(), bad.clone()])).await;
        let failed = upstream.wait(get_url(&created)).await;
        assert_eq!(failed["data"]["status"], "failed", "{bad}");
        assert_eq!(failed["data"]["error"], "Unable to download the image, please check the image url");
        let predictions = upstream.control("predictions").await;
        let last = predictions.as_array().unwrap().last().unwrap();
        assert!(last["link_error"].as_str().unwrap().contains(why), "{last}");
        assert_eq!(last["charged"], false);
    }
    upstream.scenario(json!({"files": {"redirects": 1}})).await;
    let created = upstream.submit(&edit(&[good])).await;
    assert_eq!(upstream.wait(get_url(&created)).await["data"]["status"], "failed");
    upstream.stop().await;
}

#[tokio::test]
async fn a_synchronous_call_waits_for_the_links_too() {
    let upstream = Upstream::start(json!({"files": {"piece_pause_ms": 20}})).await;
    let (link, digest) = picture(&upstream, "a sun").await;
    let mut sync = edit(&[link]);
    sync["enable_sync_mode"] = json!(true);
    assert_eq!(upstream.submit(&sync).await["data"]["status"], "completed");
    assert_eq!(digests(&upstream.control("predictions").await, 1), [digest]);
    upstream.stop().await;
}
