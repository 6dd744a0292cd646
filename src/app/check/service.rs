//! Questions to the service that cost nothing: does it accept the key, what does it offer, can its pictures be fetched.

use std::collections::BTreeSet;

use super::super::key_query::{KeyAnswer, ask_about_key};
use super::dns;
use super::fields;
use super::report::{EXIT_ADVICE, KEY_ADVICE, Row, Section, Verdict};
use crate::config::{Account, Config};
use crate::model::{Clock, SystemClock, Timestamp};
use crate::upstream::formats::AuthStyle;
use crate::upstream::{EdgeRefusal, GptProto, QueryAnswer};

/// A larger difference of the clocks is reported, in seconds.
const SKEW_MAX_S: u64 = 60;

/// Adds a row for each answer of the service.
pub(super) async fn check(config: &Config, upstream: &GptProto, section: &mut Section) {
    for account in &config.accounts {
        let answers = key(config, upstream, account, section).await;
        if account.id != config.accounts[0].id {
            continue;
        }
        // The rest is the same for every account.
        if let Some(answer) = &answers.accepted {
            clock(answer.time, section);
            listed_models(config, answer, section);
            fields::check(config, upstream, account, answers.auth, section).await;
        }
        if answers.reached {
            unknown_prediction(upstream, account, answers.auth, section).await;
        }
    }
    dns::check(config, upstream, section).await;
}

/// What the service says of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyVerdict {
    Accepted,
    Refused,
    /// The service was not reached, or did not say.
    Unchecked,
}

/// Asks about the first account's key.
pub(super) async fn check_key(config: &Config, upstream: &GptProto) -> (KeyVerdict, String) {
    let mut section = Section::default();
    let answers = key(config, upstream, &config.accounts[0], &mut section).await;
    let verdict = if answers.accepted.is_some() {
        KeyVerdict::Accepted
    } else if answers.reached && section.worst() == Verdict::Fault {
        KeyVerdict::Refused
    } else {
        KeyVerdict::Unchecked
    };
    (verdict, section.rows.into_iter().map(|row| row.seen).collect::<Vec<_>>().join("; "))
}

/// What the questions about one key have shown.
struct KeyAnswers {
    auth: AuthStyle,
    accepted: Option<QueryAnswer>,
    reached: bool,
}

/// Asks for the list of models with one account's key.
async fn key(config: &Config, upstream: &GptProto, account: &Account, section: &mut Section) -> KeyAnswers {
    // The name of the only account adds nothing.
    let of = if config.accounts.len() > 1 { format!(" of {}", account.id) } else { String::new() };
    let base = &config.upstream.base_url;
    let fault = |seen: String, advice: &str| Row::new(Verdict::Fault, "upstream", seen, advice);
    let mut answers = KeyAnswers { auth: AuthStyle::Bearer, accepted: None, reached: true };
    match ask_about_key(upstream, &account.id).await {
        KeyAnswer::Unreachable(problem) => {
            answers.reached = false;
            section.add(fault(
                format!("{base} cannot be reached: {problem}"),
                "see that this machine may connect there, and upstream.base_url",
            ));
        }
        KeyAnswer::EdgeRefused(page) => {
            answers.reached = false;
            section.add(fault(format!("Cloudflare refuses this machine's address{}", describe(&page)), EXIT_ADVICE));
        }
        KeyAnswer::Accepted(answer, AuthStyle::Bearer) => {
            let seen = format!("{base} accepts the key{of} (listed its models, which costs nothing)");
            section.add(Row::good("upstream", seen));
            answers.accepted = Some(answer);
        }
        KeyAnswer::Accepted(answer, AuthStyle::Raw) => {
            section.add(Row::new(
                Verdict::Warning,
                "upstream",
                format!("{base} accepts the key{of} only by itself, without \"Bearer\""),
                "nothing: the gateway finds that out with its first purchase, and remembers it",
            ));
            (answers.auth, answers.accepted) = (AuthStyle::Raw, Some(answer));
        }
        KeyAnswer::Refused(reason) => {
            section.add(fault(format!("{base} refuses the key{of}: {reason}"), KEY_ADVICE));
        }
        KeyAnswer::Unclear(status) => section.add(Row::new(
            Verdict::Warning,
            "upstream",
            format!("{base} did not list its models (HTTP {status}), so the key{of} is not checked"),
            "pictures may work all the same: check --live proves it",
        )),
    }
    answers
}

