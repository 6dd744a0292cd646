//! Exchanges with a stand-in for the upstream, on this machine.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
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
    #[expect(clippy::disallowed_methods, reason = "the stand-in is no task of the gateway")]
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

/// Reads an answer to a poll for the prediction of the stand-in.
fn read(body: &[u8]) -> PollAnswer {
    prediction::poll_answer(body, &UpstreamId::new("abc").unwrap())
}

const BEARER: &str = "bearer sk-test";
const RAW: &str = "sk-test";

#[tokio::test]
async fn polls_find_the_auth_style_that_works_and_queries_have_the_one_they_name() {
    let (adapter, account, heads) = stand_in(true, accepting(&[RAW])).await;
    let GptProto { exchange, .. } = &adapter;
    exchange.poll(&account, exchange.at("/poll"), read).await.unwrap();
    assert_eq!(keys(&heads), [BEARER, RAW]);
    exchange.poll(&account, exchange.at("/poll"), read).await.unwrap();
    assert_eq!(keys(&heads), [RAW], "the style is remembered");

    let forbidding = |head: &str| {
        let accepted = accepting(&[RAW])(head);
        if accepted.starts_with(b"HTTP/1.1 200") {
            return accepted;
        }
        answer("403 Forbidden", "application/json", "{\"error\":{\"message\":\"Invalid Token\"}}")
    };
    let (adapter, account, heads) = stand_in(true, forbidding).await;
    let exchange = &adapter.exchange;
    exchange.poll(&account, exchange.at("/poll"), read).await.expect("the pictures of a raw key after a restart");
    assert_eq!(keys(&heads), [BEARER, RAW]);

    let (adapter, account, heads) = stand_in(true, accepting(&[BEARER])).await;
    adapter.exchange.poll(&account, adapter.exchange.at("/poll"), read).await.unwrap();
    assert_eq!(keys(&heads), [BEARER]);
    for (style, status) in [(AuthStyle::Bearer, 200), (AuthStyle::Raw, 401)] {
        assert_eq!(adapter.query(&account, style, "/v1/models", None).await.unwrap().status, status);
    }
    assert_eq!(keys(&heads), [BEARER, RAW]);

    let (adapter, account, heads) = stand_in(true, accepting(&[])).await;
    let GptProto { exchange, .. } = &adapter;
    for _ in 0..2 {
        exchange.poll(&account, exchange.at("/poll"), read).await.unwrap_err();
        assert_eq!(keys(&heads), [BEARER, RAW], "each style once, and nothing is learned");
    }
}

