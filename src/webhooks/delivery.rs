//! The delivery of one event: attempts with growing delays, until the receiver accepts it or the attempts are used up.
//!
//! Each failed attempt is recorded in the journal, so that a restart continues with the next one.

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
use crate::model::{Clock, Current, EventId, JobId, Rng};
use crate::storage::Journal;
use crate::storage::journal::{PendingWebhook, Record, WebhookEnd};

const USER_AGENT: &str = concat!("gptproto-gateway/", env!("CARGO_PKG_VERSION"));

/// The growth of the delay from one attempt to the next, and the fraction that is added at random, so that not all events
/// for a receiver are retried at once.
const GROWTH: u32 = 3;
const JITTER: f64 = 0.2;

/// What [`WebhookSender`] is built from.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) journal: Arc<dyn Journal>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) rng: Rng,
    pub(super) lifecycle: Lifecycle,
    pub(super) metrics: WebhookMetrics,
}

/// Posts events. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct WebhookSender {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    settings: Current<Settings>,
    parts: Parts,
}

/// What a reload of the configuration replaces.
#[derive(Debug)]
struct Settings {
    http: Client,
    /// `None`: the operator allows no origin.
    allowed: Option<(Vec<Origin>, Signer)>,
    attempts_max: u32,
    pending_max: usize,
    delays: RetryDelays,
    concurrent: Semaphore,
}

/// The delays between attempts.
#[derive(Clone, Copy, Debug)]
struct RetryDelays {
    first: Duration,
    max: Duration,
}

/// The result of one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Attempt {
    Ended(WebhookEnd),
    Retry,
}

