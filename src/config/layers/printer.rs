//! The configuration in force as a TOML file, with where each value was written. Secrets are not in it.

use std::fmt::Write;

use toml::{Table, Value};

use super::types::{ACCOUNTS, CLIENTS};
use super::{CLIENTS_SECTION, Layers, is_changed, reference};

/// The column of the comments, unless a value is longer.
const COLUMN: usize = 52;
/// How much of a digest is shown.
const DIGEST_CHARS: usize = 8;

/// Writes every key of the reference, or those that differ from it, then the lists of tables.
pub(in crate::config) fn print(layers: &Layers, only_changed: bool) -> String {
    let mut text = String::new();
    for section in reference::sections() {
        let mut lines = String::new();
        for key in section.keys.iter().filter(|key| !only_changed || is_changed(&layers.table, key)) {
            let value = layers.table.get(&section.name).and_then(|keys| keys.get(&key.name)).unwrap_or(&key.default);
            let origin = layers.origins.of(&key.path()).map_or_else(|| "default".to_owned(), ToString::to_string);
            line(&mut lines, &key.name, value, &origin);
        }
        if !lines.is_empty() {
            let _ = write!(text, "[{}]\n{lines}\n", section.name);
        }
    }
    let accounts = layers.table.get("upstream").and_then(|section| section.get("accounts"));
    entries(&mut text, layers, ACCOUNTS.name(), accounts);
    entries(&mut text, layers, CLIENTS.name(), layers.table.get(CLIENTS_SECTION));
    text
}

fn entries(text: &mut String, layers: &Layers, name: &str, list: Option<&Value>) {
    for (position, entry) in list.and_then(Value::as_array).into_iter().flatten().enumerate() {
        let origin = layers.origins.of(&format!("{name}, entry {}", position + 1));
        let origin = origin.map(ToString::to_string).unwrap_or_default();
        let _ = writeln!(text, "[[{name}]]{:1$}# {origin}", "", COLUMN.saturating_sub(name.len() + 4).max(1));
        for (key, value) in entry.as_table().unwrap_or(&Table::new()) {
            match value.as_str().filter(|_| key == "key_digest") {
                Some(digest) => {
                    let start: String = digest.chars().take(DIGEST_CHARS).collect();
                    line(text, key, &Value::String(format!("{start}…")), "shortened");
                }
                None => line(text, key, value, ""),
            }
        }
        text.push('\n');
    }
}

fn line(text: &mut String, name: &str, value: &Value, comment: &str) {
    let assignment = format!("{name} = {value}");
    let _ = if comment.is_empty() {
        writeln!(text, "{assignment}")
    } else {
        writeln!(text, "{assignment:COLUMN$} # {comment}")
    };
}
