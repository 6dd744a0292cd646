//! The one scheduler of polls: by their time, then by what the poll rate of their account allows, the likeliest first;
//! with a bound on the polls under way.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Instant;

use crate::engine::core::{Core, ScheduledPoll};
use crate::model::{AccountId, PurchaseId};
use crate::polling::queue::PollQueue;

/// The scheduler's own state.
struct Scheduler {
    core: Arc<Core>,
    queue: PollQueue<(PurchaseId, u32)>,
    /// The accounts of purchases; the index is the account's number in the queue. Few: they are named in the
    /// configuration.
    accounts: Vec<AccountId>,
    polls: Arc<Semaphore>,
    /// A permit that was taken and not yet used.
    permit: Option<OwnedSemaphorePermit>,
}

/// The result of one round of polls.
struct Round {
    /// When the next round is due.
    next: Option<Instant>,
    waits_for_permit: bool,
}

/// Starts polls, until the engine is dropped.
pub(in crate::engine) async fn run(core: Arc<Core>, mut planned: mpsc::UnboundedReceiver<ScheduledPoll>) {
    let polls = Arc::new(Semaphore::new(core.settings.polls_max));
    let queue = PollQueue::new(core.planner.max_interval);
    let mut scheduler = Scheduler { core, queue, accounts: Vec::new(), polls: Arc::clone(&polls), permit: None };
    loop {
        let Round { next, waits_for_permit } = scheduler.start_polls();
        tokio::select! {
            biased;
            planned = planned.recv() => match planned {
                Some(planned) => scheduler.push(planned),
                None => return,
            },
            acquired = Arc::clone(&polls).acquire_owned(), if waits_for_permit => scheduler.permit = acquired.ok(),
            () = sleep_until(next) => {}
        }
    }
}

async fn sleep_until(next: Option<Instant>) {
    match next {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

impl Scheduler {
    fn push(&mut self, ScheduledPoll { at, purchase, plan, account, chance }: ScheduledPoll) {
        let index = self.accounts.iter().position(|known| *known == account).unwrap_or_else(|| {
            self.accounts.push(account);
            self.accounts.len() - 1
        });
        self.queue.push(at, (purchase, plan), index, chance);
    }

    /// Starts all polls that may start now.
    fn start_polls(&mut self) -> Round {
        let now = Instant::now();
        let Self { core, queue, .. } = self;
        // A void plan must not use up the poll rate.
        queue.advance_if(now, |&(purchase, plan)| core.is_current_plan(purchase, plan));
        let mut round = Round { next: queue.next_due(), waits_for_permit: false };
        let (mut ready, mut polled) = (0, 0);
        for account in 0..self.accounts.len() {
            polled += self.start_polls_of(account, now, &mut round);
            ready += self.queue.ready(account);
        }
        self.core.poll_price().update(now, ready, polled);
        if !round.waits_for_permit {
            self.permit = None;
        }
        round
    }

    /// Starts the polls of one account that may start now; returns their number.
    fn start_polls_of(&mut self, account: usize, now: Instant, round: &mut Round) -> usize {
        let mut polled = 0;
        while self.queue.ready(account) > 0 {
            let Some(permit) = self.permit.take().or_else(|| Arc::clone(&self.polls).try_acquire_owned().ok()) else {
                round.waits_for_permit = true;
                break;
            };
            let reservation = match self.core.budget.reserve_poll(&self.accounts[account]) {
                Ok(reservation) => reservation,
                Err(at) => {
                    self.permit = Some(permit);
                    round.next = Some(round.next.map_or(at, |next| next.min(at)));
                    break;
                }
            };
            // A plan may have become void since; the next one then takes the reservation.
            let mut ready = std::iter::from_fn(|| self.queue.pop_ready(account, now));
            let Some((purchase, _)) = ready.find(|&(purchase, plan)| self.core.begin_poll(purchase, plan)) else {
                break;
            };
            polled += 1;
            let core = Arc::clone(&self.core);
            self.core.lifecycle.spawn_service("poll", async move {
                core.poll(purchase, reservation).await;
                drop(permit);
            });
        }
        polled
    }
}
