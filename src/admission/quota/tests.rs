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

fn quota_at(now: &str, limits: ClientLimits) -> (Arc<ClientQuota>, Arc<FakeClock>) {
    let clock = Arc::new(FakeClock(AtomicI64::new(0)));
    clock.set(now);
    (Arc::new(ClientQuota::new(limits, Arc::clone(&clock) as Arc<_>)), clock)
}

const NOON: &str = "2026-11-21T12:00:00Z";

fn pictures_per_day(max: u32) -> ClientLimits {
    ClientLimits { pictures_per_day: NonZeroU32::new(max), ..ClientLimits::default() }
}

/// A job with one purchase for each picture.
fn job(pictures: usize, usd: f64) -> CostEstimate {
    CostEstimate { purchases: pictures, pictures, usd: Usd(usd) }
}

fn refused(quota: &Arc<ClientQuota>, estimate: CostEstimate) -> LimitExceeded {
    quota.reserve(estimate).map(drop).unwrap_err()
}

#[test]
fn limits_are_checked_in_order_and_a_refusal_reserves_nothing() {
    let limits = ClientLimits {
        requests_per_minute: None,
        requests_at_once: None,
        predictions_at_once: NonZeroU32::new(4),
        pictures_per_day: NonZeroU32::new(3),
        usd_per_day: Some(Usd(0.2)),
        usd_per_month: Some(Usd(0.1)),
    };
    let (quota, _) = quota_at(NOON, limits);
    let at = |estimate| refused(&quota, estimate).limit;
    assert_eq!(at(job(5, 9.0)), Limit::PredictionsAtOnce);
    assert_eq!(at(job(4, 9.0)), Limit::PicturesPerDay);
    assert_eq!(at(job(3, 0.21)), Limit::UsdPerDay);
    assert_eq!(at(job(3, 0.2)), Limit::UsdPerMonth);
    assert_eq!(quota.used().purchases, 0);
    let _hold = quota.reserve(job(3, 0.1)).unwrap();
    assert_eq!(at(job(1, 0.0)), Limit::PicturesPerDay);
    let rest = Duration::from_hours(12);
    assert_eq!(refused(&quota, job(1, 0.0)).retry_after, rest);
}

#[test]
fn money_is_exact() {
    let limits = ClientLimits { usd_per_day: Some(Usd(10.0)), ..ClientLimits::default() };
    let (quota, _) = quota_at(NOON, limits);
    let holds: Vec<Hold> = (0..250).map(|_| quota.reserve(job(1, 0.04)).unwrap()).collect();
    assert_eq!(refused(&quota, job(1, 0.04)).limit, Limit::UsdPerDay);
    assert_eq!(refused(&quota, job(1, 0.000_000_001)).limit, Limit::UsdPerDay);
    for hold in &holds {
        hold.settle(1, Usd(0.03));
    }
    assert!((quota.used().usd_today - 7.5).abs() < 1e-12);
    drop(holds);
    assert!((quota.used().usd_today - 7.5).abs() < 1e-12, "settled amounts stay");
}

#[test]
fn a_dropped_hold_returns_what_was_not_settled() {
    let (quota, _) = quota_at(NOON, ClientLimits::default());
    let hold = quota.reserve(job(3, 0.12)).unwrap();
    hold.settle(1, Usd(0.05));
    assert_eq!(quota.used().purchases, 2);
    assert!((quota.used().usd_today - 0.13).abs() < 1e-12);
    hold.settle(0, Usd(0.0));
    drop(hold);
    let used = quota.used();
    assert_eq!((used.purchases, used.pictures_today, used.pictures_this_month), (0, 1, 1));
    assert!((used.usd_today - 0.05).abs() < 1e-12 && (used.usd_this_month - 0.05).abs() < 1e-12);
}

