//! Rules that depend on time, with times that are passed in.

use axum::body::Bytes;
use serde_json::json;

use super::*;
use crate::simulator::apis::prediction::read::read;
use crate::simulator::rules::models::Model;
use crate::simulator::rules::values::Capability;
use crate::simulator::scenario::{Fault, OverConcurrent};
use crate::simulator::world::prediction::Sender;

fn sender(key: &str) -> Sender {
    Sender { key: key.to_owned(), headers: Arc::default(), query: None }
}

fn submission(prompt: &str, quality: &str) -> Submission {
    let body = Bytes::from(json!({"prompt": prompt, "quality": quality}).to_string());
    let model = Model::named("gpt-image-2").unwrap();
    Submission {
        sender: sender("sk-test"),
        request: read(model, Capability::TextToImage, &body, &Scenario::default()).unwrap(),
        violates_policy: false,
    }
}

fn world(change: impl FnOnce(&mut Scenario)) -> World {
    let mut scenario = Scenario::default();
    change(&mut scenario);
    World::new(Arc::new(scenario), Now::read())
}

#[test]
fn a_prediction_runs_for_the_measured_time_and_is_charged_once_at_its_end() {
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
fn a_refusal_by_a_limit_has_the_time_to_wait() {
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
fn predictions_beyond_the_concurrency_limit_are_refused_or_queued() {
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
    assert_eq!(second.schedule.ends, first.schedule.ends + Duration::from_secs(1));
    assert_eq!(third.schedule.ends, first.schedule.ends + Duration::from_secs(2));
    assert_eq!(third.phase(first.schedule.ends), Phase::Created);
}

#[test]
fn an_early_poll_is_refused_and_the_prediction_of_another_key_is_unknown() {
    let mut world = world(|_| {});
    let now = Now::read();
    let id = world.accept(submission("p", "low"), now).unwrap().id;
    let after = |ms| now.at + Duration::from_millis(ms);
    assert!(world.poll(Api::Prediction, &id, "sk-test", after(0)).is_ok());
    assert_eq!(world.poll(Api::Prediction, &id, "sk-test", after(899)).unwrap_err().status, 429);
    assert!(world.poll(Api::Prediction, &id, "sk-test", after(900)).is_ok());
    assert_eq!(world.poll(Api::Prediction, &id, "sk-other", after(5000)).unwrap_err().status, 404);
    assert_eq!((world.counters.key("sk-test").polls, world.counters.key("sk-other").polls_unknown), (3, 1));
}

#[test]
fn a_key_can_have_its_own_limits() {
    let scenario = Scenario::from_toml("[limits]\nconcurrent = 1\n[limits.keys.sk-test]\nconcurrent = 2").unwrap();
    let mut world = World::new(Arc::new(scenario), Now::read());
    let now = Now::read();
    let refused = |world: &mut World, key: &str| {
        let submission = Submission { sender: sender(key), ..submission("a", "low") };
        world.accept(submission, now).err().and_then(|refusal| refusal.limit)
    };
    assert_eq!([0; 3].map(|_| refused(&mut world, "sk-test")), [None, None, Some(LimitKind::Concurrent)]);
    assert_eq!([0; 2].map(|_| refused(&mut world, "sk-other")), [None, Some(LimitKind::Concurrent)]);
    let back = world.scenario.merged(json!({"limits": {"keys": {"sk-test": {"concurrent": null}}}})).unwrap();
    assert_eq!(back.limits.of("sk-test").concurrent, 1);
}

#[test]
fn running_time_is_summed_by_key_without_the_time_in_the_queue() {
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
fn polls_of_unfinished_predictions_are_counted() {
    let mut world = world(|scenario| scenario.life.low_ms = [10_000, 10_000]);
    let now = Now::read();
    let id = world.accept(submission("p", "low"), now).unwrap().id;
    for second in [2, 4, 8, 12] {
        world.poll(Api::Prediction, &id, "sk-test", now.at + Duration::from_secs(second)).unwrap();
    }
    assert_eq!(world.counters.key("sk-test").polls_of_unfinished, 3);
}

#[test]
fn one_shot_faults_are_injected_in_order_and_as_often_as_scheduled() {
    let mut world = world(|_| {});
    world.faults.push(ScheduledFault {
        on: FaultTarget::Poll,
        fault: Fault::Html502,
        times: 2,
        skip: 1,
        delay_ms: None,
    });
    let fired: Vec<_> = (0..4).map(|_| world.next_fault(FaultTarget::Poll).fault).collect();
    assert_eq!(fired, [Fault::None, Fault::Html502, Fault::Html502, Fault::None]);
    assert_eq!(world.next_fault(FaultTarget::Submit).fault, Fault::None);
}

#[test]
fn an_empty_balance_refuses_and_repeated_submits_are_counted() {
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
fn a_prediction_starts_when_its_links_are_fetched() {
    let mut world = world(|scenario| scenario.life.low_ms = [1000, 1000]);
    let now = Now::read();
    let after = |ms| Now { at: now.at + Duration::from_millis(ms), ..now };
    let with_link = |prompt: &str| {
        let body =
            Bytes::from(json!({"prompt": prompt, "quality": "low", "images": ["http://127.0.0.1/x"]}).to_string());
        let model = Model::named("gpt-image-2").unwrap();
        let request = read(model, Capability::ImageEdit, &body, &Scenario::default()).unwrap();
        Submission { request, ..submission("p", "low") }
    };
    let one = world.accept(with_link("a"), now).unwrap();
    let other = world.accept(with_link("b"), now).unwrap();
    world.settle(after(60_000).at);
    assert_eq!(world.predictions.by_id(&one.id).unwrap().phase(after(60_000).at), Phase::Created);
    assert!(world.counters.charged_usd == 0.0);

    let fetched = FetchedInputs { inputs: one.request.inputs.clone(), mask: None };
    world.finish_links(&one, Ok(fetched), after(60_000));
    world.finish_links(&other, Err("404".to_owned()), after(60_000));
    world.finish_links(&Prediction { id: "unknown".to_owned(), ..one.clone() }, Err("404".to_owned()), after(60_000));
    assert_eq!(world.predictions.by_id(&one.id).unwrap().phase(after(60_900).at), Phase::Processing);
    assert!(world.predictions.by_id(&one.id).unwrap().has_completed(after(61_000).at));
    let other = world.predictions.by_id(&other.id).unwrap();
    assert_eq!((other.phase(after(60_000).at), other.outcome), (Phase::Ended, Outcome::FailedLink));
    assert_eq!(other.links.error.as_deref(), Some("404"));
}
