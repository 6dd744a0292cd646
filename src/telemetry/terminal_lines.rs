//! Log lines for a terminal: the time, the level, the message and the fields of the event, in rows of at most [`WIDTH`] columns.
//!
//! A request is one row: what was asked for, how it ended, who asked, and the id under which more is known of it. Other events
//! name their fields. What does not fit goes on below, indented.

use std::fmt::{self, Write};

use jiff::ZonedDateTime;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// The columns of a row.
const WIDTH: usize = 120;
/// The columns of the time and the level, and of what goes on below.
const INDENT: usize = 15;
/// The message of the line that every request has.
const REQUEST: &str = "request";

/// Formats events for a terminal.
#[derive(Debug)]
pub(super) struct TerminalLines;

impl<S, N> FormatEvent<S, N> for TerminalLines
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    N: for<'writer> FormatFields<'writer> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let level = *event.metadata().level();
        let text =
            if fields.message == REQUEST && fields.of("status").is_some() { fields.request() } else { fields.text() };
        let time = ZonedDateTime::now().strftime("%H:%M:%S");
        if writer.has_ansi_escapes() {
            write!(writer, "\u{1b}[2m{time}\u{1b}[0m \u{1b}[{}m{level:<5}\u{1b}[0m ", colour(level))?;
        } else {
            write!(writer, "{time} {level:<5} ")?;
        }
        write_rows(&mut writer, &text)
    }
}

/// Returns the number of the colour of a level.
fn colour(level: Level) -> u8 {
    match level {
        Level::ERROR => 31,
        Level::WARN => 33,
        Level::INFO => 32,
        Level::DEBUG => 34,
        Level::TRACE => 35,
    }
}

/// Writes a text behind the time and the level, broken between words where that is possible.
fn write_rows(writer: &mut Writer<'_>, text: &str) -> fmt::Result {
    const ROW: usize = WIDTH - INDENT;
    let mut used = 0;
    for word in text.split_whitespace() {
        let mut rest = word;
        while !rest.is_empty() {
            let gap = usize::from(used > 0);
            let length = rest.chars().count();
            if used + gap + length <= ROW {
                write!(writer, "{:gap$}{rest}", "")?;
                used += gap + length;
                break;
            }
            if used > 0 {
                write!(writer, "\n{:INDENT$}", "")?;
                used = 0;
                continue;
            }
            // A word longer than a row.
            let end = rest.char_indices().nth(ROW).map_or(rest.len(), |(at, _)| at);
            writer.write_str(&rest[..end])?;
            (rest, used) = (&rest[end..], ROW);
        }
    }
    writer.write_char('\n')
}

/// The fields of an event, as text.
#[derive(Debug, Default)]
struct Fields {
    message: String,
    named: Vec<(&'static str, String)>,
}

impl Fields {
    fn of(&self, name: &str) -> Option<&str> {
        self.named.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str())
    }

    /// The message, and every field with its name.
    fn text(&self) -> String {
        let mut text = self.message.clone();
        for (name, value) in self.named.iter().filter(|(name, _)| !name.starts_with("log.")) {
            let _ = write!(text, "  {name}={value}");
        }
        text
    }

    /// What a request asked for and how it ended, as one row where that is possible.
    fn request(&self) -> String {
        let of = |name| self.of(name).unwrap_or_default();
        let mut text = format!("{} {} {} {}", of("method"), of("path"), of("status"), duration(of("ms")));
        let mut add = |value: Option<&str>| {
            if let Some(value) = value {
                let _ = write!(text, " {value}");
            }
        };
        let failed = self.of("code").filter(|code| *code != "ok");
        add(failed);
        for name in ["client", "model", "cache"] {
            add(self.of(name));
        }
        let usd = self.of("usd").map(|usd| format!("${usd}"));
        add(usd.as_deref());
        for name in ["ignored", "detail", "trace"] {
            add(self.of(name).map(|value| format!("{name}={value}")).as_deref());
        }
        let job = self.of("job");
        let id = match job {
            // The path has it.
            Some(job) if of("path").contains(job) => None,
            Some(job) => Some(job),
            None => self.of("request"),
        };
        let fits = |id: &&str| text.chars().count() + 1 + id.len() <= WIDTH - INDENT;
        // The acceptance of the purchase has named the job; a request that failed is looked up by its own id.
        if let Some(id) = id.filter(|id| failed.is_some() || fits(id)) {
            let _ = write!(text, " {id}");
        }
        text
    }
}

