//! The findings, for people and for programs.

use std::fmt::Write;

use serde::Serialize;

use super::{Candidate, Findings, Sum, Verdict};
use crate::ledger::Place;
use crate::ledger::entry::{clock, dollars, rounded, text as time};
use crate::ledger::matching::{By, Line};
use crate::ledger::table::{harmless, table};
use crate::model::PurchaseId;

impl Findings {
    fn sums(&self) -> Sums {
        let of_lines = |indices: &mut dyn Iterator<Item = usize>| {
            Sum::of(indices.map(|index| self.lines[index].usd.unwrap_or(0.0)))
        };
        let of_ledger =
            |indices: &mut dyn Iterator<Item = usize>| Sum::of(indices.map(|index| self.candidates[index].usd));
        let matched = |&(candidate, line, _): &(usize, usize, By)| (candidate, line);
        // Both sides over the same things: what is matched, and what is missing on the other side.
        let doubtful = || {
            self.doubtful.iter().filter_map(|&(candidate, verdict)| match verdict {
                Verdict::ProbablyBought { line } | Verdict::SaidLostButThere { line } => Some((candidate, line)),
                Verdict::ProbablyNot | Verdict::NotCovered => None,
            })
        };
        Sums {
            matched_export: of_lines(&mut self.matched.iter().map(|pair| matched(pair).1)),
            matched_ledger: of_ledger(&mut self.matched.iter().map(|pair| matched(pair).0)),
            export_only: of_lines(&mut self.export_only.iter().copied()),
            ledger_only: of_ledger(&mut self.ledger_only.iter().copied()),
            probably_bought: of_lines(&mut doubtful().map(|(_, line)| line)),
        }
    }

    fn command(&self, index: usize, verdict: Verdict, place: &Place) -> String {
        let purchase = self.candidates[index].purchase.purchase;
        let decision = match verdict {
            Verdict::ProbablyBought { .. } | Verdict::SaidLostButThere { .. } => "bought",
            Verdict::ProbablyNot => "lost",
            Verdict::NotCovered => "lost|bought|resubmit",
        };
        place.command(&format!("resolve {purchase} {decision}"))
    }

    /// The findings for people.
    pub(in crate::ledger) fn text(&self, place: &Place) -> String {
        let sums = self.sums();
        let mut text = String::new();
        let since = time(self.covered.since).unwrap_or_else(|| "the beginning".to_owned());
        let until = time(self.covered.until).unwrap_or_else(|| "now".to_owned());
        let _ = writeln!(text, "compared from {since} to {until}\n");
        let by_id = self.matched.iter().filter(|(_, _, by)| *by == By::Id).count();
        let _ = writeln!(
            text,
            "matched: {} ({by_id} by id, {} by model and time)",
            self.matched.len(),
            self.matched.len() - by_id
        );
        if !self.export_only.is_empty() {
            let _ = writeln!(
                text,
                "\nin the export, not in the ledger: {} ({})\nbought, and the gateway does not know of it: lost, or made \
                 elsewhere with the same key",
                self.export_only.len(),
                dollars(sums.export_only.usd)
            );
            text.push_str(&table(
                &self.export_only.iter().map(|&index| line_row(&self.lines[index])).collect::<Vec<_>>(),
                &[],
            ));
        }
        if !self.ledger_only.is_empty() {
            let _ = writeln!(
                text,
                "\nbought by the ledger, not in the export: {} ({})",
                self.ledger_only.len(),
                dollars(sums.ledger_only.usd)
            );
            let rows: Vec<_> = self.ledger_only.iter().map(|&index| purchase_row(&self.candidates[index])).collect();
            text.push_str(&table(&rows, &[]));
        }
        self.write_doubtful(&mut text, place);
        self.write_rest(&mut text);
        let _ = writeln!(
            text,
            "\nmoney: export {} (matched {}, probably bought {}, unexplained {}, refunded {})\n       \
             ledger {} (matched {}, not in the export {})",
            dollars(sums.export() + self.refunded.usd),
            dollars(sums.matched_export.usd),
            dollars(sums.probably_bought.usd),
            dollars(sums.export_only.usd),
            dollars(self.refunded.usd),
            dollars(sums.ledger()),
            dollars(sums.matched_ledger.usd),
            dollars(sums.ledger_only.usd),
        );
        let _ = writeln!(text, "{}", if self.all_well() { "nothing is off" } else { "something is off" });
        text
    }

