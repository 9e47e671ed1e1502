//! Who may do what: one pure function over role × action × target, and nothing else decides.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// What a member is in the workspace. Exactly one Owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    Guest,
    User,
    Admin,
    SuperAdmin,
    Owner,
}

/// What a member is to one item. Each includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ItemRole {
    /// Sees and reveals it.
    Viewer,
    /// Edits it too.
    Editor,
    /// Shares, trashes and restores it too.
    Owner,
}

/// Everything a use case can ask leave for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    SeeWorkspace,
    ManageSettings,
    SeeVaults,
    ManageVaults,
    ReadAudit,
    SeeJobs,
    SeeMembers,
    InviteMember,
    ChangeRole,
    RemoveMember,
    /// Taking items, or a vault's key, out of the tenant whose key they are under.
    LeaveAzure,
    TransferOwnership,
    ManageSelf,
    CreateItem,
    ListItems,
    ViewItem,
    RevealItem,
    EditItem,
    ManageItem,
    /// Holding an item role: a Guest is never an item's owner.
    OwnItem,
    TakeOverItem,
}

/// What the action is aimed at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Target {
    /// The workspace, or the caller's own profile.
    Workspace,
    /// A member who has this role, or is to have it.
    Member(Role),
    /// An item to which the caller has this role, or none.
    Item(Option<ItemRole>),
}

impl Action {
    /// In the order of the permission table.
    pub const ALL: [Self; 21] = [
        Self::SeeWorkspace,
        Self::ManageSettings,
        Self::SeeVaults,
        Self::ManageVaults,
        Self::ReadAudit,
        Self::SeeJobs,
        Self::SeeMembers,
        Self::InviteMember,
        Self::ChangeRole,
        Self::RemoveMember,
        Self::LeaveAzure,
        Self::TransferOwnership,
        Self::ManageSelf,
        Self::CreateItem,
        Self::ListItems,
        Self::ViewItem,
        Self::RevealItem,
        Self::EditItem,
        Self::ManageItem,
        Self::OwnItem,
        Self::TakeOverItem,
    ];

    /// The word in audit events and in the table.
    pub fn name(self) -> &'static str {
        match self {
            Self::SeeWorkspace => "workspace.see",
            Self::ManageSettings => "workspace.settings",
            Self::SeeVaults => "vault.list",
            Self::ManageVaults => "vault.manage",
            Self::ReadAudit => "audit.read",
            Self::SeeJobs => "job.list",
            Self::SeeMembers => "member.list",
            Self::InviteMember => "member.invite",
            Self::ChangeRole => "member.change_role",
            Self::RemoveMember => "member.remove",
            Self::LeaveAzure => "vault.leave",
            Self::TransferOwnership => "workspace.transfer",
            Self::ManageSelf => "profile.manage",
            Self::CreateItem => "item.create",
            Self::ListItems => "item.list",
            Self::ViewItem => "item.view",
            Self::RevealItem => "item.reveal",
            Self::EditItem => "item.edit",
            Self::ManageItem => "item.manage",
            Self::OwnItem => "item.own",
            Self::TakeOverItem => "item.take_over",
        }
    }
}

/// True when a member with `role` may do `action` to `target`. A pair that makes no sense is refused.
pub fn allowed(role: Role, action: Action, target: Target) -> bool {
    use Action as A;
    match (action, target) {
        // A Guest sees those vaults only that hold something shared with them.
        (A::SeeWorkspace | A::ManageSelf | A::ListItems | A::SeeVaults, Target::Workspace) => true,
        (A::SeeMembers | A::SeeJobs | A::CreateItem | A::OwnItem, Target::Workspace) => role >= Role::User,
        (A::ManageSettings | A::ManageVaults | A::ReadAudit, Target::Workspace) => role.manages(),
        (A::TransferOwnership | A::LeaveAzure, Target::Workspace) => role == Role::Owner,
        // An Admin does not reach up to Super Admins, and nobody makes, changes or removes the Owner.
        (A::InviteMember | A::ChangeRole | A::RemoveMember, Target::Member(other)) => match role {
            Role::Owner | Role::SuperAdmin => other < Role::Owner,
            Role::Admin => other < Role::SuperAdmin,
            Role::User | Role::Guest => false,
        },
        (A::ViewItem | A::RevealItem, Target::Item(mine)) => mine >= Some(ItemRole::Viewer),
        (A::EditItem, Target::Item(mine)) => mine >= Some(ItemRole::Editor),
        (A::ManageItem, Target::Item(mine)) => mine >= Some(ItemRole::Owner) && role > Role::Guest,
        (A::TakeOverItem, Target::Item(_)) => role >= Role::SuperAdmin,
        _ => false,
    }
}

impl Role {
    pub const ALL: [Self; 5] = [Self::Owner, Self::SuperAdmin, Self::Admin, Self::User, Self::Guest];

    /// The three that manage vaults, settings and members.
    pub fn manages(self) -> bool {
        self >= Self::Admin
    }

    /// As pages say it.
    pub fn title(self) -> &'static str {
        match self {
            Self::Guest => "Guest",
            Self::User => "User",
            Self::Admin => "Admin",
            Self::SuperAdmin => "Super Admin",
            Self::Owner => "Owner",
        }
    }

    /// As rows and the API write it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Guest => "guest",
            Self::User => "user",
            Self::Admin => "admin",
            Self::SuperAdmin => "super_admin",
            Self::Owner => "owner",
        }
    }
}

impl ItemRole {
    pub const ALL: [Self; 3] = [Self::Viewer, Self::Editor, Self::Owner];

    /// As rows and the API write it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Editor => "editor",
            Self::Owner => "owner",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.title())
    }
}

impl FromStr for Role {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|role| role.word() == text).ok_or(())
    }
}

impl FromStr for ItemRole {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|role| role.word() == text).ok_or(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_permission_table_is_the_one_in_the_snapshot() {
        let mut table = String::new();
        let members = Role::ALL.map(Target::Member);
        let items = [None, Some(ItemRole::Viewer), Some(ItemRole::Editor), Some(ItemRole::Owner)].map(Target::Item);
        for action in Action::ALL {
            for target in [Target::Workspace].into_iter().chain(members).chain(items) {
                let who: Vec<_> = Role::ALL.into_iter().filter(|role| allowed(*role, action, target)).collect();
                if !who.is_empty() {
                    let who: Vec<_> = who.iter().map(|role| role.title()).collect();
                    table += &format!("{:<20} {:<22} {}\n", action.name(), format!("{target:?}"), who.join(", "));
                }
            }
        }
        insta::assert_snapshot!(table);
    }

    #[test]
    fn no_workspace_role_reveals_an_item_it_has_no_item_role_for() {
        for role in Role::ALL {
            assert!(!allowed(role, Action::RevealItem, Target::Item(None)));
            assert!(!allowed(role, Action::ViewItem, Target::Item(None)));
        }
    }
}
