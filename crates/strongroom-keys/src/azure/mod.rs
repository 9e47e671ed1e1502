//! Keys in the customer's Azure Key Vault.

mod cloud;

pub use cloud::Cloud;
