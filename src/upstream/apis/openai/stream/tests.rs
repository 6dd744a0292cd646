use base64_simd::STANDARD;
use serde_json::json;

use super::*;
use crate::model::Failure;
use crate::upstream::Output;
use crate::upstream::answer::events::{EventCollector, HEAD_BYTES};

const PNG: &[u8] = b"\x89PNG\r\n\x1a\n and the rest of a picture";
const BYTES_MAX: usize = 1 << 20;

fn event(name: &str, data: &impl std::fmt::Display) -> String {
    format!("event: {name}\ndata: {data}\n\n")
}

fn partial(picture: &[u8]) -> String {
    let (name, picture) = ("image_edit.partial_image", STANDARD.encode_to_string(picture));
    event(name, &format!("{{\"type\":\"{name}\",\"b64_json\":\"{picture}\",\"partial_image_index\":0}}"))
}

fn completed(picture: &[u8]) -> String {
    let (name, picture) = ("image_edit.completed", STANDARD.encode_to_string(picture));
    let usage = json!({"input_tokens": 239, "input_tokens_details": {"image_tokens": 194}, "output_tokens": 1256});
    event(name, &format!("{{\"type\":\"{name}\",\"b64_json\":\"{picture}\",\"usage\":{usage}}}"))
}

/// Collects a stream in chunks of this size.
fn collect(stream: &str, chunk: usize) -> EventCollector {
    let mut events = EventCollector::new(BYTES_MAX);
    for chunk in stream.as_bytes().chunks(chunk) {
        events.push(chunk).unwrap();
    }
    events
}

fn read_all(stream: &str) -> SubmitAnswer {
    answer(collect(stream, 7).into_body())
}

fn pictures(answer: SubmitAnswer) -> Vec<Output> {
    let SubmitAnswer::Finished { prediction: None, finished } = answer else { panic!("{answer:?}") };
    finished.outputs
}

fn picture() -> Output {
    Output::Bytes(bytes::Bytes::from_static(PNG))
}

#[test]
fn the_completed_picture_is_read_with_its_usage() {
    let stream = format!(": keepalive\n\n{}{}{}", partial(b"one"), partial(b"two"), completed(PNG));
    for chunk in [1, 2, 7, 64, stream.len()] {
        let events = collect(&stream, chunk);
        assert_eq!(events.completed(), 1);
        let SubmitAnswer::Finished { prediction: None, finished } = answer(events.into_body()) else { panic!() };
        let usage = Usage { input_tokens: 239, output_tokens: 1256, input_image_tokens: Some(194) };
        assert_eq!(finished, Finished { outputs: vec![picture()], usage: Some(usage) }, "in chunks of {chunk}");
    }
    let of_generation = stream.replace("image_edit", "image_generation");
    assert_eq!(pictures(read_all(&of_generation)), [picture()]);
    let windows = stream.replace('\n', "\r\n");
    assert_eq!(pictures(read_all(&windows)), [picture()]);
    let terse = stream.replace("data: ", "data:").replace("event: ", "event:");
    assert_eq!(pictures(read_all(&terse)), [picture()]);
    assert_eq!(pictures(read_all(&format!("{stream}data: [DONE]\n\n"))), [picture()]);
}

#[test]
fn partial_pictures_are_dropped_as_they_pass() {
    let large = vec![7; BYTES_MAX / 2];
    let named = partial(&large);
    let unnamed = named.split_once('\n').unwrap().1;
    for partial in [&named, unnamed] {
        for size in [100, 5000, partial.len()] {
            let mut events = EventCollector::new(BYTES_MAX);
            for chunk in partial.as_bytes().chunks(size) {
                events.push(chunk).unwrap();
                assert!(events.bytes_held() < HEAD_BYTES + 100, "{} bytes held", events.bytes_held());
            }
            assert_eq!((events.bytes_held() < 100, events.completed()), (true, 0));
            events.push(completed(PNG).as_bytes()).unwrap();
            assert_eq!(pictures(answer(events.into_body())), [picture()]);
        }
    }
}

#[test]
fn a_picture_is_decoded_in_place() {
    let body = collect(&completed(PNG), 64).into_body();
    let whole = body.as_ptr() as usize..body.as_ptr() as usize + body.len();
    let outputs = pictures(answer(body));
    assert!(matches!(&outputs[..], [Output::Bytes(bytes)] if whole.contains(&(bytes.as_ptr() as usize))));
}

#[test]
fn a_stream_that_is_cut_at_any_byte_has_the_whole_picture_or_none() {
    let last = completed(PNG);
    let stream = format!("{}{last}", partial(b"one"));
    let data_ends = stream.len() - "\n\n".len();
    for cut in 0..=stream.len() {
        let events = collect(&stream[..cut], 16);
        assert_eq!(events.completed() == 1, cut == stream.len(), "cut at {cut}");
        let read = answer(events.into_body());
        if cut < data_ends {
            assert_eq!(read, SubmitAnswer::Unusable, "cut at {cut} of {}", stream.len());
        } else {
            assert_eq!(pictures(read), [picture()], "cut at {cut} of {}", stream.len());
        }
    }
}

#[test]
fn several_pictures_are_one_event_each() {
    let (one, two) = (completed(PNG), completed(b"two"));
    let events = collect(&format!("{one}{two}"), 16);
    assert_eq!(events.completed(), 2);
    let two = Output::Bytes(bytes::Bytes::from_static(b"two"));
    assert_eq!(pictures(answer(events.into_body())), [picture(), two]);
    assert_eq!(pictures(read_all(&format!("{one}{}", &one[..one.len() / 2]))), [picture()], "the second is cut");
}

