use super::super::latency::{LatencyClass, LatencyModel, LatencyPriors};
use super::*;

const PLANNER: PollPlanner = PollPlanner {
    min_interval: Duration::from_secs(1),
    max_interval: Duration::from_secs(10),
    first_poll: Duration::from_secs(5),
    poll_cost: Duration::from_millis(100),
};

fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

fn class() -> LatencyClass {
    LatencyClass::new("gpt-image-2", "image-edit", "medium", 1024 * 1024, 1)
}

/// Between 50 and 100 s.
fn learned() -> LatencyModel {
    let mut latencies = LatencyModel::new(LatencyPriors::None);
    for one in 0..90 {
        let at = 50.0 + 50.0 * (f64::from(one) * 0.618_034).fract();
        let _ = latencies.observe(&class(), seconds(at - 0.5), seconds(at + 0.5));
    }
    latencies
}

/// The ages at all polls of a purchase that works for `takes` seconds.
fn polls(known: &SurvivalEstimate, takes: f64, price: f64) -> Vec<f64> {
    let mut ages = vec![0.0];
    while ages[ages.len() - 1] < takes {
        let age = seconds(ages[ages.len() - 1]);
        ages.push(PLANNER.next(known, age, age, price).as_secs_f64());
    }
    ages
}

fn pauses(ages: &[f64]) -> Vec<f64> {
    ages.windows(2).map(|pair| pair[1] - pair[0]).collect()
}

#[test]
fn where_nothing_is_known_pauses_grow_within_their_bounds() {
    let nothing = SurvivalEstimate::default();
    let ages = polls(&nothing, 300.0, 1.0);
    assert_eq!(ages[1].to_bits(), 5.0_f64.to_bits());
    let pauses = pauses(&ages[1..]);
    assert!(pauses.is_sorted_by(|a, b| *a <= *b + 1e-6), "{pauses:?}");
    assert!((pauses[0] - 1.0).abs() < 1e-6 && (pauses[pauses.len() - 1] - 10.0).abs() < 1e-6, "{pauses:?}");
}

#[test]
fn polls_start_when_a_completion_is_likely_and_then_come_often() {
    let mut latencies = learned();
    let ages = polls(latencies.estimate(&class()), 99.0, 1.0);
    let early = ages.iter().filter(|&&age| age > 0.0 && age < 40.0).count();
    assert!(early <= 2, "{ages:?}");
    let within: Vec<f64> = ages.iter().copied().filter(|&age| age > 52.0).collect();
    assert!(pauses(&within).iter().all(|&pause| (1.0..6.0).contains(&pause)), "{ages:?}");
}

#[test]
fn a_poll_never_comes_sooner_than_the_shortest_interval() {
    let mut latencies = learned();
    let known = latencies.estimate(&class());
    for tenth in 1..2000 {
        let age = f64::from(tenth) / 10.0;
        for (working_at, now) in [(age, age), (age, age + 0.3), (0.0, age), (age, age + 5.0)] {
            for known in [known, &SurvivalEstimate::default()] {
                let next = PLANNER.next(known, seconds(working_at), seconds(now), 1.0).as_secs_f64();
                assert!(next > now && next - working_at > 0.999_999, "{working_at} {now}: {next}");
            }
        }
    }
}

#[test]
fn polls_go_on_however_long_a_purchase_takes() {
    let mut latencies = learned();
    let known = latencies.estimate(&class());
    for price in [1.0, 4.0] {
        let longest = 10.0 * f64::sqrt(price);
        for age in (50..20_000).map(f64::from) {
            let next = PLANNER.next(known, seconds(age), seconds(age), price).as_secs_f64();
            let most = longest.max(age / 7.0) + age * 0.06;
            assert!(next - age <= most, "at {age}: {next}");
        }
    }
}

#[test]
fn with_a_prior_alone_some_polls_come_early() {
    let mut latencies = LatencyModel::new(LatencyPriors::Measured);
    let high = LatencyClass::new("gpt-image-2", "image-edit", "high", 1024 * 1024, 1);
    let ages = polls(latencies.estimate(&high), 130.0, 1.0);
    let early = ages.iter().filter(|&&age| age > 0.0 && age < 110.0).count();
    assert!((3..20).contains(&early), "{ages:?}");
}

#[test]
fn expensive_polls_are_fewer() {
    let mut latencies = learned();
    let known = latencies.estimate(&class());
    let numbers = [1.0, 4.0, 16.0].map(|price| polls(known, 90.0, price).len());
    assert!(numbers[0] > numbers[1] && numbers[1] > numbers[2], "{numbers:?}");
}

#[test]
fn the_chance_of_completion_rises_with_the_age_and_falls_with_each_poll() {
    let mut latencies = learned();
    for known in [latencies.estimate(&class()), &SurvivalEstimate::default()] {
        let chance = |working_at, age| PLANNER.chance_done(known, seconds(working_at), seconds(age));
        for age in (0..3000).map(f64::from) {
            assert!((0.0..=1.0).contains(&chance(0.0, age)));
            assert!(chance(0.0, age) <= chance(0.0, age + 1.0));
            assert!(chance(age, age) < 1e-9 || age < 5.0, "at {age}");
        }
    }
    let known = latencies.estimate(&class());
    let half = PLANNER.chance_done(known, Duration::ZERO, seconds(75.0));
    assert!((0.4..0.6).contains(&half), "{half}");
    assert!(PLANNER.chance_done(known, seconds(74.0), seconds(75.0)) < 0.1);
}
