//! From a request to its pictures: sent, repeated where that cannot buy again, and followed by the id of the job.

use std::time::{Duration, Instant};

use reqwest::header::{LOCATION, RETRY_AFTER};
use serde_json::Value;

use super::client::{Answer, CallError, GatewayClient};
use super::exit::{Failure, FailureKind, printable};
use super::form::PictureForm;
use super::progress::{Progress, ProgressLine, Stage};
use super::{FetchHint, Work};
use crate::http::gateway_headers::{
    CACHE, COST_ESTIMATED, COST_USD, DROPPED, EXPECTED_SECONDS, IGNORED, PREDICTION, RENAMED, SHOULD_RETRY, UPSTREAM_ID,
};

/// How long one question about a job waits for its end.
const WAIT: Duration = Duration::from_secs(1);
/// The first pause after a lost connection; it doubles.
const PAUSE: Duration = Duration::from_millis(300);
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// For how long a lost connection is tried again.
const LOST_MAX: Duration = Duration::from_mins(3);
/// A refusal that says when to come back is obeyed up to this time.
const RETRY_AFTER_MAX: Duration = Duration::from_mins(1);
/// Refused requests that are sent again.
const REFUSALS_MAX: u32 = 3;

/// Errors after which something may have been bought, by their codes.
const MAY_HAVE_COST: &[&str] = &[
    "internal_error",
    "image_generation_failed",
    "result_lost",
    "result_not_found",
    "submission_outcome_unknown",
    "upstream_timeout",
    "prediction_still_running",
    "restarting",
];

/// What a request whose answer is lost may have done, as the end of a sentence.
const PERHAPS_ACCEPTED: &str = "may have been accepted, and the same command, without --fresh, gets its result";

/// A finished job.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) pictures: Vec<Vec<u8>>,
    pub(super) job: Option<String>,
    pub(super) model: Option<String>,
    /// US dollars; `None`: the server did not say.
    pub(super) cost_usd: Option<f64>,
    pub(super) cost_is_estimated: bool,
    /// `hit`, `miss`, `joined` or `bypass`.
    pub(super) cache: Option<String>,
    /// What is doubtful about the result, in sentences.
    pub(super) warnings: Vec<String>,
}

impl Finished {
    /// Makes the failure for pictures that cannot be saved.
    pub(super) fn unsaved(&self, problem: &str, hint: &FetchHint) -> Failure {
        let message = match &self.job {
            Some(id) => format!("{problem}. The picture is paid for and kept: {}", hint.command(id)),
            None => format!("{problem}. The picture is paid for, and this server does not keep it"),
        };
        Failure::new(FailureKind::MaybeBought, message).of_job(self.job.as_deref())
    }
}

/// Follows one piece of work.
#[derive(Debug)]
pub(super) struct Follower<'a> {
    client: &'a GatewayClient,
    progress: &'a mut ProgressLine,
    hint: FetchHint,
    /// A request has left, so the server may have it.
    is_sent: bool,
    /// The answer to a request was lost, so an earlier one than that which is answered may have been accepted.
    is_repeated: bool,
    job: Option<String>,
    cache: Option<String>,
    /// What of the request had no effect, in sentences.
    notes: Vec<String>,
    /// When the job was accepted, where the server says how much of its time is left.
    begun: Option<Instant>,
}

impl<'a> Follower<'a> {
    pub(super) fn new(client: &'a GatewayClient, progress: &'a mut ProgressLine, hint: FetchHint) -> Self {
        Self {
            client,
            progress,
            hint,
            is_sent: false,
            is_repeated: false,
            job: None,
            cache: None,
            notes: Vec::new(),
            begun: None,
        }
    }

