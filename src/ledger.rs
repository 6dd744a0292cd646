//! `predictions`: what was bought, what is unknown, and what to do about it. Reads the journal of a gateway that may be
//! running, and writes nothing but decisions.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use crate::config::Config;
use crate::model::{Catalogue, ClientId, Clock, JobId, PurchaseId, SystemClock, Timestamp};
use crate::storage::journal::{JobFilter, Ledger, LedgerError, PurchaseTimes, Resolution, StoredJob};

mod entry;
mod export;
mod list;
mod matching;
mod moment;
mod reconcile;
mod show;
mod table;

use entry::{Entry, Standing};
use moment::{Moment, Span, Zone};

/// What is asked of the ledger.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List predictions, newest last, with what they cost
    ///
    /// PRICE: ~ by estimate, because the upstream reported no tokens; ? perhaps spent; - nothing was bought.
    List(List),
    /// Show everything the journal knows of one
    Show {
        /// An order (pred_…), a prediction (pred_….0), or the upstream's id
        id: String,
        /// One JSON object
        #[arg(long)]
        json: bool,
    },
    /// Decide what became of a purchase whose answer was lost
    ///
    /// The gateway never sends such a purchase again, and holds the same request for a while. After any of the three
    /// decisions it no longer does: the same request, asked again, may buy.
    Resolve {
        /// The prediction (pred_….0), or its order where only one is unknown
        id: String,
        decision: Decision,
    },
    /// Compare with a usage export of the vendor's dashboard
    ///
    /// Reads CSV with a header, or JSON lines. Columns are found by name: a time or an id, and if there are any a model
    /// and a cost in US dollars. Exits 1 when something is off.
    Reconcile(Reconcile),
}

