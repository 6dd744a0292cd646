//! The fair queue of submits: deficit round-robin over clients, by price; first in, first out within a client.
//!
//! Each client with entries has a lane. Lanes take turns. A turn adds to the lane's credit in proportion to its client's
//! weight, and the lane is served while its credit covers its next entry. Over time each client gets the share of the money
//! that its weight gives it, whatever it requests and however often (Shreedhar and Varghese, "Efficient fair queueing using
//! deficit round-robin", SIGCOMM 1995). A lane that becomes empty loses its credit, so an absent client accumulates none.
//!
//! The credit of a turn is the highest price seen, for the client with the greatest weight; others need several turns for
//! it. So no client is served more than the most expensive entry's price in a row, at the cost of idle turns, which are
//! skipped.
//!
//! Entries whose model is in cooldown are skipped and keep their position.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use crate::model::{ClientId, Usd};

/// The smallest price: free entries take turns too.
const PRICE_MIN: f64 = 1e-6;

/// Weight of a client that the configuration does not name.
const WEIGHT: f64 = 1.0;

/// A position in the queue. Lower ones came first, and a submit that is queued again keeps its own.
pub(super) type Position = u64;

/// A purchase that waits for its submit.
#[derive(Clone, Debug)]
pub(crate) struct QueuedSubmit {
    pub(crate) client: ClientId,
    pub(crate) model: Arc<str>,
    /// Expected price.
    pub(crate) usd: Usd,
    /// Bytes of uploads that are held for it.
    pub(crate) bytes: u64,
}

/// The entries of all clients.
#[derive(Debug)]
pub(super) struct FairQueue<T> {
    weights: HashMap<ClientId, f64>,
    heaviest: f64,
    lanes: HashMap<ClientId, Lane<T>>,
    /// Clients with entries, in the order of their turns.
    turns: VecDeque<ClientId>,
    /// The current client has received the credit of this turn.
    credited: bool,
    most_expensive: f64,
    totals: Totals,
    last_position: Position,
}

/// What all lanes together have.
#[derive(Debug, Default)]
struct Totals {
    len: usize,
    bytes: u64,
    /// The number of entries of each model, to know which cooldowns matter.
    models: BTreeMap<Arc<str>, usize>,
}

#[derive(Debug)]
struct Lane<T> {
    credit: f64,
    weight: f64,
    /// Sum of the prices of its entries.
    usd: f64,
    len: usize,
    models: BTreeMap<Arc<str>, VecDeque<Entry<T>>>,
}

#[derive(Debug)]
struct Entry<T> {
    position: Position,
    usd: f64,
    bytes: u64,
    item: T,
}

