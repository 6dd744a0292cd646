//! A usage export of the vendor's dashboard, read tolerantly: its format is documented nowhere.
//!
//! CSV with a header line, JSON lines, or a JSON array. Columns are found by name. A line that cannot be read is
//! reported, never passed over: it may be a purchase.

use csv::{ReaderBuilder, Trim};
use serde_json::Value;

use super::matching::Line;
use super::moment::{Zone, stamp};

/// What columns are called, likeliest first; compared without case, blanks and punctuation.
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

/// What an export says.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Export {
    pub(super) lines: Vec<Line>,
    pub(super) unreadable: Vec<Unreadable>,
    /// Some time did not say its zone.
    pub(super) zone_assumed: bool,
}

/// A line that is there and says nothing certain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unreadable {
    pub(super) number: u64,
    pub(super) problem: String,
}

/// Why a file is no export.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotAnExport {
    #[error("is empty")]
    Empty,
    #[error("is not CSV: {0}")]
    Csv(csv::Error),
    #[error("is not JSON: {0}")]
    Json(serde_json::Error),
    #[error("has neither a column for the time nor one for an id; its columns are: {0}")]
    Columns(String),
}

/// Reads an export. Times without a zone are taken to be in `zone`.
pub(super) fn read(text: &str, zone: Zone) -> Result<Export, NotAnExport> {
    let text = text.trim_start_matches('\u{feff}');
    let mut export = Export::default();
    match text.trim_start().chars().next() {
        None => return Err(NotAnExport::Empty),
        Some('[') => {
            let items: Vec<Value> = serde_json::from_str(text).map_err(NotAnExport::Json)?;
            for (item, number) in items.iter().zip(1..) {
                export.json(number, item, zone)?;
            }
        }
        Some('{') => {
            for (line, number) in text.lines().zip(1..).filter(|(line, _)| !line.trim().is_empty()) {
                match serde_json::from_str(line) {
                    Ok(item) => export.json(number, &item, zone)?,
                    // A first line that is no JSON means that the file is something else.
                    Err(error) if export.is_empty() => return Err(NotAnExport::Json(error)),
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
        self.unreadable.push(Unreadable { number, problem });
    }

    fn csv(&mut self, text: &str, zone: Zone) -> Result<(), NotAnExport> {
        let mut reader =
            ReaderBuilder::new().delimiter(delimiter(text)).flexible(true).trim(Trim::All).from_reader(text.as_bytes());
        let header = reader.headers().map_err(NotAnExport::Csv)?.clone();
        let names: Vec<String> = header.iter().map(plain).collect();
        check_columns(&names, &header.iter().collect::<Vec<_>>())?;
        let mut places = Places { text: text.as_bytes(), at: 0, line: 1 };
        for record in reader.records() {
            let record = record.map_err(NotAnExport::Csv)?;
            let start = record.position().map_or(0, csv::Position::byte);
            let number = places.line_at(usize::try_from(start).unwrap_or(usize::MAX));
            let fields = names.iter().map(String::as_str).zip(record.iter().map(str::to_owned)).collect();
            self.add(number, &Fields(fields), zone);
        }
        Ok(())
    }

    fn json(&mut self, number: u64, item: &Value, zone: Zone) -> Result<(), NotAnExport> {
        let Value::Object(object) = item else {
            self.refuse(number, "not a JSON object".to_owned());
            return Ok(());
        };
        let names: Vec<String> = object.keys().map(|name| plain(name)).collect();
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

    fn add(&mut self, number: u64, fields: &Fields<'_>, zone: Zone) {
        let id = fields.first(ID).map(str::to_owned);
        let time = match fields.time(zone) {
            Ok(time) => time,
            Err(text) => return self.refuse(number, format!("{text:?} is not a time this program can read")),
        };
        if time.is_none() && id.is_none() {
            return self.refuse(number, "has neither time nor id".to_owned());
        }
        let usd = match fields.first(COST).map(|text| money(text).ok_or(text)).transpose() {
            Ok(usd) => usd,
            Err(text) => return self.refuse(number, format!("{text:?} is not an amount of US dollars")),
        };
        self.zone_assumed |= time.is_some_and(|read| !read.zoned);
        let model = fields.first(MODEL).map(str::to_owned);
        self.lines.push(Line { number, time: time.map(|read| read.time), model, usd, id });
    }
}

/// Counts lines as an editor does. The reader's own count does not see the line feed of a CRLF, nor empty lines, before
/// the record is read.
struct Places<'a> {
    text: &'a [u8],
    at: usize,
    line: u64,
}

impl Places<'_> {
    /// The line of the record that begins at or behind this byte; places only grow.
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
    /// The likeliest of several columns that has a value.
    fn first(&self, names: &[&str]) -> Option<&str> {
        names.iter().find_map(|name| {
            self.0.iter().find(|(known, value)| known == name && !value.is_empty()).map(|(_, value)| value.as_str())
        })
    }

    fn time(&self, zone: Zone) -> Result<Option<super::moment::Read>, String> {
        let Some(text) = self.first(TIME) else { return Ok(None) };
        // A date and a time of day in columns of their own.
        let joined = self.first(&["date"]).map(|date| format!("{date} {text}"));
        stamp(text, zone)
            .or_else(|| joined.and_then(|text| stamp(&text, zone)))
            .map(Some)
            .ok_or_else(|| text.to_owned())
    }
}

fn check_columns(names: &[String], shown: &[&str]) -> Result<(), NotAnExport> {
    let known = |list: &[&str]| names.iter().any(|name| list.contains(&name.as_str()));
    if known(TIME) || known(ID) { Ok(()) } else { Err(NotAnExport::Columns(shown.join(", "))) }
}

fn plain(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
}

fn delimiter(text: &str) -> u8 {
    let header = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    let count = |delimiter: &u8| header.bytes().filter(|b| b == delimiter).count();
    // The comma last: `max_by_key` takes the last of equals.
    [b'\t', b';', b','].into_iter().max_by_key(count).unwrap_or(b',')
}

/// Reads `0.03`, `$0.03`, `0.03 USD`, `1,234.50`, `0,03`, `-$0.03`.
fn money(text: &str) -> Option<f64> {
    let bare: String = text.to_ascii_lowercase().replace("usd", "").replace(['$', ' ', '\u{a0}'], "");
    let digits = match (bare.contains('.'), bare.matches(',').count()) {
        (true, _) | (false, 2..) => bare.replace(',', ""),
        (false, _) => bare.replace(',', "."),
    };
    digits.parse().ok().filter(|amount: &f64| amount.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Timestamp;

    const TEN: Timestamp = Timestamp::from_millis(1_795_255_200_000);

    fn good(text: &str) -> Export {
        read(text, Zone::default()).unwrap()
    }

    fn the_line(number: u64) -> Line {
        Line {
            number,
            time: Some(TEN),
            model: Some("gpt-image-2".to_owned()),
            usd: Some(0.03),
            id: Some("abc".to_owned()),
        }
    }

    #[test]
    fn many_spellings_say_the_same() {
        for text in [
            "Created At,Model Name,Cost (USD),Request ID\n2026-11-21T10:00:00Z,gpt-image-2,$0.03,abc\n",
            "\u{feff}task_id;MODEL;amount;time\r\nabc;gpt-image-2;0,03;1795255200\r\n",
            "time,model,cost,id\r\n1795255200,gpt-image-2,0.03,abc\r\n",
            "id\tmodel\tprice\tdate\ttime\nabc\tgpt-image-2\t0.03 USD\t2026-11-21\t10:00:00\n",
            "timestamp,model,note,quota usd,prediction_id\n1795255200000,gpt-image-2,\"a, \"\"b\"\"\",0.03,abc\n",
        ] {
            assert_eq!(good(text).lines, [the_line(2)], "{text}");
        }
        let json =
            r#"{"created_at": 1795255200, "model": "gpt-image-2", "cost": 0.03, "id": "abc", "extra": {"a": 1}}"#;
        assert_eq!(good(json).lines, [the_line(1)]);
        assert_eq!(good(&format!("{json}\n\n{json}\n")).lines, [the_line(1), the_line(3)]);
        assert_eq!(good(&format!("[{json}, {json}]")).lines, [the_line(1), the_line(2)]);
    }

    #[test]
    fn what_cannot_be_read_is_said() {
        let export =
            good("time,model,cost\nsoon,gpt-image-2,1\n,gpt-image-2,1\n2026-11-21 10:00:00,gpt-image-2,much\n");
        let problems: Vec<String> =
            export.unreadable.iter().map(|line| format!("{}: {}", line.number, line.problem)).collect();
        insta::assert_snapshot!(problems.join("\n"), @r#"
        2: "soon" is not a time this program can read
        3: has neither time nor id
        4: "much" is not an amount of US dollars
        "#);
        assert!(export.lines.is_empty());
        let broken = good("{\"time\": 1795255200}\n{\"time\": 17952\n");
        assert_eq!((broken.lines.len(), broken.unreadable.len()), (1, 1));
        let refused = |text: &str| read(text, Zone::default()).unwrap_err().to_string();
        assert_eq!(refused(" \n"), "is empty");
        assert!(refused("a,b\n1,2\n").ends_with("its columns are: a, b"));
        assert!(refused("{oops").starts_with("is not JSON"));
    }

    #[test]
    fn a_time_without_a_zone_is_known_as_such() {
        assert!(good("time\n2026-11-21 10:00:00\n").zone_assumed);
        assert!(!good("time\n2026-11-21 10:00:00Z\n").zone_assumed);
    }

    #[test]
    fn amounts_are_dollars() {
        for (text, amount) in
            [("1,234.50", Some(1234.5)), ("-$0.03", Some(-0.03)), ("1,234,567", Some(1_234_567.0)), ("nan", None)]
        {
            assert_eq!(money(text), amount, "{text}");
        }
    }
}
