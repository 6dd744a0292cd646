//! The end of a purchase: journalled first, then shown.

use std::time::{Duration, Instant};

use super::{Context, Ending, Purchase, PurchaseEnd, State};
use crate::engine::jobs::event::{Effect, EndedPurchase, Fetched, News, Step};
use crate::model::{Failure, UpstreamId, Usd};
use crate::storage::journal::Record;
use crate::upstream::Finished;

impl Purchase {
    /// Ends with pictures that are stored.
    pub(super) fn resolve(
        &mut self,
        upstream: Option<UpstreamId>,
        fetched: Fetched,
        since: Instant,
        cx: &mut Context<'_>,
    ) {
        let Fetched { pictures, usage, durable, .. } = fetched;
        let at = cx.now.timestamp;
        let record = Record::Resolved { purchase: cx.purchase, pictures: pictures.clone(), usage, at };
        let end = PurchaseEnd::Pictures { upstream: upstream.clone(), pictures, usage, at };
        self.state = State::Ending(Ending { end, upstream, since });
        if durable {
            cx.append(record, Step::End(cx.purchase));
        } else {
            // Left as accepted: a restart fetches the pictures again, should these not have survived.
            self.end_journalled(cx);
        }
    }

    /// Ends without pictures; does nothing if it is ending already.
    pub(in crate::engine::jobs) fn fail(&mut self, failure: Failure, cx: &mut Context<'_>) {
        let purchase = cx.purchase;
        let record = Record::Failed { purchase, failure: failure.clone(), at: cx.now.timestamp };
        if self.begin_to_fail(failure, cx) {
            cx.append(record, Step::End(purchase));
        }
    }

    /// Ends without pictures and without a record: its intent could not be journalled. A purchase that the upstream has
    /// taken all the same, before its last byte, is followed from memory.
    pub(in crate::engine::jobs) fn fail_unrecorded(&mut self, failure: Failure, cx: &mut Context<'_>) {
        let is_taken = matches!(self.state, State::Accepting { .. } | State::Polling(_) | State::Collecting(_));
        if !is_taken && self.begin_to_fail(failure, cx) {
            self.end_journalled(cx);
        }
    }

    fn begin_to_fail(&mut self, failure: Failure, cx: &mut Context<'_>) -> bool {
        let purchase = cx.purchase;
        let since = match &self.state {
            State::Ending(_) | State::Ended(_) => return false,
            State::Polling(accepted) => accepted.accepted,
            _ => cx.now.instant,
        };
        let upstream = self.state.upstream().cloned();
        cx.push(Effect::EndSubmits { purchase });
        cx.push(Effect::ReleaseInFlight { purchase });
        self.state = State::Ending(Ending { end: PurchaseEnd::Failure(failure), upstream, since });
        true
    }

    /// Accounts for the end and shows it. An end that could not be journalled is shown all the same: the pictures are
    /// delivered, and the next start repeats a failure.
    pub(in crate::engine::jobs) fn end_journalled(&mut self, cx: &mut Context<'_>) {
        let State::Ending(Ending { end, upstream, since }) = &mut self.state else { return };
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
            cx.push(Effect::Publish { job, news: News::Result(result) });
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
