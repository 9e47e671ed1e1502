//! Where random bytes come from. An argument everywhere, so that the vectors can be replayed.

use aws_lc_rs::rand::SecureRandom as _;

/// A source of uniformly random, unpredictable bytes.
pub trait Random: Send + Sync {
    /// Fills all of `out`, or fails and leaves `out` unspecified.
    fn fill(&self, out: &mut [u8]) -> Result<(), RandomFailed>;
}

impl<R: Random + ?Sized> Random for std::sync::Arc<R> {
    fn fill(&self, out: &mut [u8]) -> Result<(), RandomFailed> {
        self.as_ref().fill(out)
    }
}

/// The random source gave no bytes, so nothing was generated or sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the random source gave no bytes; nothing was sealed, try again")]
pub struct RandomFailed;

/// The operating system's random source, through aws-lc-rs. The only one used outside of tests.
#[derive(Debug, Default)]
pub struct SystemRandom(aws_lc_rs::rand::SystemRandom);

impl SystemRandom {
    /// The operating system's source; holds no state of its own.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Random for SystemRandom {
    fn fill(&self, out: &mut [u8]) -> Result<(), RandomFailed> {
        self.0.fill(out).map_err(|_| RandomFailed)
    }
}
