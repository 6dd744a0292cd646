//! `GET /v1/predictions`: the jobs of a client, the newest first.
//!
//! A page begins behind a job (`after`), so that jobs which are made meanwhile move nothing. Its cost does not depend on where it
//! begins. With a filter a page looks at a limited number of jobs: it may have fewer than `limit` and be followed by others.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::HeaderValue;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::response::Response;
use url::form_urlencoded;

use super::query::{self, invalid};
use super::{finish, log_fields};
use crate::api::error::ApiError;
use crate::api::request::context::RequestContext;
use crate::api::request::response_options::{ResponseFormat, ResponseOptions};
use crate::api::response::cache_headers::add_names;
use crate::api::response::image_response::ResponseShape;
use crate::api::response::prediction_object::{PredictionObject, status_word};
use crate::api::response::signature::ResultUrls;
use crate::api::state::ApiState;
use crate::engine::{JobPage, JobStatus, JobSummary};
use crate::http::StreamingBody;
use crate::http::gateway_headers::IGNORED;
use crate::model::{Catalogue, JobId, Timestamp};

const LIMIT_DEFAULT: usize = 20;
const LIMIT_MAX: usize = 100;
const STATUSES: [&str; 6] = ["queued", "submitting", "processing", "completed", "failed", "cancelled"];
/// Longest text that is searched for, in characters.
const TEXT_CHARS_MAX: usize = 200;

/// What a client wants to see.
#[derive(Debug, PartialEq, Eq)]
struct ListQuery {
    limit: usize,
    after: Option<JobId>,
    /// Any where it is empty.
    statuses: Vec<&'static str>,
    /// The id of a model.
    model: Option<String>,
    /// Part of a prompt or of an id, in lower case.
    text: Option<String>,
    /// Names that are not known.
    ignored: Vec<String>,
}

impl ListQuery {
    /// Reads a query.
    ///
    /// # Errors
    ///
    /// [`ApiError::InvalidValue`].
    fn read(query: Option<&str>, catalogue: &Catalogue) -> Result<Self, ApiError> {
        let (statuses, ignored) = (Vec::new(), Vec::new());
        let mut read = Self { limit: LIMIT_DEFAULT, after: None, statuses, model: None, text: None, ignored };
        for (name, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
            match &*name {
                "limit" => {
                    let limit = value.trim().parse().ok().filter(|limit| (1..=LIMIT_MAX).contains(limit));
                    read.limit = limit.ok_or_else(|| invalid("limit", &value, &["1 to 100"]))?;
                }
                // Empty fields of a form ask for nothing.
                "after" | "model" | "order" if value.trim().is_empty() => {}
                "after" => read.after = Some(value.trim().parse().map_err(|_| unknown_after(&value))?),
                "status" => {
                    let words = value.split(',').map(str::trim).filter(|word| !word.is_empty());
                    for word in words {
                        let known = STATUSES.into_iter().find(|status| status.eq_ignore_ascii_case(word));
                        read.statuses.push(known.ok_or_else(|| invalid("status", word, &STATUSES))?);
                    }
                }
                "order" if value.trim().eq_ignore_ascii_case("desc") => {}
                "order" => return Err(invalid("order", &value, &["desc"])),
                "model" => {
                    let name = value.trim();
                    let id = catalogue.find(name).map(|model| model.id.as_str());
                    read.model = Some(id.unwrap_or(name).to_owned());
                }
                "q" => {
                    let text = value.trim().to_lowercase();
                    if text.chars().count() > TEXT_CHARS_MAX {
                        return Err(invalid("q", &value, &["up to 200 characters"]));
                    }
                    read.text = Some(text).filter(|text| !text.is_empty());
                }
                _ => read.ignored.push(name.into_owned()),
            }
        }
        Ok(read)
    }

    fn accepts(&self, job: &JobSummary) -> bool {
        let is_found = |text: &String| {
            let prompt = job.prompt.as_deref().map(str::to_lowercase);
            job.id.to_string().contains(text.as_str()) || prompt.is_some_and(|prompt| prompt.contains(text.as_str()))
        };
        self.model.as_ref().is_none_or(|model| job.model.as_str() == model)
            && (self.statuses.is_empty() || self.statuses.contains(&status_word(&job.state.status)))
            && self.text.as_ref().is_none_or(is_found)
    }
}

