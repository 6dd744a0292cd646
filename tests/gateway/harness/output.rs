//! Files for `tests/canary/scan.py`, below the folder that `GATEWAY_TEST_OUTPUT` names: directories of gateways, logs of those
//! in this process at level trace, pages, and responses. Nothing is kept when it is not set.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::PathBuf;
use std::sync::{Mutex, Once};

use tempfile::TempDir;

/// A directory for one gateway.
pub(super) fn directory() -> TempDir {
    match folder() {
        Some(folder) => tempfile::Builder::new().prefix("gateway-").disable_cleanup(true).tempdir_in(folder).unwrap(),
        None => tempfile::tempdir().unwrap(),
    }
}

/// Keeps bytes that are visible from outside.
pub(super) fn keep(kind: &str, bytes: &[u8]) {
    if let Some(mut file) = file(kind) {
        file.write_all(&[bytes, b"\n"].concat()).unwrap();
    }
}

/// Keeps everything that is logged from now on. Takes effect once in a process.
pub(super) fn keep_logs() {
    static STARTED: Once = Once::new();
    STARTED.call_once(|| {
        if let Some(file) = file("logs") {
            let builder = tracing_subscriber::fmt().json().with_max_level(tracing::Level::TRACE);
            builder.with_writer(Mutex::new(file)).init();
        }
    });
}

/// Opens a file of this process for appending.
fn file(kind: &str) -> Option<File> {
    let path = folder()?.join(format!("{kind}-{}", std::process::id()));
    Some(OpenOptions::new().create(true).append(true).open(path).unwrap())
}

fn folder() -> Option<PathBuf> {
    let folder = PathBuf::from(std::env::var_os("GATEWAY_TEST_OUTPUT").filter(|folder| !folder.is_empty())?);
    std::fs::create_dir_all(&folder).unwrap();
    Some(folder)
}
