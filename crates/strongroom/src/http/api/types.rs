//! The bodies of the REST API, shared by the server and by our own client.
//!
//! Requests refuse fields they do not know; answers may gain fields, so a client ignores those it does not know.
//! Everything that a person typed into an item, its title and the names of its fields included, is `SecretText`.
//! Times are RFC 3339 in UTC. Path: `/api/v1/workspaces/{workspace}/…`, where the workspace is a slug.

mod audit;
mod connection;
mod exports;
mod jobs;
mod key_health;
mod keys;
mod notices;
mod sign_in;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

pub use self::{
    audit::{
        AuditCheckpoint, AuditEvent, AuditGrowth, AuditOutcome, AuditPage, AuditProof, AuditQuery, AuditTarget,
        ExportPage, ExportQuery, ExportedEvent, GrowthQuery,
    },
    connection::{
        AcceptWarnings, ChangedKeyVault, Credential, DeleteVault, NewCredential, NewKeyVault, OtherVault,
        ReplacedCredential, VaultName,
    },
    exports::{ExportFormat, ExportPlan, ExportedVault, PlanExport, StartExport},
    jobs::{ItemKept, Job, JobAccount, JobKind, JobState, JobWaiting, MoveItems, MovePlan},
    key_health::{KeyHealth, KeyHour, KeyLease, KeyQuota, WatchedKey},
    keys::{Census, ChangeKey, GenerationUse, KeyChange, KeyChanges, KeyVersionUse, VaultKeyChange},
    notices::{
        CreateWebhook, Delivery, DeliveryState, NewWebhook, Notice, NoticeKind, NoticeMail, NoticeQuery, ReadNotices,
        SetNoticeMail, Severity, Webhook, WebhookTest,
    },
    sign_in::{LoginAnswer, LoginRequest, Session, Token},
};
use crate::secret_text::SecretText;
pub use crate::{
    access::{ItemRole, Role as WorkspaceRole},
    item::{Field, FieldKind, ItemType, SecretKind},
    keyring::{CredentialKind, Strategy, VaultState},
};

// ---------------------------------------------------------------------------------------------- shared by all lists

/// One page of a list.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct Page<T> {
    pub items: Vec<T>,
    /// Pass it as `cursor` for the next page; absent on the last. Opaque.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// The query of a list without filters of its own.
#[derive(Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PageQuery {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// 1 to 200; 50 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(minimum = 1, maximum = 200)]
    pub limit: Option<u16>,
}

/// `application/problem+json` (RFC 9457). Never holds plaintext or a secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// A URI reference for the kind of problem.
    #[serde(rename = "type")]
    pub kind: String,
    /// What happened.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// Stable, for programs: `key.disabled`, `item.not_found`, `signin.code_required` …
    pub code: String,
    /// Of a vault whose key does not answer: `key_disabled`, `access_removed`, `key_deleted`, `credential_refused`,
    /// `credential_expired`, `blocked`, `throttled`, `unreachable`, `wrong_answer` or `fault`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// Of a deleted key: about when it can no longer be recovered; absent where Azure did not tell for how many days.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recoverable_until: Option<Timestamp>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// What to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
    /// Azure's `x-ms-request-id`, to be found in the customer's own Azure log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub azure_request_id: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldError>,
}

/// One field of the request that was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FieldError {
    /// Its path in the request: `azure.vault_url`, `fields.2.name`.
    pub field: String,
    pub message: String,
}

// ----------------------------------------------------------------------------------------------- workspace, members

/// `GET …/` of one workspace, as the member who asks sees it.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct Workspace {
    pub id: Uuid,
    pub slug: String,
    pub name: String,
    /// Who asks, and as what.
    pub member_id: Uuid,
    pub role: WorkspaceRole,
    /// Absent until the workspace has a vault.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_vault_id: Option<Uuid>,
    /// Whether vaults of the strategy Azure External Keys may be made here.
    pub azure_external_keys: bool,
    pub require_second_factor: bool,
    /// Also in the `ETag` of an answer with one workspace, quoted.
    pub revision: u64,
    pub created_at: Timestamp,
}

/// `PATCH …/` of one workspace with `If-Match: "revision"`; what is absent stays.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EditWorkspace {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub azure_external_keys: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub require_second_factor: Option<bool>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum MemberState {
    /// Has an invitation, has never signed in.
    Invited,
    Active,
}

