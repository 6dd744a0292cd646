//! The repository as text, and the modules of `src` with their items, imports and paths.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use crate::lexer::{Kind, Lexed, Token, closing, lex};

/// The library's name, by which `main` and the tests import it.
const CRATE: &str = "gptproto_gateway";

/// Folders that a build or a test run makes.
const MADE: [&str; 5] = ["target", ".git", "node_modules", "__pycache__", ".pytest_cache"];

fn is_made(name: &str) -> bool {
    MADE.contains(&name) || name.starts_with(".venv")
}

/// Every path of the repository, and the text of those that the checks read.
#[derive(Debug, Default)]
pub(crate) struct Repository {
    /// Files and folders, relative to the root, with `/`.
    pub(crate) paths: BTreeSet<String>,
    pub(crate) texts: BTreeMap<String, String>,
}

impl Repository {
    /// The repository that this test belongs to, read once.
    pub(crate) fn here() -> &'static Self {
        static HERE: OnceLock<Repository> = OnceLock::new();
        HERE.get_or_init(|| {
            let mut found = Self::default();
            found.read_folder(Path::new(env!("CARGO_MANIFEST_DIR")), "");
            found
        })
    }

    /// A repository in memory, for planted violations.
    pub(crate) fn of(files: &[(&str, &str)]) -> Self {
        let mut found = Self::default();
        for &(path, text) in files {
            for (at, _) in path.match_indices('/') {
                found.paths.insert(path[..at].to_owned());
            }
            found.paths.insert(path.to_owned());
            found.texts.insert(path.to_owned(), text.to_owned());
        }
        found
    }

    /// Whether the path is there, or would be after a build or a test run.
    pub(crate) fn has(&self, path: &str) -> bool {
        self.paths.contains(path) || path.split('/').any(is_made)
    }

    fn read_folder(&mut self, folder: &Path, name: &str) {
        for entry in fs::read_dir(folder).expect("a folder of the repository can be read") {
            let entry = entry.expect("a folder of the repository can be read");
            let file = entry.file_name().to_string_lossy().into_owned();
            if is_made(&file) {
                continue;
            }
            let path = if name.is_empty() { file } else { format!("{name}/{file}") };
            if entry.path().is_dir() {
                self.read_folder(&entry.path(), &path);
            } else if is_read(&path) {
                let text = fs::read_to_string(entry.path()).unwrap_or_else(|error| panic!("{path}: {error}"));
                self.texts.insert(path.clone(), text);
            }
            self.paths.insert(path);
        }
    }
}

/// What follows the last dot, or nothing.
pub(crate) fn ending(path: &str) -> &str {
    path.rsplit_once('.').map_or("", |(_, ending)| ending)
}

fn is_read(path: &str) -> bool {
    let extension = ending(path);
    let ours = ["src/", "tests/", "config/", "benches/"].iter().any(|folder| path.starts_with(folder));
    extension == "md"
        || ours && matches!(extension, "rs" | "toml" | "py" | "sh" | "mjs" | "js" | "yaml" | "yml" | "example")
}

/// A name in scope through `use`.
#[derive(Clone, Debug)]
pub(crate) struct Import {
    pub(crate) segments: Vec<String>,
}

#[derive(Debug)]
pub(crate) struct Module {
    pub(crate) path: Vec<String>,
    /// Index into [`Tree::files`].
    pub(crate) file: usize,
    pub(crate) parent: usize,
    pub(crate) children: BTreeMap<String, usize>,
    /// Struct, enum, function and so on: what is defined here.
    pub(crate) items: BTreeSet<String>,
    pub(crate) imports: BTreeMap<String, Import>,
    pub(crate) globs: Vec<Import>,
}

/// A path with two segments or more, or an import, where it stands.
#[derive(Debug)]
pub(crate) struct Mention {
    /// Index into [`Tree::modules`].
    pub(crate) module: usize,
    pub(crate) segments: Vec<String>,
    pub(crate) line: usize,
    pub(crate) test: bool,
    /// `pub use` of any width.
    pub(crate) public: bool,
    pub(crate) glob: bool,
}

