//! Answers to downloads of a picture. Twice, where nothing else is said; then the upstream is honest.

use super::answer::Body::{Binary, Empty, Html, Json, Made, Service};
use super::answer::Outcome::{Delivered, Lost};
use super::answer::Shape::{
    Chunked, ChunkedCut, ChunkedInvalid, ChunkedWithLength, ClosedBeforeHead, Continued, Cut, Dripped, Encoded,
    Endless, HeadCut, Headers, Hinted, Http10, LengthHuge, LengthLong, LengthNegative, LengthShort, LengthTwo,
    LongHeader, Reset, ResetBeforeHead, SilentBody, SilentHead, Trickled, UntilClose, Whole, WithAnother,
};
use super::answer::{Body, Kind, Outcome, Phase, Places, Row, Shape, row};
use super::images;

/// The picture.
pub(super) const PICTURE: Body = Made(Kind::Picture, |places| places.picture.clone());
const PAGE: Body = Html("<html><body>Not Found</body></html>");

fn download(name: &str, status: &'static str, body: Body, shape: Shape, wanted: &[Outcome]) -> Row {
    row(&format!("download-{name}"), Phase::Download, status, body, shape, wanted)
}

/// A damaged picture, twice, in one of the formats.
fn damaged(name: &str, format: &'static str, make: fn(&Places) -> Vec<u8>) -> Row {
    download(&format!("{format}-{name}"), "200 OK", Made(Kind::Damaged, make), Whole, &[Delivered]).format(format)
}

/// A whole picture with something behind its end, always.
fn trailed(name: &str, format: &'static str, make: fn(&Places) -> Vec<u8>) -> Row {
    let name = format!("{format}-{name}-behind");
    download(&name, "200 OK", Made(Kind::Picture, make), Whole, &[Delivered]).format(format).trailing().always()
}

