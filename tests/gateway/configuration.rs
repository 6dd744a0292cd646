//! The configuration as people meet it: `config`, places and suggestions in errors, addresses on the command line, completions
//! and manual pages.

use serde_json::Value;

use crate::harness::{Program, Run, UPSTREAM_KEY, Upstream};

/// Asserts exit code 64 and that the only line begins with one text and contains others.
#[track_caller]
fn is_refused(run: &Run, start: &str, parts: &[&str]) {
    assert_eq!((run.code, run.stdout.as_str()), (Some(64), ""), "{run:?}");
    let line = run.stderr.strip_prefix("gptproto-gateway: ").unwrap();
    assert!(line.lines().count() == 1 && line.starts_with(start), "{line}");
    for part in parts {
        assert!(line.contains(part), "no {part:?} in {line}");
    }
}

#[tokio::test]
async fn a_mistake_has_its_place_its_values_an_example_and_what_was_meant() {
    let program = Program::bare();
    for (text, line, parts) in [
        ("[upstream]\nfrist_poll_ms = 5\n", 2, &["upstream.frist_poll_ms", "did you mean upstream.first_poll_ms?"][..]),
        ("\n[cache]\nttl_s = -1\n", 3, &["cache.ttl_s", "from 0 to 315360000", "for example: ttl_s = 86400"]),
        ("[cache]\nmode = \"perhaps\"\n", 2, &["cache.mode: must be \"on\" or \"off\"", "for example: mode = \"on\""]),
        (
            "[server]\nhosts = \"a.test\"\n",
            2,
            &["server.hosts", "a list", "for example: hosts = [\"images.example.com\"]"],
        ),
        ("[server]\nlisten = 8787\n", 2, &["server.listen", "a text in quotes"]),
        ("[server]\nlisten = \"localhost\"\n", 2, &["server.listen", "localhost:8787"]),
        ("[sever]\n", 1, &["unknown section [sever]", "did you mean [server]?"]),
        ("[server\n", 1, &[]),
        ("[[clients]]\nname = \"a\"\n", 1, &["clients, entry 1", "has no key_digest"]),
    ] {
        let file = program.file("g.toml", text);
        let file = file.to_str().unwrap();
        for arguments in [&["serve", "--config", file][..], &["check", "--config", file], &["config", "check", file]] {
            is_refused(&program.run(arguments).await, &format!("{file}:{line}: "), parts);
        }
    }
    for (name, value, parts) in [
        ("GATEWAY_SERVER_LISTEN", "x", &["did you mean GATEWAY_SERVER__LISTEN?"][..]),
        ("GATEWAY_CACHE__TTL", "5", &["did you mean GATEWAY_CACHE__TTL_S?"]),
        ("GATEWAY_CLIENT_KEY", "alice:0123456789abcdef", &["did you mean GATEWAY_CLIENT_KEYS?"]),
        ("GATEWAY_CACHE__TTL_S", "soon", &["from 0 to 315360000", "for example: GATEWAY_CACHE__TTL_S=86400"]),
        ("GATEWAY_CACHE__MODE", "perhaps", &["cache.mode", "\"on\" or \"off\"", "GATEWAY_CACHE__MODE=on"]),
    ] {
        is_refused(&program.clone().variable(name, value).run(&["config", "check"]).await, &format!("{name}: "), parts);
    }
}

#[tokio::test]
async fn a_variable_in_quotes_is_named_and_its_value_is_not() {
    // As `docker run --env-file` passes KEY="value" on.
    for (name, value) in [
        ("GPTPROTO_API_KEY", "\"sk-hunter2-hunter2\""),
        ("GPTPROTO_API_KEYS", "'one:sk-hunter2'"),
        ("GATEWAY_CLIENT_KEYS", "\"alice:hunter2-hunter2-hunter2\""),
        ("GATEWAY_ADMIN_TOKEN", "\"hunter2-hunter2-hunter2-hunter2\""),
        ("GATEWAY_CONFIG", "\"/etc/hunter2.toml\""),
        ("GPTPROTO_API_KEY_FILE", "\"/run/secrets/hunter2\""),
        ("GATEWAY_STORAGE__DIRECTORY", "\"./hunter2\""),
        ("GATEWAY_CACHE__TTL_S", "'60'"),
    ] {
        let run = Program::bare().variable(name, value).run(&["serve"]).await;
        is_refused(&run, &format!("{name}: is in quotes; remove them"), &["--env-file"]);
        assert!(!run.stderr.contains("hunter2"), "{}", run.stderr);
    }
}

#[tokio::test]
async fn a_check_of_a_file_finds_every_mistake_at_once_and_starts_nothing() {
    let program = Program::bare().variable("GATEWAY_CACHE__TTLS", "5");
    let file = program.file("g.toml", "[server]\nwaters_max = 5\nheaders_max = \"many\"\n[upstream]\napi = 5\n");
    let run = program.run(&["config", "check", file.to_str().unwrap()]).await;
    assert_eq!(run.code, Some(64));
    let lines: Vec<&str> = run.stderr.lines().collect();
    for part in [
        ":2: unknown key server.waters_max; did you mean server.waiters_max?",
        ":5: upstream.api: ",
        "GATEWAY_CACHE__TTLS",
    ] {
        assert_eq!(lines.iter().filter(|line| line.contains(part)).count(), 1, "{part} in {lines:?}");
    }
    let valid = Program::bare();
    let file = valid.file("g.toml", "[cache]\nttl_s = 5\nmode = \"on\"\n");
    let run = valid.run(&["config", "check", file.to_str().unwrap()]).await;
    assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""), "{run:?}");
    assert!(
        run.stdout.contains("g.toml: valid; 1 of ") && run.stdout.contains("note: no upstream key"),
        "{}",
        run.stdout
    );
    let left: Vec<_> =
        std::fs::read_dir(valid.directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["g.toml"]);
    is_refused(
        &valid.run(&["config", "check", "nowhere.toml"]).await,
        "cannot read the configuration nowhere.toml",
        &[],
    );
}

