//! Secrets: keys that are never printed, and where they are read from.

use std::fmt;
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};

use super::{Environment, Error};

/// The variable that names the folder of credentials: secrets that a supervisor keeps, as systemd does with `LoadCredential=`. They
/// come last, so that a unit which names every credential can be overridden in one place. One that is not there is no error.
const CREDENTIALS_DIRECTORY: &str = "CREDENTIALS_DIRECTORY";

/// What a credential stands in for (a variable, or a key of the configuration), and its name.
const CREDENTIALS: &[(&str, &str)] = &[
    ("GPTPROTO_API_KEY", "gptproto-api-key"),
    ("GPTPROTO_API_KEYS", "gptproto-api-keys"),
    ("GATEWAY_CLIENT_KEYS", "client-keys"),
    ("GATEWAY_ADMIN_TOKEN", "admin-token"),
    ("GATEWAY_PROXY_CREDENTIALS", "proxy-credentials"),
    ("GATEWAY_WEBHOOK_SECRET", "webhook-secret"),
    ("server.tls_certificate_file", "tls-certificate"),
    ("server.tls_key_file", "tls-key"),
];

/// A secret: no `Display`, a redacted `Debug`, wiped when dropped.
#[derive(Clone)]
pub struct Secret(SecretString);

impl Secret {
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(SecretString::from(text))
    }

    /// Returns the text. Call it only where the text is sent or compared.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// Reads the variable `name`, or the file that the variable `{name}_FILE` or the configuration names; where none of them is set,
/// the credential of that secret.
///
/// # Errors
///
/// [`Error`], when a variable and a file are both set, since it would be unclear which one counts, when the file cannot be
/// read or is empty, or when the secret is in quotes.
pub(super) fn from_environment(
    environment: &Environment,
    name: &str,
    configured_file: Option<&Path>,
) -> Result<Option<Secret>, Error> {
    let value = |name: &str| environment.get(name).filter(|value| !value.is_empty());
    let file = value(&format!("{name}_FILE")).map(PathBuf::from).or_else(|| configured_file.map(Path::to_owned));
    match (value(name), file) {
        (Some(_), Some(_)) => {
            Err(Error::invalid(name, "is set, and so is a file for the same secret; remove one of them"))
        }
        (Some(text), None) => bare(text).map(Some).map_err(|problem| Error::invalid(name, problem)),
        (None, Some(path)) => from_file(&path, name).map(Some),
        (None, None) => match credential(environment, name) {
            Some(path) => from_file(&path, name).map(Some),
            None => Ok(None),
        },
    }
}

/// Says where [`from_environment`] finds a secret; `None` where it is not set.
pub(super) fn source(environment: &Environment, name: &str, configured_file: Option<&Path>) -> Option<String> {
    let value = |name: &str| environment.get(name).filter(|value| !value.is_empty());
    if value(name).is_some() {
        return Some("set by the variable".to_owned());
    }
    let named = value(&format!("{name}_FILE")).map(|file| format!("in the file {file} ({name}_FILE)"));
    let named = named.or_else(|| configured_file.map(|file| format!("in the file {}", file.display())));
    named.or_else(|| credential(environment, name).map(|file| format!("in the credential {}", file.display())))
}

/// Reads the secret called `name` from a file, without the byte order mark and the white space around it.
///
/// # Errors
///
/// [`Error`], naming the file, or the secret where the name of the file may itself be a secret in the wrong place.
pub(super) fn from_file(path: &Path, name: &str) -> Result<Secret, Error> {
    let shown = path.display().to_string();
    let is_path = shown.contains(['/', '\\']);
    let text = std::fs::read_to_string(path).map_err(|error| {
        if is_path {
            Error::Unreadable { what: "the secret in", path: path.to_owned(), error }
        } else {
            Error::invalid(name, format!("its file cannot be read: {error}"))
        }
    })?;
    let origin = if is_path { shown } else { format!("the file of {name}") };
    match bare(&text) {
        Ok(secret) if secret.expose().is_empty() => Err(Error::invalid(origin, "is empty; it must contain the secret")),
        Ok(secret) => Ok(secret),
        Err(problem) => Err(Error::invalid(origin, problem)),
    }
}

/// Removes what editors and shells add around a secret.
///
/// # Errors
///
/// The end of a sentence, when the secret is in quotes: they may be meant or not.
fn bare(text: &str) -> Result<Secret, &'static str> {
    const BYTE_ORDER_MARK: char = '\u{feff}';
    let text = text.trim_start_matches(BYTE_ORDER_MARK).trim();
    if is_quoted(text) {
        return Err(IN_QUOTES);
    }
    Ok(Secret::new(text.to_owned()))
}

/// What is wrong with a value in quotes.
pub(super) const IN_QUOTES: &str = "is in quotes; remove them (docker's --env-file keeps quotes)";

