//! Who is running and how it stops.
//!
//! Four words, in this order: *draining* (start nothing new), *stop* (listeners close), *closing* (whoever still waits
//! is answered now), *abort* (end now). A task that panics starts the drain: a gateway without its poller must not keep
//! accepting paid work.
//!
//! Tasks are of two kinds. What [`Lifecycle::spawn`] starts is waited for, within the grace. What
//! [`Lifecycle::spawn_service`] starts runs until everything else has ended.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

pub mod process;

/// Handle by which parts start tasks and learn that the process is stopping. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Lifecycle {
    // One count for a clone: each of these has a lock or a count of its own, and every request makes clones.
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    draining: CancellationToken,
    stop: CancellationToken,
    closing: CancellationToken,
    abort: CancellationToken,
    failed: AtomicBool,
    tasks: TaskTracker,
    services: TaskTracker,
}

/// How long a drain takes.
#[derive(Clone, Copy, Debug)]
pub struct Grace {
    /// Listeners stay open for this long, because whoever sends traffic learns of the stop only by and by.
    pub delay: Duration,
    /// From then on, what runs may finish within this.
    pub finish: Duration,
}

/// Of the grace, the part that is left for writing the last answers.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

impl Lifecycle {
    /// Starts a task that the drain waits for. It ends by itself, or when the process aborts.
    pub fn spawn<F>(&self, name: &'static str, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.shared.tasks.spawn(self.guarded(name, task));
    }

    /// Starts a task that runs for as long as there is a process, such as a scheduler.
    pub fn spawn_service<F>(&self, name: &'static str, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.shared.services.spawn(self.guarded(name, task));
    }

    fn guarded<F>(&self, name: &'static str, task: F) -> impl Future<Output = ()> + Send + 'static
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let abort = self.shared.abort.clone();
        let alarm = PanicAlarm { lifecycle: self.clone(), name, armed: true };
        async move {
            let mut alarm = alarm;
            abort.run_until_cancelled(task).await;
            alarm.armed = false;
        }
        .instrument(tracing::debug_span!("task", name))
    }

    /// Resolves once the process has begun to stop.
    pub async fn draining(&self) {
        self.shared.draining.cancelled().await;
    }

    /// Whether the process has begun to stop.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.shared.draining.is_cancelled()
    }

    /// Begins the stop: nothing new is started from here on.
    pub fn start_draining(&self) {
        self.shared.draining.cancel();
    }

    /// Whether a task has panicked, which makes the exit code a failure.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.shared.failed.load(Ordering::Relaxed)
    }

    /// Ends every task where it stands, as a crash would.
    #[cfg(test)]
    pub(crate) async fn crash(&self) {
        self.shared.abort.cancel();
        self.shared.tasks.close();
        self.shared.services.close();
        self.shared.tasks.wait().await;
        self.shared.services.wait().await;
    }

    /// Cancelled when listeners are to close.
    #[must_use]
    pub fn stop_token(&self) -> CancellationToken {
        self.shared.stop.clone()
    }

    /// Resolves when whoever still waits must be answered now.
    pub async fn closing(&self) {
        self.shared.closing.cancelled().await;
    }

    /// Drains: announces the stop, closes the listeners, waits for tasks, has waiters answered, aborts the rest.
    /// Returns whether all ended in time.
    pub async fn drain(&self, grace: Grace) -> bool {
        self.shared.draining.cancel();
        tokio::time::sleep(grace.delay).await;
        self.shared.stop.cancel();
        self.shared.tasks.close();
        let early = grace.finish.saturating_sub(LAST_ANSWERS);
        let mut in_time = tokio::time::timeout(early, self.shared.tasks.wait()).await.is_ok();
        self.shared.closing.cancel();
        if !in_time {
            in_time = tokio::time::timeout(grace.finish.saturating_sub(early), self.shared.tasks.wait()).await.is_ok();
        }
        self.shared.abort.cancel();
        self.shared.services.close();
        self.shared.tasks.wait().await;
        self.shared.services.wait().await;
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
            self.lifecycle.shared.failed.store(true, Ordering::Relaxed);
            self.lifecycle.shared.draining.cancel();
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

    const QUICK: Grace = Grace { delay: Duration::ZERO, finish: Duration::from_millis(1020) };

    #[tokio::test(start_paused = true)]
    async fn drain_waits_for_tasks_that_finish() {
        let lifecycle = Lifecycle::default();
        let inner = lifecycle.clone();
        lifecycle.spawn("polite", async move { inner.draining().await });
        lifecycle.spawn_service("service", std::future::pending());
        assert!(lifecycle.drain(QUICK).await);
        assert!(!lifecycle.has_failed());
    }

    #[tokio::test(start_paused = true)]
    async fn waiters_are_told_before_the_abort() {
        let lifecycle = Lifecycle::default();
        let inner = lifecycle.clone();
        lifecycle.spawn("waiter", async move { inner.closing().await });
        assert!(lifecycle.drain(QUICK).await);
    }

    #[tokio::test(start_paused = true)]
    async fn drain_aborts_tasks_that_do_not_end() {
        let lifecycle = Lifecycle::default();
        lifecycle.spawn("stubborn", std::future::pending());
        assert!(!lifecycle.drain(QUICK).await);
    }

    #[tokio::test]
    async fn a_panicking_task_starts_the_drain() {
        let lifecycle = Lifecycle::default();
        lifecycle.spawn("broken", async { panic!("on purpose") });
        lifecycle.draining().await;
        assert!(lifecycle.has_failed());
    }
}
