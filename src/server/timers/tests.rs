use std::pin::Pin;
use std::task::Context;

use axum::body::Body;
use http_body::Body as _;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::body::TrackedBody;
use super::stream::TimedStream;
use super::*;

const LIMITS: ConnectionLimits = ConnectionLimits {
    header_timeout: Duration::from_secs(30),
    keep_alive_timeout: Duration::from_secs(75),
    write_timeout: Duration::from_mins(1),
    ..ConnectionLimits::TRUSTED
};

/// Returns why the connection is closed, and after how many seconds from now.
async fn expiry(timers: &ConnectionTimers) -> (CloseReason, u64) {
    let started = Instant::now();
    let reason = timers.expired().await;
    (reason, started.elapsed().as_secs())
}

/// Returns whether the connection stays open for `duration`.
async fn stays_open(timers: &ConnectionTimers, duration: Duration) -> bool {
    tokio::time::timeout(duration, timers.expired()).await.is_err()
}

#[tokio::test(start_paused = true)]
async fn bytes_of_the_first_head_do_not_extend_its_timeout() {
    let timers = ConnectionTimers::new(&LIMITS);
    let (ours, mut theirs) = tokio::io::duplex(64);
    let mut ours = TimedStream::new(ours, Arc::clone(&timers));
    tokio::time::advance(Duration::from_secs(29)).await;
    theirs.write_all(b"G").await.unwrap();
    ours.read_u8().await.unwrap();
    assert_eq!(expiry(&timers).await, (CloseReason::HeaderTimeout, 1));
}

#[tokio::test(start_paused = true)]
async fn a_request_in_progress_may_take_hours_and_has_no_timer() {
    let timers = ConnectionTimers::new(&LIMITS);
    let request = timers.begin_request(false);
    assert!(stays_open(&timers, Duration::from_hours(3)).await);
    let mut expired = std::pin::pin!(timers.expired());
    assert!(futures_util::poll!(expired.as_mut()).is_pending());
    assert!(timers.state().without_timer, "there is nothing to wait for");
    drop(request);
    let started = Instant::now();
    assert_eq!((expired.await, started.elapsed()), (CloseReason::IdleTimeout, Duration::from_secs(75)));
}

#[tokio::test(start_paused = true)]
async fn the_idle_timeout_runs_between_requests_until_the_next_head_begins() {
    let timers = ConnectionTimers::new(&LIMITS);
    let (ours, mut theirs) = tokio::io::duplex(64);
    let mut ours = TimedStream::new(ours, Arc::clone(&timers));
    for _ in 0..3 {
        drop(timers.begin_request(false));
        assert!(stays_open(&timers, Duration::from_secs(74)).await);
    }
    theirs.write_all(b"G").await.unwrap();
    ours.read_u8().await.unwrap();
    assert!(stays_open(&timers, Duration::from_secs(29)).await);
    theirs.write_all(b"E").await.unwrap();
    ours.read_u8().await.unwrap();
    assert_eq!(expiry(&timers).await, (CloseReason::HeaderTimeout, 1), "more of the head does not extend its timeout");

    let timers = ConnectionTimers::new(&LIMITS);
    drop(timers.begin_request(true));
    timers.received();
    assert_eq!(
        expiry(&timers).await,
        (CloseReason::IdleTimeout, 75),
        "over HTTP/2 the byte is not the start of a head"
    );
}

#[tokio::test(start_paused = true)]
async fn a_request_is_in_progress_until_both_bodies_are_dropped() {
    let timers = ConnectionTimers::new(&LIMITS);
    let guard = timers.begin_request(false);
    let request = TrackedBody::request(Body::empty(), Arc::clone(&guard));
    let response = TrackedBody::response(Body::empty(), guard, false);
    drop(response);
    assert!(timers.idle_for().is_none(), "the rest of an upload is being drained");
    drop(request);
    assert!(timers.idle_for().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_reads_nothing_is_disconnected_and_a_slow_one_is_not() {
    let timers = ConnectionTimers::new(&LIMITS);
    let _request = timers.begin_request(false);
    let (ours, mut theirs) = tokio::io::duplex(8);
    let mut ours = TimedStream::new(ours, Arc::clone(&timers));
    let mut writing = std::pin::pin!(ours.write_all(&[0; 1000]));
    assert!(futures_util::poll!(writing.as_mut()).is_pending());
    for _ in 0..5 {
        assert!(stays_open(&timers, Duration::from_secs(59)).await);
        theirs.read_u8().await.unwrap();
        assert!(futures_util::poll!(writing.as_mut()).is_pending());
    }
    assert_eq!(expiry(&timers).await, (CloseReason::WriteTimeout, 60));
}

#[tokio::test(start_paused = true)]
async fn a_response_behind_a_closed_window_times_out() {
    let timers = ConnectionTimers::new(&LIMITS);
    let mut response = TrackedBody::response(Body::from("a piece"), timers.begin_request(true), true);
    assert!(stays_open(&timers, Duration::from_hours(1)).await, "there was nothing to send yet");
    let mut cx = Context::from_waker(std::task::Waker::noop());
    assert!(Pin::new(&mut response).poll_frame(&mut cx).is_ready());
    assert!(stays_open(&timers, Duration::from_secs(59)).await);
    assert_eq!(expiry(&timers).await, (CloseReason::WriteTimeout, 1));
    assert!(Pin::new(&mut response).poll_frame(&mut cx).is_ready(), "the end");
    assert!(stays_open(&timers, Duration::from_hours(1)).await);
    drop(response);
    assert_eq!(expiry(&timers).await, (CloseReason::IdleTimeout, 75));
}

#[tokio::test(start_paused = true)]
async fn a_response_that_is_dropped_does_not_count_as_stalled() {
    let timers = ConnectionTimers::new(&LIMITS);
    let _other = timers.begin_request(true);
    let mut response = TrackedBody::response(Body::from("a piece"), timers.begin_request(true), true);
    let mut cx = Context::from_waker(std::task::Waker::noop());
    assert!(Pin::new(&mut response).poll_frame(&mut cx).is_ready());
    drop(response);
    assert!(stays_open(&timers, Duration::from_hours(1)).await);
}

#[tokio::test(start_paused = true)]
async fn a_deadline_that_is_set_while_there_is_no_timer_is_kept() {
    let timers = ConnectionTimers::new(&LIMITS);
    let _request = timers.begin_request(true);
    let mut response = TrackedBody::response(Body::from("a piece"), timers.begin_request(true), true);
    let mut expired = std::pin::pin!(timers.expired());
    assert!(futures_util::poll!(expired.as_mut()).is_pending());
    let mut cx = Context::from_waker(std::task::Waker::noop());
    assert!(Pin::new(&mut response).poll_frame(&mut cx).is_ready());
    let started = Instant::now();
    assert_eq!((expired.await, started.elapsed()), (CloseReason::WriteTimeout, LIMITS.write_timeout));
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_closing_still_writes_its_last_bytes() {
    let timers = ConnectionTimers::new(&LIMITS);
    drop(timers.begin_request(false));
    assert_eq!(expiry(&timers).await, (CloseReason::IdleTimeout, 75));
    timers.start_closing();
    assert_eq!(expiry(&timers).await, (CloseReason::WriteTimeout, 60));
}
