//! Rate limits of sign-in, and the bound on password hashing.

/// Holds nothing yet that a caller sees.
pub struct Guard;
