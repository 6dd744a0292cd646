use super::learning::OBSERVATIONS_MAX;
use super::*;

const MEGAPIXEL: u64 = 1024 * 1024;

fn class(quality: &str) -> LatencyClass {
    LatencyClass::new("gpt-image-2", "image-edit", quality, MEGAPIXEL, 1)
}

fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

/// Observes completions between two ages, in no order, found at most `interval` after; returns whether each was
/// reported as a shift.
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
    latencies.estimate(class).quantile(part)
}

#[test]
fn nothing_is_known_before_an_observation_unless_there_are_priors() {
    let mut latencies = LatencyModel::new(LatencyPriors::None);
    assert!(latencies.estimate(&class("low")).is_empty());
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
fn a_long_running_purchase_is_expected_later_and_never_in_the_past() {
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
fn survival_falls_from_one_and_never_reaches_zero() {
    let mut latencies = LatencyModel::new(LatencyPriors::Measured);
    observe_between(&mut latencies, &class("low"), 20.0, 25.0, 50, 1.0);
    for class in [class("low"), class("high")] {
        let estimate = latencies.estimate(&class);
        let mut before = 1.0;
        for tenth in 0..36_000 {
            let survival = estimate.survival(f64::from(tenth) / 10.0);
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
fn a_shift_is_learned_within_ten_completions_and_one_odd_completion_changes_little() {
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
fn a_shift_is_reported_within_four_completions_and_one_odd_completion_is_not() {
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
        assert!(!shifted[20..].contains(&true), "{quality} times {factor} is reported for ever: {shifted:?}");
    }
}

#[test]
fn the_first_completion_of_an_unknown_class_is_a_shift() {
    let mut latencies = LatencyModel::new(LatencyPriors::None);
    assert!(latencies.observe(&class("low"), seconds(20.0), seconds(21.0)));
    assert!(!latencies.observe(&class("low"), seconds(20.0), seconds(21.0)));
}

#[test]
fn a_wrong_prior_fades() {
    let mut latencies = LatencyModel::new(LatencyPriors::Measured);
    observe_between(&mut latencies, &class("high"), 0.3, 0.4, 15, 0.05);
    let ninety = quantile(&mut latencies, &class("high"), 0.9);
    assert!(ninety < 0.6, "{ninety}");
}

#[test]
fn a_new_class_starts_from_its_relatives_only() {
    let mut latencies = LatencyModel::new(LatencyPriors::None);
    observe_between(&mut latencies, &class("low"), 10.0, 11.0, 40, 0.5);
    let large = LatencyClass::new("gpt-image-2", "image-edit", "low", 4 * MEGAPIXEL, 1);
    let typical = latencies.done_by(&large, 0.5).unwrap().as_secs_f64();
    assert!((19.0..23.0).contains(&typical), "{typical}");
    assert_eq!(latencies.done_by(&class("high"), 0.5), None);
}

#[test]
fn the_least_recently_used_class_is_evicted() {
    let mut latencies = LatencyModel::new(LatencyPriors::None);
    let named = |number: usize| LatencyClass::new(&format!("model-{number}"), "image-edit", "", MEGAPIXEL, 1);
    for number in 0..CLASSES_MAX {
        latencies.estimate(&named(number));
    }
    assert!(latencies.observe(&named(0), seconds(1.0), seconds(2.0)));
    latencies.estimate(&named(CLASSES_MAX));
    assert_eq!(latencies.classes.len(), CLASSES_MAX);
    assert!(latencies.classes.contains_key(&named(0)));
    assert!(!latencies.classes.contains_key(&named(1)));
}

#[test]
fn what_was_learned_survives_a_restart() {
    let mut latencies = LatencyModel::new(LatencyPriors::Measured);
    observe_between(&mut latencies, &class("low"), 5.0, 7.0, 30, 0.5);
    latencies.estimate(&class("high"));
    let text = serde_json::to_string(&latencies.stored()).unwrap();
    assert!(text.len() < 1000, "{text}");
    let mut restored = LatencyModel::restore(LatencyPriors::Measured, serde_json::from_str(&text).unwrap());
    assert_eq!(restored.classes.len(), 1, "a class without completions is not stored");
    for part in [0.1, 0.5, 0.9] {
        let (before, after) =
            (quantile(&mut latencies, &class("low"), part), quantile(&mut restored, &class("low"), part));
        assert!((before / after - 1.0).abs() < 0.03, "{before} became {after}");
    }
}

#[test]
fn classes_out_of_bounds_are_not_restored() {
    let one = |class: LatencyClass, observations| StoredClass { class, observations, prior_weight: 0 };
    let (good, backwards) = (vec![(1000, 2000, 1000)], vec![(2000, 1000, 1000)]);
    let classes = vec![
        one(class("low"), good.clone()),
        one(class("medium"), backwards),
        one(class("high"), vec![(1000, 2000, 1001)]),
        one(class("many"), good.repeat(OBSERVATIONS_MAX + 1)),
    ];
    let saved = StoredLatencies { version: stored::VERSION, classes };
    let restored = LatencyModel::restore(LatencyPriors::None, saved.clone());
    assert_eq!(restored.classes.keys().collect::<Vec<_>>(), [&class("low")]);
    let newer = StoredLatencies { version: stored::VERSION + 1, ..saved };
    assert!(LatencyModel::restore(LatencyPriors::None, newer).classes.is_empty());
}

#[test]
fn any_interval_can_be_observed() {
    let mut latencies = LatencyModel::new(LatencyPriors::Measured);
    for (after, by) in [(0.0, 0.0), (5.0, 1.0), (0.0, 1e9), (1e9, 1e9), (0.0, 0.001)] {
        let _ = latencies.observe(&class("low"), seconds(after), seconds(by));
        assert!(latencies.estimate(&class("low")).is_sound());
    }
}
