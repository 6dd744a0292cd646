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
    assert!(request.form.misplaced.is_empty(), "{messages}: {:?}", request.form.misplaced);
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

/// The error of a conversation that is refused, or the words of what its form says cannot be used.
async fn refusal(body: Value) -> String {
    match read_json(body.clone()).await {
        Err(error) => error.to_string(),
        Ok(ChatRequest { form, unsupported, .. }) => {
            let misplaced = form.misplaced.iter().map(|(name, problem)| format!("'{name}' {problem}"));
            let unsupported = unsupported.iter().map(|(name, problem)| format!("'{name}' {problem}"));
            misplaced.chain(unsupported).collect::<Vec<_>>().join("; ")
        }
    }
}

#[tokio::test]
async fn only_turns_of_the_user_and_of_the_assistant_have_pictures() {
    let example = "Show pictures as ![alt](https://example.com/i.png).";
    let say = |role: &str, content: Value| json!({"role": role, "content": content});
    for message in [
        say("system", json!(example)),
        say("system", json!([text(example)])),
        say("system", json!(format!("Like this: ![x]({ONE})"))),
        say("system", json!([text("x"), image(ONE)])),
        say("developer", json!(example)),
        say("developer", json!([image(ADDRESS)])),
        say("tool", json!(format!("![x]({TWO})"))),
        say("tool", json!([text("x"), image(TWO)])),
        say("function", json!("![chart](/files/chart.png)")),
        json!({"role": "system", "content": "x", "images": [ONE]}),
        json!({"content": example, "role": "system"}),
        json!({"role": "tool", "content": "x", "attachments": [{"url": ONE}]}),
    ] {
        let alone = json!([message, user(json!("a"))]);
        assert_eq!(found(alone.clone()).await, ("a".to_owned(), vec![]), "{alone}");
        let behind = json!([user(json!([text("a"), image(THREE)])), assistant(json!("ok")), message, user(json!("b"))]);
        assert_eq!(found(behind.clone()).await, ("b".to_owned(), vec!["three".to_owned()]), "{behind}");
    }
}

#[tokio::test]
async fn pictures_of_a_message_have_the_names_of_the_image_api() {
    for message in [
        json!({"role": "user", "content": "a", "image_url": ONE}),
        json!({"role": "user", "content": "a", "image": ONE}),
        json!({"image": {"url": ONE}, "role": "user", "content": "a"}),
        json!({"role": "user", "content": "a", "image_urls": [ONE]}),
        json!({"role": "user", "content": "a", "input_image": {"image_url": ONE}}),
        json!({"role": "user", "content": "a", "images": ONE}),
        json!({"role": "user", "content": [text("a"), {"type": "image_url", "image_urls": [ONE]}]}),
        json!({"role": "user", "content": [text("a"), {"type": "image", "image": [ONE]}]}),
        json!({"role": "user", "content": [text("a"), {"input_image": ONE}]}),
        json!({"role": "user", "content": [text("a"), {"imageUrl": {"url": ONE}}]}),
        json!({"role": "user", "content": [{"type": "text", "text": "a", "image_url": {"url": ONE}}]}),
    ] {
        assert_eq!(found(json!([message])).await, ("a".to_owned(), vec!["one".to_owned()]), "{message}");
    }
}

/// Members under which programs send pictures, and which are not read.
fn lost_pictures() -> Vec<(&'static str, Value)> {
    let base64 = base64_simd::STANDARD.encode_to_string([&b"\x89PNG\r\n\x1a\n1"[..], &[0; 60]].concat());
    vec![
        ("attachments", json!([{"url": ONE}])),
        ("attachments", json!([{"url": "https://example.com/1", "contentType": "image/png"}])),
        ("experimental_attachments", json!([{"name": "a.png", "contentType": "image/png", "url": ONE}])),
        ("files", json!([{"type": "image", "data": base64}])),
        ("file", json!(base64)),
        ("parts", json!([{"type": "file", "mediaType": "image/png", "url": ONE}])),
        ("inline_data", json!({"mime_type": "image/png", "data": base64})),
        ("image_base64", json!(base64)),
        ("photo", json!("https://example.com/photo")),
        ("mask", json!(ONE)),
        ("data", json!({"deep": [{"deeper": ONE}]})),
        ("content_parts", json!([image(ONE)])),
    ]
}

