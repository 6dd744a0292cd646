//! What happens to parameters that cannot be honoured.

use crate::api::error::ApiError;
use crate::config::UnsupportedParameters;

/// Refuses parameters, or drops and names them, as the operator decided.
#[derive(Debug)]
pub(super) struct Refusals {
    policy: UnsupportedParameters,
    dropped: Vec<String>,
}

impl Refusals {
    pub(super) fn new(policy: UnsupportedParameters) -> Self {
        Self { policy, dropped: Vec::new() }
    }

    /// Refuses a parameter that cannot be honoured, or drops it.
    ///
    /// # Errors
    ///
    /// The refusal, where nothing may be dropped.
    pub(super) fn refuse(&mut self, name: &str, refusal: ApiError) -> Result<(), ApiError> {
        match self.policy {
            UnsupportedParameters::Refuse => Err(refusal),
            UnsupportedParameters::Drop => {
                if !self.has_dropped(name) {
                    self.dropped.push(name.to_owned());
                }
                Ok(())
            }
        }
    }

    /// Drops a parameter that means nothing without `other`, where that one was dropped.
    pub(super) fn drop_with(&mut self, name: &str, other: &str) {
        if self.has_dropped(other) && !self.has_dropped(name) {
            self.dropped.push(name.to_owned());
        }
    }

    pub(super) fn has_dropped(&self, name: &str) -> bool {
        self.dropped.iter().any(|dropped| dropped == name)
    }

    /// Returns the names of what was dropped.
    pub(super) fn into_dropped(self) -> Vec<String> {
        self.dropped
    }
}
