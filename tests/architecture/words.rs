//! The glossary, the private words of the past, and the words that no text uses.

use std::collections::{BTreeMap, BTreeSet};

use crate::documents::section;
use crate::general::GENERAL;
use crate::tree::{Repository, Tree, ending};

/// Words that used to name things here and that a newcomer had to learn. They are in no list of general words.
pub(crate) const PRIVATE: &[&str] = &[
    "air",
    "appetite",
    "arrived",
    "arriving",
    "aside",
    "asker",
    "began",
    "begun",
    "cap",
    "chance",
    "courier",
    "dear",
    "dearer",
    "departure",
    "doomed",
    "door",
    "doubt",
    "echo",
    "ending",
    "expense",
    "face",
    "figure",
    "forgotten",
    "glance",
    "goods",
    "guest",
    "heard",
    "insist",
    "interest",
    "kept",
    "knock",
    "landed",
    "lend",
    "lending",
    "lent",
    "loan",
    "look",
    "manner",
    "moment",
    "news",
    "note",
    "noted",
    "notice",
    "order",
    "pace",
    "patience",
    "payload",
    "place",
    "placed",
    "pulse",
    "room",
    "scarce",
    "scarcity",
    "seat",
    "shelved",
    "span",
    "strike",
    "tell",
    "ticket",
    "told",
    "untold",
    "wall",
    "watched",
    "wire",
    "wish",
];

/// Groups of words that hide who does what, or how much.
pub(crate) const FORBIDDEN: &[(&str, &[&str])] = &[
    ("whoever", &["whoever"]),
    ("nobody, somebody, everybody, anybody", &["nobody", "somebody", "everybody", "anybody"]),
    ("so many, so much, so long", &["so many", "so much", "so long"]),
];

/// The words of a name: `ApiKind`, `api_kind` and `api-kind` are `api` and `kind`.
pub(crate) fn split(name: &str) -> Vec<String> {
    let letters: Vec<char> = name.chars().collect();
    let mut words = vec![String::new()];
    for (at, &c) in letters.iter().enumerate() {
        let starts = c.is_uppercase()
            && at > 0
            && (!letters[at - 1].is_uppercase() || letters.get(at + 1).is_some_and(|next| next.is_lowercase()));
        if starts || !c.is_alphanumeric() {
            words.push(String::new());
        }
        if c.is_alphanumeric() {
            words.last_mut().expect("never empty").extend(c.to_lowercase());
        }
    }
    words.retain(|word| word.chars().any(char::is_alphabetic));
    words
}

/// Whether `words` has the word or the word that it is the plural of.
fn has(words: &BTreeSet<&str>, word: &str) -> bool {
    let singular = |end: &str, instead: &str| word.strip_suffix(end).map(|stem| format!("{stem}{instead}"));
    words.contains(word)
        || [singular("s", ""), singular("es", ""), singular("ies", "y")]
            .into_iter()
            .flatten()
            .any(|word| words.contains(word.as_str()))
}

/// Names of files and folders below `src` and of types that other modules see, with their places.
pub(crate) fn names(repository: &Repository, tree: &Tree<'_>) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for path in repository
        .paths
        .iter()
        .filter(|path| path.starts_with("src/") && !path.contains("/snapshots") && ending(path) != "md")
    {
        let test = tree.files.iter().any(|file| file.test && (file.path == path || file.path == format!("{path}.rs")));
        let below_tests = path.contains("/tests/");
        if !test && !below_tests {
            let name = path.rsplit('/').next().unwrap_or_default();
            found.push((name.split('.').next().unwrap_or_default().to_owned(), path.clone()));
        }
    }
    for ty in tree.types.iter().filter(|ty| ty.public && !ty.test) {
        found.push((ty.name.clone(), format!("{}:{}", tree.files[ty.file].path, ty.line)));
    }
    found
}

