//! Numbers, amounts and times as people read them.

/// Writes an amount of US dollars: two digits behind the point, and the first two that are no zeros where it is small.
pub(super) fn dollars(usd: f64) -> String {
    if usd == 0.0 {
        "$0".to_owned()
    } else if usd.abs() >= 0.1 {
        format!("${usd:.2}")
    } else {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the logarithm is from -8 to -1")]
        let digits = (1.0 - usd.abs().max(1e-8).log10().floor()) as usize;
        let text = format!("{usd:.digits$}");
        format!("${}", text.trim_end_matches('0').trim_end_matches('.'))
    }
}

/// Writes a duration in seconds: "8 s", "1 min 5 s", "2 h 10 min", "3 d 4 h".
pub(super) fn duration(seconds: f64) -> String {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is positive, and rounded")]
    let whole = seconds.max(0.0).round() as u64;
    let two = |large: u64, unit: &str, small: u64, smaller: &str| {
        if small == 0 { format!("{large} {unit}") } else { format!("{large} {unit} {small} {smaller}") }
    };
    match whole {
        0..60 => format!("{whole} s"),
        60..3600 => two(whole / 60, "min", whole % 60, "s"),
        3600..86_400 => two(whole / 3600, "h", whole / 60 % 60, "min"),
        _ => two(whole / 86_400, "d", whole / 3600 % 24, "h"),
    }
}

/// Writes milliseconds as the duration of a request.
pub(super) fn millis(ms: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let seconds = ms as f64 / 1000.0;
    match ms {
        0..1000 => format!("{ms} ms"),
        1000..60_000 => format!("{seconds:.1} s"),
        _ => duration(seconds),
    }
}

/// Writes a number of bytes.
pub(super) fn bytes(count: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "one digit behind the point is shown")]
    let of = |unit: f64| count as f64 / unit;
    match count {
        0..1000 => format!("{count} B"),
        1000..1_000_000 => format!("{:.0} KB", of(1e3)),
        1_000_000..1_000_000_000 => format!("{:.1} MB", of(1e6)),
        _ => format!("{:.1} GB", of(1e9)),
    }
}

/// Writes the time of day, in UTC, with the date where it is not that of `now_ms`.
pub(super) fn time_lately(ms: i64, now_ms: i64) -> String {
    let date = |ms: i64| jiff::Timestamp::from_millisecond(ms).unwrap_or_default().strftime("%Y-%m-%d").to_string();
    let time = time_of_day(ms);
    if date(ms) == date(now_ms) { time } else { format!("{} {time}", date(ms)) }
}

/// Writes the time of day, in UTC.
fn time_of_day(ms: i64) -> String {
    let time = jiff::Timestamp::from_millisecond(ms).unwrap_or_default();
    time.strftime("%H:%M:%S").to_string()
}

/// Writes hours and minutes, in UTC.
pub(super) fn minute_of_day(seconds: i64) -> String {
    let time = jiff::Timestamp::from_second(seconds).unwrap_or_default();
    time.strftime("%H:%M").to_string()
}

/// Writes a number with its noun: "1 picture", "2 pictures".
pub(super) fn counted(count: u64, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_for_people() {
        let amounts = [0.0, 0.00123, 0.03, 0.1, 12.5, 1234.567].map(dollars);
        assert_eq!(amounts, ["$0", "$0.0012", "$0.03", "$0.10", "$12.50", "$1234.57"]);
        let times = [0.4, 8.0, 65.0, 120.0, 7800.0, 273_600.0].map(duration);
        assert_eq!(times, ["0 s", "8 s", "1 min 5 s", "2 min", "2 h 10 min", "3 d 4 h"]);
        assert_eq!([7, 1500, 90_000].map(millis), ["7 ms", "1.5 s", "1 min 30 s"]);
        assert_eq!([12, 38_400, 2_400_000, 3_100_000_000].map(bytes), ["12 B", "38 KB", "2.4 MB", "3.1 GB"]);
        assert_eq!(time_lately(3_723_000, 80_000_000), "01:02:03");
        assert_eq!(time_lately(3_723_000, 86_400_000), "1970-01-01 01:02:03");
        assert_eq!((time_of_day(3_723_000), minute_of_day(3_723)), ("01:02:03".to_owned(), "01:02".to_owned()));
        assert_eq!([1, 2].map(|count| counted(count, "picture")), ["1 picture", "2 pictures"]);
    }
}
