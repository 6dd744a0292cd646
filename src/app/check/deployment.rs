//! Checks of the deployment itself: configuration, folders, certificate, open files, keys.

use super::report::{Row, STORAGE_ADVICE, Section, Verdict};
use crate::app::listeners;
use crate::config::{self, ApiPolicy, Config};
use crate::storage::{self, DataDirectory, DataDirectoryError, DirectoryState};

/// Adds a row for each part of the deployment.
pub(super) async fn check(config: &Config, live: bool, section: &mut Section) {
    let api_kinds = config.upstream.api.api_kinds();
    let models = config.catalogue.models.iter().filter(|model| model.is_available(api_kinds)).count();
    let clients = config.clients.entries.len();
    section.add(Row::good("configuration", format!("{models} models, clients: {clients}")));
    if let Some(transport) = unusual_transport(config) {
        section.add(Row::good("upstream API", transport));
    }
    section.add(storage(config));
    if let Some(files) = config.server.tls.files() {
        section.add(match listeners::load_tls(files).await {
            Ok(_) => Row::good("TLS", format!("{} and its key match", files.0.display())),
            Err(error) => Row::new(Verdict::Fault, "TLS", format!("{error:#}"), "correct the files"),
        });
    }
    section.add(open_files(config));
    if let Err(error) = config.require_keys() {
        // A purchase of the check is for no client.
        let none_needed = live && matches!(error, config::Error::NoClientKeys);
        let verdict = if none_needed { Verdict::Warning } else { Verdict::Fault };
        section.add(Row::new(verdict, "keys", error.to_string(), ""));
    }
}

/// Returns whether a gateway runs on the storage.
pub(super) fn is_storage_in_use(config: &Config) -> bool {
    matches!(DataDirectory::inspect(&config.storage.directory), Err(DataDirectoryError::InUse(_)))
}

fn storage(config: &Config) -> Row {
    if let Err(error) = storage::check_journal(&config.storage) {
        return Row::new(Verdict::Fault, "storage", error.to_string(), "");
    }
    let directory = config.storage.directory.display();
    match DataDirectory::inspect(&config.storage.directory) {
        Ok(DirectoryState::Usable) => Row::good("storage", format!("{directory} is writable")),
        Ok(DirectoryState::Missing) => {
            Row::good("storage", format!("{directory} does not exist yet; the first start makes it"))
        }
        // A gateway that runs is not a mistake of the deployment.
        Err(error @ DataDirectoryError::InUse(_)) => Row::note("storage", error.to_string()),
        Err(error) => Row::new(Verdict::Fault, "storage", error.to_string(), STORAGE_ADVICE),
    }
}

fn open_files(config: &Config) -> Row {
    let wanted = config.server.connections.connections_max.get();
    let demand = listeners::descriptor_demand(config, false);
    match listeners::divide_descriptors(demand) {
        Ok(shares) if listeners::has_too_few(&shares, &demand) => Row::new(
            Verdict::Note,
            "open files",
            format!("only {} of {wanted} connections fit into the limit of {}", shares.connections, shares.limit),
            "raise the limit (ulimit -n), or lower server.connections_max",
        ),
        Ok(shares) => Row::good("open files", format!("up to {} files and connections may be open", shares.limit)),
        Err(error) => Row::new(Verdict::Fault, "open files", error.to_string(), "raise the limit (ulimit -n)"),
    }
}

/// Returns how requests and their input pictures reach the upstream, where that is not the default.
fn unusual_transport(config: &Config) -> Option<String> {
    let api = config.upstream.api;
    let api = (api != ApiPolicy::Auto).then(|| format!("every request uses the API {}", api.name()));
    let upstream = &config.upstream;
    let base = upstream.inputs.published_below(&config.server.addresses, upstream.api, upstream.is_loopback());
    let inputs = base.map(|base| format!("the upstream may fetch input pictures from {base}"));
    let settings: Vec<String> = api.into_iter().chain(inputs).collect();
    (!settings.is_empty()).then(|| settings.join("; "))
}
