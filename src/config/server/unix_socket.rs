//! A second listener: a socket in the file system.

use std::path::Path;

use serde::Deserialize;

use super::{Error, invalid};

/// The longest path of a socket on Linux, without its terminating zero.
const SOCKET_PATH_MAX: usize = 107;

/// Permissions of a file, as `chmod` takes them: three or four octal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct FileMode(pub(crate) u32);

/// Why a text is not a mode.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} must be three or four octal digits from 000 to 0777, such as \"0600\" or \"0660\"")]
pub(crate) struct InvalidFileMode(String);

impl TryFrom<String> for FileMode {
    type Error = InvalidFileMode;

    fn try_from(text: String) -> Result<Self, InvalidFileMode> {
        match u32::from_str_radix(&text, 8) {
            Ok(mode) if mode <= 0o777 && (3..=4).contains(&text.len()) => Ok(Self(mode)),
            Ok(_) | Err(_) => Err(InvalidFileMode(text)),
        }
    }
}

/// Checks the length of the socket's path.
///
/// # Errors
///
/// [`Error::Invalid`], naming the key and the longest path.
pub(super) fn check_path(path: &Path) -> Result<(), Error> {
    if path.as_os_str().len() > SOCKET_PATH_MAX {
        return Err(invalid("unix_socket", format!("must be a path of at most {SOCKET_PATH_MAX} bytes")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::refusal;

    #[test]
    fn modes_are_octal() {
        let mode = |text: &str| FileMode::try_from(text.to_owned()).map(|FileMode(mode)| mode);
        assert_eq!(mode("0600"), Ok(0o600));
        assert_eq!(mode("660"), Ok(0o660));
        for bad in ["", "6", "0o600", "0888", "rw-------", "00600", "1600", "-600"] {
            assert!(mode(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn mistakes_name_the_key() {
        for mode in ["rw", "1777"] {
            let error = refusal(&format!("[server]\nunix_socket_mode = {mode:?}"), &[]);
            assert!(error.contains("server.unix_socket_mode"), "{error}");
        }
        let error = refusal(&format!("[server]\nunix_socket = \"/{}\"", "x".repeat(107)), &[]);
        assert!(error.starts_with("server.unix_socket: must be a path of at most 107 bytes"), "{error}");
    }
}
