//! What GPTProto's prediction API says, read tolerantly: every variant of `wire/gptproto.md` §4 and §5.

use base64_simd::{STANDARD, STANDARD_NO_PAD};
use bytes::Bytes;
use serde_json::Value;

use super::classify::{clip, message_in, task_failure};
use super::{Finished, Output, Polled};
use crate::model::{UpstreamId, Usage};

/// A prediction as an answer names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) id: UpstreamId,
    /// Where it says that its result is.
    pub(super) poll_url: Option<String>,
}

/// What the answer to a submit says.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum SubmitAnswer {
    Accepted(Named),
    Finished {
        named: Option<Named>,
        finished: Finished,
    },
    /// The task failed in the same breath.
    Failed(crate::model::Failure),
    /// An envelope whose `code` is not a success, under HTTP 200.
    Error {
        code: u16,
        message: String,
    },
    /// JSON or not, there is neither an id nor a picture in it.
    Unusable,
}

/// Reads the answer to a submit.
pub(super) fn submit_answer(body: &[u8]) -> SubmitAnswer {
    let Ok(envelope) = serde_json::from_slice::<Value>(body) else {
        return SubmitAnswer::Unusable;
    };
    let data = first_of(envelope.get("data").unwrap_or(&envelope));
    if let Some(code) = error_code(&envelope) {
        let message = message_in(&envelope).unwrap_or_else(|| "an error without a message".to_owned());
        return SubmitAnswer::Error { code, message };
    }
    let named = named(data).or_else(|| named(&envelope));
    match state(data) {
        State::Failed => SubmitAnswer::Failed(task_failure(failure_text(&envelope, data))),
        State::Done | State::Unnamed => match (outputs(&envelope), named) {
            (outputs, named) if !outputs.is_empty() => {
                SubmitAnswer::Finished { named, finished: Finished { outputs, usage: usage(&envelope) } }
            }
            (_, Some(named)) => SubmitAnswer::Accepted(named),
            (_, None) => SubmitAnswer::Unusable,
        },
        State::Working => named.map_or(SubmitAnswer::Unusable, SubmitAnswer::Accepted),
    }
}

/// Reads the answer to a poll; `None` when it is no answer of the service.
pub(super) fn poll_answer(body: &[u8]) -> Option<Polled> {
    let envelope: Value = serde_json::from_slice(body).ok()?;
    if error_code(&envelope).is_some() {
        return None;
    }
    let data = first_of(envelope.get("data").unwrap_or(&envelope));
    Some(match state(data) {
        State::Failed => Polled::Failed(task_failure(failure_text(&envelope, data))),
        State::Done => match outputs(&envelope) {
            outputs if outputs.is_empty() => Polled::Empty,
            outputs => Polled::Finished(Finished { outputs, usage: usage(&envelope) }),
        },
        State::Working => Polled::Working,
        // No status at all: pictures speak for themselves, anything else is trouble.
        State::Unnamed => match outputs(&envelope) {
            outputs if outputs.is_empty() => return None,
            outputs => Polled::Finished(Finished { outputs, usage: usage(&envelope) }),
        },
    })
}

/// The id inside an address of the form `…/predictions/{id}/result`.
pub(super) fn id_in(address: &str) -> Option<UpstreamId> {
    let rest = address.split("/predictions/").nth(1)?;
    let id = rest.split(['/', '?', '#']).next()?;
    let id = percent_encoding::percent_decode_str(id).decode_utf8().ok()?;
    UpstreamId::new(&id)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Working,
    Done,
    Failed,
    Unnamed,
}

/// What the status word of a task says.
pub(super) fn state(data: &Value) -> State {
    let Some(word) = data.get("status").and_then(Value::as_str) else {
        return State::Unnamed;
    };
    match word.trim().to_lowercase().as_str() {
        "completed" | "succeeded" | "succeed" | "success" | "complete" | "done" | "finished" => State::Done,
        "failed" | "error" | "failure" | "cancelled" | "canceled" | "timeout" | "expired" => State::Failed,
        // Known words of waiting and working, and any word nobody has seen yet: the deadline decides.
        _ => State::Working,
    }
}

/// The envelope's `code` where it is not a success.
fn error_code(envelope: &Value) -> Option<u16> {
    let code = envelope.get("code")?;
    let code = code.as_u64().or_else(|| code.as_str()?.parse().ok())?;
    (!(200..300).contains(&code) && code != 0).then(|| u16::try_from(code).unwrap_or(500))
}

