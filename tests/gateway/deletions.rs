//! Deletions beside requests for the same job, and of clients that leave.

use serde_json::json;

use crate::harness::{ALICE, Edit, Gateway, Raw, Upstream, in_background, until};

const EVERY_PICTURE_A_FILE: (&str, &str) = ("storage.journal_picture_bytes_max", "0");

/// Buys a picture, and returns the path of the job and the address of the picture.
async fn buy(gateway: &Gateway, prompt: &str) -> (String, String) {
    let edit = Edit::new(prompt).field("response_format", "url").field("n", "4");
    let answer = gateway.alice().edit(&edit).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let url = answer.json()["data"][0]["url"].as_str().unwrap().to_owned();
    (format!("/v1/predictions/{}", answer.header("x-gateway-prediction")), url)
}

#[tokio::test]
async fn a_job_that_is_deleted_while_it_is_looked_at_is_not_fetched_again() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::with(&upstream, &[EVERY_PICTURE_A_FILE, ("cache.memory_bytes_max", "0")]).await;
    for round in 0..20 {
        let (path, url) = buy(&gateway, &format!("round {round}")).await;
        let ways = [format!("{path}?response_format=url"), path.clone(), url.clone(), format!("{url}&width=128")];
        let mut looks = Vec::new();
        for number in 0..30 {
            let (client, way) = (gateway.alice(), ways[number % ways.len()].clone());
            looks.push(in_background(async move { client.get(&way).await }));
            if number == round {
                let (client, path) = (gateway.alice(), path.clone());
                looks.push(in_background(async move { client.delete(&path).await }));
            }
        }
        for look in looks {
            let answer = look.await.unwrap();
            let text = if answer.header("content-type") == "application/json" { answer.text() } else { String::new() };
            let is_seen = answer.status == 200 && !text.contains("\"status\":\"processing\"");
            let is_gone = answer.status == 404 || (answer.status == 409 && text.contains("prediction_in_use"));
            assert!(is_seen || is_gone, "{} {text}", answer.status);
        }
        until("it is deleted", async || [200, 404].contains(&gateway.alice().delete(&path).await.status)).await;
        gateway.alice().get(&path).await.is_refused(404, "prediction_not_found");
    }
    let metrics = gateway.page("/metrics").await.1;
    let refetches: Vec<&str> = metrics.lines().filter(|line| line.contains("engine_refetches_total{")).collect();
    assert!(refetches.iter().all(|line| line.ends_with(" 0")), "{refetches:?}");
    assert_eq!(gateway.stop().await.picture_files().len(), 0);
}

#[tokio::test]
async fn a_deletion_is_complete_although_its_client_leaves() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::with(&upstream, &[EVERY_PICTURE_A_FILE]).await;
    for round in 0..30 {
        let prompt = format!("round {round}");
        let (path, _) = buy(&gateway, &prompt).await;
        until("it is received", async || gateway.status("engine", "waiters").await == 0).await;
        let mut raw = Raw::to(&gateway.address()).await;
        let request = format!("DELETE {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {ALICE}\r\n\r\n");
        raw.send(request).await;
        // At different moments of the deletion. Where it has not begun by then, the second one is the first.
        for _ in 0..round {
            tokio::task::yield_now().await;
        }
        drop(raw);
        let again = gateway.alice().delete(&path).await;
        assert!([200, 404].contains(&again.status), "{}", again.text());
        let picture_is_gone = async || {
            let files = std::fs::read_dir(gateway.folder().join("results")).unwrap();
            files.filter(|file| file.as_ref().unwrap().file_name().len() == 64).count() == 0
        };
        until("its picture is removed", picture_is_gone).await;
        let (again, _) = buy(&gateway, &prompt).await;
        assert_ne!(again, path, "the same request buys anew");
        assert_eq!(gateway.alice().delete(&again).await.json()["deleted"], json!(true));
    }
}
