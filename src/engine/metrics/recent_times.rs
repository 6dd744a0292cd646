//! How long the last pictures took, by model: histograms have no median, and the operator's page shows one.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

/// Purchases that are kept.
const PURCHASES_MAX: usize = 1000;
/// How long a purchase counts.
const WINDOW: Duration = Duration::from_mins(15);
/// Models that are shown: those with the most purchases.
const MODELS_MAX: usize = 6;

/// How long the last purchases of a model took.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct GenerationTime {
    pub(crate) model: String,
    pub(crate) purchases: usize,
    /// Half of them took no longer.
    pub(crate) median_s: f64,
    /// Nine of ten took no longer.
    pub(crate) p90_s: f64,
}

#[derive(Clone, Debug)]
struct Purchase {
    ended: Instant,
    model: Arc<str>,
    took: Duration,
}

/// The last purchases with pictures. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct RecentTimes {
    purchases: Arc<Mutex<VecDeque<Purchase>>>,
}

impl RecentTimes {
    pub(super) fn record(&self, model: &str, took: Duration) {
        let mut purchases = self.purchases.lock().unwrap_or_else(PoisonError::into_inner);
        if purchases.len() >= PURCHASES_MAX {
            purchases.pop_front();
        }
        purchases.push_back(Purchase { ended: Instant::now(), model: model.into(), took });
    }

    /// Returns the times of each model, the model with the most purchases first.
    pub(super) fn by_model(&self) -> Vec<GenerationTime> {
        let now = Instant::now();
        let mut by_model: BTreeMap<Arc<str>, Vec<Duration>> = BTreeMap::new();
        {
            let purchases = self.purchases.lock().unwrap_or_else(PoisonError::into_inner);
            let counted = purchases.iter().filter(|purchase| now.saturating_duration_since(purchase.ended) < WINDOW);
            for Purchase { model, took, .. } in counted {
                by_model.entry(Arc::clone(model)).or_default().push(*took);
            }
        }
        let mut times: Vec<GenerationTime> = by_model
            .into_iter()
            .map(|(model, mut took)| {
                took.sort_unstable();
                let at = |percent: usize| took[(took.len() - 1) * percent / 100].as_secs_f64();
                GenerationTime { model: model.to_string(), purchases: took.len(), median_s: at(50), p90_s: at(90) }
            })
            .collect();
        times.sort_by_key(|time| std::cmp::Reverse(time.purchases));
        times.truncate(MODELS_MAX);
        times
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn times_are_by_model_of_the_last_minutes_and_bounded() {
        let times = RecentTimes::default();
        for second in 1..=11 {
            times.record("slow", Duration::from_secs(second * 10));
        }
        times.record("quick", Duration::from_secs(1));
        let shown = times.by_model();
        let of = |time: &GenerationTime| (time.model.clone(), time.purchases, time.median_s, time.p90_s);
        assert_eq!(of(&shown[0]), ("slow".to_owned(), 11, 60.0, 100.0));
        assert_eq!(of(&shown[1]), ("quick".to_owned(), 1, 1.0, 1.0));
        tokio::time::advance(WINDOW).await;
        assert_eq!(times.by_model(), []);
        for number in 0..5000 {
            times.record(&format!("model {}", number % 20), Duration::from_secs(1));
        }
        let shown = times.by_model();
        assert_eq!((shown.len(), shown[0].purchases), (MODELS_MAX, PURCHASES_MAX / 20));
    }
}
