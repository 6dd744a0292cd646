//! The model catalogue: what each model of the upstream can do, accepts and costs. Declares and exports only.
//!
//! A new model is a new table in `config/models.toml`, not code.

mod api;
mod models;
mod names;
mod parameters;
mod shape;
mod size_rule;

pub(crate) use api::{Capabilities, UpstreamApi};
pub(crate) use models::{Catalogue, Model};
pub(crate) use parameters::{Choice, TaskSpec};
pub(crate) use shape::{AspectRatio, Resolution};
pub(crate) use size_rule::{SizeProblem, SizeRule, quoted_list};
