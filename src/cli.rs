//! Commands for a person at a terminal. They may use every module, as `app` does, and no module uses them.

mod accounts;
mod keys;
mod store;

pub use accounts::{AccountsCommand, accounts, reload};
pub use keys::{KeysCommand, NewKeyArguments, TermArguments, keys};
pub use store::CommandError;
