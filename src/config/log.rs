//! `[log]`: which events are logged, and how.

use serde::Deserialize;
use tracing_subscriber::filter::Targets;

use super::Error;

/// `[log]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LogConfig {
    pub(crate) filter: String,
    pub(crate) format: LogFormat,
    pub(crate) requests: LoggedRequests,
}

/// Which requests have a line in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum LoggedRequests {
    All,
    /// All but those that a stored result answered.
    NoHits,
    /// Those that got an error, and those whose client disconnected.
    Errors,
    Off,
}

/// How events are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    Auto,
    Pretty,
    Json,
}

impl LogConfig {
    /// Fails when the filter cannot be parsed.
    pub(super) fn check(&self) -> Result<(), Error> {
        self.filter.parse::<Targets>().map(drop).map_err(|error| Error::invalid("log.filter", error))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::refusal;

    #[test]
    fn a_filter_that_cannot_be_parsed_is_refused() {
        let error = refusal("[log]\nrequests = \"some\"", &[]);
        assert!(error.contains("log.requests: must be one of \"all\", \"no_hits\", \"errors\", \"off\""), "{error}");
        assert!(refusal("[log]\nfilter = \"gptproto=loud\"", &[]).starts_with("log.filter: "));
    }
}
