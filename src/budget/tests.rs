use std::num::NonZeroUsize;

use proptest::prelude::*;
use tokio::sync::oneshot;

use super::*;
use crate::config::{Config, Environment};
use crate::model::{Failure, Usd};

/// A budget whose dispatcher runs only when asked to.
struct Bench {
    budget: Budget,
}

impl Bench {
    fn new(accounts: &[&str], change: impl FnOnce(&mut UpstreamConfig)) -> Self {
        Self::learned(accounts, Learned::default(), change)
    }

    fn learned(accounts: &[&str], learned: Learned, change: impl FnOnce(&mut UpstreamConfig)) -> Self {
        let keys: Vec<String> = accounts.iter().map(|name| format!("{name}:sk-{name}")).collect();
        let environment = Environment::from([("GPTPROTO_API_KEYS".to_owned(), keys.join(","))]);
        let mut config = Config::load(None, &environment).unwrap();
        change(&mut config.upstream);
        for account in &mut config.accounts {
            account.submits_per_minute = config.upstream.submits_per_minute;
            account.requests_per_minute = config.upstream.requests_per_minute;
            account.concurrent_predictions = config.upstream.concurrent_predictions;
        }
        let weights = HashMap::new();
        Self { budget: Budget::new(&config.upstream, &config.accounts, weights, learned, &Metrics::default()) }
    }

    fn queue(&self, client: &str, model: &str) -> QueueSlot {
        self.try_queue(client, model, 10).unwrap()
    }

    fn try_queue(&self, client: &str, model: &str, bytes: u64) -> Result<QueueSlot, QueueFull> {
        let client = ClientId(client.into());
        self.budget.queue(QueuedSubmit { client, model: model.into(), usd: Usd(0.03), bytes })
    }

    /// Returns the answer to a queued submit, if there is one.
    fn answer(&self, queued: &mut QueueSlot) -> Option<Result<Granted, Failure>> {
        self.budget.shared.grant();
        match queued.granted.as_mut().expect("not waited for").try_recv() {
            Ok(granted) => Some(granted),
            Err(oneshot::error::TryRecvError::Empty) => None,
            Err(oneshot::error::TryRecvError::Closed) => panic!("the grant was dropped"),
        }
    }

    fn granted(&self, queued: &mut QueueSlot) -> Granted {
        self.answer(queued).expect("a grant").expect("no failure")
    }

    fn waits(&self, queued: &mut QueueSlot) -> bool {
        self.answer(queued).is_none()
    }

    /// Takes all grants there are now, and returns their number.
    fn burst(&self) -> usize {
        let mut granted = Vec::new();
        loop {
            let mut queued = self.queue("alice", "m");
            match self.answer(&mut queued) {
                Some(one) => {
                    let mut in_flight = one.unwrap().in_flight;
                    in_flight.accepted();
                    granted.push(in_flight);
                }
                None => break,
            }
        }
        granted.len()
    }
}

fn slots(count: usize) -> impl FnOnce(&mut UpstreamConfig) {
    move |upstream| upstream.concurrent_predictions = NonZeroUsize::new(count).unwrap()
}

fn refused_key() -> Pushback {
    Pushback::Key { reason: Failure::KeyRefused { message: "Invalid Token".to_owned() } }
}

fn no_channel() -> Pushback {
    let reason = Failure::ModelUnavailable { message: "no channel found".to_owned() };
    Pushback::Model { retry_after: None, reason }
}

fn not_permitted() -> Pushback {
    Pushback::Permission { reason: Failure::ModelNotPermitted { message: "no permission for this model".to_owned() } }
}

const TOO_MANY: Pushback = Pushback::Account { retry_after: None };

