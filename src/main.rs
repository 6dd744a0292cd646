//! Command line: arguments and exit codes.
//!
//! 0: success. 1: failed while running, a check found a fault, or ended by a second signal. 2, 3: warnings of a check, and a purchase of it
//! without a picture; 2 also: `ledger verify` was not carried out, and a picture that may have cost money was not saved. 64: the
//! arguments or the configuration are wrong, or a purchase is not confirmed.

use std::collections::BTreeMap;
use std::future::Future;
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand};
use gptproto_gateway::cli::{self, EditArguments, FetchArguments, GenerateArguments, InitArguments};
use gptproto_gateway::config::{Config, ConfigLocation, Environment, find_file};
use gptproto_gateway::lifecycle::process;
use gptproto_gateway::simulator::{Options, Profile, Scenario};
use gptproto_gateway::{app, ledger, operator, telemetry};

/// An OpenAI-compatible image gateway for GPTProto.
#[derive(Debug, Parser)]
#[command(
    version,
    args_conflicts_with_subcommands = true,
    long_about = "An OpenAI-compatible image gateway for GPTProto.\n\n\
                  Without a command it serves. It needs GPTPROTO_API_KEY and GATEWAY_CLIENT_KEYS in the environment; to try \
                  it without an account, use --sandbox.",
    after_help = "Configuration: config/default.toml explains every key. A file overrides its values, the environment overrides \
                  both, as GATEWAY_SERVER__LISTEN=0.0.0.0:8787 does for `listen` in [server]. The file is the one of --config, \
                  else of GATEWAY_CONFIG, else ./gptproto-gateway.toml, else $XDG_CONFIG_HOME/gptproto-gateway/config.toml \
                  (~/.config/… where that is not set; on macOS also below ~/Library/Application Support). With --sandbox \
                  only the first two are read.\n\n\
                  Exit codes: 0 success, 1 failed while running, 64 wrong arguments or configuration; `check` has more, see check --help."
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: Serve,
}

#[derive(Debug, Subcommand)]
enum Command {
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
    Healthcheck(ConfigFile),
}

const CONFIG_HELP: &str =
    "Configuration file; its keys override the defaults [env: GATEWAY_CONFIG] [default: see --help of the program]";

#[derive(Args, Debug)]
struct ConfigFile {
    #[arg(long, value_name = "FILE", help = CONFIG_HELP)]
    config: Option<PathBuf>,
}

#[derive(Args, Debug)]
struct Check {
    #[command(flatten)]
    file: ConfigFile,
    #[command(flatten)]
    arguments: app::CheckArguments,
}

#[derive(Args, Debug)]
struct Serve {
    #[command(flatten)]
    file: ConfigFile,
    /// Serve with a built-in simulator instead of GPTProto: no account, no cost; the client key is sk-sandbox
    #[arg(long)]
    sandbox: bool,
    /// How the sandbox's simulator differs from GPTProto's documents; needs --sandbox
    #[arg(long, value_enum, value_name = "NAME", requires = "sandbox")]
    profile: Option<Profile>,
    /// Start although pictures are stored and their journal is missing, empty or new; they are kept in orphans/ for a
    /// while (`storage.results_ttl_s`). For one start only
    #[arg(long)]
    accept_new_journal: bool,
}

/// The storage of a gateway.
#[derive(Args, Debug)]
struct Stored {
    #[arg(long, value_name = "FILE", global = true, help = CONFIG_HELP)]
    config: Option<PathBuf>,
    /// Use the storage of the sandbox
    #[arg(long, global = true)]
    sandbox: bool,
}

#[derive(Args, Debug)]
struct Keys {
    #[command(flatten)]
    stored: Stored,
    #[command(subcommand)]
    command: cli::KeysCommand,
}

#[derive(Args, Debug)]
struct Accounts {
    #[command(flatten)]
    stored: Stored,
    #[command(subcommand)]
    command: cli::AccountsCommand,
}

#[derive(Args, Debug)]
struct Ledger {
    #[arg(long, value_name = "FILE", global = true, help = CONFIG_HELP)]
    config: Option<PathBuf>,
    /// Use the ledger of the sandbox
    #[arg(long, global = true)]
    sandbox: bool,
    #[command(subcommand)]
    command: ledger::Command,
}

#[derive(Args, Debug)]
struct Simulate {
    /// Address to listen on
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8790")]
    listen: SocketAddr,
    /// Upstream key that is accepted; may be given several times
    #[arg(long = "key", value_name = "KEY", default_value = app::SIMULATOR_KEY)]
    keys: Vec<String>,
    /// Scenario file; config/simulator.toml explains every key
    #[arg(long, value_name = "FILE")]
    scenario: Option<PathBuf>,
    /// How the simulator differs from GPTProto's documents
    #[arg(long, value_enum, value_name = "NAME", conflicts_with = "scenario")]
    profile: Option<Profile>,
    /// Speed relative to the real service, such as 20; overrides the scenario's
    #[arg(long, value_name = "FACTOR")]
    speed: Option<f64>,
    /// Append every accepted prediction to this file, synced to disk before the response is sent
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
}

