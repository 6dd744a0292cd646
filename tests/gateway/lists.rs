//! A client's own jobs: listed in pages, filtered, and deleted.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{ALICE, Answer, Client, Edit, Gateway, Program, Raw, Upstream, in_background, until};

fn ids(list: &Value) -> Vec<String> {
    let data = list["data"].as_array().unwrap_or_else(|| panic!("no list: {list}"));
    data.iter().map(|one| one["id"].as_str().unwrap().to_owned()).collect()
}

async fn list(client: &Client, query: &str) -> Value {
    let answer = client.get(&format!("/v1/predictions{query}")).await;
    assert_eq!((answer.status, answer.header("cache-control")), (200, "no-store"), "{}", answer.text());
    answer.json()
}

/// Buys a picture of this prompt, and returns the id of the job.
async fn buy(client: &Client, prompt: &str) -> String {
    let answer = client.edit(&Edit::new(prompt)).await;
    answer.picture();
    answer.header("x-gateway-prediction").to_owned()
}

#[tokio::test]
async fn a_client_lists_its_own_jobs_newest_first() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    let alice = gateway.alice();
    let empty = list(&alice, "").await;
    assert_eq!(empty, json!({"object": "list", "data": [], "first_id": null, "last_id": null, "has_more": false}));
    let mut bought = Vec::new();
    for prompt in ["one", "two", "three"] {
        bought.push(buy(&alice, prompt).await);
    }
    let foreign = buy(&gateway.bob(), "of another").await;
    bought.reverse();
    let all = list(&alice, "").await;
    assert_eq!(ids(&all), bought);
    assert_eq!((&all["first_id"], &all["last_id"]), (&json!(bought[0]), &json!(bought[2])));
    assert_eq!(all["has_more"], json!(false));
    // Each as by its own address with `response_format=url`, but for the time to which the address is valid.
    let one = &all["data"][0];
    let shown = alice.get(&format!("/v1/predictions/{}?response_format=url", bought[0])).await.json();
    let without = |object: &Value| {
        let mut object = object.clone();
        object["result"]["data"] = json!(null);
        object
    };
    assert_eq!(without(one), without(&shown));
    let url = one["result"]["data"][0]["url"].as_str().unwrap();
    let picture = gateway.client("").get(url).await;
    assert_eq!((picture.status, picture.header("content-type")), (200, "image/png"));
    assert!(one["result"]["data"][0].get("b64_json").is_none());

    assert_eq!(ids(&list(&gateway.bob(), "").await), [foreign.as_str()]);
    for after in [foreign.as_str(), "pred_01jxw3k8rqb0h8z3w9x5y7v2da", "x"] {
        alice.get(&format!("/v1/predictions?after={after}")).await.is_refused(400, "invalid_value");
    }
    gateway.client("").get("/v1/predictions").await.is_refused(401, "missing_api_key");
    for wrong in ["limit=0", "limit=101", "status=done"] {
        let refused = alice.get(&format!("/v1/predictions?{wrong}")).await;
        refused.is_refused(400, "invalid_value");
        assert_eq!(refused.json()["error"]["param"], wrong.split('=').next().unwrap());
    }
    for path in ["/predictions/", "/openai/v1/predictions", "//v1/predictions"] {
        assert_eq!(ids(&alice.get(path).await.json()), bought, "{path}");
    }
    let wrong = Answer::to(alice.request(Method::POST, "/v1/predictions/")).await;
    wrong.is_refused(405, "method_not_supported");
    assert_eq!(wrong.header("allow"), "GET");
    let gateway = gateway.restart().await;
    assert_eq!(ids(&list(&gateway.alice(), "").await), bought);
}

#[tokio::test]
async fn pages_have_each_job_once_while_others_are_made() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    let alice = gateway.alice();
    let mut before = BTreeSet::new();
    for number in 0..45 {
        before.insert(buy(&alice, &format!("before {number}")).await);
    }
    let making = {
        let alice = alice.clone();
        in_background(async move {
            for number in 0..30 {
                buy(&alice, &format!("meanwhile {number}")).await;
            }
        })
    };
    let (mut seen, mut after) = (Vec::new(), String::new());
    loop {
        let page = list(&alice, &format!("?limit=4{after}")).await;
        let found = ids(&page);
        assert!(found.len() <= 4);
        assert_eq!(page["last_id"].as_str(), found.last().map(String::as_str));
        seen.extend(found);
        if page["has_more"] == json!(false) {
            break;
        }
        after = format!("&after={}", page["last_id"].as_str().unwrap());
    }
    making.await.unwrap();
    let distinct: BTreeSet<String> = seen.iter().cloned().collect();
    assert_eq!(distinct.len(), seen.len(), "none twice");
    assert!(before.is_subset(&distinct), "none is missing");
    let all = list(&alice, "?limit=100").await;
    assert_eq!((ids(&all).len(), &all["has_more"]), (75, &json!(false)));
    assert_eq!(list(&alice, "?limit=75").await["has_more"], json!(false), "exactly the last");
    assert_eq!(list(&alice, "?limit=74").await["has_more"], json!(true));
}

