//! Stored pictures and the journal: `ledger verify`, and a journal that was lost or replaced.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::harness::{Edit, Program, Run, Serving, Upstream, until};

/// The files of a folder, with their bytes.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let Ok(entries) = fs::read_dir(folder) else { return BTreeMap::new() };
    let files = entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_file());
    files.map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

fn results(program: &Program) -> BTreeMap<PathBuf, Vec<u8>> {
    files(&program.directory.path().join("results"))
}

fn orphans(program: &Program) -> BTreeMap<PathBuf, Vec<u8>> {
    files(&program.directory.path().join("orphans"))
}

/// Removes the journal with its write-ahead log.
fn lose_journal(program: &Program) {
    for file in ["journal.sqlite", "journal.sqlite-wal", "journal.sqlite-shm"] {
        let _ = fs::remove_file(program.directory.path().join(file));
    }
}

async fn edit(gateway: &Serving, prompt: &str) {
    gateway.alice().edit(&Edit::new(prompt)).await.picture();
}

async fn verify(program: &Program, arguments: &[&str]) -> (Run, Vec<String>) {
    let run = program.run(&[&["ledger", "verify", "--json"], arguments].concat()).await;
    let report: Value = serde_json::from_str(&run.stdout).unwrap_or_else(|_| panic!("{run:?}"));
    let problems = report["problems"].as_array().unwrap();
    let kinds: Vec<String> = problems.iter().map(|problem| problem["problem"].as_str().unwrap().to_owned()).collect();
    assert_eq!(report["fits"].as_bool().unwrap(), kinds.is_empty());
    (run, kinds)
}

/// A program with this number of different pictures, each bought by itself, and not running any more.
async fn bought(upstream: &Upstream, count: usize) -> Program {
    let program = Program::on(upstream).variable("GATEWAY_STORAGE__JOURNAL_PICTURE_BYTES_MAX", "0");
    let gateway = program.serve(&["serve"]).await;
    for number in 0..count {
        edit(&gateway, &format!("picture {number}")).await;
    }
    gateway.terminate().await;
    assert_eq!(results(&program).len(), count);
    program
}

#[tokio::test]
async fn what_fits_is_said_to_fit_beside_a_gateway_that_runs() {
    let upstream = Upstream::start().await;
    let program = Program::on(&upstream);
    let missing = program.run(&["ledger", "verify"]).await;
    assert_eq!(missing.code, Some(2), "not carried out: {missing:?}");
    let gateway = program.serve(&["serve"]).await;
    edit(&gateway, "a picture").await;
    let (run, kinds) = verify(&program, &[]).await;
    assert_eq!((run.code, kinds.len()), (Some(0), 0), "{run:?}");
    let text = program.run(&["ledger", "verify"]).await;
    assert!(
        text.stdout.contains("1 jobs with 1 stored pictures") && text.stdout.contains("everything fits"),
        "{text:?}"
    );
    let repair = program.run(&["ledger", "verify", "--repair"]).await;
    assert_eq!(repair.code, Some(2), "{repair:?}");
    assert!(repair.stderr.contains("in use by another gateway") && repair.stderr.contains("stop"), "{repair:?}");
    assert_eq!(program.run(&["ledger", "verify", "--mend"]).await.code, Some(64));
    gateway.terminate().await;
}

#[tokio::test]
async fn damaged_missing_and_unknown_pictures_are_reported_and_left_as_they_are() {
    let upstream = Upstream::start().await;
    let program = bought(&upstream, 4).await;
    let stored: Vec<PathBuf> = results(&program).into_keys().collect();
    let mut bytes = fs::read(&stored[0]).unwrap();
    bytes[100] ^= 1;
    fs::write(&stored[0], bytes).unwrap();
    fs::write(&stored[1], b"short").unwrap();
    fs::remove_file(&stored[2]).unwrap();
    fs::write(stored[3].with_file_name("0".repeat(64)), b"unknown").unwrap();
    fs::write(program.directory.path().join("orphans").join("1".repeat(64)), b"orphan").unwrap();
    let before = (results(&program), orphans(&program));
    let (run, mut kinds) = verify(&program, &[]).await;
    kinds.sort();
    assert_eq!(kinds, ["damaged", "damaged", "missing", "orphan", "unknown"]);
    assert_eq!(run.code, Some(1), "{run:?}");
    let text = program.run(&["ledger", "verify"]).await;
    assert_eq!(text.code, Some(1));
    for word in ["PROBLEM", "other bytes", "5 bytes instead of", "there is no file", "verify --repair", "result_lost"] {
        assert!(text.stdout.contains(word), "{word} in {}", text.stdout);
    }
    assert_eq!((results(&program), orphans(&program)), before, "nothing is changed");
    assert_eq!(upstream.submits().await, 4);
}

