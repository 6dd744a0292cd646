//! Clients, keys and decisions in the journal's SQLite database, over a connection of their own: they wait for no record of the
//! journal, and the journal for none of them but while one commits.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::types::Type;
use rusqlite::{Connection, OpenFlags, OptionalExtension, Row, Transaction, TransactionBehavior, params};
use serde_json::{Value, json};

use super::{
    Actor, AuditLine, Change, ClientStore, ClientStoreError, Command, ConfigNames, KEYS_MAX, StoredClient,
    StoredClients, StoredCommand, StoredKey, kept_since,
};
use crate::model::{AccountId, ClientId, Digest, KeyId, Timestamp};
use crate::storage::journal::SCHEMA_VERSION;

/// How long a change waits for another program to finish a write.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Lines that the audit keeps, the newest.
const AUDIT_MAX: i64 = 100_000;

/// The condition for a key that is valid at the time `?1`.
const VALID: &str = "revoked_ms IS NULL AND ifnull(expires_ms, ?1 + 1) > ?1 AND ifnull(grace_ends_ms, ?1 + 1) > ?1";

/// The condition for a key that has not ended before the time `?1`.
const NOT_ENDED: &str =
    "ifnull(revoked_ms, ?1 + 1) > ?1 AND ifnull(expires_ms, ?1 + 1) > ?1 AND ifnull(grace_ends_ms, ?1 + 1) > ?1";

/// The clients in a gateway's database.
#[derive(Debug)]
pub(super) struct SqliteClients {
    /// `None` once it is closed.
    connection: Mutex<Option<Connection>>,
}

impl From<rusqlite::Error> for ClientStoreError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Storage(error.to_string())
    }
}

impl SqliteClients {
    pub(super) fn open(path: &Path) -> Result<Self, ClientStoreError> {
        match path.try_exists() {
            Ok(true) => {}
            Ok(false) => return Err(ClientStoreError::Missing(path.display().to_string())),
            Err(error) => {
                let problem = format!("{}: {error}; run this as the user of the gateway", path.display());
                return Err(ClientStoreError::Storage(problem));
            }
        }
        let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        connection.execute_batch("PRAGMA synchronous = FULL; PRAGMA fullfsync = ON; PRAGMA foreign_keys = ON;")?;
        match connection.query_row("PRAGMA user_version", (), |row| row.get(0))? {
            SCHEMA_VERSION => Ok(Self { connection: Mutex::new(Some(connection)) }),
            found => {
                let path = path.display().to_string();
                Err(ClientStoreError::Version { path, found, supported: SCHEMA_VERSION })
            }
        }
    }

    /// As `open`. Leaves the write-ahead log to the journal: after a failed write, what is in it must not be folded.
    pub(super) fn open_beside_journal(path: &Path) -> Result<Self, ClientStoreError> {
        let opened = Self::open(path)?;
        opened.with(|connection| Ok(connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?))?;
        Ok(opened)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Connection>> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<T>(&self, run: impl FnOnce(&Connection) -> Result<T, ClientStoreError>) -> Result<T, ClientStoreError> {
        match &*self.lock() {
            Some(connection) => run(connection),
            None => Err(ClientStoreError::Storage("the gateway is stopping".to_owned())),
        }
    }
}

impl ClientStore for SqliteClients {
    fn revision(&self) -> Result<i64, ClientStoreError> {
        self.with(|connection| Ok(revision(connection)?))
    }

    fn state(&self, since: Timestamp) -> Result<StoredClients, ClientStoreError> {
        self.with(|connection| Ok(state(connection, since)?))
    }

