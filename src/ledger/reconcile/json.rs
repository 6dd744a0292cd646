//! The comparison as JSON, for programs.

use serde::Serialize;

use super::matching::MatchedBy;
use super::sums::Sum;
use super::{Reconciliation, Verdict};
use crate::ledger::Location;
use crate::ledger::entry::{rounded, time_text};
use crate::model::PurchaseId;

/// The comparison as JSON. Every key is always present.
#[derive(Debug, Serialize)]
pub(in crate::ledger) struct ReconciliationJson<'a> {
    consistent: bool,
    since: Option<String>,
    until: Option<String>,
    matched: Vec<PairJson<'a>>,
    export_only: Vec<LineJson<'a>>,
    ledger_only: Vec<ItemJson<'a>>,
    unknown: Vec<UnknownJson<'a>>,
    unknown_outside: usize,
    unreadable: Vec<UnreadableJson<'a>>,
    other_models: Sum,
    refunds: Sum,
    free_lines: usize,
    export_usd: f64,
    ledger_usd: f64,
}

#[derive(Debug, Serialize)]
struct PairJson<'a> {
    #[serde(flatten)]
    purchase: ItemJson<'a>,
    line: u64,
    export_usd: Option<f64>,
    matched_by: &'static str,
}

#[derive(Debug, Serialize)]
struct LineJson<'a> {
    line: u64,
    time: Option<String>,
    model: Option<&'a str>,
    usd: Option<f64>,
    id: Option<&'a str>,
}

#[derive(Debug, Serialize)]
struct ItemJson<'a> {
    #[serde(serialize_with = "as_text")]
    purchase_id: PurchaseId,
    upstream_id: Option<&'a str>,
    model: &'a str,
    started_at: String,
    /// By reported tokens or by estimate.
    usd: f64,
}

#[derive(Debug, Serialize)]
struct UnknownJson<'a> {
    #[serde(flatten)]
    purchase: ItemJson<'a>,
    verdict: &'static str,
    line: Option<u64>,
    command: String,
}

#[derive(Debug, Serialize)]
struct UnreadableJson<'a> {
    line: u64,
    problem: &'a str,
}

impl Reconciliation {
    /// The comparison for programs.
    pub(in crate::ledger) fn json(&self, location: &Location) -> ReconciliationJson<'_> {
        let sums = self.sums();
        ReconciliationJson {
            consistent: self.is_consistent(),
            since: time_text(self.settings.period.since),
            until: time_text(self.settings.period.until),
            matched: self.matched.iter().map(|&(item, line, by)| self.pair_json(item, line, by)).collect(),
            export_only: self.export_only.iter().map(|&index| self.line_json(index)).collect(),
            ledger_only: self.ledger_only.iter().map(|&index| self.item_json(index)).collect(),
            unknown: self.unknown.iter().map(|&(item, verdict)| self.unknown_json(item, verdict, location)).collect(),
            unknown_outside: self.remainder.unknown_outside,
            unreadable: self
                .export
                .unreadable
                .iter()
                .map(|line| UnreadableJson { line: line.number, problem: &line.problem })
                .collect(),
            other_models: self.remainder.other_models,
            refunds: self.remainder.refunds,
            free_lines: self.remainder.free_lines,
            export_usd: rounded(sums.export() + self.remainder.refunds.usd),
            ledger_usd: rounded(sums.ledger()),
        }
    }

    fn pair_json(&self, item: usize, line: usize, by: MatchedBy) -> PairJson<'_> {
        PairJson {
            purchase: self.item_json(item),
            line: self.export.lines[line].number,
            export_usd: self.export.lines[line].usd,
            matched_by: match by {
                MatchedBy::Id => "id",
                MatchedBy::Time => "time",
            },
        }
    }

    fn line_json(&self, index: usize) -> LineJson<'_> {
        let line = &self.export.lines[index];
        LineJson {
            line: line.number,
            time: time_text(line.time),
            model: line.model.as_deref(),
            usd: line.usd,
            id: line.id.as_deref(),
        }
    }

    fn item_json(&self, index: usize) -> ItemJson<'_> {
        let item = &self.items[index];
        ItemJson {
            purchase_id: item.purchase.id,
            upstream_id: item.purchase.upstream_id.as_deref(),
            model: &item.purchase.model,
            started_at: item.purchase.started.to_string(),
            usd: rounded(item.usd),
        }
    }

    fn unknown_json(&self, index: usize, verdict: Verdict, location: &Location) -> UnknownJson<'_> {
        let (name, line) = match verdict {
            Verdict::ProbablyBought { line } => ("probably_bought", Some(line)),
            Verdict::ProbablyNot => ("probably_never_bought", None),
            Verdict::NotCovered => ("not_covered", None),
            Verdict::DecidedLostButInExport { line } => ("decided_lost_but_in_export", Some(line)),
        };
        UnknownJson {
            purchase: self.item_json(index),
            verdict: name,
            line: line.map(|line| self.export.lines[line].number),
            command: self.command(index, verdict, location),
        }
    }
}

fn as_text<S: serde::Serializer>(id: &PurchaseId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(id)
}
