//! Role assignments: Resource Manager, Microsoft.Authorization 2022-04-01.

use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    client::{Request, Target},
    plan::Plan,
    resources::arm,
    script::odata,
    step::{Facts, Found, Part, Step},
    way::SetupError,
};

/// *Key Vault Administrator*: may do all that an officer may.
const ADMINISTRATOR: &str = "00482a5a-887f-4fb3-b363-3b7fe8e74483";
/// *Key Vault Crypto Officer*: what the human needs to make a key; Owner and Contributor have no data actions.
const CRYPTO_OFFICER: &str = "14b46e9e-c2b7-41b4-b07b-48a6ebf60603";
/// *Key Vault Crypto Service Encryption User*: read, wrap and unwrap, and nothing else.
const ENCRYPTION_USER: &str = "e147488a-f6f5-4113-8e2d-b22465e65bf6";

/// The administrator's right to make the key.
pub(super) struct Officer;

impl Step for Officer {
    fn part(&self) -> Part {
        Part::Key
    }

    fn thing(&self, _: &Plan) -> String {
        "Key Vault Crypto Officer for yourself, on that Key Vault".to_owned()
    }

    fn why(&self, _: &Plan) -> &'static str {
        "Owner and Contributor may manage a Key Vault, but not the keys in it"
    }

    fn look<'a>(&self, plan: &Plan, facts: &'a Facts) -> Option<Request<'a>> {
        facts.vault_url.as_ref().map(|_| list(&facts.vault_scope(plan), &facts.me.object_id))
    }

    fn read(&self, _: &Plan, answer: &Value, _: &mut Facts) -> Result<Found, SetupError> {
        Ok(held(answer, &[CRYPTO_OFFICER, ADMINISTRATOR]))
    }

    fn make<'a>(&self, plan: &Plan, facts: &'a Facts) -> Request<'a> {
        assign(&facts.vault_scope(plan), CRYPTO_OFFICER, &facts.me.object_id, facts.me.kind, &facts.subscription)
    }

    fn made(&self, _: &Value, _: &mut Facts) -> Result<(), SetupError> {
        Ok(())
    }

    fn afterwards(&self, plan: &Plan, facts: &Facts) -> Option<String> {
        Some(format!(
            "You stay Key Vault Crypto Officer on {}, with rights to all its keys; you need that to disable a key. To end it:\n\
             az role assignment delete --assignee {} --role \"Key Vault Crypto Officer\" --scope {}",
            plan.key_vault,
            facts.me.object_id,
            facts.vault_scope(plan)
        ))
    }

    fn is_there_already(&self, error: &SetupError) -> bool {
        error.is_code("RoleAssignmentExists")
    }

    fn advice(&self, _: &Plan, error: &SetupError) -> Option<String> {
        may_assign(error)
    }

    fn script(&self, _: &Plan) -> String {
        "# You stay it, with rights to all keys there; you need that to disable a key. To end it:\n\
               # az role assignment delete --assignee \"$ME\" --role \"Key Vault Crypto Officer\" --scope \"$KEY_VAULT_ID\"\n\
               az role assignment create --role \"Key Vault Crypto Officer\" --scope \"$KEY_VAULT_ID\" \\\n  \
               --assignee-object-id \"$ME\" --assignee-principal-type \"$ME_KIND\" --output none\n"
            .to_owned()
    }
}

/// The service principal's right to use the key, and that one key only.
pub(super) struct EncryptionUser;

impl Step for EncryptionUser {
    fn part(&self) -> Part {
        Part::Right
    }

    fn thing(&self, _: &Plan) -> String {
        "Key Vault Crypto Service Encryption User for the service principal, on that key".to_owned()
    }

