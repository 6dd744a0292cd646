//! Commands for a person at a terminal. They may use every module, as `app` does, and no module uses them.

mod init;
mod pictures;

pub use init::{InitArguments, init};
pub use pictures::{EditArguments, FetchArguments, GenerateArguments, edit, fetch, generate};
