//! The house, checked: which module may import which. A new arrow changes this table in the same commit, and is
//! thereby a decision.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// May be imported by everybody: the words, one's own section of the configuration, how the process speaks and stops,
/// and the shape of bodies with pictures.
const EVERYBODY: &[&str] = &["model", "config", "telemetry", "lifecycle", "payload"];

/// Every module, in the order a request travels, with what it may import besides [`EVERYBODY`].
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("api", &["admission", "engine", "lending", "webhooks"]),
    ("admission", &["budget", "storage"]),
    ("engine", &["upstream", "budget", "storage", "lending"]),
    ("upstream", &["budget", "lending"]),
    // Pictures that one lends and the other serves.
    ("lending", &[]),
    ("budget", &["storage"]),
    // Told of ended orders through a trait of `model`, so that the engine does not know it.
    ("webhooks", &["storage"]),
    ("storage", &[]),
    ("operator", &["engine", "budget", "admission", "storage"]),
];

/// Modules that everybody may import must not themselves know the layers.
const FOUNDATIONS: &[(&str, &[&str])] =
    &[("model", &[]), ("config", &["model"]), ("telemetry", &["config"]), ("lifecycle", &[]), ("payload", &["model"])];

/// The upstream as a small world of its own: it shares no code with the gateway, and only the wiring knows it.
const SIMULATOR: (&str, &[&str]) = ("simulator", &["lifecycle"]);

/// Crates that a module must not name, because somebody else owns what they do.
const NEVER: &[(&str, &[&str])] = &[
    ("model", &["axum", "reqwest", "tokio", "hyper"]),
    ("api", &["reqwest", "rusqlite", "governor"]),
    ("engine", &["axum", "reqwest", "rusqlite", "hyper"]),
    ("admission", &["axum", "reqwest"]),
    ("storage", &["axum", "reqwest"]),
    ("budget", &["axum", "reqwest"]),
    ("operator", &["reqwest", "rusqlite"]),
    ("webhooks", &["axum", "rusqlite", "hyper"]),
];

#[test]
fn imports_follow_the_data() {
    let mut broken = Vec::new();
    for &(module, allowed) in MAY_IMPORT {
        let allowed: BTreeSet<&str> = allowed.iter().chain(EVERYBODY).copied().collect();
        check(module, &allowed, &mut broken);
    }
    for &(module, allowed) in FOUNDATIONS.iter().chain([&SIMULATOR]) {
        check(module, &allowed.iter().copied().collect(), &mut broken);
    }
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

#[test]
fn every_module_has_its_row() {
    let listed: BTreeSet<&str> = MAY_IMPORT.iter().chain(FOUNDATIONS).map(|&(module, _)| module).collect();
    // The wiring may know everybody.
    let wiring = ["lib", "main", "app", "benching", "fuzzing", SIMULATOR.0];
    for entry in fs::read_dir(src()).expect("the sources are there") {
        let path = entry.expect("the sources can be read").path();
        let Some(name) = path.file_stem().and_then(|name| name.to_str()) else { continue };
        assert!(listed.contains(name) || wiring.contains(&name), "src/{name} is in no row of the table");
    }
}

#[test]
fn crates_stay_with_their_owners() {
    let mut broken = Vec::new();
    for &(module, crates) in NEVER {
        for (file, text) in sources(module) {
            for &name in crates {
                if code(&text).contains(&format!("{name}::")) {
                    broken.push(format!("{file}: {module} may not use {name}"));
                }
            }
        }
    }
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

#[test]
fn only_two_modules_build_http_clients_and_only_the_upstream_has_the_key() {
    for entry in fs::read_dir(src()).expect("the sources are there") {
        let path = entry.expect("the sources can be read").path();
        let module = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        if matches!(module.as_str(), "upstream" | "simulator") {
            continue;
        }
        for (file, text) in sources(&module) {
            let code = code(&text);
            if module == "webhooks" {
                // Sends to addresses of clients, so it must have nothing that they must not see. It is no part of the
                // upstream: it is told by the engine, survives by the journal, and asks for no reservation.
                for forbidden in ["AUTHORIZATION", "bearer_auth", "Account", "UpstreamConfig", "api_key", "cookie"] {
                    assert!(!code.contains(forbidden), "{file} has {forbidden}");
                }
                continue;
            }
            for forbidden in ["reqwest::Client", "Client::builder", "hyper_util::client"] {
                assert!(!code.contains(forbidden), "{file} builds an HTTP client");
            }
        }
    }
}

#[test]
fn a_planted_import_is_found() {
    let text = "use crate::engine::Engine;\n// use crate::upstream::Error;\nuse crate::{budget::Budget, model};\n";
    let found = imports(text);
    assert_eq!(found.into_iter().collect::<Vec<_>>(), ["budget", "engine", "model"]);
}

fn check(module: &str, allowed: &BTreeSet<&str>, broken: &mut Vec<String>) {
    for (file, text) in sources(module) {
        for import in imports(&text) {
            if import != module && !allowed.contains(import.as_str()) {
                broken.push(format!("{file}: {module} may not import {import}"));
            }
        }
    }
}

fn src() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// `module.rs` and everything below `module/`, with names to show.
fn sources(module: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut waiting = vec![src().join(format!("{module}.rs")), src().join(module)];
    while let Some(path) = waiting.pop() {
        if path.is_dir() {
            let entries = fs::read_dir(&path).expect("a folder of sources can be read");
            waiting.extend(entries.map(|entry| entry.expect("a folder of sources can be read").path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).expect("a source can be read");
            let name = path.strip_prefix(src()).unwrap_or(&path).display().to_string();
            found.push((name, text));
        }
    }
    found
}

/// The text without comment lines.
fn code(text: &str) -> String {
    text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// The modules that `crate::x` and `crate::{x, y::z}` name outside comments.
fn imports(text: &str) -> BTreeSet<String> {
    let code = code(text);
    let mut found = BTreeSet::new();
    for (_, rest) in code.match_indices("crate::").map(|(at, word)| (at, &code[at + word.len()..])) {
        if let Some(group) = rest.strip_prefix('{') {
            let mut depth = 1;
            let mut names = vec![String::new()];
            for c in group.chars() {
                match c {
                    '{' => depth += 1,
                    '}' => depth -= 1,
                    ',' if depth == 1 => names.push(String::new()),
                    _ => names.last_mut().expect("never empty").push(c),
                }
                if depth == 0 {
                    break;
                }
            }
            found.extend(names.iter().filter_map(|name| first_word(name.trim())));
        } else {
            found.extend(first_word(rest));
        }
    }
    found
}

fn first_word(text: &str) -> Option<String> {
    let word: String = text.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect();
    (!word.is_empty()).then_some(word)
}
