//! Exchanges with a stand-in for the upstream, on this machine.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::config::{Config, Environment};
use crate::upstream::Submitted;
use crate::upstream::formats::{InputMethod, RequestFormat, SubmitFormat};
use crate::upstream::gptproto::GptProto;
use crate::upstream::gptproto::tests::request;

/// The heads of the requests that a stand-in has received.
type Heads = Arc<Mutex<Vec<String>>>;

/// Starts a stand-in that answers each request with the bytes that `answer` returns for its head, and then closes the
/// connection, or leaves it open until the gateway closes it. Returns an adapter for it.
async fn stand_in(closes: bool, answer: impl Fn(&str) -> Vec<u8> + Send + 'static) -> (GptProto, AccountId, Heads) {
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
            while !closes && connection.read_u8().await.is_ok() {}
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

const BEARER: &str = "bearer sk-test";
const RAW: &str = "sk-test";

#[tokio::test]
async fn polls_and_key_checks_find_the_auth_style_that_works() {
    let (adapter, account, heads) = stand_in(true, accepting(&[RAW])).await;
    let GptProto { exchange, .. } = &adapter;
    assert!(matches!(exchange.check_key(&account).await, KeyCheck::Good { .. }));
    assert_eq!(keys(&heads), [BEARER, RAW]);
    exchange.poll(&account, exchange.at("/poll")).await.unwrap();
    assert_eq!(keys(&heads), [RAW], "the style is remembered");

    let (adapter, account, heads) = stand_in(true, accepting(&[BEARER])).await;
    assert!(matches!(adapter.exchange.check_key(&account).await, KeyCheck::Good { .. }));
    assert_eq!(keys(&heads), [BEARER]);

    let (adapter, account, heads) = stand_in(true, accepting(&[])).await;
    let GptProto { exchange, .. } = &adapter;
    assert_eq!(exchange.check_key(&account).await, KeyCheck::Refused("Invalid signature".to_owned()));
    exchange.poll(&account, exchange.at("/poll")).await.unwrap_err();
    assert_eq!(keys(&heads), [BEARER, RAW, BEARER, RAW], "each style once, and nothing is learned");
}

#[tokio::test]
async fn a_submit_has_the_auth_style_of_its_format_and_polls_follow_it() {
    let (adapter, account, heads) = stand_in(true, accepting(&[RAW])).await;
    submit(&adapter, &account, InputMethod::Base64Images, AuthStyle::Bearer).await.unwrap_err();
    assert_eq!(keys(&heads), [BEARER], "a refused submit is not repeated here");
    submit(&adapter, &account, InputMethod::Base64Images, AuthStyle::Raw).await.unwrap();
    assert_eq!(keys(&heads), [RAW]);
    adapter.exchange.poll(&account, adapter.exchange.at("/poll")).await.unwrap();
    assert_eq!(keys(&heads), [RAW]);
}

const PNG: &[u8] = b"\x89PNG\r\n\x1a\n and the rest of a picture";

/// Returns a streamed answer with one partial picture, and the length that a connection must carry for the whole picture.
fn streamed() -> (Vec<u8>, usize) {
    let picture = base64_simd::STANDARD.encode_to_string(PNG);
    let event = |name: &str| format!("event: {name}\ndata: {{\"type\":\"{name}\",\"b64_json\":\"{picture}\"}}\n\n");
    let body = event("image_edit.partial_image") + &event("image_edit.completed");
    let answer = answer("200 OK", "text/event-stream", &body);
    let needed = answer.len() - "\n\n".len();
    (answer, needed)
}

async fn stream(answer: Vec<u8>, closes: bool) -> Result<Submitted, SubmitError> {
    let (adapter, account, _) = stand_in(closes, move |_| answer.clone()).await;
    submit(&adapter, &account, InputMethod::MultipartStream, AuthStyle::Bearer).await
}

fn is_picture(result: &Result<Submitted, SubmitError>) -> bool {
    let picture = Output::Bytes(Bytes::from_static(PNG));
    matches!(result, Ok(Submitted::Finished { handle: None, finished }) if finished.outputs == [picture])
}

#[tokio::test]
async fn a_streamed_answer_that_is_cut_at_any_byte_is_unknown_or_has_the_whole_picture() {
    let (answer, needed) = streamed();
    let (length, next) = (answer.len(), AtomicUsize::new(0));
    let (adapter, account, _) = stand_in(true, move |_| answer[..next.fetch_add(1, Ordering::Relaxed)].to_vec()).await;
    for cut in 0..=length {
        let result = submit(&adapter, &account, InputMethod::MultipartStream, AuthStyle::Bearer).await;
        if cut < needed {
            assert!(matches!(result, Err(SubmitError::Unknown { .. })), "cut at {cut}: {result:?}");
        } else {
            assert!(is_picture(&result), "cut at {cut}: {result:?}");
        }
    }
}

#[tokio::test]
async fn a_streamed_answer_is_not_awaited_beyond_its_last_picture() {
    let (answer, _) = streamed();
    let unfinished = String::from_utf8(answer).unwrap().replace("content-length: ", "content-length: 1");
    let result = tokio::time::timeout(Duration::from_secs(20), stream(unfinished.into_bytes(), false)).await;
    assert!(is_picture(&result.unwrap()));
}

#[tokio::test]
async fn a_streamed_call_may_be_answered_with_plain_json_or_refused() {
    let picture = base64_simd::STANDARD.encode_to_string(PNG);
    let plain = format!("{{\"created\":1,\"data\":[{{\"b64_json\":\"{picture}\"}}]}}");
    let result = stream(answer("200 OK", "application/json", &plain), true).await;
    assert!(is_picture(&result), "{result:?}");
    let refusal = "event: error\ndata: {\"type\":\"error\",\"error\":{\"code\":429,\"message\":\"slow\"}}\n\n";
    for answer in [
        answer("200 OK", "text/event-stream", refusal),
        answer("429 Too Many Requests", "application/json", "{\"error\":{\"message\":\"slow\"}}"),
    ] {
        let result = stream(answer, true).await;
        assert!(matches!(result, Err(SubmitError::Refused { .. })), "{result:?}");
    }
}