#[rustfmt::skip]
pub(super) fn rows() -> Vec<Row> {
    vec![
        download("whole", "200 OK", PICTURE, Whole, &[Delivered]),
        download("whole-jpeg", "200 OK", PICTURE, Whole, &[Delivered]).format("jpeg"),
        download("whole-webp", "200 OK", PICTURE, Whole, &[Delivered]).format("webp"),
        download("until-close", "200 OK", PICTURE, UntilClose, &[Delivered]),
        download("http10", "200 OK", PICTURE, Http10, &[Delivered]),
        download("chunked", "200 OK", PICTURE, Chunked, &[Delivered]),
        download("chunked-cut", "200 OK", PICTURE, ChunkedCut, &[Delivered]),
        download("chunked-invalid", "200 OK", PICTURE, ChunkedInvalid, &[Delivered]),
        download("chunked-with-length", "200 OK", PICTURE, ChunkedWithLength, &[Delivered]),
        download("cut-at-0", "200 OK", PICTURE, Cut(0), &[Delivered]),
        download("cut-at-10", "200 OK", PICTURE, Cut(10), &[Delivered]),
        download("cut-at-99", "200 OK", PICTURE, Cut(99), &[Delivered]),
        download("cut-always", "200 OK", PICTURE, Cut(50), &[Lost]).always(),
        download("head-cut", "200 OK", PICTURE, HeadCut, &[Delivered]),
        download("length-short", "200 OK", PICTURE, LengthShort(20), &[Delivered]),
        download("length-short-always", "200 OK", PICTURE, LengthShort(20), &[Lost]).always(),
        download("length-long", "200 OK", PICTURE, LengthLong(20), &[Delivered]),
        download("length-two", "200 OK", PICTURE, LengthTwo, &[Delivered]),
        download("length-negative", "200 OK", PICTURE, LengthNegative, &[Delivered]),
        download("length-huge", "200 OK", PICTURE, LengthHuge, &[Delivered]),
        download("silent-head", "200 OK", PICTURE, SilentHead, &[Delivered]),
        download("silent-body", "200 OK", PICTURE, SilentBody, &[Delivered]),
        download("trickled", "200 OK", PICTURE, Trickled, &[Delivered]),
        download("dripped", "200 OK", PICTURE, Dripped, &[Delivered]).times(1),
        download("endless", "200 OK", PICTURE, Endless, &[Delivered]).times(1),
        download("reset", "200 OK", PICTURE, Reset, &[Delivered]),
        download("reset-before-head", "200 OK", PICTURE, ResetBeforeHead, &[Delivered]),
        download("closed-before-head", "200 OK", PICTURE, ClosedBeforeHead, &[Delivered]),
        download("two-answers", "200 OK", PICTURE, WithAnother, &[Delivered]),
        download("300-headers", "200 OK", PICTURE, Headers(300), &[Delivered]),
        download("header-of-2-mb", "200 OK", PICTURE, LongHeader(2_000_000), &[Delivered]),
        download("gzip-claimed", "200 OK", PICTURE, Encoded("gzip"), &[Delivered]),
        download("continued-100-times", "200 OK", PICTURE, Continued(100), &[Delivered]),
        download("hinted", "200 OK", PICTURE, Hinted, &[Delivered]),
        download("status-in-words", "fine", PICTURE, Whole, &[Delivered]),
        download("status-099", "099 Low", PICTURE, Whole, &[Delivered]),
        download("status-999", "999 High", PICTURE, Whole, &[Delivered]),
        download("status-101", "101 Switching Protocols", PICTURE, UntilClose, &[Delivered]).head("upgrade: x\r\nconnection: upgrade\r\n"),
        // Pictures that were not asked for, or that are no pictures.
        download("206-of-a-part", "206 Partial Content", Made(Kind::Damaged, |places| places.picture[100..].to_vec()), Whole, &[Delivered]).head("content-range: bytes 100-999/1000\r\n"),
        download("206-of-a-whole-looking-part", "206 Partial Content", Made(Kind::Picture, |places| images::picture(&places.other, "png")), Whole, &[Delivered]).head("content-range: bytes 0-99/100000\r\n"),
        download("200-page", "200 OK", PAGE, Whole, &[Delivered]),
        download("200-page-called-png", "200 OK", PAGE, Whole, &[Delivered]).head("content-type: image/png\r\n"),
        download("200-page-always", "200 OK", PAGE, Whole, &[Lost]).always(),
        download("200-empty", "200 OK", Empty, Whole, &[Delivered]),
        download("200-empty-always", "200 OK", Empty, Whole, &[Lost]).always(),
        download("200-json", "200 OK", Json(r#"{"url":"{url}"}"#), Whole, &[Delivered]),
        download("200-service-json", "200 OK", Service(r#"{"code":404,"message":"no such file"}"#), Whole, &[Delivered]),
        download("200-binary", "200 OK", Binary(b"GIF89a\x01\0\x01\0\0\0\0;"), Whole, &[Delivered]),
        download("200-wrong-type", "200 OK", PICTURE, Whole, &[Delivered]).head("content-type: text/html\r\n"),
        download("204", "204 No Content", Empty, Whole, &[Delivered]),
        download("304", "304 Not Modified", Empty, Whole, &[Delivered]),
        download("404-once", "404 Not Found", PAGE, Whole, &[Delivered]).times(1),
        download("404-with-a-picture", "404 Not Found", Made(Kind::Picture, |places| images::picture(&places.other, "png")), Whole, &[Delivered]),
        download("404-always", "404 Not Found", Empty, Whole, &[Lost]).always(),
        download("403-expired", "403 Forbidden", Service("<Error><Code>AccessDenied</Code></Error>"), Whole, &[Delivered]).times(8),
        download("401", "401 Unauthorized", Empty, Whole, &[Delivered]).times(8),
        download("429", "429 Too Many Requests", Empty, Whole, &[Delivered]),
        download("500", "500 Internal Server Error", PAGE, Whole, &[Delivered]),
        download("503-picture", "503 Service Unavailable", Made(Kind::Picture, |places| images::picture(&places.other, "png")), Whole, &[Delivered]),
        download("over-the-limit", "200 OK", Made(Kind::Damaged, over_the_limit), Whole, &[Delivered]),
        download("over-the-limit-always", "200 OK", Made(Kind::Damaged, over_the_limit), Chunked, &[Lost]).always(),
        // Redirects.
        download("302-elsewhere", "302 Found", Empty, Whole, &[Delivered]).head("location: {elsewhere}/files/{id}.png\r\n").times(1),
        download("302-loop", "302 Found", Empty, Whole, &[Delivered]).head("location: {url}\r\n").times(9),
        download("302-loop-always", "302 Found", Empty, Whole, &[Lost]).head("location: {url}\r\n").always(),
        download("302-metadata", "302 Found", Empty, Whole, &[Delivered]).head("location: http://169.254.169.254/latest/meta-data/\r\n"),
        download("302-metadata-always", "302 Found", Empty, Whole, &[Lost]).head("location: http://169.254.169.254/latest/meta-data/\r\n").always(),
        download("302-with-the-key-always", "302 Found", Empty, Whole, &[Lost]).head("location: http://127.0.0.1:9/{key}\r\n").always(),
        download("302-private", "302 Found", Empty, Whole, &[Delivered]).head("location: http://192.168.0.1/\r\n"),
        download("302-file", "302 Found", Empty, Whole, &[Delivered]).head("location: file:///etc/passwd\r\n"),
        download("302-credentials", "302 Found", Empty, Whole, &[Delivered]).head("location: http://u:p@127.0.0.1:9/\r\n"),
        download("302-without-location", "302 Found", PICTURE, Whole, &[Delivered]),
        download("302-polls", "302 Found", Empty, Whole, &[Delivered]).head("location: {origin}/api/v3/predictions/{other}/result\r\n"),
        download("302-after-401", "401 Unauthorized", Empty, Whole, &[Delivered]).head("location: {elsewhere}/files/{id}.png\r\n").times(2),
        // Damaged pictures.
        damaged("hole", "png", |places| images::with_hole(&places.picture)),
        damaged("zeroed", "png", |places| images::zeroed(&places.picture)),
        damaged("wrong-checksum", "png", |places| images::flipped(&places.picture)),
        damaged("without-pixels", "png", |places| images::without_pixels(&places.picture)),
        damaged("immense", "png", |places| images::immense(&places.picture)),
        damaged("head-only", "png", |places| places.picture[..33].to_vec()),
        damaged("twice-its-head", "png", |places| [&places.picture[..60], &places.picture].concat()),
        damaged("cut", "jpeg", |places| places.picture[..places.picture.len() - 2].to_vec()),
        damaged("cut-and-ended", "jpeg", |places| [&places.picture[..200], b"\xff\xd9"].concat()),
        damaged("signature", "jpeg", |_| b"\xff\xd8\xff\xd9".to_vec()),
        damaged("cut", "webp", |places| places.picture[..places.picture.len() - 4].to_vec()),
        damaged("hole", "webp", |places| images::with_hole(&places.picture)),
        damaged("of-no-chunk", "webp", |_| b"RIFF\x04\0\0\0WEBP".to_vec()),
        download("wrong-checksum-always", "200 OK", Made(Kind::Damaged, |places| images::flipped(&places.picture)), Whole, &[Lost]).always(),
        // Whole pictures with bytes behind the end.
        trailed("newline", "png", |places| [&places.picture[..], b"\n"].concat()),
        trailed("page", "png", |places| [&places.picture[..], b"<script>alert(1)</script>"].concat()),
        trailed("zeros", "jpeg", |places| [&places.picture[..], &[0; 100]].concat()),
        trailed("two-bytes", "webp", |places| [&places.picture[..], &[0; 2]].concat()),
    ]
}

fn over_the_limit(_: &Places) -> Vec<u8> {
    [b"\x89PNG\r\n\x1a\n".as_slice(), &vec![7; 1_500_000]].concat()
}
