use bytes::BytesMut;
use reqwest::header::HeaderValue;
use serde_json::json;

use super::*;
use crate::upstream::apis::{openai, prediction, unified};
use crate::upstream::formats::{InputMethod, RequestFormat};

const EDGE: &str = "<title>Access denied | gptproto.com used Cloudflare to restrict access</title> Error 1010";
const ID: &str = "4ec5973904e74f31bc9cd4ce94e3878e";

/// The bodies of the table, in the order of its columns; `None` for one that breaks off.
fn bodies() -> Vec<(&'static str, Option<String>)> {
    let text = |message: &str| Some(json!({"error": {"message": message, "type": "x"}}).to_string());
    vec![
        ("id", Some(json!({"error": {"message": "no"}, "data": {"id": ID}}).to_string())),
        ("policy", text("Input may not meet the guidelines. Please adjust and try again.")),
        ("balance", text("Insufficient balance")),
        ("channel", text("no channel found for model m")),
        ("load", text("The model is overloaded. Please try again later.  tid:4ec5973904e74f31_1")),
        ("key", text("Invalid signature")),
        ("rate", text("Too many requests")),
        ("inputs", text("wrong image url")),
        ("field", text("Unknown parameter: 'quality'.")),
        ("size", text("Invalid size 1024x1024")),
        ("path", text("Invalid URL (POST /v1/images/edits)")),
        ("other", text("it is not as it should be")),
        ("page", Some("<html>an error</html>".to_owned())),
        ("edge", Some(EDGE.to_owned())),
        ("empty", Some(String::new())),
        ("broken", None),
    ]
}

/// The meaning of each status with each body, for a submit of which nothing is known.
const TABLE: &[(u16, &str)] = &[
    //   id policy balance channel load key rate inputs field size path other page edge empty broken
    (200, "ok mod bal gone req req req inputs field size path unclear unk unk unk unk"),
    (202, "ok mod bal gone req req req inputs field size path unclear unk unk unk unk"),
    (301, "ok far far far far far far far far far far far far far far unk"),
    (303, "ok unk unk unk unk unk unk unk unk unk unk unk unk unk unk unk"),
    (400, "ok mod bal gone req req req inputs field size path unclear unk edge unk unk"),
    (401, "ok mod bal gone key key key key key key key key unk edge unk unk"),
    (402, "ok mod bal bal bal bal bal bal bal bal bal bal unk edge unk unk"),
    (403, "ok mod bal gone perm key acct perm perm perm perm perm unk edge unk unk"),
    (404, "ok mod bal gone req req req inputs field size path path path edge path unk"),
    (405, "ok mod bal gone req req req inputs field size path path path edge path unk"),
    (408, "ok mod bal gone req req req req req req req req unk edge unk unk"),
    (409, "ok mod bal gone req req req req req req req req unk edge unk unk"),
    (413, "ok large large large large large large large large large large large large large large large"),
    (415, "ok mod bal gone req req req inputs field size path inputs unk edge unk unk"),
    (422, "ok mod bal gone req req req inputs field size path unclear unk edge unk unk"),
    (425, "ok mod bal gone req req req req req req req req unk edge unk unk"),
    (429, "ok mod acct model model acct acct acct acct acct acct acct acct edge acct unk"),
    (499, "ok mod bal gone req req req req req req req req unk edge unk unk"),
    (500, "ok unk unk unk unk unk unk unk unk unk unk unk unk unk unk unk"),
    (501, "ok unk unk unk unk unk unk inputs field size path unk unk unk unk unk"),
    (502, "ok unk unk unk unk unk unk unk unk unk unk unk unk unk unk unk"),
    (503, "ok mod unk model unk unk unk unk unk unk unk unk unk unk unk unk"),
    (504, "ok unk unk unk unk unk unk unk unk unk unk unk unk unk unk unk"),
    (520, "ok unk unk unk unk unk unk unk unk unk unk unk unk unk unk unk"),
    (524, "ok unk unk unk unk unk unk unk unk unk unk unk unk unk unk unk"),
    (530, "ok unk unk unk unk unk unk unk unk unk unk unk unk unk unk unk"),
];