    /// Does the work to its end.
    ///
    /// # Errors
    ///
    /// [`Failure`].
    pub(super) async fn finish(&mut self, work: &Work) -> Result<Finished, Failure> {
        let query = match work {
            Work::Fetch(id, query) => {
                self.job = Some(id.clone());
                query.clone()
            }
            Work::Make(form) => {
                let answer = self.create(form).await?;
                let is_gateway = self.client.is_gateway();
                self.job = answer.header(PREDICTION).filter(|id| is_gateway && is_id(id)).map(str::to_owned);
                // What a repeated request joins may be its own first attempt, so the price is that of the job.
                self.cache = answer.header(CACHE).filter(|_| !self.is_repeated).map(str::to_owned);
                self.notes = notes(&answer);
                if answer.status != 202 {
                    return self.pictures(&answer.body, None, &answer).await;
                }
                let id = answer.body["id"].as_str().map(str::to_owned).or(self.job.take());
                self.job = id.filter(|id| is_id(id));
                let Some(id) = &self.job else {
                    return Err(self.failure(FailureKind::MaybeBought, "the server accepted the request without an id"));
                };
                self.progress.job(id);
                self.show(&answer);
                let query = answer.header(LOCATION).and_then(|location| location.split_once('?'));
                query.map(|(_, query)| format!("?{query}")).unwrap_or_default()
            }
        };
        self.follow(&query).await
    }

    /// Returns the failure after Ctrl-C or SIGTERM.
    pub(super) fn interrupted(&self) -> Failure {
        match &self.job {
            Some(id) => self.failure(
                FailureKind::MaybeBought,
                &format!("stopped watching; the job goes on. Fetch it later: {}", self.hint.command(id)),
            ),
            None if self.is_sent => self.failure(
                FailureKind::MaybeBought,
                &format!("stopped while the request was under way; it {PERHAPS_ACCEPTED}"),
            ),
            None => self.failure(FailureKind::NothingBought, "stopped. Nothing was bought"),
        }
    }

    /// Sends the request until there is an answer that is no reason to send it again.
    async fn create(&mut self, form: &PictureForm) -> Result<Answer, Failure> {
        let key = format!("cli-{}", ulid::Ulid::generate());
        let mut lost = Lost::default();
        let mut refusals = 0;
        loop {
            self.progress.stage(Stage::Uploading);
            self.is_sent = true;
            match self.progress.during(self.client.create(form, &key)).await {
                Ok(answer) if answer.status < 300 => return Ok(answer),
                Ok(answer) => {
                    match retry_after(&answer).filter(|_| self.client.is_gateway() && refusals < REFUSALS_MAX) {
                        Some(pause) => {
                            refusals += 1;
                            let text = format!("refused for now, trying again in {} s", pause.as_secs());
                            self.pause(text, pause).await;
                        }
                        None => return Err(self.refused(&answer)),
                    }
                }
                Err(CallError::NotSent(problem)) if !self.is_repeated => {
                    let problem = format!("the request cannot be sent: {problem}. Nothing was bought");
                    return Err(self.failure(FailureKind::NothingBought, &problem));
                }
                Err(error) if !self.client.is_gateway() => {
                    let problem = format!(
                        "the connection was lost: {}. The picture may have been made and may cost money; this server is no \
                         gateway, so the request is not repeated",
                        error.text()
                    );
                    return Err(self.failure(FailureKind::MaybeBought, &problem));
                }
                Err(error) => {
                    self.is_repeated = true;
                    let Some(pause) = lost.next_pause() else {
                        let problem =
                            format!("the connection was lost: {}. The request {PERHAPS_ACCEPTED}", error.text());
                        return Err(self.failure(FailureKind::MaybeBought, &problem));
                    };
                    let text = "connection lost, asking again (its key makes that free)".to_owned();
                    self.pause(text, pause).await;
                }
            }
        }
    }

