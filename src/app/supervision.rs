//! What is reported to the supervisor of the process while it runs: a sentence about its state, and that it lives.
//!
//! A sign of life is sent only after the gateway has shown it: the journal's thread has answered a question, the jobs could be
//! locked, and the scheduler of polls has taken a message. A process in which one of these is stuck sends none, and the
//! supervisor starts another, which resumes every purchase.

use std::time::Duration;

use tokio::time::Instant;

use super::sources::Modules;
use crate::engine;
use crate::lifecycle::{Lifecycle, Supervisor};

/// How often the sentence is renewed where no watchdog asks for more.
const STATUS_INTERVAL: Duration = Duration::from_secs(5);

/// No watchdog is answered more often than this.
const HALF_MIN: Duration = Duration::from_millis(10);

/// Starts the task that reports, where there is a supervisor.
pub(super) fn follow(supervisor: &Supervisor, modules: Modules, lifecycle: &Lifecycle) {
    if supervisor.listens() {
        lifecycle.spawn_service("supervision", report(supervisor.clone(), modules));
    }
}

async fn report(supervisor: Supervisor, modules: Modules) {
    // Half of the time that the supervisor waits, as its documents ask for.
    let half = supervisor.watchdog().map(|limit| (limit / 2).max(HALF_MIN));
    let interval = half.map_or(STATUS_INTERVAL, |half| half.min(STATUS_INTERVAL));
    let (mut said, mut alive_at) = (String::new(), None::<Instant>);
    loop {
        tokio::time::sleep(interval).await;
        if let Some(half) = half
            && alive_at.is_none_or(|at| at.elapsed() + interval > half)
        {
            show_life(&modules, half).await;
            supervisor.alive();
            alive_at = Some(Instant::now());
        }
        let sentence = modules.sentence();
        if sentence != said {
            supervisor.status(&sentence);
            said = sentence;
        }
    }
}

/// Resolves once the gateway has shown that it lives, however long that takes.
async fn show_life(modules: &Modules, half: Duration) {
    let mut shown = std::pin::pin!(engine::shows_life(&modules.engine));
    if tokio::time::timeout(half, shown.as_mut()).await.is_err() {
        tracing::error!(
            seconds = half.as_secs(),
            "the journal or the engine does not answer; the supervisor gets no sign of life, and may end the process. Every \
             purchase is in the journal, and the next start resumes it"
        );
        shown.await;
        tracing::warn!("the journal and the engine answer again");
    }
}
