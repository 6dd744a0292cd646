//! The free question whether the upstream accepts a key: the list of its models.

use crate::model::AccountId;
use crate::upstream::formats::AuthStyle;
use crate::upstream::{EdgeRefusal, GptProto, QueryAnswer};

const MODELS: &str = "/v1/models";

/// What the upstream makes of a key.
#[derive(Debug)]
pub(super) enum KeyAnswer {
    /// It listed its models for the key, written in this style.
    Accepted(QueryAnswer, AuthStyle),
    /// The reason is a text of the upstream, for the operator alone: it may quote the key.
    Refused(String),
    /// The edge in front of the upstream answered in its place.
    EdgeRefused(EdgeRefusal),
    /// Why there is no answer.
    Unreachable(String),
    /// Another status, which says nothing of the key.
    Unclear(u16),
}

/// Asks for the list of models with one account's key, once more with the raw key if it is refused.
pub(super) async fn ask_about_key(upstream: &GptProto, account: &AccountId) -> KeyAnswer {
    let answer = match upstream.query(account, AuthStyle::Bearer, MODELS, None).await {
        Ok(answer) => answer,
        Err(problem) => return KeyAnswer::Unreachable(problem),
    };
    if let Some(page) = answer.edge_refusal() {
        return KeyAnswer::EdgeRefused(page);
    }
    match answer.told_status() {
        Some(200..=299) => KeyAnswer::Accepted(answer, AuthStyle::Bearer),
        Some(status @ (401 | 403)) => {
            let raw = upstream.query(account, AuthStyle::Raw, MODELS, None).await;
            match raw.ok().filter(|raw| matches!(raw.told_status(), Some(200..=299))) {
                Some(raw) => KeyAnswer::Accepted(raw, AuthStyle::Raw),
                None => KeyAnswer::Refused(answer.message().unwrap_or_else(|| format!("HTTP {status}"))),
            }
        }
        Some(status) => KeyAnswer::Unclear(status),
        None => KeyAnswer::Unreachable(format!(
            "what answers is not the image service but a proxy or a login page of the network (HTTP {})",
            answer.status
        )),
    }
}
