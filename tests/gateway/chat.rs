//! Chat completions: a conversation as an edit or a generation, and the answer as programs read it.

#![expect(clippy::needless_pass_by_value, reason = "values as `json!` makes them")]

use serde_json::{Value, json};

use crate::harness::{Answer, Client, Edit, Gateway, Upstream, data_url, digest, http, picture, size_of, until};

/// A conversation with one message of the user, for a small picture.
fn ask(content: Value) -> Value {
    conversation(json!([{"role": "user", "content": content}]))
}

fn conversation(messages: Value) -> Value {
    json!({"model": "gpt-image-1.5", "quality": "low", "size": "256x256", "messages": messages})
}

fn with(mut body: Value, name: &str, value: Value) -> Value {
    body[name] = value;
    body
}

async fn complete(client: &Client, body: &Value) -> Answer {
    let request = client.request(reqwest::Method::POST, "/v1/chat/completions").json(body);
    Answer::to(request).await
}

/// The address in the Markdown of a text that is one picture.
fn markdown_address(text: &str) -> &str {
    text.strip_prefix("![image](").and_then(|rest| rest.strip_suffix(')')).unwrap_or_else(|| panic!("{text}"))
}

async fn bytes_at(address: &str) -> Vec<u8> {
    let answer = http().get(address).send().await.unwrap();
    assert_eq!(answer.status(), 200, "{address}");
    answer.bytes().await.unwrap().to_vec()
}

/// The events of a stream, which ends with `[DONE]`.
fn chunks(answer: &Answer) -> Vec<Value> {
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.header("content-type"), "text/event-stream");
    let text = answer.text();
    let mut data: Vec<&str> = text
        .split_terminator("\n\n")
        .filter(|block| !block.starts_with(':'))
        .map(|block| block.strip_prefix("data: ").unwrap())
        .collect();
    if data.last() == Some(&"[DONE]") {
        data.pop();
    }
    data.into_iter().map(|data| serde_json::from_str(data).unwrap()).collect()
}

#[tokio::test]
async fn a_message_is_a_generation_and_its_answer_holds_the_address() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    let answer = complete(&gateway.alice(), &ask(json!("a red cat"))).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let body = answer.json();
    assert_eq!((&body["object"], &body["model"]), (&json!("chat.completion"), &json!("gpt-image-1.5")));
    assert!(body["id"].as_str().unwrap().starts_with("chatcmpl-pred_") && body["created"].is_i64());
    assert_eq!(body["choices"].as_array().unwrap().len(), 1);
    let choice = &body["choices"][0];
    assert_eq!((&choice["index"], &choice["finish_reason"]), (&json!(0), &json!("stop")));
    assert_eq!(choice["message"]["role"], "assistant");
    let address = markdown_address(choice["message"]["content"].as_str().unwrap());
    assert_eq!(choice["message"].get("images"), None, "a program that reads both would show it twice");
    assert_eq!(size_of(&bytes_at(address).await), (256, 256));
    let usage = &body["usage"];
    let count = |name: &str| usage[name].as_u64().unwrap();
    assert_eq!(count("total_tokens"), count("prompt_tokens") + count("completion_tokens"));
    assert_eq!(usage["completion_tokens_details"]["image_tokens"], usage["completion_tokens"]);
    let bought = upstream.prediction().await;
    assert_eq!(
        (&bought["capability"], &bought["parameters"]["prompt"]),
        (&json!("text-to-image"), &json!("a red cat")),
        "{bought}"
    );
    // The same request of the image API is the same purchase.
    let same = gateway.alice().generate(json!({"prompt": "a red cat"})).await;
    assert_eq!((same.cache(), upstream.purchases().await), ("hit", 1));
}

#[tokio::test]
async fn the_pictures_of_the_last_message_are_edited() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    let image = |url: &str| json!({"type": "image_url", "image_url": {"url": url}});
    let content = json!([{"type": "text", "text": "make it blue"}, image(&data_url(&picture(1)))]);
    let answer = complete(&gateway.alice(), &ask(content)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let bought = upstream.prediction().await;
    assert_eq!(bought["inputs"].as_array().map(Vec::len), Some(1), "{bought}");
    let same = gateway.alice().edit(&Edit::new("make it blue")).await;
    assert_eq!((same.cache(), upstream.purchases().await), ("hit", 1), "the same edit as by the image API");
}