/// The entries of the table below the heading "Glossary": the word and its line.
pub(crate) fn glossary(readme: &str) -> Vec<(String, usize)> {
    let rows = section(readme, "Glossary").into_iter().filter(|(_, line)| line.starts_with('|'));
    let words = rows.map(|(number, line)| {
        let word = line.trim_matches('|').split('|').next().unwrap_or_default();
        (word.trim().trim_matches(['*', '`', ' ']).to_owned(), number)
    });
    // The heading of the table and its rule are no entries.
    words.skip(2).collect()
}

/// Faults of the glossary itself.
pub(crate) fn check_glossary(readme: &str, most: usize) -> Vec<String> {
    let entries = glossary(readme);
    let mut broken = Vec::new();
    if entries.is_empty() {
        broken.push("src/README.md: no section \"Glossary\" with a table.".to_owned());
    }
    if entries.len() > most {
        broken.push(format!(
            "src/README.md: the glossary has {} entries, at most {most}. Name things by words that need no entry.",
            entries.len()
        ));
    }
    let mut seen = BTreeSet::new();
    for (word, line) in entries {
        if !seen.insert(word.to_lowercase()) {
            broken.push(format!("src/README.md:{line}: `{word}` is in the glossary twice."));
        }
        let private: BTreeSet<&str> = PRIVATE.iter().copied().collect();
        if let Some(part) = split(&word).iter().find(|part| has(&private, part)) {
            broken.push(format!(
                "src/README.md:{line}: `{word}` has the private word `{part}`. Take a word of the field."
            ));
        }
    }
    broken
}

/// Words of names that are neither general nor in the glossary, each with the names that use it.
pub(crate) fn unknown(repository: &Repository, tree: &Tree<'_>) -> BTreeMap<String, Vec<String>> {
    let readme = repository.texts.get("src/README.md").map_or("", String::as_str);
    let entries: Vec<String> = glossary(readme).iter().flat_map(|(entry, _)| split(entry)).collect();
    let known: BTreeSet<&str> = GENERAL.split_whitespace().chain(entries.iter().map(String::as_str)).collect();
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, place) in names(repository, tree) {
        for word in split(&name).into_iter().filter(|word| !has(&known, word)) {
            let uses = found.entry(word).or_default();
            let text = format!("{name} ({place})");
            if uses.last() != Some(&text) {
                uses.push(text);
            }
        }
    }
    found
}

/// Messages for [`unknown`].
pub(crate) fn check_unknown(repository: &Repository, tree: &Tree<'_>) -> Vec<String> {
    let message = |(word, uses): (String, Vec<String>)| {
        format!(
            "`{word}` in {}: neither in the glossary of src/README.md nor a general word. Take a word of the field; if it is general, add it to tests/architecture/general.rs; only if the project needs it, to the glossary.",
            uses.join(", ")
        )
    };
    unknown(repository, tree).into_iter().map(message).collect()
}

/// Names with a word of [`PRIVATE`], by the word.
pub(crate) fn private(repository: &Repository, tree: &Tree<'_>) -> BTreeMap<String, Vec<String>> {
    let words: BTreeSet<&str> = PRIVATE.iter().copied().collect();
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, place) in names(repository, tree) {
        for word in split(&name).into_iter().filter(|word| has(&words, word)) {
            found.entry(word).or_default().push(format!("{name} ({place})"));
        }
    }
    found
}

/// Lines of `src` and `config` with words of [`FORBIDDEN`], by group.
pub(crate) fn forbidden(repository: &Repository) -> Vec<(&'static str, Vec<String>)> {
    let mut found: Vec<_> = FORBIDDEN.iter().map(|&(group, _)| (group, Vec::new())).collect();
    for (path, text) in &repository.texts {
        if !path.starts_with("src/") && !path.starts_with("config/") {
            continue;
        }
        for (number, line) in text.lines().enumerate() {
            let line = line.to_lowercase();
            for (group, (_, words)) in FORBIDDEN.iter().enumerate() {
                if words.iter().any(|word| has_word(&line, word)) {
                    found[group].1.push(format!("{path}:{}", number + 1));
                }
            }
        }
    }
    found
}

