//! How long the upstream works on a prediction, learned for each class of predictions.
//!
//! Wanted:
//! - A completion is only known to lie between the last poll that found the prediction working and the poll that found
//!   it done. What is learned must not depend on how often was asked.
//! - A service that became slower or faster is believed within 10 to 20 completions, and one odd completion is not.
//! - Nothing is ever impossible: beyond everything seen there is a tail, so there is always a time to ask next.
//!
//! How: a class remembers its last completions as intervals, each with a weight that fades. The distribution is the
//! self-consistent estimate for such interval-censored data: an interval's weight is spread over its times in
//! proportion to the present estimate, the sum is smoothed, and so on a few times (expectation, smoothing,
//! maximisation). A share of each weight stays evenly spread: where polls are sparse the estimate would otherwise pile
//! up at the edge of what it believed before, and a service that became faster would be followed one poll at a time.
//! To this come a prior, which fades with the completions, and a tail that never goes.
//!
//! A shift is noticed by where completions fall in the distribution that was believed before them: evenly, if it was
//! right; at one end, time after time, if the service has changed. Then everything older counts for little. Whoever
//! observes is told, once what is believed has indeed moved far: plans made before are then out of date. (Either sign
//! alone would call one completion in fifty a shift where polls are scarce and intervals wide.)
//!
//! The prior is `wire/gptproto.md` §7 (one picture of one megapixel: low 23 s, medium 49 to 107 s, high 134 to 147 s),
//! scaled with the square root of the pixels and slowly with the number of pictures. A class that was never seen takes
//! scaled completions of a relative instead, the same model and quality at another size or task.
//!
//! Not wanted: to learn from predictions that are still working. One that outlives its class is asked for at the
//! tail's growing intervals at once; its class learns when it ends.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::LazyLock;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

/// Classes that are remembered; the one that was not used for longest goes.
const CLASSES_MAX: usize = 512;

/// Completions that a class remembers.
const SEEN_MAX: usize = 96;

/// Bytes of a model's, task's or quality's name that tell classes apart.
const NAME_BYTES_MAX: usize = 64;

/// Weight that a completion keeps when another one follows: the last 50 count. Shifts are not left to fading.
const FADING: f64 = 0.98;

/// Ages are told apart by a hundredth, from 40 ms to more than an hour.
const BINS: usize = 1152;
const BIN_FIRST_S: f64 = 0.04;
const BIN_LOG: f64 = 0.01;

/// Completions that the prior is worth before there are any.
const PRIOR_WEIGHT: f64 = 2.0;

/// Weight that the prior keeps when a completion comes.
const PRIOR_FADING: f64 = 0.85;

/// Completions that the tail is always worth.
const TAIL_WEIGHT: f64 = 0.5;

/// The tail falls with these powers of the age, below and above the median.
const TAIL_BELOW: f64 = 1.2;
const TAIL_ABOVE: f64 = 1.5;

/// Share of a completion's weight that stays evenly spread over its interval.
const EVEN_SHARE: f64 = 0.4;

/// Completions of which each is learned at once, however fast they come.
const FEW: usize = 16;

/// Rounds of the self-consistent estimate. More change little.
const ROUNDS: usize = 4;

/// Bandwidth of the smoothing as a part of the rule for a normal distribution (Silverman's rule of thumb), which is too
/// wide for steep edges.
const BANDWIDTH: f64 = 0.8;

/// How much of the surprise the next completion makes, beyond which (in standard deviations of one completion) the past
/// is doubted, what is left of its weight then, and how many completions are too recent to doubt.
const SURPRISE_SHARE: f64 = 0.3;
const SURPRISE_MAX: f64 = 1.15;
const DOUBT: f64 = 0.3;
const RECENT: usize = 3;

/// When the past is doubted, what is known has shifted if one of these quantiles has moved by more than such a share
/// since it was last said to have shifted.
const TOLD_QUANTILES: [f64; 2] = [0.1, 0.5];
const TOLD_SHARE: f64 = 0.2;

/// One completion is no more surprising than so many standard deviations.
const DEVIATION_MAX: f64 = 3.0;

/// What a relative's completions are worth, how many are taken, and how far they may be off.
const BORROWED_WEIGHT: f64 = 0.4;
const BORROWED_MAX: usize = 10;
const BORROWED_MARGIN: f64 = 0.1;

/// The version of [`StoredLatencies`].
const VERSION: u32 = 1;

/// Edges of the bins, in seconds.
static EDGES: LazyLock<Vec<f64>> = LazyLock::new(|| {
    let edge = |bin: usize| BIN_FIRST_S * (BIN_LOG * f64::from(u32::try_from(bin).expect("few bins"))).exp();
    (0..=BINS).map(edge).collect()
});

/// What generation time depends on. Its text (`Display`) is bounded and made of names and numbers.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct LatencyClass {
    model: String,
    task: String,
    quality: String,
    /// Half-octaves of pixels above one megapixel (2^20).
    size: i8,
    n: u8,
}

