//! `ledger`: what was bought, what is of unknown outcome, and what to do about it.
//!
//! Reads the journal, whether or not a gateway runs beside it. Only `resolve` writes, and only the operator's decision and its line in
//! the audit;
//! `verify --repair` is carried out by the engine (`app/repair.rs`).

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::Config;
use crate::model::{Catalogue, ClientId, Clock, JobId, PurchaseId, SystemClock, Timestamp};
use crate::storage::clients::{self, Actor, Change};
use crate::storage::journal::{JobFilter, Ledger, LedgerError, PurchaseTimes, Resolution, StoredJob, open_ledger};
use crate::storage::stored_pictures;

mod args;
mod entry;
mod list;
mod reconcile;
mod show;
pub(crate) mod table;
mod time_arg;
mod verify;

pub use args::{Command, Decision, List, Reconcile, Verify};
use entry::{Entry, Payment};

/// Where the ledger is.
#[derive(Debug)]
struct Location {
    directory: PathBuf,
    /// The arguments that name this directory again.
    arguments: String,
}

impl Location {
    /// Returns a command line that the operator can copy.
    fn command(&self, arguments: &str) -> String {
        format!("gptproto-gateway ledger {arguments}{}", self.arguments)
    }
}

/// Why a command failed: one line.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("there is no journal in {directory}{hint}")]
    Missing { directory: String, hint: &'static str },
    #[error("{directory} has no job or purchase {id:?}; `ledger list` shows all")]
    NotFound { directory: String, id: String },
    #[error("{id} has {problem}")]
    Ambiguous { id: String, problem: String },
    #[error("{file} {problem}")]
    Export { file: String, problem: String },
    #[error("{0}")]
    Ledger(String),
}

impl From<LedgerError> for Error {
    fn from(error: LedgerError) -> Self {
        Self::Ledger(error.to_string())
    }
}

/// Executes a command. Returns the text for standard output, and whether nothing needs the operator's attention.
///
/// # Errors
///
/// [`Error`].
pub fn run(config: &Config, file: Option<&Path>, sandbox: bool, command: &Command) -> Result<(String, bool), Error> {
    let (ledger, directory) = open(config, sandbox)?;
    let location = Location { directory, arguments: location_arguments(file, sandbox) };
    let runner = Runner { ledger, catalogue: &config.catalogue, location, now: SystemClock.now() };
    match command {
        Command::List(list) => Ok((runner.list(list)?, true)),
        Command::Show { id, json } => Ok((runner.show(id, *json)?, true)),
        Command::Resolve { id, decision } => Ok((runner.resolve(id, *decision)?, true)),
        Command::Reconcile(reconcile) => runner.reconcile(reconcile, config.upstream.deadline),
        Command::Verify(verify) => runner.verify(*verify),
    }
}

/// Opens the ledger, and returns its directory.
fn open(config: &Config, sandbox: bool) -> Result<(Box<dyn Ledger>, PathBuf), Error> {
    let storage = &config.storage;
    let directory = if sandbox { storage.sandbox() } else { storage.directory.clone() };
    let journal = directory.join("journal.sqlite");
    let directory = std::path::absolute(&directory).unwrap_or(directory);
    match open_ledger(&journal) {
        Ok(ledger) => Ok((ledger, directory)),
        Err(LedgerError::Missing(_)) => {
            let in_sandbox = !sandbox && storage.sandbox().join("journal.sqlite").exists();
            let hint = if in_sandbox {
                " (storage.directory); its sandbox has one: add --sandbox"
            } else {
                " (storage.directory); no gateway has run there"
            };
            Err(Error::Missing { directory: directory.display().to_string(), hint })
        }
        Err(error) => Err(error.into()),
    }
}

/// Returns the stored pictures that are damaged or missing: their job, and their place among its pictures.
///
/// # Errors
///
/// [`Error`] when the journal or the pictures cannot be read.
pub(crate) fn damaged_pictures(config: &Config) -> Result<Vec<(JobId, usize)>, Error> {
    let (ledger, directory) = open(config, false)?;
    Ok(verify::verify(&*ledger, &*stored_pictures(&directory))?.1)
}

