//! What a client asked for, with every value explicit.

use std::collections::BTreeSet;

use super::api_kind::ApiKind;
use super::choices::Choices;
use super::input::Input;
use super::size::Size;
use super::task::Task;
use crate::model::ids::ModelId;

/// A request for pictures that is valid for its model: `api::validate` makes it, and leaves no value at `auto`.
#[derive(Clone, Debug)]
pub(crate) struct PictureRequest {
    pub(crate) task: Task,
    /// The catalogue's id of the model, aliases resolved.
    pub(crate) model: ModelId,
    pub(crate) prompt: String,
    /// In the client's order; empty for [`Task::Generate`].
    pub(crate) inputs: Vec<Input>,
    pub(crate) mask: Option<Input>,
    /// Number of pictures, 1 to 10.
    pub(crate) n: u8,
    pub(crate) size: Size,
    /// The model's parameters by name (`quality`, `background`), each with an explicit value; and parameters that only the
    /// upstream API has, when they are not at their default.
    pub(crate) choices: Choices,
    /// The names of the parameters that the client gave a value, and not `auto`: never altered, and never left out. Not part
    /// of the fingerprint.
    pub(crate) explicit: BTreeSet<String>,
    /// The upstream API to buy from. Not part of the fingerprint, because it does not change the picture.
    pub(crate) api_kind: ApiKind,
}