    fn change(&self, change: &Change, actor: Actor, now: &dyn Fn() -> Timestamp) -> Result<i64, ClientStoreError> {
        self.with(|connection| {
            let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
            let at = now();
            let command = apply(&transaction, change, at)?;
            let (action, subject, detail) = described(&transaction, change)?;
            transaction.execute(
                "INSERT INTO audit (at_ms, actor, action, subject, change) VALUES (?1, ?2, ?3, ?4, ?5)",
                params![at.millis(), actor.name(), action, subject, detail.to_string()],
            )?;
            let line = transaction.last_insert_rowid();
            transaction.execute("DELETE FROM audit WHERE id <= ?1", [line.saturating_sub(AUDIT_MAX)])?;
            delete_ended(&transaction, kept_since(at))?;
            transaction.execute("UPDATE meta SET value = value + 1 WHERE key = 'clients_revision'", ())?;
            transaction.commit()?;
            Ok(command.unwrap_or(line))
        })
    }

    fn set_configured(&self, names: &ConfigNames) -> Result<(), ClientStoreError> {
        self.with(|connection| {
            let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
            transaction.execute("DELETE FROM configured_names", ())?;
            let clients = names.clients.iter().map(|name| ("client", &*name.0));
            for (kind, name) in clients.chain(names.accounts.iter().map(|name| ("account", &*name.0))) {
                transaction.execute("INSERT INTO configured_names (kind, name) VALUES (?1, ?2)", [kind, name])?;
            }
            Ok(transaction.commit()?)
        })
    }

    fn record_used(&self, keys: &[KeyId], at: Timestamp) -> Result<(), ClientStoreError> {
        self.with(|connection| {
            // Without a sync: the journal waits for the lock meanwhile.
            connection.execute_batch("PRAGMA synchronous = NORMAL")?;
            let written = record_used(connection, keys, at);
            connection.execute_batch("PRAGMA synchronous = FULL")?;
            Ok(written?)
        })
    }

    fn end_command(&self, id: i64, outcome: &str, at: Timestamp) -> Result<(), ClientStoreError> {
        let sql = "UPDATE operator_commands SET ended_ms = ?2, outcome = ?3 WHERE id = ?1 AND ended_ms IS NULL";
        self.with(|connection| Ok(connection.execute(sql, params![id, at.millis(), outcome]).map(drop)?))
    }

    fn command_outcome(&self, id: i64) -> Result<Option<String>, ClientStoreError> {
        let sql = "SELECT outcome FROM operator_commands WHERE id = ?1";
        self.with(|connection| Ok(connection.query_row(sql, [id], |row| row.get(0)).optional()?.flatten()))
    }

    fn audit(&self, before: Option<i64>, limit: usize) -> Result<Vec<AuditLine>, ClientStoreError> {
        let sql = "SELECT id, at_ms, actor, action, subject, change FROM audit WHERE id < ?1 ORDER BY id DESC LIMIT ?2";
        self.with(|connection| Ok(all(connection, sql, params![before.unwrap_or(i64::MAX), limit], audit_line)?))
    }

    fn audit_after(&self, after: i64, limit: usize) -> Result<Vec<AuditLine>, ClientStoreError> {
        let sql = "SELECT id, at_ms, actor, action, subject, change FROM audit WHERE id > ?1 ORDER BY id LIMIT ?2";
        self.with(|connection| Ok(all(connection, sql, params![after, limit], audit_line)?))
    }