#[tokio::test]
async fn what_is_in_force_is_printed_with_its_source_and_without_secrets() {
    let program = Program::bare()
        .variable("GPTPROTO_API_KEY", UPSTREAM_KEY)
        .variable("GATEWAY_SERVER__WAITERS_MAX", "7")
        .variable("GATEWAY_CLIENT_KEYS", "alice:vQ7kZp3XvQ7kZp3XvQ7kZp3X");
    let file = program.file("gptproto-gateway.toml", "[cache]\n\nttl_s = 5\n");
    let run = program.run(&["config", "print"]).await;
    assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""), "{run:?}");
    let comment = |key: &str| {
        let line = run.stdout.lines().find(|line| line.starts_with(&format!("{key} = "))).unwrap();
        line.split_once(" # ").unwrap().1.to_owned()
    };
    let shown = file.file_name().unwrap().to_str().unwrap();
    assert!(comment("ttl_s").ends_with(&format!("{shown}:3")), "{}", comment("ttl_s"));
    assert_eq!(comment("waiters_max"), "GATEWAY_SERVER__WAITERS_MAX");
    assert_eq!(comment("web"), "default");
    assert!(run.stdout.contains("GPTPROTO_API_KEY           set by the variable"), "{}", run.stdout);
    assert!(!run.stdout.contains("vQ7kZp3X"), "{}", run.stdout);
    // What is printed is a file that means the same.
    let printed = program.file("printed.toml", &run.stdout);
    let again = program.clone().without("GATEWAY_SERVER__WAITERS_MAX");
    let again = again.run(&["config", "print", "--changed", "--config", printed.to_str().unwrap()]).await;
    let changed: Vec<&str> = again.stdout.lines().filter(|line| !line.starts_with(['#', '['])).collect();
    let keys: Vec<&str> = changed.iter().filter_map(|line| line.split_once(" = ")).map(|(key, _)| key).collect();
    assert_eq!(keys, ["waiters_max", "ttl_s"], "{}", again.stdout);
}

#[tokio::test]
async fn the_schema_is_one_document_of_every_key() {
    let run = Program::bare().run(&["config", "schema"]).await;
    assert_eq!(run.code, Some(0));
    let schema: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    let defaults: toml::Table = include_str!("../../config/default.toml").parse().unwrap();
    for (section, keys) in &defaults {
        for (key, default) in keys.as_table().unwrap() {
            let found = &schema["properties"][section]["properties"][key];
            assert_eq!(found["default"], serde_json::to_value(default).unwrap(), "{section}.{key}");
            assert!(found["description"].as_str().is_some_and(|text| text.len() > 10), "{section}.{key}");
            assert!(found["type"].is_string(), "{section}.{key}");
            assert_eq!(found["minimum"].is_number(), default.is_integer() || default.is_float(), "{section}.{key}");
        }
    }
}

#[tokio::test]
async fn addresses_of_the_command_line_come_before_all_others() {
    let upstream = Upstream::start().await;
    let program = Program::on(&upstream)
        .variable("GATEWAY_SERVER__LISTEN", "192.0.2.1:1")
        .variable("GATEWAY_OPERATOR__LISTEN", "192.0.2.1:1");
    let listen = ["serve", "--listen", "127.0.0.1:0", "--operator-listen", "127.0.0.1:0"];
    let serving = program.serve(&listen).await;
    assert_eq!(serving.alice().get("/v1/models").await.status, 200);
    let operator = serving.operator().replace("http://", "");
    let run = program.run(&["healthcheck", "--operator-listen", &operator]).await;
    assert_eq!(run.code, Some(0), "{run:?}");
    assert_eq!(serving.terminate().await, Some(0));
    let run = program.run(&["serve", "--listen", "here"]).await;
    is_refused(&run, "", &["--listen", "must be an address and a port"]);
}

#[tokio::test]
async fn packages_get_completions_and_manual_pages() {
    let program = Program::bare();
    for shell in ["bash", "zsh", "fish"] {
        let run = program.run(&["completions", shell]).await;
        assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""), "{shell}");
        for word in ["gptproto-gateway", "sandbox", "operator-listen", "reconcile", "changed"] {
            assert!(run.stdout.contains(word), "{shell} has no {word}");
        }
    }
    let page = program.run(&["man"]).await;
    assert_eq!(page.code, Some(0));
    assert!(
        page.stdout.contains(".TH gptproto\\-gateway 1") || page.stdout.contains(".TH gptproto-gateway 1"),
        "{}",
        page.stdout
    );
    let run = program.run(&["man", "--directory", "man1"]).await;
    assert_eq!(run.code, Some(0), "{run:?}");
    for name in [
        "gptproto-gateway.1",
        "gptproto-gateway-serve.1",
        "gptproto-gateway-config-check.1",
        "gptproto-gateway-ledger-list.1",
    ] {
        assert!(run.stdout.lines().any(|line| line == name), "{name} in {}", run.stdout);
        assert!(std::fs::metadata(program.directory.path().join("man1").join(name)).unwrap().len() > 200, "{name}");
    }
}
