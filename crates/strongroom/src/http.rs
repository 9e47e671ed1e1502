//! The server's two faces: JSON for machines, HTML for people.

pub mod api;
pub mod error;
pub mod web;