fn has_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        !before.is_some_and(char::is_alphanumeric) && !after.is_some_and(char::is_alphanumeric)
    })
}

/// Fails when `src` and `config` have `limit` such lines or more, all groups together.
pub(crate) fn check_forbidden(repository: &Repository, limit: usize) -> Vec<String> {
    let found = forbidden(repository);
    let total: usize = found.iter().map(|(_, places)| places.len()).sum();
    if total < limit {
        return Vec::new();
    }
    let mut broken = vec![format!(
        "{total} lines with words that hide who or how much; below {limit} is wanted. Say client, waiter, operator; give a number."
    )];
    for (group, places) in found {
        broken.extend(places.into_iter().map(|place| format!("{place}: one of \"{group}\"")));
    }
    broken
}

#[cfg(test)]
mod planted {
    use super::*;

    const README: &str = "# Map\n\n## Glossary\n\n| Word | Meaning |\n|---|---|\n| **input URL** | An input. |\n| `spool` | Uploads. |\n\n## More\n| no | entry |\n";

    #[test]
    fn names_are_split_into_words() {
        assert_eq!(split("HTTPServerV2_of-OpenAi"), ["http", "server", "v2", "of", "open", "ai"]);
        assert_eq!(glossary(README).into_iter().map(|(word, _)| word).collect::<Vec<_>>(), ["input URL", "spool"]);
    }

    #[test]
    fn an_unknown_noun_is_found_in_files_and_types() {
        let code = "pub(crate) struct SpoolError;\npub enum Zorkmid {}\nstruct Frobnicate;\n#[cfg(test)]\nmod tests;\n";
        let files = [
            ("src/README.md", README),
            ("src/input_urls.rs", code),
            ("src/input_urls/quux.rs", ""),
            ("src/input_urls/tests.rs", ""),
        ];
        let repository = Repository::of(&files);
        let tree = Tree::new(&repository);
        let found = unknown(&repository, &tree);
        assert_eq!(found.keys().collect::<Vec<_>>(), ["quux", "zorkmid"], "{found:?}");
        assert!(
            check_unknown(&repository, &tree)[1].starts_with("`zorkmid` in Zorkmid (src/input_urls.rs:2): neither")
        );
    }

    #[test]
    fn private_words_are_found_and_are_not_general() {
        let repository = Repository::of(&[("src/doors.rs", "pub trait GoodsError {}")]);
        let found = private(&repository, &Tree::new(&repository));
        assert_eq!(found.keys().collect::<Vec<_>>(), ["doors", "goods"]);
        let general: BTreeSet<&str> = GENERAL.split_whitespace().collect();
        for word in PRIVATE {
            assert!(!general.contains(word), "`{word}` is private and general");
        }
        assert_eq!(general.len(), GENERAL.split_whitespace().count(), "a general word stands twice");
    }

    #[test]
    fn a_glossary_too_long_or_missing_is_found() {
        assert!(check_glossary(README, 2).is_empty());
        assert_eq!(check_glossary(README, 1).len(), 1);
        assert_eq!(check_glossary("# Map", 40).len(), 1);
        assert_eq!(check_glossary(&README.replace("spool", "waiting seats"), 40).len(), 1);
        assert_eq!(check_glossary(&README.replace("`spool`", "Input URL"), 40).len(), 1);
    }

    #[test]
    fn a_forbidden_word_is_found() {
        let files = [
            ("src/a.rs", "// Nobody waits.\n// so  manybody\nlet nobody_is = 1;\n// not so long ago; whoever asks\n"),
            ("config/a.toml", "# whoever\n"),
            ("tests/a.rs", "// whoever\n"),
        ];
        let repository = Repository::of(&files);
        let counts: Vec<_> = forbidden(&repository).iter().map(|(_, places)| places.len()).collect();
        assert_eq!(counts, [2, 2, 1]);
        assert!(check_forbidden(&repository, 6).is_empty());
        assert_eq!(check_forbidden(&repository, 5).len(), 6);
    }
}
