//! What is known, for the status page.

use serde::Serialize;

use super::super::{FormatSubject, InputKind, RequestFormat};
use super::knowledge::{Knowledge, MethodState};

/// What is known about one method for one kind of request.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct FormatRow {
    pub(crate) account: String,
    pub(crate) model: String,
    pub(crate) task: &'static str,
    pub(crate) inputs: InputKind,
    pub(crate) masked: bool,
    /// The format as [`RequestFormat::describe`] has it.
    pub(crate) method: String,
    /// `proven`, `refused` or `suspect`.
    pub(crate) state: &'static str,
    /// A time, as in RFC 3339.
    pub(crate) since: String,
    /// The refusal's text, which is the upstream's, or why it is suspect.
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
            let (since, reason) = match state {
                MethodState::Proven { at, .. } => {
                    format.auth = knowledge.auth(account).style;
                    format.omitted = parameters.iter().flat_map(|known| known.omitted.keys().cloned()).collect();
                    (*at, String::new())
                }
                MethodState::Refused(refused) => (refused.at, refused.text.clone()),
                MethodState::Suspect { at, why } => (*at, why.clone()),
            };
            rows.push(FormatRow {
                account: account.to_string(),
                model: model.as_str().to_owned(),
                task: task.name(),
                inputs: *inputs,
                masked: *masked,
                method: format.describe(),
                state: state.name(),
                since: since.to_string(),
                reason,
            });
        }
    }
    rows
}