    fn close(&self) {
        drop(self.lock().take());
    }
}

fn state(connection: &Connection, since: Timestamp) -> rusqlite::Result<StoredClients> {
    // One moment for all reads.
    let reading = Transaction::new_unchecked(connection, TransactionBehavior::Deferred)?;
    let keys = format!("{KEYS} WHERE {NOT_ENDED} ORDER BY rowid");
    let account = |row: &Row<'_>| Ok(AccountId(row.get::<_, String>(0)?.into()));
    let named = |row: &Row<'_>| Ok(ClientId(row.get::<_, String>(0)?.into()));
    let configured = "SELECT name FROM configured_names WHERE kind = ?1";
    let pending = "SELECT id, command, subject FROM operator_commands WHERE ended_ms IS NULL ORDER BY id";
    Ok(StoredClients {
        revision: revision(&reading)?,
        clients: all(&reading, "SELECT name, weight, limits, models FROM clients ORDER BY name", (), client)?,
        keys: all(&reading, &keys, [since.millis()], key)?,
        paused_accounts: all(&reading, "SELECT account FROM paused_accounts", (), account)?.into_iter().collect(),
        configured: ConfigNames {
            clients: all(&reading, configured, ["client"], named)?.into_iter().collect(),
            accounts: all(&reading, configured, ["account"], account)?.into_iter().collect(),
        },
        commands: all(&reading, pending, (), command)?,
    })
}

fn record_used(connection: &Connection, keys: &[KeyId], at: Timestamp) -> rusqlite::Result<()> {
    let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
    for key in keys {
        transaction
            .prepare_cached("UPDATE client_keys SET last_used_ms = max(ifnull(last_used_ms, 0), ?2) WHERE id = ?1")?
            .execute(params![key.to_string(), at.millis()])?;
    }
    transaction.commit()
}

/// Makes a change. Returns the number of a command.
fn apply(to: &Transaction<'_>, change: &Change, at: Timestamp) -> Result<Option<i64>, ClientStoreError> {
    match change {
        Change::CreateKey { client, key } => {
            let name = &*client.name.0;
            require_not_configured(to, &client.name)?;
            let sql = format!("SELECT EXISTS (SELECT 1 FROM client_keys WHERE {VALID} AND client = ?2)");
            if to.query_row(&sql, params![at.millis(), name], |row| row.get(0))? {
                return Err(ClientStoreError::NameTaken(client.name.clone()));
            }
            to.execute(
                "INSERT INTO clients (name, weight, limits, models) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (name) DO UPDATE SET weight = excluded.weight, limits = excluded.limits, models = excluded.models",
                params![name, client.weight, json_text(&client.limits), client.models.as_ref().map(json_text)],
            )?;
            insert_key(to, key, at)?;
        }
        Change::UpdateKey { key, client: patch, expires } => {
            let found = valid_key(to, *key, at)?;
            if !patch.is_empty() {
                require_not_configured(to, &found.client)?;
            }
            if let Some(expires) = expires {
                let expires = expires.map(Timestamp::millis);
                to.execute("UPDATE client_keys SET expires_ms = ?2 WHERE id = ?1", params![key.to_string(), expires])?;
            }
            let sql = "SELECT name, weight, limits, models FROM clients WHERE name = ?1";
            let mut stored = to.query_row(sql, [&*found.client.0], client)?;
            patch.apply(&mut stored);
            to.execute(
                "UPDATE clients SET weight = ?2, limits = ?3, models = ?4 WHERE name = ?1",
                params![
                    &*stored.name.0,
                    stored.weight,
                    json_text(&stored.limits),
                    stored.models.as_ref().map(json_text)
                ],
            )?;
        }
        Change::RotateKey { key, grace_ends, new } => {
            valid_key(to, *key, at)?;
            to.execute(
                "UPDATE client_keys SET grace_ends_ms = min(ifnull(grace_ends_ms, ?2), ?2) WHERE id = ?1",
                params![key.to_string(), grace_ends.millis()],
            )?;
            insert_key(to, new, at)?;
        }
        Change::RevokeKey { key } => {
            // Also one that has expired: it is then certain that it stays invalid.
            let sql = "UPDATE client_keys SET revoked_ms = ?2 WHERE id = ?1 AND revoked_ms IS NULL";
            if to.execute(sql, params![key.to_string(), at.millis()])? == 0 {
                return Err(ended(to, *key, at)?);
            }
        }
        Change::PauseAccount(account) => {
            let sql = "INSERT INTO paused_accounts (account, paused_ms) VALUES (?1, ?2) ON CONFLICT DO NOTHING";
            to.execute(sql, params![&*account.0, at.millis()])?;
        }
        Change::ResumeAccount(account) => {
            to.execute("DELETE FROM paused_accounts WHERE account = ?1", [&*account.0])?;
        }
        Change::Request(command) => {
            let (name, subject) = match command {
                Command::Reload => ("reload", ""),
                Command::ForgetAccount(account) => ("forget_account", &*account.0),
            };
            to.execute(
                "INSERT INTO operator_commands (command, subject, created_ms) VALUES (?1, ?2, ?3)",
                params![name, subject, at.millis()],
            )?;
            let id = to.last_insert_rowid();
            to.execute("DELETE FROM operator_commands WHERE id <= ?1", [id - 1000])?;
            return Ok(Some(id));
        }
        Change::Note { .. } => {}
    }
    Ok(None)
}

/// Deletes keys that ended before `since`, and the terms of clients that have no other. What these bought stays in the journal.
fn delete_ended(from: &Transaction<'_>, since: Timestamp) -> rusqlite::Result<()> {
    from.execute(&format!("DELETE FROM client_keys WHERE NOT ({NOT_ENDED})"), [since.millis()])?;
    from.execute("DELETE FROM clients WHERE name NOT IN (SELECT client FROM client_keys)", ())?;
    Ok(())
}

/// Fails for the name of a client of the configuration: a key that is made beside would have its pictures and its limits.
fn require_not_configured(to: &Transaction<'_>, name: &ClientId) -> Result<(), ClientStoreError> {
    let sql = "SELECT EXISTS (SELECT 1 FROM configured_names WHERE kind = 'client' AND name = ?1)";
    if to.query_row(sql, [&*name.0], |row| row.get(0))? {
        return Err(ClientStoreError::Configured(name.clone()));
    }
    Ok(())
}

fn insert_key(to: &Transaction<'_>, key: &StoredKey, at: Timestamp) -> Result<(), ClientStoreError> {
    let valid: usize =
        to.query_row(&format!("SELECT count(*) FROM client_keys WHERE {VALID}"), [at.millis()], |row| row.get(0))?;
    if valid >= KEYS_MAX {
        return Err(ClientStoreError::TooManyKeys);
    }
    to.execute(
        "INSERT INTO client_keys (id, client, prefix, digest, created_ms, expires_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        params![
            key.id.to_string(),
            &*key.client.0,
            key.prefix,
            key.digest.to_string(),
            key.created.millis(),
            key.expires.map(Timestamp::millis)
        ],
    )?;
    Ok(())
}