#[test]
fn uneven_purchases_never_reserve_too_little() {
    let (quota, _) = quota_at(NOON, pictures_per_day(10));
    let hold = quota.reserve(CostEstimate { purchases: 3, pictures: 10, usd: Usd(1.0) }).unwrap();
    // 4, 4 and 2; the small one ends first, then one fails.
    hold.settle(2, Usd(0.2));
    assert_eq!(refused(&quota, job(1, 0.0)).limit, Limit::PicturesPerDay);
    hold.settle(0, Usd(0.0));
    assert_eq!(refused(&quota, job(1, 0.0)).limit, Limit::PicturesPerDay);
    hold.settle(4, Usd(0.4));
    assert_eq!(quota.used().pictures_today, 6);
    assert!((quota.used().usd_today - 0.6).abs() < 1e-9);
}

#[test]
fn a_new_day_and_a_new_month_begin_with_nothing_used() {
    let limits = ClientLimits { usd_per_month: Some(Usd(1.0)), ..pictures_per_day(2) };
    let (quota, clock) = quota_at("2026-11-29T23:59:59Z", limits);
    let running = quota.reserve(job(2, 0.8)).unwrap();
    let exceeded = refused(&quota, job(1, 0.1));
    assert_eq!(exceeded, LimitExceeded { limit: Limit::PicturesPerDay, retry_after: Duration::from_secs(1) });

    clock.set("2026-11-30T00:00:00Z");
    let exceeded = refused(&quota, job(1, 0.3));
    assert_eq!(exceeded, LimitExceeded { limit: Limit::UsdPerMonth, retry_after: Duration::from_hours(24) });
    quota.reserve(job(2, 0.2)).unwrap().settle(2, Usd(0.2));

    clock.set("2026-12-01T00:00:00Z");
    quota.reserve(job(2, 1.0)).unwrap().settle(2, Usd(1.0));
    // It counts for the day of its request, which is over.
    running.settle(1, Usd(0.4));
    running.settle(1, Usd(0.5));
    let used = quota.used();
    assert_eq!((used.pictures_today, used.pictures_this_month, used.purchases), (2, 2, 0));
    assert!((used.usd_this_month - 1.0).abs() < 1e-12);
}

#[test]
fn a_clock_that_is_set_back_frees_no_quota() {
    let (quota, clock) = quota_at("2026-11-30T23:59:00Z", pictures_per_day(2));
    clock.set("2026-12-01T00:01:00Z");
    quota.reserve(job(2, 0.0)).unwrap().settle(2, Usd(0.1));

    clock.set("2026-11-30T23:58:00Z");
    let exceeded = refused(&quota, job(1, 0.0));
    assert_eq!(
        exceeded.retry_after,
        Duration::from_hours(24) + Duration::from_mins(2),
        "the end of the latest day seen"
    );
    clock.set("2026-12-01T00:02:00Z");
    assert_eq!(refused(&quota, job(1, 0.0)).limit, Limit::PicturesPerDay, "the day does not start twice");

    clock.set("2026-11-20T12:00:00Z");
    let exceeded = refused(&quota, job(1, 0.0));
    assert_eq!(exceeded.retry_after, Duration::from_hours(12), "a clock that was far ahead blocks no client for days");
    assert!((quota.used().usd_this_month - 0.1).abs() < 1e-12);
    clock.set("2026-11-21T00:00:00Z");
    quota.reserve(job(2, 0.0)).unwrap();
}

#[test]
fn purchases_from_before_the_start_count_for_their_day() {
    let at = |text: &str| Timestamp::from_millis(text.parse::<jiff::Timestamp>().unwrap().as_millisecond());
    let purchase = |requested| PastPurchase { requested: at(requested), pictures: 2, usd: Usd(0.5) };
    let (quota, _) = quota_at(NOON, ClientLimits::default());
    let days = ["2026-11-01T00:00:00Z", "2026-11-20T23:59:59.999Z", "2026-11-21T00:00:00Z", "2027-01-05T00:00:00Z"];
    quota.count_past(&days.map(purchase));
    let used = quota.used();
    assert_eq!(
        (used.pictures_today, used.pictures_this_month),
        (4, 8),
        "a purchase with a future date counts for today"
    );
    assert!((used.usd_today - 1.0).abs() < 1e-12 && (used.usd_this_month - 2.0).abs() < 1e-12);

    // Restarted while the clock is an hour behind: the later day continues.
    let (quota, clock) = quota_at("2026-11-30T23:30:00Z", pictures_per_day(2));
    quota.count_past(&[purchase("2026-12-01T00:10:00Z")]);
    clock.set("2026-12-01T00:30:00Z");
    assert_eq!(refused(&quota, job(1, 0.0)).limit, Limit::PicturesPerDay);
}

