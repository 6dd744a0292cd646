//! Log lines as JSON objects, one a line: `timestamp`, `level`, the fields of the event, `target`.
//!
//! They are written straight into the buffer of the line. Every request has one, and the formatter of `tracing-subscriber`
//! passes each field through a serializer, which takes several times as long.

use std::fmt::{self, Write};

use jiff::Timestamp;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// The field in which an event of the crate `log` names its target.
const LOG_TARGET: &str = "log.target";

/// Formats events as JSON objects.
#[derive(Debug)]
pub(super) struct JsonLines;

impl<S, N> FormatEvent<S, N> for JsonLines
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    N: for<'writer> FormatFields<'writer> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let metadata = event.metadata();
        write!(writer, "{{\"timestamp\":\"{:.6}\",\"level\":\"{}\"", Timestamp::now(), metadata.level())?;
        let mut fields = Fields { writer, target: None, written: Ok(()) };
        event.record(&mut fields);
        fields.written?;
        let (target, mut writer) = (fields.target, fields.writer);
        writer.write_str(",\"target\":\"")?;
        escape(&mut writer, target.as_deref().unwrap_or(metadata.target()))?;
        writer.write_str("\"}\n")
    }
}

/// Writes the fields of an event.
struct Fields<'a> {
    writer: Writer<'a>,
    /// The target of an event of the crate `log`.
    target: Option<String>,
    written: fmt::Result,
}

impl Fields<'_> {
    fn write(&mut self, field: &Field, write: impl FnOnce(&mut Writer<'_>) -> fmt::Result) {
        let Self { writer, written, .. } = self;
        *written = written.and_then(|()| {
            writer.write_str(",\"")?;
            writer.write_str(field.name())?;
            writer.write_str("\":")?;
            write(writer)
        });
    }
}

impl Visit for Fields<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == LOG_TARGET {
            self.target = Some(value.to_owned());
        }
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.write(field, |writer| write!(writer, "{value}"));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.write(field, |writer| write!(writer, "{value}"));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.write(field, |writer| write!(writer, "{value}"));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        // JSON has no infinity.
        self.write(
            field,
            |writer| if value.is_finite() { write!(writer, "{value:?}") } else { writer.write_str("null") },
        );
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.write(field, |writer| {
            writer.write_char('"')?;
            write!(Escaped(writer), "{value:?}")?;
            writer.write_char('"')
        });
    }
}

/// Writes text as the inside of a JSON string.
struct Escaped<'a, 'w>(&'a mut Writer<'w>);

impl Write for Escaped<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        escape(self.0, text)
    }
}

fn escape(writer: &mut Writer<'_>, text: &str) -> fmt::Result {
    let mut rest = text;
    while let Some(at) = rest.bytes().position(|byte| byte < b' ' || byte == b'"' || byte == b'\\') {
        writer.write_str(&rest[..at])?;
        match rest.as_bytes()[at] {
            b'\n' => writer.write_str("\\n")?,
            byte @ (b'"' | b'\\') => write!(writer, "\\{}", char::from(byte))?,
            byte => write!(writer, "\\u{byte:04x}")?,
        }
        rest = &rest[at + 1..];
    }
    writer.write_str(rest)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use tracing_subscriber::fmt::layer;
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;
    use crate::telemetry::test_support::Lines;

    /// Returns the lines that are logged meanwhile, as they are without the time.
    fn logged(log: impl FnOnce()) -> Vec<String> {
        let lines = Lines::default();
        let writer = lines.clone();
        let layer = layer().event_format(JsonLines).with_writer(move || writer.clone());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), log);
        let text = lines.text();
        assert!(text.is_empty() || text.ends_with('\n'));
        text.lines()
            .map(|line| {
                let rest = line.strip_prefix("{\"timestamp\":\"").unwrap();
                let (time, rest) = rest.split_once('"').unwrap();
                let age = Timestamp::now().duration_since(time.parse().unwrap());
                assert!(time.ends_with('Z') && time.len() == 27 && age.as_secs() < 60, "{time}");
                format!("{{{}", &rest[1..])
            })
            .collect()
    }

    #[test]
    fn an_event_is_one_object_with_its_fields_in_order() {
        let lines = logged(|| {
            tracing::info!(
                target: "here",
                text = "plain",
                display = %"shown",
                debug = ?Some("a \"b\""),
                none = Option::<&str>::None,
                some = Some(3_u16),
                negative = -4_i64,
                is_true = true,
                half = 0.5,
                infinite = f64::INFINITY,
                large = u128::MAX,
                "it happened"
            );
        });
        assert_eq!(
            lines,
            [r#"{"level":"INFO","message":"it happened","text":"plain","display":"shown","debug":"Some(\"a \\\"b\\\"\")","some":3,"negative":-4,"is_true":true,"half":0.5,"infinite":null,"large":"340282366920938463463374607431768211455","target":"here"}"#
                .to_owned()]
        );
    }

    #[test]
    fn any_text_stays_in_its_line_and_its_string() {
        let every: String = (0..0x3000).filter_map(char::from_u32).collect();
        for text in [every.as_str(), "", "\"", "\\", "\\\"", "a\nb\r\n", "\u{1b}[31m", "\u{7f}", "\",\"level\":\"ERROR"]
        {
            let lines = logged(|| tracing::warn!(text, shown = %text, "{text}"));
            let [line] = lines.as_slice() else { panic!("{lines:?}") };
            let line: Value = serde_json::from_str(line).unwrap();
            let expected = json!({
                "level": "WARN", "message": text, "text": text, "shown": text,
                "target": "gptproto_gateway::telemetry::json_lines::tests",
            });
            assert_eq!(line, expected);
        }
    }
}
