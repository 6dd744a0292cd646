use std::num::NonZeroU32;
use std::sync::atomic::{AtomicI64, Ordering};

use proptest::prelude::*;

use super::*;

#[derive(Debug)]
struct FakeClock(AtomicI64);

impl FakeClock {
    fn set(&self, text: &str) {
        let at: jiff::Timestamp = text.parse().unwrap();
        self.0.store(at.as_millisecond(), Ordering::Relaxed);
    }
}

impl Clock for FakeClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(Ordering::Relaxed))
    }
}

fn account_at(now: &str, limits: ClientLimits) -> (Arc<Account>, Arc<FakeClock>) {
    let clock = Arc::new(FakeClock(AtomicI64::new(0)));
    clock.set(now);
    (Arc::new(Account::new(limits, Arc::clone(&clock) as Arc<_>)), clock)
}

const NOON: &str = "2026-11-21T12:00:00Z";

fn pictures_a_day(most: u32) -> ClientLimits {
    ClientLimits { pictures_per_day: NonZeroU32::new(most), ..ClientLimits::default() }
}

/// An order of one prediction for each picture.
fn job(pictures: usize, usd: f64) -> CostEstimate {
    CostEstimate { purchases: pictures, pictures, usd: Usd(usd) }
}

fn refused(account: &Arc<Account>, expense: CostEstimate) -> LimitExceeded {
    account.reserve(expense).map(drop).unwrap_err()
}

#[test]
fn limits_are_checked_in_their_order_and_reserve_nothing_when_they_refuse() {
    let limits = ClientLimits {
        requests_per_minute: None,
        requests_at_once: None,
        predictions_at_once: NonZeroU32::new(4),
        pictures_per_day: NonZeroU32::new(3),
        usd_per_day: Some(Usd(0.2)),
        usd_per_month: Some(Usd(0.1)),
    };
    let (account, _) = account_at(NOON, limits);
    let at = |expense| refused(&account, expense).limit;
    assert_eq!(at(job(5, 9.0)), Limit::PredictionsAtOnce);
    assert_eq!(at(job(4, 9.0)), Limit::PicturesPerDay);
    assert_eq!(at(job(3, 0.21)), Limit::UsdPerDay);
    assert_eq!(at(job(3, 0.2)), Limit::UsdPerMonth);
    assert_eq!(account.used().purchases, 0);
    let _hold = account.reserve(job(3, 0.1)).unwrap();
    assert_eq!(at(job(1, 0.0)), Limit::PicturesPerDay);
    let rest = Duration::from_hours(12);
    assert_eq!(refused(&account, job(1, 0.0)).retry_after, rest);
}

#[test]
fn money_is_exact() {
    let limits = ClientLimits { usd_per_day: Some(Usd(10.0)), ..ClientLimits::default() };
    let (account, _) = account_at(NOON, limits);
    let holds: Vec<Hold> = (0..250).map(|_| account.reserve(job(1, 0.04)).unwrap()).collect();
    assert_eq!(refused(&account, job(1, 0.04)).limit, Limit::UsdPerDay);
    assert_eq!(refused(&account, job(1, 0.000_000_001)).limit, Limit::UsdPerDay);
    for hold in &holds {
        hold.settle(1, Usd(0.03));
    }
    assert!((account.used().usd_today - 7.5).abs() < 1e-12);
    drop(holds);
    assert!((account.used().usd_today - 7.5).abs() < 1e-12, "what is settled stays");
}

#[test]
fn a_hold_that_is_dropped_gives_back_what_was_not_settled() {
    let (account, _) = account_at(NOON, ClientLimits::default());
    let hold = account.reserve(job(3, 0.12)).unwrap();
    hold.settle(1, Usd(0.05));
    assert_eq!(account.used().purchases, 2);
    assert!((account.used().usd_today - 0.13).abs() < 1e-12);
    hold.settle(0, Usd(0.0));
    drop(hold);
    let used = account.used();
    assert_eq!((used.purchases, used.pictures_today, used.pictures_this_month), (0, 1, 1));
    assert!((used.usd_today - 0.05).abs() < 1e-12 && (used.usd_this_month - 0.05).abs() < 1e-12);
}

