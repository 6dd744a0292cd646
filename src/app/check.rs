//! `check`: diagnoses a deployment without spending anything.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use super::listeners;
use crate::config::{ApiPolicy, Config, InputTransport};
use crate::model::{AccountId, Clock, SystemClock};
use crate::storage::{DataDirectory, DataDirectoryError};
use crate::upstream::{GptProto, KeyCheck, Upstream};

/// How far the clocks may differ before it is worth a word.
const SKEW_MAX: Duration = Duration::from_mins(1);

/// Checks configuration, folders, key and clock. Returns a line for each, and whether the gateway could run.
pub async fn check(config: &Config) -> (String, bool) {
    let mut report = Report { text: String::new(), fine: true };
    report.ok(
        "configuration",
        &format!(
            "{} models, clients: {}",
            config.catalogue.models.iter().filter(|model| model.is_available(config.upstream.api.api_kinds())).count(),
            config.clients.len()
        ),
    );
    if let Some(route) = route_beside_the_default(config) {
        report.ok("route", &route);
    }
    match DataDirectory::open(&config.storage.directory) {
        Ok(directory) => report.ok("storage", &format!("{} is writable", directory.path().display())),
        // A gateway that is running is not a problem of the deployment.
        Err(error @ DataDirectoryError::InUse(_)) => report.warn("storage", &error.to_string()),
        Err(error) => report.bad("storage", &error.to_string()),
    }
    if let Some(files) = config.server.tls() {
        match listeners::read_tls(files) {
            Ok(_) => report.ok("TLS", &format!("{} and its key fit", files.0.display())),
            Err(error) => report.bad("TLS", &format!("{error:#}")),
        }
    }
    match listeners::share(listeners::wanted(config, false)) {
        Ok(shares) if shares.connections < config.server.connections_max.get() => report.warn(
            "descriptors",
            &format!(
                "{} of {} connections fit into the {} files that may be open (ulimit -n)",
                shares.connections, config.server.connections_max, shares.limit
            ),
        ),
        Ok(shares) => report.ok("descriptors", &format!("{} may be open", shares.limit)),
        Err(error) => report.bad("descriptors", &error.to_string()),
    }
    if let Err(error) = config.require_keys() {
        report.bad("keys", &error.to_string());
    }
    if !config.accounts.is_empty() {
        match GptProto::new(&config.upstream, &config.accounts, Arc::new(config.catalogue.clone()), None) {
            Err(error) => report.bad("upstream", &format!("cannot build the client: {error}")),
            Ok(upstream) => {
                for account in &config.accounts {
                    report.key(config, &account.id, &upstream.check_key(&account.id).await);
                }
            }
        }
    }
    (report.text, report.fine)
}

/// How requests and their pictures travel, where that is not the default.
fn route_beside_the_default(config: &Config) -> Option<String> {
    let route = config.upstream.api;
    let route = (route != ApiPolicy::Auto).then(|| format!("every request takes the route {}", route.name()));
    let inputs = match (config.upstream.inputs, &config.server.public_url) {
        (InputTransport::Link, Some(base)) => Some(format!("input pictures are fetched from {base}")),
        (InputTransport::Link | InputTransport::Inline, _) => None,
    };
    let told: Vec<String> = route.into_iter().chain(inputs).collect();
    (!told.is_empty()).then(|| told.join("; "))
}

struct Report {
    text: String,
    fine: bool,
}

impl Report {
    fn key(&mut self, config: &Config, account: &AccountId, check: &KeyCheck) {
        // With one account there is nothing to tell apart.
        let of = if config.accounts.len() > 1 { format!(" of {account}") } else { String::new() };
        let base = &config.upstream.base_url;
        match check {
            KeyCheck::Good { upstream_time } => {
                self.ok("upstream", &format!("{base} accepts the key{of} (asked for its models, which costs nothing)"));
                let now = SystemClock.now();
                match upstream_time.map(|time| now.since(time).max(time.since(now))) {
                    Some(skew) if skew > SKEW_MAX => {
                        self.warn("clock", &format!("differs from the upstream's by {} s", skew.as_secs()));
                    }
                    Some(skew) => self.ok("clock", &format!("within {} s of the upstream's", skew.as_secs() + 1)),
                    None => self.warn("clock", "the upstream did not say what time it is"),
                }
            }
            KeyCheck::Refused(reason) => self.bad("upstream", &format!("{base} refuses the key{of}: {reason}")),
            KeyCheck::Unclear(reason) => {
                self.bad("upstream", &format!("{base} could not be asked about the key{of}: {reason}"));
            }
        }
    }

    fn ok(&mut self, what: &str, detail: &str) {
        self.line("ok", what, detail);
    }

    fn warn(&mut self, what: &str, detail: &str) {
        self.line("warn", what, detail);
    }

    fn bad(&mut self, what: &str, detail: &str) {
        self.fine = false;
        self.line("FAIL", what, detail);
    }

    fn line(&mut self, verdict: &str, what: &str, detail: &str) {
        let _ = writeln!(self.text, "{verdict:<5} {what:<14} {detail}");
    }
}
