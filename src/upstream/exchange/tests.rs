//! Exchanges with a stand-in for the upstream, on this machine.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::config::{Config, Environment};
use crate::model::{ApiKind, Failure, UpstreamId};
use crate::upstream::Submitted;
use crate::upstream::apis::prediction;
use crate::upstream::formats::{FormatRefusal, InputMethod, RequestFormat, SubmitFormat};
use crate::upstream::gptproto::GptProto;
use crate::upstream::gptproto::tests::request;

/// The heads of the requests that a stand-in has received.
type Heads = Arc<Mutex<Vec<String>>>;

/// Starts a stand-in that answers each request with the bytes that `answer` returns for its head, and then closes the
/// connection. Returns an adapter for it.
async fn stand_in(answer: impl Fn(&str) -> Vec<u8> + Send + 'static) -> (GptProto, AccountId, Heads) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let environment = Environment::from([
        ("GPTPROTO_API_KEY".to_owned(), "sk-test".to_owned()),
        ("GATEWAY_UPSTREAM__BASE_URL".to_owned(), format!("http://{}", listener.local_addr().unwrap())),
    ]);
    let config = Config::load(None, &environment).unwrap();
    let heads = Heads::default();
    let seen = Arc::clone(&heads);
    tokio::spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            let head = receive(&mut connection).await;
            seen.lock().unwrap().push(head.clone());
            // Fails when the gateway has hung up.
            let _ = connection.write_all(&answer(&head)).await;
        }
    });
    let catalogue = Arc::new(config.catalogue);
    let adapter = GptProto::new(&config.upstream, &config.accounts, catalogue, None).unwrap();
    (adapter, config.accounts[0].id.clone(), heads)
}

/// Receives a request; returns its head in lower case.
async fn receive(connection: &mut TcpStream) -> String {
    let mut received = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&received).to_lowercase();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
                return head.to_owned();
            }
        }
        if connection.read_buf(&mut received).await.unwrap() == 0 {
            return text;
        }
    }
}

fn answer(status: &str, media_type: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\ncontent-type: {media_type}\r\ncontent-length: {length}\r\n\r\n{body}").into_bytes()
}

/// Answers requests whose key is in one of these forms, and refuses the key of others.
fn accepting(forms: &'static [&'static str]) -> impl Fn(&str) -> Vec<u8> {
    move |head| {
        let key = head.lines().find_map(|line| line.strip_prefix("authorization: ")).unwrap_or_default();
        if forms.contains(&key) {
            answer("200 OK", "application/json", "{\"data\":{\"id\":\"abc\",\"status\":\"created\"}}")
        } else {
            answer("401 Unauthorized", "application/json", "{\"error\":{\"message\":\"Invalid signature\"}}")
        }
    }
}

/// Takes the forms of the key in the requests since the last call.
fn keys(heads: &Heads) -> Vec<String> {
    let heads: Vec<String> = std::mem::take(&mut *heads.lock().unwrap());
    heads
        .iter()
        .map(|head| head.lines().find_map(|line| line.strip_prefix("authorization: ")).unwrap().to_owned())
        .collect()
}

async fn submit(
    adapter: &GptProto,
    account: &AccountId,
    method: InputMethod,
    auth: AuthStyle,
) -> Result<Submitted, SubmitError> {
    let format = RequestFormat { auth, ..RequestFormat::documented(method) };
    let format = SubmitFormat { format, accepted_before: true, may_change_auth: false };
    let commit: Commit = Box::new(|| Box::pin(async { true }));
    adapter.submit_once(account, &request("gpt-image-2"), 1, &format, commit).await
}

/// Reads an answer to a poll for the prediction of the stand-in.
fn read(body: &[u8]) -> PollAnswer {
    prediction::poll_answer(body, &UpstreamId::new("abc").unwrap())
}

const BEARER: &str = "bearer sk-test";
const RAW: &str = "sk-test";

#[tokio::test]
async fn polls_find_the_auth_style_that_works_and_queries_have_the_one_they_name() {
    let (adapter, account, heads) = stand_in(accepting(&[RAW])).await;
    let GptProto { exchange, .. } = &adapter;
    exchange.poll(&account, exchange.at("/poll"), read).await.unwrap();
    assert_eq!(keys(&heads), [BEARER, RAW]);
    exchange.poll(&account, exchange.at("/poll"), read).await.unwrap();
    assert_eq!(keys(&heads), [RAW], "the style is remembered");

    let (adapter, account, heads) = stand_in(accepting(&[BEARER])).await;
    adapter.exchange.poll(&account, adapter.exchange.at("/poll"), read).await.unwrap();
    assert_eq!(keys(&heads), [BEARER]);
    for (style, status) in [(AuthStyle::Bearer, 200), (AuthStyle::Raw, 401)] {
        assert_eq!(adapter.query(&account, style, "/v1/models", None).await.unwrap().status, status);
    }
    assert_eq!(keys(&heads), [BEARER, RAW]);

    let (adapter, account, heads) = stand_in(accepting(&[])).await;
    let GptProto { exchange, .. } = &adapter;
    for _ in 0..2 {
        exchange.poll(&account, exchange.at("/poll"), read).await.unwrap_err();
        assert_eq!(keys(&heads), [BEARER, RAW], "each style once, and nothing is learned");
    }
}

