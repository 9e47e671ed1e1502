//! REST, version 1: `/api/v1`.

pub mod types;
