//! A request for pictures, checked against the catalogue. Declares and exports only.

mod api_kind;
mod choices;
mod fingerprint;
mod input;
mod picture_request;
mod size;
mod task;

pub(crate) use api_kind::ApiKind;
pub(crate) use choices::Choices;
pub(crate) use fingerprint::Fingerprint;
pub(crate) use input::Input;
pub(crate) use picture_request::PictureRequest;
pub(crate) use size::Size;
pub(crate) use task::Task;
