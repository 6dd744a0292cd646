//! Which file the configuration is read from: a named one, else one at a usual place.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::config::{Environment, Error};

/// The file in the working directory.
const LOCAL: &str = "gptproto-gateway.toml";
/// The user's file, below the folders of [`folders`].
const USERS: &str = "gptproto-gateway/config.toml";
/// Writable by every user of the machine.
const OTHERS_WRITE: u32 = 0o002;

/// The file of a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigLocation {
    pub path: PathBuf,
    /// It was not named: it stands at a usual place.
    pub is_found: bool,
}

/// Finds the configuration file: `named` (`--config`), else the one that `GATEWAY_CONFIG` names, else one in the working
/// directory, else one in the user's configuration folder.
///
/// # Errors
///
/// [`Error::Invalid`], when a file that was not named belongs to another user, or any user may change it: it could send
/// the upstream key to an address of that user's choice.
pub fn find_file(named: Option<&Path>, environment: &Environment) -> Result<Option<ConfigLocation>, Error> {
    let variable = || environment.get("GATEWAY_CONFIG").map(PathBuf::from);
    if let Some(path) = named.map(Path::to_owned).or_else(variable) {
        return Ok(Some(ConfigLocation { path, is_found: false }));
    }
    let usual = [PathBuf::from(LOCAL)].into_iter().chain(user_files(environment));
    let Some((path, metadata)) = usual.into_iter().find_map(|path| Some((path.clone(), fs::metadata(path).ok()?)))
    else {
        return Ok(None);
    };
    let owner = metadata.uid();
    let problem = if owner != 0 && owner != rustix::process::geteuid().as_raw() {
        "belongs to another user"
    } else if metadata.mode() & OTHERS_WRITE != 0 {
        "may be changed by every user of this machine"
    } else {
        let path = std::path::absolute(&path).unwrap_or(path);
        return Ok(Some(ConfigLocation { path, is_found: true }));
    };
    Err(Error::invalid(path.display().to_string(), format!("{problem}; name it with --config to use it all the same")))
}

/// Where a new configuration belongs.
#[derive(Debug)]
pub(crate) struct SetupPaths {
    /// `None`: the environment names no folder for it.
    pub(crate) config: Option<PathBuf>,
    /// The folder for the journal and the pictures.
    pub(crate) storage: PathBuf,
}

/// Returns where a new configuration and its data belong: `named`, else the file that `GATEWAY_CONFIG` names, else the user's.
/// Another file than the user's has data of its own, by its name: two gateways cannot share a folder.
pub(crate) fn setup_paths(named: Option<&Path>, environment: &Environment) -> SetupPaths {
    let variable = || environment.get("GATEWAY_CONFIG").map(PathBuf::from);
    let users = user_files(environment).into_iter().next();
    let config = named.map(Path::to_owned).or_else(variable).or_else(|| users.clone());
    let other = config.as_ref().filter(|config| std::path::absolute(config).ok() != users);
    let stem = other.and_then(|config| config.file_stem()).map(|stem| format!("-{}", stem.to_string_lossy()));
    let name = format!("gptproto-gateway{}", stem.unwrap_or_default());
    let folder = |name: &str| environment.get(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let data = folder("XDG_DATA_HOME").or_else(|| Some(folder("HOME")?.join(".local/share")));
    let local = || std::path::absolute("data").unwrap_or_else(|_| PathBuf::from("data"));
    SetupPaths { config, storage: data.map_or_else(local, |data| data.join(name)) }
}

/// Returns where the user's configuration file is looked for, and the first of them is where a new one belongs.
fn user_files(environment: &Environment) -> Vec<PathBuf> {
    folders(environment).into_iter().map(|folder| folder.join(USERS)).collect()
}

fn folders(environment: &Environment) -> Vec<PathBuf> {
    let folder = |name: &str| environment.get(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let home = folder("HOME");
    let usual = folder("XDG_CONFIG_HOME").or_else(|| Some(home.clone()?.join(".config")));
    let of_macos = home.filter(|_| cfg!(target_os = "macos")).map(|home| home.join("Library/Application Support"));
    usual.into_iter().chain(of_macos).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn found(variables: &[(&str, &Path)]) -> Result<Option<ConfigLocation>, Error> {
        let text = |path: &Path| path.display().to_string();
        find_file(None, &variables.iter().map(|(name, path)| ((*name).to_owned(), text(path))).collect())
    }

    #[test]
    fn the_users_file_is_found_unless_another_is_named() {
        let home = tempfile::tempdir().unwrap();
        assert_eq!(found(&[("HOME", home.path())]).unwrap(), None);
        let file = home.path().join(".config").join(USERS);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, "").unwrap();
        let location = ConfigLocation { path: file.clone(), is_found: true };
        assert_eq!(found(&[("HOME", home.path())]).unwrap(), Some(location));
        assert_eq!(found(&[("HOME", home.path()), ("XDG_CONFIG_HOME", Path::new("/nowhere"))]).unwrap(), None);
        let named = found(&[("HOME", home.path()), ("GATEWAY_CONFIG", Path::new("other.toml"))]).unwrap().unwrap();
        assert_eq!((named.path, named.is_found), (PathBuf::from("other.toml"), false));
        assert_eq!(found(&[]).unwrap(), None, "no folder of the machine is known without the environment");

        fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
        let error = found(&[("HOME", home.path())]).unwrap_err().to_string();
        assert!(error.contains("may be changed by every user") && !error.contains('\n'), "{error}");
    }
}
