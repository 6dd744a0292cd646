//! Resumes what the journal shows as under way when the gateway starts. `jobs/job/recovered.rs` decides.
//!
//! Each step is journalled like any other, so a recovery that is cut short is finished by the next one.

use std::sync::Arc;

use super::Driver;
use crate::budget::InFlightPermit;
use crate::engine::jobs::rules::Rules;
use crate::engine::jobs::{EndedAtStart, RecoveredJob, recover};
use crate::model::{CostEstimate, PurchaseId, Quotas};
use crate::storage::JournalError;
use crate::storage::journal::Record;

/// Resumes the unfinished jobs.
pub(in crate::engine) async fn run(
    driver: &Arc<Driver>,
    rules: &Rules,
    quotas: &dyn Quotas,
) -> Result<(), JournalError> {
    let services = &driver.services;
    let (mut resumed, mut not_bought, mut unknown) = (0_usize, 0_usize, 0_usize);
    for stored in services.journal.unfinished().await? {
        let mut adopted: Vec<(PurchaseId, InFlightPermit)> = Vec::new();
        let adopt = |purchase, account: Option<&_>| {
            // A record of schema version 1 names no account; there was only one then.
            let permit = services.budget.adopt(account);
            let account = permit.account().clone();
            adopted.push((purchase, permit));
            account
        };
        let (job, ended) = recover(stored, rules, driver.now(), services.journal.running_time(), adopt);
        for EndedAtStart { purchase, pictures, failure } in ended {
            if failure.may_have_been_bought() {
                unknown += 1;
            } else {
                not_bought += 1;
            }
            let record = Record::Failed { purchase, failure: failure.clone(), at: services.clock.now() };
            services.journal.append(record).await?;
            // It is counted like any other end.
            services.metrics.ended(&failure, rules.price(&job.record, pictures).unwrap_or_default(), false);
        }
        resumed += adopted.len();
        resume(driver, rules, quotas, job, adopted);
    }
    if resumed > 0 || not_bought > 0 || unknown > 0 {
        tracing::info!(resumed, not_bought, unknown, "resumed unfinished jobs");
    }
    if unknown > 0 {
        tracing::warn!(
            unknown,
            "purchases with an unknown outcome; `ledger reconcile` compares them with the upstream's usage export"
        );
    }
    Ok(())
}

/// Lists a job again, if a purchase of it is still polled.
fn resume(
    driver: &Arc<Driver>,
    rules: &Rules,
    quotas: &dyn Quotas,
    job: RecoveredJob,
    adopted: Vec<(PurchaseId, InFlightPermit)>,
) {
    if adopted.is_empty() {
        return;
    }
    let pictures: u8 = job.polled().sum();
    let cost = CostEstimate {
        purchases: adopted.len(),
        pictures: usize::from(pictures),
        usd: rules.price(&job.record, pictures).unwrap_or_default(),
    };
    let quota = quotas.adopt(&job.record.client, cost);
    driver.restore(job, adopted, quota);
}