#[tokio::test]
async fn a_stream_has_the_chunks_of_a_chat() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    let body =
        with(with(ask(json!("a red cat")), "stream", json!(true)), "stream_options", json!({"include_usage": true}));
    let answer = complete(&gateway.alice(), &body).await;
    assert!(answer.text().ends_with("data: [DONE]\n\n"), "{}", answer.text());
    let chunks = chunks(&answer);
    assert!(chunks.iter().all(|chunk| chunk["object"] == "chat.completion.chunk" && chunk["id"] == chunks[0]["id"]));
    assert_eq!(chunks[0]["choices"][0]["delta"], json!({"role": "assistant", "content": ""}));
    let address = markdown_address(chunks[1]["choices"][0]["delta"]["content"].as_str().unwrap());
    assert_eq!(size_of(&bytes_at(address).await), (256, 256));
    assert_eq!(
        (&chunks[2]["choices"][0]["delta"], &chunks[2]["choices"][0]["finish_reason"]),
        (&json!({}), &json!("stop"))
    );
    assert_eq!(chunks[3]["choices"], json!([]));
    assert!(chunks[3]["usage"]["total_tokens"].is_u64());
    assert_eq!(chunks.len(), 4);
}

#[tokio::test]
async fn modalities_put_the_picture_beside_the_text() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    let body = with(ask(json!("a red cat")), "modalities", json!(["image", "text"]));
    let whole = complete(&gateway.alice(), &body).await.json();
    let message = &whole["choices"][0]["message"];
    assert_eq!(message["content"], "");
    let url = message["images"][0]["image_url"]["url"].as_str().unwrap().to_owned();
    let bytes = base64_simd::STANDARD.decode_to_vec(url.strip_prefix("data:image/png;base64,").unwrap()).unwrap();
    assert_eq!(digest(&bytes), digest(&gateway.alice().generate(json!({"prompt": "a red cat"})).await.picture()));
    let streamed = chunks(&complete(&gateway.alice(), &with(body, "stream", json!(true))).await);
    assert_eq!(streamed[1]["choices"][0]["delta"]["images"][0]["image_url"]["url"], url);
    assert_eq!((streamed.len(), upstream.purchases().await), (3, 1));
}

#[tokio::test]
async fn requests_for_text_buy_nothing() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::with(&upstream, &[("server.unsupported_parameters", "drop")]).await;
    let title = "### Task:\nGenerate a concise, 3-5 word title with an emoji summarizing the chat history.\n\
                 ### Chat History:\n<chat_history>\nUSER: a cat\n</chat_history>";
    for body in [
        ask(json!(title)),
        with(ask(json!("a cat")), "response_format", json!({"type": "json_schema", "json_schema": {}})),
        with(ask(json!("hi")), "max_tokens", json!(5)),
        with(ask(json!("a cat")), "modalities", json!(["text"])),
    ] {
        complete(&gateway.alice(), &body).await.is_refused(400, "text_not_supported");
    }
    let responses = gateway.alice().request(reqwest::Method::POST, "/v1/responses").json(&json!({"input": "a cat"}));
    let refused = Answer::to(responses).await;
    refused.is_refused(404, "endpoint_not_supported");
    assert!(refused.message().contains("/v1/chat/completions"), "{}", refused.message());
    assert_eq!(upstream.submits().await, 0);
}

