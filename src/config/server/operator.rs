//! `[operator]`: the listener for health, metrics and the status page.

use serde::Deserialize;

use super::ListenAddresses;
use crate::model::HostName;

/// `[operator]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OperatorConfig {
    pub(crate) listen: ListenAddresses,
    pub(crate) hosts: Vec<HostName>,
}

#[cfg(test)]
mod tests {
    use crate::config::tests::refusal;

    #[test]
    fn a_host_that_is_not_a_name_is_refused() {
        assert!(refusal("[operator]\nhosts = [\"*.\"]", &[]).contains("operator.hosts"));
    }
}
