//! The files that `init` writes: the configuration, and the upstream key beside it. Only the user can read them.

use std::fs::DirBuilder;
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use toml::Value;

use crate::config::{NewKey, Secret};

/// The file of the upstream key, beside the configuration. Where that is not named `config`, its name comes before.
const KEY_FILE: &str = "upstream-key";
/// Folders that are made for the files.
const FOLDER_MODE: u32 = 0o700;

/// A configuration that is to be written.
#[derive(Debug)]
pub(super) struct NewConfig<'a> {
    pub(super) file: &'a Path,
    pub(super) storage: &'a Path,
    /// Another one than the default.
    pub(super) base_url: Option<&'a str>,
    /// The first client.
    pub(super) name: &'a str,
    pub(super) upstream_key: &'a Secret,
    pub(super) client_key: &'a NewKey,
}

/// Returns the file of the upstream key for a configuration.
pub(super) fn key_file(config: &Path) -> PathBuf {
    let stem = config.file_stem().map(|stem| stem.to_string_lossy()).filter(|stem| stem != "config");
    config.with_file_name(stem.map_or_else(|| KEY_FILE.to_owned(), |stem| format!("{stem}.{KEY_FILE}")))
}

/// Writes both files with mode 0600. Returns the file of the upstream key.
///
/// # Errors
///
/// Which file could not be written, and why.
pub(super) fn write(new: &NewConfig<'_>) -> Result<PathBuf, String> {
    let file = std::path::absolute(new.file).unwrap_or_else(|_| new.file.to_owned());
    let folder = file.parent().ok_or_else(|| format!("{} is no name of a file", file.display()))?;
    let made = DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(folder);
    made.map_err(|error| format!("{} cannot be made: {error}", folder.display()))?;
    let key_file = key_file(&file);
    let text = text(new, &key_file)?;
    replace(&key_file, &format!("{}\n", new.upstream_key.expose()))?;
    replace(&file, &text)?;
    Ok(key_file)
}

fn text(new: &NewConfig<'_>, key_file: &Path) -> Result<String, String> {
    let base_url = new.base_url.map(|url| format!("base_url = {}\n", toml_string(url))).unwrap_or_default();
    Ok(format!(
        "# Written by `gptproto-gateway init`. `gptproto-gateway check` tests it; config/default.toml in the source has every \
         key.\n\n\
         [upstream]\n{base_url}api_key_file = {}\n\n\
         [storage]\ndirectory = {}\n\n\
         # `gptproto-gateway keys new` makes more of them.\n\
         [[clients]]\nname = {}\nkey_digest = {}\n",
        toml_path(key_file)?,
        toml_path(new.storage)?,
        toml_string(new.name),
        toml_string(&new.client_key.digest),
    ))
}

fn toml_path(path: &Path) -> Result<String, String> {
    path.to_str().map(toml_string).ok_or_else(|| format!("{}: the name is not UTF-8", path.display()))
}

fn toml_string(text: &str) -> String {
    Value::String(text.to_owned()).to_string()
}

/// Writes a file whole or not at all, with mode 0600.
fn replace(path: &Path, text: &str) -> Result<(), String> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let written = tempfile::NamedTempFile::new_in(folder).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)
    });
    written.map(drop).map_err(|error| format!("{} cannot be written: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::config::{Config, Environment, mint_key};

    #[test]
    fn the_files_are_private_and_make_a_configuration() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a \"b\"/c/config.toml");
        let client_key = mint_key("me", [7; 24]).unwrap();
        let new = NewConfig {
            file: &file,
            storage: &folder.path().join("data"),
            base_url: Some("http://127.0.0.1:9"),
            name: "me",
            upstream_key: &Secret::new("sk-upstream".to_owned()),
            client_key: &client_key,
        };
        let key_file = write(&new).unwrap();
        for (path, mode) in [(&file, 0o600), (&key_file, 0o600), (&file.parent().unwrap().to_owned(), 0o700)] {
            assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, mode, "{}", path.display());
        }
        let config = Config::load(Some(&file), &Environment::new()).unwrap();
        config.require_keys().unwrap();
        assert_eq!(config.accounts[0].key.expose(), "sk-upstream");
        assert_eq!(config.storage.directory, folder.path().join("data"));
        assert!(
            !std::fs::read_to_string(&file).unwrap().contains(client_key.key.expose()),
            "the key is a digest there"
        );
    }
}
