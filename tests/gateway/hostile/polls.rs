//! Answers to polls of a purchase that was accepted. Twice, where nothing else is said; then the upstream is honest.

use super::answer::Body::{Binary, Empty, Html, Json, Made, Service};
use super::answer::Outcome::{Delivered, Failed, Lost, TimedOut};
use super::answer::Shape::{
    BareNewlines, Chunked, ChunkedCut, ChunkedInvalid, ClosedBeforeHead, Continued, ContinuedAlways, Cut, Dripped,
    Encoded, Endless, HeadCut, Headers, Hinted, LengthHuge, LengthLong, LengthNegative, LengthShort, LengthTwo,
    LongHeader, Reset, ResetBeforeHead, SilentBody, SilentHead, Trickled, UntilClose, Whole, WithAnother,
};
use super::answer::{Body, Kind, Outcome, Phase, Places, Row, Shape, row};
use super::submits::many_values;

/// The documented answer of a purchase that is done.
pub(super) const DONE: Body =
    Service(r#"{"code":200,"message":"success","data":{"id":"{id}","status":"completed","outputs":["{url}"]}}"#);
/// The documented answer of one that works.
pub(super) const WORKING: Body =
    Service(r#"{"code":200,"message":"success","data":{"id":"{id}","status":"processing","outputs":[]}}"#);
/// It is done and shows nothing.
const HOLLOW: Body =
    Service(r#"{"code":200,"message":"success","data":{"id":"{id}","status":"completed","outputs":[]}}"#);
const PAGE: Body = Html("<html><body>Just a moment...</body></html>");

fn poll(name: &str, status: &'static str, body: Body, shape: Shape, wanted: &[Outcome]) -> Row {
    row(&format!("poll-{name}"), Phase::Poll, status, body, shape, wanted)
}

/// An answer with these outputs, twice.
fn outputs(name: &str, body: &'static str) -> Row {
    poll(&format!("output-{name}"), "200 OK", Service(body), Whole, &[Delivered])
}

#[rustfmt::skip]
#[expect(clippy::too_many_lines, reason = "a table")]
pub(super) fn rows() -> Vec<Row> {
    vec![
        poll("documented", "200 OK", DONE, Whole, &[Delivered]),
        poll("until-close", "200 OK", DONE, UntilClose, &[Delivered]),
        poll("chunked", "200 OK", DONE, Chunked, &[Delivered]),
        poll("chunked-cut", "200 OK", DONE, ChunkedCut, &[Delivered]),
        poll("chunked-invalid", "200 OK", DONE, ChunkedInvalid, &[Delivered]),
        poll("cut", "200 OK", DONE, Cut(60), &[Delivered]),
        poll("head-cut", "200 OK", DONE, HeadCut, &[Delivered]),
        poll("length-short", "200 OK", DONE, LengthShort(4), &[Delivered]),
        poll("length-long", "200 OK", DONE, LengthLong(4), &[Delivered]),
        poll("length-two", "200 OK", DONE, LengthTwo, &[Delivered]),
        poll("length-negative", "200 OK", DONE, LengthNegative, &[Delivered]),
        poll("length-huge", "200 OK", DONE, LengthHuge, &[Delivered]),
        poll("silent-head", "200 OK", DONE, SilentHead, &[Delivered]),
        poll("silent-body", "200 OK", DONE, SilentBody, &[Delivered]),
        poll("trickled", "200 OK", DONE, Trickled, &[Delivered]),
        poll("dripped", "200 OK", DONE, Dripped, &[Delivered]).times(1),
        poll("endless", "200 OK", DONE, Endless, &[Delivered]).times(1),
        poll("continued-always", "200 OK", DONE, ContinuedAlways, &[Delivered]).times(1),
        poll("reset", "200 OK", DONE, Reset, &[Delivered]),
        poll("reset-before-head", "200 OK", DONE, ResetBeforeHead, &[Delivered]),
        poll("closed-before-head", "200 OK", DONE, ClosedBeforeHead, &[Delivered]),
        poll("two-answers", "200 OK", WORKING, WithAnother, &[Delivered]).times(5),
        poll("300-headers", "200 OK", DONE, Headers(300), &[Delivered]),
        poll("header-of-2-mb", "200 OK", DONE, LongHeader(2_000_000), &[Delivered]),
        poll("bare-newlines", "200 OK", DONE, BareNewlines, &[Delivered]),
        poll("gzip-claimed", "200 OK", DONE, Encoded("gzip"), &[Delivered]),
        poll("continued-1000-times", "200 OK", DONE, Continued(1000), &[Delivered]),
        poll("hinted", "200 OK", DONE, Hinted, &[Delivered]),
        poll("status-101", "101 Switching Protocols", Empty, UntilClose, &[Delivered]).head("upgrade: h2c\r\nconnection: upgrade\r\n"),
        poll("status-in-words", "done", DONE, Whole, &[Delivered]),
        poll("status-099", "099 Low", DONE, Whole, &[Delivered]),
        poll("status-999", "999 High", WORKING, Whole, &[Delivered]),
        // Trouble is no end.
        poll("200-page", "200 OK", PAGE, Whole, &[Delivered]),
        poll("200-empty", "200 OK", Empty, Whole, &[Delivered]),
        poll("200-binary", "200 OK", Binary(b"\x89PNG\r\n"), Whole, &[Delivered]),
        poll("200-picture", "200 OK", Made(Kind::Picture, |places| places.picture.clone()), Whole, &[Delivered]),
        poll("200-damaged-picture", "200 OK", Made(Kind::Damaged, |places| places.picture[9..].to_vec()), Whole, &[Delivered]),
        poll("200-null", "200 OK", Json("null"), Whole, &[Delivered]),
        poll("302-elsewhere", "302 Found", Empty, Whole, &[Delivered]).head("location: {elsewhere}/api/v3/predictions/{id}/result\r\n"),
        poll("302-metadata", "302 Found", Empty, Whole, &[Delivered]).head("location: http://169.254.169.254/latest/\r\n"),
        poll("404-no-such-task", "404 Not Found", Service(r#"{"error":{"message":"task not found","type":"404"}}"#), Whole, &[Delivered]),
        poll("410-page", "410 Gone", PAGE, Whole, &[Delivered]),
        poll("401-key", "401 Unauthorized", Service(r#"{"error":{"message":"Invalid signature","type":"401"}}"#), Whole, &[Delivered]).times(4),
        poll("403-balance", "403 Forbidden", Service(r#"{"error":{"message":"Insufficient balance"}}"#), Whole, &[Delivered]).times(4),
        poll("429", "429 Too Many Requests", Service(r#"{"error":{"message":"Too many requests"}}"#), Whole, &[Delivered]).alone(),
        poll("429-retry-after-a-long-time", "429 Too Many Requests", Empty, Whole, &[Delivered]).head("retry-after: 99999999999\r\n").times(1).alone(),
        poll("500-json", "500 Internal Server Error", Service(r#"{"code":500,"message":"boom"}"#), Whole, &[Delivered]),
        poll("500-hollow", "500 Internal Server Error", HOLLOW, Whole, &[Delivered]).times(10),
        poll("503-policy", "503 Service Unavailable", Service(r#"{"error":{"message":"may not meet the guidelines"}}"#), Whole, &[Delivered]),
        poll("524-page", "524 A Timeout Occurred", PAGE, Whole, &[Delivered]),
        poll("200-error-inside", "200 OK", Service(r#"{"code":500,"message":"busy"}"#), Whole, &[Delivered]),
        poll("200-status-error", "200 OK", Service(r#"{"status":"error","message":"busy","code":500}"#), Whole, &[Delivered]),
        // Another purchase.
        poll("of-another", "200 OK", Service(r#"{"data":{"id":"{other}","status":"completed","outputs":["{other_url}"]}}"#), Whole, &[Delivered]),
        poll("of-another-always", "200 OK", Service(r#"{"data":{"id":"{other}","status":"completed","outputs":["{other_url}"]}}"#), Whole, &[TimedOut]).always(),
        poll("of-another-failed", "200 OK", Service(r#"{"data":{"id":"{other}","status":"failed","error":"no"}}"#), Whole, &[Delivered]),
        poll("of-nothing", "200 OK", Service(r#"{"data":{"id":"","status":"processing"}}"#), Whole, &[Delivered]),
        poll("without-an-id", "200 OK", Service(r#"{"data":{"status":"completed","outputs":["{url}"]}}"#), Whole, &[Delivered]),
        // Status words.
        poll("status-word-unknown", "200 OK", Service(r#"{"data":{"id":"{id}","status":"teleporting"}}"#), Whole, &[Delivered]),
        poll("status-word-capital", "200 OK", Service(r#"{"data":{"id":"{id}","status":" COMPLETED ","outputs":["{url}"]}}"#), Whole, &[Delivered]),
        poll("status-word-number", "200 OK", Service(r#"{"data":{"id":"{id}","status":3}}"#), Whole, &[Delivered]),
        poll("status-missing", "200 OK", Service(r#"{"data":{"id":"{id}"}}"#), Whole, &[Delivered]),
        poll("failed", "200 OK", Service(r#"{"data":{"id":"{id}","status":"failed","error":"boom"}}"#), Whole, &[Failed]),
        poll("failed-echoes-the-key", "200 OK", Service(r#"{"data":{"id":"{id}","status":"failed","error":"your key {key} and\r\n\u001b[31mred"}}"#), Whole, &[Failed]),
        poll("failed-with-an-object", "500 Internal Server Error", Service(r#"{"data":{"id":"{id}","status":"failed","error":{"message":"boom"}}}"#), Whole, &[Failed]),
        poll("failed-for-its-content", "200 OK", Service(r#"{"data":{"id":"{id}","status":"failed","error":"content policy violation"}}"#), Whole, &[Failed]),
        poll("refused-for-its-content", "400 Bad Request", Service(r#"{"error":{"message":"Input may not meet the guidelines"}}"#), Whole, &[Failed]).always(),
        poll("working-always", "200 OK", WORKING, Whole, &[TimedOut]).always(),
        poll("page-always", "200 OK", PAGE, Whole, &[TimedOut]).always(),
        poll("reset-always", "200 OK", DONE, ResetBeforeHead, &[TimedOut]).always(),
        poll("trickled-slowly-always", "200 OK", DONE, Cut(90), &[TimedOut]).always(),
        // Outputs.
        poll("hollow-three-times", "200 OK", HOLLOW, Whole, &[Delivered]).times(3),
        poll("hollow-30-times", "200 OK", HOLLOW, Whole, &[Delivered]).times(30),
        poll("hollow-always", "200 OK", HOLLOW, Whole, &[Lost, TimedOut]).always(),
        poll("40-outputs", "200 OK", Made(Kind::Service, forty_outputs), Whole, &[Delivered]),
        poll("40-outputs-and-more-of-another", "200 OK", Made(Kind::Service, outputs_of_another), Whole, &[Delivered]),
        outputs("null", r#"{"data":{"id":"{id}","status":"completed","outputs":[null,{},[],7,""]}}"#),
        outputs("b64", r#"{"data":{"id":"{id}","status":"completed","outputs":["{b64}"]}}"#),
        outputs("data-uri", r#"{"data":{"id":"{id}","status":"completed","outputs":[{"b64_json":"data:image/webp;base64,{b64}"}]}}"#),
        outputs("b64-cut", r#"{"data":{"id":"{id}","status":"completed","outputs":["data:image/png;base64,iVBORw0KGgo="]}}"#),
        outputs("b64-of-a-page", r#"{"data":{"id":"{id}","status":"completed","outputs":["data:image/png;base64,PGh0bWw+"]}}"#),
        outputs("file", r#"{"data":{"id":"{id}","status":"completed","outputs":["file:///etc/passwd"]}}"#),
        outputs("javascript", r#"{"data":{"id":"{id}","status":"completed","outputs":["javascript:alert(1)"]}}"#),
        outputs("ftp", r#"{"data":{"id":"{id}","status":"completed","outputs":["ftp://127.0.0.1/x.png"]}}"#),
        outputs("no-host", r#"{"data":{"id":"{id}","status":"completed","outputs":["http://"]}}"#),
        outputs("credentials", r#"{"data":{"id":"{id}","status":"completed","outputs":["http://user:password@127.0.0.1:9/x.png"]}}"#),
        outputs("metadata", r#"{"data":{"id":"{id}","status":"completed","outputs":["http://169.254.169.254/latest/meta-data/"]}}"#),
        outputs("metadata-ipv6", r#"{"data":{"id":"{id}","status":"completed","outputs":["http://[fd00:ec2::254]/"]}}"#),
        outputs("metadata-as-a-number", r#"{"data":{"id":"{id}","status":"completed","outputs":["http://2852039166/"]}}"#),
        outputs("metadata-mapped", r#"{"data":{"id":"{id}","status":"completed","outputs":["http://[::ffff:169.254.169.254]/"]}}"#),
        outputs("private-address", r#"{"data":{"id":"{id}","status":"completed","outputs":["http://10.0.0.1/x.png"]}}"#),
        outputs("closed-port", r#"{"data":{"id":"{id}","status":"completed","outputs":["http://127.0.0.1:9/x.png"]}}"#),
        outputs("unknown-host", r#"{"data":{"id":"{id}","status":"completed","outputs":["http://no-such-host.invalid/x.png"]}}"#),
        outputs("outside-path", r#"{"data":{"id":"{id}","status":"completed","outputs":["/../../etc/passwd"]}}"#),
        outputs("elsewhere", r#"{"data":{"id":"{id}","status":"completed","outputs":["{elsewhere}/files/{id}.png"]}}"#),
        outputs("line-break", r#"{"data":{"id":"{id}","status":"completed","outputs":["http://127.0.0.1/x\r\nx-admin: 1"]}}"#),
        poll("output-of-10-kb", "200 OK", Made(Kind::Service, long_address), Whole, &[Delivered]),
        poll("output-file-always", "200 OK", Service(r#"{"data":{"id":"{id}","status":"completed","outputs":["file:///etc/passwd"]}}"#), Whole, &[Lost]).always(),
        poll("output-metadata-always", "200 OK", Service(r#"{"data":{"id":"{id}","status":"completed","outputs":["http://169.254.169.254/"]}}"#), Whole, &[Lost]).always(),
        poll("output-with-the-key-always", "200 OK", Service(r#"{"data":{"id":"{id}","status":"completed","outputs":["http://127.0.0.1:9/{key}.png"]}}"#), Whole, &[Lost]).always(),
        poll("output-protocol-relative", "200 OK", Service(r#"{"data":{"id":"{id}","status":"completed","outputs":["//169.254.169.254/x.png"]}}"#), Whole, &[Delivered]),
        poll("usage-nonsense", "200 OK", Service(r#"{"data":{"id":"{id}","status":"completed","outputs":["{url}"],"usage":{"input_tokens":-1,"output_tokens":1e300}}}"#), Whole, &[Delivered]),
        poll("usage-immense", "200 OK", Service(r#"{"data":{"id":"{id}","status":"completed","outputs":["{url}"],"usage":{"input_tokens":18446744073709551615,"output_tokens":18446744073709551615}}}"#), Whole, &[Delivered]),
        // Bodies.
        poll("bom", "200 OK", Made(Kind::Service, |places| { places.fill("\u{feff}{\"data\":{\"id\":\"{id}\",\"status\":\"processing\"}}").into_bytes() }), Whole, &[Delivered]),
        poll("double-keys", "200 OK", Service(r#"{"data":{"id":"{id}","id":"{other}","status":"completed","status":"failed","outputs":["{other_url}"]}}"#), Whole, &[Delivered]),
        poll("number-1e999", "200 OK", Service(r#"{"data":{"id":"{id}","status":"processing","x":1e999}}"#), Whole, &[Delivered]),
        poll("16-mb-of-values", "200 OK", Made(Kind::Json, many_values), Whole, &[Delivered]).times(1),
        poll("depth-bomb", "200 OK", Made(Kind::Json, |_| "[".repeat(500_000).into_bytes()), Whole, &[Delivered]),
        poll("wrong-charset", "200 OK", DONE, Whole, &[Delivered]).head("content-type: image/png; charset=utf-7\r\n"),
    ]
}

fn forty_outputs(places: &Places) -> Vec<u8> {
    let outputs = vec![format!("\"{}\"", places.url); 40].join(",");
    places.fill(&format!(r#"{{"data":{{"id":"{{id}}","status":"completed","outputs":[{outputs}]}}}}"#)).into_bytes()
}

fn outputs_of_another(places: &Places) -> Vec<u8> {
    let others = vec![format!("\"{}\"", places.other_url); 39].join(",");
    let text = format!(r#"{{"data":{{"id":"{{id}}","status":"completed","outputs":["{{url}}",{others}]}}}}"#);
    places.fill(&text).into_bytes()
}

fn long_address(places: &Places) -> Vec<u8> {
    let path = "x".repeat(10_000);
    let text =
        format!(r#"{{"data":{{"id":"{{id}}","status":"completed","outputs":["{{origin}}/files/{path}.png"]}}}}"#);
    places.fill(&text).into_bytes()
}
