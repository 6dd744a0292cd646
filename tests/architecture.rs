//! Layout, imports and words of the source tree, checked as text: which module imports which, how wide folders and how
//! long files are, what comments cite, and which words name things.
//!
//! `src/README.md` draws the same table of modules and holds the glossary; both are compared with what stands here.
//! `cargo test --test architecture -- --nocapture measures` prints the figures.

use std::fmt::Write as _;

use crate::imports::Arrows;
use crate::tree::{Repository, Tree};

#[path = "architecture/documents.rs"]
mod documents;
#[path = "architecture/general.rs"]
mod general;
#[path = "architecture/imports.rs"]
mod imports;
#[path = "architecture/lexer.rs"]
mod lexer;
#[path = "architecture/owners.rs"]
mod owners;
#[path = "architecture/platform.rs"]
mod platform;
#[path = "architecture/shape.rs"]
mod shape;
#[path = "architecture/tree.rs"]
mod tree;
#[path = "architecture/words.rs"]
mod words;

/// Every arrow between modules. It equals what production code imports: an arrow more fails, and so does one less. Tests
/// inside `src` may use these arrows and no others. A new arrow changes this table and the map in `src/README.md`.
const ARROWS: Arrows<'_> = Arrows {
    // In the order a request travels.
    modules: &[
        // `storage` for the spool of uploads, `server` for the handle of the connection that carries a request.
        ("api", &["admission", "engine", "input_urls", "webhooks", "web", "http", "server", "storage", "openapi"]),
        ("admission", &["storage"]),
        // Changes while the gateway runs: of clients and accounts, of purchases, of the configuration.
        ("admin", &["admission", "budget", "server", "storage", "web", "openapi"]),
        ("engine", &["polling", "upstream", "budget", "storage", "input_urls"]),
        // Pure: when to poll, from the ages of jobs.
        ("polling", &[]),
        // Nothing leaves without a reservation of the budget; input URLs go into the submit.
        ("upstream", &["budget", "input_urls", "http"]),
        ("input_urls", &[]),
        // What it learned is a value, which the wiring stores.
        ("budget", &[]),
        // Learns of completed jobs through a trait of `model`, so that the engine does not know it.
        ("webhooks", &["storage"]),
        ("storage", &[]),
        // Status values, for the page and for `/status.json`; the files of the page.
        ("operator", &["engine", "budget", "admission", "web", "http", "server", "openapi"]),
        // Texts, a list of routes, and a page; it knows no handler.
        ("openapi", &["web"]),
        // Reads the journal, whether or not the gateway runs.
        ("ledger", &["storage"]),
        // Files that are embedded, and how they are served.
        ("web", &[]),
        ("http", &[]),
        ("server", &[]),
    ],
    // The foundations know no layer. The simulator is the upstream, and shares only the accept loop with the gateway.
    exact: &[
        ("model", &[]),
        ("config", &["model"]),
        ("telemetry", &["config"]),
        ("lifecycle", &[]),
        ("simulator", &["lifecycle", "server"]),
    ],
    foundations: &["model", "config", "telemetry", "lifecycle"],
    wiring: &["lib", "main", "app", "cli", "benching", "fuzzing"],
};

/// Modules whose purpose is to re-export.
const MAY_RE_EXPORT: &[&str] = &["lib", "main", "benching", "fuzzing"];

/// Crates that a module must not name, because another module owns what they do.
const NEVER: &[(&str, &[&str])] = &[
    ("model", &["axum", "reqwest", "tokio", "hyper", "rusqlite"]),
    ("polling", &["axum", "reqwest", "hyper", "rusqlite"]),
    ("api", &["reqwest", "rusqlite", "governor"]),
    ("engine", &["axum", "reqwest", "rusqlite", "hyper"]),
    ("admission", &["axum", "reqwest"]),
    ("storage", &["axum", "reqwest"]),
    ("budget", &["axum", "reqwest"]),
    ("operator", &["reqwest", "rusqlite"]),
    ("webhooks", &["axum", "rusqlite", "hyper"]),
    ("ledger", &["axum", "reqwest", "hyper"]),
];

