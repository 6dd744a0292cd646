//! A document as a page of plain HTML: headings, tables and examples, without scripts.
//!
//! Every text is escaped. What a reference names is linked, and stands once, at the end.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::sync::LazyLock;

use axum::http::HeaderValue;
use base64_simd::STANDARD;
use serde_json::Value;

use super::document::METHODS;
use crate::web::escape::escaped as escape;

mod schema;
mod text;

use schema::{kind, properties};
use text::{escaped, named_by, paragraphs, phrase};

const STYLE: &str = include_str!("style.css");

/// The content security policy of the page: the style above, and nothing else.
pub(super) static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let digest = STANDARD.encode_to_string(ring::digest::digest(&ring::digest::SHA256, STYLE.as_bytes()));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    HeaderValue::from_str(&policy).expect("base64 makes a header value")
});

/// Writes the page.
pub(super) fn render(document: &Value) -> String {
    let info = &document["info"];
    let title = escaped(&info["title"]);
    let mut page = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>{title}</title><style>{STYLE}</style></head><body><header><h1>{title} {}</h1>",
        escaped(&info["version"])
    );
    paragraphs(&mut page, &info["summary"]);
    page.push_str("<p><a href=\"openapi.json\">openapi.json</a> has the same for programs.</p></header>");
    contents(&mut page, document);
    page.push_str("<main>");
    paragraphs(&mut page, &info["description"]);
    keys(&mut page, document);
    for tag in list(&document["tags"]) {
        let name = &tag["name"];
        let _ = write!(page, "<h2 id=\"{}\">{}</h2>", named_by("tag", name), escaped(name));
        paragraphs(&mut page, &tag["description"]);
        for (path, method, described) in operations(document) {
            if described["tags"][0] == *name {
                operation(&mut page, document, path, method, described);
            }
        }
    }
    error_codes(&mut page, document);
    schemas(&mut page, document);
    page.push_str("</main></body></html>\n");
    page
}

/// Returns every operation with its path and method.
fn operations(document: &Value) -> impl Iterator<Item = (&str, &'static str, &Value)> {
    members(&document["paths"])
        .flat_map(|(path, item)| METHODS.into_iter().filter_map(move |method| Some((path, method, item.get(method)?))))
}

fn contents(page: &mut String, document: &Value) {
    page.push_str("<nav aria-label=\"Operations\"><ul>");
    for tag in list(&document["tags"]) {
        for (path, method, described) in operations(document).filter(|(_, _, found)| found["tags"][0] == tag["name"]) {
            let id = escaped(&described["operationId"]);
            let _ =
                write!(page, "<li><a href=\"#{id}\"><code>{} {}</code></a></li>", method.to_uppercase(), escape(path));
        }
    }
    if !list(&document["x-error-codes"]).is_empty() {
        page.push_str("<li><a href=\"#error-codes\">Error codes</a></li>");
    }
    page.push_str("<li><a href=\"#shapes\">Shapes</a></li></ul></nav>");
}

fn keys(page: &mut String, document: &Value) {
    let schemes: Vec<(&str, &Value)> = members(&document["components"]["securitySchemes"]).collect();
    if schemes.is_empty() {
        return;
    }
    page.push_str("<h2 id=\"keys\">Keys</h2>");
    table(page, "Keys", &["Header", "Meaning"], |page| {
        for (_, scheme) in schemes {
            let header = match scheme["name"].as_str() {
                Some(name) => format!("{name}: …"),
                None => "Authorization: Bearer …".to_owned(),
            };
            let _ = write!(page, "<tr><td><code>{header}</code></td><td>{}", phrase(&scheme["description"]));
        }
    });
}