#[tokio::test]
async fn jobs_that_are_under_way_are_listed_as_they_are_now_and_filtered() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::with(&upstream, &[("upstream.concurrent_predictions", "1")]).await;
    let alice = gateway.alice();
    let done = buy(&alice, "done").await;
    alice.edit(&Edit::new("a forbidden-picture")).await.is_refused(400, "moderation_blocked");
    upstream.hold().await;
    let later = |prompt: &str| Edit::new(prompt).header("prefer", "respond-async");
    let id = |answer: &Answer| answer.json()["id"].as_str().unwrap().to_owned();
    let working = id(&alice.edit(&later("working")).await);
    until("it is followed", async || gateway.status("engine", "polling").await == 1).await;
    let queued = id(&alice.edit(&later("queued").field("model", "gpt-image-2").without("size")).await);
    let all = list(&alice, "").await;
    let statuses: Vec<&str> =
        all["data"].as_array().unwrap().iter().map(|one| one["status"].as_str().unwrap()).collect();
    assert_eq!(statuses, ["queued", "processing", "failed", "completed"]);
    assert_eq!(all["data"][0]["queue_position"], json!(1));
    assert_eq!(all["data"][2]["error"]["code"], "moderation_blocked");
    assert!(all["data"][1]["result"].is_null());
    let under_way = list(&alice, "?status=queued,processing").await;
    assert_eq!(ids(&under_way), [queued.clone(), working.clone()]);
    assert_eq!(ids(&list(&alice, "?status=completed").await), [done.as_str()]);
    assert_eq!(ids(&list(&alice, "?model=openai/gpt-image-2").await), [queued.as_str()]);
    assert_eq!(ids(&list(&alice, &format!("?q={}", &done[10..])).await), [done.as_str()], "part of an id");
    assert_eq!(ids(&list(&alice, "?q=done").await), Vec::<String>::new(), "prompts are not kept");
    alice.delete(&format!("/v1/predictions/{queued}")).await;
    until("its end is recorded", async || ids(&list(&alice, "?status=cancelled").await) == [queued.as_str()]).await;
    upstream.release().await;
}

#[tokio::test]
async fn a_deleted_job_is_gone_with_its_picture_and_the_same_request_buys_anew() {
    let upstream = Upstream::start().await;
    // Every picture is a file.
    let gateway = Gateway::with(&upstream, &[("storage.journal_picture_bytes_max", "0")]).await;
    let alice = gateway.alice();
    let other = buy(&alice, "another").await;
    let deleted = buy(&alice, "deleted").await;
    let path = format!("/v1/predictions/{deleted}");
    let object = alice.get(&format!("{path}?response_format=url")).await.json();
    let url = object["result"]["data"][0]["url"].as_str().unwrap().to_owned();
    gateway.bob().delete(&path).await.is_refused(404, "prediction_not_found");
    assert_eq!(gateway.client("").get(&format!("{url}&width=128")).await.status, 200);

    let answer = alice.delete(&path).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.json(), json!({"id": deleted, "object": "prediction.deleted", "deleted": true}));
    let is_gone = async |gateway: &Gateway| {
        let alice = gateway.alice();
        alice.get(&path).await.is_refused(404, "prediction_not_found");
        alice.delete(&path).await.is_refused(404, "prediction_not_found");
        for url in [url.clone(), format!("{url}&width=128")] {
            gateway
                .client("")
                .get(&url.replace(url.split('/').nth(2).unwrap(), &gateway.address()))
                .await
                .is_refused(404, "result_not_found");
        }
        assert_eq!(ids(&list(&alice, "").await), [other.as_str()]);
    };
    is_gone(&gateway).await;
    let stopped = gateway.stop().await;
    assert_eq!(stopped.picture_files().len(), 1, "that of the other job");
    let gateway = stopped.start().await;
    is_gone(&gateway).await;

    let again = gateway.alice().edit(&Edit::new("deleted")).await;
    again.picture();
    assert_eq!((again.cache(), upstream.purchases().await), ("miss", 3));
    assert_ne!(again.header("x-gateway-prediction"), deleted);
    // In one run, from memory: the hit is not answered any more.
    let path = format!("/v1/predictions/{}", again.header("x-gateway-prediction"));
    assert_eq!(gateway.alice().edit(&Edit::new("deleted")).await.cache(), "hit");
    assert_eq!(gateway.alice().delete(&path).await.status, 200);
    assert_eq!(gateway.alice().edit(&Edit::new("deleted")).await.cache(), "miss");
    assert_eq!(upstream.purchases().await, 4);
}

