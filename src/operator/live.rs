//! The page as it changes: a stream of server-sent events. One task writes what has changed once a second, and every tab gets
//! the same bytes; while no page is open nothing is written.
//!
//! Wanted: a page that connects gets everything first, and then each change after it, none twice and none left out.
//! Race: a page connects while the task writes a change. Both hold the lock of `Current`, and the page subscribes under it.

use std::convert::Infallible;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast};
use tokio::time::{MissedTickBehavior, interval};

use super::Snapshot;
use super::history::{History, STEP};
use super::view::View;
use crate::lifecycle::Lifecycle;
use crate::model::{Clock, SystemClock};

/// The shortest time between two changes.
const INTERVAL: Duration = Duration::from_secs(1);
/// Pages that are kept up to date at once. Half of the listener's connections stay free for probes and scrapers.
const STREAMS_MAX: usize = 32;
/// Changes that a slow page may be behind; then it gets everything again.
const BEHIND_MAX: usize = 8;

type TakeSnapshot = Arc<dyn Fn() -> Snapshot + Send + Sync>;

/// Keeps the history, and open pages up to date. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Live {
    snapshot: TakeSnapshot,
    history: History,
    current: Arc<Mutex<Current>>,
    streams: Arc<Semaphore>,
    lifecycle: Lifecycle,
}

/// What open pages show now.
#[derive(Debug)]
struct Current {
    view: View,
    changes: broadcast::Sender<Bytes>,
}

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Live").field("current", &self.current).finish_non_exhaustive()
    }
}

impl Live {
    pub(crate) fn new(snapshot: TakeSnapshot, lifecycle: Lifecycle) -> Self {
        let current = Current { view: View::default(), changes: broadcast::Sender::new(BEHIND_MAX) };
        Self {
            snapshot,
            history: History::default(),
            current: Arc::new(Mutex::new(current)),
            streams: Arc::new(Semaphore::new(STREAMS_MAX)),
            lifecycle,
        }
    }

    /// Adds a point to the history at each step, and sends what has changed to open pages.
    pub(crate) async fn run(self) {
        let mut ticks = interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let ticks_per_step = STEP.as_secs() / INTERVAL.as_secs();
        for tick in 1_u64.. {
            ticks.tick().await;
            if tick.is_multiple_of(ticks_per_step) {
                self.history.add(&(self.snapshot)(), SystemClock.now().seconds());
            }
            self.send_changes();
        }
    }

    /// Returns what the page shows now.
    pub(super) fn view(&self) -> View {
        let (snapshot, now) = ((self.snapshot)(), SystemClock.now());
        View::of(&snapshot, &self.history.points(&snapshot, now.seconds()), now.millis())
    }

    /// Sends what has changed to all open pages.
    fn send_changes(&self) {
        if self.lock().changes.receiver_count() == 0 {
            return;
        }
        let view = self.view();
        let mut current = self.lock();
        let changes = event(&view.since(&current.view));
        current.view = view;
        // An error means that the last page has just been closed.
        let _ = current.changes.send(changes);
    }

    /// Returns everything that open pages show, and the changes after it.
    fn subscribe(&self) -> (Bytes, broadcast::Receiver<Bytes>) {
        let mut current = self.lock();
        // Where no page is open, what was sent last is old.
        if current.changes.receiver_count() == 0 {
            current.view = self.view();
        }
        (event(&current.view), current.changes.subscribe())
    }

    /// Returns a response that sends everything and then each change, until the gateway stops or the page is closed.
    pub(super) fn response(&self) -> Response {
        let Ok(permit) = Arc::clone(&self.streams).try_acquire_owned() else {
            let retry = [(RETRY_AFTER, HeaderValue::from_static("5"))];
            return (StatusCode::SERVICE_UNAVAILABLE, retry, "too many pages are open; close one\n").into_response();
        };
        // A page that stays open must not hold up the stop.
        let stopped = self.lifecycle.stop_token().cancelled_owned();
        let events = self.events(permit).map(Ok::<_, Infallible>).take_until(stopped);
        let mut response = Response::new(Body::from_stream(events));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }

    fn events(&self, permit: OwnedSemaphorePermit) -> impl Stream<Item = Bytes> + Send + 'static {
        let live = self.clone();
        let (everything, changes) = self.subscribe();
        let later = stream::unfold((live, changes, permit), |(live, mut changes, permit)| async move {
            let event = match changes.recv().await {
                Ok(event) => event,
                Err(broadcast::error::RecvError::Lagged(_)) => {
                    let everything;
                    (everything, changes) = live.subscribe();
                    everything
                }
                Err(broadcast::error::RecvError::Closed) => return None,
            };
            Some((event, (live, changes, permit)))
        });
        stream::once(async { everything }).chain(later)
    }

    fn lock(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes a view as an event. JSON has no line breaks.
fn event(view: &View) -> Bytes {
    let json = serde_json::to_string(view).expect("texts make JSON");
    Bytes::from(format!("event: view\ndata: {json}\n\n"))
}