fn operation(page: &mut String, document: &Value, path: &str, method: &str, described: &Value) {
    let method = method.to_uppercase();
    let id = escaped(&described["operationId"]);
    let _ = write!(page, "<h3 id=\"{id}\"><code>{method} {}</code></h3>", escape(path));
    paragraphs(page, &described["summary"]);
    paragraphs(page, &described["description"]);
    if described["security"].as_array().or(document["security"].as_array()).is_none_or(Vec::is_empty) {
        page.push_str("<p class=\"quiet\">No key is needed.</p>");
    }
    parameters(page, document, described);
    if let Some(body) = described.get("requestBody").map(|body| resolved(document, body)) {
        page.push_str("<h4>Body</h4>");
        media_types(page, &body["content"]);
    }
    page.push_str("<h4>Answers</h4>");
    let mut headers = BTreeSet::new();
    table(page, "Answers", &["Status", "Meaning", "Body"], |page| {
        for (status, response) in members(&described["responses"]) {
            let response = resolved(document, response);
            let bodies = members(&response["content"]).map(|(media_type, content)| body(media_type, content));
            headers.extend(members(&response["headers"]).map(|(name, _)| name));
            let _ = write!(
                page,
                "<tr><th scope=row>{status}</th><td>{}</td><td>{}",
                phrase(&response["description"]),
                bodies.collect::<Vec<_>>().join("<br>")
            );
        }
    });
    // Of all answers together: nearly all have the same.
    let headers: Vec<String> =
        headers.into_iter().map(|name| format!("<a href=\"#header-{name}\">{name}</a>")).collect();
    let _ = write!(page, "<p>Headers: {}.</p>", headers.join(", "));
}

/// Names a body of an answer, with the events of a stream.
fn body(media_type: &str, content: &Value) -> String {
    let events = members(&content["x-events"]).map(|(name, schema)| {
        let name = if name.is_empty() { "data" } else { name };
        format!("<br><code>{}</code>: {}", escape(name), kind(schema))
    });
    let events: String = events.collect();
    if let Some(error) = content["schema"]["allOf"].get(0) {
        // The codes stand in the description, and errors are JSON everywhere.
        return kind(error);
    }
    let schema = &content["schema"];
    let shape = if events.is_empty() { format!(": {}", kind(schema)) } else { events };
    format!("<code>{}</code>{shape}", escape(media_type))
}

fn parameters(page: &mut String, document: &Value, described: &Value) {
    let parameters = list(&described["parameters"]);
    if parameters.is_empty() {
        return;
    }
    page.push_str("<h4>Parameters</h4>");
    table(page, "Parameters", &["Name", "In", "Type", "Meaning"], |page| {
        for parameter in parameters {
            let parameter = resolved(document, parameter);
            let _ = write!(
                page,
                "<tr><th scope=row><code>{}</code></th><td>{}</td><td>{}</td><td>{}",
                escaped(&parameter["name"]),
                escaped(&parameter["in"]),
                kind(&parameter["schema"]),
                phrase(&parameter["description"])
            );
        }
    });
}

fn media_types(page: &mut String, content: &Value) {
    for (media_type, content) in members(content) {
        let _ = write!(page, "<p><code>{}</code>: {}</p>", escape(media_type), kind(&content["schema"]));
        for (name, example) in members(&content["examples"]) {
            let _ = write!(page, "<p>Example: {}</p>", phrase(&example["summary"]));
            pre(page, name, &example["value"]);
        }
    }
}

fn pre(page: &mut String, label: &str, value: &Value) {
    let shown = serde_json::to_string_pretty(value).expect("a value is JSON");
    let (label, shown) = (escape(label), escape(&shown));
    let _ = write!(page, "<pre tabindex=\"0\" role=\"group\" aria-label=\"Example: {label}\">{shown}</pre>");
}

fn error_codes(page: &mut String, document: &Value) {
    let codes = list(&document["x-error-codes"]);
    if codes.is_empty() {
        return;
    }
    page.push_str("<h2 id=\"error-codes\">Error codes</h2>");
    table(page, "Error codes", &["Code", "Status", "Type", "x-should-retry", "Can a retry pay again?"], |page| {
        // Several causes of one code have equal rows.
        let mut codes: Vec<&Value> = codes.iter().collect();
        codes.dedup();
        for code in codes {
            let _ = write!(
                page,
                "<tr><th scope=row><code>{}</code></th><td>{}</td><td>{}</td><td>{}</td><td>{}",
                escaped(&code["code"]),
                escaped(&code["status"]),
                escaped(&code["type"]),
                phrase(&code["x-should-retry"]),
                phrase(&code["retry_pays_again"])
            );
        }
    });
}

