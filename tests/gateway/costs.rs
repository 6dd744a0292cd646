//! What an answer costs, in its headers and in the prediction object; when it is expected, and how far it is.

use serde_json::{Value, json};

use crate::harness::{Answer, Client, Edit, Gateway, Upstream, in_background, until};

const ONE: (&str, &str) = ("upstream.concurrent_predictions", "1");

/// The cost of an answer in its headers, which agree, and whether it is an estimate.
#[track_caller]
fn cost(answer: &Answer) -> (f64, bool) {
    let usd = answer.header("x-gateway-cost-usd");
    assert_eq!(answer.header("x-litellm-response-cost"), usd);
    let estimated = answer.header("x-gateway-cost-estimated");
    assert!(["", "true"].contains(&estimated), "{estimated}");
    (usd.parse().unwrap_or_else(|_| panic!("no cost in {:?}", answer.headers)), estimated == "true")
}

fn later(prompt: &str) -> Edit {
    Edit::new(prompt).header("prefer", "respond-async")
}

/// The path of the prediction behind a 202.
fn location(answer: &Answer) -> String {
    assert_eq!(answer.status, 202, "{}", answer.text());
    answer.header("location").to_owned()
}

#[tokio::test]
async fn a_bought_picture_costs_its_tokens_and_a_hit_nothing() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    let alice = gateway.alice();
    let bought = alice.edit(&Edit::new("priced")).await;
    let usage = bought.json()["usage"].clone();
    let tokens = |name: &str| usage[name].as_f64().unwrap();
    // The catalogue's prices of gpt-image-1.5 for a million tokens.
    let catalogue: toml::Table = toml::from_str(include_str!("../../config/models.toml")).unwrap();
    let models = catalogue["models"].as_array().unwrap();
    let model = models.iter().find(|model| model["id"].as_str() == Some("gpt-image-1.5")).unwrap();
    let price = |name: &str| {
        let value = &model["price"][name];
        value.as_float().or_else(|| value.as_integer().map(|whole| f64::from(i32::try_from(whole).unwrap()))).unwrap()
    };
    let expected = tokens("input_tokens") * price("input_usd_per_million_tokens")
        + tokens("output_tokens") * price("output_usd_per_million_tokens");
    let (usd, estimated) = cost(&bought);
    assert!((usd - expected / 1e6).abs() < 1e-6 && !estimated, "{usd} for {usage}");
    let hit = alice.edit(&Edit::new("priced")).await;
    assert_eq!((hit.cache(), cost(&hit), hit.header("x-gateway-cost-usd")), ("hit", (0.0, false), "0"));

    let object = alice.get(&format!("/v1/predictions/{}", bought.header("x-gateway-prediction"))).await.json();
    assert_eq!((&object["cost_usd"], &object["cost_estimated"]), (&json!(usd), &json!(false)), "{object}");
    assert_eq!((&object["progress"], &object["queue_position"]), (&json!(100), &Value::Null));
    assert_eq!((&object["size"], &object["quality"]), (&json!("256x256"), &json!("low")));
    assert_eq!((&object["n"], &object["inputs"]), (&json!(1), &json!(1)));
}

#[tokio::test]
async fn without_reported_tokens_the_cost_is_an_estimate() {
    let upstream = Upstream::start().await;
    upstream.set(json!({"result": {"usage": "absent"}})).await;
    let gateway = Gateway::on(&upstream).await;
    let (usd, estimated) = cost(&gateway.alice().edit(&Edit::new("priced")).await);
    assert!(usd > 0.0 && estimated);
}

