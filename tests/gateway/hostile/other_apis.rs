//! Answers of the OpenAI-format API, which is one call without an id, and of the unified API; and jobs of several purchases.

use super::answer::Body::{Binary, Empty, Html, Json, Made, Service};
use super::answer::Outcome::{Delivered, Failed, Lost, Partial, Refused, TimedOut, Unknown};
use super::answer::Shape::{
    Chunked, ChunkedCut, ClosedBeforeHead, Continued, Cut, Encoded, LengthLong, LengthShort, Reset, SilentBody,
    SilentHead, Trickled, Whole, WithAnother,
};
use super::answer::{Body, Kind, Outcome, Phase, Places, Row, Shape, row};
use super::images;
use super::submits::many_values;

/// The documented answer of the OpenAI-format API.
const PICTURES: Body = Service(r#"{"created":1,"data":[{"b64_json":"{b64}"}]}"#);
/// The documented answer of the unified API to a submit.
const PENDING: Body = Service(r#"{"id":"{id}","status":"pending","polling_url":"/api/v3/tasks/result/{id}"}"#);
const PAGE: Body = Html("<html><body>error code: 524</body></html>");

fn openai(name: &str, status: &'static str, body: Body, shape: Shape, wanted: &[Outcome]) -> Row {
    row(&format!("openai-{name}"), Phase::Submit, status, body, shape, wanted).api("openai")
}

fn unified(name: &str, phase: Phase, status: &'static str, body: Body, shape: Shape, wanted: &[Outcome]) -> Row {
    row(&format!("unified-{name}"), phase, status, body, shape, wanted).api("unified")
}

/// A job of three purchases, one of which gets the answer.
fn several(name: &str, phase: Phase, status: &'static str, body: Body, shape: Shape, wanted: &[Outcome]) -> Row {
    row(&format!("several-{name}"), phase, status, body, shape, wanted).count(3).times(1)
}

#[rustfmt::skip]
pub(super) fn rows() -> Vec<Row> {
    vec![
        openai("documented", "200 OK", PICTURES, Whole, &[Delivered]),
        openai("chunked", "200 OK", PICTURES, Chunked, &[Delivered]),
        openai("chunked-cut", "200 OK", PICTURES, ChunkedCut, &[Unknown]),
        openai("cut-at-0", "200 OK", PICTURES, Cut(0), &[Unknown]),
        openai("cut-at-99", "200 OK", PICTURES, Cut(99), &[Unknown]),
        openai("length-short", "200 OK", PICTURES, LengthShort(9), &[Unknown]),
        openai("length-long", "200 OK", PICTURES, LengthLong(9), &[Unknown]),
        openai("silent-head", "200 OK", PICTURES, SilentHead, &[Unknown]),
        openai("silent-body", "200 OK", PICTURES, SilentBody, &[Unknown]),
        openai("trickled", "200 OK", PICTURES, Trickled, &[Delivered]),
        openai("reset", "200 OK", PICTURES, Reset, &[Unknown]),
        openai("closed-before-head", "200 OK", PICTURES, ClosedBeforeHead, &[Unknown]),
        openai("two-answers", "200 OK", PICTURES, WithAnother, &[Delivered]),
        openai("continued", "200 OK", PICTURES, Continued(100), &[Delivered]),
        openai("gzip-claimed", "200 OK", PICTURES, Encoded("gzip"), &[Delivered, Unknown]),
        openai("page", "200 OK", PAGE, Whole, &[Unknown]),
        openai("empty", "200 OK", Empty, Whole, &[Unknown]),
        openai("524", "524 A Timeout Occurred", PAGE, Whole, &[Unknown]),
        openai("499", "499 Client Closed Request", Empty, Whole, &[Unknown]),
        openai("picture-with-500", "500 Internal Server Error", PICTURES, Whole, &[Delivered, Unknown]),
        openai("no-pictures", "200 OK", Service(r#"{"created":1,"data":[]}"#), Whole, &[Unknown, Lost]),
        openai("null-pictures", "200 OK", Service(r#"{"created":1,"data":[{"b64_json":null},{}]}"#), Whole, &[Unknown, Lost]),
        openai("data-uri", "200 OK", Service(r#"{"created":1,"data":[{"b64_json":"data:image/png;base64,{b64}"}]}"#), Whole, &[Delivered]),
        openai("address", "200 OK", Service(r#"{"created":1,"data":[{"url":"{url}"}]}"#), Whole, &[Delivered]),
        openai("address-of-metadata", "200 OK", Service(r#"{"created":1,"data":[{"url":"http://169.254.169.254/"}]}"#), Whole, &[Lost]),
        openai("40-pictures", "200 OK", Made(Kind::Service, forty_pictures), Whole, &[Delivered]),
        openai("damaged", "200 OK", Made(Kind::Service, damaged), Whole, &[Lost]),
        openai("bytes-behind", "200 OK", Made(Kind::Service, with_bytes_behind), Whole, &[Delivered]).trailing(),
        openai("base64-of-a-page", "200 OK", Service(r#"{"created":1,"data":[{"b64_json":"PGh0bWw+"}]}"#), Whole, &[Lost, Unknown]),
        openai("base64-invalid", "200 OK", Service(r#"{"created":1,"data":[{"b64_json":"***"}]}"#), Whole, &[Unknown, Lost]),
        openai("an-id-alone", "200 OK", Service(r#"{"id":"{id}","status":"processing"}"#), Whole, &[Delivered]),
        openai("16-mb-of-values", "200 OK", Made(Kind::Json, many_values), Whole, &[Unknown]),
        openai("raw-picture", "200 OK", Made(Kind::Picture, |places| places.picture.clone()), Whole, &[Unknown, Delivered]),
        openai("refused", "400 Bad Request", Service(r#"{"error":{"message":"Invalid value for size","type":"invalid_request_error","code":"invalid_value"}}"#), Whole, &[Refused]).free(),
        openai("moderated", "400 Bad Request", Service(r#"{"error":{"message":"Your request was rejected by the safety system","code":"moderation_blocked"}}"#), Whole, &[Refused]).free(),
        // The unified API.
        unified("documented", Phase::Submit, "202 Accepted", PENDING, Whole, &[Delivered]),
        unified("cut", Phase::Submit, "202 Accepted", PENDING, Cut(50), &[Unknown]),
        unified("page", Phase::Submit, "202 Accepted", PAGE, Whole, &[Unknown]),
        unified("id-with-429", Phase::Submit, "429 Too Many Requests", Service(r#"{"error":{"message":"slow","code":429},"id":"{id}"}"#), Whole, &[Delivered]),
        unified("id-dots", Phase::Submit, "202 Accepted", Service(r#"{"id":"..","status":"pending","polling_url":"/api/v3/tasks/result/.."}"#), Whole, &[Unknown]),
        unified("id-of-another", Phase::Submit, "202 Accepted", Service(r#"{"id":"{other}","status":"pending","polling_url":"/x"}"#), Whole, &[Unknown]),
        unified("poll-address-elsewhere", Phase::Submit, "202 Accepted", Service(r#"{"id":"{id}","status":"pending","polling_url":"{elsewhere}/api/v3/tasks/result/{id}"}"#), Whole, &[Delivered]),
        unified("poll-address-outside", Phase::Submit, "202 Accepted", Service(r#"{"id":"{id}","status":"pending","polling_url":"/api/v3/tasks/result/../../../admin"}"#), Whole, &[Delivered]),
        unified("refused", Phase::Submit, "400 Bad Request", Service(r#"{"error":{"message":"prompt too long","code":400}}"#), Whole, &[Refused]).free(),
        unified("poll-of-another", Phase::Poll, "200 OK", Service(r#"{"id":"{other}","status":"completed","unsigned_urls":["{other_url}"]}"#), Whole, &[Delivered]),
        unified("poll-of-another-always", Phase::Poll, "200 OK", Service(r#"{"id":"{other}","status":"completed","unsigned_urls":["{other_url}"]}"#), Whole, &[TimedOut]).always(),
        unified("poll-hollow", Phase::Poll, "200 OK", Service(r#"{"id":"{id}","status":"completed","unsigned_urls":[]}"#), Whole, &[Delivered]).times(5),
        unified("poll-failed", Phase::Poll, "200 OK", Service(r#"{"id":"{id}","status":"failed","error":"boom"}"#), Whole, &[Failed]),
        unified("poll-javascript", Phase::Poll, "200 OK", Service(r#"{"id":"{id}","status":"completed","unsigned_urls":["javascript:alert(1)"]}"#), Whole, &[Delivered]),
        unified("poll-40-outputs", Phase::Poll, "200 OK", Made(Kind::Service, forty_addresses), Whole, &[Delivered]),
        unified("poll-binary", Phase::Poll, "200 OK", Binary(b"\0\x01\x02\xff"), Reset, &[Delivered]),
        // Jobs of three purchases.
        several("documented", Phase::Submit, "200 OK", super::submits::ACCEPTED, Whole, &[Delivered]),
        several("one-reset", Phase::Submit, "200 OK", super::submits::ACCEPTED, Reset, &[Partial]),
        several("one-page", Phase::Submit, "502 Bad Gateway", PAGE, Whole, &[Partial]),
        several("one-id-of-another", Phase::Submit, "200 OK", Service(r#"{"data":{"id":"{other}"}}"#), Whole, &[Partial]),
        several("two-closed", Phase::Submit, "200 OK", Empty, ClosedBeforeHead, &[Partial]).times(2),
        several("all-closed", Phase::Submit, "200 OK", Empty, ClosedBeforeHead, &[Unknown]).always(),
        several("one-failed", Phase::Poll, "200 OK", Service(r#"{"data":{"id":"{id}","status":"failed","error":"boom"}}"#), Whole, &[Partial]),
        several("one-page-at-a-poll", Phase::Poll, "502 Bad Gateway", PAGE, Whole, &[Delivered]),
        several("one-id-in-429", Phase::Submit, "429 Too Many Requests", Json(r#"{"taskId":"{id}"}"#), Whole, &[Delivered]),
    ]
}

fn forty_pictures(places: &Places) -> Vec<u8> {
    let others: String = (0..39).map(|number| item(&images::picture(&format!("other-{number}"), "png"))).collect();
    format!(r#"{{"created":1,"data":[{}{}]}}"#, item(&places.picture), others.trim_end_matches(',')).into_bytes()
}

fn item(picture: &[u8]) -> String {
    format!(r#"{{"b64_json":"{}"}},"#, base64_simd::STANDARD.encode_to_string(picture))
}

fn damaged(places: &Places) -> Vec<u8> {
    format!(r#"{{"created":1,"data":[{}]}}"#, item(&images::flipped(&places.picture)).trim_end_matches(','))
        .into_bytes()
}

fn with_bytes_behind(places: &Places) -> Vec<u8> {
    let picture = [&places.picture[..], b"\n"].concat();
    format!(r#"{{"created":1,"data":[{}]}}"#, item(&picture).trim_end_matches(',')).into_bytes()
}

fn forty_addresses(places: &Places) -> Vec<u8> {
    let outputs = vec![format!("\"{}\"", places.url); 40].join(",");
    places.fill(&format!(r#"{{"id":"{{id}}","status":"completed","unsigned_urls":[{outputs}]}}"#)).into_bytes()
}