impl LatencyClass {
    /// `pixels` of one picture (0: not known, taken for a megapixel), `n` pictures. Models without a quality have "".
    pub(crate) fn new(model: &str, task: &str, quality: &str, pixels: u64, n: u32) -> Self {
        let bounded = |name: &str| name[..name.floor_char_boundary(NAME_BYTES_MAX)].to_owned();
        #[expect(clippy::cast_precision_loss, reason = "a logarithm is wanted")]
        let octaves = (pixels as f64).log2() - 20.0;
        #[expect(clippy::cast_possible_truncation, reason = "64 bits have 128 half-octaves, and 40 are below zero")]
        let size = if pixels == 0 { 0 } else { (2.0 * octaves).round() as i8 };
        let n = u8::try_from(n.max(1)).unwrap_or(u8::MAX);
        Self { model: bounded(model), task: bounded(task), quality: bounded(quality), size, n }
    }

    /// Generation time relative to one picture of a megapixel of the same model, task and quality.
    fn scale(&self) -> f64 {
        (f64::from(self.size) / 4.0).exp2() * (1.0 + 0.15 * f64::from(self.n - 1))
    }

    /// The shortest and the longest time that was measured, in seconds.
    fn measured(&self) -> (f64, f64) {
        let (shortest, longest) = match self.quality.as_str() {
            "low" => (20.7, 25.3),
            "high" => (134.0, 147.0),
            _ => (49.0, 107.0),
        };
        (shortest * self.scale(), longest * self.scale())
    }

    /// How near a relative is; none for strangers.
    fn nearness(&self, other: &Self) -> Option<u8> {
        let relative = self.model == other.model && self.quality == other.quality && self != other;
        relative.then_some(u8::from(self.task == other.task) * 2 + u8::from(self.n == other.n))
    }
}

impl fmt::Display for LatencyClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { model, task, quality, size, n } = self;
        let quality = if quality.is_empty() { "-" } else { quality };
        write!(f, "{model} {task} {quality} {size:+} {n}")
    }
}

/// What is known of a class: the probability that a prediction still works at an age, by bins. Empty: nothing is known.
#[derive(Clone, Debug, Default)]
pub(crate) struct SurvivalEstimate {
    /// At the edges of the bins.
    survival: Vec<f32>,
}

impl SurvivalEstimate {
    /// Whether there is neither a prior nor a completion.
    pub(crate) fn is_nothing(&self) -> bool {
        self.survival.is_empty()
    }

    /// Probability that a prediction works longer than `age` seconds. 1 where nothing is known.
    pub(crate) fn survival(&self, age: f64) -> f64 {
        if self.is_nothing() || age <= BIN_FIRST_S {
            return 1.0;
        }
        let bin = Self::bin(age);
        let (left, right) = Self::edges(bin);
        let part = ((age - left) / (right - left)).clamp(0.0, 1.0);
        let (before, after) = self.ends(bin);
        before + (after - before) * part
    }

    /// The probabilities of [`SurvivalEstimate::survival`] at both edges of a bin.
    pub(crate) fn ends(&self, bin: usize) -> (f64, f64) {
        (f64::from(self.survival[bin]), f64::from(self.survival[bin + 1]))
    }

    /// The bin that holds `age` seconds; the first or the last if none does.
    pub(crate) fn bin(age: f64) -> usize {
        let found = EDGES.partition_point(|&edge| edge <= age);
        found.saturating_sub(1).min(BINS - 1)
    }

    /// Both edges of a bin, in seconds.
    pub(crate) fn edges(bin: usize) -> (f64, f64) {
        (EDGES[bin], EDGES[bin + 1])
    }

    pub(crate) const fn bins() -> usize {
        BINS
    }

    /// The age by which a part of all predictions is done.
    fn quantile(&self, part: f64) -> f64 {
        let bin = self.survival.partition_point(|&survival| f64::from(survival) > 1.0 - part);
        EDGES[bin.min(BINS)]
    }

    /// From weights of the bins, and the tail about their median.
    fn of_weights(weights: &[f64]) -> Self {
        let sum: f64 = weights.iter().sum();
        let total = sum + TAIL_WEIGHT;
        let centre = median(weights, sum);
        let mut before = 0.0;
        let mut survival = Vec::with_capacity(BINS + 1);
        for (bin, &edge) in EDGES.iter().enumerate() {
            let working = (sum - before).max(0.0) + TAIL_WEIGHT * tail_survival(edge / centre);
            #[expect(clippy::cast_possible_truncation, reason = "seven digits of a probability are plenty")]
            survival.push((working / total) as f32);
            before += weights.get(bin).copied().unwrap_or_default();
        }
        Self { survival }
    }
}