#[tokio::test]
async fn pictures_in_members_that_are_not_known_are_refused_by_name() {
    for (member, value) in lost_pictures() {
        let mut message = user(json!("a"));
        message[member] = value.clone();
        let problem = refusal(json!({"messages": [message]})).await;
        assert!(problem.contains("messages[0]") && problem.contains(&format!("{member}'")), "{message}: {problem}");
        let part = user(json!([text("a"), {member: value}]));
        let problem = refusal(json!({"messages": [part]})).await;
        assert!(problem.contains("messages[0]") && problem.contains(&format!("{member}'")), "{part}: {problem}");
        // Also where it is the picture that the next message is about, and not where that has one of its own.
        let problem = refusal(json!({"messages": [message, assistant(json!("ok")), user(json!("b"))]})).await;
        assert!(problem.contains("messages[0]") && problem.contains(&format!("{member}'")), "{message}: {problem}");
        let superseded = json!([message, user(json!([text("b"), image(TWO)]))]);
        assert_eq!(found(superseded).await, ("b".to_owned(), vec!["two".to_owned()]), "{member}");
        let superseded = json!([message, assistant(json!(format!("![x]({TWO})"))), user(json!("b"))]);
        assert_eq!(found(superseded).await, ("b".to_owned(), vec!["two".to_owned()]), "{member}");
    }
}

