#![expect(clippy::needless_pass_by_value, reason = "values as `json!` makes them")]

use axum::body::Body;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::api::request::test_support::{content, limits, server, spool};
use crate::model::Task;

async fn read_json(body: Value) -> Result<ChatRequest, ApiError> {
    let (_directory, spool) = spool();
    let bodies = server().bodies;
    let incoming = IncomingBody::new(Body::from(body.to_string()), &bodies);
    read(incoming, &limits(Task::Edit), &spool, None, &bodies).await
}

/// "one", "two" and "three" as data URLs.
const ONE: &str = "data:image/png;base64,b25l";
const TWO: &str = "data:image/png;base64,dHdv";
const THREE: &str = "data:image/png;base64,dGhyZWU=";
const ADDRESS: &str = "https://example.com/a.png?x=(1)";

fn user(content: Value) -> Value {
    json!({"role": "user", "content": content})
}

fn assistant(content: Value) -> Value {
    json!({"role": "assistant", "content": content})
}

fn text(text: &str) -> Value {
    json!({"type": "text", "text": text})
}

fn image(url: &str) -> Value {
    json!({"type": "image_url", "image_url": {"url": url}})
}

/// The prompt of a conversation and its inputs.
async fn found(messages: Value) -> (String, Vec<String>) {
    let request = read_json(json!({"messages": messages})).await.unwrap_or_else(|error| panic!("{messages}: {error}"));
    let Some(Scalar::Text(prompt)) = request.form.scalars.get("prompt") else { panic!("{messages}: no prompt") };
    let inputs = request.form.images.iter().map(|input| String::from_utf8(content(input)).unwrap()).collect();
    (prompt.clone(), inputs)
}

#[tokio::test]
async fn the_last_message_of_the_user_is_the_prompt_and_its_pictures_are_the_inputs() {
    let cases = [
        (json!([user(json!("a cat"))]), "a cat", vec![]),
        (json!([user(json!([text("a"), text("b")]))]), "a\nb", vec![]),
        (json!([user(json!([{"type": "input_text", "text": "a"}, "b"]))]), "a\nb", vec![]),
        (json!([user(json!("a")), assistant(json!("no")), user(json!("b"))]), "b", vec![]),
        (json!([user(json!([text("a"), image(ONE)]))]), "a", vec!["one"]),
        (json!([user(json!([image(ONE), image(TWO), text("a")]))]), "a", vec!["one", "two"]),
        (json!([user(json!([{"type": "image_url", "image_url": ONE}, text("a")]))]), "a", vec!["one"]),
        (json!([user(json!([{"type": "input_image", "image_url": ONE}, text("a")]))]), "a", vec!["one"]),
        (json!([user(json!([{"type": "image", "image": ONE}, text("a")]))]), "a", vec!["one"]),
        (json!([user(json!([{"image_url": {"detail": "high", "url": ADDRESS}}, text("a")]))]), "a", vec![ADDRESS]),
        // The content comes before the role.
        (json!([{"content": [text("a"), image(ONE)], "role": "user"}]), "a", vec!["one"]),
        // Pictures of earlier messages are superseded.
        (json!([user(json!([text("a"), image(ONE)])), user(json!([text("b"), image(TWO)]))]), "b", vec!["two"]),
        (json!([user(json!(format!("make it blue\n![x]({ONE})")))]), "make it blue", vec!["one"]),
        (json!([{"role": "user", "content": "a", "images": [image(ONE)]}]), "a", vec!["one"]),
        (json!([user(json!("a")), assistant(json!("ok")), {"role": "tool", "content": "x"}]), "a", vec![]),
        (json!([user(json!("  a\n"))]), "  a\n", vec![]),
    ];
    for (messages, prompt, inputs) in cases {
        let got = found(messages.clone()).await;
        assert_eq!((got.0.as_str(), got.1), (prompt, inputs.into_iter().map(str::to_owned).collect()), "{messages}");
    }
}