#[tokio::test]
async fn a_conversation_goes_on_with_the_picture_of_the_last_answer() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    let first = with(ask(json!("a red cat")), "modalities", json!(["image", "text"]));
    let message = complete(&gateway.alice(), &first).await.json()["choices"][0]["message"].clone();
    let bytes = gateway.alice().generate(json!({"prompt": "a red cat"})).await.picture();
    // As data in `images`, in a part, and in Markdown: all are the same edit.
    let url = &message["images"][0]["image_url"]["url"];
    let answers = [
        message.clone(),
        json!({"role": "assistant", "content": [{"type": "text", "text": ""}, {"type": "image_url", "image_url": {"url": url}}]}),
        json!({"role": "assistant", "content": format!("![image]({})", url.as_str().unwrap())}),
    ];
    for (turn, answer) in answers.into_iter().enumerate() {
        let messages = json!([
            {"role": "system", "content": "You are helpful."}, {"role": "user", "content": "a red cat"}, answer,
            {"role": "user", "content": "now blue"},
        ]);
        let edited = complete(&gateway.alice(), &conversation(messages)).await;
        assert_eq!((edited.status, edited.cache()), (200, if turn == 0 { "miss" } else { "hit" }), "{}", edited.text());
    }
    let edit = Edit::bare("now blue").picture("image", bytes);
    assert_eq!((gateway.alice().edit(&edit).await.cache(), upstream.purchases().await), ("hit", 2));
}

#[tokio::test]
async fn all_pictures_are_in_the_first_choice() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    let two = with(ask(json!("two cats")), "n", json!(2));
    let whole = complete(&gateway.alice(), &two).await.json();
    assert_eq!(whole["choices"].as_array().unwrap().len(), 1);
    let content = whole["choices"][0]["message"]["content"].as_str().unwrap();
    let addresses: Vec<&str> = content.split("\n\n").map(markdown_address).collect();
    let expected = gateway.alice().generate(json!({"prompt": "two cats", "n": 2})).await.pictures();
    assert_eq!(addresses.len(), 2);
    for (address, picture) in addresses.iter().zip(&expected) {
        assert_eq!(digest(&bytes_at(address).await), digest(picture));
    }
    let streamed = chunks(&complete(&gateway.alice(), &with(two.clone(), "stream", json!(true))).await);
    let text: String = streamed.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(text.matches("![image](").count(), 2, "{text}");
    let as_data = with(with(two, "response_format", json!("b64_json")), "stream", json!(true));
    let streamed = chunks(&complete(&gateway.alice(), &as_data).await);
    let text: String = streamed.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect();
    let pictures: Vec<String> = text
        .split("\n\n")
        .map(|picture| {
            let data = markdown_address(picture).strip_prefix("data:image/png;base64,").unwrap();
            digest(&base64_simd::STANDARD.decode_to_vec(data).unwrap())
        })
        .collect();
    assert_eq!(pictures, expected.iter().map(|picture| digest(picture)).collect::<Vec<_>>());
    assert_eq!(upstream.purchases().await, 1);
}

#[tokio::test]
async fn a_failure_has_a_status_before_the_stream_and_is_an_event_in_it() {
    let upstream = Upstream::start().await;
    let quick = [("server.stream_heartbeat_ms", "100"), ("server.stream_grace_ms", "50")];
    let gateway = Gateway::with(&upstream, &[quick[0], ("server.stream_grace_ms", "5000")]).await;
    let streamed = |prompt: &str| with(ask(json!(prompt)), "stream", json!(true));
    complete(&gateway.alice(), &streamed("a forbidden-picture")).await.is_refused(400, "moderation_blocked");
    complete(&gateway.alice(), &ask(json!("a forbidden-picture"))).await.is_refused(400, "moderation_blocked");

    let gateway = Gateway::with(&upstream, &quick).await;
    upstream.hold().await;
    upstream.set(json!({"policy": {"answer": "task"}})).await;
    let mut answer = gateway.alice().begin_json("/v1/chat/completions", &streamed("a forbidden-picture, refused late"));
    until("it is bought", async || upstream.purchases().await == 1).await;
    answer.first_bytes().await;
    upstream.release().await;
    let answer = answer.answer().await;
    assert!(!answer.text().contains("[DONE]") && answer.text().contains(": processing\n\n"), "{}", answer.text());
    let chunks = chunks(&answer);
    assert_eq!(chunks[0]["choices"][0]["delta"]["role"], "assistant");
    let error = &chunks[1]["error"];
    assert_eq!((&error["code"], chunks.len()), (&json!("moderation_blocked"), 2));
    for key in ["message", "type", "param"] {
        assert!(error.get(key).is_some(), "{key}");
    }
}