/// Writes milliseconds as people read them.
fn duration(ms: &str) -> String {
    match ms.parse::<u32>() {
        Ok(ms) if ms >= 1_000 => format!("{:.1} s", f64::from(ms) / 1000.0),
        Ok(_) | Err(_) => format!("{ms} ms"),
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.message = format!("{value:?}");
        } else {
            self.named.push((field.name(), format!("{value:?}")));
        }
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;
    use crate::telemetry::test_support::Lines;

    /// Returns the rows of what is logged meanwhile, without the time.
    fn logged(log: impl FnOnce()) -> Vec<String> {
        let lines = Lines::default();
        let writer = lines.clone();
        let layer = tracing_subscriber::fmt::layer()
            .event_format(TerminalLines)
            .with_ansi(false)
            .with_writer(move || writer.clone());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), log);
        let text = lines.text();
        for row in text.lines() {
            assert!(row.chars().count() <= WIDTH, "{row}");
        }
        text.lines().map(|row| row.chars().skip(9).collect()).collect()
    }

    #[test]
    fn an_event_is_its_message_and_its_fields() {
        let rows = logged(|| {
            tracing::warn!(account = %"default", text = "two words", some = Some(3), none = Option::<u8>::None, half = 0.5, "it happened");
        });
        assert_eq!(rows, ["WARN  it happened account=default text=two words some=3 half=0.5"]);
    }

    #[test]
    fn long_texts_go_on_below() {
        let long = "0123456789".repeat(30);
        let rows = logged(|| tracing::info!(text = %format!("{} {long} end", "word ".repeat(40)), "said\nso"));
        assert!(rows.len() > 4, "{rows:?}");
        assert!(rows[0].starts_with("INFO  said so text=word word"), "{rows:?}");
        assert!(rows[1..].iter().all(|row| row.starts_with("      ")), "{rows:?}");
        let all = rows.concat().replace(' ', "");
        assert!(all.contains(&long) && all.ends_with("end"), "{rows:?}");
    }

    #[test]
    fn a_request_is_one_row() {
        let request = "req_22f7fe53e2d2ce92224f4047ce032f9b";
        let job = "pred_01m8kf02t4sxz7bfxabaz8wfzs";
        let row = |path: &str, status: u16, ms: u64, code: &str, model: Option<&str>, job: Option<&str>| {
            let rows = logged(|| {
                tracing::info!(
                    request,
                    method = "POST",
                    path,
                    status,
                    ms,
                    code,
                    client = model.map(|_| "sandbox"),
                    model,
                    cache = model.map(|_| "miss"),
                    usd = model.map(|_| 0.0191),
                    job,
                    "request"
                );
            });
            assert_eq!(rows.len(), 1, "{rows:?}");
            rows[0].clone()
        };
        assert_eq!(
            row("/v1/images/edits", 200, 5446, "ok", Some("gpt-image-1.5"), Some(job)),
            format!("INFO  POST /v1/images/edits 200 5.4 s sandbox gpt-image-1.5 miss $0.0191 {job}")
        );
        assert_eq!(
            row(&format!("/v1/predictions/{job}"), 200, 4, "ok", None, Some(job)),
            format!("INFO  POST /v1/predictions/{job} 200 4 ms")
        );
        assert_eq!(
            row("/v1/images/edits", 400, 1, "missing_required_parameter", None, None),
            format!("INFO  POST /v1/images/edits 400 1 ms missing_required_parameter {request}")
        );
        // Without the id, before it becomes two.
        let long = row("/v1/images/generations", 200, 145_446, "ok", Some("gpt-image-2.5-sunburst"), Some(job));
        assert!(long.ends_with("$0.0191"), "{long}");
    }
}
