//! Every command on a small fixed journal.

use clap::Parser;

use super::*;
use crate::config::Environment;
use crate::model::{
    AccountId, Choices, Digest, Failure, Fingerprint, Format, IdempotencyKey, Size, StoredPicture, Task, UpstreamId,
    Usage,
};
use crate::storage::journal::{self, JobRecord, Record};

/// 2026-11-21T10:00:00Z.
const TEN: Timestamp = Timestamp::from_millis(1_795_255_200_000);

#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

struct Fixture {
    directory: tempfile::TempDir,
    config: Config,
}

/// This many minutes after ten.
fn minute(minutes: u64) -> Timestamp {
    TEN.plus(Duration::from_mins(minutes))
}

fn id(number: u64, slot: u8) -> PurchaseId {
    PurchaseId { job: JobId::new(minute(number), u128::from(number)), slot }
}

fn job(number: u64, client: &str, model: &str, n: u8) -> JobRecord {
    JobRecord {
        id: id(number, 0).job,
        client: ClientId(client.into()),
        fingerprint: Fingerprint::from(Digest::of(&number.to_le_bytes())),
        task: Task::Edit,
        model: model.into(),
        size: Size { width: 1024, height: 1024 },
        choices: Choices::from([("quality", "low")]),
        n,
        inputs: 1,
        shareable: number != 1,
        idempotency_key: (number == 1).then(|| IdempotencyKey::new("key-1").unwrap()),
        respond_async: false,
        created: minute(number),
        prompt: None,
    }
}

impl Fixture {
    /// Job 1 was bought; 2 is of unknown outcome; 3 is two purchases, one bought and one that failed after it was accepted;
    /// 4 was refused; 5 is under way after a lost response; 6 is queued.
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut config = Config::load(None, &Environment::new()).unwrap();
        config.storage.directory = directory.path().to_owned();
        let journal = journal::open(&directory.path().join("journal.sqlite")).unwrap();
        let picture =
            StoredPicture { digest: Digest::of(b"picture"), bytes: 7, format: Format::Png, width: 1024, height: 1024 };
        let usage = Some(Usage { input_tokens: 368, output_tokens: 805, input_image_tokens: None });
        let committing = |purchase, at| Record::Committing {
            purchase,
            account: AccountId("default".into()),
            api_kind: crate::model::ApiKind::Prediction,
            format: "base64_images".to_owned(),
            at,
        };
        let accepted = |purchase, name: &str, at| Record::Accepted {
            purchase,
            upstream: UpstreamId::new(name).unwrap(),
            poll_url: Some(format!("https://gptproto.com/api/v3/predictions/{name}/result")),
            at,
        };
        let resolved = |purchase, usage, at| Record::Resolved {
            purchase,
            upstream: None,
            poll_url: None,
            pictures: vec![picture],
            contents: Vec::new(),
            usage,
            at,
        };
        let message = |text: &str| text.to_owned();
        let intent = |number, client, model, slots: u8| Record::Intent {
            api_kind: crate::model::ApiKind::Prediction,
            job: job(number, client, model, slots),
            purchases: (0..slots).map(|slot| (id(number, slot), 1)).collect(),
        };
        for record in [
            intent(1, "alice", "gpt-image-2", 1),
            committing(id(1, 0), minute(1)),
            accepted(id(1, 0), "aaa", minute(1)),
            resolved(id(1, 0), usage, minute(2)),
            Record::Delivered { job: id(1, 0).job, at: minute(2) },
            intent(2, "bob", "gpt-image-2", 1),
            committing(id(2, 0), minute(2)),
            Record::Failed {
                purchase: id(2, 0),
                failure: Failure::OutcomeUnknown { message: message("the answer was cut\u{1b}[31m") },
                at: minute(3),
            },
            intent(3, "alice", "gpt-image-2-plus", 2),
            committing(id(3, 0), minute(13)),
            accepted(id(3, 0), "ccc", minute(13)),
            resolved(id(3, 0), None, minute(14)),
            committing(id(3, 1), minute(13)),
            accepted(id(3, 1), "ddd", minute(13)),
            Record::Failed {
                purchase: id(3, 1),
                failure: Failure::TaskFailed { message: message("overloaded") },
                at: minute(14),
            },
            intent(4, "bob", "gpt-image-1", 1),
            Record::Failed {
                purchase: id(4, 0),
                failure: Failure::Moderated { message: message("no"), bought: false },
                at: minute(4),
            },
            intent(5, "bob", "gpt-image-1", 1),
            committing(id(5, 0), minute(25)),
            Record::Resubmitted { purchase: id(5, 0) },
            committing(id(5, 0), minute(26)),
            accepted(id(5, 0), "eee", minute(26)),
            intent(6, "alice", "gpt-image-1", 1),
        ] {
            journal.append(record).await.unwrap();
        }
        Self { directory, config }
    }

    fn run(&self, words: &[&str]) -> Result<(String, bool), Error> {
        let command = Cli::try_parse_from(["ledger"].iter().chain(words)).unwrap().command;
        let found = run(&self.config, None, false, &command);
        let directory = self.directory.path().display().to_string();
        found.map(|(text, consistent)| (text.replace(&directory, "DIRECTORY"), consistent))
    }

    fn text(&self, words: &[&str]) -> String {
        self.run(words).unwrap().0
    }

    fn refusal(&self, words: &[&str]) -> String {
        let directory = self.directory.path().display().to_string();
        self.run(words).unwrap_err().to_string().replace(&directory, "DIRECTORY")
    }

    fn export(&self, text: &str) -> String {
        let file = self.directory.path().join("usage.csv");
        std::fs::write(&file, text).unwrap();
        file.display().to_string()
    }
}

