//! What clients have used of their quotas, added up by day as purchases end: a start reads some rows instead of a month of
//! purchases.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::rows::from_json;
use crate::model::{ClientId, Failure, ModelId, PurchaseId, Timestamp, Usage};
use crate::storage::journal::stored::UsedQuota;

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// All that decides what a purchase has used. Its pictures are those that were made, or else those requested. CROSS JOIN fixes
/// the order of the loops.
const PURCHASES: &str = "
SELECT client, model, created_ms, usage, failure,
       CASE state WHEN 'resolved' THEN (SELECT count(*) FROM pictures WHERE purchase_id = purchases.id) ELSE pictures END
FROM purchases CROSS JOIN jobs ON jobs.id = job_id";
/// Under which condition it has used any. A purchase that is being committed is not in the sums.
const COUNTS: &str = "ended_ms IS NOT NULL AND ifnull(resolution, '') <> 'lost'";

/// Purchases that are added up together.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Group {
    client: String,
    model: String,
    /// Days since the Unix epoch, in UTC.
    day: i64,
    /// The upstream reported tokens.
    metered: bool,
}

/// What purchases have used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Used {
    pictures: i64,
    input_tokens: i64,
    output_tokens: i64,
}

impl Used {
    fn plus(self, other: Self, sign: i64) -> Self {
        Self {
            pictures: self.pictures + sign * other.pictures,
            input_tokens: self.input_tokens.saturating_add(sign * other.input_tokens),
            output_tokens: self.output_tokens.saturating_add(sign * other.output_tokens),
        }
    }
}

/// Changes a purchase, and the sums by what that changes.
///
/// # Errors
///
/// Those of the change, and when the database fails.
pub(super) fn changing(
    to: &Connection,
    purchase: PurchaseId,
    change: impl FnOnce() -> rusqlite::Result<()>,
) -> rusqlite::Result<()> {
    let id = purchase.to_string();
    let before = of_purchase(to, &id)?;
    change()?;
    let after = of_purchase(to, &id)?;
    if before != after {
        for (used, sign) in [(before, -1), (after, 1)] {
            if let Some((group, used)) = used {
                add(to, &group, Used::default().plus(used, sign))?;
            }
        }
    }
    Ok(())
}

/// Adds up what is in the tables, for a journal that has no sums yet.
///
/// # Errors
///
/// When a row cannot be read, and when the database fails.
pub(super) fn add_up(connection: &Connection) -> rusqlite::Result<()> {
    let mut sums: HashMap<Group, Used> = HashMap::new();
    let mut statement = connection.prepare(&format!("{PURCHASES} WHERE {COUNTS}"))?;
    let mut rows = statement.query(())?;
    while let Some(row) = rows.next()? {
        if let Some((group, used)) = used(row)? {
            let sum = sums.entry(group).or_default();
            *sum = sum.plus(used, 1);
        }
    }
    sums.iter().try_for_each(|(group, used)| add(connection, group, *used))
}

/// Returns what was used on this day or later, as `Journal::quota_used_since`.
pub(super) fn since(connection: &Connection, since: Timestamp) -> rusqlite::Result<Vec<UsedQuota>> {
    let mut statement = connection.prepare(
        "SELECT client, model, day, metered, pictures, input_tokens, output_tokens FROM used_quota WHERE day >= ?1",
    )?;
    let rows = statement.query_map([since.millis().div_euclid(DAY_MS)], |row| {
        let usage = Usage { input_tokens: row.get(5)?, output_tokens: row.get(6)?, input_image_tokens: None };
        Ok(UsedQuota {
            client: ClientId(row.get::<_, String>(0)?.into()),
            model: ModelId::from(row.get::<_, String>(1)?),
            created: Timestamp::from_millis(row.get::<_, i64>(2)?.saturating_mul(DAY_MS)),
            pictures: row.get(4)?,
            usage: row.get::<_, bool>(3)?.then_some(usage),
        })
    })?;
    let mut all: Vec<UsedQuota> = rows.collect::<rusqlite::Result<_>>()?;
    // CROSS JOIN fixes the order of the loops: few purchases are under way.
    let mut statement = connection.prepare(
        "SELECT client, model, created_ms, pictures FROM purchases INDEXED BY purchases_unfinished
         CROSS JOIN jobs ON jobs.id = job_id
         WHERE ended_ms IS NULL AND created_ms >= ?1
               AND (state = 'committing' OR (state = 'intent' AND lost_answers > 0))",
    )?;
    let rows = statement.query_map([since.millis()], |row| {
        Ok(UsedQuota {
            client: ClientId(row.get::<_, String>(0)?.into()),
            model: ModelId::from(row.get::<_, String>(1)?),
            created: Timestamp::from_millis(row.get(2)?),
            pictures: row.get(3)?,
            usage: None,
        })
    })?;
    for row in rows {
        all.push(row?);
    }
    Ok(all)
}

fn of_purchase(connection: &Connection, id: &str) -> rusqlite::Result<Option<(Group, Used)>> {
    let mut statement = connection.prepare_cached(&format!("{PURCHASES} WHERE purchases.id = ?1 AND {COUNTS}"))?;
    Ok(statement.query_row([id], used).optional()?.flatten())
}

/// Reads what a purchase has used, if it has used any.
fn used(row: &Row<'_>) -> rusqlite::Result<Option<(Group, Used)>> {
    let failure = row.get::<_, Option<String>>(4)?.map(|_| from_json::<Failure>(row, 4)).transpose()?;
    if failure.is_some_and(|failure| !failure.may_have_been_bought()) {
        return Ok(None);
    }
    let usage = row.get::<_, Option<String>>(3)?.map(|_| from_json::<Usage>(row, 3)).transpose()?;
    let group = Group {
        client: row.get(0)?,
        model: row.get(1)?,
        day: row.get::<_, i64>(2)?.div_euclid(DAY_MS),
        metered: usage.is_some(),
    };
    let tokens = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    let used = Used {
        pictures: row.get(5)?,
        input_tokens: usage.map_or(0, |usage| tokens(usage.input_tokens)),
        output_tokens: usage.map_or(0, |usage| tokens(usage.output_tokens)),
    };
    Ok(Some((group, used)))
}

fn add(to: &Connection, group: &Group, more: Used) -> rusqlite::Result<()> {
    to.prepare_cached(
        "INSERT INTO used_quota (day, client, model, metered, pictures, input_tokens, output_tokens)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
         ON CONFLICT DO UPDATE SET pictures = pictures + excluded.pictures,
             input_tokens = input_tokens + excluded.input_tokens, output_tokens = output_tokens + excluded.output_tokens",
    )?
    .execute(params![
        group.day,
        group.client,
        group.model,
        group.metered,
        more.pictures,
        more.input_tokens,
        more.output_tokens
    ])?;
    Ok(())
}