/// `GET /v1/predictions`.
pub(crate) async fn index(
    context: RequestContext,
    State(state): State<Arc<ApiState>>,
    RawQuery(query): RawQuery,
) -> Response {
    let client = context.client.clone();
    let log = log_fields(&client);
    finish(&state, &client, list(context, &state, query.as_deref()).await, log)
}

async fn list(context: RequestContext, state: &ApiState, query: Option<&str>) -> Result<Response, ApiError> {
    let RequestContext { client, headers, .. } = context;
    let query = ListQuery::read(query, state.catalogue())?;
    let now = state.clock.now();
    let page = state.engine.list(&client, query.after, query.limit, |job| query.accepts(job)).await;
    let page = page.map_err(|failure| ApiError::Failed { failure, job: None })?;
    let page = page.ok_or_else(|| unknown_after(&query.after.map(|after| after.to_string()).unwrap_or_default()))?;
    let body = write(&page, now, &state.result_urls(&headers)?);
    let length = body.length();
    let mut response = Response::new(Body::new(body));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    add_names(headers, IGNORED, &query.ignored);
    Ok(response)
}

fn write(page: &JobPage, now: Timestamp, urls: &ResultUrls) -> StreamingBody {
    let mut body = StreamingBody::default().text("{\"object\":\"list\",\"data\":[");
    for (index, job) in page.jobs.iter().enumerate() {
        let (head, tail) = PredictionObject::of(job, now).around_result();
        let result = match &job.state.status {
            JobStatus::Completed(result) => {
                let options = ResponseOptions { response_format: ResponseFormat::Url, ..query::defaults() };
                ResponseShape::new(job.task, job.choices.clone(), options).addresses(result, urls)
            }
            JobStatus::UnderWay { .. } | JobStatus::Failed { .. } | JobStatus::Evicted => {
                StreamingBody::default().text("null")
            }
        };
        let comma = if index == 0 { "" } else { "," };
        body = body.text(comma).then(head).then(result).then(tail);
    }
    let id = |id: Option<JobId>| id.map(|id| id.to_string());
    body.text("],\"first_id\":")
        .json(&id(page.jobs.first().map(|job| job.id)))
        .text(",\"last_id\":")
        .json(&id(page.last))
        .format(format_args!(",\"has_more\":{}}}", page.has_more))
}

fn unknown_after(value: &str) -> ApiError {
    invalid("after", value, &["the id of one of your predictions"])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::request::test_support::catalogue;

    #[test]
    fn a_query_is_read_and_what_is_wrong_is_named() {
        let catalogue = catalogue();
        let read = |query| ListQuery::read(Some(query), &catalogue);
        let none = ListQuery::read(None, &catalogue).unwrap();
        let (statuses, ignored) = (Vec::new(), Vec::new());
        assert_eq!(none, ListQuery { limit: 20, after: None, statuses, model: None, text: None, ignored });
        let all = read(
            "limit=100&status=Completed,%20failed&model=openai/gpt-image-2&q=%20Caf%C3%89&order=desc&state=failed",
        )
        .unwrap();
        assert_eq!((all.limit, all.statuses), (100, vec!["completed", "failed"]));
        assert_eq!((all.model.as_deref(), all.text.as_deref()), (Some("gpt-image-2"), Some("caf\u{e9}")));
        assert_eq!(all.ignored, ["state"]);
        assert_eq!(read("status=&model=&q=&after=").unwrap(), none, "empty fields of a form");
        let long = format!("q={}", "x".repeat(201));
        for (wrong, words) in [
            ("limit=0", "1 to 100"),
            ("limit=101", "1 to 100"),
            ("limit=many", "1 to 100"),
            ("limit=", "1 to 100"),
            ("order=asc", "desc"),
            ("after=1", "one of your predictions"),
            ("status=done", "cancelled"),
            (long.as_str(), "200"),
        ] {
            let error = read(wrong).unwrap_err();
            assert!(error.code() == "invalid_value" && error.to_string().contains(words), "{wrong}: {error}");
        }
    }
}
