//! `ledger show`: everything that the journal knows of a job, or of one of its purchases.

use serde::Serialize;

use crate::model::{Catalogue, Choices, IdempotencyKey};
use crate::storage::journal::{StoredJob, StoredState};

use super::Location;
use super::entry::{Cost, Entry, Payment, PurchaseJson, dollars, time_text};
use super::table::{escape_control, table};

pub(super) fn text(job: &StoredJob, entries: &[Entry<'_>], catalogue: &Catalogue, location: &Location) -> String {
    let record = &job.record;
    let choices: Vec<String> = record.choices.pairs().map(|(name, value)| format!("{name}={value}")).collect();
    let request = [record.task.name().to_owned(), record.model.to_string(), record.size.to_string()]
        .into_iter()
        .chain(choices)
        .chain([format!("n={}", record.n)]);
    let mut facts = Facts::default();
    facts.add("job", record.id);
    facts.add("created", record.created);
    facts.add("client", &record.client);
    facts.add("request", request.collect::<Vec<_>>().join(", "));
    facts.maybe("input pictures", (record.inputs > 0).then_some(record.inputs));
    facts.add("fingerprint", record.fingerprint);
    facts.maybe("idempotency key", record.idempotency_key.as_ref().map(IdempotencyKey::as_str));
    facts.maybe("shared", (!record.shareable).then_some("no (Cache-Control: no-store)"));
    facts.add(
        "delivered",
        time_text(job.delivered.map(|delivered| delivered.at)).unwrap_or_else(|| "not yet".to_owned()),
    );
    facts.maybe("pictures", job.evicted.then_some("no longer on disk"));
    let mut text = facts.text();
    for entry in entries {
        text.push('\n');
        text.push_str(&purchase(entry, catalogue, location));
    }
    text
}

fn purchase(entry: &Entry<'_>, catalogue: &Catalogue, location: &Location) -> String {
    let stored = entry.purchase;
    let mut facts = Facts::default();
    facts.add("purchase", stored.id);
    facts.add("state", stored.state.name());
    facts.add("pictures requested", stored.pictures);
    facts.maybe("upstream id", entry.upstream());
    facts.maybe("account", stored.account.as_ref());
    facts.add("api", stored.api_kind.name());
    facts.maybe("request format", stored.format.as_deref().map(escape_control));
    facts.maybe("committed", entry.times.committed);
    facts.maybe("accepted", entry.times.accepted);
    facts.maybe("ended", entry.times.ended);
    if let Some(failure) = entry.failure() {
        facts.add("failure", failure.name());
        facts.maybe("", failure.message().map(escape_control));
    }
    if let StoredState::Accepted { poll_url, .. } = &stored.state {
        facts.maybe("poll url", poll_url.as_deref().map(escape_control));
    }
    if let StoredState::Resolved { pictures, usage, .. } = &stored.state {
        for picture in pictures {
            let (width, height, format) = (picture.width, picture.height, picture.format.name());
            facts.add("picture", format!("{} ({format}, {width}x{height}, {} bytes)", picture.digest, picture.bytes));
        }
        facts.maybe("tokens", usage.map(|usage| format!("{} in, {} out", usage.input_tokens, usage.output_tokens)));
    }
    facts.maybe("price", price(entry.payment(), entry.cost(catalogue)));
    facts.maybe(
        "sent again",
        (stored.lost_answers > 0)
            .then(|| format!("after {} lost responses, each possibly bought too", stored.lost_answers)),
    );
    if let Some(resolution) = stored.resolution {
        facts.add("decided", resolution.name());
        facts.maybe("decided at", entry.times.decided);
    } else if entry.payment() == Payment::Unknown {
        let command = location.command(&format!("resolve {} DECISION", stored.id));
        facts.add("to decide", format!("{command}   (DECISION: lost, bought or resubmit)"));
    }
    facts.text()
}

fn price(payment: Payment, cost: Option<Cost>) -> Option<String> {
    let cost = cost?;
    let basis = if cost.reported { "by reported tokens" } else { "by estimate" };
    match payment {
        Payment::NotBought => Some("nothing".to_owned()),
        Payment::Bought => Some(format!("{} {basis}", dollars(cost.usd))),
        Payment::Possible | Payment::Unknown => Some(format!("possibly {} {basis}", dollars(cost.usd))),
    }
}

#[derive(Default)]
struct Facts(Vec<Vec<String>>);

impl Facts {
    fn add(&mut self, name: &str, value: impl std::fmt::Display) {
        self.0.push(vec![name.to_owned(), value.to_string()]);
    }

    fn maybe(&mut self, name: &str, value: Option<impl std::fmt::Display>) {
        if let Some(value) = value {
            self.add(name, value);
        }
    }

    fn text(&self) -> String {
        table(&self.0, &[])
    }
}

/// A job as JSON.
#[derive(Debug, Serialize)]
pub(super) struct JobJson<'a> {
    job_id: String,
    created_at: String,
    client: String,
    model: &'a str,
    task: &'static str,
    size: String,
    choices: &'a Choices,
    /// Pictures requested.
    n: u8,
    /// Input pictures, without the mask.
    inputs: u8,
    shareable: bool,
    fingerprint: String,
    idempotency_key: Option<&'a str>,
    delivered_at: Option<String>,
    pictures_deleted: bool,
    purchases: Vec<PurchaseJson<'a>>,
}

pub(super) fn json<'a>(job: &'a StoredJob, entries: &'a [Entry<'a>], catalogue: &Catalogue) -> JobJson<'a> {
    let record = &job.record;
    JobJson {
        job_id: record.id.to_string(),
        created_at: record.created.to_string(),
        client: record.client.to_string(),
        model: &record.model,
        task: record.task.name(),
        size: record.size.to_string(),
        choices: &record.choices,
        n: record.n,
        inputs: record.inputs,
        shareable: record.shareable,
        fingerprint: record.fingerprint.to_string(),
        idempotency_key: record.idempotency_key.as_ref().map(IdempotencyKey::as_str),
        delivered_at: time_text(job.delivered.map(|delivered| delivered.at)),
        pictures_deleted: job.evicted,
        purchases: entries.iter().map(|entry| entry.json(catalogue)).collect(),
    }
}
