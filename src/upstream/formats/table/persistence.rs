//! What is known, to and from the state file.

use super::super::stored::{StoredAuth, StoredMethod, StoredParameter, StoredSubject, clipped};
use super::super::{AuthStyle, FormatBasis, FormatSubject, InputKind, InputMethod, StoredFormats};
use super::knowledge::{AuthState, Knowledge, Method, MethodState, Refused, SubjectState};
use crate::model::{AccountId, ModelId, Task, Timestamp};

/// Entries of each kind that are read.
const ENTRIES_MAX: usize = 10_000;
/// The name under which the other table's sizes are stored, beside names of parameters.
const SIZE: &str = "size";

/// Returns what is to survive a restart.
pub(super) fn stored(knowledge: &Knowledge, basis: FormatBasis) -> StoredFormats {
    let mut stored = StoredFormats::new(basis);
    stored.accounts = knowledge.accounts.iter().map(|(account, state)| auth(account, *state)).collect();
    stored.subjects = knowledge.subjects.iter().map(|(subject, state)| stored_subject(subject, state)).collect();
    for ((account, model, task), parameters) in &knowledge.parameters {
        let size = parameters.size.iter().map(|refused| (SIZE, refused));
        let omitted = parameters.omitted.iter().map(|(name, refused)| (name.as_str(), refused));
        stored.parameters.extend(omitted.chain(size).map(|(name, refused)| StoredParameter {
            account: account.to_string(),
            model: model.to_string(),
            task: task.name().to_owned(),
            name: name.to_owned(),
            at: refused.at.millis(),
            text: refused.text.clone(),
            confirmed: refused.confirmed,
        }));
    }
    stored
}

fn auth(account: &AccountId, AuthState { style, proven }: AuthState) -> StoredAuth {
    StoredAuth { account: account.to_string(), raw: style == AuthStyle::Raw, proven }
}

fn stored_subject(subject: &FormatSubject, known: &SubjectState) -> StoredSubject {
    StoredSubject {
        account: subject.account.to_string(),
        model: subject.model.to_string(),
        task: subject.task.name().to_owned(),
        inputs: subject.inputs.name().to_owned(),
        masked: subject.masked,
        accepted: known.accepted.iter().map(|method| method.name().to_owned()).collect(),
        methods: known.methods.iter().map(|(&method, state)| stored_method(method, state)).collect(),
    }
}

fn stored_method((method, fetch_links): Method, state: &MethodState) -> StoredMethod {
    let (at, text, count, confirmed) = match state {
        MethodState::Proven { at, refusals } => (at, "", u32::from(*refusals), false),
        MethodState::Refused(refused) => (&refused.at, refused.text.as_str(), refused.count, refused.confirmed),
        MethodState::Suspect { at, why } => (at, why.as_str(), 1, false),
    };
    StoredMethod {
        method: method.name().to_owned(),
        fetch_links,
        state: state.name().to_owned(),
        at: at.millis(),
        text: text.to_owned(),
        count,
        confirmed,
    }
}

/// Makes knowledge of what was stored. What this version does not know is left out.
pub(super) fn knowledge(stored: StoredFormats) -> Knowledge {
    let mut knowledge = Knowledge::default();
    for StoredAuth { account, raw, proven } in stored.accounts.into_iter().take(ENTRIES_MAX) {
        let style = if raw { AuthStyle::Raw } else { AuthStyle::Bearer };
        knowledge.accounts.insert(AccountId(account.into()), AuthState { style, proven });
    }
    for stored in stored.subjects.into_iter().take(ENTRIES_MAX) {
        let Some(subject) = subject(&stored) else { continue };
        let methods = stored.methods.iter().take(ENTRIES_MAX).filter_map(method).collect();
        let accepted = stored.accepted.iter().filter_map(|name| InputMethod::from_name(name)).collect();
        knowledge.subjects.insert(subject, SubjectState { accepted, methods });
    }
    for stored in stored.parameters.into_iter().take(ENTRIES_MAX) {
        let Some(task) = Task::from_name(&stored.task) else { continue };
        let refused = Refused {
            at: Timestamp::from_millis(stored.at),
            text: clipped(&stored.text),
            count: 1,
            confirmed: stored.confirmed,
            by: None,
        };
        let key = (AccountId(stored.account.into()), ModelId::from(stored.model), task);
        let parameters = knowledge.parameters.entry(key).or_default();
        if stored.name == SIZE {
            parameters.size = Some(refused);
        } else {
            parameters.omitted.insert(stored.name, refused);
        }
    }
    knowledge
}

fn subject(stored: &StoredSubject) -> Option<FormatSubject> {
    Some(FormatSubject {
        account: AccountId(stored.account.as_str().into()),
        model: ModelId::from(stored.model.as_str()),
        task: Task::from_name(&stored.task)?,
        inputs: InputKind::from_name(&stored.inputs)?,
        masked: stored.masked,
    })
}

fn method(stored: &StoredMethod) -> Option<(Method, MethodState)> {
    let at = Timestamp::from_millis(stored.at);
    let state = match stored.state.as_str() {
        "proven" => MethodState::Proven { at, refusals: u8::try_from(stored.count).unwrap_or(0) },
        "refused" => MethodState::Refused(Refused {
            at,
            text: clipped(&stored.text),
            count: stored.count,
            confirmed: stored.confirmed,
            by: None,
        }),
        "suspect" => MethodState::Suspect { at, why: clipped(&stored.text) },
        _ => return None,
    };
    Some(((InputMethod::from_name(&stored.method)?, stored.fetch_links), state))
}
