//! `ledger reconcile`: the ledger beside the vendor's usage export, the only outside evidence of what was bought.
//!
//! What is asked, and how it is answered without crying wolf:
//! - Only what the export covers is judged: its first to its last line, or what `--since` and `--until` say. A purchase
//!   at the edge may be matched, but is not missed, because its line may lie on the other side.
//! - A purchase that certainly happened must have a line. One that failed at the upstream may have one: nobody knows
//!   whether the vendor charges for it.
//! - An unknown purchase has no id and no end. It is probably bought when a line is left that nothing else explains.
//! - Lines of models that neither the catalogue nor the ledger knows were not made here, and are counted only.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Serialize;

use crate::model::{Catalogue, Timestamp};
use crate::storage::journal::Resolution;

use super::entry::{Entry, Standing, rounded};
use super::export::{Export, Unreadable};
use super::matching::{By, Line, Purchase, pair};

mod report;

/// When the vendor stamps an unknown purchase, at the latest after its submit: high quality takes about 143 s.
const GENERATION: Duration = Duration::from_mins(3);

/// The span that the export speaks for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Covered {
    pub(super) since: Option<Timestamp>,
    pub(super) until: Option<Timestamp>,
}

impl Covered {
    pub(super) fn new(since: Option<Timestamp>, until: Option<Timestamp>, export: &Export) -> Self {
        let times = || export.lines.iter().filter_map(|line| line.time);
        Self { since: since.or_else(|| times().min()), until: until.or_else(|| times().max()) }
    }

    fn holds(&self, begun: Timestamp, ended: Timestamp) -> bool {
        self.since.is_none_or(|since| begun >= since) && self.until.is_none_or(|until| ended <= until)
    }
}

/// What the comparison goes by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    pub(super) covered: Covered,
    pub(super) slack: Duration,
    /// How long a prediction is followed.
    pub(super) deadline: Duration,
    pub(super) now: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Bought,
    /// Accepted and without a picture, decided to be bought again, or under way.
    Maybe,
    Unknown,
    /// Somebody decided that it was never bought.
    SaidLost,
    /// An earlier submit of a prediction, whose answer was lost, and which was sent again.
    Resent,
}

#[derive(Debug)]
struct Candidate {
    purchase: Purchase,
    kind: Kind,
    usd: f64,
    covered: bool,
}

/// What the comparison found.
#[derive(Debug)]
pub(super) struct Findings {
    covered: Covered,
    slack: Duration,
    lines: Vec<Line>,
    candidates: Vec<Candidate>,
    /// Candidate, line.
    matched: Vec<(usize, usize, By)>,
    export_only: Vec<usize>,
    ledger_only: Vec<usize>,
    /// Candidates of unknown outcome, and decisions that a line contradicts.
    doubtful: Vec<(usize, Verdict)>,
    /// Unknown ones at times that the export does not come near.
    elsewhere: usize,
    refunded: Sum,
    free: usize,
    foreign: Sum,
    unreadable: Vec<Unreadable>,
    zone_assumed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    ProbablyBought {
        line: usize,
    },
    ProbablyNot,
    /// The export does not speak for its time.
    NotCovered,
    /// Somebody decided that it was lost, and yet a line is there.
    SaidLostButThere {
        line: usize,
    },
}

#[derive(Clone, Copy, Debug, Default, Serialize)]
struct Sum {
    count: usize,
    usd: f64,
}

impl Sum {
    fn of(amounts: impl IntoIterator<Item = f64>) -> Self {
        let sum =
            amounts.into_iter().fold(Self::default(), |sum, usd| Self { count: sum.count + 1, usd: sum.usd + usd });
        Self { usd: rounded(sum.usd), ..sum }
    }
}