/// A type with a name.
#[derive(Debug)]
pub(crate) struct TypeName {
    pub(crate) name: String,
    pub(crate) file: usize,
    pub(crate) line: usize,
    pub(crate) public: bool,
    pub(crate) test: bool,
    pub(crate) module: usize,
    /// Of a struct with named fields.
    pub(crate) fields: usize,
}

/// `impl X { .. }`, without those of traits.
#[derive(Debug)]
pub(crate) struct Impl {
    pub(crate) name: String,
    pub(crate) module: usize,
    pub(crate) methods: usize,
    pub(crate) test: bool,
}

#[derive(Debug)]
pub(crate) struct File<'a> {
    /// From the root of the repository.
    pub(crate) path: &'a str,
    pub(crate) lexed: Lexed<'a>,
    pub(crate) module: Vec<String>,
    pub(crate) lines: usize,
    /// Declared behind `#[cfg(test)]`.
    pub(crate) test: bool,
    /// Declared behind a `cfg` that is false on macOS.
    pub(crate) not_on_macos: bool,
}

impl File<'_> {
    /// The first segment of the module's path: `api` for `src/api/error.rs`, `lib` for `src/lib.rs`.
    pub(crate) fn top(&self) -> &str {
        self.module.first().map_or("lib", String::as_str)
    }

    /// Lines outside of items that are compiled for tests only.
    pub(crate) fn production_lines(&self) -> usize {
        if self.test {
            return 0;
        }
        let test: BTreeSet<usize> = self.lexed.test_lines.iter().flat_map(|&(first, last)| first..=last).collect();
        self.lines - test.len()
    }
}

/// What a path names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Module(usize),
    /// An item, by the module that defines it.
    Item(usize, String),
    /// Another crate, or a name of the function.
    Outside,
}

#[derive(Debug, Default)]
pub(crate) struct Tree<'a> {
    pub(crate) files: Vec<File<'a>>,
    pub(crate) modules: Vec<Module>,
    pub(crate) mentions: Vec<Mention>,
    pub(crate) types: Vec<TypeName>,
    pub(crate) impls: Vec<Impl>,
}

impl Tree<'static> {
    /// The tree of [`Repository::here`], read once.
    pub(crate) fn here() -> &'static Self {
        static HERE: OnceLock<Tree<'static>> = OnceLock::new();
        HERE.get_or_init(|| Self::new(Repository::here()))
    }
}

impl<'a> Tree<'a> {
    /// Reads the files below `src`. `main.rs` is a crate of its own and no part of the tree of modules.
    pub(crate) fn new(repository: &'a Repository) -> Self {
        let mut tree = Self::default();
        for (path, text) in &repository.texts {
            let Some(name) = path.strip_prefix("src/").and_then(|path| path.strip_suffix(".rs")) else { continue };
            let module = match name {
                "lib" => Vec::new(),
                _ => name.trim_end_matches("/mod").split('/').map(str::to_owned).collect(),
            };
            let (lexed, lines) = (lex(text), text.lines().count());
            tree.files.push(File { path, lexed, module, lines, test: false, not_on_macos: false });
        }
        tree.files.sort_by(|a, b| a.module.cmp(&b.module));
        tree.mark_files();
        // The root is there even if `lib.rs` is not.
        let root = tree.files.iter().position(|file| file.module.is_empty()).unwrap_or(0);
        tree.modules.push(Module::new(Vec::new(), root, 0));
        for file in 0..tree.files.len() {
            let path = tree.files[file].module.clone();
            tree.module(&path, file);
        }
        for file in 0..tree.files.len() {
            let lexed = std::mem::take(&mut tree.files[file].lexed);
            let home = tree.module(&tree.files[file].module.clone(), file);
            Walk { tree: &mut tree, tokens: &lexed.tokens, file }.items(0, lexed.tokens.len(), home);
            tree.files[file].lexed = lexed;
        }
        tree
    }

    /// A file is what the `cfg` of its `mod` says, and that of its parents.
    fn mark_files(&mut self) {
        let mut conditions = BTreeMap::new();
        for file in &self.files {
            let tokens = &file.lexed.tokens;
            for (at, token) in tokens.iter().enumerate() {
                if token.is_word("mod")
                    && tokens.get(at + 2).is_some_and(|token| token.is_mark(";"))
                    && (token.test || token.not_on_macos)
                {
                    let mut path = file.module.clone();
                    path.push(tokens[at + 1].text.to_owned());
                    conditions.insert(path, (token.test, token.not_on_macos));
                }
            }
        }
        for file in &mut self.files {
            for length in 1..=file.module.len() {
                if let Some(&(test, not_on_macos)) = conditions.get(&file.module[..length]) {
                    file.test |= test;
                    file.not_on_macos |= not_on_macos;
                }
            }
        }
    }

