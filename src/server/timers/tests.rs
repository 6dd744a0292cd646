use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

const LIMITS: ConnectionLimits = ConnectionLimits {
    header_timeout: Duration::from_secs(30),
    keep_alive_timeout: Duration::from_secs(75),
    write_timeout: Duration::from_mins(1),
    ..ConnectionLimits::AMONG_OURSELVES
};

/// Why the connection is cut, and after how many seconds from now.
async fn cut(pulse: &ConnectionTimers) -> (Cut, u64) {
    let began = Instant::now();
    let cut = pulse.ends().await;
    (cut, began.elapsed().as_secs())
}

/// Whether it lives for so long.
async fn lives(pulse: &ConnectionTimers, span: Duration) -> bool {
    tokio::time::timeout(span, pulse.ends()).await.is_err()
}

#[tokio::test(start_paused = true)]
async fn the_first_head_has_its_time_whatever_trickles_in() {
    let pulse = ConnectionTimers::new(&LIMITS);
    let (ours, mut theirs) = tokio::io::duplex(64);
    let mut ours = TimedStream::new(ours, Arc::clone(&pulse));
    tokio::time::advance(Duration::from_secs(29)).await;
    theirs.write_all(b"G").await.unwrap();
    ours.read_u8().await.unwrap();
    assert_eq!(cut(&pulse).await, (Cut::Header, 1));
}

#[tokio::test(start_paused = true)]
async fn a_request_in_service_may_take_hours_and_has_no_timer() {
    let pulse = ConnectionTimers::new(&LIMITS);
    let service = pulse.request(false);
    assert!(lives(&pulse, Duration::from_hours(3)).await);
    let mut ends = std::pin::pin!(pulse.ends());
    assert!(futures_util::poll!(ends.as_mut()).is_pending());
    assert!(pulse.resting.load(Ordering::Relaxed), "nothing is to be waited for");
    drop(service);
    let began = Instant::now();
    assert_eq!((ends.await, began.elapsed()), (Cut::Idle, Duration::from_secs(75)));
}

#[tokio::test(start_paused = true)]
async fn between_requests_the_idle_time_runs_until_the_next_head_begins() {
    let pulse = ConnectionTimers::new(&LIMITS);
    let (ours, mut theirs) = tokio::io::duplex(64);
    let mut ours = TimedStream::new(ours, Arc::clone(&pulse));
    for _ in 0..3 {
        drop(pulse.request(false));
        assert!(lives(&pulse, Duration::from_secs(74)).await);
    }
    theirs.write_all(b"G").await.unwrap();
    ours.read_u8().await.unwrap();
    assert!(lives(&pulse, Duration::from_secs(29)).await);
    theirs.write_all(b"E").await.unwrap();
    ours.read_u8().await.unwrap();
    assert_eq!(cut(&pulse).await, (Cut::Header, 1), "more of the head buys no time");

    let pulse = ConnectionTimers::new(&LIMITS);
    drop(pulse.request(true));
    pulse.received();
    assert_eq!(cut(&pulse).await, (Cut::Idle, 75), "over HTTP/2 that was no head");
}

#[tokio::test(start_paused = true)]
async fn a_request_is_over_when_both_bodies_are() {
    let pulse = ConnectionTimers::new(&LIMITS);
    let service = pulse.request(false);
    let request = InService::request(Body::empty(), Arc::clone(&service));
    let answer = InService::answer(Body::empty(), service, false);
    drop(answer);
    assert!(pulse.waits_since().is_none(), "the rest of an upload is being drained");
    drop(request);
    assert!(pulse.waits_since().is_some());
}

#[tokio::test(start_paused = true)]
async fn who_takes_nothing_is_cut_and_who_takes_little_is_not() {
    let pulse = ConnectionTimers::new(&LIMITS);
    let _service = pulse.request(false);
    let (ours, mut theirs) = tokio::io::duplex(8);
    let mut ours = TimedStream::new(ours, Arc::clone(&pulse));
    let mut writing = std::pin::pin!(ours.write_all(&[0; 1000]));
    assert!(futures_util::poll!(writing.as_mut()).is_pending());
    for _ in 0..5 {
        assert!(lives(&pulse, Duration::from_secs(59)).await);
        theirs.read_u8().await.unwrap();
        assert!(futures_util::poll!(writing.as_mut()).is_pending());
    }
    assert_eq!(cut(&pulse).await, (Cut::Write, 60));
}

#[tokio::test(start_paused = true)]
async fn an_answer_behind_a_shut_window_is_cut() {
    let pulse = ConnectionTimers::new(&LIMITS);
    let mut answer = InService::answer(Body::from("a piece"), pulse.request(true), true);
    assert!(lives(&pulse, Duration::from_hours(1)).await, "nothing was to be sent yet");
    let mut cx = Context::from_waker(std::task::Waker::noop());
    assert!(Pin::new(&mut answer).poll_frame(&mut cx).is_ready());
    assert!(lives(&pulse, Duration::from_secs(59)).await);
    assert_eq!(cut(&pulse).await, (Cut::Write, 1));
    assert!(Pin::new(&mut answer).poll_frame(&mut cx).is_ready(), "the end");
    assert!(lives(&pulse, Duration::from_hours(1)).await);
    drop(answer);
    assert_eq!(cut(&pulse).await, (Cut::Idle, 75));
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_closed_still_writes_its_last_bytes() {
    let pulse = ConnectionTimers::new(&LIMITS);
    drop(pulse.request(false));
    assert_eq!(cut(&pulse).await, (Cut::Idle, 75));
    pulse.closing();
    assert_eq!(cut(&pulse).await.1, 60);
}
