use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::*;
use crate::model::{AccountId, Digest, Format};
use crate::upstream::formats::RequestFormat;

fn submit(method: InputMethod, auth: AuthStyle, refusal: Option<&str>) -> ObservedSubmit {
    ObservedSubmit {
        account: AccountId("default".into()),
        format: RequestFormat { auth, ..RequestFormat::documented(method) },
        refusal: refusal.map(str::to_owned),
    }
}

fn exchange(kind: ExchangeKind, status: u16, after: Duration, body: Value) -> Observation {
    Observation {
        kind,
        host: "files.example".to_owned(),
        path: "/a".to_owned(),
        status: Some(status),
        content_type: Some("image/png".to_owned()),
        body,
        started: Instant::now() + after,
        elapsed: Duration::from_millis(7),
    }
}

/// A purchase as it is documented, changed.
fn facts(change: impl FnOnce(&mut Facts)) -> Facts {
    let poll = |word: &str, seconds| {
        let after = Duration::from_secs(seconds);
        exchange(ExchangeKind::Poll, 200, after, json!({"data": {"id": "a1", "status": word}}))
    };
    let mut facts = Facts {
        observed: Observed {
            submits: vec![submit(InputMethod::Base64Images, AuthStyle::Bearer, None)],
            exchanges: vec![
                exchange(ExchangeKind::Submit, 200, Duration::ZERO, json!({"data": {"id": "a1"}})),
                poll("created", 1),
                poll("processing", 3),
                poll("processing", 5),
                poll("completed", 9),
                exchange(ExchangeKind::Download, 200, Duration::from_secs(9), Value::Null),
            ],
            outputs: vec![Output::Url("https://files.example/a".to_owned())],
        },
        preferred: InputMethod::Base64Images,
        masked: false,
        size: Size { width: 1024, height: 1024 },
        picture: StoredPicture {
            digest: Digest::of(b"picture"),
            bytes: 7,
            format: Format::Png,
            width: 1024,
            height: 1024,
        },
        halves: Ok(Measurement { left: [200, 30, 30], right: [30, 30, 200], outside_change: 3.0 }),
        usage: Some(Usage { input_tokens: 200, output_tokens: 196, input_image_tokens: Some(194) }),
        usd: Some(Usd(0.006)),
        estimate: Usd(0.03),
    };
    change(&mut facts);
    facts
}

/// Returns the rows that are not good, with the parts of the rows that matter.
fn faults(change: impl FnOnce(&mut Facts)) -> Vec<(Verdict, &'static str)> {
    let rows = rows(&facts(change)).into_iter();
    rows.filter(|row| row.verdict != Verdict::Good).map(|row| (row.verdict, row.subject)).collect()
}

fn seen(subject: &str, change: impl FnOnce(&mut Facts)) -> String {
    let rows = rows(&facts(change));
    rows.into_iter().find(|row| row.subject == subject).unwrap().seen
}

#[test]
fn a_purchase_as_documented_has_no_fault_and_shows_its_facts() {
    assert_eq!(faults(|_| {}), []);
    assert_eq!(
        seen("poll", |_| {}),
        "created 0.0 s, processing 2.0 s, completed 8.0 s (4 polls, 0 answered with 429, 0 failed)"
    );
    assert_eq!(seen("submit answer", |_| {}), "HTTP 200 after 7 ms: id a1 (hexadecimal), no urls");
    assert!(seen("output", |_| {}).starts_with("address on files.example, declared image/png"));
}

#[test]
fn a_fallback_is_a_warning_with_the_text_of_the_refusal() {
    let fallback = |facts: &mut Facts| {
        facts.observed.submits = vec![
            submit(InputMethod::Base64Images, AuthStyle::Bearer, Some("images is required")),
            submit(InputMethod::Multipart, AuthStyle::Bearer, None),
        ];
    };
    assert_eq!(faults(fallback), [(Verdict::Warning, "input method")]);
    assert_eq!(
        seen("input method", fallback),
        "multipart; refused before, unbilled: base64_images (images is required)"
    );
    let remembered = |facts: &mut Facts| {
        facts.observed.submits = vec![submit(InputMethod::Multipart, AuthStyle::Raw, None)];
    };
    assert_eq!(faults(remembered), [(Verdict::Warning, "key"), (Verdict::Warning, "input method")]);
    assert_eq!(seen("input method", remembered), "multipart, raw key; base64_images is known to be refused");
}