/// Probability of the tail above a multiple of the median: a power of it on either side, with one density between them.
fn tail_survival(multiple: f64) -> f64 {
    let above = TAIL_BELOW / (TAIL_BELOW + TAIL_ABOVE);
    if multiple < 1.0 { 1.0 - (1.0 - above) * multiple.powf(TAIL_BELOW) } else { above * multiple.powf(-TAIL_ABOVE) }
}

fn median(weights: &[f64], sum: f64) -> f64 {
    EDGES[quantile_bin(weights, sum / 2.0)]
}

/// The first bin up to which weights sum to `part`.
fn quantile_bin(weights: &[f64], part: f64) -> usize {
    let mut sum = 0.0;
    let reached = weights.iter().position(|weight| {
        sum += weight;
        sum >= part
    });
    reached.unwrap_or(BINS - 1)
}

/// A completion after more than `after` and at most `by` seconds.
#[derive(Clone, Copy, Debug)]
struct Seen {
    after: f64,
    by: f64,
    weight: f64,
    /// Share of the weight that stays evenly spread.
    even: f64,
}

impl Seen {
    /// Ages that the bins can tell, in order.
    fn new(after: f64, by: f64, weight: f64) -> Self {
        let longest = EDGES[BINS];
        let by = by.clamp(BIN_FIRST_S * 1.1, longest);
        Self { after: after.clamp(0.0, by * 0.999), by, weight, even: EVEN_SHARE }
    }

    /// Adds this completion to `to`: evenly, or for the most part as a present estimate says.
    fn spread(&self, present: Option<&Estimate>, to: &mut Spread) {
        let (first, last) = (SurvivalEstimate::bin(self.after), SurvivalEstimate::bin(self.by));
        let inside = |bin: usize| {
            let (left, right) = SurvivalEstimate::edges(bin);
            // Ages below the first bin belong to it.
            let left = if bin == 0 { 0.0 } else { left };
            (right.min(self.by) - left.max(self.after)).max(0.0) / (right - left)
        };
        // Only the outermost bins are held in part.
        let (part_first, part_last) = (inside(first), inside(last));
        let sum = present.map_or(0.0, |present| {
            let outermost = present.weights[first] * part_first + present.weights[last] * part_last;
            if first == last { present.weights[first] * part_first } else { outermost + present.between(first, last) }
        });
        let even = if sum > 0.0 { self.even } else { 1.0 };
        let evenly = self.weight * even / (self.by - self.after);
        let by_belief = if sum > 0.0 { self.weight * (1.0 - even) / sum } else { 0.0 };
        to.add(first..first + 1, by_belief * part_first, evenly * part_first);
        if first < last {
            to.add(first + 1..last, by_belief, evenly);
            to.add(last..last + 1, by_belief * part_last, evenly * part_last);
        }
    }
}

/// Weights of the bins, and their sums from the first bin on.
#[derive(Debug)]
struct Estimate {
    weights: Vec<f64>,
    sums: Vec<f64>,
}

impl Estimate {
    fn of(weights: Vec<f64>) -> Self {
        let mut sum = 0.0;
        let mut sums = Vec::with_capacity(weights.len() + 1);
        sums.push(sum);
        sums.extend(weights.iter().map(|weight| {
            sum += weight;
            sum
        }));
        Self { weights, sums }
    }

    /// The weight of the bins between two, without either.
    fn between(&self, first: usize, last: usize) -> f64 {
        (self.sums[last] - self.sums[first + 1]).max(0.0)
    }
}

/// Completions spread over the bins, each in a few steps however long its interval is: kept as differences from bin to bin,
/// once of what multiplies the present estimate, once of what lies evenly on a second.
#[derive(Debug)]
struct Spread {
    believed: Vec<f64>,
    evenly: Vec<f64>,
}

impl Spread {
    fn new() -> Self {
        Self { believed: vec![0.0; BINS + 1], evenly: vec![0.0; BINS + 1] }
    }

    fn add(&mut self, bins: std::ops::Range<usize>, believed: f64, evenly: f64) {
        for (differences, value) in [(&mut self.believed, believed), (&mut self.evenly, evenly)] {
            differences[bins.start] += value;
            differences[bins.end] -= value;
        }
    }

    /// The weights of the bins.
    fn weights(&self, present: Option<&Estimate>) -> Vec<f64> {
        let (mut believed, mut evenly) = (0.0, 0.0);
        let weight = |bin: usize| {
            believed += self.believed[bin];
            evenly += self.evenly[bin];
            let by_belief = present.map_or(0.0, |present| believed * present.weights[bin]);
            // Differences that cancel out may leave less than nothing by a rounding.
            (by_belief + evenly * (EDGES[bin + 1] - EDGES[bin])).max(0.0)
        };
        (0..BINS).map(weight).collect()
    }
}

