//! What a purchase showed, row by row. Pure: from facts to verdicts.

use super::observed::{Observed, ObservedSubmit};
use super::picture::Measurement;
use super::shape;
use crate::app::check::report::{EXIT_ADVICE, KEY_ADVICE, Row, Verdict};
use crate::model::{Failure, Size, StoredPicture, Usage, Usd};
use crate::upstream::formats::{AuthStyle, InputMethod};
use crate::upstream::{ExchangeKind, Observation, Output};

/// What is known of a purchase that has ended with a picture.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) observed: Observed,
    /// The method that the configuration prefers.
    pub(super) preferred: InputMethod,
    pub(super) masked: bool,
    pub(super) size: Size,
    pub(super) picture: StoredPicture,
    /// Why the picture cannot be decoded, otherwise.
    pub(super) halves: Result<Measurement, String>,
    pub(super) usage: Option<Usage>,
    /// By the reported tokens.
    pub(super) usd: Option<Usd>,
    pub(super) estimate: Usd,
}

/// Returns the rows of a purchase that has ended with a picture.
pub(super) fn rows(facts: &Facts) -> Vec<Row> {
    let observed = &facts.observed;
    let mut rows = Vec::new();
    // Without a submit, the purchase of an earlier check was followed.
    if let Some(accepted) = observed.submits.iter().rfind(|submit| submit.refusal.is_none()) {
        rows.push(auth(accepted));
        rows.push(input_method(accepted, observed, facts.preferred));
    }
    rows.extend(submit_answer(&observed.exchanges));
    rows.extend(polls(&observed.exchanges));
    rows.extend(input_seen(facts));
    rows.push(output(facts));
    rows.push(size(facts));
    rows.push(price(facts));
    rows
}

/// Returns the row of a purchase that ended without a picture. `ids`: what names it at the gateway and the upstream.
pub(super) fn failed(failure: &Failure, text: &str, ids: &str) -> Row {
    let name = failure.name().replace('_', " ");
    let seen = if name == text { name } else { format!("{name}: {text}") };
    if matches!(failure, Failure::OutcomeUnknown { .. }) {
        let advice =
            "look it up in the vendor's usage list, then `gptproto-gateway ledger resolve`; do not repeat it before";
        return Row::new(Verdict::Unresolved, "purchase", format!("{ids}: maybe bought; {seen}"), advice);
    }
    if failure.may_have_been_bought() {
        let advice = "see `gptproto-gateway ledger show`, and ask the vendor with the upstream's id";
        return Row::new(Verdict::Unresolved, "purchase", format!("{ids}: paid without a picture; {seen}"), advice);
    }
    Row::new(Verdict::Fault, "purchase", format!("nothing was bought; {seen}"), refusal_advice(failure))
}

fn refusal_advice(failure: &Failure) -> &'static str {
    match failure {
        Failure::KeyRefused { .. } => KEY_ADVICE,
        Failure::BalanceExhausted { .. } => "top up the account",
        Failure::EdgeRefused { .. } => EXIT_ADVICE,
        Failure::ModelNotPermitted { .. } => "try another model (--model), or have the account permitted for this one",
        Failure::ModelUnavailable { .. } => "try another model (--model), or later",
        Failure::Unreachable { .. } => "see that this machine may connect to upstream.base_url",
        Failure::InvalidRequest { .. } => "try --all-input-methods, or another model (--model)",
        Failure::DiskFull | Failure::JournalUnavailable => "free space in storage.directory, then repeat the check",
        Failure::Moderated { .. }
        | Failure::LinkNotFetched { .. }
        | Failure::TaskFailed { .. }
        | Failure::ResultLost { .. }
        | Failure::OutcomeUnknown { .. }
        | Failure::DeadlineExceeded
        | Failure::Throttled { .. }
        | Failure::QueueFull { .. }
        | Failure::Overloaded { .. }
        | Failure::Outpaced { .. }
        | Failure::LimitExceeded { .. }
        | Failure::KeyReused
        | Failure::Stopping
        | Failure::Abandoned => "repeat the check later",
    }
}

