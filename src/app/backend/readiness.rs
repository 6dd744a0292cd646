//! Whether the accounts can buy, asked in the background and free of charge: at the start, and again after a purchase has
//! shown that a key is refused or the upstream is not reached. A wrong key is so known before the first picture.

use std::time::Duration;

use tokio::time::Instant;

use crate::app::key_query::{KeyAnswer, ask_about_key};
use crate::budget::{AccountReadiness, Budget, Obstacle, Readiness};
use crate::config::Account;
use crate::lifecycle::Lifecycle;
use crate::model::AccountId;
use crate::upstream::GptProto;

/// Questions without an answer, one after the other, after which an account counts as unreachable: a network that fails for a
/// moment takes no gateway out of service.
const UNANSWERED_MAX: u32 = 3;
/// The pause after the first question that did not end well. It doubles up to the longest one.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_mins(1);
/// The longest question.
const QUESTION_TIMEOUT: Duration = Duration::from_secs(20);

/// How often the start looks for the first answers.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// What is known of the configured accounts.
#[derive(Debug)]
pub(in crate::app) struct KnownAccounts {
    budget: AccountReadiness,
    accounts: Vec<AccountId>,
}

impl KnownAccounts {
    /// Waits for the first answer about each account, up to `timeout`, and returns what is known then.
    pub(in crate::app) async fn first_answers(&self, timeout: Duration) -> Vec<(&AccountId, Readiness)> {
        let deadline = Instant::now() + timeout;
        loop {
            let known: Vec<_> = self.accounts.iter().map(|account| (account, self.budget.known(account))).collect();
            if Instant::now() >= deadline || known.iter().all(|&(_, known)| known != Readiness::Unasked) {
                return known;
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }
}

/// Starts a task for each account that runs as long as the process does.
pub(in crate::app) fn follow(
    upstream: &GptProto,
    budget: &Budget,
    accounts: &[Account],
    lifecycle: &Lifecycle,
) -> KnownAccounts {
    for account in accounts {
        let (upstream, budget, account) = (upstream.clone(), AccountReadiness::of(budget), account.id.clone());
        lifecycle.spawn_service("readiness", async move {
            loop {
                ask_until_ready(&upstream, &budget, &account).await;
                budget.in_doubt(&account).await;
            }
        });
    }
    let accounts = accounts.iter().map(|account| account.id.clone()).collect();
    KnownAccounts { budget: AccountReadiness::of(budget), accounts }
}

/// Asks until the account can buy, as far as a free question or a purchase shows it.
async fn ask_until_ready(upstream: &GptProto, budget: &AccountReadiness, account: &AccountId) {
    let (mut unanswered, mut pause) = (0, FIRST_PAUSE);
    loop {
        let asked = tokio::time::timeout(QUESTION_TIMEOUT, ask_about_key(upstream, account)).await;
        let known = match asked.unwrap_or_else(|_| KeyAnswer::Unreachable("no answer in time".to_owned())) {
            KeyAnswer::Accepted(..) => Some(Readiness::Ready),
            // Pictures may work all the same.
            KeyAnswer::Unclear(_) => Some(Readiness::Unclear),
            KeyAnswer::Refused(_) => Some(Readiness::KeyRefused),
            KeyAnswer::EdgeRefused(_) => Some(Readiness::EdgeRefused),
            KeyAnswer::Unreachable(problem) => {
                unanswered += 1;
                tracing::debug!(%account, problem, unanswered, "the upstream did not answer a free question; it is asked again");
                (unanswered >= UNANSWERED_MAX).then_some(Readiness::Unreachable)
            }
        };
        if let Some(known) = known {
            if known != Readiness::Unreachable {
                unanswered = 0;
            }
            log_change(account, budget.answered(account, known), known);
            if known.obstacle().is_none() {
                return;
            }
        }
        tokio::time::sleep(pause).await;
        if budget.is_ready(account) {
            return;
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

fn log_change(account: &AccountId, before: Readiness, known: Readiness) {
    if before == known {
        return;
    }
    match (before, known.obstacle().map(Obstacle::text)) {
        (_, Some(obstacle)) => tracing::error!(
            %account,
            "the account cannot buy: {obstacle}. Nothing was spent on the question; it is asked again at growing pauses"
        ),
        (_, None) if known == Readiness::Unclear => tracing::warn!(
            %account,
            "the upstream did not say whether it accepts the key of the account; the first purchase will show"
        ),
        (Readiness::Unasked, None) => tracing::info!(%account, "the upstream accepts the key of the account"),
        (_, None) => tracing::info!(%account, "the account can buy again, as far as a free question shows it"),
    }
}
