//! `check`: diagnoses a deployment, without spending anything unless `--live` is given.

use std::sync::Arc;
use std::time::Duration;

use super::backend::learned::FORMAT_STATE;
use super::simulator::{RunningSimulator, SIMULATOR_KEY};
use crate::config::Config;
use crate::simulator::Profile;
use crate::storage::{self, DataDirectory, DataDirectoryError, DirectoryState};
use crate::upstream::GptProto;

mod args;
mod deployment;
mod dns;
mod fields;
mod live;
mod ports;
mod report;
mod service;

pub use args::CheckArguments;
use report::{Row, STORAGE_ADVICE, Section, Verdict};

pub use report::Report;
pub(crate) use service::KeyVerdict;

/// Why `check` did nothing.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// The arguments cannot be followed, or the purchase is not confirmed.
    #[error("{0}")]
    Usage(String),
    #[error("{0:#}")]
    Failed(anyhow::Error),
}

/// Checks configuration, folders, ports, keys, clock and the service; with `--live` it buys. The service of the sandbox is a
/// simulator that runs meanwhile.
///
/// # Errors
///
/// [`CheckError`]; nothing was bought.
pub async fn check(config: &Config, arguments: &CheckArguments, sandbox: bool) -> Result<Report, CheckError> {
    if !sandbox {
        return check_deployment(config, arguments).await;
    }
    let simulator = RunningSimulator::for_sandbox(Profile::Documented).await.map_err(CheckError::Failed)?;
    let config = config.clone().sandboxed(simulator.address, SIMULATOR_KEY);
    let checked = check_deployment(&config, arguments).await;
    simulator.stop(Duration::ZERO).await;
    checked
}

async fn check_deployment(config: &Config, arguments: &CheckArguments) -> Result<Report, CheckError> {
    let mut report = Report::default();
    let plan = if arguments.live { Some(planned(config, arguments)?) } else { None };
    let mut section = Section::default();
    if arguments.forget {
        section.add(forget(config)?);
    }
    deployment::check(config, arguments.live, &mut section).await;
    if !config.accounts.is_empty() {
        match GptProto::new(&config.upstream, &config.accounts, Arc::new(config.catalogue.clone()), None) {
            Err(error) => section.add(Row::new(
                Verdict::Fault,
                "upstream",
                format!("cannot build the client: {error}"),
                "see that the system has TLS roots, and the key is one line",
            )),
            Ok(upstream) => service::check(config, &upstream, &mut section).await,
        }
    }
    let can_serve = section.worst() < Verdict::Fault;
    // A port in use does not keep a picture from being bought.
    if !arguments.without_ports {
        ports::check(config, deployment::is_storage_in_use(config), &mut section).await;
    }
    report.add(section);
    if let Some(plan) = plan.filter(|_| can_serve) {
        live::check(config, &plan, &mut report).await.map_err(CheckError::Failed)?;
    }
    Ok(report)
}

/// Asks the service whether it accepts the key of the first account, which costs nothing. Returns what it says, too.
pub(crate) async fn check_key(config: &Config) -> (KeyVerdict, String) {
    match GptProto::new(&config.upstream, &config.accounts, Arc::new(config.catalogue.clone()), None) {
        Ok(upstream) => service::check_key(config, &upstream).await,
        Err(error) => (KeyVerdict::Unchecked, format!("cannot build the client: {error}")),
    }
}

/// Returns what a live check costs at most, in US dollars.
///
/// # Errors
///
/// Why there can be none.
pub(crate) fn live_check_price(config: &Config, arguments: &CheckArguments) -> Result<f64, String> {
    live::Plan::new(config, arguments).map(|plan| plan.usd())
}

/// Plans the purchases, shows them, and has them confirmed.
fn planned(config: &Config, arguments: &CheckArguments) -> Result<live::Plan, CheckError> {
    let plan = live::Plan::new(config, arguments).map_err(CheckError::Usage)?;
    refuse_in_use(config)?;
    eprint!("{}", plan.text());
    plan.confirm(arguments).map_err(CheckError::Usage)?;
    Ok(plan)
}

/// Fails when a gateway runs on the data directory: it alone may write the journal.
fn refuse_in_use(config: &Config) -> Result<(), CheckError> {
    match DataDirectory::inspect(&config.storage.directory) {
        Err(error @ DataDirectoryError::InUse(_)) => Err(CheckError::Usage(format!(
            "{error}; stop it first, or check with another storage.directory. Nothing was bought"
        ))),
        Ok(_) | Err(DataDirectoryError::Io { .. }) => Ok(()),
    }
}

/// Drops what is known about request formats.
fn forget(config: &Config) -> Result<Row, CheckError> {
    refuse_in_use(config)?;
    if let Ok(DirectoryState::Missing) = DataDirectory::inspect(&config.storage.directory) {
        return Ok(Row::good("formats", "nothing was known about request formats"));
    }
    let forgotten = storage::open_state(&config.storage)
        .map_err(|error| error.to_string())
        .and_then(|state| state.remove(FORMAT_STATE).map_err(|error| error.to_string()));
    Ok(match forgotten {
        Ok(true) => Row::good("formats", "what was known about request formats is forgotten"),
        Ok(false) => Row::good("formats", "nothing was known about request formats"),
        Err(problem) => Row::new(Verdict::Fault, "formats", problem, STORAGE_ADVICE),
    })
}