/// One class.
#[derive(Debug)]
struct Learned {
    seen: VecDeque<Seen>,
    prior_weight: f64,
    /// Where the last completions fell in what was believed, in standard deviations; 0 if it was right.
    surprise: f64,
    used: u64,
    known: SurvivalEstimate,
    /// When `known` was made, from what was seen by then.
    made_at: Instant,
    /// The quantiles that plans go by: of when it was last said that what is known has shifted. None: nothing was known.
    told: Option<[f64; 2]>,
}

impl Learned {
    fn new(class: &LatencyClass, seen: VecDeque<Seen>, prior_weight: f64, used: u64) -> Self {
        let (known, made_at) = (SurvivalEstimate::default(), Instant::now());
        let mut learned = Self { seen, prior_weight, surprise: 0.0, used, known, made_at, told: None };
        learned.learn(class);
        learned.told = learned.quantiles();
        learned
    }

    fn quantiles(&self) -> Option<[f64; 2]> {
        (!self.known.is_nothing()).then(|| TOLD_QUANTILES.map(|part| self.known.quantile(part)))
    }

    /// Learns a completion, and says whether what is known has shifted.
    fn observe(&mut self, class: &LatencyClass, seen: Seen, pause: Duration) -> bool {
        let doubted = self.add(seen);
        if !doubted && self.seen.len() >= FEW && self.made_at.elapsed() < pause {
            return false;
        }
        self.learn(class);
        let quantiles = self.quantiles();
        let shifted = match (self.told, quantiles) {
            (Some(told), Some(now)) => {
                let far = |(told, now): (f64, f64)| told.max(now) > (1.0 + TOLD_SHARE) * told.min(now);
                doubted && told.into_iter().zip(now).any(far)
            }
            (told, now) => told.is_some() != now.is_some(),
        };
        if shifted {
            self.told = quantiles;
        }
        shifted
    }

    /// Adds a completion, and says whether it made the past doubtful.
    fn add(&mut self, seen: Seen) -> bool {
        if !self.known.is_nothing() {
            let (after, by) = (self.known.survival(seen.after), self.known.survival(seen.by));
            // The logistic scale reads the ends of the distribution as loud as they are; its deviation is 1.8.
            let place = f64::midpoint(after, by);
            let deviation = (((1.0 - place) / place).ln() / 1.8).clamp(-DEVIATION_MAX, DEVIATION_MAX);
            self.surprise += SURPRISE_SHARE * (deviation - self.surprise);
        }
        for earlier in &mut self.seen {
            earlier.weight *= FADING;
        }
        self.prior_weight *= PRIOR_FADING;
        self.seen.push_back(seen);
        if self.seen.len() > SEEN_MAX {
            self.seen.pop_front();
        }
        let doubted = self.surprise.abs() > SURPRISE_MAX;
        if doubted {
            let older = self.seen.len().saturating_sub(RECENT);
            for earlier in self.seen.iter_mut().take(older) {
                earlier.weight *= DOUBT;
            }
            // What was believed does not say either where in their intervals the recent ones lie.
            for recent in self.seen.iter_mut().skip(older) {
                recent.even = 1.0;
            }
            self.prior_weight *= DOUBT;
        }
        doubted
    }

    fn learn(&mut self, class: &LatencyClass) {
        self.made_at = Instant::now();
        if self.seen.is_empty() && self.prior_weight == 0.0 {
            self.known = SurvivalEstimate::default();
            return;
        }
        let mut prior = vec![0.0; BINS];
        if self.prior_weight > 0.01 {
            prior_of(class, self.prior_weight, &mut prior);
        }
        let mut sum = 0.0;
        let mut squares = 0.0;
        for seen in &self.seen {
            sum += seen.weight;
            squares += seen.weight * seen.weight;
        }
        let mut present = Estimate::of(prior.clone());
        let mut spare = vec![0.0; BINS];
        if sum > 0.0 {
            for round in 0..ROUNDS {
                let mut spread = Spread::new();
                // The first round believes nothing, not even the prior, so that the prior cannot pull.
                let belief = (round > 0).then_some(&present);
                for seen in &self.seen {
                    seen.spread(belief, &mut spread);
                }
                let mut next = spread.weights(belief);
                let effective = sum * sum / squares;
                let apart = quantile_bin(&next, 0.75 * sum) - quantile_bin(&next, 0.25 * sum);
                smooth(&mut next, &mut spare, apart, effective);
                for (next, prior) in next.iter_mut().zip(&prior) {
                    *next += prior;
                }
                present = Estimate::of(next);
            }
        }
        self.known = SurvivalEstimate::of_weights(&present.weights);
    }
}

