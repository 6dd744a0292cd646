//! The unified API, the vendor's newer one: `POST /api/v3/images`, `GET /api/v3/tasks/result/{id}` ("Upstream facts" in
//! `src/README.md`).
//!
//! Which image models it serves, and whether it takes data URIs, is not documented, so it is used only where the operator
//! configures it.

use bytes::BytesMut;
use percent_encoding::utf8_percent_encode;
use serde_json::Value;
use url::Url;

use super::openai;
use super::prediction::PATH_SEGMENT;
use crate::http::StreamingBody;
use crate::input_urls::{InputUrlGuards, InputUrls};
use crate::model::{PictureRequest, UpstreamApi, UpstreamId};
use crate::upstream::answer::error_text::{ErrorText, bounded, task_failure};
use crate::upstream::answer::{
    PollAnswer, PredictionName, SubmitAnswer, TaskState, UpstreamPrediction, failure_text, id_after, ids, is_begun,
    is_final_word, is_same_id, json, output_text, state, usage_of,
};
use crate::upstream::exchange::Exchange;
use crate::upstream::formats::RequestFormat;
use crate::upstream::inputs::InputReference;
use crate::upstream::{Finished, Output, Polled, PurchaseHandle};

pub(in crate::upstream) const SUBMIT_PATH: &str = "/api/v3/images";
const RESULT_PATH: &str = "/api/v3/tasks/result/";

/// Builds the body of a submit in its format, with every parameter explicit that the format does not leave out. Pictures are
/// published below `input_urls` where it is given, and data URIs otherwise.
///
/// # Errors
///
/// Why the request cannot be written in this format, as the end of a sentence.
pub(in crate::upstream) fn body(
    model: &str,
    api: &UpstreamApi,
    request: &PictureRequest,
    pictures: u8,
    format: &RequestFormat,
    input_urls: Option<&InputUrls>,
) -> Result<(StreamingBody, InputUrlGuards), &'static str> {
    if request.mask.is_some() {
        return Err("the unified API has no masks");
    }
    let mut body = openai::json_object(model, api, request, pictures, format)?;
    let mut guards = InputUrlGuards::default();
    for (position, input) in request.inputs.iter().enumerate() {
        let prefix = if position == 0 { ",\"input_references\":[" } else { "," };
        body = body.text(format!("{prefix}{{\"type\":\"image_url\",\"image_url\":{{\"url\":"));
        body = InputReference::either(input, input_urls, &mut guards).append_to(body).text("}}");
    }
    if !request.inputs.is_empty() {
        body = body.text("]");
    }
    Ok((body.text("}"), guards))
}

/// Reads the answer to a submit, which is a task like the answers to polls.
#[expect(clippy::needless_pass_by_value, reason = "one of several readers, another of which decodes in place")]
pub(in crate::upstream) fn answer(body: BytesMut) -> SubmitAnswer {
    let Some(body) = json::parse(&body) else {
        return SubmitAnswer::Unusable;
    };
    let task = task(&body);
    let outputs = outputs(task);
    let poll_url = task.get("polling_url").and_then(Value::as_str).filter(|url| !url.trim().is_empty());
    let elsewhere = if outputs.is_empty() { &body } else { &Value::Null };
    let id_in_url = poll_url.and_then(id_in);
    let is_done = matches!(state(task), TaskState::Done | TaskState::Missing);
    match PredictionName::of(&[task, &body], poll_url, id_in_url, elsewhere) {
        PredictionName::Named(id) => {
            let prediction = UpstreamPrediction { id, poll_url: poll_url.map(str::to_owned) };
            if is_done && !outputs.is_empty() {
                SubmitAnswer::Finished { prediction: Some(prediction), finished: finished(task, outputs) }
            } else {
                SubmitAnswer::Accepted(prediction)
            }
        }
        PredictionName::Unusable if outputs.is_empty() => SubmitAnswer::UnusableId,
        PredictionName::Unusable | PredictionName::None if !outputs.is_empty() => {
            SubmitAnswer::Finished { prediction: None, finished: finished(task, outputs) }
        }
        PredictionName::Unusable | PredictionName::None if is_begun(task, body.get("data").is_some()) => {
            SubmitAnswer::UnusableId
        }
        PredictionName::Unusable | PredictionName::None => {
            ErrorText::in_body(&body).map_or(SubmitAnswer::Unusable, SubmitAnswer::Error)
        }
    }
}

