//! Who goes next: deficit round-robin over clients, by price, first come first served within one.
//!
//! Each client with something queued has a lane. Lanes take turns; a turn adds to the lane's credit in proportion to its
//! client's weight, and the lane goes on while its credit pays for its next entry. Over time each client gets the share
//! of the money that its weight says, whatever it asks for and however often (Shreedhar and Varghese, "Efficient fair
//! queueing using deficit round-robin", SIGCOMM 1995). A lane that runs empty loses its credit: absence saves nothing up.
//!
//! A turn's credit is the dearest price seen, for the heaviest client; lighter ones need several turns for it. So nobody
//! ever has more than one dearest entry's worth in a row, at the price of some idle turns, which cost nothing.
//!
//! Entries whose model is held back are passed over without losing their place.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use crate::model::{ClientId, Usd};

/// The smallest price: entries that cost nothing still take turns.
const PRICE_MIN: f64 = 1e-6;

/// Weight of a client that the configuration does not name.
const WEIGHT: f64 = 1.0;

/// A place in line. Lower ones came first, and who comes back keeps its own.
pub(super) type Place = u64;

/// Something to be bought, as the queue sees it.
#[derive(Clone, Debug)]
pub(crate) struct QueuedSubmit {
    pub(crate) client: ClientId,
    pub(crate) model: Arc<str>,
    /// Expected price.
    pub(crate) usd: Usd,
    /// Bytes of uploads that are held for it.
    pub(crate) bytes: u64,
}

/// Entries of all clients.
#[derive(Debug)]
pub(super) struct FairQueue<T> {
    weights: HashMap<ClientId, f64>,
    heaviest: f64,
    lanes: HashMap<ClientId, Lane<T>>,
    /// Clients with entries, in the order of their turns.
    turns: VecDeque<ClientId>,
    /// The client whose turn it is has had its credit for this turn.
    credited: bool,
    dearest: f64,
    len: usize,
    bytes: u64,
    /// Entries of each model, to know which pauses matter.
    models: BTreeMap<Arc<str>, usize>,
    next_place: Place,
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
    place: Place,
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
            dearest: PRICE_MIN,
            len: 0,
            bytes: 0,
            models: BTreeMap::new(),
            next_place: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes of all entries' uploads.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The models that something is queued for.
    pub(super) fn models(&self) -> impl Iterator<Item = &Arc<str>> {
        self.models.keys()
    }

    /// Entries of each client that has any.
    pub(super) fn by_client(&self) -> impl Iterator<Item = (&ClientId, usize)> {
        self.lanes.iter().map(|(client, lane)| (client, lane.len))
    }

    /// A place behind everybody.
    pub(super) fn new_place(&mut self) -> Place {
        self.next_place += 1;
        self.next_place
    }

    /// Puts an entry in its place within its client's lane.
    pub(super) fn insert(&mut self, place: Place, submit: &QueuedSubmit, item: T) {
        let usd = submit.usd.0.max(PRICE_MIN);
        self.dearest = self.dearest.max(usd);
        self.len += 1;
        self.bytes += submit.bytes;
        *self.models.entry(Arc::clone(&submit.model)).or_default() += 1;
        let weight = self.weights.get(&submit.client).copied().unwrap_or(WEIGHT);
        let lane = self.lanes.entry(submit.client.clone()).or_insert_with(|| {
            self.turns.push_back(submit.client.clone());
            Lane { credit: 0.0, weight, usd: 0.0, len: 0, models: BTreeMap::new() }
        });
        lane.usd += usd;
        lane.len += 1;
        let entries = lane.models.entry(Arc::clone(&submit.model)).or_default();
        let position = entries.partition_point(|entry| entry.place < place);
        entries.insert(position, Entry { place, usd, bytes: submit.bytes, item });
    }

    /// Takes an entry out of line, wherever it stands.
    pub(super) fn remove(&mut self, place: Place, submit: &QueuedSubmit) {
        let Some(lane) = self.lanes.get_mut(&submit.client) else { return };
        let Some(entries) = lane.models.get_mut(&submit.model) else { return };
        let position = entries.partition_point(|entry| entry.place < place);
        if entries.get(position).is_some_and(|entry| entry.place == place)
            && let Some(entry) = entries.remove(position)
        {
            self.forget(&submit.client, &submit.model, entry.usd, entry.bytes);
        }
    }

    /// Whether an entry is there for a model that may go.
    pub(super) fn has(&self, may_go: impl Fn(&str) -> bool) -> bool {
        self.models.keys().any(|model| may_go(model))
    }