/// Returns a key that is valid at this time.
fn valid_key(from: &Connection, id: KeyId, at: Timestamp) -> Result<StoredKey, ClientStoreError> {
    let found = from.query_row(&format!("{KEYS} WHERE id = ?1"), [id.to_string()], key).optional()?;
    match found {
        Some(key) if key.state(at).is_valid() => Ok(key),
        Some(_) | None => Err(ended(from, id, at)?),
    }
}

/// Returns the error for a key that is not valid.
fn ended(from: &Connection, id: KeyId, at: Timestamp) -> rusqlite::Result<ClientStoreError> {
    let found = from.query_row(&format!("{KEYS} WHERE id = ?1"), [id.to_string()], key).optional()?;
    Ok(found.map_or_else(
        || ClientStoreError::NoSuchKey(id.to_string()),
        |key| ClientStoreError::KeyEnded { id, state: key.state(at).name() },
    ))
}

/// Returns the action, the subject and the details of a change that was made, for the audit.
fn described(from: &Connection, change: &Change) -> rusqlite::Result<(&'static str, String, Value)> {
    let client_of = |key: &KeyId| {
        from.query_row("SELECT client FROM client_keys WHERE id = ?1", [key.to_string()], |row| row.get::<_, String>(0))
    };
    Ok(match change {
        Change::CreateKey { client, key } => {
            let detail = json!({
                "client": &*client.name.0, "prefix": key.prefix, "limits": client.limits, "weight": client.weight,
                "models": client.models, "expires": key.expires.map(|at| at.to_string()),
            });
            ("key.created", key.id.to_string(), detail)
        }
        Change::UpdateKey { key, client, expires } => {
            let mut detail = json!({ "client": client_of(key)?, "limits": client.limits });
            if let Some(weight) = client.weight {
                detail["weight"] = json!(weight);
            }
            if let Some(models) = &client.models {
                detail["models"] = json!(models);
            }
            if let Some(expires) = expires {
                detail["expires"] = json!(expires.map(|at| at.to_string()));
            }
            ("key.changed", key.to_string(), detail)
        }
        Change::RotateKey { key, grace_ends, new } => {
            let detail = json!({
                "client": &*new.client.0, "new_key": new.id.to_string(), "prefix": new.prefix,
                "grace_ends": grace_ends.to_string(),
            });
            ("key.rotated", key.to_string(), detail)
        }
        Change::RevokeKey { key } => ("key.revoked", key.to_string(), json!({ "client": client_of(key)? })),
        Change::PauseAccount(account) => ("account.paused", account.to_string(), json!({})),
        Change::ResumeAccount(account) => ("account.resumed", account.to_string(), json!({})),
        Change::Request(Command::Reload) => ("configuration.reload_requested", String::new(), json!({})),
        Change::Request(Command::ForgetAccount(account)) => ("account.forgotten", account.to_string(), json!({})),
        Change::Note { action, subject, change } => (action, subject.clone(), change.clone()),
    })
}

