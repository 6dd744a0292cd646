//! Single failures, one at a time.

use super::super::JobStatus;
use super::*;
use crate::model::IdempotencyKey;
use crate::storage::journal::{Standing, StoredJob};

/// Returns a simulation whose gateway runs.
async fn started(seed: u64) -> Simulation {
    let mut simulation = Simulation::new(seed, AS_BUILT);
    while simulation.gateway.is_none() {
        simulation.start().await;
    }
    simulation
}

/// Lets time pass until a request is answered.
async fn answered(simulation: &mut Simulation, prompt: usize) -> Answer {
    for _ in 0..100 {
        simulation.pass(Duration::from_secs(5)).await;
        if simulation.waiting[prompt].is_none() {
            return simulation.prompts[prompt].1.clone();
        }
    }
    panic!("never answered:\n{}", simulation.world.lock().trace);
}

/// Runs a test with the first seed with which a single request is bought without a failure.
fn with_a_sound_seed(test: impl AsyncFn(Simulation)) {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    for seed in 0..20 {
        let sound = runtime().block_on(async {
            let mut simulation = started(seed).await;
            simulation.request(0, Duration::from_mins(10));
            matches!(answered(&mut simulation, 0).await, Answer::Picture(_))
        });
        if sound {
            return runtime().block_on(async { test(started(seed).await).await });
        }
    }
    panic!("no seed buys without a failure");
}

/// Longer than `storage.eviction_interval_s`.
const SWEEP: Duration = Duration::from_mins(6);

#[test]
fn a_failed_sync_stops_buying_and_open_purchases_are_resolved() {
    with_a_sound_seed(async |mut simulation| {
        simulation.request(0, Duration::from_mins(10));
        // Far enough that it is bought, not so far that it is done.
        while simulation.world.lock().bought.is_empty() {
            simulation.pass(Duration::from_millis(50)).await;
        }
        simulation.pass(Duration::from_millis(2500)).await;
        let gateway = simulation.gateway.as_ref().unwrap();
        gateway.journal.break_disk();
        assert_eq!(gateway.engine.storage_standing(), Standing::Failed, "readiness shows it");
        assert!(
            matches!(answered(&mut simulation, 0).await, Answer::Picture(_)),
            "a picture that was bought is delivered"
        );
        simulation.request(1, Duration::from_mins(10));
        simulation.pass(Duration::from_mins(1)).await;
        assert_eq!(simulation.world.lock().bought.len(), 1, "nothing more is bought");
    });
}

#[test]
fn a_crash_between_the_purchase_and_its_answer_is_an_unknown_outcome_and_held() {
    with_a_sound_seed(async |mut simulation| {
        simulation.request(0, Duration::from_mins(10));
        while simulation.world.lock().bought.is_empty() {
            simulation.pass(Duration::from_millis(1)).await;
        }
        simulation.crash().await;
        while simulation.gateway.is_none() {
            simulation.start().await;
        }
        simulation.request(0, Duration::from_mins(10));
        let answer = answered(&mut simulation, 0).await;
        assert!(matches!(answer, Answer::Failed(Failure::OutcomeUnknown { .. })), "{answer:?}");
        assert_eq!(simulation.world.lock().bought.len(), 1, "held: the retry buys nothing");
    });
}

#[test]
fn a_jump_of_the_clock_changes_no_wait_and_loses_nothing() {
    for hours in [-24 * 3650, -1, 1, 24 * 3650] {
        with_a_sound_seed(async |mut simulation| {
            simulation.request(0, Duration::from_mins(10));
            while simulation.world.lock().bought.is_empty() {
                simulation.pass(Duration::from_millis(50)).await;
            }
            simulation.clock.jump(hours * 3_600_000);
            assert!(matches!(answered(&mut simulation, 0).await, Answer::Picture(_)), "{hours} h");
            simulation.clock.jump(-hours * 3_600_000);
            simulation.prompts[0].1 = Answer::Nothing;
            simulation.request(0, Duration::from_mins(10));
            assert!(matches!(answered(&mut simulation, 0).await, Answer::Picture(_)), "{hours} h and back");
            assert_eq!(simulation.world.lock().bought.len(), 1, "{hours} h: the result was kept");
        });
    }
}

#[test]
fn a_jump_of_the_clock_loses_nothing_over_a_restart() {
    for hours in [-24 * 3650, -48, -1, 1, 48, 24 * 3650] {
        with_a_sound_seed(async |mut simulation| {
            simulation.request(0, Duration::from_mins(10));
            while simulation.world.lock().bought.is_empty() {
                simulation.pass(Duration::from_millis(50)).await;
            }
            simulation.pass(Duration::from_secs(3)).await;
            simulation.crash().await;
            simulation.clock.jump(hours * 3_600_000);
            while simulation.gateway.is_none() {
                simulation.start().await;
            }
            simulation.request(0, Duration::from_mins(10));
            assert!(matches!(answered(&mut simulation, 0).await, Answer::Picture(_)), "{hours} h");
            assert_eq!(simulation.world.lock().bought.len(), 1, "{hours} h: the result was kept");
        });
    }
}