#[tokio::test]
async fn a_joined_answer_costs_nothing_and_a_202_and_a_stream_say_what_is_expected() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::with(&upstream, &[("server.stream_grace_ms", "50")]).await;
    let alice = gateway.alice();
    // What it learns here, it expects afterwards.
    alice.edit(&Edit::new("teaches")).await.picture();
    upstream.hold().await;
    let taken = alice.edit(&later("shared")).await;
    let (usd, estimated) = cost(&taken);
    assert!(usd > 0.0 && estimated, "an estimate: {:?}", taken.headers);
    assert!(taken.header("x-gateway-expected-seconds").parse::<u64>().is_ok(), "{:?}", taken.headers);
    assert_eq!((&taken.json()["cost_usd"], &taken.json()["cost_estimated"]), (&Value::Null, &json!(false)));
    let joined = alice.edit(&later("shared")).await;
    assert_eq!((joined.cache(), cost(&joined)), ("joined", (0.0, false)));
    let mut streamed = alice.begin(&Edit::new("streamed").field("stream", "true"));
    streamed.first_bytes().await;
    upstream.release().await;
    let streamed = streamed.answer().await;
    assert!(cost(&streamed).0 > 0.0 && cost(&streamed).1);
    assert!(streamed.header("x-gateway-expected-seconds").parse::<u64>().is_ok(), "{:?}", streamed.headers);
    assert!(streamed.text().contains(": expected in "), "{}", streamed.text());
    assert_eq!(upstream.purchases().await, 3);
}

#[tokio::test]
async fn a_failure_costs_what_may_have_been_bought() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    let alice = gateway.alice();
    upstream.set(json!({"life": {"outcome": "failed_provider"}})).await;
    let address = location(&alice.edit(&later("fails late")).await);
    let failed = alice.prediction(&address, "wait=30").await.json();
    assert_eq!((&failed["status"], &failed["progress"]), (&json!("failed"), &Value::Null), "{failed}");
    assert!(failed["cost_usd"].as_f64().unwrap() > 0.0 && failed["cost_estimated"] == json!(true), "{failed}");
    let address = location(&alice.edit(&later("a forbidden-picture")).await);
    let refused = alice.prediction(&address, "wait=30").await.json();
    assert_eq!((&refused["status"], &refused["cost_usd"]), (&json!("failed"), &json!(0.0)), "{refused}");
}

#[tokio::test]
async fn places_in_the_queue_are_counted_from_1() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::with(&upstream, &[ONE]).await;
    let alice = gateway.alice();
    upstream.hold().await;
    let first = location(&alice.edit(&later("first")).await);
    until("it is bought", async || gateway.status("engine", "polling").await == 1).await;
    let mut queued = Vec::new();
    for prompt in ["second", "third", "fourth"] {
        queued.push(location(&alice.edit(&later(prompt)).await));
    }
    for (place, path) in (1..).zip(&queued) {
        let object = alice.get(path).await.json();
        assert_eq!((&object["status"], &object["queue_position"]), (&json!("queued"), &json!(place)), "{object}");
    }
    assert_eq!(alice.get(&first).await.json()["queue_position"], Value::Null);
    alice.delete(&queued[0]).await;
    until("the others move up", async || alice.get(&queued[2]).await.json()["queue_position"] == json!(2)).await;
    upstream.release().await;
}

/// Buys a picture, and returns the progress that was sent of it.
async fn percents(alice: &Client) -> Vec<u64> {
    let address = location(&alice.edit(&later("followed")).await);
    let request = alice.request(reqwest::Method::GET, &address).header("accept", "text/event-stream");
    let text = in_background(Answer::to(request)).await.unwrap().text();
    let blocks = text.split_terminator("\n\n");
    let statuses = blocks.filter_map(|block| block.strip_prefix("event: prediction.status\ndata: "));
    let statuses = statuses.map(|data| serde_json::from_str::<Value>(data).unwrap());
    statuses.filter_map(|status| status["progress"].as_u64()).collect()
}

#[tokio::test]
async fn progress_is_sent_as_it_grows_and_never_goes_back() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    let alice = gateway.alice();
    // What it learns here, it expects afterwards.
    upstream.set(json!({"speed": 4.0})).await;
    alice.edit(&Edit::new("teaches")).await.picture();
    let percents = percents(&alice).await;
    assert!(percents.is_sorted(), "{percents:?}");
    assert!(percents.len() >= 4, "more events than stages: {percents:?}");
    let (last, before) = percents.split_last().unwrap();
    assert!(*last == 100 && before.iter().all(|percent| *percent < 100), "{percents:?}");
}

