//! `ledger reconcile`: the ledger beside the vendor's usage export, the only outside evidence of what was bought.
//!
//! Wanted: no false alarm.
//! - Only the period that the export covers is judged: from its first to its last line, or as `--since` and `--until` say. A
//!   purchase at the edge may be matched, but is not missed, because its line may be outside.
//! - A certain purchase must have a line. One that failed at the upstream may have one: whether the vendor charges for it
//!   is unknown.
//! - A purchase of unknown outcome has no id and no end. It was probably bought when a line is left that no other purchase
//!   explains.
//! - Lines of models that neither the catalogue nor the ledger has were bought by other programs, and are only counted.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::model::{Catalogue, Timestamp};
use crate::storage::journal::Resolution;

use super::entry::{Entry, Payment};

mod export;
mod json;
mod matching;
mod sums;
mod text;

use export::Export;
use matching::{MatchedBy, Purchase, pair};
use sums::Sum;

pub(super) use export::read as read_export;

/// How long after its submit the line of an unknown purchase may be: a picture of high quality takes about 143 s.
const GENERATION: Duration = Duration::from_mins(3);

/// The period that the export covers. `None` is unlimited.
#[derive(Clone, Copy, Debug)]
pub(super) struct Period {
    pub(super) since: Option<Timestamp>,
    pub(super) until: Option<Timestamp>,
}

impl Period {
    /// The given period; a missing end is that of the export's lines.
    pub(super) fn new(since: Option<Timestamp>, until: Option<Timestamp>, export: &Export) -> Self {
        let times = || export.lines.iter().filter_map(|line| line.time);
        Self { since: since.or_else(|| times().min()), until: until.or_else(|| times().max()) }
    }

    fn contains(&self, started: Timestamp, ended: Timestamp) -> bool {
        self.since.is_none_or(|since| started >= since) && self.until.is_none_or(|until| ended <= until)
    }

    fn is_near(&self, time: Timestamp, slack: Duration) -> bool {
        self.since.is_none_or(|since| since.since(time) <= slack)
            && self.until.is_none_or(|until| time.since(until) <= slack)
    }
}

/// How to compare.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    pub(super) period: Period,
    /// The greatest difference between the vendor's clock and this one.
    pub(super) slack: Duration,
    /// How long a purchase is polled.
    pub(super) deadline: Duration,
    pub(super) now: Timestamp,
}