    fn write_doubtful(&self, text: &mut String, place: &Place) {
        if self.doubtful.is_empty() {
            return;
        }
        let _ = writeln!(text, "\nunknown: {}", self.doubtful.len());
        for &(index, verdict) in &self.doubtful {
            let candidate = &self.candidates[index];
            let verdict_text = match verdict {
                Verdict::ProbablyBought { line } => format!("probably bought: matched with {}", self.named(line)),
                Verdict::ProbablyNot => {
                    format!("probably never bought: no line is left within {} s", self.slack.as_secs())
                }
                Verdict::NotCovered => {
                    "no verdict: outside of what the export covers; if it covers more, say --since and --until"
                        .to_owned()
                }
                Verdict::SaidLostButThere { line } => {
                    format!("decided to be lost, but probably bought: matched with {}", self.named(line))
                }
            };
            let _ = writeln!(
                text,
                "  {}  {}  {}  perhaps {}\n    {verdict_text}\n    {}",
                candidate.purchase.purchase,
                clock(candidate.purchase.begun),
                candidate.purchase.model,
                dollars(candidate.usd),
                self.command(index, verdict, place),
            );
        }
    }

    fn write_rest(&self, text: &mut String) {
        if !self.unreadable.is_empty() {
            let _ = writeln!(text, "\nlines that cannot be read: {}", self.unreadable.len());
            for line in &self.unreadable {
                let _ = writeln!(text, "  line {}  {}", line.number, harmless(&line.problem));
            }
        }
        if self.elsewhere > 0 {
            let _ = writeln!(text, "\nunknown at other times: {} (ledger list --state unknown)", self.elsewhere);
        }
        if self.foreign.count > 0 {
            let _ = writeln!(
                text,
                "\nlines of models that are not served here: {} ({})",
                self.foreign.count,
                dollars(self.foreign.usd)
            );
        }
        if self.free > 0 {
            let _ = writeln!(text, "\nlines that cost nothing and match nothing: {}", self.free);
        }
        if self.refunded.count > 0 {
            let _ = writeln!(text, "\nrefunds: {} ({})", self.refunded.count, dollars(self.refunded.usd));
        }
        if self.zone_assumed && self.matched.is_empty() && !self.all_well() {
            let _ = writeln!(
                text,
                "\nnothing matches, and the export's times name no zone: if they are local times, say so with --zone +08:00"
            );
        }
    }

    fn named(&self, line: usize) -> String {
        let line = &self.lines[line];
        line.usd
            .map_or_else(|| format!("line {}", line.number), |usd| format!("line {} ({})", line.number, dollars(usd)))
    }

    /// The findings for programs.
    pub(in crate::ledger) fn json(&self, place: &Place) -> Json<'_> {
        let sums = self.sums();
        let line = |index: usize| {
            let line = &self.lines[index];
            JsonLine {
                line: line.number,
                time: time(line.time),
                model: line.model.as_deref(),
                usd: line.usd,
                id: line.id.as_deref(),
            }
        };
        let purchase = |index: usize| {
            let candidate = &self.candidates[index];
            JsonPurchase {
                purchase_id: candidate.purchase.purchase,
                upstream_id: candidate.purchase.upstream.as_deref(),
                model: &candidate.purchase.model,
                begun_at: candidate.purchase.begun.to_string(),
                usd: rounded(candidate.usd),
            }
        };
        let doubtful = |&(index, verdict): &(usize, Verdict)| {
            let (name, found) = match verdict {
                Verdict::ProbablyBought { line } => ("probably_bought", Some(line)),
                Verdict::ProbablyNot => ("probably_never_bought", None),
                Verdict::NotCovered => ("not_covered", None),
                Verdict::SaidLostButThere { line } => ("decided_lost_but_there", Some(line)),
            };
            JsonDoubt {
                purchase: purchase(index),
                verdict: name,
                line: found.map(|line| self.lines[line].number),
                command: self.command(index, verdict, place),
            }
        };
        Json {
            all_well: self.all_well(),
            since: time(self.covered.since),
            until: time(self.covered.until),
            matched: self
                .matched
                .iter()
                .map(|&(index, line, by)| JsonPair {
                    purchase: purchase(index),
                    line: self.lines[line].number,
                    export_usd: self.lines[line].usd,
                    by: match by {
                        By::Id => "id",
                        By::Time => "time",
                    },
                })
                .collect(),
            export_only: self.export_only.iter().map(|&index| line(index)).collect(),
            ledger_only: self.ledger_only.iter().map(|&index| purchase(index)).collect(),
            unknown: self.doubtful.iter().map(doubtful).collect(),
            unknown_elsewhere: self.elsewhere,
            unreadable: self
                .unreadable
                .iter()
                .map(|line| JsonUnreadable { line: line.number, problem: &line.problem })
                .collect(),
            other_models: self.foreign,
            refunds: self.refunded,
            free_lines: self.free,
            export_usd: rounded(sums.export() + self.refunded.usd),
            ledger_usd: rounded(sums.ledger()),
        }
    }
}