/// Reads the answer to a poll for the task `asked`.
pub(in crate::upstream) fn poll_answer(body: &[u8], asked: &UpstreamId) -> PollAnswer {
    let Some(body) = json::parse(body) else {
        return PollAnswer::Unusable;
    };
    let task = task(&body);
    let named: Vec<String> = ids(task).filter(|id| !id.is_empty()).collect();
    if let Some(other) = named.first().filter(|_| !named.iter().any(|id| is_same_id(asked, id))) {
        return PollAnswer::Other(bounded(other));
    }
    let polled = match (state(task), outputs(task)) {
        (TaskState::Failed, _) => Some(Polled::Failed(task_failure(failure_text(&body, task)))),
        (TaskState::Done, outputs) if outputs.is_empty() => Some(Polled::Empty),
        (TaskState::Done, outputs) => Some(Polled::Finished(finished(task, outputs))),
        (TaskState::Working, _) => Some(Polled::Working),
        (TaskState::Missing, _) => None,
    };
    match (polled, ErrorText::in_body(&body)) {
        (Some(polled), _) if !named.is_empty() => PollAnswer::Task(polled),
        // A task has an id, by the specification; many services have `"status": "error"` in every error.
        (Some(polled @ Polled::Finished(_)), _) | (Some(polled), None) => PollAnswer::Unnamed(polled),
        (Some(polled @ Polled::Failed(_)), Some(_)) if is_final_word(task) => PollAnswer::Unnamed(polled),
        (_, Some(error)) => PollAnswer::Error(error),
        (None, None) => PollAnswer::Unusable,
    }
}

/// Returns the URL of the task: the one from the upstream where it is on the configured origin and has the path of a task,
/// else the documented one.
pub(in crate::upstream) fn result_url(exchange: &Exchange, handle: &PurchaseHandle) -> Url {
    exchange.trusted(handle.poll_url.as_deref(), RESULT_PATH).unwrap_or_else(|| {
        let id = utf8_percent_encode(handle.id.as_str(), PATH_SEGMENT);
        exchange.at(&format!("{RESULT_PATH}{id}"))
    })
}

/// Returns the task in an answer, which may be in an envelope as in the prediction API.
fn task(answer: &Value) -> &Value {
    answer.get("data").filter(|data| data.is_object()).unwrap_or(answer)
}

/// Returns the id in a URL of the form `…/tasks/result/{id}`.
fn id_in(url: &str) -> Option<UpstreamId> {
    id_after("/tasks/result/", url)
}

fn outputs(task: &Value) -> Vec<Output> {
    let urls = task.get("unsigned_urls").and_then(Value::as_array);
    urls.into_iter().flatten().filter_map(|url| output_text(url.as_str()?)).collect()
}

