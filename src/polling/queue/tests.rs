use super::*;

const LONGEST: Duration = Duration::from_secs(10);

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn a_purchase_is_ready_at_its_time() {
    let start = Instant::now();
    let mut queue = PollQueue::new(LONGEST);
    queue.push(start + seconds(2), "late", 0, 0.9);
    queue.push(start + seconds(1), "early", 0, 0.1);
    assert_eq!(queue.next_due(), Some(start + seconds(1)));
    assert_eq!(queue.pop_ready(0, start), None);
    assert_eq!(queue.pop_ready(0, start + seconds(1)), Some("early"));
    assert_eq!(queue.pop_ready(0, start + seconds(1)), None);
    assert_eq!(queue.pop_ready(0, start + seconds(2)), Some("late"));
    assert_eq!(queue.next_due(), None);
    assert_eq!(queue.len(), 0);
}

#[test]
fn a_void_plan_never_waits_for_a_poll() {
    let start = Instant::now();
    let mut queue = PollQueue::new(LONGEST);
    queue.push(start, ("a", 1), 0, 0.9);
    queue.push(start + seconds(1), ("a", 2), 0, 0.9);
    queue.advance_if(start, |&(_, plan)| plan == 2);
    assert_eq!((queue.ready(0), queue.len()), (0, 1));
    queue.advance_if(start + seconds(1), |&(_, plan)| plan == 2);
    assert_eq!(queue.pop_ready(0, start + seconds(1)), Some(("a", 2)));
}

#[test]
fn of_those_ready_at_once_the_likeliest_goes_first() {
    let start = Instant::now();
    let mut queue = PollQueue::new(LONGEST);
    for (purchase, chance) in [("a", 0.0), ("b", 0.7), ("c", 0.7), ("d", 0.2), ("e", f64::NAN)] {
        queue.push(start, purchase, 0, chance);
    }
    let order: Vec<_> = std::iter::from_fn(|| queue.pop_ready(0, start)).collect();
    assert_eq!(order, ["b", "c", "d", "a", "e"]);
}

#[test]
fn waiting_time_counts_as_much_as_chance() {
    let start = Instant::now();
    let mut queue = PollQueue::new(LONGEST);
    queue.push(start, "waited", 0, 0.2);
    queue.push(start + seconds(4), "likelier", 0, 0.5);
    queue.advance(start);
    queue.advance(start + seconds(4));
    // 0.2 x 5 s against 0.5 x 1 s.
    assert_eq!(queue.pop_ready(0, start + seconds(5)), Some("waited"));
    queue.push(start, "waited again", 0, 0.2);
    queue.advance(start + seconds(5));
    assert_eq!(queue.pop_ready(0, start + seconds(6)), Some("likelier"));
}

#[test]
fn accounts_do_not_take_each_others_purchases() {
    let start = Instant::now();
    let mut queue = PollQueue::new(LONGEST);
    queue.push(start, "theirs", 1, 0.9);
    assert_eq!(queue.pop_ready(0, start), None);
    assert_eq!((queue.ready(0), queue.ready(1)), (0, 1));
    assert_eq!(queue.pop_ready(1, start), Some("theirs"));
}

#[test]
fn an_unlikely_purchase_does_not_starve() {
    let start = Instant::now();
    let mut queue = PollQueue::new(LONGEST);
    queue.push(start, 0, 0, 0.0);
    queue.advance(start);
    // One poll a second, and always a likelier purchase.
    let polled = (1..100).find(|&second| {
        let now = start + seconds(second);
        queue.push(now, second, 0, 0.9);
        queue.pop_ready(0, now) == Some(0)
    });
    assert_eq!(polled, Some(11));
    assert_eq!(queue.ready(0), 1);
}

#[test]
fn a_hundred_thousand_purchases_are_all_polled() {
    let start = Instant::now();
    let mut queue = PollQueue::new(LONGEST);
    for purchase in 0..100_000_u32 {
        let at = start + Duration::from_millis(u64::from(purchase % 9973));
        queue.push(at, purchase, 0, 1.0 / (1.0 + f64::from(purchase % 97)));
    }
    // Half of them are pushed once more.
    let mut polled = vec![0_u8; 100_000];
    for turn in 0..150_000_u64 {
        let now = start + seconds(10) + Duration::from_micros(turn * 200);
        let Some(purchase) = queue.pop_ready(0, now) else { continue };
        let times = &mut polled[usize::try_from(purchase).unwrap()];
        *times += 1;
        if *times == 1 && purchase % 2 == 0 {
            queue.push(now + seconds(1), purchase, 0, 0.5);
        }
    }
    assert_eq!(queue.len(), 0);
    assert!(polled.iter().enumerate().all(|(purchase, &times)| times == if purchase % 2 == 0 { 2 } else { 1 }));
}