    /// Takes the entry whose turn it is, of those whose model may go.
    pub(super) fn next(&mut self, may_go: impl Fn(&str) -> bool) -> Option<(T, Arc<str>)> {
        if !self.has(&may_go) {
            return None;
        }
        let mut passed = 0;
        loop {
            if passed == self.turns.len() {
                self.skip_idle_rounds(&may_go);
                passed = 0;
            }
            let client = self.turns.front()?.clone();
            let lane = self.lanes.get_mut(&client)?;
            match lane.head(&may_go) {
                Some((model, usd)) => {
                    if !self.credited {
                        self.credited = true;
                        lane.credit += self.dearest * lane.weight / self.heaviest;
                    }
                    // Rounding must not cost a turn.
                    if lane.credit + PRICE_MIN / 2.0 >= usd {
                        lane.credit -= usd;
                        let entry = lane.models.get_mut(&model)?.pop_front()?;
                        self.forget(&client, &model, entry.usd, entry.bytes);
                        return Some((entry.item, model));
                    }
                    self.pass_turn();
                }
                None => self.pass_turn(),
            }
            passed += 1;
        }
    }

    /// Gives everybody at once the credit of the rounds in which nobody could go.
    fn skip_idle_rounds(&mut self, may_go: impl Fn(&str) -> bool) {
        let each = self.dearest / self.heaviest;
        let wanting = |lane: &Lane<T>| lane.head(&may_go).map(|(_, usd)| (usd - lane.credit) / (each * lane.weight));
        let rounds = self.lanes.values().filter_map(wanting).fold(f64::INFINITY, f64::min);
        // The last of them is an ordinary one.
        let idle = rounds.ceil() - 1.0;
        if idle.is_finite() && idle > 0.0 {
            for lane in self.lanes.values_mut().filter(|lane| lane.head(&may_go).is_some()) {
                lane.credit += idle * each * lane.weight;
            }
        }
    }

    /// Every entry of one model.
    pub(super) fn drain_model(&mut self, model: &Arc<str>) -> Vec<T> {
        let mut drained = Vec::new();
        let clients: Vec<ClientId> = self.turns.iter().cloned().collect();
        for client in clients {
            while let Some(entry) =
                self.lanes.get_mut(&client).and_then(|lane| lane.models.get_mut(model)).and_then(VecDeque::pop_front)
            {
                self.forget(&client, model, entry.usd, entry.bytes);
                drained.push(entry.item);
            }
        }
        drained
    }

