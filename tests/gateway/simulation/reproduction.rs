//! Life stories that once went wrong, by name.

use super::{AS_BUILT, run};

/// The story of one seed, which must go well.
fn goes_well(seed: u64) {
    let (trace, wrong) = run(seed, AS_BUILT);
    assert!(wrong.is_empty(), "{wrong:#?}\n{trace}");
}

#[test]
fn the_first_story() {
    goes_well(0);
}