#[tokio::test]
async fn a_stream_that_broke_off_is_not_bought_again() {
    let upstream = Upstream::start().await;
    let quick = [("server.stream_heartbeat_ms", "100"), ("server.stream_grace_ms", "50"), ("cache.mode", "off")];
    let gateway = Gateway::with(&upstream, &quick).await;
    upstream.hold().await;
    let body = with(ask(json!("later")), "stream", json!(true));
    let mut pending = gateway.alice().begin_json("/v1/chat/completions", &body);
    until("it is bought", async || upstream.purchases().await == 1).await;
    pending.first_bytes().await;
    pending.disconnect().await;
    upstream.release().await;
    let again = complete(&gateway.alice(), &body).await;
    assert_eq!((chunks(&again).len(), upstream.purchases().await), (3, 1), "it was not delivered");
    let third = complete(&gateway.alice(), &body).await;
    assert_eq!((chunks(&third).len(), upstream.purchases().await), (3, 2), "the second had it");
}

#[tokio::test]
async fn pictures_that_are_missing_are_named() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    let two = json!({"model": "gpt-image-2-plus", "n": 2, "messages": [{"role": "user", "content": "one of two"}]});
    upstream.fault("submit", "drop_after", 1).await;
    let whole = complete(&gateway.alice(), &two).await;
    assert_eq!((whole.status, whole.header("x-gateway-missing")), (200, "1"), "{}", whole.text());
    let body = whole.json();
    let warning = body["warnings"][0]["message"].as_str().unwrap();
    let content = body["choices"][0]["message"]["content"].as_str().unwrap();
    let (picture, rest) = content.split_once("\n\n").unwrap();
    markdown_address(picture);
    assert_eq!(rest, warning, "it is also in the text, which is all that chat programs show");

    upstream.fault("submit", "drop_after", 1).await;
    let streamed = with(with(two, "stream", json!(true)), "messages", json!([{"role": "user", "content": "again"}]));
    let answer = complete(&gateway.alice(), &streamed).await;
    let chunks = chunks(&answer);
    assert!(chunks[1]["choices"][0]["delta"]["content"].as_str().unwrap().starts_with("![image]("));
    assert!(chunks[2]["error"]["code"].is_string() && !answer.text().contains("[DONE]"), "{}", answer.text());
}

#[tokio::test]
async fn every_path_of_the_endpoint_is_served_and_other_requests_have_their_errors() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    let post = |path: &'static str| gateway.alice().request(reqwest::Method::POST, path);
    let mut body = ask(json!("everywhere"));
    for path in
        ["/v1/chat/completions", "/chat/completions/", "/openai/v1/chat/completions", "/openai/chat/completions"]
    {
        let answer = Answer::to(post(path).json(&body)).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    }
    body["model"] = json!("another");
    let deployment = "/openai/deployments/gpt-image-1.5/chat/completions?api-version=2025-04-01-preview";
    let answer = Answer::to(post(deployment).json(&body)).await;
    assert_eq!((answer.status, answer.cache()), (200, "hit"), "the path names the model");
    complete(&gateway.alice(), &body).await.is_refused(404, "model_not_found");

    let answer = gateway.alice().get("/v1/chat/completions").await;
    assert_eq!((answer.status, answer.header("allow")), (405, "POST"));
    let form = reqwest::multipart::Form::new().text("messages", "a cat");
    let answer = Answer::to(post("/v1/chat/completions").multipart(form)).await;
    answer.is_refused(400, "malformed_body");
    assert!(answer.message().contains("application/json"), "{}", answer.message());
    let asynchronous = post("/v1/chat/completions").header("prefer", "respond-async").json(&ask(json!("everywhere")));
    assert_eq!(Answer::to(asynchronous).await.status, 200, "the preference is not applied");
    let empty = json!({"model": "gpt-image-1.5"});
    complete(&gateway.alice(), &empty).await.is_refused(400, "missing_required_parameter");
    assert_eq!(upstream.purchases().await, 1);
}

