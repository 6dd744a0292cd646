//! Since when the upstream works on a purchase. A call of the API kind `openai` is held until the pictures are made, so it is worked on
//! from its last byte on.

use std::time::Instant;

use super::{LastByte, PurchaseEnd, State, Submit};
use crate::model::ApiKind;

impl Submit {
    /// Returns when the last byte left of a call that is answered with the pictures.
    pub(super) fn held_since(&self) -> Option<Instant> {
        match self.last_byte {
            LastByte::Released { at, .. } => (self.sent.format.method.api_kind() == ApiKind::OpenAi).then_some(at),
            LastByte::Held | LastByte::AwaitsCommit | LastByte::AwaitsIntent => None,
        }
    }
}

impl State {
    /// Returns since when the upstream works on the purchase, as far as is known.
    pub(in crate::engine::jobs) fn made_since(&self) -> Option<Instant> {
        match self {
            Self::Polling(accepted) | Self::Accepting { accepted, .. } => Some(accepted.at),
            Self::Submitting(submit) => submit.held_since(),
            Self::Collecting(immediate) => Some(immediate.since),
            Self::Queued
            | Self::Late
            | Self::Pausing { .. }
            | Self::AwaitingFormat { .. }
            | Self::Withdrawing { .. }
            | Self::Ending(_)
            | Self::Ended(_) => None,
        }
    }

    /// Whether the upstream works on the purchase, as is known or presumed, or its pictures are there.
    pub(in crate::engine::jobs) fn is_processing(&self) -> bool {
        if let Self::Submitting(submit @ Submit { last_byte: LastByte::Released { assume_at: None, .. }, .. }) = self {
            return submit.held_since().is_some();
        }
        matches!(self, Self::Polling(_) | Self::Collecting(_))
            || matches!(self.end(), Some(PurchaseEnd::Pictures { .. }))
    }
}