/// Writes what references name: schemas and headers.
fn schemas(page: &mut String, document: &Value) {
    page.push_str("<h2 id=\"shapes\">Shapes</h2>");
    for (name, schema) in members(&document["components"]["schemas"]) {
        let _ = write!(page, "<h3 id=\"schema-{name}\">{name}</h3>");
        paragraphs(page, &schema["description"]);
        if schema.get("properties").is_none() {
            let _ = write!(page, "<p>{}</p>", kind(schema));
            continue;
        }
        if let Some(base) = schema["allOf"].get(0) {
            let _ = write!(page, "<p>All of {}, and:</p>", kind(base));
        }
        table(page, name, &["Member", "Type", "Meaning"], |page| properties(page, schema));
    }
    page.push_str("<h2 id=\"headers\">Headers of answers</h2>");
    table(page, "Headers of answers", &["Header", "Type", "Meaning"], |page| {
        for (name, header) in members(&document["components"]["headers"]) {
            let _ = write!(
                page,
                "<tr id=\"header-{name}\"><th scope=row><code>{name}</code></th><td>{}</td><td>{}",
                kind(&header["schema"]),
                phrase(&header["description"])
            );
        }
    });
}

/// Writes a table, which can be scrolled by keyboard where it is wider than the page.
fn table(page: &mut String, label: &str, heads: &[&str], rows: impl FnOnce(&mut String)) {
    let label = escape(label);
    let _ =
        write!(page, "<div class=\"table\" tabindex=\"0\" role=\"group\" aria-label=\"{label}\"><table><thead><tr>");
    for head in heads {
        let _ = write!(page, "<th scope=col>{head}</th>");
    }
    page.push_str("</tr></thead><tbody>");
    rows(page);
    page.push_str("</tbody></table></div>");
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn members(value: &Value) -> impl Iterator<Item = (&str, &Value)> {
    value.as_object().into_iter().flatten().map(|(name, value)| (name.as_str(), value))
}

/// Returns what a reference stands for.
fn resolved<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    let pointer = value["$ref"].as_str().and_then(|reference| reference.strip_prefix('#'));
    pointer.and_then(|pointer| document.pointer(pointer)).unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::WebPages;
    use crate::model::Catalogue;
    use crate::openapi::document;

    fn pages() -> [String; 2] {
        let catalogue: Catalogue = toml::from_str(include_str!("../../config/models.toml")).unwrap();
        [document::of_clients(&catalogue, WebPages::On), document::of_operator()].map(|document| render(&document))
    }

    fn values<'a>(page: &'a str, before: &str) -> Vec<&'a str> {
        page.split(before).skip(1).map(|rest| rest.split('"').next().unwrap()).collect()
    }

    #[test]
    fn every_link_leads_somewhere_and_every_anchor_is_unique() {
        for page in pages() {
            let anchors = values(&page, " id=\"");
            let unique: BTreeSet<&str> = anchors.iter().copied().collect();
            assert_eq!(anchors.len(), unique.len());
            for link in values(&page, "href=\"#") {
                assert!(unique.contains(link), "no anchor {link}");
            }
        }
    }

    #[test]
    fn a_page_has_no_script_and_no_style_of_an_element() {
        for page in pages() {
            for forbidden in ["<script", " style=", "http-equiv", "javascript:", " src="] {
                assert!(!page.contains(forbidden), "{forbidden}");
            }
            assert!(page.len() < 150_000, "{} bytes", page.len());
        }
    }

    #[test]
    fn texts_are_escaped() {
        let evil = "<img src=x onerror=alert(1)>\"'&";
        let document = serde_json::json!({
            "info": {"title": evil, "version": evil, "description": evil},
            "tags": [{"name": evil, "description": evil}],
            "paths": {"/a": {"get": {
                "operationId": "a", "tags": [evil], "summary": evil,
                "parameters": [{"name": evil, "in": "query", "description": evil, "schema": {"type": "string", "enum": [evil]}}],
                "requestBody": {"content": {"a/b": {"schema": {"const": evil}, "examples": {"e": {"summary": evil, "value": evil}}}}},
                "responses": {"200": {"description": evil}},
            }}},
            "components": {"schemas": {"A": {"description": evil, "properties": {evil: {"description": evil, "default": evil}}}}},
        });
        let page = render(&document);
        assert!(page.contains("&lt;img src=x onerror"));
        assert!(!page.contains("<img"), "{page}");
    }
}
