//! Arrows between modules, re-exports across their walls, and loops between the files of one.

use std::collections::{BTreeMap, BTreeSet};

use crate::tree::{Mention, Repository, Target, Tree, ending};

/// Modules and what each may import.
pub(crate) type Table<'a> = &'a [(&'a str, &'a [&'a str])];

/// The rules for arrows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrows<'a> {
    /// May import the foundations, and exactly these besides.
    pub(crate) modules: Table<'a>,
    /// May import exactly these: the foundations themselves, and what shares no code with the rest.
    pub(crate) exact: Table<'a>,
    pub(crate) foundations: &'a [&'a str],
    /// May import everything; only `main` and the library's root may import them.
    pub(crate) wiring: &'a [&'a str],
}

/// An import of one module by another, where it was first seen.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) place: String,
    pub(crate) test: bool,
}

/// Every arrow that the code has: by importer and imported, production before tests.
pub(crate) fn arrows(tree: &Tree<'_>) -> BTreeMap<(String, String), Seen> {
    let mut found: BTreeMap<(String, String), Seen> = BTreeMap::new();
    for mention in &tree.mentions {
        let file = tree.file_of(mention.module);
        for other in imported(tree, mention) {
            if other != file.top() {
                let seen = Seen { place: format!("{}:{}", file.path, mention.line), test: mention.test };
                let entry = found.entry((file.top().to_owned(), other));
                let known = entry.or_insert_with(|| Seen { place: seen.place.clone(), test: seen.test });
                if known.test && !seen.test {
                    *known = seen;
                }
            }
        }
    }
    found
}

/// The modules that a path names: the one in its text, and the one that defines what it names.
fn imported(tree: &Tree<'_>, mention: &Mention) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    if let Some(path) = tree.absolute(mention.module, &mention.segments) {
        match path.first() {
            Some(first) if tree.modules[0].children.contains_key(first) => drop(found.insert(first.clone())),
            None if mention.glob => drop(found.insert("*".to_owned())),
            _ => {}
        }
    }
    if let Target::Item(module, _) = tree.resolve(mention.module, &mention.segments)
        && let Some(top) = tree.modules[module].path.first()
    {
        found.insert(top.clone());
    }
    found
}

/// Arrows that the table does not have, and arrows of the table that no production code needs.
pub(crate) fn check_arrows(tree: &Tree<'_>, rules: Arrows<'_>) -> (Vec<String>, Vec<String>) {
    let (mut extra, mut missing) = (Vec::new(), Vec::new());
    let seen = arrows(tree);
    for ((from, to), seen) in &seen {
        let allowed = if let Some(imports) = row(rules.modules, from) {
            imports.contains(&to.as_str()) || rules.foundations.contains(&to.as_str())
        } else if let Some(imports) = row(rules.exact, from) {
            imports.contains(&to.as_str())
        } else {
            rules.wiring.contains(&from.as_str())
        };
        if !allowed {
            extra.push(format!(
                "{}: `{from}` imports `{to}`, which its row does not allow. Move the item, pass a value, or add the arrow to the table and to the map.",
                seen.place
            ));
        }
    }
    for (module, imports) in rules.modules.iter().chain(rules.exact) {
        for import in *imports {
            let known = seen.get(&((*module).to_owned(), (*import).to_owned()));
            if known.is_none_or(|seen| seen.test) {
                missing.push(format!(
                    "tests/architecture.rs: the table lets `{module}` import `{import}`, and no production code does. Remove the arrow from the table and from the map."
                ));
            }
        }
    }
    (extra, missing)
}

fn row<'a>(table: Table<'a>, module: &str) -> Option<&'a [&'a str]> {
    table.iter().find(|(name, _)| *name == module).map(|&(_, imports)| imports)
}

