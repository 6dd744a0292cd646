//! Splits Rust text into tokens and comments, and finds the tokens that a `cfg` removes.
//!
//! Not a parser: enough to read imports, items and impl blocks of formatted code without a dependency.

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A word: identifier or keyword.
    Word,
    /// One character of punctuation.
    Mark,
    /// The contents of a string literal.
    Text,
    /// Lifetimes, numbers, characters.
    Other,
}

/// A token with its place. `line` counts from 1.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Token<'a> {
    pub(crate) kind: Kind,
    pub(crate) text: &'a str,
    pub(crate) line: usize,
    /// Compiled for tests only.
    pub(crate) test: bool,
    /// Not compiled on macOS.
    pub(crate) not_on_macos: bool,
}

impl Token<'_> {
    pub(crate) fn is_word(&self, word: &str) -> bool {
        self.kind == Kind::Word && self.text == word
    }

    pub(crate) fn is_mark(&self, mark: &str) -> bool {
        self.kind == Kind::Mark && self.text == mark
    }
}

/// A comment, without its slashes. A block comment gives one for each of its lines.
#[derive(Clone, Debug)]
pub(crate) struct Comment<'a> {
    pub(crate) line: usize,
    pub(crate) text: &'a str,
}

#[derive(Debug, Default)]
pub(crate) struct Lexed<'a> {
    pub(crate) tokens: Vec<Token<'a>>,
    pub(crate) comments: Vec<Comment<'a>>,
    /// Lines, first and last, of items that are compiled for tests only.
    pub(crate) test_lines: Vec<(usize, usize)>,
}

/// Reads `text` to its end; an unclosed literal ends there.
pub(crate) fn lex(text: &str) -> Lexed<'_> {
    let mut lexer = Lexer { text, bytes: text.as_bytes(), at: 0, line: 1, out: Lexed::default() };
    lexer.run();
    let mut out = lexer.out;
    mark_conditional(&mut out);
    out
}

struct Lexer<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    line: usize,
    out: Lexed<'a>,
}

impl Lexer<'_> {
    fn run(&mut self) {
        while self.at < self.bytes.len() {
            let start = self.at;
            let rest = &self.text[start..];
            match self.bytes[start] {
                b'\n' => {
                    self.line += 1;
                    self.at += 1;
                }
                b if b.is_ascii_whitespace() => self.at += 1,
                b'/' if rest.starts_with("//") => {
                    let end = rest.find('\n').map_or(self.bytes.len(), |length| start + length);
                    let text = self.text[start..end].trim_start_matches('/').trim_start_matches('!');
                    self.out.comments.push(Comment { line: self.line, text });
                    self.at = end;
                }
                b'/' if rest.starts_with("/*") => self.block_comment(),
                b'"' => self.string(start + 1),
                b'\'' => self.quote(),
                b if is_word_start(b) => self.word(),
                b if b.is_ascii_digit() => {
                    self.at += self.bytes[start..].iter().take_while(|b| is_word(**b)).count();
                    self.push(Kind::Other, start, self.at, self.line);
                }
                _ => {
                    let length = rest.chars().next().map_or(1, char::len_utf8);
                    self.at += length;
                    self.push(Kind::Mark, start, self.at, self.line);
                }
            }
        }
    }

    fn push(&mut self, kind: Kind, start: usize, end: usize, line: usize) {
        let text = &self.text[start..end];
        self.out.tokens.push(Token { kind, text, line, test: false, not_on_macos: false });
    }

    fn block_comment(&mut self) {
        let start = self.at;
        let mut depth = 0;
        while self.at < self.bytes.len() {
            let rest = &self.bytes[self.at..];
            if rest.starts_with(b"/*") {
                depth += 1;
                self.at += 2;
            } else if rest.starts_with(b"*/") {
                depth -= 1;
                self.at += 2;
                if depth == 0 {
                    break;
                }
            } else {
                self.at += 1;
            }
        }
        for line in self.text[start..self.at].split('\n') {
            self.out.comments.push(Comment { line: self.line, text: line });
            self.line += 1;
        }
        self.line -= 1;
    }

    /// A string with escapes; `start` is behind the opening quote.
    fn string(&mut self, start: usize) {
        let line = self.line;
        let mut at = start;
        while at < self.bytes.len() && self.bytes[at] != b'"' {
            if self.bytes[at] == b'\\' {
                at += 1;
            }
            if self.bytes.get(at) == Some(&b'\n') {
                self.line += 1;
            }
            at += 1;
        }
        let end = at.min(self.bytes.len());
        self.push(Kind::Text, start, end, line);
        self.at = end + 1;
    }

    /// A character or a lifetime.
    fn quote(&mut self) {
        let start = self.at;
        let mut rest = self.text[start + 1..].chars();
        let first = rest.next();
        if first == Some('\\') {
            let length = self.text[start + 3..].find('\'').unwrap_or(0);
            self.at = start + 3 + length + 1;
        } else if rest.next() == Some('\'') {
            self.at = start + 2 + first.map_or(0, char::len_utf8);
        } else {
            self.at = start + 1 + self.bytes[start + 1..].iter().take_while(|b| is_word(**b)).count();
        }
        self.at = self.at.min(self.bytes.len());
        self.push(Kind::Other, start, self.at, self.line);
    }

    fn word(&mut self) {
        let start = self.at;
        let length = self.bytes[start..].iter().take_while(|b| is_word(**b)).count();
        let end = start + length;
        let word = &self.text[start..end];
        let rest = &self.text[end..];
        if matches!(word, "r" | "br" | "cr") && (rest.starts_with('"') || rest.starts_with('#')) {
            let hashes = rest.bytes().take_while(|b| *b == b'#').count();
            if rest[hashes..].starts_with('"') {
                let from = end + hashes + 1;
                let close = format!("\"{}", "#".repeat(hashes));
                let until = self.text[from..].find(&close).map_or(self.bytes.len(), |length| from + length);
                self.push(Kind::Text, from, until, self.line);
                self.line += self.text[from..until].matches('\n').count();
                self.at = until + close.len();
                return;
            }
            // A raw identifier.
            let length = self.bytes[end + hashes..].iter().take_while(|b| is_word(**b)).count();
            self.at = end + hashes + length;
            self.push(Kind::Word, end + hashes, self.at, self.line);
            return;
        }
        if matches!(word, "b" | "c") && rest.starts_with('"') {
            self.string(end + 1);
        } else if word == "b" && rest.starts_with('\'') {
            self.at = end;
            self.quote();
        } else {
            self.at = end;
            self.push(Kind::Word, start, end, self.line);
        }
    }
}

