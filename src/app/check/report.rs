//! What a check found: one row for each thing that was looked at.

use std::fmt::Write;

use serde_json::{Value, json};

/// What to do when the edge in front of the service refuses this machine.
pub(super) const EXIT_ADVICE: &str =
    "nothing is wrong with the key: use another exit address (network, proxy or server region)";
/// What to do when the service refuses a key.
pub(super) const KEY_ADVICE: &str = "set a valid key of the account (GPTPROTO_API_KEY)";
/// What to do when the data directory cannot be used.
pub(super) const STORAGE_ADVICE: &str = "set storage.directory to a folder it can write to";

/// The judgement about one row, from the best to the worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Verdict {
    Good,
    /// Worth knowing, and no fault.
    Note,
    /// The gateway serves, with a fallback or a limitation.
    Warning,
    /// The gateway cannot serve.
    Fault,
    /// Money may have been spent without a picture.
    Unresolved,
}

/// One row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) verdict: Verdict,
    /// What was looked at.
    pub(super) subject: &'static str,
    pub(super) seen: String,
    /// What the operator can do; empty where there is nothing to do.
    pub(super) advice: String,
}

/// Rows that belong together, under a title.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Section {
    /// Empty for the checks that buy nothing.
    pub(super) title: String,
    pub(super) rows: Vec<Row>,
}

/// The result of `check`.
#[derive(Debug, Default)]
pub struct Report {
    sections: Vec<Section>,
}

impl Verdict {
    fn word(self) -> &'static str {
        match self {
            Self::Good => "ok",
            Self::Note => "note",
            Self::Warning => "warn",
            Self::Fault => "FAIL",
            Self::Unresolved => "LOST?",
        }
    }

    fn exit_code(self) -> u8 {
        match self {
            Self::Good | Self::Note => 0,
            Self::Fault => 1,
            Self::Warning => 2,
            Self::Unresolved => 3,
        }
    }
}

impl Row {
    /// Makes a row with advice.
    pub(super) fn new(
        verdict: Verdict,
        subject: &'static str,
        seen: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self { verdict, subject, seen: seen.into(), advice: advice.into() }
    }

    pub(super) fn good(subject: &'static str, seen: impl Into<String>) -> Self {
        Self::new(Verdict::Good, subject, seen, "")
    }

    pub(super) fn note(subject: &'static str, seen: impl Into<String>) -> Self {
        Self::new(Verdict::Note, subject, seen, "")
    }
}

impl Section {
    pub(super) fn new(title: impl Into<String>) -> Self {
        Self { title: title.into(), rows: Vec::new() }
    }

    pub(super) fn add(&mut self, row: Row) {
        self.rows.push(row);
    }

    /// Returns the worst verdict.
    pub(super) fn worst(&self) -> Verdict {
        self.rows.iter().map(|row| row.verdict).max().unwrap_or(Verdict::Good)
    }
}

impl Report {
    pub(super) fn add(&mut self, section: Section) {
        if !section.rows.is_empty() {
            self.sections.push(section);
        }
    }

    /// Returns the exit code of the program.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        self.sections.iter().map(Section::worst).max().unwrap_or(Verdict::Good).exit_code()
    }

    /// Returns the table for a terminal.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        for section in &self.sections {
            if !section.title.is_empty() {
                let _ = writeln!(text, "\n{}", section.title);
            }
            for Row { verdict, subject, seen, advice } in &section.rows {
                let _ = writeln!(text, "{:<5} {subject:<16} {seen}", verdict.word());
                if !advice.is_empty() {
                    let _ = writeln!(text, "{:<22} -> {advice}", "");
                }
            }
        }
        let _ = writeln!(text, "\n{}", self.conclusion());
        text
    }

    /// Returns the rows as JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        let rows: Vec<Value> = self
            .sections
            .iter()
            .flat_map(|section| section.rows.iter().map(|row| (&section.title, row)))
            .map(|(title, Row { verdict, subject, seen, advice })| {
                let verdict = verdict.word();
                json!({"section": title, "verdict": verdict, "row": subject, "seen": seen, "advice": advice})
            })
            .collect();
        json!({"exit_code": self.exit_code(), "conclusion": self.conclusion(), "rows": rows})
    }

    fn conclusion(&self) -> &'static str {
        match self.exit_code() {
            0 => "Everything that was checked works.",
            1 => "The gateway cannot serve as configured; see the rows marked FAIL.",
            2 => "The gateway serves; see the rows marked warn.",
            _ => "A purchase has no picture or an unknown outcome; see the rows marked LOST? before buying again.",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(verdicts: &[Verdict]) -> Report {
        let mut report = Report::default();
        for &verdict in verdicts {
            let mut section = Section::new("gpt-image-2");
            section.add(Row::new(verdict, "poll", "seen", "do this"));
            report.add(section);
        }
        report
    }

    #[test]
    fn the_exit_code_is_that_of_the_worst_row() {
        use Verdict::{Fault, Good, Note, Unresolved, Warning};
        for (verdicts, code) in [
            (&[][..], 0),
            (&[Good, Note], 0),
            (&[Warning, Good], 2),
            (&[Warning, Fault, Good], 1),
            (&[Fault, Unresolved, Warning], 3),
        ] {
            assert_eq!(report(verdicts).exit_code(), code, "{verdicts:?}");
        }
    }

    #[test]
    fn both_forms_have_every_row_with_its_advice() {
        let report = report(&[Verdict::Warning]);
        assert!(
            report.text().contains("warn  poll             seen\n                       -> do this\n"),
            "{}",
            report.text()
        );
        let json = report.json();
        assert_eq!(json["exit_code"], 2);
        assert_eq!(
            json["rows"][0],
            serde_json::json!({"section": "gpt-image-2", "verdict": "warn", "row": "poll", "seen": "seen", "advice": "do this"})
        );
    }
}
