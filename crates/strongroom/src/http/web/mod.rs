//! The web app: pages for people, rendered on the server, usable without JavaScript.
//!
//! `views` holds what each page shows (structs and templates), `assets` the files beside them.

pub mod assets;
pub mod views;
