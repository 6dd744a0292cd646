//! From an intent to an accepted purchase: wait for the budget, upload, journal, last byte, journal.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::budget::{Granted, InFlightPermit, Pushback, QueueSlot};
use crate::engine::core::Core;
use crate::engine::jobs::AcceptedPurchase;
use crate::engine::jobs::transitions::{AfterSubmit, after_submit};
use crate::engine::purchase::forecast::class_of;
use crate::engine::purchase::slow_submit::{ACCEPTED_AFTER, with_early_acceptance};
use crate::model::{AccountId, ApiKind, Failure, JobId, PictureRequest, PurchaseId};
use crate::storage::journal::Record;
use crate::upstream::{Commit, Finished, PurchaseHandle, SubmitError, Submitted};

/// One purchase on its way to the upstream.
struct Submission<'a> {
    purchase: PurchaseId,
    pictures: u8,
    request: &'a PictureRequest,
    /// Submits so far, without those that the upstream pushed back.
    attempts: u32,
    /// Accounts whose key the upstream refused; each once, however often it refused.
    keys_refused: Vec<AccountId>,
}

/// One submit that was made.
struct Attempt {
    result: Result<Submitted, SubmitError>,
    in_flight: InFlightPermit,
    /// The commit record is in the journal.
    committed: bool,
    sent: Instant,
}

/// What follows a submit that did not end the purchase.
enum Next {
    /// The upstream has taken the purchase.
    Taken(Taken),
    /// The purchase is an intent again, by this record if it was committed, and waits this long before its next turn.
    Retry { record: Record, pause: Duration },
}

/// A purchase that the upstream has taken.
enum Taken {
    Accepted { handle: PurchaseHandle, in_flight: InFlightPermit },
    Finished { handle: Option<PurchaseHandle>, finished: Finished, in_flight: InFlightPermit, sent: Instant },
}

impl Core {
    /// Submits a purchase until the upstream has taken it or it has ended.
    pub(super) async fn buy(
        self: &Arc<Self>,
        purchase: PurchaseId,
        pictures: u8,
        request: &PictureRequest,
        slot: QueueSlot,
    ) {
        let submission = Submission { purchase, pictures, request, attempts: 0, keys_refused: Vec::new() };
        match self.submit_until_taken(submission, slot).await {
            Ok(Taken::Accepted { handle, in_flight }) => {
                if self.accept(purchase, handle, pictures, in_flight).await {
                    self.plan_poll(purchase);
                }
            }
            Ok(Taken::Finished { handle: Some(handle), finished, in_flight, .. }) => {
                self.accept(purchase, handle, pictures, in_flight).await;
                self.collect(purchase, finished).await;
            }
            Ok(Taken::Finished { handle: None, finished, in_flight, sent }) => {
                // The upstream is done with it.
                drop(in_flight);
                self.collect_without_id(purchase, finished, sent).await;
            }
            Err(failure) => self.end(purchase, failure).await,
        }
    }

    async fn submit_until_taken(
        self: &Arc<Self>,
        mut submission: Submission<'_>,
        mut slot: QueueSlot,
    ) -> Result<Taken, Failure> {
        let purchase = submission.purchase;
        loop {
            let granted = self.wait_for_turn(purchase.job, &mut slot).await?;
            if !self.jobs.start_submit(purchase) {
                return Err(Failure::Abandoned);
            }
            submission.attempts += 1;
            let attempt = self.submit_once(&submission, granted).await;
            let committed = attempt.committed;
            let (record, pause) = match self.after_attempt(&mut submission, attempt)? {
                Next::Taken(taken) => return Ok(taken),
                Next::Retry { record, pause } => (record, pause),
            };
            if committed && let Err(error) = self.journal.append(record).await {
                tracing::error!(%purchase, %error, "a withdrawal could not be journalled; the purchase ends");
            }
            if self.journal.failed() {
                return Err(Failure::JournalUnavailable);
            }
            self.jobs.requeue(purchase);
            tokio::select! {
                biased;
                () = tokio::time::sleep(pause) => {}
                () = self.lifecycle.draining() => return Err(Failure::Stopping),
            }
            slot = slot.again();
        }
    }

    /// Waits until the budget grants a submit, as long as it is needed and would start in time.
    async fn wait_for_turn(&self, job: JobId, slot: &mut QueueSlot) -> Result<Granted, Failure> {
        // In this order: a job that is no longer needed is not bought, even when its turn has just come.
        tokio::select! {
            biased;
            () = self.jobs.abandoned(job) => Err(Failure::Abandoned),
            () = self.lifecycle.draining() => Err(Failure::Stopping),
            () = self.jobs.start_deadline(job) => Err(self.missed_start(job)),
            granted = slot.granted() => granted,
        }
    }