/// Returns whether a text begins and ends with the same quote.
pub(super) fn is_quoted(text: &str) -> bool {
    text.len() > 1 && ['"', '\'', '`'].into_iter().any(|quote| text.starts_with(quote) && text.ends_with(quote))
}

/// Fails when a key could not be sent in a header as it is, or is in quotes.
///
/// # Errors
///
/// The end of a sentence that begins with the name of the key, and does not contain it.
pub(super) fn check_key(key: &str) -> Result<(), &'static str> {
    if key.is_empty() {
        return Err("is empty");
    }
    if key.starts_with(['"', '\'', '`']) || key.ends_with(['"', '\'', '`']) {
        return Err("has a quote at its start or end; remove it (docker's --env-file keeps quotes)");
    }
    if key.chars().any(char::is_whitespace) {
        return Err("contains white space");
    }
    if !key.bytes().all(|b| b.is_ascii_graphic()) {
        return Err("contains characters that are not printable ASCII");
    }
    Ok(())
}

/// Returns the file of the credential that stands in for a secret, if there is one.
pub(super) fn credential(environment: &Environment, secret: &str) -> Option<PathBuf> {
    let (_, name) = CREDENTIALS.iter().find(|(of, _)| *of == secret)?;
    let directory = environment.get(CREDENTIALS_DIRECTORY).filter(|directory| !directory.is_empty())?;
    let file = PathBuf::from(directory).join(name);
    file.exists().then_some(file)
}

