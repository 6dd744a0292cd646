//! Log lines, metrics, request ids and the last requests. Modules own their metrics and register them here.

use std::fmt;
use std::io::IsTerminal;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use prometheus_client::encoding::{prometheus_text, text};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, layer};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::Config;
use crate::config::LogFormat;

pub(crate) mod label_names;
pub(crate) mod process;
pub(crate) mod recent;

mod json_lines;
mod terminal_lines;
#[cfg(test)]
mod test_support;

use json_lines::JsonLines;
use label_names::LabelNames;
use terminal_lines::TerminalLines;

/// Clients with label values of their own where the configuration is not asked, as in tests.
const CLIENTS_DEFAULT: usize = 100;

/// The metrics registry of the process. Cheap to clone.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Mutex<Registry>>,
    clients: LabelNames,
}

/// A text format of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MetricsFormat {
    /// Prometheus 0.0.4, which every scraper reads.
    Prometheus,
    OpenMetrics,
}

impl MetricsFormat {
    /// Returns the format that an `Accept` header asks for: `OpenMetrics` where it is named, Prometheus otherwise.
    pub(crate) fn from_accept(accept: &str) -> Self {
        let is_open_metrics = |range: &str| {
            let mut parameters = range.split(';').map(str::trim);
            let media_type = parameters.next().unwrap_or_default();
            let refused = parameters.any(|parameter| matches!(parameter, "q=0" | "q=0.0"));
            media_type.eq_ignore_ascii_case("application/openmetrics-text") && !refused
        };
        if accept.split(',').any(is_open_metrics) { Self::OpenMetrics } else { Self::Prometheus }
    }

    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => prometheus_text::CONTENT_TYPE,
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new(CLIENTS_DEFAULT)
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

impl Metrics {
    /// Returns a registry with the metrics of the process and of its build, in which this many clients have label values of
    /// their own.
    pub(crate) fn new(clients_max: usize) -> Self {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(process::ProcessCollector));
        let version = Some(("version", env!("CARGO_PKG_VERSION")));
        // Set by builds that know the commit they are made from.
        let revision = option_env!("GATEWAY_REVISION").filter(|revision| !revision.is_empty());
        let revision = revision.map(|revision| ("revision", revision));
        let build: Vec<(&str, &str)> = version.into_iter().chain(revision).collect();
        let gateway = registry.sub_registry_with_prefix("gptproto_gateway");
        gateway.register("build", "Version of the running gateway", Info::new(build));
        let clients = LabelNames::new(clients_max);
        let help = "Clients that are label values, of operator.metric_clients_max; others share the value (other)";
        gateway.register("metric_clients", help, clients.count.clone());
        Self { registry: Arc::new(Mutex::new(registry)), clients }
    }

    /// Returns the clients that are label values.
    pub(crate) fn clients(&self) -> LabelNames {
        self.clients.clone()
    }

    /// Lets a part of the program register metrics of the gateway as a whole, which have no prefix of a module.
    pub(crate) fn register_overall(&self, register: impl FnOnce(&mut Registry)) {
        register(self.registry().sub_registry_with_prefix("gptproto_gateway"));
    }

