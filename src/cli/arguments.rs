//! The arguments of the program.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

use super::CONFIG_HELP;
use super::accounts::AccountsCommand;
use super::config::ConfigCommand;
use super::init::InitArguments;
use super::keys::KeysCommand;
use super::pictures::{EditArguments, FetchArguments, GenerateArguments};
use crate::app::{CheckArguments, SIMULATOR_KEY};
use crate::config::check_listen;
use crate::ledger;
use crate::simulator::Profile;

/// An OpenAI-compatible image gateway for GPTProto.
#[derive(Debug, Parser)]
#[command(
    version,
    args_conflicts_with_subcommands = true,
    long_about = "An OpenAI-compatible image gateway for GPTProto.\n\n\
                  Without a command it serves, by the configuration that `init` writes, or by GPTPROTO_API_KEY and \
                  GATEWAY_CLIENT_KEYS of the environment; to try it without an account, use --sandbox.",
    after_help = "Configuration: config/default.toml explains every key. A file overrides its values, the environment overrides \
                  both, as GATEWAY_SERVER__LISTEN=0.0.0.0:8787 does for `listen` in [server]. The file is the one of --config, \
                  else of GATEWAY_CONFIG, else ./gptproto-gateway.toml, else $XDG_CONFIG_HOME/gptproto-gateway/config.toml \
                  (~/.config/… where that is not set; on macOS also below ~/Library/Application Support). With --sandbox \
                  only the first two are read.\n\n\
                  Exit codes: 0 success, 1 failed while running, 64 wrong arguments or configuration; `check`, `ledger verify`, and \
                  `edit`, `generate` and `fetch` have more, see their --help."
)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Option<Command>,
    #[command(flatten)]
    pub serve: Serve,
}

/// What is to be done.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the gateway
    Serve(Serve),
    /// Set a gateway up: asks for the upstream key, makes a client key, writes the configuration
    ///
    /// Exit codes: 0 written, 1 failed, 64 wrong arguments or nothing written; those of `check` where a picture was bought.
    Init(InitArguments),
    /// Edit pictures by a prompt, through a gateway that runs, and save the result
    Edit(EditArguments),
    /// Make a picture from a prompt, through a gateway that runs, and save it
    Generate(GenerateArguments),
    /// Save the pictures of a job that goes on after its command has stopped
    Fetch(FetchArguments),
    /// Check a deployment and the service without spending; with --live, buy one small picture
    ///
    /// Exit codes: 0 everything works, 1 it cannot serve, 2 it serves with a fallback or a warning, 3 a purchase has an
    /// unknown outcome or no picture, 64 wrong arguments or not confirmed.
    Check(Check),
    /// Create, list, change, rotate and revoke client keys
    ///
    /// Works while a gateway runs, and without one.
    Keys(Keys),
    /// List, pause and resume the accounts at the upstream
    ///
    /// Works while a gateway runs, and without one.
    Accounts(Accounts),
    /// Have the gateway that runs read its configuration again, as SIGHUP does
    Reload(Stored),
    /// Show purchases, resolve unknown outcomes, compare with the upstream's usage export
    ///
    /// Works while a gateway runs, and without one.
    Ledger(Ledger),
    /// Run the GPTProto simulator alone
    Simulate(Simulate),
    /// Exit with 0 if the gateway on this machine is ready, else with 1
    Healthcheck(Healthcheck),
    /// Print or check the configuration, or print its JSON Schema
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Print the completions of a shell
    ///
    /// As in: gptproto-gateway completions bash > /etc/bash_completion.d/gptproto-gateway
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print the manual page, or write one for each command
    Man {
        /// Write the pages of all commands into this folder instead
        #[arg(long, value_name = "DIR")]
        directory: Option<PathBuf>,
    },
}

/// The file of the configuration.
#[derive(Args, Clone, Debug, Default)]
pub struct ConfigFile {
    #[arg(long, value_name = "FILE", help = CONFIG_HELP)]
    pub config: Option<PathBuf>,
}