/// The word of the table for a meaning.
fn word(meaning: &Result<Accepted, SubmitError>) -> &'static str {
    match meaning {
        Ok(_) => "ok",
        Err(SubmitError::NotSent { .. }) => "unsent",
        Err(SubmitError::Unknown { .. }) => "unk",
        Err(SubmitError::Refused { pushback, .. }) => match pushback {
            Pushback::Account { .. } => "acct",
            Pushback::Model { reason: Failure::ModelUnavailable { .. }, .. } => "model",
            Pushback::Permission { reason: Failure::ModelNotPermitted { .. } } => "perm",
            Pushback::Key { reason: Failure::KeyRefused { .. } } => "key",
            Pushback::Key { reason: Failure::BalanceExhausted { .. } } => "bal",
            Pushback::Model { reason, .. } | Pushback::Permission { reason } | Pushback::Key { reason } => {
                panic!("{reason:?}")
            }
        },
        Err(SubmitError::FormatRefused { refusal, .. }) => match refusal {
            FormatRefusal::Auth => "auth",
            FormatRefusal::Inputs => "inputs",
            FormatRefusal::Field(field) if field == "quality" => "field",
            FormatRefusal::Field(field) => panic!("{field}"),
            FormatRefusal::Size => "size",
            FormatRefusal::Path => "path",
            FormatRefusal::Unclear => "unclear",
        },
        Err(SubmitError::Rejected(Failure::InvalidRequest { message })) if message.contains("public_url") => "large",
        Err(SubmitError::Rejected(failure)) => {
            assert!(!matches!(failure, Failure::Moderated { bought: true, .. }));
            let words = [
                ("moderated", "mod"),
                ("model_unavailable", "gone"),
                ("invalid_request", "req"),
                ("edge_refused", "edge"),
                ("unreachable", "far"),
                ("task_failed", "failed"),
            ];
            words.into_iter().find(|(name, _)| *name == failure.name()).expect("a failure of a submit").1
        }
    }
}

fn format(accepted_before: bool, may_change_auth: bool) -> SubmitFormat {
    SubmitFormat { format: RequestFormat::documented(InputMethod::Base64Images), accepted_before, may_change_auth }
}

fn head(status: u16) -> AnswerHead {
    AnswerHead::of(StatusCode::from_u16(status).unwrap(), &HeaderMap::new())
}

fn means(head: AnswerHead, body: Option<&str>, format: &SubmitFormat, released: bool) -> Result<Accepted, SubmitError> {
    let body = body.map_or_else(
        || AnswerBody::Broken("cut".to_owned()),
        |body| AnswerBody::Whole {
            answer: prediction::answer(BytesMut::from(body.as_bytes())),
            edge: head.edge_page(body.as_bytes()),
        },
    );
    meaning(head, body, Sent { released, format, fields: &["n".to_owned(), "quality".to_owned()] })
}

/// The meaning of an answer after the last byte, to a submit of which nothing is known.
fn first(status: u16, body: &str) -> Result<Accepted, SubmitError> {
    means(head(status), Some(body), &format(false, false), true)
}

fn says(status: u16, message: &str) -> &'static str {
    word(&first(status, &json!({"error": {"message": message}}).to_string()))
}

#[test]
fn every_status_with_every_body() {
    for (status, row) in TABLE {
        let row: Vec<&str> = row.split_whitespace().collect();
        assert_eq!(row.len(), bodies().len(), "{status}");
        for ((name, body), expected) in bodies().iter().zip(row) {
            let means =
                |format: &SubmitFormat, released| word(&means(head(*status), body.as_deref(), format, released));
            assert_eq!(means(&format(false, false), true), expected, "{status} {name}");
            // Before the last byte nothing is unknown, and a refusal is one all the more.
            let unsent = if expected == "unk" { "unsent" } else { expected };
            assert_eq!(means(&format(false, false), false), unsent, "{status} {name} before the last byte");
            // After a success, what proves nothing by itself is no refusal of the format.
            let later = match (expected, *name, *status) {
                ("path", "page" | "empty", _) | ("far", ..) => "unk",
                // The model was given before, so what is refused without a reason is this request.
                ("perm", ..) => "req",
                (expected, ..) => expected,
            };
            assert_eq!(means(&format(true, false), true), later, "{status} {name} after a success");
            let auth = if expected == "key" { "auth" } else { expected };
            assert_eq!(means(&format(false, true), true), auth, "{status} {name} with another style of the key left");
        }
    }
}

