//! The models that one client may use.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::api::error::ApiError;
use crate::model::{ApiKind, Catalogue, Model, Task};

/// The catalogue as one client sees it. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct AvailableModels<'a> {
    pub(crate) catalogue: &'a Catalogue,
    /// Ids of models; `None` for all of them.
    pub(crate) allowed: Option<Arc<BTreeSet<String>>>,
    /// The upstream APIs that requests may use, in order of preference.
    pub(crate) api_kinds: &'a [ApiKind],
}

impl<'a> AvailableModels<'a> {
    /// Lists the models.
    pub(crate) fn models(&self) -> impl Iterator<Item = &'a Model> {
        self.catalogue.models.iter().filter(move |model| self.allows(model))
    }

    /// Finds a model for a task by its name or an alias, or the default model where `name` is `None`.
    ///
    /// # Errors
    ///
    /// [`ApiError::ModelNotFound`], [`ApiError::ModelNotAllowed`].
    pub(crate) fn find(&self, name: Option<String>, task: Task) -> Result<&'a Model, ApiError> {
        let name = name.unwrap_or_else(|| self.catalogue.default_model.clone());
        let able = || self.models().filter(|model| model.is_offered(self.api_kinds, task));
        match self.catalogue.find(&name) {
            None => Err(ApiError::ModelNotFound {
                nearest: Catalogue::nearest(&name, able()).map(|model| model.id.to_string()),
                known: able().map(|model| model.id.to_string()).collect(),
                name,
            }),
            Some(model) if !self.allows(model) => Err(ApiError::ModelNotAllowed {
                name,
                allowed: self.models().map(|model| model.id.to_string()).collect(),
            }),
            Some(model) => Ok(model),
        }
    }

    /// Whether the client may use this model.
    pub(crate) fn allows(&self, model: &Model) -> bool {
        self.allowed.as_ref().is_none_or(|allowed| allowed.contains(model.id.as_str()))
    }
}