#[tokio::test]
async fn a_submit_has_the_auth_style_of_its_format_and_polls_follow_it() {
    let (adapter, account, heads) = stand_in(true, accepting(&[RAW])).await;
    submit(&adapter, &account, InputMethod::Base64Images, AuthStyle::Bearer).await.unwrap_err();
    assert_eq!(keys(&heads), [BEARER], "a refused submit is not repeated here");
    submit(&adapter, &account, InputMethod::Base64Images, AuthStyle::Raw).await.unwrap();
    assert_eq!(keys(&heads), [RAW]);
    adapter.exchange.poll(&account, adapter.exchange.at("/poll"), read).await.unwrap();
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

const BROKEN: &[u8] = b"HTTP/1.1 404 Not Found\r\ncontent-length: 100\r\n\r\n<html>";

/// Submits in the documented format to a stand-in that answers with these bytes.
async fn submit_to(answer: Vec<u8>, method: InputMethod) -> Result<Submitted, SubmitError> {
    let (adapter, account, _) = stand_in(true, move |_| answer.clone()).await;
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
async fn a_poll_that_fails_at_http_level_still_says_how_the_task_ended() {
    let failed = r#"{"code":400,"data":{"id":"abc","status":"failed","error":"boom"}}"#;
    let (adapter, account, _) = stand_in(true, move |_| answer("400 Bad Request", "application/json", failed)).await;
    let polled = adapter.exchange.poll(&account, adapter.exchange.at("/poll"), read).await;
    assert_eq!(polled, Ok(Polled::Failed(Failure::TaskFailed { message: "boom".to_owned() })));
}

/// Resolves every name to a fake address, as a local proxy does.
struct FakeAddresses;

impl Resolve for FakeAddresses {
    fn resolve(&self, _name: Name) -> Resolving {
        let found = std::iter::once(SocketAddr::from(([198, 18, 0, 7], 0)));
        Box::pin(async move { Ok(Box::new(found) as Addrs) })
    }
}

fn exchange(variables: &[(&str, &str)]) -> Exchange {
    let key = [("GPTPROTO_API_KEY", "sk-test")];
    let variables = key.iter().chain(variables).map(|&(name, value)| (name.to_owned(), value.to_owned()));
    let config = Config::load(None, &variables.collect::<Environment>()).unwrap();
    let exchange = Exchange::new(&config.upstream, &config.accounts).unwrap();
    let clients = exchange.clients.resolving_with(&config.upstream, Arc::new(FakeAddresses));
    Exchange { clients, ..exchange }
}

#[tokio::test]
async fn nothing_is_bought_where_results_could_not_be_downloaded() {
    let call = Call {
        path: "/api/v3/openai/gpt-image-2/image-edit".to_owned(),
        auth: AuthStyle::Bearer,
        content_type: "application/json".to_owned(),
        body: StreamingBody::default().text("{}"),
        timeout: Duration::from_secs(1),
        answer_bytes_max: 1000,
        streamed: None,
    };
    let commit: Commit = Box::new(|| Box::pin(async { panic!("the submit was sent") }));
    let account = AccountId("default".into());
    let format = RequestFormat::documented(InputMethod::Base64Images);
    let format = SubmitFormat { format, accepted_before: true, may_change_auth: false };
    let reader = SubmitReader { read: |_| SubmitAnswer::Unusable, format: &format, fields: Vec::new() };
    let refused = exchange(&[]).submit(&account, call, commit, reader).await.unwrap_err();
    let SubmitError::Rejected(failure @ Failure::Unreachable { .. }) = &refused else { panic!("{refused:?}") };
    assert!(!failure.may_have_been_bought());
    for part in ["oss.gptproto.com resolves to 198.18.0.7", "a fake-IP address", "upstream.download_allow"] {
        assert!(format!("{failure:?}").contains(part), "{failure:?}");
    }
}

#[test]
fn every_path_is_below_the_prefix_and_no_slash_is_doubled() {
    for (base, prefix) in [
        ("https://gptproto.com", ""),
        ("https://gptproto.com/", ""),
        ("https://relay.example/api/gptproto", "/api/gptproto"),
        ("https://relay.example/api/gptproto/", "/api/gptproto"),
    ] {
        let exchange = exchange(&[("GATEWAY_UPSTREAM__BASE_URL", base)]);
        let origin = base.split('/').take(3).collect::<Vec<_>>().join("/");
        let at = |path: &str| exchange.at(path).to_string();
        assert_eq!(at("/v1/models"), format!("{origin}{prefix}/v1/models"));
        let result = "/api/v3/predictions/a%2Fb/result";
        assert_eq!(at(result), format!("{origin}{prefix}{result}"));

        let trusted = |given: &str| exchange.trusted(Some(given), "/api/v3/predictions/").is_some();
        assert!(trusted(&at(result)), "{base}");
        for given in [
            format!("{origin}{prefix}/api/v3/predictions"),
            format!("{origin}{prefix}/v1/models"),
            format!("{origin}{prefix}/api/v3/predictions/../../v1/models"),
            format!("{origin}/other/api/v3/predictions/x/result"),
            format!("https://collector.example{prefix}/api/v3/predictions/x/result"),
            format!("http{}{prefix}/api/v3/predictions/x/result", &origin[5..]),
            at(result).replace("://", "://user@"),
            result.to_owned(),
        ] {
            assert!(!trusted(&given), "{given}");
        }
        // Without the prefix it is not the service.
        assert_eq!(trusted(&format!("{origin}{result}")), prefix.is_empty());
    }
}
