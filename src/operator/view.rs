//! What the page shows at one moment, as texts that are ready to be shown. The page as HTML is filled with it, and a browser
//! that has the page gets what changes of it as JSON: numbers are written in one place, and neither side knows the other.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Snapshot;
use super::history::Point;
use charts::Chart;

pub(super) mod charts;

mod figures;
mod tables;
mod text;
mod verdict;

/// What the page shows. Keys name places in `page/dashboard.html`.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct View {
    /// Texts of single places.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) texts: BTreeMap<&'static str, String>,
    /// `good`, `warn` or `bad`, which colours a place.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) levels: BTreeMap<&'static str, &'static str>,
    /// Whether a place is there at all.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) shown: BTreeMap<&'static str, bool>,
    /// Rows of tables, and lists of notes.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) lists: BTreeMap<&'static str, Vec<Row>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) charts: BTreeMap<&'static str, Chart>,
}

/// A row of a table, or a note.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Row {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) level: Option<&'static str>,
    pub(super) cells: Vec<Cell>,
}

/// A text in a row.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Cell {
    pub(super) text: String,
    /// Classes of the style: `name`, `number`, `code`, `badge good` and so on.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(super) class: &'static str,
}

impl Row {
    fn of(cells: impl IntoIterator<Item = Cell>) -> Self {
        Self { level: None, cells: cells.into_iter().collect() }
    }
}

impl Cell {
    fn text(text: impl Into<String>) -> Self {
        Self { text: text.into(), class: "" }
    }

    /// A name that stays in one line.
    fn name(text: impl Into<String>) -> Self {
        Self { text: text.into(), class: "name" }
    }

    fn number(text: impl Into<String>) -> Self {
        Self { text: text.into(), class: "number" }
    }

    fn code(text: impl Into<String>) -> Self {
        Self { text: text.into(), class: "code" }
    }

    fn badge(text: impl Into<String>, class: &'static str) -> Self {
        Self { text: text.into(), class }
    }
}

impl View {
    /// Writes what is known at one moment. `points` are those of the last hour, `now_ms` is Unix time.
    pub(super) fn of(snapshot: &Snapshot, points: &[Point], now_ms: i64) -> Self {
        let mut view = Self::default();
        verdict::write(&mut view, snapshot, points, now_ms);
        figures::write(&mut view, snapshot);
        tables::write(&mut view, snapshot, now_ms);
        view.charts = charts::of(points);
        view
    }

    /// Returns what of it differs from an earlier one.
    pub(super) fn since(&self, earlier: &Self) -> Self {
        Self {
            texts: changed(&self.texts, &earlier.texts),
            levels: changed(&self.levels, &earlier.levels),
            shown: changed(&self.shown, &earlier.shown),
            lists: changed(&self.lists, &earlier.lists),
            charts: changed(&self.charts, &earlier.charts),
        }
    }

    fn text(&mut self, key: &'static str, text: impl Into<String>) {
        self.texts.insert(key, text.into());
    }

    /// Fills a list, and hides its place (named as the list) while it is empty.
    fn list(&mut self, key: &'static str, rows: Vec<Row>) {
        self.shown.insert(key, !rows.is_empty());
        self.lists.insert(key, rows);
    }
}

fn changed<T: Clone + PartialEq>(
    now: &BTreeMap<&'static str, T>,
    earlier: &BTreeMap<&'static str, T>,
) -> BTreeMap<&'static str, T> {
    let differing = now.iter().filter(|(key, value)| earlier.get(*key) != Some(value));
    differing.map(|(key, value)| (*key, value.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_is_sent() {
        let mut before = View::default();
        before.text("waiting", "1");
        before.text("spent", "$1");
        before.list("failures", Vec::new());
        let mut now = before.clone();
        assert_eq!(serde_json::to_string(&now.since(&before)).unwrap(), "{}");
        now.text("waiting", "2");
        now.list("failures", vec![Row::of([Cell::code("<b>")])]);
        let changes = now.since(&before);
        assert_eq!(
            serde_json::to_string(&changes).unwrap(),
            r#"{"texts":{"waiting":"2"},"shown":{"failures":true},"lists":{"failures":[{"cells":[{"text":"<b>","class":"code"}]}]}}"#
        );
        assert_eq!(now.since(&View::default()), now);
    }
}
