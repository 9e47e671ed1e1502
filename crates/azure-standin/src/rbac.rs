//! Azure RBAC: the built-in roles that matter to Key Vault, and the question whether a principal may do something.
//! Source: learn.microsoft.com/azure/role-based-access-control/built-in-roles and the Key Vault RBAC guide.

use crate::state::{Assignment, State};

pub(crate) struct Role {
    pub id: &'static str,
    pub name: &'static str,
    pub actions: &'static [&'static str],
    pub not_actions: &'static [&'static str],
    pub data_actions: &'static [&'static str],
}

pub(crate) const OWNER: &str = "8e3af657-a8ff-443c-a75c-2fe8c4bcb635";

const KEY_VAULT_READS: &[&str] = &[
    "Microsoft.Authorization/*/read",
    "Microsoft.Resources/deployments/*",
    "Microsoft.Resources/subscriptions/resourceGroups/read",
    "Microsoft.KeyVault/checkNameAvailability/read",
    "Microsoft.KeyVault/deletedVaults/read",
    "Microsoft.KeyVault/locations/*/read",
    "Microsoft.KeyVault/vaults/*/read",
    "Microsoft.KeyVault/operations/read",
];

/// A role that governs Azure resources only.
const fn control(
    id: &'static str,
    name: &'static str,
    actions: &'static [&'static str],
    not_actions: &'static [&'static str],
) -> Role {
    Role { id, name, actions, not_actions, data_actions: &[] }
}

/// A role for what is inside Key Vaults.
const fn data(
    id: &'static str,
    name: &'static str,
    actions: &'static [&'static str],
    data_actions: &'static [&'static str],
) -> Role {
    Role { id, name, actions, not_actions: &[], data_actions }
}

pub(crate) const ROLES: &[Role] = &[
    control(OWNER, "Owner", &["*"], &[]),
    control(
        "b24988ac-6180-42a0-ab88-20f7382dd24c",
        "Contributor",
        &["*"],
        &["Microsoft.Authorization/*/Delete", "Microsoft.Authorization/*/Write"],
    ),
    control("acdd72a7-3385-48ef-bd42-f606fba81ae7", "Reader", &["*/read"], &[]),
    control(
        "18d7d88d-d35e-4fb5-a5c3-7773c20a72d9",
        "User Access Administrator",
        &["*/read", "Microsoft.Authorization/*"],
        &[],
    ),
    control(
        "f25e0fa2-a7c8-4377-a976-54943a77a395",
        "Key Vault Contributor",
        &[
            "Microsoft.Authorization/*/read",
            "Microsoft.KeyVault/*",
            "Microsoft.Resources/subscriptions/resourceGroups/read",
        ],
        &["Microsoft.KeyVault/locations/deletedVaults/purge/action", "Microsoft.KeyVault/hsmPools/*"],
    ),
    control(
        "8b54135c-b56d-4d72-a534-26097cfdc8d8",
        "Key Vault Data Access Administrator",
        &[
            "Microsoft.Authorization/roleAssignments/write",
            "Microsoft.Authorization/roleAssignments/delete",
            "Microsoft.Authorization/*/read",
            "Microsoft.Resources/subscriptions/resourceGroups/read",
            "Microsoft.KeyVault/vaults/*/read",
        ],
        &[],
    ),
    data(
        "00482a5a-887f-4fb3-b363-3b7fe8e74483",
        "Key Vault Administrator",
        KEY_VAULT_READS,
        &["Microsoft.KeyVault/vaults/*"],
    ),
    data(
        "14b46e9e-c2b7-41b4-b07b-48a6ebf60603",
        "Key Vault Crypto Officer",
        KEY_VAULT_READS,
        &["Microsoft.KeyVault/vaults/keys/*", "Microsoft.KeyVault/vaults/keyrotationpolicies/*"],
    ),
    data(
        "12338af0-0e69-4776-bea7-57ae8d297424",
        "Key Vault Crypto User",
        &[],
        &[
            "Microsoft.KeyVault/vaults/keys/read",
            "Microsoft.KeyVault/vaults/keys/update/action",
            "Microsoft.KeyVault/vaults/keys/backup/action",
            "Microsoft.KeyVault/vaults/keys/encrypt/action",
            "Microsoft.KeyVault/vaults/keys/decrypt/action",
            "Microsoft.KeyVault/vaults/keys/wrap/action",
            "Microsoft.KeyVault/vaults/keys/unwrap/action",
            "Microsoft.KeyVault/vaults/keys/sign/action",
            "Microsoft.KeyVault/vaults/keys/verify/action",
        ],
    ),
    data(
        "e147488a-f6f5-4113-8e2d-b22465e65bf6",
        "Key Vault Crypto Service Encryption User",
        &[],
        &[
            "Microsoft.KeyVault/vaults/keys/read",
            "Microsoft.KeyVault/vaults/keys/wrap/action",
            "Microsoft.KeyVault/vaults/keys/unwrap/action",
        ],
    ),
    data(
        "08bbd89e-9f13-488c-ac41-acfcb10c90ab",
        "Key Vault Crypto Service Release User",
        &[],
        &["Microsoft.KeyVault/vaults/keys/release/action"],
    ),
    data(
        "21090545-7ca7-4776-b22c-e363652d74d2",
        "Key Vault Reader",
        KEY_VAULT_READS,
        &["Microsoft.KeyVault/vaults/*/read", "Microsoft.KeyVault/vaults/secrets/readMetadata/action"],
    ),
    data(
        "4633458b-17de-408a-b874-0445c86b69e6",
        "Key Vault Secrets User",
        &[],
        &[
            "Microsoft.KeyVault/vaults/secrets/getSecret/action",
            "Microsoft.KeyVault/vaults/secrets/readMetadata/action",
        ],
    ),
    data(
        "b86a8fe4-44ce-4948-aee5-eccb2c155cd7",
        "Key Vault Secrets Officer",
        KEY_VAULT_READS,
        &["Microsoft.KeyVault/vaults/secrets/*"],
    ),
    data(
        "a4417e6f-fecd-4de8-b567-7b0420556985",
        "Key Vault Certificates Officer",
        KEY_VAULT_READS,
        &[
            "Microsoft.KeyVault/vaults/certificatecas/*",
            "Microsoft.KeyVault/vaults/certificates/*",
            "Microsoft.KeyVault/vaults/certificatecontacts/write",
        ],
    ),
];

