//! Telling others that an order has ended: signed events in the Standard Webhooks form, at least once.
//!
//! Wanted:
//! - Whoever was promised to be told is told, also after a restart: the journal alone knows who is still to be told.
//! - Nothing is sent anywhere but to the origins that the operator allows, and nothing of ours but the event: no key, no
//!   cookie, no redirect followed.
//! - A receiver that is slow or away costs one small task for each of its events, and holds up nobody else for longer
//!   than its time-outs.
//!
//! Known races, and what we do:
//! - An order ends while somebody subscribes to it: both are announced here, each after the journal knows of it, and
//!   whoever comes second finds the other in the journal.
//! - The process ends between a receiver's 2xx and the record of it: the event is sent once more, under the same id.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::mpsc;
use url::Url;

use crate::config::WebhooksConfig;
use crate::lifecycle::Lifecycle;
use crate::model::{Clock, CompletionListener, EventId, JobId, Rng, Webhook};
use crate::storage::Journal;
use crate::telemetry::Metrics;

mod delivery;
mod event;
mod metrics;

use delivery::Courier;
use metrics::WebhookMetrics;

/// Longest address that is taken, in characters.
const URL_CHARS_MAX: usize = 2048;

/// What this is built from.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) journal: Arc<dyn Journal>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) rng: Rng,
    pub(crate) lifecycle: Lifecycle,
    pub(crate) metrics: Metrics,
}

/// Handle. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Webhooks {
    /// `None`: the operator allows no origin.
    on: Option<Arc<On>>,
}

#[derive(Debug)]
struct On {
    courier: Courier,
    pending_max: usize,
    clock: Arc<dyn Clock>,
    rng: Rng,
    ended: mpsc::UnboundedSender<JobId>,
    /// Events that wait to be told.
    pending: Arc<AtomicUsize>,
}

/// The orders that have ended, for [`Webhooks::run`].
#[derive(Debug)]
pub(crate) struct EndedJobs(mpsc::UnboundedReceiver<JobId>);

/// Why nobody can be told at an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The operator allows no origin.
    Off,
    /// It is no address that events can be posted to.
    NotAnAddress(&'static str),
    /// The operator does not allow its origin.
    NotAllowed { origin: String },
    /// Too many events wait to be told.
    Crowded,
}

impl Webhooks {
    /// Builds the handle, and what [`Webhooks::run`] listens to.
    ///
    /// # Errors
    ///
    /// When the HTTP client cannot be built, because the TLS roots of the system cannot be read.
    pub(crate) fn new(
        config: &WebhooksConfig,
        Parts { journal, clock, rng, lifecycle, metrics }: Parts,
    ) -> Result<(Self, EndedJobs), reqwest::Error> {
        let (ended, announced) = mpsc::unbounded_channel();
        let Some(allowed) = &config.allowed else {
            return Ok((Self { on: None }, EndedJobs(announced)));
        };
        let metrics = WebhookMetrics::new(&metrics);
        let courier = Courier::new(
            config,
            allowed,
            delivery::Parts { journal, clock: Arc::clone(&clock), rng: rng.clone(), lifecycle, metrics },
        )?;
        let on = On { courier, pending_max: config.pending_max, clock, rng, ended, pending: Arc::default() };
        Ok((Self { on: Some(Arc::new(on)) }, EndedJobs(announced)))
    }

    /// Judges an address of a client's, and gives the event that it is to be told a name.
    ///
    /// # Errors
    ///
    /// [`Refusal`].
    pub(crate) fn accept(&self, address: &str) -> Result<Webhook, Refusal> {
        let Some(on) = &self.on else { return Err(Refusal::Off) };
        let url = judge(address)?;
        if !on.courier.allows(&url) {
            return Err(Refusal::NotAllowed { origin: url.origin().ascii_serialization() });
        }
        if on.pending.load(Ordering::Relaxed) >= on.pending_max {
            return Err(Refusal::Crowded);
        }
        Ok(Webhook { id: EventId::new(on.clock.now(), on.rng.bits()), url })
    }

    /// Tells whoever is still to be told, and from then on whoever is to be told of the orders that end. Runs for as long
    /// as there is a process.
    pub(crate) async fn run(self, EndedJobs(mut announced): EndedJobs) {
        let Some(on) = self.on else { return };
        let (done, mut finished) = mpsc::unbounded_channel();
        let mut under_way: HashSet<EventId> = HashSet::new();
        // What was left by earlier lives first.
        let mut look_for = Some(None);
        loop {
            if let Some(job) = look_for.take() {
                for untold in on.courier.untold(job).await {
                    if under_way.insert(untold.webhook.id) {
                        on.courier.start(untold, done.clone());
                    }
                }
                on.count(under_way.len());
            }
            tokio::select! {
                ended = announced.recv() => match ended {
                    Some(job) => look_for = Some(Some(job)),
                    None => return,
                },
                event = finished.recv() => {
                    if let Some(event) = event {
                        under_way.remove(&event);
                    }
                    on.count(under_way.len());
                }
            }
        }
    }
}

impl On {
    fn count(&self, pending: usize) {
        self.pending.store(pending, Ordering::Relaxed);
        self.courier.metrics().pending(pending);
    }
}

impl CompletionListener for Webhooks {
    fn ended(&self, job: JobId) {
        if let Some(on) = &self.on {
            // Nobody listens only when the process ends, and then the journal remembers.
            let _ = on.ended.send(job);
        }
    }
}

fn judge(address: &str) -> Result<Url, Refusal> {
    if address.chars().count() > URL_CHARS_MAX {
        return Err(Refusal::NotAnAddress("it is too long"));
    }
    let mut url: Url = address.parse().map_err(|_| Refusal::NotAnAddress("it is not an absolute URL"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(Refusal::NotAnAddress("it is neither https nor http"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Refusal::NotAnAddress("it carries a user name"));
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
    fn only_exact_origins_are_told() {
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
            assert!(matches!(webhooks.accept(other), Err(Refusal::NotAllowed { .. })), "{other}");
        }
        for wrong in ["", "hooks.example.com", "/a", "ftp://hooks.example.com/", "https://me@hooks.example.com/"] {
            assert!(matches!(webhooks.accept(wrong), Err(Refusal::NotAnAddress(_))), "{wrong}");
        }
        let long = format!("https://hooks.example.com/{}", "a".repeat(URL_CHARS_MAX));
        assert!(matches!(webhooks.accept(&long), Err(Refusal::NotAnAddress(_))));
    }

    #[test]
    fn with_no_origin_or_too_many_events_nobody_is_told() {
        assert_eq!(webhooks("", "1").accept("https://hooks.example.com/"), Err(Refusal::Off));
        assert_eq!(webhooks("https://x.test", "0").accept("https://x.test/"), Err(Refusal::Crowded));
    }
}
