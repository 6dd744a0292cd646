//! Which face of the upstream a request takes: the first the operator allows that can do all it asks for.
//!
//! Where none can, it is the one that lacks least, so that what nobody can do is refused by its own name, or dropped alone.

use std::collections::{BTreeMap, BTreeSet};

use super::modern;
use super::values::text;
use crate::api::form::Scalar;
use crate::model::{ApiKind, Capabilities, Input, Model, Task};

/// What a request asks for that not every route has.
#[derive(Debug)]
pub(super) struct QueuedSubmit<'a> {
    /// Names of parameters with the values asked for, those at their default left out.
    values: BTreeMap<&'a str, String>,
    mask: bool,
    /// Input pictures, or the mask, as http(s) addresses.
    links: bool,
    /// Input pictures as their bytes.
    inline: bool,
}

/// The route of a request.
#[derive(Debug)]
pub(super) struct Chosen<'a> {
    pub(super) route: ApiKind,
    pub(super) terms: Capabilities<'a>,
    /// Parameters that another allowed route would have, were the input pictures not http(s) addresses.
    pub(super) need_files: Vec<String>,
    /// Parameters that `upstream.api = "auto"` would allow.
    pub(super) need_auto: BTreeSet<String>,
}

impl<'a> QueuedSubmit<'a> {
    pub(super) fn of(
        model: &'a Model,
        scalars: &BTreeMap<String, Scalar>,
        images: &[Input],
        mask: Option<&Input>,
    ) -> Self {
        let is_link = |input: &Input| matches!(input, Input::Link(_));
        let asked = |name: &'a String| {
            // A value of the wrong type is refused later.
            let value = text(scalars, name).ok()??;
            let value = modern(name, &value).to_owned();
            (!is_default(name, &value)).then_some((name.as_str(), value))
        };
        Self {
            values: model.choice_names().filter_map(asked).collect(),
            mask: mask.is_some(),
            links: images.iter().chain(mask).any(is_link),
            inline: images.iter().any(|image| !is_link(image)),
        }
    }

    /// What of it these terms do not have, by name.
    fn lacking(&self, terms: Capabilities<'_>) -> Vec<String> {
        let lacks = |name: &str, value: &String| terms.choice(name).is_none_or(|choice| !choice.values.contains(value));
        let values = self.values.iter().filter(|(name, value)| lacks(name, value)).map(|(&name, _)| name.to_owned());
        values.chain((self.mask && !terms.mask).then(|| "mask".to_owned())).collect()
    }

    /// Whether the pictures can travel that way.
    fn travels(&self, terms: Capabilities<'_>) -> bool {
        (terms.links || !self.links) && (terms.inline || !self.inline)
    }
}

/// Chooses among `routes`; `None` where none of them has the model for this task.
pub(super) fn choose<'a>(
    model: &'a Model,
    task: Task,
    routes: &[ApiKind],
    submit: &QueuedSubmit<'_>,
) -> Option<Chosen<'a>> {
    let terms_of = |&route: &ApiKind| model.capabilities(route, task).map(|terms| (route, terms));
    let candidates: Vec<(ApiKind, Capabilities<'a>)> = routes.iter().filter_map(terms_of).collect();
    let fit = candidates.iter().find(|(_, terms)| submit.lacking(*terms).is_empty() && submit.travels(*terms));
    if let Some(&(route, terms)) = fit {
        return Some(Chosen { route, terms, need_files: Vec::new(), need_auto: BTreeSet::new() });
    }
    let able = candidates.iter().filter(|(_, terms)| submit.travels(*terms));
    let nearest = able.min_by_key(|(_, terms)| submit.lacking(*terms).len()).or(candidates.first());
    let &(route, terms) = nearest?;
    let lacking = submit.lacking(terms);
    let had_by = |name: &String, terms: Capabilities<'_>| !submit.lacking(terms).contains(name);
    let need_files =
        |name: &&String| candidates.iter().any(|&(_, terms)| had_by(name, terms) && !submit.travels(terms));
    let need_auto = |name: &&String| {
        let elsewhere = [ApiKind::Prediction, ApiKind::OpenAi].into_iter().filter(|route| !routes.contains(route));
        elsewhere.filter_map(|route| model.capabilities(route, task)).any(|terms| had_by(name, terms))
    };
    Some(Chosen {
        route,
        terms,
        need_files: lacking.iter().filter(need_files).cloned().collect(),
        need_auto: lacking.iter().filter(need_auto).cloned().collect(),
    })
}

/// Values that ask for nothing in particular: every route does that.
fn is_default(name: &str, value: &str) -> bool {
    matches!((name, value), (_, "auto") | ("background", "opaque") | ("input_fidelity", "low"))
}
