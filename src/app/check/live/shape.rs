//! Reads the form of the upstream's answers for a report, apart from the gateway's own reader: it shows what was there,
//! also where the gateway did not need it.

use serde_json::Value;
use url::Url;

/// Returns the part of an answer that describes the prediction.
fn task(body: &Value) -> &Value {
    let data = body.get("data").unwrap_or(body);
    data.get(0).unwrap_or(data)
}

/// Returns the id of the prediction.
pub(super) fn id(body: &Value) -> Option<String> {
    let text = |value: &Value| match value {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::String(_) | Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    };
    let names = ["id", "task_id", "taskId"];
    [task(body), body].into_iter().find_map(|part| names.iter().find_map(|name| part.get(name).and_then(text)))
}

/// Returns the status of the prediction, as the service words it.
pub(super) fn status(body: &Value) -> Option<&str> {
    [task(body), body].into_iter().find_map(|part| part.get("status").or_else(|| part.get("state"))?.as_str())
}

/// Returns the outputs without the queries of their addresses, which differ with every signature.
pub(super) fn outputs(body: &Value) -> Vec<String> {
    let part = task(body);
    let outputs = ["outputs", "result", "images"].iter().find_map(|name| part.get(name)?.as_array());
    let text = |output: &Value| match output {
        Value::String(text) => text.split('?').next().unwrap_or_default().to_owned(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => output.to_string(),
    };
    outputs.into_iter().flatten().map(text).collect()
}

/// Describes the answer to a submit: the form of the id, and where the result is announced.
pub(super) fn describe_submit(body: &Value) -> String {
    let Some(id) = id(body) else {
        return "no id; the pictures are in the answer".to_owned();
    };
    let urls = task(body).get("urls").or_else(|| body.get("urls"));
    let (form, get) = match urls {
        Some(Value::Object(fields)) => ("urls is an object", fields.get("get")),
        Some(Value::Array(items)) => ("urls is an array", items.first().and_then(|first| first.get("get"))),
        _ => ("no urls", None),
    };
    let host = get.and_then(Value::as_str).map(|address| match Url::parse(address) {
        Ok(address) => format!(", on {}", address.host_str().unwrap_or("no host")),
        Err(_) => ", relative".to_owned(),
    });
    format!("id {id} ({}), {form}{}", id_form(body, &id), host.unwrap_or_default())
}

fn id_form(body: &Value, id: &str) -> &'static str {
    let is_hex = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let lengths: Vec<usize> = id.split('-').map(str::len).collect();
    match () {
        () if task(body).get("id").is_some_and(Value::is_number) => "a number",
        () if lengths == [8, 4, 4, 4, 12] && id.split('-').all(is_hex) => "a UUID",
        () if is_hex(id) => "hexadecimal",
        () => "text",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_form_of_an_answer_is_described() {
        let get = "https://gptproto.com/api/v3/predictions/0a1b/result";
        for (body, described) in [
            (
                json!({"data": {"id": "0a1b", "urls": {"get": get}}}),
                "id 0a1b (hexadecimal), urls is an object, on gptproto.com",
            ),
            (
                json!({"data": {"id": "0a1b", "urls": [{"get": get}]}}),
                "id 0a1b (hexadecimal), urls is an array, on gptproto.com",
            ),
            (json!({"data": [{"id": "model:task_1"}]}), "id model:task_1 (text), no urls"),
            (json!({"data": {"id": 17}}), "id 17 (a number), no urls"),
            (
                json!({"taskId": "7b1f0c9e-0000-4000-8000-1234567890ab", "urls": {"get": "/api/x"}}),
                "id 7b1f0c9e-0000-4000-8000-1234567890ab (a UUID), urls is an object, relative",
            ),
            (json!({"created": 1, "data": [{"b64_json": "AAAA"}]}), "no id; the pictures are in the answer"),
        ] {
            assert_eq!(describe_submit(&body), described, "{body}");
        }
    }

    #[test]
    fn outputs_are_compared_without_their_signatures() {
        let first = json!({"data": {"status": "completed", "outputs": ["https://a.example/1.png?sig=1"]}});
        let second = json!({"data": {"state": "completed", "result": ["https://a.example/1.png?sig=2"]}});
        assert_eq!(outputs(&first), outputs(&second));
        assert_eq!((status(&first), status(&second)), (Some("completed"), Some("completed")));
    }
}
