//! Notices: what the people who manage a workspace have to know about its keys, credentials and jobs.
//!
//! A notice is raised in the transaction of what it tells of (a denial, a finished job), or by the pass of `watch` over
//! credentials and keys. Each is raised once. It holds ids and codes; `words` says them to people. `delivery` sends
//! each to the workspace's webhooks and to those who want e-mail: at least once, whatever restarts meanwhile.

mod delivery;
mod mail;
mod reach;
mod watch;
mod webhook;
mod words;

use std::{str::FromStr, sync::Arc};

use jiff::Timestamp;
use uuid::Uuid;

pub(crate) use self::webhook::{drop_lost_webhooks, renew_webhooks};
pub use self::{
    delivery::{Channel, Delivery, DeliveryState, counts as delivery_counts},
    mail::Mail,
    webhook::{Made as MadeWebhook, Tested, Webhook, post_text},
    words::{Words, words},
};
use crate::{
    access::Action,
    app::{App, Caller},
    audit::{Event, Target},
    error::Result,
    id::{JobId, MemberId, NoticeId, VaultId, WorkspaceId},
    store::{Row, Tx},
};

/// What the operator decides about notices.
#[derive(Debug, Clone, Default)]
pub struct NoticeSettings {
    /// Whether webhooks may go to this machine, by `http:` too: for trying them out.
    pub allow_loopback: bool,
    /// Whether webhooks may go to addresses that not everybody reaches, such as 10.0.0.0/8.
    pub allow_private: bool,
    /// How e-mail is sent; None: it is not.
    pub mail: Option<Arc<Mail>>,
}

/// What a notice tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub enum Kind {
    /// The vault's key does not answer; `code` says why.
    #[serde(rename = "key.unhealthy")]
    KeyUnhealthy,
    #[serde(rename = "key.healthy")]
    KeyHealthy,
    /// `code` is the kind of credential, `until` its end.
    #[serde(rename = "credential.expiring")]
    CredentialExpiring,
    /// The KEK has an end; reading goes on after it, new wraps do not.
    #[serde(rename = "key.expiring")]
    KeyExpiring,
    /// `code` is the newer key version.
    #[serde(rename = "key.new_version")]
    KeyNewVersion,
    #[serde(rename = "key.purge_protection_off")]
    PurgeProtectionOff,
    #[serde(rename = "key.rights_too_wide")]
    RightsTooWide,
    /// Items left an Azure vault for a Cloud vault, or for another tenant.
    #[serde(rename = "vault.left")]
    VaultLeft,
    /// Somebody takes items of the vault out as a file that is not encrypted; `code` is its format.
    #[serde(rename = "export.readable")]
    ExportedReadable,
    /// `code` is the kind of job.
    #[serde(rename = "job.finished")]
    JobFinished,
    #[serde(rename = "job.failed")]
    JobFailed,
    /// The database was set back behind the server's back; `code` is how many events are gone.
    #[serde(rename = "log.set_back")]
    LogSetBack,
    /// The audit log goes no further; `code` is why.
    #[serde(rename = "log.stopped")]
    LogStopped,
}

/// How much it matters.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Good to know.
    Info,
    /// Needs doing, in time.
    Warning,
    /// Something does not work, or is about to stop.
    Critical,
}

/// A notice to be raised.
#[derive(Clone)]
pub(crate) struct NewNotice {
    pub id: NoticeId,
    pub at: Timestamp,
    pub workspace: WorkspaceId,
    pub vault: Option<VaultId>,
    pub job: Option<JobId>,
    pub kind: Kind,
    pub severity: Severity,
    /// A stable word; what it means depends on the kind.
    pub code: String,
    /// When what it warns of happens.
    pub until: Option<Timestamp>,
    /// What it tells of, in a form that is the same each time it is met: raised again, nothing happens.
    pub once: String,
}

/// A notice as one member sees it.
#[derive(Debug, Clone)]
pub struct Notice {
    pub id: NoticeId,
    pub workspace: WorkspaceId,
    pub kind: Kind,
    pub severity: Severity,
    pub code: String,
    pub vault: Option<VaultId>,
    /// Empty where the vault is gone.
    pub vault_name: String,
    pub job: Option<JobId>,
    pub until: Option<Timestamp>,
    pub at: Timestamp,
    /// When what it tells of was over.
    pub over_at: Option<Timestamp>,
    pub read: bool,
}