#[tokio::test]
async fn the_list_is_a_table_or_json() {
    let ledger = Fixture::new().await;
    insta::assert_snapshot!("list", ledger.text(&["list"]));
    insta::assert_snapshot!("list_json", ledger.text(&["list", "--json"]));
    insta::assert_snapshot!("list_newest", ledger.text(&["list", "--limit", "2"]));
}

#[tokio::test]
async fn a_list_shows_only_the_selected_purchases() {
    let ledger = Fixture::new().await;
    let found = |words: &[&str]| -> Vec<String> {
        let words: Vec<&str> = ["list", "--json"].iter().chain(words).copied().collect();
        let lines = ledger.text(&words);
        let name = |line: &str| {
            let json: serde_json::Value = serde_json::from_str(line).unwrap();
            json["purchase_id"].as_str().unwrap().to_owned()
        };
        lines.lines().map(name).collect()
    };
    let all = [(1, 0), (2, 0), (3, 0), (3, 1), (4, 0), (5, 0), (6, 0)].map(|(job, slot)| id(job, slot).to_string());
    assert_eq!(found(&[]), all);
    assert_eq!(found(&["--limit", "0"]), all);
    assert_eq!(found(&["--limit", "4"]), all[3..], "one of two purchases of a job");
    assert_eq!(found(&["--state", "failed"]), all[3..5], "and not the bought purchase of the same job");
    let several = found(&["--state", "failed,unknown"]);
    assert!(several.len() > 2 && all[3..5].iter().all(|id| several.contains(id)), "{several:?}");
    let mut each = [found(&["--state", "failed"]), found(&["--state", "unknown"])].concat();
    each.sort();
    assert_eq!(several, each);
    assert_eq!(found(&["--client", "bob"]), [all[1].clone(), all[4].clone(), all[5].clone()]);
    assert_eq!(found(&["--since", "2026-11-21T10:05Z"]), all[5..]);
    assert_eq!(found(&["--until", "2026-11-21T10:02:00Z"]), all[..1]);
    assert_eq!(ledger.text(&["list", "--client", "carol"]), "no purchases\n");
    assert!(Cli::try_parse_from(["ledger", "list", "--state", "lost"]).is_err());
    assert!(Cli::try_parse_from(["ledger", "list", "--state", "failed,lost"]).is_err());
    assert!(Cli::try_parse_from(["ledger", "list", "--since", "soon"]).is_err());
}

