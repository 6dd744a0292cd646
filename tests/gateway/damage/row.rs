//! One row: a copy of the folder is damaged, a gateway starts on it, and each prepared job is asked for again.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use reqwest::Method;
use serde_json::Value;
use tokio::time::Instant;

use super::files::{Damage, alter_text, apply, copy, digests, remove};
use super::jobs::{Job, Kind};
use super::prepared::{Prepared, Snapshot, data, program};
use crate::harness::{ALICE, Answer, BOB, Client, Program, Relay, Run, Serving, digest};

/// The folders that can have pictures.
const PICTURE_FOLDERS: [&str; 2] = ["results", "orphans"];
/// Attempts of a repetition whose connection breaks.
const ATTEMPTS_MAX: usize = 3;
/// The longest time until a gateway ends by itself.
const END_TIMEOUT: Duration = Duration::from_secs(20);

/// The longest time from the start to a warning about what was found.
const WARNING_TIMEOUT: Duration = Duration::from_secs(5);
/// The pause between two looks.
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// The folder of pictures that the journal does not know, as warnings name it.
pub(super) const KEPT: &str = "orphans/";

/// A damage and the verdict that it demands.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) name: String,
    pub(super) snapshot: Snapshot,
    pub(super) damages: Vec<(Target, Change)>,
    pub(super) when: When,
    pub(super) arguments: &'static [&'static str],
    pub(super) upstream: UpstreamMemory,
    pub(super) verdict: Verdict,
    /// The verdict on the jobs by name; `Repeat::Usual` for all others.
    pub(super) repeats: Vec<(&'static str, Repeat)>,
}

/// What is damaged.
#[derive(Clone, Copy, Debug)]
pub(super) enum Target {
    /// A file or folder by its path in the data folder.
    Path(&'static str),
    /// The pictures of a job.
    PicturesOf(&'static str),
    /// Every picture that a job has.
    Pictures,
}

/// How it is damaged.
#[derive(Clone, Copy, Debug)]
pub(super) enum Change {
    Damage(Damage),
    /// One letter of a value in the journal is another one.
    Value(JournalValue),
}

/// A value of the journal that belongs to the job `late`.
#[derive(Clone, Copy, Debug)]
pub(super) enum JournalValue {
    PictureDigest,
    UpstreamId,
    Fingerprint,
    /// The key of `late keyed`.
    IdempotencyKey,
}

/// When a folder is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum When {
    Down,
    /// While the gateway runs, which has answered nothing yet.
    Running,
}

/// Whether the upstream still has what was bought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UpstreamMemory {
    Keeps,
    Forgets,
}

/// What the gateway has to do.
#[derive(Clone, Copy, Debug)]
pub(super) enum Verdict {
    /// It starts, and logs these texts as warnings or errors.
    Serves(&'static [&'static str]),
    /// It ends with exit code 1, and these texts.
    Refuses(&'static [&'static str]),
    /// It ends by itself with a failure, and refuses the next start with these texts.
    Stops(&'static [&'static str]),
    /// It serves, and a second gateway on the same folder is refused.
    RefusesSecond,
    /// SQLite cannot see the damage for certain: the gateway starts or refuses.
    Either,
}

/// What the repetition of a job has to bring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repeat {
    /// As without damage: the same bytes, or the same unknown outcome; nothing is bought.
    Usual,
    /// The same bytes, fetched again from the upstream; nothing is bought.
    Fetched,
    /// The error `result_lost`; nothing is bought.
    Lost,
    /// The journal does not know the job: it may be bought again, once.
    MayBuy,
    /// An error or the right bytes; nothing is bought.
    NotBought,
    /// The journal names another thing: an error or the right bytes, bought at most once.
    Any,
}

/// What is wrong with a row.
type Faults = Vec<String>;

/// The run of a row.
struct Running<'a> {
    row: &'a Row,
    prepared: &'a Prepared,
    program: Program,
    relay: Relay,
    faults: Faults,
    done: Vec<String>,
}

