//! Which line of an export is which purchase. Pure: no file, no clock.
//!
//! Wanted: every purchase has at most one line and every line at most one purchase; the result does not depend on the
//! order of either; a purchase that certainly happened is served before one that only may have, because a line is
//! evidence for a doubtful purchase only when nothing certain explains it.
//!
//! Ids come first. What they leave is paired by model and time, nearest first. Nearest first alone can leave a line and
//! a purchase apart that fit each other if a third moved on; since every such pair would be reported as money lost and
//! money missing, pairs are moved along (augmenting paths) as long as that lets one more be matched.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::model::{PurchaseId, Timestamp};

/// A line of the export.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Line {
    /// Where it stands in the file.
    pub(super) number: u64,
    pub(super) time: Option<Timestamp>,
    /// The catalogue's name of the model where it knows it; `None` fits every model.
    pub(super) model: Option<String>,
    pub(super) usd: Option<f64>,
    pub(super) id: Option<String>,
}

/// A purchase that happened, or may have.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Purchase {
    pub(super) purchase: PurchaseId,
    pub(super) upstream: Option<String>,
    pub(super) model: String,
    /// The vendor may stamp a line with any moment from here …
    pub(super) begun: Timestamp,
    /// … to here: nobody knows whether it means the submit or the end.
    pub(super) ended: Timestamp,
    pub(super) certain: bool,
}

/// A purchase and its line, by their places in what was handed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pair {
    pub(super) purchase: usize,
    pub(super) line: usize,
    pub(super) by: By,
}

/// What a pair rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    Id,
    Time,
}

/// Pairs purchases with lines, one to one.
pub(super) fn pair(purchases: &[Purchase], lines: &[Line], slack: Duration) -> Vec<Pair> {
    // In an order of their own, so that the order they came in does not matter.
    let mut by_begin: Vec<usize> = (0..purchases.len()).collect();
    by_begin.sort_by_key(|&index| (purchases[index].begun, purchases[index].purchase));
    // Money that came back is no purchase.
    let mut by_time: Vec<usize> =
        (0..lines.len()).filter(|&index| lines[index].usd.is_none_or(|usd| usd >= 0.0)).collect();
    by_time.sort_by_key(|&index| (lines[index].time, lines[index].number));

    let mut matching = Matching::new(purchases.len(), lines.len());
    let mut pairs = by_id(purchases, lines, &by_begin, &by_time);
    for pair in &pairs {
        matching.join(pair.purchase, pair.line);
    }
    // One hit shows that the export's ids are the upstream's. Two different ids then are two different purchases; without
    // a hit the column holds something else, and says nothing.
    let ids_speak = !pairs.is_empty();

    by_begin.retain(|&purchase| matching.line_of[purchase].is_none());
    by_time.retain(|&line| matching.purchase_of[line].is_none() && lines[line].time.is_some());
    for certain in [true, false] {
        let mut edges = Vec::new();
        for &purchase in by_begin.iter().filter(|&&index| purchases[index].certain == certain) {
            edges.extend(candidates(purchase, &purchases[purchase], lines, &by_time, slack, ids_speak));
        }
        matching.extend(edges);
    }
    pairs.extend(
        by_begin
            .iter()
            .filter_map(|&purchase| matching.line_of[purchase].map(|line| Pair { purchase, line, by: By::Time })),
    );
    pairs
}

fn by_id(purchases: &[Purchase], lines: &[Line], by_begin: &[usize], by_time: &[usize]) -> Vec<Pair> {
    let mut named: BTreeMap<&str, VecDeque<usize>> = BTreeMap::new();
    for &line in by_time {
        if let Some(id) = &lines[line].id {
            named.entry(id).or_default().push_back(line);
        }
    }
    let mut pairs = Vec::new();
    for &purchase in by_begin {
        let lines = purchases[purchase].upstream.as_deref().and_then(|id| named.get_mut(id));
        if let Some(line) = lines.and_then(VecDeque::pop_front) {
            pairs.push(Pair { purchase, line, by: By::Id });
        }
    }
    pairs
}

