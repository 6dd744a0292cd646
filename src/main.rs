//! Arguments and exit code.

use std::collections::BTreeMap;
use std::future::Future;
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand};
use gptproto_gateway::config::{Config, Environment, mint_key};
use gptproto_gateway::lifecycle::process;
use gptproto_gateway::simulator::{Options, Scenario};
use gptproto_gateway::{app, ledger, operator, telemetry};

/// An OpenAI-compatible image gateway for GPTProto: a picture that was paid for reaches whoever asked for it.
///
/// Without a command it serves. Configuration: config/default.toml is the reference; environment variables such as
/// `GATEWAY_SERVER__LISTEN` lie over it. Needed: `GPTPROTO_API_KEY` and `GATEWAY_CLIENT_KEYS`, or --sandbox.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
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
    /// Diagnose a deployment without spending: configuration, folders, key, clock
    Check(ConfigFile),
    /// Make client keys
    #[command(subcommand)]
    Keys(Keys),
    /// The ledger: what was bought, what is unknown, and what to do about it
    ///
    /// Works beside a running gateway, and without one.
    Ledger(Ledger),
    /// Run the GPTProto simulator by itself
    Simulate(Simulate),
    /// Exit 0 when the gateway on this machine is ready
    Healthcheck(ConfigFile),
}

#[derive(Args, Debug)]
struct ConfigFile {
    /// Configuration file, laid over the defaults [also: `GATEWAY_CONFIG`]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Args, Debug)]
struct Serve {
    #[command(flatten)]
    file: ConfigFile,
    /// Run against a built-in simulator: no account, no cost, client key sk-sandbox
    #[arg(long)]
    sandbox: bool,
}

#[derive(Debug, Subcommand)]
enum Keys {
    /// Mint a client key: printed once, with the lines for the configuration
    New {
        /// Whose key it is: letters, digits, - _ . @
        #[arg(long)]
        name: String,
    },
}

#[derive(Args, Debug)]
struct Ledger {
    /// Configuration file, laid over the defaults [also: `GATEWAY_CONFIG`]
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// The sandbox's ledger
    #[arg(long, global = true)]
    sandbox: bool,
    #[command(subcommand)]
    asked: ledger::Command,
}

#[derive(Args, Debug)]
struct Simulate {
    /// Address to listen on
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8790")]
    listen: SocketAddr,
    /// Upstream key it accepts; more than one by naming it again
    #[arg(long = "key", value_name = "KEY", default_value = app::SIMULATOR_KEY)]
    keys: Vec<String>,
    /// Scenario file; config/simulator.toml shows every key
    #[arg(long, value_name = "FILE")]
    scenario: Option<PathBuf>,
    /// How much faster than the real service it works; overrides the scenario's
    #[arg(long, value_name = "FACTOR")]
    speed: Option<f64>,
    /// Log every accepted prediction to this file, durably, before its answer is sent
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
}

/// A usage or configuration error, as in BSD's sysexits.
const EXIT_USAGE: u8 = 64;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return help_or_refuse(&error),
    };
    match cli.command.unwrap_or(Command::Serve(cli.serve)) {
        Command::Serve(arguments) => serve(&arguments),
        Command::Check(file) => with_config(&file, |config| {
            process::harden();
            run(async move {
                let (lines, could_run) = app::check(&config).await;
                print!("{lines}");
                Ok(could_run)
            })
        }),
        Command::Keys(Keys::New { name }) => new_key(&name),
        Command::Ledger(arguments) => ledger_command(arguments),
        Command::Simulate(arguments) => simulate(arguments),
        Command::Healthcheck(file) => with_config(&file, |config| match operator::probe(config.operator_listen()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(problem) => fail(&problem, ExitCode::FAILURE),
        }),
    }
}

fn help_or_refuse(error: &clap::Error) -> ExitCode {
    let asked = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
    if asked || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        let _ = error.print();
        return if asked { ExitCode::SUCCESS } else { ExitCode::from(EXIT_USAGE) };
    }
    fail(&in_one_line(error), ExitCode::from(EXIT_USAGE))
}

/// What is wrong with the arguments, without the usage that `--help` shows.
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
    with_config(&arguments.file, |config| {
        if !sandbox && let Err(error) = config.require_keys() {
            return fail(&error, ExitCode::from(EXIT_USAGE));
        }
        telemetry::start_logging(&config);
        process::harden();
        run(async move { if sandbox { app::run_sandbox(config).await } else { app::run(config).await } })
    })
}

fn simulate(arguments: Simulate) -> ExitCode {
    let Simulate { listen, keys, scenario: file, speed, log } = arguments;
    let mut scenario = Scenario::default();
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
        if !speed.is_finite() || speed <= 0.0 {
            return fail(&"--speed must be a number above 0", ExitCode::from(EXIT_USAGE));
        }
        scenario.speed = speed;
    }
    with_config(&ConfigFile { config: None }, |config| {
        telemetry::start_logging(&config);
        run(app::run_simulator(listen, Options { keys, scenario, log }))
    })
}

fn ledger_command(arguments: Ledger) -> ExitCode {
    let Ledger { config: file, sandbox, asked } = arguments;
    with_config(&ConfigFile { config: file.clone() }, |config| {
        match ledger::run(&config, file.as_deref(), sandbox, &asked) {
            Ok((text, all_well)) => {
                // Whoever reads may stop early, as `head` does.
                let _ = std::io::stdout().write_all(text.as_bytes());
                if all_well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
            }
            Err(error) => fail(&error, ExitCode::FAILURE),
        }
    })
}

fn new_key(name: &str) -> ExitCode {
    match mint_key(name, rand::random()) {
        Ok(minted) => {
            println!(
                "The key of {name}, shown this once:\n\n  {}\n\nFor the configuration file:\n\n  [[clients]]\n  \
                 name = \"{name}\"\n  key_digest = \"{}\"\n\nOr in the environment, which holds the key itself:\n\n  \
                 GATEWAY_CLIENT_KEYS={name}:{}",
                minted.key.expose(),
                minted.digest,
                minted.key.expose(),
            );
            ExitCode::SUCCESS
        }
        Err(error) => fail(&error, ExitCode::from(EXIT_USAGE)),
    }
}

fn with_config(file: &ConfigFile, then: impl FnOnce(Config) -> ExitCode) -> ExitCode {
    let environment: Environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect::<BTreeMap<_, _>>();
    match Config::load(file.config.as_deref(), &environment) {
        Ok(config) => then(config),
        Err(error) => fail(&error, ExitCode::from(EXIT_USAGE)),
    }
}

fn run(work: impl Future<Output = anyhow::Result<bool>>) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error, ExitCode::FAILURE),
    };
    match runtime.block_on(work) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => fail(&format!("{error:#}"), ExitCode::FAILURE),
    }
}

fn fail(problem: &dyn std::fmt::Display, code: ExitCode) -> ExitCode {
    eprintln!("gptproto-gateway: {problem}");
    code
}
