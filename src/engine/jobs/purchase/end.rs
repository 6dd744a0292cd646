//! The end of a purchase: journalled first, then shown.

use std::time::{Duration, Instant};

use super::{Context, Intent, PendingEnd, Purchase, PurchaseEnd, State};
use crate::engine::jobs::event::{Effect, EndedPurchase, Fetched, ProgressChange, Step};
use crate::model::{Failure, UpstreamId, Usd};
use crate::storage::journal::Record;
use crate::upstream::Finished;

impl Purchase {
    /// Ends without pictures; does nothing if it is ending already.
    pub(in crate::engine::jobs) fn fail(&mut self, failure: Failure, cx: &mut Context<'_>) {
        if self.state.end().is_some() {
            return;
        }
        let purchase = cx.purchase;
        cx.push(Effect::EndSubmits { purchase });
        cx.push(Effect::ReleaseInFlight { purchase });
        let since = if let State::Collecting(immediate) = &self.state {
            immediate.sent
        } else {
            self.state.polled().map_or(cx.now.instant, |accepted| accepted.at)
        };
        let upstream = self.state.upstream().cloned();
        let record = Record::Failed { purchase, failure: failure.clone(), at: cx.now.timestamp };
        self.end(PendingEnd { end: PurchaseEnd::Failure(failure), upstream, since }, Some(record), cx);
    }

    /// Ends once that is journalled; at once where it cannot be.
    pub(super) fn end(&mut self, end: PendingEnd, record: Option<Record>, cx: &mut Context<'_>) {
        self.state = State::Ending(end);
        let may_record = cx.intent != Intent::Refused && cx.closed != Some(&Failure::JournalUnavailable);
        match record.filter(|_| may_record) {
            Some(record) => cx.append(record, Step::End(cx.purchase)),
            None => self.end_journalled(cx),
        }
    }

    /// Accounts for the end and shows it. An end that could not be journalled is shown all the same: the pictures are
    /// delivered, and the next start repeats a failure.
    pub(in crate::engine::jobs) fn end_journalled(&mut self, cx: &mut Context<'_>) {
        let State::Ending(PendingEnd { end, upstream, since }) = &mut self.state else { return };
        let (end, upstream, since) = (end.clone(), upstream.take(), *since);
        let (result, usd, charge) = match &end {
            PurchaseEnd::Pictures { pictures, usage, .. } => {
                let usd = cx.rules.price_of(cx.record, pictures.len(), usage.as_ref());
                (Ok(pictures.len()), usd, (pictures.len(), usd.unwrap_or_default()))
            }
            PurchaseEnd::Failure(failure) => {
                let usd = cx.rules.price(cx.record, self.pictures);
                // A purchase that may have been paid for counts as paid.
                let charge = if failure.may_have_been_bought() {
                    (usize::from(self.pictures), usd.unwrap_or_default())
                } else {
                    (0, Usd::default())
                };
                (Err(failure.clone()), usd, charge)
            }
        };
        let job = cx.purchase.job;
        if let Some(result) = end.result() {
            cx.push(Effect::Publish { job, change: ProgressChange::Result(result) });
        }
        cx.push(Effect::EndPurchase(Box::new(EndedPurchase {
            purchase: cx.purchase,
            record: cx.record.clone(),
            upstream,
            result,
            took: cx.now.instant.saturating_duration_since(since),
            usd,
            charge,
        })));
        self.state = State::Ended(end);
    }
}

/// Returns the end with pictures that are stored, and its record. Without a record it is left as accepted: a restart
/// fetches the pictures again, should these not have survived.
pub(super) fn with_pictures(
    upstream: Option<UpstreamId>,
    fetched: Fetched,
    since: Instant,
    cx: &Context<'_>,
) -> (PendingEnd, Option<Record>) {
    let Fetched { pictures, usage, durable, .. } = fetched;
    let at = cx.now.timestamp;
    let record = Record::Resolved { purchase: cx.purchase, pictures: pictures.clone(), usage, at };
    let end = PurchaseEnd::Pictures { upstream: upstream.clone(), pictures, usage, at };
    (PendingEnd { end, upstream, since }, durable.then_some(record))
}

impl Context<'_> {
    pub(in crate::engine::jobs) fn push(&mut self, effect: Effect) {
        self.effects.push(effect);
    }

    pub(super) fn append(&mut self, record: Record, step: Step) {
        self.effects.push(Effect::Append { records: vec![record], step });
    }

    pub(super) fn fetch(&mut self, finished: Finished, pause: Duration, resumable: bool) {
        self.effects.push(Effect::Fetch { purchase: self.purchase, finished, pause, resumable });
    }

    /// Whether a submit would be of no use any more.
    pub(super) fn is_late(&self) -> bool {
        self.start_by <= self.now.instant
    }

    /// Whether the deadline of a purchase has passed that was accepted at this time.
    pub(super) fn is_expired(&self, accepted: Instant) -> bool {
        self.now.instant.saturating_duration_since(accepted) >= self.rules.deadline
    }
}
