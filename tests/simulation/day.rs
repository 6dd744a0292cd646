//! One folder over many hours of virtual time, with every fault there is.
//!
//! Round after round, clients ask for new pictures while the power is cut, the wall clock jumps by years, the disk is full,
//! and the upstream loses and contradicts itself. After each round stored pictures are damaged and lost, and the clients ask
//! again: nobody pays twice, and nobody gets another picture than the one that was bought for its prompt.

use super::*;

/// Virtual minutes of each test run. A day by hand: `SIMULATION_HOURS=24 cargo test --lib simulation::day -- --nocapture`.
const MINUTES: u64 = 45;
/// One chance in this many, for each disturbance, at each operation.
const SELDOM: u32 = 12;

/// What a long life had.
#[derive(Debug, Default, PartialEq, Eq)]
struct Counts {
    rounds: usize,
    purchases: usize,
    cuts: usize,
    jumps: usize,
    full_disks: usize,
    damaged: usize,
    /// Requests for damaged pictures that brought them again.
    fetched_again: usize,
    /// Those that were answered with the loss.
    lost_and_said: usize,
}

impl Connection {
    /// Returns an answer to a poll that says nothing true.
    pub(super) fn lie(&self) -> Option<Result<Polled, PollError>> {
        let mut state = self.world.lock();
        if !state.lies {
            return None;
        }
        match state.rng.random_range(0..20) {
            0 => Some(Ok(Polled::Empty)),
            1 => Some(Err(PollError::OtherPrediction { id: "p999999".to_owned() })),
            2 => {
                let outputs = vec![Output::Bytes(Bytes::from_static(b"<html>not found</html>"))];
                Some(Ok(Polled::Finished(Finished { outputs, usage: None })))
            }
            _ => None,
        }
    }
}

impl Simulation {
    /// Sometimes fills the disk, makes room on it, or moves the wall clock.
    pub(super) fn disturb(&mut self) {
        let mut happens = || self.rng.random_range(0..SELDOM) == 0;
        let (fills, jumps, jumps_back) = (happens(), happens(), happens());
        if let Some(gateway) = &self.gateway {
            gateway.journal.set_away(fills);
            if fills {
                self.world.record("the disk is full");
            }
        }
        if jumps {
            let hours = [-24 * 3650, -48, -1, 1, 48, 24 * 3650][self.rng.random_range(0..6)];
            self.clock.jump(hours * 3_600_000);
            self.world.record("the wall clock jumps");
        } else if jumps_back {
            self.clock.jump(-self.clock.jumped_ms.load(Ordering::Relaxed));
        }
    }

    /// Ends the disturbances that would keep a client from an answer for ever.
    pub(super) fn settle(&mut self) {
        if let Some(gateway) = &self.gateway {
            gateway.journal.set_away(false);
        }
    }

    /// Damages pictures and has their clients ask again.
    async fn ask_again(&mut self, counts: &mut Counts) {
        let before: Vec<Answer> = self.prompts.iter().map(|(_, answer)| answer.clone()).collect();
        for (prompt, answer) in before.iter().enumerate() {
            let Answer::Picture(id) = answer else { continue };
            let digest = crate::model::Digest::of(&picture_of(id));
            let is_damaged = match self.rng.random_range(0..3) {
                0 => self.pictures.damage(&digest) || self.disk.damage(&digest),
                1 => self.pictures.lose(&digest),
                _ => false,
            };
            counts.damaged += usize::from(is_damaged);
            // A retry, or a new request that the cache may answer.
            self.prompts[prompt] = (self.rng.random_range(0..2), Answer::Nothing);
            while self.prompts[prompt].1 == Answer::Nothing {
                self.request(prompt, Duration::from_mins(10));
                self.pass(Duration::from_secs(1)).await;
            }
            if is_damaged && matches!(&self.prompts[prompt].1, Answer::Failed(Failure::ResultLost { .. })) {
                counts.lost_and_said += 1;
                self.prompts[prompt].1 = answer.clone();
            } else {
                counts.fetched_again += usize::from(is_damaged);
            }
        }
    }

    /// Lives until `end`; returns what it had, and the first violations.
    async fn live(&mut self, end: Duration) -> (Counts, Vec<String>) {
        let mut counts = Counts::default();
        self.world.lock().lies = true;
        self.start().await;
        loop {
            counts.rounds += 1;
            self.memory_bytes = self.rng.random_range(0..2) << 20;
            self.operate().await;
            self.ask_again(&mut counts).await;
            let violations = self.violations();
            if !violations.is_empty() || self.clock.start.elapsed() >= end {
                return (counts, violations);
            }
            self.first += PROMPTS;
            self.prompts = vec![(0, Answer::Nothing); PROMPTS];
        }
    }
}

/// Runs a life of this length; returns its trace, what it had, and its violations.
fn life(seed: u64, variant: Variant, length: Duration) -> (String, Counts, Vec<String>) {
    with_virtual_time(async {
        let mut simulation = Simulation::new(seed, variant);
        let (mut counts, violations) = simulation.live(length).await;
        if let Some(gateway) = simulation.gateway.take() {
            gateway.lifecycle.crash().await;
        }
        let trace = simulation.world.lock().trace.clone();
        let times = |event: &str| trace.matches(event).count();
        counts.purchases = times(" bought ");
        (counts.cuts, counts.jumps, counts.full_disks) =
            (times("power cut"), times("the wall clock jumps"), times("the disk is full"));
        (trace, counts, violations)
    })
}

#[test]
fn a_long_life_with_all_faults_buys_nothing_twice_and_swaps_and_loses_nothing() {
    let hours = std::env::var("SIMULATION_HOURS").ok().and_then(|text| text.parse::<u64>().ok());
    let length = Duration::from_mins(hours.map_or(MINUTES, |hours| hours * 60));
    let (trace, counts, violations) = life(1, AS_BUILT, length);
    let recent: Vec<&str> = trace.lines().rev().take(200).collect();
    assert!(violations.is_empty(), "{violations:#?}, last first: {recent:#?}");
    println!("{} virtual minutes: {counts:?}: 0 double buys, 0 lost, 0 swapped, 0 silent", length.as_secs() / 60);
    // A life in which nothing happens would prove nothing.
    let Counts { cuts, jumps, full_disks, damaged, fetched_again, .. } = counts;
    assert!(cuts > 5 && jumps > 5 && full_disks > 5 && damaged > 3 && fetched_again > 1, "{counts:?}");
}

#[test]
fn the_same_seed_gives_the_same_long_life() {
    let short = || life(7, AS_BUILT, Duration::from_mins(15));
    let (one, other) = (short(), short());
    assert!(one.0 == other.0 && one.1 == other.1, "{:?} {:?}", one.1, other.1);
}

#[test]
fn control_a_long_life_without_the_commit_record_fails() {
    let broken = Variant { commits: false, ..AS_BUILT };
    assert!((0..10).any(|seed| !life(seed, broken, Duration::from_mins(10)).2.is_empty()));
}
