//! Resource limits and protections of this process.

use rustix::fs::Mode;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit, umask};

/// macOS refuses a higher limit of open files, although it reports none.
const MACOS_OPEN_MAX: u64 = 10_240;

/// Protects what is in memory and on disk from other users, and raises the limit of open files as far as allowed.
///
/// A core dump would contain keys, prompts and pictures: none is written, and on Linux other processes of the same user may
/// not read the memory of this one. Files and directories are made for their owner alone, whatever the inherited umask.
pub fn harden() {
    if let Err(error) = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) }) {
        tracing::warn!(%error, "core dumps could not be disabled by a resource limit");
    }
    make_undumpable();
    umask(Mode::RWXG | Mode::RWXO);
    raise_open_files();
}

#[cfg(target_os = "linux")]
fn make_undumpable() {
    use rustix::process::{DumpableBehavior, set_dumpable_behavior};
    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        tracing::warn!(%error, "core dumps could not be disabled for this process");
    }
}

#[cfg(not(target_os = "linux"))]
fn make_undumpable() {}

fn raise_open_files() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised =
        if cfg!(target_os = "macos") { Some(maximum.unwrap_or(MACOS_OPEN_MAX).min(MACOS_OPEN_MAX)) } else { maximum };
    // `None` is no limit.
    let is_higher = current.is_some_and(|current| raised.is_none_or(|raised| raised > current));
    if is_higher && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: raised, maximum }) {
        tracing::warn!(%error, "the limit of open files could not be raised; fewer connections may be accepted");
    }
}