    /// How many entries go before one more of this client, and how many would if none of its own were queued: every
    /// lane is served in proportion to its weight until that one's turn comes.
    pub(super) fn ahead_of(&self, client: &ClientId, Usd(usd): Usd) -> (f64, f64) {
        let weight = self.weights.get(client).copied().unwrap_or(WEIGHT);
        let own = self.lanes.get(client).map_or(0.0, |lane| lane.usd);
        let usd = usd.max(PRICE_MIN);
        // A lane with fewer entries than its share is served whole.
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

    fn pass_turn(&mut self) {
        self.credited = false;
        self.turns.rotate_left(1);
    }

    /// One entry of a lane is gone.
    fn forget(&mut self, client: &ClientId, model: &Arc<str>, usd: f64, bytes: u64) {
        self.len -= 1;
        self.bytes -= bytes;
        if let Some(entries) = self.models.get_mut(model) {
            *entries -= 1;
            if *entries == 0 {
                self.models.remove(model);
            }
        }
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

impl<T> Lane<T> {
    /// The entry that came first, of those whose model may go: its model and price.
    fn head(&self, may_go: impl Fn(&str) -> bool) -> Option<(Arc<str>, f64)> {
        let heads = self.models.iter().filter(|(model, _)| may_go(model));
        let heads = heads.filter_map(|(model, entries)| Some((model, entries.front()?)));
        let (model, entry) = heads.min_by_key(|(_, entry)| entry.place)?;
        Some((Arc::clone(model), entry.usd))
    }
}

#[expect(clippy::cast_precision_loss, reason = "queues are far shorter than 2^52")]
fn count(len: usize) -> f64 {
    len as f64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn client(name: &str) -> ClientId {
        ClientId(name.into())
    }

    fn submit(name: &str, model: &str, usd: f64) -> QueuedSubmit {
        QueuedSubmit { client: client(name), model: model.into(), usd: Usd(usd), bytes: 10 }
    }

    fn queue(weights: &[(&str, f64)]) -> FairQueue<String> {
        FairQueue::new(weights.iter().map(|&(name, weight)| (client(name), weight)).collect())
    }

    fn add(queue: &mut FairQueue<String>, submit: &QueuedSubmit, times: usize) {
        for _ in 0..times {
            let place = queue.new_place();
            queue.insert(place, submit, submit.client.to_string());
        }
    }

    fn served(queue: &mut FairQueue<String>, times: usize) -> HashMap<String, usize> {
        let mut served = HashMap::new();
        for _ in 0..times {
            *served.entry(queue.next(|_| true).unwrap().0).or_default() += 1;
        }
        served
    }

    #[test]
    fn a_noisy_client_gets_no_more_than_its_share() {
        let mut queue = queue(&[]);
        add(&mut queue, &submit("noisy", "m", 0.03), 1000);
        add(&mut queue, &submit("quiet", "m", 0.03), 10);
        let served = served(&mut queue, 20);
        assert_eq!((served["noisy"], served["quiet"]), (10, 10));
    }

    #[test]
    fn shares_are_of_money_and_by_weight() {
        let mut queue = queue(&[("heavy", 3.0)]);
        add(&mut queue, &submit("heavy", "m", 0.03), 1000);
        add(&mut queue, &submit("light", "m", 0.03), 1000);
        add(&mut queue, &submit("dear", "m", 0.30), 1000);
        let served = served(&mut queue, 410);
        // 0.9 for the heavy one, and 0.3 for each of the others, in every round.
        assert_eq!((served["heavy"], served["light"], served["dear"]), (300, 100, 10));
    }

    #[test]
    fn within_a_client_who_came_first_goes_first_and_who_comes_back_keeps_its_place() {
        let mut queue = queue(&[]);
        let one = submit("a", "m", 0.03);
        let places: Vec<Place> = (0..3).map(|_| queue.new_place()).collect();
        for &place in &places {
            queue.insert(place, &one, place.to_string());
        }
        let first = queue.next(|_| true).unwrap().0;
        queue.insert(places[0], &one, first.clone());
        assert_eq!(queue.next(|_| true).unwrap().0, first);
        queue.remove(places[1], &one);
        queue.remove(places[1], &one);
        assert_eq!(queue.next(|_| true).unwrap().0, places[2].to_string());
        assert_eq!((queue.len(), queue.bytes(), queue.next(|_| true)), (0, 0, None));
    }

    #[test]
    fn a_model_that_is_held_back_holds_up_nobody_else() {
        let mut queue = queue(&[]);
        add(&mut queue, &submit("a", "held", 0.03), 5);
        add(&mut queue, &submit("a", "free", 0.03), 1);
        add(&mut queue, &submit("b", "held", 0.03), 5);
        assert_eq!(queue.next(|model| model == "free").unwrap().0, "a");
        assert_eq!(queue.next(|model| model == "free"), None);
        assert_eq!(queue.len(), 10);
    }

    #[test]
    fn what_goes_before_is_told_from_what_is_there() {
        let mut queue = queue(&[]);
        add(&mut queue, &submit("noisy", "m", 0.03), 1000);
        let (noisy, without_own) = queue.ahead_of(&client("noisy"), Usd(0.03));
        assert!((noisy - 1000.0).abs() < 1e-6 && without_own == 0.0, "{noisy} {without_own}");
        let (quiet, _) = queue.ahead_of(&client("quiet"), Usd(0.03));
        assert!((quiet - 1.0).abs() < 1e-6, "one turn of the noisy one: {quiet}");
    }

    #[test]
    fn the_lightest_is_served_without_counting_to_a_million() {
        let mut queue = queue(&[("light", 0.001), ("heavy", 1000.0), ("other", 0.002)]);
        add(&mut queue, &submit("light", "m", 0.03), 300);
        add(&mut queue, &submit("other", "m", 0.03), 600);
        let served = served(&mut queue, 600);
        assert!(served["other"].abs_diff(2 * served["light"]) <= 2, "{served:?}");
    }

    proptest! {
        /// Whatever is queued: nothing is lost, and while two clients both have something queued, what they got differs
        /// by no more than two of the dearest entries.
        #[test]
        fn nobody_falls_behind(
            prices in proptest::collection::vec((0_usize..3, 1_u32..50), 1..200),
        ) {
            let names = ["a", "b", "c"];
            let mut queue: FairQueue<(usize, f64)> = FairQueue::new(HashMap::new());
            let mut left = [0_usize; 3];
            for &(who, cents) in &prices {
                let usd = f64::from(cents) / 100.0;
                let place = queue.new_place();
                queue.insert(place, &submit(names[who], "m", usd), (who, usd));
                left[who] += 1;
            }
            let start = left;
            let mut got = [0.0_f64; 3];
            let mut count = 0;
            while let Some(((who, usd), _)) = queue.next(|_| true) {
                count += 1;
                left[who] -= 1;
                got[who] += usd;
                for (one, other) in [(0, 1), (0, 2), (1, 2)] {
                    if start[one] > 0 && start[other] > 0 && left[one] > 0 && left[other] > 0 {
                        prop_assert!((got[one] - got[other]).abs() <= 1.0 + 1e-6, "{got:?}");
                    }
                }
            }
            prop_assert_eq!(count, prices.len());
        }
    }
}
