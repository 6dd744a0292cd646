//! Asks one gateway for every row of a group, and compares what the clients got, what the ledger says, and what the upstream
//! accepted. These hold for every row, whatever its own verdict is:
//!
//! a. The upstream accepts one submit of a request at most; a repetition buys only where nothing can have been bought.
//! b. A picture that is delivered is whole, and was made for this purchase of this client.
//! c. What may have been bought and brought no picture is reported as such, to the client and in the ledger.
//! d. What was refused says that nothing was bought, and may be bought by a repetition.
//! e. The key goes to the configured origin, to submits, polls and the free question about the key only, and is in no answer, log or ledger.
//! f. Nothing panics; an honest client is served afterwards.
//! g. After a restart on the same folder, the same request gets the same.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::StreamExt;
use reqwest::Method;
use serde_json::{Value, json};

use super::answer::{Outcome, Row, Sharing};
use super::images::large_picture;
use super::upstream::{HONEST, HostileUpstream, PROMPT};
use crate::harness::{Answer, Client, Edit, Program, Run, UPSTREAM_KEY};

/// Rows of one gateway.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) rows: Vec<Row>,
    /// The gateway waits long for the upstream, or a second or two.
    pub(super) patient: bool,
    /// Requests at the same time.
    pub(super) at_once: usize,
}

/// A row, and what was found.
#[derive(Debug)]
pub(super) struct Case {
    pub(super) row: Row,
    pub(super) outcome: Outcome,
    /// The first answer.
    answer: Answer,
    /// What a repetition got after a refusal.
    repeated: Option<Outcome>,
    pub(super) faults: Vec<String>,
}

/// Codes of refusals that end with the hostility of the upstream; after others the gateway pauses.
const CURABLE: [&str; 3] = ["upstream_refused_request", "moderation_blocked", "upstream_edge_refused"];

fn key_of(client: &str) -> String {
    format!("sk-gw-{client}-vQ7kZp3XvQ7kZp3XvQ7kZp3X")
}

impl Group {
    /// Runs the group. Faults that concern the gateway as a whole are those of the first case.
    pub(super) async fn run(self) -> Vec<Case> {
        let upstream = HostileUpstream::start(&self.rows).await;
        let fresh = self.rows.iter().any(|row| row.gateway == Sharing::Unused);
        let program = self.program(&upstream);
        let serving = program.serve(&[]).await;
        let client = serving.client(&key_of(HONEST));
        let honest = Honest { client: client.clone() };
        let mut general = Vec::new();
        if !fresh {
            general.extend(honest.fault("before").await);
        }

        let asked = futures_util::stream::iter(self.rows).map(|row| Case::ask(row, &client, &upstream));
        let mut cases: Vec<Case> = asked.buffer_unordered(self.at_once).collect().await;
        cases.sort_by(|one, other| one.row.name.cmp(&other.row.name));

        if !fresh {
            general.extend(honest.fault("afterwards").await);
        }
        let mut log = serving.log();
        let code = serving.terminate().await;
        if code != Some(0) {
            general.push(format!("(f) the gateway ended with {code:?}"));
        }
        let ledger = program.run(&["ledger", "list", "--json", "--limit", "0"]).await;
        let entries = entries(&ledger);
        general.extend(double_ids(&entries));
        for case in &mut cases {
            let of_client = entries.get(&case.row.name).map_or(&[][..], Vec::as_slice);
            case.compare(of_client, &upstream);
        }

        let serving = program.serve(&[]).await;
        let again = serving.client(&key_of(HONEST));
        let repeated = futures_util::stream::iter(cases).map(|case| {
            let job = entries.get(&case.row.name).and_then(|jobs| jobs[0]["job_id"].as_str()).unwrap_or_default();
            case.repeat_after_restart(&again, &upstream, job)
        });
        let mut cases: Vec<Case> = repeated.buffer_unordered(self.at_once).collect().await;
        log.push_str(&serving.log());
        drop(serving);

        let where_key = [("the log", &log), ("the ledger", &ledger.stdout)];
        general.extend(
            where_key
                .iter()
                .filter(|(_, text)| text.contains(UPSTREAM_KEY))
                .map(|(what, _)| format!("(e) the key is in {what}")),
        );
        general.extend(upstream.leaks().into_iter().map(|place| format!("(e) the key came to {place}")));
        general.extend(log.lines().filter(|line| line.contains("panicked")).map(|line| format!("(f) {line}")));
        if let Some(case) = cases.first_mut() {
            case.faults.extend(general);
        }
        cases
    }