#[derive(Serialize, Deserialize, ToSchema)]
pub struct Member {
    pub id: Uuid,
    pub email: String,
    pub name: String,
    pub role: WorkspaceRole,
    pub state: MemberState,
    pub second_factor: bool,
    pub created_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen_at: Option<Timestamp>,
    /// Also in the `ETag` of an answer with one member, quoted.
    pub revision: u64,
}

/// `POST …/members`. Answers `Invitation`, as `POST …/members/{id}/invitation` does, which makes a new link.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct InviteMember {
    pub email: String,
    pub name: String,
    pub role: WorkspaceRole,
}

#[derive(Serialize, Deserialize, ToSchema)]
pub struct Invitation {
    pub member: Member,
    /// The one-time link to hand over; shown this once.
    pub link: SecretText,
    pub expires_at: Timestamp,
}

/// `PATCH …/members/{id}` with `If-Match: "revision"`.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EditMember {
    pub role: WorkspaceRole,
}

/// The query of `DELETE …/members/{id}`.
#[derive(Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct RemoveMember {
    /// The member who receives the items that only the removed one owned.
    pub heir: Uuid,
}

/// `POST …/transfer`: the Owner makes another member Owner.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TransferOwnership {
    pub member_id: Uuid,
}

// ----------------------------------------------------------------------------------------------------------- vaults

/// `POST …/vaults`.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateVault {
    pub name: String,
    pub strategy: Strategy,
    #[serde(default)]
    pub default: bool,
    /// Required for `azure_external_keys`, refused for `cloud`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub azure: Option<AzureKey>,
    #[serde(default)]
    pub accept_warnings: AcceptWarnings,
}

/// What step 5 asks for, as typed: ids in any spelling a portal shows, the key's name or its whole identifier.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AzureKey {
    pub client_id: String,
    pub tenant_id: String,
    /// Exactly one of `client_secret`, `client_certificate` and `workload_identity` is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_secret: Option<SecretText>,
    /// PEM text: an RSA private key and its certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_certificate: Option<SecretText>,
    /// Signs in with the token file that the server's configuration names.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub workload_identity: bool,
    /// When the client secret ends, to be warned in time: `2027-05-01`, or RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_secret_expires: Option<String>,
    pub vault_url: String,
    pub vault_key_name: String,
}

/// `PATCH …/vaults/{id}` with `If-Match: "revision"`; what is absent stays.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EditVault {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Only `true` is taken: a workspace always has one default vault.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<bool>,
    /// How long an unwrapped vault key may be used, in seconds: 15 up to the server's own limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_seconds: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(inline)]
    pub state: Option<VaultState>,
    /// Whether items may move to a Cloud vault or to another tenant. The Owner's to say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub may_leave: Option<bool>,
}

#[derive(Serialize, Deserialize, ToSchema)]
pub struct Vault {
    pub id: Uuid,
    pub name: String,
    pub strategy: Strategy,
    pub default: bool,
    pub state: VaultState,
    /// Whether items may move to a Cloud vault or to another tenant.
    pub may_leave: bool,
    /// Seconds.
    pub lease_seconds: u32,
    /// Absent for a Cloud vault, and for those who do not manage vaults.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<VaultKey>,
    pub health: VaultHealth,
    /// How many items lie in it, trash left out. Absent for those who do not manage vaults.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub item_count: Option<u64>,
    /// Also in the `ETag` of an answer with one vault, quoted.
    pub revision: u64,
    pub created_at: Timestamp,
}

/// The KEK of a vault of the strategy Azure External Keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VaultKey {
    /// The full key identifier, key version included.
    pub kid: String,
    pub key_version: String,
    /// `azure`.
    pub provider: String,
    pub tenant_id: String,
    pub client_id: String,
    pub vault_url: String,
    pub vault_key_name: String,
    pub credential_kind: CredentialKind,
    /// When the credential ends: a certificate's last moment, or what was said of the client secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential_expires: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum HealthStatus {
    Healthy,
    /// Access to the key was denied; the vault's items cannot be read.
    Dark,
    /// The key cannot be reached; items are served until the lease ends.
    Outage,
    /// The key answers, but not with what was stored; nothing new is served.
    Fault,
    /// Not used since the server started.
    Unknown,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VaultHealth {
    pub status: HealthStatus,
    /// While the key does not answer: `key_disabled`, `access_removed`, `key_deleted`, `credential_refused`,
    /// `credential_expired`, `blocked`, `throttled`, `unreachable`, `wrong_answer` or `fault`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// `key.disabled`, `credential.expired` … ; absent while healthy or unknown, as are the others below.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Of a deleted key: about when it can no longer be recovered; absent where Azure did not tell for how many days.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recoverable_until: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub azure_request_id: Option<String>,
    /// When the key last answered this node, if it has since it started; absent while it does not answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered_at: Option<Timestamp>,
}

