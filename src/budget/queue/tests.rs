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
        let position = queue.next_position();
        queue.insert(position, submit, submit.client.to_string());
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
    add(&mut queue, &submit("expensive", "m", 0.30), 1000);
    let served = served(&mut queue, 410);
    // In every round 0.9 for the heavy client, and 0.3 for each of the others.
    assert_eq!((served["heavy"], served["light"], served["expensive"]), (300, 100, 10));
}

#[test]
fn within_a_client_order_is_kept_also_for_an_entry_that_is_queued_again() {
    let mut queue = queue(&[]);
    let one = submit("a", "m", 0.03);
    let positions: Vec<Position> = (0..3).map(|_| queue.next_position()).collect();
    for &position in &positions {
        queue.insert(position, &one, position.to_string());
    }
    let first = queue.next(|_| true).unwrap().0;
    queue.insert(positions[0], &one, first.clone());
    assert_eq!(queue.next(|_| true).unwrap().0, first);
    queue.remove(positions[1], &one);
    queue.remove(positions[1], &one);
    assert_eq!(queue.next(|_| true).unwrap().0, positions[2].to_string());
    assert_eq!((queue.len(), queue.bytes(), queue.next(|_| true)), (0, 0, None));
}

#[test]
fn a_model_in_cooldown_delays_no_other() {
    let mut queue = queue(&[]);
    add(&mut queue, &submit("a", "cooling", 0.03), 5);
    add(&mut queue, &submit("a", "free", 0.03), 1);
    add(&mut queue, &submit("b", "cooling", 0.03), 5);
    assert_eq!(queue.next(|model| model == "free").unwrap().0, "a");
    assert_eq!(queue.next(|model| model == "free"), None);
    assert_eq!(queue.len(), 10);
}

#[test]
fn the_number_of_entries_ahead_counts_turns() {
    let mut queue = queue(&[]);
    add(&mut queue, &submit("noisy", "m", 0.03), 1000);
    let (noisy, without_own) = queue.ahead_of(&client("noisy"), Usd(0.03));
    assert!((noisy - 1000.0).abs() < 1e-6 && without_own == 0.0, "{noisy} {without_own}");
    let (quiet, _) = queue.ahead_of(&client("quiet"), Usd(0.03));
    assert!((quiet - 1.0).abs() < 1e-6, "one turn of the noisy client: {quiet}");
}

#[test]
fn a_very_small_weight_needs_no_loop_over_idle_rounds() {
    let mut queue = queue(&[("light", 0.001), ("heavy", 1000.0), ("other", 0.002)]);
    add(&mut queue, &submit("light", "m", 0.03), 300);
    add(&mut queue, &submit("other", "m", 0.03), 600);
    let served = served(&mut queue, 600);
    assert!(served["other"].abs_diff(2 * served["light"]) <= 2, "{served:?}");
}

proptest! {
    /// No entry is lost, and while two clients both have entries, what they were served differs by no more than two of
    /// the most expensive entries.
    #[test]
    fn no_client_falls_behind(
        prices in proptest::collection::vec((0_usize..3, 1_u32..50), 1..200),
    ) {
        let names = ["a", "b", "c"];
        let mut queue: FairQueue<(usize, f64)> = FairQueue::new(HashMap::new());
        let mut left = [0_usize; 3];
        for &(who, cents) in &prices {
            let usd = f64::from(cents) / 100.0;
            let position = queue.next_position();
            queue.insert(position, &submit(names[who], "m", usd), (who, usd));
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

#[test]
fn the_place_of_an_entry_is_when_it_is_served() {
    let mut queue = queue(&[]);
    let clients = ["one", "two", "three"];
    let mut entries = Vec::new();
    for _ in 0..4 {
        for name in clients {
            let (position, submit) = (queue.next_position(), submit(name, "m", 0.03));
            queue.insert(position, &submit, position.to_string());
            entries.push((position, submit));
        }
    }
    let places: Vec<usize> =
        entries.iter().map(|(position, submit)| place(&queue, *position, submit).unwrap()).collect();
    let order: Vec<String> = std::iter::from_fn(|| Some(queue.next(|_| true)?.0)).collect();
    for ((position, submit), estimate) in entries.iter().zip(places) {
        let served = order.iter().position(|one| *one == position.to_string()).unwrap() + 1;
        assert_eq!(estimate, served, "{submit:?}");
        assert_eq!(place(&queue, *position, submit), None, "it is not queued any more");
    }
}

#[test]
fn the_place_behind_other_clients_goes_by_shares() {
    let mut queue = queue(&[("heavy", 3.0)]);
    add(&mut queue, &submit("heavy", "m", 0.03), 90);
    let (position, light) = (queue.next_position(), submit("light", "m", 0.03));
    add(&mut queue, &light, 10);
    let last = place(&queue, position + 10, &light);
    assert!((35..=45).contains(&last.unwrap()), "behind 9 of its own and about 30: {last:?}");
    assert_eq!(place(&queue, position + 11, &light), None);
}