#[tokio::test]
async fn parameters_of_text_models_are_refused_or_dropped() {
    let upstream = Upstream::start().await;
    let [refusing, dropping] =
        [Gateway::on(&upstream).await, Gateway::with(&upstream, &[("server.unsupported_parameters", "drop")]).await];
    for (name, value) in [
        ("audio", json!({"voice": "alloy", "format": "mp3"})),
        ("modalities", json!(["audio", "image"])),
        ("prompt", json!("another")),
    ] {
        let body = with(ask(json!("a cat")), name, value);
        let refused = complete(&refusing.alice(), &body).await;
        refused.is_refused(400, "unsupported_parameter");
        assert_eq!(refused.json()["error"]["param"], name);
        let dropped = complete(&dropping.alice(), &body).await;
        assert_eq!((dropped.status, dropped.header("x-gateway-dropped")), (200, name), "{}", dropped.text());
    }
    for (name, value) in [
        ("temperature", json!(0.7)),
        ("top_p", json!(1)),
        ("max_tokens", json!(4096)),
        ("max_completion_tokens", json!(1000)),
        ("stop", json!(["\n"])),
        ("frequency_penalty", json!(0)),
        ("presence_penalty", json!(0)),
        ("logprobs", json!(false)),
        ("reasoning_effort", json!("low")),
        ("metadata", json!({"a": "b"})),
        ("store", json!(false)),
        ("tool_choice", json!("auto")),
        ("tools", json!([])),
        ("tools", json!([{"type": "function", "function": {"name": "f"}}])),
        ("functions", json!([{"name": "f"}])),
        ("parallel_tool_calls", json!(true)),
        ("response_format", json!({"type": "text"})),
    ] {
        let answer = complete(&refusing.alice(), &with(ask(json!("a cat")), name, value)).await;
        assert_eq!(answer.status, 200, "{name}: {}", answer.text());
    }
    assert_eq!(upstream.purchases().await, 2, "one for each gateway");
}

#[tokio::test]
async fn the_address_in_an_answer_is_the_picture_of_the_next_edit() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    let message = complete(&gateway.alice(), &ask(json!("a red cat"))).await.json()["choices"][0]["message"].clone();
    let bytes = gateway.alice().generate(json!({"prompt": "a red cat"})).await.picture();
    // As LibreChat and Open WebUI send it again: the text alone.
    let turn = |content: &Value| {
        conversation(json!([
            {"role": "user", "content": "a red cat"}, {"role": "assistant", "content": content},
            {"role": "user", "content": "now blue"},
        ]))
    };
    let edited = complete(&gateway.alice(), &turn(&message["content"])).await;
    assert_eq!(edited.status, 200, "{}", edited.text());
    let edit = Edit::bare("now blue").picture("image", bytes);
    assert_eq!((gateway.alice().edit(&edit).await.cache(), upstream.purchases().await), ("hit", 2));
    let inputs = upstream.predictions().await[1]["inputs"].clone();
    assert_eq!(inputs.as_array().map(Vec::len), Some(1), "{inputs}");

    // An address that has been altered, or has expired, is refused and not replaced by anything.
    let altered = json!(message["content"].as_str().unwrap().replace(".png?", ".png?x"));
    let refused = complete(&gateway.alice(), &turn(&altered)).await;
    assert_eq!(refused.status / 100, 4, "{}", refused.text());
    assert_eq!(upstream.submits().await, 2);
}

#[tokio::test]
async fn the_shape_is_read_where_chat_programs_write_it() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    let mut body =
        json!({"model": "gpt-image-1.5", "quality": "low", "messages": [{"role": "user", "content": "wide"}]});
    body["modalities"] = json!(["image", "text"]);
    body["image_config"] = json!({"aspect_ratio": "3:2"});
    let answer = complete(&gateway.alice(), &body).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(upstream.prediction().await["parameters"]["size"], "1536x1024");
    body["temperature"] = json!(1);
    body["messages"] = json!([{"role": "system", "content": "be brief"}, {"role": "user", "content": "wide"}]);
    let answer = complete(&gateway.alice(), &body).await;
    assert_eq!((answer.cache(), answer.header("x-gateway-ignored")), ("hit", "messages.system,temperature"));
}