/// Modules without a row, and rows without a module.
pub(crate) fn check_rows(repository: &Repository, rules: Arrows<'_>) -> Vec<String> {
    let rows: BTreeSet<&str> = rules.modules.iter().chain(rules.exact).map(|&(module, _)| module).collect();
    let mut modules = BTreeSet::new();
    for path in &repository.paths {
        if let Some(name) = path.strip_prefix("src/")
            && !name.contains('/')
            && (ending(name) == "rs" || !name.contains('.'))
        {
            modules.insert(name.trim_end_matches(".rs"));
        }
    }
    let mut broken = Vec::new();
    for module in modules.iter().filter(|module| !rows.contains(**module) && !rules.wiring.contains(*module)) {
        broken.push(format!(
            "src/{module}: no row of the table in tests/architecture.rs. Add one, and a line of the map."
        ));
    }
    for row in rows.iter().filter(|row| !modules.contains(**row)) {
        broken.push(format!("tests/architecture.rs: the table has a row for `{row}`, and there is no such module."));
    }
    for foundation in rules.foundations.iter().filter(|name| !rows.contains(**name)) {
        broken.push(format!("tests/architecture.rs: the foundation `{foundation}` has no row of its own."));
    }
    broken
}

/// `pub use` of what another module defines.
pub(crate) fn check_re_exports(tree: &Tree<'_>, exempt: &[&str]) -> Vec<String> {
    let mut broken = Vec::new();
    for mention in tree.mentions.iter().filter(|mention| mention.public && !mention.test) {
        let file = tree.file_of(mention.module);
        if exempt.contains(&file.top()) {
            continue;
        }
        for other in imported(tree, mention) {
            if other != file.top() {
                broken.push(format!(
                    "{}:{}: `{}` re-exports `{}`. Let the users import it from `{other}`.",
                    file.path,
                    mention.line,
                    file.top(),
                    mention.segments.join("::")
                ));
            }
        }
    }
    broken
}

/// Files of one module that import each other in a circle.
#[derive(Debug)]
pub(crate) struct Loop {
    /// The module whose children they are.
    pub(crate) parent: String,
    /// Each child stands for its file and everything below it.
    pub(crate) children: Vec<String>,
    /// One import for each arrow of the loop.
    pub(crate) places: Vec<String>,
}

impl Loop {
    pub(crate) fn message(&self) -> String {
        format!(
            "{}: {} import each other in a circle. Move what they share into a file that imports none of them. The imports:\n    {}",
            self.parent,
            self.children.join(", "),
            self.places.join("\n    ")
        )
    }
}

/// Loops between siblings, at every level of the modules, in production code.
///
/// A child stands for its file and everything below it: `events` that imports from `predictions::statuses` imports
/// `predictions`. An import is followed through re-exports to the file that defines the item. A file and its parents
/// may import each other: the file at the front of a folder declares its children, composes them and defines the words
/// they share. What it re-exports counts as an import of the child that defines it.
pub(crate) fn loops(tree: &Tree<'_>) -> Vec<Loop> {
    // By parent: from child to child, with an import that shows it.
    let mut levels: BTreeMap<Vec<String>, BTreeMap<(String, String), String>> = BTreeMap::new();
    for mention in tree.mentions.iter().filter(|mention| !mention.test) {
        let file = tree.file_of(mention.module);
        for module in defining(tree, mention) {
            let (from, to) = (&file.module, &tree.file_of(module).module);
            let shared = from.iter().zip(to).take_while(|(a, b)| a == b).count();
            // Between top-level modules the table decides, between a file and its parents nothing.
            if shared == 0 || shared == from.len() || shared == to.len() {
                continue;
            }
            let arrow = (from[shared].clone(), to[shared].clone());
            let place = format!("{}:{}: {} → {}", file.path, mention.line, arrow.0, arrow.1);
            levels.entry(from[..shared].to_vec()).or_default().entry(arrow).or_insert(place);
        }
    }
    let mut found = Vec::new();
    for (parent, arrows) in levels {
        for children in circles(&arrows) {
            let places = arrows
                .iter()
                .filter(|((from, to), _)| children.contains(from) && children.contains(to))
                .map(|(_, place)| place.clone())
                .collect();
            found.push(Loop { parent: format!("src/{}", parent.join("/")), children, places });
        }
    }
    found
}