    fn why(&self, _: &Plan) -> &'static str {
        "read, wrap and unwrap with this one key: the least that works"
    }

    fn look<'a>(&self, plan: &Plan, facts: &'a Facts) -> Option<Request<'a>> {
        facts.vault_url.as_ref()?;
        Some(list(&facts.key_scope(plan), facts.principal.as_deref()?))
    }

    /// An application that was found by its name gets the role only while nobody can have a credential of it: every run
    /// makes that last.
    fn read(&self, plan: &Plan, answer: &Value, facts: &mut Facts) -> Result<Found, SetupError> {
        match (held(answer, &[ENCRYPTION_USER]), &facts.namesake) {
            (Found::Missing, Some(namesake)) if namesake.credentials > 0 => {
                Err(facts.not_by_name(plan, namesake, "which may not use this key yet"))
            }
            (found, _) => Ok(found),
        }
    }

    fn make<'a>(&self, plan: &Plan, facts: &'a Facts) -> Request<'a> {
        assign(&facts.key_scope(plan), ENCRYPTION_USER, facts.principal(), "ServicePrincipal", &facts.subscription)
    }

    fn made(&self, _: &Value, _: &mut Facts) -> Result<(), SetupError> {
        Ok(())
    }

    fn is_there_already(&self, error: &SetupError) -> bool {
        error.is_code("RoleAssignmentExists")
    }

    fn waits_for(&self, error: &SetupError) -> Option<&'static str> {
        let replicating = error.is_code("PrincipalNotFound") || error.says(" does not exist in the directory ");
        replicating.then_some("the new service principal to be known to Resource Manager")
    }

    fn advice(&self, _: &Plan, error: &SetupError) -> Option<String> {
        may_assign(error)
    }

    fn script(&self, _: &Plan) -> String {
        "patiently az role assignment create --role \"Key Vault Crypto Service Encryption User\" \\\n  \
               --scope \"$KEY_VAULT_ID/keys/$KEY\" --assignee-object-id \"$PRINCIPAL\" --assignee-principal-type ServicePrincipal --output none\n"
            .to_owned()
    }
}

/// What the principal holds at the scope and above, by itself or through a group.
fn list(scope: &str, principal: &str) -> Request<'static> {
    let path = format!("{scope}/providers/Microsoft.Authorization/roleAssignments");
    let mut request = arm("GET", path, "2022-04-01");
    request.query.push(("$filter", format!("atScope() and assignedTo({})", odata(principal))));
    request
}

fn held(answer: &Value, roles: &[&str]) -> Found {
    let rows = answer.get("value").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let role = |row: &Value| row.pointer("/properties/roleDefinitionId").and_then(Value::as_str).map(str::to_lowercase);
    let fits = |row: &Value| role(row).is_some_and(|found| roles.iter().any(|wanted| found.ends_with(wanted)));
    if rows.iter().any(fits) { Found::There(Vec::new()) } else { Found::Missing }
}

fn assign(scope: &str, role: &str, principal: &str, kind: &str, subscription: &str) -> Request<'static> {
    // A name made of what is assigned: the same assignment made twice, even at the same time, is one.
    let digest = strongroom_envelope::digest(format!("{scope}|{role}|{principal}").as_bytes());
    let name = uuid::Builder::from_custom_bytes(digest[..16].try_into().expect("16 of 32 bytes")).into_uuid();
    let role = Uuid::parse_str(role).expect("a constant of this file");
    let definition = format!("/subscriptions/{subscription}/providers/Microsoft.Authorization/roleDefinitions/{role}");
    let properties = json!({"roleDefinitionId": definition, "principalId": principal, "principalType": kind});
    let path = format!("{scope}/providers/Microsoft.Authorization/roleAssignments/{name}");
    Request { target: Target::Arm, body: Some(json!({"properties": properties})), ..arm("PUT", path, "2022-04-01") }
}

fn may_assign(error: &SetupError) -> Option<String> {
    error.is_forbidden().then(|| {
        "your account may not assign roles here: that takes Owner, User Access Administrator or Role Based Access \
         Control Administrator on the Key Vault"
            .to_owned()
    })
}