/// Wrong arguments or configuration: `EX_USAGE` of BSD's sysexits.
const EXIT_USAGE: u8 = 64;
/// `ledger verify` was not carried out; 1 says that something does not fit.
const EXIT_NOT_VERIFIED: u8 = 2;

fn main() -> ExitCode {
    let arguments = match Cli::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return help_or_usage_error(&error),
    };
    match arguments.command.unwrap_or(Command::Serve(arguments.serve)) {
        Command::Serve(arguments) => serve(&arguments),
        Command::Init(arguments) => at_terminal(async |environment| cli::init(arguments, environment).await),
        Command::Edit(arguments) => at_terminal(async |environment| cli::edit(arguments, environment).await),
        Command::Generate(arguments) => at_terminal(async |environment| cli::generate(arguments, environment).await),
        Command::Fetch(arguments) => at_terminal(async |environment| cli::fetch(arguments, environment).await),
        Command::Check(arguments) => check(&arguments),
        Command::Keys(Keys { stored, command }) => {
            with_storage(&stored, |config| cli::keys(config, stored.sandbox, &command))
        }
        Command::Accounts(Accounts { stored, command }) => {
            with_storage(&stored, |config| cli::accounts(config, stored.sandbox, &command))
        }
        Command::Reload(stored) => with_storage(&stored, |config| cli::reload(config, stored.sandbox)),
        Command::Ledger(arguments) => ledger_command(arguments),
        Command::Simulate(arguments) => simulate(arguments),
        Command::Healthcheck(file) => with_config(&file, false, |config, _| {
            match config.operator_listen().and_then(|listen| operator::probe(&listen)) {
                Ok(()) => ExitCode::SUCCESS,
                Err(problem) => fail(&problem, ExitCode::FAILURE),
            }
        }),
    }
}

fn help_or_usage_error(error: &clap::Error) -> ExitCode {
    let requested = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
    if requested || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        let _ = error.print();
        return if requested { ExitCode::SUCCESS } else { ExitCode::from(EXIT_USAGE) };
    }
    fail(&in_one_line(error), ExitCode::from(EXIT_USAGE))
}

/// Returns what is wrong with the arguments in one line, without the usage text that `--help` shows.
fn in_one_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let problem = text.split("\n\nUsage:").next().unwrap_or_default();
    let problem = problem.split("\n\nFor more information").next().unwrap_or_default();
    let paragraphs: Vec<String> = problem
        .trim_start_matches("error: ")
        .split("\n\n")
        .map(|paragraph| paragraph.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    format!("{} (see --help)", paragraphs.join("; "))
}

fn serve(arguments: &Serve) -> ExitCode {
    let sandbox = arguments.sandbox;
    let profile = arguments.profile.unwrap_or(Profile::Documented);
    with_config(&arguments.file, sandbox, |config, location| {
        if !sandbox && let Err(error) = app::require_keys(&config) {
            return fail(&error, ExitCode::from(EXIT_USAGE));
        }
        telemetry::start_logging(&config);
        process::harden();
        let config = if arguments.accept_new_journal { config.accepting_new_journal() } else { config };
        let environment = environment().unwrap_or_default();
        let inherited = match app::inherited_listeners(&config, &environment) {
            Ok(inherited) => inherited,
            Err(error) => return fail(&error, ExitCode::from(EXIT_USAGE)),
        };
        let file = location.map(|location| location.path);
        let launch = app::Launch { source: Some(app::ConfigSource { file, environment }), inherited };
        run(async move {
            if sandbox {
                Box::pin(app::run_sandbox(config, launch, profile)).await
            } else {
                Box::pin(app::run(config, launch)).await
            }
        })
    })
}

fn check(check: &Check) -> ExitCode {
    let arguments = &check.arguments;
    with_config(&check.file, false, |config, location| {
        if let Some(ConfigLocation { path, is_found: true }) = location {
            eprintln!("configuration: {}", path.display());
        }
        process::harden();
        block_on(async move {
            match app::check(&config, arguments).await {
                Ok(report) => {
                    let text = if arguments.json { format!("{:#}\n", report.json()) } else { report.text() };
                    // The reader may close the pipe early, as `head` does.
                    let _ = std::io::stdout().write_all(text.as_bytes());
                    ExitCode::from(report.exit_code())
                }
                Err(error @ app::CheckError::Usage(_)) => fail(&error, ExitCode::from(EXIT_USAGE)),
                Err(error @ app::CheckError::Failed(_)) => fail(&error, ExitCode::FAILURE),
            }
        })
    })
}