    /// The program with a client for each row.
    fn program(&self, upstream: &HostileUpstream) -> Program {
        let (deadline, submit_timeout) = if self.patient { ("30", "20") } else { ("3", "3") };
        let api = self.rows.first().map_or("auto", |row| row.api);
        let changes = [
            ("log.filter", "debug"),
            ("upstream.api", api),
            ("upstream.sync_timeout_s", submit_timeout),
            ("server.response_timeout_s", "40"),
            ("upstream.deadline_s", deadline),
            ("upstream.submit_timeout_s", submit_timeout),
            ("upstream.poll_timeout_s", "1"),
            ("upstream.download_idle_timeout_s", "1"),
            ("upstream.download_timeout_s", "3"),
            ("upstream.picture_bytes_max", "1000000"),
            ("upstream.answer_bytes_max", "20000000"),
            ("upstream.pushback_max_s", "2"),
            ("upstream.submit_attempts_max", "2"),
            ("upstream.submits_per_minute", "1000000"),
            ("upstream.requests_per_minute", "2000000"),
            ("upstream.concurrent_predictions", "1000"),
            ("upstream.concurrent_polls_max", "1000"),
            ("upstream.learning", "off"),
        ];
        let names = self.rows.iter().map(|row| row.name.as_str()).chain([HONEST]);
        let clients: Vec<String> = names.map(|name| format!("{name}:{}", key_of(name))).collect();
        Program::at(&upstream.origin, &changes).variable("GATEWAY_CLIENT_KEYS", &clients.join(","))
    }
}

/// A client whose requests the upstream always serves.
#[derive(Debug)]
struct Honest {
    client: Client,
}

impl Honest {
    /// Buys a picture. Afterwards with another model, because the gateway may rightly pause the one of the rows.
    async fn fault(&self, when: &str) -> Option<String> {
        let model = if when == "before" { "gpt-image-1.5" } else { "gpt-image-1" };
        let body =
            json!({"model": model, "quality": "low", "size": "1024x1024", "prompt": format!("{PROMPT}{HONEST}")});
        let answer = Answer::to(
            self.client.request(Method::POST, "/v1/images/generations").header("cache-control", "no-cache").json(&body),
        )
        .await;
        (answer.status != 200).then(|| format!("(f) an honest request {when} got {} {}", answer.status, answer.text()))
    }
}

impl Case {
    /// Asks for a row, and repeats the request.
    async fn ask(row: Row, client: &Client, upstream: &HostileUpstream) -> Self {
        let client = client.with_key(&key_of(&row.name));
        let answer = ask(&client, &row, None).await;
        let outcome = outcome(&answer, row.count);
        let mut case = Self { row, outcome, answer, repeated: None, faults: Vec::new() };
        case.judge_answer(upstream);
        let name = case.row.name.clone();
        let accepted = upstream.record(&name).accepted;
        if accepted > u32::from(case.row.count) {
            case.faults.push(format!("(a) the upstream accepted {accepted} submits"));
        }
        upstream.heal(&name);
        // A client is asked not to repeat any other failure, and what a repetition does depends on the failure.
        if case.is_held() {
            for header in [None, Some(("x-stainless-retry-count", "1"))] {
                let repeated = ask(&client, &case.row, header).await;
                case.judge_same(&repeated, "a repetition");
            }
            let now = upstream.record(&name).accepted;
            if now != accepted {
                case.faults.push(format!("(a) a repetition bought: {now} submits accepted"));
            }
        } else if outcome == Outcome::Refused {
            let repeated = ask(&client, &case.row, None).await;
            let code = code(&case.answer);
            let got = self::outcome(&repeated, case.row.count);
            if got != Outcome::Delivered && (got != Outcome::Refused || CURABLE.contains(&code.as_str())) {
                let text = shortened(&repeated);
                case.faults.push(format!("(d) after the refusal {code} a repetition got {} {text}", repeated.status));
            }
            case.repeated = Some(got);
        }
        case
    }

