//! What a damaged data folder may do, and what it must not.
//!
//! A gateway and a simulated upstream make jobs in every state (`damage/jobs.rs`). For each row of `damage/table.rs` the
//! folder is copied and damaged, the program starts on it, and each job is asked for again. Whatever the verdict of a row
//! is: no client gets wrong bytes or another client's picture, no start deletes a picture, nothing panics, and when
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
const EXPECTED_LATER: &[&str] = &[];

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
