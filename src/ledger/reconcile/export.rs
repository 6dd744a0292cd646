//! A usage export of the vendor's dashboard, whose format is not documented: CSV with a header line, JSON lines, or a JSON
//! array. Columns are found by name. A line that cannot be read is reported, never skipped, as it may be a purchase.

use csv::{ReaderBuilder, Trim};
use serde_json::Value;

use super::matching::ExportLine;
use crate::ledger::time_arg::{ExportTime, ZoneArg, export_time};

/// Names of columns, the most likely first; compared without case, blanks and punctuation.
const TIME: &[&str] = &[
    "time",
    "createdat",
    "timestamp",
    "created",
    "createtime",
    "createdtime",
    "datetime",
    "requesttime",
    "startedat",
    "starttime",
    "submittedat",
    "submittime",
    "calledat",
    "completedat",
    "finishedat",
    "endtime",
    "date",
];
const MODEL: &[&str] = &["model", "modelname", "modelid"];
const COST: &[&str] = &[
    "cost",
    "costusd",
    "usd",
    "amount",
    "amountusd",
    "price",
    "priceusd",
    "quotausd",
    "totalcost",
    "totalcostusd",
    "fee",
    "charge",
    "spend",
    "spent",
    "total",
];
const ID: &[&str] = &["predictionid", "taskid", "requestid", "id", "jobid", "generationid"];

/// A parsed export.
#[derive(Debug, Default, PartialEq)]
pub(in crate::ledger) struct Export {
    pub(super) lines: Vec<ExportLine>,
    pub(super) unreadable: Vec<UnreadableLine>,
    /// Whether a time names no zone.
    pub(super) zone_assumed: bool,
}

/// A line that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct UnreadableLine {
    pub(super) number: u64,
    pub(super) problem: String,
}

/// Why a file is not an export.
#[derive(Debug, thiserror::Error)]
pub(in crate::ledger) enum ExportError {
    #[error("is empty")]
    Empty,
    #[error("is not CSV: {0}")]
    Csv(csv::Error),
    #[error("is not JSON: {0}")]
    Json(serde_json::Error),
    #[error("has neither a column for the time nor one for an id; its columns are: {0}")]
    Columns(String),
}

/// Parses an export. Times without a zone are in `zone`.
///
/// # Errors
///
/// [`ExportError`], when the file as a whole cannot be read.
pub(in crate::ledger) fn read(text: &str, zone: ZoneArg) -> Result<Export, ExportError> {
    let text = text.trim_start_matches('\u{feff}');
    let mut export = Export::default();
    match text.trim_start().chars().next() {
        None => return Err(ExportError::Empty),
        Some('[') => {
            let items: Vec<Value> = serde_json::from_str(text).map_err(ExportError::Json)?;
            for (item, number) in items.iter().zip(1..) {
                export.json(number, item, zone)?;
            }
        }
        Some('{') => {
            for (line, number) in text.lines().zip(1..).filter(|(line, _)| !line.trim().is_empty()) {
                match serde_json::from_str(line) {
                    Ok(item) => export.json(number, &item, zone)?,
                    // When the first line is not JSON, the file is of another kind.
                    Err(error) if export.is_empty() => return Err(ExportError::Json(error)),
                    Err(error) => export.refuse(number, format!("not JSON: {error}")),
                }
            }
        }
        Some(_) => export.csv(text, zone)?,
    }
    Ok(export)
}

impl Export {
    fn is_empty(&self) -> bool {
        self.lines.is_empty() && self.unreadable.is_empty()
    }

    fn refuse(&mut self, number: u64, problem: String) {
        self.unreadable.push(UnreadableLine { number, problem });
    }

    fn csv(&mut self, text: &str, zone: ZoneArg) -> Result<(), ExportError> {
        let mut reader =
            ReaderBuilder::new().delimiter(delimiter(text)).flexible(true).trim(Trim::All).from_reader(text.as_bytes());
        let header = reader.headers().map_err(ExportError::Csv)?.clone();
        let names: Vec<String> = header.iter().map(normalized).collect();
        check_columns(&names, &header.iter().collect::<Vec<_>>())?;
        let mut counter = LineCounter { text: text.as_bytes(), at: 0, line: 1 };
        for record in reader.records() {
            let record = record.map_err(ExportError::Csv)?;
            let start = record.position().map_or(0, csv::Position::byte);
            let number = counter.line_at(usize::try_from(start).unwrap_or(usize::MAX));
            let fields = names.iter().map(String::as_str).zip(record.iter().map(str::to_owned)).collect();
            self.add(number, &Fields(fields), zone);
        }
        Ok(())
    }

