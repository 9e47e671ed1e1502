//! Strongroom: a self-hosted workspace for shared accounts and secrets, encrypted under a key that stays in the
//! customer's own Azure Key Vault.

pub mod access;
pub mod app;
pub mod audit;
pub mod azure_setup;
pub mod backup;
pub mod cli;
pub mod client;
pub mod clock;
pub mod config;
mod counted;
#[cfg(feature = "demo")]
pub mod demo;
pub mod doctor;
pub mod drill;
pub mod error;
pub mod export;
pub mod http;
pub mod id;
pub mod import;
pub mod instance_key;
pub mod item;
pub mod job;
pub mod keyring;
pub mod member;
pub mod memory;
pub mod notice;
pub mod secret_text;
pub mod server;
pub mod store;
pub mod vault;
pub mod workspace;
