//! Secrets that the supervisor of the process keeps in a folder of their own: `LoadCredential=` of systemd, and
//! `CREDENTIALS_DIRECTORY`.
//!
//! They come last: a secret whose variable, `_FILE` variable or key of the configuration is set is not looked for here, so that
//! a unit which names every credential can be overridden in one place. A folder without a file of that name is no error.

use std::path::PathBuf;

use super::Environment;

/// The variable that names the folder.
const DIRECTORY: &str = "CREDENTIALS_DIRECTORY";

/// What a credential stands in for (a variable, or a key of the configuration), and its name.
const NAMES: &[(&str, &str)] = &[
    ("GPTPROTO_API_KEY", "gptproto-api-key"),
    ("GPTPROTO_API_KEYS", "gptproto-api-keys"),
    ("GATEWAY_CLIENT_KEYS", "client-keys"),
    ("GATEWAY_ADMIN_TOKEN", "admin-token"),
    ("GATEWAY_PROXY_CREDENTIALS", "proxy-credentials"),
    ("GATEWAY_WEBHOOK_SECRET", "webhook-secret"),
    ("server.tls_certificate_file", "tls-certificate"),
    ("server.tls_key_file", "tls-key"),
];

/// Returns the file of the credential that stands in for a secret, if there is one.
pub(super) fn file(environment: &Environment, secret: &str) -> Option<PathBuf> {
    let (_, name) = NAMES.iter().find(|(of, _)| *of == secret)?;
    let directory = environment.get(DIRECTORY).filter(|directory| !directory.is_empty())?;
    let file = PathBuf::from(directory).join(name);
    file.exists().then_some(file)
}

/// Returns the credentials that there are.
pub(crate) fn found(environment: &Environment) -> Vec<PathBuf> {
    NAMES.iter().filter_map(|(secret, _)| file(environment, secret)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Error};

    const API_KEY: &str = "sk-from-a-credential";
    const CLIENT_KEY: &str = "client-key-from-a-credential";

    /// A folder with all credentials that one configuration can have, and a variable for it beside others.
    fn load(changes: &[(&str, &str)]) -> Result<Config, Error> {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("gptproto-api-key", format!("{API_KEY}\n")),
            ("gptproto-api-keys", "second:sk-second".to_owned()),
            ("client-keys", format!("alice:{CLIENT_KEY}")),
            ("admin-token", "admin-token-from-a-credential".to_owned()),
            ("proxy-credentials", "user:password".to_owned()),
            ("webhook-secret", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".to_owned()),
            ("tls-certificate", "not read here".to_owned()),
            ("tls-key", "not read here".to_owned()),
        ] {
            std::fs::write(directory.path().join(name), text).unwrap();
        }
        // A variable without a value removes a credential.
        for (name, _) in changes.iter().filter(|(_, value)| value.is_empty()) {
            std::fs::remove_file(directory.path().join(name)).unwrap();
        }
        let mut environment: Environment = [
            (DIRECTORY, directory.path().to_str().unwrap()),
            ("GATEWAY_UPSTREAM__PROXY", "http://proxy.example.com:3128"),
        ]
        .iter()
        .chain(changes.iter().filter(|(_, value)| !value.is_empty()))
        .map(|&(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
        let file = directory.path().join("another");
        std::fs::write(&file, "sk-from-a-file").unwrap();
        for value in environment.values_mut().filter(|value| *value == "FILE") {
            file.to_str().unwrap().clone_into(value);
        }
        Config::load(None, &environment)
    }

    fn keys(config: &Config) -> Vec<&str> {
        config.accounts.iter().map(|account| account.key.expose()).collect()
    }

    #[test]
    fn every_secret_may_be_a_credential() {
        let config = load(&[]).unwrap();
        config.require_keys().unwrap();
        assert_eq!(keys(&config), [API_KEY, "sk-second"]);
        assert_eq!(config.clients.entries[0].key_digest, crate::config::digest_of_key(CLIENT_KEY));
        assert_eq!(config.operator.admin_token.as_ref().unwrap().expose(), "admin-token-from-a-credential");
        let (certificate, key) = config.server.tls.files().unwrap();
        assert!(certificate.ends_with("tls-certificate") && key.ends_with("tls-key"));
        let printed = format!("{config:?}");
        assert!(!printed.contains("from-a-credential") && !printed.contains("password"), "{printed}");
    }

    #[test]
    fn what_is_set_otherwise_comes_first() {
        assert_eq!(keys(&load(&[("GPTPROTO_API_KEY", "sk-set")]).unwrap()), ["sk-set", "sk-second"]);
        assert_eq!(keys(&load(&[("GPTPROTO_API_KEY_FILE", "FILE")]).unwrap()), ["sk-from-a-file", "sk-second"]);
        assert_eq!(
            keys(&load(&[("GATEWAY_UPSTREAM__API_KEY_FILE", "FILE")]).unwrap()),
            ["sk-from-a-file", "sk-second"]
        );
        let config = load(&[("GATEWAY_SERVER__TLS_CERTIFICATE_FILE", "mine.pem")]).unwrap();
        let (certificate, key) = config.server.tls.files().unwrap();
        assert!(certificate.ends_with("mine.pem") && key.ends_with("tls-key"), "{certificate:?} {key:?}");
    }

    #[test]
    fn a_missing_credential_is_no_error_and_a_wrong_one_names_its_file() {
        let config = load(&[("gptproto-api-keys", ""), ("tls-key", ""), ("tls-certificate", "")]).unwrap();
        assert_eq!(keys(&config), [API_KEY]);
        assert!(config.server.tls.files().is_none());
        let error = load(&[("tls-key", "")]).unwrap_err().to_string();
        assert!(error.starts_with("server.tls_key_file: "), "{error}");
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("gptproto-api-key"), "\"sk-hunter2\"").unwrap();
        let environment = [(DIRECTORY.to_owned(), directory.path().to_str().unwrap().to_owned())].into();
        let error = Config::load(None, &environment).unwrap_err().to_string();
        assert!(
            error.contains("gptproto-api-key") && error.contains("quotes") && !error.contains("hunter2"),
            "{error}"
        );
        assert_eq!(found(&environment), [directory.path().join("gptproto-api-key")]);
    }
}
