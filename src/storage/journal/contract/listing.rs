//! The jobs of a client, and what it deletes.

use super::*;
use crate::storage::journal::stored::ResultPage;

fn of(client: &str, number: u128) -> JobRecord {
    JobRecord { client: ClientId(client.into()), idempotency_key: None, ..job_record(number) }
}

async fn ids(journal: &dyn Journal, client: &str, after: Option<JobId>, limit: usize) -> Option<Vec<JobId>> {
    let jobs = journal.client_jobs(ClientId(client.into()), after, limit).await.unwrap();
    jobs.map(|jobs| jobs.iter().map(|job| job.record.id).collect())
}

pub(super) async fn jobs_of_a_client_are_listed_behind_any_of_them(adapter: Adapter) {
    let journal = &*adapter.journal;
    // Ids in no order, as after a clock that went back.
    let numbers = [5, 9, 1, 7, 3];
    for number in numbers {
        write(journal, [intent(of("alice", number), &[1]), intent(of("bob", number + 100), &[1])]).await;
    }
    let newest: Vec<JobId> = numbers.iter().rev().map(|&number| job_record(number).id).collect();
    assert_eq!(ids(journal, "alice", None, 9).await, Some(newest.clone()));
    assert_eq!(ids(journal, "alice", None, 2).await, Some(newest[..2].to_vec()));
    assert_eq!(ids(journal, "alice", Some(newest[1]), 2).await, Some(newest[2..4].to_vec()));
    assert_eq!(ids(journal, "alice", Some(newest[4]), 2).await, Some(Vec::new()), "behind the last");
    // What comes meanwhile moves nothing.
    write(journal, [intent(of("alice", 2), &[1])]).await;
    assert_eq!(ids(journal, "alice", Some(newest[1]), 2).await, Some(newest[2..4].to_vec()));
    let foreign = job_record(105).id;
    assert_eq!(ids(journal, "alice", Some(foreign), 9).await, None, "of another client");
    assert_eq!(ids(journal, "alice", Some(job_record(77).id), 9).await, None);
    assert_eq!(ids(journal, "carol", None, 9).await, Some(Vec::new()));
    let adapter = adapter.reopened_after(HOUR).await;
    assert_eq!(ids(&*adapter.journal, "alice", Some(newest[0]), 9).await, Some(newest[1..].to_vec()));
}

pub(super) async fn a_deleted_job_stays_deleted_and_its_purchase_recorded(adapter: Adapter) {
    let journal = &*adapter.journal;
    let numbers = [1, 2, 3];
    let jobs = numbers.map(|number| job_record(number).id);
    for number in numbers {
        let purchase = PurchaseId { job: job_record(number).id, slot: 0 };
        write(journal, [intent(of("alice", number), &[1]), resolved(purchase, &[picture()])]).await;
    }
    let before = stored(journal, jobs[1]).await;
    journal.append(Record::Deleted { job: jobs[1] }).await.unwrap();
    let adapter = adapter.reopened_after(HOUR).await;
    let journal = &*adapter.journal;
    assert_eq!(ids(journal, "alice", None, 9).await, Some(vec![jobs[2], jobs[0]]));
    assert_eq!(ids(journal, "alice", Some(jobs[1]), 9).await, Some(vec![jobs[0]]), "a page may begin behind it");
    let after = stored(journal, jobs[1]).await;
    assert!(after.deleted && after.evicted);
    assert_eq!(after.purchases, before.purchases, "the record of the money");
    let found = journal.by_fingerprint(before.record.fingerprint, 9).await.unwrap();
    assert_eq!(found.iter().map(|job| job.record.id).collect::<Vec<_>>(), [jobs[2], jobs[0]]);
    let page = ResultPage { delivered: false, shareable: true, stored_before: RunningTime::MAX, after: None, limit: 9 };
    assert_eq!(journal.stored_results(page).await.unwrap().len(), 2);
    assert_eq!(journal.stored_bytes().await.unwrap(), 14);
    journal.append(Record::Deleted { job: jobs[1] }).await.unwrap();
    assert_eq!(journal.stored_bytes().await.unwrap(), 14, "deleted twice");
    journal.append(Record::Deleted { job: job_record(9).id }).await.unwrap_err();
}

pub(super) async fn prompts_are_kept_until_their_results_go_or_they_expire(adapter: Adapter) {
    let numbers = [1, 2, 3, 4, 5];
    let jobs = numbers.map(|number| job_record(number).id);
    for number in numbers {
        let prompt = (number != 5).then(|| format!("prompt {number}").into());
        write(&*adapter.journal, [intent(JobRecord { prompt, ..of("alice", number) }, &[1])]).await;
    }
    let purchase = |job| PurchaseId { job, slot: 0 };
    // Two have pictures, one has failed, and one is under way.
    write(&*adapter.journal, [1, 2].map(|number| resolved(purchase(job_record(number).id), &[picture()]))).await;
    write(&*adapter.journal, [failed(purchase(jobs[2])), failed(purchase(jobs[4]))]).await;
    let adapter = adapter.reopened_after(HOUR).await;
    adapter.pass(HOUR).await;
    let journal = &*adapter.journal;
    let prompts = async || {
        let mut prompts = Vec::new();
        for job in jobs {
            prompts.push(stored(journal, job).await.record.prompt.map(|prompt| prompt.to_string()));
        }
        prompts
    };
    let text = |number: u8| Some(format!("prompt {number}"));
    assert_eq!(prompts().await, [text(1), text(2), text(3), text(4), None]);
    write(journal, [Record::Evicted { job: jobs[0] }, Record::Deleted { job: jobs[1] }]).await;
    assert_eq!(prompts().await, [None, None, text(3), text(4), None]);
    let expired = async |before| journal.expired_prompts(before, 9).await.unwrap();
    assert_eq!(expired(RunningTime::default()).await, [], "not before their time");
    assert_eq!(expired(RunningTime::MAX).await, [jobs[2]], "what is under way keeps its prompt");
    write(journal, [Record::PromptExpired { job: jobs[2] }]).await;
    assert_eq!(prompts().await, [None, None, None, text(4), None]);
    assert_eq!(expired(RunningTime::MAX).await, []);
}
