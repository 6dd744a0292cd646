//! `[operator]`: the listener for health, metrics and the status page.

use serde::Deserialize;

use super::ListenAddresses;
use crate::config::{Environment, Error, Secret, secret};
use crate::model::HostName;

/// The variable that contains the admin token.
const ADMIN_TOKEN: &str = "GATEWAY_ADMIN_TOKEN";
/// The shortest accepted admin token, in characters: 128 random bits are 32 as hex, 22 as base64; a password is not enough.
const ADMIN_TOKEN_CHARS_MIN: usize = 24;

/// `[operator]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OperatorConfig {
    pub(crate) listen: ListenAddresses,
    pub(crate) hosts: Vec<HostName>,
    pub(crate) metric_clients_max: usize,
    /// From the environment. `None`: the administration over HTTP is off.
    #[serde(skip)]
    pub(crate) admin_token: Option<Secret>,
}

impl OperatorConfig {
    /// Reads the admin token.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`], naming the variable and never the token.
    pub(in crate::config) fn read_admin_token(&mut self, environment: &Environment) -> Result<(), Error> {
        self.admin_token = secret::from_environment(environment, ADMIN_TOKEN, None)?;
        let Some(token) = &self.admin_token else { return Ok(()) };
        secret::check_key(token.expose()).map_err(|problem| Error::invalid(ADMIN_TOKEN, problem))?;
        if token.expose().len() < ADMIN_TOKEN_CHARS_MIN {
            let problem =
                format!("must have at least {ADMIN_TOKEN_CHARS_MIN} characters; `openssl rand -hex 24` makes one");
            return Err(Error::invalid(ADMIN_TOKEN, problem));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::config::tests::{load, refusal};

    #[test]
    fn a_weak_admin_token_or_one_that_is_another_key_is_refused() {
        let token = "0123456789abcdef01234567";
        assert!(load("", &[("GATEWAY_ADMIN_TOKEN", token)]).unwrap().operator.admin_token.is_some());
        for (variables, named) in [
            (&[("GATEWAY_ADMIN_TOKEN", "0123456789abcdef0123456")][..], "at least 24 characters"),
            (&[("GATEWAY_ADMIN_TOKEN", "0123456789 abcdef01234567")], "white space"),
            (&[("GATEWAY_ADMIN_TOKEN", token), ("GATEWAY_ADMIN_TOKEN_FILE", "/run/token")], "remove one of them"),
            (
                &[("GATEWAY_ADMIN_TOKEN", token), ("GATEWAY_CLIENT_KEYS", "alice:0123456789abcdef01234567")],
                "is the key of the client alice",
            ),
            (&[("GATEWAY_ADMIN_TOKEN", token), ("GPTPROTO_API_KEY", token)], "is the upstream key of the account"),
        ] {
            let error = refusal("", variables);
            assert!(error.starts_with("GATEWAY_ADMIN_TOKEN") && error.contains(named), "{error}");
            assert!(!error.contains("0123456789"), "{error}");
        }
    }

    #[test]
    fn a_host_that_is_not_a_name_is_refused() {
        assert!(refusal("[operator]\nhosts = [\"*.\"]", &[]).contains("operator.hosts"));
    }
}
