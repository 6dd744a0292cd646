//! What comments and documents say of files and modules, held to the repository.

use std::collections::{BTreeMap, BTreeSet};

use crate::imports::Arrows;
use crate::lexer::lex;
use crate::tree::{Repository, ending};

/// The lines of the section with that heading, with their numbers, up to the next heading of the same level or above.
pub(crate) fn section<'a>(text: &'a str, heading: &str) -> Vec<(usize, &'a str)> {
    let level = |line: &str| line.bytes().take_while(|b| *b == b'#').count();
    let mut lines = text
        .lines()
        .enumerate()
        .map(|(at, line)| (at + 1, line))
        .skip_while(|(_, line)| level(line) == 0 || !line.trim_matches(['#', ' ']).eq_ignore_ascii_case(heading));
    let Some((_, first)) = lines.next() else { return Vec::new() };
    let own = level(first);
    lines.take_while(|(_, line)| !(1..=own).contains(&level(line))).collect()
}

/// One line of the map for each module, as it has to stand in `src/README.md`.
pub(crate) fn map_lines(rules: Arrows<'_>) -> Vec<String> {
    let quoted = |imports: &[&str]| match imports {
        [] => "nothing".to_owned(),
        imports => imports.iter().map(|import| format!("`{import}`")).collect::<Vec<_>>().join(", "),
    };
    let rows = rules.modules.iter().chain(rules.exact);
    rows.map(|(module, imports)| format!("- `{module}` → {}", quoted(imports))).collect()
}

/// The lines of section "Map" (a bullet, the module, `→`, what it imports, then any text behind a colon) against the table.
pub(crate) fn check_map(readme: &str, rules: Arrows<'_>) -> Vec<String> {
    let names = |text: &str| -> Vec<String> { text.split('`').skip(1).step_by(2).map(str::to_owned).collect() };
    let mut drawn: BTreeMap<String, (usize, BTreeSet<String>)> = BTreeMap::new();
    let mut broken = Vec::new();
    for (number, line) in section(readme, "Map") {
        let Some((module, imports)) = line.trim_start().strip_prefix("- ").and_then(|line| line.split_once('→'))
        else {
            continue;
        };
        let imports = imports.split(':').next().unwrap_or_default();
        let Some(module) = names(module).pop() else { continue };
        if rules.wiring.contains(&module.as_str()) {
            continue;
        }
        if drawn.insert(module.clone(), (number, names(imports).into_iter().collect())).is_some() {
            broken.push(format!("src/README.md:{number}: the map has `{module}` twice."));
        }
    }
    let wanted = map_lines(rules);
    for ((module, imports), line) in rules.modules.iter().chain(rules.exact).zip(&wanted) {
        let expected: BTreeSet<String> = imports.iter().map(|import| (*import).to_owned()).collect();
        match drawn.remove(*module) {
            Some((_, found)) if found == expected => {}
            Some((number, _)) => {
                broken.push(format!("src/README.md:{number}: the table in tests/architecture.rs has: {line}"));
            }
            None => broken.push(format!("src/README.md: section \"Map\" lacks the line: {line}")),
        }
    }
    for (module, (number, _)) in drawn {
        broken.push(format!("src/README.md:{number}: `{module}` is no module of the table in tests/architecture.rs."));
    }
    broken
}

/// Endings of files that comments cite.
const ENDINGS: [&str; 14] =
    ["md", "rs", "toml", "py", "sh", "mjs", "yaml", "yml", "sql", "html", "css", "snap", "dict", "example"];

/// What a path of the repository starts with. `wire` and `docs` are gone, and citing them is a mistake.
const ROOTS: [&str; 8] = ["src", "tests", "config", "benches", "deploy", "wire", "docs", ".ci"];