/// Adds the prior: even over the logarithm of the measured times, with soft edges.
fn prior_of(class: &LatencyClass, weight: f64, to: &mut [f64]) {
    let (shortest, longest) = class.measured();
    let soft = 0.05;
    let density = |bin: usize| {
        let age = EDGES[bin];
        let above = 1.0 + (shortest / age).powf(1.0 / soft);
        let below = 1.0 + (age / longest).powf(1.0 / soft);
        1.0 / (above * below)
    };
    let sum: f64 = (0..BINS).map(density).sum();
    for (bin, to) in to.iter_mut().enumerate() {
        *to += weight * density(bin) / sum;
    }
}

/// Smooths weights by moving averages, three times; nearly a normal kernel.
fn smooth(weights: &mut [f64], spare: &mut [f64], quartiles_apart: usize, effective: f64) {
    let apart = f64::from(u32::try_from(quartiles_apart).expect("few bins"));
    let bandwidth = BANDWIDTH * 0.9 * apart / 1.34 * effective.powf(-0.2);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to a few bins")]
    let radius = bandwidth.round().clamp(1.0, 30.0) as usize;
    let width = f64::from(u32::try_from(2 * radius + 1).expect("few bins"));
    for _ in 0..3 {
        let mut sum: f64 = weights[..radius].iter().sum();
        for (bin, spare) in spare.iter_mut().enumerate() {
            sum += weights.get(bin + radius).copied().unwrap_or_default();
            if let Some(left) = bin.checked_sub(radius + 1) {
                sum -= weights[left];
            }
            // Differences of sums may fall below nothing by a rounding.
            *spare = sum.max(0.0) / width;
        }
        weights.copy_from_slice(spare);
    }
}

/// Whether generation times are guessed before any is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LatencyPriors {
    /// As measured at the upstream.
    Measured,
    /// Nothing is known before it was observed.
    None,
}

/// Generation times of all classes.
#[derive(Debug)]
pub(crate) struct LatencyModel {
    priors: LatencyPriors,
    /// A class is learned anew at most so often.
    pause: Duration,
    classes: HashMap<LatencyClass, Learned>,
    uses: u64,
}

impl LatencyModel {
    pub(crate) fn new(priors: LatencyPriors) -> Self {
        Self { priors, pause: Duration::ZERO, classes: HashMap::new(), uses: 0 }
    }

    /// Learns a class anew at most so often, unless there is a shift: learning takes a while, and among hundreds of
    /// completions a second one more says nothing new.
    pub(crate) fn pausing(self, pause: Duration) -> Self {
        Self { pause, ..self }
    }

    /// What is known of a class, from the class itself, its relatives or the prior.
    pub(crate) fn known(&mut self, class: &LatencyClass) -> &SurvivalEstimate {
        &self.entry(class).known
    }

    /// Learns that a prediction still worked at the age of `after` and was found done at the age of `by`. Whether what is
    /// known of the class has shifted so far that plans made before are out of date.
    #[must_use = "plans that were made before a shift are out of date"]
    pub(crate) fn observe(&mut self, class: &LatencyClass, after: Duration, by: Duration) -> bool {
        let pause = self.pause;
        self.entry(class).observe(class, Seen::new(after.as_secs_f64(), by.as_secs_f64(), 1.0), pause)
    }

    /// The age by which such a share of a class is done; none if nothing is known.
    pub(crate) fn done_by(&mut self, class: &LatencyClass, share: f64) -> Option<Duration> {
        let known = self.known(class);
        (!known.is_nothing()).then(|| Duration::from_secs_f64(known.quantile(share)))
    }

    /// The age by which half of those of a class are done that have reached a certain age; none if nothing is known.
    pub(crate) fn expected(&mut self, class: &LatencyClass, age: Duration) -> Option<Duration> {
        let known = self.known(class);
        if known.is_nothing() {
            return None;
        }
        let done = 1.0 - known.survival(age.as_secs_f64()) / 2.0;
        Some(Duration::from_secs_f64(known.quantile(done)).max(age))
    }

    /// What outlives a restart.
    pub(crate) fn stored(&self) -> StoredLatencies {
        let mut classes: Vec<_> = self.classes.iter().filter(|(_, learned)| !learned.seen.is_empty()).collect();
        classes.sort_by_key(|(_, learned)| learned.used);
        let stored = |(class, learned): (&LatencyClass, &Learned)| {
            let seen = learned.seen.iter().map(|seen| (millis(seen.after), millis(seen.by), millis(seen.weight)));
            StoredClass { class: class.clone(), seen: seen.collect(), prior: millis(learned.prior_weight) }
        };
        StoredLatencies { version: VERSION, classes: classes.into_iter().map(stored).collect() }
    }

