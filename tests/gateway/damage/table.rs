//! The table: what is damaged, and the verdict that it demands.

use super::files::{Damage, Place};
use super::prepared::Snapshot::{self, Killed, Stopped};
use super::row::{Change, Repeat, Row, Target, UpstreamMemory, Verdict, When};

fn row(name: impl Into<String>, snapshot: Snapshot, damages: &[(Target, Damage)], verdict: Verdict) -> Row {
    Row {
        name: name.into(),
        snapshot,
        damages: damages.iter().map(|&(target, damage)| (target, Change::Damage(damage))).collect(),
        when: When::Down,
        arguments: &["serve"],
        upstream: UpstreamMemory::Keeps,
        verdict,
        repeats: Vec::new(),
    }
}

/// All rows.
pub(super) fn rows() -> Vec<Row> {
    vec![
        row("nothing, after a kill", Killed, &[], Verdict::Serves(vec![])),
        row("nothing, after a stop", Stopped, &[], Verdict::Serves(vec![])),
    ]
}
