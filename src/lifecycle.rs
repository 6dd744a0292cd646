//! Tracked tasks and the shutdown of the process.
//!
//! A shutdown has four phases: *draining* (start nothing new), *stop* (listeners close), *closing* (clients that still wait get
//! a response now), *abort* (tasks end where they are). A task that panics starts the drain: a gateway without its poller must
//! not accept paid work.
//!
//! The first signal starts these phases. [`StopSignals`] counts further ones, so that a second can end the process at once.
//!
//! There are two kinds of tasks. The drain waits, within the grace, for those that [`Lifecycle::spawn`] starts. Those that
//! [`Lifecycle::spawn_service`] starts run until all others have ended.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::future::FutureExt as _;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

pub(crate) mod inherited;
pub mod process;
pub(crate) mod supervisor;

pub use inherited::{InheritedError, InheritedListeners};
pub use supervisor::Supervisor;

/// Starts tasks, and notifies them that the process is stopping. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Lifecycle {
    // One reference count for a clone: every request makes clones, and each field has a lock or a count of its own.
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

/// How long a drain may take.
#[derive(Clone, Copy, Debug)]
pub struct Grace {
    /// Listeners stay open for this long, because load balancers notice the stop only after a while.
    pub delay: Duration,
    /// Tasks may run for this long afterwards.
    pub finish: Duration,
}

/// The part of the grace that is reserved for writing the last responses.
const LAST_RESPONSES: Duration = Duration::from_secs(1);

impl Lifecycle {
    /// Starts a task that the drain waits for. It ends by itself, or when the process aborts.
    pub fn spawn<F>(&self, name: &'static str, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.shared.tasks.spawn(self.guarded(name, task));
    }

    /// Starts a task that runs as long as the process does, such as a scheduler.
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
        let alarm = PanicAlarm { lifecycle: self.clone(), name, armed: true };
        // No async block: it would hold the task twice, as what it captured and as what it awaits, and a connection's is large.
        // After the abort the task is dropped here, in its caller: what it captured must not need a lock that a caller holds.
        task.with_cancellation_token_owned(self.shared.abort.clone())
            .map(move |_| alarm.disarm())
            .instrument(tracing::debug_span!("task", name))
    }

    /// Resolves when the process begins to stop.
    pub async fn draining(&self) {
        self.shared.draining.cancelled().await;
    }

    /// Returns whether the process has begun to stop.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.shared.draining.is_cancelled()
    }

    /// Begins to stop: nothing new is started from now on.
    pub fn start_draining(&self) {
        self.shared.draining.cancel();
    }

    /// Begins to stop because of a failure, which makes the exit code one.
    pub fn fail(&self) {
        self.shared.failed.store(true, Ordering::Relaxed);
        self.shared.draining.cancel();
    }

    /// Returns whether a task has panicked or [`Self::fail`] was called, which makes the exit code a failure.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.shared.failed.load(Ordering::Relaxed)
    }

    /// Ends every task where it is, as a crash would.
    #[cfg(test)]
    pub(crate) async fn crash(&self) {
        self.shared.abort.cancel();
        self.shared.tasks.close();
        self.shared.services.close();
        self.shared.tasks.wait().await;
        self.shared.services.wait().await;
    }

    /// Returns the token that is cancelled when listeners are to close.
    #[must_use]
    pub fn stop_token(&self) -> CancellationToken {
        self.shared.stop.clone()
    }

    /// Resolves when clients that still wait must get a response now.
    pub async fn closing(&self) {
        self.shared.closing.cancelled().await;
    }

    /// Goes through the phases of the shutdown, and returns whether all tasks ended within the grace.
    pub async fn drain(&self, grace: Grace) -> bool {
        self.shared.draining.cancel();
        tokio::time::sleep(grace.delay).await;
        self.shared.stop.cancel();
        self.shared.tasks.close();
        let early = grace.finish.saturating_sub(LAST_RESPONSES);
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

impl PanicAlarm {
    fn disarm(mut self) {
        self.armed = false;
    }
}

impl Drop for PanicAlarm {
    fn drop(&mut self) {
        // A runtime that shuts down drops tasks, too; only unwinding counts as a failure.
        if self.armed && std::thread::panicking() {
            tracing::error!(
                task = self.name,
                "task panicked; the process stops and its unfinished jobs resume at the next start"
            );
            self.lifecycle.fail();
        }
    }
}

/// The signals that ask the process to stop: SIGTERM, and SIGINT as Ctrl-C sends it.
#[derive(Debug)]
pub struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
    received: usize,
}

impl StopSignals {
    /// Starts to listen. From now on these signals no longer end the process by themselves.
    ///
    /// # Errors
    ///
    /// When the system refuses the signal handlers.
    pub fn listen() -> io::Result<Self> {
        let (terminate, interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        Ok(Self { terminate, interrupt, received: 0 })
    }

    /// Resolves once `count` signals have been received since [`Self::listen`].
    pub async fn received(&mut self, count: usize) {
        while self.received < count {
            let name = tokio::select! {
                _ = self.terminate.recv() => "SIGTERM",
                _ = self.interrupt.recv() => "SIGINT",
            };
            self.received += 1;
            tracing::info!(signal = name, count = self.received, "signal received");
        }
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
        lifecycle.spawn("cooperative", async move { inner.draining().await });
        lifecycle.spawn_service("service", std::future::pending());
        assert!(lifecycle.drain(QUICK).await);
        assert!(!lifecycle.has_failed());
    }

    #[tokio::test(start_paused = true)]
    async fn clients_that_wait_are_notified_before_the_abort() {
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
