//! The ledger in a SQLite database. It is opened beside a gateway that may be running; SQLite's locks keep the two from writing
//! at once.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags, OptionalExtension, Transaction, TransactionBehavior, params, params_from_iter};

use super::consistency::problems;
use super::queries::{job, jobs};
use super::results::picture_copies;
use super::rows::parsed;
use super::schema::SCHEMA_VERSION;
use super::usage;
use crate::model::{Digest, JobId, PurchaseId, Timestamp, UpstreamId};
use crate::storage::journal::ledger::{JobFilter, Ledger, LedgerError, PurchaseTimes, RecordProblem};
use crate::storage::journal::record::Resolution;
use crate::storage::journal::stored::{StoredJob, UsedQuota};

/// How long a command waits for the gateway to finish a write.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// The ledger in a gateway's directory.
#[derive(Debug)]
pub(crate) struct SqliteLedger {
    connection: Connection,
}

impl From<rusqlite::Error> for LedgerError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Storage(error.to_string())
    }
}

impl SqliteLedger {
    /// Opens the journal in `path`, which must exist.
    ///
    /// # Errors
    ///
    /// [`LedgerError`].
    pub(crate) fn open(path: &Path) -> Result<Self, LedgerError> {
        if !path.exists() {
            return Err(LedgerError::Missing(path.display().to_string()));
        }
        let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        connection.execute_batch("PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;")?;
        match connection.query_row("PRAGMA user_version", (), |row| row.get(0))? {
            SCHEMA_VERSION => Ok(Self { connection }),
            found => Err(LedgerError::Version { path: path.display().to_string(), found, supported: SCHEMA_VERSION }),
        }
    }
}

impl Ledger for SqliteLedger {
    fn list(&self, filter: &JobFilter) -> Result<Vec<StoredJob>, LedgerError> {
        let mut sql = "SELECT id FROM jobs WHERE 1".to_owned();
        let mut values: Vec<Value> = Vec::new();
        if !filter.states.is_empty() {
            let places = vec!["?"; filter.states.len()].join(", ");
            sql.push_str(" AND EXISTS (SELECT 1 FROM purchases WHERE job_id = jobs.id AND state IN (");
            sql.push_str(&places);
            sql.push_str("))");
            values.extend(filter.states.iter().cloned().map(Value::Text));
        }
        let mut restrict = |condition: &str, value: Value| {
            sql.push_str(" AND ");
            sql.push_str(condition);
            values.push(value);
        };
        if let Some(client) = &filter.client {
            restrict("client = ?", Value::Text(client.to_string()));
        }
        if let Some(since) = filter.since {
            restrict("created_ms >= ?", Value::Integer(since.millis()));
        }
        if let Some(until) = filter.until {
            restrict("created_ms < ?", Value::Integer(until.millis()));
        }
        sql.push_str(" ORDER BY created_ms DESC, id DESC LIMIT ?");
        let limit = filter.limit.map_or(-1, |limit| i64::try_from(limit).unwrap_or(i64::MAX));
        values.push(Value::Integer(limit));
        let mut found = jobs(&self.connection, &sql, params_from_iter(values))?;
        found.reverse();
        Ok(found)
    }

    fn job(&self, id: JobId) -> Result<Option<StoredJob>, LedgerError> {
        Ok(job(&self.connection, &id.to_string())?)
    }

    fn by_upstream_id(&self, upstream: &str) -> Result<Option<StoredJob>, LedgerError> {
        let sql = "SELECT job_id FROM purchases WHERE upstream_id = ?1";
        Ok(jobs(&self.connection, sql, params![upstream])?.pop())
    }

    fn steps(&self, purchase: PurchaseId) -> Result<PurchaseTimes, LedgerError> {
        let sql = "SELECT committed_ms, accepted_ms, ended_ms, resolved_ms FROM purchases WHERE id = ?1";
        let found = self
            .connection
            .prepare_cached(sql)?
            .query_row([purchase.to_string()], |row| {
                let time = |column: usize| -> rusqlite::Result<Option<Timestamp>> {
                    Ok(row.get::<_, Option<i64>>(column)?.map(Timestamp::from_millis))
                };
                Ok(PurchaseTimes { committed: time(0)?, accepted: time(1)?, ended: time(2)?, decided: time(3)? })
            })
            .optional()?;
        Ok(found.unwrap_or_default())
    }

    fn resolve(&self, purchase: PurchaseId, resolution: Resolution, at: Timestamp) -> Result<(), LedgerError> {
        let transaction = Transaction::new_unchecked(&self.connection, TransactionBehavior::Immediate)?;
        let mut changed = 0;
        usage::changing(&transaction, purchase, || {
            changed = transaction.execute(
                "UPDATE purchases SET resolution = ?2, resolved_ms = ?3 WHERE id = ?1 AND state = 'unknown'",
                params![purchase.to_string(), resolution.name(), at.millis()],
            )?;
            Ok(())
        })?;
        transaction.commit()?;
        if changed == 1 {
            return Ok(());
        }
        let state =
            self.connection
                .query_row("SELECT state FROM purchases WHERE id = ?1", [purchase.to_string()], |row| row.get(0));
        match state {
            Ok(state) => Err(LedgerError::NotUnknown { purchase, state }),
            Err(rusqlite::Error::QueryReturnedNoRows) => Err(LedgerError::NoSuchPurchase(purchase)),
            Err(error) => Err(error.into()),
        }
    }

