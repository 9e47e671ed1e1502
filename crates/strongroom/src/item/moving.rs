//! Moves between vaults: one item, a selection, or a whole vault, either way between strategies. Asking shows what it
//! comes to; starting it makes a job, which `reseal` works on while readers and writers go on.

use std::collections::{BTreeSet, HashSet};

use strongroom_envelope::InstanceKeys;

use super::{ItemRow, rows};
use crate::{
    access::{self, Action, Role, Target as Aim},
    app::{App, Caller},
    audit::Target,
    error::{Error, Result},
    id::{ItemId, JobId, NoticeId, VaultId},
    job::{Job, JobKind, JobState, NewJob, UNREADABLE},
    keyring::{Policy, Strategy, VaultState, load_provider, providers_of},
    notice::{self, Kind, NewNotice, Severity},
    store::Tx,
};

/// Items that one request may choose.
pub const MAX_MOVE: usize = 5_000;

/// What to move, and where to.
#[derive(Debug, Clone)]
pub struct MoveRequest {
    pub what: MoveWhat,
    pub to: VaultId,
    /// Only say what it would come to.
    pub dry_run: bool,
}

#[derive(Debug, Clone)]
pub enum MoveWhat {
    /// At most 5,000 items, of any vaults.
    Items(Vec<ItemId>),
    /// Everything in a vault, its trash and what comes into it meanwhile included.
    Vault(VaultId),
}

/// What a move comes to.
#[derive(Debug, Clone, Default)]
pub struct MovePlan {
    pub items: u64,
    /// Of those items, older ones included.
    pub revisions: u64,
    /// Sealed bytes that are read, and as many that are written.
    pub bytes: u64,
    /// Items leave the customer's own key, for one that this server holds or one in another tenant.
    pub weakens: bool,
    /// Chosen items that stay, each with the code of the reason.
    pub refused: Vec<(ItemId, &'static str)>,
    /// The job that does it; None for a dry run.
    pub job: Option<JobId>,
}

impl App {
    /// Moves items to another vault: re-encrypted under new data keys, with their history and their shares.
    ///
    /// A whole vault is for who manages vaults, chosen items for their owners. Leaving the key of one's own tenant, for
    /// a Cloud vault or another tenant, is for the workspace's Owner, where the vault's policy lets items leave. Both need
    /// a fresh sign-in.
    pub async fn move_items(&self, caller: &Caller, request: MoveRequest) -> Result<MovePlan> {
        let (chosen, refused) = match &request.what {
            MoveWhat::Vault(vault) => {
                self.authorize(caller, Action::ManageVaults, Aim::Workspace, Target::Vault(*vault)).await?;
                self.require_fresh(caller)?;
                (None, Vec::new())
            }
            MoveWhat::Items(ids) => {
                self.authorize_here(caller, Action::CreateItem).await?;
                let (chosen, refused) = self.movable(caller, ids, request.to).await?;
                (Some(chosen), refused)
            }
        };
        let sources: BTreeSet<VaultId> = match (&request.what, &chosen) {
            (MoveWhat::Vault(vault), _) => BTreeSet::from([*vault]),
            (_, chosen) => chosen.iter().flatten().map(|row| row.vault).collect(),
        };
        if sources.contains(&request.to) {
            return Err(Error::field("to", "The items are in this vault already; choose another."));
        }
        let leaving = self.may_move(caller, &sources, request.to).await?;
        let (items, revisions, bytes) = self.measure(&request.what, chosen.as_deref()).await?;
        let plan = MovePlan { items, revisions, bytes, weakens: !leaving.is_empty(), refused, job: None };
        if request.dry_run {
            return Ok(plan);
        }
        if sources.is_empty() {
            return Err(nothing_to_move(&plan));
        }
        self.start_move(caller, &request, (sources, leaving), chosen.unwrap_or_default(), plan).await
    }