/// A clock that is wrong for longer than a sweep: the unclaimed picture stays, and the key of its request buys nothing.
#[test]
fn a_jump_of_the_clock_for_longer_than_a_sweep_evicts_nothing() {
    for hours in [-24 * 3650, -48, 48, 24 * 3650] {
        with_a_sound_seed(async |mut simulation| {
            simulation.request(0, Duration::from_mins(10));
            while simulation.world.lock().bought.is_empty() {
                simulation.pass(Duration::from_millis(50)).await;
            }
            // Its client leaves, and never receives the picture.
            simulation.waiting[0].take().unwrap().abort();
            simulation.pass(Duration::from_mins(2)).await;
            simulation.clock.jump(hours * 3_600_000);
            simulation.pass(SWEEP * 2).await;
            simulation.clock.jump(-hours * 3_600_000);
            simulation.pass(SWEEP * 2).await;
            assert!(simulation.disk.jobs().iter().all(|job| !job.evicted), "{hours} h");
            simulation.request(0, Duration::from_mins(10));
            assert!(matches!(answered(&mut simulation, 0).await, Answer::Picture(_)), "{hours} h");
            assert_eq!(simulation.world.lock().bought.len(), 1, "{hours} h: the result was kept");
        });
    }
}

/// The pictures under an id are those of the purchase that had it first, whose client may be another one.
#[test]
fn an_id_that_the_journal_has_already_is_an_unknown_outcome() {
    with_a_sound_seed(async |mut simulation| {
        simulation.world.lock().repeats_ids = true;
        simulation.request(0, Duration::from_mins(10));
        assert!(matches!(answered(&mut simulation, 0).await, Answer::Picture(_)), "the first has an id of its own");
        let mut last = Answer::Nothing;
        for prompt in 1..PROMPTS {
            let bought = simulation.world.lock().bought.len();
            simulation.request(prompt, Duration::from_mins(10));
            last = answered(&mut simulation, prompt).await;
            // Other failures of the network are by chance.
            if simulation.world.lock().bought.len() > bought {
                assert!(matches!(&last, Answer::Failed(Failure::OutcomeUnknown { .. })), "{last:?}");
            }
        }
        let message = "the image service gave it the id of another purchase".to_owned();
        assert!(simulation.world.lock().bought.len() > 1, "{last:?}");
        let ids: Vec<_> = simulation.disk.jobs().iter().flat_map(upstream_ids).collect();
        assert_eq!(ids.len(), 1, "the ledger has the id once");
        let repeated = |failure: &&Failure| **failure == Failure::OutcomeUnknown { message: message.clone() };
        let failures: Vec<Failure> = simulation.disk.jobs().iter().flat_map(failures_of).collect();
        assert!(failures.iter().any(|failure| repeated(&failure)), "{failures:?}");
    });
}

fn upstream_ids(job: &StoredJob) -> Vec<UpstreamId> {
    job.purchases.iter().filter_map(|purchase| purchase.state.upstream().cloned()).collect()
}

fn failures_of(job: &StoredJob) -> Vec<Failure> {
    let failure = |state: &StoredState| {
        if let StoredState::Failed { failure, .. } = state { Some(failure.clone()) } else { None }
    };
    job.purchases.iter().filter_map(|purchase| failure(&purchase.state)).collect()
}

/// Returns the failure of a job.
async fn failure(engine: &Engine, job: JobRequest) -> (JobId, Failure) {
    let until = job.until;
    let mut waiter = engine.submit(job).await.unwrap();
    match waiter.wait(until).await {
        Err(WaitError::Failed(failure)) => (waiter.job(), failure),
        other => panic!("{other:?}"),
    }
}

/// Promise: the answers to a request, to its retry and to `GET /v1/predictions/{id}` name the same failure, before and
/// after a restart.
#[test]
fn all_answers_to_a_job_of_several_failures_name_the_same_one() {
    with_a_sound_seed(async |mut simulation| {
        simulation.world.lock().fails = true;
        let several = || {
            let mut job = job(0, Duration::from_mins(10));
            (job.request.n, job.key) = (3, IdempotencyKey::new("once"));
            job
        };
        let client = several().client;
        let mut expected = None;
        for start in ["first", "second"] {
            let engine = simulation.gateway.as_ref().unwrap().engine.clone();
            for request in ["request", "retry"] {
                let (job, failure) = failure(&engine, several()).await;
                let named = expected.get_or_insert_with(|| failure.clone());
                assert_eq!(failure, *named, "the answer to the {request} after the {start} start");
                let view = engine.view(&client, job).await.unwrap().unwrap();
                let JobStatus::Failed { failure, .. } = view.summary.state.status else {
                    panic!("{:?}", view.summary.state.status)
                };
                assert_eq!(failure, *named, "the owner's view after the {request} after the {start} start");
            }
            simulation.crash().await;
            while simulation.gateway.is_none() {
                simulation.start().await;
            }
        }
        assert_eq!(simulation.world.lock().bought.len(), 3, "purchases that failed each in its own way, and no others");
    });
}

/// Waits for the pictures of a request, and reports their delivery.
async fn delivered(engine: &Engine, job: JobRequest) -> UpstreamId {
    let mut waiter = engine.submit(job).await.unwrap();
    let result = waiter.wait(Instant::now() + Duration::from_mins(10)).await.unwrap();
    waiter.delivered(async { true });
    result.purchases[0].clone()
}

#[test]
fn a_result_that_was_delivered_since_a_request_looked_for_it_is_not_claimed() {
    with_a_sound_seed(async |simulation| {
        let gateway = simulation.gateway.as_ref().unwrap();
        // Nothing is shared, so that a result answers one request.
        let private = || JobRequest { private: true, ..job(0, Duration::from_mins(10)) };
        let first = delivered(&gateway.engine, private()).await;
        // The look-up is made before the delivery is written, and its answer comes after.
        gateway.journal.set_read_time(Duration::from_secs(1));
        let second = delivered(&gateway.engine, private()).await;
        assert_ne!(first, second, "a second call buys a second picture");
        assert_eq!(simulation.world.lock().bought.len(), 2);
    });
}