    /// Asks about the job until it has ended.
    async fn follow(&mut self, query: &str) -> Result<Finished, Failure> {
        let id = self.job.clone().unwrap_or_default();
        let mut lost = Lost::default();
        loop {
            let problem = match self.progress.during(self.client.job(&id, query, WAIT)).await {
                Ok(answer) if answer.status == 200 => match answer.body["status"].as_str() {
                    Some("completed") if !answer.body["result"].is_null() => {
                        return self.pictures(&answer.body["result"], Some(&answer.body), &answer).await;
                    }
                    Some("completed" | "failed" | "cancelled") => return Err(self.failed(&answer.body)),
                    Some(_) => {
                        lost = Lost::default();
                        self.show(&answer);
                        continue;
                    }
                    None => "the answer is no job".to_owned(),
                },
                Ok(answer) if matches!(answer.status, 408 | 429 | 500..) => {
                    error_text(&answer).unwrap_or_else(|| format!("HTTP {}", answer.status))
                }
                Ok(answer) => return Err(self.refused(&answer)),
                Err(error) => error.text().to_owned(),
            };
            let Some(pause) = lost.next_pause() else {
                let problem = format!(
                    "the gateway does not answer: {problem}. The job goes on; fetch it later: {}",
                    self.hint.command(&id)
                );
                return Err(self.failure(FailureKind::MaybeBought, &problem));
            };
            self.pause("connection lost, asking again".to_owned(), pause).await;
        }
    }

    async fn pause(&mut self, text: String, pause: Duration) {
        self.progress.stage(Stage::Other(text));
        self.progress.during(tokio::time::sleep(pause)).await;
    }

    /// Shows how far a job is.
    fn show(&mut self, answer: &Answer) {
        let object = &answer.body;
        let stage = match object["status"].as_str() {
            Some("queued") => Stage::Queued(object["queue_position"].as_u64()),
            Some("submitting") => Stage::Submitting,
            _ => Stage::Processing,
        };
        let (expected, age) = expectation(answer);
        // In whole seconds: the earliest moment is kept, so that the bar does not go back.
        self.begun = [self.begun, age.and_then(|age| Instant::now().checked_sub(age))].into_iter().flatten().min();
        let percent = object["progress"].as_u64().and_then(|percent| u8::try_from(percent).ok());
        self.progress.update(Progress { stage, begun: self.begun, expected, percent });
    }

    /// Takes the pictures out of a result.
    async fn pictures(&mut self, result: &Value, object: Option<&Value>, answer: &Answer) -> Result<Finished, Failure> {
        let mut pictures = Vec::new();
        for item in result["data"].as_array().into_iter().flatten() {
            pictures.push(self.picture(item).await?);
        }
        if pictures.is_empty() {
            return Err(self.failure(FailureKind::MaybeBought, "the answer has no picture, and it may have cost money"));
        }
        let cost = object.and_then(|object| object["cost_usd"].as_f64());
        let cost = cost.or_else(|| answer.header(COST_USD).and_then(|cost| cost.parse().ok()));
        let cost = cost.filter(|usd| usd.is_finite() && *usd >= 0.0);
        let estimated = object.is_some_and(|object| object["cost_estimated"] == true)
            || answer.header(COST_ESTIMATED) == Some("true");
        let text = |value: &Value| value.as_str().map(printable);
        let doubts = result["warnings"].as_array().into_iter().flatten();
        let doubts = doubts.filter_map(|warning| text(&warning["message"]));
        let warnings = std::mem::take(&mut self.notes).into_iter().chain(doubts).collect();
        // A job that this request only joined was paid by another one.
        let is_shared = matches!(self.cache.as_deref(), Some("hit" | "joined"));
        Ok(Finished {
            pictures,
            job: self.job.clone(),
            model: object.and_then(|object| text(&object["model"])),
            cost_usd: if is_shared { Some(0.0) } else { cost },
            cost_is_estimated: estimated && !is_shared,
            cache: self.cache.clone(),
            warnings,
        })
    }