    /// Whether the same request gets the same answer, and buys nothing.
    fn is_held(&self) -> bool {
        match self.outcome {
            Outcome::Delivered | Outcome::Unknown => true,
            Outcome::Partial => self.answer.text().contains("submission_outcome_unknown"),
            Outcome::Refused | Outcome::Lost | Outcome::TimedOut | Outcome::Failed | Outcome::Other => false,
        }
    }

    /// Compares an answer with what the upstream did.
    fn judge_answer(&mut self, upstream: &HostileUpstream) {
        let Self { row, outcome, answer, faults, .. } = self;
        if !row.wanted.contains(outcome) {
            faults.push(format!("wanted {:?}, got {outcome:?}: {} {}", row.wanted, answer.status, shortened(answer)));
        }
        if answer.text().contains(UPSTREAM_KEY) || format!("{:?}", answer.headers).contains(UPSTREAM_KEY) {
            faults.push("(e) the key is in the answer".to_owned());
        }
        let record = upstream.record(&row.name);
        let (may_pay, retry) =
            (answer.text().contains("may have cost money"), answer.header("x-should-retry").to_owned());
        match outcome {
            Outcome::Delivered | Outcome::Partial => {
                let own = record.ids.iter().map(|id| upstream.picture(&row.name, id));
                let is_own =
                    |got: &Vec<u8>| own.clone().any(|own| *got == own || row.trailing && got.starts_with(&own));
                let pictures = answer.pictures();
                let missing = answer.header("x-gateway-missing").parse().unwrap_or(0);
                if pictures.len() + missing != usize::from(row.count) {
                    faults.push(format!("(b) {} pictures and {missing} missing for n={}", pictures.len(), row.count));
                }
                if *outcome == Outcome::Partial && !(may_pay && answer.text().contains("\"code\"")) {
                    faults
                        .push(format!("(c) the client does not read what became of the others: {:?}", answer.headers));
                }
                if !pictures.iter().all(is_own) {
                    faults.push("(b) the picture is not the one of this purchase".to_owned());
                }
            }
            Outcome::Refused if record.accepted > 0 => {
                faults.push("(c) it was bought, and the client reads that nothing was".to_owned());
            }
            Outcome::Unknown | Outcome::Lost | Outcome::TimedOut | Outcome::Failed if !may_pay || retry != "false" => {
                faults.push(format!("(c) the client is not warned: x-should-retry {retry}, {}", answer.text()));
            }
            Outcome::Refused | Outcome::Unknown | Outcome::Lost | Outcome::TimedOut | Outcome::Failed => {}
            Outcome::Other => faults.push("(c) (d) the answer does not say whether anything was bought".to_owned()),
        }
    }

    /// Compares a later answer to the same request with the first.
    fn judge_same(&mut self, later: &Answer, what: &str) {
        let got = outcome(later, self.row.count);
        let has_pictures = matches!(got, Outcome::Delivered | Outcome::Partial);
        let is_same = got == self.outcome && (!has_pictures || later.pictures() == self.answer.pictures());
        if !is_same {
            self.faults.push(format!("(a) (g) {what} got {got:?}: {} {}", later.status, shortened(later)));
        }
    }

    /// Compares what the client got with the ledger.
    fn compare(&mut self, entries: &[Value], upstream: &HostileUpstream) {
        let payments: Vec<&str> = entries.iter().map(|entry| entry["payment"].as_str().unwrap_or_default()).collect();
        let costly: Vec<&str> = payments.iter().copied().filter(|payment| *payment != "not_bought").collect();
        let wanted = match self.outcome {
            Outcome::Delivered => "bought",
            Outcome::Unknown => "unknown",
            Outcome::Lost | Outcome::TimedOut | Outcome::Failed => "possible",
            Outcome::Refused if self.repeated == Some(Outcome::Delivered) => "bought",
            Outcome::Partial | Outcome::Refused | Outcome::Other => "",
        };
        let count = usize::from(self.row.count);
        let is_right = if self.outcome == Outcome::Partial {
            let bought = costly.iter().filter(|payment| **payment == "bought").count();
            costly.len() == count && bought == self.answer.pictures().len()
        } else if wanted.is_empty() {
            costly.is_empty()
        } else {
            costly == vec![wanted; count]
        };
        if !is_right {
            self.faults.push(format!("(c) the ledger has {payments:?} after {:?}", self.outcome));
        }
        let accepted = upstream.record(&self.row.name).accepted as usize;
        if accepted > costly.len() {
            self.faults.push(format!("(c) {accepted} submits were accepted, and the ledger has {payments:?}"));
        }
    }

