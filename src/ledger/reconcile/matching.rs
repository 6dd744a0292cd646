//! Finds the purchase of each line of an export. Pure: no file, no clock.
//!
//! Wanted properties:
//! - A purchase has at most one line, and a line at most one purchase.
//! - The result does not depend on the order of the purchases or of the lines.
//! - A certain purchase is matched before a possible one: a line is evidence of a possible purchase only when no certain
//!   purchase explains the line.
//! - No purchase and line that fit stay unmatched side by side.
//!
//! Equal ids are matched first, then equal models by time, the nearest first. Nearest first alone can leave a purchase and
//! a line unmatched that would fit if another pair changed; each would be reported as a difference in money. So pairs are
//! changed along augmenting paths while that matches one more.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::model::{PurchaseId, Timestamp};

/// A line of the export.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ExportLine {
    /// The number of the line in the file.
    pub(super) number: u64,
    pub(super) time: Option<Timestamp>,
    /// The catalogue's name of the model, if the catalogue has it; `None` fits every model.
    pub(super) model: Option<String>,
    pub(super) usd: Option<f64>,
    pub(super) id: Option<String>,
}

/// A purchase that was made, or possibly made.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Purchase {
    pub(super) id: PurchaseId,
    pub(super) upstream_id: Option<String>,
    pub(super) model: String,
    /// The time of the export's line is between these two: whether the vendor means the submit or the end is unknown.
    pub(super) started: Timestamp,
    pub(super) ended: Timestamp,
    pub(super) certain: bool,
}

/// A purchase and its line, as indices of the arguments of [`pair`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pair {
    pub(super) purchase: usize,
    pub(super) line: usize,
    pub(super) by: MatchedBy,
}

/// Why a purchase and a line belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MatchedBy {
    Id,
    Time,
}

/// Pairs purchases with lines, one to one.
pub(super) fn pair(purchases: &[Purchase], lines: &[ExportLine], slack: Duration) -> Vec<Pair> {
    // Sorted, so that the order of the arguments does not matter.
    let mut by_start: Vec<usize> = (0..purchases.len()).collect();
    by_start.sort_by_key(|&index| (purchases[index].started, purchases[index].id));
    // A refund is not a purchase.
    let mut by_time: Vec<usize> =
        (0..lines.len()).filter(|&index| lines[index].usd.is_none_or(|usd| usd >= 0.0)).collect();
    by_time.sort_by_key(|&index| (lines[index].time, lines[index].number));

    let mut matching = Matching::new(purchases.len(), lines.len());
    let mut pairs = by_id(purchases, lines, &by_start, &by_time);
    for pair in &pairs {
        matching.join(pair.purchase, pair.line);
    }
    // One match shows that the export's ids are the upstream's, so that different ids are different purchases. Without a
    // match the column has ids of another kind, which mean nothing here.
    let ids_known = !pairs.is_empty();

    by_start.retain(|&purchase| matching.line_of[purchase].is_none());
    by_time.retain(|&line| matching.purchase_of[line].is_none() && lines[line].time.is_some());
    for certain in [true, false] {
        let mut possible = Vec::new();
        for &purchase in by_start.iter().filter(|&&index| purchases[index].certain == certain) {
            possible.extend(edges(purchase, &purchases[purchase], lines, &by_time, slack, ids_known));
        }
        matching.extend(possible);
    }
    pairs.extend(
        by_start.iter().filter_map(|&purchase| {
            matching.line_of[purchase].map(|line| Pair { purchase, line, by: MatchedBy::Time })
        }),
    );
    pairs
}

fn by_id(purchases: &[Purchase], lines: &[ExportLine], by_start: &[usize], by_time: &[usize]) -> Vec<Pair> {
    let mut named: BTreeMap<&str, VecDeque<usize>> = BTreeMap::new();
    for &line in by_time {
        if let Some(id) = &lines[line].id {
            named.entry(id).or_default().push_back(line);
        }
    }
    let mut pairs = Vec::new();
    for &purchase in by_start {
        let lines = purchases[purchase].upstream_id.as_deref().and_then(|id| named.get_mut(id));
        if let Some(line) = lines.and_then(VecDeque::pop_front) {
            pairs.push(Pair { purchase, line, by: MatchedBy::Id });
        }
    }
    pairs
}