    /// The module of that path; makes it and its parents when it is new.
    fn module(&mut self, path: &[String], file: usize) -> usize {
        let mut at = 0;
        for length in 1..=path.len() {
            let name = &path[length - 1];
            at = if let Some(&child) = self.modules[at].children.get(name) {
                child
            } else {
                self.modules.push(Module::new(path[..length].to_vec(), file, at));
                let new = self.modules.len() - 1;
                self.modules[at].children.insert(name.clone(), new);
                new
            };
        }
        at
    }

    /// Resolves a path that stands in `module`, through imports and re-exports, to where it is defined.
    pub(crate) fn resolve(&self, module: usize, segments: &[String]) -> Target {
        self.resolve_within(module, segments, 12)
    }

    fn resolve_within(&self, module: usize, segments: &[String], depth: usize) -> Target {
        if depth == 0 {
            return Target::Outside;
        }
        let (mut at, mut rest) = match segments.first().map(String::as_str) {
            Some("crate" | CRATE) => (0, &segments[1..]),
            Some("self") => (module, &segments[1..]),
            Some("super") => (self.modules[module].parent, &segments[1..]),
            Some("Self") | None => return Target::Outside,
            Some(_) => (module, segments),
        };
        let absolute = rest.len() < segments.len();
        while rest.first().is_some_and(|segment| segment == "super") {
            at = self.modules[at].parent;
            rest = &rest[1..];
        }
        let mut found = Target::Module(at);
        let mut first = true;
        while let Some((name, after)) = rest.split_first() {
            let Target::Module(here) = found else { return found };
            found = match self.step(here, name, after.is_empty(), depth - 1) {
                // A macro may have defined it.
                Target::Outside if absolute || !first => Target::Item(here, name.clone()),
                found @ (Target::Module(_) | Target::Item(..) | Target::Outside) => found,
            };
            if found == Target::Outside {
                return found;
            }
            first = false;
            rest = after;
        }
        found
    }

    fn step(&self, module: usize, name: &str, last: bool, depth: usize) -> Target {
        if depth == 0 {
            return Target::Outside;
        }
        let here = &self.modules[module];
        let child = here.children.get(name);
        if let Some(&child) = child
            && !(last && here.items.contains(name))
        {
            return Target::Module(child);
        }
        if here.items.contains(name) {
            return Target::Item(module, name.to_owned());
        }
        if let Some(import) = here.imports.get(name) {
            // `use image::image` names another crate, not itself.
            if import.segments.first().is_some_and(|first| first == name) {
                return Target::Outside;
            }
            return self.resolve_within(module, &import.segments, depth);
        }
        for glob in &here.globs {
            if let Target::Module(other) = self.resolve_within(module, &glob.segments, depth)
                && other != module
            {
                let found = self.step(other, name, last, depth - 1);
                if found != Target::Outside {
                    return found;
                }
            }
        }
        Target::Outside
    }

    /// The path from the root, if it starts with `crate`, `self` or `super`.
    pub(crate) fn absolute(&self, module: usize, segments: &[String]) -> Option<Vec<String>> {
        let mut path = match segments.first()?.as_str() {
            "crate" | CRATE => Vec::new(),
            "self" | "super" => self.modules[module].path.clone(),
            _ => return None,
        };
        for segment in segments {
            match segment.as_str() {
                "super" => drop(path.pop()),
                "crate" | "self" | CRATE => {}
                name => path.push(name.to_owned()),
            }
        }
        Some(path)
    }

    pub(crate) fn file_of(&self, module: usize) -> &File<'a> {
        &self.files[self.modules[module].file]
    }
}

impl Module {
    fn new(path: Vec<String>, file: usize, parent: usize) -> Self {
        Self {
            path,
            file,
            parent,
            children: BTreeMap::new(),
            items: BTreeSet::new(),
            imports: BTreeMap::new(),
            globs: Vec::new(),
        }
    }
}

