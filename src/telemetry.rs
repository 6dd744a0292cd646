//! How the process speaks: log lines, metrics, request ids. Parts own their metrics and register them here.

use std::fmt;
use std::io::IsTerminal;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::registry::Registry;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt::layer, registry};

use crate::config::Config;
use crate::config::LogFormat;

/// The one registry of metrics, handed to every part when it is built.
#[derive(Clone, Default)]
pub struct Metrics {
    registry: Arc<Mutex<Registry>>,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

impl Metrics {
    /// Lets a part register its metrics under `gateway_` and its own prefix.
    pub(crate) fn register(&self, prefix: &str, register: impl FnOnce(&mut Registry)) {
        let mut registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        let ours = registry.sub_registry_with_prefix("gptproto_gateway");
        register(ours.sub_registry_with_prefix(prefix));
    }

    /// The page that `/metrics` shows, in the `OpenMetrics` text format.
    pub(crate) fn page(&self) -> String {
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        let mut page = String::new();
        prometheus_client::encoding::text::encode(&mut page, &registry).expect("writing to a string cannot fail");
        page
    }
}

/// Starts writing logs to standard error: readable on a terminal, one JSON object a line otherwise.
///
/// # Panics
///
/// Never: the filter was checked with the rest of the configuration.
pub fn start_logging(config: &Config) {
    let filter: Targets = config.log.filter.parse().expect("checked with the configuration");
    let pretty = match config.log.format {
        LogFormat::Pretty => true,
        LogFormat::Json => false,
        LogFormat::Auto => std::io::stderr().is_terminal(),
    };
    let lines = layer().with_writer(std::io::stderr);
    let lines = if pretty {
        lines.with_target(false).boxed()
    } else {
        lines.json().flatten_event(true).with_span_list(false).with_current_span(false).boxed()
    };
    // A second start in one process (tests) keeps the first.
    let _ = registry().with(lines).with(filter).try_init();
}

/// The id of one request of a client: `req_` and 32 hex digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RequestId(pub(crate) Arc<str>);

impl RequestId {
    pub(crate) fn random() -> Self {
        Self(format!("req_{:032x}", rand::random::<u128>()).into())
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