/// A possible pair, comparable by how well it fits: how far outside the purchase's span, then how far from its begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Edge {
    outside: Duration,
    from_begin: Duration,
    /// Ranks in the sorted orders break ties.
    begin_rank: (Timestamp, PurchaseId),
    line_rank: usize,
    purchase: usize,
    line: usize,
}

fn candidates(
    index: usize,
    purchase: &Purchase,
    lines: &[Line],
    by_time: &[usize],
    slack: Duration,
    ids_speak: bool,
) -> Vec<Edge> {
    let time = |rank: usize| lines[by_time[rank]].time.unwrap_or(purchase.begun);
    let start = by_time.partition_point(|&line| {
        let time = lines[line].time.unwrap_or(purchase.begun);
        time < purchase.begun && purchase.begun.since(time) > slack
    });
    (start..by_time.len())
        .take_while(|&rank| time(rank).since(purchase.ended) <= slack)
        .filter(|&rank| fits(purchase, &lines[by_time[rank]], ids_speak))
        .map(|rank| {
            let time = time(rank);
            Edge {
                outside: purchase.begun.since(time).max(time.since(purchase.ended)),
                from_begin: purchase.begun.since(time).max(time.since(purchase.begun)),
                begin_rank: (purchase.begun, purchase.purchase),
                line_rank: rank,
                purchase: index,
                line: by_time[rank],
            }
        })
        .collect()
}

fn fits(purchase: &Purchase, line: &Line, ids_speak: bool) -> bool {
    let other_id = ids_speak && purchase.upstream.is_some() && line.id.is_some();
    // A call that cost nothing is no evidence that a doubtful one was bought.
    let free = line.usd == Some(0.0) && !purchase.certain;
    !other_id && !free && line.model.as_ref().is_none_or(|model| *model == purchase.model)
}

#[derive(Debug)]
struct Matching {
    line_of: Vec<Option<usize>>,
    purchase_of: Vec<Option<usize>>,
    /// Lines each purchase could have.
    lines_for: Vec<Vec<usize>>,
    /// Lines from which no search will ever reach a free one: a search that fails has seen all there is to see.
    dead: Vec<bool>,
}

impl Matching {
    fn new(purchases: usize, lines: usize) -> Self {
        Self {
            line_of: vec![None; purchases],
            purchase_of: vec![None; lines],
            lines_for: vec![Vec::new(); purchases],
            dead: vec![false; lines],
        }
    }

    fn join(&mut self, purchase: usize, line: usize) {
        self.line_of[purchase] = Some(line);
        self.purchase_of[line] = Some(purchase);
    }

    /// Adds possible pairs and matches as many as can be; whoever was matched before stays matched.
    fn extend(&mut self, mut edges: Vec<Edge>) {
        edges.sort_unstable();
        let mut waiting = Vec::new();
        for edge in &edges {
            if self.lines_for[edge.purchase].is_empty() {
                waiting.push(edge.purchase);
            }
            self.lines_for[edge.purchase].push(edge.line);
            if self.line_of[edge.purchase].is_none() && self.purchase_of[edge.line].is_none() {
                self.join(edge.purchase, edge.line);
            }
        }
        for purchase in waiting {
            if self.line_of[purchase].is_none() {
                self.augment(purchase);
            }
        }
    }

    /// Looks for a free line along pairs that could move, and moves them.
    fn augment(&mut self, purchase: usize) {
        // The purchase that reached a line first.
        let mut reached: BTreeMap<usize, usize> = BTreeMap::new();
        let mut queue = VecDeque::from([purchase]);
        while let Some(asking) = queue.pop_front() {
            for &line in &self.lines_for[asking] {
                if self.dead[line] || reached.contains_key(&line) {
                    continue;
                }
                reached.insert(line, asking);
                match self.purchase_of[line] {
                    Some(owner) => queue.push_back(owner),
                    None => return self.shift(line, purchase, &reached),
                }
            }
        }
        for line in reached.into_keys() {
            self.dead[line] = true;
        }
    }

