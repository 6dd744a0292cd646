//! The life of a prediction from accepted to settled, and who waits for it. It has never heard of HTTP status codes.
//!
//! An *order* is one wish of a client; it has one or more *predictions*, the purchases that fulfil it; and any number
//! of *tickets*, the requests that wait for it. A tracked task owns the work, never the request: dropping a ticket
//! forgets one waiter and cancels nothing that is paid for.
//!
//! Wanted:
//! - The journal knows a step before it is taken: the intent before the upload, the commit before the last byte, the id
//!   before the first poll, the pictures before the answer.
//! - One request more for something that is under way waits with it, as `joining.rs` decides.
//! - An order that nobody waits for any more frees its place while nothing of it is bought.
//!
//! Known races, and what we do:
//! - Two equal requests arrive at once: the table is looked at again, under its lock, before an order begins; the second
//!   joins the first.
//! - The last waiter leaves while the reservation arrives: the lock decides. Whoever finds no waiter and nothing bought
//!   takes the order off the list, so nobody can join what is being dropped.
//! - An order ends between a look into the table and a look into the journal: it is in the journal before it leaves the
//!   table, so the second look finds it.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::{mpsc, watch};

use crate::budget::Budget;
use crate::config::{CacheConfig, CacheMode, StorageConfig, UpstreamConfig};
use crate::lifecycle::Lifecycle;
use crate::model::{
    Catalogue, ClientId, Clock, Delivery, Failure, Fingerprint, OrderId, PictureRequest, Source, StoredPicture,
    Timestamp, UpstreamId,
};
use crate::storage::journal::{Record, StoredOrder, StoredState};
use crate::storage::{Journal, JournalError, Results};
use crate::telemetry::Metrics;
use crate::upstream::PredictionApi;

mod cadence;
mod follow;
mod joining;
mod launch;
mod life;
mod metrics;
mod orders;
mod recovery;
mod sweep;

use cadence::Cadence;
use joining::{Asker, StoredCandidate};
use metrics::EngineMetrics;
use orders::Orders;

/// Where a request's uploads go before there is an order; the engine reads them back when it submits.
pub(crate) use crate::storage::spool::{Spool, SpoolError};

/// Stored orders of one fingerprint that are looked at. More than one only where the cache is bypassed.
const CANDIDATES_MAX: usize = 4;
/// Results that are remembered without asking the journal.
const RECENT_MAX: u64 = 100_000;

/// What the engine is built from.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) catalogue: Arc<Catalogue>,
    pub(crate) journal: Arc<dyn Journal>,
    pub(crate) results: Results,
    pub(crate) spool: Spool,
    pub(crate) budget: Budget,
    pub(crate) upstream: Arc<dyn PredictionApi>,
    pub(crate) lifecycle: Lifecycle,
    pub(crate) metrics: Metrics,
}

/// Handle to the engine. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Engine {
    core: Arc<Core>,
}

/// What all parts of the engine share.
#[derive(Debug)]
struct Core {
    clock: Arc<dyn Clock>,
    catalogue: Arc<Catalogue>,
    journal: Arc<dyn Journal>,
    results: Results,
    spool: Spool,
    budget: Budget,
    upstream: Arc<dyn PredictionApi>,
    lifecycle: Lifecycle,
    metrics: EngineMetrics,
    orders: Orders,
    /// Complete results by fingerprint, in front of the journal.
    recent: moka::sync::Cache<Fingerprint, Arc<Delivery>>,
    /// Where predictions are announced to the one scheduler of polls.
    due: mpsc::UnboundedSender<follow::Due>,
    cadence: Cadence,
    settings: Settings,
}

#[derive(Clone, Copy, Debug)]
struct Settings {
    cache: CacheMode,
    cache_ttl: Duration,
    goods_ttl: Duration,
    results_bytes_max: u64,
    sweep_interval: Duration,
    submit_attempts_max: u32,
    deadline: Duration,
    picture_bytes_max: u64,
    polls_max: usize,
}

/// A client's wish, valid and with its inputs spooled.
#[derive(Debug)]
pub(crate) struct Order {
    pub(crate) client: ClientId,
    pub(crate) request: PictureRequest,
    /// The client does not want an earlier result (`Cache-Control: no-cache`).
    pub(crate) fresh: bool,
    /// The result is not for later requests (`Cache-Control: no-store`).
    pub(crate) private: bool,
    /// An SDK says that it asks again.
    pub(crate) is_retry: bool,
}

/// Where an answer comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A stored result of that age.
    Hit(Duration),
    /// An order that another request began.
    Joined,
    /// Bought for this request.
    Bought,
    /// Bought for this request, which did not want anything else.
    Bypass,
}