/// `POST …/vaults/check`: the checks of step 5, with nothing saved.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CheckVault {
    pub azure: AzureKey,
}

/// Also the answer of `POST …/vaults/{id}/check`, which tries an existing vault with its stored credentials. With
/// `Accept: application/x-ndjson` both send each check on a line of its own as soon as it is made, and `{"end": true}`
/// after the last; should the checks come to nothing, `{"problem": …}` stands there instead. An answer without either is
/// cut off. One check at a time runs for a member and for a vault: another is refused with 429, `vault.check_running`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Checks {
    /// In the order in which they ran.
    pub checks: Vec<Check>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Check {
    /// What was looked at, as in `key.enabled`.
    pub code: String,
    /// The same in words.
    #[serde(default)]
    pub title: String,
    pub status: CheckStatus,
    /// The stable code of what was found, as in `key.disabled`; absent where all is well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// What to do, with the command where one helps; each further command has a line of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
    /// That command alone, with the customer's own names in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// How long it took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub azure_request_id: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CheckStatus {
    Pass,
    /// Works, but better not so.
    Warn,
    /// The vault cannot be created like this.
    Fail,
    /// Not run, because an earlier one failed or because it has no meaning here.
    Skipped,
    /// Azure did not let us look.
    CouldNotCheck,
}

/// One line of a check that is sent as it is made.
#[derive(Deserialize)]
#[serde(untagged)]
pub enum CheckNews {
    Check(Check),
    Problem {
        problem: Box<Problem>,
    },
    /// After the last check.
    End {
        end: bool,
    },
}

// ------------------------------------------------------------------------------------------------------------ items

/// `POST …/items`. The one who creates it becomes its owner.
#[derive(PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateItem {
    /// The default vault when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vault_id: Option<Uuid>,
    #[serde(rename = "type")]
    pub item_type: ItemType,
    pub title: SecretText,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<SecretKind>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<SecretText>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub usernames: Vec<SecretText>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<SecretText>,
    #[serde(default)]
    pub fields: Vec<Field>,
}

impl CreateItem {
    /// An item with nothing but a title, for the default vault.
    pub fn new(item_type: ItemType, title: SecretText) -> Self {
        Self {
            vault_id: None,
            item_type,
            title,
            kind: None,
            urls: Vec::new(),
            usernames: Vec::new(),
            labels: Vec::new(),
            fields: Vec::new(),
        }
    }
}

/// `POST …/items/import`: up to 500 items at once. A body of up to 64 MiB is taken.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ImportItems {
    pub items: Vec<CreateItem>,
}

/// What became of each item of an import, in the order in which they were sent. One that was refused does not stop
/// the others.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct Imported {
    pub outcomes: Vec<ImportOutcome>,
}

/// Either `id` or `problem`.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct ImportOutcome {
    /// The item that was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<Uuid>,
    /// Why none was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<Problem>,
}

/// `PATCH …/items/{id}` with `If-Match: "revision"`; what is absent stays, a list that is present replaces the whole.
#[derive(Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EditItem {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<SecretText>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<SecretKind>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub urls: Option<Vec<SecretText>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usernames: Option<Vec<SecretText>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<Vec<SecretText>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fields: Option<Vec<Field>>,
}

/// The overview of an item: what `GET …/items`, `GET …/items/{id}`, a search, a create and an edit answer.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct Item {
    pub id: Uuid,
    pub vault_id: Uuid,
    #[serde(rename = "type")]
    pub item_type: ItemType,
    pub title: SecretText,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<SecretKind>,
    pub urls: Vec<SecretText>,
    pub usernames: Vec<SecretText>,
    pub labels: Vec<SecretText>,
    /// Also in the `ETag` of an answer with one item, quoted.
    pub revision: u64,
    /// What the member who asks may do with it.
    pub role: ItemRole,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trashed_at: Option<Timestamp>,
    /// In `GET …/trash`: when it is deleted forever, should its vault's key answer until then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleted_after: Option<Timestamp>,
}

