//! Rows that contradict each other or the state that they are in, and damage of the database.

use rusqlite::Connection;

use crate::storage::journal::ledger::RecordProblem;

/// Problems of one kind that are returned at most.
const PROBLEMS_MAX: usize = 100;

/// What must not be, and the query that finds the ids of jobs or purchases for which it is.
const CONTRADICTIONS: [(&str, &str); 9] = [
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
        "it has not ended and has the time of an end",
        "SELECT id FROM purchases WHERE state IN ('intent', 'committing', 'accepted') AND ended_ms IS NOT NULL",
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_contradiction_is_found_and_a_consistent_journal_has_none() {
        let directory = tempfile::tempdir().unwrap();
        let (connection, _) = super::super::schema::open(&directory.path().join("journal.sqlite")).unwrap();
        let job = "INSERT INTO jobs (id, client, fingerprint, task, model, size, choices, n, shareable, created_ms)
                   VALUES ('job', 'alice', 'f', 'edit', 'm', '1x1', '{}', 1, 1, 1);";
        let purchase = |values: &str| {
            format!(
                "INSERT INTO purchases (id, job_id, slot, pictures, state, upstream_id, committed_ms, accepted_ms, ended_ms, failure)
                 VALUES ('purchase', 'job', 0, 1, {values});"
            )
        };
        let picture = "INSERT INTO pictures (purchase_id, position, digest, bytes, format, width, height)
                       VALUES ('purchase', 0, 'd', 1, 'png', 1, 1);";
        // The table itself forbids some of them.
        let unchecked = "PRAGMA ignore_check_constraints = ON;";
        let consistent = purchase("'resolved', 'abc', 1, 2, 3, NULL") + picture;
        for (rows, expected) in [
            (consistent.clone(), None),
            (String::new(), Some("it has no purchase")),
            (purchase("'resolved', 'abc', 1, 2, 3, NULL"), Some("it is resolved and has no picture")),
            (purchase("'accepted', 'abc', 1, 2, NULL, NULL") + picture, Some("it has pictures and is not resolved")),
            (purchase("'accepted', NULL, 1, 2, NULL, NULL"), Some("it is accepted and has no upstream id")),
            (purchase("'accepted', 'abc', 1, NULL, NULL, NULL"), Some("it is accepted and has no time")),
            (purchase("'committing', NULL, NULL, NULL, NULL, NULL"), Some("it is being committed and has no time")),
            (
                format!("{unchecked} {}", purchase("'failed', NULL, 1, NULL, NULL, '{}'")),
                Some("it has ended and has no time"),
            ),
            (
                format!("{unchecked} {}", purchase("'accepted', 'abc', 1, 2, 3, NULL")),
                Some("it has not ended and has the time of an end"),
            ),
            (purchase("'unknown', NULL, 1, NULL, 2, NULL"), Some("it has failed and has no reason")),
            (
                format!("PRAGMA foreign_keys = OFF; {consistent} {}", picture.replace("'purchase'", "'other'")),
                Some("a row of pictures belongs to none of purchases"),
            ),
        ] {
            connection.execute_batch(&format!("BEGIN; {job} COMMIT; {rows}")).unwrap();
            let found = problems(&connection).unwrap();
            let found: Vec<&str> = found.iter().map(|problem| problem.problem.as_str()).collect();
            assert_eq!(found, expected.into_iter().collect::<Vec<_>>(), "{rows}");
            connection
                .execute_batch(
                    "PRAGMA foreign_keys = ON; PRAGMA ignore_check_constraints = OFF; DELETE FROM pictures; DELETE FROM purchases; DELETE FROM jobs;",
                )
                .unwrap();
        }
    }

    #[test]
    fn damage_of_the_database_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal.sqlite");
        drop(super::super::schema::open(&path).unwrap());
        let connection = Connection::open(&path).unwrap();
        let corrupt = "PRAGMA writable_schema = ON;
                       UPDATE sqlite_schema SET rootpage = (SELECT rootpage FROM sqlite_schema WHERE name = 'jobs')
                       WHERE name = 'webhooks';";
        connection.execute_batch(corrupt).unwrap();
        let connection = Connection::open(&path).unwrap();
        let found = problems(&connection).unwrap();
        assert!(found.iter().any(|problem| problem.id.is_none()), "{found:?}");
    }
}
