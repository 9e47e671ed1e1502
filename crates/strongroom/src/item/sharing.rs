//! Who sees an item: roles to it, and taking it over.

use super::rows;
use crate::{
    access::{self, Action, ItemRole, Role, Target as Aim},
    app::{App, Caller},
    audit::Target,
    error::{Error, Result},
    id::{ItemId, MemberId},
};

/// A member and what they are to an item.
pub struct Grant {
    pub member: MemberId,
    pub email: String,
    pub name: String,
    pub role: ItemRole,
}

impl App {
    /// Everybody with a role to the item.
    pub async fn item_grants(&self, caller: &Caller, id: ItemId) -> Result<Vec<Grant>> {
        self.item_for(caller, id, Action::ViewItem).await?;
        self.store
            .read(move |tx| {
                tx.all(
                    "SELECT r.member_id, m.email, m.name, r.role FROM item_roles r JOIN members m ON m.id = r.member_id \
                     WHERE r.item_id = $1 ORDER BY m.email",
                    &[id.0.into()],
                    |row| {
                        Ok(Grant {
                            member: MemberId(row.get(0)?),
                            email: row.get(1)?,
                            name: row.get(2)?,
                            role: row.parse(3)?,
                        })
                    },
                )
            })
            .await
    }

    /// Gives a member of the workspace a role to the item, or another one.
    pub async fn share_item(&self, caller: &Caller, id: ItemId, member: MemberId, role: ItemRole) -> Result<()> {
        let row = self.item_for(caller, id, Action::ManageItem).await?;
        self.keyring.lease(row.vault, row.generation).await?;
        let facts = vec![("member", member.0.into()), ("role", role.word().into())];
        let event = self.event(caller, "item.grant", Target::Item(id), facts)?;
        let (caller, now) = (caller.clone(), self.clock.now());
        self.store
            .write(move |tx| {
                rows::still_allowed(tx, &caller, Some(id), Action::ManageItem)?;
                let with: Role = tx
                    .first(
                        "SELECT role FROM members WHERE id = $1 AND workspace_id = $2 AND removed_at IS NULL",
                        &[member.0.into(), caller.workspace.0.into()],
                        |row| row.parse(0),
                    )?
                    .ok_or(Error::NotFound("member"))?;
                if role == ItemRole::Owner && !access::allowed(with, Action::OwnItem, Aim::Workspace) {
                    return Err(Error::field("role", "A Guest can be a viewer or an editor, not an owner."));
                }
                rows::grant(tx, id, member, role, caller.member, now)?;
                keep_an_owner(tx, id)?;
                tx.record(&event)
            })
            .await
    }

    /// Takes a member's role to the item away.
    pub async fn unshare_item(&self, caller: &Caller, id: ItemId, member: MemberId) -> Result<()> {
        let row = self.item_for(caller, id, Action::ManageItem).await?;
        self.keyring.lease(row.vault, row.generation).await?;
        let event = self.event(caller, "item.ungrant", Target::Item(id), vec![("member", member.0.into())])?;
        let caller = caller.clone();
        self.store
            .write(move |tx| {
                rows::still_allowed(tx, &caller, Some(id), Action::ManageItem)?;
                if !rows::ungrant(tx, id, member)? {
                    return Err(Error::NotFound("share"));
                }
                keep_an_owner(tx, id)?;
                tx.record(&event)
            })
            .await
    }

    /// Makes the caller an owner of somebody else's item. Loud: an event of its own, and a fresh sign-in.
    pub async fn take_over_item(&self, caller: &Caller, id: ItemId) -> Result<()> {
        let (workspace, by) = (caller.workspace, caller.member);
        let row = self.store.read(move |tx| rows::find(tx, workspace, by, id)).await?;
        self.authorize(caller, Action::TakeOverItem, Aim::Item(row.role), Target::Item(id)).await?;
        self.require_fresh(caller)?;
        let event = self.event(caller, "item.take_over", Target::Item(id), vec![("member", by.0.into())])?;
        let (caller, now) = (caller.clone(), self.clock.now());
        self.store
            .write(move |tx| {
                rows::still_allowed(tx, &caller, Some(id), Action::TakeOverItem)?;
                rows::grant(tx, id, by, ItemRole::Owner, by, now)?;
                tx.record(&event)
            })
            .await
    }
}

fn keep_an_owner(tx: &mut crate::store::Tx<'_>, id: ItemId) -> Result<()> {
    let owners = tx.count("SELECT COUNT(*) FROM item_roles WHERE item_id = $1 AND role = 'owner'", &[id.0.into()])?;
    if owners == 0 {
        return Err(Error::conflict(
            "item.last_owner",
            "an item needs at least one owner",
            "Make somebody else an owner first.",
        ));
    }
    Ok(())
}
