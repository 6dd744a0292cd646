//! What every journal does, whatever stores it: each function below runs against every adapter.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::memory::{Disk, MemoryJournal, SyncMode};
use super::record::{JobRecord, Record, WebhookEnd};
use super::sqlite::SqliteJournal;
use super::stored::{StoredJob, StoredPurchase, StoredState, UndecidedPurchases};
use super::traits::{Durability, Journal, Standing};
use crate::model::{
    AccountId, ApiKind, Choices, ClientId, Digest, EventId, Failure, Fingerprint, Format, IdempotencyKey, JobId,
    ModelId, PurchaseId, RunningTime, Size, StoredPicture, Task, Timestamp, UpstreamId, Usage, Webhook,
};

mod listing;
pub(super) mod records;
mod results;
mod webhooks;

pub(super) const NOW: Timestamp = Timestamp::from_millis(1_790_000_000_000);
const HOUR: Duration = Duration::from_hours(1);

/// A journal, and what has to be known to open it again.
struct Adapter {
    journal: Arc<dyn Journal>,
    place: Place,
}

enum Place {
    Sqlite { directory: tempfile::TempDir, millis: Arc<AtomicU64> },
    Memory(Disk),
}

impl Adapter {
    fn sqlite() -> Self {
        Self::open(Place::Sqlite { directory: tempfile::tempdir().unwrap(), millis: Arc::default() })
    }

    fn memory() -> Self {
        Self::open(Place::Memory(Disk::default()))
    }

    fn open(place: Place) -> Self {
        let journal: Arc<dyn Journal> = match &place {
            Place::Sqlite { directory, millis } => {
                let millis = Arc::clone(millis);
                let monotonic = Arc::new(move || Duration::from_millis(millis.load(Ordering::Relaxed)));
                let path: PathBuf = directory.path().join("journal.sqlite");
                Arc::new(SqliteJournal::open_with(&path, monotonic).unwrap())
            }
            Place::Memory(disk) => Arc::new(MemoryJournal::on(disk, Duration::ZERO, SyncMode::Full)),
        };
        Self { journal, place }
    }

    /// Closes the journal and opens it again `downtime` later.
    async fn reopened_after(self, downtime: Duration) -> Self {
        let Self { journal, place } = self;
        journal.close().await;
        drop(journal);
        pass(&place, downtime).await;
        Self::open(place)
    }

    /// Lets time pass.
    async fn pass(&self, time: Duration) {
        pass(&self.place, time).await;
    }
}

async fn pass(place: &Place, time: Duration) {
    tokio::time::advance(time).await;
    if let Place::Sqlite { millis, .. } = place {
        millis.fetch_add(u64::try_from(time.as_millis()).unwrap(), Ordering::Relaxed);
    }
}

macro_rules! contract {
    ($($module:ident: $($name:ident),+;)+) => {
        mod sqlite {
            $($(#[tokio::test(start_paused = true)]
            async fn $name() {
                super::$module::$name(super::Adapter::sqlite()).await;
            })+)+
        }
        mod memory {
            $($(#[tokio::test(start_paused = true)]
            async fn $name() {
                super::$module::$name(super::Adapter::memory()).await;
            })+)+
        }
    };
}

contract! {
    listing:
        jobs_of_a_client_are_listed_behind_any_of_them,
        a_deleted_job_stays_deleted_and_its_purchase_recorded,
        prompts_are_kept_until_their_results_go_or_they_expire;
    records:
        records_add_up_and_survive_a_reopening,
        jobs_are_returned_in_the_order_of_their_records,
        a_record_that_breaks_a_rule_fails_alone,
        a_record_that_may_wait_is_written_with_the_next_one_before_it,
        a_record_that_may_wait_is_written_after_its_time_and_when_the_journal_closes,
        a_record_without_a_sync_is_seen_once_it_is_written_and_is_durable_with_the_next,
        an_upstream_id_belongs_to_one_purchase,
        an_end_brings_the_upstream_id_that_was_not_written,
        the_last_committed_format_is_the_one_of_the_purchase,
        restored_pictures_replace_those_before_and_change_nothing_else,
        purchases_that_were_or_may_have_been_bought_use_quota,
        equal_purchases_of_a_day_are_added_up,
        unknown_outcomes_are_counted_by_what_their_price_depends_on,
        a_closed_journal_refuses_records;
    results:
        running_time_goes_on_after_a_restart_and_does_not_count_the_time_between,
        steps_have_the_running_time_at_which_they_were_written,
        results_are_read_in_pages_by_kind_and_age,
        stored_bytes_and_digests_are_those_of_pictures_that_were_not_evicted,
        small_pictures_are_stored_with_their_records_until_these_are_evicted,
        a_refused_record_stores_no_picture;
    webhooks:
        webhooks_are_pending_until_they_end;
}

pub(super) fn job_record(number: u128) -> JobRecord {
    JobRecord {
        id: JobId::new(NOW, number),
        client: ClientId("alice".into()),
        fingerprint: Fingerprint::from(Digest::of(b"request")),
        task: Task::Edit,
        model: ModelId::from("gpt-image-2"),
        size: Size { width: 1024, height: 1024 },
        choices: Choices::from([("quality", "low")]),
        n: 2,
        inputs: 3,
        shareable: true,
        idempotency_key: IdempotencyKey::new("key-1"),
        respond_async: false,
        created: NOW,
        prompt: None,
    }
}

pub(super) fn picture() -> StoredPicture {
    StoredPicture { digest: Digest::of(b"picture"), bytes: 7, format: Format::Png, width: 1024, height: 1024 }
}

pub(super) fn intent(job: JobRecord, pictures: &[u8]) -> Record {
    let id = job.id;
    let purchases = (0..).zip(pictures).map(|(slot, pictures)| (PurchaseId { job: id, slot }, *pictures)).collect();
    Record::Intent { job, api_kind: ApiKind::Unified, purchases }
}

pub(super) fn committing(purchase: PurchaseId) -> Record {
    let (account, format) = (AccountId("default".into()), "multipart".to_owned());
    Record::Committing { purchase, account, api_kind: ApiKind::OpenAi, format, at: NOW }
}

fn accepted(purchase: PurchaseId, upstream: &str) -> Record {
    Record::Accepted { purchase, upstream: UpstreamId::new(upstream).unwrap(), poll_url: None, at: NOW }
}

fn resolved(purchase: PurchaseId, pictures: &[StoredPicture]) -> Record {
    Record::Resolved {
        purchase,
        upstream: None,
        poll_url: None,
        pictures: pictures.to_vec(),
        contents: Vec::new(),
        usage: None,
        at: NOW,
    }
}

fn failed(purchase: PurchaseId) -> Record {
    Record::Failed { purchase, failure: Failure::TaskFailed { message: "no".to_owned() }, at: NOW }
}

async fn write(journal: &dyn Journal, records: impl IntoIterator<Item = Record>) {
    for record in records {
        journal.append(record).await.unwrap();
    }
}

async fn stored(journal: &dyn Journal, job: JobId) -> StoredJob {
    journal.job(job).await.unwrap().unwrap()
}
