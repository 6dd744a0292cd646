//! Commands for a person at a terminal. They may use every module, as `app` does, and no module uses them.

mod accounts;
mod init;
mod keys;
mod pictures;
mod store;

pub use accounts::{AccountsCommand, accounts, reload};
pub use init::{InitArguments, init};
pub use keys::{KeysCommand, NewKeyArguments, TermArguments, keys};
pub use pictures::{EditArguments, FetchArguments, GenerateArguments, edit, fetch, generate};
pub use store::CommandError;
