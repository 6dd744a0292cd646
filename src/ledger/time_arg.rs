//! Times and durations, as arguments and exports write them.

use std::str::FromStr;
use std::time::Duration;

use crate::model::{Timestamp, parse_duration};

/// A time, or an age: `2026-11-21`, `2026-11-21T10:00Z`, `2h`, `7d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TimeArg {
    At(Timestamp),
    Ago(Duration),
}

impl TimeArg {
    /// Returns the time; an age counts back from `now`.
    pub(super) fn before(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(time) => time,
            Self::Ago(age) => minus(now, age),
        }
    }
}

impl FromStr for TimeArg {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match parse_duration(text) {
            Some(age) => Self::Ago(age),
            None => Self::At(
                calendar(text, ZoneArg::default())
                    .ok_or("write 2026-11-21, 2026-11-21T10:00Z, or an age such as 30m, 2h or 7d")?
                    .time,
            ),
        })
    }
}

/// A duration: `90s`, `30m`, `2h`, `7d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DurationArg(pub(super) Duration);

impl FromStr for DurationArg {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse_duration(text).map(Self).ok_or("write a number and a unit, such as 90s, 5m or 2h")
    }
}

/// The offset of a zone from UTC, in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ZoneArg(i32);

impl FromStr for ZoneArg {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let problem = "write an offset such as +08:00, or UTC";
        if matches!(text, "UTC" | "utc" | "Z" | "z") {
            return Ok(Self(0));
        }
        let (sign, digits) = match text.split_at_checked(1) {
            Some(("+", digits)) => (1, digits.replace(':', "")),
            Some(("-", digits)) => (-1, digits.replace(':', "")),
            _ => return Err(problem),
        };
        if !digits.bytes().all(|b| b.is_ascii_digit()) || !matches!(digits.len(), 1 | 2 | 4) {
            return Err(problem);
        }
        let (hours, minutes) = digits.split_at(digits.len().min(2));
        let number = |text: &str| if text.is_empty() { Ok(0) } else { text.parse::<i32>() };
        match (number(hours), number(minutes)) {
            (Ok(hours @ 0..=14), Ok(minutes @ 0..=59)) => Ok(Self(sign * (hours * 3600 + minutes * 60))),
            _ => Err(problem),
        }
    }
}

/// A time of an export, and whether its text names its zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ExportTime {
    pub(super) time: Timestamp,
    pub(super) has_zone: bool,
}

/// Parses a time of an export: calendar times, or seconds, milliseconds or microseconds since the epoch.
pub(super) fn export_time(text: &str, zone: ZoneArg) -> Option<ExportTime> {
    let digits = text.split_once('.').map_or(text, |(whole, _)| whole);
    if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) {
        let millis = match digits.len() {
            9..=11 => (text.parse::<f64>().ok()? * 1000.0).round(),
            12..=14 => text.parse::<f64>().ok()?,
            15..=17 => text.parse::<f64>().ok()? / 1000.0,
            _ => return None,
        };
        #[expect(clippy::cast_possible_truncation, reason = "at most 14 digits before the point")]
        return Some(ExportTime { time: Timestamp::from_millis(millis as i64), has_zone: true });
    }
    calendar(text, zone)
}

/// Parses RFC 3339 and similar forms: a blank for the `T`, slashes, no seconds, no time, no zone.
fn calendar(text: &str, zone: ZoneArg) -> Option<ExportTime> {
    let text = text.trim().replace('/', "-");
    let (text, named_utc) = match text.strip_suffix("UTC").or_else(|| text.strip_suffix("GMT")) {
        Some(rest) => (rest.trim_end(), true),
        None => (text.as_str(), false),
    };
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        return Some(ExportTime { time: Timestamp::from_millis(time.as_millisecond()), has_zone: true });
    }
    let time: jiff::civil::DateTime = text.parse().ok()?;
    let zone = if named_utc { ZoneArg::default() } else { zone };
    let offset = jiff::tz::Offset::from_seconds(zone.0).ok()?;
    let time = Timestamp::from_millis(offset.to_timestamp(time).ok()?.as_millisecond());
    Some(ExportTime { time, has_zone: named_utc })
}

/// Subtracts a duration.
pub(super) fn minus(time: Timestamp, duration: Duration) -> Timestamp {
    let millis = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
    Timestamp::from_millis(time.millis().saturating_sub(millis))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_790_000_000_000);

    fn time(text: &str) -> String {
        text.parse::<TimeArg>().map_or_else(str::to_owned, |time| time.before(NOW).to_string())
    }

    #[test]
    fn an_argument_is_a_time_or_an_age() {
        assert_eq!(NOW.to_string(), "2026-09-21T14:13:20.000Z");
        assert_eq!(time("2026-11-21"), "2026-11-21T00:00:00.000Z");
        assert_eq!(time("2026-11-21T10:00Z"), "2026-11-21T10:00:00.000Z");
        assert_eq!(time("2026-11-21T10:00:05+02:00"), "2026-11-21T08:00:05.000Z");
        assert_eq!(time("2h"), "2026-09-21T12:13:20.000Z");
        assert_eq!(time("30m"), "2026-09-21T13:43:20.000Z");
        assert_eq!(time("7d"), "2026-09-14T14:13:20.000Z");
        for wrong in ["", "h", "2", "-2h", "2w", "yesterday", "2026-13-01", "99999999999999999999d"] {
            assert!(wrong.parse::<TimeArg>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_export_writes_times_in_many_forms() {
        let beijing: ZoneArg = "+08:00".parse().unwrap();
        let read = |text: &str| export_time(text, beijing).map(|read| (read.time.to_string(), read.has_zone));
        let ten = |millis: &str| format!("2026-11-21T10:00:00.{millis}Z");
        for (text, millis, has_zone) in [
            ("2026-11-21T10:00:00Z", "000", true),
            ("2026-11-21 10:00:00.250Z", "250", true),
            ("2026-11-21 18:00:00", "000", false),
            ("2026/11/21 18:00", "000", false),
            ("2026-11-21 10:00:00 UTC", "000", true),
            ("1795255200", "000", true),
            ("1795255200.5", "500", true),
            ("1795255200250", "250", true),
            ("1795255200250000", "250", true),
        ] {
            assert_eq!(read(text), Some((ten(millis), has_zone)), "{text}");
        }
        for wrong in ["", "10:00", "11/21/2026", "12", "soon"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn an_offset_has_a_sign_and_bounds() {
        let seconds = |text: &str| text.parse::<ZoneArg>().ok().map(|zone| zone.0);
        assert_eq!(seconds("UTC"), Some(0));
        assert_eq!(seconds("+8"), Some(28_800));
        assert_eq!(seconds("-0330"), Some(-12_600));
        for wrong in ["", "8", "+", "+99", "+08:99", "+é", "Europe/Berlin"] {
            assert_eq!(seconds(wrong), None, "{wrong}");
        }
    }
}
