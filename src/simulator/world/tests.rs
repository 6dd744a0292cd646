//! Rules that time drives, with times that are passed in.

use serde_json::json;

use super::*;
use crate::simulator::models::Model;
use crate::simulator::rules::{Capability, read};

fn submission(prompt: &str, quality: &str) -> Submission {
    let body = Bytes::from(json!({"prompt": prompt, "quality": quality}).to_string());
    let model = Model::named("gpt-image-2").unwrap();
    Submission {
        key: "sk-test".to_owned(),
        order: read(model, Capability::TextToImage, &body, &Scenario::default()).unwrap(),
        headers: BTreeMap::new(),
        query: None,
        doomed: false,
    }
}

fn world(change: impl FnOnce(&mut Scenario)) -> World {
    let mut scenario = Scenario::default();
    change(&mut scenario);
    World::new(Arc::new(scenario), Now::read())
}

#[test]
fn a_prediction_lives_as_long_as_was_measured_and_is_charged_at_its_end() {
    let mut world = world(|_| {});
    let now = Now::read();
    let prediction = world.accept(submission("p", "low"), now).unwrap();
    let second = Duration::from_secs(1);
    assert_eq!(prediction.phase(now.at), Phase::Created);
    assert_eq!(prediction.phase(now.at + 10 * second), Phase::Processing);
    assert_eq!(prediction.phase(now.at + 20 * second), Phase::Processing);
    assert_eq!(prediction.phase(now.at + 26 * second), Phase::Ended);
    assert!(world.counters.charged_usd == 0.0);
    world.settle(now.at + 26 * second);
    world.settle(now.at + 27 * second);
    assert!((world.counters.charged_usd - (6.4 + 196.0 * 24.0) / 1e6).abs() < 1e-9);
}

#[test]
fn limits_refuse_and_say_when_to_come_back() {
    let mut world = world(|scenario| scenario.limits.submits_per_minute = 2);
    let now = Now::read();
    world.accept(submission("a", "low"), now).unwrap();
    world.accept(submission("b", "low"), now).unwrap();
    let refusal = world.accept(submission("c", "low"), now).unwrap_err();
    assert_eq!((refusal.status, refusal.retry_after), (429, Some(Duration::from_mins(1))));
    let later = Now { at: now.at + Duration::from_mins(1), ..now };
    world.accept(submission("c", "low"), later).unwrap();
}

#[test]
fn beyond_the_concurrency_jobs_are_refused_or_wait() {
    let mut world = world(|scenario| {
        scenario.limits.concurrent = 1;
        scenario.life.low_ms = [1000, 1000];
    });
    let now = Now::read();
    let first = world.accept(submission("a", "low"), now).unwrap();
    assert_eq!(world.accept(submission("b", "low"), now).unwrap_err().status, 429);
    let mut scenario = Scenario::clone(&world.scenario);
    scenario.limits.over_concurrent = OverConcurrent::Queue;
    world.set_scenario(scenario);
    let second = world.accept(submission("b", "low"), now).unwrap();
    let third = world.accept(submission("c", "low"), now).unwrap();
    assert_eq!(second.ends, first.ends + Duration::from_secs(1));
    assert_eq!(third.ends, first.ends + Duration::from_secs(2));
    assert_eq!(third.phase(first.ends), Phase::Created);
}

#[test]
fn a_poll_too_soon_is_refused_and_somebody_elses_is_unknown() {
    let mut world = world(|_| {});
    let now = Now::read();
    let id = world.accept(submission("p", "low"), now).unwrap().id;
    let after = |ms| now.at + Duration::from_millis(ms);
    assert!(world.poll(Face::Prediction, &id, "sk-test", after(0)).is_ok());
    assert_eq!(world.poll(Face::Prediction, &id, "sk-test", after(899)).unwrap_err().status, 429);
    assert!(world.poll(Face::Prediction, &id, "sk-test", after(900)).is_ok());
    assert_eq!(world.poll(Face::Prediction, &id, "sk-other", after(5000)).unwrap_err().status, 404);
    assert_eq!((world.counters.key("sk-test").polls, world.counters.key("sk-other").polls_unknown), (3, 1));
}

#[test]
fn a_key_may_have_other_limits_than_the_rest() {
    let scenario = Scenario::from_toml("[limits]\nconcurrent = 1\n[limits.keys.sk-test]\nconcurrent = 2").unwrap();
    let mut world = World::new(Arc::new(scenario), Now::read());
    let now = Now::read();
    let refused = |world: &mut World, key: &str| {
        let asked = Submission { key: key.to_owned(), ..submission("a", "low") };
        world.accept(asked, now).err().and_then(|refusal| refusal.limit)
    };
    assert_eq!([0; 3].map(|_| refused(&mut world, "sk-test")), [None, None, Some(Limit::Concurrent)]);
    assert_eq!([0; 2].map(|_| refused(&mut world, "sk-other")), [None, Some(Limit::Concurrent)]);
    let back = world.scenario.merged(json!({"limits": {"keys": {"sk-test": {"concurrent": null}}}})).unwrap();
    assert_eq!(back.limits.of("sk-test").concurrent, 1);
}

