//! Webhooks: signed events in the Standard Webhooks format that report the end of a job, delivered at least once.
//!
//! Wanted properties:
//! - Every accepted webhook is attempted, also after a restart: the journal is the only list of pending events.
//! - Events are sent only to origins that the operator allows, and contain only the event: no key, no cookie, and no
//!   redirect is followed.
//! - A slow or unreachable receiver costs one small task per event, and delays other receivers by its timeouts at most.
//!
//! Known races:
//! - A job ends while a client subscribes to it: both are announced here after the journal has recorded them, so the second
//!   announcement finds the other record.
//! - The process ends between a receiver's 2xx and the record of it: the event is sent again, with the same id.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{Notify, mpsc};
use url::Url;

use crate::config::WebhooksConfig;
use crate::lifecycle::Lifecycle;
use crate::model::{Clock, EventId, JobId, Rng, Webhook};
use crate::storage::Journal;
use crate::telemetry::Metrics;

mod delivery;
mod event;
mod metrics;

use delivery::WebhookSender;
use metrics::WebhookMetrics;

/// The longest accepted URL, in characters.
const URL_CHARS_MAX: usize = 2048;

/// What [`Webhooks`] is built from.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) journal: Arc<dyn Journal>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) rng: Rng,
    pub(crate) lifecycle: Lifecycle,
    pub(crate) metrics: Metrics,
}

/// Handle to the webhooks. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Webhooks {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    sender: WebhookSender,
    /// The configuration was reloaded.
    reloaded: Notify,
    clock: Arc<dyn Clock>,
    rng: Rng,
    /// Bounded by the jobs that end while [`Webhooks::run`] reads the journal once: 16 bytes each.
    ended: mpsc::UnboundedSender<JobId>,
    /// Events that are not delivered yet.
    pending: Arc<AtomicUsize>,
}

/// The jobs that have ended, for [`Webhooks::run`].
#[derive(Debug)]
pub(crate) struct EndedJobs(mpsc::UnboundedReceiver<JobId>);

/// Why a webhook URL is rejected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum WebhookRejection {
    /// The operator allows no origin.
    Disabled,
    /// Events cannot be posted to the URL.
    InvalidUrl(&'static str),
    /// The operator does not allow the origin.
    OriginNotAllowed { origin: String },
    /// Too many events are pending.
    TooManyPending,
}

impl Webhooks {
    /// Builds the handle, and the queue that [`Webhooks::run`] reads.
    ///
    /// # Errors
    ///
    /// When the HTTP client cannot be built, because the TLS roots of the system cannot be read.
    pub(crate) fn new(
        config: &WebhooksConfig,
        Parts { journal, clock, rng, lifecycle, metrics }: Parts,
    ) -> Result<(Self, EndedJobs), reqwest::Error> {
        let (ended, receiver) = mpsc::unbounded_channel();
        let metrics = WebhookMetrics::new(&metrics);
        let sender = WebhookSender::new(
            config,
            delivery::Parts { journal, clock: Arc::clone(&clock), rng: rng.clone(), lifecycle, metrics },
        )?;
        let shared = Shared { sender, reloaded: Notify::new(), clock, rng, ended, pending: Arc::default() };
        Ok((Self { shared: Arc::new(shared) }, EndedJobs(receiver)))
    }

    /// Uses another configuration from now on, also for events that are pending.
    ///
    /// # Errors
    ///
    /// When the HTTP client cannot be built; the one before stays in use.
    pub(crate) fn reload(&self, config: &WebhooksConfig) -> Result<(), reqwest::Error> {
        self.shared.sender.reload(config)?;
        self.shared.reloaded.notify_one();
        Ok(())
    }

    /// Checks a URL from a client. Returns the webhook, with a new event id.
    ///
    /// # Errors
    ///
    /// [`WebhookRejection`].
    pub(crate) fn accept(&self, url: &str) -> Result<Webhook, WebhookRejection> {
        let Shared { sender, clock, rng, pending, .. } = &*self.shared;
        if !sender.is_enabled() {
            return Err(WebhookRejection::Disabled);
        }
        let url = parse(url)?;
        if !sender.allows(&url) {
            return Err(WebhookRejection::OriginNotAllowed { origin: url.origin().ascii_serialization() });
        }
        if pending.load(Ordering::Relaxed) >= sender.pending_max() {
            return Err(WebhookRejection::TooManyPending);
        }
        Ok(Webhook { id: EventId::new(clock.now(), rng.bits()), url })
    }