    async fn submit_once(
        self: &Arc<Self>,
        submission: &Submission<'_>,
        Granted { reservation, mut in_flight }: Granted,
    ) -> Attempt {
        let &Submission { purchase, pictures, request, attempts, .. } = submission;
        let is_committed = Arc::new(AtomicBool::new(false));
        let (notify, committed) = oneshot::channel();
        let commit = self.commit(purchase, in_flight.account().clone(), Arc::clone(&is_committed), notify);
        let submit = self.upstream.submit(reservation, request, pictures, commit);
        let sent = Instant::now();
        let result = match request.api_kind {
            ApiKind::OpenAi => with_early_acceptance(submit, committed, || in_flight.accepted()).await,
            ApiKind::Prediction | ApiKind::Unified => submit.await,
        };
        self.metrics.submitted(request.api_kind, result.as_ref().err());
        match &result {
            Ok(_) => in_flight.accepted(),
            Err(error) => {
                let account = in_flight.account();
                tracing::warn!(%purchase, %account, attempt = attempts, ?error, "the upstream did not accept a submit");
            }
        }
        Attempt { result, in_flight, committed: is_committed.load(Ordering::Acquire), sent }
    }

    /// Decides what follows a submit.
    ///
    /// # Errors
    ///
    /// The failure with which the purchase ends.
    fn after_attempt(&self, submission: &mut Submission<'_>, attempt: Attempt) -> Result<Next, Failure> {
        let Attempt { result, in_flight, sent, .. } = attempt;
        let &mut Submission { purchase, pictures, request, attempts, .. } = submission;
        let withdrawn = Record::Withdrawn { purchase };
        let settings = &self.settings;
        match after_submit(result, attempts, settings.submit_attempts_max, settings.on_unknown) {
            AfterSubmit::Poll(handle) => Ok(Next::Taken(Taken::Accepted { handle, in_flight })),
            AfterSubmit::Collect { handle, finished } => {
                Ok(Next::Taken(Taken::Finished { handle, finished, in_flight, sent }))
            }
            AfterSubmit::End(failure) => Err(failure),
            AfterSubmit::Retry { pause } => Ok(Next::Retry { record: withdrawn, pause }),
            AfterSubmit::Resubmit { pause } => {
                self.metrics.unknown(self.estimated_cost(&request.model, pictures));
                Ok(Next::Retry { record: Record::Resubmitted { purchase }, pause })
            }
            AfterSubmit::PushedBack(pushback) => {
                let key_refused = if let Pushback::Key { reason } = &pushback { Some(reason.clone()) } else { None };
                let account = in_flight.account().clone();
                in_flight.refused(pushback);
                if let Some(reason) = key_refused {
                    if !submission.keys_refused.contains(&account) {
                        submission.keys_refused.push(account);
                    }
                    if !self.budget.has_another_key(&submission.keys_refused) {
                        return Err(reason);
                    }
                }
                // The budget decides when the next submit leaves, and with which account. A pushback is no attempt.
                submission.attempts -= 1;
                // A refusal after the budget has counted the submit as accepted changes nothing in the budget, so it
                // delays no later submit: this pause does.
                let late = request.api_kind == ApiKind::OpenAi && sent.elapsed() >= ACCEPTED_AFTER;
                let pause = if late { ACCEPTED_AFTER } else { Duration::ZERO };
                Ok(Next::Retry { record: withdrawn, pause })
            }
        }
    }

    /// Returns what runs between the last byte but one and the last: the commit record is made durable.
    fn commit(
        self: &Arc<Self>,
        purchase: PurchaseId,
        account: AccountId,
        is_committed: Arc<AtomicBool>,
        notify: oneshot::Sender<()>,
    ) -> Commit {
        let core = Arc::clone(self);
        Box::new(move || {
            async move {
                let record = Record::Committing { purchase, account, at: core.clock.now() };
                match core.journal.append(record).await {
                    Ok(()) => {
                        is_committed.store(true, Ordering::Release);
                        // Without a receiver where the answer comes at once.
                        let _ = notify.send(());
                        true
                    }
                    Err(error) => {
                        tracing::error!(%purchase, %error, "a purchase could not be journalled; it is not made");
                        false
                    }
                }
            }
            .boxed()
        })
    }

    /// Journals and lists an accepted purchase; returns whether its job is still listed.
    async fn accept(
        &self,
        purchase: PurchaseId,
        handle: PurchaseHandle,
        pictures: u8,
        in_flight: InFlightPermit,
    ) -> bool {
        let record = Record::Accepted {
            purchase,
            upstream: handle.id.clone(),
            poll_url: handle.poll_url.clone(),
            at: self.clock.now(),
        };
        // It is bought either way: when the journal cannot be written, polling it from memory is all that is left.
        if let Err(error) = self.journal.append(record).await {
            let upstream = &handle.id;
            tracing::error!(%purchase, %upstream, %error, "an acceptance was not journalled; polled until a restart");
        }
        let Some(record) = self.jobs.record(purchase.job) else { return false };
        let accepted = AcceptedPurchase::new(handle, in_flight, class_of(&record, pictures));
        self.jobs.accept(purchase, accepted);
        true
    }
}
