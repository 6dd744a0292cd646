//! Where randomness comes from: the machine, or a seed that makes a run repeatable.

use std::sync::{Arc, Mutex, PoisonError};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// A shared source of randomness for ids and jitter. Cheap to clone; not for keys.
#[derive(Clone, Debug)]
pub(crate) struct Rng {
    generator: Arc<Mutex<StdRng>>,
}

impl Rng {
    /// Seeded by the machine.
    pub(crate) fn of_the_machine() -> Self {
        Self::seeded(rand::random())
    }

    pub(crate) fn seeded(seed: u64) -> Self {
        Self { generator: Arc::new(Mutex::new(StdRng::seed_from_u64(seed))) }
    }

    /// 128 random bits.
    pub(crate) fn bits(&self) -> u128 {
        self.generator.lock().unwrap_or_else(PoisonError::into_inner).random()
    }

    /// A number from 0 up to, not including, 1.
    pub(crate) fn fraction(&self) -> f64 {
        self.generator.lock().unwrap_or_else(PoisonError::into_inner).random()
    }
}
