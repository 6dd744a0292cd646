//! A job that was accepted: where it stands, and what it costs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use tokio::sync::{OnceCell, SetOnce};
use tokio::time::Instant;

use super::inputs::Input;
use super::rules::{Mode, Order, Quality};
use super::scenario::{Outcome, Scenario};
use super::world::Now;

/// What a prediction costs, in tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Usage {
    pub(super) text: u64,
    pub(super) image: u64,
    pub(super) output: u64,
}

/// Where a prediction stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Created,
    Processing,
    Ended,
}

/// A job that was accepted.
#[derive(Clone, Debug)]
pub(super) struct Prediction {
    pub(super) id: String,
    /// Place in the order of acceptance, from 0.
    pub(super) number: usize,
    pub(super) key: String,
    pub(super) order: Arc<Order>,
    pub(super) headers: Arc<BTreeMap<String, String>>,
    pub(super) query: Option<String>,
    pub(super) created: Now,
    /// When it has a place to run.
    pub(super) starts: Instant,
    pub(super) ends: Instant,
    /// As the service would report it, before `speed`.
    pub(super) latency_ms: u64,
    pub(super) created_for: Duration,
    pub(super) outcome: Outcome,
    /// Set when its links have been fetched, before which it does not run; none if it has no links to fetch.
    pub(super) links: Option<Arc<SetOnce<()>>>,
    /// Why a link could not be fetched.
    pub(super) link_error: Option<String>,
    pub(super) usage: Usage,
    pub(super) cost_usd: f64,
    pub(super) charged: bool,
    pub(super) polls: u64,
    pub(super) last_poll: Option<Instant>,
    /// Completed answers so far.
    pub(super) completed_polls: u32,
    pub(super) downloads: Vec<u32>,
    pub(super) pictures: Vec<Arc<OnceCell<Bytes>>>,
}

impl Prediction {
    pub(super) fn phase(&self, now: Instant) -> Phase {
        match () {
            () if self.links.as_ref().is_some_and(|links| !links.initialized()) => Phase::Created,
            () if now >= self.ends => Phase::Ended,
            () if now >= self.starts + self.created_for => Phase::Processing,
            () => Phase::Created,
        }
    }

    pub(super) fn has_completed(&self, now: Instant) -> bool {
        self.outcome == Outcome::Completed && self.phase(now) == Phase::Ended
    }
}

pub(super) fn megapixels((width, height): (u32, u32)) -> f64 {
    f64::from(width) * f64::from(height) / (1024.0 * 1024.0)
}

/// Plausible numbers: a low square of 1024 makes 196 tokens as documented, a medium one 805 as observed.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "token counts are small and positive")]
pub(super) fn usage(order: &Order) -> Usage {
    let square = match order.quality {
        Quality::Low => 196.0,
        Quality::Medium => 805.0,
        Quality::High => 3_220.0,
    };
    let each = (square * megapixels(order.size)).ceil() as u64;
    Usage {
        text: order.prompt.chars().count() as u64 / 4 + 1,
        image: order.inputs.iter().map(image_tokens).sum(),
        output: each * u64::from(order.n),
    }
}

/// How much is kept for drawing a prediction.
pub(super) fn kept_bytes(order: &Order) -> usize {
    order.inputs.iter().chain(&order.mask).map(input_bytes).sum()
}

/// A base and a price for each tile of 512, after the shorter edge has been brought to 512.
fn image_tokens(input: &Input) -> u64 {
    let (width, height) = match input {
        Input::Url(_) => (1024, 1024),
        Input::Picture(picture) => (picture.width.max(1), picture.height.max(1)),
    };
    let tiles = width.max(height).div_ceil(width.min(height)).min(8);
    65 + 129 * tiles
}

#[expect(clippy::cast_precision_loss, reason = "token counts are small")]
pub(super) fn cost_usd(order: &Order, usage: Usage, rules: &Scenario) -> f64 {
    match order.model.price {
        Some(price) => {
            let input = (usage.text + usage.image) as f64 * price.input;
            (input + usage.output as f64 * price.output) / 1e6
        }
        None => rules.balance.plus_picture_usd * f64::from(order.n),
    }
}

/// Equal for two requests that ask for the same.
pub(super) fn fingerprint(prediction: &Prediction) -> blake3::Hash {
    let order = &prediction.order;
    let text = format!("{:?} {} {} {}", order.face, order.model.name, order.capability.name(), order.parameters);
    blake3::hash(text.as_bytes())
}

fn input_bytes(input: &Input) -> usize {
    match input {
        Input::Url(_) => 0,
        Input::Picture(picture) => picture.bytes.len(),
    }
}

/// Drops the bytes and keeps the digests.
pub(super) fn forget_inputs(prediction: &mut Prediction) {
    let mut order = Order::clone(&prediction.order);
    for input in order.inputs.iter_mut().chain(&mut order.mask) {
        if let Input::Picture(picture) = input {
            picture.bytes = Arc::default();
        }
    }
    prediction.order = Arc::new(order);
}

/// Whether a prediction's submit is to be answered at its end.
pub(super) fn waits(prediction: &Prediction) -> bool {
    prediction.order.mode == Mode::Sync
}
