//! Secrets: keys that are never printed, and where they are read from.

use std::fmt;
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};

use super::{Environment, Error};

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

/// Reads the variable `name`, or the file that the variable `{name}_FILE` or the configuration names.
///
/// # Errors
///
/// [`Error`], when a variable and a file are both set, since it would be unclear which one counts, or when the file
/// cannot be read.
pub(super) fn from_environment(
    environment: &Environment,
    name: &str,
    configured_file: Option<&Path>,
) -> Result<Option<Secret>, Error> {
    let value = |name: &str| environment.get(name).filter(|value| !value.is_empty());
    let file = value(&format!("{name}_FILE")).map(PathBuf::from).or_else(|| configured_file.map(Path::to_owned));
    match (value(name), file) {
        (Some(_), Some(file)) => {
            Err(Error::invalid(name, format!("is set, and so is the file {}; remove one of them", file.display())))
        }
        (Some(text), None) => Ok(Some(Secret::new(text.trim().to_owned()))),
        (None, Some(path)) => from_file(&path).map(Some),
        (None, None) => Ok(None),
    }
}

/// Reads a secret from a file, without the white space around it.
///
/// # Errors
///
/// [`Error::Unreadable`], naming the file.
pub(super) fn from_file(path: &Path) -> Result<Secret, Error> {
    let text = std::fs::read_to_string(path);
    let text = text.map_err(|error| Error::Unreadable { what: "the secret in", path: path.to_owned(), error })?;
    Ok(Secret::new(text.trim().to_owned()))
}

#[cfg(test)]
mod tests {
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
        assert!(error.starts_with("GPTPROTO_API_KEY: is set, and so is the file /run/secrets/key"), "{error}");
        let error = refusal("", &[("GPTPROTO_API_KEY_FILE", "/nowhere/key")]);
        assert!(error.starts_with("cannot read the secret in /nowhere/key: "), "{error}");
    }
}
