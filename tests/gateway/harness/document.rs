//! Holds every answer that a client of the tests gets to the OpenAPI document: the status and the error code are documented for
//! the operation, and so are all headers, the media type, every member of a JSON body, and every event of a stream.
//!
//! A path in another spelling than the document's is looked up by the prefixes that all routes have; answers to paths that are
//! found in no such way are not checked.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use gptproto_gateway::config::{Config, Environment};
use gptproto_gateway::openapi::{client_document, operator_document};
use reqwest::Method;
use reqwest::header::HeaderMap;
use serde_json::Value;

use super::{ALICE, UPSTREAM_KEY, output};

mod schema;

use schema::Schemas;

/// Headers of HTTP itself, of CORS, and `allow`, which belongs to refused methods.
const OF_HTTP: [&str; 8] =
    ["allow", "connection", "content-length", "content-type", "date", "keep-alive", "transfer-encoding", "vary"];
/// Errors that answer a request before its method is looked at.
const BEFORE_METHOD: [u16; 4] = [400, 403, 405, 421];
/// Largest JSON body whose members are checked.
const BODY_BYTES_MAX: usize = 4 << 20;

/// A request, by what the document is asked for.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) method: Method,
    pub(super) path: String,
}

/// Checks an answer of either listener.
///
/// # Panics
///
/// Where the document does not have it.
pub(super) fn check(asked: &Asked, status: u16, headers: &HeaderMap, body: &[u8]) {
    // The simulator and receivers of webhooks are asked by the same client.
    let of_clients = headers.contains_key("x-request-id");
    let of_operator = !of_clients && headers.contains_key("referrer-policy");
    let Some(document) = [(of_clients, clients()), (of_operator, operator())].into_iter().find(|(is, _)| *is) else {
        return;
    };
    if let Err(problem) = document.1.check(asked, status, headers, body) {
        let Asked { method, path } = asked;
        panic!("the OpenAPI document does not have this answer: {method} {path}, {status}: {problem}");
    }
}

fn clients() -> &'static Document {
    static DOCUMENT: OnceLock<Document> = OnceLock::new();
    DOCUMENT.get_or_init(|| {
        let client = format!("alice:{ALICE}");
        let environment: Environment = [("GPTPROTO_API_KEY", UPSTREAM_KEY), ("GATEWAY_CLIENT_KEYS", client.as_str())]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
        Document(client_document(&Config::load(None, &environment).unwrap()))
    })
}

fn operator() -> &'static Document {
    static DOCUMENT: OnceLock<Document> = OnceLock::new();
    DOCUMENT.get_or_init(|| Document(operator_document()))
}

#[derive(Debug)]
struct Document(Value);

impl Document {
    fn check(&self, asked: &Asked, status: u16, headers: &HeaderMap, body: &[u8]) -> Result<(), String> {
        let Asked { method, path } = asked;
        let Some((template, item)) = self.path_item(path) else { return Ok(()) };
        if method == Method::OPTIONS {
            return Ok(());
        }
        let name = if method == Method::HEAD { "get".to_owned() } else { method.as_str().to_lowercase() };
        let Some(operation) = item.get(&name) else {
            let is_refused = BEFORE_METHOD.contains(&status) || (status == 404 && body.is_empty());
            return if is_refused { Ok(()) } else { Err("no such method".to_owned()) };
        };
        let response = operation["responses"].get(status.to_string()).ok_or("no such status")?;
        let response = self.resolved(response);
        self.check_headers(response, headers)?;
        let error = if status < 400 { Value::Null } else { serde_json::from_slice(body).unwrap_or_default() };
        output::keep(
            "operations",
            format!("{name} {template} {status} {}", error["error"]["code"].as_str().unwrap_or("ok")).as_bytes(),
        );
        // The HTTP library refuses without a body, and so do the operator's pages.
        if method == Method::HEAD || (body.is_empty() && response.get("content").is_none()) {
            return Ok(());
        }
        let media_type = headers.get("content-type").and_then(|value| value.to_str().ok()).unwrap_or_default();
        let media_type = media_type.split(';').next().unwrap_or_default();
        let content = response["content"].get(media_type).ok_or_else(|| format!("no media type {media_type:?}"))?;
        let schemas = Schemas::new(&self.0);
        match media_type {
            "application/json" if body.len() <= BODY_BYTES_MAX => {
                let value = serde_json::from_slice(body).map_err(|error| format!("the body: {error}"))?;
                schemas.check(&content["schema"], &value, "")
            }
            "text/event-stream" => events(body).into_iter().try_for_each(|(event, data)| {
                let schema = content["x-events"].get(&event).ok_or_else(|| format!("no event {event:?}"))?;
                if data == "[DONE]" {
                    return Ok(());
                }
                let value = serde_json::from_str(&data).map_err(|error| format!("event {event:?}: {error}"))?;
                schemas.check(schema, &value, &format!("event {event:?}"))
            }),
            _ => Ok(()),
        }
    }

    fn check_headers(&self, response: &Value, headers: &HeaderMap) -> Result<(), String> {
        let documented = response["headers"].as_object();
        let is_known = |name: &str| {
            OF_HTTP.contains(&name)
                || name.starts_with("access-control-")
                || documented.is_some_and(|documented| documented.contains_key(name))
        };
        if let Some(name) = headers.keys().find(|name| !is_known(name.as_str())) {
            return Err(format!("no header {name}"));
        }
        let required = |header: &Value| self.resolved(header)["required"] == true;
        let mut missing = documented.into_iter().flatten().filter(|(_, header)| required(header));
        match missing.find(|(name, _)| !headers.contains_key(name.as_str())) {
            Some((name, _)) => Err(format!("the header {name} is required and missing")),
            None => Ok(()),
        }
    }

