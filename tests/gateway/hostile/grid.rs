//! Every pair of a class of status with a kind of body, and of a class with a shape, in every phase. What is demanded follows
//! from a rule: a poll or a download that fails is repeated, a submit of which the answer decides nothing is unknown.

use super::answer::Body::{Binary, Empty, Html, Json, Made};
use super::answer::Outcome::{Delivered, Unknown};
use super::answer::{Body, Class, Kind, Outcome, Phase, Row, Shape, row};
use super::{downloads, images, polls, submits};

pub(super) const PHASES: [Phase; 3] = [Phase::Submit, Phase::Poll, Phase::Download];

/// One status of each class. 303 is the redirect that may follow a purchase.
pub(super) const STATUSES: [(Class, &str); 6] = [
    (Class::Interim, "103 Early Hints"),
    (Class::Success, "200 OK"),
    (Class::Redirect, "303 See Other"),
    (Class::Client, "400 Bad Request"),
    (Class::Server, "502 Bad Gateway"),
    (Class::Invalid, "0 Nothing"),
];

pub(super) const KINDS: [Kind; 7] =
    [Kind::Service, Kind::Json, Kind::Html, Kind::Empty, Kind::Binary, Kind::Picture, Kind::Damaged];

pub(super) const SHAPES: [Shape; 26] = [
    Shape::Whole,
    Shape::UntilClose,
    Shape::Http10,
    Shape::Chunked,
    Shape::ChunkedCut,
    Shape::ChunkedInvalid,
    Shape::ChunkedWithLength,
    Shape::Cut(50),
    Shape::HeadCut,
    Shape::LengthShort(5),
    Shape::LengthLong(5),
    Shape::LengthTwo,
    Shape::LengthNegative,
    Shape::LengthHuge,
    Shape::SilentHead,
    Shape::SilentBody,
    Shape::Trickled,
    Shape::Reset,
    Shape::ResetBeforeHead,
    Shape::ClosedBeforeHead,
    Shape::WithAnother,
    Shape::Headers(200),
    Shape::LongHeader(200_000),
    Shape::BareNewlines,
    Shape::Continued(50),
    Shape::Encoded("gzip"),
];

pub(super) fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for phase in PHASES {
        for (number, (class, status)) in STATUSES.into_iter().enumerate() {
            let of_kinds =
                KINDS.into_iter().enumerate().map(|(at, kind)| (kind, SHAPES[(at + 7 * number) % SHAPES.len()]));
            let of_shapes =
                SHAPES.into_iter().enumerate().map(|(at, shape)| (KINDS[(at + number) % KINDS.len()], shape));
            for (at, (kind, shape)) in of_kinds.chain(of_shapes).enumerate() {
                let name = format!("grid-{phase:?}-{class:?}-{at}").to_lowercase();
                rows.push(row(&name, phase, status, body(phase, kind), shape, wanted(phase)));
            }
        }
    }
    rows
}

fn wanted(phase: Phase) -> &'static [Outcome] {
    match phase {
        Phase::Submit => &[Delivered, Unknown],
        Phase::Poll | Phase::Download => &[Delivered],
    }
}

fn body(phase: Phase, kind: Kind) -> Body {
    match (kind, phase) {
        (Kind::Service, Phase::Submit) => submits::ACCEPTED,
        (Kind::Service, Phase::Poll) => polls::WORKING,
        (Kind::Service, Phase::Download) => polls::DONE,
        (Kind::Json, _) => Json(r#"{"hello":"world","n":[1,2,3]}"#),
        (Kind::Html, _) => Html("<html><body><h1>Bad gateway</h1></body></html>"),
        (Kind::Empty, _) => Empty,
        (Kind::Binary, _) => Binary(b"\x1f\x8b\x08\0\0\0\0\0\xff\x03\0"),
        (Kind::Picture, _) => downloads::PICTURE,
        (Kind::Damaged, _) => Made(Kind::Damaged, |places| images::with_hole(&places.picture)),
    }
}