#[tokio::test]
async fn pictures_that_would_be_left_out_are_refused_by_name_before_anything_is_bought() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    let url = data_url(&picture(1));
    let base64 = url.split(',').nth(1).unwrap();
    for (member, value) in [
        ("attachments", json!([{"url": url}])),
        ("attachments", json!([{"url": "https://example.com/1", "contentType": "image/png"}])),
        ("experimental_attachments", json!([{"name": "a.png", "contentType": "image/png", "url": url}])),
        ("files", json!([{"data": base64}])),
        ("file", json!(base64)),
        ("parts", json!([{"type": "file", "mediaType": "image/png", "url": url}])),
        ("inline_data", json!({"mime_type": "image/png", "data": base64})),
        ("image_base64", json!(base64)),
        ("photo", json!("https://example.com/photo")),
        ("mask", json!(url)),
        ("data", json!({"deep": [{"deeper": url}]})),
    ] {
        let mut message = json!({"role": "user", "content": "make it blue"});
        message[member] = value.clone();
        let part = json!({"role": "user", "content": [{"type": "text", "text": "make it blue"}, {member: value}]});
        for messages in [json!([message]), json!([part]), json!([message, {"role": "user", "content": "and larger"}])] {
            let refused = complete(&gateway.alice(), &conversation(messages)).await;
            assert_eq!(refused.status, 400, "{member}: {}", refused.text());
            assert!(refused.message().contains(&format!("{member}'")), "{}", refused.message());
        }
    }
    let body = with(ask(json!("x")), "extra_body", json!({"modalities": ["text"]}));
    complete(&gateway.alice(), &body).await.is_refused(400, "text_not_supported");
    let body = with(ask(json!("x")), "extra_body", json!({"prompt": "another"}));
    complete(&gateway.alice(), &body).await.is_refused(400, "unsupported_parameter");
    assert_eq!(upstream.submits().await, 0);

    let dropping = Gateway::with(&upstream, &[("server.unsupported_parameters", "drop")]).await;
    let message = json!({"role": "user", "content": "make it blue", "attachments": [{"url": url}]});
    let answer = complete(&dropping.alice(), &conversation(json!([message]))).await;
    assert_eq!((answer.status, answer.header("x-gateway-dropped")), (200, "messages[0].attachments"));
}

#[tokio::test]
async fn pictures_in_plain_places_of_a_message_are_edited_and_those_of_instructions_are_not() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    let url = data_url(&picture(1));
    for (turn, message) in [
        json!({"role": "user", "content": "make it blue", "image_url": url}),
        json!({"role": "user", "content": "make it blue", "image": {"url": url}}),
        json!({"role": "user", "content": "make it blue", "image_urls": [url]}),
        json!({"role": "user", "content": [{"type": "text", "text": "make it blue"}, {"input_image": url}]}),
    ]
    .into_iter()
    .enumerate()
    {
        let edited = complete(&gateway.alice(), &conversation(json!([message]))).await;
        assert_eq!((edited.status, edited.cache()), (200, if turn == 0 { "miss" } else { "hit" }), "{}", edited.text());
    }
    assert_eq!(upstream.prediction().await["inputs"].as_array().map(Vec::len), Some(1));
    for role in ["system", "developer", "tool"] {
        for content in [
            json!("Show pictures as ![alt](https://example.com/i.png)."),
            json!([{"type": "text", "text": "x"}, {"type": "image_url", "image_url": {"url": url}}]),
        ] {
            let messages =
                json!([{"role": role, "content": content}, {"role": "user", "content": format!("a {role}")}]);
            let answer = complete(&gateway.alice(), &conversation(messages)).await;
            assert_eq!(answer.status, 200, "{}", answer.text());
            let newest = upstream.predictions().await.pop().unwrap();
            assert_eq!(newest["capability"], "text-to-image", "{newest}");
        }
    }
    assert_eq!(upstream.purchases().await, 4);
}