#[tokio::test]
async fn a_submit_has_the_auth_style_of_its_format_and_polls_follow_it() {
    let (adapter, account, heads) = stand_in(accepting(&[RAW])).await;
    submit(&adapter, &account, InputMethod::Base64Images, AuthStyle::Bearer).await.unwrap_err();
    assert_eq!(keys(&heads), [BEARER], "a refused submit is not repeated here");
    submit(&adapter, &account, InputMethod::Base64Images, AuthStyle::Raw).await.unwrap();
    assert_eq!(keys(&heads), [RAW]);
    adapter.exchange.poll(&account, adapter.exchange.at("/poll"), read).await.unwrap();
    assert_eq!(keys(&heads), [RAW]);
}

const BROKEN: &[u8] = b"HTTP/1.1 404 Not Found\r\ncontent-length: 100\r\n\r\n<html>";

/// Submits in the documented format to a stand-in that answers with these bytes.
async fn submit_to(answer: Vec<u8>, method: InputMethod) -> Result<Submitted, SubmitError> {
    let (adapter, account, _) = stand_in(move |_| answer.clone()).await;
    submit(&adapter, &account, method, AuthStyle::Bearer).await
}

#[tokio::test]
async fn the_meaning_of_an_answer_is_that_of_its_head_and_its_whole_body() {
    let page = "HTTP/1.1 403 Forbidden\r\ncf-mitigated: challenge\r\ncontent-length: 6\r\n\r\n<html>";
    let edge = submit_to(page.into(), InputMethod::Base64Images).await;
    assert!(matches!(edge, Err(SubmitError::Rejected(Failure::EdgeRefused { code: None, .. }))), "{edge:?}");
    let id = answer("500 Internal Server Error", "application/json", r#"{"code":500,"data":{"id":"abc"}}"#);
    let accepted = submit_to(id, InputMethod::Base64Images).await;
    assert!(matches!(accepted, Ok(Submitted::Accepted(_))), "{accepted:?}");
    let broken = submit_to(BROKEN.to_vec(), InputMethod::Base64Images).await;
    assert!(matches!(broken, Err(SubmitError::Unknown { .. })), "{broken:?}");
    let named = answer("400 Bad Request", "application/json", r#"{"error":"Unknown parameter: 'quality'"}"#);
    let refused = submit_to(named, InputMethod::Base64Images).await;
    let Err(SubmitError::FormatRefused { refusal, .. }) = refused else { panic!("{refused:?}") };
    assert_eq!(refusal, FormatRefusal::Field("quality".to_owned()));
}

#[tokio::test]
async fn an_id_of_the_openai_format_api_is_followed_at_the_prediction_api() {
    let id = answer("504 Gateway Timeout", "application/json", r#"{"error":"late","data":{"id":"abc"}}"#);
    let accepted = submit_to(id, InputMethod::Multipart).await;
    let Ok(Submitted::Accepted(handle)) = accepted else { panic!("{accepted:?}") };
    assert_eq!((handle.id.as_str(), handle.api_kind), ("abc", ApiKind::Prediction));
}

#[tokio::test]
async fn addresses_stay_insecure_for_an_upstream_on_this_machine_only() {
    let done = r#"{"data":{"id":"abc","status":"done","outputs":["http://x.example/1.png"]}}"#;
    let (mut adapter, account, _) = stand_in(move |_| answer("200 OK", "application/json", done)).await;
    for (loopback, expected) in [(true, "http://x.example/1.png"), (false, "https://x.example/1.png")] {
        adapter.exchange.loopback = loopback;
        let polled = adapter.exchange.poll(&account, adapter.exchange.at("/poll"), read).await;
        let Ok(Polled::Finished(finished)) = polled else { panic!("{polled:?}") };
        assert_eq!(finished.outputs, [Output::Url(expected.to_owned())]);
        let submitted = submit(&adapter, &account, InputMethod::Base64Images, AuthStyle::Bearer).await;
        let Ok(Submitted::Finished { finished, .. }) = submitted else { panic!("{submitted:?}") };
        assert_eq!(finished.outputs, [Output::Url(expected.to_owned())]);
    }
}

#[tokio::test]
async fn a_poll_that_fails_at_http_level_still_says_how_the_task_ended() {
    let failed = r#"{"code":400,"data":{"id":"abc","status":"failed","error":"boom"}}"#;
    let (adapter, account, _) = stand_in(move |_| answer("400 Bad Request", "application/json", failed)).await;
    let polled = adapter.exchange.poll(&account, adapter.exchange.at("/poll"), read).await;
    assert_eq!(polled, Ok(Polled::Failed(Failure::TaskFailed { message: "boom".to_owned() })));
}
