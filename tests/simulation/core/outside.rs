//! What happens to a gateway from outside: requests come and go, owners cancel, disks fail, the power is cut.

use std::time::Duration;

use super::live::Task;
use super::setting::Setting;
use super::world::World;
use crate::engine::jobs::CancelOutcome;
use crate::engine::jobs::event::Event;
use crate::model::{JobId, PurchaseId};

impl World {
    /// Does one of these, at random.
    pub(super) fn operate(&mut self) {
        match self.random.below(20) {
            0..=6 => {
                let prompt = self.random.below(self.prompts.len());
                let patience = self.random.time(40_000);
                self.request(prompt, patience);
            }
            7 | 8 if !self.clients.is_empty() => {
                let client = self.random.below(self.clients.len());
                self.leave(client, "hangs up");
            }
            9 => self.cancel(),
            10 => self.keep(),
            11 if self.random.one_in(2) => self.cut_power(),
            12 if self.random.one_in(3) => self.drain(),
            13 if self.random.one_in(4) => self.fail_disk(),
            14 if self.random.one_in(6) => self.results_failed = true,
            15 => {
                let time = self.random.time(120_000);
                self.pass(time);
            }
            16 => self.send_foreign_event(),
            17 if self.draining => self.stop(),
            18 | 19 => self.damage_pictures(),
            _ => {}
        }
    }

    /// Returns a live job at random.
    fn any_live(&mut self) -> Option<JobId> {
        let choice = self.random.below(self.live.len().max(1));
        self.live.get(choice).map(|live| live.record.id)
    }

    fn cancel(&mut self) {
        let Some(job) = self.any_live() else { return };
        self.counts.events += 1;
        let now = self.now();
        let cancelled = self.jobs.cancel(&Setting::shared().record.client, job, now);
        let Some((outcome, effects)) = cancelled else {
            return self.violate(format!("{job} is live, and cannot be cancelled"));
        };
        self.note("cancel", [self.number(job), 0], format_args!("{outcome:?}"));
        let live = self.job(job).expect("it is live");
        let (is_bought, needed, is_refetched) = (live.may_be_bought(), live.needed, live.refetched);
        live.kept &= matches!(outcome, CancelOutcome::Bought | CancelOutcome::Ended);
        let expected = match outcome {
            CancelOutcome::Bought => true,
            CancelOutcome::Shared => !is_bought && needed > 0,
            CancelOutcome::Dropped => !is_bought && needed == 0,
            CancelOutcome::Ended => is_refetched,
        };
        self.check(expected, || format!("{job} is cancelled as {outcome:?} (bought: {is_bought}, needed: {needed})"));
        self.carry_out(effects);
        self.check_needed(job);
    }

    fn keep(&mut self) {
        let Some(job) = self.any_live() else { return };
        let now = self.instant();
        let live = self.job(job).expect("it is live");
        if live.dropped || live.needed == 0 {
            // Only a request that waits for a job keeps it.
            return;
        }
        live.kept = true;
        let start_by = now + Duration::from_mins(1);
        live.start_by = live.start_by.max(start_by);
        self.note("keep", [self.number(job), 0], format_args!(""));
        self.counts.events += 1;
        self.jobs.keep(job, start_by);
    }

    fn drain(&mut self) {
        if self.running && !std::mem::replace(&mut self.draining, true) {
            self.note("draining", [0, 0], format_args!(""));
            self.handle_all(Event::Draining);
            let queued = self.budget.queue.len();
            self.check(queued == 0, || format!("{queued} purchases wait for the budget of a gateway that stops"));
        }
    }

    fn fail_disk(&mut self) {
        if !self.running || self.journal.failed {
            return;
        }
        let survivors = self.random.below(self.journal.pending() + 1);
        self.note("the disk fails", [survivors, 0], format_args!(""));
        let ready = &mut self.ready;
        self.journal.fail(survivors, |report, outcome| ready.push(Task::Journalled { report, outcome }));
    }

    /// Reports what concerns no live purchase: the jobs must ignore it.
    fn send_foreign_event(&mut self) {
        let ended = self.histories.iter().rev().map(|history| history.id);
        let ended = ended.filter(|id| self.live.iter().all(|live| live.record.id != *id)).nth(self.random.below(3));
        let job = ended.unwrap_or(Setting::shared().record.id);
        let slot = u8::try_from(self.random.below(3)).unwrap();
        let event = super::arbitrary::event(PurchaseId { job, slot }, &mut self.random);
        self.handle(job, event);
    }
}