/// Lists the submits that were refused, with their texts.
pub(super) fn refusals(observed: &Observed) -> Vec<String> {
    let refused =
        |submit: &ObservedSubmit| submit.refusal.as_ref().map(|text| format!("{} ({text})", submit.format.describe()));
    observed.submits.iter().filter_map(refused).collect()
}

fn auth(accepted: &ObservedSubmit) -> Row {
    match accepted.format.auth {
        AuthStyle::Bearer => Row::good("key", "sent as \"Bearer\", accepted"),
        AuthStyle::Raw => Row::new(
            Verdict::Warning,
            "key",
            "accepted only by itself, without \"Bearer\"",
            "nothing: the gateway remembers it",
        ),
    }
}

fn input_method(accepted: &ObservedSubmit, observed: &Observed, preferred: InputMethod) -> Row {
    let used = accepted.format.describe();
    let refused = refusals(observed);
    if refused.is_empty() && accepted.format.is_documented(preferred) {
        return Row::good("input method", used);
    }
    let before = if refused.is_empty() && accepted.format.method == preferred {
        "; known from earlier refusals".to_owned()
    } else if refused.is_empty() {
        format!("; {} is known to be refused", preferred.name())
    } else {
        format!("; refused before, unbilled: {}", refused.join(", "))
    };
    Row::new(Verdict::Warning, "input method", used + &before, "nothing: the gateway remembers it")
}

fn submit_answer(exchanges: &[Observation]) -> Option<Row> {
    let is_accepted = |seen: &&Observation| seen.kind == ExchangeKind::Submit && seen.is_success();
    let seen = exchanges.iter().rfind(is_accepted)?;
    let (status, form) = (seen.status?, shape::describe_submit(&seen.body));
    Some(Row::good("submit answer", format!("HTTP {status} after {} ms: {form}", seen.elapsed.as_millis())))
}

fn polls(exchanges: &[Observation]) -> Option<Row> {
    let polls: Vec<&Observation> = exchanges.iter().filter(|seen| seen.kind == ExchangeKind::Poll).collect();
    let started = polls.first()?.started;
    let mut words: Vec<String> = Vec::new();
    let mut last = "";
    for poll in &polls {
        let word = shape::status(&poll.body).unwrap_or(if poll.is_success() { "no status" } else { "" });
        if word != last && !word.is_empty() {
            words.push(format!("{word} {:.1} s", (poll.started - started).as_secs_f64()));
            last = word;
        }
    }
    let throttled = polls.iter().filter(|poll| poll.status == Some(429)).count();
    let troubled = polls.iter().filter(|poll| !poll.is_success() && poll.status != Some(429)).count();
    let seen =
        format!("{} ({} polls, {throttled} answered with 429, {troubled} failed)", words.join(", "), polls.len());
    Some(match throttled + troubled {
        0 => Row::good("poll", seen),
        _ => Row::new(Verdict::Warning, "poll", seen, "where it was 429: raise upstream.poll_interval_min_ms"),
    })
}