fn first_of(data: &Value) -> &Value {
    data.as_array().map_or(data, |items| items.first().unwrap_or(&Value::Null))
}

fn named(data: &Value) -> Option<Named> {
    let urls = data.get("urls");
    let poll_url = urls.and_then(|urls| first_of(urls).get("get")).and_then(Value::as_str).map(str::to_owned);
    let named = ["id", "result_id", "task_id", "prediction_id"]
        .iter()
        .filter_map(|field| data.get(*field)?.as_str())
        .find_map(UpstreamId::new);
    let id = named.or_else(|| poll_url.as_deref().and_then(id_in))?;
    Some(Named { id, poll_url })
}

/// Why a task failed, in its own words or its envelope's.
pub(super) fn failure_text(envelope: &Value, data: &Value) -> String {
    let own = data.get("error");
    own.and_then(|error| error.get("message").unwrap_or(error).as_str())
        .map(str::trim)
        .filter(|text| !text.is_empty())
        .map(clip)
        .or_else(|| message_in(envelope).filter(|text| !text.eq_ignore_ascii_case("success")))
        .unwrap_or_else(|| "the prediction failed without a reason".to_owned())
}

/// Every place outputs have been seen in, in the order of trust.
fn outputs(envelope: &Value) -> Vec<Output> {
    let places = ["/data/outputs", "/data/output", "/data/images", "/data/image_url", "/data/url", "/outputs", "/data"];
    places
        .iter()
        .filter_map(|place| envelope.pointer(place))
        .map(|found| match found.as_array() {
            Some(items) => items.iter().filter_map(output).collect::<Vec<_>>(),
            None => output(found).into_iter().collect(),
        })
        .find(|outputs| !outputs.is_empty())
        .unwrap_or_default()
}

