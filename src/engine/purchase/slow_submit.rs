//! A submit whose answer comes only when its pictures are made.

use std::time::Duration;

use tokio::sync::oneshot;

/// A submit that has no answer this long after its last byte was not refused.
pub(super) const ACCEPTED_AFTER: Duration = Duration::from_secs(5);

/// Waits for the answer to a submit, and calls `accepted` once the submit counts as accepted: a refusal comes at once,
/// and a submit that waits for the outcome of this one (after a pause, above all) must not wait for a picture.
pub(super) async fn with_early_acceptance<T>(
    submit: impl Future<Output = T>,
    committed: oneshot::Receiver<()>,
    accepted: impl FnOnce(),
) -> T {
    let mut submit = std::pin::pin!(submit);
    let no_refusal = async {
        match committed.await {
            Ok(()) => tokio::time::sleep(ACCEPTED_AFTER).await,
            // Not committed, so the submit is about to end.
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        result = &mut submit => return result,
        () = no_refusal => accepted(),
    }
    submit.await
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_slow_submit_counts_as_accepted_before_its_answer() {
        for (answered_after, committed_after, accepted_after) in [(4, 0, None), (100, 0, Some(5)), (100, 30, Some(35))]
        {
            let started = Instant::now();
            let (commit, committed) = oneshot::channel();
            let submit = async {
                tokio::time::sleep(Duration::from_secs(committed_after)).await;
                commit.send(()).unwrap();
                tokio::time::sleep_until(started + Duration::from_secs(answered_after)).await;
            };
            let mut accepted = None;
            with_early_acceptance(submit, committed, || accepted = Some(started.elapsed().as_secs())).await;
            assert_eq!(accepted, accepted_after);
            assert_eq!(started.elapsed().as_secs(), answered_after);
        }
        let (commit, committed) = oneshot::channel();
        drop(commit);
        let submit = tokio::time::sleep(ACCEPTED_AFTER * 2);
        with_early_acceptance(submit, committed, || panic!("nothing was committed")).await;
    }
}
