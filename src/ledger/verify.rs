//! `ledger verify`: compares the journal with the stored pictures, and reports what does not fit. Changes nothing, and works
//! beside a gateway that runs.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use bytes::Bytes;

use crate::model::{Digest, JobId, PurchaseId, StoredPicture, UpstreamId};
use crate::storage::PictureStore;
use crate::storage::journal::{JobFilter, Ledger, StoredJob, StoredState};
use crate::storage::results::{PictureDamage, examine};

use super::Error;

mod report;

/// Jobs that are read at once.
const PAGE: usize = 500;
/// How long a gateway that runs may take to journal a picture that it has just stored.
const JOURNAL_PAUSE: Duration = Duration::from_secs(2);

/// What `ledger verify` found.
#[derive(Debug, Default)]
pub(super) struct Verification {
    jobs: usize,
    pictures: usize,
    bytes: u64,
    findings: Vec<Finding>,
}

/// Something that does not fit.
#[derive(Debug, PartialEq)]
struct Finding {
    kind: FindingKind,
    /// The job or the purchase, where one is known.
    id: Option<String>,
    digest: Option<Digest>,
    upstream: Option<UpstreamId>,
    seen: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FindingKind {
    /// The database, or a record of it.
    Journal,
    RepeatedId,
    Missing,
    Damaged,
    /// A stored picture that no job has.
    Unknown,
    /// One that is set aside.
    Orphan,
}

impl Verification {
    /// Returns whether everything fits.
    pub(super) fn fits(&self) -> bool {
        self.findings.is_empty()
    }
}

/// Compares a ledger with its pictures. Returns what was found; and of each picture that is damaged or missing
/// its job, and its place among the pictures of the job.
///
/// # Errors
///
/// [`Error`] when the journal or the pictures cannot be read.
pub(super) fn verify(
    ledger: &dyn Ledger,
    store: &dyn PictureStore,
) -> Result<(Verification, Vec<(JobId, usize)>), Error> {
    let unreadable = |error: std::io::Error| Error::Ledger(format!("the stored pictures cannot be read: {error}"));
    let mut found = Verification::default();
    for problem in ledger.problems()? {
        found.add(FindingKind::Journal, problem.id, problem.problem);
    }
    for (purchase, upstream) in ledger.repeated_upstream_ids()? {
        found.add(FindingKind::RepeatedId, Some(purchase.to_string()), "an older purchase has the same id".to_owned());
        found.last_is_of(Some(upstream), None);
    }
    // Before the jobs are read: what is stored meanwhile has a job by then, or is not looked at.
    let files = store.list().and_then(Iterator::collect::<std::io::Result<Vec<Digest>>>).map_err(unreadable)?;
    let orphans = store.orphans().and_then(Iterator::collect::<std::io::Result<Vec<_>>>).map_err(unreadable)?;

    let mut damaged = Vec::new();
    let mut known: HashMap<Digest, Option<PictureDamage>> = HashMap::new();
    let mut after = None;
    loop {
        let jobs = ledger.stored_jobs(after, PAGE)?;
        let Some(last) = jobs.last() else { break };
        after = Some(last.record.id);
        for job in &jobs {
            found.jobs += 1;
            for (index, (purchase, upstream, picture)) in pictures(job).enumerate() {
                if !known.contains_key(&picture.digest) {
                    found.pictures += 1;
                    found.bytes += picture.bytes;
                }
                let damage = known.entry(picture.digest).or_insert_with(|| damage_of(ledger, store, &picture)).clone();
                let Some(damage) = damage else { continue };
                // A gateway that runs may have evicted it, or fetched it again.
                let now = ledger.job(job.record.id)?.filter(|now| !now.evicted);
                let same =
                    now.iter().flat_map(pictures).nth(index).is_some_and(|(.., now)| now.digest == picture.digest);
                if !same || damage_of(ledger, store, &picture).is_none() {
                    continue;
                }
                damaged.push((job.record.id, index));
                let kind = if damage == PictureDamage::Missing { FindingKind::Missing } else { FindingKind::Damaged };
                found.add(kind, Some(purchase.to_string()), damage.to_string());
                found.last_is_of(upstream.cloned(), Some(picture.digest));
            }
        }
    }

    let mut unknown: Vec<Digest> = files.into_iter().filter(|digest| !known.contains_key(digest)).collect();
    if !unknown.is_empty() {
        let accepted = JobFilter { states: vec!["accepted".to_owned()], limit: Some(1), ..JobFilter::default() };
        if !ledger.list(&accepted)?.is_empty() {
            std::thread::sleep(JOURNAL_PAUSE);
        }
        let stored = stored_digests(ledger)?;
        unknown.retain(|digest| !stored.contains(digest) && store.open(digest).is_ok());
    }
    for digest in unknown {
        found.add(FindingKind::Unknown, None, "no job has it".to_owned());
        found.last_is_of(None, Some(digest));
    }
    for orphan in orphans {
        let seen = if known.contains_key(&orphan.digest) { "a job has it" } else { "no job has it" };
        found.add(FindingKind::Orphan, None, format!("{seen}; set aside"));
        found.last_is_of(None, Some(orphan.digest));
    }
    Ok((found, damaged))
}

/// Returns what is wrong with a stored picture, which is in the journal or a file; `None` when one of them is as recorded.
fn damage_of(ledger: &dyn Ledger, store: &dyn PictureStore, picture: &StoredPicture) -> Option<PictureDamage> {
    let copies = ledger.picture_copies(&picture.digest);
    let is_intact = |copy: &Bytes| Digest::of(copy) == picture.digest;
    if copies.as_ref().is_ok_and(|copies| copies.iter().any(is_intact)) {
        return None;
    }
    // What was fetched again is a file.
    let damage = examine(store, picture)?;
    if damage != PictureDamage::Missing {
        return Some(damage);
    }
    Some(match copies {
        Err(error) => PictureDamage::Unreadable(error.to_string()),
        Ok(copies) => match copies.first().map(|copy| copy.len() as u64) {
            None => damage,
            Some(found) if found != picture.bytes => PictureDamage::Length { found, recorded: picture.bytes },
            Some(_) => PictureDamage::OtherBytes,
        },
    })
}

impl Verification {
    fn add(&mut self, kind: FindingKind, id: Option<String>, seen: String) {
        self.findings.push(Finding { kind, id, digest: None, upstream: None, seen });
    }

