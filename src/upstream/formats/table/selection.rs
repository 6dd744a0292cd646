//! Which methods come into question, the best first.

use super::super::{FormatOptions, FormatSubject};
use super::knowledge::{Knowledge, Method, MethodState};
use super::tries::FormatTries;
use crate::model::Failure;

/// How good a method is, the best first. Among equals the order of the options decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    /// Unknown or proven.
    Open,
    Suspect,
    /// Refused, and maybe for the fault of one purchase.
    Unconfirmed,
    Refused,
}

/// Lists the methods that a purchase may try, the best first. `asks`: also those that are known to be refused.
pub(super) fn candidates(
    knowledge: &Knowledge,
    subject: &FormatSubject,
    options: &FormatOptions,
    tries: &FormatTries,
    asks: bool,
) -> Vec<Method> {
    let rank = |method: Method| match knowledge.method(subject, method) {
        None | Some(MethodState::Proven { .. }) => Rank::Open,
        Some(MethodState::Suspect { .. }) => Rank::Suspect,
        Some(MethodState::Refused(refused)) if !refused.confirmed => Rank::Unconfirmed,
        Some(MethodState::Refused(_)) => Rank::Refused,
    };
    let untried = options.methods.iter().copied().filter(|&method| !tries.has_method(&subject.account, method));
    let mut ranked: Vec<(Rank, Method)> = untried.map(|method| (rank(method), method)).collect();
    ranked.retain(|&(rank, _)| asks || rank != Rank::Refused);
    ranked.sort_by_key(|&(rank, _)| rank);
    ranked.into_iter().map(|(_, method)| method).collect()
}

/// Returns the refusal of the first method that is known to be refused, as a failure.
pub(super) fn remembered(knowledge: &Knowledge, subject: &FormatSubject, options: &FormatOptions) -> Failure {
    let text = options.methods.iter().find_map(|&method| match knowledge.method(subject, method) {
        Some(MethodState::Refused(refused)) => Some(refused.text.clone()),
        Some(MethodState::Proven { .. } | MethodState::Suspect { .. }) | None => None,
    });
    let message = text.unwrap_or_else(|| "the upstream refuses every known form of this request".to_owned());
    Failure::InvalidRequest { message }
}
