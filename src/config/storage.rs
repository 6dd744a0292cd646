//! `[storage]`, what is kept on disk, and `[cache]`, which stored results are used again.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::upstream::Switch;
use super::{Error, seconds};

/// `[storage]`: journal, results, spool.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StorageConfig {
    pub(crate) directory: PathBuf,
    #[serde(rename = "lock_wait_s", deserialize_with = "seconds")]
    pub(crate) lock_wait: Duration,
    pub(crate) spool_memory_bytes: usize,
    pub(crate) spool_memory_bytes_max: u64,
    pub(crate) spool_bytes_max: u64,
    #[serde(rename = "spool_wait_s", deserialize_with = "seconds")]
    pub(crate) spool_wait: Duration,
    pub(crate) spool_waiters_max: usize,
    #[serde(rename = "results_ttl_s", deserialize_with = "seconds")]
    pub(crate) results_ttl: Duration,
    pub(crate) results_bytes_max: u64,
    pub(crate) journal_picture_bytes_max: u64,
    pub(crate) free_bytes_min: u64,
    pub(crate) keep_prompts: Switch,
    #[serde(rename = "eviction_interval_s", deserialize_with = "seconds")]
    pub(crate) eviction_interval: Duration,
    /// A start with pictures and without their journal is allowed. Not a key: it is decided for one start.
    #[serde(skip)]
    pub(crate) accept_new_journal: bool,
}

impl StorageConfig {
    /// Fails when the directory has no name: the journal would be in whichever folder the gateway was started in.
    pub(super) fn check(&self) -> Result<(), Error> {
        if self.directory.as_os_str().to_string_lossy().trim().is_empty() {
            return Err(Error::invalid("storage.directory", "is empty; it must name a folder, such as \"./data\""));
        }
        Ok(())
    }

    /// The folder of the sandbox, so that simulated pictures never mix with paid ones.
    pub(crate) fn sandbox(&self) -> PathBuf {
        self.directory.join("sandbox")
    }
}

/// `[cache]`: reuse of results.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CacheConfig {
    pub(crate) mode: CacheMode,
    #[serde(rename = "ttl_s", deserialize_with = "seconds")]
    pub(crate) ttl: Duration,
    pub(crate) memory_bytes_max: u64,
    pub(crate) memory_picture_bytes_max: u64,
    pub(crate) thumbnail_bytes_max: u64,
}

/// Whether identical requests share a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum CacheMode {
    On,
    Off,
}

#[cfg(test)]
mod tests {
    use super::super::tests::refusal;

    #[test]
    fn an_unknown_mode_is_refused() {
        assert!(refusal("[cache]\nmode = \"perhaps\"", &[]).contains("cache.mode: must be \"on\" or \"off\""));
    }

    #[test]
    fn a_directory_without_a_name_is_refused() {
        for directory in ["", " "] {
            let error = refusal(&format!("[storage]\ndirectory = {directory:?}"), &[]);
            assert!(error.starts_with("storage.directory: is empty"), "{error}");
        }
        assert!(refusal("", &[("GATEWAY_STORAGE__DIRECTORY", "")]).starts_with("storage.directory: is empty"));
    }
}
