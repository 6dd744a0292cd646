//! A prediction as the ledger shows it: what is known, whether it was bought, what it costs.

use serde::Serialize;

use crate::model::{Catalogue, Failure, Timestamp, UpstreamId, Usage};
use crate::storage::journal::{PurchaseTimes, Resolution, StoredJob, StoredPurchase, StoredState};

/// One prediction with its order.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry<'a> {
    pub(super) job: &'a StoredJob,
    pub(super) purchase: &'a StoredPurchase,
    pub(super) steps: PurchaseTimes,
}

/// Whether money left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Standing {
    /// Certainly not, or somebody decided so.
    NotBought,
    /// The upstream took it and made no picture of it, or its submit is under way: the vendor may charge for it.
    Maybe,
    Bought,
    /// The answer to its submit was lost, and nobody has decided.
    Unknown,
}

/// What a prediction costs, and how that is known.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Cost {
    pub(super) usd: f64,
    /// By tokens the upstream reported; an estimate otherwise.
    pub(super) reported: bool,
}

impl Entry<'_> {
    pub(super) fn standing(&self) -> Standing {
        match (&self.purchase.state, self.purchase.resolution) {
            (StoredState::Committing { .. }, _) => Standing::Maybe,
            (StoredState::Accepted { .. } | StoredState::Resolved { .. }, _) => Standing::Bought,
            (StoredState::Failed { failure: Failure::OutcomeUnknown { .. }, .. }, decided) => match decided {
                None => Standing::Unknown,
                Some(Resolution::Lost) => Standing::NotBought,
                Some(Resolution::Bought) => Standing::Bought,
                Some(Resolution::Resubmit) => Standing::Maybe,
            },
            (StoredState::Failed { failure, .. }, _) if failure.may_have_been_bought() => Standing::Maybe,
            (StoredState::Intent | StoredState::Failed { .. }, _) => Standing::NotBought,
        }
    }

    /// What it costs if it was bought; `None` for a model that the catalogue no longer has.
    pub(super) fn cost(&self, catalogue: &Catalogue) -> Option<Cost> {
        let price = &catalogue.find(&self.job.record.model)?.price;
        let (pictures, usage) = match &self.purchase.state {
            StoredState::Resolved { pictures, usage, .. } => (pictures.len(), usage.as_ref()),
            StoredState::Intent
            | StoredState::Committing { .. }
            | StoredState::Accepted { .. }
            | StoredState::Failed { .. } => (usize::from(self.purchase.pictures), None),
        };
        let priced = price.input_usd_per_million_tokens.and(price.output_usd_per_million_tokens).is_some();
        Some(Cost { usd: price.of(pictures, usage).0, reported: priced && usage.is_some() })
    }

    pub(super) fn upstream(&self) -> Option<&UpstreamId> {
        match &self.purchase.state {
            StoredState::Intent | StoredState::Committing { .. } => None,
            StoredState::Accepted { upstream, .. } => Some(upstream),
            StoredState::Resolved { upstream, .. } | StoredState::Failed { upstream, .. } => upstream.as_ref(),
        }
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

    /// The JSON of it, for programs: keys stay, and are there even when their value is not.
    pub(super) fn json<'a>(&'a self, catalogue: &Catalogue) -> Json<'a> {
        let record = &self.job.record;
        let standing = self.standing();
        let cost = if standing == Standing::NotBought { None } else { self.cost(catalogue) };
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
        Json {
            purchase_id: self.purchase.id.to_string(),
            job_id: record.id.to_string(),
            created_at: record.created.to_string(),
            client: record.client.to_string(),
            model: &record.model,
            task: record.task.name(),
            size: record.size.to_string(),
            pictures: self.purchase.pictures,
            state: self.purchase.state.name(),
            standing,
            upstream_id: self.upstream().map(UpstreamId::as_str),
            api_kind: self.purchase.api_kind.name(),
            price_usd: cost.map(|cost| rounded(cost.usd)),
            price_basis: cost.map(|cost| if cost.reported { "usage" } else { "estimate" }),
            usage,
            failure: self.failure().map(Failure::name),
            failure_detail: self.failure(),
            resolution: self.purchase.resolution.map(Resolution::name),
            resubmitted: self.purchase.lost_answers,
            poll_url,
            committed_at: text(self.steps.committed),
            accepted_at: text(self.steps.accepted),
            ended_at: text(self.steps.ended),
            decided_at: text(self.steps.decided),
            stored: stored
                .iter()
                .map(|picture| JsonPicture {
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

/// A prediction for programs.
#[derive(Debug, Serialize)]
pub(super) struct Json<'a> {
    purchase_id: String,
    job_id: String,
    created_at: String,
    client: String,
    model: &'a str,
    task: &'static str,
    size: String,
    /// Pictures it was to make.
    pictures: u8,
    state: &'static str,
    standing: Standing,
    upstream_id: Option<&'a str>,
    /// The face of the upstream it was bought at.
    api_kind: &'static str,
    /// What it cost, or may have; null where nothing was bought.
    price_usd: Option<f64>,
    price_basis: Option<&'static str>,
    usage: Option<Usage>,
    failure: Option<&'static str>,
    failure_detail: Option<&'a Failure>,
    resolution: Option<&'static str>,
    /// Submits before this one whose answer was lost: each may have been bought too.
    resubmitted: u32,
    poll_url: Option<&'a str>,
    committed_at: Option<String>,
    accepted_at: Option<String>,
    ended_at: Option<String>,
    decided_at: Option<String>,
    /// The pictures that came.
    stored: Vec<JsonPicture>,
}

#[derive(Debug, Serialize)]
struct JsonPicture {
    digest: String,
    bytes: u64,
    format: &'static str,
    width: u32,
    height: u32,
}

pub(super) fn text(time: Option<Timestamp>) -> Option<String> {
    time.map(|time| time.to_string())
}

/// To a millionth of a dollar: sums of binary fractions are not for reading.
pub(super) fn rounded(usd: f64) -> f64 {
    // Plus zero: a rounded -0.0 is printed with its sign.
    (usd * 1e6).round() / 1e6 + 0.0
}

/// Dollars for people: to a hundredth of a cent, as one picture costs a few cents.
pub(super) fn dollars(usd: f64) -> String {
    let usd = rounded(usd);
    let sign = if usd < 0.0 { "-" } else { "" };
    format!("{sign}${:.4}", usd.abs())
}

/// To the second, in UTC.
pub(super) fn clock(time: Timestamp) -> String {
    let text = Timestamp::from_millis(time.seconds() * 1000).to_string();
    text.trim_end_matches(".000Z").replace('T', " ")
}