#[test]
fn how_long_predictions_ran_is_summed_by_key_and_waiting_does_not_count() {
    let mut world = world(|scenario| {
        scenario.limits.concurrent = 1;
        scenario.limits.over_concurrent = OverConcurrent::Queue;
        scenario.life.low_ms = [1000, 1000];
    });
    let now = Now::read();
    let ran = |world: &World, ms| {
        let seconds = world.counters(now.at + Duration::from_millis(ms)).key("sk-test").running_seconds;
        Duration::from_secs_f64(seconds).as_millis()
    };
    world.accept(submission("a", "low"), now).unwrap();
    world.accept(submission("b", "low"), now).unwrap();
    assert_eq!([0, 500, 1000, 1700, 9000].map(|ms| ran(&world, ms)), [0, 500, 1000, 1700, 2000]);
}

#[test]
fn polls_that_came_too_early_to_be_of_use_are_counted() {
    let mut world = world(|scenario| scenario.life.low_ms = [10_000, 10_000]);
    let now = Now::read();
    let id = world.accept(submission("p", "low"), now).unwrap().id;
    for second in [2, 4, 8, 12] {
        world.poll(Face::Prediction, &id, "sk-test", now.at + Duration::from_secs(second)).unwrap();
    }
    assert_eq!(world.counters.key("sk-test").polls_of_unfinished, 3);
}

#[test]
fn one_shot_faults_come_in_order_and_as_often_as_said() {
    let mut world = world(|_| {});
    world.faults.push(FaultOrder { on: Place::Poll, fault: Fault::Html502, times: 2, skip: 1, delay_ms: None });
    let fired: Vec<_> = (0..4).map(|_| world.accident(Place::Poll).fault).collect();
    assert_eq!(fired, [Fault::None, Fault::Html502, Fault::Html502, Fault::None]);
    assert_eq!(world.accident(Place::Submit).fault, Fault::None);
}

#[test]
fn an_empty_balance_refuses_and_repeats_are_counted() {
    let mut world = world(|scenario| {
        scenario.balance.usd = 0.008;
        scenario.balance.charge = Charge::Submit;
    });
    let now = Now::read();
    world.accept(submission("p", "low"), now).unwrap();
    world.accept(submission("p", "low"), now).unwrap();
    let refusal = world.accept(submission("p", "low"), now).unwrap_err();
    assert_eq!((refusal.status, refusal.message.as_str()), (403, "Insufficient balance"));
    assert_eq!(world.counters.submits_repeated, 1);
}

#[test]
fn a_prediction_runs_from_when_its_links_have_arrived() {
    let mut world = world(|scenario| scenario.life.low_ms = [1000, 1000]);
    let now = Now::read();
    let after = |ms| Now { at: now.at + Duration::from_millis(ms), ..now };
    let linked = |prompt: &str| {
        let body =
            Bytes::from(json!({"prompt": prompt, "quality": "low", "images": ["http://127.0.0.1/x"]}).to_string());
        let model = Model::named("gpt-image-2").unwrap();
        let order = read(model, Capability::ImageEdit, &body, &Scenario::default()).unwrap();
        Submission { order, ..submission("p", "low") }
    };
    let one = world.accept(linked("a"), now).unwrap();
    let other = world.accept(linked("b"), now).unwrap();
    world.settle(after(60_000).at);
    assert_eq!(world.by_id(&one.id).unwrap().phase(after(60_000).at), Phase::Created);
    assert!(world.counters.charged_usd == 0.0);

    let fetched = Fetched { inputs: one.order.inputs.clone(), mask: None };
    world.links_arrived(&one.id, Ok(fetched), after(60_000));
    world.links_arrived(&other.id, Err("404".to_owned()), after(60_000));
    world.links_arrived("nobody", Err("404".to_owned()), after(60_000));
    assert_eq!(world.by_id(&one.id).unwrap().phase(after(60_900).at), Phase::Processing);
    assert!(world.by_id(&one.id).unwrap().has_completed(after(61_000).at));
    let other = world.by_id(&other.id).unwrap();
    assert_eq!((other.phase(after(60_000).at), other.outcome), (Phase::Ended, Outcome::FailedLink));
    assert_eq!(other.link_error.as_deref(), Some("404"));
}
