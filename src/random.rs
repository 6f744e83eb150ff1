//! The only source of chance: lease tokens, names of ticks, jitter. Seeded in tests, so that they are exact.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::rand::SecureRandom as _;
use std::sync::{Mutex, PoisonError};

/// There is no chance to be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the operating system gives no random bytes")]
pub struct NoRandomness;

/// A secret that nobody can guess: 32 random bytes of the operating system, in base64.
pub fn secret() -> Result<String, NoRandomness> {
    let mut bytes = [0; 32];
    let filled = ring::rand::SystemRandom::new().fill(&mut bytes);
    filled.map_err(|_| NoRandomness)?;
    Ok(STANDARD.encode(bytes))
}

/// A random number generator to be shared. Not for secrets.
#[derive(Debug)]
pub struct Random(Mutex<fastrand::Rng>);

impl Random {
    /// Seeded by the operating system.
    pub fn from_os() -> Self {
        #[expect(clippy::disallowed_methods, reason = "this is the one place where chance comes in")]
        let rng = fastrand::Rng::new();
        Self(Mutex::new(rng))
    }

    /// Gives the same numbers for the same seed.
    pub fn from_seed(seed: u64) -> Self {
        Self(Mutex::new(fastrand::Rng::with_seed(seed)))
    }

    /// A number from 1 to `i64::MAX`, as a lease token.
    pub fn token(&self) -> i64 {
        self.with(|rng| rng.i64(1..=i64::MAX))
    }

    /// A number from 0 to 1.
    pub fn fraction(&self) -> f64 {
        self.with(fastrand::Rng::f64)
    }

    /// A random UUID.
    pub fn uuid(&self) -> uuid::Uuid {
        let bytes = self.with(|rng| rng.u128(..)).to_be_bytes();
        uuid::Builder::from_random_bytes(bytes).into_uuid()
    }

    fn with<T>(&self, f: impl FnOnce(&mut fastrand::Rng) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