/// The modules that define what a path names. Naming a module is no use of what is in it; a glob uses all that it hands on.
fn defining(tree: &Tree<'_>, mention: &Mention) -> Vec<usize> {
    match tree.resolve(mention.module, &mention.segments) {
        Target::Item(module, _) => vec![module],
        Target::Module(module) if mention.glob => {
            let here = &tree.modules[module];
            let mut found = vec![module];
            for import in here.imports.values().chain(&here.globs) {
                if let Target::Item(origin, _) = tree.resolve(module, &import.segments) {
                    found.push(origin);
                }
            }
            found
        }
        Target::Module(_) | Target::Outside => Vec::new(),
    }
}

/// Groups of nodes that reach each other.
fn circles(arrows: &BTreeMap<(String, String), String>) -> Vec<Vec<String>> {
    let mut reach: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (from, _) in arrows.keys() {
        let mut waiting = vec![from.as_str()];
        let mut seen = BTreeSet::new();
        while let Some(node) = waiting.pop() {
            for (_, to) in arrows.keys().filter(|(from, _)| from == node) {
                if seen.insert(to.as_str()) {
                    waiting.push(to);
                }
            }
        }
        reach.insert(from, seen);
    }
    let mut groups: BTreeSet<Vec<String>> = BTreeSet::new();
    for (&node, seen) in &reach {
        if seen.contains(node) {
            let back = |other: &&str| reach.get(other).is_some_and(|others| others.contains(node));
            groups.insert(seen.iter().copied().filter(back).map(str::to_owned).collect());
        }
    }
    groups.into_iter().collect()
}

#[cfg(test)]
mod planted {
    use super::*;