#[tokio::test]
async fn members_without_a_picture_change_nothing() {
    for (member, value) in [
        ("name", json!("Ann")),
        ("id", json!("msg_1")),
        ("attachments", json!([])),
        ("attachments", json!([{"type": "link", "url": "/files/7"}])),
        ("files", json!([])),
        ("annotations", json!([{"url_citation": {"url": "https://example.com/a.png"}}])),
        ("tool_calls", json!([{"function": {"arguments": "{\"image\":\"https://example.com/a.png\"}"}}])),
        ("reasoning_content", json!("a cat is an animal")),
        ("created_at", json!(1_700_000_000)),
        ("image_url", json!(null)),
        ("cache_control", json!({"type": "ephemeral"})),
        ("metadata", json!({"page": "https://example.com/"})),
    ] {
        let mut message = user(json!("a"));
        message[member] = value.clone();
        assert_eq!(found(json!([message])).await, ("a".to_owned(), vec![]), "{message}");
        let mut earlier = assistant(json!("ok"));
        earlier[member] = value;
        assert_eq!(found(json!([user(json!("x")), earlier, user(json!("a"))])).await.0, "a", "{earlier}");
        let part =
            user(json!([{"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}, "citations": null}]));
        assert_eq!(found(json!([part])).await, ("a".to_owned(), vec![]));
    }
}

#[tokio::test]
async fn a_part_that_holds_nothing_to_use_is_refused() {
    for (part, words) in [
        (json!({}), "without text or picture"),
        (json!({"content": "make it blue"}), "without text or picture"),
        (json!({"type": null, "value": "x"}), "without text or picture"),
        (json!({"type": "text"}), "the type 'text' without text"),
        (json!({"type": "text", "content": "make it blue"}), "the type 'text' without text"),
        (json!({"type": "text", "text": {"value": "blue"}}), "the type 'text' without text"),
        (json!({"type": "text", "text": ["blue"]}), "the type 'text' without text"),
        (json!({"type": "input_text", "value": "x"}), "the type 'input_text' without text"),
        (json!({"type": "image_url"}), "the type 'image_url' without a picture"),
        (json!({"type": "input_image", "detail": "low"}), "the type 'input_image' without a picture"),
        (json!({"type": "video", "video": "x"}), "the type 'video'"),
    ] {
        let problem = refusal(json!({"messages": [user(json!([text("a"), part]))]})).await;
        assert!(problem.contains("messages[0]") && problem.contains(words), "{part}: {problem}");
    }
    for part in [text(""), json!({"type": "text", "text": null}), json!({"text": "a"}), json!(null)] {
        assert_eq!(found(json!([user(json!([part, text("b")]))])).await.0.trim_start_matches("a\n"), "b", "{part}");
    }
}

#[tokio::test]
async fn members_of_extra_body_are_those_of_the_conversation() {
    let with = |extra: Value| json!({"messages": [user(json!("a"))], "extra_body": extra});
    for (extra, words) in [
        (json!({"modalities": ["text"]}), "text alone"),
        (json!({"max_tokens": 5}), "a few words"),
        (json!({"max_completion_tokens": 5}), "a few words"),
        (json!({"response_format": {"type": "json_object"}}), "JSON"),
        (json!({"tools": [{}], "tool_choice": "required"}), "a call of a tool"),
        (json!({"audio": {"voice": "alloy"}}), "'audio'"),
        (json!({"prompt": "another"}), "'prompt'"),
        (json!({"Prompt": "another"}), "'prompt'"),
        (json!({"modalities": ["video"]}), "'video'"),
        (json!({"stream_options": true}), "stream_options"),
        (json!({"messages": []}), "messages"),
        (json!({"subject": ONE}), "'subject'"),
    ] {
        for name in ["extra_body", "extra_json"] {
            let body = json!({"messages": [user(json!("a"))], name: extra});
            let problem = refusal(body.clone()).await;
            assert!(problem.contains(words), "{body}: {problem}");
        }
    }
    for (name, value) in [("PROMPT", json!("x")), ("parameters", json!({"prompt": "x"})), (" prompt", json!("x"))] {
        let problem = refusal(json!({"messages": [user(json!("a"))], name: value})).await;
        assert!(problem.contains("'prompt'"), "{name}: {problem}");
    }
    let request = read_json(with(json!({
        "modalities": ["image", "text"], "size": "1024x1024", "image": [ONE], "stream_options": {"include_usage": true},
        "extra_body": {"n": 2}, "seed": 1,
    })))
    .await
    .unwrap();
    assert_eq!(
        request.options,
        CompletionOptions { location: PictureLocation::Images, format: None, include_usage: true }
    );
    assert_eq!((request.form.images.len(), request.form.scalars.contains_key("n")), (1, false));
    assert_eq!(request.form.unknown.iter().collect::<Vec<_>>(), ["extra_body", "seed"]);
}

#[tokio::test]
async fn addresses_have_brackets() {
    for (markdown, address, rest) in [
        ("![c](https://example.com/Cat_(1).png)", "https://example.com/Cat_(1).png", ""),
        ("![c](https://example.com/a_(b_(c)).png)", "https://example.com/a_(b_(c)).png", ""),
        ("![c](https://example.com/(a)(b)?x=(1))", "https://example.com/(a)(b)?x=(1)", ""),
        ("![c](https://example.com/Cat_(1).png \"a title\")", "https://example.com/Cat_(1).png", ""),
        ("![c](https://example.com/a.png) (see)", "https://example.com/a.png", " (see)"),
        ("(![c](https://example.com/a.png))", "https://example.com/a.png", "()"),
        ("![c](<https://example.com/Cat_(1).png>)", "https://example.com/Cat_(1).png", ""),
        ("![c](<https://example.com/a)b.png>)", "https://example.com/a)b.png", ""),
        ("![c](https://example.com/a_(1.png)", "https://example.com/a_(1.png", ""),
        ("![c](https://example.com/a_(1.png)\nx", "https://example.com/a_(1.png", "\nx"),
        ("![c](https://example.com/()", "https://example.com/(", ""),
    ] {
        let (prompt, inputs) = found(json!([user(json!(format!("b{markdown}")))])).await;
        assert_eq!((prompt.as_str(), inputs), (format!("b{rest}").trim(), vec![address.to_owned()]), "{markdown}");
    }
    let (prompt, inputs) = found(json!([user(json!(format!("a ![x]({ONE}) (b) ![y]({TWO}))")))])).await;
    assert_eq!((prompt.as_str(), inputs), ("a  (b) )", vec!["one".to_owned(), "two".to_owned()]));
}

#[tokio::test]
async fn texts_of_a_conversation_are_judged_one_by_one() {
    const SUMMARY: &str =
        "Summarize the discussion briefly in 200 words or less to use as a prompt for future context.";
    const TITLE: &str = "Generate a title in less than 6 words for the following message (language: en): a cat";
    let system = |content: &str| json!({"role": "system", "content": content});
    for messages in [
        json!([user(json!("a cat")), assistant(json!("ok")), system(SUMMARY)]),
        json!([system("You are helpful."), user(json!("a cat")), system(SUMMARY)]),
        json!([system(SUMMARY), system("You are helpful."), user(json!("a cat"))]),
        json!([system("You are helpful."), system("Generate a short title for this conversation."), user(json!("a"))]),
        json!([user(json!(TITLE))]),
        json!([user(json!([text("User: a cat\nAssistant: ok"), text(TITLE)]))]),
        json!([user(json!([text("a cat"), text(SUMMARY)]))]),
        json!([user(json!(["a cat", SUMMARY]))]),
        json!([user(json!("Generate a concise 3-7 word title for this conversation.\n\na cat"))]),
        json!([{"content": SUMMARY, "role": "developer"}, user(json!("a cat"))]),
        json!([system("test"), user(json!("hi"))]),
    ] {
        let error = read_json(json!({"messages": messages})).await.err();
        assert_eq!(error.map(|error| error.code()), Some("text_not_supported"), "{messages}");
    }
    for messages in [
        // Words of a task in a text that is about something else, and in two messages that do not belong together.
        json!([user(json!([text(TITLE), text("a cat")])), user(json!("a cat"))]),
        json!([system("Keep the style of the conversation."), system("Put it into a title."), user(json!("a cat"))]),
        json!([user(json!([text("a cat"), text("and a dog")]))]),
        json!([user(json!("hi"))]),
        json!([system("test"), user(json!("a cat"))]),
        json!([system("You draw. test"), user(json!("hi"))]),
        json!([system("test"), user(json!("hi there"))]),
        json!([system("hi"), user(json!("test"))]),
    ] {
        assert!(read_json(json!({"messages": messages})).await.is_ok(), "{messages}");
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
            (read.is_ok(), kept.lossy().into_owned(), inputs)
        };
        prop_assert_eq!(outcome(capacity), outcome(10_000));
    }
}