/// A possible pair, ordered by how well it fits: the distance to the purchase's period, then to its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Edge {
    outside: Duration,
    from_start: Duration,
    /// The sorted orders break ties.
    start_rank: (Timestamp, PurchaseId),
    line_rank: usize,
    purchase: usize,
    line: usize,
}

fn edges(
    index: usize,
    purchase: &Purchase,
    lines: &[ExportLine],
    by_time: &[usize],
    slack: Duration,
    ids_known: bool,
) -> Vec<Edge> {
    let time = |rank: usize| lines[by_time[rank]].time.unwrap_or(purchase.started);
    let start = by_time.partition_point(|&line| {
        let time = lines[line].time.unwrap_or(purchase.started);
        time < purchase.started && purchase.started.since(time) > slack
    });
    (start..by_time.len())
        .take_while(|&rank| time(rank).since(purchase.ended) <= slack)
        .filter(|&rank| fits(purchase, &lines[by_time[rank]], ids_known))
        .map(|rank| {
            let time = time(rank);
            Edge {
                outside: purchase.started.since(time).max(time.since(purchase.ended)),
                from_start: purchase.started.since(time).max(time.since(purchase.started)),
                start_rank: (purchase.started, purchase.id),
                line_rank: rank,
                purchase: index,
                line: by_time[rank],
            }
        })
        .collect()
}

fn fits(purchase: &Purchase, line: &ExportLine, ids_known: bool) -> bool {
    let other_id = ids_known && purchase.upstream_id.is_some() && line.id.is_some();
    // A call that cost nothing is no evidence that a possible purchase was made.
    let free = line.usd == Some(0.0) && !purchase.certain;
    !other_id && !free && line.model.as_ref().is_none_or(|model| *model == purchase.model)
}

#[derive(Debug)]
struct Matching {
    line_of: Vec<Option<usize>>,
    purchase_of: Vec<Option<usize>>,
    /// The possible lines of each purchase.
    lines_for: Vec<Vec<usize>>,
    /// Lines from which no search reaches a free line. A failed search has visited everything that it can reach.
    exhausted: Vec<bool>,
}

impl Matching {
    fn new(purchases: usize, lines: usize) -> Self {
        Self {
            line_of: vec![None; purchases],
            purchase_of: vec![None; lines],
            lines_for: vec![Vec::new(); purchases],
            exhausted: vec![false; lines],
        }
    }

    fn join(&mut self, purchase: usize, line: usize) {
        self.line_of[purchase] = Some(line);
        self.purchase_of[line] = Some(purchase);
    }

    /// Adds possible pairs and matches as many as possible. Matched purchases and lines stay matched.
    fn extend(&mut self, mut edges: Vec<Edge>) {
        edges.sort_unstable();
        let mut unmatched = Vec::new();
        for edge in &edges {
            if self.lines_for[edge.purchase].is_empty() {
                unmatched.push(edge.purchase);
            }
            self.lines_for[edge.purchase].push(edge.line);
            if self.line_of[edge.purchase].is_none() && self.purchase_of[edge.line].is_none() {
                self.join(edge.purchase, edge.line);
            }
        }
        for purchase in unmatched {
            if self.line_of[purchase].is_none() {
                self.augment(purchase);
            }
        }
    }

    /// Searches a free line along pairs that could change, and changes them.
    fn augment(&mut self, purchase: usize) {
        // The purchase from which the search reached each line first.
        let mut reached: BTreeMap<usize, usize> = BTreeMap::new();
        let mut queue = VecDeque::from([purchase]);
        while let Some(current) = queue.pop_front() {
            for &line in &self.lines_for[current] {
                if self.exhausted[line] || reached.contains_key(&line) {
                    continue;
                }
                reached.insert(line, current);
                match self.purchase_of[line] {
                    Some(owner) => queue.push_back(owner),
                    None => return self.shift(line, purchase, &reached),
                }
            }
        }
        for line in reached.into_keys() {
            self.exhausted[line] = true;
        }
    }

    /// Gives every purchase on the path the line from which the search reached the next one.
    fn shift(&mut self, free: usize, last: usize, reached: &BTreeMap<usize, usize>) {
        let mut line = free;
        loop {
            let purchase = reached[&line];
            let previous = self.line_of[purchase];
            self.join(purchase, line);
            match previous {
                Some(previous) if purchase != last => line = previous,
                _ => return,
            }
        }
    }
}

#[cfg(test)]
mod tests;
