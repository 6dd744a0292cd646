//! Answers to submits. Where nothing else is said, the upstream counts the submit as bought.

use super::answer::Body::{Binary, Empty, Html, Json, Made, Service};
use super::answer::Outcome::{Delivered, Failed, Refused, TimedOut, Unknown};
use super::answer::Shape::{
    BareNewlines, Chunked, ChunkedCut, ChunkedInvalid, ChunkedWithLength, ClosedBeforeHead, Continued, ContinuedAlways,
    Cut, Dripped, Early, EarlyReset, Encoded, Endless, HeadCut, Headers, Hinted, Http10, InvalidHeader, LengthHuge,
    LengthLong, LengthNegative, LengthShort, LengthTwo, LongHeader, Reset, ResetBeforeHead, SilentBody, SilentHead,
    Trickled, UntilClose, Whole, WithAnother,
};
use super::answer::{Body, Kind, Outcome, Phase, Places, Row, Shape, row};

/// The documented answer.
pub(super) const ACCEPTED: Body = Service(
    r#"{"code":200,"message":"success","data":{"id":"{id}","status":"created","outputs":[],"urls":{"get":"{origin}/api/v3/predictions/{id}/result"}}}"#,
);
const PAGE: Body =
    Html("<!DOCTYPE html><html><head><title>Oops</title></head><body><h1>Something went wrong</h1></body></html>");
const EDGE_PAGE: Body = Html(
    "<html><head><title>Access denied</title></head><body>error code: 1010. The owner of this website used Cloudflare to restrict access.</body></html>",
);

fn submit(name: &str, status: &'static str, body: Body, shape: Shape, wanted: &[Outcome]) -> Row {
    row(&format!("submit-{name}"), Phase::Submit, status, body, shape, wanted)
}

