//! The money on both sides of the comparison.

use serde::Serialize;

use super::{Reconciliation, Verdict};
use crate::ledger::entry::rounded;

/// A number of purchases or lines, and their money.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Sum {
    pub(super) count: usize,
    pub(super) usd: f64,
}

impl Sum {
    pub(super) fn of(amounts: impl IntoIterator<Item = f64>) -> Self {
        let sum =
            amounts.into_iter().fold(Self::default(), |sum, usd| Self { count: sum.count + 1, usd: sum.usd + usd });
        Self { usd: rounded(sum.usd), ..sum }
    }
}

/// The money on both sides: what is matched, and what is missing on the other side.
#[derive(Debug)]
pub(super) struct Sums {
    pub(super) matched_export: Sum,
    pub(super) matched_ledger: Sum,
    pub(super) export_only: Sum,
    pub(super) ledger_only: Sum,
    pub(super) probably_bought: Sum,
}

impl Sums {
    pub(super) fn export(&self) -> f64 {
        self.matched_export.usd + self.export_only.usd + self.probably_bought.usd
    }

    pub(super) fn ledger(&self) -> f64 {
        self.matched_ledger.usd + self.ledger_only.usd
    }
}

impl Reconciliation {
    pub(super) fn sums(&self) -> Sums {
        let of_lines = |indices: &mut dyn Iterator<Item = usize>| {
            Sum::of(indices.map(|index| self.export.lines[index].usd.unwrap_or(0.0)))
        };
        let of_items = |indices: &mut dyn Iterator<Item = usize>| Sum::of(indices.map(|index| self.items[index].usd));
        let mut probably_bought = self.unknown.iter().filter_map(|&(_, verdict)| match verdict {
            Verdict::ProbablyBought { line } | Verdict::DecidedLostButInExport { line } => Some(line),
            Verdict::ProbablyNot | Verdict::NotCovered => None,
        });
        Sums {
            matched_export: of_lines(&mut self.matched.iter().map(|&(_, line, _)| line)),
            matched_ledger: of_items(&mut self.matched.iter().map(|&(item, _, _)| item)),
            export_only: of_lines(&mut self.export_only.iter().copied()),
            ledger_only: of_items(&mut self.ledger_only.iter().copied()),
            probably_bought: of_lines(&mut probably_bought),
        }
    }
}
