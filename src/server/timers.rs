//! The deadlines of one connection.
//!
//! Wanted properties:
//! - A peer that sends no request, sends a part of a request's head, or reads nothing of a response is disconnected, each
//!   after a timeout of its own.
//! - A peer whose request is in progress is never disconnected for being silent, however long the request takes.
//! - A connection has at most one timer. Reads and writes do not reset the timer; when it fires it looks at what happened
//!   meanwhile. A connection with nothing to wait for, such as one whose request is in progress, has no timer at all, so ten
//!   thousand waiting clients have none.
//!
//! The deadlines:
//! - *Head*: no request is in progress, from the opening or from the first byte of the next head on.
//! - *Idle*: no request is in progress, from the end of the last response on.
//! - *Blocked*: bytes are to be written and the socket accepts none.
//! - *Stalled*, over HTTP/2: a piece of a response was handed over and no other was asked for, because the peer's window is
//!   closed. The socket itself may go on (answers to pings), so this does not show as blocked.
//!
//! Known races: a deadline that is set while the timer sleeps is seen in time, because the timer never sleeps longer than the
//! shortest timeout. A deadline that is set while there is no timer wakes the task. Both are decided under one lock, taken
//! once for each read or write: about 50 ns beside a system call of microseconds.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::limits::ConnectionLimits;

pub(super) mod body;
pub(super) mod stream;

/// Longer timeouts count as this one, so that no deadline overflows.
const TIMEOUT_MAX: Duration = Duration::from_hours(24 * 365 * 30);

/// Why the gateway closes a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum CloseReason {
    /// The head of a request was not complete in time.
    HeaderTimeout,
    /// The next request did not come in time.
    IdleTimeout,
    /// The peer read nothing of a response in time.
    WriteTimeout,
    /// Another connection gets the slot.
    Evicted,
}

impl CloseReason {
    /// Returns what a log line calls it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::HeaderTimeout => "header timeout",
            Self::IdleTimeout => "idle timeout",
            Self::WriteTimeout => "write timeout",
            Self::Evicted => "another connection needs its slot",
        }
    }
}

/// What one connection waits for, and until when.
#[derive(Debug)]
pub(super) struct ConnectionTimers {
    header_timeout: Duration,
    idle_timeout: Duration,
    write_timeout: Duration,
    /// The shortest of these.
    sleep_max: Duration,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug)]
