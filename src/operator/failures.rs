//! What a failed request means, in plain words: why it failed, whether it cost money, and the command that helps.

use serde::Serialize;

use crate::telemetry::recent::{EndedRequest, Payment, RequestOutcome};

/// A failed request, with its story.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct RecentFailure {
    #[serde(flatten)]
    pub(crate) ended: EndedRequest,
    /// Why it failed, in one clause.
    pub(crate) reason: String,
    /// Whether it cost money.
    pub(crate) money: &'static str,
    /// What to do, where something can be done.
    pub(crate) help: Option<String>,
}

impl RecentFailure {
    /// Makes the story of a request. `arguments` follow each command, so that it finds the storage of this gateway.
    pub(crate) fn of(ended: EndedRequest, arguments: &str) -> Self {
        let (reason, money, help) = (reason(ended.code), money(ended.payment), help(&ended, arguments));
        Self { ended, reason, money, help }
    }
}

/// Says whether a request cost money.
pub(super) fn money(payment: Payment) -> &'static str {
    match payment {
        Payment::NotBought => "nothing was bought",
        Payment::Bought => "bought",
        Payment::UnderWay => "the purchase goes on",
        Payment::Possible => "may have cost money",
        Payment::Unknown => "may have been bought; DECISION is lost, bought or resubmit",
    }
}

/// Says why a request failed, by its code.
pub(super) fn reason(code: &str) -> String {
    let words = match code {
        "moderation_blocked" => "rejected by the upstream's safety system",
        "upstream_refused_request" => "the upstream refused the request",
        "upstream_key_refused" => "the upstream refused the account's key",
        "insufficient_quota" => "the upstream account has no credit left",
        "model_unavailable" => "the upstream does not offer the model at the moment",
        "model_not_found" => "the upstream does not offer the model to the account",
        "upstream_edge_refused" => "the network edge before the upstream refuses this machine's address",
        "image_not_fetched" => "an input picture could not be fetched from its address",
        "image_generation_failed" => "the upstream accepted the task and it failed",
        "result_lost" => "the upstream finished, and its pictures could not be fetched",
        "submission_outcome_unknown" => "no usable answer came to the submit",
        "upstream_timeout" => "the upstream did not finish in time",
        "upstream_unreachable" => "the upstream could not be reached",
        "rate_limit_exceeded" => "the upstream asked for fewer requests for too long",
        "server_is_overloaded" => "the queue is too long for the client's time limit",
        "journal_unavailable" => "the journal cannot be written",
        "disk_full" => "the disk is full",
        "stopping" => "the gateway was stopping",
        "upload_space_full" => "no space for the upload",
        "too_many_waiting" => "too many requests were waiting",
        "too_many_conversions" => "too many pictures were being converted",
        "too_many_webhooks" => "too many webhooks were pending",
        "internal_error" => "a fault of the gateway",
        other => return other.replace('_', " "),
    };
    words.to_owned()
}

/// Returns what helps, in one sentence or as a command.
///
/// A command stays harmless when it is pasted as it is: the decision about money has to be written by the operator.
fn help(ended: &EndedRequest, arguments: &str) -> Option<String> {
    let job = ended.prediction.as_deref();
    let ledger = |command: &str| format!("gptproto-gateway ledger {command}{arguments}");
    if ended.outcome == RequestOutcome::Unknown {
        return Some(
            job.map_or_else(|| ledger("list --state unknown"), |job| ledger(&format!("resolve {job} DECISION"))),
        );
    }
    let advice = match ended.code {
        "upstream_key_refused" => "Replace the key of the account (GPTPROTO_API_KEY) and restart.",
        "insufficient_quota" => "Add credit to the account at the upstream.",
        "upstream_edge_refused" | "upstream_unreachable" => return Some(format!("gptproto-gateway check{arguments}")),
        "disk_full" => "Free space, or lower storage.results_bytes_max.",
        "server_is_overloaded" | "rate_limit_exceeded" => "Add an account, or let the client wait longer.",
        _ => return job.map(|job| ledger(&format!("show {job}"))),
    };
    Some(advice.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::RequestId;

    fn failed(code: &'static str, outcome: RequestOutcome, prediction: Option<&str>) -> RecentFailure {
        let ended = EndedRequest {
            at_ms: 0,
            request: Some(RequestId::random()),
            route: "edits",
            client: "alice".into(),
            model: None,
            outcome,
            status: 502,
            code,
            ms: 1,
            payment: Payment::Unknown,
            usd: None,
            usd_estimated: false,
            prediction: prediction.map(str::to_owned),
            cause: None,
        };
        RecentFailure::of(ended, " --sandbox")
    }

    #[test]
    fn a_failure_names_the_command_that_helps() {
        let help = |code, outcome, prediction| failed(code, outcome, prediction).help;
        assert_eq!(
            help("submission_outcome_unknown", RequestOutcome::Unknown, Some("pred_1")).as_deref(),
            Some("gptproto-gateway ledger resolve pred_1 DECISION --sandbox")
        );
        // Pasted into a shell, none of it is more than one command that decides nothing.
        let commands = [RequestOutcome::Unknown, RequestOutcome::Failed]
            .map(|outcome| help("submission_outcome_unknown", outcome, Some("pred_1")).unwrap_or_default());
        assert!(!commands.concat().contains(['|', ';', '&', '<', '>', '$', '`']), "{commands:?}");
        let shown = help("image_generation_failed", RequestOutcome::Failed, Some("pred_1"));
        assert_eq!(shown.as_deref(), Some("gptproto-gateway ledger show pred_1 --sandbox"));
        assert_eq!(help("too_many_waiting", RequestOutcome::Failed, None), None);
        assert_eq!(failed("some_new_code", RequestOutcome::Failed, None).reason, "some new code");
    }
}