#[test]
fn the_estimated_wait_follows_the_mean_duration() {
    let limits = ClientLimits { predictions_at_once: NonZeroU32::new(2), ..ClientLimits::default() };
    let (quota, clock) = quota_at(NOON, limits);
    let wait = || refused(&quota, job(3, 0.0)).retry_after;
    assert_eq!(wait(), DURATION_FIRST);
    for _ in 0..100 {
        let hold = quota.reserve(job(1, 0.0)).unwrap();
        clock.0.fetch_add(8000, Ordering::Relaxed);
        hold.settle(1, Usd(0.0));
    }
    assert!((7.9..8.1).contains(&wait().as_secs_f64()));
    let _one = quota.reserve(job(1, 0.0)).unwrap();
    assert!((3.9..4.1).contains(&wait().as_secs_f64()), "half way through, on average");
    let _two = quota.adopt(job(2, 0.0));
    assert_eq!(quota.used().purchases, 3, "unfinished jobs are adopted above the limit");
}

#[test]
fn concurrent_reservations_never_exceed_the_limit() {
    let (quota, _) = quota_at(NOON, pictures_per_day(100));
    let got = AtomicI64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..100 {
                    if let Ok(hold) = quota.reserve(job(1, 0.01)) {
                        hold.settle(1, Usd(0.01));
                        got.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    assert_eq!(got.into_inner(), 100);
    assert_eq!(quota.used().pictures_today, 100);
}

/// One event in the history of a client's quota.
#[derive(Clone, Debug)]
enum Step {
    Reserve {
        purchases: usize,
        each: usize,
        cents: u32,
    },
    /// One purchase of the job at this index ends, at a fraction of its estimate.
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
        (1_usize..4, 1_usize..4, 0_u32..60).prop_map(|(purchases, each, cents)| Step::Reserve {
            purchases,
            each,
            cents
        }),
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
    fn limits_are_exceeded_only_by_what_jobs_cost_above_their_estimate(
        steps in steps(),
        pictures in 1_u32..40,
        cents in 1_u32..400,
        at_once in 1_u32..8,
    ) {
        let limits = ClientLimits {
            predictions_at_once: NonZeroU32::new(at_once),
            usd_per_day: Some(Usd(f64::from(cents) / 100.0)),
            ..pictures_per_day(pictures)
        };
        let (quota, _) = quota_at(NOON, limits);
        let mut open: Vec<(Hold, usize, usize, f64)> = Vec::new();
        let (mut made_all, mut spent_all, mut above) = (0_u64, 0.0, 0.0);
        for step in steps {
            match step {
                Step::Reserve { purchases, each, cents } => {
                    let usd = f64::from(cents) / 100.0;
                    let estimate = CostEstimate { purchases, pictures: purchases * each, usd: Usd(usd) };
                    if let Ok(hold) = quota.reserve(estimate) {
                        open.push((hold, purchases, each, usd / f64::from(u32::try_from(purchases).unwrap())));
                    }
                }
                Step::Settle { job, made, hundredths } if job < open.len() && open[job].1 > 0 => {
                    let (hold, unsettled, each, estimate) = &mut open[job];
                    *unsettled -= 1;
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
            let used = quota.used();
            prop_assert!(used.purchases <= u64::from(at_once));
            prop_assert!(used.pictures_today <= u64::from(pictures));
            prop_assert!(used.usd_today <= f64::from(cents) / 100.0 + above + 1e-6);
            prop_assert!(used.usd_today >= spent_all - 1e-6 && used.pictures_today >= made_all);
        }
        open.clear();
        let used = quota.used();
        prop_assert_eq!((used.purchases, used.pictures_today), (0, made_all));
        prop_assert!((used.usd_today - spent_all).abs() < 1e-6);
    }
}