    /// Asks again after a restart, for the picture or for the job.
    async fn repeat_after_restart(mut self, client: &Client, upstream: &HostileUpstream, job: &str) -> Self {
        let own = client.with_key(&key_of(&self.row.name));
        let accepted = upstream.record(&self.row.name).accepted;
        let path = format!("/v1/predictions/{job}");
        if self.is_held() {
            let later = ask(&own, &self.row, None).await;
            self.judge_same(&later, "a repetition after a restart");
        } else if self.outcome != Outcome::Partial {
            let object = own.get(&path).await;
            let error = object.text();
            if !error.contains(&format!("\"code\":\"{}\"", code(&self.answer))) {
                self.faults.push(format!("(g) after a restart the job says {error}"));
            }
        }
        let foreign = client.get(&path).await;
        if foreign.status != 404 {
            self.faults.push(format!("(b) another client reads the job: {} {}", foreign.status, foreign.text()));
        }
        let now = upstream.record(&self.row.name).accepted;
        if now != accepted {
            self.faults.push(format!("(g) a repetition after a restart bought: {now} submits accepted"));
        }
        self
    }
}

async fn ask(client: &Client, row: &Row, header: Option<(&str, &str)>) -> Answer {
    let prompt = format!("{PROMPT}{}", row.name);
    if row.upload > 0 {
        let edit = Edit::bare(&prompt).picture("image", large_picture(row.upload));
        let edit = header.iter().fold(edit, |edit, (name, value)| edit.header(name, value));
        return client.edit(&edit).await;
    }
    let body = if row.count > 1 {
        // One picture a purchase.
        json!({"model": "gpt-image-2-plus", "size": "1254x1254", "n": row.count, "prompt": prompt})
    } else {
        json!({"model": "gpt-image-1.5", "quality": "low", "size": "256x256", "prompt": prompt})
    };
    let request = client.request(Method::POST, "/v1/images/generations").json(&body);
    Answer::to(header.iter().fold(request, |request, (name, value)| request.header(*name, *value))).await
}

fn code(answer: &Answer) -> String {
    let body: Value = serde_json::from_slice(&answer.bytes).unwrap_or_default();
    body["error"]["code"].as_str().unwrap_or_default().to_owned()
}

fn outcome(answer: &Answer, count: u8) -> Outcome {
    match (answer.status, code(answer).as_str()) {
        (200, _) if answer.pictures().len() < usize::from(count) => Outcome::Partial,
        (200, _) => Outcome::Delivered,
        (502, "submission_outcome_unknown") => Outcome::Unknown,
        (502, "result_lost") => Outcome::Lost,
        (504, "upstream_timeout") => Outcome::TimedOut,
        (502, "image_generation_failed") => Outcome::Failed,
        (400, "moderation_blocked") if answer.text().contains("may have cost money") => Outcome::Failed,
        _ if answer.text().contains("Nothing was bought") => Outcome::Refused,
        _ => Outcome::Other,
    }
}

fn shortened(answer: &Answer) -> String {
    answer.text().chars().take(300).collect()
}

/// The purchases in the ledger by client, oldest first.
fn entries(ledger: &Run) -> BTreeMap<String, Vec<Value>> {
    assert_eq!(ledger.code, Some(0), "{}", ledger.stderr);
    let mut entries: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for line in ledger.stdout.lines() {
        let entry: Value = serde_json::from_str(line).unwrap();
        entries.entry(entry["client"].as_str().unwrap().to_owned()).or_default().push(entry);
    }
    entries
}

/// Upstream ids that the ledger has twice.
fn double_ids(entries: &BTreeMap<String, Vec<Value>>) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let ids = entries.values().flatten().filter_map(|entry| entry["upstream_id"].as_str());
    ids.filter(|id| !seen.insert(*id)).map(|id| format!("(b) two purchases have the id {id}")).collect()
}