/// Reads one file into the tree.
struct Walk<'t, 'a> {
    tree: &'t mut Tree<'a>,
    tokens: &'t [Token<'a>],
    file: usize,
}

impl Walk<'_, '_> {
    fn word(&self, at: usize) -> &str {
        self.tokens.get(at).filter(|token| token.kind == Kind::Word).map_or("", |token| token.text)
    }

    fn mark(&self, at: usize, mark: &str) -> bool {
        self.tokens.get(at).is_some_and(|token| token.is_mark(mark))
    }

    fn is_path_mark(&self, at: usize) -> bool {
        self.mark(at, ":") && self.mark(at + 1, ":")
    }

    fn test(&self, at: usize) -> bool {
        self.tokens[at].test || self.tree.files[self.file].test
    }

    /// Whether the item whose keyword stands at `at` is `pub` in any width.
    fn public(&self, mut at: usize) -> bool {
        while at > 0 && matches!(self.word(at - 1), "const" | "unsafe" | "async" | "extern") {
            at -= 1;
        }
        if at > 0 && self.mark(at - 1, ")") {
            while at > 0 && !self.mark(at - 1, "(") {
                at -= 1;
            }
            at = at.saturating_sub(1);
        }
        at > 0 && self.word(at - 1) == "pub"
    }

    /// Reads tokens from `at` to `end`, which all stand in `module`. Braces other than those of modules are entered for
    /// imports and paths alone.
    fn items(&mut self, mut at: usize, end: usize, module: usize) {
        let mut depth = 0_usize;
        while at < end {
            let token = self.tokens[at];
            match token.kind {
                Kind::Mark => match token.text {
                    "{" => depth += 1,
                    "}" => depth = depth.saturating_sub(1),
                    _ => {}
                },
                Kind::Word => match token.text {
                    "mod" if depth == 0 && self.mark(at + 2, "{") => {
                        let mut path = self.tree.modules[module].path.clone();
                        path.push(self.word(at + 1).to_owned());
                        let inner = self.tree.module(&path, self.file);
                        let close = closing(self.tokens, at + 2).min(end);
                        self.items(at + 3, close, inner);
                        at = close;
                    }
                    "use" if !self.mark(at + 1, "<") => {
                        let public = self.public(at);
                        at = self.uses(at + 1, module, &[], public);
                    }
                    "struct" | "enum" | "union" | "trait" | "type" | "fn" | "static" | "const"
                        if depth == 0 && self.tokens.get(at + 1).is_some_and(|next| next.kind == Kind::Word) =>
                    {
                        self.item(at, module);
                    }
                    "macro_rules" if depth == 0 && self.mark(at + 1, "!") => {
                        let name = self.word(at + 2).to_owned();
                        self.tree.modules[module].items.insert(name);
                    }
                    "impl" if depth == 0 => self.impl_block(at, module),
                    _ if self.is_path_mark(at + 1) => at = self.path(at, module),
                    _ => {}
                },
                Kind::Text | Kind::Other => {}
            }
            at += 1;
        }
    }

    fn item(&mut self, at: usize, module: usize) {
        let keyword = self.word(at);
        let mut name = at + 1;
        if self.word(name) == "mut" {
            name += 1;
        }
        if keyword == "const" && matches!(self.word(name), "fn" | "unsafe" | "async") {
            return;
        }
        let text = self.word(name).to_owned();
        if matches!(keyword, "struct" | "enum" | "union" | "trait" | "type") {
            let fields = if keyword == "struct" { self.fields(name + 1) } else { 0 };
            self.tree.types.push(TypeName {
                name: text.clone(),
                file: self.file,
                line: self.tokens[at].line,
                public: self.public(at),
                test: self.test(at),
                module,
                fields,
            });
        }
        self.tree.modules[module].items.insert(text);
    }