fn is_word_start(b: u8) -> bool {
    b.is_ascii_alphabetic() || b == b'_'
}

fn is_word(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b == b'_'
}

/// Sets `test` and `not_on_macos` of every token behind a `#[cfg(...)]`, `#[test]` or `#[tokio::test]`.
fn mark_conditional(lexed: &mut Lexed<'_>) {
    let tokens = &mut lexed.tokens;
    let mut at = 0;
    while at + 1 < tokens.len() {
        if !tokens[at].is_mark("#") {
            at += 1;
            continue;
        }
        let inner = tokens[at + 1].is_mark("!");
        let open = at + 1 + usize::from(inner);
        if !tokens.get(open).is_some_and(|token| token.is_mark("[")) {
            at += 1;
            continue;
        }
        let close = closing(tokens, open);
        let attribute = &tokens[open + 1..close];
        let (mut test, mut not_on_macos) = (false, false);
        if attribute.first().is_some_and(|token| token.is_word("cfg")) {
            test = evaluate(attribute, 1, &in_production).0 == Some(false);
            not_on_macos = evaluate(attribute, 1, &on_macos).0 == Some(false);
        } else if attribute.last().is_some_and(|token| token.is_word("test")) {
            test = true;
        }
        if test || not_on_macos {
            let end = if inner { tokens.len() } else { item_end(tokens, close + 1) };
            for token in &mut tokens[at..end] {
                token.test |= test;
                token.not_on_macos |= not_on_macos;
            }
            if test && end > at {
                lexed.test_lines.push((tokens[at].line, tokens[end - 1].line));
            }
        }
        at = close + 1;
    }
}

/// The index of the bracket that closes the one at `open`.
pub(crate) fn closing(tokens: &[Token<'_>], open: usize) -> usize {
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate().skip(open) {
        if token.kind != Kind::Mark {
            continue;
        }
        match token.text {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return at;
                }
            }
            _ => {}
        }
    }
    tokens.len()
}