    /// Finds a path as it was asked for, or by the main spelling of its prefix.
    fn path_item(&self, asked: &str) -> Option<(&str, &Value)> {
        let path = asked.strip_suffix('/').filter(|path| !path.is_empty()).unwrap_or(asked);
        let main = match path {
            "/healthz" | "/livez" | "/ping" => "/health".to_owned(),
            "/v1" => "/".to_owned(),
            _ => {
                let below =
                    path.strip_prefix("/openai").filter(|rest| !rest.starts_with("/deployments")).unwrap_or(path);
                format!("/v1{}", below.strip_prefix("/v1").unwrap_or(below))
            }
        };
        let paths = self.0["paths"].as_object()?;
        [path, &main]
            .into_iter()
            .find_map(|path| paths.iter().find(|(template, _)| matches(template, path)))
            .map(|(template, item)| (template.as_str(), item))
    }

    fn resolved<'a>(&'a self, value: &'a Value) -> &'a Value {
        let reference = value["$ref"].as_str().and_then(|reference| reference.strip_prefix('#'));
        reference.and_then(|pointer| self.0.pointer(pointer)).unwrap_or(value)
    }
}

/// Whether a path is one of a template. The id of a model may have slashes.
fn matches(template: &str, path: &str) -> bool {
    if template == "/v1/models/{id}" {
        return path.strip_prefix("/v1/models/").is_some_and(|id| !id.is_empty());
    }
    let (expected, found): (Vec<&str>, Vec<&str>) = (template.split('/').collect(), path.split('/').collect());
    let fits = |(expected, found): (&&str, &&str)| expected.starts_with('{') && !found.is_empty() || expected == found;
    expected.len() == found.len() && expected.iter().zip(&found).all(fits)
}

/// Returns the events of a stream with their data; without a name where they have none.
fn events(body: &[u8]) -> Vec<(String, String)> {
    let text = String::from_utf8_lossy(body);
    let fields = |block: &str| -> BTreeMap<String, String> {
        let lines = block.lines().filter(|line| !line.starts_with(':'));
        lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect()
    };
    let blocks = text.split("\n\n").map(fields).filter(|fields| !fields.is_empty());
    blocks
        .map(|mut fields| (fields.remove("event").unwrap_or_default(), fields.remove("data").unwrap_or_default()))
        .collect()
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderName;

    use super::*;

    fn problem(method: Method, path: &str, status: u16, headers: &[(&str, &str)], body: &str) -> String {
        let mut map = HeaderMap::new();
        let standard = [
            ("x-content-type-options", "nosniff"),
            ("cache-control", "no-store"),
            ("content-type", "application/json"),
        ];
        for (name, value) in standard.iter().chain(headers) {
            map.insert(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        }
        let asked = Asked { method, path: path.to_owned() };
        clients().check(&asked, status, &map, body.as_bytes()).err().unwrap_or_default()
    }

    #[test]
    fn what_is_not_documented_is_found() {
        let model = r#"{"id":"gpt-image-2","object":"model","created":1,"owned_by":"gptproto","shutdown_date":null"#;
        let get = |path: &str, status, headers: &[_], body: &str| problem(Method::GET, path, status, headers, body);
        for path in ["/v1/models/gpt-image-2", "/models/openai/gpt-image-2/", "/openai/models/x"] {
            assert_eq!(get(path, 200, &[], &format!("{model}}}")), "");
            assert_eq!(get(path, 404, &[], ""), "the header x-should-retry is required and missing");
        }
        let path = "/v1/models/gpt-image-2";
        assert_eq!(get(path, 200, &[], &format!(r#"{model},"extra":1}}"#)), "/extra is not documented");
        assert_eq!(get(path, 200, &[], r#"{"object":"model"}"#), "/id is required and missing");
        assert_eq!(get(path, 200, &[("x-other", "1")], &format!("{model}}}")), "no header x-other");
        assert_eq!(get(path, 202, &[], "{}"), "no such status");
        assert_eq!(get(path, 200, &[("content-type", "text/plain")], "x"), "no media type \"text/plain\"");
        assert_eq!(problem(Method::PUT, path, 200, &[], ""), "no such method");
        assert_eq!(problem(Method::PUT, path, 405, &[], ""), "");
        assert_eq!(get("/no/such/path", 299, &[], ""), "");
        let error = |code: &str| {
            format!(r#"{{"error":{{"message":"m","type":"invalid_request_error","param":null,"code":"{code}"}}}}"#)
        };
        let retry = [("x-should-retry", "false")];
        assert_eq!(get(path, 404, &retry, &error("model_not_found")), "");
        assert!(get(path, 404, &retry, &error("result_not_found")).starts_with("/error/code"));
    }

    #[test]
    fn events_are_checked_by_their_name() {
        let body = "event: error\ndata: {\"type\":\"error\",\"error\":{\"message\":\"m\",\"type\":\"t\",\"param\":null,\"code\":\"c\"}}\n\n";
        assert_eq!(events(format!(": comment\n\n{body}").as_bytes()).len(), 1);
        let stream = [("content-type", "text/event-stream")];
        let check = |body: &str| problem(Method::POST, "/v1/images/edits", 200, &stream, body);
        assert_eq!(check(body), "");
        assert_eq!(check(&body.replace("event: error", "event: other")), "no event \"other\"");
        assert!(check(&body.replace("\"param\":null,", "")).contains("/error/param is required"));
    }
}
