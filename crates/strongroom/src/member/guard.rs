//! Rate limits of sign-in, and the bound on password hashing.

/// Holds nothing yet that a caller sees.
#[derive(Default)]
pub struct Guard;

impl Guard {
    pub fn new() -> Self {
        Self
    }
}