    /// Delivers the events that are pending at the start, and those of every job that ends later. While the operator allows no
    /// origin, they stay pending. Runs until the process ends.
    pub(crate) async fn run(self, EndedJobs(mut ended): EndedJobs) {
        let shared = self.shared;
        // Bounded by the deliveries in progress: each sends one id when it ends.
        let (done, mut finished) = mpsc::unbounded_channel();
        let mut under_way: HashSet<EventId> = HashSet::new();
        // First those from before the start, of all jobs.
        let mut ask_for = Some(None);
        loop {
            if let Some(job) = ask_for.take().filter(|_| shared.sender.is_enabled()) {
                for pending in shared.sender.pending(job).await {
                    if under_way.insert(pending.webhook.id) {
                        shared.sender.start(pending, done.clone());
                    }
                }
                shared.set_pending(under_way.len());
            }
            tokio::select! {
                job = ended.recv() => match job {
                    Some(job) => ask_for = Some(Some(job)),
                    None => return,
                },
                event = finished.recv() => {
                    if let Some(event) = event {
                        under_way.remove(&event);
                    }
                    shared.set_pending(under_way.len());
                }
                () = shared.reloaded.notified() => ask_for = Some(None),
            }
        }
    }
}

impl Shared {
    fn set_pending(&self, pending: usize) {
        self.pending.store(pending, Ordering::Relaxed);
        self.sender.metrics().pending(pending);
    }
}

impl Webhooks {
    /// Sends the events of a job whose end is in the journal.
    pub(crate) fn ended(&self, job: JobId) {
        // Fails only while the process ends; the next start finds the event in the journal.
        let _ = self.shared.ended.send(job);
    }
}

fn parse(url: &str) -> Result<Url, WebhookRejection> {
    if url.chars().count() > URL_CHARS_MAX {
        return Err(WebhookRejection::InvalidUrl("it is too long"));
    }
    let mut url: Url = url.parse().map_err(|_| WebhookRejection::InvalidUrl("it is not an absolute URL"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(WebhookRejection::InvalidUrl("it is neither https nor http"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(WebhookRejection::InvalidUrl("it carries a user name"));
    }
    url.set_fragment(None);
    Ok(url)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::{Config, Environment};
    use crate::model::SystemClock;
    use crate::storage::journal::memory::{Disk, MemoryJournal, SyncMode};

    fn webhooks(origins: &str, pending_max: &str) -> Webhooks {
        let environment = Environment::from(
            [
                ("GATEWAY_WEBHOOKS__ALLOWED_ORIGINS", origins),
                ("GATEWAY_WEBHOOKS__PENDING_MAX", pending_max),
                ("GATEWAY_WEBHOOK_SECRET", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
            ]
            .map(|(name, value)| (name.to_owned(), value.to_owned())),
        );
        let config = Config::load(None, &environment).unwrap().webhooks;
        let parts = Parts {
            journal: Arc::new(MemoryJournal::on(&Disk::default(), Duration::ZERO, SyncMode::Full)),
            clock: Arc::new(SystemClock),
            rng: Rng::seeded(1),
            lifecycle: Lifecycle::default(),
            metrics: Metrics::default(),
        };
        Webhooks::new(&config, parts).unwrap().0
    }

    #[test]
    fn only_exact_origins_are_allowed() {
        let webhooks = webhooks("https://hooks.example.com,http://127.0.0.1:9000", "1");
        for fine in [
            "https://hooks.example.com/a/b?token=x",
            "https://HOOKS.example.com:443/",
            "http://127.0.0.1:9000",
            "http://0x7f.1:9000/",
        ] {
            assert!(webhooks.accept(fine).is_ok(), "{fine}");
        }
        for other in [
            "http://hooks.example.com/",
            "https://hooks.example.com:8443/",
            "https://hooks.example.com./",
            "https://hooks.example.com.evil.test/",
            "https://evil.test/hooks.example.com",
            "https://evil.test\\@hooks.example.com/",
            "http://127.0.0.1:9001/",
        ] {
            assert!(matches!(webhooks.accept(other), Err(WebhookRejection::OriginNotAllowed { .. })), "{other}");
        }
        for wrong in ["", "hooks.example.com", "/a", "ftp://hooks.example.com/", "https://me@hooks.example.com/"] {
            assert!(matches!(webhooks.accept(wrong), Err(WebhookRejection::InvalidUrl(_))), "{wrong}");
        }
        let long = format!("https://hooks.example.com/{}", "a".repeat(URL_CHARS_MAX));
        assert!(matches!(webhooks.accept(&long), Err(WebhookRejection::InvalidUrl(_))));
    }

    #[test]
    fn no_webhook_is_accepted_without_origins_or_with_too_many_pending() {
        assert_eq!(webhooks("", "1").accept("https://hooks.example.com/"), Err(WebhookRejection::Disabled));
        assert_eq!(webhooks("https://x.test", "0").accept("https://x.test/"), Err(WebhookRejection::TooManyPending));
    }
}