#[test]
fn uneven_predictions_are_never_underestimated() {
    let (account, _) = account_at(NOON, pictures_a_day(10));
    let hold = account.reserve(CostEstimate { purchases: 3, pictures: 10, usd: Usd(1.0) }).unwrap();
    // 4, 4 and 2; the small one ends first, then one fails.
    hold.settle(2, Usd(0.2));
    assert_eq!(refused(&account, job(1, 0.0)).limit, Limit::PicturesPerDay);
    hold.settle(0, Usd(0.0));
    assert_eq!(refused(&account, job(1, 0.0)).limit, Limit::PicturesPerDay);
    hold.settle(4, Usd(0.4));
    assert_eq!(account.used().pictures_today, 6);
    assert!((account.used().usd_today - 0.6).abs() < 1e-9);
}

#[test]
fn a_new_day_and_a_new_month_begin_with_nothing_used() {
    let limits = ClientLimits { usd_per_month: Some(Usd(1.0)), ..pictures_a_day(2) };
    let (account, clock) = account_at("2026-11-29T23:59:59Z", limits);
    let running = account.reserve(job(2, 0.8)).unwrap();
    let over = refused(&account, job(1, 0.1));
    assert_eq!(over, LimitExceeded { limit: Limit::PicturesPerDay, retry_after: Duration::from_secs(1) });

    clock.set("2026-11-30T00:00:00Z");
    let over = refused(&account, job(1, 0.3));
    assert_eq!(over, LimitExceeded { limit: Limit::UsdPerMonth, retry_after: Duration::from_hours(24) });
    account.reserve(job(2, 0.2)).unwrap().settle(2, Usd(0.2));

    clock.set("2026-12-01T00:00:00Z");
    account.reserve(job(2, 1.0)).unwrap().settle(2, Usd(1.0));
    // It counts for the day it was made on, which is over.
    running.settle(1, Usd(0.4));
    running.settle(1, Usd(0.5));
    let used = account.used();
    assert_eq!((used.pictures_today, used.pictures_this_month, used.purchases), (2, 2, 0));
    assert!((used.usd_this_month - 1.0).abs() < 1e-12);
}

#[test]
fn a_clock_set_back_grants_nothing() {
    let (account, clock) = account_at("2026-11-30T23:59:00Z", pictures_a_day(2));
    clock.set("2026-12-01T00:01:00Z");
    account.reserve(job(2, 0.0)).unwrap().settle(2, Usd(0.1));

    clock.set("2026-11-30T23:58:00Z");
    let over = refused(&account, job(1, 0.0));
    assert_eq!(over.retry_after, Duration::from_hours(24) + Duration::from_mins(2), "the end of the latest day seen");
    clock.set("2026-12-01T00:02:00Z");
    assert_eq!(refused(&account, job(1, 0.0)).limit, Limit::PicturesPerDay, "no fresh day the second time");

    clock.set("2026-11-20T12:00:00Z");
    let over = refused(&account, job(1, 0.0));
    assert_eq!(over.retry_after, Duration::from_hours(12), "a clock that was far ahead holds nobody for days");
    assert!((account.used().usd_this_month - 0.1).abs() < 1e-12);
    clock.set("2026-11-21T00:00:00Z");
    account.reserve(job(2, 0.0)).unwrap();
}

#[test]
fn what_was_used_before_the_start_counts_for_its_day() {
    let at = |text: &str| Timestamp::from_millis(text.parse::<jiff::Timestamp>().unwrap().as_millisecond());
    let earlier = |ordered| Earlier { ordered: at(ordered), pictures: 2, usd: Usd(0.5) };
    let (account, _) = account_at(NOON, ClientLimits::default());
    let days = ["2026-11-01T00:00:00Z", "2026-11-20T23:59:59.999Z", "2026-11-21T00:00:00Z", "2027-01-05T00:00:00Z"];
    account.recall(&days.map(earlier));
    let used = account.used();
    assert_eq!((used.pictures_today, used.pictures_this_month), (4, 8), "what is dated in the future is today's");
    assert!((used.usd_today - 1.0).abs() < 1e-12 && (used.usd_this_month - 2.0).abs() < 1e-12);

    // Restarted while the clock is an hour behind what it was: the later day goes on.
    let (account, clock) = account_at("2026-11-30T23:30:00Z", pictures_a_day(2));
    account.recall(&[earlier("2026-12-01T00:10:00Z")]);
    clock.set("2026-12-01T00:30:00Z");
    assert_eq!(refused(&account, job(1, 0.0)).limit, Limit::PicturesPerDay);
}

