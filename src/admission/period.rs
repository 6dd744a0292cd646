//! Days and months in UTC.

use std::time::Duration;

use jiff::civil::Date;
use jiff::tz::TimeZone;

use crate::model::Timestamp;

/// Returns the day of a time.
pub(super) fn day(at: Timestamp) -> Date {
    let past = if at.millis() < 0 { jiff::Timestamp::MIN } else { jiff::Timestamp::MAX };
    jiff::Timestamp::from_millisecond(at.millis()).unwrap_or(past).to_zoned_datetime(TimeZone::UTC).date()
}

/// Returns the first instant of a day's month.
pub(super) fn start_of_month(day: Date) -> Timestamp {
    start(day.first_of_month())
}

/// Returns the time until a day ends.
pub(super) fn until_end_of_day(day: Date, now: Timestamp) -> Duration {
    start(day.tomorrow().unwrap_or(Date::MAX)).since(now)
}

/// Returns the time until a day's month ends.
pub(super) fn until_end_of_month(day: Date, now: Timestamp) -> Duration {
    start(day.last_of_month().tomorrow().unwrap_or(Date::MAX)).since(now)
}

pub(super) fn same_month(one: Date, two: Date) -> bool {
    one.first_of_month() == two.first_of_month()
}

fn start(day: Date) -> Timestamp {
    let midnight = day.to_zoned_datetime(TimeZone::UTC).map_or(jiff::Timestamp::MAX, |midnight| midnight.timestamp());
    Timestamp::from_millis(midnight.as_millisecond())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_and_months_end_at_midnight_in_utc() {
        let at = |text: &str| Timestamp::from_millis(text.parse::<jiff::Timestamp>().unwrap().as_millisecond());
        let now = at("2028-02-28T23:59:59.5Z");
        let today = day(now);
        assert_eq!(today.to_string(), "2028-02-28");
        assert_eq!(start_of_month(today), at("2028-02-01T00:00:00Z"));
        assert_eq!(until_end_of_day(today, now), Duration::from_millis(500));
        assert_eq!(
            until_end_of_month(today, now),
            Duration::from_millis(500) + Duration::from_hours(24),
            "a leap year"
        );
        assert_eq!(
            until_end_of_month(day(at("2026-12-31T23:00:00Z")), at("2026-12-31T23:00:00Z")),
            Duration::from_hours(1)
        );
        assert!(same_month(today, day(at("2028-02-01T00:00:00Z"))));
        assert!(!same_month(today, day(at("2027-02-28T00:00:00Z"))));
    }

    #[test]
    fn extreme_times_do_not_overflow() {
        for millis in [i64::MIN, -1, 0, i64::MAX] {
            let at = Timestamp::from_millis(millis);
            let _ = (start_of_month(day(at)), until_end_of_day(day(at), at), until_end_of_month(day(at), at));
        }
    }
}
