//! The longer messages of [`super::ApiError`], and what makes foreign text fit to be shown.

use crate::model::catalogue::quoted_list;
use crate::model::{Failure, JobId, Limit, UpstreamId};

/// Longest text of the upstream that is passed on, in characters.
const UPSTREAM_CHARS_MAX: usize = 500;
/// Longest value of a client that is repeated to it, in characters.
const VALUE_CHARS_MAX: usize = 100;

/// Text that somebody else wrote: clipped, on one line, without characters that steer a terminal or turn the direction
/// of writing.
fn clean(text: &str, chars_max: usize) -> String {
    let mut clean = String::new();
    for (count, c) in text.chars().enumerate() {
        if count == chars_max {
            clean.push('…');
            break;
        }
        let steers = c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}');
        clean.push(if steers { ' ' } else { c });
    }
    clean.trim().to_owned()
}

/// A client's own value, repeated to it.
pub(super) fn value(text: &str) -> String {
    clean(text, VALUE_CHARS_MAX)
}

/// A whole message of somebody else.
pub(super) fn foreign(text: &str) -> String {
    clean(text, UPSTREAM_CHARS_MAX)
}

pub(super) fn list(values: &[String]) -> String {
    quoted_list(values.iter().cloned())
}

pub(super) fn megabytes(bytes: u64) -> String {
    if bytes < 1_000_000 { format!("{bytes} bytes") } else { format!("{} MB", bytes / 1_000_000) }
}

/// The upstream's names for what goes on, as a bracket to append.
pub(super) fn named(predictions: &[UpstreamId]) -> String {
    if predictions.is_empty() {
        return String::new();
    }
    let names: Vec<&str> = predictions.iter().map(UpstreamId::as_str).collect();
    format!(" (prediction {})", names.join(", "))
}

/// What the upstream said, as a sentence to append.
fn said(message: &str) -> String {
    match foreign(message) {
        text if text.is_empty() => String::new(),
        text => format!(" The image service said: {text}"),
    }
}

/// What went wrong on the way, as a sentence to append.
fn detail(message: &str) -> String {
    match foreign(message) {
        text if text.is_empty() => String::new(),
        text => format!(" What happened: {text}."),
    }
}

/// What a client is told about an order that brought no picture.
pub(super) fn of_failure(failure: &Failure, job: Option<JobId>) -> String {
    let sentence = match failure {
        Failure::Moderated { .. } => "Your request was rejected by the safety system.",
        Failure::InvalidRequest { .. } => "The image service refused the request.",
        Failure::KeyRefused { .. } => {
            "The image service refused the gateway's own key. This is for the gateway's operator to put right; \
             nothing was bought."
        }
        Failure::BalanceExhausted { .. } => {
            "The gateway's account at the image service has no credit left. This is for the gateway's operator to \
             put right; nothing was bought."
        }
        Failure::ModelUnavailable { .. } => {
            "The image service does not offer this model at the moment; nothing was bought."
        }
        Failure::TaskFailed { .. } => "The image generation failed.",
        Failure::ResultLost { .. } => "The image service finished, but its result could not be fetched.",
        Failure::OutcomeUnknown { .. } => {
            "The request was sent and no usable answer came back: it may have been accepted and paid for, so it is \
             not sent again, and the same request gets this answer for a while. To buy all the same, send \
             Cache-Control: no-cache or a new Idempotency-Key."
        }
        Failure::DeadlineExceeded => "The image service accepted the request and did not finish it in time.",
        Failure::Unreachable { .. } => "The image service could not be reached; nothing was bought.",
        Failure::Throttled { .. } => {
            "Rate limit exceeded at the image service; nothing was bought. Please try again later."
        }
        Failure::QueueFull { .. } | Failure::Overloaded { .. } => {
            "The gateway is overloaded; nothing was bought. Please try again later."
        }
        Failure::Outpaced { .. } => {
            "Rate limit exceeded: so many of your own requests wait that this one would not be ready before it has to \
             be answered; nothing was bought. Please try again later."
        }
        Failure::LimitExceeded { limit, .. } => over_limit(*limit),
        Failure::JournalUnavailable => "The gateway cannot record purchases at the moment, so it makes none.",
        Failure::DiskFull => "The gateway's disk has no room for another picture; nothing was bought.",
        Failure::KeyReused => {
            "This Idempotency-Key was used for a request with other contents; nothing was bought. Use a new key."
        }
        Failure::Stopping => "The gateway stopped before anything was bought. Please try again.",
        Failure::Abandoned => "The request was given up while it waited; nothing was bought.",
    };
    let said = match failure {
        Failure::Moderated { message, .. }
        | Failure::InvalidRequest { message }
        | Failure::ModelUnavailable { message }
        | Failure::TaskFailed { message } => said(message),
        // What broke may be the way there, so these are nobody's words.
        Failure::ResultLost { message } | Failure::OutcomeUnknown { message } | Failure::Unreachable { message } => {
            detail(message)
        }
        // The operator's matters: such a message may quote the key or the balance.
        Failure::KeyRefused { .. }
        | Failure::BalanceExhausted { .. }
        // These have none.
        | Failure::DeadlineExceeded
        | Failure::Throttled { .. }
        | Failure::QueueFull { .. }
        | Failure::Overloaded { .. }
        | Failure::Outpaced { .. }
        | Failure::LimitExceeded { .. }
        | Failure::JournalUnavailable
        | Failure::DiskFull
        | Failure::KeyReused
        | Failure::Stopping
        | Failure::Abandoned => String::new(),
    };
    let job = job.filter(|_| failure.may_have_been_bought()).map(|job| format!(" (order {job})")).unwrap_or_default();
    format!("{sentence}{said}{job}")
}

/// What a client is told about a limit that the gateway's operator has set for it.
fn over_limit(limit: Limit) -> &'static str {
    match limit {
        Limit::RequestsPerMinute => {
            "Rate limit exceeded: your requests a minute at this gateway are used up; nothing was bought. Please try \
             again later."
        }
        Limit::RequestsAtOnce => {
            "Rate limit exceeded: as many of your requests as may be at once are being answered by this gateway already; \
             nothing was bought. Please try again when one of them is done."
        }
        Limit::PredictionsAtOnce => {
            "Rate limit exceeded: this request and what is being made for you already would be more predictions at \
             once than this gateway makes for you; nothing was bought. Please try again when one of them is done."
        }
        Limit::PicturesPerDay => {
            "You exceeded your current quota: this request does not fit into what is left of the pictures that this \
             gateway makes for you in a day; nothing was bought."
        }
        Limit::UsdPerDay => {
            "You exceeded your current quota: this request does not fit into what is left of the money that this \
             gateway spends for you in a day; nothing was bought."
        }
        Limit::UsdPerMonth => {
            "You exceeded your current quota: this request does not fit into what is left of the money that this \
             gateway spends for you in a month; nothing was bought."
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_is_clipped_and_steers_nothing() {
        assert_eq!(clean("a\x1b[31mb\r\nc\u{202e}d", 100), "a [31mb  c d");
        assert_eq!(foreign(&"é".repeat(600)).chars().count(), 501);
        assert_eq!(said("  \n "), "");
    }
}