    async fn picture(&mut self, item: &Value) -> Result<Vec<u8>, Failure> {
        let bytes = if let Some(base64) = item["b64_json"].as_str() {
            // Some servers send a data URL.
            let bare = base64.rsplit_once(";base64,").map_or(base64, |(_, bare)| bare);
            base64_simd::STANDARD.decode_to_vec(bare).unwrap_or_default()
        } else if let Some(address) = item["url"].as_str() {
            let downloaded = self.progress.during(self.client.download(address)).await;
            downloaded.map_err(|error| {
                let problem = format!("the picture is made and cannot be downloaded: {}", error.text());
                self.failure(FailureKind::MaybeBought, &problem)
            })?
        } else {
            Vec::new()
        };
        if imagesize::image_type(&bytes).is_err() {
            let problem = "an item of the answer is no picture, and it may have cost money";
            return Err(self.failure(FailureKind::MaybeBought, problem));
        }
        Ok(bytes)
    }

    fn failure(&self, kind: FailureKind, message: &str) -> Failure {
        Failure::new(kind, message).of_job(self.job.as_deref())
    }

    /// Makes the failure of a job that has ended without a result.
    fn failed(&self, object: &Value) -> Failure {
        let code = object["error"]["code"].as_str().unwrap_or_default();
        // A purchase has an id of the upstream, unless its outcome is unknown.
        let has_purchase = object["predictions"].as_array().is_some_and(|ids| !ids.is_empty());
        let is_free = object["cost_usd"].as_f64() == Some(0.0);
        let cost = !is_free && (has_purchase || MAY_HAVE_COST.contains(&code));
        let message = object["error"]["message"].as_str().unwrap_or("the job has ended without a picture");
        Failure { code: Some(code.to_owned()), ..self.failure(kind(cost), message) }
    }

    /// Makes the failure for an answer that is an error.
    fn refused(&self, answer: &Answer) -> Failure {
        let (error, status) = (&answer.body["error"], answer.status);
        let (code, param) = (error["code"].as_str(), error["param"].as_str());
        let is_gateway = self.client.is_gateway();
        let cost = if is_gateway {
            // The upstream's ids of purchases are named where there are some.
            code.is_none_or(|code| MAY_HAVE_COST.contains(&code)) || answer.header(UPSTREAM_ID).is_some()
        } else {
            status >= 500 || status == 408
        };
        let text = match (error_text(answer), param) {
            (Some(text), Some(param)) if !text.contains(param) => format!("{param}: {text}"),
            (Some(text), _) if is_gateway => text,
            (Some(text), _) => format!("{} (HTTP {status})", text.trim_end_matches('.')),
            (None, _) => format!("the server answers with HTTP {status}"),
        };
        // This answer is not the only one that may have been given to the request.
        let earlier = match &self.job {
            Some(id) if self.is_sent => {
                Some(format!("The job was accepted and may cost money; fetch it later: {}", self.hint.command(id)))
            }
            Some(_) | None => self.is_repeated.then(|| {
                "An earlier attempt may have been accepted and may cost money; `gptproto-gateway ledger list` shows it"
                    .to_owned()
            }),
        };
        let kind = kind(cost || earlier.is_some());
        let rest = earlier.or_else(|| match kind {
            FailureKind::NothingBought if !text.contains("othing was bought") => Some("Nothing was bought".to_owned()),
            // Errors of a gateway say themselves what they cost.
            FailureKind::MaybeBought if !is_gateway || code.is_none() => Some("It may have cost money".to_owned()),
            FailureKind::NothingBought | FailureKind::MaybeBought | FailureKind::Usage => None,
        });
        let message = match rest {
            Some(rest) => format!("{}. {rest}", text.trim_end_matches('.')),
            None => text,
        };
        let own = |text: Option<&str>| text.map(str::to_owned);
        Failure { code: own(code), param: own(param), ..self.failure(kind, &message) }
    }
}

/// Returns the whole time that a job is expected to take, and how much of it has passed.
fn expectation(answer: &Answer) -> (Option<Duration>, Option<Duration>) {
    let expected = answer.body["expected_completion"].as_i64().zip(answer.body["created"].as_i64());
    let expected = expected.and_then(|(end, start)| u64::try_from(end.checked_sub(start)?).ok());
    let expected = expected.filter(|time| *time > 0).map(Duration::from_secs);
    let left = answer.header(EXPECTED_SECONDS).and_then(|left| left.parse().ok()).map(Duration::from_secs);
    (expected, expected.zip(left).map(|(expected, left)| expected.saturating_sub(left)))
}

