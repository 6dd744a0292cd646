//! What one purchase has tried.

use super::super::{AuthStyle, FormatRefusal, InputMethod, RequestFormat};
use crate::model::{AccountId, Failure};

/// Submits of a purchase that may be refused for their format.
pub(super) const SUBMITS_MAX: usize = 3;

/// Parameters that contain the input pictures, and that the streamed form adds: the method is refused with them.
const OF_THE_METHOD: [&str; 9] =
    ["image", "images", "image[]", "base64_images", "mask", "input_references", "stream", "partial_images", "model"];

/// What a purchase has tried.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct FormatTries {
    refused: Vec<Try>,
}

/// A submit that was refused for its format.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Try {
    pub(super) account: AccountId,
    pub(super) format: RequestFormat,
    pub(super) refusal: FormatRefusal,
    pub(super) failure: Failure,
}

impl Try {
    /// Returns whether the input method was refused, and not a parameter or the key.
    pub(super) fn is_of_method(&self) -> bool {
        matches!(self.refusal, FormatRefusal::Inputs | FormatRefusal::Path | FormatRefusal::Unclear)
    }
}

impl FormatTries {
    pub(super) fn push(&mut self, one: Try) {
        self.refused.push(one);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Try> {
        self.refused.iter()
    }

    pub(super) fn len(&self) -> usize {
        self.refused.len()
    }

    pub(super) fn last(&self) -> Option<&Try> {
        self.refused.last()
    }

    /// Returns whether a method was refused through an account.
    pub(super) fn has_method(&self, account: &AccountId, (method, fetch_links): (InputMethod, bool)) -> bool {
        self.refused.iter().any(|one| {
            one.account == *account
                && one.is_of_method()
                && (one.format.method, one.format.fetch_links) == (method, fetch_links)
        })
    }

    /// Returns whether the key of an account was refused in a style.
    pub(super) fn has_auth(&self, account: &AccountId, style: AuthStyle) -> bool {
        let is = |one: &Try| one.account == *account && one.refusal == FormatRefusal::Auth && one.format.auth == style;
        self.refused.iter().any(is)
    }

    /// Returns how many refusals were about parameters.
    pub(super) fn parameters(&self) -> usize {
        let is = |one: &&Try| matches!(one.refusal, FormatRefusal::Field(_) | FormatRefusal::Size);
        self.refused.iter().filter(is).count()
    }

    /// Returns how many refusals did not say what they are about.
    pub(super) fn unclear(&self) -> usize {
        self.refused.iter().filter(|one| one.refusal == FormatRefusal::Unclear).count()
    }
}

/// Returns what a refusal is about: a parameter that belongs to the method is no parameter of the request.
pub(super) fn meaning(refusal: FormatRefusal) -> FormatRefusal {
    let FormatRefusal::Field(name) = &refusal else { return refusal };
    match name.as_str() {
        "size" => FormatRefusal::Size,
        name if OF_THE_METHOD.contains(&name) => FormatRefusal::Inputs,
        _ => refusal,
    }
}
