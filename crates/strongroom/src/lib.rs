//! Strongroom: a self-hosted workspace for shared accounts and secrets, encrypted under a key that stays in the
//! customer's own Azure Key Vault.

pub mod config;
pub mod http;
pub mod secret_text;
