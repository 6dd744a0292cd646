//! Secrets: keys that are never printed, and where they are read from.

use std::fmt;
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};

use super::{Environment, Error, credentials};

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
        (None, None) => match credentials::file(environment, name) {
            Some(path) => from_file(&path, name).map(Some),
            None => Ok(None),
        },
    }
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

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::super::tests::{load, refusal};

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
}