#[tokio::test]
async fn without_a_picture_of_its_own_a_message_is_about_the_last_one_of_the_conversation() {
    let markdown = |address: &str| assistant(json!(format!("Here it is:\n\n![image]({address})\n\nAnything else?")));
    let cases = [
        (json!([user(json!([text("a"), image(ONE)])), assistant(json!("no")), user(json!("b"))]), "one"),
        (json!([user(json!([text("a"), image(ONE), image(TWO)])), user(json!("b"))]), "two"),
        (json!([user(json!("a")), markdown(ONE), user(json!("b"))]), "one"),
        (json!([user(json!("a")), markdown("https://example.com/1"), user(json!("b"))]), "https://example.com/1"),
        (json!([user(json!("a")), markdown("<https://example.com/1>"), user(json!("b"))]), "https://example.com/1"),
        (
            json!([user(json!("a")), markdown("https://example.com/1 \"a (title\""), user(json!("b"))]),
            "https://example.com/1",
        ),
        (json!([user(json!("a")), markdown(&format!("{TWO} \"title\"")), user(json!("b"))]), "two"),
        (json!([user(json!("a")), assistant(json!(format!("![a]({ONE})![b]({TWO})"))), user(json!("b"))]), "two"),
        (json!([user(json!("a")), assistant(json!([text("x"), image(THREE)])), user(json!("b"))]), "three"),
        (json!([user(json!("a")), assistant(json!([text(&format!("![]({ONE})"))])), user(json!("b"))]), "one"),
        (
            json!([user(json!("a")), {"role": "assistant", "content": "", "images": [image(TWO)]}, user(json!("b"))]),
            "two",
        ),
        (
            json!([user(json!("a")), {"role": "assistant", "content": null, "images": [{"url": TWO}]}, user(json!("b"))]),
            "two",
        ),
        (json!([user(json!([text("a"), image(ONE)])), markdown(TWO), user(json!("b"))]), "two"),
        (json!([user(json!("a")), markdown(ONE), assistant(json!("!")), user(json!("b"))]), "one"),
    ];
    for (messages, input) in cases {
        assert_eq!(found(messages.clone()).await, ("b".to_owned(), vec![input.to_owned()]), "{messages}");
    }
}

#[tokio::test]
async fn what_only_looks_like_a_picture_is_text() {
    for prompt in [
        "hi! [a](b)",
        "vec![a](b)",
        "![",
        "![alt](",
        "![alt] (https://example.com/a.png)",
        "![alt\n](https://example.com/a.png)",
        "!![x](y z)",
        "![a](b \"c\") and more",
        "![x](<relative.png>)",
        "wow!",
        "![alt](https://example.com/a.png",
        "a ![b](ftp://example.com/c.png) d",
    ] {
        let (found, inputs) = found(json!([user(json!(prompt))])).await;
        assert_eq!((found.as_str(), inputs), (prompt, Vec::<String>::new()));
    }
}

