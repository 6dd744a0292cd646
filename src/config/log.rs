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
        assert!(refusal("[log]\nfilter = \"gptproto=loud\"", &[]).starts_with("log.filter: "));
    }
}
