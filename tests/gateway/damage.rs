//! What a damaged data folder may do, and what it must not.
//!
//! A gateway and a simulated upstream make jobs in every state (`damage/jobs.rs`). For each row of `damage/table.rs` the
//! folder is copied and damaged, the program starts on it, and each job is asked for again. Whatever the verdict of a row
//! is: nobody gets wrong bytes or another client's picture, no start deletes a picture, nothing panics, and when
//! the damaged files are put back, the gateway serves as before without buying.
//!
//! `DAMAGE_ROWS=text` runs the rows with that text in their name; `--nocapture` prints what happened in each.

use std::panic::AssertUnwindSafe;
use std::time::Instant;

use futures_util::{FutureExt as _, StreamExt as _, stream};

mod files;
mod jobs;
mod prepared;
mod row;
mod table;

/// Rows that run at the same time.
const ROWS_AT_ONCE: usize = 6;

/// Rows whose verdict is not reached yet. One that passes must leave this list.
const EXPECTED_LATER: &[&str] = &[
    "nothing, and a new journal would be accepted",
    "journal: head flipped",
    "journal: second half missing",
    "journal: empty",
    "journal: missing",
    "journal: noise",
    "journal: older",
    "journal: empty, accepted",
    "journal: missing, accepted",
    "killed, journal: head flipped",
    "killed, journal: empty",
    "killed, journal: missing",
    "killed, journal and log: missing",
    "killed, journal and log: older",
    "killed, log: missing",
    "killed, log: empty",
    "killed, log: noise",
    "killed, log: head flipped",
    "killed, log and its index: missing",
    "killed, log: middle flipped",
    "killed, log: second half missing",
    "killed, log: a folder",
    "journal: a letter of a picture's digest",
    "journal: a letter of an upstream id, and its picture missing",
    "every picture: head flipped",
    "every picture: middle flipped",
    "every picture: last byte flipped",
    "every picture: second half missing",
    "every picture: last byte missing",
    "every picture: empty",
    "every picture: missing",
    "every picture: a folder",
    "every picture: unreadable",
    "every picture: bytes behind its end",
    "every picture: noise",
    "every picture: middle flipped, and the upstream has forgotten it",
    "every picture: missing, and the upstream has forgotten it",
    "results: missing",
    "results: empty",
    "results: older",
    "lock: a folder",
    "lock: unreadable",
    "orphans: a file",
    "while it runs: journal missing",
    "while it runs: journal, log and its index missing",
    "while it runs: a picture missing",
    "while it runs: a picture flipped",
    "while it runs: a large picture flipped",
    "while it runs: results empty",
    "while it runs: a second gateway, lock missing",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_damage_of_the_data_folder_has_its_verdict() {
    let started = Instant::now();
    let prepared = prepared::Prepared::make().await;
    println!("prepared in {:.1} s", started.elapsed().as_secs_f64());
    let chosen = std::env::var("DAMAGE_ROWS").unwrap_or_default();
    let rows = table::rows().into_iter().filter(|row| row.name.contains(&chosen));
    let mut running = stream::iter(rows)
        .map(|row| async {
            let ran = AssertUnwindSafe(row::run(&row, &prepared)).catch_unwind().await;
            let ran = ran.unwrap_or_else(|_| ("panics".to_owned(), vec!["this test panicked".to_owned()]));
            (row.name, ran)
        })
        .buffered(ROWS_AT_ONCE);
    let (mut count, mut wrong) = (0, Vec::new());
    while let Some((name, (done, faults))) = running.next().await {
        println!("{name} → {done}");
        count += 1;
        let later = EXPECTED_LATER.contains(&name.as_str());
        if later && faults.is_empty() {
            wrong.push(format!("{name}: it passes, and is listed in EXPECTED_LATER"));
        }
        for fault in faults {
            println!("  {}{fault}", if later { "later: " } else { "" });
            if !later {
                wrong.push(format!("{name}: {fault}"));
            }
        }
    }
    println!("{count} rows in {:.1} s", started.elapsed().as_secs_f64());
    assert!(wrong.is_empty(), "{} faults:\n{}", wrong.len(), wrong.join("\n"));
}
