//! How long the upstream works on a purchase, learned for each class of purchases.
//!
//! Wanted:
//! - A completion is only known to lie between the last poll that found the purchase working and the poll that found it
//!   done. What is learned must not depend on how often the gateway polled.
//! - A service that became slower or faster is believed within 10 to 20 completions; one odd completion is not.
//! - Nothing is ever impossible: beyond everything observed there is a tail, so there is always a time of a next poll.
//!
//! How: a class remembers its last completions as intervals, each with a weight that fades. The distribution is the
//! self-consistent estimate for such interval-censored data: an interval's weight is spread over its times in
//! proportion to the present estimate, the sum is smoothed, and this is repeated a few times (expectation, smoothing,
//! maximisation). A share of each weight stays evenly spread: where polls are sparse the estimate would otherwise pile
//! up at the edge of the earlier estimate, and a service that became faster would be followed one poll at a time.
//! A prior is added, which fades with the completions, and a tail that never fades.
//!
//! A shift is noticed by where completions fall in the distribution that was believed before them: evenly, if it was
//! right; repeatedly at one end, if the service has changed. Then everything older counts for little. The observer is
//! notified once the estimate has indeed moved far: plans made before are then out of date. (Either sign alone would
//! call one completion in fifty a shift where polls are rare and intervals wide.)
//!
//! The prior is measured at the upstream (`src/README.md`: one picture of one megapixel takes 23 s at low quality, 49
//! to 107 s at medium, 134 to 147 s at high), scaled with the square root of the pixels and slowly with the number of
//! pictures. A class that was never observed takes scaled completions of a relative instead, the same model and quality
//! at another size or task.
//!
//! Not wanted: to learn from purchases that are still working. One that outlives its class is polled at the tail's
//! growing intervals at once; its class learns when it ends.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

mod class;
mod learning;
mod observation;
mod stored;
mod survival;
#[cfg(test)]
mod tests;

pub use class::LatencyClass;
use learning::{LearnedClass, PRIOR_WEIGHT};
use observation::Observation;
use stored::StoredClass;
pub(crate) use stored::StoredLatencies;
pub use survival::SurvivalEstimate;

/// Classes that are remembered; the least recently used one is evicted.
const CLASSES_MAX: usize = 512;

/// What a relative's completions are worth, how many are taken, and how far they may be off.
const BORROWED_WEIGHT: f64 = 0.4;
const BORROWED_MAX: usize = 10;
const BORROWED_MARGIN: f64 = 0.1;

/// Whether generation times are guessed before any is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LatencyPriors {
    /// As measured at the upstream.
    Measured,
    /// Nothing is known before it was observed.
    None,
}

/// Generation times of all classes.
#[derive(Debug)]
pub struct LatencyModel {
    priors: LatencyPriors,
    /// The shortest time between two estimates of one class.
    pause: Duration,
    classes: HashMap<LatencyClass, LearnedClass>,
    uses: u64,
}

impl LatencyModel {
    #[must_use]
    pub fn new(priors: LatencyPriors) -> Self {
        Self { priors, pause: Duration::ZERO, classes: HashMap::new(), uses: 0 }
    }

    /// Sets the shortest time between two estimates of one class, except after a shift: an estimate takes a while, and
    /// among hundreds of completions a second one more changes nothing.
    #[must_use]
    pub fn pausing(self, pause: Duration) -> Self {
        Self { pause, ..self }
    }

    /// Returns what is known of a class, from the class itself, its relatives or the prior.
    pub fn estimate(&mut self, class: &LatencyClass) -> &SurvivalEstimate {
        &self.entry(class).estimate
    }

    /// Learns that a purchase still worked at the age of `after` and was found done at the age of `by`. Returns whether
    /// the estimate of the class has shifted so far that plans made before are out of date.
    #[must_use = "plans that were made before a shift are out of date"]
    pub fn observe(&mut self, class: &LatencyClass, after: Duration, by: Duration) -> bool {
        let pause = self.pause;
        self.entry(class).observe(class, Observation::new(after.as_secs_f64(), by.as_secs_f64(), 1.0), pause)
    }