fn finished(task: &Value, outputs: Vec<Output>) -> Finished {
    Finished { outputs, usage: task.get("usage").and_then(usage_of) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::{ApiKind, Choices, Failure, Input, Task, Usage};
    use crate::upstream::formats::InputMethod;
    use crate::upstream::gptproto::tests::{adapter, call, input_urls, json as sent, request};

    #[tokio::test]
    async fn an_edit_references_its_pictures_in_order() {
        let mut request = request("gpt-image-2");
        request.inputs.push(Input::Link("https://x.example/3.png".to_owned()));
        let (call, _) = call(None, &request, 2, InputMethod::Unified);
        assert_eq!(call.path, "/api/v3/images");
        insta::assert_json_snapshot!(sent(call).await, @r##"
        {
          "background": "opaque",
          "input_references": [
            {
              "image_url": {
                "url": "data:image/png;base64,b25l"
              },
              "type": "image_url"
            },
            {
              "image_url": {
                "url": "data:image/png;base64,dHdv"
              },
              "type": "image_url"
            },
            {
              "image_url": {
                "url": "https://x.example/3.png"
              },
              "type": "image_url"
            }
          ],
          "model": "openai/gpt-image-2",
          "n": 2,
          "output_format": "png",
          "prompt": "say \"hi\"\n",
          "quality": "low",
          "size": "1024x1024"
        }
        "##);
    }

    #[tokio::test]
    async fn text_to_image_has_no_references() {
        let mut request = request("gpt-image-2-plus");
        request.task = Task::Generate;
        request.inputs.clear();
        request.choices = Choices::default();
        let (call, _) = call(None, &request, 1, InputMethod::Unified);
        insta::assert_json_snapshot!(sent(call).await, @r##"
        {
          "model": "openai/gpt-image-2-plus",
          "output_format": "png",
          "prompt": "say \"hi\"\n",
          "size": "1024x1024"
        }
        "##);
    }

    #[tokio::test]
    async fn published_pictures_are_referenced_by_url() {
        let input_urls = input_urls();
        let (call, _guards) = call(Some(input_urls.clone()), &request("gpt-image-1"), 1, InputMethod::Unified);
        let body = sent(call).await;
        let published = |position: usize| {
            let url = body["input_references"][position]["image_url"]["url"].as_str().unwrap();
            let token = url.strip_prefix("https://gateway.example/v1/inputs/").unwrap();
            input_urls.find(token).unwrap().source.in_memory().unwrap()
        };
        assert_eq!((&published(0)[..], &published(1)[..]), (&b"one"[..], &b"two"[..]));
    }

    fn task(status: &str, urls: &[&str]) -> Value {
        json!({"id": "task_1", "status": status, "polling_url": "https://gptproto.com/api/v3/tasks/result/task_1",
               "generation_id": "g", "native_status": "a word", "unsigned_urls": urls, "error": null,
               "created_at": "2026-11-01T00:00:00Z", "usage": {"input_tokens": 368, "output_tokens": 805}})
    }

    fn read(value: &Value) -> SubmitAnswer {
        answer(BytesMut::from(value.to_string().as_bytes()))
    }

    fn poll(value: &Value) -> Option<Polled> {
        match poll_answer(value.to_string().as_bytes(), &UpstreamId::new("task_1").unwrap()) {
            PollAnswer::Task(polled) | PollAnswer::Unnamed(polled) => Some(polled),
            PollAnswer::Other(_) | PollAnswer::Error(_) | PollAnswer::Unusable => None,
        }
    }

    #[test]
    fn every_answer_to_a_submit_is_classified() {
        let prediction = || UpstreamPrediction {
            id: UpstreamId::new("task_1").unwrap(),
            poll_url: Some("https://gptproto.com/api/v3/tasks/result/task_1".to_owned()),
        };
        for status in ["pending", "in_progress", "a word of tomorrow", "completed"] {
            assert_eq!(read(&task(status, &[])), SubmitAnswer::Accepted(prediction()), "{status}");
        }
        assert_eq!(
            read(&json!({"data": task("pending", &[])})),
            SubmitAnswer::Accepted(prediction()),
            "in an envelope"
        );
        let done = read(&task("completed", &["https://x.example/1.png"]));
        assert!(
            matches!(&done, SubmitAnswer::Finished { prediction: Some(named), .. } if *named == prediction()),
            "{done:?}"
        );
        for status in ["failed", "cancelled", "expired"] {
            assert_eq!(read(&task(status, &[])), SubmitAnswer::Accepted(prediction()), "{status}: it is asked for");
        }
        let refused = json!({"error": {"message": "no such model", "code": 400}});
        assert!(matches!(read(&refused), SubmitAnswer::Error(text) if text.message == "no such model"));
        for unusable in [json!({}), json!({"status": "a word"}), json!([])] {
            assert_eq!(read(&unusable), SubmitAnswer::Unusable, "{unusable}");
        }
        for nameless in [json!({"id": "", "status": "pending"}), json!({"status": "pending"})] {
            assert_eq!(read(&nameless), SubmitAnswer::UnusableId, "{nameless}");
        }
        let only_url = json!({"status": "pending", "polling_url": "/api/v3/tasks/result/task_1"});
        assert!(matches!(read(&only_url), SubmitAnswer::Accepted(prediction) if prediction.id.as_str() == "task_1"));
        assert_eq!(answer(BytesMut::from(&b"<html>"[..])), SubmitAnswer::Unusable);
    }

    #[test]
    fn every_answer_to_a_poll_is_classified() {
        for status in ["pending", "in_progress", "a word of tomorrow"] {
            assert_eq!(poll(&task(status, &[])), Some(Polled::Working), "{status}");
        }
        let outputs = vec![Output::Url("https://x.example/1.png".to_owned())];
        let usage = Some(Usage { input_tokens: 368, output_tokens: 805, input_image_tokens: None });
        let expected = Polled::Finished(Finished { outputs, usage });
        assert_eq!(poll(&task("completed", &["https://x.example/1.png"])), Some(expected));
        assert_eq!(poll(&task("completed", &[])), Some(Polled::Empty));
        let mut failed = task("failed", &[]);
        failed["error"] = "boom".into();
        assert_eq!(poll(&failed), Some(Polled::Failed(Failure::TaskFailed { message: "boom".to_owned() })));
        failed["error"] = "Input may not meet the guidelines.".into();
        assert!(matches!(poll(&failed), Some(Polled::Failed(Failure::Moderated { bought: true, .. }))));
        for trouble in [json!({"error": {"message": "no", "code": 401}}), json!({}), json!(null)] {
            assert_eq!(poll(&trouble), None, "{trouble}");
        }
        assert_eq!(poll_answer(b"<html>502</html>", &UpstreamId::new("task_1").unwrap()), PollAnswer::Unusable);
    }

    #[test]
    fn the_key_is_sent_to_the_configured_origin_only() {
        let exchange = adapter(None).exchange;
        let url = |poll_url: &str| {
            let handle = PurchaseHandle {
                id: UpstreamId::new("a..&b").unwrap(),
                poll_url: Some(poll_url.to_owned()),
                api_kind: ApiKind::Unified,
                input_url_guards: InputUrlGuards::default(),
            };
            result_url(&exchange, &handle).to_string()
        };
        let good = "https://gptproto.com/api/v3/tasks/result/xyz";
        assert_eq!(url(good), good);
        for foreign in [
            "https://evil.example/api/v3/tasks/result/xyz",
            "http://gptproto.com/api/v3/tasks/result/xyz",
            "https://gptproto.com/api/v3/predictions/xyz/result",
            "https://gptproto.com@evil.example/api/v3/tasks/result/xyz",
            "/api/v3/tasks/result/xyz",
        ] {
            assert_eq!(url(foreign), "https://gptproto.com/api/v3/tasks/result/a..%26b", "{foreign}");
        }
    }
}
