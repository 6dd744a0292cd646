//! The charts of the last hour: paths for a picture of 360 by 100 units in which one unit is ten seconds, and the same as a table
//! for readers who do not see it.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::Serialize;

use super::text::{dollars, duration, minute_of_day};
use super::{Cell, Row};
use crate::operator::history::{POINTS_MAX, Point, STEP};
use crate::telemetry::recent::{RequestOutcome, RequestTotals};

/// The size of a chart.
#[expect(clippy::cast_precision_loss, reason = "it is small")]
pub(in crate::operator) const WIDTH: f64 = POINTS_MAX as f64;
pub(in crate::operator) const HEIGHT: f64 = 100.0;
/// The time of a bar and of a row of the table, in seconds.
const BAR_S: i64 = 60;
const ROW_S: i64 = 600;
/// Models that are drawn.
const MODELS_MAX: usize = 4;

/// A chart with its table.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(in crate::operator) struct Chart {
    /// What it shows, in one sentence.
    pub(in crate::operator) summary: String,
    /// The value at its upper edge.
    pub(in crate::operator) top: String,
    pub(in crate::operator) series: Vec<Series>,
    /// A row for each ten minutes: the time, and a value of each series.
    pub(in crate::operator) rows: Vec<Row>,
}

/// One quantity of a chart.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(in crate::operator) struct Series {
    pub(in crate::operator) name: String,
    /// The class of its path: `area` or `line`, and a colour.
    pub(in crate::operator) class: &'static str,
    /// The path.
    pub(in crate::operator) d: String,
}

type Count = fn(&Point) -> f64;

/// Draws all charts of the page.
pub(super) fn of(points: &[Point]) -> BTreeMap<&'static str, Chart> {
    let whole: fn(f64) -> String = |value| format!("{value:.0}");
    [
        (
            "requests",
            bars(
                points,
                &[
                    ("made", "area good", |point| count(&point.requests, &[RequestOutcome::Made])),
                    ("from the cache or joined", "area accent", |point| {
                        count(&point.requests, &[RequestOutcome::Hit, RequestOutcome::Joined])
                    }),
                    ("not finished", "area muted", |point| {
                        count(&point.requests, &[RequestOutcome::UnderWay, RequestOutcome::Left])
                    }),
                    ("refused", "area warn", |point| count(&point.requests, &[RequestOutcome::Refused])),
                    ("failed or unknown", "area bad", |point| {
                        count(&point.requests, &[RequestOutcome::Failed, RequestOutcome::Unknown])
                    }),
                ],
                "requests",
                whole,
            ),
        ),
        (
            "load",
            lines(
                points,
                &[
                    ("in flight".to_owned(), "line accent", values(points, |point| whole_number(point.in_flight))),
                    ("queued".to_owned(), "line warn", values(points, |point| whole_number(point.queued))),
                ],
                whole,
            ),
        ),
        (
            "pushbacks",
            bars(points, &[("refused calls", "area warn", |point| number(point.pushbacks))], "refused calls", whole),
        ),
        ("times", lines(points, &times(points), duration)),
        ("spent", bars(points, &[("spent", "area accent", |point| point.spent_usd)], "spent", dollars)),
        ("saved", bars(points, &[("not spent", "area good", |point| point.saved_usd)], "not spent", dollars)),
    ]
    .into()
}

