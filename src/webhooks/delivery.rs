//! One event on its way: tried, and tried again with growing pauses, until its receiver has it or it is given up.
//!
//! Each try is journalled when it failed, so that a restart goes on where it stopped instead of beginning anew.

use std::sync::Arc;
use std::time::Duration;

use reqwest::header::CONTENT_TYPE;
use reqwest::{Client, StatusCode, redirect, retry};
use tokio::sync::{Semaphore, mpsc};
use url::{Origin, Url};

use super::event::{self, Signer};
use super::metrics::WebhookMetrics;
use crate::config::{AllowedTargets, WebhooksConfig};
use crate::lifecycle::Lifecycle;
use crate::model::{Clock, EventId, JobId, Rng};
use crate::storage::Journal;
use crate::storage::journal::{PendingWebhook, Record, WebhookEnd};

const USER_AGENT: &str = concat!("gptproto-gateway/", env!("CARGO_PKG_VERSION"));

/// Growth of the pause from one try to the next, and the part of it that chance may add: receivers that were away are
/// not met by everybody at once.
const GROWTH: u32 = 3;
const JITTER: f64 = 0.2;

#[derive(Debug)]
pub(super) struct Parts {
    pub(super) journal: Arc<dyn Journal>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) rng: Rng,
    pub(super) lifecycle: Lifecycle,
    pub(super) metrics: WebhookMetrics,
}

/// Whoever posts events. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Courier {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    http: Client,
    origins: Vec<Origin>,
    signer: Signer,
    attempts_max: u32,
    pauses: Pauses,
    places: Semaphore,
    parts: Parts,
}

/// How long is waited between tries.
#[derive(Clone, Copy, Debug)]
struct Pauses {
    first: Duration,
    longest: Duration,
}

/// What came of one try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Ended(WebhookEnd),
    Again,
}

