//! Backups: one file with every row of the database as it was at one moment, sealed under the instance key.
//!
//! What was sealed before stays sealed in it: without the instance key nobody reads a row, and without the key in Azure
//! nobody reads an item. Making one needs neither Azure nor the running server, so it goes on while vaults are dark.
//!
//! `file` is the format, `make` writes one, `known` lists and retires what was made, `restore` puts one into an empty
//! database, `opens` proves that a backup's items open.

pub mod file;
mod known;
mod make;
mod opens;
mod restore;

pub use self::{
    known::{KnownBackup, known, retire},
    make::{Made, make},
    opens::{Opened, VaultOpened, open_all},
    restore::{Ended, Restored, read_through, require_empty, restore},
};
