//! The table: what is damaged, and the verdict that it demands.

use super::files::{Damage, Place};
use super::jobs::{self, Kind};
use super::prepared::Snapshot::{self, Killed, Stopped};
use super::row::{Change, JournalValue, KEPT, Repeat, Row, Target, UpstreamMemory, Verdict, When};

const JOURNAL: Target = Target::Path("journal.sqlite");
const WAL: Target = Target::Path("journal.sqlite-wal");
const SHM: Target = Target::Path("journal.sqlite-shm");
const RESULTS: Target = Target::Path("results");
const LEARNED: Target = Target::Path("learned");
const KEY: Target = Target::Path("signing.key");
const LOCK: Target = Target::Path("lock");
const SPOOL: Target = Target::Path("spool");
const ORPHANS: Target = Target::Path("orphans");

/// How to go on without the journal.
const ACCEPT: &str = "--accept-new-journal";

/// How to go on with a damaged journal.
const DAMAGED: &[&str] = &["journal.sqlite", "backup"];

/// Jobs whose pictures cannot be fetched again in some rows: each is asked for until a time-out.
const LOST: [&str; 4] = ["keyed", jobs::LARGE, "several", "late unclaimed"];

/// All rows.
pub(super) fn rows() -> Vec<Row> {
    let groups = [
        nothing(),
        stopped_journal(),
        killed_journal(),
        shared_memory(),
        values(),
        pictures(),
        results(),
        small_files(),
        while_running(),
    ];
    groups.into_iter().flatten().collect()
}

fn nothing() -> Vec<Row> {
    vec![
        serves("nothing, after a stop", Stopped, &[]),
        serves("nothing, after a kill", Killed, &[]),
        serves("nothing, and a new journal would be accepted", Killed, &[]).accepting(),
    ]
}

/// The journal after an orderly stop is one file.
fn stopped_journal() -> Vec<Row> {
    let of = |name: &str, damage| serves(&format!("journal: {name}"), Stopped, &[(JOURNAL, damage)]);
    vec![
        of("head flipped", Damage::Flip(Place::Head)).refuses(DAMAGED),
        of("pages flipped", Damage::FlipPages).refuses(DAMAGED),
        of("middle flipped", Damage::Flip(Place::Middle)).undetected(),
        of("last byte flipped", Damage::Flip(Place::End)).undetected(),
        of("last byte missing", Damage::CutByOne).undetected(),
        of("second half missing", Damage::CutToHalf).refuses(DAMAGED),
        of("empty", Damage::Empty).refuses(&[ACCEPT]),
        of("missing", Damage::Remove).refuses(&[ACCEPT]),
        of("a folder", Damage::Folder).refuses(DAMAGED),
        of("unreadable", Damage::Unreadable).refuses(DAMAGED),
        of("noise", Damage::Noise).refuses(DAMAGED),
        of("bytes behind its end", Damage::Append),
        of("older", Damage::Older).says(&[KEPT]).late(Repeat::MayBuy),
        of("empty, accepted", Damage::Empty).accepting().says(&[KEPT]).all(Repeat::MayBuy),
        of("missing, accepted", Damage::Remove).accepting().says(&[KEPT]).all(Repeat::MayBuy),
    ]
}