impl Courier {
    /// Builds the client: no key, no proxy, no redirects, and nothing read of an answer but its head.
    ///
    /// # Errors
    ///
    /// When the TLS roots of the system cannot be read.
    pub(super) fn new(config: &WebhooksConfig, allowed: &AllowedTargets, parts: Parts) -> Result<Self, reqwest::Error> {
        // Twice is fine: the upstream's clients install it too.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = Client::builder()
            .user_agent(USER_AGENT)
            .timeout(config.timeout)
            .redirect(redirect::Policy::none())
            .retry(retry::never())
            .no_proxy()
            .build()?;
        let shared = Shared {
            http,
            origins: allowed.origins.clone(),
            signer: Signer::new(&allowed.secret),
            attempts_max: config.attempts_max,
            pauses: Pauses { first: config.retry_delay_min, longest: config.retry_delay_max },
            places: Semaphore::new(config.concurrent_max.min(Semaphore::MAX_PERMITS)),
            parts,
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    pub(super) fn allows(&self, url: &Url) -> bool {
        self.shared.origins.contains(&url.origin())
    }

    pub(super) fn metrics(&self) -> &WebhookMetrics {
        &self.shared.parts.metrics
    }

    /// The events that are still to be told; of one order, or of all.
    pub(super) async fn untold(&self, job: Option<JobId>) -> Vec<PendingWebhook> {
        self.shared.parts.journal.untold(job).await.unwrap_or_else(|error| {
            tracing::error!(%error, "the journal does not say who is to be told; the next start asks again");
            Vec::new()
        })
    }

    /// Starts to tell one, and says so on `done` when that has ended.
    pub(super) fn start(&self, untold: PendingWebhook, done: mpsc::UnboundedSender<EventId>) {
        let courier = self.clone();
        self.shared.parts.lifecycle.spawn_service("webhook", async move {
            let event = untold.webhook.id;
            courier.deliver(untold).await;
            // Nobody listens only when the process ends.
            let _ = done.send(event);
        });
    }

    async fn deliver(&self, untold: PendingWebhook) {
        let Shared { attempts_max, pauses, parts: Parts { clock, rng, .. }, .. } = &*self.shared;
        let mut tries = untold.tries;
        if let Some(due) = untold.due {
            // Never longer than any pause, whatever the clock says now.
            tokio::time::sleep(due.since(clock.now()).min(pauses.longest_ever())).await;
        }
        let end = loop {
            // Looked at for every try: what is left of an earlier configuration may not be allowed any more.
            if !self.allows(&untold.webhook.url) {
                break WebhookEnd::Forbidden;
            }
            tries = tries.saturating_add(1);
            match self.try_once(&untold, tries).await {
                Verdict::Ended(end) => break end,
                Verdict::Again if tries >= *attempts_max => break WebhookEnd::GivenUp,
                Verdict::Again => {
                    let pause = pauses.after(tries, rng.fraction());
                    let due = clock.now().plus(pause);
                    self.journal(Record::WebhookTried { webhook: untold.webhook.id, tries, due }).await;
                    tokio::time::sleep(pause).await;
                }
            }
        };
        self.metrics().ended(end);
        if end != WebhookEnd::Delivered {
            tracing::warn!(job = %untold.job, event = %untold.webhook.id, end = end.name(), tries, "webhook ended");
        }
        self.journal(Record::WebhookEnded { webhook: untold.webhook.id, end, at: clock.now() }).await;
    }

    async fn try_once(&self, untold: &PendingWebhook, tries: u32) -> Verdict {
        // Closed never.
        let _place = self.shared.places.acquire().await;
        let id = untold.webhook.id.to_string();
        let body = event::body(untold);
        let now = self.shared.parts.clock.now();
        let request = self.shared.http.post(untold.webhook.url.clone());
        let answer = request
            .header(CONTENT_TYPE, "application/json")
            .header("webhook-id", &id)
            .header("webhook-timestamp", now.seconds())
            .header("webhook-signature", self.shared.signer.sign(&id, now, &body))
            .body(body)
            .send()
            .await;
        // Only the origin is told: the rest of the address may carry secrets.
        let to = untold.webhook.url.origin().ascii_serialization();
        let verdict = match answer {
            Ok(answer) => {
                let status = answer.status();
                tracing::info!(job = %untold.job, event = %id, to, status = status.as_u16(), tries, "webhook");
                judge(status)
            }
            Err(error) => {
                let error = error.without_url();
                tracing::warn!(job = %untold.job, event = %id, to, ?error, tries, "webhook");
                Verdict::Again
            }
        };
        self.metrics().tried(verdict == Verdict::Ended(WebhookEnd::Delivered));
        verdict
    }

    async fn journal(&self, record: Record) {
        if let Err(error) = self.shared.parts.journal.append(record).await {
            tracing::warn!(%error, "what came of a webhook could not be journalled; it may be told again");
        }
    }
}

fn judge(status: StatusCode) -> Verdict {
    match status {
        StatusCode::GONE => Verdict::Ended(WebhookEnd::Gone),
        _ if status.is_success() => Verdict::Ended(WebhookEnd::Delivered),
        _ => Verdict::Again,
    }
}

impl Pauses {
    /// The pause after so many tries; `fraction` is chance, from 0 up to 1.
    fn after(self, tries: u32, fraction: f64) -> Duration {
        let grown = self.first.saturating_mul(GROWTH.saturating_pow(tries.saturating_sub(1)));
        grown.min(self.longest).mul_f64(1.0 + JITTER * fraction)
    }

    fn longest_ever(self) -> Duration {
        self.longest.mul_f64(1.0 + JITTER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_longest() {
        let pauses = Pauses { first: Duration::from_secs(5), longest: Duration::from_hours(1) };
        let after = |tries| pauses.after(tries, 0.0).as_secs();
        assert_eq!([1, 2, 3, 4, 7, 8, 40].map(after), [5, 15, 45, 135, 3600, 3600, 3600]);
        assert_eq!(pauses.after(u32::MAX, 1.0), pauses.longest_ever());
        assert_eq!(pauses.after(1, 0.5).as_millis(), 5500);
    }

    #[test]
    fn only_success_and_gone_end_it() {
        for (status, verdict) in [
            (200, Verdict::Ended(WebhookEnd::Delivered)),
            (204, Verdict::Ended(WebhookEnd::Delivered)),
            (410, Verdict::Ended(WebhookEnd::Gone)),
            (302, Verdict::Again),
            (400, Verdict::Again),
            (404, Verdict::Again),
            (429, Verdict::Again),
            (503, Verdict::Again),
        ] {
            assert_eq!(judge(StatusCode::from_u16(status).unwrap()), verdict, "{status}");
        }
    }
}
