//! Text that must not be seen.

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

    /// The text itself; call it only where it is used.
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

/// Reads `NAME`, or the file that `NAME_FILE` or the configuration names. Two sources at once are an error, because
/// nobody could tell which one is in force.
pub(super) fn from_environment(
    environment: &Environment,
    name: &str,
    configured_file: Option<&Path>,
) -> Result<Option<Secret>, Error> {
    let file_variable = format!("{name}_FILE");
    let set = |name: &str| environment.get(name).filter(|value| !value.is_empty());
    let file = set(&file_variable).map(PathBuf::from).or_else(|| configured_file.map(Path::to_owned));
    match (set(name), file) {
        (Some(_), Some(file)) => {
            Err(Error::invalid(name, format!("is set and so is the file {}; remove one of them", file.display())))
        }
        (Some(text), None) => Ok(Some(Secret::new(text.trim().to_owned()))),
        (None, Some(path)) => {
            let text = std::fs::read_to_string(&path).map_err(|error| Error::Unreadable {
                what: "the secret in",
                path: path.clone(),
                error,
            })?;
            Ok(Some(Secret::new(text.trim().to_owned())))
        }
        (None, None) => Ok(None),
    }
}
