//! Which server is asked, and with which key.

use url::Url;

use super::arguments::ServerArguments;
use super::exit::Failure;
use crate::cli::printer::print_error;
use crate::config::{Config, Environment, KEY_START, SANDBOX_KEY, Secret, digest_of_key, find_file};
use crate::operator::reachable_address;

/// Where requests go.
#[derive(Debug)]
pub(super) struct Target {
    /// With a slash at its end.
    pub(super) base: Url,
    pub(super) key: Option<Secret>,
    /// The key is meant for this server. One of the environment may belong to another, unless the address is from there, too.
    pub(super) is_own_key: bool,
    /// The configuration of the server, where its address is from there.
    pub(super) config: Option<Box<Config>>,
}

/// Finds the server: by the arguments, else by the environment, else by the configuration.
///
/// # Errors
///
/// A text that names what is wrong.
pub(super) fn resolve(arguments: &ServerArguments, environment: &Environment) -> Result<Target, Failure> {
    let variable = |name: &str| environment.get(name).map(|value| value.trim()).filter(|value| !value.is_empty());
    if arguments.key.is_some() {
        print_error(
            "warning: others on this machine can see --key while the command runs; OPENAI_API_KEY is not visible",
        );
    }
    let given = arguments.url.as_deref().map(|url| ("--url", url));
    let given = given.or_else(|| {
        // A configuration that is named comes before an address for all programs.
        let url = variable("OPENAI_BASE_URL").filter(|_| arguments.config.is_none());
        url.map(|url| ("OPENAI_BASE_URL", url))
    });
    let (base, config) = if let Some((origin, url)) = given {
        (parse(url).map_err(|problem| Failure::usage(format!("{origin}: {problem}")))?, None)
    } else {
        let (base, config) = configured(arguments, environment).map_err(Failure::usage)?;
        (base, Some(Box::new(config)))
    };
    let from_environment = variable("OPENAI_API_KEY");
    let is_of_a_gateway = from_environment.is_some_and(|key| is_of_a_gateway(key, config.as_deref()));
    let has_both = given.is_some_and(|(origin, _)| origin == "OPENAI_BASE_URL");
    let is_own_key = arguments.key.is_some() || has_both || is_of_a_gateway;
    let key = arguments.key.clone().or_else(|| from_environment.map(|key| Secret::new(key.to_owned())));
    Ok(Target { base, key, is_own_key, config })
}

/// Whether a key looks like one of a gateway, or is one of the configuration.
fn is_of_a_gateway(key: &str, config: Option<&Config>) -> bool {
    let digest = digest_of_key(key);
    let is_configured =
        config.is_some_and(|config| config.clients.entries.iter().any(|client| client.key_digest == digest));
    is_configured || key.starts_with(KEY_START) || key == SANDBOX_KEY
}

/// Reads a base address. One without a path gets `/v1`.
fn parse(text: &str) -> Result<Url, String> {
    let mut url: Url = text.parse().map_err(|error| format!("is not an address: {error}"))?;
    if !matches!(url.scheme(), "http" | "https") || url.cannot_be_a_base() {
        return Err("must begin with http:// or https://".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must not contain a user name or a password".to_owned());
    }
    url.set_query(None);
    url.set_fragment(None);
    let path = match url.path().trim_end_matches('/') {
        "" => "/v1/".to_owned(),
        path => format!("{path}/"),
    };
    url.set_path(&path);
    Ok(url)
}

/// Returns the address of the gateway that the configuration describes, and the configuration.
fn configured(arguments: &ServerArguments, environment: &Environment) -> Result<(Url, Config), String> {
    let file = find_file(arguments.config.as_deref(), environment).map_err(|error| error.to_string())?;
    let config = Config::load(file.as_ref().map(|file| file.path.as_path()), environment);
    let config = config.map_err(|error| error.to_string())?;
    let base = base_of(&config)?;
    Ok((base, config))
}

/// Returns the address at which this machine reaches the gateway of a configuration.
///
/// # Errors
///
/// What is wrong with `server.listen`.
pub(in crate::cli) fn base_of(config: &Config) -> Result<Url, String> {
    let listen = config.server.addresses.listen.resolve().map_err(|problem| format!("server.listen: {problem}"))?;
    let address = listen.first().ok_or("server.listen names no address")?.address;
    let base = format!("{}://{}/v1/", config.server.tls.scheme(), reachable_address(address));
    base.parse().map_err(|error| format!("server.listen: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(url: Option<&str>) -> ServerArguments {
        ServerArguments { url: url.map(str::to_owned), key: None, config: None }
    }

    fn resolved(url: Option<&str>, variables: &[(&str, &str)]) -> Target {
        let environment = variables.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
        resolve(&arguments(url), &environment).unwrap()
    }

    #[test]
    fn arguments_come_before_the_environment_and_that_before_the_configuration() {
        let openai = [("OPENAI_BASE_URL", "https://api.example/v1"), ("OPENAI_API_KEY", "sk-1")];
        let here = ("GATEWAY_SERVER__LISTEN", "0.0.0.0:9000");
        for (url, variables, base, is_own_key) in [
            (None, &[][..], "http://127.0.0.1:8787/v1/", false),
            (None, &[here], "http://127.0.0.1:9000/v1/", false),
            (None, &openai, "https://api.example/v1/", true),
            (Some("http://gateway:1/"), &openai, "http://gateway:1/v1/", false),
            (Some("http://gateway:1/base/v1?x=1"), &[], "http://gateway:1/base/v1/", false),
            (None, &[openai[1]], "http://127.0.0.1:8787/v1/", false),
            (None, &[("OPENAI_API_KEY", "sk-gw-0")], "http://127.0.0.1:8787/v1/", true),
            (Some("http://gateway:1/"), &[("OPENAI_API_KEY", "sk-sandbox")], "http://gateway:1/v1/", true),
            (
                None,
                &[("OPENAI_API_KEY", "own-0123456789abcdef"), ("GATEWAY_CLIENT_KEYS", "me:own-0123456789abcdef")],
                "http://127.0.0.1:8787/v1/",
                true,
            ),
        ] {
            let target = resolved(url, variables);
            assert_eq!((target.base.as_str(), target.is_own_key), (base, is_own_key), "{url:?} {variables:?}");
            assert_eq!(target.key.is_some(), variables.iter().any(|(name, _)| *name == "OPENAI_API_KEY"));
        }
        for url in ["gateway:8787", "ftp://x", "http://me:secret@gateway"] {
            let failure = resolve(&arguments(Some(url)), &Environment::new()).unwrap_err();
            assert!(failure.message.starts_with("--url: ") && !failure.message.contains("secret"), "{failure:?}");
        }
    }
}