/// Returns the arguments, each behind a space, by which a command finds the storage of a gateway.
pub(crate) fn location_arguments(file: Option<&Path>, sandbox: bool) -> String {
    let config = file.map(|file| format!(" --config {}", quoted(&file.display().to_string()))).unwrap_or_default();
    format!("{config}{}", if sandbox { " --sandbox" } else { "" })
}

/// Quotes a text for a shell when it needs quotes.
pub(crate) fn quoted(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"/._-+:@".contains(&b);
    if !text.is_empty() && text.bytes().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

/// Executes commands on an open ledger.
struct Runner<'a> {
    ledger: Box<dyn Ledger>,
    catalogue: &'a Catalogue,
    location: Location,
    now: Timestamp,
}

impl Runner<'_> {
    fn list(&self, list: &List) -> Result<String, Error> {
        let limit = (list.limit > 0).then_some(list.limit);
        let filter = JobFilter {
            states: list.state.clone(),
            client: list.client.as_deref().map(|name| ClientId(name.into())),
            since: list.since.map(|time| time.before(self.now)),
            until: list.until.map(|time| time.before(self.now)),
            // One more than the limit shows whether there are more.
            limit: limit.map(|limit| limit.saturating_add(1)),
        };
        let jobs = self.ledger.list(&filter)?;
        let mut entries = self.all_entries(&jobs)?;
        if !list.state.is_empty() {
            entries.retain(|entry| list.state.iter().any(|state| entry.purchase.state.name() == state));
        }
        let surplus = limit.map_or(0, |limit| entries.len().saturating_sub(limit));
        entries.drain(..surplus);
        if list.json {
            return Ok(entries.iter().map(|entry| json_line(&entry.json(self.catalogue))).collect());
        }
        Ok(list::text(&entries, surplus > 0, self.catalogue))
    }

    fn show(&self, id: &str, json: bool) -> Result<String, Error> {
        let (job, only) = self.find(id)?;
        let mut entries = self.entries(&job)?;
        if let Some(only) = only {
            entries.retain(|entry| entry.purchase.id == only);
        }
        if json {
            return Ok(json_line(&show::json(&job, &entries, self.catalogue)));
        }
        Ok(show::text(&job, &entries, self.catalogue, &self.location))
    }

    fn resolve(&self, id: &str, decision: Decision) -> Result<String, Error> {
        let (job, only) = self.find(id)?;
        let entries = self.entries(&job)?;
        let purchase = match only {
            Some(purchase) => purchase,
            None => only_unknown(id, &entries)?,
        };
        let (resolution, meaning) = match decision {
            Decision::Lost => (Resolution::Lost, "never bought"),
            Decision::Bought => (Resolution::Bought, "bought, without its picture"),
            Decision::Resubmit => (Resolution::Resubmit, "possibly bought, to be bought again"),
        };
        self.ledger.resolve(purchase, resolution, self.now)?;
        let note = Change::Note {
            action: "purchase.resolved",
            subject: purchase.to_string(),
            change: serde_json::json!({ "decision": resolution.name() }),
        };
        let store = clients::open(&self.location.directory.join("journal.sqlite"));
        if let Err(error) = store.and_then(|store| store.change(&note, Actor::CommandLine, &|| self.now)) {
            tracing::warn!(%error, %purchase, "a decision about a purchase is stored, but not in the audit");
        }
        Ok(format!("{purchase} is recorded as {meaning}. The same request, sent again, may buy.\n"))
    }

    fn reconcile(&self, args: &Reconcile, deadline: Duration) -> Result<(String, bool), Error> {
        let invalid = |problem: String| Error::Export { file: args.file.display().to_string(), problem };
        let bytes = std::fs::read(&args.file).map_err(|error| invalid(format!("cannot be read: {error}")))?;
        let export = reconcile::read_export(&String::from_utf8_lossy(&bytes), args.zone)
            .map_err(|error| invalid(error.to_string()))?;
        let period = reconcile::Period::new(
            args.since.map(|time| time.before(self.now)),
            args.until.map(|time| time.before(self.now)),
            &export,
        );
        let margin = args.slack.0.saturating_add(deadline);
        let filter = JobFilter {
            since: period.since.map(|since| time_arg::minus(since, margin)),
            until: period.until.map(|until| until.plus(margin)),
            ..JobFilter::default()
        };
        let jobs = self.ledger.list(&filter)?;
        let entries = self.all_entries(&jobs)?;
        let seen: BTreeSet<PurchaseId> = entries.iter().map(|entry| entry.purchase.id).collect();
        let unknown = self.ledger.list(&JobFilter { states: vec!["unknown".to_owned()], ..JobFilter::default() })?;
        let unknown_outside = unknown
            .iter()
            .flat_map(without_times)
            .filter(|entry| entry.payment() == Payment::Unknown && !seen.contains(&entry.purchase.id))
            .count();
        let settings = reconcile::Settings { period, slack: args.slack.0, deadline, now: self.now };
        let result = reconcile::compare(&entries, unknown_outside, export, settings, self.catalogue);
        let text = if args.json { json_line(&result.json(&self.location)) } else { result.text(&self.location) };
        Ok((text, result.is_consistent()))
    }

    fn verify(&self, verify: Verify) -> Result<(String, bool), Error> {
        let (found, _) = verify::verify(&*self.ledger, &*stored_pictures(&self.location.directory))?;
        let text = if verify.json { json_line(&found.json()) } else { found.text(&self.location) };
        Ok((text, found.fits()))
    }

    /// Returns the job of this id and, when the id is that of a purchase, the purchase.
    fn find(&self, id: &str) -> Result<(StoredJob, Option<PurchaseId>), Error> {
        let found = if let Ok(purchase) = id.parse::<PurchaseId>() {
            self.ledger.job(purchase.job)?.map(|job| (job, Some(purchase)))
        } else if let Ok(job) = id.parse::<JobId>() {
            self.ledger.job(job)?.map(|job| (job, None))
        } else {
            let job = self.ledger.by_upstream_id(id)?;
            job.map(|job| {
                let has_id = |entry: &Entry<'_>| entry.upstream().is_some_and(|upstream| upstream.as_str() == id);
                let only = without_times(&job).find(has_id).map(|entry| entry.purchase.id);
                (job, only)
            })
        };
        found
            .filter(|(job, only)| only.is_none_or(|only| job.purchases.iter().any(|known| known.id == only)))
            .ok_or_else(|| Error::NotFound {
                directory: self.location.directory.display().to_string(),
                id: id.to_owned(),
            })
    }

    fn all_entries<'a>(&self, jobs: &'a [StoredJob]) -> Result<Vec<Entry<'a>>, Error> {
        let mut entries = Vec::new();
        for job in jobs {
            entries.extend(self.entries(job)?);
        }
        Ok(entries)
    }

    fn entries<'a>(&self, job: &'a StoredJob) -> Result<Vec<Entry<'a>>, Error> {
        without_times(job).map(|entry| Ok(Entry { times: self.ledger.steps(entry.purchase.id)?, ..entry })).collect()
    }
}

/// The purchases of a job, without the times of their steps.
fn without_times(job: &StoredJob) -> impl Iterator<Item = Entry<'_>> {
    job.purchases.iter().map(move |purchase| Entry { job, purchase, times: PurchaseTimes::default() })
}

fn only_unknown(id: &str, entries: &[Entry<'_>]) -> Result<PurchaseId, Error> {
    let unknown: Vec<_> = entries.iter().filter(|entry| entry.payment() == Payment::Unknown).collect();
    let problem = match unknown.as_slice() {
        [one] => return Ok(one.purchase.id),
        [] => "no purchase of unknown outcome".to_owned(),
        [first, ..] => {
            format!("{} purchases of unknown outcome; name one, such as {}", unknown.len(), first.purchase.id)
        }
    };
    Err(Error::Ambiguous { id: id.to_owned(), problem })
}

fn json_line(value: &impl serde::Serialize) -> String {
    let mut line = serde_json::to_string(value).expect("these values are JSON");
    line.push('\n');
    line
}

#[cfg(test)]
mod tests;