#[tokio::test]
async fn what_cannot_be_used_is_refused_by_name() {
    let cases = [
        (json!({}), "missing_required_parameter", "messages"),
        (json!({"messages": "a cat"}), "invalid_type", "an array of messages"),
        (json!({"messages": ["a cat"]}), "invalid_type", "messages[0]"),
        (json!({"messages": []}), "invalid_value", "'user'"),
        (json!({"messages": [assistant(json!("a"))]}), "invalid_value", "'user'"),
        (json!({"messages": [{"content": "a"}]}), "invalid_value", "messages[0] has no 'role'"),
        (json!({"messages": [{"role": "robot", "content": "a"}]}), "invalid_value", "'robot'"),
        (json!({"messages": [user(json!(null))]}), "invalid_value", "has no text"),
        (json!({"messages": [user(json!(" \n"))]}), "invalid_value", "has no text"),
        (
            json!({"messages": [user(json!([image(ONE)]))]}),
            "invalid_value",
            "messages[0], the last one of the user, has no text",
        ),
        (
            json!({"messages": [user(json!([text("a"), {"type": "file", "file": {"file_data": ONE}}]))]}),
            "invalid_value",
            "'file'",
        ),
        (
            json!({"messages": [user(json!([text("a"), {"type": "input_audio", "input_audio": {}}]))]}),
            "invalid_value",
            "'input_audio'",
        ),
        (json!({"messages": [user(json!([text("a"), {"type": "mystery"}]))]}), "invalid_value", "'mystery'"),
        (
            json!({"messages": [user(json!([text("a"), {"type": "image_url", "image_url": null}]))]}),
            "invalid_value",
            "without a picture",
        ),
        (json!({"messages": [user(json!([text("a"), image("")]))]}), "invalid_value", "Invalid 'messages'"),
        (json!({"messages": [user(json!([text("a"), image("nonsense://x")]))]}), "invalid_value", "Invalid 'messages'"),
        (json!({"messages": [user(json!(7))]}), "invalid_type", "messages[0].content"),
        (json!({"messages": [user(json!("a"))], "modalities": "image"}), "invalid_type", "modalities"),
        (json!({"messages": [user(json!("a"))], "modalities": ["video"]}), "invalid_value", "'video'"),
        (
            json!({"messages": [user(json!("a"))], "response_format": {"type": "json_object"}}),
            "text_not_supported",
            "JSON",
        ),
        (json!({"messages": [user(json!("a"))], "response_format": "svg"}), "invalid_value", "'svg'"),
        (json!({"messages": [user(json!("a"))], "stream_options": true}), "invalid_type", "stream_options"),
        (json!({"messages": [user(json!("a"))], "max_completion_tokens": 8}), "text_not_supported", "a few words"),
        (
            json!({"messages": [user(json!("a"))], "tools": [{}], "tool_choice": "required"}),
            "text_not_supported",
            "tool",
        ),
        (
            json!({"messages": [user(json!("a")), assistant(json!("![x](/api/v1/files/7/content)")), user(json!("b"))]}),
            "invalid_value",
            "/api/v1/files/7/content",
        ),
        (
            json!({"messages": [user(json!("a")), assistant(json!("![x](data:image/png;base64,???)")), user(json!("b"))]}),
            "invalid_value",
            "not valid base64",
        ),
        (json!({"messages": [user(json!("x".repeat(10_000_000)))]}), "string_above_max_length", "messages[0].content"),
    ];
    for (body, code, part) in cases {
        let shown: String = body.to_string().chars().take(200).collect();
        let error = read_json(body).await.err().unwrap_or_else(|| panic!("{shown}: accepted"));
        assert_eq!(error.code(), code, "{shown}: {error}");
        assert!(error.to_string().contains(part), "{shown}: {error}");
    }
}

#[tokio::test]
async fn only_pictures_that_are_needed_are_decoded() {
    // What is superseded may be broken, and is never written to the spool.
    let messages = json!([
        user(json!([text("a"), image("data:image/png;base64,???"), {"type": "file", "file": {}}])),
        assistant(json!("![x](data:image/png;base64,????) ![y](/gone.png)")),
        user(json!([text("b"), image(ONE)])),
    ]);
    assert_eq!(found(messages).await, ("b".to_owned(), vec!["one".to_owned()]));

    let (_directory, spool) = spool();
    let bodies = server().bodies;
    let large = format!("data:image/png;base64,{}", "AAAA".repeat(100_000));
    let turn = json!([user(json!([text("a"), image(&large)])), assistant(json!(format!("![x]({large})")))]);
    let turns = (0..8).flat_map(|_| turn.as_array().unwrap().clone());
    let messages: Vec<Value> = turns.chain([user(json!([text("b"), image(ONE)]))]).collect();
    let body = Body::from(json!({"messages": messages}).to_string());
    let request = read(IncomingBody::new(body, &bodies), &limits(Task::Edit), &spool, None, &bodies).await.unwrap();
    assert_eq!((request.form.images.len(), spool.status().bytes), (1, 3));
}

