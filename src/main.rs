//! Command line: arguments and exit codes.
//!
//! 0: success. 1: failed while running, a check found a fault, or ended by a second signal. 2, 3: warnings of a check, and a purchase of it
//! without a picture; 2 also: `ledger verify` was not carried out, and a picture that may have cost money was not saved. 64: the
//! arguments or the configuration are wrong, or a purchase is not confirmed.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::future::Future;
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;
use gptproto_gateway::cli::{
    self, Accounts, Check, Cli, Command, ConfigFile, Healthcheck, Keys, Ledger, Serve, Simulate, Stored,
};
use gptproto_gateway::config::{Config, ConfigLocation, Environment, LISTEN, OPERATOR_LISTEN, find_file};
use gptproto_gateway::lifecycle::process;
use gptproto_gateway::simulator::{Options, Profile, Scenario};
use gptproto_gateway::{app, ledger, operator, telemetry};

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
        Command::Healthcheck(arguments) => healthcheck(&arguments),
        Command::Config(command) => configuration(&command),
        Command::Completions { shell } => printed(String::from_utf8_lossy(&cli::completions(shell))),
        Command::Man { directory } => match cli::manual(directory.as_deref()) {
            Ok(text) => printed(String::from_utf8_lossy(&text)),
            Err(error) => fail(&error, ExitCode::FAILURE),
        },
    }
}

fn configuration(command: &cli::ConfigCommand) -> ExitCode {
    let environment = environment().map_err(|problem| vec![problem]);
    match environment.and_then(|environment| cli::config(command, &environment)) {
        Ok(text) => printed(text),
        Err(problems) => {
            for problem in &problems {
                fail(problem, ExitCode::FAILURE);
            }
            ExitCode::from(EXIT_USAGE)
        }
    }
}

fn healthcheck(Healthcheck { file, operator_listen }: &Healthcheck) -> ExitCode {
    let overrides = [(OPERATOR_LISTEN, operator_listen.as_deref())];
    with_overrides(file, &overrides, false, |config, _, _| {
        match config.operator_listen().and_then(|listen| operator::probe(&listen)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(problem) => fail(&problem, ExitCode::FAILURE),
        }
    })
}

fn printed(text: impl Display) -> ExitCode {
    cli::print(text);
    ExitCode::SUCCESS
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
    let overrides = [(LISTEN, arguments.listen.as_deref()), (OPERATOR_LISTEN, arguments.operator_listen.as_deref())];
    with_overrides(&arguments.file, &overrides, sandbox, |config, location, environment| {
        if !sandbox && let Err(error) = app::require_keys(&config) {
            return fail(&error, ExitCode::from(EXIT_USAGE));
        }
        telemetry::start_logging(&config);
        process::harden();
        let config = if arguments.accept_new_journal { config.accepting_new_journal() } else { config };
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
    let Check { file, sandbox, arguments } = check;
    with_config(file, *sandbox, |config, location| {
        if let Some(ConfigLocation { path, is_found: true }) = location {
            cli::print_error(format_args!("configuration: {}", path.display()));
        }
        process::harden();
        block_on(async move {
            match app::check(&config, arguments, check.sandbox).await {
                Ok(report) => {
                    let text = if arguments.json { format!("{:#}\n", report.json()) } else { report.text() };
                    cli::print(text);
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
    with_config(&ConfigFile::default(), true, |config, _| {
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
                cli::print(text);
                if consistent { ExitCode::SUCCESS } else { ExitCode::FAILURE }
            }
            Err(error) => fail(&error, failed),
        }
    })
}

/// Runs a command on the storage of a gateway, and prints its text.
fn with_storage(stored: &Stored, run: impl FnOnce(&Config) -> Result<String, cli::CommandError>) -> ExitCode {
    with_config(&ConfigFile { config: stored.config.clone() }, stored.sandbox, |config, _| match run(&config) {
        Ok(text) => printed(text),
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
    with_overrides(file, &[], only_named, |config, location, _| then(config, location))
}

/// The same, with the values of arguments over those of the environment, which is passed on.
fn with_overrides(
    file: &ConfigFile,
    overrides: &[(&str, Option<&str>)],
    only_named: bool,
    then: impl FnOnce(Config, Option<ConfigLocation>, Environment) -> ExitCode,
) -> ExitCode {
    let mut environment = match environment() {
        Ok(environment) => environment,
        Err(problem) => return fail(&problem, ExitCode::from(EXIT_USAGE)),
    };
    let given = overrides.iter().filter_map(|(name, value)| Some(((*name).to_owned(), value.as_ref()?.to_string())));
    environment.extend(given);
    let loaded = find_file(file.config.as_deref(), &environment).and_then(|location| {
        let location = location.filter(|location| !(only_named && location.is_found));
        let config = Config::load(location.as_ref().map(|location| location.path.as_path()), &environment)?;
        Ok((config, location))
    });
    match loaded {
        Ok((config, location)) => then(config, location, environment),
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
    cli::print_error(format_args!("gptproto-gateway: {problem}"));
    code
}