/// How many a list holds at most; older ones are in the audit log, as what they told of.
const LISTED: u64 = 500;

impl App {
    /// The workspace's notices, newest first, for those who manage its vaults.
    pub async fn notices(&self, caller: &Caller, unread_only: bool) -> Result<Vec<Notice>> {
        self.authorize_here(caller, Action::ManageVaults).await?;
        let (workspace, member) = (caller.workspace, caller.member);
        let sql = format!(
            "SELECT {NOTICE_COLUMNS}, r.read_at {NOTICE_TABLES} \
             LEFT JOIN notice_reads r ON r.notice_id = n.id AND r.member_id = $2 \
             WHERE n.workspace_id = $1{} ORDER BY n.id DESC LIMIT $3",
            if unread_only { " AND r.read_at IS NULL" } else { "" }
        );
        self.store
            .read(move |tx| {
                let rows = tx.all(&sql, &[workspace.0.into(), member.0.into(), LISTED.into()], |row| {
                    let seen = row.get::<Option<Timestamp>>(NOTICE_WIDTH)?.is_some();
                    Ok(read(row).map(|notice| Notice { read: seen, ..notice }))
                })?;
                Ok(readable(rows))
            })
            .await
    }

    /// How many notices the caller has not read; 0 for those who are told none.
    pub async fn unread_notices(&self, caller: &Caller) -> Result<u64> {
        if !caller.may(Action::ManageVaults, crate::access::Target::Workspace) {
            return Ok(0);
        }
        let (workspace, member) = (caller.workspace, caller.member);
        let sql = "SELECT COUNT(*) FROM notices n LEFT JOIN notice_reads r ON r.notice_id = n.id AND r.member_id = $2 \
                   WHERE n.workspace_id = $1 AND r.read_at IS NULL";
        self.store.read(move |tx| tx.count(sql, &[workspace.0.into(), member.0.into()])).await
    }

    /// Marks notices as read by the caller: these, or all there are. Ids of other workspaces change nothing.
    pub async fn read_notices(&self, caller: &Caller, ids: Option<Vec<NoticeId>>) -> Result<()> {
        self.authorize_here(caller, Action::ManageVaults).await?;
        let (workspace, member, now) = (caller.workspace, caller.member, self.clock.now());
        let all = "INSERT INTO notice_reads (notice_id, member_id, read_at) \
                   SELECT n.id, $2, $3 FROM notices n WHERE n.workspace_id = $1";
        self.store
            .write(move |tx| {
                let who = [workspace.0.into(), member.0.into(), now.into()];
                match &ids {
                    None => {
                        tx.execute(&format!("{all} ON CONFLICT (notice_id, member_id) DO NOTHING"), &who)?;
                    }
                    Some(ids) => {
                        let one = format!("{all} AND n.id = $4 ON CONFLICT (notice_id, member_id) DO NOTHING");
                        for id in ids {
                            tx.execute(&one, &[who[0], who[1], who[2], id.0.into()])?;
                        }
                    }
                }
                Ok(())
            })
            .await
    }

    /// Whether the caller gets notices by e-mail, once the server sends any.
    pub async fn wants_mail(&self, caller: &Caller) -> Result<bool> {
        self.authorize_here(caller, Action::ManageSelf).await?;
        let member = caller.member;
        let sql = "SELECT COUNT(*) FROM notice_mail_refusals WHERE member_id = $1";
        self.store.read(move |tx| Ok(tx.count(sql, &[member.0.into()])? == 0)).await
    }

    pub async fn set_wants_mail(&self, caller: &Caller, wanted: bool) -> Result<()> {
        self.authorize_here(caller, Action::ManageSelf).await?;
        let member = caller.member;
        let sql = match wanted {
            true => "DELETE FROM notice_mail_refusals WHERE member_id = $1",
            false => "INSERT INTO notice_mail_refusals (member_id) VALUES ($1) ON CONFLICT (member_id) DO NOTHING",
        };
        self.store.write(move |tx| tx.execute(sql, &[member.0.into()]).map(drop)).await
    }
}

