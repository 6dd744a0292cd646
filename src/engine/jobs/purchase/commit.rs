//! When the last byte of a submit leaves, after which it may cost money.

use super::submit::ACCEPTED_AFTER;
use super::{Context, Intent, LastByte, Purchase, SentFormat, State, Submit};
use crate::engine::jobs::event::{Effect, Step};
use crate::model::ApiKind;
use crate::storage::journal::Record;

impl Purchase {
    /// Journals that the last byte is about to leave.
    pub(in crate::engine::jobs) fn uploaded(&mut self, cx: &mut Context<'_>) {
        let (purchase, submit) = (cx.purchase, self.attempts.submits);
        if let State::Submitting(Submit { sent, last_byte: last_byte @ LastByte::Held, .. }) = &mut self.state {
            *last_byte = LastByte::AwaitsCommit;
            let SentFormat { subject, format } = &*sent;
            let record = Record::Committing {
                purchase,
                account: subject.account.clone(),
                api_kind: format.method.api_kind(),
                format: format.describe(),
                at: cx.now.timestamp,
            };
            cx.append(record, Step::Commit { purchase, submit });
        } else {
            cx.push(Effect::SendLastByte { purchase, send: false });
        }
    }

    /// Lets the last byte of a submit leave once its commit record is durable, and the intent too: a journal that is
    /// locked for a moment does not write one record and writes the next. If that submit has ended, there is no byte to
    /// let.
    pub(in crate::engine::jobs) fn commit_journalled(&mut self, submit: u32, durable: bool, cx: &mut Context<'_>) {
        if let State::Submitting(Submit { sent, last_byte: last_byte @ LastByte::AwaitsCommit, .. }) = &mut self.state
            && submit == self.attempts.submits
        {
            *last_byte = match (durable, cx.job.intent) {
                (true, Intent::Durable) => release(sent, cx),
                (true, Intent::Appended) => LastByte::AwaitsIntent,
                (true, Intent::NotWritten) | (false, _) => {
                    cx.push(Effect::SendLastByte { purchase: cx.purchase, send: false });
                    LastByte::Held
                }
            };
        }
    }

    /// Lets the last byte leave that waits for the intent alone.
    pub(in crate::engine::jobs) fn intent_journalled(&mut self, cx: &mut Context<'_>) {
        if let State::Submitting(Submit { sent, last_byte: last_byte @ LastByte::AwaitsIntent, .. }) = &mut self.state {
            *last_byte = release(sent, cx);
        }
    }
}

fn release(sent: &SentFormat, cx: &mut Context<'_>) -> LastByte {
    cx.push(Effect::SendLastByte { purchase: cx.purchase, send: true });
    let assume_at = (sent.format.method.api_kind() == ApiKind::OpenAi).then(|| cx.now.instant + ACCEPTED_AFTER);
    if let Some(at) = assume_at {
        cx.timers.set(at, cx.purchase.job);
    }
    LastByte::Released { at: cx.now.instant, assume_at }
}