/// Returns what of a request had no effect, or another one, in sentences.
fn notes(answer: &Answer) -> Vec<String> {
    let words = [
        (DROPPED, "left out by the gateway"),
        (IGNORED, "not known to the gateway"),
        (RENAMED, "read by the gateway under another name"),
    ];
    let note = |(header, words)| Some(format!("{words}: {}", printable(answer.header(header)?)));
    words.into_iter().filter_map(note).collect()
}

fn kind(may_have_cost: bool) -> FailureKind {
    if may_have_cost { FailureKind::MaybeBought } else { FailureKind::NothingBought }
}

/// Whether a text is an id of a job, and so a segment of a path.
pub(super) fn is_id(text: &str) -> bool {
    let letters = text.strip_prefix("pred_").unwrap_or_default();
    !letters.is_empty() && letters.len() <= 64 && letters.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

fn error_text(answer: &Answer) -> Option<String> {
    answer.body["error"]["message"].as_str().map(str::to_owned)
}

/// Returns how long a refused request should pause, when it may be sent again.
fn retry_after(answer: &Answer) -> Option<Duration> {
    if answer.header(SHOULD_RETRY) != Some("true") {
        return None;
    }
    let seconds = answer.header(RETRY_AFTER)?.parse().ok()?;
    Some(Duration::from_secs(seconds)).filter(|pause| *pause <= RETRY_AFTER_MAX)
}

/// A connection that is lost, and for how long.
#[derive(Debug, Default)]
struct Lost {
    since: Option<Instant>,
    pause: Option<Duration>,
}

impl Lost {
    /// Returns the pause before the next attempt; `None` when it has lasted too long.
    fn next_pause(&mut self) -> Option<Duration> {
        let since = *self.since.get_or_insert_with(Instant::now);
        let pause = self.pause.map_or(PAUSE, |pause| (pause * 2).min(PAUSE_MAX));
        self.pause = Some(pause);
        (since.elapsed() < LOST_MAX).then_some(pause)
    }
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderMap;
    use serde_json::json;

    use super::*;

    #[test]
    fn an_id_is_a_plain_segment_of_a_path() {
        assert!(is_id("pred_01KBQ5"));
        for text in ["pred_", "01KBQ5", "pred_../x", "pred_a?b", "pred_a b"] {
            assert!(!is_id(text), "{text}");
        }
    }

    #[test]
    fn the_age_of_a_job_is_what_the_server_does_not_expect_any_more() {
        let answer = |left: Option<u64>, body: Value| {
            let mut headers = HeaderMap::new();
            headers.extend(left.map(|left| (EXPECTED_SECONDS, left.into())));
            expectation(&Answer { status: 200, headers, body })
        };
        let body = json!({"created": 1_000, "expected_completion": 1_166});
        let whole = Some(Duration::from_secs(166));
        assert_eq!(answer(Some(146), body.clone()), (whole, Some(Duration::from_secs(20))));
        assert_eq!(answer(Some(200), body.clone()), (whole, Some(Duration::ZERO)));
        assert_eq!(answer(None, body), (whole, None));
        assert_eq!(answer(Some(5), json!({"created": 1_000})), (None, None));
        assert_eq!(answer(None, json!({"created": i64::MIN, "expected_completion": i64::MAX})), (None, None));
    }

    #[test]
    fn pauses_grow_to_their_bound() {
        let mut lost = Lost::default();
        let pauses: Vec<_> = (0..8).filter_map(|_| lost.next_pause()).map(|pause| pause.as_millis()).collect();
        assert_eq!(pauses, [300, 600, 1200, 2400, 4800, 9600, 10_000, 10_000]);
        lost.since = Instant::now().checked_sub(LOST_MAX);
        assert_eq!(lost.next_pause(), None);
    }
}
