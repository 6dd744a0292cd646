//! Commands for a person at a terminal. They may use every module, as `app` does, and no module uses them.

// `println!` and `eprintln!` panic when the reader of a pipe has left.
#![deny(clippy::print_stdout, clippy::print_stderr)]

mod accounts;
mod init;
mod keys;
mod pictures;
mod printer;
mod store;

pub use accounts::{AccountsCommand, accounts, reload};
pub use init::{InitArguments, init};
pub use keys::{KeysCommand, NewKeyArguments, TermArguments, keys};
pub use pictures::{EditArguments, FetchArguments, GenerateArguments, edit, fetch, generate};
pub use printer::{print, print_error};
pub use store::CommandError;
