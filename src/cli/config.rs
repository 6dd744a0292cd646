//! `config`: what is in force and why, whether a file is valid, and what a file may contain.

use std::path::{Path, PathBuf};

use clap::Subcommand;

use super::CONFIG_HELP;
use crate::config::{self, Config, Environment, find_file};

/// What to do with the configuration.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Print the configuration in force as TOML, with where each value is written; secrets are not shown
    Print {
        #[arg(long, value_name = "FILE", help = CONFIG_HELP)]
        config: Option<PathBuf>,
        /// Only what differs from the defaults
        #[arg(long)]
        changed: bool,
    },
    /// Check a file without starting: names, types, ranges, the files and secrets it names
    ///
    /// Variables of the environment override the file, as when serving. Exit codes: 0 valid, 64 not; each mistake is one line.
    Check {
        #[arg(help = CONFIG_HELP)]
        file: Option<PathBuf>,
    },
    /// Print the JSON Schema of a configuration file, for editors
    Schema,
}

/// Executes a command. Returns the text for standard output.
///
/// # Errors
///
/// What is wrong with the configuration, one line each.
pub fn config(command: &ConfigCommand, environment: &Environment) -> Result<String, Vec<String>> {
    match command {
        ConfigCommand::Schema => Ok(format!("{:#}\n", config::schema())),
        ConfigCommand::Print { config, changed } => {
            let (file, _, layers) = read(config.as_deref(), environment)?;
            Ok(config::print(&layers, file.as_deref(), environment, *changed))
        }
        ConfigCommand::Check { file } => {
            let (file, config, layers) = read(file.as_deref(), environment)?;
            let (count, changed) = layers.count();
            let name = file.map_or_else(|| "no file".to_owned(), |file| file.display().to_string());
            let note = config.require_keys().err().map(|missing| format!("note: {missing}\n")).unwrap_or_default();
            Ok(format!("{name}: valid; {changed} of {count} keys differ from their defaults\n{note}"))
        }
    }
}

type Read = (Option<PathBuf>, Config, config::Layers);

fn read(named: Option<&Path>, environment: &Environment) -> Result<Read, Vec<String>> {
    let location = find_file(named, environment).map_err(|error| vec![error.to_string()])?;
    let file = location.map(|location| location.path);
    let loaded = Config::load_all(file.as_deref(), environment);
    let (config, layers) = loaded.map_err(|problems| problems.iter().map(ToString::to_string).collect::<Vec<_>>())?;
    Ok((file, config, layers))
}
