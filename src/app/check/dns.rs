//! Whether the names of the upstream resolve to addresses that may be connected to, and whether a proxy is used.

use std::net::IpAddr;

use url::Host;

use super::report::{Row, Section, Verdict};
use crate::config::Config;
use crate::model::AddressClass;
use crate::upstream::GptProto;

/// Adds a row for the proxy, for the service's name, and for the hosts of results.
pub(super) async fn check(config: &Config, upstream: &GptProto, section: &mut Section) {
    if let Some(variable) = config.upstream.unused_proxy_variable() {
        section.add(Row::new(
            Verdict::Warning,
            "proxy",
            format!("{variable} is set and not used: calls to the upstream go out directly"),
            "set upstream.proxy to use a proxy",
        ));
    }
    if config.upstream.proxy().is_some() {
        section.add(Row::good("proxy", "upstream.proxy is used, and resolves all names"));
        return;
    }
    if let Some(Host::Domain(host)) = config.upstream.base_url.host()
        && !config.upstream.is_loopback()
    {
        section.add(addresses(host).await);
    }
    let (hosts, usable) = upstream.check_result_hosts().await;
    if hosts.is_empty() {
        return;
    }
    section.add(match usable {
        Ok(()) => Row::good("results", format!("nothing speaks against downloads from {}", hosts.join(", "))),
        Err(problem) => Row::new(
            Verdict::Fault,
            "results",
            format!("pictures could not be downloaded, so nothing is bought: {problem}"),
            "let this machine resolve the name publicly, or allow the address in upstream.download_allow",
        ),
    });
}

/// Resolves a name, and describes its addresses.
async fn addresses(host: &str) -> Row {
    match tokio::net::lookup_host((host, 443)).await {
        Ok(found) => {
            let describe = |ip: IpAddr| format!("{ip}, {}", AddressClass::of(ip).describe());
            let found: Vec<String> = found.map(|address| describe(address.ip())).collect();
            Row::good("DNS", format!("{host} is {}", found.join("; ")))
        }
        Err(error) => Row::note("DNS", format!("{host} cannot be resolved: {error}")),
    }
}