#[rustfmt::skip]
#[expect(clippy::too_many_lines, reason = "a table")]
pub(super) fn rows() -> Vec<Row> {
    vec![
        // Shapes of the documented answer.
        submit("documented", "200 OK", ACCEPTED, Whole, &[Delivered]),
        submit("until-close", "200 OK", ACCEPTED, UntilClose, &[Delivered]),
        submit("http10", "200 OK", ACCEPTED, Http10, &[Delivered]),
        submit("chunked", "200 OK", ACCEPTED, Chunked, &[Delivered]),
        submit("chunked-cut", "200 OK", ACCEPTED, ChunkedCut, &[Unknown]),
        submit("chunked-invalid", "200 OK", ACCEPTED, ChunkedInvalid, &[Unknown]),
        submit("chunked-with-length", "200 OK", ACCEPTED, ChunkedWithLength, &[Delivered, Unknown]),
        submit("cut-at-0", "200 OK", ACCEPTED, Cut(0), &[Unknown]),
        submit("cut-at-1", "200 OK", ACCEPTED, Cut(1), &[Unknown]),
        submit("cut-at-50", "200 OK", ACCEPTED, Cut(50), &[Unknown]),
        submit("cut-at-99", "200 OK", ACCEPTED, Cut(99), &[Unknown]),
        submit("head-cut", "200 OK", ACCEPTED, HeadCut, &[Unknown]),
        submit("length-short", "200 OK", ACCEPTED, LengthShort(9), &[Unknown]),
        submit("length-long", "200 OK", ACCEPTED, LengthLong(9), &[Unknown]),
        submit("length-two", "200 OK", ACCEPTED, LengthTwo, &[Unknown]),
        submit("length-negative", "200 OK", ACCEPTED, LengthNegative, &[Unknown]),
        submit("length-huge", "200 OK", ACCEPTED, LengthHuge, &[Unknown]),
        submit("silent-head", "200 OK", ACCEPTED, SilentHead, &[Unknown]),
        submit("silent-body", "200 OK", ACCEPTED, SilentBody, &[Unknown]),
        submit("trickled", "200 OK", ACCEPTED, Trickled, &[Delivered]),
        submit("dripped", "200 OK", ACCEPTED, Dripped, &[Unknown]),
        submit("endless", "200 OK", ACCEPTED, Endless, &[Unknown]),
        submit("reset", "200 OK", ACCEPTED, Reset, &[Unknown]),
        submit("reset-before-head", "200 OK", ACCEPTED, ResetBeforeHead, &[Unknown]),
        submit("closed-before-head", "200 OK", ACCEPTED, ClosedBeforeHead, &[Unknown]),
        submit("two-answers", "200 OK", ACCEPTED, WithAnother, &[Delivered]),
        submit("300-headers", "200 OK", ACCEPTED, Headers(300), &[Delivered, Unknown]),
        submit("90-headers", "200 OK", ACCEPTED, Headers(90), &[Delivered]),
        submit("header-of-2-mb", "200 OK", ACCEPTED, LongHeader(2_000_000), &[Delivered, Unknown]),
        submit("header-folded", "200 OK", ACCEPTED, InvalidHeader("x-a: b\r\n  c"), &[Delivered, Unknown]),
        submit("header-with-nul", "200 OK", ACCEPTED, InvalidHeader("x-a: \0"), &[Delivered, Unknown]),
        submit("header-with-space", "200 OK", ACCEPTED, InvalidHeader("x-a : b"), &[Delivered, Unknown]),
        submit("header-without-colon", "200 OK", ACCEPTED, InvalidHeader("nonsense"), &[Delivered, Unknown]),
        submit("bare-newlines", "200 OK", ACCEPTED, BareNewlines, &[Delivered, Unknown]),
        submit("gzip-claimed", "200 OK", ACCEPTED, Encoded("gzip"), &[Delivered, Unknown]),
        submit("early-with-an-id", "200 OK", ACCEPTED, Early, &[Delivered, Unknown]).free().upload(400_000),
        submit("early-refusal", "413 Payload Too Large", Empty, Early, &[Refused, Unknown]).free().upload(400_000),
        submit("early-error", "500 Internal Server Error", PAGE, Early, &[Refused, Unknown]).free().upload(400_000),
        submit("early-and-reset", "502 Bad Gateway", PAGE, EarlyReset, &[Refused, Unknown]).free().upload(400_000),
        submit("early-before-the-last-byte", "500 Internal Server Error", PAGE, Early, &[Refused, Unknown]).free(),
        submit("continued-1000-times", "200 OK", ACCEPTED, Continued(1000), &[Delivered, Unknown]),
        submit("continued-always", "200 OK", ACCEPTED, ContinuedAlways, &[Unknown]),
        submit("hinted", "200 OK", ACCEPTED, Hinted, &[Delivered]),
        // Status lines.
        submit("status-100-alone", "100 Continue", Empty, UntilClose, &[Unknown]),
        submit("status-101", "101 Switching Protocols", Binary(b"\0\x01\x02"), UntilClose, &[Unknown]).head("upgrade: websocket\r\nconnection: upgrade\r\n"),
        submit("status-099", "099 Low", ACCEPTED, Whole, &[Delivered, Unknown]),
        submit("status-999", "999 High", ACCEPTED, Whole, &[Delivered, Unknown]),
        submit("status-in-words", "fine", ACCEPTED, Whole, &[Unknown]),
        submit("status-of-4-digits", "2000 OK", ACCEPTED, Whole, &[Unknown]),
        submit("status-negative", "-200 OK", ACCEPTED, Whole, &[Unknown]),
        submit("status-201", "201 Created", ACCEPTED, Whole, &[Delivered]),
        submit("status-204", "204 No Content", Empty, Whole, &[Unknown]),
        submit("status-206", "206 Partial Content", ACCEPTED, Whole, &[Delivered, Unknown]),
        submit("status-301", "301 Moved Permanently", Empty, Whole, &[Refused]).free().fresh().head("location: {elsewhere}/api/v3/openai/x\r\n"),
        submit("status-302-after-a-purchase", "302 Found", PAGE, Whole, &[Unknown]).head("location: {elsewhere}/tasks/{id}\r\n"),
        submit("status-303", "303 See Other", Empty, Whole, &[Unknown]).head("location: {elsewhere}/files/{id}.png\r\n"),
        submit("status-307", "307 Temporary Redirect", Empty, Whole, &[Refused]).free().fresh().head("location: {elsewhere}/api/v3/openai/x\r\n"),
        submit("status-308-metadata", "308 Permanent Redirect", Empty, Whole, &[Unknown]).head("location: http://169.254.169.254/latest/meta-data/\r\n"),
        submit("status-304", "304 Not Modified", Empty, Whole, &[Unknown]),
        // An id beside a code that is no success.
        submit("id-beside-429", "200 OK", Service(r#"{"code":429,"message":"too many requests","data":{"id":"{id}"}}"#), Whole, &[Delivered]),
        submit("id-with-400", "400 Bad Request", Service(r#"{"code":400,"message":"bad","data":{"id":"{id}","status":"created"}}"#), Whole, &[Delivered]),
        submit("id-with-401", "401 Unauthorized", Service(r#"{"error":{"message":"token expired"},"data":{"id":"{id}"}}"#), Whole, &[Delivered]),
        submit("id-with-403", "403 Forbidden", Service(r#"{"error":{"message":"insufficient balance"},"id":"{id}"}"#), Whole, &[Delivered]),
        submit("id-with-404", "404 Not Found", Service(r#"{"error":{"message":"no such model","task_id":"{id}"}}"#), Whole, &[Delivered]),
        submit("id-with-429", "429 Too Many Requests", Service(r#"{"error":{"message":"slow down"},"taskId":"{id}"}"#), Whole, &[Delivered]),
        submit("id-with-500", "500 Internal Server Error", Service(r#"{"code":500,"message":"boom","data":{"id":"{id}"}}"#), Whole, &[Delivered]),
        submit("id-with-503", "503 Service Unavailable", Service(r#"{"code":503,"message":"no available channel","data":{"prediction_id":"{id}"}}"#), Whole, &[Delivered]),
        submit("id-with-302", "302 Found", Service(r#"{"id":"{id}"}"#), Whole, &[Delivered]).head("location: {elsewhere}/\r\n"),
        submit("id-with-a-policy-text", "400 Bad Request", Service(r#"{"error":{"message":"content policy violation"},"data":{"id":"{id}"}}"#), Whole, &[Delivered, Failed]),
        submit("id-deep-inside", "200 OK", Json(r#"{"a":{"b":[null,{"c":{"task_id":"{id}"}}]},"error":null}"#), Whole, &[Delivered]),
        submit("id-deep-inside-an-error", "500 Internal Server Error", Json(r#"{"errors":[{"meta":{"predictionId":"{id}"}}]}"#), Whole, &[Delivered]),
        submit("id-in-an-array", "200 OK", Json(r#"[{"id":"{id}"}]"#), Whole, &[Delivered]),
        submit("id-only-in-urls", "200 OK", Service(r#"{"data":{"urls":{"get":"{origin}/api/v3/predictions/{id}/result"}}}"#), Whole, &[Delivered]),
        submit("id-only-in-a-foreign-url", "200 OK", Service(r#"{"data":{"urls":{"get":"{elsewhere}/api/v3/predictions/{id}/result"}}}"#), Whole, &[Delivered, Unknown]),
        submit("foreign-poll-address", "200 OK", Service(r#"{"data":{"id":"{id}","urls":{"get":"{elsewhere}/api/v3/predictions/{id}/result"}}}"#), Whole, &[Delivered]),
        submit("poll-address-with-credentials", "200 OK", Service(r#"{"data":{"id":"{id}","urls":{"get":"http://u:p@127.0.0.1/api/v3/predictions/{id}/result"}}}"#), Whole, &[Delivered]),
        submit("poll-address-of-another", "200 OK", Service(r#"{"data":{"id":"{id}","urls":{"get":"{origin}/api/v3/predictions/{other}/result"}}}"#), Whole, &[TimedOut, Delivered]),
        submit("poll-address-outside", "200 OK", Service(r#"{"data":{"id":"{id}","urls":{"get":"{origin}/api/v3/predictions/../../../admin"}}}"#), Whole, &[Delivered]),
        submit("poll-address-javascript", "200 OK", Service(r#"{"data":{"id":"{id}","urls":{"get":"javascript:alert(1)"}}}"#), Whole, &[Delivered]),
        // Ids.
        submit("id-dots", "200 OK", Service(r#"{"data":{"id":".."}}"#), Whole, &[Unknown]),
        submit("id-dot", "200 OK", Service(r#"{"data":{"id":"."}}"#), Whole, &[Unknown]),
        submit("id-slash", "200 OK", Service(r#"{"data":{"id":"a/../../admin"}}"#), Whole, &[Unknown]),
        submit("id-escaped-slash", "200 OK", Service(r#"{"data":{"id":"..%2f..%2fadmin"}}"#), Whole, &[Unknown]),
        submit("id-backslash", "200 OK", Service(r#"{"data":{"id":"..\\admin"}}"#), Whole, &[Unknown]),
        submit("id-query", "200 OK", Service(r#"{"data":{"id":"x?admin=1#"}}"#), Whole, &[Unknown]),
        submit("id-of-10-kb", "200 OK", Made(Kind::Service, id_of_10_kb), Whole, &[Unknown]),
        submit("id-control-characters", "200 OK", Service("{\"data\":{\"id\":\"x\\r\\nx-admin: 1\\u0000\"}}"), Whole, &[Unknown]),
        submit("id-not-ascii", "200 OK", Service(r#"{"data":{"id":"попытка"}}"#), Whole, &[Unknown]),
        submit("id-empty", "200 OK", Service(r#"{"data":{"id":""}}"#), Whole, &[Unknown]),
        submit("id-zero", "200 OK", Service(r#"{"data":{"id":0}}"#), Whole, &[Unknown]),
        submit("id-null", "200 OK", Service(r#"{"code":200,"message":"success","data":{"id":null,"status":"created"}}"#), Whole, &[Unknown]),
        submit("id-an-object", "200 OK", Service(r#"{"data":{"id":{"id":"{id}"}}}"#), Whole, &[Delivered, Unknown]),
        submit("id-a-number", "200 OK", Service(r#"{"data":{"id":{id}}}"#), Whole, &[Delivered]).id("1700{number}"),
        submit("id-a-long-number", "200 OK", Service(r#"{"data":{"id":123456789012345678901234567890}}"#), Whole, &[Unknown]),
        submit("id-a-fraction", "200 OK", Service(r#"{"data":{"id":1.5}}"#), Whole, &[Unknown]),
        submit("id-the-key", "200 OK", Service(r#"{"data":{"id":"{key}"}}"#), Whole, &[Unknown]),
        submit("poll-address-with-the-key", "200 OK", Service(r#"{"data":{"id":"{id}","urls":{"get":"{origin}/api/v3/predictions/{id}/result?key={key}"}}}"#), Whole, &[Delivered]),
        submit("id-twin-a", "200 OK", Service(r#"{"data":{"id":"{id}"}}"#), Whole, &[Delivered, Unknown]).id("twin"),
        submit("id-twin-b", "200 OK", Service(r#"{"data":{"id":"{id}"}}"#), Whole, &[Delivered, Unknown]).id("twin"),
        submit("lone-surrogate", "200 OK", Service(r#"{"data":{"id":"{id}","note":"\ud800"}}"#), Whole, &[Delivered, Unknown]),
        submit("id-1e999", "200 OK", Service(r#"{"data":{"id":1e999}}"#), Whole, &[Unknown]),
        submit("id-with-colon", "200 OK", ACCEPTED, Whole, &[Delivered]).id("sora-2:task_{client}"),
        submit("id-with-odd-characters", "200 OK", Service(r#"{"data":{"id":"{id}"}}"#), Whole, &[Delivered]).id("a&b=c;d,e+{client}~!$()"),
        submit("id-of-another-purchase", "200 OK", Service(r#"{"data":{"id":"{other}","status":"created"}}"#), Whole, &[Unknown]),
        submit("picture-of-another-purchase-by-id", "200 OK", Service(r#"{"data":{"id":"{other}","status":"completed","outputs":["{other_url}"]}}"#), Whole, &[Unknown]),
        submit("two-ids", "200 OK", Service(r#"{"data":{"id":"{id}"},"id":"{other}"}"#), Whole, &[Delivered]),
        submit("double-keys", "200 OK", Service(r#"{"data":{"id":"{id}"},"data":{}}"#), Whole, &[Delivered, Unknown]),
        // Results at once.
        submit("completed-at-once", "200 OK", Service(r#"{"data":{"id":"{id}","status":"completed","outputs":["{url}"]}}"#), Whole, &[Delivered]),
        submit("completed-without-an-id", "200 OK", Service(r#"{"data":[{"b64_json":"{b64}"}]}"#), Whole, &[Delivered]),
        submit("picture-with-500", "500 Internal Server Error", Service(r#"{"data":{"outputs":["data:image/png;base64,{b64}"]}}"#), Whole, &[Delivered, Unknown]),
        submit("failed-at-once", "200 OK", Service(r#"{"data":{"id":"{id}","status":"failed","error":"out of memory"}}"#), Whole, &[Failed, Delivered]),
        submit("failed-without-an-id", "200 OK", Service(r#"{"data":{"status":"failed","error":"out of memory"}}"#), Whole, &[Failed, Unknown]),
        // Bodies without a meaning.
        submit("200-page", "200 OK", PAGE, Whole, &[Unknown]),
        submit("200-empty", "200 OK", Empty, Whole, &[Unknown]),
        submit("200-binary", "200 OK", Binary(b"\xff\xfe\0\x01\x80"), Whole, &[Unknown]),
        submit("200-picture", "200 OK", Made(Kind::Picture, |places| places.picture.clone()), Whole, &[Unknown, Delivered]),
        submit("200-null", "200 OK", Json("null"), Whole, &[Unknown]),
        submit("200-success-without-anything", "200 OK", Service(r#"{"code":200,"message":"success","data":{}}"#), Whole, &[Unknown]),
        submit("200-other-json", "200 OK", Json(r#"{"hello":"world"}"#), Whole, &[Unknown]),
        submit("200-code-500", "200 OK", Service(r#"{"code":500,"message":"internal error","data":null}"#), Whole, &[Unknown]),
        submit("200-code-0", "200 OK", Service(r#"{"code":0,"msg":"ok","data":null}"#), Whole, &[Unknown]),
        submit("200-code-1", "200 OK", Json(r#"{"code":1,"message":"accepted"}"#), Whole, &[Unknown]),
        submit("200-code-201", "200 OK", Json(r#"{"code":201,"message":"created"}"#), Whole, &[Unknown]),
        submit("200-code-in-words", "200 OK", Json(r#"{"code":"SUCCESS","message":"queued"}"#), Whole, &[Unknown]),
        submit("200-code-20000", "200 OK", Json(r#"{"code":20000,"message":"queued"}"#), Whole, &[Unknown]),
        submit("200-error-null", "200 OK", Json(r#"{"error":null,"message":"queued"}"#), Whole, &[Unknown]),
        submit("200-error-false", "200 OK", Json(r#"{"error":false,"message":"queued"}"#), Whole, &[Unknown]),
        submit("200-error-zero", "200 OK", Json(r#"{"error":0,"message":"queued"}"#), Whole, &[Unknown]),
        submit("200-error-empty", "200 OK", Json(r#"{"error":"","message":"queued"}"#), Whole, &[Unknown]),
        submit("200-error-empty-object", "200 OK", Json(r#"{"error":{},"message":"queued"}"#), Whole, &[Unknown]),
        submit("200-error-empty-list", "200 OK", Json(r#"{"error":[],"message":"queued"}"#), Whole, &[Unknown]),
        submit("200-error-code-zero", "200 OK", Json(r#"{"error":{"code":0,"message":""},"message":"ok"}"#), Whole, &[Unknown]),
        submit("200-message-alone", "200 OK", Json(r#"{"message":"your picture is on its way"}"#), Whole, &[Unknown]),
        submit("200-working-without-an-id", "200 OK", Service(r#"{"code":200,"data":{"status":"processing"}}"#), Whole, &[Unknown]),
        submit("400-success-inside", "400 Bad Request", Service(r#"{"code":200,"message":"success","data":{}}"#), Whole, &[Unknown]),
        submit("400-working-without-an-id", "400 Bad Request", Service(r#"{"code":200,"message":"ok","data":{"status":"processing"}}"#), Whole, &[Unknown]),
        submit("429-working-without-an-id", "429 Too Many Requests", Service(r#"{"message":"slow down","data":{"status":"processing"}}"#), Whole, &[Unknown]),
        submit("409-other-json", "409 Conflict", Json(r#"{"hello":"world"}"#), Whole, &[Unknown]),
        submit("429-twice", "429 Too Many Requests", Empty, Whole, &[Delivered]).free().times(2).head("retry-after: 99999999999\r\n").alone(),
        submit("bom", "200 OK", Made(Kind::Service, with_bom), Whole, &[Delivered, Unknown]),
        submit("nul-behind", "200 OK", Made(Kind::Service, with_nul), Whole, &[Delivered, Unknown]),
        submit("wrong-charset", "200 OK", ACCEPTED, Whole, &[Delivered]).head("content-type: text/html; charset=utf-16\r\n"),
        submit("not-utf8", "200 OK", Made(Kind::Service, not_utf8), Whole, &[Delivered, Unknown]),
        submit("number-1e999", "200 OK", Service(r#"{"data":{"id":"{id}","executionTime":1e999}}"#), Whole, &[Delivered, Unknown]),
        submit("depth-bomb", "200 OK", Made(Kind::Json, depth_bomb), Whole, &[Unknown]),
        submit("depth-bomb-with-an-id", "200 OK", Made(Kind::Json, depth_bomb_with_id), Whole, &[Delivered, Unknown]),
        submit("16-mb-of-values", "200 OK", Made(Kind::Json, many_values), Whole, &[Unknown]),
        submit("message-of-1-mb", "200 OK", Made(Kind::Json, long_message), Whole, &[Unknown, Refused]).free().alone(),
        // Refusals of the service, with nothing bought.
        submit("400-parameter", "400 Bad Request", Service(r#"{"error":{"message":"Invalid value for size","type":"400"}}"#), Whole, &[Refused]).free(),
        submit("400-policy", "400 Bad Request", Service(r#"{"error":{"message":"Your request was rejected by our safety system: content policy","type":"503"}}"#), Whole, &[Refused]).free(),
        submit("400-echoes-the-key", "400 Bad Request", Service(r#"{"error":{"message":"Invalid value, your key {key} is on file","type":"400"}}"#), Whole, &[Refused]).free(),
        submit("401-key", "401 Unauthorized", Service(r#"{"error":{"message":"Invalid signature {key}","type":"401"}}"#), Whole, &[Refused]).free(),
        submit("402-balance", "402 Payment Required", Service(r#"{"error":{"message":"Payment required"}}"#), Whole, &[Refused]).free(),
        submit("403-balance", "403 Forbidden", Service(r#"{"error":{"message":"Insufficient balance","type":"403"}}"#), Whole, &[Refused]).free(),
        submit("403-edge-page", "403 Forbidden", EDGE_PAGE, Whole, &[Refused]).free(),
        submit("404-first-page", "404 Not Found", PAGE, Whole, &[Refused]).free().fresh(),
        submit("413-page", "413 Payload Too Large", PAGE, Whole, &[Refused]).free(),
        submit("422-parameter", "422 Unprocessable Entity", Json(r#"{"detail":[{"loc":["body","size"],"msg":"value is not a valid enumeration member"}]}"#), Whole, &[Refused, Unknown]).free().alone(),
        submit("200-refusal-inside", "200 OK", Service(r#"{"code":400,"message":"wrong image url"}"#), Whole, &[Refused]).free(),
        submit("503-no-channel", "503 Service Unavailable", Service(r#"{"error":{"message":"no available channel for model gpt-image-1.5","type":"503"}}"#), Whole, &[Refused]).free(),
        // Pages and empty answers, which the service may have been behind.
        submit("400-page", "400 Bad Request", PAGE, Whole, &[Unknown]),
        submit("403-page", "403 Forbidden", PAGE, Whole, &[Unknown]),
        submit("404-page", "404 Not Found", PAGE, Whole, &[Unknown]),
        submit("405-empty", "405 Method Not Allowed", Empty, Whole, &[Unknown]),
        submit("408-empty", "408 Request Timeout", Empty, Whole, &[Unknown]),
        submit("409-page", "409 Conflict", PAGE, Whole, &[Unknown]),
        submit("425-empty", "425 Too Early", Empty, Whole, &[Unknown]),
        submit("499-empty", "499 Client Closed Request", Empty, Whole, &[Unknown]),
        submit("400-cut", "400 Bad Request", Service(r#"{"error":{"message":"Invalid value for size","type":"400"}}"#), Cut(50), &[Unknown]),
        submit("400-damaged-picture", "400 Bad Request", Made(Kind::Damaged, |places| places.picture[..places.picture.len() / 2].to_vec()), Whole, &[Unknown]),
        submit("500-json", "500 Internal Server Error", Service(r#"{"error":{"message":"internal error","type":"500"}}"#), Whole, &[Unknown]),
        submit("500-empty", "500 Internal Server Error", Empty, Whole, &[Unknown]),
        submit("502-page", "502 Bad Gateway", PAGE, Whole, &[Unknown]),
        submit("503-page", "503 Service Unavailable", PAGE, Whole, &[Unknown]),
        submit("504-json", "504 Gateway Timeout", Json(r#"{"error":{"message":"nothing was bought","code":504}}"#), Whole, &[Unknown]),
        submit("524-page", "524 A Timeout Occurred", PAGE, Whole, &[Unknown]),
        submit("529-json", "529 Overloaded", Service(r#"{"error":{"message":"overloaded"}}"#), Whole, &[Unknown]),
    ]
}

fn accepted(places: &Places) -> Vec<u8> {
    places.fill(r#"{"data":{"id":"{id}","status":"created"}}"#).into_bytes()
}

fn id_of_10_kb(_: &Places) -> Vec<u8> {
    format!(r#"{{"data":{{"id":"{}"}}}}"#, "x".repeat(10_000)).into_bytes()
}

fn with_bom(places: &Places) -> Vec<u8> {
    ["\u{feff}".as_bytes(), &accepted(places)].concat()
}

fn with_nul(places: &Places) -> Vec<u8> {
    [accepted(places), vec![0]].concat()
}

fn not_utf8(places: &Places) -> Vec<u8> {
    let text = accepted(places);
    let end = text.len() - 1;
    [&text[..end], b",\"note\":\"\xff\xc3\"}"].concat()
}

fn depth_bomb(_: &Places) -> Vec<u8> {
    "[".repeat(200_000).into_bytes()
}

fn depth_bomb_with_id(places: &Places) -> Vec<u8> {
    let (open, close) = ("[".repeat(200_000), "]".repeat(200_000));
    places.fill(&format!(r#"{{"data":{{"id":"{{id}}"}},"bomb":{open}{close}}}"#)).into_bytes()
}

pub(super) fn many_values(_: &Places) -> Vec<u8> {
    format!("[{}0]", "0,".repeat(8_000_000)).into_bytes()
}

fn long_message(_: &Places) -> Vec<u8> {
    format!(r#"{{"code":400,"message":"{}"}}"#, "no ".repeat(350_000)).into_bytes()
}