#[tokio::test]
async fn the_other_parameters_are_those_of_the_image_api() {
    let request = read_json(json!({
        "model": "gpt-image-1.5", "messages": [{"role": "system", "content": "be brief"}, user(json!("a"))],
        "n": 2, "size": "1024x1024", "quality": "low", "stream": true, "stream_options": {"include_usage": true},
        "temperature": 0.5, "max_tokens": 4096, "modalities": ["image", "text"], "response_format": {"type": "text"},
        "tools": [], "tool_choice": "auto", "audio": null, "user": "u", "metadata": {"a": [1]},
    }))
    .await
    .unwrap();
    let names: Vec<&str> = request.form.scalars.keys().map(String::as_str).collect();
    assert_eq!(names, ["model", "n", "prompt", "quality", "size", "stream", "user"]);
    let unknown: Vec<&str> = request.form.unknown.iter().map(String::as_str).collect();
    assert_eq!(unknown, ["max_tokens", "messages.system", "metadata", "temperature"]);
    assert_eq!(request.unsupported, []);
    let expected = CompletionOptions { location: PictureLocation::Images, format: None, include_usage: true };
    assert_eq!(request.options, expected);
    for (name, value) in
        [("audio", json!({"voice": "alloy"})), ("modalities", json!(["audio", "image"])), ("prompt", json!("another"))]
    {
        let request = read_json(json!({"messages": [user(json!("a"))], name: value})).await.unwrap();
        assert_eq!(request.unsupported.len(), 1, "{name}");
    }
}

#[tokio::test]
async fn tools_that_are_offered_are_ignored() {
    for (name, value) in [("tools", json!([{"type": "function"}])), ("functions", json!([{"name": "f"}]))] {
        for choice in [json!(null), json!("auto"), json!("none")] {
            let body = json!({"messages": [user(json!("a"))], name: value, "tool_choice": choice});
            let request = read_json(body).await.unwrap();
            let unknown: Vec<&str> = request.form.unknown.iter().map(String::as_str).collect();
            assert_eq!((unknown.as_slice(), request.unsupported.len()), (["tools"].as_slice(), 0), "{name} {choice}");
        }
    }
}

#[tokio::test]
async fn the_list_of_attached_files_is_no_part_of_the_prompt() {
    let list = "<attached_files>\n<file type=\"image\" id=\"7\" url=\"7\" name=\"a.png\"/>\n</attached_files>\n\n";
    for (content, prompt) in [
        (json!(format!("{list}a cat")), "a cat"),
        (json!([{"type": "text", "text": list}, {"type": "text", "text": "a cat\n"}]), "a cat\n"),
        (
            json!("a cat with <attached_files> on a sign</attached_files>"),
            "a cat with <attached_files> on a sign</attached_files>",
        ),
        (json!("<attached_files> on a sign"), "<attached_files> on a sign"),
    ] {
        let request = read_json(json!({"messages": [user(content)]})).await.unwrap();
        assert_eq!(request.form.scalars.get("prompt"), Some(&Scalar::Text(prompt.to_owned())));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn a_text_is_read_alike_however_it_is_cut(
        text in "(\\PC|[!\\[\\]()<> ,\n]|data:image/png;base64,b25l|https://e.x/|!\\[a\\]\\(){0,12}",
        capacity in 1_usize..9,
    ) {
        use markdown::{MessageText, read_text};
        use pictures::{PictureReader, PictureSelection};
        use std::io::BufReader;

        let outcome = |capacity: usize| {
            let (_directory, spool) = spool();
            let mut upload = futures_util::FutureExt::now_or_never(spool.upload(None)).unwrap().unwrap();
            let mut selection = PictureSelection::new(0..usize::MAX);
            let limits = limits(Task::Edit);
            let mut kept = MessageText::new(10_000);
            let mut pictures =
                PictureReader { selection: &mut selection, limits: &limits, upload: &mut upload, param: "m", explain: &|_| unreachable!("memory") };
            let read = read_text(&mut BufReader::with_capacity(capacity, text.as_bytes()), &mut kept, &mut pictures);
            let inputs: Vec<_> = selection.pictures.iter().map(content).collect();
            (read.is_ok(), kept.lossy(), inputs)
        };
        prop_assert_eq!(outcome(capacity), outcome(10_000));
    }
}
