//! What is known, for the status page.

use super::super::{FormatSubject, InputKind, RequestFormat};
use super::knowledge::{Knowledge, MethodState};
use crate::model::{AccountId, ModelId, Task, Timestamp};

/// What is known about one method for one kind of request.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct FormatRow {
    pub(crate) account: AccountId,
    pub(crate) model: ModelId,
    pub(crate) task: Task,
    pub(crate) inputs: InputKind,
    pub(crate) masked: bool,
    /// The format as [`RequestFormat::describe`] has it.
    pub(crate) method: String,
    /// `proven`, `refused` or `suspect`.
    pub(crate) state: &'static str,
    pub(crate) since: Timestamp,
    /// The refusal's text, or why it is suspect.
    pub(crate) reason: String,
}

/// Lists what is known, by account, model and kind of request.
pub(super) fn of(knowledge: &Knowledge) -> Vec<FormatRow> {
    let mut rows = Vec::new();
    for (subject, known) in &knowledge.subjects {
        let FormatSubject { account, model, task, inputs, masked } = subject;
        let parameters = knowledge.parameters.get(&(account.clone(), model.clone(), *task));
        for (&(method, fetch_links), state) in &known.methods {
            let mut format = RequestFormat { fetch_links, ..RequestFormat::documented(method) };
            let (state, since, reason) = match state {
                MethodState::Proven { at, .. } => {
                    format.auth = knowledge.auth(account).style;
                    format.omitted = parameters.iter().flat_map(|known| known.omitted.keys().cloned()).collect();
                    ("proven", *at, String::new())
                }
                MethodState::Refused(refused) => ("refused", refused.at, refused.text.clone()),
                MethodState::Suspect { at, why } => ("suspect", *at, why.clone()),
            };
            rows.push(FormatRow {
                account: account.clone(),
                model: model.clone(),
                task: *task,
                inputs: *inputs,
                masked: *masked,
                method: format.describe(),
                state,
                since,
                reason,
            });
        }
    }
    rows
}
