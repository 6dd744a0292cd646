//! The way to the upstream: its address, the HTTP proxy, and from where pictures may be downloaded.

use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Deserializer};
use url::Url;

use super::UpstreamConfig;
use crate::config::{Environment, Error, Secret, secret};
use crate::model::HostName;

/// The variable that contains the user name and the password for the proxy.
const CREDENTIALS: &str = "GATEWAY_PROXY_CREDENTIALS";
/// Variables by which other programs find a proxy.
const PROXY_VARIABLES: [&str; 4] = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];
/// Paths that the gateway itself appends to `upstream.base_url`.
const API_PATHS: [&str; 3] = ["/v1", "/v1/images", "/api/v3"];

/// An HTTP proxy, which opens tunnels (CONNECT) to the upstream.
#[derive(Clone, Debug)]
pub(crate) struct ProxyConfig {
    pub(crate) address: Url,
    pub(crate) credentials: Option<ProxyCredentials>,
}

/// What the proxy asks for.
#[derive(Clone, Debug)]
pub(crate) struct ProxyCredentials {
    pub(crate) user: String,
    pub(crate) password: Secret,
}

/// From where pictures may be downloaded although the address is not public.
#[derive(Clone, Debug, Default)]
pub(crate) struct AllowedDownloads {
    networks: Vec<IpNet>,
    hosts: Vec<HostName>,
}

impl AllowedDownloads {
    /// Returns whether the address is in a network of the list.
    pub(crate) fn has_address(&self, ip: IpAddr) -> bool {
        self.networks.iter().any(|network| network.contains(&ip))
    }

    /// Returns whether the name is in the list, by itself or below a suffix.
    pub(crate) fn has_host(&self, name: &str) -> bool {
        self.hosts.iter().any(|host| host.covers(name))
    }