#[tokio::test]
async fn pictures_that_are_damaged_in_the_journal_are_reported_and_repaired() {
    let upstream = Upstream::start().await;
    let program = Program::on(&upstream);
    let gateway = program.serve(&["serve"]).await;
    for prompt in ["changed", "cut", "missing", "intact"] {
        edit(&gateway, prompt).await;
    }
    gateway.terminate().await;
    assert_eq!(verify(&program, &[]).await.1.len(), 0);
    let journal = rusqlite::Connection::open(program.directory.path().join("journal.sqlite")).unwrap();
    for (row, damage) in [
        (1, "UPDATE contents SET bytes = zeroblob(length(bytes))"),
        (2, "UPDATE contents SET bytes = zeroblob(5)"),
        (3, "DELETE FROM contents"),
    ] {
        assert_eq!(journal.execute(&format!("{damage} WHERE rowid = {row}"), ()).unwrap(), 1);
    }
    drop(journal);
    let (run, mut kinds) = verify(&program, &[]).await;
    kinds.sort();
    assert_eq!((run.code, kinds), (Some(1), ["damaged", "damaged", "missing"].map(str::to_owned).into()));
    let text = program.run(&["ledger", "verify"]).await.stdout;
    for word in ["other bytes", "5 bytes instead of", "there is no file"] {
        assert!(text.contains(word), "{word} in {text}");
    }
    let repair = program.run(&["ledger", "verify", "--repair"]).await;
    assert_eq!(repair.code, Some(0), "{repair:?}");
    assert_eq!(verify(&program, &[]).await.1.len(), 0);
    assert_eq!(results(&program).into_keys().filter(|path| path.file_name().unwrap().len() == 64).count(), 3);
    assert_eq!(upstream.submits().await, 4);
}

#[tokio::test]
async fn a_start_without_the_journal_is_refused_and_can_be_accepted_once() {
    let upstream = Upstream::start().await;
    let program = bought(&upstream, 2).await;
    let stored = results(&program);
    lose_journal(&program);
    for _ in 0..2 {
        let refused = program.run(&["serve"]).await;
        assert_eq!(refused.code, Some(1), "{refused:?}");
        for word in ["2 stored pictures", "journal.sqlite is missing", "backup", "serve --accept-new-journal"] {
            assert!(refused.stderr.contains(word), "{word} in {}", refused.stderr);
        }
        assert_eq!(results(&program), stored);
        let check = program.run(&["check"]).await;
        assert!(check.stdout.contains("journal.sqlite is missing"), "{check:?}");
    }
    let gateway = program.serve(&["serve", "--accept-new-journal"]).await;
    until("they are set aside", async || orphans(&program).len() == 2).await;
    assert!(results(&program).is_empty());
    until("that is logged", async || gateway.log().contains("not in the journal")).await;
    gateway.terminate().await;
    // Nothing of it is in the way of a later start.
    let gateway = program.serve(&["serve"]).await;
    edit(&gateway, "another").await;
    gateway.terminate().await;
    assert_eq!(orphans(&program).into_values().collect::<Vec<_>>(), stored.into_values().collect::<Vec<_>>());
}

#[tokio::test]
async fn a_start_without_the_journal_that_had_the_pictures_is_refused_and_can_be_accepted_once() {
    let upstream = Upstream::start().await;
    let program = Program::on(&upstream);
    let gateway = program.serve(&["serve"]).await;
    edit(&gateway, "a small picture").await;
    gateway.terminate().await;
    lose_journal(&program);
    let refused = program.run(&["serve"]).await;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    for word in ["a journal with pictures", "journal.sqlite is missing", "backup", "serve --accept-new-journal"] {
        assert!(refused.stderr.contains(word), "{word} in {}", refused.stderr);
    }
    program.serve(&["serve", "--accept-new-journal"]).await.terminate().await;
    // Nothing of it is in the way of a later start.
    let gateway = program.serve(&["serve"]).await;
    edit(&gateway, "another").await;
    gateway.terminate().await;
}