fn simulate(arguments: Simulate) -> ExitCode {
    let Simulate { listen, keys, scenario: file, profile, speed, log } = arguments;
    let mut scenario = match profile.unwrap_or(Profile::Documented).scenario(Scenario::default().speed) {
        Ok(scenario) => scenario,
        Err(error) => return fail(&error, ExitCode::FAILURE),
    };
    if let Some(path) = file {
        let read = std::fs::read_to_string(&path)
            .map_err(|error| error.to_string())
            .and_then(|text| Scenario::from_toml(&text).map_err(|error| error.to_string()));
        match read {
            Ok(found) => scenario = found,
            Err(problem) => return fail(&format!("{}: {problem}", path.display()), ExitCode::from(EXIT_USAGE)),
        }
    }
    if let Some(speed) = speed {
        // As in a scenario.
        if !(0.001..=1e6).contains(&speed) {
            return fail(&"--speed must be a number from 0.001 to 1000000", ExitCode::from(EXIT_USAGE));
        }
        scenario.speed = speed;
    }
    // Only the log is configured.
    with_config(&ConfigFile { config: None }, true, |config, _| {
        telemetry::start_logging(&config);
        run(app::run_simulator(listen, Options { keys, scenario, log }))
    })
}

fn ledger_command(arguments: Ledger) -> ExitCode {
    let Ledger { config: file, sandbox, command } = arguments;
    let (failed, repairs) = if let ledger::Command::Verify(verify) = &command {
        (ExitCode::from(EXIT_NOT_VERIFIED), verify.repair)
    } else {
        (ExitCode::FAILURE, false)
    };
    with_config(&ConfigFile { config: file.clone() }, sandbox, |config, _| {
        if repairs {
            if sandbox {
                return fail(
                    &"--repair does not work with --sandbox: the simulator forgets its pictures",
                    ExitCode::from(EXIT_USAGE),
                );
            }
            if let Err(error) = config.require_api_key() {
                return fail(&error, ExitCode::from(EXIT_USAGE));
            }
            process::harden();
            let repaired = block_on(async {
                match app::repair(&config).await {
                    Ok(()) => ExitCode::SUCCESS,
                    Err(error) => fail(&format!("{error:#}"), failed),
                }
            });
            if repaired != ExitCode::SUCCESS {
                return repaired;
            }
        }
        match ledger::run(&config, file.as_deref(), sandbox, &command) {
            Ok((text, consistent)) => {
                // The reader may close the pipe early, as `head` does.
                let _ = std::io::stdout().write_all(text.as_bytes());
                if consistent { ExitCode::SUCCESS } else { ExitCode::FAILURE }
            }
            Err(error) => fail(&error, failed),
        }
    })
}

/// Runs a command on the storage of a gateway, and prints its text.
fn with_storage(stored: &Stored, run: impl FnOnce(&Config) -> Result<String, cli::CommandError>) -> ExitCode {
    with_config(&ConfigFile { config: stored.config.clone() }, stored.sandbox, |config, _| match run(&config) {
        Ok(text) => {
            // The reader may close the pipe early, as `head` does.
            let _ = std::io::stdout().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        Err(error) => {
            let code = if error.is_usage { ExitCode::from(EXIT_USAGE) } else { ExitCode::FAILURE };
            fail(&error, code)
        }
    })
}

/// Reads the configuration. With `only_named`, a file at a usual place is not looked for.
fn with_config(
    file: &ConfigFile,
    only_named: bool,
    then: impl FnOnce(Config, Option<ConfigLocation>) -> ExitCode,
) -> ExitCode {
    let environment = match environment() {
        Ok(environment) => environment,
        Err(problem) => return fail(&problem, ExitCode::from(EXIT_USAGE)),
    };
    let loaded = find_file(file.config.as_deref(), &environment).and_then(|location| {
        let location = location.filter(|location| !(only_named && location.is_found));
        let config = Config::load(location.as_ref().map(|location| location.path.as_path()), &environment)?;
        Ok((config, location))
    });
    match loaded {
        Ok((config, location)) => then(config, location),
        Err(error) => fail(&error, ExitCode::from(EXIT_USAGE)),
    }
}

/// Reads the variables of the environment.
///
/// # Errors
///
/// The name of a variable of the gateway that is not UTF-8.
fn environment() -> Result<Environment, String> {
    let mut environment: Environment = BTreeMap::new();
    for (name, value) in std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value))) {
        match value.into_string() {
            Ok(value) => drop(environment.insert(name, value)),
            Err(_) if name.starts_with("GATEWAY_") || name.starts_with("GPTPROTO_") => {
                return Err(format!("{name}: is not UTF-8"));
            }
            Err(_) => {}
        }
    }
    Ok(environment)
}

/// Runs a command of the terminal client, which returns its exit code.
fn at_terminal(work: impl AsyncFnOnce(&Environment) -> u8) -> ExitCode {
    match environment() {
        Ok(environment) => block_on(async { ExitCode::from(work(&environment).await) }),
        Err(problem) => fail(&problem, ExitCode::from(EXIT_USAGE)),
    }
}

fn run(work: impl Future<Output = anyhow::Result<bool>>) -> ExitCode {
    block_on(async {
        match work.await {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::FAILURE,
            Err(error) => fail(&format!("{error:#}"), ExitCode::FAILURE),
        }
    })
}

fn block_on(work: impl Future<Output = ExitCode>) -> ExitCode {
    match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(work),
        Err(error) => fail(&error, ExitCode::FAILURE),
    }
}

fn fail(problem: &dyn std::fmt::Display, code: ExitCode) -> ExitCode {
    eprintln!("gptproto-gateway: {problem}");
    code
}
