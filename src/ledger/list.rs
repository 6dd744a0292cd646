//! `ledger list`: one row a purchase, newest last.

use crate::model::Catalogue;

use super::entry::{Entry, Payment, clock, dollars};
use super::table::table;

/// Returns the table and its sums.
pub(super) fn text(entries: &[Entry<'_>], more: bool, catalogue: &Catalogue) -> String {
    if entries.is_empty() {
        return "no purchases\n".to_owned();
    }
    let header =
        ["PURCHASE", "WHEN (UTC)", "CLIENT", "MODEL", "TASK", "SIZE", "N", "STATE", "UPSTREAM ID", "PRICE", "NOTE"];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    rows.extend(entries.iter().map(|entry| row(entry, catalogue)));
    let mut text = table(&rows, &[6, 9]);
    text.push('\n');
    text.push_str(&Sums::of(entries, catalogue).summary(entries.len()));
    if more {
        text.push_str("\nThese are the newest. --limit N shows more, --limit 0 all.");
    }
    text.push('\n');
    text
}

fn row(entry: &Entry<'_>, catalogue: &Catalogue) -> Vec<String> {
    let record = &entry.job.record;
    let price = match (entry.payment(), entry.cost(catalogue)) {
        (Payment::NotBought, _) => "-".to_owned(),
        (Payment::Bought, Some(cost)) if cost.reported => dollars(cost.usd),
        (Payment::Bought, Some(cost)) => format!("~{}", dollars(cost.usd)),
        (Payment::Possible | Payment::Unknown, Some(cost)) => format!("?{}", dollars(cost.usd)),
        (_, None) => "?".to_owned(),
    };
    vec![
        entry.purchase.id.to_string(),
        clock(record.created),
        record.client.to_string(),
        record.model.to_string(),
        record.task.name().to_owned(),
        record.size.to_string(),
        entry.purchase.pictures.to_string(),
        entry.purchase.state.name().to_owned(),
        entry.upstream().map_or_else(|| "-".to_owned(), ToString::to_string),
        price,
        note(entry),
    ]
}

fn note(entry: &Entry<'_>) -> String {
    let mut notes = Vec::new();
    if let Some(resolution) = entry.purchase.resolution {
        notes.push(format!("decided: {}", resolution.name()));
    } else if let Some(failure) = entry.failure().filter(|_| entry.payment() != Payment::Unknown) {
        notes.push(failure.name().to_owned());
    }
    match entry.purchase.lost_answers {
        0 => {}
        count => notes.push(format!("earlier lost responses: {count}")),
    }
    notes.join(", ")
}

#[derive(Default)]
struct Sums {
    spent: f64,
    estimated: bool,
    unpriced: usize,
    unknown: Sum,
    possible: Sum,
    resent: Sum,
}

#[derive(Default)]
struct Sum {
    count: u32,
    usd: f64,
}

impl Sum {
    fn add(&mut self, count: u32, usd: f64) {
        self.count += count;
        self.usd += f64::from(count) * usd;
    }
}

impl Sums {
    fn of(entries: &[Entry<'_>], catalogue: &Catalogue) -> Self {
        let mut sums = Self::default();
        for entry in entries {
            let cost = entry.cost(catalogue);
            let usd = cost.map_or(0.0, |cost| cost.usd);
            let payment = entry.payment();
            match payment {
                Payment::NotBought => {}
                Payment::Bought => {
                    sums.spent += usd;
                    sums.estimated |= cost.is_some_and(|cost| !cost.reported);
                }
                Payment::Possible => sums.possible.add(1, usd),
                Payment::Unknown => sums.unknown.add(1, usd),
            }
            sums.unpriced += usize::from(payment != Payment::NotBought && cost.is_none());
            sums.resent.add(entry.purchase.lost_answers, usd);
        }
        sums
    }

    fn summary(&self, count: usize) -> String {
        let plural = if count == 1 { "" } else { "s" };
        let estimated = if self.estimated { " (~ by estimate)" } else { "" };
        let mut parts = vec![format!("{count} purchase{plural}: spent {}{estimated}", dollars(self.spent))];
        let mut add_possible = |sum: &Sum, what: &str| {
            if sum.count > 0 {
                parts.push(format!("{} {what} (possibly {})", sum.count, dollars(sum.usd)));
            }
        };
        add_possible(&self.unknown, "unknown");
        add_possible(&self.possible, "under way or without a picture");
        add_possible(&self.resent, "sent again after a lost response");
        if self.unpriced > 0 {
            parts.push(format!("{} of models without a price", self.unpriced));
        }
        parts.join(", ")
    }
}