    /// How many named fields a struct has whose name ends before `at`.
    fn fields(&self, mut at: usize) -> usize {
        while at < self.tokens.len() && !self.mark(at, "{") {
            if self.mark(at, ";") || self.mark(at, "(") {
                return 0;
            }
            at += 1;
        }
        let end = closing(self.tokens, at);
        let mut fields = 0;
        at += 1;
        while at < end {
            if self.mark(at, "(") || self.mark(at, "[") || self.mark(at, "{") {
                at = closing(self.tokens, at);
            } else if self.is_path_mark(at) {
                at += 1;
            } else if self.mark(at, ":") {
                fields += 1;
            }
            at += 1;
        }
        fields
    }

    fn impl_block(&mut self, at: usize, module: usize) {
        let (mut name, mut of_trait, mut angles) = (String::new(), false, 0_usize);
        let mut open = at + 1;
        while open < self.tokens.len() && !self.mark(open, "{") {
            if self.mark(open, "<") {
                angles += 1;
            } else if self.mark(open, ">") && !self.mark(open - 1, "-") {
                angles = angles.saturating_sub(1);
            } else if angles == 0 {
                match self.word(open) {
                    "for" => of_trait = true,
                    "where" => break,
                    "" => {}
                    word => word.clone_into(&mut name),
                }
            }
            open += 1;
        }
        while open < self.tokens.len() && !self.mark(open, "{") {
            open += 1;
        }
        if of_trait || open >= self.tokens.len() {
            return;
        }
        let close = closing(self.tokens, open);
        let (mut methods, mut depth) = (0, 0_usize);
        for inner in open..close {
            match self.tokens[inner].text {
                "{" if self.tokens[inner].kind == Kind::Mark => depth += 1,
                "}" if self.tokens[inner].kind == Kind::Mark => depth -= 1,
                "fn" if depth == 1 && !self.test(inner) && self.word(inner) == "fn" => methods += 1,
                _ => {}
            }
        }
        let test = self.test(at);
        self.tree.impls.push(Impl { name, module, methods, test });
    }

    /// Reads a path in code; returns the index of its last token.
    fn path(&mut self, at: usize, module: usize) -> usize {
        let mut segments = vec![self.word(at).to_owned()];
        let mut last = at;
        while self.is_path_mark(last + 1) && !self.word(last + 3).is_empty() {
            segments.push(self.word(last + 3).to_owned());
            last += 3;
        }
        let after_colons = at >= 2 && self.is_path_mark(at - 2);
        if segments.len() > 1 && !after_colons {
            let (line, test) = (self.tokens[at].line, self.test(at));
            self.tree.mentions.push(Mention { module, segments, line, test, public: false, glob: false });
        }
        last
    }

    /// Reads the tree of a `use` behind `prefix`; returns the index of the token that ends it.
    fn uses(&mut self, mut at: usize, module: usize, prefix: &[String], public: bool) -> usize {
        let mut segments = prefix.to_vec();
        loop {
            if self.is_path_mark(at) {
                at += 2;
            }
            if self.mark(at, "{") {
                let end = closing(self.tokens, at);
                at += 1;
                while at < end {
                    at = self.uses(at, module, &segments, public);
                    if self.mark(at, ",") {
                        at += 1;
                    }
                }
                return end + 1;
            }
            if self.mark(at, "*") {
                self.import(at, module, segments, None, public, true);
                return at + 1;
            }
            let name = self.word(at).to_owned();
            if name.is_empty() {
                // Not a `use` that is understood: go on behind it.
                return at + 1;
            }
            if name != "self" || segments.is_empty() {
                segments.push(name);
            }
            if self.is_path_mark(at + 1) {
                at += 1;
                continue;
            }
            let mut end = at + 1;
            let mut alias = None;
            if self.word(end) == "as" {
                alias = Some(self.word(end + 1).to_owned());
                end += 2;
            }
            self.import(at, module, segments, alias, public, false);
            return end;
        }
    }

    fn import(
        &mut self,
        at: usize,
        module: usize,
        segments: Vec<String>,
        alias: Option<String>,
        public: bool,
        glob: bool,
    ) {
        let (line, test) = (self.tokens[at].line, self.test(at));
        let import = Import { segments: segments.clone() };
        let here = &mut self.tree.modules[module];
        if glob {
            here.globs.push(import);
        } else if let Some(name) = alias.or_else(|| segments.last().cloned()) {
            here.imports.insert(name, import);
        }
        self.tree.mentions.push(Mention { module, segments, line, test, public, glob });
    }
}