impl<T> FairQueue<T> {
    /// Clients without a weight have 1.
    pub(super) fn new(weights: HashMap<ClientId, f64>) -> Self {
        let heaviest = weights.values().copied().fold(WEIGHT, f64::max);
        Self {
            weights,
            heaviest,
            lanes: HashMap::new(),
            turns: VecDeque::new(),
            credited: false,
            most_expensive: PRICE_MIN,
            totals: Totals::default(),
            last_position: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.totals.len
    }

    /// Returns the bytes of all entries' uploads.
    pub(super) fn bytes(&self) -> u64 {
        self.totals.bytes
    }

    /// Returns the models that have entries.
    pub(super) fn models(&self) -> impl Iterator<Item = &Arc<str>> {
        self.totals.models.keys()
    }

    /// Returns the number of entries of each client that has any.
    pub(super) fn by_client(&self) -> impl Iterator<Item = (&ClientId, usize)> {
        self.lanes.iter().map(|(client, lane)| (client, lane.len))
    }

    /// Returns the first position of each client that has entries.
    pub(super) fn first_positions(&self) -> impl Iterator<Item = (&ClientId, Position)> {
        self.lanes.iter().filter_map(|(client, lane)| {
            let fronts = lane.models.values().filter_map(|entries| entries.front());
            Some((client, fronts.map(|entry| entry.position).min()?))
        })
    }

    /// Returns a new position at the end.
    pub(super) fn next_position(&mut self) -> Position {
        self.last_position += 1;
        self.last_position
    }

    /// Inserts an entry at its position in its client's lane.
    pub(super) fn insert(&mut self, position: Position, submit: &QueuedSubmit, item: T) {
        let usd = submit.usd.0.max(PRICE_MIN);
        self.most_expensive = self.most_expensive.max(usd);
        self.totals.add(&submit.model, submit.bytes);
        let weight = self.weights.get(&submit.client).copied().unwrap_or(WEIGHT);
        let lane = self.lanes.entry(submit.client.clone()).or_insert_with(|| {
            self.turns.push_back(submit.client.clone());
            Lane { credit: 0.0, weight, usd: 0.0, len: 0, models: BTreeMap::new() }
        });
        lane.usd += usd;
        lane.len += 1;
        let entries = lane.models.entry(Arc::clone(&submit.model)).or_default();
        let index = entries.partition_point(|entry| entry.position < position);
        entries.insert(index, Entry { position, usd, bytes: submit.bytes, item });
    }

    /// Removes an entry, if it is still queued.
    pub(super) fn remove(&mut self, position: Position, submit: &QueuedSubmit) {
        let Some(lane) = self.lanes.get_mut(&submit.client) else { return };
        let Some(entries) = lane.models.get_mut(&submit.model) else { return };
        let index = entries.partition_point(|entry| entry.position < position);
        if entries.get(index).is_some_and(|entry| entry.position == position)
            && let Some(entry) = entries.remove(index)
        {
            self.removed(&submit.client, &submit.model, entry.usd, entry.bytes);
        }
    }

    /// Whether there is an entry of a model that may be sent.
    pub(super) fn has(&self, may_send: impl Fn(&str) -> bool) -> bool {
        self.models().any(|model| may_send(model))
    }

    /// Takes the next entry among those whose model may be sent.
    pub(super) fn next(&mut self, may_send: impl Fn(&str) -> bool) -> Option<(T, Arc<str>)> {
        if !self.has(&may_send) {
            return None;
        }
        let mut passed = 0;
        loop {
            if passed == self.turns.len() {
                self.skip_idle_rounds(&may_send);
                passed = 0;
            }
            let client = self.turns.front()?.clone();
            let lane = self.lanes.get_mut(&client)?;
            if let Some((model, usd)) = lane.head(&may_send) {
                if !self.credited {
                    self.credited = true;
                    lane.credit += self.most_expensive * lane.weight / self.heaviest;
                }
                // Rounding must not cost a turn.
                if lane.credit + PRICE_MIN / 2.0 >= usd {
                    lane.credit -= usd;
                    let entry = lane.models.get_mut(&model)?.pop_front()?;
                    self.removed(&client, &model, entry.usd, entry.bytes);
                    return Some((entry.item, model));
                }
            }
            // The turn passes to the next lane.
            self.credited = false;
            self.turns.rotate_left(1);
            passed += 1;
        }
    }

    /// Adds the credit of all rounds in which no lane could be served.
    fn skip_idle_rounds(&mut self, may_send: impl Fn(&str) -> bool) {
        let each = self.most_expensive / self.heaviest;
        let rounds_missing =
            |lane: &Lane<T>| lane.head(&may_send).map(|(_, usd)| (usd - lane.credit) / (each * lane.weight));
        let rounds = self.lanes.values().filter_map(rounds_missing).fold(f64::INFINITY, f64::min);
        // The last of them is served normally.
        let idle = rounds.ceil() - 1.0;
        if idle.is_finite() && idle > 0.0 {
            for lane in self.lanes.values_mut().filter(|lane| lane.head(&may_send).is_some()) {
                lane.credit += idle * each * lane.weight;
            }
        }
    }

    /// Takes every entry of one model.
    pub(super) fn drain_model(&mut self, model: &Arc<str>) -> Vec<T> {
        let mut drained = Vec::new();
        let clients: Vec<ClientId> = self.turns.iter().cloned().collect();
        for client in clients {
            while let Some(entry) =
                self.lanes.get_mut(&client).and_then(|lane| lane.models.get_mut(model)).and_then(VecDeque::pop_front)
            {
                self.removed(&client, model, entry.usd, entry.bytes);
                drained.push(entry.item);
            }
        }
        drained
    }

    /// Estimates how many entries precede one more of this client, and how many would if none of its own were queued: every
    /// lane is served in proportion to its weight until then.
    pub(super) fn ahead_of(&self, client: &ClientId, Usd(usd): Usd) -> (f64, f64) {
        let weight = self.weights.get(client).copied().unwrap_or(WEIGHT);
        let own = self.lanes.get(client).map_or(0.0, |lane| lane.usd);
        let usd = usd.max(PRICE_MIN);
        // A lane with fewer entries than its share is served completely.
        let others = |served: f64| -> f64 {
            self.lanes
                .iter()
                .filter(|(other, _)| *other != client)
                .map(|(_, lane)| count(lane.len) * (served * lane.weight / lane.usd).min(1.0))
                .sum()
        };
        let own_len = self.lanes.get(client).map_or(0.0, |lane| count(lane.len));
        (own_len + others((own + usd) / weight), others(usd / weight))
    }

    /// Updates the counts after an entry was removed.
    fn removed(&mut self, client: &ClientId, model: &Arc<str>, usd: f64, bytes: u64) {
        self.totals.remove(model, bytes);
        let Some(lane) = self.lanes.get_mut(client) else { return };
        lane.len -= 1;
        lane.usd = (lane.usd - usd).max(PRICE_MIN);
        if lane.models.get(model).is_some_and(VecDeque::is_empty) {
            lane.models.remove(model);
        }
        if lane.len == 0 {
            self.lanes.remove(client);
            if self.turns.front() == Some(client) {
                self.credited = false;
            }
            self.turns.retain(|listed| listed != client);
        }
    }
}

/// Changes the weights of clients. What is queued already is served by the new ones from now on.
pub(super) fn set_weights<T>(queue: &mut FairQueue<T>, weights: HashMap<ClientId, f64>) {
    queue.heaviest = weights.values().copied().fold(WEIGHT, f64::max);
    for (client, lane) in &mut queue.lanes {
        lane.weight = weights.get(client).copied().unwrap_or(WEIGHT);
    }
    queue.weights = weights;
}

/// Estimates the place of an entry, 1 for the next; `None` when it is not queued. The entries of its client before it are
/// counted, and those of other clients are estimated by what they are served until then.
pub(super) fn place<T>(queue: &FairQueue<T>, position: Position, submit: &QueuedSubmit) -> Option<usize> {
    let lane = queue.lanes.get(&submit.client)?;
    let before = |entries: &VecDeque<Entry<T>>| entries.partition_point(|entry| entry.position < position);
    let own = lane.models.get(&submit.model)?;
    own.get(before(own)).filter(|entry| entry.position == position)?;
    let before: usize = lane.models.values().map(before).sum();
    let mean = lane.usd / count(lane.len);
    let mut has_passed = false;
    let mut others = 0.0;
    for client in &queue.turns {
        if *client == submit.client {
            has_passed = true;
        } else if let Some(other) = queue.lanes.get(client) {
            // A lane whose turn comes first is served once more.
            let turns = if has_passed { count(before) } else { count(before + 1) };
            let served = turns * mean / lane.weight;
            others += count(other.len) * (served * other.weight / other.usd).min(1.0);
        }
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "queues are far shorter than 2^32")]
    let others = others.round() as usize;
    Some(before + others + 1)
}

impl Totals {
    fn add(&mut self, model: &Arc<str>, bytes: u64) {
        self.len += 1;
        self.bytes += bytes;
        *self.models.entry(Arc::clone(model)).or_default() += 1;
    }

    fn remove(&mut self, model: &Arc<str>, bytes: u64) {
        self.len -= 1;
        self.bytes -= bytes;
        if let Some(entries) = self.models.get_mut(model) {
            *entries -= 1;
            if *entries == 0 {
                self.models.remove(model);
            }
        }
    }
}

impl<T> Lane<T> {
    /// Returns the model and price of the first entry among those whose model may be sent.
    fn head(&self, may_send: impl Fn(&str) -> bool) -> Option<(Arc<str>, f64)> {
        let heads = self.models.iter().filter(|(model, _)| may_send(model));
        let heads = heads.filter_map(|(model, entries)| Some((model, entries.front()?)));
        let (model, entry) = heads.min_by_key(|(_, entry)| entry.position)?;
        Some((Arc::clone(model), entry.usd))
    }
}

#[expect(clippy::cast_precision_loss, reason = "queues are far shorter than 2^52")]
fn count(len: usize) -> f64 {
    len as f64
}

#[cfg(test)]
mod tests;