    fn shift(&mut self, free: usize, last: usize, reached: &BTreeMap<usize, usize>) {
        let mut line = free;
        loop {
            let taker = reached[&line];
            let left = self.line_of[taker];
            self.join(taker, line);
            match left {
                Some(left) if taker != last => line = left,
                _ => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::model::JobId;

    const SLACK: Duration = Duration::from_mins(2);

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    fn purchase(number: u128, begun: i64) -> Purchase {
        Purchase {
            purchase: PurchaseId { job: JobId::new(at(0), number), slot: 0 },
            upstream: None,
            model: "gpt-image-2".to_owned(),
            begun: at(begun),
            ended: at(begun),
            certain: true,
        }
    }

    fn line(number: u64, time: i64) -> Line {
        Line { number, time: Some(at(time)), model: Some("gpt-image-2".to_owned()), usd: Some(0.03), id: None }
    }

    /// `(purchase, line)` by place, in order.
    fn paired(purchases: &[Purchase], lines: &[Line]) -> Vec<(usize, usize)> {
        let mut found: Vec<_> =
            pair(purchases, lines, SLACK).into_iter().map(|pair| (pair.purchase, pair.line)).collect();
        found.sort_unstable();
        found
    }

    #[test]
    fn the_nearest_within_the_slack_wins() {
        let purchases = [purchase(1, 1000), purchase(2, 1050)];
        assert_eq!(paired(&purchases, &[line(2, 1049), line(3, 1001)]), [(0, 1), (1, 0)]);
        assert_eq!(paired(&purchases[..1], &[line(2, 1120)]), [(0, 0)]);
        assert_eq!(paired(&purchases[..1], &[line(2, 1121)]), []);
        assert_eq!(paired(&purchases[..1], &[line(2, 880)]), [(0, 0)]);
        assert_eq!(paired(&purchases[..1], &[line(2, 879)]), []);
        let long = Purchase { ended: at(2000), ..purchase(1, 1000) };
        assert_eq!(paired(&[long], &[line(2, 2100)]), [(0, 0)], "stamped at the end");
    }

    #[test]
    fn a_pair_moves_on_where_that_matches_one_more() {
        let purchases = [purchase(1, 1060), purchase(2, 1210)];
        assert_eq!(paired(&purchases, &[line(2, 1000), line(3, 1100)]), [(0, 0), (1, 1)]);
    }

    #[test]
    fn models_do_not_mix() {
        let other = Line { model: Some("gpt-image-1".to_owned()), ..line(2, 1000) };
        let silent = Line { model: None, ..line(3, 1100) };
        assert_eq!(paired(&[purchase(1, 1000)], &[other, silent]), [(0, 1)]);
    }

    #[test]
    fn ids_beat_the_time_and_once_they_speak_they_forbid() {
        let named = |number, begun, id: &str| Purchase { upstream: Some(id.to_owned()), ..purchase(number, begun) };
        let with_id = |number, time, id: &str| Line { id: Some(id.to_owned()), ..line(number, time) };
        let purchases = [named(1, 1000, "a"), named(2, 1000, "b"), purchase(3, 1000)];
        let lines = [with_id(2, 9000, "a"), with_id(3, 1000, "x")];
        assert_eq!(paired(&purchases, &lines), [(0, 0), (2, 1)], "x is not b, but may be the nameless one");
        assert_eq!(paired(&purchases[1..2], &lines[1..]), [(0, 0)], "no hit: ids of another kind");
    }

    #[test]
    fn the_certain_are_served_before_the_doubtful() {
        let doubtful = Purchase { certain: false, ..purchase(1, 1000) };
        let purchases = [doubtful.clone(), purchase(2, 1090)];
        assert_eq!(paired(&purchases, &[line(2, 1000)]), [(1, 0)]);
        assert_eq!(paired(&purchases, &[line(2, 1000), line(3, 1095)]), [(0, 0), (1, 1)]);
        let free = Line { usd: Some(0.0), ..line(2, 1000) };
        assert_eq!(paired(&[doubtful], std::slice::from_ref(&free)), []);
        assert_eq!(paired(&[purchase(2, 1000)], &[free]), [(0, 0)]);
        let refund = Line { usd: Some(-0.03), ..line(2, 1000) };
        assert_eq!(paired(&[purchase(2, 1000)], &[refund]), []);
    }

    prop_compose! {
        fn arbitrary_purchase()(
            begun in 0_i64..600, took in 0_i64..200, model in 0_u8..2, id in proptest::option::of(0_u8..6), certain: bool
        ) -> Purchase {
            Purchase {
                upstream: id.map(|id| id.to_string()),
                model: model.to_string(),
                ended: at(begun + took),
                certain,
                ..purchase(0, begun)
            }
        }
    }

    prop_compose! {
        fn arbitrary_line()(
            time in proptest::option::of(0_i64..800), model in proptest::option::of(0_u8..2),
            id in proptest::option::of(0_u8..9), cents in proptest::option::of(-1_i8..4)
        ) -> Line {
            Line {
                number: 0,
                time: time.map(at),
                model: model.map(|model| model.to_string()),
                usd: cents.map(|cents| f64::from(cents) / 100.0),
                id: id.map(|id| id.to_string()),
            }
        }
    }

    fn by_name(purchases: &[Purchase], lines: &[Line]) -> BTreeSet<(PurchaseId, u64)> {
        pair(purchases, lines, SLACK)
            .into_iter()
            .map(|pair| (purchases[pair.purchase].purchase, lines[pair.line].number))
            .collect()
    }

    proptest! {
        #[test]
        fn one_to_one_and_whatever_the_order(
            (purchases, shuffled_purchases) in proptest::collection::vec(arbitrary_purchase(), 0..14)
                .prop_map(|mut purchases| {
                    for (number, purchase) in purchases.iter_mut().enumerate() {
                        purchase.purchase.job = JobId::new(at(0), number as u128);
                    }
                    purchases
                })
                .prop_flat_map(|purchases| (Just(purchases.clone()), Just(purchases).prop_shuffle())),
            (lines, shuffled_lines) in proptest::collection::vec(arbitrary_line(), 0..14)
                .prop_map(|mut lines| {
                    for (number, line) in lines.iter_mut().enumerate() {
                        line.number = number as u64;
                    }
                    lines
                })
                .prop_flat_map(|lines| (Just(lines.clone()), Just(lines).prop_shuffle())),
        ) {
            let found = by_name(&purchases, &lines);
            prop_assert_eq!(found.len(), found.iter().map(|pair| pair.0).collect::<BTreeSet<_>>().len());
            prop_assert_eq!(found.len(), found.iter().map(|pair| pair.1).collect::<BTreeSet<_>>().len());
            prop_assert_eq!(&found, &by_name(&shuffled_purchases, &shuffled_lines));

            // Nothing that fits is left lying side by side.
            let pairs = pair(&purchases, &lines, SLACK);
            let ids_speak = pairs.iter().any(|pair| pair.by == By::Id);
            for (index, purchase) in purchases.iter().enumerate() {
                for (place, line) in lines.iter().enumerate() {
                    let Some(time) = line.time else { continue };
                    let near = purchase.begun.since(time).max(time.since(purchase.ended)) <= SLACK;
                    let apart = pairs.iter().all(|pair| pair.purchase != index && pair.line != place);
                    let possible = near && fits(purchase, line, ids_speak) && line.usd.is_none_or(|usd| usd >= 0.0);
                    prop_assert!(!(apart && possible), "{purchase:?} and {line:?}");
                }
            }
        }
    }
}