fn count(requests: &RequestTotals, outcomes: &[RequestOutcome]) -> f64 {
    number(outcomes.iter().map(|outcome| requests.of(*outcome)).sum())
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn number(count: u64) -> f64 {
    count as f64
}

fn whole_number(count: usize) -> f64 {
    number(count as u64)
}

fn values(points: &[Point], of: Count) -> Vec<Option<f64>> {
    points.iter().map(|point| Some(of(point))).collect()
}

/// Returns the median and the ninth tenth of the models that were used last.
fn times(points: &[Point]) -> Vec<(String, &'static str, Vec<Option<f64>>)> {
    const CLASSES: [(&str, &str); MODELS_MAX] = [
        ("line accent", "line accent faint"),
        ("line good", "line good faint"),
        ("line warn", "line warn faint"),
        ("line bad", "line bad faint"),
    ];
    let mut models: Vec<_> = Vec::new();
    for time in points.iter().rev().flat_map(|point| &point.times) {
        if models.len() < MODELS_MAX && !models.contains(&time.model) {
            models.push(time.model.clone());
        }
    }
    // By name: a colour stays with its model.
    models.sort();
    let mut series = Vec::new();
    for (model, (median, p90)) in models.iter().zip(CLASSES) {
        let of = |value: fn(&crate::operator::history::ModelTimes) -> f64| -> Vec<Option<f64>> {
            points.iter().map(|point| point.times.iter().find(|time| time.model == *model).map(value)).collect()
        };
        series.push((format!("{model}, half within"), median, of(|time| time.median_s)));
        series.push((format!("{model}, nine of ten within"), p90, of(|time| time.p90_s)));
    }
    series
}

/// Draws sums as stacked bars, one a minute.
fn bars(points: &[Point], series: &[(&str, &'static str, Count)], what: &str, write: fn(f64) -> String) -> Chart {
    let now = points.last().map_or(0, |point| point.at_s);
    let mut minutes: BTreeMap<i64, Vec<f64>> = BTreeMap::new();
    for point in points {
        // The sum of a step belongs to the minute in which the step ended.
        let age = now.div_euclid(BAR_S) - point.at_s.div_euclid(BAR_S);
        let sums = minutes.entry(age).or_insert_with(|| vec![0.0; series.len()]);
        for (sum, (_, _, of)) in sums.iter_mut().zip(series) {
            *sum += of(point);
        }
    }
    let most = minutes.values().map(|sums| sums.iter().sum()).fold(0.0, f64::max);
    let top = nice(most);
    let width = WIDTH / 60.0;
    let mut drawn: Vec<Series> =
        series.iter().map(|(name, class, _)| Series { name: (*name).to_owned(), class, d: String::new() }).collect();
    for (age, sums) in &minutes {
        #[expect(clippy::cast_precision_loss, reason = "at most 60")]
        let x = WIDTH - width * (*age as f64 + 1.0);
        let mut below = 0.0;
        for (series, sum) in drawn.iter_mut().zip(sums).filter(|(_, sum)| **sum > 0.0) {
            let (y, height) = (HEIGHT - (below + sum) / top * HEIGHT, sum / top * HEIGHT);
            let _ = write!(series.d, "M{x:.0} {y:.1}h{:.0}v{height:.1}h-{:.0}z", width - 1.0, width - 1.0);
            below += sum;
        }
    }
    let total: f64 = minutes.values().flatten().sum();
    let summary = format!("{} {what} in the last hour, at most {} in a minute", write(total), write(most));
    let rows = rows(points, |of| series.iter().map(|(_, _, count)| Some(of.iter().map(count).sum())).collect());
    Chart { summary, top: write(top), series: drawn, rows: cells(rows, write) }
}

/// Draws levels as lines.
fn lines(points: &[Point], series: &[(String, &'static str, Vec<Option<f64>>)], write: fn(f64) -> String) -> Chart {
    let now = points.last().map_or(0, |point| point.at_s);
    let most = series.iter().flat_map(|(_, _, values)| values).flatten().copied().fold(0.0, f64::max);
    let top = nice(most);
    let rows = rows(points, |of| {
        // Where the row begins in the points.
        let first = of.first().map_or(0, |first| points.partition_point(|point| point.at_s < first.at_s));
        series
            .iter()
            .map(|(_, _, values)| values[first..first + of.len()].iter().flatten().copied().reduce(f64::max))
            .collect()
    });
    let step = i64::try_from(STEP.as_secs()).unwrap_or(1);
    let draw = |values: &[Option<f64>]| {
        let mut d = String::new();
        let mut joined = false;
        for (point, value) in points.iter().zip(values) {
            let Some(value) = value else {
                joined = false;
                continue;
            };
            #[expect(clippy::cast_precision_loss, reason = "at most an hour")]
            let x = (WIDTH - (now - point.at_s) as f64 / step as f64).max(0.0);
            let y = HEIGHT - value / top * HEIGHT;
            // With a round end, a point by itself is a dot.
            let _ = if joined { write!(d, "L{x:.1} {y:.1}") } else { write!(d, "M{x:.1} {y:.1}h0") };
            joined = true;
        }
        d
    };
    let latest: Vec<String> =
        series.iter().filter_map(|(name, _, values)| Some(format!("{name} {}", write((*values.last()?)?)))).collect();
    let summary = if latest.is_empty() { "nothing in the last hour".to_owned() } else { latest.join(", ") + " now" };
    let drawn = series.iter().map(|(name, class, values)| Series { name: name.clone(), class, d: draw(values) });
    Chart { summary, top: write(top), series: drawn.collect(), rows: cells(rows, write) }
}

/// Summarises each ten minutes, the newest first.
fn rows(points: &[Point], of: impl Fn(&[Point]) -> Vec<Option<f64>>) -> Vec<(i64, Vec<Option<f64>>)> {
    let same = |a: &Point, b: &Point| a.at_s.div_euclid(ROW_S) == b.at_s.div_euclid(ROW_S);
    let mut rows: Vec<(i64, Vec<Option<f64>>)> =
        points.chunk_by(same).map(|chunk| (chunk[0].at_s.div_euclid(ROW_S) * ROW_S, of(chunk))).collect();
    rows.reverse();
    rows
}

fn cells(rows: Vec<(i64, Vec<Option<f64>>)>, write: fn(f64) -> String) -> Vec<Row> {
    let row = |(at_s, values): (i64, Vec<Option<f64>>)| {
        let values = values.into_iter().map(|value| Cell::number(value.map_or_else(|| "–".to_owned(), write)));
        Row::of([Cell::number(minute_of_day(at_s))].into_iter().chain(values))
    };
    rows.into_iter().map(row).collect()
}

/// Returns the upper edge of a chart: 1, 2 or 5 with zeros, not below the greatest value.
fn nice(most: f64) -> f64 {
    if most <= 0.0 {
        return 1.0;
    }
    let power = 10_f64.powf(most.log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0];
    steps.into_iter().map(|step| step * power).find(|edge| *edge >= most * 0.999_999).unwrap_or(most)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operator::history::ModelTimes;

    fn point(at_s: i64, in_flight: usize, pushbacks: u64) -> Point {
        Point { at_s, in_flight, pushbacks, ..Point::default() }
    }

    #[test]
    fn bars_are_sums_of_minutes_and_lines_are_levels() {
        let points = [point(3480, 1, 2), point(3540, 4, 1), point(3550, 2, 3)];
        let charts = of(&points);
        let bars = &charts["pushbacks"];
        assert_eq!(
            (bars.top.as_str(), bars.summary.as_str()),
            ("5", "6 refused calls in the last hour, at most 4 in a minute")
        );
        assert_eq!(bars.series[0].d, "M354 20.0h5v80.0h-5zM348 60.0h5v40.0h-5z");
        let cells: Vec<&str> = bars.rows[0].cells.iter().map(|cell| cell.text.as_str()).collect();
        assert_eq!((bars.rows.len(), cells), (1, vec!["00:50", "6"]));
        let lines = &charts["load"];
        assert_eq!(lines.series[0].d, "M353.0 80.0h0L359.0 20.0L360.0 60.0");
        assert_eq!(lines.summary, "in flight 2, queued 0 now");
        assert_eq!(lines.rows[0].cells[1].text, "4", "the most of ten minutes");
    }

    #[test]
    fn a_line_has_a_gap_where_nothing_is_known_and_models_are_bounded() {
        let times = |models: &[&str]| -> Vec<ModelTimes> {
            models.iter().map(|model| ModelTimes { model: (*model).into(), median_s: 30.0, p90_s: 60.0 }).collect()
        };
        let with = |at_s, models: &[&str]| Point { at_s, times: times(models), ..Point::default() };
        let points = [with(10, &["a"]), with(20, &[]), with(30, &["a", "b", "c", "d", "e", "f"])];
        let chart = &of(&points)["times"];
        assert_eq!(chart.series.len(), MODELS_MAX * 2);
        assert_eq!(chart.series[0].name, "a, half within");
        assert_eq!(chart.series[0].d, "M358.0 70.0h0M360.0 70.0h0");
        assert_eq!(chart.top, "1 min 40 s");
    }

    #[test]
    fn no_history_makes_empty_charts() {
        for (name, chart) in of(&[]) {
            assert!(chart.series.iter().all(|series| series.d.is_empty()) && chart.rows.is_empty(), "{name}");
        }
    }
}