    fn stored_jobs(&self, after: Option<JobId>, limit: usize) -> Result<Vec<StoredJob>, LedgerError> {
        let sql = "SELECT id FROM jobs WHERE id > ?1 AND stored_bytes > 0 ORDER BY id LIMIT ?2";
        Ok(jobs(&self.connection, sql, params![after.map(|job| job.to_string()).unwrap_or_default(), limit])?)
    }

    fn picture_copies(&self, of: &Digest) -> Result<Vec<Bytes>, LedgerError> {
        Ok(picture_copies(&self.connection, of)?)
    }

    fn quota_used_since(&self, since: Timestamp) -> Result<Vec<UsedQuota>, LedgerError> {
        Ok(usage::since(&self.connection, since)?)
    }

    fn problems(&self) -> Result<Vec<RecordProblem>, LedgerError> {
        Ok(problems(&self.connection)?)
    }

    fn repeated_upstream_ids(&self) -> Result<Vec<(PurchaseId, UpstreamId)>, LedgerError> {
        let sql = "SELECT id, repeated_upstream_id FROM purchases WHERE repeated_upstream_id IS NOT NULL ORDER BY id";
        let mut statement = self.connection.prepare(sql)?;
        let rows = statement
            .query_map((), |row| Ok((parsed(row, 0, |text| text.parse().ok())?, parsed(row, 1, UpstreamId::new)?)))?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ClientId;
    use crate::model::{ApiKind, Choices, Digest, Failure, Fingerprint, ModelId, Size, Task};
    use crate::storage::journal::{JobRecord, Record, open};

    const NOW: Timestamp = Timestamp::from_millis(1_790_000_000_000);

    #[tokio::test]
    async fn only_unknown_purchases_can_be_resolved() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal.sqlite");
        assert!(matches!(SqliteLedger::open(&path), Err(LedgerError::Missing(_))));
        let journal = open(&path).unwrap();
        let mut ids = Vec::new();
        for (number, client) in [(1, "alice"), (2, "bob")] {
            let job = JobRecord {
                id: JobId::new(NOW, number),
                client: ClientId(client.into()),
                fingerprint: Fingerprint::from(Digest::of(client.as_bytes())),
                task: Task::Edit,
                model: ModelId::from("gpt-image-2"),
                size: Size { width: 1024, height: 1024 },
                choices: Choices::default(),
                n: 1,
                inputs: 1,
                shareable: true,
                idempotency_key: None,
                respond_async: false,
                created: NOW.plus(Duration::from_secs(u64::try_from(number).unwrap())),
                prompt: None,
            };
            let purchase = PurchaseId { job: job.id, slot: 0 };
            journal
                .append(Record::Intent { job, api_kind: ApiKind::Prediction, purchases: vec![(purchase, 1)] })
                .await
                .unwrap();
            ids.push(purchase);
        }
        let failure = Failure::OutcomeUnknown { message: "cut".to_owned() };
        journal.append(Record::Failed { purchase: ids[0], failure, at: NOW }).await.unwrap();

        let ledger = SqliteLedger::open(&path).unwrap();
        let list = |filter: JobFilter| -> Vec<String> {
            let found = ledger.list(&filter).unwrap();
            found.iter().map(|job| job.record.client.to_string()).collect()
        };
        assert_eq!(list(JobFilter::default()), ["alice", "bob"]);
        assert_eq!(list(JobFilter { limit: Some(1), ..JobFilter::default() }), ["bob"], "the newest");
        assert_eq!(list(JobFilter { states: vec!["unknown".to_owned()], ..JobFilter::default() }), ["alice"]);
        assert_eq!(list(JobFilter { client: Some(ClientId("bob".into())), ..JobFilter::default() }), ["bob"]);
        let later = NOW.plus(Duration::from_millis(1500));
        assert_eq!(list(JobFilter { since: Some(later), ..JobFilter::default() }), ["bob"]);
        assert_eq!(list(JobFilter { until: Some(later), ..JobFilter::default() }), ["alice"]);

        let undecided = async || journal.undecided().await.unwrap().iter().map(|sum| sum.purchases).sum::<u64>();
        assert_eq!(undecided().await, 1);
        ledger.resolve(ids[0], Resolution::Lost, NOW).unwrap();
        assert_eq!(undecided().await, 0, "the journal sees the decision of another connection");
        let resolved = ledger.job(ids[0].job).unwrap().unwrap();
        assert_eq!(resolved.purchases[0].resolution, Some(Resolution::Lost));
        let steps = ledger.steps(ids[0]).unwrap();
        assert_eq!(steps, PurchaseTimes { ended: Some(NOW), decided: Some(NOW), ..PurchaseTimes::default() });
        assert!(matches!(ledger.resolve(ids[1], Resolution::Lost, NOW), Err(LedgerError::NotUnknown { .. })));
        let absent = PurchaseId { job: ids[0].job, slot: 9 };
        assert!(matches!(ledger.resolve(absent, Resolution::Lost, NOW), Err(LedgerError::NoSuchPurchase(_))));
    }

    #[test]
    fn a_journal_of_another_version_is_not_opened() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal.sqlite");
        Connection::open(&path).unwrap().execute_batch("PRAGMA user_version = 99").unwrap();
        assert!(matches!(SqliteLedger::open(&path), Err(LedgerError::Version { found: 99, .. })));
    }
}
