//! Stored pictures that are damaged on the disk, and requests that have them fetched again.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Variant;
use super::live::{LiveJob, LivePurchase};
use super::world::World;
use crate::engine::jobs::event::RefetchResult;
use crate::engine::jobs::job::outcome::stored_result;
use crate::engine::jobs::refetched;
use crate::engine::reuse::ReusePolicy;
use crate::model::{Digest, Failure, JobId, JobResult, PurchaseId, StoredPicture};
use crate::storage::journal::{StoredJob, StoredState};

/// Pause after a refetch that failed, before the same result is fetched again.
const REFETCH_PAUSE: Duration = Duration::from_mins(1);

/// What is damaged, and what the gateway remembers of it.
#[derive(Debug, Default)]
pub(super) struct Damage {
    /// The pictures of purchases whose files are damaged. They are on the disk, so they outlive a gateway.
    pictures: BTreeMap<PurchaseId, Vec<StoredPicture>>,
    /// Until when the failure of a refetch answers.
    lost: BTreeMap<JobId, Duration>,
}

impl Damage {
    /// Forgets what a gateway has in memory.
    pub(super) fn forget(&mut self) {
        self.lost.clear();
    }

    /// Returns the purchases of a stored job whose pictures are damaged.
    fn of(&self, stored: &StoredJob) -> Vec<PurchaseId> {
        let is_damaged = |id: &PurchaseId, state: &StoredState| matches!(state, StoredState::Resolved { pictures, .. } if self.pictures.get(id) == Some(pictures));
        stored.purchases.iter().filter(|one| is_damaged(&one.id, &one.state)).map(|one| one.id).collect()
    }

    /// Files are written: what has their names is whole.
    pub(super) fn repair(&mut self, purchase: PurchaseId, written: &[StoredPicture]) {
        let is_whole = |pictures: &Vec<StoredPicture>| pictures.iter().all(|picture| written.contains(picture));
        if self.pictures.get(&purchase).is_some_and(is_whole) {
            self.pictures.remove(&purchase);
        }
    }
}

impl World {
    /// Damages the stored pictures of a purchase.
    pub(super) fn damage_pictures(&mut self) {
        let resolved: Vec<(PurchaseId, Vec<StoredPicture>)> = self.journal.stored.values().flat_map(resolved).collect();
        let choice = self.random.below(resolved.len().max(1));
        let Some((purchase, pictures)) = resolved.get(choice).cloned() else { return };
        self.note("damage", self.about(purchase), format_args!("{} pictures", pictures.len()));
        self.damage.pictures.insert(purchase, pictures);
    }

    /// Whether a stored result answers a request although it may be damaged.
    pub(super) fn may_answer(&self, stored: &StoredJob, policy: ReusePolicy) -> bool {
        if self.variant == Variant::DamagedIsBought && !self.damage.of(stored).is_empty() {
            return false;
        }
        let lost = self.damage.lost.get(&stored.record.id).is_some_and(|&until| until > self.elapsed);
        self.damage.of(stored).is_empty() || policy.may_refetch(lost)
    }

    /// Gets the result of a stored job, whose damaged pictures are fetched again first.
    pub(super) fn refetch_or_find(&mut self, index: usize, job: JobId, outcome: super::clients::Outcome) {
        let Some(stored) = self.journal.stored.get(&job).filter(|_| outcome.is_ok()).cloned() else {
            return self.found(index, job, outcome);
        };
        let damaged = self.damage.of(&stored);
        if damaged.is_empty() {
            return self.found(index, job, outcome);
        }
        if self.damage.lost.get(&job).is_some_and(|&until| until > self.elapsed) {
            return self.found(index, job, Err(Failure::ResultLost { message: String::new() }));
        }
        let (now, number) = (self.now(), self.number(job));
        let purchases = stored.purchases.iter().map(|one| LivePurchase {
            has_ended: !damaged.contains(&one.id),
            bought: true,
            ..LivePurchase::default()
        });
        let purchases = purchases.collect();
        let listed = match refetched(stored, &damaged, &self.rules, now) {
            Ok(listed) => listed,
            Err(failure) => return self.found(index, job, Err(failure)),
        };
        self.counts.events += 1;
        let (record, effects) = self.jobs.refetch(listed, now);
        let Some(effects) = effects else { return self.attach(index, job, true) };
        self.note("refetch", [number, damaged.len()], format_args!("begins"));
        self.counts.refetches += 1;
        self.live.push(LiveJob {
            start_by: self.instant(),
            record,
            number,
            purchases,
            needed: 0,
            kept: false,
            recorded: true,
            dropped: false,
            unlogged: false,
            refetched: true,
        });
        self.attach(index, job, false);
        self.carry_out(effects);
    }

    pub(super) fn end_refetch(&mut self, purchase: PurchaseId, result: RefetchResult) {
        self.note("end refetch", self.about(purchase), format_args!("refetch {result:?}"));
        let Some(live) = self.job(purchase.job) else {
            return self.violate(format!("{purchase} is fetched again, and is not live"));
        };
        let is_refetched = live.refetched;
        let is_first = !std::mem::replace(&mut live.purchases[usize::from(purchase.slot)].has_ended, true);
        self.check(is_refetched && is_first, || format!("{purchase} ends twice, or was not fetched again"));
    }

    /// A refetch gives its waiters what is in the journal, or a failure; and the journal has no other end by it.
    pub(super) fn check_refetched(&mut self, live: &LiveJob, outcome: &Result<std::sync::Arc<JobResult>, Failure>) {
        let job = live.record.id;
        let stored = self.journal.stored.get(&job).and_then(stored_result);
        let all_ended = live.purchases.iter().all(|one| one.has_ended);
        self.check(all_ended, || format!("{job} ends before its purchases"));
        let agrees = match outcome {
            Ok(result) => {
                let is_unlogged = live.unlogged || self.journal.failed;
                is_unlogged || stored.as_ref() == Some(&**result)
            }
            Err(Failure::ResultLost { .. }) => stored.is_some(),
            Err(_) => false,
        };
        self.check(agrees, || format!("a refetch of {job} gives {outcome:?}, and the journal has {stored:?}"));
        if outcome.is_err() {
            self.damage.lost.insert(job, self.elapsed + REFETCH_PAUSE);
        }
    }
}

/// Returns the purchases of a job with pictures.
fn resolved(stored: &StoredJob) -> impl Iterator<Item = (PurchaseId, Vec<StoredPicture>)> {
    stored.purchases.iter().filter_map(|one| match &one.state {
        StoredState::Resolved { pictures, .. } if !pictures.is_empty() => Some((one.id, pictures.clone())),
        StoredState::Intent
        | StoredState::Committing { .. }
        | StoredState::Accepted { .. }
        | StoredState::Resolved { .. }
        | StoredState::Failed { .. } => None,
    })
}

/// A picture of other bytes than all others.
pub(super) fn other_picture(like: &StoredPicture) -> StoredPicture {
    static DIGEST: std::sync::LazyLock<Digest> = std::sync::LazyLock::new(|| Digest::of(b"other picture"));
    StoredPicture { digest: *DIGEST, ..*like }
}
