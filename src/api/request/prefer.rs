//! The `Prefer` header (RFC 7240).
//!
//! A preference that is unknown or invalid is ignored.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderName};

use crate::http::header::{ParsedHeader, list_members};

const PREFER: HeaderName = HeaderName::from_static("prefer");

/// The preferences that the gateway knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Preferences {
    /// The response may be a 202 with the address of the job.
    pub(crate) respond_async: bool,
    /// The longest time to wait for the result before that.
    pub(crate) wait: Option<Duration>,
}

impl Preferences {
    /// Reads the preferences of a request.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let mut wait = None;
        let mut respond_async = false;
        for value in headers.get_all(PREFER) {
            for member in list_members(value.as_bytes()) {
                // Parameters behind a semicolon are ignored.
                let (word, value) = ParsedHeader::parse(member).assignment();
                match word.as_str() {
                    "respond-async" => respond_async = true,
                    // The first of several counts.
                    "wait" => {
                        wait.get_or_insert(value);
                    }
                    _ => {}
                }
            }
        }
        let seconds = wait.and_then(|seconds| seconds.parse().ok());
        Self { respond_async, wait: seconds.map(Duration::from_secs) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(values: &[&str]) -> (bool, Option<u64>) {
        let headers = values.iter().map(|value| (PREFER, value.parse().unwrap())).collect();
        let Preferences { respond_async, wait } = Preferences::of(&headers);
        (respond_async, wait.map(|wait| wait.as_secs()))
    }

    #[test]
    fn preferences_are_read_as_the_rfc_writes_them() {
        for (values, expected) in [
            (&[][..], (false, None)),
            (&["respond-async"], (true, None)),
            (&["Respond-Async, wait=10"], (true, Some(10))),
            (&["respond-async", "wait=100"], (true, Some(100))),
            (&["wait = 7 ;x=y, respond-async; a=\"b, c\""], (true, Some(7))),
            (&["wait=\"12\""], (false, Some(12))),
            (&["return=minimal, foo; respond-async, wait=1, wait=2"], (false, Some(1))),
            (&["foo=\"respond-async, wait=5\", handling=lenient"], (false, None)),
            (&["wait=soon, wait=5"], (false, None)),
            (&["wait=-1"], (false, None)),
            (&["wait=1.5"], (false, None)),
            (&["wait"], (false, None)),
            (&[",, respond-async ,"], (true, None)),
            (&["respond-async=\"\""], (true, None)),
            (&["foo=\"un\\\"closed, wait=3"], (false, None)),
            (&["respond-asynchronously"], (false, None)),
        ] {
            assert_eq!(read(values), expected, "{values:?}");
        }
    }
}