/// Raises a notice, in the transaction of what it tells of. False when it was raised before.
pub(crate) fn raise(tx: &mut Tx<'_>, new: &NewNotice) -> Result<bool> {
    let written = tx.execute(
        "INSERT INTO notices (id, workspace_id, kind, severity, code, vault_id, job_id, until, once, created_at, sent_out) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 0) ON CONFLICT (workspace_id, once) DO NOTHING",
        &[
            new.id.0.into(),
            new.workspace.0.into(),
            new.kind.word().into(),
            new.severity.word().into(),
            new.code.as_str().into(),
            new.vault.map(|vault| vault.0).into(),
            new.job.map(|job| job.0).into(),
            new.until.into(),
            new.once.as_str().into(),
            new.at.into(),
        ],
    )?;
    Ok(written == 1)
}

/// A vault's key stopped answering, as `event` tells with the stable `code`. One that is known already is not told again.
pub(crate) fn unhealthy(tx: &mut Tx<'_>, event: &Event, code: &str) -> Result<()> {
    let Some(new) = NewNotice::of(event, Kind::KeyUnhealthy, Severity::Critical, code) else { return Ok(()) };
    let open = "SELECT COUNT(*) FROM notices WHERE vault_id = $1 AND kind = $2 AND code = $3 AND over_at IS NULL";
    if tx.count(open, &[event.target.id().into(), Kind::KeyUnhealthy.word().into(), code.into()])? == 0 {
        raise(tx, &new)?;
    }
    Ok(())
}

/// A vault's key answers again, as `event` tells; nothing if nobody was told that it did not.
pub(crate) fn healthy(tx: &mut Tx<'_>, event: &Event) -> Result<()> {
    let Some(new) = NewNotice::of(event, Kind::KeyHealthy, Severity::Info, "") else { return Ok(()) };
    let over = "UPDATE notices SET over_at = $3 WHERE vault_id = $1 AND kind = $2 AND over_at IS NULL";
    let told = tx.execute(over, &[event.target.id().into(), Kind::KeyUnhealthy.word().into(), event.at.into()])?;
    if told > 0 {
        raise(tx, &new)?;
    }
    Ok(())
}

/// What became of the audit log, as `event` of no workspace tells: everybody who manages one is told. `ids` are of the
/// notices, one for each workspace.
pub(crate) fn of_the_log(
    tx: &mut Tx<'_>,
    event: &Event,
    kind: Kind,
    code: &str,
    ids: &[(WorkspaceId, NoticeId)],
) -> Result<()> {
    for (workspace, id) in ids {
        let event = Event { workspace: Some(*workspace), ..event.clone() };
        if let Some(new) = NewNotice::of(&event, kind, Severity::Critical, code) {
            raise(tx, &NewNotice { id: *id, ..new })?;
        }
    }
    Ok(())
}

/// A job is done, as `event` tells; `failed` counts what it left as it was.
pub(crate) fn job_done(tx: &mut Tx<'_>, event: &Event, job: JobId, word: &str, failed: u64) -> Result<()> {
    let (kind, severity) = match failed {
        0 => (Kind::JobFinished, Severity::Info),
        _ => (Kind::JobFailed, Severity::Warning),
    };
    match NewNotice::of(event, kind, severity, word) {
        Some(new) => raise(tx, &NewNotice { job: Some(job), ..new }).map(drop),
        None => Ok(()),
    }
}

impl NewNotice {
    /// What `event` tells, for those who do not read the log: of its vault, with its id and its time. None for an event
    /// of no workspace.
    pub(crate) fn of(event: &Event, kind: Kind, severity: Severity, code: &str) -> Option<Self> {
        Some(Self {
            id: NoticeId(event.id.0),
            at: event.at,
            workspace: event.workspace?,
            vault: match event.target {
                Target::Vault(vault) => Some(vault),
                _ => None,
            },
            job: None,
            kind,
            severity,
            code: code.to_owned(),
            until: None,
            once: event.id.to_string(),
        })
    }
}