/// Runs a row; returns what happened, and what is wrong with that.
pub(super) async fn run(row: &Row, prepared: &Prepared) -> (String, Faults) {
    let upstream = match row.upstream {
        UpstreamMemory::Keeps => &prepared.upstream,
        UpstreamMemory::Forgets => &prepared.forgetful,
    };
    let relay = Relay::to(upstream).await;
    let mut program = program(upstream, &relay.origin);
    if row.upstream == UpstreamMemory::Forgets {
        // What is asked for in vain need not be asked for long.
        program = program.variable("GATEWAY_UPSTREAM__REFETCH_TIMEOUT_S", "2");
        program = program.variable("GATEWAY_SERVER__RESPONSE_TIMEOUT_S", "4");
    }
    copy(&prepared.folder(row.snapshot), &data(&program));
    let mut running = Running { row, prepared, program, relay, faults: Vec::new(), done: Vec::new() };
    if row.when == When::Down {
        running.damage();
    }
    let (pictures, log) = (running.pictures(), running.log());
    match running.program.try_serve(row.arguments).await {
        Ok(serving) => running.serves(serving, &pictures).await,
        Err(run) => {
            running.refuses(&run);
            let journal = std::fs::metadata(data(&running.program).join("journal.sqlite"));
            if journal.map_or(true, |journal| journal.len() == 0) && running.log() != log {
                running.fault("the refused start changed the write-ahead log of a missing journal");
            }
        }
    }
    if row.when == When::Down {
        running.keeps(&pictures, "the run");
    }
    running.put_back();
    running.serves_as_before().await;
    (running.done.join("; "), running.faults)
}

