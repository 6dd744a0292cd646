//! The guided set-up with piped input, and the places where a configuration is found.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use crate::harness::{OTHER_UPSTREAM_KEY, Program, Run, UPSTREAM_KEY, Upstream};

/// A program with a home of its own.
fn at_home() -> Program {
    let program = Program::bare();
    let home = program.directory.path().join("home");
    std::fs::create_dir(&home).unwrap();
    // The files that the set-up writes the upstream key to are inputs of `serve`; every other file is searched for keys.
    let names = ["upstream-key", "own.upstream-key", "a.upstream-key", "c.upstream-key"];
    let files = names.map(|name| program.directory.path().join(name));
    let files = files.into_iter().chain([home.join(".config/gptproto-gateway/upstream-key")]);
    let keys: Vec<String> = files.map(|file| file.display().to_string()).collect();
    program.file("inputs", &keys.join("\n"));
    program.variable("HOME", home.to_str().unwrap())
}

fn configuration(program: &Program) -> PathBuf {
    program.directory.path().join("home/.config/gptproto-gateway/config.toml")
}

/// The client key that a run printed.
#[track_caller]
fn client_key(run: &Run) -> String {
    assert_eq!(run.code, Some(0), "{run:?}");
    let key = run.stdout.lines().map(str::trim).find(|line| line.starts_with("sk-gw-"));
    key.unwrap_or_else(|| panic!("no key in {}", run.stdout)).to_owned()
}

#[tokio::test]
async fn the_set_up_asks_again_after_a_refused_key_and_serve_finds_what_it_wrote() {
    let upstream = Upstream::start().await;
    let program = at_home();
    let init = ["init", "--base-url", &upstream.origin];

    let run = program.run_with_input(&init, &format!("sk-wrong\n{UPSTREAM_KEY}\nn\n")).await;

    let key = client_key(&run);
    assert!(run.stdout.contains("refuses the key") && run.stdout.contains("Try another one"), "{}", run.stdout);
    assert!(run.stdout.contains("at most $0.0"), "the price of a live check: {}", run.stdout);
    assert!(!run.stdout.contains(UPSTREAM_KEY), "the upstream key is not shown");
    assert_eq!(run.stdout.matches(&key).count(), 2, "the key by itself, and in the line for the environment");
    let file = configuration(&program);
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(upstream.submits().await, 0);

    let check = program.run(&["check"]).await;
    assert_eq!(check.code, Some(0), "{check:?}");
    assert!(check.stderr.contains(file.to_str().unwrap()), "{}", check.stderr);
    let listening = program.clone().variable("GATEWAY_SERVER__LISTEN", "127.0.0.1:0");
    let serving = listening.variable("GATEWAY_OPERATOR__LISTEN", "127.0.0.1:0").serve(&["serve"]).await;
    assert!(serving.banner().contains(file.to_str().unwrap()), "{}", serving.banner());
    assert!(serving.log().contains("configuration read"), "{}", serving.log());
    assert_eq!(serving.client(&key).get("/v1/models").await.status, 200);
    assert!(program.directory.path().join("home/.local/share/gptproto-gateway").is_dir(), "the data has a fixed place");
}

#[tokio::test]
async fn nothing_is_replaced_or_written_without_being_asked() {
    let upstream = Upstream::start().await;
    let program = at_home();
    let init = ["init", "--base-url", &upstream.origin];
    let no_key = program.run_with_input(&init, "\n").await;
    assert_eq!(no_key.code, Some(64), "{no_key:?}");
    assert!(!configuration(&program).exists());
    client_key(&program.run_with_input(&init, &format!("{UPSTREAM_KEY}\n")).await);
    let before = std::fs::read(configuration(&program)).unwrap();

    let refused = program.run_with_input(&init, "n\n").await;
    assert_eq!(refused.code, Some(64), "{refused:?}");
    let silent = program.clone().variable("GPTPROTO_API_KEY", UPSTREAM_KEY);
    let silent = silent.run(&[&init[..], &["--non-interactive"]].concat()).await;
    assert_eq!(silent.code, Some(64), "{silent:?}");
    assert_eq!(std::fs::read(configuration(&program)).unwrap(), before);
    client_key(&program.run_with_input(&init, &format!("y\n{UPSTREAM_KEY}\n")).await);
    assert_ne!(std::fs::read(configuration(&program)).unwrap(), before);
}

#[tokio::test]
async fn a_service_that_cannot_be_reached_is_named_and_the_file_written_only_where_wanted() {
    let program = at_home();
    let init = ["init", "--base-url", "http://127.0.0.1:9"];
    let refused = program.run_with_input(&init, &format!("{UPSTREAM_KEY}\nn\n")).await;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stdout.contains("cannot be reached") && !configuration(&program).exists(), "{refused:?}");
    client_key(&program.run_with_input(&init, &format!("{UPSTREAM_KEY}\ny\n")).await);
    assert!(configuration(&program).exists());

    let scripted = at_home().variable("GPTPROTO_API_KEY", UPSTREAM_KEY);
    let file = scripted.directory.path().join("own.toml");
    let own = ["--config", file.to_str().unwrap(), "--non-interactive", "--name", "ci"];
    let run = scripted.run(&[&init[..], &own].concat()).await;
    client_key(&run);
    assert!(run.stdout.contains("serve --config") && run.stdout.contains("unset GPTPROTO_API_KEY "), "{}", run.stdout);
}