pub(crate) fn role(id: &str) -> Option<&'static Role> {
    ROLES.iter().find(|role| role.id.eq_ignore_ascii_case(id))
}

/// Whether `principal` may do the management `action` at `scope`.
pub(crate) fn allows(state: &State, now: i64, principal: &str, scope: &str, action: &str) -> bool {
    in_force(state, now, principal, scope).any(|(_, role)| any(role.actions, action) && !any(role.not_actions, action))
}

/// The assignment by which `principal` may do the data action, as Key Vault's data plane asks.
pub(crate) fn allows_data(state: &State, now: i64, principal: &str, scope: &str, action: &str) -> Option<String> {
    in_force(state, now, principal, scope)
        .find(|(_, role)| any(role.data_actions, action))
        .map(|(assignment, _)| assignment.name.clone())
}

/// Whether `scope` is `parent` or lies below it.
pub(crate) fn within(scope: &str, parent: &str) -> bool {
    let (scope, parent) = (scope.to_ascii_lowercase(), parent.to_ascii_lowercase());
    scope.strip_prefix(parent.trim_end_matches('/')).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn in_force<'a>(
    state: &'a State,
    now: i64,
    principal: &'a str,
    scope: &'a str,
) -> impl Iterator<Item = (&'a Assignment, &'static Role)> {
    state
        .assignments
        .iter()
        .filter(move |found| found.effective <= now && found.principal.eq_ignore_ascii_case(principal))
        .filter(move |found| within(scope, &found.scope))
        .filter_map(|found| Some((found, role(&found.role)?)))
}

fn any(patterns: &[&str], action: &str) -> bool {
    patterns.iter().any(|pattern| matches(&pattern.to_ascii_lowercase(), &action.to_ascii_lowercase()))
}

/// `*` stands for any characters, slashes included.
fn matches(pattern: &str, action: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == action,
        Some((head, tail)) => action.strip_prefix(head).is_some_and(|rest| {
            rest.char_indices().map(|(at, _)| at).chain([rest.len()]).any(|at| matches(tail, &rest[at..]))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_in_a_role_stands_for_any_depth() {
        assert!(any(&["*/read"], "Microsoft.KeyVault/vaults/read"));
        assert!(any(&["Microsoft.Authorization/*/Delete"], "microsoft.authorization/roleAssignments/delete"));
        assert!(!any(&["Microsoft.KeyVault/vaults/keys/*"], "Microsoft.KeyVault/vaults/secrets/read"));
    }

    #[test]
    fn a_scope_ends_at_a_slash() {
        assert!(within("/subscriptions/s/resourceGroups/RG/x", "/subscriptions/s/resourcegroups/rg"));
        assert!(!within("/subscriptions/s/resourceGroups/rg2", "/subscriptions/s/resourceGroups/rg"));
    }
}
