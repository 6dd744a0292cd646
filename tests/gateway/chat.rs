//! Chat completions: a conversation as an edit or a generation, and the answer as programs read it.

use serde_json::{Value, json};

use crate::harness::{Answer, Client, Edit, Gateway, Upstream, data_url, digest, http, picture, size_of};

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
    assert_eq!(choice["message"]["images"], json!([{"type": "image_url", "image_url": {"url": address}}]));
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
