//! The models that one client may use.

use std::collections::BTreeSet;

use super::error::ApiError;
use crate::model::{ApiKind, Catalogue, Model, Task};

/// The catalogue as one client sees it. Cheap to copy.
#[derive(Clone, Copy, Debug)]
pub(super) struct Offer<'a> {
    pub(super) catalogue: &'a Catalogue,
    /// Ids; `None` for every model.
    pub(super) allowed: Option<&'a BTreeSet<String>>,
    /// The faces of the upstream a request may take, the first that can do what it asks for.
    pub(super) routes: &'a [ApiKind],
}

impl<'a> Offer<'a> {
    /// The models it may use.
    pub(super) fn models(self) -> impl Iterator<Item = &'a Model> {
        self.catalogue.models.iter().filter(move |model| self.allows(model))
    }

    /// A model for a task by its name or an alias, or the default where a request names none.
    ///
    /// # Errors
    ///
    /// [`ApiError::ModelNotFound`], [`ApiError::ModelNotAllowed`].
    pub(super) fn find(self, name: Option<String>, task: Task) -> Result<&'a Model, ApiError> {
        let name = name.unwrap_or_else(|| self.catalogue.default_model.clone());
        let able = self.models().filter(|model| model.is_offered(self.routes, task));
        let known = || able.map(|model| model.id.to_string()).collect();
        match self.catalogue.find(&name) {
            None => Err(ApiError::ModelNotFound { name, known: known() }),
            Some(model) if !self.allows(model) => Err(ApiError::ModelNotAllowed {
                name,
                allowed: self.models().map(|model| model.id.to_string()).collect(),
            }),
            Some(model) => Ok(model),
        }
    }

    pub(super) fn allows(self, model: &Model) -> bool {
        self.allowed.is_none_or(|allowed| allowed.contains(model.id.as_str()))
    }
}
