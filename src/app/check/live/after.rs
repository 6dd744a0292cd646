//! Questions after the purchase has ended, none of which buys: is the answer kept, is the picture kept, and how is a
//! request refused.

use std::time::Duration;

use futures_util::TryStreamExt;

use super::rows::Facts;
use super::shape;
use crate::app::check::report::{Row, Section, Verdict};
use crate::config::Config;
use crate::model::{ApiKind, Digest, ModelId, Task};
use crate::upstream::formats::AuthStyle;
use crate::upstream::{ExchangeKind, GptProto, Output, QueryAnswer, Upstream};

/// Pause before the picture is downloaded again; shorter for an upstream on this machine.
const PAUSE: Duration = Duration::from_mins(1);
const LOOPBACK_PAUSE: Duration = Duration::from_millis(200);
/// How a question that comes too soon is repeated: polls faster than one in 1 to 3 s were refused.
const REPEAT_PAUSE: Duration = Duration::from_secs(3);
const REPEATS_MAX: usize = 3;
/// How an accepted request without content is followed.
const FOLLOW_PAUSE: Duration = Duration::from_secs(5);
const FOLLOW_TIMES: usize = 60;

/// What the questions need.
pub(super) struct After<'a> {
    pub(super) config: &'a Config,
    pub(super) gptproto: &'a GptProto,
    pub(super) facts: &'a Facts,
    /// The model's answer to a request without content has been seen.
    pub(super) refusal_known: bool,
}

impl After<'_> {
    /// Asks, and adds a row for each answer.
    pub(super) async fn check(&self, model: &ModelId, section: &mut Section) {
        if let Some(row) = self.second_poll().await {
            section.add(row);
        }
        if let Some(row) = self.second_download().await {
            section.add(row);
        }
        if let Some(row) = self.empty_request(model).await {
            section.add(row);
        }
    }

    async fn query(&self, path: &str, body: Option<&'static str>) -> Result<QueryAnswer, String> {
        let submit = self.facts.observed.submits.last();
        let account =
            submit.map_or(&self.config.accounts.first().ok_or("there is no account")?.id, |submit| &submit.account);
        let auth = submit.map_or(AuthStyle::Bearer, |submit| submit.format.auth);
        self.gptproto.query(account, auth, path, body).await
    }

    /// Asks for the result once more.
    async fn second_poll(&self) -> Option<Row> {
        let mut polls = self.facts.observed.exchanges.iter();
        let last = polls.rfind(|seen| seen.kind == ExchangeKind::Poll && seen.is_success())?;
        let (status, outputs) = (shape::status(&last.body), shape::outputs(&last.body));
        // Below the address of the service, as all paths are.
        let base = self.config.upstream.base_url.path().trim_end_matches('/');
        let path = last.path.strip_prefix(base)?;
        let mut answer = self.query(path, None).await;
        for _ in 0..REPEATS_MAX {
            if !answer.as_ref().is_ok_and(|answer| answer.status == 429) {
                break;
            }
            tokio::time::sleep(REPEAT_PAUSE).await;
            answer = self.query(path, None).await;
        }
        Some(match answer.map(|answer| (answer.status, answer.json_outline())) {
            Ok((200, body)) if shape::status(&body) == status && shape::outputs(&body) == outputs => {
                Row::good("second poll", "the same answer again")
            }
            Ok((status, body)) => Row::new(
                Verdict::Warning,
                "second poll",
                format!("another answer: HTTP {status}, status {}", shape::status(&body).unwrap_or("absent")),
                "nothing: the gateway asks once",
            ),
            Err(problem) => Row::new(Verdict::Warning, "second poll", format!("no answer: {problem}"), ""),
        })
    }

    /// Downloads the picture once more, after a pause.
    async fn second_download(&self) -> Option<Row> {
        let output = self.facts.observed.outputs.first()?;
        let Output::Url(_) = output else { return None };
        let pause = if self.config.upstream.is_loopback() { LOOPBACK_PAUSE } else { PAUSE };
        if pause >= PAUSE {
            eprintln!("        downloading the picture again in {} s", pause.as_secs());
        }
        tokio::time::sleep(pause).await;
        let seconds = pause.as_secs();
        let fetched = async {
            let stream = self.gptproto.fetch(output.clone()).await.map_err(|error| error.to_string())?;
            let parts: Vec<bytes::Bytes> = stream.try_collect().await.map_err(|error| error.to_string())?;
            Ok::<_, String>(Digest::of(&parts.concat()))
        };
        Some(match fetched.await {
            Ok(digest) if digest == self.facts.picture.digest => {
                Row::good("second download", format!("the same bytes after {seconds} s"))
            }
            Ok(_) => Row::new(Verdict::Warning, "second download", format!("other bytes after {seconds} s"), ""),
            Err(problem) => Row::new(
                Verdict::Warning,
                "second download",
                format!("not after {seconds} s: {problem}"),
                "nothing: the gateway stores the picture at once",
            ),
        })
    }

    /// Sends a submit without content, which the service must refuse.
    async fn empty_request(&self, model: &ModelId) -> Option<Row> {
        if self.refusal_known || !self.config.upstream.api.api_kinds().contains(&ApiKind::Prediction) {
            return None;
        }
        let path = &self.config.catalogue.find(model)?.task_spec(Task::Edit)?.path;
        let answer = match self.query(path, Some("{}")).await {
            Ok(answer) => answer,
            Err(problem) => return Some(Row::note("empty request", format!("no answer: {problem}"))),
        };
        let body = answer.json_outline();
        if let Some(id) = shape::id(&body).filter(|_| answer.is_success()) {
            return Some(self.follow(&id).await);
        }
        let message = answer.message().unwrap_or_else(|| "without a readable text".to_owned());
        Some(match (answer.status, answer.edge_refusal()) {
            (_, Some(_)) => Row::note("empty request", format!("refused by the edge, HTTP {}", answer.status)),
            (status, None) => Row::good("empty request", format!("refused with HTTP {status}: {message}")),
        })
    }

    /// Follows an empty request that was accepted.
    async fn follow(&self, id: &str) -> Row {
        let mut word = "unknown".to_owned();
        for _ in 0..FOLLOW_TIMES {
            let path = format!("/api/v3/predictions/{id}/result");
            if let Ok(answer) = self.query(&path, None).await {
                let body = answer.json_outline();
                shape::status(&body).unwrap_or("absent").clone_into(&mut word);
                if !shape::outputs(&body).is_empty() || matches!(word.as_str(), "failed" | "completed" | "succeeded") {
                    break;
                }
            }
            eprintln!("        an empty request was accepted as {id} ({word}); following it");
            tokio::time::sleep(FOLLOW_PAUSE).await;
        }
        Row::new(
            Verdict::Warning,
            "empty request",
            format!("accepted as {id}, status {word}; it may be billed"),
            "look it up in the vendor's usage list; it is not in the ledger",
        )
    }
}
