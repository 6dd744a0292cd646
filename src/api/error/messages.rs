//! The messages of failures, and the only place that cleans foreign text before a client sees it.
//!
//! A message says what happened, whether it cost money, and what to do, in at most two sentences.

use std::time::Duration;

use super::table::SHORT_PAUSE;
use crate::model::catalogue::quoted_list;
use crate::model::{Failure, JobId, Limit};

/// Longest message of the upstream that is passed on, in characters.
const MESSAGE_CHARS_MAX: usize = 500;
/// Most names of fields that a message repeats.
const FIELDS_SHOWN: usize = 10;
/// Longest value of a client that is repeated to it, in characters.
const VALUE_CHARS_MAX: usize = 100;

/// Clips foreign text and replaces every character that breaks the line, steers a terminal, or changes the direction of
/// writing.
fn clean(text: &str, chars_max: usize) -> String {
    let mut clean = String::new();
    for (count, c) in text.chars().enumerate() {
        if count == chars_max {
            clean.push('…');
            break;
        }
        clean.push(if is_invisible(c) { ' ' } else { c });
    }
    clean.trim().to_owned()
}

/// Whether a character shows nothing and steers what is shown.
pub(in crate::api) fn is_invisible(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// Cleans a client's own value, to be repeated to it.
pub(in crate::api) fn clean_value(text: &str) -> String {
    clean(text, VALUE_CHARS_MAX)
}

/// Cleans a whole message of foreign origin.
pub(super) fn clean_message(text: &str) -> String {
    clean(text, MESSAGE_CHARS_MAX)
}

/// Suggests a name, between two texts; empty without one.
pub(super) fn did_you_mean(before: &str, nearest: Option<&str>, after: &str) -> String {
    nearest.map(|name| format!("{before}Did you mean '{name}'?{after}")).unwrap_or_default()
}

pub(super) fn list(values: &[String]) -> String {
    quoted_list(values.iter().cloned())
}

pub(super) fn megabytes(bytes: u64) -> String {
    if bytes < 1_000_000 { format!("{bytes} bytes") } else { format!("{} MB", bytes / 1_000_000) }
}

/// Returns whole seconds, rounded up: a client that waits this long must be accepted.
pub(super) fn whole_seconds(pause: Duration) -> u64 {
    pause.as_secs() + u64::from(pause.subsec_nanos() > 0)
}

/// Writes whole seconds with their unit.
pub(super) fn seconds(pause: Duration) -> String {
    format!("{} s", whole_seconds(pause))
}

/// Writes what the upstream said, as a clause to append.
fn quoted(message: &str) -> String {
    match clean_message(message) {
        text if text.is_empty() => ".".to_owned(),
        text => format!("; the image service said: {text}"),
    }
}

/// Writes a technical cause, as a clause to append.
fn cause(message: &str) -> String {
    match clean_message(message) {
        text if text.is_empty() => ".".to_owned(),
        text => format!("; cause: {text}."),
    }
}

/// Returns the message for a job that brought no picture.
pub(super) fn of_failure(failure: &Failure, job: Option<JobId>) -> String {
    let job = job.map(|job| format!(" (job {job})")).unwrap_or_default();
    match failure {
        Failure::Moderated { message, bought } => {
            let cost = if *bought { format!("It may have cost money{job}") } else { "Nothing was bought".to_owned() };
            format!("Your request was rejected by the safety system. {cost}{}", quoted(message))
        }
        Failure::InvalidRequest { message } => {
            format!("The image service refused the request. Nothing was bought{}", quoted(message))
        }
        // The message may quote the key or the balance, which are the operator's.
        Failure::KeyRefused { message: _ } => "The image service refused the gateway's own key. Nothing was bought; the \
                                               gateway's operator has to replace the key."
            .to_owned(),
        Failure::BalanceExhausted { message: _ } => {
            "The gateway's account at the image service has no credit left. Nothing was bought; the gateway's operator has \
             to add credit."
                .to_owned()
        }
        Failure::ModelUnavailable { message } => {
            format!("The image service does not offer this model at the moment. Nothing was bought{}", quoted(message))
        }
        Failure::ModelNotPermitted { message } => format!(
            "The image service does not offer this model to the gateway's account. Nothing was bought; use another model{}",
            quoted(message)
        ),
        Failure::EdgeRefused { code, .. } => {
            let number = code.map(|code| format!(" (error {code})")).unwrap_or_default();
            format!(
                "The network edge in front of the image service refused the gateway's call{number}. Nothing was bought; the \
                 gateway's operator has to change its exit address or its proxy."
            )
        }
        Failure::LinkNotFetched { message, bought: false } => {
            format!("An input picture could not be fetched from its address. Nothing was bought{}", cause(message))
        }
        Failure::LinkNotFetched { message: _, bought: true } => format!(
            "The image service could not fetch an input picture from the address in your request. It may have cost \
             money{job}; send the picture itself, as a file or a data URL."
        ),
        Failure::TaskFailed { message } => {
            format!("The image generation failed. It may have cost money{job}{}", quoted(message))
        }
        Failure::ResultLost { message } => format!(
            "The image service finished, but its result could not be fetched. It may have cost money{job}{}",
            cause(message)
        ),
        Failure::OutcomeUnknown { message } => {
            let cause = match clean_message(message) {
                text if text.is_empty() => String::new(),
                text => format!(" ({text})"),
            };
            format!(
                "The request was sent to the image service and no usable answer came back{cause}: it may have cost money{job} \
                 and is not sent again. The same request gets this answer for a while; to buy it again, send \
                 'Cache-Control: no-cache' or a new Idempotency-Key."
            )
        }
        Failure::DeadlineExceeded => format!(
            "The image service accepted the request and did not finish it in time. It may have cost money{job}."
        ),
        Failure::Unreachable { message } => {
            format!("The image service could not be reached. Nothing was bought{}", cause(message))
        }
        Failure::Throttled { retry_after } => {
            unbought("Rate limit exceeded at the image service.", "retry", *retry_after)
        }
        Failure::QueueFull { retry_after } | Failure::Overloaded { retry_after } => {
            unbought("The gateway is overloaded.", "retry", *retry_after)
        }
        Failure::Outpaced { retry_after } => {
            let what = "Your own queued requests would delay this one past its time limit.";
            unbought(what, "retry", *retry_after)
        }
        Failure::LimitExceeded { limit, retry_after } => over_limit(*limit, *retry_after),
        Failure::JournalUnavailable => {
            unbought("The gateway cannot record purchases at the moment.", "retry", SHORT_PAUSE)
        }
        Failure::DiskFull => {
            unbought("The gateway's disk has no room for another picture.", "retry", SHORT_PAUSE)
        }
        Failure::KeyReused => {
            "This Idempotency-Key was used for a different request. Nothing was bought; use a new key.".to_owned()
        }
        Failure::Stopping => "The gateway is stopping. Nothing was bought; retry the request.".to_owned(),
        Failure::Abandoned => "The request was cancelled while it was queued. Nothing was bought.".to_owned(),
    }
}

/// Returns the message for a limit that the gateway's operator has set for this client.
fn over_limit(limit: Limit, retry_after: Duration) -> String {
    let (what, then) = match limit {
        Limit::RequestsPerMinute => ("You have reached your limit of requests per minute.", "retry"),
        Limit::RequestsAtOnce => ("You have reached your limit of concurrent requests.", "retry"),
        Limit::PredictionsAtOnce => ("You have reached your limit of concurrent predictions.", "retry"),
        Limit::PicturesPerDay => ("You exceeded your current quota of pictures per day.", RENEWED),
        Limit::UsdPerDay => ("You exceeded your current quota of money per day.", RENEWED),
        Limit::UsdPerMonth => ("You exceeded your current quota of money per month.", RENEWED),
    };
    unbought(what, then, retry_after)
}

const RENEWED: &str = "the quota is renewed";

fn unbought(what: &str, then: &str, after: Duration) -> String {
    format!("{what} Nothing was bought; {then} after {}.", seconds(after))
}

/// Says which fields a request has, where one is missing.
pub(super) fn only_fields(fields: &[String]) -> String {
    if fields.is_empty() {
        return " Your request has no fields.".to_owned();
    }
    let more = fields.len().saturating_sub(FIELDS_SHOWN);
    let shown: Vec<String> = fields.iter().take(FIELDS_SHOWN).map(|name| clean_value(name)).collect();
    let more = if more == 0 { String::new() } else { format!(", and {more} more") };
    format!(" Your request has only {}{more}.", quoted_list(shown))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_is_clipped_and_steers_nothing() {
        assert_eq!(clean("a\x1b[31mb\r\nc\u{202e}d", 100), "a [31mb  c d");
        assert_eq!(clean_message(&"é".repeat(600)).chars().count(), 501);
        assert_eq!(quoted("  \n "), ".");
    }
}
