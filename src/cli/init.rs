//! `init`: the guided set-up. Asks for the upstream key, has the service check it, makes a client key and writes a configuration
//! where `serve` finds it.
//!
//! At a terminal it asks. With input from a pipe it reads one line for each answer, and the end of the input takes the
//! defaults. With `--non-interactive` it asks nothing: the upstream key comes from `GPTPROTO_API_KEY`.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use clap::Args;

use super::pictures::base_of;
use super::printer::{print, print_error, program, try_print};
use crate::app::{self, CheckArguments, KeyVerdict};
use crate::config::{Config, Environment, NewKey, Secret, mint_key, setup_paths};
use crate::ledger::quoted;

mod dialog;
mod files;

use dialog::Dialog;
use files::{NewConfig, key_file, write};

const EXIT_FAILED: u8 = 1;
const EXIT_USAGE: u8 = 64;
const KEY_VARIABLE: &str = "GPTPROTO_API_KEY";
/// What an upstream key in a file is refused beside.
const KEY_VARIABLES: [&str; 4] = [KEY_VARIABLE, "GPTPROTO_API_KEY_FILE", "GPTPROTO_API_KEYS", "GPTPROTO_API_KEYS_FILE"];

const CONFIG_HELP: &str =
    "Configuration file to write [env: GATEWAY_CONFIG] [default: in the user's configuration folder]";

/// Arguments of `init`.
#[derive(Args, Debug)]
pub struct InitArguments {
    #[arg(long, value_name = "FILE", help = CONFIG_HELP)]
    config: Option<PathBuf>,
    /// Name of the first client: letters, digits and - _ . @
    #[arg(long, value_name = "NAME", default_value = "me")]
    name: String,
    /// Another address of the service, such as that of `simulate`
    #[arg(long, value_name = "URL")]
    base_url: Option<String>,
    #[arg(long, help = "Ask nothing: the upstream key comes from GPTPROTO_API_KEY, and no file is replaced")]
    non_interactive: bool,
}

/// Why the set-up ended.
struct Stopped {
    exit_code: u8,
    message: String,
}

impl Stopped {
    fn failed(message: impl Into<String>) -> Self {
        Self { exit_code: EXIT_FAILED, message: message.into() }
    }

    fn usage(message: impl Into<String>) -> Self {
        Self { exit_code: EXIT_USAGE, message: message.into() }
    }
}

impl From<std::io::Error> for Stopped {
    fn from(error: std::io::Error) -> Self {
        // By Ctrl-C.
        let is_complete = error.kind() == ErrorKind::Interrupted;
        Self::failed(if is_complete { error.to_string() } else { format!("the answer cannot be read: {error}") })
    }
}

/// Sets a gateway up. Returns the exit code.
pub async fn init(arguments: InitArguments, environment: &Environment) -> u8 {
    let mut dialog = if arguments.non_interactive { Dialog::silent() } else { Dialog::new() };
    match set_up(&arguments, environment, &mut dialog).await {
        Ok(exit_code) => exit_code,
        Err(Stopped { exit_code, message }) => {
            print_error(format_args!("gptproto-gateway: {message}"));
            exit_code
        }
    }
}

async fn set_up(arguments: &InitArguments, environment: &Environment, dialog: &mut Dialog) -> Result<u8, Stopped> {
    let paths = setup_paths(arguments.config.as_deref(), environment);
    let Some(file) = paths.config else {
        return Err(Stopped::usage("there is no HOME for the configuration; name a file with --config"));
    };
    let client_key = mint_key(&arguments.name, rand::random()).map_err(|error| Stopped::usage(error.to_string()))?;
    check_base_url(arguments, environment)?;
    let there: Vec<String> = [&file, &key_file(&file)]
        .into_iter()
        .filter(|path| path.symlink_metadata().is_ok())
        .map(|path| path.display().to_string())
        .collect();
    if !there.is_empty() {
        let there = there.join(" and ");
        if !dialog.confirm(&format!("There is {there} already. Replace?"), false)? {
            return Err(Stopped::usage(format!("{there} exists, and nothing was changed")));
        }
    }
    print(format_args!(
        "This writes {} and asks the service whether it accepts the key, which costs nothing.\n\n",
        file.display()
    ));
    let upstream_key = upstream_key(arguments, environment, dialog).await?;
    let new = NewConfig {
        file: &file,
        storage: &paths.storage,
        base_url: arguments.base_url.as_deref(),
        name: &arguments.name,
        upstream_key: &upstream_key,
        client_key: &client_key,
    };
    let key_file = write(&new).map_err(Stopped::failed)?;
    try_print(format_args!(
        "Written, for you alone to read:\n\n  {}\n  {}\n\nPictures and the ledger will be in\n\n  {}\n\n\
         The client key of {}, shown only once:\n\n  {}\n\n",
        file.display(),
        key_file.display(),
        paths.storage.display(),
        arguments.name,
        client_key.key.expose()
    ))
    .map_err(|error| {
        Stopped::failed(format!(
            "{} is written, and its client key cannot be shown ({error}); run init again to make another",
            file.display()
        ))
    })?;
    let loaded = Config::load(Some(&file), &without_key(environment));
    let config =
        loaded.map_err(|error| Stopped::failed(format!("{} is written and wrong: {error}", file.display())))?;
    let exit_code = offer_live_check(&config, dialog).await?;
    next_steps(arguments, environment, &config, &client_key, &file);
    Ok(exit_code)
}

