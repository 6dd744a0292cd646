//! Single misfortunes, each by itself.

use super::*;

/// A simulation whose gateway is up.
async fn up(seed: u64) -> Simulation {
    let mut simulation = Simulation::new(seed, AS_BUILT);
    while simulation.life.is_none() {
        simulation.start().await;
    }
    simulation
}

/// Lets time pass until a wish is answered.
async fn answered(simulation: &mut Simulation, wish: usize) -> Got {
    for _ in 0..100 {
        simulation.pass(Duration::from_secs(5)).await;
        if simulation.asking[wish].is_none() {
            return simulation.wishes[wish].1.clone();
        }
    }
    panic!("never answered:\n{}", simulation.world.lock().trace);
}

/// The first seed with which a wish, asked for once, is simply bought.
fn lucky(story: impl AsyncFn(Simulation)) {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    for seed in 0..20 {
        let fine = runtime().block_on(async {
            let mut simulation = up(seed).await;
            simulation.ask(0, Duration::from_mins(10));
            matches!(answered(&mut simulation, 0).await, Got::Picture(_))
        });
        if fine {
            return runtime().block_on(async { story(up(seed).await).await });
        }
    }
    panic!("no seed is lucky");
}

#[test]
fn a_failed_sync_stops_buying_and_goes_on_resolving() {
    lucky(async |mut simulation| {
        simulation.ask(0, Duration::from_mins(10));
        // Far enough that it is bought, not so far that it is done.
        while simulation.world.lock().bought.is_empty() {
            simulation.pass(Duration::from_millis(50)).await;
        }
        simulation.pass(Duration::from_millis(2500)).await;
        let life = simulation.life.as_ref().unwrap();
        life.journal.break_disk();
        assert!(life.engine.storage_failed(), "readiness says so");
        assert!(matches!(answered(&mut simulation, 0).await, Got::Picture(_)), "what was bought is delivered");
        simulation.ask(1, Duration::from_mins(10));
        simulation.pass(Duration::from_mins(1)).await;
        assert_eq!(simulation.world.lock().bought.len(), 1, "nothing more is bought");
    });
}

#[test]
fn a_crash_between_the_purchase_and_its_answer_is_told_as_unknown_and_held() {
    lucky(async |mut simulation| {
        simulation.ask(0, Duration::from_mins(10));
        while simulation.world.lock().bought.is_empty() {
            simulation.pass(Duration::from_millis(1)).await;
        }
        simulation.crash().await;
        while simulation.life.is_none() {
            simulation.start().await;
        }
        simulation.ask(0, Duration::from_mins(10));
        let got = answered(&mut simulation, 0).await;
        assert!(matches!(got, Got::Failed(Failure::OutcomeUnknown { .. })), "{got:?}");
        assert_eq!(simulation.world.lock().bought.len(), 1, "held: the repeat buys nothing");
    });
}

#[test]
fn a_clock_that_jumps_changes_no_wait_and_loses_nothing() {
    for hours in [-24 * 3650, -1, 1, 24 * 3650] {
        lucky(async |mut simulation| {
            simulation.ask(0, Duration::from_mins(10));
            while simulation.world.lock().bought.is_empty() {
                simulation.pass(Duration::from_millis(50)).await;
            }
            simulation.clock.jump(hours * 3_600_000);
            assert!(matches!(answered(&mut simulation, 0).await, Got::Picture(_)), "{hours} h");
            simulation.clock.jump(-hours * 3_600_000);
            simulation.wishes[0].1 = Got::Nothing;
            simulation.ask(0, Duration::from_mins(10));
            assert!(matches!(answered(&mut simulation, 0).await, Got::Picture(_)), "{hours} h and back");
            assert_eq!(simulation.world.lock().bought.len(), 1, "{hours} h: the result was kept");
        });
    }
}

#[test]
fn a_clock_that_jumps_by_an_hour_loses_nothing_over_a_restart() {
    // Further than the life time of results there is nothing left to go by: wall time is all a restart has.
    for hours in [-1, 1] {
        lucky(async |mut simulation| {
            simulation.ask(0, Duration::from_mins(10));
            while simulation.world.lock().bought.is_empty() {
                simulation.pass(Duration::from_millis(50)).await;
            }
            simulation.pass(Duration::from_secs(3)).await;
            simulation.crash().await;
            simulation.clock.jump(hours * 3_600_000);
            while simulation.life.is_none() {
                simulation.start().await;
            }
            simulation.ask(0, Duration::from_mins(10));
            assert!(matches!(answered(&mut simulation, 0).await, Got::Picture(_)), "{hours} h");
            assert_eq!(simulation.world.lock().bought.len(), 1, "{hours} h: the result was kept");
        });
    }
}