#[test]
fn polls_that_were_too_fast_are_counted() {
    let throttled = |facts: &mut Facts| {
        let poll = exchange(ExchangeKind::Poll, 429, Duration::from_secs(2), json!({"message": "too fast"}));
        facts.observed.exchanges.insert(2, poll);
    };
    assert_eq!(faults(throttled), [(Verdict::Warning, "poll")]);
    assert!(seen("poll", throttled).contains("5 polls, 1 answered with 429"), "{}", seen("poll", throttled));
}

#[test]
fn an_input_that_was_not_seen_is_a_fault_and_a_changed_surrounding_a_warning() {
    let unseen = |facts: &mut Facts| {
        facts.halves = Ok(Measurement { left: [200, 30, 30], right: [200, 30, 30], outside_change: 90.0 });
        facts.masked = true;
    };
    assert_eq!(faults(unseen), [(Verdict::Fault, "input seen"), (Verdict::Warning, "mask kept")]);
    let unreadable = |facts: &mut Facts| facts.halves = Err("no picture".to_owned());
    assert_eq!(faults(unreadable), [(Verdict::Fault, "input seen")]);
    let unbilled =
        |facts: &mut Facts| facts.usage = facts.usage.map(|usage| Usage { input_image_tokens: Some(0), ..usage });
    assert_eq!(faults(unbilled), [(Verdict::Warning, "input seen")]);
}

#[test]
fn another_size_a_higher_price_and_missing_usage_are_warnings() {
    assert_eq!(faults(|facts| facts.picture.width = 1254), [(Verdict::Warning, "size")]);
    assert_eq!(faults(|facts| facts.usd = Some(Usd(0.061))), [(Verdict::Warning, "usage and price")]);
    assert_eq!(faults(|facts| facts.usd = Some(Usd(0.059))), []);
    assert_eq!(faults(|facts| facts.usage = None), [(Verdict::Warning, "usage and price")]);
    // The size of the format that was accepted is the one that was asked for; that it is another one is shown.
    let other = |facts: &mut Facts| {
        let size = Size { width: 1254, height: 1254 };
        facts.observed.submits[0].format.size = Some(size);
        (facts.picture.width, facts.picture.height) = (1254, 1254);
    };
    assert_eq!(faults(other), [(Verdict::Warning, "input method")]);
}

#[test]
fn a_key_that_a_download_needs_and_redirects_are_shown() {
    let redirected = |facts: &mut Facts| {
        let downloads =
            [302, 401, 200].map(|status| exchange(ExchangeKind::Download, status, Duration::ZERO, Value::Null));
        facts.observed.exchanges.splice(5.., downloads);
    };
    assert!(seen("output", redirected).contains("redirected, the key is needed"), "{}", seen("output", redirected));
    let inline = |facts: &mut Facts| facts.observed.exchanges.truncate(5);
    assert!(seen("output", inline).starts_with("base64 in the answer, image/png"), "{}", seen("output", inline));
}

#[test]
fn what_may_have_cost_money_is_named_and_never_called_unbilled() {
    let message = || "text".to_owned();
    for (failure, verdict) in [
        (Failure::OutcomeUnknown { message: message() }, Verdict::Unresolved),
        (Failure::TaskFailed { message: message() }, Verdict::Unresolved),
        (Failure::ResultLost { message: message() }, Verdict::Unresolved),
        (Failure::DeadlineExceeded, Verdict::Unresolved),
        (Failure::Moderated { message: message(), bought: true }, Verdict::Unresolved),
        (Failure::Moderated { message: message(), bought: false }, Verdict::Fault),
        (Failure::KeyRefused { message: message() }, Verdict::Fault),
        (Failure::InvalidRequest { message: message() }, Verdict::Fault),
    ] {
        let row = failed(&failure, "text", "pred_1");
        assert_eq!(row.verdict, verdict, "{failure:?}");
        assert_eq!(row.seen.contains("pred_1"), verdict == Verdict::Unresolved, "{row:?}");
        assert_eq!(row.seen.contains("nothing was bought"), verdict == Verdict::Fault, "{row:?}");
        assert!(!row.advice.is_empty(), "{row:?}");
    }
}