    /// Completes the finding that was added last.
    fn last_is_of(&mut self, upstream: Option<UpstreamId>, digest: Option<Digest>) {
        if let Some(last) = self.findings.last_mut() {
            (last.upstream, last.digest) = (upstream, digest);
        }
    }
}

/// The pictures of a job in the order in which clients get them, with their purchases.
fn pictures(job: &StoredJob) -> impl Iterator<Item = (PurchaseId, Option<&UpstreamId>, StoredPicture)> {
    job.purchases.iter().flat_map(|purchase| {
        let pictures = match &purchase.state {
            StoredState::Resolved { pictures, .. } => pictures.as_slice(),
            StoredState::Intent
            | StoredState::Committing { .. }
            | StoredState::Accepted { .. }
            | StoredState::Failed { .. } => &[],
        };
        pictures.iter().map(|picture| (purchase.id, purchase.state.upstream(), *picture))
    })
}

fn stored_digests(ledger: &dyn Ledger) -> Result<HashSet<Digest>, Error> {
    let mut digests = HashSet::new();
    let mut after = None;
    loop {
        let jobs = ledger.stored_jobs(after, PAGE)?;
        let Some(last) = jobs.last() else { return Ok(digests) };
        after = Some(last.record.id);
        digests.extend(jobs.iter().flat_map(pictures).map(|(.., picture)| picture.digest));
    }
}
