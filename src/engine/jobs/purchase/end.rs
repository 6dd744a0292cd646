//! The end of a purchase.

use std::time::Instant;

use super::refetch::not_restored;
use super::{Accounting, Context, PendingEnd, Purchase, PurchaseEnd, SentFormat, State};
use crate::engine::jobs::event::{Effect, EndedPurchase, Fetched, ProgressChange, RefetchResult};
use crate::model::{Failure, Usd};
use crate::upstream::PurchaseHandle;
use crate::upstream::formats::FormatProblem;

impl Purchase {
    /// Ends without pictures; does nothing if it is ending already.
    pub(in crate::engine::jobs) fn fail(&mut self, failure: Failure, cx: &mut Context<'_>) {
        if self.state.end().is_some() {
            return;
        }
        let purchase = cx.purchase;
        cx.formats.no_verdict(purchase);
        let since = if let State::Collecting(immediate) = &self.state {
            immediate.since
        } else {
            self.state.polled().map_or(cx.now.instant, |accepted| accepted.at)
        };
        let upstream = self.state.upstream().cloned();
        if self.state.polled().is_some_and(|accepted| accepted.refetch.is_some()) {
            let end = PurchaseEnd::NotRestored(not_restored(failure.text()));
            let accounting = Accounting::Refetched(RefetchResult::Lost);
            let contents = Vec::new();
            let end = PendingEnd { end, contents, upstream, poll_url: None, since, recordable: false, accounting };
            return self.enter_recorded(State::Ending(end), cx);
        }
        // Nothing was bought by the last submit, and may have been by an earlier one.
        let is_lost = self.answer_lost && !failure.may_have_been_bought();
        let (failure, accounting) =
            if is_lost { (lost_earlier(&failure), Accounting::CountedAsLost) } else { (failure, Accounting::Due) };
        let end = PurchaseEnd::Failure(failure);
        let contents = Vec::new();
        let end = PendingEnd { end, contents, upstream, poll_url: None, since, recordable: true, accounting };
        cx.push(Effect::EndSubmits { purchase });
        cx.push(Effect::ReleaseInFlight { purchase });
        self.enter_recorded(State::Ending(end), cx);
    }

    /// Ends with pictures that are stored. Pictures that the upstream made without looking at the inputs say something
    /// about the format that these were sent in.
    pub(super) fn resolve(
        &mut self,
        handle: Option<PurchaseHandle>,
        fetched: Fetched,
        since: Instant,
        sent: Option<SentFormat>,
        cx: &mut Context<'_>,
    ) {
        let Fetched { pictures, contents, usage, durable, .. } = fetched;
        let (upstream, poll_url) = handle.map(|handle| (handle.id, handle.poll_url)).unzip();
        let counted = usage.is_some_and(|usage| usage.input_tokens > 0);
        let end = PurchaseEnd::Pictures { upstream: upstream.clone(), pictures, usage, at: cx.now.timestamp };
        if let Some(SentFormat { subject, format }) = sent {
            let at = cx.now.timestamp;
            if end.missed_inputs(cx.job.record.inputs) {
                cx.formats.suspect(&subject, &format, FormatProblem::InputsUnseen, at);
            } else {
                cx.formats.delivered(&subject, &format, counted, at);
            }
        }
        let poll_url = poll_url.flatten();
        let accounting = Accounting::Due;
        let end = PendingEnd { end, contents, upstream, poll_url, since, recordable: durable, accounting };
        self.enter_recorded(State::Ending(end), cx);
    }
}

/// Returns the unknown outcome of a purchase whose earlier submit has no answer, and whose last one ended with this failure.
fn lost_earlier(last: &Failure) -> Failure {
    let message = format!("an earlier submit has no answer, and the last one failed: {}", last.text());
    Failure::OutcomeUnknown { message }
}

/// Accounts for the end and shows it.
pub(super) fn show_end(
    one: &mut Purchase,
    PendingEnd { end, upstream, since, accounting, .. }: PendingEnd,
    cx: &mut Context<'_>,
) {
    let job = cx.purchase.job;
    if let Some(result) = end.result(cx.job.record.inputs) {
        cx.push(Effect::Publish { job, change: ProgressChange::Result(result) });
    }
    if let Accounting::Refetched(result) = accounting {
        cx.push(Effect::EndRefetch { purchase: cx.purchase, upstream, result });
        one.state = State::Ended(end);
        return;
    }
    let (result, usd, charge) = match &end {
        PurchaseEnd::Pictures { pictures, usage, .. } => {
            let usd = cx.rules.price_of(cx.job.record, pictures.len(), usage.as_ref());
            (Ok(pictures.len()), usd, (pictures.len(), usd.unwrap_or_default()))
        }
        PurchaseEnd::Failure(failure) | PurchaseEnd::NotRestored(failure) => {
            let usd = cx.rules.price(cx.job.record, one.pictures);
            // A purchase that may have been paid for counts as paid.
            let charge = if failure.may_have_been_bought() {
                (usize::from(one.pictures), usd.unwrap_or_default())
            } else {
                (0, Usd::default())
            };
            (Err(failure.clone()), usd, charge)
        }
    };
    cx.push(Effect::EndPurchase(Box::new(EndedPurchase {
        purchase: cx.purchase,
        record: cx.job.record.clone(),
        upstream,
        result,
        inputs_unseen: end.missed_inputs(cx.job.record.inputs),
        took: cx.now.instant.saturating_duration_since(since),
        usd,
        counted: accounting == Accounting::CountedAsLost,
        charge,
    })));
    one.state = State::Ended(end);
}
