//! The comparison as text for a terminal.

use std::fmt::Write;

use super::export::Export;
use super::matching::{ExportLine, MatchedBy};
use super::{LedgerItem, Reconciliation, Remainder, Verdict};
use crate::ledger::Location;
use crate::ledger::entry::{clock, dollars, time_text};
use crate::ledger::table::{escape_control, table};

impl Reconciliation {
    /// The comparison for a terminal.
    pub(in crate::ledger) fn text(&self, location: &Location) -> String {
        let sums = self.sums();
        let mut text = String::new();
        let since = time_text(self.settings.period.since).unwrap_or_else(|| "the beginning".to_owned());
        let until = time_text(self.settings.period.until).unwrap_or_else(|| "now".to_owned());
        let _ = writeln!(text, "compared from {since} to {until}\n");
        let by_id = self.matched.iter().filter(|(_, _, by)| *by == MatchedBy::Id).count();
        let by_time = self.matched.len() - by_id;
        let _ = writeln!(text, "matched: {} ({by_id} by id, {by_time} by model and time)", self.matched.len());
        if !self.export_only.is_empty() {
            let (count, usd) = (self.export_only.len(), dollars(sums.export_only.usd));
            let _ = writeln!(
                text,
                "\nonly in the export: {count} ({usd})\nbought without a purchase in the ledger: lost by the gateway, or \
                 bought by another program with the same key"
            );
            let rows: Vec<_> = self.export_only.iter().map(|&index| line_row(&self.export.lines[index])).collect();
            text.push_str(&table(&rows, &[]));
        }
        if !self.ledger_only.is_empty() {
            let (count, usd) = (self.ledger_only.len(), dollars(sums.ledger_only.usd));
            let _ = writeln!(text, "\nonly in the ledger: {count} ({usd})");
            let rows: Vec<_> = self.ledger_only.iter().map(|&index| item_row(&self.items[index])).collect();
            text.push_str(&table(&rows, &[]));
        }
        self.write_unknown(&mut text, location);
        self.write_rest(&mut text);
        let _ = writeln!(
            text,
            "\nexport: {} (matched {}, probably bought {}, only in the export {}, refunded {})\n\
             ledger: {} (matched {}, only in the ledger {})",
            dollars(sums.export() + self.remainder.refunds.usd),
            dollars(sums.matched_export.usd),
            dollars(sums.probably_bought.usd),
            dollars(sums.export_only.usd),
            dollars(self.remainder.refunds.usd),
            dollars(sums.ledger()),
            dollars(sums.matched_ledger.usd),
            dollars(sums.ledger_only.usd),
        );
        let verdict = if self.is_consistent() { "ledger and export agree" } else { "ledger and export differ" };
        let _ = writeln!(text, "\n{verdict}");
        text
    }

    fn write_unknown(&self, text: &mut String, location: &Location) {
        if self.unknown.is_empty() {
            return;
        }
        let _ = writeln!(text, "\nunknown outcome: {}", self.unknown.len());
        for &(index, verdict) in &self.unknown {
            let purchase = &self.items[index].purchase;
            let verdict_text = match verdict {
                Verdict::ProbablyBought { line } => format!("probably bought: matches {}", self.line_name(line)),
                Verdict::ProbablyNot => {
                    format!("probably never bought: no unmatched line within {} s", self.settings.slack.as_secs())
                }
                Verdict::NotCovered => {
                    "no verdict: outside of the export's period; if the export covers more, use --since and --until"
                        .to_owned()
                }
                Verdict::DecidedLostButInExport { line } => {
                    format!("decided lost, but probably bought: matches {}", self.line_name(line))
                }
            };
            let _ = writeln!(
                text,
                "  {}  {}  {}  possibly {}\n    {verdict_text}\n    {}",
                purchase.id,
                clock(purchase.started),
                purchase.model,
                dollars(self.items[index].usd),
                self.command(index, verdict, location),
            );
        }
    }

    fn write_rest(&self, text: &mut String) {
        let Export { unreadable, zone_assumed, .. } = &self.export;
        let Remainder { unknown_outside, other_models, free_lines, refunds } = &self.remainder;
        if !unreadable.is_empty() {
            let _ = writeln!(text, "\nlines that cannot be read: {}", unreadable.len());
            for line in unreadable {
                let _ = writeln!(text, "  line {}  {}", line.number, escape_control(&line.problem));
            }
        }
        if *unknown_outside > 0 {
            let _ = writeln!(text, "\nunknown outcome at other times: {unknown_outside} (ledger list --state unknown)");
        }
        if other_models.count > 0 {
            let (count, usd) = (other_models.count, dollars(other_models.usd));
            let _ = writeln!(text, "\nlines of models that this gateway does not serve: {count} ({usd})");
        }
        if *free_lines > 0 {
            let _ = writeln!(text, "\nunmatched lines that cost nothing: {free_lines}");
        }
        if refunds.count > 0 {
            let _ = writeln!(text, "\nrefunds: {} ({})", refunds.count, dollars(refunds.usd));
        }
        if *zone_assumed && self.matched.is_empty() && !self.is_consistent() {
            let _ = writeln!(
                text,
                "\nnothing matches, and times of the export name no zone: if they are local times, add --zone +08:00"
            );
        }
    }

    /// Returns the command that records the verdict.
    pub(super) fn command(&self, index: usize, verdict: Verdict, location: &Location) -> String {
        let decision = match verdict {
            Verdict::ProbablyBought { .. } | Verdict::DecidedLostButInExport { .. } => "bought",
            Verdict::ProbablyNot => "lost",
            Verdict::NotCovered => "DECISION",
        };
        location.command(&format!("resolve {} {decision}", self.items[index].purchase.id))
    }

    fn line_name(&self, line: usize) -> String {
        let line = &self.export.lines[line];
        match line.usd {
            None => format!("line {}", line.number),
            Some(usd) => format!("line {} ({})", line.number, dollars(usd)),
        }
    }
}

fn line_row(line: &ExportLine) -> Vec<String> {
    let missing = || "-".to_owned();
    vec![
        format!("  line {}", line.number),
        line.time.map_or_else(missing, clock),
        line.model.as_deref().map_or_else(missing, escape_control),
        line.usd.map_or_else(missing, dollars),
        line.id.as_deref().map_or_else(missing, escape_control),
    ]
}

fn item_row(item: &LedgerItem) -> Vec<String> {
    let purchase = &item.purchase;
    vec![
        format!("  {}", purchase.id),
        clock(purchase.started),
        purchase.model.clone(),
        dollars(item.usd),
        purchase.upstream_id.clone().unwrap_or_else(|| "-".to_owned()),
    ]
}