/// One request that waits for an order. Dropping it forgets the waiter.
#[derive(Debug)]
pub(crate) struct Ticket {
    core: Arc<Core>,
    order: OrderId,
    origin: Origin,
    progress: watch::Receiver<Progress>,
    /// The order's answer reached somebody before.
    delivered_before: bool,
}

/// What waiters see of an order.
#[derive(Clone, Debug, Default)]
struct Progress {
    /// The upstream's names, as they become known.
    upstream: Vec<UpstreamId>,
    outcome: Option<Result<Arc<Delivery>, Failure>>,
}

/// Why a ticket brought no pictures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum WaitError {
    Failed(Failure),
    /// The work goes on; the same request, asked again, finds it.
    OutOfPatience {
        upstream: Vec<UpstreamId>,
    },
    /// The gateway stops; the work goes on after the restart, and the same request finds it.
    Closing {
        upstream: Vec<UpstreamId>,
    },
}

/// A snapshot for the status page.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Status {
    /// Predictions that wait for the budget.
    pub(crate) queued: usize,
    /// Predictions whose submit is under way.
    pub(crate) submitting: usize,
    /// Predictions the upstream works on.
    pub(crate) following: usize,
    pub(crate) waiters: usize,
    pub(crate) orders: u64,
    pub(crate) pictures: u64,
    pub(crate) spent_usd: f64,
    pub(crate) unknown: u64,
    pub(crate) unknown_usd: f64,
    pub(crate) joined: u64,
    pub(crate) joined_usd: f64,
    pub(crate) cache_hits: u64,
    pub(crate) spool_bytes: u64,
    pub(crate) spool_bytes_max: u64,
    pub(crate) memory_cache_bytes: u64,
    pub(crate) journal: &'static str,
}

impl Engine {
    /// Builds the engine, takes up what the journal says was under way, and starts its scheduler and its sweeper.
    ///
    /// # Errors
    ///
    /// [`JournalError`] when the journal cannot be read or written.
    pub(crate) async fn start(
        parts: Parts,
        upstream: &UpstreamConfig,
        cache: &CacheConfig,
        storage: &StorageConfig,
    ) -> Result<Self, JournalError> {
        let (due, announced) = mpsc::unbounded_channel();
        let settings = Settings {
            cache: cache.mode,
            cache_ttl: cache.ttl,
            goods_ttl: storage.goods_ttl,
            results_bytes_max: storage.results_bytes_max,
            sweep_interval: storage.sweep_interval,
            submit_attempts_max: upstream.submit_attempts_max.get(),
            deadline: upstream.deadline,
            picture_bytes_max: upstream.picture_bytes_max,
            polls_max: upstream.concurrent_polls_max.get(),
        };
        let core = Arc::new(Core {
            metrics: EngineMetrics::new(&parts.metrics),
            orders: Orders::default(),
            recent: moka::sync::Cache::builder().max_capacity(RECENT_MAX).time_to_live(cache.ttl).build(),
            due,
            cadence: Cadence::new(upstream),
            settings,
            clock: parts.clock,
            catalogue: parts.catalogue,
            journal: parts.journal,
            results: parts.results,
            spool: parts.spool,
            budget: parts.budget,
            upstream: parts.upstream,
            lifecycle: parts.lifecycle,
        });
        core.recover().await?;
        core.lifecycle.spawn_service("poll scheduler", follow::schedule(Arc::clone(&core), announced));
        core.lifecycle.spawn_service("sweeper", sweep::run(Arc::clone(&core)));
        Ok(Self { core })
    }

    /// Where uploads go.
    pub(crate) fn spool(&self) -> &Spool {
        &self.core.spool
    }

    /// Answers from what is stored, joins what is under way, or begins to buy.
    ///
    /// # Errors
    ///
    /// A [`Failure`] with which nothing was bought.
    pub(crate) async fn submit(&self, order: Order) -> Result<Ticket, Failure> {
        let core = &self.core;
        let fingerprint = Fingerprint::of(&order.client, &order.request);
        let cache_on = core.settings.cache == CacheMode::On;
        let asker = Asker { shares: cache_on && !order.fresh, is_retry: order.is_retry };
        if let Some(ticket) = core.join(fingerprint, asker) {
            return Ok(ticket);
        }
        if let Some(ticket) = core.find_stored(fingerprint, asker).await {
            return Ok(ticket);
        }
        let origin = if asker.shares { Origin::Bought } else { Origin::Bypass };
        core.begin(order, fingerprint, asker, origin)
    }

    /// Opens the pictures of a delivery.
    ///
    /// # Errors
    ///
    /// [`Failure::ResultLost`] when a picture is gone or changed on disk.
    pub(crate) async fn open(&self, delivery: &Delivery) -> Result<Vec<Arc<dyn Source>>, Failure> {
        self.core.open(&delivery.pictures).await
    }