    const RULES: Arrows<'_> = Arrows {
        modules: &[("api", &["engine"]), ("engine", &["storage"]), ("storage", &[])],
        exact: &[("model", &[])],
        foundations: &["model"],
        wiring: &["lib", "app"],
    };
    const LIB: (&str, &str) = ("src/lib.rs", "mod api;\nmod engine;\nmod storage;\nmod model;\nmod app;\n");
    const MODEL: (&str, &str) = ("src/model.rs", "pub struct Id;\n");
    const STORAGE: (&str, &str) = ("src/storage.rs", "pub(crate) struct Spool;\n");
    const ENGINE: (&str, &str) = ("src/engine.rs", "use crate::{model::Id, storage};\npub(crate) struct Engine;\n");
    const API: (&str, &str) = ("src/api.rs", "use crate::engine::{self, Engine};\n");

    fn arrows_of(files: &[(&str, &str)]) -> (Vec<String>, Vec<String>) {
        let repository = Repository::of(files);
        check_arrows(&Tree::new(&repository), RULES)
    }

    fn loops_of(files: &[(&str, &str)]) -> Vec<Vec<String>> {
        let repository = Repository::of(files);
        loops(&Tree::new(&repository)).into_iter().map(|found| found.children).collect()
    }

    #[test]
    fn a_tree_as_the_table_has_it_passes() {
        let files = [LIB, MODEL, STORAGE, ENGINE, API];
        assert_eq!(arrows_of(&files), (vec![], vec![]));
        assert!(check_re_exports(&Tree::new(&Repository::of(&files)), &[]).is_empty());
        assert!(loops_of(&files).is_empty());
    }

    #[test]
    fn an_arrow_too_many_is_found_in_every_spelling() {
        for text in [
            "use crate::storage::Spool;",
            "use crate::{model::Id, storage::{self, Spool as Other}};",
            "pub(crate) use crate::storage::Spool;",
            "fn f() { let _ = crate::storage::Spool; }",
            "use super::storage::Spool;",
            "mod inner { use super::super::storage::Spool; }",
            "fn f(x: &(impl Into<crate::storage::Spool> + Sized)) {}",
            "#[cfg(test)] mod tests { use crate::storage::Spool; }",
        ] {
            let api = format!("use crate::engine::Engine;\n{text}\n");
            let (extra, missing) = arrows_of(&[LIB, MODEL, STORAGE, ENGINE, ("src/api.rs", &api)]);
            assert_eq!((extra.len(), missing.len()), (1, 0), "{text}: {extra:?}");
            assert!(extra[0].starts_with("src/api.rs:2: `api` imports `storage`"), "{extra:?}");
        }
        for text in [
            "// use crate::storage::Spool;",
            "/// [`crate::storage::Spool`]\nfn f() {}",
            "const T: &str = \"crate::storage::X\";",
        ] {
            let api = format!("use crate::engine::Engine;\n{text}\n");
            assert_eq!(arrows_of(&[LIB, MODEL, STORAGE, ENGINE, ("src/api.rs", &api)]), (vec![], vec![]), "{text}");
        }
        let (extra, _) = arrows_of(&[LIB, ("src/model.rs", "use crate::app::X;"), ("src/app.rs", "pub struct X;")]);
        assert!(extra[0].contains("`model` imports `app`"), "{extra:?}");
    }

    #[test]
    fn an_arrow_through_a_re_export_counts_for_its_origin() {
        let engine = ("src/engine.rs", "pub(crate) use crate::storage::Spool;\npub(crate) struct Engine;");
        let files = [LIB, MODEL, STORAGE, engine, ("src/api.rs", "use crate::engine::Spool;")];
        let (extra, _) = arrows_of(&files);
        assert!(extra.len() == 1 && extra[0].contains("`api` imports `storage`"), "{extra:?}");
        let broken = check_re_exports(&Tree::new(&Repository::of(&files)), &[]);
        assert!(broken.len() == 1 && broken[0].starts_with("src/engine.rs:1: `engine` re-exports"), "{broken:?}");
    }

    #[test]
    fn a_re_export_of_an_imported_name_is_found() {
        let engine = ("src/engine.rs", "use crate::storage;\npub use storage::Spool;");
        let broken = check_re_exports(&Tree::new(&Repository::of(&[LIB, STORAGE, engine])), &[]);
        assert_eq!(broken.len(), 1, "{broken:?}");
    }

    #[test]
    fn an_arrow_that_is_gone_is_found() {
        let (extra, missing) =
            arrows_of(&[LIB, MODEL, STORAGE, ENGINE, ("src/api.rs", "#[cfg(test)] use crate::engine::Engine;")]);
        assert!(extra.is_empty());
        assert!(missing.len() == 1 && missing[0].contains("lets `api` import `engine`"), "{missing:?}");
    }

    #[test]
    fn rows_and_modules_are_compared() {
        let repository = Repository::of(&[LIB, MODEL, STORAGE, API, ("src/news/x.rs", ""), ("src/README.md", "")]);
        let broken = check_rows(&repository, RULES);
        assert_eq!(broken.len(), 2, "{broken:?}");
        assert!(broken[0].starts_with("src/news: no row") && broken[1].contains("`engine`"), "{broken:?}");
    }

    #[test]
    fn loops_between_siblings_are_found() {
        let front = ("src/a.rs", "mod b;\nmod c;\nmod d;\npub(crate) use b::Inner;\npub(crate) struct Shared;\n");
        // Through the parent's re-export, with a folder on one side; the parent's own item is no loop.
        let b =
            ("src/a/b.rs", "mod inner;\npub(super) use inner::Inner;\nuse super::{c, Shared};\nfn f() { c::g(); }\n");
        let inner = ("src/a/b/inner.rs", "pub(crate) struct Inner;");
        let c = ("src/a/c.rs", "use super::Inner;\npub(super) fn g() {}\n");
        let d = ("src/a/d.rs", "use super::b;\nuse crate::a::Shared;\n");
        assert_eq!(loops_of(&[front, b, inner, c, d]), [["b", "c"]]);
        let tests = ("src/a/c.rs", "#[cfg(test)]\nmod tests { use super::super::Inner; }\npub(super) fn g() {}\n");
        assert!(loops_of(&[front, b, inner, tests, d]).is_empty());
        let glob = ("src/a/c.rs", "use super::*;\npub(super) fn g() {}\n");
        assert_eq!(loops_of(&[front, b, inner, glob, d]), [["b", "c"]]);
    }

    #[test]
    fn three_files_in_a_circle_are_one_loop() {
        let files = [
            ("src/a.rs", "mod b; mod c; mod d;"),
            ("src/a/b.rs", "fn f() { crate::a::c::f(); }"),
            ("src/a/c.rs", "use super::d::f as g; pub fn f() {}"),
            ("src/a/d.rs", "use super::b; pub fn f() { b::f(); }"),
        ];
        assert_eq!(loops_of(&files), [["b", "c", "d"]]);
    }
}
