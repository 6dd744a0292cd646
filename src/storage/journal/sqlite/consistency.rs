//! Rows that contradict each other or the state that they are in, and damage of the database.

use rusqlite::Connection;

use crate::storage::journal::ledger::RecordProblem;

/// Problems of one kind that are returned at most.
const PROBLEMS_MAX: usize = 100;

/// What must not be, and the query that finds the ids of jobs or purchases for which it is.
const CONTRADICTIONS: [(&str, &str); 8] = [
    ("it has no purchase", "SELECT id FROM jobs WHERE NOT EXISTS (SELECT 1 FROM purchases WHERE job_id = jobs.id)"),
    (
        "it is resolved and has no picture",
        "SELECT id FROM purchases
         WHERE state = 'resolved' AND NOT EXISTS (SELECT 1 FROM pictures WHERE purchase_id = purchases.id)",
    ),
    (
        "it has pictures and is not resolved",
        "SELECT id FROM purchases
         WHERE state <> 'resolved' AND EXISTS (SELECT 1 FROM pictures WHERE purchase_id = purchases.id)",
    ),
    (
        "it is accepted and has no upstream id",
        "SELECT id FROM purchases WHERE state = 'accepted' AND upstream_id IS NULL",
    ),
    ("it is accepted and has no time", "SELECT id FROM purchases WHERE state = 'accepted' AND accepted_ms IS NULL"),
    (
        "it is being committed and has no time",
        "SELECT id FROM purchases WHERE state = 'committing' AND committed_ms IS NULL",
    ),
    (
        "it has ended and has no time",
        "SELECT id FROM purchases WHERE state IN ('resolved', 'failed', 'unknown') AND ended_ms IS NULL",
    ),
    (
        "it has failed and has no reason",
        "SELECT id FROM purchases WHERE state IN ('failed', 'unknown') AND failure IS NULL",
    ),
];

/// Returns what is wrong with the records, as `Ledger::problems`.
pub(super) fn problems(connection: &Connection) -> rusqlite::Result<Vec<RecordProblem>> {
    let mut problems = Vec::new();
    let mut statement = connection.prepare(&format!("PRAGMA integrity_check({PROBLEMS_MAX})"))?;
    for text in statement.query_map((), |row| row.get::<_, String>(0))? {
        let text = text?;
        if text != "ok" {
            problems.push(RecordProblem { id: None, problem: text });
        }
    }
    let mut statement = connection.prepare("PRAGMA foreign_key_check")?;
    let dangling = statement.query_map((), |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(2)?)))?;
    for row in dangling.take(PROBLEMS_MAX) {
        let (table, parent) = row?;
        problems.push(RecordProblem { id: None, problem: format!("a row of {table} belongs to none of {parent}") });
    }
    for (problem, query) in CONTRADICTIONS {
        let mut statement = connection.prepare(&format!("{query} ORDER BY id LIMIT {PROBLEMS_MAX}"))?;
        for id in statement.query_map((), |row| row.get::<_, String>(0))? {
            problems.push(RecordProblem { id: Some(id?), problem: problem.to_owned() });
        }
    }
    Ok(problems)
}
