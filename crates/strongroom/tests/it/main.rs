//! What the product does, against real databases. A file is a noun or a concern; each test says one thing of it.

// A skip is told where the run is read.
#![allow(clippy::print_stderr)]

mod api;
mod audit_log;
mod azure;
mod azure_setup;
mod backups;
mod bad_days;
mod chaos;
mod child;
mod command_line;
mod credentials;
mod customer;
mod dark;
mod database_faults;
mod database_tls;
mod doctor;
mod drills;
mod exports;
mod faults;
mod instance_key;
mod items;
mod job_rows;
mod key_changes;
mod keyring;
mod kills;
mod leaks;
mod members;
mod moves;
mod nodes;
mod notices;
mod ran;
mod reanchor;
mod reconcile;
mod replacing;
mod schema;
mod sessions;
mod signin;
mod site;
mod start;
mod stopping;
mod store;
mod tamper;
mod transfer;
mod trash;
mod vault_life;
mod vaults;
mod world;
