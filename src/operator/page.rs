//! The page as HTML, complete without script: `page/dashboard.html` with the texts of a view in the places that name them.
//!
//! | attribute                 | what is put there                                         |
//! |---------------------------|-----------------------------------------------------------|
//! | `data-text`               | a text                                                    |
//! | `data-level-of`           | `data-level`, which the style colours                     |
//! | `data-show`               | `hidden`, where the place is not to be shown              |
//! | `data-list`               | rows of a table, or notes in a `<ul>`                     |
//! | `data-chart` of a figure  | the chart, behind the caption                             |
//! | `data-metric`             | a link to the metric that has the number                  |
//!
//! Names of clients, models and accounts and texts of the upstream are escaped, as everything is. `page/dashboard.js` does the
//! same with the changes.

use std::fmt::Write;

use super::view::charts::{Chart, HEIGHT, WIDTH};
use super::view::{Cell, Row, View};
use crate::web::assets::{Asset, ICON, STYLE};
use crate::web::escape::escaped;

const TEMPLATE: &str = include_str!("page/dashboard.html");

/// The files of the page.
pub(super) const FILES: [Asset; 4] = [
    STYLE,
    ICON,
    Asset { name: "dashboard.css", bytes: include_bytes!("page/dashboard.css") },
    Asset { name: "dashboard.js", bytes: include_bytes!("page/dashboard.js") },
];

/// Writes the page.
pub(super) fn render(view: &View) -> String {
    let mut page = String::with_capacity(TEMPLATE.len() * 4);
    let mut rest = TEMPLATE;
    let mut chart: Option<&Chart> = None;
    while let Some((before, tag, after)) = next_tag(rest) {
        page.push_str(before);
        if tag == "</figure>"
            && let Some(chart) = chart.take()
        {
            write_chart(&mut page, chart);
        }
        write_tag(&mut page, tag, view);
        if let Some(text) = attribute(tag, "data-text").and_then(|key| view.texts.get(key)) {
            page.push_str(&escaped(text));
        }
        if let Some(rows) = attribute(tag, "data-list").and_then(|key| view.lists.get(key)) {
            let is_list = tag.starts_with("<ul");
            for row in rows {
                if is_list { write_note(&mut page, row) } else { write_row(&mut page, row) }
            }
        }
        chart = attribute(tag, "data-chart").and_then(|key| view.charts.get(key)).or(chart);
        rest = after;
    }
    page.push_str(rest);
    page
}

/// Returns what is before the next tag, the tag, and what is behind it. No attribute of the template has a `>`.
fn next_tag(text: &str) -> Option<(&str, &str, &str)> {
    let start = text.find('<')?;
    let end = start + text[start..].find('>')? + 1;
    Some((&text[..start], &text[start..end], &text[end..]))
}

/// Returns the value of an attribute of the template.
fn attribute<'a>(tag: &'a str, name: &str) -> Option<&'a str> {
    let (_, value) = tag.split_once(&format!(" {name}=\""))?;
    Some(value.split_once('"')?.0)
}

fn write_tag(page: &mut String, tag: &str, view: &View) {
    page.push_str(&tag[..tag.len() - 1]);
    if let Some(metric) = attribute(tag, "data-metric").map(metric_name) {
        let _ = write!(page, " href=\"metrics#:~:text={metric}\" title=\"Metric {metric}\"");
    }
    if let Some(level) = attribute(tag, "data-level-of").and_then(|key| view.levels.get(key)) {
        let _ = write!(page, " data-level=\"{level}\"");
    }
    if attribute(tag, "data-show").is_some_and(|key| !view.shown.get(key).copied().unwrap_or_default()) {
        page.push_str(" hidden");
    }
    page.push('>');
}

/// Returns the name of a metric, which the template shortens.
fn metric_name(name: &str) -> String {
    if name.starts_with("process_") { name.to_owned() } else { format!("gptproto_gateway_{name}") }
}

fn write_row(page: &mut String, row: &Row) {
    page.push_str("<tr>");
    for cell in &row.cells {
        let class = if inner_tag(cell).is_some() || cell.class.is_empty() {
            String::new()
        } else {
            format!(" class=\"{}\"", cell.class)
        };
        let _ = write!(page, "<td{class}>");
        write_content(page, cell);
        page.push_str("</td>");
    }
    page.push_str("</tr>");
}

fn write_note(page: &mut String, row: &Row) {
    let _ = write!(page, "<li class=\"note {}\">", row.level.unwrap_or_default());
    for cell in &row.cells {
        page.push_str("<span>");
        write_content(page, cell);
        page.push_str("</span>");
    }
    page.push_str("</li>");
}

/// Returns the element around the text of a cell. Commands and ids are code, and badges stand by themselves.
fn inner_tag(cell: &Cell) -> Option<(&'static str, String)> {
    match cell.class {
        "code" => Some(("code", String::new())),
        class if class.starts_with("badge") => Some(("span", format!(" class=\"{class}\""))),
        _ => None,
    }
}