    /// Takes up what was stored. What is of another version or out of bounds is not used.
    pub(crate) fn restore(priors: LatencyPriors, stored: StoredLatencies) -> Self {
        let mut latencies = Self::new(priors);
        if stored.version != VERSION {
            return latencies;
        }
        let surplus = stored.classes.len().saturating_sub(CLASSES_MAX);
        for StoredClass { class, seen, prior } in stored.classes.into_iter().skip(surplus) {
            let names = [&class.model, &class.task, &class.quality];
            let sound = names.iter().all(|name| name.len() <= NAME_BYTES_MAX)
                && class.n > 0
                && seen.len() <= SEEN_MAX
                && seen.iter().all(|&(after, by, weight)| after < by && weight <= 1000);
            if !sound {
                continue;
            }
            let seconds = |thousandths: u32| f64::from(thousandths) / 1000.0;
            let prior_weight = match priors {
                LatencyPriors::Measured => seconds(prior).min(PRIOR_WEIGHT),
                LatencyPriors::None => 0.0,
            };
            let seen =
                seen.into_iter().map(|(after, by, weight)| Seen::new(seconds(after), seconds(by), seconds(weight)));
            let used = latencies.use_now();
            let learned = Learned::new(&class, seen.collect(), prior_weight, used);
            latencies.classes.insert(class, learned);
        }
        latencies
    }

    fn entry(&mut self, class: &LatencyClass) -> &mut Learned {
        let used = self.use_now();
        if !self.classes.contains_key(class) {
            self.make_room();
            let seen = self.borrowed(class);
            let prior_weight = match self.priors {
                LatencyPriors::Measured if seen.is_empty() => PRIOR_WEIGHT,
                LatencyPriors::Measured | LatencyPriors::None => 0.0,
            };
            self.classes.insert(class.clone(), Learned::new(class, seen, prior_weight, used));
        }
        let learned = self.classes.get_mut(class).expect("it was just looked for");
        learned.used = used;
        learned
    }

    /// The last completions of the nearest relative, scaled to `class`.
    fn borrowed(&self, class: &LatencyClass) -> VecDeque<Seen> {
        let relatives = self.classes.iter().filter_map(|(other, learned)| {
            let nearness = class.nearness(other).filter(|_| !learned.seen.is_empty())?;
            Some(((nearness, learned.seen.len(), learned.used), class.scale() / other.scale(), &learned.seen))
        });
        let Some((_, ratio, seen)) = relatives.max_by_key(|&(rank, ..)| rank) else { return VecDeque::new() };
        let scaled = seen.iter().skip(seen.len().saturating_sub(BORROWED_MAX)).map(|seen| {
            let after = seen.after * ratio * (1.0 - BORROWED_MARGIN);
            let by = seen.by * ratio * (1.0 + BORROWED_MARGIN);
            Seen::new(after, by, BORROWED_WEIGHT * seen.weight)
        });
        scaled.collect()
    }

