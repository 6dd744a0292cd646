//! File operations off the runtime's threads, and what to do when no file descriptor is left.

use std::io;
use std::time::Duration;

use rustix::io::Errno;
use tokio::time::Instant;

/// How long an operation waits for a descriptor, and the interval of its retries.
const DESCRIPTOR_WAIT: Duration = Duration::from_mins(1);
const RETRY_INTERVAL: Duration = Duration::from_millis(50);

/// Returns whether a file could not be opened because the process or the machine has no descriptor left.
pub(super) fn is_out_of_descriptors(error: &io::Error) -> bool {
    Errno::from_io_error(error).is_some_and(|errno| matches!(errno, Errno::MFILE | Errno::NFILE))
}

/// Runs work that blocks on a thread for such work.
///
/// # Errors
///
/// Those of the work.
pub(super) async fn blocking<T, F>(work: F) -> io::Result<T>
where
    T: Send + 'static,
    F: FnOnce() -> io::Result<T> + Send + 'static,
{
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

/// Runs work that blocks and opens a file; repeats the work for up to a minute while no descriptor is left. No thread
/// is occupied between two attempts.
///
/// # Errors
///
/// Those of the work.
pub(super) async fn blocking_with_descriptor<T, F>(work: F) -> io::Result<T>
where
    T: Send + 'static,
    F: FnOnce() -> io::Result<T> + Clone + Send + 'static,
{
    let deadline = Instant::now() + DESCRIPTOR_WAIT;
    loop {
        match blocking(work.clone()).await {
            Err(error) if is_out_of_descriptors(&error) && Instant::now() < deadline => {
                tokio::time::sleep(RETRY_INTERVAL).await;
            }
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Returns the outcome of work that fails with `error` before attempt `succeeds_at`, and the number of attempts.
    async fn attempts(error: Errno, succeeds_at: usize) -> (io::Result<()>, usize) {
        let attempts = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&attempts);
        let work = move || {
            let attempt = count.fetch_add(1, Ordering::Relaxed) + 1;
            if attempt < succeeds_at { Err(io::Error::from(error)) } else { Ok(()) }
        };
        (blocking_with_descriptor(work).await, attempts.load(Ordering::Relaxed))
    }

    #[tokio::test(start_paused = true)]
    async fn work_is_repeated_while_no_descriptor_is_left() {
        assert!(matches!(attempts(Errno::MFILE, 3).await, (Ok(()), 3)));
        let (outcome, count) = attempts(Errno::NFILE, usize::MAX).await;
        assert!(outcome.is_err() && count > 1000, "{count} attempts in a minute");
    }

    #[tokio::test]
    async fn work_is_not_repeated_after_other_errors() {
        assert!(matches!(attempts(Errno::NOSPC, 3).await, (Err(_), 1)));
    }
}