fn write_content(page: &mut String, cell: &Cell) {
    let text = escaped(&cell.text);
    let _ = match inner_tag(cell) {
        Some((name, class)) => write!(page, "<{name}{class}>{text}</{name}>"),
        None => write!(page, "{text}"),
    };
}

fn write_chart(page: &mut String, chart: &Chart) {
    let Chart { summary, top, series, rows } = chart;
    let _ = write!(
        page,
        "<div class=\"plot\"><svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" preserveAspectRatio=\"none\" role=\"img\" \
         aria-label=\"{}\">",
        escaped(summary)
    );
    for one in series {
        let _ = write!(page, "<path class=\"{}\" d=\"{}\"></path>", one.class, one.d);
    }
    let _ = write!(
        page,
        "</svg><span class=\"top\">{}</span></div><div class=\"axis\" aria-hidden=\"true\"><span>1 h ago</span>\
         <span>now</span></div><ul class=\"legend\">",
        escaped(top)
    );
    for one in series {
        let _ = write!(page, "<li class=\"{}\">{}</li>", one.class, escaped(&one.name));
    }
    page.push_str("</ul><details><summary>As a table</summary><div class=\"scroll\"><table><thead><tr>");
    page.push_str("<th scope=\"col\">From (UTC)</th>");
    for one in series {
        let _ = write!(page, "<th scope=\"col\" class=\"number\">{}</th>", escaped(&one.name));
    }
    page.push_str("</tr></thead><tbody>");
    for row in rows {
        write_row(page, row);
    }
    page.push_str("</tbody></table></div></details>");
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn keys(name: &str) -> BTreeSet<&'static str> {
        let mut keys = BTreeSet::new();
        let mut rest = TEMPLATE;
        while let Some((_, tag, after)) = next_tag(rest) {
            keys.extend(attribute(tag, name));
            rest = after;
        }
        keys
    }

    /// Returns the view of a gateway in which everything that can be shown has happened.
    fn view() -> View {
        let mut view = View::default();
        for key in keys("data-text") {
            view.texts.insert(key, format!("<{key}>"));
        }
        for key in keys("data-show") {
            view.shown.insert(key, key != "formats");
        }
        let cell = |class| Cell { text: "<script>alert('\"&')</script>".to_owned(), class };
        for key in keys("data-list") {
            let cells = vec![cell(""), cell("code"), cell("badge bad"), cell("number")];
            view.lists.insert(key, vec![Row { level: Some("bad"), cells }]);
        }
        view
    }

    #[test]
    fn every_text_is_escaped_and_in_its_place() {
        let page = render(&view());
        assert!(!page.contains("<script>") && page.matches("&lt;script&gt;alert(&#39;&quot;&amp;&#39;)").count() > 8);
        for key in keys("data-text") {
            assert!(page.contains(&format!("&lt;{key}&gt;")), "{key}");
        }
        assert!(page.contains("<td><span class=\"badge bad\">&lt;") && page.contains("<td class=\"number\">&lt;"));
        assert!(page.contains("data-show=\"formats\" hidden>") && !page.contains("data-show=\"failures\" hidden"));
        assert!(page.contains("href=\"metrics#:~:text=gptproto_gateway_engine_waiters\""));
        assert_eq!(
            (page.matches("<tbody").count(), page.matches("</html>").count()),
            (TEMPLATE.matches("<tbody").count(), 1)
        );
    }

    #[test]
    fn a_chart_stands_behind_its_caption() {
        let mut view = View::default();
        let series =
            super::super::view::charts::Series { name: "a<b".to_owned(), class: "area good", d: "M0 0".to_owned() };
        let chart =
            Chart { summary: "6 \"calls\"".to_owned(), top: "5".to_owned(), series: vec![series], rows: Vec::new() };
        view.charts.insert("pushbacks", chart);
        let page = render(&view);
        let (_, figure) = page.split_once("data-chart=\"pushbacks\"").unwrap();
        let (figure, _) = figure.split_once("</figure>").unwrap();
        let (caption, chart) = figure.split_once("</figcaption>").unwrap();
        assert!(!caption.contains("<svg") && chart.contains("aria-label=\"6 &quot;calls&quot;\""), "{figure}");
        assert!(
            chart.contains("<path class=\"area good\" d=\"M0 0\">")
                && chart.contains("<li class=\"area good\">a&lt;b</li>")
        );
        assert_eq!(page.matches("<svg").count(), 1);
    }

    #[test]
    fn the_page_and_its_files_are_small() {
        let files: usize = FILES.iter().map(|file| file.bytes.len()).sum();
        assert!(files + TEMPLATE.len() < 60_000, "{files} bytes of files");
    }
}