impl Running<'_> {
    fn fault(&mut self, text: impl Into<String>) {
        self.faults.push(text.into());
    }

    /// The paths that a target means.
    fn paths(&self, target: Target) -> Vec<String> {
        let of = |job: &Job| job.pictures.iter().map(|bytes| format!("results/{}", digest(bytes))).collect();
        let paths: Vec<String> = match target {
            Target::Path(path) => vec![path.to_owned()],
            Target::PicturesOf(name) => of(self.prepared.job(name)),
            Target::Pictures => self.prepared.jobs.iter().flat_map(of as fn(&Job) -> Vec<String>).collect(),
        };
        let unique: BTreeSet<String> = paths.into_iter().collect();
        let folder = self.prepared.folder(self.row.snapshot);
        // A job that is under way has no picture yet.
        unique.into_iter().filter(|path| !path.starts_with("results/") || folder.join(path).exists()).collect()
    }

    fn damage(&self) {
        let folder = data(&self.program);
        let (older, crash) = (self.prepared.folder(Snapshot::Older), self.prepared.folder(Snapshot::EarlierCrash));
        for &(target, change) in &self.row.damages {
            for path in self.paths(target) {
                match change {
                    Change::Damage(damage) => apply(damage, &folder, &path, &older, &crash),
                    Change::Value(value) => {
                        let late = self.prepared.job("late");
                        let text = match value {
                            JournalValue::PictureDigest => digest(&late.pictures[0]),
                            JournalValue::UpstreamId => late.upstream_ids[0].clone(),
                            JournalValue::Fingerprint => fingerprint(&folder.join(&path), &late.id),
                            JournalValue::IdempotencyKey => "key-of-late".to_owned(),
                        };
                        alter_text(&folder.join(path), &text);
                    }
                }
            }
        }
    }

    /// The digests of the whole pictures that are on disk.
    fn pictures(&self) -> BTreeSet<String> {
        let bought: BTreeSet<String> =
            self.prepared.jobs.iter().flat_map(|job| job.pictures.iter().map(|bytes| digest(bytes))).collect();
        let folder = data(&self.program);
        let found = PICTURE_FOLDERS.iter().flat_map(|name| digests(&folder.join(name)));
        found.filter(|digest| bought.contains(digest)).collect()
    }

    /// No picture that was there before is gone.
    fn keeps(&mut self, before: &BTreeSet<String>, what: &str) {
        let now = self.pictures();
        let gone = before.difference(&now).count();
        if gone > 0 {
            self.fault(format!("{gone} pictures of {} were deleted by {what}", before.len()));
        }
    }

    /// The write-ahead log, whose loss would be a second damage.
    fn log(&self) -> Option<Vec<u8>> {
        std::fs::read(data(&self.program).join("journal.sqlite-wal")).ok()
    }

    fn refuses(&mut self, run: &Run) {
        self.done.push("refuses".to_owned());
        if run.stderr.contains("panicked") {
            self.fault(format!("it panicked: {}", run.stderr));
        }
        if run.code != Some(1) {
            self.fault(format!("exit code {:?}: {}", run.code, run.stderr));
        }
        match self.row.verdict {
            Verdict::Refuses(texts) => {
                let missing: Vec<&&str> = texts.iter().filter(|text| !run.stderr.contains(**text)).collect();
                if !missing.is_empty() {
                    self.fault(format!("it does not say {missing:?}: {}", run.stderr));
                }
            }
            Verdict::Either => {}
            Verdict::Serves(_) | Verdict::Stops(_) | Verdict::RefusesSecond => {
                self.fault(format!("it does not start: {}", run.stderr));
            }
        }
    }

    async fn serves(&mut self, serving: Serving, pictures: &BTreeSet<String>) {
        if self.row.when == When::Running {
            self.damage();
        }
        match self.row.verdict {
            Verdict::Stops(texts) => return self.stops(serving, texts).await,
            Verdict::Refuses(_) => self.fault(format!("it starts: {}", serving.log())),
            Verdict::RefusesSecond => self.second_is_refused().await,
            Verdict::Serves(texts) => {
                for text in texts {
                    self.is_logged(&serving, text).await;
                }
                if texts.contains(&KEPT) {
                    self.counts_orphans(&serving).await;
                }
            }
            Verdict::Either => {}
        }
        // Before anything is bought that has the same bytes again.
        if self.row.when == When::Down {
            self.keeps(pictures, "the start");
        }
        self.done.push("serves".to_owned());
        self.look(&serving, false).await;
        for job in &self.prepared.jobs {
            let wanted = self.row.repeats.iter().find(|(name, _)| *name == job.name).map(|(_, wanted)| *wanted);
            self.repeat(&serving, job, wanted.unwrap_or(Repeat::Usual)).await;
        }
        self.look(&serving, false).await;
        self.ends(serving).await;
    }

    /// A warning has the text, soon after the start.
    async fn is_logged(&mut self, serving: &Serving, text: &str) {
        let deadline = Instant::now() + WARNING_TIMEOUT;
        while !warns(&serving.log(), text) {
            if Instant::now() > deadline {
                return self.fault(format!("it logs no warning with {text:?}: {}", serving.log()));
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// The metrics say that pictures are kept which the journal does not know.
    async fn counts_orphans(&mut self, serving: &Serving) {
        let metrics = self.client(serving, "").get(&format!("{}/metrics", serving.operator())).await.text();
        let count = metrics.lines().find_map(|line| line.strip_prefix("gptproto_gateway_engine_orphans "));
        if count.is_none_or(|count| count == "0") {
            self.fault(format!("the metrics count {count:?} orphans"));
        }
    }

    /// A client of the gateway. Building an HTTP client takes longer than a request.
    fn client(&self, serving: &Serving, key: &str) -> Client {
        Client::sharing(&self.prepared.http, serving.address(), key)
    }

    /// Stops it in order, unless it has ended by itself because it cannot write its journal.
    async fn ends(&mut self, mut serving: Serving) {
        let stderr = serving.stderr();
        let (code, wanted) = match serving.ended() {
            Some(status) if matches!(self.row.verdict, Verdict::Either) => (status.code(), Some(1)),
            Some(status) => (status.code(), Some(0)),
            None => (serving.terminate().await, Some(0)),
        };
        let log = std::fs::read_to_string(stderr).unwrap();
        if code != wanted || log.contains("panicked") {
            self.fault(format!("exit code {code:?}: {log}"));
        }
    }

    /// It ends by itself, and does not start again on what is there.
    async fn stops(&mut self, mut serving: Serving, texts: &[&str]) {
        self.done.push("stops".to_owned());
        let deadline = Instant::now() + END_TIMEOUT;
        let code = loop {
            match serving.ended() {
                Some(status) => break status.code(),
                None if Instant::now() > deadline => {
                    self.fault("it does not end".to_owned());
                    return;
                }
                None => tokio::time::sleep(POLL_INTERVAL).await,
            }
        };
        let log = serving.log();
        if code.is_none_or(|code| code == 0) || log.contains("panicked") {
            self.fault(format!("exit code {code:?}: {log}"));
        }
        match self.program.try_serve(self.row.arguments).await {
            Ok(serving) => self.fault(format!("it starts again: {}", serving.log())),
            Err(run) => {
                if !texts.iter().all(|text| run.stderr.contains(text)) {
                    self.fault(format!("it does not say {texts:?}: {}", run.stderr));
                }
            }
        }
    }

    async fn second_is_refused(&mut self) {
        let mut second = self.program.clone();
        // Its output goes to files in another folder.
        second.directory = Program::bare().directory;
        match second.try_serve(self.row.arguments).await {
            Ok(_) => self.fault("a second gateway starts".to_owned()),
            Err(run) => {
                if run.code != Some(1) || !run.stderr.contains("in use by another gateway") {
                    self.fault(format!("a second gateway ends with {run:?}"));
                }
            }
        }
    }

    /// Looks at each job by its addresses: the right bytes or none, and nothing for another client.
    async fn look(&mut self, serving: &Serving, all: bool) {
        let before = self.submits();
        for job in &self.prepared.jobs {
            if !job.url.is_empty() {
                let client = self.client(serving, "");
                let seen = client.request(Method::GET, &job.url).send().await;
                match read(seen).await {
                    Some((200, bytes)) if !job.pictures.contains(&bytes) => {
                        self.fault(format!("{}: its address brings wrong bytes", job.name));
                    }
                    Some((200, _)) => {}
                    other if all => self.fault(format!("{}: its address brings {:?}", job.name, other.map(|it| it.0))),
                    _ => {}
                }
            }
            if job.id.is_empty() {
                continue;
            }
            let path = format!("/v1/predictions/{}", job.id);
            let seen = read(self.client(serving, job.key).request(Method::GET, &path).send().await).await;
            match seen {
                Some((200, bytes)) => {
                    let object: Value = serde_json::from_slice(&bytes).unwrap_or_default();
                    if object["status"] == "completed" && pictures_in(&object["result"]) != job.pictures {
                        self.fault(format!("{}: its prediction has wrong bytes", job.name));
                    } else if all && object["status"] != "completed" {
                        self.fault(format!("{}: its prediction is {}", job.name, object["status"]));
                    }
                }
                other if all => self.fault(format!("{}: its prediction brings {:?}", job.name, other.map(|it| it.0))),
                _ => {}
            }
            let other = if job.key == ALICE { BOB } else { ALICE };
            let seen = read(self.client(serving, other).request(Method::GET, &path).send().await).await;
            if seen.is_some_and(|(status, _)| status == 200) {
                self.fault(format!("{}: another client sees it", job.name));
            }
        }
        if self.submits() > before {
            self.fault("a look bought something".to_owned());
        }
    }

    /// Asks for a job again.
    async fn repeat(&mut self, serving: &Serving, job: &Job, wanted: Repeat) {
        let before = self.submits();
        let client = self.client(serving, job.key);
        let mut edit = job.edit.clone();
        if job.is_private() {
            edit = edit.header("x-stainless-retry-count", "1");
        }
        let mut answer = None;
        for _ in 0..ATTEMPTS_MAX {
            answer = client.try_edit(&edit).await;
            if answer.is_some() {
                break;
            }
        }
        let Some(answer) = answer else {
            if matches!(self.row.verdict, Verdict::Either) {
                // It may end by itself.
                return self.done.push(format!("{}: no answer", job.name));
            }
            self.fault(format!("{}: no answer: {}", job.name, serving.log()));
            return;
        };
        let bought = self.submits() - before;
        // A look before it may have fetched it.
        let fetched = self.polls(job) > 0;
        let code = code(&answer);
        let outcome = if answer.status == 200 { "the picture".to_owned() } else { code.clone() };
        let right = answer.status == 200 && answer.pictures() == job.pictures;
        if answer.status == 200 && !right {
            self.fault(format!("{}: wrong bytes", job.name));
        }
        let as_usual = match job.kind {
            Kind::Unknown => code == "submission_outcome_unknown",
            Kind::Delivered | Kind::Unclaimed | Kind::Later | Kind::UnderWay => right,
        };
        let is_wanted = match wanted {
            Repeat::Usual => as_usual && bought == 0,
            Repeat::Fetched => right && fetched && bought == 0,
            Repeat::Lost => code == "result_lost" && bought == 0,
            Repeat::MayBuy => (right || as_usual) && bought <= job.upstream_ids.len(),
            Repeat::NotBought => bought == 0,
            Repeat::Any => bought <= job.upstream_ids.len(),
        };
        if !is_wanted {
            self.fault(format!("{}: {outcome}, bought {bought}, fetched {fetched}; wanted {wanted:?}", job.name));
        }
        if wanted == Repeat::Lost && !job.is_keyed() {
            self.buys_when_asked(&client, job).await;
        }
        if wanted != Repeat::Usual {
            let cost = if bought > 0 { "bought" } else { "not bought" };
            self.done.push(format!("{}: {outcome}, {cost}", job.name));
        }
    }

    /// Buys a lost picture again, because the client asks for that.
    async fn buys_when_asked(&mut self, client: &Client, job: &Job) {
        let before = self.submits();
        let answer = client.edit(&job.edit.clone().header("cache-control", "no-cache")).await;
        let bought = self.submits() - before;
        if answer.status != 200 || answer.pictures() != job.pictures || bought != job.upstream_ids.len() {
            self.fault(format!("{}: no-cache brings {}, bought {bought}", job.name, answer.status));
        }
    }

    /// Submits of this row.
    fn submits(&self) -> usize {
        let is_submit = |path: &str| path.starts_with("/api/v3/openai/") || path.starts_with("/v1/images/");
        self.relay.seen().iter().filter(|seen| is_submit(&seen.path)).count()
    }

    /// Polls for a job in this row.
    fn polls(&self, job: &Job) -> usize {
        self.relay.seen().iter().filter(|seen| job.upstream_ids.iter().any(|id| seen.path.contains(id))).count()
    }

    /// Puts back what was damaged.
    fn put_back(&mut self) {
        let (folder, snapshot) = (data(&self.program), self.prepared.folder(self.row.snapshot));
        let mut paths: BTreeSet<String> = self.row.damages.iter().flat_map(|&(target, _)| self.paths(target)).collect();
        if paths.iter().any(|path| path.starts_with("journal")) {
            paths.extend(["journal.sqlite", "journal.sqlite-wal", "journal.sqlite-shm"].map(str::to_owned));
        }
        for path in paths {
            let (now, was) = (folder.join(&path), snapshot.join(&path));
            // What has been added to a folder meanwhile stays.
            if !now.is_dir() || was.is_file() {
                remove(&now);
            } else if !was.exists() {
                // Fails where something is in it.
                let _ = std::fs::remove_dir(&now);
            }
            if was.exists() {
                copy(&was, &now);
            }
        }
    }

    async fn serves_as_before(&mut self) {
        // What was under way has failed where the upstream did not know it.
        let forgotten = self.row.upstream == UpstreamMemory::Forgets;
        let serving = match self.program.try_serve(&["serve"]).await {
            Ok(serving) => serving,
            Err(run) => return self.fault(format!("put back, it does not start: {}", run.stderr)),
        };
        let before = self.faults.len();
        for job in self.prepared.jobs.iter().filter(|job| !(forgotten && job.kind == Kind::UnderWay)) {
            self.repeat(&serving, job, Repeat::Usual).await;
        }
        self.look(&serving, !forgotten).await;
        self.ends(serving).await;
        for fault in &mut self.faults[before..] {
            fault.insert_str(0, "put back: ");
        }
    }
}

/// Whether a line of a log warns of something.
fn warns(log: &str, text: &str) -> bool {
    let of_level = |line: &str| line.contains("\"level\":\"WARN\"") || line.contains("\"level\":\"ERROR\"");
    log.lines().any(|line| of_level(line) && line.contains(text))
}

/// The code of an error; empty for any other answer.
fn code(answer: &Answer) -> String {
    let body: Value = serde_json::from_slice(&answer.bytes).unwrap_or_default();
    body["error"]["code"].as_str().unwrap_or_default().to_owned()
}

/// Status and body; `None` when the connection broke.
async fn read(answer: reqwest::Result<reqwest::Response>) -> Option<(u16, Vec<u8>)> {
    let answer = answer.ok()?;
    let status = answer.status().as_u16();
    Some((status, answer.bytes().await.ok()?.to_vec()))
}

fn pictures_in(result: &Value) -> Vec<Vec<u8>> {
    let texts = result["data"].as_array().into_iter().flatten().filter_map(|item| item["b64_json"].as_str());
    texts.filter_map(|text| base64_simd::STANDARD.decode_to_vec(text).ok()).collect()
}

/// The fingerprint of a job in a journal that has no write-ahead log.
fn fingerprint(journal: &Path, job: &str) -> String {
    let connection = rusqlite::Connection::open(journal).unwrap();
    connection.query_row("SELECT fingerprint FROM jobs WHERE id = ?1", [job], |row| row.get(0)).unwrap()
}