    /// Returns the age by which this share of a class is done; `None` if nothing is known.
    pub fn done_by(&mut self, class: &LatencyClass, share: f64) -> Option<Duration> {
        let estimate = self.estimate(class);
        (!estimate.is_empty()).then(|| Duration::from_secs_f64(estimate.quantile(share)))
    }

    /// Returns the age by which half of those of a class are done that have reached `age`; `None` if nothing is known.
    pub fn expected(&mut self, class: &LatencyClass, age: Duration) -> Option<Duration> {
        let estimate = self.estimate(class);
        if estimate.is_empty() {
            return None;
        }
        let done = 1.0 - estimate.survival(age.as_secs_f64()) / 2.0;
        Some(Duration::from_secs_f64(estimate.quantile(done)).max(age))
    }

    /// Returns what outlives a restart.
    #[must_use]
    pub(crate) fn stored(&self) -> StoredLatencies {
        let mut classes: Vec<_> = self.classes.iter().filter(|(_, learned)| !learned.observations.is_empty()).collect();
        classes.sort_by_key(|(_, learned)| learned.used);
        let classes = classes.into_iter().map(|(class, learned)| StoredClass::new(class, learned)).collect();
        StoredLatencies { version: stored::VERSION, classes }
    }

    /// Makes a model of what was stored. Classes of another version or out of bounds are dropped.
    #[must_use]
    pub(crate) fn restore(priors: LatencyPriors, stored: StoredLatencies) -> Self {
        let mut latencies = Self::new(priors);
        if stored.version != stored::VERSION {
            return latencies;
        }
        let surplus = stored.classes.len().saturating_sub(CLASSES_MAX);
        for stored in stored.classes.into_iter().skip(surplus).filter(StoredClass::is_sound) {
            let prior_weight = match priors {
                LatencyPriors::Measured => stored.prior_weight().min(PRIOR_WEIGHT),
                LatencyPriors::None => 0.0,
            };
            let used = latencies.use_now();
            let learned = LearnedClass::new(&stored.class, stored.observations(), prior_weight, used);
            latencies.classes.insert(stored.class, learned);
        }
        latencies
    }

    fn entry(&mut self, class: &LatencyClass) -> &mut LearnedClass {
        let used = self.use_now();
        if !self.classes.contains_key(class) {
            self.evict_for_one();
            let observations = self.borrowed(class);
            let prior_weight = match self.priors {
                LatencyPriors::Measured if observations.is_empty() => PRIOR_WEIGHT,
                LatencyPriors::Measured | LatencyPriors::None => 0.0,
            };
            self.classes.insert(class.clone(), LearnedClass::new(class, observations, prior_weight, used));
        }
        let learned = self.classes.get_mut(class).expect("it has just been inserted");
        learned.used = used;
        learned
    }

    /// The last completions of the closest relative, scaled to `class`.
    fn borrowed(&self, class: &LatencyClass) -> VecDeque<Observation> {
        let relatives = self.classes.iter().filter_map(|(other, learned)| {
            let observations = &learned.observations;
            let relatedness = class.relatedness(other).filter(|_| !observations.is_empty())?;
            Some(((relatedness, observations.len(), learned.used), class.scale() / other.scale(), observations))
        });
        let Some((_, ratio, observations)) = relatives.max_by_key(|&(rank, ..)| rank) else { return VecDeque::new() };
        let last = observations.iter().skip(observations.len().saturating_sub(BORROWED_MAX));
        let scaled = last.map(|one| {
            let after = one.after * ratio * (1.0 - BORROWED_MARGIN);
            let by = one.by * ratio * (1.0 + BORROWED_MARGIN);
            Observation::new(after, by, BORROWED_WEIGHT * one.weight)
        });
        scaled.collect()
    }

    fn evict_for_one(&mut self) {
        while self.classes.len() >= CLASSES_MAX {
            let oldest = self.classes.iter().min_by_key(|(_, learned)| learned.used).map(|(class, _)| class.clone());
            let Some(oldest) = oldest else { return };
            self.classes.remove(&oldest);
        }
    }

    fn use_now(&mut self) -> u64 {
        self.uses += 1;
        self.uses
    }
}
