//! Who is running and how it stops.
//!
//! Two words reach every task: *draining* (start nothing new, finish what can be finished) and *abort* (end now).
//! A task that panics starts the drain: a gateway without its poller must not keep accepting paid work.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

pub mod serve;

/// Handle by which parts start tasks and learn that the process is stopping. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Lifecycle {
    draining: CancellationToken,
    abort: CancellationToken,
    failed: Arc<AtomicBool>,
    tasks: TaskTracker,
}

impl Lifecycle {
    /// Starts a tracked task. It ends by itself, or when the process aborts.
    pub fn spawn<F>(&self, name: &'static str, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let abort = self.abort.clone();
        let alarm = PanicAlarm {
            lifecycle: self.clone(),
            name,
            armed: true,
        };
        self.tasks.spawn(
            async move {
                let mut alarm = alarm;
                abort.run_until_cancelled(task).await;
                alarm.armed = false;
            }
            .instrument(tracing::debug_span!("task", name)),
        );
    }

    /// Resolves once the process has begun to stop.
    pub async fn draining(&self) {
        self.draining.cancelled().await;
    }

    /// Whether the process has begun to stop.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining.is_cancelled()
    }

    /// Begins the stop: nothing new is started from here on.
    pub fn start_draining(&self) {
        self.draining.cancel();
    }

    /// Whether a task has panicked, which makes the exit code a failure.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    /// Drains: waits at most `grace` for all tasks, then aborts the rest. Returns whether all ended in time.
    pub async fn drain(&self, grace: Duration) -> bool {
        self.draining.cancel();
        self.tasks.close();
        let in_time = tokio::time::timeout(grace, self.tasks.wait()).await.is_ok();
        self.abort.cancel();
        self.tasks.wait().await;
        in_time
    }
}

/// Starts the drain when it is dropped by an unwinding task.
struct PanicAlarm {
    lifecycle: Lifecycle,
    name: &'static str,
    armed: bool,
}

impl Drop for PanicAlarm {
    fn drop(&mut self) {
        // An aborted runtime drops tasks too; only unwinding counts as a failure.
        if self.armed && std::thread::panicking() {
            tracing::error!(task = self.name, "task panicked; the gateway stops");
            self.lifecycle.failed.store(true, Ordering::Relaxed);
            self.lifecycle.draining.cancel();
        }
    }
}

/// Resolves on the first SIGTERM or Ctrl-C.
///
/// # Panics
///
/// When the process cannot install a signal handler, which only happens without a running runtime.
pub async fn stop_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).expect("the runtime is running");
    let mut interrupt = signal(SignalKind::interrupt()).expect("the runtime is running");
    tokio::select! {
        _ = terminate.recv() => tracing::info!(signal = "SIGTERM", "stopping"),
        _ = interrupt.recv() => tracing::info!(signal = "SIGINT", "stopping"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn drain_waits_for_tasks_that_finish() {
        let lifecycle = Lifecycle::default();
        let inner = lifecycle.clone();
        lifecycle.spawn("polite", async move { inner.draining().await });
        assert!(lifecycle.drain(Duration::from_secs(5)).await);
        assert!(!lifecycle.has_failed());
    }

    #[tokio::test]
    async fn drain_aborts_tasks_that_do_not() {
        let lifecycle = Lifecycle::default();
        lifecycle.spawn("stubborn", std::future::pending());
        assert!(!lifecycle.drain(Duration::from_millis(10)).await);
    }

    #[tokio::test]
    async fn a_panicking_task_starts_the_drain() {
        let lifecycle = Lifecycle::default();
        lifecycle.spawn("broken", async { panic!("on purpose") });
        lifecycle.draining().await;
        assert!(lifecycle.has_failed());
    }
}