fn output(value: &Value) -> Option<Output> {
    match value {
        Value::String(text) => output_text(text),
        Value::Object(fields) => ["b64_json", "url", "image_url", "image"].iter().find_map(|name| {
            let field = fields.get(*name)?;
            // `image_url` may hold an object with an `url` of its own.
            field.as_str().or_else(|| field.get("url")?.as_str()).and_then(output_text)
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) => None,
    }
}

/// An output as a text: an address, a data URI, or base64.
pub(super) fn output_text(text: &str) -> Option<Output> {
    let text = text.trim();
    if text.is_empty() {
        None
    } else if text.starts_with("http://") || text.starts_with("https://") {
        Some(Output::Address(text.to_owned()))
    } else if let Some(rest) = text.strip_prefix("data:") {
        base64(rest.split_once(',')?.1).map(Output::Bytes)
    } else {
        // A relative address starts with a slash and is short; so does the base64 of a JPEG, which is long.
        let address = || (text.starts_with('/') && text.len() < 2048).then(|| Output::Address(text.to_owned()));
        base64(text).filter(|bytes| crate::model::Format::sniff(bytes).is_some()).map(Output::Bytes).or_else(address)
    }
}

/// Decodes base64 leniently: standard or URL-safe, padded or not, with white space inside.
pub(super) fn base64(text: &str) -> Option<Bytes> {
    let mut clean: Vec<u8> = text
        .bytes()
        .filter(|b| !b.is_ascii_whitespace())
        .map(|b| match b {
            b'-' => b'+',
            b'_' => b'/',
            other => other,
        })
        .collect();
    while clean.last() == Some(&b'=') {
        clean.pop();
    }
    let decoded = if clean.len().is_multiple_of(4) {
        STANDARD.decode_type::<Vec<u8>>(&clean)
    } else {
        STANDARD_NO_PAD.decode_type::<Vec<u8>>(&clean)
    };
    decoded.ok().filter(|bytes| !bytes.is_empty()).map(Bytes::from)
}

fn usage(envelope: &Value) -> Option<Usage> {
    let places = ["/data/usage", "/data/extra_params/usage", "/usage"];
    places.iter().find_map(|place| usage_of(envelope.pointer(place)?))
}

/// Tokens, where both figures are there.
pub(super) fn usage_of(found: &Value) -> Option<Usage> {
    Some(Usage {
        input_tokens: found.get("input_tokens")?.as_u64()?,
        output_tokens: found.get("output_tokens")?.as_u64()?,
        input_image_tokens: found.pointer("/input_tokens_details/image_tokens").and_then(Value::as_u64),
    })
}

/// Answers of any bytes: no panic, and nothing is believed that a second look denies.
#[cfg(fuzzing)]
pub(crate) mod fuzz {
    /// An answer to a submit, a poll, or an error.
    pub fn answer(data: &[u8]) {
        let finished = matches!(super::poll_answer(data), Some(super::Polled::Finished(_)));
        let unusable = matches!(super::submit_answer(data), super::SubmitAnswer::Unusable);
        assert!(!(finished && unusable), "pictures in a poll are pictures in a submit");
        let _ = crate::upstream::openai::answer(bytes::BytesMut::from(data));
        let _ = crate::upstream::unified::answer(bytes::BytesMut::from(data));
        let _ = crate::upstream::unified::poll_answer(data);
        let message = crate::upstream::classify::message_of(data);
        assert!(message.is_none_or(|message| !message.contains('\n')), "one line");
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::Failure;

    const ID: &str = "4ec5973904e74f31bc9cd4ce94e3878e";
    const PNG: &[u8] = b"\x89PNG\r\n\x1a\n and the rest of a picture";

    fn submit(value: &Value) -> SubmitAnswer {
        submit_answer(value.to_string().as_bytes())
    }

    fn get() -> String {
        format!("https://gptproto.com/api/v3/predictions/{ID}/result")
    }

    #[test]
    fn every_shape_of_an_accepted_submit_is_understood() {
        let documented = json!({"data": {"id": ID, "outputs": [], "urls": {"get": get()}, "hasNsfwContents": [],
            "status": "created", "executionTime": 0}, "message": "success", "code": 200});
        let shapes = [
            documented,
            json!({"data": {"id": ID, "urls": [{"get": get()}], "status": "PENDING"}}),
            json!({"data": [{"id": ID, "status": "queued", "urls": {"get": get()}}], "code": 200}),
            json!({"data": {"urls": {"get": get()}, "status": "starting"}}),
            json!({"data": {"task_id": ID, "status": "a word of tomorrow", "urls": {"get": get()}}}),
            json!({"id": ID, "status": "processing", "urls": {"get": get()}}),
            json!({"code": "200", "data": {"prediction_id": ID, "urls": {"get": get()}}}),
            json!({"data": {"id": ID, "status": "completed", "outputs": [], "urls": {"get": get()}}}),
        ];
        for shape in shapes {
            let expected = Named { id: UpstreamId::new(ID).unwrap(), poll_url: Some(get()) };
            assert_eq!(submit(&shape), SubmitAnswer::Accepted(expected), "{shape}");
        }
        let colon = json!({"data": {"id": "sora-2:task_1", "status": "created"}});
        assert!(matches!(submit(&colon), SubmitAnswer::Accepted(named) if named.id.as_str() == "sora-2:task_1"));
    }

    #[test]
    fn immediate_answers_and_errors_are_told_apart() {
        let picture = STANDARD.encode_to_string(PNG);
        let immediate = [
            json!({"data": [{"url": "https://x.example/a.png"}]}),
            json!({"data": [{"b64_json": picture}], "created": 1}),
            json!({"data": {"id": ID, "status": "completed", "outputs": ["https://x.example/a.png"]}, "code": 200}),
        ];
        for shape in immediate {
            assert!(matches!(submit(&shape), SubmitAnswer::Finished { .. }), "{shape}");
        }
        let error = json!({"code": 500, "message": "no luck", "data": null});
        assert_eq!(submit(&error), SubmitAnswer::Error { code: 500, message: "no luck".to_owned() });
        for unusable in [json!({"data": {}}), json!({"data": []}), json!([]), json!({"data": {"status": "created"}})] {
            assert_eq!(submit(&unusable), SubmitAnswer::Unusable, "{unusable}");
        }
        assert_eq!(submit_answer(b"{\"data\": {\"id\": \"4ec"), SubmitAnswer::Unusable);
    }

    #[test]
    fn every_status_word_finds_its_class() {
        let poll = |word: &str, outputs: Value| {
            poll_answer(json!({"data": {"status": word, "outputs": outputs}}).to_string().as_bytes()).unwrap()
        };
        for word in
            ["created", "pending", "queued", "starting", "processing", "running", "in_progress", "zzz", " Running "]
        {
            assert_eq!(poll(word, json!([])), Polled::Working, "{word}");
        }
        for word in ["completed", "succeeded", "succeed", "success", "complete", "done", "finished", "COMPLETED"] {
            assert!(matches!(poll(word, json!(["https://x.example/1.png"])), Polled::Finished(_)), "{word}");
            assert_eq!(poll(word, json!([])), Polled::Empty, "{word}");
            assert_eq!(poll(word, json!(null)), Polled::Empty, "{word}");
        }
        for word in ["failed", "error", "failure", "cancelled", "canceled", "timeout", "Expired"] {
            assert!(matches!(poll(word, json!([])), Polled::Failed(Failure::TaskFailed { .. })), "{word}");
        }
        assert_eq!(poll_answer(b"<html>502</html>"), None);
        assert_eq!(poll_answer(b""), None);
        assert_eq!(poll_answer(br#"{"code":500,"message":"x"}"#), None);
    }

    #[test]
    fn failures_bring_their_text_from_wherever_it_is() {
        let text = |value: Value| match poll_answer(value.to_string().as_bytes()) {
            Some(Polled::Failed(Failure::TaskFailed { message })) => message,
            other => panic!("{other:?}"),
        };
        assert_eq!(text(json!({"data": {"status": "failed", "error": "boom"}})), "boom");
        assert_eq!(text(json!({"data": {"status": "failed", "error": {"message": "boom", "code": 1}}})), "boom");
        assert_eq!(text(json!({"data": {"status": "failed", "error": ""}, "message": "boom"})), "boom");
        assert!(text(json!({"data": {"status": "failed", "error": null}, "message": "success"})).contains("without"));
        let policy = json!({"data": {"status": "failed", "error": "Input may not meet the guidelines."}});
        assert!(matches!(
            poll_answer(policy.to_string().as_bytes()),
            Some(Polled::Failed(Failure::Moderated { bought: true, .. }))
        ));
    }

    #[test]
    fn every_form_of_an_output_is_read() {
        let plain = STANDARD.encode_to_string(PNG);
        let spaced = format!("{}\r\n {}", &plain[..8], plain[8..].trim_end_matches('='));
        let read = |outputs: Value| match poll_answer(
            json!({"data": {"status": "done", "outputs": outputs}}).to_string().as_bytes(),
        ) {
            Some(Polled::Finished(finished)) => finished.outputs,
            other => panic!("{other:?}"),
        };
        let bytes = || Output::Bytes(Bytes::from_static(PNG));
        let address = || Output::Address("https://x.example/1.png".to_owned());
        assert_eq!(read(json!(["https://x.example/1.png", plain, spaced])), [address(), bytes(), bytes()]);
        assert_eq!(read(json!([format!("data:image/png;base64,{plain}")])), [bytes()]);
        assert_eq!(read(json!([{"url": "https://x.example/1.png"}, {"b64_json": plain}])), [address(), bytes()]);
        assert_eq!(read(json!([{"image_url": {"url": "https://x.example/1.png"}}])), [address()]);
        assert_eq!(read(json!(["/files/1.png"])), [Output::Address("/files/1.png".to_owned())]);
        assert_eq!(read(json!("https://x.example/1.png")), [address()]);
        let elsewhere = json!({"data": {"status": "done", "images": [{"url": "https://x.example/1.png"}]}});
        assert!(matches!(poll_answer(elsewhere.to_string().as_bytes()), Some(Polled::Finished(_))));
    }

    #[test]
    fn usage_is_found_in_both_places() {
        for usage in [
            json!({"usage": {"input_tokens": 368, "output_tokens": 805, "total_tokens": 1173}}),
            json!({"extra_params": {"usage": {"input_tokens": 368, "output_tokens": 805}}}),
        ] {
            let mut data = json!({"status": "completed", "outputs": ["https://x.example/1.png"]});
            data.as_object_mut().unwrap().extend(usage.as_object().unwrap().clone());
            match poll_answer(json!({"data": data}).to_string().as_bytes()) {
                Some(Polled::Finished(Finished { usage: Some(usage), .. })) => {
                    assert_eq!((usage.input_tokens, usage.output_tokens), (368, 805));
                }
                other => panic!("{other:?}"),
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn nothing_the_upstream_says_makes_us_panic(body: Vec<u8>, text: String) {
            let _ = submit_answer(&body);
            let _ = poll_answer(&body);
            for shape in [json!({"data": {"id": text, "status": text, "outputs": [text]}}), json!({"code": text})] {
                let _ = submit(&shape);
                let _ = poll_answer(shape.to_string().as_bytes());
            }
        }
    }
}