#[tokio::test]
async fn configurations_side_by_side_have_keys_and_data_of_their_own() {
    let upstream = Upstream::start().await;
    let program = at_home();
    let init = ["init", "--base-url", &upstream.origin, "--config"];
    client_key(&program.run_with_input(&[&init[..], &["a.toml"]].concat(), &format!("{UPSTREAM_KEY}\n")).await);
    let silent = program.clone().variable("GPTPROTO_API_KEY", OTHER_UPSTREAM_KEY);
    let unreachable = ["init", "--non-interactive", "--base-url", "http://127.0.0.1:9", "--config"];
    client_key(&silent.run(&[&unreachable[..], &["c.toml"]].concat()).await);
    let read = |name: &str| std::fs::read_to_string(program.directory.path().join(name)).unwrap();
    assert_eq!(read("a.upstream-key"), format!("{UPSTREAM_KEY}\n"), "that of the other one is as it was");
    for name in ["a", "c"] {
        assert!(read(&format!("{name}.toml")).contains(&format!("/.local/share/gptproto-gateway-{name}\"")), "{name}");
    }

    // A file that is in the way of the key alone.
    std::fs::remove_file(program.directory.path().join("a.toml")).unwrap();
    let refused = silent.run(&[&unreachable[..], &["a.toml"]].concat()).await;
    assert!(refused.code == Some(64) && refused.stderr.contains("a.upstream-key exists"), "{refused:?}");
    assert_eq!(read("a.upstream-key"), format!("{UPSTREAM_KEY}\n"));
}

#[tokio::test]
async fn what_no_key_can_mend_is_said_before_one_is_asked_for() {
    let program = at_home();
    let run = program.run_with_input(&["init", "--base-url", "notaurl"], &format!("{UPSTREAM_KEY}\n")).await;
    assert!(run.code == Some(64) && run.stderr.contains("--base-url: "), "{run:?}");
    assert!(run.stdout.is_empty() && !configuration(&program).exists(), "{run:?}");
    for command in ["serve", "check"] {
        let run = program.run(&[command]).await;
        let said = format!("{}{}", run.stdout, run.stderr);
        assert!(run.code != Some(0) && said.contains("`gptproto-gateway init`"), "{run:?}");
    }
}

#[tokio::test]
async fn a_client_key_that_cannot_be_shown_is_a_failure() {
    let scripted = at_home().variable("GPTPROTO_API_KEY", UPSTREAM_KEY);
    let code = scripted.run_unread(&["init", "--non-interactive", "--base-url", "http://127.0.0.1:9"]).await;
    assert_eq!(code, Some(1));
}

#[tokio::test]
async fn the_live_check_of_the_set_up_buys_once_after_a_yes() {
    let upstream = Upstream::start().await;
    let run =
        at_home().run_with_input(&["init", "--base-url", &upstream.origin], &format!("{UPSTREAM_KEY}\ny\n")).await;
    client_key(&run);
    assert!(run.stdout.contains("Everything that was checked works."), "{}", run.stdout);
    assert_eq!(upstream.purchases().await, 1);
}

#[tokio::test]
async fn a_file_is_found_in_the_folder_before_the_users_and_never_by_the_sandbox() {
    let program = at_home();
    std::fs::create_dir_all(configuration(&program).parent().unwrap()).unwrap();
    std::fs::write(configuration(&program), "[cache]\nmistake_of_the_user = 1\n").unwrap();
    let users = program.run(&["check"]).await;
    assert!(users.code == Some(64) && users.stderr.contains("mistake_of_the_user"), "{users:?}");
    program.file("gptproto-gateway.toml", "[cache]\nmistake_of_the_folder = 1\n");
    for command in [&["check"][..], &["serve"], &["ledger", "list"], &["healthcheck"], &["generate", "p"]] {
        let run = program.run(command).await;
        assert!(run.code == Some(64) && run.stderr.contains("mistake_of_the_folder"), "{command:?}: {run:?}");
    }
    let named =
        program.clone().variable("GATEWAY_CONFIG", program.file("other.toml", "[cache]\nother = 1").to_str().unwrap());
    assert!(named.run(&["check"]).await.stderr.contains("cache.other"));

    let sandbox = program.variable("GATEWAY_SERVER__LISTEN", "127.0.0.1:0");
    let sandbox = sandbox.variable("GATEWAY_OPERATOR__LISTEN", "127.0.0.1:0");
    let serving = sandbox.serve(&["serve", "--sandbox"]).await;
    assert!(!serving.banner().contains("configuration"), "{}", serving.banner());
    assert_eq!(sandbox.run(&["ledger", "list", "--sandbox"]).await.code, Some(0));
}