/// After a kill, the newest records are in the write-ahead log.
fn killed_journal() -> Vec<Row> {
    let journal = |name: &str, damage| serves(&format!("killed, journal: {name}"), Killed, &[(JOURNAL, damage)]);
    let wal = |name: &str, damage| serves(&format!("killed, log: {name}"), Killed, &[(WAL, damage)]);
    // The records of the late jobs are in the log: without it the journal is an older one.
    let lost = |row: Row| row.says(&[KEPT]).late(Repeat::MayBuy);
    // The last record says that this job was accepted: without it, its outcome is unknown.
    let shortened = |row: Row| row.job("keyed under way", Repeat::NotBought);
    vec![
        // The log has a newer first page.
        journal("head flipped", Damage::Flip(Place::Head)),
        journal("pages flipped", Damage::FlipPages).refuses(DAMAGED),
        journal("second half missing", Damage::CutToHalf).refuses(DAMAGED),
        journal("empty", Damage::Empty).refuses(&[ACCEPT]),
        journal("missing", Damage::Remove).refuses(&[ACCEPT]),
        // The log has all that came after the older copy.
        journal("older", Damage::Older),
        serves("killed, journal and log: missing", Killed, &[(JOURNAL, Damage::Remove), (WAL, Damage::Remove)])
            .refuses(&[ACCEPT]),
        serves("killed, journal and log: older", Killed, &[(JOURNAL, Damage::Older), (WAL, Damage::Older)])
            .says(&[KEPT])
            .late(Repeat::MayBuy),
        lost(wal("missing", Damage::Remove)),
        lost(wal("empty", Damage::Empty)),
        lost(wal("noise", Damage::Noise)),
        lost(wal("head flipped", Damage::Flip(Place::Head))),
        lost(serves("killed, log and its index: missing", Killed, &[(WAL, Damage::Remove), (SHM, Damage::Remove)])),
        wal("middle flipped", Damage::Flip(Place::Middle)).says(&[KEPT]).late(Repeat::Any),
        wal("second half missing", Damage::CutToHalf).says(&[KEPT]).late(Repeat::Any),
        shortened(wal("last byte flipped", Damage::Flip(Place::End))),
        shortened(wal("last byte missing", Damage::CutByOne)),
        wal("bytes behind its end", Damage::Append),
        wal("a folder", Damage::Folder).refuses(DAMAGED),
        wal("of another crash", Damage::EarlierCrash).undetected(),
    ]
}

/// The index of the log, which is made anew.
fn shared_memory() -> Vec<Row> {
    let of = |name: &str, damage| serves(&format!("killed, index of the log: {name}"), Killed, &[(SHM, damage)]);
    vec![
        of("missing", Damage::Remove),
        of("empty", Damage::Empty),
        of("noise", Damage::Noise),
        // SQLite opens the folder for reading, and cannot write.
        of("a folder", Damage::Folder).verdict(Verdict::Either).all(Repeat::NotBought),
    ]
}

/// A letter inside a value of the journal, which no check of SQLite sees.
fn values() -> Vec<Row> {
    let of = |name: &str, value| {
        let mut row = serves(&format!("journal: a letter of {name}"), Stopped, &[]);
        row.damages.push((JOURNAL, Change::Value(value)));
        row
    };
    let mut without_id = of("an upstream id, and its picture missing", JournalValue::UpstreamId);
    without_id.damages.push((Target::PicturesOf("late"), Change::Damage(Damage::Remove)));
    vec![
        of("a picture's digest", JournalValue::PictureDigest).says(&[KEPT]).job("late", Repeat::NotBought),
        of("an upstream id", JournalValue::UpstreamId),
        without_id.job("late", Repeat::Lost),
        // The job is not found by its request any more. Its address still leads to it.
        of("a fingerprint", JournalValue::Fingerprint).job("late", Repeat::Any),
        of("an idempotency key", JournalValue::IdempotencyKey).job("late keyed", Repeat::Any),
    ]
}

fn pictures() -> Vec<Row> {
    let of = |name: &str, damage| serves(&format!("every picture: {name}"), Stopped, &[(Target::Pictures, damage)]);
    let lost = |name: &str, damage| {
        let name = format!("some pictures: {name}, and the upstream has forgotten them");
        serves(&name, Stopped, &LOST.map(|job| (Target::PicturesOf(job), damage))).forgotten()
    };
    let mut rows: Vec<Row> = [
        ("head flipped", Damage::Flip(Place::Head)),
        ("middle flipped", Damage::Flip(Place::Middle)),
        ("last byte flipped", Damage::Flip(Place::End)),
        ("second half missing", Damage::CutToHalf),
        ("last byte missing", Damage::CutByOne),
        ("empty", Damage::Empty),
        ("missing", Damage::Remove),
        ("unreadable", Damage::Unreadable),
        ("bytes behind its end", Damage::Append),
        ("noise", Damage::Noise),
    ]
    .map(|(name, damage)| of(name, damage).with_pictures(Repeat::Fetched))
    .into();
    // No file can take its place, so that the picture stays at the upstream.
    let folder = serves("a picture: a folder", Stopped, &[(Target::PicturesOf("late"), Damage::Folder)]);
    rows.push(folder.job("late", Repeat::NotBought));
    rows.push(lost("middle flipped", Damage::Flip(Place::Middle)));
    rows.push(lost("missing", Damage::Remove));
    rows
}