/// One page of items. A dark vault gives counts, never titles.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct ItemPage {
    pub items: Vec<Item>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dark: Vec<DarkVault>,
    /// Items whose stored bytes did not open, because somebody changed or moved them behind the server's back.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub damaged: Vec<Uuid>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DarkVault {
    pub vault_id: Uuid,
    /// How many of its items the member who asks could otherwise see.
    pub count: u64,
    /// `key.disabled` …
    pub code: String,
    /// `key_disabled` …, as in a vault's health.
    #[serde(default)]
    pub state: String,
    pub title: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Of a deleted key: about when it can no longer be recovered; absent where Azure did not tell for how many days.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recoverable_until: Option<Timestamp>,
}

/// The query of `GET …/items` and of `GET …/trash`.
#[derive(Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ItemQuery {
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    #[param(inline)]
    pub item_type: Option<ItemType>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vault_id: Option<Uuid>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// 1 to 200; 50 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(minimum = 1, maximum = 200)]
    pub limit: Option<u16>,
}

/// `POST …/items/search`: never a query string, which proxies log.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SearchItems {
    pub query: SecretText,
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub item_type: Option<ItemType>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vault_id: Option<Uuid>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// 1 to 200; 50 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 200)]
    pub limit: Option<u16>,
}

/// `POST …/trash/purge`: items in the trash to delete forever, at most 500.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PurgeItems {
    pub items: Vec<Uuid>,
}

/// What became of items that were to be deleted forever: `POST …/trash/purge`, and `DELETE …/trash` for all that the
/// caller owns there.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct PurgedItems {
    pub purged: Vec<Uuid>,
    /// Those that are still there, each with what stood against it.
    pub kept: Vec<KeptItem>,
}

#[derive(Serialize, Deserialize, ToSchema)]
pub struct KeptItem {
    pub id: Uuid,
    pub problem: Problem,
}

/// `POST …/items/{id}/reveal` and `POST …/items/{id}/history/{revision}/reveal`, both without a body.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct Revealed {
    pub revision: u64,
    pub fields: Vec<Field>,
}

/// One line of `GET …/items/{id}/history`, newest first.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Revision {
    pub revision: u64,
    pub created_at: Timestamp,
    pub member_id: Uuid,
    /// Whether it is the one that is served now.
    pub current: bool,
    /// Set when this revision brought an older one back: `POST …/items/{id}/history/{revision}/restore`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restored_from: Option<u64>,
}

/// One line of `GET …/items/{id}/roles`.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct ItemGrant {
    pub member_id: Uuid,
    pub email: String,
    pub name: String,
    pub role: ItemRole,
}

/// `PUT …/items/{id}/roles/{member}`.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetItemRole {
    pub role: ItemRole,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_with_an_unknown_field_is_refused() {
        let body = r#"{"name":"Azure","strategy":"azure_external_keys","colour":"red"}"#;
        let refusal = serde_json::from_str::<CreateVault>(body).err().expect("refused");
        assert!(refusal.to_string().contains("colour"), "{refusal}");
    }

    #[test]
    fn an_answer_with_an_unknown_field_is_read() {
        let body = r#"{"checks":[{"code":"key.read","status":"pass","ms":12,"weather":"fine"}],"more":1}"#;
        let checks: Checks = serde_json::from_str(body).expect("read");
        assert_eq!(checks.checks[0].status, CheckStatus::Pass);
    }

    #[test]
    fn the_documented_item_is_taken() {
        let body = r#"{"type":"account","title":"Mail","fields":[{"name":"Password","kind":"password","value":"x"}]}"#;
        let item: CreateItem = serde_json::from_str(body).expect("taken");
        assert_eq!(item.title.expose(), "Mail");
        assert!(item.vault_id.is_none() && item.fields[0].kind == FieldKind::Password);
    }

    #[test]
    fn a_number_where_a_secret_belongs_is_not_repeated() {
        let body = r#"{"type":"account","title":"Mail","fields":[{"name":"PIN","kind":"hidden","value":4711}]}"#;
        let refusal = serde_json::from_str::<CreateItem>(body).err().expect("refused");
        assert!(!refusal.to_string().contains("4711"), "{refusal}");
    }
}