/// Modules that build HTTP clients; `cli` is a client of gateways. `webhooks` does too, under a rule of its own.
const HTTP_CLIENTS: &[&str] = &["upstream", "simulator", "cli"];

/// Entries of a folder below `src`, files and folders together.
const WIDTH: usize = 12;

/// Lines of a file without its tests.
const LENGTH: usize = 450;

/// One longer file each, by the start of its path.
const LONGER: &[(&str, &str)] = &[("src/api/error", "the closed table of errors: one list, read from top to bottom")];

/// Methods of a type, in all its `impl` blocks but those of traits and for tests; and fields of a struct with methods.
const OBJECT: shape::ObjectLimits = shape::ObjectLimits { methods: 15, fields: 10, value_below: 5 };

/// Larger objects: the start of the path, the name, and the reason.
const LARGER: &[(&str, &str, &str)] = &[];

/// Entries of the glossary.
const GLOSSARY: usize = 40;

/// Lines of `src` and `config` with a word of `words::FORBIDDEN`: fewer than this.
const FORBIDDEN: usize = 10;

/// Cited names that are no files of this repository, and why.
const CITED_ELSEWHERE: &[(&str, &str)] = &[
    ("types/images/form.rs", "async-openai, whose requests tests/clients/senders.py sends"),
    ("codex-rs/codex-api/src/endpoint/images.rs", "Codex, likewise"),
    ("open_webui/routers/images.py", "Open WebUI, likewise"),
    ("comfy_api_nodes/nodes_openai.py", "ComfyUI, likewise"),
];

/// Files that name Linux-only paths and cope with their absence, and how.
const LINUX_ONLY: &[(&str, &str)] = &[];

fn holds(broken: &[String]) {
    assert!(broken.is_empty(), "{} found:\n{}\n", broken.len(), broken.join("\n"));
}

#[test]
fn imports_equal_the_table() {
    let (extra, missing) = imports::check_arrows(Tree::here(), ARROWS);
    holds(&[extra, missing].concat());
}

#[test]
fn every_module_has_its_row() {
    holds(&imports::check_rows(Repository::here(), ARROWS));
}

#[test]
fn the_map_equals_the_table() {
    let readme = Repository::here().texts.get("src/README.md").map_or("", String::as_str);
    holds(&documents::check_map(readme, ARROWS));
}

#[test]
fn no_module_re_exports_another() {
    holds(&imports::check_re_exports(Tree::here(), MAY_RE_EXPORT));
}

#[test]
fn files_of_a_module_form_no_loop() {
    let loops = imports::loops(Tree::here());
    holds(&loops.iter().map(imports::Loop::message).collect::<Vec<_>>());
}

#[test]
fn folders_are_not_wider_than_a_screen() {
    holds(&shape::check_widths(Repository::here(), WIDTH));
}

#[test]
fn files_are_not_longer_than_one_subject() {
    holds(&shape::check_lengths(Tree::here(), LENGTH, LONGER));
}

#[test]
fn objects_are_small() {
    holds(&shape::check_objects(Tree::here(), OBJECT, LARGER));
}

#[test]
fn comments_cite_files_that_exist() {
    holds(&documents::dead_citations(Repository::here(), CITED_ELSEWHERE));
}

#[test]
fn the_glossary_is_short() {
    let readme = Repository::here().texts.get("src/README.md").map_or("", String::as_str);
    holds(&words::check_glossary(readme, GLOSSARY));
}

#[test]
fn names_use_general_words_and_the_glossary() {
    holds(&words::check_unknown(Repository::here(), Tree::here()));
}

#[test]
fn texts_say_who_and_how_much() {
    holds(&words::check_forbidden(Repository::here(), FORBIDDEN));
}

#[test]
fn crates_stay_with_their_owners() {
    holds(&owners::check_crates(Tree::here(), NEVER));
}

#[test]
fn only_two_modules_build_http_clients_and_only_the_upstream_has_the_key() {
    holds(&owners::check_clients(Tree::here(), HTTP_CLIENTS));
}

#[test]
fn linux_only_calls_are_guarded() {
    holds(&platform::linux_only(Repository::here(), Tree::here(), LINUX_ONLY));
}