    /// The chosen items that the caller may move, and why the others stay.
    async fn movable(
        &self,
        caller: &Caller,
        ids: &[ItemId],
        to: VaultId,
    ) -> Result<(Vec<ItemRow>, Vec<(ItemId, &'static str)>)> {
        if ids.is_empty() || ids.len() > MAX_MOVE {
            return Err(Error::field("items", format!("Choose 1 to {MAX_MOVE} items.")));
        }
        let ids: Vec<ItemId> = ids.iter().copied().collect::<BTreeSet<_>>().into_iter().collect();
        let (asked, member, workspace) = (ids.clone(), caller.member, caller.workspace);
        let mut rows = self.store.read(move |tx| rows::visible_of(tx, member, &asked)).await?;
        rows.retain(|row| row.workspace == workspace);
        let seen: HashSet<ItemId> = rows.iter().map(|row| row.id).collect();
        let mut refused: Vec<_> = ids.into_iter().filter(|id| !seen.contains(id)).map(|id| (id, "not_found")).collect();
        rows.retain(|row| {
            let why = match row.role {
                role if !caller.may(Action::ManageItem, Aim::Item(role)) => "denied",
                _ if row.vault == to => "item.there",
                _ => return true,
            };
            refused.push((row.id, why));
            false
        });
        Ok((rows, refused))
    }

    /// Refuses a move whose vaults do not allow it now; returns those vaults whose items live under a weaker promise
    /// after it.
    async fn may_move(&self, caller: &Caller, sources: &BTreeSet<VaultId>, to: VaultId) -> Result<Vec<VaultId>> {
        let (vaults, keys) = (sources.clone(), self.keys.clone());
        let workspace = caller.workspace;
        let (from, to) = self
            .store
            .read(move |tx| {
                let mut side = |vault| {
                    let side = Side::held(tx, &keys, vault)?;
                    if side.policy.workspace == workspace { Ok(side) } else { Err(Error::NotFound("vault")) }
                };
                let from = vaults.iter().map(|vault| side(*vault)).collect::<Result<Vec<_>>>()?;
                Ok((from, side(to)?))
            })
            .await?;
        require_target(&to.policy)?;
        let leaving: Vec<_> = from.iter().filter(|from| from.loses_by(&to)).collect();
        if !leaving.is_empty() {
            self.authorize(caller, Action::LeaveAzure, Aim::Workspace, Target::Vault(to.policy.vault)).await?;
            self.require_fresh(caller)?;
            leaving.iter().try_for_each(|from| require_leave(&from.policy))?;
        }
        let leaving = leaving.into_iter().map(|from| from.policy.vault).collect();
        // While a vault is dark, nothing of it moves.
        for Side { policy, .. } in from.iter().chain([&to]) {
            self.keyring.lease(policy.vault, policy.generation).await?;
        }
        Ok(leaving)
    }

    /// Items, revisions and sealed bytes.
    async fn measure(&self, what: &MoveWhat, chosen: Option<&[ItemRow]>) -> Result<(u64, u64, u64)> {
        let (one, ids): (&str, Vec<uuid::Uuid>) = match what {
            MoveWhat::Vault(vault) => ("i.vault_id", vec![vault.0]),
            MoveWhat::Items(_) => ("i.id", chosen.into_iter().flatten().map(|row| row.id.0).collect()),
        };
        let size =
            |table| format!("COALESCE(SUM(length({table}.sealed_overview) + length({table}.sealed_details)), 0)");
        let current = format!("SELECT COUNT(*), CAST({} AS BIGINT) FROM items i WHERE {one} = $1", size("i"));
        let older = format!(
            "SELECT COUNT(*), CAST({} AS BIGINT) FROM items i JOIN item_revisions h ON h.item_id = i.id WHERE {one} = $1",
            size("h")
        );
        self.store
            .read(move |tx| {
                let mut sum = (0, 0, 0);
                for id in &ids {
                    let mut ask = |sql: &str| {
                        let row = tx.first(sql, &[(*id).into()], |row| Ok((row.get::<u64>(0)?, row.get::<u64>(1)?)))?;
                        Ok::<_, Error>(row.unwrap_or_default())
                    };
                    let ((items, bytes), (revisions, more)) = (ask(&current)?, ask(&older)?);
                    sum = (sum.0 + items, sum.1 + items + revisions, sum.2 + bytes + more);
                }
                Ok(sum)
            })
            .await
    }

    /// Writes the job, and a notice to all who manage vaults where items leave their key, if everything that allowed it
    /// still does.
    async fn start_move(
        &self,
        caller: &Caller,
        request: &MoveRequest,
        (sources, leaving): (BTreeSet<VaultId>, Vec<VaultId>),
        chosen: Vec<ItemRow>,
        plan: MovePlan,
    ) -> Result<MovePlan> {
        let vault = chosen.first().map(|row| row.vault).or_else(|| sources.first().copied());
        let vault = vault.ok_or_else(|| nothing_to_move(&plan))?;
        let items: Vec<_> = chosen.iter().map(|row| (row.id, row.vault)).collect();
        let starting = self.new_job(
            caller,
            NewJob {
                kind: JobKind::Move,
                vault,
                target: Some(request.to),
                total: 0,
                weakens: !leaving.is_empty(),
                items: items.clone(),
            },
        )?;
        let notices = self.leaving_notices(caller, starting.id(), &leaving, "")?;
        let (caller, keys, to) = (caller.clone(), self.keys.clone(), request.to);
        let job = self
            .store
            .write(move |tx| {
                let whole = if items.is_empty() { Action::ManageVaults } else { Action::CreateItem };
                rows::still_allowed(tx, &caller, None, whole)?;
                for (item, _) in &items {
                    rows::still_allowed(tx, &caller, Some(*item), Action::ManageItem)?;
                }
                if !leaving.is_empty() {
                    rows::still_allowed(tx, &caller, None, Action::LeaveAzure)?;
                }
                require_policies(tx, &keys, &sources, to, !leaving.is_empty())?;
                for notice in &notices {
                    notice::raise(tx, notice)?;
                }
                starting.start(tx)
            })
            .await?;
        Ok(MovePlan { job: Some(job), ..plan })
    }

    /// The notices of a job that goes on after it stopped, where items leave their key by it.
    pub(crate) async fn leaving_again(&self, caller: &Caller, job: &Job) -> Result<Vec<NewNotice>> {
        let Some(target) = job.target.filter(|_| job.weakens && job.state == JobState::Paused) else {
            return Ok(Vec::new());
        };
        let (id, keys) = (job.id, self.keys.clone());
        let leaving = self
            .store
            .read(move |tx| {
                let sql = "SELECT DISTINCT vault_id FROM job_items WHERE job_id = $1 AND outcome IS NULL";
                let mut vaults = tx.all(sql, &[id.0.into()], |row| Ok(VaultId(row.get(0)?)))?;
                // One that is gone, or was changed behind our back, is refused when its turn comes.
                let Ok(to) = Side::held(tx, &keys, target) else { return Ok(Vec::new()) };
                vaults.retain(|vault| Side::held(tx, &keys, *vault).is_ok_and(|from| from.loses_by(&to)));
                Ok(vaults)
            })
            .await?;
        self.leaving_notices(caller, job.id, &leaving, &format!("/{}", self.clock.now().as_millisecond()))
    }

    /// `again` tells one from those that the same job raised before.
    fn leaving_notices(&self, caller: &Caller, job: JobId, leaving: &[VaultId], again: &str) -> Result<Vec<NewNotice>> {
        let at = self.clock.now();
        let notice = |vault: &VaultId| {
            Ok(NewNotice {
                id: NoticeId::generate(at, self.random.as_ref())?,
                at,
                workspace: caller.workspace,
                vault: Some(*vault),
                job: Some(job),
                kind: Kind::VaultLeft,
                severity: Severity::Warning,
                code: String::new(),
                until: None,
                once: format!("{}/{vault}/{job}{again}", Kind::VaultLeft.word()),
            })
        };
        leaving.iter().map(notice).collect()
    }
}

/// In a transaction that starts or does a move: what was allowed a moment ago still is. Holds the vaults' rows.
pub(super) fn require_policies(
    tx: &mut Tx<'_>,
    keys: &InstanceKeys,
    sources: &BTreeSet<VaultId>,
    to: VaultId,
    may_weaken: bool,
) -> Result<()> {
    let to = Side::held(tx, keys, to)?;
    require_target(&to.policy)?;
    for source in sources {
        let from = Side::held(tx, keys, *source)?;
        if from.loses_by(&to) {
            require_leave(&from.policy)?;
            if !may_weaken {
                return Err(Error::conflict(
                    "vault.changed",
                    "the vaults changed meanwhile",
                    "Look again, and repeat it.",
                ));
            }
        }
    }
    Ok(())
}

/// In a transaction that works on a job: no node has seen the key of one of these denied, and none is switched off.
/// Holds the vaults' rows.
pub(super) fn require_readable(tx: &mut Tx<'_>, vaults: &BTreeSet<VaultId>) -> Result<()> {
    for vault in vaults {
        let state = tx
            .first_locked("SELECT state FROM vaults WHERE id = $1", &[vault.0.into()], |row| row.get::<String>(0))?
            .ok_or(Error::NotFound("vault"))?;
        let dark = "SELECT COUNT(*) FROM key_states WHERE vault_id = $1 AND status = 'dark'";
        if state == VaultState::Disabled.word() || tx.count(dark, &[vault.0.into()])? > 0 {
            return Err(Error::conflict(
                UNREADABLE,
                "the vault's key is denied, or the vault is switched off: nothing of it is worked on",
                "It goes on once the vault can be read again.",
            ));
        }
    }
    Ok(())
}

/// Whether whoever started a job for chosen items, `role` in the workspace, may still move this one.
pub(super) fn may_still_move(tx: &mut Tx<'_>, job: &Job, role: Role, item: ItemId) -> Result<bool> {
    if job.whole {
        return Ok(true);
    }
    let held = tx.first(
        "SELECT role FROM item_roles WHERE item_id = $1 AND member_id = $2",
        &[item.0.into(), job.started_by.0.into()],
        |row| row.parse(0),
    )?;
    Ok(access::allowed(role, Action::ManageItem, Aim::Item(held)))
}

/// One vault of a move.
struct Side {
    policy: Policy,
    /// Those who can switch its keys off; more than one while it goes from one to another. Of a Cloud vault there is
    /// none, which stands here as the empty one.
    tenants: BTreeSet<String>,
}

impl Side {
    /// Its rows, proven, and the vault's held until the transaction ends.
    fn held(tx: &mut Tx<'_>, keys: &InstanceKeys, vault: VaultId) -> Result<Self> {
        let policy = Policy::held(tx, keys, vault)?;
        let current = load_provider(tx, keys, &policy)?;
        let all = providers_of(tx, keys, &policy)?;
        let tenants = all.iter().chain([&current]).map(|provider| provider.tenant_id.to_lowercase()).collect();
        Ok(Self { policy, tenants })
    }