/// Fails when no key could make a configuration with the address of the service.
fn check_base_url(arguments: &InitArguments, environment: &Environment) -> Result<(), Stopped> {
    let any_key = Secret::new("sk-not-yet-known".to_owned());
    let Err(error) = Config::load(None, &with_key(arguments, environment, &any_key)) else { return Ok(()) };
    let problem = error.to_string();
    let is_given = arguments.base_url.is_some() && problem.contains("upstream.base_url");
    Err(Stopped::usage(if is_given { format!("--base-url: {problem}") } else { problem }))
}

/// Asks for an upstream key until the service accepts one.
async fn upstream_key(
    arguments: &InitArguments,
    environment: &Environment,
    dialog: &mut Dialog,
) -> Result<Secret, Stopped> {
    let mut known = environment.get(KEY_VARIABLE).filter(|key| !key.is_empty()).cloned();
    if arguments.non_interactive && known.is_none() {
        return Err(Stopped::usage(format!("--non-interactive needs {KEY_VARIABLE}")));
    }
    if known.is_some()
        && !arguments.non_interactive
        && !dialog.confirm(&format!("Use the key of {KEY_VARIABLE}?"), true)?
    {
        known = None;
    }
    loop {
        let from_environment = known.is_some();
        let key = match known.take() {
            Some(key) => Secret::new(key),
            None => match dialog.secret("Upstream key (from https://gptproto.com under API keys, not shown): ")? {
                Some(key) => key,
                None => return Err(Stopped::usage("no upstream key; nothing was written")),
            },
        };
        if key.expose().is_empty() {
            continue;
        }
        let problem = match Config::load(None, &with_key(arguments, environment, &key)) {
            Err(error) => error.to_string(),
            Ok(config) => match app::check_key(&config).await {
                (KeyVerdict::Accepted, seen) => {
                    print(format_args!("{seen}.\n"));
                    return Ok(key);
                }
                (KeyVerdict::Refused, seen) => seen,
                (KeyVerdict::Unchecked, seen) => {
                    print(format_args!("{seen}.\n"));
                    if arguments.non_interactive || dialog.confirm("Write the configuration all the same?", false)? {
                        return Ok(key);
                    }
                    return Err(Stopped::failed("nothing was written"));
                }
            },
        };
        if from_environment && arguments.non_interactive {
            return Err(Stopped::failed(format!("{problem}; nothing was written")));
        }
        print(format_args!("{problem}. Try another one.\n"));
    }
}

/// Returns the environment without what would stand beside the new configuration.
fn without_key(environment: &Environment) -> Environment {
    let mut environment = environment.clone();
    for name in KEY_VARIABLES.into_iter().chain(["GATEWAY_CONFIG"]) {
        environment.remove(name);
    }
    environment
}

/// Returns the environment of a gateway with an upstream key, before there is a configuration.
fn with_key(arguments: &InitArguments, environment: &Environment, key: &Secret) -> Environment {
    let mut variables = without_key(environment);
    variables.insert(KEY_VARIABLE.to_owned(), key.expose().to_owned());
    if let Some(url) = &arguments.base_url {
        variables.insert("GATEWAY_UPSTREAM__BASE_URL".to_owned(), url.clone());
    }
    variables
}

/// Offers to buy one picture. Returns the exit code of the check, or 0 without one.
async fn offer_live_check(config: &Config, dialog: &mut Dialog) -> Result<u8, Stopped> {
    let mut arguments = CheckArguments::live_once();
    let Ok(usd) = app::live_check_price(config, &arguments) else { return Ok(0) };
    let question = format!(
        "Buy one small picture now, for at most ${usd:.3}? It proves the whole chain and takes up to three minutes \
         (`check --live` does the same later)."
    );
    if !dialog.confirm(&question, false)? {
        return Ok(0);
    }
    arguments.max_usd = usd;
    match Box::pin(app::check(config, &arguments, false)).await {
        Ok(report) => {
            print(format_args!("{}\n", report.text()));
            Ok(report.exit_code())
        }
        Err(error) => Err(Stopped::failed(format!("{error}"))),
    }
}

fn next_steps(arguments: &InitArguments, environment: &Environment, config: &Config, client_key: &NewKey, file: &Path) {
    let found = crate::config::find_file(None, environment).ok().flatten();
    let is_found = found.as_ref().is_some_and(|found| std::path::absolute(file).is_ok_and(|file| file == found.path));
    let argument = if is_found { String::new() } else { format!(" --config {}", quoted(&file.display().to_string())) };
    let base = base_of(config).map_or_else(|_| "http://127.0.0.1:8787/v1/".to_owned(), String::from);
    print(format_args!(
        "Next:\n\n  {program} serve{argument}\n\nand in another terminal, for the programs that use OpenAI's API and for `edit`:\n\n  \
         export OPENAI_BASE_URL={base} OPENAI_API_KEY={key}\n  \
         {program} edit cat.png \"make it a winter night\" -o winter.png\n\n",
        program = program(environment),
        base = base.trim_end_matches('/'),
        key = client_key.key.expose(),
    ));
    if let Some(found) = found.filter(|found| found.is_found && !is_found && arguments.config.is_none()) {
        print(format_args!("Note: `serve` in this folder reads {} instead.\n", found.path.display()));
    }
    let set: Vec<&str> = KEY_VARIABLES.into_iter().filter(|name| environment.contains_key(*name)).collect();
    if !set.is_empty() {
        let set = set.join(" ");
        print(format_args!(
            "Note: unset {set} before `serve`; the key is in a file now, and both together are refused.\n"
        ));
    }
}