/// One past the last token of the item, field, arm or statement at `at`.
fn item_end(tokens: &[Token<'_>], mut at: usize) -> usize {
    const ITEMS: [&str; 17] = [
        "fn",
        "struct",
        "enum",
        "union",
        "trait",
        "type",
        "impl",
        "mod",
        "use",
        "const",
        "static",
        "extern",
        "unsafe",
        "async",
        "macro_rules",
        "let",
        "default",
    ];
    while at + 1 < tokens.len() && tokens[at].is_mark("#") {
        at = closing(tokens, at + 1) + 1;
    }
    if tokens.get(at).is_some_and(|token| token.is_word("pub")) {
        at += 1;
        if tokens.get(at).is_some_and(|token| token.is_mark("(")) {
            at = closing(tokens, at) + 1;
        }
    }
    let is_item = tokens.get(at).is_some_and(|token| ITEMS.contains(&token.text));
    while at < tokens.len() {
        let token = &tokens[at];
        if token.kind == Kind::Mark {
            match token.text {
                ";" => return at + 1,
                "," if !is_item => return at + 1,
                ")" | "]" | "}" => return at,
                "{" => return (closing(tokens, at) + 1).min(tokens.len()),
                "(" | "[" => at = closing(tokens, at),
                _ => {}
            }
        }
        at += 1;
    }
    tokens.len()
}

type Known = dyn Fn(&str, Option<&str>) -> Option<bool>;

fn in_production(name: &str, _value: Option<&str>) -> Option<bool> {
    (name == "test").then_some(false)
}

fn on_macos(name: &str, value: Option<&str>) -> Option<bool> {
    match (name, value) {
        ("unix", _) | ("target_family", Some("unix")) => Some(true),
        ("windows", _) => Some(false),
        ("target_os", Some(system)) => Some(system == "macos"),
        _ => None,
    }
}

/// The value of the `cfg` predicate at `at`, or `None` if it depends on something unknown; and the index behind it.
/// A parenthesised list without a name (as after `cfg`) counts as `all`.
fn evaluate(tokens: &[Token<'_>], mut at: usize, known: &Known) -> (Option<bool>, usize) {
    let mut name = "all";
    if let Some(token) = tokens.get(at)
        && token.kind == Kind::Word
    {
        name = token.text;
        at += 1;
    }
    if !tokens.get(at).is_some_and(|token| token.is_mark("(")) {
        if tokens.get(at).is_some_and(|token| token.is_mark("=")) {
            let value = tokens.get(at + 1).map(|token| token.text);
            return (known(name, value), at + 2);
        }
        return (known(name, None), at);
    }
    at += 1;
    let mut values = Vec::new();
    while at < tokens.len() && !tokens[at].is_mark(")") {
        if tokens[at].is_mark(",") {
            at += 1;
            continue;
        }
        let (value, next) = evaluate(tokens, at, known);
        values.push(value);
        at = next.max(at + 1);
    }
    let value = match name {
        "not" => values.first().copied().flatten().map(|value| !value),
        "any" if values.contains(&Some(true)) => Some(true),
        "any" if values.contains(&None) => None,
        "any" => Some(false),
        _ if values.contains(&Some(false)) => Some(false),
        _ if values.contains(&None) => None,
        _ => Some(true),
    };
    (value, at + 1)
}

#[test]
fn code_is_separated_from_strings_and_comments() {
    let text = "let a = \"use crate::x; // no\"; // crate::y\n/* crate::z /* nested */ */ let b = r#\"\"c\"#; let c = '\"'; fn f<'a>() {}";
    let lexed = lex(text);
    let words: Vec<_> = lexed.tokens.iter().filter(|t| t.kind == Kind::Word).map(|t| t.text).collect();
    assert_eq!(words, ["let", "a", "let", "b", "let", "c", "fn", "f"]);
    let texts: Vec<_> = lexed.tokens.iter().filter(|t| t.kind == Kind::Text).map(|t| t.text).collect();
    assert_eq!(texts, ["use crate::x; // no", "\"c"]);
    assert_eq!(lexed.comments.len(), 2);
    assert_eq!(lexed.tokens.last().expect("there are tokens").line, 2);
}

#[test]
fn conditions_of_compilation_are_read() {
    let lexed = lex("#[cfg(test)]\nmod a { fn x() {} }\n#[cfg(any(test, fuzzing))] fn b() {}\n\
                     #[cfg(target_os = \"linux\")] fn c<A, B>(a: A, b: B) {}\n#[cfg(not(target_os = \"macos\"))] use d::d;\n\
                     struct S { #[cfg(test)] e: u8, f: u8 }");
    let test: Vec<_> = lexed.tokens.iter().filter(|t| t.test && t.kind == Kind::Word).map(|t| t.text).collect();
    assert_eq!(test, ["cfg", "test", "mod", "a", "fn", "x", "cfg", "test", "e", "u8"]);
    let away: Vec<_> = lexed.tokens.iter().filter(|t| t.not_on_macos && t.kind == Kind::Word).map(|t| t.text).collect();
    assert_eq!(
        away,
        ["cfg", "target_os", "fn", "c", "A", "B", "a", "A", "b", "B", "cfg", "not", "target_os", "use", "d", "d"]
    );
    assert_eq!(lexed.test_lines, [(1, 2), (6, 6)]);
}