#[tokio::test]
async fn pictures_that_an_older_journal_does_not_know_come_back_with_the_right_one() {
    let upstream = Upstream::start().await;
    let program = bought(&upstream, 1).await;
    let path = |name: &str| program.directory.path().join(name);
    fs::copy(path("journal.sqlite"), path("backup")).unwrap();
    let gateway = program.serve(&["serve"]).await;
    edit(&gateway, "after the backup").await;
    gateway.terminate().await;
    let stored = results(&program);
    fs::rename(path("journal.sqlite"), path("right")).unwrap();
    fs::copy(path("backup"), path("journal.sqlite")).unwrap();

    let gateway = program.serve(&["serve"]).await;
    until("one is set aside", async || orphans(&program).len() == 1).await;
    assert_eq!(results(&program).len(), 1);
    gateway.terminate().await;

    lose_journal(&program);
    fs::rename(path("right"), path("journal.sqlite")).unwrap();
    let gateway = program.serve(&["serve"]).await;
    let again = gateway.alice().edit(&Edit::new("after the backup")).await;
    assert_eq!(again.cache(), "hit");
    until("it is back", async || results(&program) == stored).await;
    assert!(orphans(&program).is_empty());
    gateway.terminate().await;
    assert_eq!(upstream.submits().await, 2, "nothing was bought twice");
}

#[tokio::test]
async fn a_damaged_picture_that_is_too_large_for_memory_is_not_sent() {
    let upstream = Upstream::start().await;
    let program = Program::on(&upstream)
        .variable("GATEWAY_STORAGE__JOURNAL_PICTURE_BYTES_MAX", "0")
        .variable("GATEWAY_CACHE__MEMORY_PICTURE_BYTES_MAX", "0");
    let gateway = program.serve(&["serve"]).await;
    let edit = Edit::new("a picture");
    let first = gateway.alice().edit(&edit).await.picture();
    assert_eq!(gateway.alice().edit(&edit).await.cache(), "hit");
    let path = results(&program).into_keys().next().unwrap();
    let mut bytes = fs::read(&path).unwrap();
    bytes[100] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let answer = gateway.alice().edit(&edit).await;
    assert!(answer.status != 200 || answer.picture() == first, "other bytes");
    gateway.terminate().await;
}

#[tokio::test]
async fn damaged_and_missing_pictures_are_fetched_again_and_orphans_brought_back() {
    let upstream = Upstream::start().await;
    let program = bought(&upstream, 4).await;
    let before = results(&program);
    let stored: Vec<PathBuf> = before.keys().cloned().collect();
    let mut bytes = fs::read(&stored[0]).unwrap();
    bytes[100] ^= 1;
    fs::write(&stored[0], bytes).unwrap();
    fs::remove_file(&stored[1]).unwrap();
    let orphan = program.directory.path().join("orphans").join(stored[2].file_name().unwrap());
    fs::rename(&stored[2], orphan).unwrap();
    assert_eq!(verify(&program, &[]).await.0.code, Some(1));

    let (run, kinds) = verify(&program, &["--repair"]).await;

    assert_eq!((run.code, kinds.len()), (Some(0), 0), "{run:?}");
    assert_eq!(results(&program), before);
    assert_eq!(upstream.submits().await, 4, "nothing is bought");
}

#[tokio::test]
async fn what_the_upstream_no_longer_has_stays_reported() {
    let upstream = Upstream::start().await;
    let program = bought(&upstream, 1).await;
    let stored = results(&program).into_keys().next().unwrap();
    fs::remove_file(&stored).unwrap();
    // Another simulator knows none of the ids.
    let other = Upstream::start().await;
    let program = program
        .variable("GATEWAY_UPSTREAM__BASE_URL", &other.origin)
        .variable("GATEWAY_UPSTREAM__REFETCH_TIMEOUT_S", "2");
    let (run, kinds) = verify(&program, &["--repair"]).await;
    assert_eq!((run.code, kinds), (Some(1), vec!["missing".to_owned()]), "{run:?}");
    assert_eq!(other.submits().await, 0, "nothing is bought");
    let without = program.without("GPTPROTO_API_KEY");
    assert_eq!(without.run(&["ledger", "verify", "--repair"]).await.code, Some(64));
    assert_eq!(without.run(&["ledger", "verify"]).await.code, Some(1), "to look, it needs no key");
}