#[test]
fn data_may_take_several_lines_and_have_no_name() {
    let picture_text = STANDARD.encode_to_string(PNG);
    let several = format!("data: {{\"type\":\"image_edit.completed\",\ndata: \"b64_json\":\"{picture_text}\"}}\n\n");
    assert_eq!(pictures(read_all(&several)), [picture()]);
    let unnamed = completed(PNG).split_once('\n').unwrap().1.to_owned();
    let events = collect(&unnamed, 16);
    assert_eq!(events.completed(), 1);
    assert_eq!(pictures(answer(events.into_body())), [picture()]);
    let whole = format!("data: {}\n\n", json!({"created": 1, "data": [{"b64_json": picture_text}]}));
    assert_eq!(pictures(read_all(&whole)), [picture()], "a plain answer as an event");
}

#[test]
fn an_error_before_any_picture_is_refused_and_after_one_has_failed() {
    let error = |error: &Value| event("error", &json!({"type": "error", "error": error}));
    let invalid = error(&json!({"type": "invalid_request_error", "message": "Unknown parameter: 'quality'."}));
    let read = |stream: &str| {
        let answer = read_all(stream);
        let SubmitAnswer::Error(text) = answer else { panic!("{answer:?}") };
        (text.code.map(|code| code.as_u16()), text.message)
    };
    assert_eq!(read(&invalid), (None, "Unknown parameter: 'quality'.".to_owned()));
    let coded = error(&json!({"code": 429, "message": "slow"}));
    assert_eq!(read(&coded), (Some(429), "slow".to_owned()));
    let typed = error(&json!({"type": "401", "message": "Invalid signature"}));
    assert_eq!(read(&typed), (Some(401), "Invalid signature".to_owned()));
    let unclear = error(&json!({"type": "image_generation_server_error", "message": "boom"}));
    assert_eq!(read(&unclear), (Some(500), "boom".to_owned()), "its outcome is unknown");
    for unclear in [json!({"message": "do request failed", "type": "upstream_error"}), json!({"message": "boom"})] {
        assert_eq!(read(&error(&unclear)).0, Some(500), "{unclear}: its outcome is unknown too");
    }
    let refused = error(&json!({"code": "moderation_blocked", "message": "rejected by the safety system"}));
    assert_eq!(read(&refused), (None, "rejected by the safety system".to_owned()));
    let unnamed = format!("data: {}\n\n", json!({"error": {"message": "boom", "code": 400}}));
    assert_eq!(read(&unnamed), (Some(400), "boom".to_owned()));

    let named = format!("data: {}\n\n", json!({"data": {"id": "abc", "status": "created"}}));
    assert!(matches!(read_all(&named), SubmitAnswer::Accepted(prediction) if prediction.id.as_str() == "abc"));
    let late = format!("{}{unclear}", partial(b"one"));
    assert_eq!(read_all(&late), SubmitAnswer::Failed(Failure::TaskFailed { message: "boom".to_owned() }));
    let policy = error(&json!({"code": "moderation_blocked", "message": "rejected by the safety system"}));
    let late = format!("{}{policy}", partial(b"one"));
    assert!(matches!(read_all(&late), SubmitAnswer::Failed(Failure::Moderated { bought: true, .. })));
    assert_eq!(pictures(read_all(&format!("{}{unclear}", completed(PNG)))), [picture()], "a picture was made");
    for cut in 0..invalid.len() - "\n\n".len() {
        assert_eq!(read_all(&invalid[..cut]), SubmitAnswer::Unusable, "cut at {cut}");
    }
}

#[test]
fn other_bodies_are_read_as_plain_answers() {
    let plain = json!({"created": 1, "data": [{"b64_json": STANDARD.encode_to_string(PNG)}]});
    for text in [plain.to_string(), serde_json::to_string_pretty(&plain).unwrap()] {
        let body = collect(&text, 3).into_body();
        assert_eq!(body, text.as_bytes());
        assert_eq!(pictures(answer(body)), [picture()]);
    }
    for unusable in ["", "\n\n", "<html>524</html>", "{}", "data: [DONE]\n\n", ": keepalive\n\n", "event: ping\n\n"] {
        assert_eq!(read_all(unusable), SubmitAnswer::Unusable, "{unusable}");
    }
}

#[test]
fn an_answer_beyond_the_limit_is_an_error() {
    let mut events = EventCollector::new(1000);
    events.push(&[b'x'; 1000]).unwrap();
    events.push(b"x").unwrap_err();
    let mut events = EventCollector::new(1000);
    events.push(b"event: image_edit.partial_image\ndata: ").unwrap();
    events.push(&[b'x'; 2900]).unwrap();
    events.push(&[b'x'; 100]).unwrap_err();
}

proptest::proptest! {
    #[test]
    fn no_stream_causes_a_panic(lines: Vec<(u8, String)>, chunk in 1_usize..20) {
        let prefixes = ["event: ", "data: ", "data:{\"type\":\"x.partial_image\",", "data:{\"b64_json\":\"", "event:error", "", "\r"];
        let line = |(prefix, text): &(u8, String)| format!("{}{text}\n", prefixes[usize::from(*prefix) % prefixes.len()]);
        read_all(&lines.iter().map(line).collect::<String>());
        answer(collect(&lines.iter().map(line).collect::<String>(), chunk).into_body());
    }
}