/// Citations of files that are not there.
pub(crate) fn dead_citations(repository: &Repository, exempt: &[(&str, &str)]) -> Vec<String> {
    let mut broken = Vec::new();
    for (path, text) in &repository.texts {
        let markdown = ending(path) == "md";
        let for_users = markdown && !path.starts_with("src/");
        for (line, comment) in comments(path, text) {
            for word in cited(comment, for_users) {
                let by_name = markdown && has_file_named(repository, word);
                if !by_name && !is_there(repository, path, word) && !exempt.iter().any(|(name, _)| *name == word) {
                    broken.push(format!(
                        "{path}:{line}: `{word}` is no file of this repository. Cite one that is, or state the fact."
                    ));
                }
            }
        }
    }
    broken
}

/// The comments of a file, or all of a Markdown file, by line.
fn comments<'a>(path: &str, text: &'a str) -> Vec<(usize, &'a str)> {
    let lines = text.lines().enumerate().map(|(at, line)| (at + 1, line));
    match ending(path) {
        "rs" => lex(text).comments.into_iter().map(|comment| (comment.line, comment.text)).collect(),
        "md" => lines.collect(),
        "mjs" | "js" => lines.filter_map(|(at, line)| behind(line, "//").map(|text| (at, text))).collect(),
        "py" => {
            let mut inside = false;
            let mut found = Vec::new();
            for (at, line) in lines {
                let quotes = line.matches("\"\"\"").count();
                let starts = line.trim_start().starts_with("\"\"\"");
                if inside || starts {
                    found.push((at, line));
                } else if let Some(text) = behind(line, "#") {
                    found.push((at, text));
                }
                if quotes % 2 == 1 && (inside || starts) {
                    inside = !inside;
                }
            }
            found
        }
        _ => lines.filter_map(|(at, line)| behind(line, "#").map(|text| (at, text))).collect(),
    }
}

/// What stands behind a sign of comment that is no part of a string or a word.
fn behind<'a>(line: &'a str, sign: &str) -> Option<&'a str> {
    line.match_indices(sign)
        .find(|&(at, _)| {
            let before = &line[..at];
            (before.is_empty() || before.ends_with(char::is_whitespace))
                && before.matches('"').count().is_multiple_of(2)
        })
        .map(|(at, _)| &line[at + sign.len()..])
}

/// Words that look like paths of the repository. Documents for users name files of theirs, too: there only words that
/// start as paths of this repository do.
fn cited(text: &str, for_users: bool) -> Vec<&str> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '/' | '-');
    let mut found = Vec::new();
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        let length = rest.find(|c: char| !is_part(c)).unwrap_or(rest.len());
        let (word, before, after) = (&rest[..length], text[..at].chars().next_back(), rest[length..].chars().next());
        at += length + after.map_or(0, char::len_utf8);
        // Addresses, absolute paths, patterns and places to be filled in.
        let word = word.strip_prefix("./").unwrap_or(word).trim_end_matches(['.', '-', '/']);
        if word.is_empty()
            || word.starts_with('/')
            || matches!(before, Some('$' | '<' | '>' | '{' | '}' | '~' | '*' | ':' | '@' | '%' | '…'))
            || matches!(after, Some('*' | '<' | '{' | '$' | '…'))
        {
            continue;
        }
        let (stem, ending) = word.rsplit_once('.').unwrap_or((word, ""));
        let is_file = ENDINGS.contains(&ending) && !stem.is_empty() && !stem.ends_with(['/', '.']) && word != "docs.rs";
        let rooted = word.split_once('/').is_some_and(|(root, _)| ROOTS.contains(&root));
        if rooted || is_file && !for_users {
            found.push(word);
        }
    }
    found
}

/// Whether a file of this name is in the repository: documents of the source name files by their last part, once the path
/// was given.
fn has_file_named(repository: &Repository, word: &str) -> bool {
    !word.contains('/') && repository.texts.keys().any(|path| path.rsplit('/').next() == Some(word))
}