fn describe(page: &EdgeRefusal) -> String {
    let code = page.code.map_or_else(|| " (".to_owned(), |code| format!(" (error {code}"));
    match (&page.ray, page.code) {
        (Some(ray), Some(_)) => format!("{code}, ray {ray})"),
        (Some(ray), None) => format!("{code}ray {ray})"),
        (None, Some(_)) => format!("{code})"),
        (None, None) => String::new(),
    }
}

fn clock(upstream_time: Option<Timestamp>, section: &mut Section) {
    let now = SystemClock.now();
    section.add(match upstream_time.map(|time| now.since(time).max(time.since(now)).as_secs()) {
        Some(skew) if skew > SKEW_MAX_S => Row::new(
            Verdict::Warning,
            "clock",
            format!("differs from the upstream's by {skew} s"),
            "synchronise this machine's clock",
        ),
        Some(skew) => Row::good("clock", format!("within {} s of the upstream's", skew + 1)),
        None => Row::note("clock", "not compared: the upstream sent no time"),
    });
}

/// Compares the list with the catalogue. The shape of the list is not on record, so an unreadable one proves nothing.
fn listed_models(config: &Config, answer: &QueryAnswer, section: &mut Section) {
    let Some(list) = answer.json() else { return };
    let items = list.get("data").unwrap_or(&list).as_array().cloned().unwrap_or_default();
    let names: BTreeSet<&str> = items.iter().filter_map(|item| item.get("id").unwrap_or(item).as_str()).collect();
    if names.is_empty() {
        section.add(Row::note("models", "the list of models is empty or has another form than expected"));
        return;
    }
    let api_kinds = config.upstream.api.api_kinds();
    let ours = config.catalogue.models.iter().filter(|model| model.is_available(api_kinds));
    let known = |name: &str| names.iter().any(|listed| *listed == name || listed.ends_with(&format!("/{name}")));
    let missing: Vec<&str> = ours.map(|model| model.id.as_str()).filter(|name| !known(name)).collect();
    section.add(if missing.is_empty() {
        Row::good("models", "the upstream lists every model of the catalogue")
    } else {
        Row::note("models", format!("not in the upstream's list: {}", missing.join(", ")))
    });
}

/// Notes how the service answers for a prediction that it does not have.
async fn unknown_prediction(upstream: &GptProto, account: &Account, auth: AuthStyle, section: &mut Section) {
    let id = format!("{:032x}", rand::random::<u128>());
    let path = format!("/api/v3/predictions/{id}/result");
    section.add(match upstream.query(&account.id, auth, &path, None).await {
        Ok(answer) if matches!(answer.status, 401 | 403) => {
            Row::note("unknown id", format!("not shown: the query is refused with HTTP {}", answer.status))
        }
        Ok(answer) => {
            let text = answer.message().unwrap_or_else(|| "no readable text".to_owned());
            Row::good(
                "unknown id",
                format!("a result that does not exist is answered with HTTP {}: {text}", answer.status),
            )
        }
        Err(problem) => Row::note("unknown id", format!("no answer to the query of a result: {problem}")),
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edge_page_is_described_by_what_is_known_of_it() {
        let page = |code, ray: Option<&str>| describe(&EdgeRefusal { code, ray: ray.map(str::to_owned) });
        assert_eq!(page(Some(1010), Some("8f")), " (error 1010, ray 8f)");
        assert_eq!(page(Some(1010), None), " (error 1010)");
        assert_eq!(page(None, Some("8f")), " (ray 8f)");
        assert_eq!(page(None, None), "");
    }
}