    /// Adds an entry: a network, an address or a host.
    ///
    /// # Errors
    ///
    /// A text that names the entry.
    fn add(&mut self, entry: &str) -> Result<(), String> {
        let network = IpNet::from_str(entry).or_else(|_| IpAddr::from_str(entry).map(IpNet::from));
        match (network, HostName::from_str(entry)) {
            (Ok(network), _) => self.networks.push(network.trunc()),
            (Err(_), Ok(host)) if host != HostName::Any => self.hosts.push(host),
            (Err(_), _) => {
                return Err(format!(
                    "{entry:?} must be a network such as \"198.18.0.0/15\", or a host such as \"*.internal.example\""
                ));
            }
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for AllowedDownloads {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut allowed = Self::default();
        for entry in Vec::<String>::deserialize(deserializer)? {
            allowed.add(&entry).map_err(serde::de::Error::custom)?;
        }
        Ok(allowed)
    }
}

/// Checks `upstream.base_url`.
///
/// # Errors
///
/// The end of a sentence.
pub(super) fn check_base_url(url: &Url, loopback: bool) -> Result<(), String> {
    match url.scheme() {
        "https" => {}
        "http" if loopback => {}
        "http" => {
            return Err("must be https, as http would send the key unencrypted; http is for loopback only".to_owned());
        }
        other => return Err(format!("has the scheme {other}; use https")),
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("must end after the path, without a query or a fragment".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must not contain a user name or a password".to_owned());
    }
    let prefix = url.path().trim_end_matches('/');
    if prefix.contains("//") {
        return Err("must not contain an empty path segment".to_owned());
    }
    match API_PATHS.iter().find(|path| prefix.ends_with(*path)) {
        Some(path) => Err(format!("must end before {path}, which the gateway appends itself")),
        None => Ok(()),
    }
}

/// Reads the proxy and its credentials.
///
/// # Errors
///
/// [`Error`], naming the key or the variable.
pub(super) fn read_proxy(
    address: Option<&Url>,
    credentials_file: Option<&std::path::Path>,
    environment: &Environment,
) -> Result<Option<ProxyConfig>, Error> {
    let credentials = secret::from_environment(environment, CREDENTIALS, credentials_file)?;
    let Some(address) = address else {
        return match credentials {
            Some(_) => Err(Error::invalid(CREDENTIALS, "has no use without upstream.proxy; set it, or remove these")),
            None => Ok(None),
        };
    };
    check_proxy(address).map_err(|problem| Error::invalid("upstream.proxy", problem))?;
    let credentials = credentials.map(|text| match text.expose().split_once(':') {
        Some((user, password)) if !user.is_empty() => {
            Ok(ProxyCredentials { user: user.to_owned(), password: Secret::new(password.to_owned()) })
        }
        Some(_) | None => Err(Error::invalid(CREDENTIALS, "must have the form user:password")),
    });
    Ok(Some(ProxyConfig { address: address.clone(), credentials: credentials.transpose()? }))
}

fn check_proxy(url: &Url) -> Result<(), String> {
    // A text such as proxy.example.com:3128 is a URL with the scheme proxy.example.com.
    if url.scheme() != "http" || url.host().is_none() {
        return Err("must have the form http://host:port; other kinds of proxies are not supported".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(format!("must not contain a password; use upstream.proxy_credentials_file or {CREDENTIALS}"));
    }
    if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
        return Err("must have the form http://host:port, without a path".to_owned());
    }
    Ok(())
}

/// Returns the variable that names a proxy for other programs and that the gateway does not use.
pub(super) fn unused_proxy_variable(environment: &Environment) -> Option<&'static str> {
    PROXY_VARIABLES.into_iter().find(|name| environment.get(*name).is_some_and(|value| !value.is_empty()))
}

impl UpstreamConfig {
    /// Returns the proxy of every call to the upstream and of downloads. An http upstream, which is on this machine, is
    /// reached without it: a proxy would read the key.
    pub(crate) fn proxy(&self) -> Option<&ProxyConfig> {
        self.proxy.as_ref().filter(|_| self.base_url.scheme() == "https")
    }

    /// Returns the variable of the environment that names a proxy which is not used.
    pub(crate) fn unused_proxy_variable(&self) -> Option<&'static str> {
        self.unused_proxy_variable.filter(|_| self.proxy.is_none() && !self.is_loopback())
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use crate::config::tests::{load, refusal};

    #[test]
    fn a_base_url_may_have_a_path_but_not_the_paths_of_the_api() {
        for path in ["", "/", "/api/gptproto", "/api/gptproto/", "/v1/relay"] {
            load(&format!("[upstream]\nbase_url = \"https://relay.example{path}\""), &[]).unwrap();
        }
        for (path, named) in [
            ("/v1", "upstream.base_url: must end before /v1"),
            ("/relay/v1/", "upstream.base_url: must end before /v1"),
            ("/api/v3", "upstream.base_url: must end before /api/v3"),
            ("//relay", "upstream.base_url: must not contain an empty path segment"),
            ("/relay?x=1", "upstream.base_url: must end after the path"),
            ("/relay#x", "upstream.base_url: must end after the path"),
        ] {
            let error = refusal(&format!("[upstream]\nbase_url = \"https://relay.example{path}\""), &[]);
            assert!(error.contains(named), "{error:?} does not name {named}");
        }
    }

    #[test]
    fn the_credentials_of_the_proxy_are_a_secret() {
        let proxy = "[upstream]\nproxy = \"http://proxy.example.com:3128\"";
        let config = load(proxy, &[("GATEWAY_PROXY_CREDENTIALS", "gateway:pass:word")]).unwrap();
        let proxy = config.upstream.proxy().unwrap();
        assert_eq!(proxy.address.as_str(), "http://proxy.example.com:3128/");
        let credentials = proxy.credentials.as_ref().unwrap();
        assert_eq!((credentials.user.as_str(), credentials.password.expose()), ("gateway", "pass:word"));
        assert!(!format!("{config:?}").contains("pass:word"));

        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "gateway:from-a-file\n").unwrap();
        let text = format!(
            "[upstream]\nproxy = \"http://10.0.0.5:8080\"\nproxy_credentials_file = {:?}",
            file.path().display().to_string()
        );
        let config = load(&text, &[]).unwrap();
        let credentials = config.upstream.proxy().unwrap().credentials.clone().unwrap();
        assert_eq!(credentials.password.expose(), "from-a-file");
    }

    #[test]
    fn mistakes_in_the_proxy_name_the_key_and_show_no_password() {
        let variable = [("GATEWAY_PROXY_CREDENTIALS", "gateway-hunter2")];
        for (proxy, variables, named) in [
            ("http://me:hunter2@proxy.example.com:1", &[][..], "upstream.proxy: must not contain a password"),
            ("socks5://proxy.example.com:1080", &[], "upstream.proxy: must have the form http://host:port"),
            ("https://proxy.example.com", &[], "upstream.proxy: must have the form http://host:port"),
            ("proxy.example.com:3128", &[], "upstream.proxy: must have the form http://host:port"),
            (
                "http://proxy.example.com/path",
                &[],
                "upstream.proxy: must have the form http://host:port, without a path",
            ),
            ("http://proxy.example.com", &variable[..], "GATEWAY_PROXY_CREDENTIALS: must have the form user:password"),
            ("", &variable[..], "GATEWAY_PROXY_CREDENTIALS: has no use without upstream.proxy"),
        ] {
            let error = refusal(&format!("[upstream]\nproxy = {proxy:?}"), variables);
            assert!(error.contains(named), "{error:?} does not name {named}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn an_http_upstream_is_reached_without_the_proxy() {
        let config = |base: &str| {
            let text = format!("[upstream]\nbase_url = {base:?}\nproxy = \"http://proxy.example.com:3128\"");
            load(&text, &[]).unwrap().upstream
        };
        assert!(config("http://127.0.0.1:8790").proxy().is_none());
        assert!(config("https://localhost:8790").proxy().is_some());
    }

    #[test]
    fn a_proxy_of_the_environment_is_reported_while_it_is_unused() {
        let unused =
            |toml: &str, name| load(toml, &[(name, "http://user:hunter2@proxy.example.com:1")]).unwrap().upstream;
        for name in ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
            let upstream = unused("", name);
            assert_eq!((upstream.unused_proxy_variable(), upstream.proxy().is_some()), (Some(name), false));
            assert!(!format!("{upstream:?}").contains("hunter2"));
        }
        assert_eq!(unused("", "NO_PROXY").unused_proxy_variable(), None);
        let used = unused("[upstream]\nproxy = \"http://proxy.example.com:3128\"", "HTTPS_PROXY");
        assert_eq!(used.unused_proxy_variable(), None);
        let simulated = unused("[upstream]\nbase_url = \"http://127.0.0.1:1\"", "HTTPS_PROXY");
        assert_eq!(simulated.unused_proxy_variable(), None);
    }

    #[test]
    fn allowed_downloads_are_networks_and_hosts() {
        let text =
            "[upstream]\ndownload_allow = [\"198.18.0.1/15\", \"fd00::/8\", \"10.0.0.7\", \"*.internal.example\"]";
        let allowed = load(text, &[]).unwrap().upstream.download_allow;
        let has = |ip: &str| allowed.has_address(ip.parse::<IpAddr>().unwrap());
        assert!(has("198.18.0.7") && has("198.19.255.255") && has("fd12::1") && has("10.0.0.7"));
        assert!(!has("198.20.0.1") && !has("10.0.0.8") && !has("fe80::1"));
        assert!(allowed.has_host("Files.Internal.Example.") && !allowed.has_host("internal.example"));
        for entry in ["198.18.0.0/33", "*", "https://files.example", "", "*.", "a b"] {
            let error = refusal(&format!("[upstream]\ndownload_allow = [{entry:?}]"), &[]);
            assert!(error.contains("download_allow") && error.contains(&format!("{entry:?}")), "{error}");
        }
    }
}