/// Prints the figures when run with `--nocapture`. Never fails.
#[test]
fn measures() {
    println!("{}", report(Repository::here(), Tree::here()));
}

fn report(repository: &Repository, tree: &Tree<'_>) -> String {
    let mut out = String::from("\n");
    let mut row = |name: &str, value: String, details: Vec<String>| {
        let _ = writeln!(out, "{name:<58} {value}");
        for detail in details {
            let _ = writeln!(out, "    {detail}");
        }
    };
    let (extra, missing) = imports::check_arrows(tree, ARROWS);
    row("arrows of the table that the code does not have", missing.len().to_string(), missing);
    row("imports that the table does not have", extra.len().to_string(), extra);
    let re_exports = imports::check_re_exports(tree, MAY_RE_EXPORT);
    row("re-exports across a wall", re_exports.len().to_string(), re_exports);
    let loops = imports::loops(tree);
    let circles = loops.iter().map(|found| format!("{}: {}", found.parent, found.children.join(", "))).collect();
    row("loops inside modules", loops.len().to_string(), circles);
    let widths = shape::widths(repository);
    let widest = widths.first().map_or_else(String::new, |(count, folder)| format!("{count} ({folder})"));
    row("entries of the widest folder", widest, shape::check_widths(repository, WIDTH));
    let private = words::private(repository, tree);
    let names: usize = private.values().map(Vec::len).sum();
    row(
        "private words in names of files and public types",
        format!("{} in {names} names", private.len()),
        private.iter().map(|(word, names)| format!("{word}: {}", names.join(", "))).collect(),
    );
    let unknown = words::unknown(repository, tree);
    let listed = unknown.keys().cloned().collect::<Vec<_>>().join(" ");
    row("words of names outside the glossary", unknown.len().to_string(), vec![listed]);
    let forbidden = words::forbidden(repository);
    let total: usize = forbidden.iter().map(|(_, places)| places.len()).sum();
    let groups = forbidden.iter().map(|(group, places)| format!("{:>4} {group}", places.len())).collect();
    row("lines of src and config with forbidden words", total.to_string(), groups);
    let dead = documents::dead_citations(repository, CITED_ELSEWHERE);
    row("dead citations", dead.len().to_string(), dead);
    let lines = |path: &str| repository.texts.get(path).map_or(0, |text| text.lines().count());
    row("lines of README.md", lines("README.md").to_string(), Vec::new());
    row("lines of src/README.md", lines("src/README.md").to_string(), Vec::new());
    let glossary = repository.texts.get("src/README.md").map_or(0, |text| words::glossary(text).len());
    row("entries of the glossary", glossary.to_string(), Vec::new());
    let figures =
        |o: &shape::Object| format!("{:>3} methods, {:>2} fields: {} ({})", o.methods, o.fields, o.name, o.path);
    let five = |objects: &[shape::Object]| objects.iter().take(5).map(figures).collect();
    let mut objects = shape::objects(tree);
    objects.sort_by_key(|object| std::cmp::Reverse(object.methods));
    row(
        "methods of the largest object",
        objects.first().map_or(0, |object| object.methods).to_string(),
        five(&objects),
    );
    objects.retain(|object| object.methods >= OBJECT.value_below);
    objects.sort_by_key(|object| std::cmp::Reverse(object.fields));
    row(
        "fields of the largest struct with five methods or more",
        objects.first().map_or(0, |object| object.fields).to_string(),
        five(&objects),
    );
    let large = shape::large_objects(tree, OBJECT);
    row("objects of more than 15 methods or 10 fields", large.len().to_string(), large.iter().map(figures).collect());
    let long = shape::long_files(tree, LENGTH);
    let files = long.iter().map(|(lines, path)| format!("{lines:>4} {path}")).collect();
    row("production files over 450 lines", long.len().to_string(), files);
    let production: Vec<usize> =
        tree.files.iter().map(tree::File::production_lines).filter(|lines| *lines > 0).collect();
    row(
        "production files, and their lines",
        format!("{}, {}", production.len(), production.iter().sum::<usize>()),
        Vec::new(),
    );
    let linux = platform::linux_only(repository, tree, LINUX_ONLY);
    row("unguarded Linux-only calls", linux.len().to_string(), linux);
    out
}
