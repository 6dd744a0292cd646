use super::world::{Hidden, Minute, Rule, Scenario, play};
use super::*;

fn rate(rule: Rule, rate: f64) -> Hidden {
    Hidden { rate: Some((rule, rate)), concurrent: None }
}

fn places(concurrent: usize) -> Hidden {
    Hidden { rate: None, concurrent: Some(concurrent) }
}

fn scenario(name: &'static str, hidden: Hidden, generation: (f64, f64)) -> Scenario {
    Scenario {
        name,
        hidden,
        then: None,
        generation,
        hiccups: 0.0,
        retry_after: false,
        restart: false,
        minutes: 240,
        seed: 1,
    }
}

fn scenarios() -> Vec<Scenario> {
    let low = (20.0, 26.0);
    let medium = (49.0, 107.0);
    let high = (134.0, 147.0);
    let mut all = Vec::new();
    for (rule, names) in [
        (Rule::Fixed, ["fixed 10", "fixed 60", "fixed 200"]),
        (Rule::Sliding, ["sliding 10", "sliding 60", "sliding 200"]),
        (Rule::Bucket, ["bucket 10", "bucket 60", "bucket 200"]),
    ] {
        for (name, per_minute) in names.into_iter().zip([10.0, 60.0, 200.0]) {
            all.push(scenario(name, rate(rule, per_minute), medium));
        }
    }
    for (names, generation) in [
        (["2 places, 23 s", "5 places, 23 s", "20 places, 23 s"], low),
        (["2 places, 78 s", "5 places, 78 s", "20 places, 78 s"], medium),
        (["2 places, 140 s", "5 places, 140 s", "20 places, 140 s"], high),
    ] {
        for (name, concurrent) in names.into_iter().zip([2, 5, 20]) {
            all.push(scenario(name, places(concurrent), generation));
        }
    }
    let both = |rule, per_minute, concurrent| Hidden { concurrent: Some(concurrent), ..rate(rule, per_minute) };
    all.push(scenario("sliding 10, 5 places", both(Rule::Sliding, 10.0, 5), low));
    all.push(scenario("sliding 60, 20 places", both(Rule::Sliding, 60.0, 20), low));
    all.push(scenario("fixed 60, 100 places", both(Rule::Fixed, 60.0, 100), medium));
    all.push(scenario("sliding 60, 78 places", both(Rule::Sliding, 60.0, 78), medium));
    let plain = all.clone();
    for (names, index) in [("sliding 60, told", 4), ("fixed 60, told", 1), ("20 places, 23 s, told", 11), ("bucket 60, told", 7)] {
        all.push(Scenario { name: names, retry_after: true, ..plain[index] });
    }
    for (name, index) in [("sliding 60, 1 % hiccups", 4), ("sliding 200, 1 % hiccups", 5), ("20 places 23 s, 1 % hiccups", 11), ("bucket 60, 1 % hiccups", 7)] {
        all.push(Scenario { name, hiccups: 0.01, ..plain[index] });
    }
    for (name, index) in [("sliding 60, restart", 4), ("bucket 200, restart", 8), ("5 places 78 s, restart", 13)] {
        all.push(Scenario { name, restart: true, ..plain[index] });
    }
    for (name, hidden, then, generation) in [
        ("sliding 60 to 120", rate(Rule::Sliding, 60.0), rate(Rule::Sliding, 120.0), medium),
        ("sliding 60 to 30", rate(Rule::Sliding, 60.0), rate(Rule::Sliding, 30.0), medium),
        ("fixed 200 to 400", rate(Rule::Fixed, 200.0), rate(Rule::Fixed, 400.0), low),
        ("fixed 200 to 100", rate(Rule::Fixed, 200.0), rate(Rule::Fixed, 100.0), low),
        ("bucket 60 to 120", rate(Rule::Bucket, 60.0), rate(Rule::Bucket, 120.0), medium),
        ("bucket 60 to 30", rate(Rule::Bucket, 60.0), rate(Rule::Bucket, 30.0), medium),
        ("sliding 10 to 20", rate(Rule::Sliding, 10.0), rate(Rule::Sliding, 20.0), medium),
        ("sliding 10 to 5", rate(Rule::Sliding, 10.0), rate(Rule::Sliding, 5.0), medium),
        ("20 to 40 places", places(20), places(40), low),
        ("20 to 10 places", places(20), places(10), low),
        ("5 to 10 places", places(5), places(10), medium),
        ("2 to 1 places", places(2), places(1), medium),
    ] {
        all.push(Scenario { then: Some(then), minutes: 480, ..scenario(name, hidden, generation) });
    }
    all
}

/// How one phase of a scenario went.
struct Verdict {
    utilisation: f64,
    occupancy: f64,
    refused_per_1000: f64,
    refused_learning: usize,
    converged: Option<usize>,
}

/// Judges the minutes of one phase; those before the last `learned` are for learning.
fn judge(minutes: &[Minute], ideal: f64, places: Option<usize>, learned: usize) -> Verdict {
    let sum = |minutes: &[Minute]| real(minutes.iter().map(|minute| minute.accepted).sum());
    let span = (20.0 / ideal).ceil().max(5.0);
    let span_minutes = whole(span);
    let converged = minutes.windows(span_minutes).position(|run| sum(run) >= 0.95 * ideal * span);
    let tail = &minutes[minutes.len() - learned..];
    let refused: usize = tail.iter().map(|minute| minute.refused).sum();
    let held_s: f64 = tail.iter().map(|minute| minute.held_s).sum();
    Verdict {
        utilisation: sum(tail) / (ideal * real(tail.len())),
        occupancy: places.map_or(f64::NAN, |places| held_s / (real(places) * 60.0 * real(tail.len()))),
        refused_per_1000: real(refused) * 1000.0 / sum(tail).max(1.0),
        refused_learning: minutes.iter().map(|minute| minute.refused).sum::<usize>() - refused,
        converged,
    }
}

#[test]
fn table() {
    println!("{:28} {:>6} {:>6} {:>9} {:>9} {:>9}  learned", "scenario", "util", "held", "429/1000", "to learn", "windows");
    let only = std::env::var("ONLY").unwrap_or_default();
    for scenario in scenarios().into_iter().filter(|scenario| scenario.name.contains(&only)) {
        let (minutes, learner) = play(scenario);
        let half = minutes.len() / 2;
        let phases = if scenario.then.is_some() || scenario.restart {
            vec![(scenario.hidden, &minutes[..half]), (scenario.then.unwrap_or(scenario.hidden), &minutes[half..])]
        } else {
            vec![(scenario.hidden, &minutes[..])]
        };
        for (hidden, minutes) in phases {
            let v = judge(minutes, hidden.ideal(scenario.generation), hidden.concurrent, minutes.len() / 2);
            println!(
                "{:28} {:6.3} {:6.3} {:9.1} {:9} {:>9}  {:?}",
                scenario.name, v.utilisation, v.occupancy, v.refused_per_1000, v.refused_learning, v.converged.map_or("never".into(), |w| w.to_string()), learner.learned()
            );
        }
    }
}
