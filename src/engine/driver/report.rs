//! Counts and logs the ends of purchases.

use std::time::Duration;

use crate::budget::Pushback;
use crate::engine::jobs::event::{EndedPurchase, RefetchResult};
use crate::engine::metrics::EngineMetrics;
use crate::model::{AccountId, PurchaseId, UpstreamId, Usd};
use crate::upstream::SubmitError;
use crate::upstream::formats::{FormatChange, FormatSubject};

/// Counts the end of a purchase.
pub(super) fn count_end(metrics: &EngineMetrics, ended: &EndedPurchase) {
    match &ended.result {
        Ok(pictures) => {
            metrics.resolved(&ended.record, *pictures, ended.usd, ended.took, ended.inputs_unseen);
        }
        Err(failure) => metrics.ended(failure, ended.usd.unwrap_or_default(), ended.counted),
    }
}

/// Logs the end of a purchase.
pub(super) fn log_end(ended: &EndedPurchase) {
    let EndedPurchase { purchase, record, upstream, result, took, usd, .. } = ended;
    let (client, model) = (&record.client, record.model.as_str());
    let usd = usd.map(|Usd(usd)| rounded(usd, 1e6));
    match result {
        Ok(pictures) => {
            let seconds = rounded(took.as_secs_f64(), 1000.0);
            // The line of its request has the price and the time.
            tracing::debug!(%purchase, %client, model, pictures, seconds, usd, "purchase resolved");
            if ended.inputs_unseen {
                let upstream = upstream.as_ref().map(ToString::to_string);
                tracing::warn!(
                    %purchase,
                    upstream,
                    %client,
                    model,
                    inputs = record.inputs,
                    "by its tokens, the upstream did not look at the input pictures; the result is delivered with a warning \
                     and answers no other request"
                );
            }
        }
        Err(failure) if failure.may_have_been_bought() => {
            let (upstream, failure) = (upstream.as_ref().map(ToString::to_string), failure.name());
            tracing::warn!(%purchase, upstream, %client, failure, usd, "purchase ended without a picture");
        }
        Err(failure) => {
            let failure = failure.name();
            tracing::info!(%purchase, %client, failure, "purchase ended without a picture");
        }
    }
}

/// Logs that the upstream has accepted a purchase, and when it is expected to be done.
pub(super) fn log_accepted(purchase: PurchaseId, account: &AccountId, expected: Option<Duration>) {
    if let Some(expected) = expected {
        let seconds = expected.as_secs_f64().ceil();
        tracing::info!(%purchase, %account, "purchase accepted; expected in {seconds} s");
    } else {
        tracing::info!(%purchase, %account, "purchase accepted; nothing is known of its time yet");
    }
}

/// Logs why a submit was not accepted, and what follows.
pub(super) fn log_refused_submit(
    purchase: PurchaseId,
    account: &AccountId,
    attempt: u32,
    format: &str,
    error: &SubmitError,
) {
    macro_rules! log {
        ($level:ident, $reason:expr, $text:literal) => {
            tracing::$level!(%purchase, %account, attempt, format, reason = $reason, $text)
        };
    }
    match error {
        SubmitError::NotSent { message } => {
            log!(
                warn,
                message,
                "a submit did not reach the upstream; nothing was bought, and it is repeated if attempts are left"
            );
        }
        SubmitError::Refused { pushback: Pushback::Account { .. }, message } => {
            log!(
                warn,
                message,
                "the upstream wants fewer submits of the account; nothing was bought, and the purchase waits"
            );
        }
        SubmitError::Refused { pushback: Pushback::Model { .. }, message } => {
            log!(warn, message, "the upstream cannot serve the model now; nothing was bought, and the purchase waits");
        }
        SubmitError::Refused { pushback: Pushback::Permission { reason }, .. } => {
            log!(
                warn,
                reason.text(),
                "the upstream refuses the model to the account; nothing was bought, and another account is tried if there is one"
            );
        }
        SubmitError::Refused { pushback: Pushback::Key { reason }, .. } => {
            log!(
                warn,
                reason.text(),
                "the upstream refuses the key or its balance; nothing was bought, and another account is tried if there is one"
            );
        }
        SubmitError::Rejected(failure) if failure.may_have_been_bought() => {
            log!(
                warn,
                failure.text(),
                "the upstream answered a submit with a failed task; it may have been billed, and is not repeated"
            );
        }
        SubmitError::Rejected(failure) => {
            log!(warn, failure.text(), "a submit was refused; nothing was bought, and the purchase ends");
        }
        // What is learned from it is a warning of its own.
        SubmitError::FormatRefused { failure, .. } => {
            log!(
                info,
                failure.text(),
                "the upstream refused the way in which a submit was written; nothing was bought"
            );
        }
        SubmitError::Unknown { message } => {
            log!(warn, message, "a submit has no usable answer; it may have been bought");
        }
    }
}

/// Logs that the upstream gave a purchase the id of another one.
pub(super) fn log_id_conflict(purchase: PurchaseId, upstream: &UpstreamId, other: PurchaseId) {
    tracing::error!(
        %purchase,
        %upstream,
        %other,
        "the upstream accepted a purchase under the id of another one; its outcome is taken for unknown"
    );
}

/// Logs the result of fetching stored pictures again.
pub(super) fn log_refetch(purchase: PurchaseId, upstream: Option<&UpstreamId>, result: RefetchResult) {
    let upstream = upstream.map(ToString::to_string);
    match result {
        RefetchResult::Restored => {
            tracing::warn!(%purchase, upstream, "stored pictures were damaged; they are fetched again, as they were");
        }
        RefetchResult::Replaced => {
            tracing::warn!(
                %purchase,
                upstream,
                "stored pictures were damaged, and the upstream returned them with other bytes; these take their place"
            );
        }
        RefetchResult::Lost => {
            tracing::error!(
                %purchase,
                upstream,
                "stored pictures are damaged and could not be fetched again; the request fails, and nothing is bought"
            );
        }
    }
}

/// Logs that the upstream made more outputs than were asked of a purchase.
pub(super) fn log_surplus(purchase: PurchaseId, asked: u8, surplus: usize) {
    tracing::warn!(
        %purchase,
        asked,
        surplus,
        "the upstream made more outputs than were asked for; only those that were asked for are fetched"
    );
}

/// Logs a change of what is known of request formats: the first proof for information, anything else as a warning.
pub(super) fn log_format(change: &FormatChange) {
    let FormatChange { subject, format, state, reason } = change;
    let FormatSubject { account, model, task, .. } = subject;
    let (model, task, format) = (model.as_str(), task.name(), format.describe());
    macro_rules! warn {
        ($text:literal) => {
            tracing::warn!(%account, model, task, format, state, reason, $text)
        };
    }
    match *state {
        "proven" => tracing::debug!(%account, model, task, format, "the upstream accepts a request format"),
        "refused" => warn!("the upstream refuses a request format; another one is used"),
        "suspect" => warn!("a request format is in doubt, although it is accepted; it is used after all others"),
        _ => warn!("nothing is known of a request format any more; it is tried again"),
    }
}

/// A figure for people, rounded to `parts` of one.
fn rounded(value: f64, parts: f64) -> f64 {
    (value * parts).round() / parts
}