#[tokio::test]
async fn a_job_that_waits_for_its_turn_has_no_progress() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::with(&upstream, &[ONE]).await;
    let alice = gateway.alice();
    alice.edit(&Edit::new("teaches")).await.picture();
    upstream.hold().await;
    let first = location(&alice.edit(&later("first")).await);
    until("it is bought", async || gateway.status("engine", "polling").await == 1).await;
    let queued = location(&alice.edit(&later("queued")).await);
    // Longer than was expected of the first, and of the turn of the other.
    until("nothing is expected of it any more", async || {
        let object = alice.get(&queued).await.json();
        assert_eq!((&object["status"], &object["progress"]), (&json!("queued"), &Value::Null), "{object}");
        object["expected_completion"].is_null()
    })
    .await;
    let object = alice.get(&first).await.json();
    assert!(object["progress"].is_u64() && object["expected_completion"].is_u64(), "{object}");
    upstream.release().await;
    let done = alice.prediction(&queued, "wait=30").await.json();
    assert_eq!(done["progress"], json!(100), "{done}");
}

#[tokio::test]
async fn the_call_of_the_openai_api_is_expected_by_its_age() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::with(&upstream, &[("upstream.api", "openai")]).await;
    let alice = gateway.alice();
    upstream.set(json!({"speed": 4.0})).await;
    alice.edit(&Edit::new("teaches")).await.picture();
    let percents = percents(&alice).await;
    let most = percents.iter().filter(|percent| **percent < 100).max();
    assert!(percents.is_sorted() && most.is_some_and(|most| *most > 60), "the bar follows the call: {percents:?}");
}

#[tokio::test]
async fn an_error_says_what_it_may_have_cost() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::with(&upstream, &[("server.response_timeout_s", "2")]).await;
    let alice = gateway.alice();
    let nothing = (0.0, false);
    let refused = alice.edit(&Edit::new("refused").field("size", "7x7")).await;
    assert_eq!((refused.status, cost(&refused)), (400, nothing));
    let moderated = alice.edit(&Edit::new("a forbidden-picture")).await;
    moderated.is_refused(400, "moderation_blocked");
    assert_eq!(cost(&moderated), nothing);

    upstream.set(json!({"life": {"outcome": "failed_provider"}})).await;
    let billed = alice.edit(&Edit::new("billed")).await;
    billed.is_refused(502, "image_generation_failed");
    let path = format!("/v1/predictions/{}", billed.header("x-gateway-prediction"));
    let shown = alice.get(&path).await.json();
    assert_eq!((json!(cost(&billed).0), cost(&billed).1), (shown["cost_usd"].clone(), true), "{shown}");
    assert!(cost(&billed).0 > 0.0);
    upstream.set(json!({"life": {"outcome": "completed"}})).await;

    upstream.fault("submit", "drop_after", 1).await;
    let unknown = alice.edit(&Edit::new("unknown")).await;
    unknown.is_refused(502, "submission_outcome_unknown");
    assert!(cost(&unknown).0 > 0.0 && cost(&unknown).1);
    let again = alice.edit(&Edit::new("unknown")).await;
    again.is_refused(502, "submission_outcome_unknown");
    assert_eq!(cost(&again), nothing, "it is the same purchase");

    upstream.hold().await;
    let slow = alice.edit(&Edit::new("slow")).await;
    assert_eq!(slow.status, 504, "{}", slow.text());
    assert!(cost(&slow).0 > 0.0 && cost(&slow).1, "its purchase goes on");
    let joined = alice.edit(&Edit::new("slow")).await;
    assert_eq!((joined.status, cost(&joined)), (504, nothing));
    upstream.release().await;
}