/// Which predictions to list.
#[derive(Args, Debug)]
pub struct List {
    /// Only those in this state
    #[arg(long, value_parser = ["intent", "committing", "accepted", "resolved", "failed", "unknown"])]
    state: Option<String>,
    /// Only those of this client
    #[arg(long, value_name = "NAME")]
    client: Option<String>,
    /// Only those asked for since then: 2026-11-21, 2026-11-21T10:00Z, or an age such as 2h or 7d
    #[arg(long, value_name = "TIME")]
    since: Option<Moment>,
    /// Only those asked for before then
    #[arg(long, value_name = "TIME")]
    until: Option<Moment>,
    /// The newest so many; 0 for all
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: usize,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

/// What to compare with.
#[derive(Args, Debug)]
pub struct Reconcile {
    /// The export
    file: PathBuf,
    /// What the export covers, from here [default: its first line]
    #[arg(long, value_name = "TIME")]
    since: Option<Moment>,
    /// What the export covers, to here [default: its last line]
    #[arg(long, value_name = "TIME")]
    until: Option<Moment>,
    /// How far the two clocks may be apart
    #[arg(long, value_name = "SPAN", default_value = "120s")]
    slack: Span,
    /// Which zone the export means where it names none, such as +08:00
    #[arg(long, value_name = "OFFSET", default_value = "UTC", allow_hyphen_values = true)]
    zone: Zone,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

/// What became of a purchase.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Decision {
    /// It was never bought
    Lost,
    /// It was bought, and its picture is out of reach
    Bought,
    /// Nobody knows; buy again, even if that pays twice
    Resubmit,
}

/// Where the ledger is, as it was asked for.
#[derive(Debug)]
struct Place {
    directory: PathBuf,
    /// Arguments that lead here again.
    arguments: String,
}

impl Place {
    /// A command line to copy.
    fn command(&self, words: &str) -> String {
        format!("gptproto-gateway ledger {words}{}", self.arguments)
    }
}

/// Why the ledger could not answer: one line.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("there is no journal in {directory}{hint}")]
    Missing { directory: String, hint: &'static str },
    #[error("nothing in {directory} is called {id:?}; `ledger list` shows what is there")]
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

/// Answers in text for standard output, and whether all is well.
///
/// # Errors
///
/// [`Error`].
pub fn run(config: &Config, file: Option<&Path>, sandbox: bool, asked: &Command) -> Result<(String, bool), Error> {
    let storage = &config.storage;
    let directory = if sandbox { storage.sandbox() } else { storage.directory.clone() };
    let journal = directory.join("journal.sqlite");
    let directory = std::path::absolute(&directory).unwrap_or(directory);
    let ledger = match Ledger::open(&journal) {
        Ok(ledger) => ledger,
        Err(LedgerError::Missing(_)) => {
            let in_sandbox = !sandbox && storage.sandbox().join("journal.sqlite").exists();
            let hint = if in_sandbox {
                " (storage.directory), but in its sandbox: --sandbox looks there"
            } else {
                " (storage.directory); no gateway has run there"
            };
            return Err(Error::Missing { directory: directory.display().to_string(), hint });
        }
        Err(error) => return Err(error.into()),
    };
    let config_argument = file.map(|file| format!(" --config {}", quoted(&file.display().to_string())));
    let sandbox_argument = if sandbox { " --sandbox" } else { "" };
    let arguments = format!("{}{sandbox_argument}", config_argument.unwrap_or_default());
    let desk =
        Desk { ledger, catalogue: &config.catalogue, place: Place { directory, arguments }, now: SystemClock.now() };
    match asked {
        Command::List(list) => Ok((desk.list(list)?, true)),
        Command::Show { id, json } => Ok((desk.show(id, *json)?, true)),
        Command::Resolve { id, decision } => Ok((desk.resolve(id, *decision)?, true)),
        Command::Reconcile(reconcile) => desk.reconcile(reconcile, config.upstream.deadline),
    }
}

/// Quotes for a shell what needs it.
fn quoted(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"/._-+:@".contains(&b);
    if !text.is_empty() && text.bytes().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

/// Where the questions are answered.
struct Desk<'a> {
    ledger: Ledger,
    catalogue: &'a Catalogue,
    place: Place,
    now: Timestamp,
}

impl Desk<'_> {
    fn list(&self, list: &List) -> Result<String, Error> {
        // One more than asked for tells whether there are more.
        let limit = (list.limit > 0).then_some(list.limit);
        let filter = JobFilter {
            state: list.state.clone(),
            client: list.client.as_deref().map(|name| ClientId(name.into())),
            since: list.since.map(|moment| moment.before(self.now)),
            until: list.until.map(|moment| moment.before(self.now)),
            limit: limit.map(|limit| limit.saturating_add(1)),
        };
        let jobs = self.ledger.list(&filter)?;
        let mut entries = Vec::new();
        for job in &jobs {
            entries.extend(self.entries(job)?);
        }
        if let Some(state) = &list.state {
            entries.retain(|entry| entry.purchase.state.name() == state);
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
        Ok(show::text(&job, &entries, self.catalogue, &self.place))
    }

    fn resolve(&self, id: &str, decision: Decision) -> Result<String, Error> {
        let (job, only) = self.find(id)?;
        let entries = self.entries(&job)?;
        let purchase = match only {
            Some(purchase) => purchase,
            None => only_unknown(id, &entries)?,
        };
        let resolution = match decision {
            Decision::Lost => Resolution::Lost,
            Decision::Bought => Resolution::Bought,
            Decision::Resubmit => Resolution::Resubmit,
        };
        self.ledger.resolve(purchase, resolution, self.now)?;
        let meaning = match resolution {
            Resolution::Lost => "never bought",
            Resolution::Bought => "bought, its picture out of reach",
            Resolution::Resubmit => "perhaps bought, and to be bought again",
        };
        Ok(format!(
            "{purchase} is written down as {meaning}; the same request is no longer held and may buy when asked again\n"
        ))
    }

    fn reconcile(&self, asked: &Reconcile, deadline: Duration) -> Result<(String, bool), Error> {
        let complain = |problem: String| Error::Export { file: asked.file.display().to_string(), problem };
        let bytes = std::fs::read(&asked.file).map_err(|error| complain(format!("cannot be read: {error}")))?;
        let export =
            export::read(&String::from_utf8_lossy(&bytes), asked.zone).map_err(|error| complain(error.to_string()))?;
        let covered = reconcile::Covered::new(
            asked.since.map(|moment| moment.before(self.now)),
            asked.until.map(|moment| moment.before(self.now)),
            &export,
        );
        let margin = asked.slack.0.saturating_add(deadline);
        let filter = JobFilter {
            since: covered.since.map(|since| moment::minus(since, margin)),
            until: covered.until.map(|until| until.plus(margin)),
            ..JobFilter::default()
        };
        let jobs = self.ledger.list(&filter)?;
        let mut entries = Vec::new();
        for job in &jobs {
            entries.extend(self.entries(job)?);
        }
        let seen: BTreeSet<PurchaseId> = entries.iter().map(|entry| entry.purchase.id).collect();
        let unknown = self.ledger.list(&JobFilter { state: Some("unknown".to_owned()), ..JobFilter::default() })?;
        let elsewhere = unknown
            .iter()
            .flat_map(bare)
            .filter(|entry| entry.standing() == Standing::Unknown && !seen.contains(&entry.purchase.id))
            .count();
        let terms = reconcile::Terms { covered, slack: asked.slack.0, deadline, now: self.now };
        let findings = reconcile::compare(&entries, elsewhere, export, terms, self.catalogue);
        let text = if asked.json { json_line(&findings.json(&self.place)) } else { findings.text(&self.place) };
        Ok((text, findings.all_well()))
    }

    /// An order, and the one prediction of it that was meant, if it was.
    fn find(&self, id: &str) -> Result<(StoredJob, Option<PurchaseId>), Error> {
        let found = if let Ok(purchase) = id.parse::<PurchaseId>() {
            self.ledger.job(purchase.job)?.map(|job| (job, Some(purchase)))
        } else if let Ok(job) = id.parse::<JobId>() {
            self.ledger.job(job)?.map(|job| (job, None))
        } else {
            let job = self.ledger.by_upstream_id(id)?;
            job.map(|job| {
                let named = |entry: &Entry<'_>| entry.upstream().is_some_and(|upstream| upstream.as_str() == id);
                let only = bare(&job).find(named).map(|entry| entry.purchase.id);
                (job, only)
            })
        };
        found
            .filter(|(job, only)| only.is_none_or(|only| job.purchases.iter().any(|known| known.id == only)))
            .ok_or_else(|| Error::NotFound { directory: self.place.directory.display().to_string(), id: id.to_owned() })
    }

    fn entries<'a>(&self, job: &'a StoredJob) -> Result<Vec<Entry<'a>>, Error> {
        bare(job).map(|entry| Ok(Entry { steps: self.ledger.steps(entry.purchase.id)?, ..entry })).collect()
    }
}

/// The predictions of an order, without their times.
fn bare(job: &StoredJob) -> impl Iterator<Item = Entry<'_>> {
    job.purchases.iter().map(move |purchase| Entry { job, purchase, steps: PurchaseTimes::default() })
}

fn only_unknown(id: &str, entries: &[Entry<'_>]) -> Result<PurchaseId, Error> {
    let unknown: Vec<_> = entries.iter().filter(|entry| entry.standing() == Standing::Unknown).collect();
    let problem = match unknown.as_slice() {
        [one] => return Ok(one.purchase.id),
        [] => "no prediction that is unknown and undecided".to_owned(),
        [first, ..] => format!("{} unknown predictions: name one, such as {}", unknown.len(), first.purchase.id),
    };
    Err(Error::Ambiguous { id: id.to_owned(), problem })
}

fn json_line(value: &impl serde::Serialize) -> String {
    let mut line = serde_json::to_string(value).expect("our own values are JSON");
    line.push('\n');
    line
}

#[cfg(test)]
mod tests;
