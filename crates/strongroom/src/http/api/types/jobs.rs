//! Jobs and moves on the wire.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

pub use crate::job::{JobKind, JobState};

/// Long work in the background: `GET …/jobs`, `GET …/jobs/{job}`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Job {
    pub id: Uuid,
    pub kind: JobKind,
    /// Of chosen items that lie in several, the first one's.
    pub vault_id: Uuid,
    /// Where a move goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_id: Option<Uuid>,
    /// It concerns the whole vault.
    pub whole: bool,
    pub state: JobState,
    /// Vault keys, data keys or items, by the kind; more may come.
    pub total: u64,
    /// Those that need no more work.
    pub done: u64,
    /// Those that stay as they were.
    pub failed: u64,
    /// Why nothing happens for now: it goes on by itself, or when somebody resumes it where `state` is `paused`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<JobWaiting>,
    pub started_by: Uuid,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Timestamp>,
    /// Where each item went, for moves and re-encryptions; in `GET …/jobs/{job}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<JobAccount>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JobWaiting {
    /// Stable, such as `key.disabled`.
    pub code: String,
    pub detail: String,
    /// When it tries again; of a paused job it says nothing.
    pub until: Timestamp,
}

/// `found + came = done + kept + gone + left`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct JobAccount {
    /// There when the job began.
    pub found: u64,
    /// Came into the vault meanwhile.
    pub came: u64,
    /// Moved or re-encrypted.
    pub done: u64,
    /// As they were, where they were.
    pub kept: u64,
    /// Left the vault in another way, or were destroyed.
    pub gone: u64,
    pub left: u64,
    /// Which were kept, and why; the first 1,000.
    pub why_kept: Vec<ItemKept>,
}

/// An item that stays, and the code of the reason.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ItemKept {
    pub item_id: Uuid,
    pub code: String,
}

/// `POST …/moves`: either items or a vault.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MoveItems {
    /// 1 to 5,000 of yours, of any vaults.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub item_ids: Vec<Uuid>,
    /// Everything in this vault, and what comes into it meanwhile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vault_id: Option<Uuid>,
    /// The vault to move to.
    pub to: Uuid,
    /// Only say what it comes to.
    #[serde(default)]
    pub dry_run: bool,
}

/// What a move comes to.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct MovePlan {
    pub items: u64,
    /// Of those items, older ones included.
    pub revisions: u64,
    /// Sealed bytes that are read, and as many that are written.
    pub bytes: u64,
    /// Items leave the customer's own key, for one that the server holds or one in another tenant.
    pub weakens: bool,
    /// Chosen items that stay.
    pub refused: Vec<ItemKept>,
    /// The job that does it; absent in a dry run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_id: Option<Uuid>,
}
