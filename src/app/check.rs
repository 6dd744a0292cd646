//! `check`: diagnoses a deployment without spending anything.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use super::listeners;
use crate::config::{ApiPolicy, Config};
use crate::model::{AccountId, Clock, SystemClock};
use crate::storage::{DataDirectory, DataDirectoryError};
use crate::upstream::{GptProto, KeyCheck, Upstream};

/// A larger difference of the clocks is reported.
const SKEW_MAX: Duration = Duration::from_mins(1);

/// Checks configuration, folders, keys and clock. Returns a line for each, and whether the gateway could run.
pub async fn check(config: &Config) -> (String, bool) {
    let mut report = Report { text: String::new(), could_run: true };
    report.ok(
        "configuration",
        &format!(
            "{} models, clients: {}",
            config.catalogue.models.iter().filter(|model| model.is_available(config.upstream.api.api_kinds())).count(),
            config.clients.entries.len()
        ),
    );
    if let Some(transport) = unusual_transport(config) {
        report.ok("upstream API", &transport);
    }
    match DataDirectory::open(&config.storage.directory) {
        Ok(directory) => report.ok("storage", &format!("{} is writable", directory.path().display())),
        // A gateway that runs is not a mistake of the deployment.
        Err(error @ DataDirectoryError::InUse(_)) => report.warn("storage", &error.to_string()),
        Err(error) => report.bad("storage", &error.to_string()),
    }
    if let Some(files) = config.server.tls.files() {
        match listeners::load_tls(files).await {
            Ok(_) => report.ok("TLS", &format!("{} and its key match", files.0.display())),
            Err(error) => report.bad("TLS", &format!("{error:#}")),
        }
    }
    match listeners::divide_descriptors(listeners::descriptor_demand(config, false)) {
        Ok(shares) if shares.connections < config.server.connections.connections_max.get() => report.warn(
            "open files",
            &format!(
                "only {} of {} connections (server.connections_max) fit into the limit of {} open files (ulimit -n)",
                shares.connections, config.server.connections.connections_max, shares.limit
            ),
        ),
        Ok(shares) => report.ok("open files", &format!("up to {} files and connections may be open", shares.limit)),
        Err(error) => report.bad("open files", &error.to_string()),
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
    (report.text, report.could_run)
}

/// Returns how requests and their input pictures reach the upstream, where that is not the default.
fn unusual_transport(config: &Config) -> Option<String> {
    let api = config.upstream.api;
    let api = (api != ApiPolicy::Auto).then(|| format!("every request uses the API {}", api.name()));
    let base = config.upstream.inputs.published_below(
        &config.server.addresses,
        config.upstream.api,
        config.upstream.is_loopback(),
    );
    let inputs = base.map(|base| format!("the upstream may fetch input pictures from {base}"));
    let settings: Vec<String> = api.into_iter().chain(inputs).collect();
    (!settings.is_empty()).then(|| settings.join("; "))
}

struct Report {
    text: String,
    could_run: bool,
}

impl Report {
    fn key(&mut self, config: &Config, account: &AccountId, check: &KeyCheck) {
        // The name of the only account adds nothing.
        let of = if config.accounts.len() > 1 { format!(" of {account}") } else { String::new() };
        let base = &config.upstream.base_url;
        match check {
            KeyCheck::Good { upstream_time } => {
                self.ok("upstream", &format!("{base} accepts the key{of} (listed its models, which costs nothing)"));
                let now = SystemClock.now();
                match upstream_time.map(|time| now.since(time).max(time.since(now))) {
                    Some(skew) if skew > SKEW_MAX => {
                        self.warn("clock", &format!("differs from the upstream's by {} s", skew.as_secs()));
                    }
                    Some(skew) => self.ok("clock", &format!("within {} s of the upstream's", skew.as_secs() + 1)),
                    None => self.warn("clock", "not compared: the upstream sent no time"),
                }
            }
            KeyCheck::Refused(reason) => self.bad("upstream", &format!("{base} refuses the key{of}: {reason}")),
            KeyCheck::Unclear(reason) => {
                self.bad("upstream", &format!("{base} did not say whether the key{of} is valid: {reason}"));
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
        self.could_run = false;
        self.line("FAIL", what, detail);
    }

    fn line(&mut self, verdict: &str, what: &str, detail: &str) {
        let _ = writeln!(self.text, "{verdict:<5} {what:<14} {detail}");
    }
}
