//! What purchases brought and cost, by client and model.

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::recent_times::RecentTimes;
use super::undecided::Undecided;
use super::{Money, Status};
use crate::model::{Catalogue, ClientId, Failure, ModelId, Usd};
use crate::storage::journal::JobRecord;
use crate::telemetry::Metrics;
use crate::telemetry::label_names::{LabelNames, OTHER};

#[derive(Clone, Debug)]
pub(super) struct PurchaseMetrics {
    bought: BoughtMetrics,
    failed: Family<ReasonLabel, Counter>,
    inputs_unseen: Family<ModelLabel, Counter>,
    in_progress: Family<StateLabel, Gauge>,
    generation_seconds: Family<ModelLabel, Histogram>,
    recent_times: RecentTimes,
    unknown: Counter,
    unknown_usd: Money,
    undecided: Undecided,
}

/// What was bought, by client and model; and over all of them, for the status page.
#[derive(Clone, Debug)]
struct BoughtMetrics {
    clients: LabelNames,
    pictures: Family<BuyerLabels, Counter>,
    usd: Family<BuyerLabels, Money>,
    pictures_sum: Counter,
    usd_sum: Money,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BuyerLabels {
    client: Arc<str>,
    model: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabel {
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ModelLabel {
    model: Arc<str>,
}

/// Seconds from the acceptance of a purchase to its stored pictures: low quality takes about 23 s, high about 143 s.
const GENERATION_BUCKETS: [f64; 14] =
    [0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 45.0, 60.0, 90.0, 120.0, 180.0, 300.0, 600.0];

impl PurchaseMetrics {
    /// Counters of models and reasons begin at 0.
    pub(super) fn new(metrics: &Metrics, undecided: Undecided, catalogue: &Catalogue) -> Self {
        let own = Self {
            bought: BoughtMetrics {
                clients: metrics.clients(),
                pictures: Family::default(),
                usd: Family::default(),
                pictures_sum: Counter::default(),
                usd_sum: Money::default(),
            },
            failed: Family::default(),
            inputs_unseen: Family::default(),
            in_progress: Family::default(),
            generation_seconds: Family::new_with_constructor(|| Histogram::new(GENERATION_BUCKETS)),
            recent_times: RecentTimes::default(),
            unknown: Counter::default(),
            unknown_usd: Money::default(),
            undecided,
        };
        for model in &catalogue.models {
            own.inputs_unseen.get_or_create_owned(&ModelLabel { model: model.id.as_str().into() });
        }
        for reason in Failure::NAMES {
            own.failed.get_or_create_owned(&ReasonLabel { reason });
        }
        own
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "pictures_bought",
            "Pictures bought and stored, by client and model",
            self.bought.pictures.clone(),
        );
        registry.register(
            "spent_usd",
            "US dollars spent, by client and model, by the prices of the catalogue",
            self.bought.usd.clone(),
        );
        registry.register("purchases_unknown", "Purchases with an unknown outcome", self.unknown.clone());
        registry.register(
            "unknown_usd",
            "US dollars that purchases with an unknown outcome may have cost",
            self.unknown_usd.clone(),
        );
        registry.register("purchases_failed", "Purchases that ended without a picture, by reason", self.failed.clone());
        registry.register(
            "inputs_unseen",
            "Purchases with pictures that were made without looking at the input pictures, by model",
            self.inputs_unseen.clone(),
        );
        registry.register(
            "purchases_in_progress",
            "Purchases that are queued, submitted or polled, by state",
            self.in_progress.clone(),
        );
        registry.register(
            "generation_seconds",
            "Time from the acceptance of a purchase to its stored pictures, by model",
            self.generation_seconds.clone(),
        );
        self.undecided.register(registry);
    }

    /// Makes the counts of a client and a model, at 0: the first purchase is an increase that can be seen.
    pub(super) fn expect(&self, client: &ClientId, model: &ModelId) {
        let labels = BuyerLabels { client: self.bought.clients.value(&client.0), model: model.as_str().into() };
        self.bought.pictures.get_or_create_owned(&labels);
        self.bought.usd.get_or_create_owned(&labels);
    }

    /// Counts the pictures of a purchase, and whether they were made without looking at its input pictures. Without a price the
    /// catalogue does not have the model any more.
    pub(super) fn resolved(
        &self,
        record: &JobRecord,
        pictures: usize,
        price: Option<Usd>,
        took: Duration,
        inputs_unseen: bool,
    ) {
        let model: Arc<str> = price.map_or_else(|| OTHER.into(), |_| record.model.as_str().into());
        self.recent_times.record(&model, took);
        let bought = &self.bought;
        let labels = BuyerLabels { client: bought.clients.value(&record.client.0), model: Arc::clone(&model) };
        bought.pictures.get_or_create(&labels).inc_by(pictures as u64);
        bought.pictures_sum.inc_by(pictures as u64);
        if let Some(Usd(usd)) = price {
            bought.usd.get_or_create(&labels).inc_by(usd);
            bought.usd_sum.inc_by(usd);
        }
        let model = ModelLabel { model };
        self.generation_seconds.get_or_create(&model).observe(took.as_secs_f64());
        if inputs_unseen {
            self.inputs_unseen.get_or_create(&model).inc();
        }
    }

    /// Counts a failure; `cost`: what an unknown outcome may have cost; `counted`: it is counted as a lost answer already.
    pub(super) fn ended(&self, failure: &Failure, cost: Usd, counted: bool) {
        self.failed.get_or_create(&ReasonLabel { reason: failure.name() }).inc();
        if let Failure::OutcomeUnknown { .. } = failure {
            self.undecided.add(cost);
            if !counted {
                self.unknown(cost);
            }
        }
    }

    pub(super) fn unknown(&self, Usd(estimate_usd): Usd) {
        self.unknown.inc();
        self.unknown_usd.inc_by(estimate_usd);
    }

    pub(super) fn fill(&self, status: &mut Status) {
        status.pictures = self.bought.pictures_sum.get();
        status.spent_usd = self.bought.usd_sum.get();
        let undecided = self.undecided.sum();
        (status.unknown, status.unknown_usd) = (undecided.purchases, undecided.usd);
        status.generation_times = self.recent_times.by_model();
    }

    pub(super) fn set_gauges(&self, status: &Status) {
        let counts = [("queued", status.queued), ("submitting", status.submitting), ("polling", status.polling)];
        for (state, count) in counts {
            let gauge = self.in_progress.get_or_create_owned(&StateLabel { state });
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Environment};
    use crate::telemetry::MetricsFormat;

    #[test]
    fn counts_begin_at_zero_and_clients_beyond_the_limit_share_one() {
        let metrics = Metrics::new(1);
        let purchases = PurchaseMetrics::new(
            &metrics,
            Undecided::default(),
            &Config::load(None, &Environment::default()).unwrap().catalogue,
        );
        metrics.register("engine", |registry| purchases.register(registry));
        for client in ["alice", "bob", "carol"] {
            purchases.expect(&ClientId(client.into()), &ModelId::from("gpt-image-2"));
        }
        let text = metrics.encode(MetricsFormat::Prometheus);
        let spent: Vec<&str> = text.lines().filter(|line| line.contains("spent_usd_total{")).collect();
        assert_eq!(spent.len(), 2, "{spent:?}");
        for client in ["alice", "(other)"] {
            let labels = format!("{{client=\"{client}\",model=\"gpt-image-2\"}} 0");
            assert!(spent.iter().any(|line| line.contains(&labels)), "{spent:?}");
        }
        for begun in ["inputs_unseen_total{model=\"gpt-image-2\"} 0", "failed_total{reason=\"outcome_unknown\"} 0"] {
            assert!(text.contains(begun), "no {begun} in {text}");
        }
    }
}