#[tokio::test(start_paused = true)]
async fn slots_are_returned() {
    let bench = Bench::new(&["one"], slots(1));
    let mut first = bench.queue("alice", "m");
    let granted = bench.granted(&mut first);
    let mut second = bench.queue("alice", "m");
    assert!(bench.waits(&mut second));
    assert_eq!((bench.budget.status().queued_submits, bench.budget.status().predictions_in_flight), (1, 1));
    drop(granted);
    drop(bench.granted(&mut second));
    assert_eq!((bench.budget.status().queued_submits, bench.budget.status().predictions_in_flight), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_disconnects_leaves_the_queue_also_with_an_unreceived_grant() {
    let bench = Bench::new(&["one"], slots(1));
    let first = bench.queue("alice", "m");
    let mut second = bench.queue("alice", "m");
    bench.budget.shared.grant();
    drop(first);
    drop(bench.granted(&mut second));
    let third = bench.queue("alice", "m");
    drop(third);
    assert_eq!((bench.budget.status().queued_submits, bench.budget.status().queued_upload_bytes), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_names_a_time_to_retry() {
    let bench = Bench::new(&["one"], |upstream| (upstream.queue_max, upstream.queue_bytes_max) = (2, 100));
    let held = bench.try_queue("alice", "m", 90).unwrap();
    assert!(bench.try_queue("alice", "m", 20).unwrap_err().retry_after >= Duration::from_secs(1), "bytes");
    let more = bench.try_queue("alice", "m", 10).unwrap();
    assert!(bench.try_queue("alice", "m", 0).is_err(), "entries");
    drop((held, more));
    bench.try_queue("alice", "m", 1000).expect("an empty queue accepts a larger one");
}

#[tokio::test(start_paused = true)]
async fn submits_obey_their_rate_and_leave_polls_their_share() {
    let bench = Bench::new(&["one"], |upstream| {
        upstream.submits_per_minute = 1000.try_into().unwrap();
        upstream.requests_per_minute = 60.try_into().unwrap();
        upstream.concurrent_predictions = 10_000.try_into().unwrap();
    });
    // Half of sixty a minute, those of ten seconds at once.
    assert_eq!(bench.burst(), 5);
    let account = AccountId("one".into());
    let polls = || std::iter::from_fn(|| bench.budget.reserve_poll(&account).ok()).count();
    assert_eq!(polls(), 5, "the rest of ten");
    tokio::time::advance(Duration::from_secs(10)).await;
    assert_eq!(polls(), 10, "polls may use all of it");
    let at = bench.budget.reserve_poll(&account).unwrap_err();
    assert!((at - Instant::now()).as_secs_f64() <= 1.0 + 1e-6);
    tokio::time::sleep_until(at).await;
    assert_eq!(polls(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_refused_submit_keeps_its_position_and_one_canary_tests_the_pause() {
    let bench = Bench::new(&["one"], |_| {});
    let mut first = bench.queue("alice", "m");
    let granted = bench.granted(&mut first);
    let mut second = bench.queue("alice", "m");
    let pause = granted.in_flight.refused(TOO_MANY);
    first.requeue();
    assert_eq!(pause, Duration::from_secs(5));
    assert!(bench.waits(&mut first) && bench.waits(&mut second));
    assert!(bench.budget.status().paused_s > 4.0);
    tokio::time::advance(pause).await;
    let mut granted = bench.granted(&mut first);
    assert!(bench.waits(&mut second), "one tests whether the pause is over");
    granted.in_flight.accepted();
    bench.granted(&mut second);
}

#[tokio::test(start_paused = true)]
async fn a_refused_poll_delays_no_submit() {
    let bench = Bench::new(&["one"], |upstream| upstream.pushback_max = Duration::from_mins(1));
    let account = AccountId("one".into());
    let pause = bench.budget.poll_refused(&account, Some(Duration::from_hours(1)));
    assert_eq!(pause, Duration::from_mins(1), "capped");
    bench.granted(&mut bench.queue("alice", "m"));
    let at = bench.budget.reserve_poll(&account).unwrap_err();
    assert_eq!(at - Instant::now(), pause);
}

#[tokio::test(start_paused = true)]
async fn a_model_without_a_channel_delays_no_other_and_fails_after_three_refusals() {
    let bench = Bench::new(&["one"], |_| {});
    let mut gone = bench.queue("alice", "gone");
    for _ in 0..3 {
        let pause = bench.granted(&mut gone).in_flight.refused(no_channel());
        gone.requeue();
        if pause < Duration::from_secs(20) {
            assert!(bench.waits(&mut gone));
        }
        let mut granted = bench.granted(&mut bench.queue("alice", "there"));
        granted.in_flight.accepted();
        drop(granted);
        if pause < Duration::from_secs(20) {
            tokio::time::advance(pause).await;
        }
    }
    assert!(matches!(bench.answer(&mut gone), Some(Err(Failure::ModelUnavailable { .. }))));
    // After the cooldown one submit tests whether it is over.
    tokio::time::advance(Duration::from_secs(20)).await;
    let mut gone = bench.queue("alice", "gone");
    let mut granted = bench.granted(&mut gone);
    granted.in_flight.accepted();
    bench.granted(&mut bench.queue("alice", "gone"));
}

#[tokio::test(start_paused = true)]
async fn a_model_that_one_account_may_not_use_goes_to_the_other() {
    let bench = Bench::new(&["one", "two"], |_| {});
    let mut queued = bench.queue("alice", "m");
    let refused = bench.granted(&mut queued);
    let first = refused.reservation.account().clone();
    assert_eq!(refused.in_flight.refused(not_permitted()), Duration::from_mins(1));
    assert_eq!(bench.budget.usable_accounts().len(), 2, "the account is good for other models");
    queued.requeue();
    let mut granted = bench.granted(&mut queued);
    let second = granted.reservation.account().clone();
    assert_ne!(second, first);
    granted.in_flight.accepted();
    // The second one is in use, so any other model goes to the first, and this one does not.
    assert_eq!(*bench.granted(&mut bench.queue("alice", "other")).reservation.account(), first);
    assert_eq!(*bench.granted(&mut bench.queue("alice", "m")).reservation.account(), second);
    // After its cooldown the pair is asked again, by one submit.
    tokio::time::advance(Duration::from_mins(1)).await;
    let again = bench.granted(&mut bench.queue("alice", "m"));
    assert_eq!(*again.reservation.account(), first);
    assert_eq!(again.in_flight.refused(not_permitted()), Duration::from_mins(2), "it doubles");
}

#[tokio::test(start_paused = true)]
async fn a_model_that_no_account_may_use_fails_at_once_until_the_cooldown_is_over() {
    let bench = Bench::new(&["one"], |_| {});
    let mut queued = bench.queue("alice", "m");
    let pause = bench.granted(&mut queued).in_flight.refused(not_permitted());
    queued.requeue();
    assert!(matches!(bench.answer(&mut queued), Some(Err(Failure::ModelNotPermitted { .. }))));
    bench.granted(&mut bench.queue("alice", "other"));
    tokio::time::advance(pause).await;
    let mut granted = bench.granted(&mut bench.queue("alice", "m"));
    granted.in_flight.accepted();
    bench.granted(&mut bench.queue("alice", "m"));

    // Where another account may have the model soon, that is the reason.
    let bench = Bench::new(&["one", "two"], |_| {});
    let mut queued = bench.queue("alice", "m");
    let one = bench.granted(&mut queued);
    queued.requeue();
    let two = bench.granted(&mut queued);
    one.in_flight.refused(not_permitted());
    let mut pause = two.in_flight.refused(no_channel());
    for _ in 0..2 {
        tokio::time::advance(pause).await;
        queued.requeue();
        pause = bench.granted(&mut queued).in_flight.refused(no_channel());
    }
    queued.requeue();
    assert!(matches!(bench.answer(&mut queued), Some(Err(Failure::ModelUnavailable { .. }))));
}

#[tokio::test(start_paused = true)]
async fn a_model_is_tested_again_after_its_test_was_refused_for_another_reason() {
    for other_reason in [TOO_MANY, refused_key()] {
        let bench = Bench::new(&["one"], |_| {});
        let mut queued = bench.queue("alice", "m");
        let pause = bench.granted(&mut queued).in_flight.refused(no_channel());
        tokio::time::advance(pause).await;
        queued.requeue();
        let pause = bench.granted(&mut queued).in_flight.refused(other_reason);
        tokio::time::advance(pause).await;
        queued.requeue();
        bench.granted(&mut queued);
    }
}

#[tokio::test(start_paused = true)]
async fn an_account_with_a_refused_key_is_in_cooldown_and_the_other_does_its_work() {
    let bench = Bench::new(&["one", "two"], |_| {});
    let mut queued = bench.queue("alice", "m");
    let granted = bench.granted(&mut queued);
    let first = granted.reservation.account().clone();
    granted.in_flight.refused(refused_key());
    queued.requeue();
    let granted = bench.granted(&mut queued);
    let second = granted.reservation.account().clone();
    assert_ne!(second, first);
    assert!(bench.budget.usable_accounts().contains(&second));
    assert_eq!(bench.budget.usable_accounts().len(), 2, "one of two accounts is in cooldown");
    // Then that one too: there is no other, so each is used all the same.
    granted.in_flight.refused(refused_key());
    assert!(bench.budget.usable_accounts().is_empty());
    queued.requeue();
    let mut granted = bench.granted(&mut queued);
    let working = granted.reservation.account().clone();
    granted.in_flight.accepted();
    assert!(bench.budget.usable_accounts().contains(&second), "one works again");
    assert_eq!(bench.budget.usable_accounts().len(), 2);
    assert_eq!(*bench.granted(&mut bench.queue("alice", "m")).reservation.account(), working);
    // The other is tested after its cooldown, by one submit.
    tokio::time::advance(Duration::from_mins(1)).await;
    let _held = granted;
    let mut testing = bench.queue("alice", "m");
    let one = bench.granted(&mut testing);
    assert_ne!(*one.reservation.account(), working);
    assert_eq!(*bench.granted(&mut bench.queue("alice", "m")).reservation.account(), working);
}

#[tokio::test(start_paused = true)]
async fn both_accounts_are_used() {
    let bench = Bench::new(&["one", "two"], slots(2));
    let mut held = Vec::new();
    for _ in 0..4 {
        held.push(bench.granted(&mut bench.queue("alice", "m")));
    }
    assert!(bench.waits(&mut bench.queue("alice", "m")));
    let of_one = held.iter().filter(|granted| *granted.reservation.account().0 == *"one").count();
    assert_eq!(of_one, 2);
}

#[tokio::test(start_paused = true)]
async fn learned_limits_survive_a_restart() {
    let bench = Bench::new(&["one"], |_| {});
    let mut held = Vec::new();
    for _ in 0..3 {
        let mut granted = bench.granted(&mut bench.queue("alice", "m"));
        granted.in_flight.accepted();
        held.push(granted);
    }
    bench.granted(&mut bench.queue("alice", "m")).in_flight.refused(TOO_MANY);
    // Refused once more with three in flight, after the pause: it is the concurrency.
    tokio::time::advance(Duration::from_mins(2)).await;
    bench.granted(&mut bench.queue("alice", "m")).in_flight.refused(TOO_MANY);
    let learned = bench.budget.learned();
    let json = serde_json::to_string(&learned).unwrap();
    let again = Bench::learned(&["one"], serde_json::from_str(&json).unwrap(), |_| {});
    assert_eq!(again.budget.status().predictions_in_flight_max, bench.budget.status().predictions_in_flight_max);
    assert!(again.budget.status().predictions_in_flight_max <= 3, "{json}");
}

#[tokio::test(start_paused = true)]
async fn the_forecast_of_a_client_counts_its_own_queue() {
    let bench = Bench::new(&["one"], |upstream| {
        upstream.submits_per_minute = 60.try_into().unwrap();
        upstream.queue_max = 1000;
    });
    let _held: Vec<QueueSlot> = (0..100).map(|_| bench.queue("noisy", "m")).collect();
    let forecast = |client: &str| {
        let client = ClientId(client.into());
        bench.budget.forecast(&QueuedSubmit { client, model: "m".into(), usd: Usd(0.03), bytes: 0 })
    };
    let noisy = forecast("noisy");
    assert!((95.0..105.0).contains(&noisy.start.as_secs_f64()) && noisy.start_alone.is_zero(), "{noisy:?}");
    assert!(forecast("quiet").start < Duration::from_secs(3), "one turn of the noisy client");
}

#[tokio::test(start_paused = true)]
async fn refused_clients_get_different_times_to_retry() {
    let bench = Bench::new(&["one"], |upstream| upstream.submits_per_minute = 60.try_into().unwrap());
    let _held: Vec<QueueSlot> = (0..10).map(|_| bench.queue("noisy", "m")).collect();
    let away = |client: &str| {
        let client = ClientId(client.into());
        let submit = QueuedSubmit { client, model: "m".into(), usd: Usd(0.03), bytes: 0 };
        bench.budget.turn_away(&submit, Duration::from_secs(4)).as_secs_f64()
    };
    // One a second, and each refused client is one more before the next.
    let times: Vec<f64> = (0..3).map(|_| away("noisy")).collect();
    assert!(times.iter().zip([6.0, 7.0, 8.0]).all(|(time, wanted)| (time - wanted).abs() < 0.5), "{times:?}");
    tokio::time::advance(Duration::from_mins(1)).await;
    assert!((away("noisy") - 6.0).abs() < 0.5, "a client that has returned is no longer expected");
}

#[tokio::test(start_paused = true)]
async fn the_dispatcher_wakes_when_a_grant_is_due() {
    let bench = Bench::new(&["one"], slots(1));
    let budget = bench.budget.clone();
    let lifecycle = crate::lifecycle::Lifecycle::default();
    lifecycle.spawn_service("budget", budget.run());
    let mut first = bench.queue("alice", "m");
    let granted = first.granted().await.unwrap();
    granted.in_flight.refused(TOO_MANY);
    let start = Instant::now();
    let again = &mut first;
    let granted = again.granted().await.unwrap();
    assert!((5.0..5.1).contains(&start.elapsed().as_secs_f64()));
    let mut other = bench.queue("alice", "m");
    let mut waiting = std::pin::pin!(other.granted());
    assert!(futures_util::poll!(waiting.as_mut()).is_pending());
    drop(granted);
    waiting.await.unwrap();
}

/// Describes a window with more calls than `burst` and `per_minute` allow.
fn too_many(at: &[Instant], burst: f64, per_minute: f64) -> Option<String> {
    at.iter().enumerate().find_map(|(first, from)| {
        (1_u32..).zip(&at[first..]).find_map(|(count, to)| {
            let allowed = burst + per_minute / 60.0 * (*to - *from).as_secs_f64();
            (f64::from(count) > allowed + 1e-3).then(|| format!("{count} where {allowed} are allowed"))
        })
    })
}

proptest! {
    /// However submits and polls arrive, neither the submits nor all calls together exceed their rate in any window, and
    /// polls always get their share.
    #[test]
    fn no_window_has_more_calls_than_configured(
        submits_per_minute in 6_u32..300,
        requests_per_minute in 12_u32..600,
        steps in proptest::collection::vec((0_u64..2000, 0_u8..4), 1..200),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let (submits, calls) = runtime.block_on(async {
            let bench = Bench::new(&["one"], |upstream| {
                upstream.submits_per_minute = submits_per_minute.try_into().unwrap();
                upstream.requests_per_minute = requests_per_minute.try_into().unwrap();
                upstream.concurrent_predictions = 10_000.try_into().unwrap();
                upstream.learning = crate::config::Switch::Off;
            });
            let account = AccountId("one".into());
            let (mut submits, mut calls, mut waiting) = (Vec::new(), Vec::new(), Vec::new());
            for (pause, kind) in steps {
                tokio::time::advance(Duration::from_millis(pause)).await;
                match kind {
                    0 => waiting.push(bench.queue("alice", "m")),
                    1 => waiting.clear(),
                    _ => if bench.budget.reserve_poll(&account).is_ok() {
                        calls.push(Instant::now());
                    },
                }
                waiting.retain_mut(|queued| {
                    let granted = bench.answer(queued).is_some();
                    if granted {
                        submits.push(Instant::now());
                        calls.push(Instant::now());
                    }
                    !granted
                });
            }
            (submits, calls)
        });
        // Those of ten seconds at once; submits leave half of all calls to polls.
        let burst = |per_minute: f64| (per_minute / 6.0).floor().max(1.0);
        let of_submits = f64::from(submits_per_minute.min((requests_per_minute / 2).max(1)));
        prop_assert_eq!(too_many(&submits, burst(of_submits), of_submits), None);
        prop_assert_eq!(too_many(&calls, burst(requests_per_minute.into()), requests_per_minute.into()), None);
    }
}