#[tokio::test]
async fn equal_pictures_of_other_jobs_stay_and_undelivered_ones_can_be_deleted() {
    for in_journal in ["0", "65536"] {
        let upstream = Upstream::start().await;
        let gateway = Gateway::with(&upstream, &[("storage.journal_picture_bytes_max", in_journal)]).await;
        let alice = gateway.alice();
        // The same picture, bought twice.
        let edit = Edit::new("twice").header("cache-control", "no-cache");
        let (one, two) = (alice.edit(&edit).await, alice.edit(&edit).await);
        let path = |answer: &Answer| format!("/v1/predictions/{}", answer.header("x-gateway-prediction"));
        assert_eq!(alice.delete(&path(&one)).await.status, 200);
        let left = alice.get(&path(&two)).await;
        assert_eq!((left.status, left.json()["status"].as_str()), (200, Some("completed")), "{}", left.text());
        // A result that no client has received, named by its key.
        let unclaimed = Edit::new("unclaimed").header("prefer", "respond-async").header("idempotency-key", "k");
        let taken = alice.edit(&unclaimed).await;
        let id = taken.json()["id"].as_str().unwrap().to_owned();
        until("it is stored", async || gateway.status("engine", "pictures").await == 3).await;
        until("it has ended", async || {
            alice.delete(&format!("/v1/predictions/{id}")).await.json()["deleted"] == json!(true)
        })
        .await;
        let again = alice.edit(&unclaimed).await;
        assert_ne!(again.json()["id"], json!(id));
        until("it is bought again", async || upstream.purchases().await == 4).await;
    }
}

#[tokio::test]
async fn deleting_an_unknown_outcome_does_not_buy_it_twice() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    let alice = gateway.alice();
    upstream.fault("submit", "drop_after", 1).await;
    let edit = Edit::new("lost").header("idempotency-key", "key");
    alice.edit(&edit).await.is_refused(502, "submission_outcome_unknown");
    let job = list(&alice, "").await["data"][0]["id"].as_str().unwrap().to_owned();
    assert_eq!(alice.delete(&format!("/v1/predictions/{job}")).await.status, 200);
    assert_eq!(ids(&list(&alice, "").await), Vec::<String>::new());
    alice.edit(&edit).await.is_refused(502, "submission_outcome_unknown");
    alice.edit(&Edit::new("lost")).await.is_refused(502, "submission_outcome_unknown");
    assert_eq!(upstream.purchases().await, 1);
}

#[tokio::test]
async fn what_was_deleted_stays_deleted_after_a_crash() {
    let upstream = Upstream::start().await;
    let program = Program::on(&upstream);
    let serving = program.serve(&["serve"]).await;
    let deleted = buy(&serving.alice(), "deleted").await;
    let kept = buy(&serving.alice(), "kept").await;
    let path = format!("/v1/predictions/{deleted}");
    assert_eq!(serving.alice().delete(&path).await.json()["deleted"], json!(true));
    serving.kill();

    let serving = program.serve(&["serve"]).await;
    serving.alice().get(&path).await.is_refused(404, "prediction_not_found");
    assert_eq!(ids(&list(&serving.alice(), "").await), [kept.as_str()]);
    assert_eq!(serving.alice().edit(&Edit::new("kept")).await.cache(), "hit");
    assert_eq!(serving.alice().edit(&Edit::new("deleted")).await.cache(), "miss");
    let ledger = program.run(&["ledger", "list"]).await;
    assert!(ledger.stdout.contains(&deleted), "the record of the money: {}", ledger.stdout);
}

/// A client that receives its result, very slowly, keeps it.
#[tokio::test]
async fn a_result_that_is_being_received_is_not_deleted() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::with(&upstream, &[("storage.journal_picture_bytes_max", "0")]).await;
    let alice = gateway.alice();
    let edit = Edit::new("slow").field("model", "gpt-image-2").field("size", "2048x2048").field("n", "4");
    let bought = alice.edit(&edit).await;
    let whole = bought.bytes.len();
    let path = format!("/v1/predictions/{}", bought.header("x-gateway-prediction"));
    let mut raw = Raw::to(&gateway.address()).await;
    raw.send(format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {ALICE}\r\n\r\n")).await;
    raw.until("b64_json").await;
    println!("{whole} bytes");
    alice.delete(&path).await.is_refused(409, "prediction_in_use");
    drop(raw);
    until("its connection is closed", async || alice.delete(&path).await.status == 200).await;
    alice.get(&path).await.is_refused(404, "prediction_not_found");
}