/// An error of the HTTP client with what caused it: its own text says only that sending failed.
fn with_causes(error: &reqwest::Error) -> String {
    let causes = std::iter::successors(std::error::Error::source(error), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

impl Settings {
    /// Builds the HTTP client: no key, no proxy, no redirects. Only the head of a response is read.
    ///
    /// # Errors
    ///
    /// When the TLS roots of the system cannot be read.
    fn new(config: &WebhooksConfig) -> Result<Self, reqwest::Error> {
        // Fails harmlessly where the upstream's clients have installed it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = Client::builder()
            .user_agent(USER_AGENT)
            .timeout(config.timeout)
            .redirect(redirect::Policy::none())
            .retry(retry::never())
            .no_proxy()
            .build()?;
        let allowed = config.allowed.as_ref();
        Ok(Self {
            http,
            allowed: allowed.map(|AllowedTargets { origins, secret }| (origins.clone(), Signer::new(secret))),
            attempts_max: config.attempts_max,
            pending_max: config.pending_max,
            delays: RetryDelays { first: config.retry_delay_min, max: config.retry_delay_max },
            concurrent: Semaphore::new(config.concurrent_max.min(Semaphore::MAX_PERMITS)),
        })
    }

    /// Returns what signs the events for a receiver; `None` where the operator does not allow it.
    fn signer(&self, url: &Url) -> Option<&Signer> {
        self.allowed.as_ref().filter(|(origins, _)| origins.contains(&url.origin())).map(|(_, signer)| signer)
    }
}

impl WebhookSender {
    /// Builds the sender.
    ///
    /// # Errors
    ///
    /// When the TLS roots of the system cannot be read.
    pub(super) fn new(config: &WebhooksConfig, parts: Parts) -> Result<Self, reqwest::Error> {
        let settings = Current::new(Settings::new(config)?);
        Ok(Self { shared: Arc::new(Shared { settings, parts }) })
    }

    /// Uses another configuration from the next attempt on.
    ///
    /// # Errors
    ///
    /// As [`WebhookSender::new`].
    pub(super) fn reload(&self, config: &WebhooksConfig) -> Result<(), reqwest::Error> {
        self.shared.settings.set(Settings::new(config)?);
        Ok(())
    }

    /// Returns whether the operator allows any receiver.
    pub(super) fn is_enabled(&self) -> bool {
        self.shared.settings.get().allowed.is_some()
    }

    pub(super) fn allows(&self, url: &Url) -> bool {
        self.shared.settings.get().signer(url).is_some()
    }

    pub(super) fn pending_max(&self) -> usize {
        self.shared.settings.get().pending_max
    }

    pub(super) fn metrics(&self) -> &WebhookMetrics {
        &self.shared.parts.metrics
    }

    /// Returns the pending events of one job, or of all.
    pub(super) async fn pending(&self, job: Option<JobId>) -> Vec<PendingWebhook> {
        self.shared.parts.journal.pending_webhooks(job).await.unwrap_or_else(|error| {
            tracing::error!(%error, "pending webhooks could not be read from the journal; they are read again at the next start");
            Vec::new()
        })
    }

    /// Starts the delivery of one event, and sends its id to `done` when the delivery has ended.
    pub(super) fn start(&self, pending: PendingWebhook, done: mpsc::UnboundedSender<EventId>) {
        let sender = self.clone();
        self.shared.parts.lifecycle.spawn_service("webhook", async move {
            let event = pending.webhook.id;
            sender.deliver(pending).await;
            // Fails only while the process ends.
            let _ = done.send(event);
        });
    }

    async fn deliver(&self, pending: PendingWebhook) {
        let Shared { settings, parts: Parts { clock, journal, rng, .. } } = &*self.shared;
        let mut attempts = pending.tries;
        if let Some(due) = pending.due {
            // At most the longest delay, also after that was made shorter.
            tokio::time::sleep(due.since(journal.running_time()).min(settings.get().delays.longest())).await;
        }
        let end = loop {
            let settings = settings.get();
            if settings.allowed.is_none() {
                // It stays pending, until the operator allows receivers again.
                return;
            }
            // Checked before every attempt: an event from an earlier configuration may no longer be allowed.
            let Some(signer) = settings.signer(&pending.webhook.url) else { break WebhookEnd::Forbidden };
            attempts = attempts.saturating_add(1);
            match self.attempt(&settings, signer, &pending, attempts).await {
                Attempt::Ended(end) => break end,
                Attempt::Retry if attempts >= settings.attempts_max => break WebhookEnd::GivenUp,
                Attempt::Retry => {
                    let delay = settings.delays.after(attempts, rng.fraction());
                    self.journal(Record::WebhookTried { webhook: pending.webhook.id, tries: attempts, delay }).await;
                    drop(settings);
                    tokio::time::sleep(delay).await;
                }
            }
        };
        self.metrics().ended(end);
        if end != WebhookEnd::Delivered {
            tracing::warn!(job = %pending.job, event = %pending.webhook.id, end = end.name(), attempts, "webhook not delivered; it is not retried");
        }
        self.journal(Record::WebhookEnded { webhook: pending.webhook.id, end, at: clock.now() }).await;
    }

    async fn attempt(&self, settings: &Settings, signer: &Signer, pending: &PendingWebhook, attempts: u32) -> Attempt {
        // Never closed.
        let _permit = settings.concurrent.acquire().await;
        let id = pending.webhook.id.to_string();
        let body = event::body(pending);
        let now = self.shared.parts.clock.now();
        let request = settings.http.post(pending.webhook.url.clone());
        let answer = request
            .header(CONTENT_TYPE, "application/json")
            .header("webhook-id", &id)
            .header("webhook-timestamp", now.seconds())
            .header("webhook-signature", signer.sign(&id, now, &body))
            .body(body)
            .send()
            .await;
        // Only the origin is logged: the rest of the URL may contain secrets.
        let to = pending.webhook.url.origin().ascii_serialization();
        let result = match answer {
            Ok(answer) => {
                let status = answer.status();
                tracing::info!(job = %pending.job, event = %id, to, status = status.as_u16(), attempts, "webhook attempt answered");
                classify(status)
            }
            Err(error) => {
                let error = error.without_url();
                tracing::warn!(job = %pending.job, event = %id, to, error = %with_causes(&error), attempts, "webhook attempt failed");
                Attempt::Retry
            }
        };
        self.metrics().attempted(result == Attempt::Ended(WebhookEnd::Delivered));
        result
    }

    async fn journal(&self, record: Record) {
        if let Err(error) = self.shared.parts.journal.append(record).await {
            tracing::warn!(%error, "webhook result not recorded; the event may be delivered twice");
        }
    }
}

fn classify(status: StatusCode) -> Attempt {
    match status {
        StatusCode::GONE => Attempt::Ended(WebhookEnd::Gone),
        _ if status.is_success() => Attempt::Ended(WebhookEnd::Delivered),
        _ => Attempt::Retry,
    }
}

impl RetryDelays {
    /// The delay after this many attempts; `fraction` is random, from 0 to 1.
    fn after(self, attempts: u32, fraction: f64) -> Duration {
        let grown = self.first.saturating_mul(GROWTH.saturating_pow(attempts.saturating_sub(1)));
        grown.min(self.max).mul_f64(1.0 + JITTER * fraction)
    }

    fn longest(self) -> Duration {
        self.max.mul_f64(1.0 + JITTER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_up_to_the_longest() {
        let delays = RetryDelays { first: Duration::from_secs(5), max: Duration::from_hours(1) };
        let after = |attempts| delays.after(attempts, 0.0).as_secs();
        assert_eq!([1, 2, 3, 4, 7, 8, 40].map(after), [5, 15, 45, 135, 3600, 3600, 3600]);
        assert_eq!(delays.after(u32::MAX, 1.0), delays.longest());
        assert_eq!(delays.after(1, 0.5).as_millis(), 5500);
    }

    #[test]
    fn only_success_and_gone_end_the_delivery() {
        for (status, result) in [
            (200, Attempt::Ended(WebhookEnd::Delivered)),
            (204, Attempt::Ended(WebhookEnd::Delivered)),
            (410, Attempt::Ended(WebhookEnd::Gone)),
            (302, Attempt::Retry),
            (400, Attempt::Retry),
            (404, Attempt::Retry),
            (429, Attempt::Retry),
            (503, Attempt::Retry),
        ] {
            assert_eq!(classify(StatusCode::from_u16(status).unwrap()), result, "{status}");
        }
    }
}
