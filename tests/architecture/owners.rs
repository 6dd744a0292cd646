//! Crates and secrets that belong to one module.

use crate::lexer::Kind;
use crate::tree::Tree;

/// Paths into crates that the module of the file must not name.
pub(crate) fn check_crates(tree: &Tree<'_>, never: &[(&str, &[&str])]) -> Vec<String> {
    let mut broken = Vec::new();
    for mention in &tree.mentions {
        let file = tree.file_of(mention.module);
        let crates = never.iter().find(|(module, _)| *module == file.top()).map_or(&[][..], |(_, crates)| crates);
        if let Some(name) = mention.segments.first().filter(|name| crates.contains(&name.as_str())) {
            broken.push(format!(
                "{}:{}: `{}` may not use `{name}`; another module owns what it does.",
                file.path,
                mention.line,
                file.top()
            ));
        }
    }
    broken
}

/// HTTP clients outside of `owners`. `webhooks` sends to addresses of clients, so it must have nothing that they must
/// not see: it is no part of the upstream, survives by the journal and asks for no reservation.
pub(crate) fn check_clients(tree: &Tree<'_>, owners: &[&str]) -> Vec<String> {
    const CLIENTS: [&[&str]; 3] = [&["reqwest", "Client"], &["Client", "builder"], &["hyper_util", "client"]];
    const SECRETS: [&str; 6] = ["AUTHORIZATION", "bearer_auth", "Account", "UpstreamConfig", "api_key", "cookie"];
    let mut broken = Vec::new();
    for mention in &tree.mentions {
        let file = tree.file_of(mention.module);
        if owners.contains(&file.top()) || file.top() == "webhooks" {
            continue;
        }
        let names = |path: &&[&str]| mention.segments.windows(2).any(|pair| pair == *path);
        if let Some(path) = CLIENTS.iter().find(|path| names(path)) {
            broken.push(format!(
                "{}:{}: `{}` builds an HTTP client (`{}`); only these do: {}.",
                file.path,
                mention.line,
                file.top(),
                path.join("::"),
                owners.join(", ")
            ));
        }
    }
    for file in tree.files.iter().filter(|file| file.top() == "webhooks") {
        for token in file.lexed.tokens.iter().filter(|token| matches!(token.kind, Kind::Word | Kind::Text)) {
            if let Some(secret) = SECRETS.iter().find(|secret| token.text.contains(**secret)) {
                broken.push(format!(
                    "{}:{}: `{}` names `{secret}`; what sends to clients' addresses must not know it.",
                    file.path,
                    token.line,
                    file.top()
                ));
            }
        }
    }
    broken
}

#[cfg(test)]
mod planted {
    use super::*;
    use crate::tree::Repository;

    #[test]
    fn a_crate_in_the_wrong_module_is_found() {
        let files = [
            ("src/a.rs", "use axum::Router;\nuse {serde::Serialize, reqwest::Url};\n// axum::x\n"),
            ("src/a/b.rs", "fn f() { x::axum::y(); let _ = axum::z(); }"),
            ("src/c.rs", "use axum::Router;"),
        ];
        let repository = Repository::of(&files);
        let broken = check_crates(&Tree::new(&repository), &[("a", &["axum", "reqwest"])]);
        let places: Vec<_> = broken.iter().map(|text| text.split(": ").next().unwrap_or_default()).collect();
        assert_eq!(places, ["src/a.rs:1", "src/a.rs:2", "src/a/b.rs:1"]);
    }

    #[test]
    fn an_http_client_or_a_secret_in_the_wrong_module_is_found() {
        let files = [
            (
                "src/a.rs",
                "use reqwest::{Client, redirect};\nfn f() { Client::builder(); hyper_util::client::legacy::x(); }",
            ),
            ("src/upstream.rs", "use reqwest::Client;"),
            (
                "src/webhooks.rs",
                "use reqwest::Client; // Account\nuse crate::config::AccountKey;\nconst A: &str = \"cookie\";",
            ),
        ];
        let repository = Repository::of(&files);
        let broken = check_clients(&Tree::new(&repository), &["upstream"]);
        let places: Vec<_> = broken.iter().map(|text| text.split(": ").next().unwrap_or_default()).collect();
        assert_eq!(places, ["src/a.rs:1", "src/a.rs:2", "src/a.rs:2", "src/webhooks.rs:2", "src/webhooks.rs:3"]);
    }
}
