//! `predictions reconcile`: the ledger beside the vendor's usage export, the only outside evidence of what was bought.
//!
//! What is asked, and how it is answered without crying wolf:
//! - Only what the export covers is judged: its first to its last line, or what `--since` and `--until` say. A purchase
//!   at the edge may be matched, but is not missed, because its line may lie on the other side.
//! - A purchase that certainly happened must have a line. One that failed at the upstream may have one: nobody knows
//!   whether the vendor charges for it.
//! - An unknown purchase has no id and no end. It is probably bought when a line is left that nothing else explains.
//! - Lines of models that neither the catalogue nor the ledger knows were not made here, and are counted only.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::time::Duration;

use serde::Serialize;

use crate::model::{Catalogue, PredictionId, Timestamp};
use crate::storage::journal::Resolution;

use super::Place;
use super::entry::{Entry, Standing, clock, dollars, rounded, text as time};
use super::export::{Export, Unreadable};
use super::matching::{By, Line, Purchase, pair};
use super::table::{harmless, table};

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
    let record = &entry.order.record;
    let begun = entry.steps.committed.or(entry.steps.accepted).unwrap_or(record.created);
    let kind = match (entry.standing(), entry.prediction.resolution) {
        (Standing::Bought, _) => Some(Kind::Bought),
        (Standing::Maybe, _) => Some(Kind::Maybe),
        (Standing::Unknown, _) => Some(Kind::Unknown),
        (Standing::NotBought, Some(Resolution::Lost)) => Some(Kind::SaidLost),
        (Standing::NotBought, _) => None,
    };
    let model = known(&record.model, catalogue).unwrap_or_else(|| record.model.clone());
    let usd = entry.cost(catalogue).map_or(0.0, |cost| cost.usd);
    let candidate = |kind: Kind, begun: Timestamp, ended: Timestamp| {
        let upstream = entry.upstream().filter(|_| kind != Kind::Resent).map(ToString::to_string);
        let purchase = Purchase {
            prediction: entry.prediction.id,
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
    let resent = (0..entry.prediction.lost_answers)
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
        .map(|model| model.id.clone())
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
        let prediction = self.candidates[index].purchase.prediction;
        let decision = match verdict {
            Verdict::ProbablyBought { .. } | Verdict::SaidLostButThere { .. } => "bought",
            Verdict::ProbablyNot => "lost",
            Verdict::NotCovered => "lost|bought|resubmit",
        };
        place.command(&format!("resolve {prediction} {decision}"))
    }

    /// The findings for people.
    pub(super) fn text(&self, place: &Place) -> String {
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
                candidate.purchase.prediction,
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
            let _ = writeln!(text, "\nunknown at other times: {} (predictions list --state unknown)", self.elsewhere);
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
    pub(super) fn json(&self, place: &Place) -> Json<'_> {
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
                prediction_id: candidate.purchase.prediction,
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
        format!("  {}", purchase.prediction),
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
pub(super) struct Json<'a> {
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
    prediction_id: PredictionId,
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

fn as_text<S: serde::Serializer>(id: &PredictionId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(id)
}