/// By kind: how many notices there are, and how many of them are not over; for the metrics.
pub fn counts(tx: &mut Tx<'_>) -> Result<Vec<(String, u64, u64)>> {
    let sql = "SELECT kind, COUNT(*), COUNT(*) - COUNT(over_at) FROM notices GROUP BY kind ORDER BY kind";
    tx.all(sql, &[], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
}

/// The columns that [`read`] takes, and where they are from.
const NOTICE_COLUMNS: &str = "n.id, n.workspace_id, n.kind, n.severity, n.code, n.vault_id, v.name, n.job_id, n.until, \
                              n.created_at, n.over_at";
const NOTICE_TABLES: &str = "FROM notices n LEFT JOIN vaults v ON v.id = n.vault_id";
const NOTICE_WIDTH: usize = 11;

/// A notice as nobody has read it.
fn read(row: &Row<'_>) -> Result<Notice> {
    Ok(Notice {
        id: NoticeId(row.get(0)?),
        workspace: WorkspaceId(row.get(1)?),
        kind: row.parse(2)?,
        severity: row.parse(3)?,
        code: row.get(4)?,
        vault: row.get::<Option<Uuid>>(5)?.map(VaultId),
        vault_name: row.get::<Option<String>>(6)?.unwrap_or_default(),
        job: row.get::<Option<Uuid>>(7)?.map(JobId),
        until: row.get(8)?,
        at: row.get(9)?,
        over_at: row.get(10)?,
        read: false,
    })
}

/// Those rows that this program understands. One that was planted, or written by a newer program, stops no other.
fn readable<T>(rows: Vec<Result<T>>) -> Vec<T> {
    let warn = |error: &crate::error::Error| tracing::warn!(%error, "a row of notices is left out");
    rows.into_iter().filter_map(|row| row.inspect_err(warn).ok()).collect()
}

/// Those who are told: they manage the workspace and have joined.
const MANAGERS: &str =
    "m.role IN ('owner', 'super_admin', 'admin') AND m.removed_at IS NULL AND m.password_hash IS NOT NULL";

impl Kind {
    pub const ALL: [Self; 13] = [
        Self::KeyUnhealthy,
        Self::KeyHealthy,
        Self::CredentialExpiring,
        Self::KeyExpiring,
        Self::KeyNewVersion,
        Self::PurgeProtectionOff,
        Self::RightsTooWide,
        Self::VaultLeft,
        Self::ExportedReadable,
        Self::JobFinished,
        Self::JobFailed,
        Self::LogSetBack,
        Self::LogStopped,
    ];

    /// As rows, webhooks and the API write it.
    pub fn word(self) -> &'static str {
        match self {
            Self::KeyUnhealthy => "key.unhealthy",
            Self::KeyHealthy => "key.healthy",
            Self::CredentialExpiring => "credential.expiring",
            Self::KeyExpiring => "key.expiring",
            Self::KeyNewVersion => "key.new_version",
            Self::PurgeProtectionOff => "key.purge_protection_off",
            Self::RightsTooWide => "key.rights_too_wide",
            Self::VaultLeft => "vault.left",
            Self::ExportedReadable => "export.readable",
            Self::JobFinished => "job.finished",
            Self::JobFailed => "job.failed",
            Self::LogSetBack => "log.set_back",
            Self::LogStopped => "log.stopped",
        }
    }
}

impl Severity {
    pub const ALL: [Self; 3] = [Self::Info, Self::Warning, Self::Critical];

    /// As rows, webhooks and the API write it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

impl FromStr for Kind {
    type Err = ();
    fn from_str(text: &str) -> std::result::Result<Self, ()> {
        Self::ALL.into_iter().find(|kind| kind.word() == text).ok_or(())
    }
}

impl FromStr for Severity {
    type Err = ();
    fn from_str(text: &str) -> std::result::Result<Self, ()> {
        Self::ALL.into_iter().find(|severity| severity.word() == text).ok_or(())
    }
}

/// Who a member is when nobody asks: the address to write to, if they still manage and still want it.
fn mail_address(tx: &mut Tx<'_>, workspace: WorkspaceId, member: MemberId) -> Result<Option<(String, String)>> {
    let sql = format!(
        "SELECT m.name, m.email FROM members m LEFT JOIN notice_mail_refusals f ON f.member_id = m.id \
         WHERE m.id = $1 AND m.workspace_id = $2 AND f.member_id IS NULL AND {MANAGERS}"
    );
    tx.first(&sql, &[member.0.into(), workspace.0.into()], |row| Ok((row.get(0)?, row.get(1)?)))
}
