//! Histories that once failed, by name.

use super::{AS_BUILT, run};

/// Runs the history of one seed, which must not violate a promise.
fn assert_sound(seed: u64) {
    let (trace, violations) = run(seed, AS_BUILT);
    assert!(violations.is_empty(), "{violations:#?}\n{trace}");
}

#[test]
fn the_first_history() {
    assert_sound(0);
}