struct State {
    requests_in_progress: usize,
    /// What the connection waits for while no request is in progress, and since when.
    waiting: Waiting,
    since: Instant,
    /// Since when the socket accepts none of the bytes that are to be written.
    blocked_since: Option<Instant>,
    /// Responses over HTTP/2 of which a piece was handed over after which no other was asked for, and when.
    stalled: Vec<(u64, Instant)>,
    next_response: u64,
    /// Between two requests, bytes over HTTP/2 are pings and the like, not the start of a head.
    is_http2: bool,
    evicted: bool,
    /// The task in [`ConnectionTimers::expired`] has no timer and must be woken when a deadline is set.
    without_timer: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waiting {
    Head,
    NextRequest,
    /// The connection is closing; what is left of the last response may still be written.
    LastBytes,
}

impl ConnectionTimers {
    /// Returns the timers of a connection that opens now.
    pub(super) fn new(limits: &ConnectionLimits) -> Arc<Self> {
        let state = State {
            requests_in_progress: 0,
            waiting: Waiting::Head,
            since: Instant::now(),
            blocked_since: None,
            stalled: Vec::new(),
            next_response: 0,
            is_http2: false,
            evicted: false,
            without_timer: false,
        };
        Arc::new(Self {
            header_timeout: limits.header_timeout.min(TIMEOUT_MAX),
            idle_timeout: limits.keep_alive_timeout.min(TIMEOUT_MAX),
            write_timeout: limits.write_timeout.min(TIMEOUT_MAX),
            sleep_max: limits.shortest_timeout().min(TIMEOUT_MAX),
            state: Mutex::new(state),
            changed: Notify::new(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state, and wakes the task that has no timer yet.
    fn set_deadline(&self, state: &mut State, change: impl FnOnce(&mut State)) {
        change(state);
        if std::mem::take(&mut state.without_timer) {
            self.changed.notify_one();
        }
    }

    /// Records a new request, which is in progress until every clone of the returned guard has been dropped.
    pub(super) fn begin_request(self: &Arc<Self>, is_http2: bool) -> Arc<RequestGuard> {
        let mut state = self.state();
        state.requests_in_progress += 1;
        state.is_http2 |= is_http2;
        drop(state);
        Arc::new(RequestGuard { timers: Arc::clone(self) })
    }

    /// Records that bytes were received.
    fn received(&self) {
        let mut state = self.state();
        if state.requests_in_progress == 0 && !state.is_http2 && state.waiting == Waiting::NextRequest {
            self.set_deadline(&mut state, |state| state.wait_for(Waiting::Head));
        }
    }

    /// Records that the socket accepts no bytes.
    fn write_blocked(&self) {
        let mut state = self.state();
        if state.blocked_since.is_none() {
            self.set_deadline(&mut state, |state| state.blocked_since = Some(Instant::now()));
        }
    }

    /// Records that the socket accepted bytes, or failed.
    fn write_progressed(&self) {
        self.state().blocked_since = None;
    }

    /// Returns the number of a response over HTTP/2, for the two methods below.
    fn register_response(&self) -> u64 {
        let mut state = self.state();
        state.next_response += 1;
        state.next_response
    }

    /// Records that a piece of a response was handed over.
    fn piece_handed_over(&self, response: u64) {
        let mut state = self.state();
        self.set_deadline(&mut state, |state| {
            state.stalled.retain(|&(id, _)| id != response);
            state.stalled.push((response, Instant::now()));
        });
    }

    /// Records that a response waits for its next piece, or has ended: the peer is not to blame.
    fn nothing_to_hand_over(&self, response: u64) {
        self.state().stalled.retain(|&(id, _)| id != response);
    }

    /// Records that the connection is being closed: what is left of a response must be written within the write timeout.
    pub(super) fn start_closing(&self) {
        self.state().wait_for(Waiting::LastBytes);
    }

    /// Returns how long no request has been in progress; `None` while one is.
    pub(super) fn idle_for(&self) -> Option<Duration> {
        let state = self.state();
        (state.requests_in_progress == 0).then(|| state.since.elapsed())
    }

    /// Makes [`Self::expired`] resolve, unless a request comes first.
    pub(super) fn evict(&self) {
        self.state().evicted = true;
        self.changed.notify_one();
    }

    /// Resolves when the connection is to be closed.
    pub(super) async fn expired(&self) -> CloseReason {
        let mut timer = std::pin::pin!(tokio::time::sleep(self.sleep_max));
        loop {
            let changed = self.changed.notified();
            let next = {
                let mut state = self.state();
                let next = self.next_deadline(&state);
                state.without_timer = next.is_none();
                next
            };
            let Some((deadline, reason)) = next else {
                changed.await;
                continue;
            };
            let now = Instant::now();
            if deadline <= now {
                return reason;
            }
            timer.as_mut().reset(deadline.min(now + self.sleep_max));
            tokio::select! {
                () = timer.as_mut() => {}
                () = changed => {}
            }
        }
    }

    /// Returns the next deadline and what it means; `None` when there is nothing to wait for.
    fn next_deadline(&self, state: &State) -> Option<(Instant, CloseReason)> {
        let is_idle = state.requests_in_progress == 0;
        if state.evicted && is_idle {
            return Some((state.since, CloseReason::Evicted));
        }
        let (timeout, reason) = match state.waiting {
            Waiting::Head => (self.header_timeout, CloseReason::HeaderTimeout),
            Waiting::NextRequest => (self.idle_timeout, CloseReason::IdleTimeout),
            Waiting::LastBytes => (self.write_timeout, CloseReason::WriteTimeout),
        };
        let waiting = is_idle.then(|| (state.since + timeout, reason));
        let stalled = state.stalled.iter().map(|&(_, since)| since);
        let unwritten = stalled.chain(state.blocked_since).min();
        let unwritten = unwritten.map(|since| (since + self.write_timeout, CloseReason::WriteTimeout));
        waiting.into_iter().chain(unwritten).min_by_key(|&(deadline, _)| deadline)
    }
}

impl State {
    fn wait_for(&mut self, waiting: Waiting) {
        self.waiting = waiting;
        self.since = Instant::now();
    }
}

/// Held by the body of a request and by that of its response: the request is in progress while one of them exists.
#[derive(Debug)]
pub(super) struct RequestGuard {
    timers: Arc<ConnectionTimers>,
}

impl Drop for RequestGuard {
    fn drop(&mut self) {
        let mut state = self.timers.state();
        state.requests_in_progress -= 1;
        if state.requests_in_progress == 0 {
            self.timers.set_deadline(&mut state, |state| state.wait_for(Waiting::NextRequest));
        }
    }
}

#[cfg(test)]
mod tests;