    /// One picture of an order, for its signed address; `None` when it is not (or no longer) there.
    pub(crate) async fn picture(&self, order: OrderId, index: usize) -> Option<(StoredPicture, Arc<dyn Source>)> {
        let stored = self.core.journal.order(order).await.ok()??;
        let picture = *delivery_of(&stored)?.pictures.get(index)?;
        let source = self.core.results.read(&picture).await.ok()?;
        Some((picture, source))
    }

    /// Whether purchases can be journalled, which is what readiness depends on.
    pub(crate) fn journal_failed(&self) -> bool {
        self.core.journal.failed()
    }

    pub(crate) fn status(&self) -> Status {
        let core = &self.core;
        let mut status = core.orders.count();
        core.metrics.fill(&mut status);
        status.spool_bytes = core.spool.bytes();
        status.spool_bytes_max = core.spool.bytes_max();
        status.memory_cache_bytes = core.results.memory_bytes();
        status.journal = if core.journal.failed() { "failed" } else { "ok" };
        status
    }

    /// Brings the gauges up to date before a scrape.
    pub(crate) fn refresh_metrics(&self) {
        self.core.metrics.set_gauges(&self.status());
    }
}

impl Core {
    /// Waits with a live order, where the rules say so.
    fn join(self: &Arc<Self>, fingerprint: Fingerprint, asker: Asker) -> Option<Ticket> {
        let (order, progress, record) = self.orders.join(fingerprint, asker)?;
        self.metrics.joined(self.estimate(&record.model, record.n));
        Some(self.ticket(order, Origin::Joined, progress, false))
    }

    /// Finds a stored result that answers the request, whole on disk.
    async fn find_stored(self: &Arc<Self>, fingerprint: Fingerprint, asker: Asker) -> Option<Ticket> {
        if asker.shares
            && let Some(delivery) = self.recent.get(&fingerprint)
        {
            let age = self.clock.now().since(delivery.resolved);
            if age <= self.settings.cache_ttl && self.open(&delivery.pictures).await.is_ok() {
                self.metrics.hit();
                return Some(self.finished_ticket(delivery, Origin::Hit(age), true));
            }
            self.recent.invalidate(&fingerprint);
        }
        let candidates = self.journal.newest(fingerprint, CANDIDATES_MAX).await.ok()?;
        for stored in candidates {
            let Some(delivery) = delivery_of(&stored) else { continue };
            let candidate = StoredCandidate {
                age: self.clock.now().since(delivery.resolved),
                delivered: stored.delivered.is_some(),
                in_delivery: self.orders.has_tickets(stored.record.id),
                shareable: stored.record.shareable && delivery.missing == 0,
            };
            if stored.forgotten || !asker.takes(candidate, self.settings.cache_ttl, self.settings.goods_ttl) {
                continue;
            }
            if let Err(failure) = self.open(&delivery.pictures).await {
                tracing::error!(order = %stored.record.id, ?failure, "a stored result cannot be read");
                continue;
            }
            let delivery = Arc::new(delivery);
            let origin = if candidate.delivered {
                self.metrics.hit();
                Origin::Hit(candidate.age)
            } else {
                self.metrics.joined(self.estimate(&stored.record.model, stored.record.n));
                Origin::Joined
            };
            if candidate.shareable && self.settings.cache == CacheMode::On {
                self.recent.insert(fingerprint, Arc::clone(&delivery));
            }
            return Some(self.finished_ticket(delivery, origin, candidate.delivered));
        }
        None
    }

    async fn open(&self, pictures: &[StoredPicture]) -> Result<Vec<Arc<dyn Source>>, Failure> {
        let mut sources = Vec::with_capacity(pictures.len());
        for picture in pictures {
            let source = self.results.read(picture).await;
            sources.push(source.map_err(|error| Failure::ResultLost { message: error.to_string() })?);
        }
        Ok(sources)
    }

    fn ticket(
        self: &Arc<Self>,
        order: OrderId,
        origin: Origin,
        progress: watch::Receiver<Progress>,
        delivered_before: bool,
    ) -> Ticket {
        self.orders.hold(order);
        Ticket { core: Arc::clone(self), order, origin, progress, delivered_before }
    }

    fn finished_ticket(self: &Arc<Self>, delivery: Arc<Delivery>, origin: Origin, delivered_before: bool) -> Ticket {
        let order = delivery.order;
        let progress = Progress { upstream: delivery.predictions.clone(), outcome: Some(Ok(delivery)) };
        self.ticket(order, origin, watch::channel(progress).1, delivered_before)
    }

    /// What `pictures` pictures of a model cost, before the upstream has reported tokens.
    fn estimate(&self, model: &str, pictures: u8) -> f64 {
        self.catalogue.find(model).map_or(0.0, |model| model.price.of(usize::from(pictures), None).0)
    }
}

impl Ticket {
    pub(crate) fn order(&self) -> OrderId {
        self.order
    }