#[test]
fn an_id_anywhere_in_any_answer_is_followed() {
    for body in [
        json!({"code": 429, "message": "busy", "data": {"id": ID}}),
        json!({"error": {"message": "no", "type": "500"}, "id": ID}),
        json!({"data": {"taskId": ID}}),
        json!({"data": [{"task_id": ID, "state": "queued"}]}),
        json!({"data": {"urls": {"get": format!("https://gptproto.com/api/v3/predictions/{ID}/result")}}}),
        json!({"error": {"message": "no", "details": [{"prediction": {"prediction_id": ID}}]}}),
        json!({"data": {"id": ID, "status": "failed", "error": "wrong image url"}}),
        json!({"id": "", "task_id": ID}),
    ] {
        for status in [200, 202, 400, 403, 404, 413, 429, 499, 500, 503, 524] {
            for released in [true, false] {
                let accepted = means(head(status), Some(&body.to_string()), &format(false, true), released);
                let Ok(Accepted::Prediction(UpstreamPrediction { id, .. })) = accepted else {
                    panic!("{status} {body} is {accepted:?}");
                };
                assert_eq!(id.as_str(), ID);
            }
        }
    }
    let numeric = first(200, r#"{"data":{"id":1234567890123,"status":"created"}}"#);
    assert!(matches!(numeric, Ok(Accepted::Prediction(prediction)) if prediction.id.as_str() == "1234567890123"));
    let pictures = first(500, r#"{"error":{"message":"late"},"data":[{"url":"https://x.example/1.png"}]}"#);
    assert!(matches!(pictures, Ok(Accepted::Finished { prediction: None, .. })));
}

#[test]
fn an_id_that_is_no_plain_path_segment_is_an_unknown_outcome() {
    for id in [".", "..", "", " ", "a/b", "../../v1/models", "a\\b", "%2e%2e", "a\nb", "a\u{0}b", "a?b", "é"] {
        for body in [json!({"data": {"id": id, "status": "created"}}), json!({"error": {"message": "no"}, "id": id})] {
            for status in [200, 400, 429] {
                assert_eq!(word(&first(status, &body.to_string())), "unk", "{status} {body}");
            }
        }
    }
    let urls = json!({"get": "https://evil.example/whatever"});
    for elsewhere in
        [json!({"urls": urls}), json!({"error": "no", "job": {"urls": [urls]}}), json!({"error": "no", "id": 0})]
    {
        assert_eq!(word(&first(400, &elsewhere.to_string())), "unk", "bought, and not to be found: {elsewhere}");
    }
    for status in [200, 400, 429, 503] {
        for begun in [
            json!({"code": 200, "data": {"status": "processing"}}),
            json!({"message": "slow down", "data": {"state": "Queued"}}),
            json!({"error": {"message": "no channel found"}, "status": "pending"}),
            json!({"error": {"message": "no channel found"}, "data": [{"status": "completed", "outputs": []}]}),
            json!({"data": {"id": 1e30}}),
            json!({"data": {"id": 1.5}}),
        ] {
            assert_eq!(word(&first(status, &begun.to_string())), "unk", "a task without an id: {status} {begun}");
        }
    }
    for error in [json!({"status": "error", "message": "no"}), json!({"status": "success", "error": "no"})] {
        assert_eq!(word(&first(429, &error.to_string())), "acct", "no task: {error}");
    }
}

#[test]
fn the_edge_is_recognized_by_its_header_and_its_errors_only() {
    let mut headers = HeaderMap::new();
    headers.insert("server", HeaderValue::from_static("cloudflare"));
    let served = AnswerHead::of(StatusCode::FORBIDDEN, &headers);
    assert_eq!(word(&means(served, Some("<html>"), &format(false, false), true)), "unk", "the header proves nothing");
    headers.insert("cf-mitigated", HeaderValue::from_static("challenge"));
    for body in [Some("<html>"), Some(""), None] {
        let mitigated = AnswerHead::of(StatusCode::FORBIDDEN, &headers);
        assert_eq!(word(&means(mitigated, body, &format(false, true), true)), "edge", "{body:?}");
        let other = AnswerHead::of(StatusCode::SERVICE_UNAVAILABLE, &headers);
        assert_eq!(word(&means(other, body, &format(false, true), true)), "unk", "{body:?}");
    }
    let Err(SubmitError::Rejected(Failure::EdgeRefused { code, message })) = first(403, EDGE) else { panic!() };
    assert_eq!(code, Some(1010));
    assert!(message.contains("1010"), "{message}");
}

#[test]
fn errors_under_a_success_are_read_by_their_code() {
    let under_200 = |body: serde_json::Value| word(&first(200, &body.to_string()));
    assert_eq!(under_200(json!({"code": 500, "message": "no luck", "data": null})), "unk");
    assert_eq!(under_200(json!({"code": 1001, "message": "no luck"})), "unk", "a code that is no status");
    assert_eq!(under_200(json!({"code": 401, "message": "Token cannot be empty", "type": "error"})), "key");
    assert_eq!(under_200(json!({"code": "429", "message": "slow down"})), "acct");
    assert_eq!(under_200(json!({"error": {"message": "Invalid Token", "type": "403"}})), "key");
    assert_eq!(under_200(json!({"error": {"code": 400, "message": "wrong image url"}})), "inputs");
    assert_eq!(under_200(json!({"code": 404, "message": "not here"})), "path");
    assert_eq!(under_200(json!({"error": "it is not as it should be"})), "unclear");
    assert_eq!(under_200(json!({"data": {"status": "failed", "error": "boom"}})), "failed", "a task without an id");
    let failed = json!({"data": {"status": "failed", "error": "boom"}}).to_string();
    let early = means(head(200), Some(&failed), &format(false, false), false);
    assert_eq!(word(&early), "unsent", "nothing can have failed before the last byte");
    for silent in [json!({}), json!([]), json!({"message": "success", "code": 200}), json!({"data": {}, "error": null})]
    {
        assert_eq!(under_200(silent.clone()), "unk", "{silent}");
    }
    for silent in
        [json!({"error": 0, "message": "queued"}), json!({"error": {"code": 0, "message": ""}, "message": "ok"})]
    {
        assert_eq!(under_200(silent.clone()), "unk", "{silent}");
    }
    // Some relays answer everything with 400.
    let under_400 = |body: serde_json::Value| word(&first(400, &body.to_string()));
    assert_eq!(under_400(json!({"error": {"message": "slow down", "type": "429"}})), "acct");
    for code in [500, 502, 504, 524] {
        assert_eq!(under_400(json!({"error": {"message": "upstream timeout", "code": code}})), "unk", "{code}");
    }
    assert_eq!(under_400(json!({"code": 1001, "message": "no luck"})), "unk", "a code that is no status");
    assert_eq!(under_400(json!({"code": 200, "message": "success"})), "unk", "it contradicts itself");
    assert_eq!(under_400(json!({"code": 200, "error": {"message": "wrong image url"}})), "inputs");
    assert_eq!(under_400(json!({"error": {"message": "Not this one", "type": "503"}})), "req");
    assert_eq!(under_400(json!({"error": {"message": "wrong image url", "type": "503"}})), "inputs");
}

#[test]
fn every_documented_refusal_is_classified() {
    for (status, body, expected) in [
        (401, r#"{"error":{"message":"Invalid signature","type":"401"}}"#, "key"),
        (401, r#"{"code":401,"message":"Token cannot be empty","type":"error"}"#, "key"),
        (403, r#"{"error":{"message":"Invalid Token","type":"403"}}"#, "key"),
        (403, r#"{"error":{"message":"Forbidden","code":"invalid_api_key"}}"#, "key"),
        (403, r#"{"error":{"message":"Insufficient balance","type":"403"}}"#, "bal"),
        (402, r#"{"error":{"message":"Payment Required"}}"#, "bal"),
        (400, r#"{"error":{"message":"Input may not meet the guidelines.","type":"503"}}"#, "mod"),
        (503, r#"{"error":{"message":"Input may not meet the guidelines.","type":"503"}}"#, "mod"),
        (400, r#"{"error":{"message":"Refused","code":"moderation_blocked"}}"#, "mod"),
        (400, r#"{"error":{"code":400,"message":"wrong image url"}}"#, "inputs"),
        (429, r#"{"error":{"message":"Too many requests","type":"rate_limit_error"}}"#, "acct"),
        (429, r#"{"error":{"message":"no channel found for model","type":"429"}}"#, "model"),
        (400, r#"{"error":{"message":"no channel found for model","type":"400"}}"#, "gone"),
        (500, r#"{"error":{"message":"Internal server error","type":"500"}}"#, "unk"),
        (
            403,
            r#"{"error":{"message":"No permission","type":"permission_error","code":"insufficient_permissions"}}"#,
            "perm",
        ),
        (422, r#"{"detail":[{"loc":["body","images"],"msg":"field required: images"}]}"#, "inputs"),
        (
            400,
            r#"{"error":{"message":"It cannot be used.","param":"quality","code":"unsupported_parameter"}}"#,
            "field",
        ),
    ] {
        assert_eq!(word(&first(status, body)), expected, "{status} {body}");
    }
}

#[test]
fn a_refusal_names_what_was_sent() {
    for (message, expected) in [
        ("Unsupported parameter: `quality`", "field"),
        ("quality is not supported for this model", "field"),
        ("Unknown parameter: 'background'", "unclear"),
        ("unsupported quality_level", "unclear"),
        ("the number is not allowed", "unclear"),
        ("Unknown field base64_images", "inputs"),
        ("images is required", "inputs"),
        ("at least one image must be provided", "inputs"),
        ("invalid base64 data", "inputs"),
        ("size must be one of 1254x1254, auto", "size"),
        ("Image file size must be below 4 MB, invalid", "unclear"),
        ("prompt is required", "unclear"),
    ] {
        assert_eq!(says(400, message), expected, "{message}");
    }
    let n = first(400, r#"{"error":{"message":"Unknown parameter: 'n'."}}"#);
    assert!(matches!(n, Err(SubmitError::FormatRefused { refusal: FormatRefusal::Field(field), .. }) if field == "n"));
    assert_eq!(says(501, "Not Implemented"), "path");
}

#[test]
fn a_missing_permission_for_a_model_is_no_fault_of_the_key() {
    for (message, expected) in [
        ("You do not have permission to access this resource", "perm"),
        ("no permission for this model", "perm"),
        ("This token has no access to model gpt-image-2", "perm"),
        ("该令牌无权访问模型 gpt-image-2", "perm"),
        ("Forbidden", "perm"),
        ("Invalid token", "key"),
        ("the API key is disabled", "key"),
        ("This account is suspended", "key"),
        ("signature mismatch", "key"),
        ("max_tokens is beyond what you may ask for", "perm"),
    ] {
        assert_eq!(says(403, message), expected, "{message}");
    }
}

#[test]
fn the_pause_of_a_pushback_is_passed_on() {
    let mut headers = HeaderMap::new();
    headers.insert("retry-after", HeaderValue::from_static("7"));
    let head = AnswerHead::of(StatusCode::TOO_MANY_REQUESTS, &headers);
    let seven = Some(Duration::from_secs(7));
    for message in ["Too many requests", "the model is at capacity"] {
        let body = json!({"error": {"message": message}}).to_string();
        let Err(SubmitError::Refused { pushback, .. }) = means(head, Some(&body), &format(true, false), true) else {
            panic!();
        };
        let (Pushback::Account { retry_after } | Pushback::Model { retry_after, .. }) = pushback else { panic!() };
        assert_eq!(retry_after, seven, "{message}");
    }
}

/// Every reader keeps to the rule: what may be a purchase comes before an error.
#[test]
fn the_readers_of_all_apis_agree_about_ids_errors_and_pages() {
    let readers: [fn(BytesMut) -> SubmitAnswer; 3] = [prediction::answer, openai::answer, unified::answer];
    for read in readers {
        let read = |body: &str| read(BytesMut::from(body.as_bytes()));
        for body in
            [r#"{"id":"task_1","error":{"message":"no"}}"#, r#"{"data":{"id":"task_1","status":"failed"},"code":500}"#]
        {
            assert!(
                matches!(read(body), SubmitAnswer::Accepted(prediction) if prediction.id.as_str() == "task_1"),
                "{body}"
            );
        }
        assert_eq!(read(r#"{"data":{"id":".."}}"#), SubmitAnswer::UnusableId);
        let error = read(r#"{"error":{"message":"no such model","code":400}}"#);
        assert!(
            matches!(error, SubmitAnswer::Error(text) if text.message == "no such model" && text.code == Some(StatusCode::BAD_REQUEST))
        );
        for nothing in ["", "<html>", "{}", "[]", "null", r#"{"data":{"id":"4ec"#] {
            assert_eq!(read(nothing), SubmitAnswer::Unusable, "{nothing}");
        }
    }
}
