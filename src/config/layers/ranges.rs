//! The range of every figure of the configuration. `config/default.toml` repeats each one, and a test compares them.
//!
//! A figure without a row here is an error of every start, so a new key cannot do without.

use toml::{Table, Value};

use crate::config::Error;

/// The values that a figure may have, both ends included.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum ValueRange {
    Whole(i64, i64),
    /// A number that may have a fraction.
    Fraction(f64, f64),
}

use ValueRange::{Fraction, Whole};

const HOUR: i64 = 3_600;
const DAY: i64 = 24 * HOUR;
const MONTH: i64 = 30 * DAY;
/// The longest time that anything is kept: ten years. It is far from what a clock can add up.
const DECADE: i64 = 3_650 * DAY;
/// The same in milliseconds.
const HOUR_MS: i64 = 1_000 * HOUR;
const DAY_MS: i64 = 1_000 * DAY;
/// The most of what occupies memory or a task each: requests, connections, purchases.
const MILLION: i64 = 1_000_000;
/// The most memory for one purpose, in bytes.
const MEMORY: i64 = 1_000_000_000_000;
/// The most disk space for one purpose, in bytes. All sums of such figures are exact as numbers of JSON.
const DISK: i64 = 1_000_000_000_000_000;
/// The largest window of HTTP/2 (RFC 9113 §6.9.1).
const HTTP2_WINDOW: i64 = (1 << 31) - 1;