fn revision(connection: &Connection) -> rusqlite::Result<i64> {
    connection.prepare_cached("SELECT value FROM meta WHERE key = 'clients_revision'")?.query_row((), |row| row.get(0))
}

fn all<T>(
    connection: &Connection,
    sql: &str,
    values: impl rusqlite::Params,
    read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<Vec<T>> {
    connection.prepare_cached(sql)?.query_map(values, read)?.collect()
}

fn client(row: &Row<'_>) -> rusqlite::Result<StoredClient> {
    let models = row.get::<_, Option<String>>(3)?;
    Ok(StoredClient {
        name: ClientId(row.get::<_, String>(0)?.into()),
        weight: row.get(1)?,
        limits: parsed(row, 2, |text| serde_json::from_str(text).ok())?,
        models: models.map(|_| parsed(row, 3, |text| serde_json::from_str(text).ok())).transpose()?,
    })
}

/// Reads keys, in the order of [`key`].
const KEYS: &str = "SELECT id, client, prefix, digest, created_ms, expires_ms, grace_ends_ms, revoked_ms, last_used_ms
                    FROM client_keys";

fn key(row: &Row<'_>) -> rusqlite::Result<StoredKey> {
    let time = |column| Ok::<_, rusqlite::Error>(row.get::<_, Option<i64>>(column)?.map(Timestamp::from_millis));
    Ok(StoredKey {
        id: parsed(row, 0, |text| text.parse().ok())?,
        client: ClientId(row.get::<_, String>(1)?.into()),
        prefix: row.get(2)?,
        digest: parsed(row, 3, Digest::from_hex)?,
        created: Timestamp::from_millis(row.get(4)?),
        expires: time(5)?,
        grace_ends: time(6)?,
        revoked: time(7)?,
        last_used: time(8)?,
    })
}

fn audit_line(row: &Row<'_>) -> rusqlite::Result<AuditLine> {
    Ok(AuditLine {
        id: row.get(0)?,
        at: Timestamp::from_millis(row.get(1)?),
        actor: row.get(2)?,
        action: row.get(3)?,
        subject: row.get(4)?,
        change: parsed(row, 5, |text| serde_json::from_str(text).ok())?,
    })
}

fn command(row: &Row<'_>) -> rusqlite::Result<StoredCommand> {
    let subject: String = row.get(2)?;
    let command = parsed(row, 1, |name| match name {
        "reload" => Some(Command::Reload),
        "forget_account" => Some(Command::ForgetAccount(AccountId(subject.as_str().into()))),
        _ => None,
    })?;
    Ok(StoredCommand { id: row.get(0)?, command })
}

/// Reads a column of text that `parse` understands.
fn parsed<T>(row: &Row<'_>, column: usize, parse: impl FnOnce(&str) -> Option<T>) -> rusqlite::Result<T> {
    let text: String = row.get(column)?;
    parse(&text).ok_or_else(|| {
        rusqlite::Error::FromSqlConversionFailure(column, Type::Text, format!("unexpected {text:?}").into())
    })
}

fn json_text(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("the gateway's own records are JSON")
}