    /// Whether its items would open with a key that none of its tenants can switch off: the promise of a key in Azure.
    fn loses_by(&self, to: &Self) -> bool {
        self.policy.strategy == Strategy::AzureExternalKeys
            && (to.policy.strategy == Strategy::Cloud || !to.tenants.is_subset(&self.tenants))
    }
}

fn require_target(to: &Policy) -> Result<()> {
    match to.state {
        VaultState::Active => Ok(()),
        VaultState::Closed | VaultState::Disabled => {
            Err(Error::conflict("vault.closed", "that vault takes no new items", "Choose another vault."))
        }
    }
}

fn require_leave(from: &Policy) -> Result<()> {
    if from.may_leave {
        return Ok(());
    }
    Err(Error::conflict(
        "vault.may_not_leave",
        "items may not leave this vault's key for a Cloud vault or another tenant: its policy forbids it",
        "The Owner can allow it in the vault's settings, or with `strongroom vault edit VAULT --may-leave on`.",
    ))
}

fn nothing_to_move(plan: &MovePlan) -> Error {
    let fix = match plan.refused.first() {
        Some((_, "item.there")) => "They are there already.",
        Some((_, "denied")) => "Ask an owner of the items, or let one make you an owner.",
        _ => "Check the items; they may have been deleted, or not be shared with you.",
    };
    Error::conflict("move.nothing", "there is nothing that you can move there", fix)
}