#[tokio::test]
async fn a_purchase_is_shown_by_any_of_its_ids() {
    let ledger = Fixture::new().await;
    insta::assert_snapshot!("show_bought", ledger.text(&["show", "aaa"]));
    insta::assert_snapshot!("show_unknown", ledger.text(&["show", &id(2, 0).to_string()]));
    insta::assert_snapshot!("show_job", ledger.text(&["show", &id(3, 0).job.to_string()]));
    insta::assert_snapshot!("show_json", ledger.text(&["show", "ddd", "--json"]));
    insta::assert_snapshot!(ledger.refusal(&["show", "zzz"]), @r#"DIRECTORY has no job or purchase "zzz"; `ledger list` shows all"#);
    assert!(ledger.run(&["show", &id(2, 7).to_string()]).is_err());
}

#[tokio::test]
async fn only_an_unknown_outcome_can_be_decided() {
    let ledger = Fixture::new().await;
    let [bought, unknown] = [1, 2].map(|number| id(number, 0).to_string());
    insta::assert_snapshot!(ledger.refusal(&["resolve", &bought, "lost"]), @"pred_01m7yrtmv00000000000000001.0 is resolved, not unknown");
    insta::assert_snapshot!(ledger.refusal(&["resolve", "zzz", "lost"]), @r#"DIRECTORY has no job or purchase "zzz"; `ledger list` shows all"#);
    let job = id(1, 0).job.to_string();
    insta::assert_snapshot!(ledger.refusal(&["resolve", &job, "lost"]), @"pred_01m7yrtmv00000000000000001 has no purchase of unknown outcome");

    let job = id(2, 0).job.to_string();
    insta::assert_snapshot!(ledger.text(&["resolve", &job, "lost"]), @"pred_01m7yrwfe00000000000000002.0 is recorded as never bought. The same request, sent again, may buy.");
    assert!(ledger.text(&["show", &unknown]).contains("decided at"));
    assert!(ledger.text(&["list"]).contains("decided: lost"));
    assert!(ledger.run(&["resolve", &job, "bought"]).is_err(), "it has no undecided purchase any more");
    insta::assert_snapshot!(ledger.text(&["resolve", &unknown, "bought"]), @"pred_01m7yrwfe00000000000000002.0 is recorded as bought, without its picture. The same request, sent again, may buy.");
    insta::assert_snapshot!(ledger.text(&["resolve", &unknown, "resubmit"]), @"pred_01m7yrwfe00000000000000002.0 is recorded as possibly bought, to be bought again. The same request, sent again, may buy.");
}

#[tokio::test]
async fn an_export_is_compared_with_the_ledger() {
    let ledger = Fixture::new().await;
    // Line 2 is job 1; 3 can only be the unknown purchase; 4 is of no purchase, 5 of another service, 6 a refund; the bought
    // purchase of job 3 has no line; 8 cannot be read.
    let file = ledger.export(
        "created_at,model,cost,request_id\n\
         2026-11-21 10:01:58,gpt-image-2,0.0217,aaa\n\
         2026-11-21 10:02:40,openai/gpt-image-2,0.031,xxx\n\
         2026-11-21 10:09:00,gpt-image-2,0.04,yyy\n\
         2026-11-21 10:09:30,sora-2,1.5,vid\n\
         2026-11-21 10:09:40,gpt-image-2,-0.01,ref\n\
         2026-11-21 10:30:00,gpt-image-1,0.04,eee\n\
         soon,gpt-image-2,0.04,zzz\n",
    );
    let (text, consistent) = ledger.run(&["reconcile", &file, "--since", "2026-11-21"]).unwrap();
    assert!(!consistent);
    insta::assert_snapshot!("reconcile", text);
    insta::assert_snapshot!("reconcile_json", ledger.text(&["reconcile", &file, "--since", "2026-11-21", "--json"]));

    let file = ledger.export(
        "time,model,cost,id\n2026-11-21T10:01:58Z,gpt-image-2,0.0217,aaa\n2026-11-21T10:14:00Z,gpt-image-2-plus,0.05,ccc\n",
    );
    ledger.text(&["resolve", &id(2, 0).to_string(), "lost"]);
    let (text, consistent) = ledger.run(&["reconcile", &file]).unwrap();
    assert!(consistent, "{text}");
    insta::assert_snapshot!("reconcile_consistent", text);

    let file = ledger
        .export("time,model,cost\n2026-11-21T10:02:10Z,gpt-image-2,0.03\n2026-11-21T10:02:20Z,gpt-image-2,0.03\n");
    assert!(ledger.text(&["reconcile", &file]).contains("decided lost, but probably bought"));
}

#[tokio::test]
async fn an_unknown_purchase_is_judged_by_the_unmatched_lines() {
    let ledger = Fixture::new().await;
    let verdict = |text: &str, more: &[&str]| {
        let file = ledger.export(text);
        let words: Vec<&str> = ["reconcile", &file, "--json"].iter().chain(more).copied().collect();
        let json: serde_json::Value = serde_json::from_str(&ledger.text(&words)).unwrap();
        json["unknown"][0]["verdict"].as_str().map(str::to_owned)
    };
    let day = ["--since", "2026-11-21", "--until", "2026-11-22"];
    let one = "time,model,cost\n2026-11-21T10:01:58Z,gpt-image-2,0.02\n";
    assert_eq!(
        verdict(one, &day).as_deref(),
        Some("probably_never_bought"),
        "the line is that of the certain purchase"
    );
    assert_eq!(verdict(one, &[]).as_deref(), Some("not_covered"));
    let two = format!("{one}2026-11-21T10:02:59Z,gpt-image-2,0.02\n");
    assert_eq!(verdict(&two, &[]).as_deref(), Some("probably_bought"));
    let local = "time,model,cost\n2026-11-21 18:01:58,gpt-image-2,0.02\n2026-11-21 18:02:59,gpt-image-2,0.02\n";
    assert_eq!(verdict(local, &["--zone", "+08:00"]).as_deref(), Some("probably_bought"));
    assert_eq!(verdict(local, &[]), None);
}

#[tokio::test]
async fn a_directory_without_a_journal_is_named() {
    let ledger = Fixture::new().await;
    let command = Cli::try_parse_from(["ledger", "list"]).unwrap().command;
    let named = run(&ledger.config, None, true, &command).unwrap_err().to_string();
    let directory = ledger.directory.path().join("sandbox");
    assert_eq!(
        named,
        format!("there is no journal in {} (storage.directory); no gateway has run there", directory.display())
    );

    let mut config = ledger.config.clone();
    config.storage.directory = ledger.directory.path().join("elsewhere");
    std::fs::create_dir_all(config.storage.sandbox()).unwrap();
    journal::open(&config.storage.sandbox().join("journal.sqlite")).unwrap();
    let named = run(&config, None, false, &command).unwrap_err().to_string();
    assert!(named.contains("--sandbox"), "{named}");
    assert_eq!(run(&config, None, true, &command).unwrap().0, "no purchases\n");
}

#[test]
fn an_argument_is_quoted_for_a_shell() {
    assert_eq!(quoted("/etc/gateway.toml"), "/etc/gateway.toml");
    assert_eq!(quoted("it's mine.toml"), r"'it'\''s mine.toml'");
}