/// Returns the credentials that there are.
pub(crate) fn found_credentials(environment: &Environment) -> Vec<PathBuf> {
    CREDENTIALS.iter().filter_map(|(secret, _)| credential(environment, secret)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::{load, refusal};
    use super::super::{Config, digest_of_key};
    use super::*;

    #[test]
    fn secrets_are_text_and_do_not_print() {
        let variables = [("GPTPROTO_API_KEY", "1234567890"), ("GATEWAY_CLIENT_KEYS", "alice:0123456789abcdef")];
        let config = load("", &variables).unwrap();
        config.require_keys().unwrap();
        assert_eq!(config.accounts[0].key.expose(), "1234567890");
        let printed = format!("{config:?}");
        assert!(!printed.contains("1234567890") && !printed.contains("0123456789abcdef"), "{printed}");
    }

    #[test]
    fn a_variable_and_a_file_at_once_are_refused() {
        let error = refusal("", &[("GPTPROTO_API_KEY", "sk-1"), ("GPTPROTO_API_KEY_FILE", "/run/secrets/key")]);
        assert!(error.starts_with("GPTPROTO_API_KEY: is set, and so is a file"), "{error}");
        let error = refusal("", &[("GPTPROTO_API_KEY_FILE", "/nowhere/key")]);
        assert!(error.starts_with("cannot read the secret in /nowhere/key: "), "{error}");
    }

    #[test]
    fn a_key_in_place_of_a_file_is_not_repeated() {
        for (variables, toml) in [
            (&[("GPTPROTO_API_KEY_FILE", "sk-hunter2")][..], ""),
            (&[("GPTPROTO_API_KEY", "sk-1"), ("GPTPROTO_API_KEY_FILE", "sk-hunter2")], ""),
            (&[], "[upstream]\napi_key_file = \"sk-hunter2\""),
            (&[], "[[upstream.accounts]]\nname = \"one\"\napi_key_file = \"sk-hunter2\""),
        ] {
            let error = refusal(toml, variables);
            assert!(!error.contains("hunter2"), "{error}");
            assert!(error.contains("GPTPROTO_API_KEY") || error.contains("upstream.accounts"), "{error}");
        }
    }

    #[test]
    fn what_editors_add_to_a_key_is_removed_or_refused_by_name() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().display().to_string();
        let load_file = |bytes: &str| {
            std::fs::write(file.path(), bytes).unwrap();
            let variables = [("GPTPROTO_API_KEY_FILE".to_owned(), path.clone())];
            Config::load(None, &variables.into()).map_err(|error| error.to_string())
        };
        for text in ["sk-1", "sk-1\n", "\u{feff}sk-1\r\n", "  sk-1\n\n", "Bearer sk-1\n"] {
            assert_eq!(load_file(text).unwrap().accounts[0].key.expose(), "sk-1", "{text:?}");
        }
        for (text, problem) in [
            ("\"sk-hunter2\"", "quotes"),
            ("'sk-hunter2'\n", "quotes"),
            ("\"sk-hunter2", "quote"),
            ("sk-hunter2 sk-2", "white space"),
            ("sk-hunter2\nsk-2\n", "white space"),
            ("sk-hunter2\u{200b}", "not printable ASCII"),
            ("", "is empty"),
            ("\u{feff}\n", "is empty"),
        ] {
            let error = load_file(text).unwrap_err();
            assert!(
                error.contains(problem) && (error.contains(&path) || error.contains("default")),
                "{text:?}: {error}"
            );
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn a_secret_in_quotes_is_refused_wherever_it_is() {
        for (name, value) in [
            ("GPTPROTO_API_KEY", "\"sk-hunter2\""),
            ("GPTPROTO_API_KEYS", "'one:sk-hunter2'"),
            ("GPTPROTO_API_KEYS", "one:'sk-hunter2'"),
            ("GATEWAY_CLIENT_KEYS", "\"alice:hunter2-hunter2-hunter2\""),
            ("GATEWAY_CLIENT_KEYS", "alice:\"hunter2-hunter2-hunter2\""),
            ("GATEWAY_WEBHOOK_SECRET", "\"whsec_hunter2\""),
            ("GATEWAY_PROXY_CREDENTIALS", "'me:hunter2'"),
        ] {
            let error = refusal("", &[(name, value)]);
            assert!(error.contains("quote") && !error.contains("hunter2"), "{name}: {error}");
        }
    }

    const API_KEY: &str = "sk-from-a-credential";
    const CLIENT_KEY: &str = "client-key-from-a-credential";

    /// A folder with all credentials that one configuration can have, and a variable for it beside others.
    fn with_credentials(changes: &[(&str, &str)]) -> Result<Config, Error> {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("gptproto-api-key", format!("{API_KEY}\n")),
            ("gptproto-api-keys", "second:sk-second".to_owned()),
            ("client-keys", format!("alice:{CLIENT_KEY}")),
            ("admin-token", "admin-token-from-a-credential".to_owned()),
            ("proxy-credentials", "user:hunter2".to_owned()),
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
            (CREDENTIALS_DIRECTORY, directory.path().to_str().unwrap()),
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
        let config = with_credentials(&[]).unwrap();
        config.require_keys().unwrap();
        assert_eq!(keys(&config), [API_KEY, "sk-second"]);
        assert_eq!(config.clients.entries[0].key_digest, digest_of_key(CLIENT_KEY));
        assert_eq!(config.operator.admin_token.as_ref().unwrap().expose(), "admin-token-from-a-credential");
        let (certificate, key) = config.server.tls.files().unwrap();
        assert!(certificate.ends_with("tls-certificate") && key.ends_with("tls-key"));
        let printed = format!("{config:?}");
        assert!(!printed.contains("from-a-credential") && !printed.contains("hunter2"), "{printed}");
    }

    #[test]
    fn what_is_set_otherwise_comes_first() {
        assert_eq!(keys(&with_credentials(&[("GPTPROTO_API_KEY", "sk-set")]).unwrap()), ["sk-set", "sk-second"]);
        assert_eq!(
            keys(&with_credentials(&[("GPTPROTO_API_KEY_FILE", "FILE")]).unwrap()),
            ["sk-from-a-file", "sk-second"]
        );
        assert_eq!(
            keys(&with_credentials(&[("GATEWAY_UPSTREAM__API_KEY_FILE", "FILE")]).unwrap()),
            ["sk-from-a-file", "sk-second"]
        );
        let config = with_credentials(&[("GATEWAY_SERVER__TLS_CERTIFICATE_FILE", "mine.pem")]).unwrap();
        let (certificate, key) = config.server.tls.files().unwrap();
        assert!(certificate.ends_with("mine.pem") && key.ends_with("tls-key"), "{certificate:?} {key:?}");
    }

    #[test]
    fn a_missing_credential_is_no_error_and_a_wrong_one_names_its_file() {
        let config = with_credentials(&[("gptproto-api-keys", ""), ("tls-key", ""), ("tls-certificate", "")]).unwrap();
        assert_eq!(keys(&config), [API_KEY]);
        assert!(config.server.tls.files().is_none());
        let error = with_credentials(&[("tls-key", "")]).unwrap_err().to_string();
        assert!(error.starts_with("server.tls_key_file: "), "{error}");
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("gptproto-api-key"), "\"sk-hunter2\"").unwrap();
        let environment = [(CREDENTIALS_DIRECTORY.to_owned(), directory.path().to_str().unwrap().to_owned())].into();
        let error = Config::load(None, &environment).unwrap_err().to_string();
        assert!(
            error.contains("gptproto-api-key") && error.contains("quotes") && !error.contains("hunter2"),
            "{error}"
        );
        let shown = source(&environment, "GPTPROTO_API_KEY", None).unwrap();
        assert!(shown.starts_with("in the credential ") && shown.ends_with("/gptproto-api-key"), "{shown}");
        assert_eq!(found_credentials(&environment), [directory.path().join("gptproto-api-key")]);
    }
}