fn line_row(line: &Line) -> Vec<String> {
    let unknown = || "-".to_owned();
    vec![
        format!("  line {}", line.number),
        line.time.map_or_else(unknown, clock),
        line.model.as_deref().map_or_else(unknown, harmless),
        line.usd.map_or_else(unknown, dollars),
        line.id.as_deref().map_or_else(unknown, harmless),
    ]
}

fn purchase_row(candidate: &Candidate) -> Vec<String> {
    let purchase = &candidate.purchase;
    vec![
        format!("  {}", purchase.purchase),
        clock(purchase.begun),
        purchase.model.clone(),
        dollars(candidate.usd),
        purchase.upstream.clone().unwrap_or_else(|| "-".to_owned()),
    ]
}

#[derive(Debug)]
struct Sums {
    matched_export: Sum,
    matched_ledger: Sum,
    export_only: Sum,
    ledger_only: Sum,
    probably_bought: Sum,
}

impl Sums {
    fn export(&self) -> f64 {
        self.matched_export.usd + self.export_only.usd + self.probably_bought.usd
    }

    fn ledger(&self) -> f64 {
        self.matched_ledger.usd + self.ledger_only.usd
    }
}

/// The findings for programs.
#[derive(Debug, Serialize)]
pub(in crate::ledger) struct Json<'a> {
    all_well: bool,
    since: Option<String>,
    until: Option<String>,
    matched: Vec<JsonPair<'a>>,
    export_only: Vec<JsonLine<'a>>,
    ledger_only: Vec<JsonPurchase<'a>>,
    unknown: Vec<JsonDoubt<'a>>,
    unknown_elsewhere: usize,
    unreadable: Vec<JsonUnreadable<'a>>,
    other_models: Sum,
    refunds: Sum,
    free_lines: usize,
    export_usd: f64,
    ledger_usd: f64,
}

#[derive(Debug, Serialize)]
struct JsonPair<'a> {
    #[serde(flatten)]
    purchase: JsonPurchase<'a>,
    line: u64,
    export_usd: Option<f64>,
    by: &'static str,
}

#[derive(Debug, Serialize)]
struct JsonLine<'a> {
    line: u64,
    time: Option<String>,
    model: Option<&'a str>,
    usd: Option<f64>,
    id: Option<&'a str>,
}

#[derive(Debug, Serialize)]
struct JsonPurchase<'a> {
    #[serde(serialize_with = "as_text")]
    purchase_id: PurchaseId,
    upstream_id: Option<&'a str>,
    model: &'a str,
    begun_at: String,
    /// By the ledger: reported tokens or the estimate.
    usd: f64,
}

#[derive(Debug, Serialize)]
struct JsonDoubt<'a> {
    #[serde(flatten)]
    purchase: JsonPurchase<'a>,
    verdict: &'static str,
    line: Option<u64>,
    command: String,
}

#[derive(Debug, Serialize)]
struct JsonUnreadable<'a> {
    line: u64,
    problem: &'a str,
}

fn as_text<S: serde::Serializer>(id: &PurchaseId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(id)
}