#[test]
fn the_guess_when_a_place_is_free_follows_what_predictions_take() {
    let limits = ClientLimits { predictions_at_once: NonZeroU32::new(2), ..ClientLimits::default() };
    let (account, clock) = account_at(NOON, limits);
    let guess = || refused(&account, job(3, 0.0)).retry_after;
    assert_eq!(guess(), TYPICAL);
    for _ in 0..100 {
        let hold = account.reserve(job(1, 0.0)).unwrap();
        clock.0.fetch_add(8000, Ordering::Relaxed);
        hold.settle(1, Usd(0.0));
    }
    assert!((7.9..8.1).contains(&guess().as_secs_f64()));
    let _one = account.reserve(job(1, 0.0)).unwrap();
    assert!((3.9..4.1).contains(&guess().as_secs_f64()), "half way through, on average");
    let _two = account.adopt(job(2, 0.0));
    assert_eq!(account.used().purchases, 3, "what is under way is adopted, whatever the limit");
}

#[test]
fn of_many_who_ask_at_once_only_so_many_get_it() {
    let (account, _) = account_at(NOON, pictures_a_day(100));
    let got = AtomicI64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..100 {
                    if let Ok(hold) = account.reserve(job(1, 0.01)) {
                        hold.settle(1, Usd(0.01));
                        got.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    assert_eq!(got.into_inner(), 100);
    assert_eq!(account.used().pictures_today, 100);
}

/// What may happen to a client's account.
#[derive(Clone, Debug)]
enum Step {
    Order {
        purchases: usize,
        each: usize,
        cents: u32,
    },
    /// One prediction of the order in this place ends; a share of its estimate is what it came to.
    Settle {
        job: usize,
        made: bool,
        hundredths: u32,
    },
    Drop {
        job: usize,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (1_usize..4, 1_usize..4, 0_u32..60).prop_map(|(purchases, each, cents)| Step::Order { purchases, each, cents }),
        (0_usize..8, any::<bool>(), 0_u32..200).prop_map(|(job, made, hundredths)| Step::Settle {
            job,
            made,
            hundredths
        }),
        (0_usize..8).prop_map(|job| Step::Drop { job }),
    ];
    prop::collection::vec(step, 1..200)
}

proptest! {
    #[test]
    fn no_limit_is_passed_but_by_what_orders_cost_above_their_estimate(
        steps in steps(),
        pictures in 1_u32..40,
        cents in 1_u32..400,
        at_once in 1_u32..8,
    ) {
        let limits = ClientLimits {
            predictions_at_once: NonZeroU32::new(at_once),
            usd_per_day: Some(Usd(f64::from(cents) / 100.0)),
            ..pictures_a_day(pictures)
        };
        let (account, _) = account_at(NOON, limits);
        let mut open: Vec<(Hold, usize, usize, f64)> = Vec::new();
        let (mut made_all, mut spent_all, mut above) = (0_u64, 0.0, 0.0);
        for step in steps {
            match step {
                Step::Order { purchases, each, cents } => {
                    let usd = f64::from(cents) / 100.0;
                    let expense = CostEstimate { purchases, pictures: purchases * each, usd: Usd(usd) };
                    if let Ok(hold) = account.reserve(expense) {
                        open.push((hold, purchases, each, usd / f64::from(u32::try_from(purchases).unwrap())));
                    }
                }
                Step::Settle { job, made, hundredths } if job < open.len() && open[job].1 > 0 => {
                    let (hold, left, each, estimate) = &mut open[job];
                    *left -= 1;
                    let usd = *estimate * f64::from(hundredths) / 100.0;
                    let made = if made { *each } else { 0 };
                    hold.settle(made, Usd(usd));
                    made_all += made as u64;
                    spent_all += usd;
                    above += (usd - *estimate).max(0.0);
                }
                Step::Drop { job } if job < open.len() => drop(open.remove(job)),
                Step::Settle { .. } | Step::Drop { .. } => {}
            }
            let used = account.used();
            prop_assert!(used.purchases <= u64::from(at_once));
            prop_assert!(used.pictures_today <= u64::from(pictures));
            prop_assert!(used.usd_today <= f64::from(cents) / 100.0 + above + 1e-6);
            prop_assert!(used.usd_today >= spent_all - 1e-6 && used.pictures_today >= made_all);
        }
        open.clear();
        let used = account.used();
        prop_assert_eq!((used.purchases, used.pictures_today), (0, made_all));
        prop_assert!((used.usd_today - spent_all).abs() < 1e-6);
    }
}
