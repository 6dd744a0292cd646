//! A purchase as the ledger shows it: what is known, whether it was paid for, what it costs.

use serde::Serialize;

use crate::model::{Catalogue, Failure, Timestamp, UpstreamId, Usage};
use crate::storage::journal::{PurchaseTimes, Resolution, StoredJob, StoredPurchase, StoredState};

/// A purchase and its job.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry<'a> {
    pub(super) job: &'a StoredJob,
    pub(super) purchase: &'a StoredPurchase,
    pub(super) times: PurchaseTimes,
}

/// Whether a purchase was paid for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Payment {
    /// Certainly not, or by the operator's decision.
    NotBought,
    /// The upstream accepted the purchase and made no picture, or the submit is under way: the vendor may charge for it.
    Possible,
    Bought,
    /// The response to the submit was lost, and the operator has not decided.
    Unknown,
}

/// The price of a purchase, and how it is known.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Cost {
    pub(super) usd: f64,
    /// By the tokens that the upstream reported; otherwise an estimate.
    pub(super) reported: bool,
}

impl Entry<'_> {
    pub(super) fn payment(&self) -> Payment {
        match (&self.purchase.state, self.purchase.resolution) {
            (StoredState::Committing { .. }, _) => Payment::Possible,
            (StoredState::Accepted { .. } | StoredState::Resolved { .. }, _) => Payment::Bought,
            (StoredState::Failed { failure: Failure::OutcomeUnknown { .. }, .. }, decided) => match decided {
                None => Payment::Unknown,
                Some(Resolution::Lost) => Payment::NotBought,
                Some(Resolution::Bought) => Payment::Bought,
                Some(Resolution::Resubmit) => Payment::Possible,
            },
            (StoredState::Failed { failure, .. }, _) if failure.may_have_been_bought() => Payment::Possible,
            (StoredState::Intent | StoredState::Failed { .. }, _) => Payment::NotBought,
        }
    }

    /// Returns the price if it was bought; `None` for a model that the catalogue no longer has.
    pub(super) fn cost(&self, catalogue: &Catalogue) -> Option<Cost> {
        let price = &catalogue.find(&self.job.record.model)?.price;
        let (pictures, usage) = match &self.purchase.state {
            StoredState::Resolved { pictures, usage, .. } => (pictures.len(), usage.as_ref()),
            StoredState::Intent
            | StoredState::Committing { .. }
            | StoredState::Accepted { .. }
            | StoredState::Failed { .. } => (usize::from(self.purchase.pictures), None),
        };
        let cost = price.cost(pictures, usage, self.job.record.terms());
        Some(Cost { usd: cost.usd.0, reported: !cost.estimated })
    }

    pub(super) fn upstream(&self) -> Option<&UpstreamId> {
        self.purchase.state.upstream()
    }

    pub(super) fn failure(&self) -> Option<&Failure> {
        match &self.purchase.state {
            StoredState::Failed { failure, .. } => Some(failure),
            StoredState::Intent
            | StoredState::Committing { .. }
            | StoredState::Accepted { .. }
            | StoredState::Resolved { .. } => None,
        }
    }

    /// The purchase as JSON. Every key is always present, with null for a missing value.
    pub(super) fn json<'a>(&'a self, catalogue: &Catalogue) -> PurchaseJson<'a> {
        let record = &self.job.record;
        let payment = self.payment();
        let cost = if payment == Payment::NotBought { None } else { self.cost(catalogue) };
        let (stored, usage) = match &self.purchase.state {
            StoredState::Resolved { pictures, usage, .. } => (pictures.as_slice(), *usage),
            StoredState::Intent
            | StoredState::Committing { .. }
            | StoredState::Accepted { .. }
            | StoredState::Failed { .. } => (&[][..], None),
        };
        let poll_url = match &self.purchase.state {
            StoredState::Accepted { poll_url, .. } => poll_url.as_deref(),
            StoredState::Intent
            | StoredState::Committing { .. }
            | StoredState::Resolved { .. }
            | StoredState::Failed { .. } => None,
        };
        PurchaseJson {
            purchase_id: self.purchase.id.to_string(),
            job_id: record.id.to_string(),
            created_at: record.created.to_string(),
            client: record.client.to_string(),
            model: &record.model,
            task: record.task.name(),
            size: record.size.to_string(),
            pictures: self.purchase.pictures,
            state: self.purchase.state.name(),
            payment,
            upstream_id: self.upstream().map(UpstreamId::as_str),
            api: self.purchase.api_kind.name(),
            format: self.purchase.format.as_deref(),
            price_usd: cost.map(|cost| rounded(cost.usd)),
            price_basis: cost.map(|cost| if cost.reported { "usage" } else { "estimate" }),
            usage,
            failure: self.failure().map(Failure::name),
            failure_detail: self.failure(),
            resolution: self.purchase.resolution.map(Resolution::name),
            resubmitted: self.purchase.lost_answers,
            poll_url,
            committed_at: time_text(self.times.committed),
            accepted_at: time_text(self.times.accepted),
            ended_at: time_text(self.times.ended),
            decided_at: time_text(self.times.decided),
            stored: stored
                .iter()
                .map(|picture| PictureJson {
                    digest: picture.digest.to_string(),
                    bytes: picture.bytes,
                    format: picture.format.name(),
                    width: picture.width,
                    height: picture.height,
                })
                .collect(),
        }
    }
}

/// A purchase as JSON.
#[derive(Debug, Serialize)]
pub(super) struct PurchaseJson<'a> {
    purchase_id: String,
    job_id: String,
    created_at: String,
    client: String,
    model: &'a str,
    task: &'static str,
    size: String,
    /// Pictures to be made.
    pictures: u8,
    state: &'static str,
    payment: Payment,
    upstream_id: Option<&'a str>,
    /// The API of the upstream.
    api: &'static str,
    /// The request format of the last committed submit.
    format: Option<&'a str>,
    /// The actual or possible price; null when nothing was bought.
    price_usd: Option<f64>,
    price_basis: Option<&'static str>,
    usage: Option<Usage>,
    failure: Option<&'static str>,
    failure_detail: Option<&'a Failure>,
    resolution: Option<&'static str>,
    /// Earlier submits whose response was lost; each may have been bought too.
    resubmitted: u32,
    poll_url: Option<&'a str>,
    committed_at: Option<String>,
    accepted_at: Option<String>,
    ended_at: Option<String>,
    decided_at: Option<String>,
    /// The pictures on disk.
    stored: Vec<PictureJson>,
}

#[derive(Debug, Serialize)]
struct PictureJson {
    digest: String,
    bytes: u64,
    format: &'static str,
    width: u32,
    height: u32,
}

pub(super) fn time_text(time: Option<Timestamp>) -> Option<String> {
    time.map(|time| time.to_string())
}

/// Rounds to a millionth of a dollar, as sums of binary fractions have long decimals.
pub(super) fn rounded(usd: f64) -> f64 {
    // Plus zero, as -0.0 would be printed with its sign.
    (usd * 1e6).round() / 1e6 + 0.0
}

/// Returns dollars to a hundredth of a cent, as one picture costs a few cents.
pub(super) fn dollars(usd: f64) -> String {
    let usd = rounded(usd);
    let sign = if usd < 0.0 { "-" } else { "" };
    format!("{sign}${:.4}", usd.abs())
}

/// Returns a time to the second, in UTC.
pub(super) fn clock(time: Timestamp) -> String {
    let text = Timestamp::from_millis(time.seconds() * 1000).to_string();
    text.trim_end_matches(".000Z").replace('T', " ")
}