/// A purchase of the ledger that may be in the export.
#[derive(Debug)]
struct LedgerItem {
    purchase: Purchase,
    kind: ItemKind,
    usd: f64,
    /// Whether the export covers its whole time.
    covered: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ItemKind {
    Bought,
    /// Accepted without a picture, decided to be bought again, or under way.
    Possible,
    Unknown,
    /// The operator has decided that it was never bought.
    DecidedLost,
    /// An earlier submit of a purchase, whose response was lost and which was sent again.
    Resent,
}

/// The result of the comparison. Items and lines are referred to by index.
#[derive(Debug)]
pub(super) struct Reconciliation {
    settings: Settings,
    /// With the lines that could be purchases of this gateway.
    export: Export,
    items: Vec<LedgerItem>,
    /// Item, line.
    matched: Vec<(usize, usize, MatchedBy)>,
    export_only: Vec<usize>,
    ledger_only: Vec<usize>,
    /// Items of unknown outcome, and decisions that a line contradicts.
    unknown: Vec<(usize, Verdict)>,
    remainder: Remainder,
}

/// What is not compared, and only counted.
#[derive(Debug)]
struct Remainder {
    /// Purchases of unknown outcome far outside of the period.
    unknown_outside: usize,
    /// Lines of models that this gateway does not serve.
    other_models: Sum,
    /// Unmatched lines that cost nothing.
    free_lines: usize,
    refunds: Sum,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    ProbablyBought {
        line: usize,
    },
    ProbablyNot,
    /// The export does not cover its time.
    NotCovered,
    /// The operator has decided that it was lost, but a line fits.
    DecidedLostButInExport {
        line: usize,
    },
}

/// Compares the purchases in and near the period with an export. `unknown_outside` counts purchases of unknown outcome at
/// other times.
pub(super) fn compare(
    entries: &[Entry<'_>],
    unknown_outside: usize,
    export: Export,
    settings: Settings,
    catalogue: &Catalogue,
) -> Reconciliation {
    let Export { lines, unreadable, zone_assumed } = export;
    let items: Vec<LedgerItem> = entries.iter().flat_map(|entry| items(entry, settings, catalogue)).collect();
    let models: BTreeSet<&str> = items.iter().map(|item| item.purchase.model.as_str()).collect();

    let mut comparable = Vec::new();
    let mut other_models = Vec::new();
    for mut line in lines {
        line.model = line.model.map(|name| known(&name, catalogue).unwrap_or(name));
        if !line.time.is_none_or(|time| settings.period.is_near(time, settings.slack)) {
            continue;
        }
        if line.model.as_deref().is_none_or(|model| models.contains(model) || catalogue.find(model).is_some()) {
            comparable.push(line);
        } else {
            other_models.push(line.usd.unwrap_or(0.0));
        }
    }
    let purchases: Vec<Purchase> = items.iter().map(|item| item.purchase.clone()).collect();
    let pairs = pair(&purchases, &comparable, settings.slack);
    let mut result = Reconciliation {
        settings,
        export: Export { lines: comparable, unreadable, zone_assumed },
        items,
        matched: Vec::new(),
        export_only: Vec::new(),
        ledger_only: Vec::new(),
        unknown: Vec::new(),
        remainder: Remainder {
            unknown_outside,
            other_models: Sum::of(other_models),
            free_lines: 0,
            refunds: Sum::default(),
        },
    };
    let line_of: BTreeMap<usize, usize> = pairs.iter().map(|pair| (pair.purchase, pair.line)).collect();
    let taken: BTreeSet<usize> = line_of.values().copied().collect();
    for pair in &pairs {
        if !matches!(result.items[pair.purchase].kind, ItemKind::Unknown | ItemKind::DecidedLost) {
            result.matched.push((pair.purchase, pair.line, pair.by));
        }
    }
    result.judge_items(&line_of);
    result.judge_lines(&taken);
    result
}

/// Returns what an export may show of a purchase: the purchase, and earlier submits whose responses were lost.
fn items(entry: &Entry<'_>, settings: Settings, catalogue: &Catalogue) -> Vec<LedgerItem> {
    let record = &entry.job.record;
    let started = entry.times.committed.or(entry.times.accepted).unwrap_or(record.created);
    let kind = match (entry.payment(), entry.purchase.resolution) {
        (Payment::Bought, _) => Some(ItemKind::Bought),
        (Payment::Possible, _) => Some(ItemKind::Possible),
        (Payment::Unknown, _) => Some(ItemKind::Unknown),
        (Payment::NotBought, Some(Resolution::Lost)) => Some(ItemKind::DecidedLost),
        (Payment::NotBought, _) => None,
    };
    let model = known(&record.model, catalogue).unwrap_or_else(|| record.model.to_string());
    let usd = entry.cost(catalogue).map_or(0.0, |cost| cost.usd);
    let item = |kind: ItemKind, started: Timestamp, ended: Timestamp| {
        let upstream_id = entry.upstream().filter(|_| kind != ItemKind::Resent).map(ToString::to_string);
        let purchase = Purchase {
            id: entry.purchase.id,
            upstream_id,
            model: model.clone(),
            started,
            ended,
            certain: kind == ItemKind::Bought,
        };
        LedgerItem { purchase, kind, usd, covered: settings.period.contains(started, ended) }
    };
    // A gateway that was stopped records an end when it runs again, long after the vendor did.
    let ended = if entry.upstream().is_some() {
        entry.times.ended.unwrap_or(settings.now).min(started.plus(settings.deadline)).max(started)
    } else {
        started.plus(GENERATION)
    };
    let own = kind.map(|kind| item(kind, started, ended));
    // The times of earlier submits are not recorded; they are between the job's creation and the last submit.
    let resent = (0..entry.purchase.lost_answers)
        .map(|_| item(ItemKind::Resent, record.created, started.max(record.created).plus(GENERATION)));
    own.into_iter().chain(resent).collect()
}

/// Returns the catalogue's id of a model that an export names by its id or an alias, or by either with a vendor before or
/// a task after it.
fn known(name: &str, catalogue: &Catalogue) -> Option<String> {
    let name = name.to_ascii_lowercase();
    std::iter::once(name.as_str())
        .chain(name.split('/'))
        .find_map(|part| catalogue.find(part))
        .map(|model| model.id.to_string())
}

impl Reconciliation {
    fn judge_items(&mut self, line_of: &BTreeMap<usize, usize>) {
        for (index, item) in self.items.iter().enumerate() {
            let line = line_of.get(&index).copied();
            match (item.kind, line) {
                (ItemKind::Bought, None) if item.covered => self.ledger_only.push(index),
                (ItemKind::Unknown, Some(line)) => self.unknown.push((index, Verdict::ProbablyBought { line })),
                (ItemKind::Unknown, None) if item.covered => self.unknown.push((index, Verdict::ProbablyNot)),
                (ItemKind::Unknown, None) => self.unknown.push((index, Verdict::NotCovered)),
                (ItemKind::DecidedLost, Some(line)) => {
                    self.unknown.push((index, Verdict::DecidedLostButInExport { line }));
                }
                (ItemKind::Bought | ItemKind::Possible | ItemKind::DecidedLost | ItemKind::Resent, _) => {}
            }
        }
    }

    fn judge_lines(&mut self, taken: &BTreeSet<usize>) {
        let mut refunds = Vec::new();
        for (index, line) in self.export.lines.iter().enumerate() {
            let covered = line.time.is_none_or(|time| self.settings.period.contains(time, time));
            if taken.contains(&index) || !covered {
                continue;
            }
            match line.usd {
                Some(usd) if usd < 0.0 => refunds.push(usd),
                Some(0.0) => self.remainder.free_lines += 1,
                Some(_) | None => self.export_only.push(index),
            }
        }
        self.remainder.refunds = Sum::of(refunds);
    }

    /// Returns whether ledger and export agree in the period, without a line or a purchase left to examine.
    pub(super) fn is_consistent(&self) -> bool {
        self.export_only.is_empty()
            && self.ledger_only.is_empty()
            && self.export.unreadable.is_empty()
            && self.unknown.is_empty()
    }
}