    fn json(&mut self, number: u64, item: &Value, zone: ZoneArg) -> Result<(), ExportError> {
        let Value::Object(object) = item else {
            self.refuse(number, "not a JSON object".to_owned());
            return Ok(());
        };
        let names: Vec<String> = object.keys().map(|name| normalized(name)).collect();
        if self.is_empty() {
            check_columns(&names, &object.keys().map(String::as_str).collect::<Vec<_>>())?;
        }
        let values = object.values().map(|value| match value {
            Value::String(text) => text.trim().to_owned(),
            Value::Number(number) => number.to_string(),
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => String::new(),
        });
        self.add(number, &Fields(names.iter().map(String::as_str).zip(values).collect()), zone);
        Ok(())
    }

    fn add(&mut self, number: u64, fields: &Fields<'_>, zone: ZoneArg) {
        let id = fields.first(ID).map(str::to_owned);
        let time = match fields.time(zone) {
            Ok(time) => time,
            Err(text) => return self.refuse(number, format!("{text:?} is not a known form of time")),
        };
        if time.is_none() && id.is_none() {
            return self.refuse(number, "has neither a time nor an id".to_owned());
        }
        let usd = match fields.first(COST).map(|text| money(text).ok_or(text)).transpose() {
            Ok(usd) => usd,
            Err(text) => return self.refuse(number, format!("{text:?} is not an amount of US dollars")),
        };
        self.zone_assumed |= time.is_some_and(|time| !time.has_zone);
        let model = fields.first(MODEL).map(str::to_owned);
        self.lines.push(ExportLine { number, time: time.map(|parsed| parsed.time), model, usd, id });
    }
}

/// Counts lines as an editor does. The reader's own count misses the line feed of a CRLF and empty lines before a record.
struct LineCounter<'a> {
    text: &'a [u8],
    at: usize,
    line: u64,
}

impl LineCounter<'_> {
    /// Returns the line of the record that begins at or after this byte. Successive calls need growing bytes.
    fn line_at(&mut self, start: usize) -> u64 {
        while let Some(&byte) = self.text.get(self.at)
            && (self.at < start || matches!(byte, b'\r' | b'\n'))
        {
            self.line += u64::from(byte == b'\n');
            self.at += 1;
        }
        self.line
    }
}

struct Fields<'a>(Vec<(&'a str, String)>);

impl Fields<'_> {
    /// Returns the first of these columns that has a value.
    fn first(&self, names: &[&str]) -> Option<&str> {
        names.iter().find_map(|name| {
            self.0.iter().find(|(known, value)| known == name && !value.is_empty()).map(|(_, value)| value.as_str())
        })
    }

    fn time(&self, zone: ZoneArg) -> Result<Option<ExportTime>, String> {
        let Some(text) = self.first(TIME) else { return Ok(None) };
        // The date and the time of day may be in separate columns.
        let joined = self.first(&["date"]).map(|date| format!("{date} {text}"));
        export_time(text, zone)
            .or_else(|| joined.and_then(|text| export_time(&text, zone)))
            .map(Some)
            .ok_or_else(|| text.to_owned())
    }
}

fn check_columns(names: &[String], shown: &[&str]) -> Result<(), ExportError> {
    let known = |list: &[&str]| names.iter().any(|name| list.contains(&name.as_str()));
    if known(TIME) || known(ID) { Ok(()) } else { Err(ExportError::Columns(shown.join(", "))) }
}

fn normalized(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
}

fn delimiter(text: &str) -> u8 {
    let header = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    let count = |delimiter: &u8| header.bytes().filter(|b| b == delimiter).count();
    // The comma is last, as `max_by_key` returns the last of equals.
    [b'\t', b';', b','].into_iter().max_by_key(count).unwrap_or(b',')
}

/// Parses `0.03`, `$0.03`, `0.03 USD`, `1,234.50`, `0,03`, `-$0.03`.
fn money(text: &str) -> Option<f64> {
    let bare: String = text.to_ascii_lowercase().replace("usd", "").replace(['$', ' ', '\u{a0}'], "");
    let digits = match (bare.contains('.'), bare.matches(',').count()) {
        (true, _) | (false, 2..) => bare.replace(',', ""),
        (false, _) => bare.replace(',', "."),
    };
    digits.parse().ok().filter(|amount: &f64| amount.is_finite())
}

#[cfg(test)]
mod tests;
