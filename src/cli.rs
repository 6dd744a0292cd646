//! Commands for a person at a terminal. They may use every module, as `app` does, and no module uses them.

// `println!` and `eprintln!` panic when the reader of a pipe has left.
#![deny(clippy::print_stdout, clippy::print_stderr)]

mod accounts;
mod arguments;
mod config;
mod init;
mod keys;
mod manual;
mod pictures;
mod printer;
mod store;

pub use accounts::{AccountsCommand, accounts, reload};
pub use arguments::{Accounts, Check, Cli, Command, ConfigFile, Healthcheck, Keys, Ledger, Serve, Simulate, Stored};
pub use config::{ConfigCommand, config};
pub use init::{InitArguments, init};
pub use keys::{KeysCommand, NewKeyArguments, TermArguments, keys};
pub use manual::{completions, manual};
pub use pictures::{EditArguments, FetchArguments, GenerateArguments, edit, fetch, generate};
pub use printer::{print, print_error};
pub use store::CommandError;

/// The help of an argument that names the configuration file.
const CONFIG_HELP: &str =
    "Configuration file; its keys override the defaults [env: GATEWAY_CONFIG] [default: see --help of the program]";
