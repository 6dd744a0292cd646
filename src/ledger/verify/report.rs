//! What `ledger verify` found, as a table and as JSON.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::{Finding, FindingKind, Verification};
use crate::ledger::Location;
use crate::ledger::table::{escape_control, table};

/// Characters of a digest in the table.
const DIGEST_LENGTH: usize = 16;

impl FindingKind {
    fn name(self) -> &'static str {
        match self {
            Self::Journal => "journal",
            Self::RepeatedId => "repeated id",
            Self::Missing => "missing",
            Self::Damaged => "damaged",
            Self::Unknown => "unknown",
            Self::Orphan => "orphan",
        }
    }

    /// What it means, and what can be done.
    fn meaning(self) -> &'static str {
        match self {
            Self::Journal => "the record is wrong: keep a copy of the folder, and restore a backup if there is one",
            Self::RepeatedId => "only the older purchase is known to own the pictures under this id",
            Self::Missing | Self::Damaged => {
                "fetched again by its upstream id when a client asks for it, or by `verify --repair`; without an id, or if the \
                 upstream no longer has it, requests get result_lost and nothing is bought"
            }
            Self::Unknown => "the next start sets it aside in orphans/",
            Self::Orphan => {
                "deleted after storage.results_ttl_s of running time; the journal that knows it would bring it back"
            }
        }
    }
}

impl Verification {
    /// Returns a table of what does not fit, and what that means.
    pub(in crate::ledger) fn text(&self, location: &Location) -> String {
        let mut text = format!(
            "{}: {} jobs with {} stored pictures, {} bytes\n",
            location.directory.display(),
            self.jobs,
            self.pictures,
            self.bytes
        );
        if self.fits() {
            text.push_str("everything fits\n");
            return text;
        }
        let mut rows = vec![["PROBLEM", "OF", "UPSTREAM ID", "PICTURE", "SEEN"].map(str::to_owned).to_vec()];
        rows.extend(self.findings.iter().map(row));
        text.push('\n');
        text.push_str(&table(&rows, &[]));
        text.push('\n');
        let mut kinds: Vec<FindingKind> = Vec::new();
        for finding in &self.findings {
            if !kinds.iter().any(|kind| kind.meaning() == finding.kind.meaning()) {
                kinds.push(finding.kind);
                let _ = writeln!(text, "{}: {}", finding.kind.name(), finding.kind.meaning());
            }
        }
        text
    }

    /// Returns the same for programs.
    pub(in crate::ledger) fn json(&self) -> Value {
        let problems: Vec<Value> = self
            .findings
            .iter()
            .map(|finding| {
                json!({
                    "problem": finding.kind.name(),
                    "id": finding.id,
                    "upstream_id": finding.upstream.as_ref().map(ToString::to_string),
                    "picture": finding.digest.map(|digest| digest.to_string()),
                    "seen": finding.seen,
                })
            })
            .collect();
        json!({
            "fits": self.fits(),
            "jobs": self.jobs,
            "pictures": self.pictures,
            "bytes": self.bytes,
            "problems": problems,
        })
    }
}

fn row(finding: &Finding) -> Vec<String> {
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let digest = finding.digest.map(|digest| digest.to_string()[..DIGEST_LENGTH].to_owned());
    vec![
        finding.kind.name().to_owned(),
        or_dash(finding.id.clone()),
        or_dash(finding.upstream.as_ref().map(ToString::to_string)),
        or_dash(digest),
        escape_control(&finding.seen),
    ]
}
