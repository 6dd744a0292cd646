//! What would not compile, or not work, on macOS. Unix is assumed: Windows is not supported.

use crate::lexer::{Kind, Token, lex};
use crate::tree::{Repository, Tree, ending};

/// Paths, functions and types that Linux alone has. A name stands for itself, `a::b` for these segments in a row.
const LINUX_ONLY: &[&str] = &[
    "os::linux",
    "set_dumpable_behavior",
    "DumpableBehavior",
    "prctl",
    "fadvise",
    "sync_file_range",
    "copy_file_range",
    "memfd_create",
    "eventfd",
    "statx",
    "pidfd_open",
    "prlimit",
    "O_TMPFILE",
    "TMPFILE",
    "epoll",
    "inotify",
    "set_tcp_user_timeout",
    "set_tcp_quickack",
    "bind_device",
];

/// Uses of Linux-only calls and of `/proc` and `/sys` outside of items that `#[cfg(target_os = "linux")]` guards.
/// `exempt` lists files that cope with the absence of such a path, each with its reason.
pub(crate) fn linux_only(repository: &Repository, tree: &Tree<'_>, exempt: &[(&str, &str)]) -> Vec<String> {
    let mut broken = Vec::new();
    let mut check = |path: &str, tokens: &[Token<'_>]| {
        if exempt.iter().any(|(file, _)| *file == path) {
            return;
        }
        for (at, token) in tokens.iter().enumerate().filter(|(_, token)| !token.not_on_macos) {
            let found = match token.kind {
                Kind::Word => LINUX_ONLY.iter().find(|name| is_at(tokens, at, name)).map(|name| (*name).to_owned()),
                Kind::Text if token.text.starts_with("/proc/") || token.text.starts_with("/sys/") => {
                    Some(token.text.to_owned())
                }
                Kind::Text | Kind::Mark | Kind::Other => None,
            };
            if let Some(name) = found {
                broken.push(format!(
                    "{path}:{}: `{name}` is Linux only. Guard the item with #[cfg(target_os = \"linux\")] and give macOS another.",
                    token.line
                ));
            }
        }
    };
    for file in tree.files.iter().filter(|file| !file.not_on_macos) {
        check(file.path, &file.lexed.tokens);
    }
    for (path, text) in &repository.texts {
        let rust = ending(path) == "rs" && !path.starts_with("src/") && !path.starts_with("tests/architecture");
        if rust {
            check(path, &lex(text).tokens);
        }
    }
    broken.sort();
    broken
}

fn is_at(tokens: &[Token<'_>], at: usize, name: &str) -> bool {
    let mut at = at;
    for (segment, part) in name.split("::").enumerate() {
        if segment > 0 {
            if !(tokens.get(at).is_some_and(|t| t.is_mark(":")) && tokens.get(at + 1).is_some_and(|t| t.is_mark(":"))) {
                return false;
            }
            at += 2;
        }
        if !tokens.get(at).is_some_and(|token| token.is_word(part)) {
            return false;
        }
        at += 1;
    }
    true
}

#[test]
fn a_planted_linux_only_call_is_found_and_a_guarded_one_is_not() {
    let text = "use std::os::linux::fs::MetadataExt;\nuse std::os::unix::fs::FileExt;\n\
                fn a() { std::fs::read_dir(\"/proc/self/fd\"); }\n\
                #[cfg(target_os = \"linux\")]\nfn b() { prctl(); }\n\
                #[cfg(not(target_os = \"linux\"))]\nfn b() {}\nmod c;\n#[cfg(target_os = \"linux\")]\nmod d;\n// prctl\n";
    let files = [("src/a.rs", text), ("src/a/c.rs", "fn f() { prctl() }"), ("src/a/d.rs", "fn f() { prctl() }")];
    let repository = Repository::of(&files);
    let broken = linux_only(&repository, &Tree::new(&repository), &[]);
    let places: Vec<_> = broken.iter().map(|text| text.split(": ").next().unwrap_or_default()).collect();
    assert_eq!(places, ["src/a.rs:1", "src/a.rs:3", "src/a/c.rs:1"], "{broken:?}");
    assert_eq!(linux_only(&repository, &Tree::new(&repository), &[("src/a.rs", "")]).len(), 1);
}