const RANGES: &[(&str, ValueRange)] = &[
    ("server.response_timeout_s", Whole(1, DAY)),
    ("server.response_timeout_margin_ms", Whole(0, HOUR_MS)),
    ("server.async_start_timeout_s", Whole(1, MONTH)),
    ("server.streamed_response_timeout_s", Whole(1, DAY)),
    ("server.stream_heartbeat_ms", Whole(10, HOUR_MS)),
    ("server.stream_grace_ms", Whole(0, HOUR_MS)),
    ("server.json_heartbeat_s", Whole(0, HOUR)),
    ("server.interim_interval_s", Whole(1, HOUR)),
    ("server.result_url_ttl_s", Whole(1, DECADE)),
    ("server.waiters_max", Whole(0, MILLION)),
    ("server.convert_pixels_max", Whole(0, 1_000_000_000)),
    ("server.concurrent_conversions_max", Whole(1, 1_000)),
    ("server.converted_bytes_max", Whole(0, MEMORY)),
    ("server.input_pixels_max", Whole(0, 1_000_000_000)),
    ("server.concurrent_input_conversions_max", Whole(1, 1_000)),
    ("server.input_conversion_timeout_s", Whole(1, HOUR)),
    ("server.picture_pixels_max", Whole(1, 1_000_000_000_000)),
    ("server.picture_side_max", Whole(1, MILLION)),
    ("server.picture_frames_max", Whole(1, 10_000)),
    ("server.body_bytes_max", Whole(1, MEMORY)),
    ("server.text_bytes_max", Whole(1, 100_000_000)),
    ("server.form_parts_max", Whole(1, 10_000)),
    ("server.json_depth_max", Whole(1, 1_000)),
    ("server.json_values_max", Whole(1, 10_000_000)),
    ("server.body_idle_timeout_s", Whole(1, DAY)),
    ("server.body_bytes_per_second_min", Whole(0, 1_000_000_000)),
    ("server.body_rate_window_s", Whole(1, HOUR)),
    ("server.drain_bytes_max", Whole(0, MEMORY)),
    ("server.drain_timeout_s", Whole(0, HOUR)),
    ("server.connections_max", Whole(1, MILLION)),
    ("server.connections_per_address_max", Whole(0, MILLION)),
    ("server.header_timeout_s", Whole(1, DAY)),
    ("server.keep_alive_timeout_s", Whole(1, DAY)),
    ("server.write_timeout_s", Whole(1, DAY)),
    ("server.headers_max", Whole(1, 10_000)),
    // The smallest buffer that the HTTP library takes.
    ("server.header_bytes_max", Whole(8_192, 16_777_216)),
    ("server.http2_streams_max", Whole(1, 100_000)),
    ("server.http2_header_bytes_max", Whole(1, 16_777_216)),
    ("server.http2_pending_resets_max", Whole(0, MILLION)),
    ("server.http2_error_resets_max", Whole(0, MILLION)),
    ("server.http2_stream_window_bytes", Whole(1, HTTP2_WINDOW)),
    ("server.http2_connection_window_bytes", Whole(1, HTTP2_WINDOW)),
    ("server.http2_send_buffer_bytes", Whole(1, HTTP2_WINDOW)),
    ("server.http2_ping_interval_s", Whole(1, DAY)),
    ("server.http2_ping_timeout_s", Whole(1, DAY)),
    ("server.tls_reload_interval_s", Whole(1, DAY)),
    ("server.tls_handshake_timeout_s", Whole(1, HOUR)),
    ("server.shutdown_delay_s", Whole(0, HOUR)),
    ("server.shutdown_grace_s", Whole(0, DAY)),
    ("operator.metric_clients_max", Whole(0, 10_000)),
    ("storage.lock_wait_s", Whole(0, HOUR)),
    ("storage.spool_memory_bytes", Whole(0, 1_000_000_000)),
    ("storage.spool_memory_bytes_max", Whole(0, MEMORY)),
    ("storage.spool_bytes_max", Whole(1, DISK)),
    ("storage.spool_wait_s", Whole(0, HOUR)),
    ("storage.spool_waiters_max", Whole(0, MILLION)),
    ("storage.results_ttl_s", Whole(1, DECADE)),
    ("storage.results_bytes_max", Whole(0, DISK)),
    ("storage.journal_picture_bytes_max", Whole(0, 250_000)),
    ("storage.free_bytes_min", Whole(0, DISK)),
    ("storage.eviction_interval_s", Whole(1, DAY)),
    ("cache.ttl_s", Whole(0, DECADE)),
    ("cache.memory_bytes_max", Whole(0, MEMORY)),
    ("cache.memory_picture_bytes_max", Whole(0, 4_000_000_000)),
    ("cache.thumbnail_bytes_max", Whole(0, MEMORY)),
    ("limits.requests_per_minute", Whole(0, MILLION)),
    ("limits.requests_at_once", Whole(0, MILLION)),
    ("limits.predictions_at_once", Whole(0, MILLION)),
    ("limits.pictures_per_day", Whole(0, 1_000_000_000)),
    ("limits.usd_per_day", Fraction(0.0, 1e9)),
    ("limits.usd_per_month", Fraction(0.0, 1e9)),
    ("clients.weight", Fraction(0.001, 1000.0)),
    ("upstream.edge_timeout_s", Whole(0, DAY)),
    ("upstream.input_url_ttl_s", Whole(0, MONTH)),
    ("upstream.submits_per_minute", Whole(1, 10_000_000)),
    ("upstream.requests_per_minute", Whole(1, 10_000_000)),
    ("upstream.poll_share_percent", Whole(1, 90)),
    ("upstream.burst_s", Whole(0, HOUR)),
    ("upstream.concurrent_predictions", Whole(1, MILLION)),
    ("upstream.rate_window_ms", Whole(1, DAY_MS)),
    ("upstream.queue_max", Whole(0, MILLION)),
    ("upstream.queue_bytes_max", Whole(0, DISK)),
    ("upstream.pushback_ms", Whole(1, HOUR_MS)),
    ("upstream.pushback_max_s", Whole(1, DAY)),
    ("upstream.account_cooldown_max_s", Whole(1, DAY)),
    ("upstream.connect_timeout_s", Whole(1, HOUR)),
    ("upstream.upload_timeout_s", Whole(1, DAY)),
    ("upstream.submit_timeout_s", Whole(1, DAY)),
    ("upstream.sync_timeout_s", Whole(1, DAY)),
    ("upstream.sync_answer_bytes_max", Whole(1_024, MEMORY)),
    ("upstream.poll_timeout_s", Whole(1, HOUR)),
    ("upstream.answer_bytes_max", Whole(1_024, MEMORY)),
    ("upstream.answer_memory_bytes_max", Whole(4 << 20, MEMORY)),
    ("upstream.download_idle_timeout_s", Whole(1, HOUR)),
    ("upstream.download_timeout_s", Whole(1, DAY)),
    ("upstream.refetch_timeout_s", Whole(1, 3_600)),
    ("upstream.picture_bytes_max", Whole(1_024, MEMORY)),
    ("upstream.submit_attempts_max", Whole(1, 100)),
    ("upstream.unknown_hold_s", Whole(0, DECADE)),
    ("upstream.first_poll_ms", Whole(0, DAY_MS)),
    ("upstream.poll_interval_min_ms", Whole(1, HOUR_MS)),
    ("upstream.poll_interval_max_ms", Whole(1, HOUR_MS)),
    ("upstream.poll_cost_ms", Whole(0, HOUR_MS)),
    ("upstream.concurrent_polls_max", Whole(1, 10_000)),
    ("upstream.deadline_s", Whole(1, MONTH)),
    ("webhooks.attempts_max", Whole(1, 1_000)),
    ("webhooks.timeout_s", Whole(1, HOUR)),
    ("webhooks.retry_delay_min_ms", Whole(1, DAY_MS)),
    ("webhooks.retry_delay_max_s", Whole(1, MONTH)),
    ("webhooks.concurrent_max", Whole(1, 10_000)),
    ("webhooks.pending_max", Whole(0, MILLION)),
];