/// The configuration of `healthcheck`.
#[derive(Args, Debug)]
pub struct Healthcheck {
    #[command(flatten)]
    pub file: ConfigFile,
    /// Address of the operator listener, where `serve` was given one
    #[arg(long, value_name = "ADDR", value_parser = check_listen)]
    pub operator_listen: Option<String>,
}

/// What is checked, and by which configuration.
#[derive(Args, Debug)]
pub struct Check {
    #[command(flatten)]
    pub file: ConfigFile,
    /// Check the sandbox instead: its folder, and the built-in simulator in the place of GPTProto
    #[arg(long)]
    pub sandbox: bool,
    #[command(flatten)]
    pub arguments: CheckArguments,
}

/// How the gateway is run.
#[derive(Args, Debug)]
pub struct Serve {
    #[command(flatten)]
    pub file: ConfigFile,
    /// Serve with a built-in simulator instead of GPTProto: no account, no cost; the client key is sk-sandbox
    #[arg(long)]
    pub sandbox: bool,
    /// How the sandbox's simulator differs from GPTProto's documents; needs --sandbox
    #[arg(long, value_enum, value_name = "NAME", requires = "sandbox")]
    pub profile: Option<Profile>,
    /// Address and port for clients, or several, separated by commas; overrides server.listen
    #[arg(long, value_name = "ADDR", value_parser = check_listen)]
    pub listen: Option<String>,
    /// The same for health, metrics and status page; overrides operator.listen
    #[arg(long, value_name = "ADDR", value_parser = check_listen)]
    pub operator_listen: Option<String>,
    /// Start although pictures are stored and their journal is missing, empty or new; they are kept in orphans/ for a
    /// while (`storage.results_ttl_s`). For one start only
    #[arg(long)]
    pub accept_new_journal: bool,
}

/// The storage of a gateway.
#[derive(Args, Debug)]
pub struct Stored {
    #[arg(long, value_name = "FILE", global = true, help = CONFIG_HELP)]
    pub config: Option<PathBuf>,
    /// Use the storage of the sandbox
    #[arg(long, global = true)]
    pub sandbox: bool,
}

/// What happens to client keys, and of which gateway.
#[derive(Args, Debug)]
pub struct Keys {
    #[command(flatten)]
    pub stored: Stored,
    #[command(subcommand)]
    pub command: KeysCommand,
}

/// What happens to accounts, and of which gateway.
#[derive(Args, Debug)]
pub struct Accounts {
    #[command(flatten)]
    pub stored: Stored,
    #[command(subcommand)]
    pub command: AccountsCommand,
}

/// What is asked of the ledger, and of which gateway.
#[derive(Args, Debug)]
pub struct Ledger {
    #[arg(long, value_name = "FILE", global = true, help = CONFIG_HELP)]
    pub config: Option<PathBuf>,
    /// Use the ledger of the sandbox
    #[arg(long, global = true)]
    pub sandbox: bool,
    #[command(subcommand)]
    pub command: ledger::Command,
}

/// How the simulator is run.
#[derive(Args, Debug)]
pub struct Simulate {
    /// Address to listen on
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8790")]
    pub listen: SocketAddr,
    /// Upstream key that is accepted; may be given several times
    #[arg(long = "key", value_name = "KEY", default_value = SIMULATOR_KEY)]
    pub keys: Vec<String>,
    /// Scenario file; config/simulator.toml explains every key
    #[arg(long, value_name = "FILE")]
    pub scenario: Option<PathBuf>,
    /// How the simulator differs from GPTProto's documents
    #[arg(long, value_enum, value_name = "NAME", conflicts_with = "scenario")]
    pub profile: Option<Profile>,
    /// Speed relative to the real service, such as 20; overrides the scenario's
    #[arg(long, value_name = "FACTOR")]
    pub speed: Option<f64>,
    /// Append every accepted prediction to this file, synced to disk before the response is sent
    #[arg(long, value_name = "FILE")]
    pub log: Option<PathBuf>,
}
