//! What a diagnosis sees of the exchanges with the upstream: never a key, and no address with its query, which may hold
//! a signature.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::Response;
use reqwest::header::CONTENT_TYPE;
use serde_json::Value;
use url::Url;

use crate::upstream::answer::error_text::bounded_to;

/// The longest text of an answer that is shown, in characters. Pictures as base64 are longer.
const TEXT_CHARS_MAX: usize = 300;

/// Is notified of every exchange.
pub(crate) trait ExchangeObserver: Send + Sync + fmt::Debug {
    fn observed(&self, observation: Observation);
}

/// What an exchange was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ExchangeKind {
    Submit,
    Poll,
    Download,
}

/// One exchange.
#[derive(Clone, Debug)]
pub(crate) struct Observation {
    pub(crate) kind: ExchangeKind,
    pub(crate) host: String,
    /// Without the query.
    pub(crate) path: String,
    /// `None`: there was no answer.
    pub(crate) status: Option<u16>,
    pub(crate) content_type: Option<String>,
    /// The answer, with every long text cut; a string where it is not JSON, and null where it was not read.
    pub(crate) body: Value,
    pub(crate) started: Instant,
    pub(crate) elapsed: Duration,
}

impl Observation {
    pub(crate) fn is_success(&self) -> bool {
        self.status.is_some_and(|status| (200..300).contains(&status))
    }
}

/// The observer of an exchange, where there is one. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(in crate::upstream) struct Observer(Option<Arc<dyn ExchangeObserver>>);

impl Observer {
    pub(in crate::upstream) fn new(observer: Arc<dyn ExchangeObserver>) -> Self {
        Self(Some(observer))
    }

    /// Begins an observation, which is reported when it is dropped.
    pub(super) fn begin(&self, kind: ExchangeKind, url: &Url) -> PendingObservation<'_> {
        PendingObservation(self.0.as_deref().map(|observer| {
            let observation = Observation {
                kind,
                host: url.host_str().unwrap_or_default().to_owned(),
                path: url.path().to_owned(),
                status: None,
                content_type: None,
                body: Value::Null,
                started: Instant::now(),
                elapsed: Duration::ZERO,
            };
            (observer, observation)
        }))
    }
}

/// An exchange that is under way.
pub(super) struct PendingObservation<'a>(Option<(&'a dyn ExchangeObserver, Observation)>);

impl PendingObservation<'_> {
    /// Notes the head of the answer.
    pub(super) fn answered(&mut self, response: &Response) {
        let Some((_, observation)) = &mut self.0 else { return };
        observation.status = Some(response.status().as_u16());
        let content_type = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        observation.content_type = content_type.map(str::to_owned);
    }

    /// Notes the body of the answer.
    pub(super) fn read(&mut self, body: &[u8]) {
        let Some((_, observation)) = &mut self.0 else { return };
        observation.body = outline(body);
    }
}

impl Drop for PendingObservation<'_> {
    fn drop(&mut self) {
        if let Some((observer, mut observation)) = self.0.take() {
            observation.elapsed = observation.started.elapsed();
            observer.observed(observation);
        }
    }
}

/// Returns a body with every long text cut.
pub(super) fn outline(body: &[u8]) -> Value {
    match serde_json::from_slice(body) {
        Ok(mut value) => {
            cut(&mut value);
            value
        }
        Err(_) => Value::String(clipped(&String::from_utf8_lossy(&body[..body.len().min(4 * TEXT_CHARS_MAX)]))),
    }
}

fn cut(value: &mut Value) {
    match value {
        Value::String(text) if text.len() > TEXT_CHARS_MAX => *text = clipped(text),
        Value::Array(items) => items.iter_mut().for_each(cut),
        Value::Object(fields) => fields.values_mut().for_each(cut),
        Value::String(_) | Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn clipped(text: &str) -> String {
    bounded_to(TEXT_CHARS_MAX, text)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use serde_json::json;

    use super::*;

    #[derive(Debug, Default)]
    struct Kept(Mutex<Vec<Observation>>);

    impl ExchangeObserver for Kept {
        fn observed(&self, observation: Observation) {
            self.0.lock().unwrap().push(observation);
        }
    }

    #[test]
    fn an_exchange_without_an_answer_is_reported_and_its_address_has_no_query() {
        let kept = Arc::new(Kept::default());
        let url = "https://files.example/a/b.png?signature=secret".parse().unwrap();
        drop(Observer::new(Arc::clone(&kept) as Arc<_>).begin(ExchangeKind::Download, &url));
        drop(Observer::default().begin(ExchangeKind::Download, &url));
        let kept = kept.0.lock().unwrap();
        assert_eq!(kept.len(), 1);
        assert_eq!((kept[0].host.as_str(), kept[0].path.as_str(), kept[0].status), ("files.example", "/a/b.png", None));
    }

    #[test]
    fn pictures_in_an_answer_are_cut_and_its_shape_is_kept() {
        let body = json!({"data": {"id": 7, "outputs": ["A".repeat(100_000)]}}).to_string();
        let seen = outline(body.as_bytes());
        assert_eq!(seen["data"]["id"], 7);
        assert_eq!(seen["data"]["outputs"][0].as_str().unwrap().len(), TEXT_CHARS_MAX);
        let page = outline(format!("<html>\n{}", "x".repeat(5000)).as_bytes());
        assert!(page.as_str().unwrap().starts_with("<html> xx"), "{page}");
    }
}