    pub(crate) fn origin(&self) -> Origin {
        self.origin
    }

    /// Waits for the outcome, at most for `patience`.
    ///
    /// # Errors
    ///
    /// [`WaitError`]; with all but `Failed` the work goes on.
    pub(crate) async fn wait(&mut self, patience: Duration) -> Result<Arc<Delivery>, WaitError> {
        enum Woken {
            Ended(Option<Result<Arc<Delivery>, Failure>>),
            OutOfPatience,
            Closing,
        }
        let lifecycle = self.core.lifecycle.clone();
        let woken = tokio::select! {
            biased;
            ended = self.progress.wait_for(|progress| progress.outcome.is_some()) => {
                Woken::Ended(ended.ok().and_then(|progress| progress.outcome.clone()))
            }
            () = tokio::time::sleep(patience) => Woken::OutOfPatience,
            () = lifecycle.closing() => Woken::Closing,
        };
        match woken {
            Woken::Ended(Some(Ok(delivery))) => Ok(delivery),
            Woken::Ended(Some(Err(failure))) => Err(WaitError::Failed(failure)),
            Woken::OutOfPatience => Err(self.out_of_patience()),
            // The sender is gone without an outcome only when the engine is torn down.
            Woken::Closing | Woken::Ended(None) => Err(self.closing()),
        }
    }

    /// Notes that the answer was written to a connection that was still there.
    pub(crate) fn delivered(self) {
        if self.delivered_before {
            return;
        }
        let core = Arc::clone(&self.core);
        let record = Record::Delivered { order: self.order, at: core.clock.now() };
        core.lifecycle.clone().spawn("delivered", async move {
            if let Err(error) = core.journal.append(record).await {
                tracing::warn!(order = %self.order, %error, "a delivery could not be journalled");
            }
            // The ticket itself ends here: until the journal knows, nobody else claims the result.
            drop(self);
        });
    }

    fn out_of_patience(&self) -> WaitError {
        // Nothing bought means that nothing goes on once this waiter has left.
        if self.core.orders.is_bought(self.order) {
            WaitError::OutOfPatience { upstream: self.upstream() }
        } else {
            WaitError::Failed(Failure::Throttled { retry_after: self.core.budget.forecast() })
        }
    }

    fn closing(&self) -> WaitError {
        let orders = &self.core.orders;
        if orders.is_submitting(self.order) {
            // Its answer may not come before the end, and then a retry could pay again.
            let message = "the gateway stopped before the answer came".to_owned();
            WaitError::Failed(Failure::OutcomeUnknown { message })
        } else if orders.is_bought(self.order) {
            WaitError::Closing { upstream: self.upstream() }
        } else {
            // What is only queued is not taken up after the restart.
            WaitError::Failed(Failure::Stopping)
        }
    }

    fn upstream(&self) -> Vec<UpstreamId> {
        self.progress.borrow().upstream.clone()
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.core.orders.release(self.order);
    }
}

/// What an order brought, as the journal has it; `None` while it is under way or when it brought nothing.
fn delivery_of(stored: &StoredOrder) -> Option<Delivery> {
    let mut delivery = Delivery {
        order: stored.record.id,
        predictions: Vec::new(),
        pictures: Vec::new(),
        missing: 0,
        usage: None,
        resolved: Timestamp::from_millis(0),
    };
    for prediction in &stored.predictions {
        match &prediction.state {
            StoredState::Resolved { upstream, pictures, usage, at } => {
                add_to(&mut delivery, upstream.as_ref(), pictures, *usage, *at);
            }
            StoredState::Failed { .. } => {}
            StoredState::Intent | StoredState::Committing { .. } | StoredState::Accepted { .. } => return None,
        }
    }
    finish_delivery(delivery, stored.record.n)
}

/// Adds what one prediction brought.
fn add_to(
    delivery: &mut Delivery,
    upstream: Option<&UpstreamId>,
    pictures: &[StoredPicture],
    usage: Option<crate::model::Usage>,
    at: Timestamp,
) {
    // One prediction without figures makes the sum unknown: complete usage, or none.
    let first = delivery.pictures.is_empty();
    delivery.usage = match (delivery.usage, usage) {
        (None, usage) if first => usage,
        (Some(sum), Some(usage)) => Some(sum.plus(usage)),
        _ => None,
    };
    delivery.predictions.extend(upstream.cloned());
    delivery.pictures.extend_from_slice(pictures);
    delivery.resolved = delivery.resolved.max(at);
}

fn finish_delivery(mut delivery: Delivery, n: u8) -> Option<Delivery> {
    delivery.missing = n.saturating_sub(u8::try_from(delivery.pictures.len()).unwrap_or(u8::MAX));
    (!delivery.pictures.is_empty()).then_some(delivery)
}