/// Looks for a cited path from the root, from the folders above the citing file, in the folder of its module, and in the
/// folders whose files are cited by name everywhere.
fn is_there(repository: &Repository, path: &str, word: &str) -> bool {
    let mut bases = vec![String::new(), "src/".to_owned(), "config/".to_owned(), "tests/".to_owned()];
    bases.push(format!("{}/", path.trim_end_matches(".rs")));
    bases.extend(path.match_indices('/').map(|(at, _)| path[..=at].to_owned()));
    bases.iter().any(|base| {
        let mut parts: Vec<&str> = Vec::new();
        let full = format!("{base}{word}");
        for part in full.split('/') {
            match part {
                ".." => drop(parts.pop()),
                "." | "" => {}
                part => parts.push(part),
            }
        }
        repository.has(&parts.join("/"))
    })
}

#[cfg(test)]
mod planted {
    use super::*;

    const RULES: Arrows<'_> = Arrows {
        modules: &[("api", &["engine", "storage"]), ("engine", &[])],
        exact: &[("model", &[])],
        foundations: &["model"],
        wiring: &["app"],
    };
    const MAP: &str = "# Source\n\n## Map\n\nAn arrow means \"may import\".\n\n- `api` → `storage`, `engine`: speaks `OpenAI`\n- `engine` → nothing\n\n### Foundations\n- `model` → nothing\n- `app` → everything\n\n## Walks\n- `x` → `y`\n";

    #[test]
    fn a_map_as_the_table_has_it_passes() {
        assert_eq!(check_map(MAP, RULES), Vec::<String>::new());
        let generated = format!("## Map\n{}\n", map_lines(RULES).join("\n"));
        assert_eq!(check_map(&generated, RULES), Vec::<String>::new());
    }

    #[test]
    fn a_map_that_differs_is_found() {
        for (from, to, message) in [
            ("`storage`, ", "", "src/README.md:7: the table"),
            ("- `engine` → nothing\n", "", "lacks the line: - `engine` → nothing"),
            ("→ nothing\n\n", "→ `api`\n\n", "src/README.md:8: the table"),
            ("- `app`", "- `lost`", "src/README.md:12: `lost` is no module"),
            ("- `app`", "- `api`", "has `api` twice"),
            ("## Map", "## Plan", "lacks the line"),
        ] {
            let broken = check_map(&MAP.replacen(from, to, 1), RULES);
            assert!(broken.iter().any(|text| text.contains(message)), "{to}: {broken:?}");
        }
    }

    #[test]
    fn dead_citations_are_found() {
        let code = "//! See `gone/facts.md` §1, `x.rs`, b/y.rs, `src/a.rs`, src/a/x.rs and tests/architecture.rs.\n\
                    /* wire/old.md */ // https://example.com/z.md, /etc/a.toml, src/*.rs, <name>.toml, docs.rs/x\n\
                    const A: &str = \"lost.md\"; // `default.toml`, `nowhere.rs`; `tests/none`\n";
        let files = [
            ("src/a.rs", code),
            ("src/a/x.rs", "// a.rs and ../a/x.rs"),
            ("src/a/b/y.rs", ""),
            ("tests/architecture.rs", ""),
            ("config/default.toml", "key = \"gone.md # no\" # gone.py\n"),
            ("tests/k.py", "\"\"\"Runs lost.sh,\nfor k.py.\n\"\"\"\nx = \"nothing.sh\"\n"),
            ("README.md", "Write `mine.toml`; see `src/lost.rs` and [map](src/a.rs).\n"),
            ("src/README.md", "`a/b/y.rs`, then `y.rs`; `a/b/z.rs`, then `z.rs`\n"),
        ];
        let repository = Repository::of(&files);
        let broken = dead_citations(&repository, &[("nowhere.rs", "an example")]);
        let found: Vec<_> = broken.iter().map(|text| text.split(" is no").next().unwrap_or_default()).collect();
        let expected = [
            "README.md:1: `src/lost.rs`",
            "config/default.toml:1: `gone.py`",
            "src/README.md:1: `a/b/z.rs`",
            "src/README.md:1: `z.rs`",
            "src/a.rs:1: `gone/facts.md`",
            "src/a.rs:2: `wire/old.md`",
            "src/a.rs:3: `tests/none`",
            "tests/k.py:1: `lost.sh`",
        ];
        assert_eq!(found, expected);
    }
}