/// Compares the purchases near what the export covers; `elsewhere` are unknown ones at other times.
pub(super) fn compare(
    entries: &[Entry<'_>],
    elsewhere: usize,
    export: Export,
    terms: Terms,
    catalogue: &Catalogue,
) -> Findings {
    let Export { lines, unreadable, zone_assumed } = export;
    let candidates: Vec<Candidate> = entries.iter().flat_map(|entry| candidates(entry, terms, catalogue)).collect();
    let ours: BTreeSet<&str> = candidates.iter().map(|candidate| candidate.purchase.model.as_str()).collect();

    let mut kept = Vec::new();
    let mut foreign = Vec::new();
    for mut line in lines {
        line.model = line.model.map(|name| known(&name, catalogue).unwrap_or(name));
        let near = line.time.is_none_or(|time| {
            terms.covered.since.is_none_or(|since| since.since(time) <= terms.slack)
                && terms.covered.until.is_none_or(|until| time.since(until) <= terms.slack)
        });
        let here = line.model.as_deref().is_none_or(|model| ours.contains(model) || catalogue.find(model).is_some());
        match (near, here) {
            (false, _) => {}
            (true, true) => kept.push(line),
            (true, false) => foreign.push(line.usd.unwrap_or(0.0)),
        }
    }
    let purchases: Vec<Purchase> = candidates.iter().map(|candidate| candidate.purchase.clone()).collect();
    let pairs = pair(&purchases, &kept, terms.slack);
    let mut findings = Findings {
        covered: terms.covered,
        slack: terms.slack,
        lines: kept,
        candidates,
        matched: Vec::new(),
        export_only: Vec::new(),
        ledger_only: Vec::new(),
        doubtful: Vec::new(),
        elsewhere,
        refunded: Sum::default(),
        free: 0,
        foreign: Sum::of(foreign),
        unreadable,
        zone_assumed,
    };
    let line_of: BTreeMap<usize, usize> = pairs.iter().map(|pair| (pair.purchase, pair.line)).collect();
    let taken: BTreeSet<usize> = line_of.values().copied().collect();
    for pair in &pairs {
        if !matches!(findings.candidates[pair.purchase].kind, Kind::Unknown | Kind::SaidLost) {
            findings.matched.push((pair.purchase, pair.line, pair.by));
        }
    }
    findings.judge_purchases(&line_of);
    findings.judge_lines(&taken);
    findings
}

/// What of a prediction may be in an export: itself, and submits before it whose answers were lost.
fn candidates(entry: &Entry<'_>, terms: Terms, catalogue: &Catalogue) -> Vec<Candidate> {
    let record = &entry.job.record;
    let begun = entry.steps.committed.or(entry.steps.accepted).unwrap_or(record.created);
    let kind = match (entry.standing(), entry.purchase.resolution) {
        (Standing::Bought, _) => Some(Kind::Bought),
        (Standing::Maybe, _) => Some(Kind::Maybe),
        (Standing::Unknown, _) => Some(Kind::Unknown),
        (Standing::NotBought, Some(Resolution::Lost)) => Some(Kind::SaidLost),
        (Standing::NotBought, _) => None,
    };
    let model = known(&record.model, catalogue).unwrap_or_else(|| record.model.to_string());
    let usd = entry.cost(catalogue).map_or(0.0, |cost| cost.usd);
    let candidate = |kind: Kind, begun: Timestamp, ended: Timestamp| {
        let upstream = entry.upstream().filter(|_| kind != Kind::Resent).map(ToString::to_string);
        let purchase = Purchase {
            purchase: entry.purchase.id,
            upstream,
            model: model.clone(),
            begun,
            ended,
            certain: kind == Kind::Bought,
        };
        Candidate { purchase, kind, usd, covered: terms.covered.holds(begun, ended) }
    };
    // A gateway that was away writes down the end when it is back; the vendor did not wait for it.
    let ended = if entry.upstream().is_some() {
        entry.steps.ended.unwrap_or(terms.now).min(begun.plus(terms.deadline)).max(begun)
    } else {
        begun.plus(GENERATION)
    };
    let own = kind.map(|kind| candidate(kind, begun, ended));
    // When those left is not kept: some time between the wish and the submit that followed.
    let resent = (0..entry.purchase.lost_answers)
        .map(|_| candidate(Kind::Resent, record.created, begun.max(record.created).plus(GENERATION)));
    own.into_iter().chain(resent).collect()
}

/// The catalogue's name for what an export calls a model: its id, an alias, or either with a vendor before or a task
/// behind it.
fn known(name: &str, catalogue: &Catalogue) -> Option<String> {
    let name = name.to_ascii_lowercase();
    std::iter::once(name.as_str())
        .chain(name.split('/'))
        .find_map(|part| catalogue.find(part))
        .map(|model| model.id.to_string())
}

impl Findings {
    fn judge_purchases(&mut self, line_of: &BTreeMap<usize, usize>) {
        for (index, candidate) in self.candidates.iter().enumerate() {
            let line = line_of.get(&index).copied();
            match (candidate.kind, line) {
                (Kind::Bought, None) if candidate.covered => self.ledger_only.push(index),
                (Kind::Unknown, Some(line)) => self.doubtful.push((index, Verdict::ProbablyBought { line })),
                (Kind::Unknown, None) if candidate.covered => self.doubtful.push((index, Verdict::ProbablyNot)),
                (Kind::Unknown, None) => self.doubtful.push((index, Verdict::NotCovered)),
                (Kind::SaidLost, Some(line)) => self.doubtful.push((index, Verdict::SaidLostButThere { line })),
                (Kind::Bought | Kind::Maybe | Kind::SaidLost | Kind::Resent, _) => {}
            }
        }
    }

    fn judge_lines(&mut self, taken: &BTreeSet<usize>) {
        let mut refunds = Vec::new();
        for (index, line) in self.lines.iter().enumerate() {
            let covered = line.time.is_none_or(|time| self.covered.holds(time, time));
            if taken.contains(&index) || !covered {
                continue;
            }
            match line.usd {
                Some(usd) if usd < 0.0 => refunds.push(usd),
                Some(0.0) => self.free += 1,
                Some(_) | None => self.export_only.push(index),
            }
        }
        self.refunded = Sum::of(refunds);
    }

    /// Whether nothing is left to look into near what the export covers.
    pub(super) fn all_well(&self) -> bool {
        self.export_only.is_empty()
            && self.ledger_only.is_empty()
            && self.unreadable.is_empty()
            && self.doubtful.is_empty()
    }
}
