//! Members of a workspace: who they are, how they prove it, and what lets them in.

pub mod guard;