    fn registry(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a module register its metrics under `gptproto_gateway_` and the prefix of the module.
    pub(crate) fn register(&self, prefix: &str, register: impl FnOnce(&mut Registry)) {
        let mut registry = self.registry();
        let gateway = registry.sub_registry_with_prefix("gptproto_gateway");
        register(gateway.sub_registry_with_prefix(prefix));
    }

    /// Returns all metrics as text.
    pub(crate) fn encode(&self, format: MetricsFormat) -> String {
        let registry = self.registry();
        let mut text = String::new();
        let encoded = match format {
            MetricsFormat::Prometheus => prometheus_text::encode(&mut text, &registry),
            MetricsFormat::OpenMetrics => text::encode(&mut text, &registry),
        };
        encoded.expect("writing to a string cannot fail");
        text
    }
}

/// Starts logging to standard error: readable text on a terminal, one JSON object a line otherwise.
///
/// # Panics
///
/// Never: the filter was checked with the rest of the configuration.
pub fn start_logging(config: &Config) {
    let filter: Targets = config.log.filter.parse().expect("checked with the configuration");
    change_log_format(config.log.format);
    let lines = layer().with_writer(std::io::stderr).event_format(Lines);
    // Colours, unless NO_COLOR is set, which the library reads.
    let lines = if std::io::stderr().is_terminal() { lines } else { lines.with_ansi(false) };
    let (filter, handle) = reload::Layer::new(filter);
    // In tests that share a process, the first call stays in effect.
    if registry().with(lines).with(filter).try_init().is_ok() {
        let _ = FILTER.set(Box::new(move |filter| handle.reload(filter).is_ok()));
    }
}

/// Whether lines are for a terminal, and no JSON.
static FOR_TERMINAL: AtomicBool = AtomicBool::new(false);

/// Changes how events are written.
pub(crate) fn change_log_format(format: LogFormat) {
    let for_terminal = match format {
        LogFormat::Pretty => true,
        LogFormat::Json => false,
        LogFormat::Auto => std::io::stderr().is_terminal(),
    };
    FOR_TERMINAL.store(for_terminal, Ordering::Relaxed);
}

/// Formats events as the configuration says at present.
#[derive(Debug)]
struct Lines;

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    N: for<'writer> FormatFields<'writer> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        if FOR_TERMINAL.load(Ordering::Relaxed) {
            TerminalLines.format_event(context, writer, event)
        } else {
            JsonLines.format_event(context, writer, event)
        }
    }
}

/// Replaces the filter of the log, where logging was started by this process.
static FILTER: OnceLock<Box<dyn Fn(Targets) -> bool + Send + Sync>> = OnceLock::new();

/// Changes which events are logged; returns whether that was possible.
pub(crate) fn change_log_filter(filter: &str) -> bool {
    let Ok(filter) = filter.parse::<Targets>() else { return false };
    FILTER.get().is_some_and(|change| change(filter))
}

/// The id of one request of a client: `req_` and 32 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RequestId([u8; 36]);

const HEX_DIGITS: [u8; 16] = *b"0123456789abcdef";

impl RequestId {
    pub(crate) fn random() -> Self {
        let mut id = *b"req_00000000000000000000000000000000";
        for (digits, byte) in id[4..].chunks_exact_mut(2).zip(rand::random::<[u8; 16]>()) {
            digits[0] = HEX_DIGITS[usize::from(byte >> 4)];
            digits[1] = HEX_DIGITS[usize::from(byte & 0xf)];
        }
        Self(id)
    }

    pub(crate) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("letters and digits")
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_ids_are_hexadecimal_and_differ() {
        let ids = [(); 100].map(|()| RequestId::random());
        for id in &ids {
            let digits = id.as_str().strip_prefix("req_").unwrap();
            assert!(digits.len() == 32 && u128::from_str_radix(digits, 16).is_ok_and(|number| number > 0), "{id}");
            assert_eq!(digits, digits.to_lowercase());
            assert_eq!(ids.iter().filter(|other| *other == id).count(), 1);
        }
    }

    #[test]
    fn the_accept_header_chooses_the_metrics_format() {
        // As Prometheus 3 and 2 send it, and as browsers and curl do.
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        assert_eq!(MetricsFormat::from_accept(prometheus), MetricsFormat::OpenMetrics);
        assert_eq!(
            MetricsFormat::from_accept("application/OpenMetrics-Text; version=0.0.1"),
            MetricsFormat::OpenMetrics
        );
        for other in ["", "*/*", "text/plain;version=0.0.4", "text/html,*/*;q=0.8", "application/openmetrics-text; q=0"]
        {
            assert_eq!(MetricsFormat::from_accept(other), MetricsFormat::Prometheus, "{other}");
        }
    }
}
