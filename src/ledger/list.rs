//! `ledger list`: one row a prediction, newest last.

use crate::model::Catalogue;

use super::entry::{Entry, Standing, clock, dollars};
use super::table::table;

/// The table and its sums.
pub(super) fn text(entries: &[Entry<'_>], more: bool, catalogue: &Catalogue) -> String {
    if entries.is_empty() {
        return "no predictions\n".to_owned();
    }
    let header =
        ["PREDICTION", "WHEN (UTC)", "CLIENT", "MODEL", "TASK", "SIZE", "N", "STATE", "UPSTREAM ID", "PRICE", "NOTE"];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    rows.extend(entries.iter().map(|entry| row(entry, catalogue)));
    let mut text = table(&rows, &[6, 9]);
    text.push('\n');
    text.push_str(&Sums::of(entries, catalogue).sentence(entries.len()));
    if more {
        text.push_str("\nthese are the newest; --limit shows more, --limit 0 all");
    }
    text.push('\n');
    text
}

fn row(entry: &Entry<'_>, catalogue: &Catalogue) -> Vec<String> {
    let record = &entry.job.record;
    let price = match (entry.standing(), entry.cost(catalogue)) {
        (Standing::NotBought, _) => "-".to_owned(),
        (Standing::Bought, Some(cost)) if cost.reported => dollars(cost.usd),
        (Standing::Bought, Some(cost)) => format!("~{}", dollars(cost.usd)),
        (Standing::Maybe | Standing::Unknown, Some(cost)) => format!("?{}", dollars(cost.usd)),
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
    } else if let Some(failure) = entry.failure().filter(|_| entry.standing() != Standing::Unknown) {
        notes.push(failure.name().to_owned());
    }
    match entry.purchase.lost_answers {
        0 => {}
        count => notes.push(format!("answers lost before: {count}")),
    }
    notes.join(", ")
}

#[derive(Default)]
struct Sums {
    spent: f64,
    estimated: bool,
    unpriced: usize,
    unknown: Sum,
    maybe: Sum,
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
            let standing = entry.standing();
            match standing {
                Standing::NotBought => {}
                Standing::Bought => {
                    sums.spent += usd;
                    sums.estimated |= cost.is_some_and(|cost| !cost.reported);
                }
                Standing::Maybe => sums.maybe.add(1, usd),
                Standing::Unknown => sums.unknown.add(1, usd),
            }
            sums.unpriced += usize::from(standing != Standing::NotBought && cost.is_none());
            sums.resent.add(entry.purchase.lost_answers, usd);
        }
        sums
    }

    fn sentence(&self, count: usize) -> String {
        let plural = if count == 1 { "" } else { "s" };
        let estimated = if self.estimated { " (~ by estimate)" } else { "" };
        let mut parts = vec![format!("{count} prediction{plural}: spent {}{estimated}", dollars(self.spent))];
        let mut perhaps = |sum: &Sum, what: &str| {
            if sum.count > 0 {
                parts.push(format!("{} {what} (perhaps {})", sum.count, dollars(sum.usd)));
            }
        };
        perhaps(&self.unknown, "unknown");
        perhaps(&self.maybe, "under way or without a picture");
        perhaps(&self.resent, "sent again after a lost answer");
        if self.unpriced > 0 {
            parts.push(format!("{} of models without a price", self.unpriced));
        }
        parts.join(", ")
    }
}