fn input_seen(facts: &Facts) -> Vec<Row> {
    let Facts { halves, usage, masked, .. } = facts;
    let halves = match halves {
        Ok(halves) => halves,
        Err(problem) => {
            let advice = "the picture is stored; open it and see";
            return vec![Row::new(Verdict::Fault, "input seen", format!("not decided: {problem}"), advice)];
        }
    };
    let tokens = usage.and_then(|usage| usage.input_image_tokens);
    let witness = match tokens {
        Some(tokens) => format!("{tokens} picture tokens"),
        None => "picture tokens not reported".to_owned(),
    };
    let colours = format!("left {:?}, right {:?}; {witness}", halves.left, halves.right);
    let mut rows = vec![match (halves.input_was_seen(), tokens) {
        (true, Some(0)) => Row::new(
            Verdict::Warning,
            "input seen",
            format!("yes by its colours, no by its usage: {colours}"),
            "compare the bill with the usage",
        ),
        (true, _) => Row::good("input seen", format!("yes: {colours}")),
        (false, _) => Row::new(
            Verdict::Fault,
            "input seen",
            format!("no, the picture was made from the text alone: {colours}"),
            // The gateway goes by the usage, and not by colours.
            if usage.is_some_and(|usage| usage.missed_inputs(1)) {
                "repeat the check: the next purchase is sent another way (or choose one: --all-input-methods, upstream.inputs)"
            } else {
                "try --all-input-methods, and put a method that is seen first in upstream.inputs"
            },
        ),
    }];
    if *masked {
        let change = format!("{:.0} of 255 on average", halves.outside_change);
        rows.push(if halves.mask_was_kept() {
            Row::good("mask kept", format!("outside of the mask the picture changed by {change}"))
        } else {
            let seen = format!("no: outside of the mask the picture changed by {change}");
            Row::new(Verdict::Warning, "mask kept", seen, "do not rely on masks with this model")
        });
    }
    rows
}

fn output(facts: &Facts) -> Row {
    let StoredPicture { format, bytes, .. } = facts.picture;
    let format = format.media_type();
    let downloads: Vec<&Observation> =
        facts.observed.exchanges.iter().filter(|seen| seen.kind == ExchangeKind::Download).collect();
    let Some(last) = downloads.last() else {
        return Row::good("output", format!("base64 in the answer, {format}, {bytes} bytes"));
    };
    let is_redirect = |seen: &Observation| seen.status.is_some_and(|status| (300..400).contains(&status));
    let redirected = if downloads.iter().any(|seen| is_redirect(seen)) { ", redirected" } else { "" };
    let refused = downloads.iter().filter(|seen| matches!(seen.status, Some(401 | 403))).count();
    let key = if refused > 0 && last.is_success() { ", the key is needed" } else { "" };
    let declared = last.content_type.as_deref().unwrap_or("no media type");
    let kind = match facts.observed.outputs.first() {
        Some(Output::Url(address)) if address.starts_with("http://") => "http address",
        _ => "address",
    };
    let host = &last.host;
    Row::good("output", format!("{kind} on {host}{redirected}{key}, declared {declared}, is {format}, {bytes} bytes"))
}

fn size(facts: &Facts) -> Row {
    let StoredPicture { width, height, .. } = facts.picture;
    let sent = facts.observed.submits.last().and_then(|submit| submit.format.size).unwrap_or(facts.size);
    if (width, height) == (sent.width, sent.height) {
        Row::good("size", format!("{width}x{height}, as asked"))
    } else {
        let seen = format!("{width}x{height}, asked for {sent}");
        Row::new(Verdict::Warning, "size", seen, "clients get this size; ask for another one if it matters")
    }
}

fn price(facts: &Facts) -> Row {
    let Facts { usage, usd, estimate, .. } = facts;
    let Some(usage) = usage else {
        let seen = "the answer reports no usage, so the price and whether the picture was looked at are not confirmed";
        return Row::new(Verdict::Warning, "usage and price", seen, "compare the vendor's usage list");
    };
    let tokens = format!("{} input and {} output tokens", usage.input_tokens, usage.output_tokens);
    match usd {
        None => {
            Row::good("usage and price", format!("{tokens}; no token price is published, estimate ${:.3}", estimate.0))
        }
        Some(usd) if usd.0 > estimate.0 * 2.0 => Row::new(
            Verdict::Warning,
            "usage and price",
            format!("{tokens}, ${:.4}: more than twice the estimate of ${:.3}", usd.0, estimate.0),
            "correct the price in the catalogue (models.file), which quotas rely on",
        ),
        Some(usd) => Row::good("usage and price", format!("{tokens}, ${:.4} by the catalogue's prices", usd.0)),
    }
}

#[cfg(test)]
mod tests;