impl ValueRange {
    /// Returns both ends as numbers of JSON.
    pub(super) fn ends(self) -> (serde_json::Value, serde_json::Value) {
        match self {
            Whole(min, max) => (min.into(), max.into()),
            Fraction(min, max) => (min.into(), max.into()),
        }
    }

    /// Returns the range of a key, `section.key`; `None` when it is no figure.
    pub(super) fn of(key: &str) -> Option<Self> {
        RANGES.iter().find(|(known, _)| *known == key).map(|&(_, range)| range)
    }

    /// Returns whether the value is a number of this kind, within the range.
    fn allows(self, value: &Value) -> bool {
        // No range of a fraction reaches beyond these whole numbers.
        let whole = || value.as_integer().and_then(|value| i32::try_from(value).ok()).map(f64::from);
        match self {
            Whole(min, max) => value.as_integer().is_some_and(|value| (min..=max).contains(&value)),
            // `contains` refuses NaN, too.
            Fraction(min, max) => value.as_float().or_else(whole).is_some_and(|value| (min..=max).contains(&value)),
        }
    }

    /// Returns what is wrong with a value that is not allowed. It is repeated only if it is a number: another text may be a
    /// secret in the wrong place.
    pub(super) fn problem(self, value: &str) -> String {
        let value = value.trim();
        let is_number = value.len() <= 40 && value.parse::<f64>().is_ok();
        let not = if is_number { format!(", not {value}") } else { String::new() };
        format!("must be {self}{not}")
    }
}

impl std::fmt::Display for ValueRange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Whole(min, max) => write!(f, "a whole number from {min} to {max}"),
            Fraction(min, max) => write!(f, "a number from {min} to {max}"),
        }
    }
}

/// Checks the figures of every section. Lists of tables are left out: [`check_entry`] has a name for each entry. Returns an
/// error for each that is out of its range or has none, with the key, the range and the value.
pub(in crate::config) fn check(sections: &Table) -> Vec<Error> {
    let mut problems = Vec::new();
    for (section, keys) in sections {
        for (key, value) in keys.as_table().into_iter().flatten() {
            let path = format!("{section}.{key}");
            problems.extend(check_value(&path, &path, value).err());
        }
    }
    problems
}

/// Checks the figures of one entry of a list of tables. A key has the range that it has in one of `sections`.
///
/// # Errors
///
/// [`Error::Invalid`], naming the key below `origin`, its range and the value.
pub(super) fn check_entry(origin: &str, sections: &[&str], entry: &Table) -> Result<(), Error> {
    for (key, value) in entry {
        let names = sections.iter().map(|section| format!("{section}.{key}"));
        let known = names.into_iter().find(|name| ValueRange::of(name).is_some());
        check_value(&known.unwrap_or_default(), &format!("{origin}.{key}"), value)?;
    }
    Ok(())
}

fn check_value(key: &str, origin: &str, value: &Value) -> Result<(), Error> {
    match ValueRange::of(key) {
        Some(range) if range.allows(value) => Ok(()),
        Some(range) => {
            let text = value.as_float().map_or_else(|| value.to_string(), |number| format!("{number:?}"));
            Err(Error::invalid(origin, range.problem(&text)))
        }
        None if value.is_integer() || value.is_float() => Err(Error::invalid(origin, "is a number without a range")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
