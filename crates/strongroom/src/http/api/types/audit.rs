//! The audit log on the wire.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

/// The query of `GET …/audit`; newest first.
#[derive(Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AuditQuery {
    /// `item.reveal`, or a whole family: `item.`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member_id: Option<Uuid>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub item_id: Option<Uuid>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vault_id: Option<Uuid>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(inline)]
    pub outcome: Option<AuditOutcome>,
    /// Events at or after this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Timestamp>,
    /// Events before this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// 1 to 200; 50 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(minimum = 1, maximum = 200)]
    pub limit: Option<u16>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AuditOutcome {
    Allowed,
    /// The permission table said no.
    Refused,
    /// It was allowed and went wrong.
    Failed,
}

/// One page of the log.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct AuditPage {
    pub items: Vec<AuditEvent>,
    /// Events that did not prove genuine: `strongroom audit verify` on the server says what is wrong with them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub broken: Vec<Uuid>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditTarget {
    /// `workspace`, `member`, `vault`, `item`, `session` or `token`.
    #[serde(rename = "type")]
    pub kind: String,
    pub id: Uuid,
}

/// One event. Ids only; whoever shows it resolves names and titles by the rights of the one who looks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditEvent {
    pub id: Uuid,
    pub at: Timestamp,
    pub action: String,
    pub outcome: AuditOutcome,
    /// Absent for the server's own acts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member_id: Option<Uuid>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vault_id: Option<Uuid>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub item_id: Option<Uuid>,
    /// What it was done to, whatever that is; absent for the server itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<AuditTarget>,
    /// How many items a view answered with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub azure_request_id: Option<String>,
    /// The problem code of an event that failed or was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// Where it stands in the chain: node, boot and sequence.
    pub node: Uuid,
    pub boot: Uuid,
    pub sequence: u64,
    /// SHA-256 of its canonical bytes, in hexadecimal; the next event names it.
    pub hash: String,
}

/// The query of `GET …/audit/export`; oldest first.
#[derive(Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ExportQuery {
    /// `next_cursor` of the page before; from the beginning when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// 1 to 200; 50 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(minimum = 1, maximum = 200)]
    pub limit: Option<u16>,
}

/// Events in the log's own order. Whoever stores the items, then the cursor, gets every event at least once.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ExportPage {
    pub items: Vec<ExportedEvent>,
    /// Events that did not prove genuine: `strongroom audit verify` on the server says what is wrong with them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub broken: Vec<Uuid>,
    /// Where to go on; there is one on the last page too, for later.
    pub next_cursor: String,
    /// Whether there is more to fetch now.
    pub more: bool,
}

/// An event with its place in the log, and whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ExportedEvent {
    /// Its place in the log over all events of the server, counted from 0; those of other workspaces are left out.
    pub index: u64,
    #[serde(flatten)]
    pub event: AuditEvent,
    /// Every fact by its name: text, numbers, ids, and digests in hexadecimal. docs/format.md lists them.
    #[schema(value_type = Object)]
    pub facts: BTreeMap<String, serde_json::Value>,
    /// The canonical bytes in base64: the leaf of the Merkle tree is the hash of them.
    pub bytes: String,
}

/// The head of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditCheckpoint {
    pub origin: String,
    /// Events that it covers.
    pub size: u64,
    /// The C2SP signed note.
    pub note: String,
    /// What it is verified with, as C2SP writes a key.
    pub public_key: String,
}

/// The query of `GET …/audit/growth`.
#[derive(Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct GrowthQuery {
    /// The size of an older checkpoint.
    pub from: u64,
}

/// That the log only grew since an older checkpoint (RFC 6962, section 2.1.2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditGrowth {
    pub from: u64,
    /// The newest checkpoint's size.
    pub size: u64,
    /// In base64.
    pub hashes: Vec<String>,
    /// The newest checkpoint.
    pub note: String,
}

/// That one event is in the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditProof {
    pub index: u64,
    /// A C2SP tlog-proof, with the event's canonical bytes as its extra data.
    pub proof: String,
}