fn results() -> Vec<Row> {
    let of = |name: &str, damage| serves(&format!("results: {name}"), Stopped, &[(RESULTS, damage)]);
    let mut older = of("older", Damage::Older);
    for job in jobs::all().iter().filter(|job| !job.early && has_picture(job.kind)) {
        older = older.job(job.name, Repeat::Fetched);
    }
    vec![
        of("missing", Damage::Remove).with_pictures(Repeat::Fetched),
        of("empty", Damage::Empty).with_pictures(Repeat::Fetched),
        older,
        of("a file", Damage::File).refuses(&["results"]),
        of("unreadable", Damage::Unreadable).refuses(&["results"]),
        of("entries of others", Damage::Foreign),
    ]
}

/// What costs no money when it is gone.
fn small_files() -> Vec<Row> {
    let learned = |name: &str, damage| {
        let files = ["learned/budget.json", "learned/latencies.json", "learned/contact.json"].map(Target::Path);
        serves(&format!("learned files: {name}"), Stopped, &files.map(|file| (file, damage)))
    };
    let key = |name: &str, damage| serves(&format!("signing key: {name}"), Stopped, &[(KEY, damage)]);
    let folder =
        |what: Target, of: &str, name: &str, damage| serves(&format!("{of}: {name}"), Stopped, &[(what, damage)]);
    vec![
        learned("head flipped", Damage::Flip(Place::Head)).says(&["cannot be read"]),
        learned("second half missing", Damage::CutToHalf).says(&["cannot be read"]),
        learned("empty", Damage::Empty).says(&["cannot be read"]),
        learned("missing", Damage::Remove),
        learned("noise", Damage::Noise).says(&["cannot be read"]),
        learned("a folder", Damage::Folder).says(&["cannot be read"]),
        learned("unreadable", Damage::Unreadable).says(&["cannot be read"]),
        folder(LEARNED, "learned", "missing", Damage::Remove),
        folder(LEARNED, "learned", "a file", Damage::File).refuses(&["learned"]),
        folder(LEARNED, "learned", "entries of others", Damage::Foreign),
        // Addresses that were signed with another key are refused.
        key("flipped", Damage::Flip(Place::Head)),
        key("missing", Damage::Remove),
        key("last byte missing", Damage::CutByOne).refuses(&["signing.key"]),
        key("empty", Damage::Empty).refuses(&["signing.key"]),
        key("bytes behind its end", Damage::Append).refuses(&["signing.key"]),
        key("a folder", Damage::Folder).refuses(&["signing.key"]),
        folder(LOCK, "lock", "missing", Damage::Remove),
        // A gateway of an older version may hold it, which cannot be seen.
        folder(LOCK, "lock", "a folder", Damage::Folder).refuses(&["/lock"]),
        folder(LOCK, "lock", "unreadable", Damage::Unreadable).refuses(&["/lock"]),
        folder(SPOOL, "spool", "missing", Damage::Remove),
        folder(SPOOL, "spool", "a file", Damage::File).refuses(&["spool"]),
        folder(SPOOL, "spool", "unreadable", Damage::Unreadable).refuses(&["spool"]),
        folder(SPOOL, "spool", "entries of others", Damage::Foreign),
        folder(ORPHANS, "orphans", "empty", Damage::Folder),
        folder(ORPHANS, "orphans", "a file", Damage::File).refuses(&["orphans"]),
        folder(ORPHANS, "orphans", "entries of others", Damage::Foreign),
    ]
}