    fn make_room(&mut self) {
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

/// What outlives a restart: completions by class, least recently used first, in thousandths.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StoredLatencies {
    version: u32,
    classes: Vec<StoredClass>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredClass {
    class: LatencyClass,
    /// After, by, weight.
    seen: Vec<(u32, u32, u32)>,
    prior: u32,
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "not negative, and bounded by the bins")]
fn millis(value: f64) -> u32 {
    (value * 1000.0).round() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEGAPIXEL: u64 = 1024 * 1024;

    fn class(quality: &str) -> LatencyClass {
        LatencyClass::new("gpt-image-2", "image-edit", quality, MEGAPIXEL, 1)
    }

    fn seconds(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    /// Completions between two ages, in an order that is no order, found at most `interval` after; whether each was
    /// called a shift.
    fn observe_between(
        latencies: &mut LatencyModel,
        class: &LatencyClass,
        shortest: f64,
        longest: f64,
        number: u32,
        interval: f64,
    ) -> Vec<bool> {
        let observed = (0..number).map(|one| {
            let at = shortest + (longest - shortest) * (f64::from(one) * 0.618_034).fract();
            let after = at - interval * (f64::from(one) * 0.414_214).fract();
            latencies.observe(class, seconds(after), seconds(after + interval))
        });
        observed.collect()
    }

    fn quantile(latencies: &mut LatencyModel, class: &LatencyClass, part: f64) -> f64 {
        latencies.known(class).quantile(part)
    }

    #[test]
    fn nothing_is_known_before_it_was_seen_unless_there_are_priors() {
        let mut latencies = LatencyModel::new(LatencyPriors::None);
        assert!(latencies.known(&class("low")).is_nothing());
        assert_eq!(latencies.done_by(&class("low"), 0.5), None);
        let mut latencies = LatencyModel::new(LatencyPriors::Measured);
        for (quality, shortest, longest) in
            [("low", 20.0, 26.0), ("medium", 60.0, 85.0), ("high", 130.0, 150.0), ("", 60.0, 85.0)]
        {
            let typical = latencies.done_by(&class(quality), 0.5).unwrap().as_secs_f64();
            assert!((shortest..longest).contains(&typical), "{quality}: {typical}");
        }
        let large = LatencyClass::new("gpt-image-2", "image-edit", "low", 4 * MEGAPIXEL, 1);
        let typical = latencies.done_by(&large, 0.5).unwrap().as_secs_f64();
        assert!((40.0..52.0).contains(&typical), "{typical}");
    }

    #[test]
    fn what_takes_long_is_expected_later_and_never_in_the_past() {
        let mut none = LatencyModel::new(LatencyPriors::None);
        assert_eq!(none.expected(&class("low"), Duration::ZERO), None);
        let mut latencies = LatencyModel::new(LatencyPriors::Measured);
        let mut expected = |age: f64| latencies.expected(&class("low"), seconds(age)).unwrap().as_secs_f64();
        assert!((20.0..26.0).contains(&expected(0.0)), "{}", expected(0.0));
        let ages = [0.0, 10.0, 22.0, 25.0, 40.0, 300.0, 1e5];
        let ends = ages.map(&mut expected);
        assert!(ends.is_sorted(), "{ends:?}");
        for (age, end) in ages.into_iter().zip(ends) {
            assert!(end >= age, "{age}: {end}");
        }
    }

    #[test]
    fn classes_are_bounded_and_sized_by_half_octaves() {
        let named = LatencyClass::new(&"é".repeat(100), "image-edit", "", 1, u32::MAX).to_string();
        assert!(named.len() < 2 * NAME_BYTES_MAX + 40, "{named}");
        let size = |pixels| LatencyClass::new("m", "t", "q", pixels, 1).size;
        assert_eq!(size(0), 0);
        assert_eq!([size(1024 * 1024), size(1254 * 1254), size(1024 * 1536), size(2048 * 2048)], [0, 1, 1, 4]);
        assert_eq!(size(u64::MAX), 88);
        assert_eq!(class("low").to_string(), "gpt-image-2 image-edit low +0 1");
    }

    #[test]
    fn survival_falls_from_one_and_never_ends() {
        let mut latencies = LatencyModel::new(LatencyPriors::Measured);
        observe_between(&mut latencies, &class("low"), 20.0, 25.0, 50, 1.0);
        for class in [class("low"), class("high")] {
            let known = latencies.known(&class);
            let mut before = 1.0;
            for tenth in 0..36_000 {
                let survival = known.survival(f64::from(tenth) / 10.0);
                assert!(survival <= before && survival > 0.0, "{class} at {tenth}");
                before = survival;
            }
        }
    }

    #[test]
    fn the_spacing_of_polls_does_not_shift_what_is_learned() {
        for interval in [0.5, 4.0, 12.0] {
            let mut latencies = LatencyModel::new(LatencyPriors::Measured);
            observe_between(&mut latencies, &class("medium"), 50.0, 100.0, 90, interval);
            let quartiles = [0.25, 0.5, 0.75].map(|part| quantile(&mut latencies, &class("medium"), part));
            for (found, true_) in quartiles.into_iter().zip([62.5, 75.0, 87.5]) {
                assert!((found - true_).abs() < 5.0, "{interval} s apart: {found} for {true_}");
            }
        }
    }

    #[test]
    fn a_shift_is_believed_soon_and_one_odd_completion_is_not() {
        for (quality, factor) in [("low", 2.0), ("low", 0.5), ("high", 2.0), ("high", 0.5)] {
            let (class, mut latencies) = (class(quality), LatencyModel::new(LatencyPriors::Measured));
            let (shortest, longest) = class.measured();
            observe_between(&mut latencies, &class, shortest, longest, 100, 1.0);
            let before = quantile(&mut latencies, &class, 0.5);
            observe_between(&mut latencies, &class, shortest * factor, longest * factor, 1, 1.0);
            let odd = quantile(&mut latencies, &class, 0.5);
            assert!((odd / before - 1.0).abs() < 0.05, "{quality} times {factor}: {before} became {odd} at once");
            observe_between(&mut latencies, &class, shortest * factor, longest * factor, 9, 1.0);
            let after = quantile(&mut latencies, &class, 0.5);
            assert!((after / before / factor - 1.0).abs() < 0.1, "{quality} times {factor}: {before} became {after}");
        }
    }

    #[test]
    fn a_shift_is_told_within_a_few_completions_and_an_odd_one_is_not() {
        for (quality, factor) in [("low", 2.0), ("low", 0.5), ("medium", 2.0), ("medium", 0.5), ("high", 0.5)] {
            let (class, mut latencies) = (class(quality), LatencyModel::new(LatencyPriors::Measured));
            let (shortest, longest) = class.measured();
            observe_between(&mut latencies, &class, shortest, longest, 60, 1.0);
            let steady = observe_between(&mut latencies, &class, shortest, longest, 60, 1.0);
            assert!(!steady.contains(&true), "{quality}: {steady:?}");
            let odd = observe_between(&mut latencies, &class, shortest * factor, longest * factor, 1, 1.0);
            assert_eq!(odd, [false], "{quality} times {factor}");
            let steady = observe_between(&mut latencies, &class, shortest, longest, 20, 1.0);
            assert!(!steady.contains(&true), "{quality} after an odd one: {steady:?}");
            let shifted = observe_between(&mut latencies, &class, shortest * factor, longest * factor, 30, 1.0);
            assert!(shifted[..4].contains(&true), "{quality} times {factor}: {shifted:?}");
            assert!(!shifted[20..].contains(&true), "{quality} times {factor} is told for ever: {shifted:?}");
        }
    }

    #[test]
    fn the_first_completion_of_an_unknown_class_is_a_shift() {
        let mut latencies = LatencyModel::new(LatencyPriors::None);
        assert!(latencies.observe(&class("low"), seconds(20.0), seconds(21.0)));
        assert!(!latencies.observe(&class("low"), seconds(20.0), seconds(21.0)));
    }

    #[test]
    fn a_prior_that_is_wrong_fades() {
        let mut latencies = LatencyModel::new(LatencyPriors::Measured);
        observe_between(&mut latencies, &class("high"), 0.3, 0.4, 15, 0.05);
        let ninety = quantile(&mut latencies, &class("high"), 0.9);
        assert!(ninety < 0.6, "{ninety}");
    }

    #[test]
    fn relatives_lend_what_they_know_and_strangers_do_not() {
        let mut latencies = LatencyModel::new(LatencyPriors::None);
        observe_between(&mut latencies, &class("low"), 10.0, 11.0, 40, 0.5);
        let large = LatencyClass::new("gpt-image-2", "image-edit", "low", 4 * MEGAPIXEL, 1);
        let typical = latencies.done_by(&large, 0.5).unwrap().as_secs_f64();
        assert!((19.0..23.0).contains(&typical), "{typical}");
        assert_eq!(latencies.done_by(&class("high"), 0.5), None);
    }

    #[test]
    fn whoever_was_not_used_for_longest_is_forgotten() {
        let mut latencies = LatencyModel::new(LatencyPriors::None);
        let named = |number: usize| LatencyClass::new(&format!("model-{number}"), "image-edit", "", MEGAPIXEL, 1);
        for number in 0..CLASSES_MAX {
            latencies.known(&named(number));
        }
        assert!(latencies.observe(&named(0), seconds(1.0), seconds(2.0)));
        latencies.known(&named(CLASSES_MAX));
        assert_eq!(latencies.classes.len(), CLASSES_MAX);
        assert!(latencies.classes.contains_key(&named(0)));
        assert!(!latencies.classes.contains_key(&named(1)));
    }

    #[test]
    fn what_was_learned_outlives_a_restart() {
        let mut latencies = LatencyModel::new(LatencyPriors::Measured);
        observe_between(&mut latencies, &class("low"), 5.0, 7.0, 30, 0.5);
        latencies.known(&class("high"));
        let text = serde_json::to_string(&latencies.stored()).unwrap();
        assert!(text.len() < 1000, "{text}");
        let mut restored = LatencyModel::restore(LatencyPriors::Measured, serde_json::from_str(&text).unwrap());
        assert_eq!(restored.classes.len(), 1, "what was never seen is not stored");
        for part in [0.1, 0.5, 0.9] {
            let (before, after) =
                (quantile(&mut latencies, &class("low"), part), quantile(&mut restored, &class("low"), part));
            assert!((before / after - 1.0).abs() < 0.03, "{before} became {after}");
        }
    }

    #[test]
    fn what_is_not_sound_is_not_restored() {
        let one = |class: LatencyClass, seen| StoredClass { class, seen, prior: 0 };
        let (good, backwards) = (vec![(1000, 2000, 1000)], vec![(2000, 1000, 1000)]);
        let classes = vec![
            one(class("low"), good.clone()),
            one(class("medium"), backwards),
            one(class("high"), vec![(1000, 2000, 1001)]),
            one(LatencyClass { n: 0, ..class("none") }, good.clone()),
            one(class("many"), good.repeat(SEEN_MAX + 1)),
        ];
        let stored = StoredLatencies { version: VERSION, classes };
        let restored = LatencyModel::restore(LatencyPriors::None, stored.clone());
        assert_eq!(restored.classes.keys().collect::<Vec<_>>(), [&class("low")]);
        let newer = StoredLatencies { version: VERSION + 1, ..stored };
        assert!(LatencyModel::restore(LatencyPriors::None, newer).classes.is_empty());
    }

    #[test]
    fn any_interval_can_be_observed() {
        let mut latencies = LatencyModel::new(LatencyPriors::Measured);
        for (after, by) in [(0.0, 0.0), (5.0, 1.0), (0.0, 1e9), (1e9, 1e9), (0.0, 0.001)] {
            let _ = latencies.observe(&class("low"), seconds(after), seconds(by));
            assert!(latencies.known(&class("low")).survival.iter().all(|survival| (0.0..=1.0).contains(survival)));
        }
    }
}
