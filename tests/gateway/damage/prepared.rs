//! The folder that all rows begin with, made once by a gateway and a simulated upstream.

use std::path::{Path, PathBuf};

use serde_json::json;
use tempfile::TempDir;

use super::files::copy;
use super::jobs::{self, Job, Kind, LARGE, LARGE_MODEL, LARGE_PADDING, MEMORY_PICTURE_BYTES_MAX};
use crate::harness::{Client, Edit, Program, Serving, Upstream, http, until};

/// Copies of a data folder, and the upstream that knows what was bought.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) upstream: Upstream,
    /// An upstream that knows none of the purchases.
    pub(super) forgetful: Upstream,
    pub(super) jobs: Vec<Job>,
    pub(super) http: reqwest::Client,
    copies: TempDir,
}

/// A copy of the folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Snapshot {
    /// As SIGKILL left it: the newest records are in the write-ahead log.
    Killed,
    /// As an orderly stop left it.
    Stopped,
    /// After an orderly stop, when the late jobs did not exist yet.
    Older,
    /// As SIGKILL left it after the first job.
    EarlierCrash,
}

impl Prepared {
    pub(super) fn folder(&self, snapshot: Snapshot) -> PathBuf {
        self.copies.path().join(format!("{snapshot:?}"))
    }

    pub(super) fn job(&self, name: &str) -> &Job {
        self.jobs.iter().find(|job| job.name == name).unwrap()
    }

    /// Makes the jobs, and copies the folder at four times.
    pub(super) async fn make() -> Self {
        let padded = json!({"pictures": {"padding_bytes": LARGE_PADDING}});
        let scenario = json!({"models": {"by_name": {LARGE_MODEL: padded}}, "pictures": {"kept": 10_000}, "submit": {"poll_url": "absent"}});
        let upstream = Upstream::with(scenario.clone()).await;
        let forgetful = Upstream::with(scenario).await;
        let copies = tempfile::tempdir().unwrap();
        let mut prepared = Self { upstream, forgetful, jobs: Vec::new(), http: http(), copies };
        let program = program(&prepared.upstream, &prepared.upstream.origin);
        let (early, late): (Vec<Job>, Vec<Job>) = jobs::all().into_iter().partition(|job| job.early);

        let mut serving = program.serve(&["serve"]).await;
        for (number, job) in early.into_iter().enumerate() {
            if number == 1 {
                serving.kill();
                prepared.keep(&program, Snapshot::EarlierCrash);
                serving = program.serve(&["serve"]).await;
            }
            prepared.make_job(&serving, job).await;
        }
        assert_eq!(serving.terminate().await, Some(0));
        prepared.keep(&program, Snapshot::Older);

        let serving = program.serve(&["serve"]).await;
        for job in late {
            prepared.make_job(&serving, job).await;
        }
        serving.kill();
        prepared.keep(&program, Snapshot::Killed);
        let serving = program.serve(&["serve"]).await;
        serving.follows(prepared.under_way()).await;
        assert_eq!(serving.terminate().await, Some(0));
        prepared.keep(&program, Snapshot::Stopped);
        prepared.upstream.release().await;
        prepared.fetch_originals().await;
        prepared
    }

    fn keep(&self, program: &Program, snapshot: Snapshot) {
        copy(&data(program), &self.folder(snapshot));
    }

    fn under_way(&self) -> u64 {
        self.jobs.iter().filter(|job| job.kind == Kind::UnderWay).count() as u64
    }

    /// Brings a job into its state.
    async fn make_job(&mut self, serving: &Serving, mut job: Job) {
        let client = serving.client(job.key);
        let before = self.upstream.predictions().await.len();
        match job.kind {
            Kind::Delivered => {
                let answer = client.edit(&job.edit).await;
                assert_eq!((answer.status, answer.cache() == "hit"), (200, false), "{}", answer.text());
                job.id = answer.header("x-gateway-prediction").to_owned();
                job.url = signed_url(&client, &job.edit).await;
            }
            Kind::Later => {
                let answer = client.edit(&job.edit.clone().header("prefer", "respond-async")).await;
                assert_eq!(answer.status, 202, "{}", answer.text());
                job.id = answer.header("x-gateway-prediction").to_owned();
                serving.follows(0).await;
            }
            Kind::Unclaimed => {
                self.upstream.hold().await;
                let waiting = client.begin(&job.edit);
                serving.follows(1).await;
                waiting.disconnect().await;
                until("the client has left", async || serving.waiters().await == 0).await;
                self.upstream.release().await;
                serving.follows(0).await;
            }
            Kind::Unknown => {
                self.upstream.fault("submit", "drop_after", 1).await;
                client.edit(&job.edit).await.is_refused(502, "submission_outcome_unknown");
            }
            Kind::UnderWay => {
                self.upstream.hold().await;
                let waiting = client.begin(&job.edit);
                serving.follows(self.under_way() + 1).await;
                waiting.disconnect().await;
            }
        }
        let bought = self.upstream.predictions().await;
        job.upstream_ids = bought[before..].iter().map(|one| one["id"].as_str().unwrap().to_owned()).collect();
        assert!(!job.upstream_ids.is_empty(), "{}", job.name);
        self.jobs.push(job);
    }

    /// Fetches the pictures from the upstream, without any part of the gateway.
    async fn fetch_originals(&mut self) {
        let upstream = Client::new(String::new(), "");
        let origin = self.upstream.origin.clone();
        for job in &mut self.jobs {
            for id in &job.upstream_ids {
                let answer = upstream.get(&format!("{origin}/files/{id}/0.png")).await;
                assert_eq!(answer.status, 200, "{}", answer.text());
                job.pictures.push(answer.bytes);
            }
        }
        assert!(self.job(LARGE).pictures[0].len() > LARGE_PADDING);
        assert_eq!(self.job("delivered").pictures, self.job("equal").pictures);
        assert_ne!(self.job("delivered").pictures, self.job("late").pictures);
    }
}

/// The signed address of the picture of an edit that was delivered, without its origin; empty where it is not a hit.
async fn signed_url(client: &Client, edit: &Edit) -> String {
    let edit = edit.clone().field("response_format", "url").header("x-stainless-retry-count", "1");
    let answer = client.edit(&edit).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let url = answer.json()["data"][0]["url"].as_str().unwrap().to_owned();
    format!("/v1/{}", url.split_once("/v1/").unwrap().1)
}

/// A gateway whose folder is `data`, with an upstream at `origin`.
pub(super) fn program(upstream: &Upstream, origin: &str) -> Program {
    let program = Program::on(upstream);
    let folder = data(&program).display().to_string();
    let changes = [
        ("GATEWAY_UPSTREAM__BASE_URL", origin),
        ("GATEWAY_STORAGE__DIRECTORY", &folder),
        ("GATEWAY_CACHE__MEMORY_PICTURE_BYTES_MAX", MEMORY_PICTURE_BYTES_MAX),
        // Files are damaged.
        ("GATEWAY_STORAGE__JOURNAL_PICTURE_BYTES_MAX", "0"),
        // A row that waits is wrong, and need not wait for long.
        ("GATEWAY_SERVER__RESPONSE_TIMEOUT_S", "15"),
        ("GATEWAY_UPSTREAM__REFETCH_TIMEOUT_S", "10"),
        ("GATEWAY_LOG__FILTER", "info"),
        ("GATEWAY_LOG__FORMAT", "json"),
    ];
    changes.into_iter().fold(program, |program, (name, value)| program.variable(name, value))
}

/// The data folder of a program.
pub(super) fn data(program: &Program) -> PathBuf {
    Path::new(program.directory.path()).join("data")
}
