//! Formats for tests of other modules.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::{FormatBasis, FormatOptions, FormatRules, FormatTable, InputKind, InputMethod, StoredFormats};
use crate::config::{ApiPolicy, FirstContact};
use crate::model::{ApiKind, ModelId, Task};

impl FormatOptions {
    /// The formats of text to image through these methods.
    pub(crate) fn for_test(model: &str, methods: &[InputMethod]) -> Arc<Self> {
        Arc::new(Self {
            model: ModelId::from(model),
            task: Task::Generate,
            inputs: InputKind::None,
            masked: false,
            methods: methods.iter().map(|&method| (method, false)).collect(),
            optional: BTreeSet::new(),
            other_size: None,
            lacks_public_url: false,
        })
    }

    /// The only format of text to image through an API.
    pub(crate) fn only(model: &str, api_kind: ApiKind) -> Arc<Self> {
        let method = match api_kind {
            ApiKind::Prediction => InputMethod::None,
            ApiKind::OpenAi => InputMethod::Multipart,
            ApiKind::Unified => InputMethod::Unified,
        };
        Self::for_test(model, &[method])
    }
}

impl FormatRules {
    pub(crate) fn for_test() -> Self {
        Self {
            mode: FirstContact::Strict,
            api: ApiPolicy::Auto,
            inputs: Vec::new(),
            edge_timeout: Duration::from_secs(100),
            publishes: false,
        }
    }
}

impl FormatTable {
    /// Knows nothing, and tries nothing out.
    pub(crate) fn strict() -> Self {
        Self::new(FirstContact::Strict, FormatBasis::default(), StoredFormats::default())
    }

    /// Knows nothing, and tries formats out.
    pub(crate) fn adapting() -> Self {
        Self::new(FirstContact::Adapt, FormatBasis::default(), StoredFormats::default())
    }
}