fn while_running() -> Vec<Row> {
    let of = |name: &str, damages: &[(Target, Damage)]| {
        let mut row = serves(&format!("while it runs: {name}"), Killed, damages);
        row.when = When::Running;
        row
    };
    let late = Target::PicturesOf("late");
    let large = Target::PicturesOf(jobs::LARGE);
    vec![
        of("journal missing", &[(JOURNAL, Damage::Remove)]).stops(&[ACCEPT]),
        of(
            "journal, log and its index missing",
            &[(JOURNAL, Damage::Remove), (WAL, Damage::Remove), (SHM, Damage::Remove)],
        )
        .stops(&[ACCEPT]),
        of("a picture missing", &[(late, Damage::Remove)]).job("late", Repeat::Fetched),
        of("a picture flipped", &[(late, Damage::Flip(Place::Middle))]).job("late", Repeat::Fetched),
        of("a large picture flipped", &[(large, Damage::Flip(Place::End))]).job(jobs::LARGE, Repeat::Fetched),
        of("results empty", &[(RESULTS, Damage::Empty)]).with_pictures(Repeat::Fetched),
        of("spool missing", &[(SPOOL, Damage::Remove)]),
        of("a second gateway", &[]).refuses_second(),
        of("a second gateway, lock missing", &[(LOCK, Damage::Remove)]).refuses_second(),
        of("a second gateway, index of the log missing", &[(SHM, Damage::Remove)]).refuses_second(),
    ]
}

/// A row that serves as without damage.
fn serves(name: &str, snapshot: Snapshot, damages: &[(Target, Damage)]) -> Row {
    Row {
        name: name.to_owned(),
        snapshot,
        damages: damages.iter().map(|&(target, damage)| (target, Change::Damage(damage))).collect(),
        when: When::Down,
        arguments: &["serve"],
        upstream: UpstreamMemory::Keeps,
        verdict: Verdict::Serves(&[]),
        repeats: Vec::new(),
    }
}

/// Whether the folder has the pictures of such a job.
fn has_picture(kind: Kind) -> bool {
    match kind {
        Kind::Delivered | Kind::Unclaimed | Kind::Later => true,
        Kind::UnderWay | Kind::Unknown => false,
    }
}

impl Row {
    fn verdict(mut self, verdict: Verdict) -> Self {
        self.verdict = verdict;
        self
    }

    fn refuses(self, texts: &'static [&'static str]) -> Self {
        self.verdict(Verdict::Refuses(texts))
    }

    fn stops(self, texts: &'static [&'static str]) -> Self {
        self.verdict(Verdict::Stops(texts))
    }

    fn refuses_second(self) -> Self {
        self.verdict(Verdict::RefusesSecond)
    }

    /// Serves, and logs a warning at the start.
    fn says(self, texts: &'static [&'static str]) -> Self {
        self.verdict(Verdict::Serves(texts))
    }

    /// SQLite may see it or not.
    fn undetected(self) -> Self {
        self.verdict(Verdict::Either).all(Repeat::Any)
    }

    fn accepting(mut self) -> Self {
        self.arguments = &["serve", ACCEPT];
        self
    }

    fn job(mut self, name: &'static str, repeat: Repeat) -> Self {
        self.repeats.push((name, repeat));
        self
    }

    fn all(mut self, repeat: Repeat) -> Self {
        self.repeats.extend(jobs::all().iter().map(|job| (job.name, repeat)));
        self
    }

    /// The jobs that the older journal does not know.
    fn late(mut self, repeat: Repeat) -> Self {
        self.repeats.extend(jobs::all().iter().filter(|job| !job.early).map(|job| (job.name, repeat)));
        self
    }

    /// The jobs with pictures in the folder. The one with the same picture as another finds it fetched.
    fn with_pictures(mut self, repeat: Repeat) -> Self {
        let jobs = jobs::all();
        let affected = jobs.iter().filter(|job| has_picture(job.kind) && job.name != "equal");
        self.repeats.extend(affected.map(|job| (job.name, repeat)));
        self
    }

    fn forgotten(mut self) -> Self {
        self.upstream = UpstreamMemory::Forgets;
        self.repeats.extend(LOST.map(|job| (job, Repeat::Lost)));
        for job in jobs::all().iter().filter(|job| job.kind == Kind::UnderWay) {
            self.repeats.push((job.name, Repeat::NotBought));
        }
        self
    }
}
