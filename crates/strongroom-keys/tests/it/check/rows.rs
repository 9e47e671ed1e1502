//! The twenty-seven ways in which a key in Azure Key Vault has failed for users of other products, as their issue
//! trackers and vendors' documents tell it: for each the test in which the stand-in produces it and the check names
//! it, or why it cannot be produced.

use azure_standin::{Effect, Preset};
use serde_json::json;
use strongroom_keys::CredentialInput;
use strongroom_keys::check::{CheckLine, CheckStatus};

use super::{check_now, check_with, find, first_failure};
use crate::tenant::{HOST, KEY, Tenant, VAULT, answer};

enum Row {
    /// The test in this file, or `file::test` in one of [`FILES`].
    Test(&'static str),
    NotProducible(&'static str),
}
use Row::{NotProducible, Test};

const ROWS: [(u8, &str, Row); 27] = [
    (1, "AADSTS7000215", Test("a_wrong_secret_is_named")),
    (2, "AADSTS7000222", Test("an_expired_secret_is_named")),
    (3, "AADSTS700016", Test("a_client_id_of_nothing_is_named")),
    (4, "AADSTS90002", Test("an_unknown_tenant_is_named")),
    (5, "AADSTS500011 for a private link name", Test("a_private_link_name_is_refused_before_anything_is_sent")),
    (6, "AKV10032, another tenant", Test("a_key_vault_of_another_tenant_is_named_with_both_tenants")),
    (7, "403 ForbiddenByRbac", Test("a_missing_role_is_named_with_who_what_and_where")),
    (8, "403 though the role is assigned", Test("access_policies_are_named_where_a_role_has_no_effect")),
    (9, "403 on GET, the rest allowed", Test("a_role_without_read_is_named_by_the_missing_action")),
    (
        10,
        "403 ForbiddenByFirewall, ForbiddenByConnection",
        Test("a_firewall_is_named_with_our_address_and_not_remembered"),
    ),
    (11, "the host name cannot be resolved", Test("way::an_unknown_host_is_named")),
    (12, "UnknownIssuer", Test("way::an_untrusted_authority_is_named_for_the_host_that_shows_it")),
    (13, "400, unable to decrypt", Test("a_key_version_that_did_not_wrap_it_is_named")),
    (
        14,
        "an old key version disabled too early",
        Test("existing::a_disabled_key_version_that_the_vault_uses_fails_with_the_command_that_enables_it"),
    ),
    (15, "an expired key", Test("an_expired_key_is_named_with_what_stops")),
    (16, "403 KeyDisabled", Test("a_disabled_key_is_named_with_the_command_that_enables_it")),
    (17, "403 KeyOperationForbidden", Test("operations_that_the_key_lacks_are_named")),
    (18, "404 KeyNotFound, soft-deleted", Test("a_deleted_key_is_named_with_the_command_that_recovers_it")),
    (
        19,
        "no recovery without a restart",
        Test("dark::a_disabled_key_turns_the_vault_dark_and_an_enabled_one_brings_all_back"),
    ),
    (20, "429 VaultRequestTypeLimitReached", Test("way::throttling_is_named_at_once_however_long_azure_asks_to_wait")),
    (21, "404 HTML", Test("an_html_page_is_named_with_the_path_that_was_sent")),
    (22, "braces and quotes pasted with an id", Test("what_is_pasted_with_an_id_is_taken_off_or_named")),
    (23, "an external key lost for good", Test("a_key_that_can_be_purged_is_a_warning_with_the_command")),
    (24, "AADSTS53003", Test("conditional_access_is_named")),
    (25, "one message for four causes", Test("four_causes_that_others_lump_together_are_told_apart")),
    (
        26,
        "a change in Azure takes everything down at once",
        Test("vaults::an_existing_vault_is_checked_with_its_own_credential"),
    ),
    (
        27,
        "an old key disabled while backups need it",
        NotProducible(
            "The product neither rotates a vault's KEK nor keeps backups yet, so there is nothing to count per key version.",
        ),
    ),
];

/// Where tests of other files are looked for.
const FILES: [(&str, &str); 4] = [
    ("existing", include_str!("existing.rs")),
    ("way", include_str!("way.rs")),
    ("dark", include_str!("../../../../strongroom/tests/it/dark.rs")),
    ("vaults", include_str!("../../../../strongroom/tests/it/vaults.rs")),
];

#[test]
fn every_row_has_its_test_or_its_reason() {
    for (at, (row, what, how)) in ROWS.iter().enumerate() {
        assert_eq!(usize::from(*row), at + 1);
        match how {
            Test(name) => {
                let (file, test) = name.split_once("::").unwrap_or(("rows", name));
                let text =
                    FILES.iter().find(|(known, _)| *known == file).map_or(include_str!("rows.rs"), |(_, text)| text);
                assert!(text.contains(&format!("async fn {test}()")), "row {row}, {what}: no test {name}");
            }
            NotProducible(why) => assert!(why.ends_with(['.', ')']), "row {row}, {what}: {why}"),
        }
    }
}

/// The first red line is this one, for this reason; its words and its command hold these.
fn assert_named<'a>(lines: &'a [CheckLine], code: &str, reason: &str, words: &[&str], command: &str) -> &'a CheckLine {
    let first = first_failure(lines);
    assert_eq!((first.code, first.reason), (code, Some(reason)), "{first:?}");
    let told = format!("{} {}", first.cause.as_deref().unwrap_or_default(), first.fix.as_deref().unwrap_or_default());
    for word in words {
        assert!(told.contains(word), "{word:?} is not in {told:?}");
    }
    assert!(first.command.as_deref().unwrap_or_default().contains(command), "{first:?}");
    first
}

#[tokio::test]
async fn a_wrong_secret_is_named() {
    let tenant = Tenant::start().await;
    let wrong = CredentialInput::Secret("wrong8Q~secret");
    let lines = check_with(&tenant, &tenant.keys(), |input| input.credential = wrong).await;
    let command = format!("az ad app credential reset --id {} --append", tenant.client_id);
    let line =
        assert_named(&lines, "sign_in", "credential.refused", &["AADSTS7000215", "Value (not its ID)"], &command);
    assert!(line.azure_request_id.is_some());
}

#[tokio::test]
async fn an_expired_secret_is_named() {
    let tenant = Tenant::start().await;
    let long_ago = json!({"startDateTime": "2020-01-01T00:00:00Z", "endDateTime": "2021-01-01T00:00:00Z"});
    let (expired, _) = tenant.add_secret(long_ago).await;
    let lines = check_with(&tenant, &tenant.keys(), |input| input.credential = CredentialInput::Secret(&expired)).await;
    let command = format!("az ad app credential reset --id {} --append", tenant.client_id);
    assert_named(&lines, "sign_in", "credential.expired", &["AADSTS7000222"], &command);
}

#[tokio::test]
async fn a_client_id_of_nothing_is_named() {
    let tenant = Tenant::start().await;
    // The object id, which the portal shows right beside it.
    let lines = check_with(&tenant, &tenant.keys(), |input| input.client_id = &tenant.principal).await;
    let words = ["AADSTS700016", &tenant.standin.admin().tenant_id, "not the object ID"];
    assert_named(&lines, "sign_in", "credential.unknown_client", &words, "");
}

#[tokio::test]
async fn an_unknown_tenant_is_named() {
    let tenant = Tenant::start().await;
    let nowhere = "99999999-9999-4999-8999-999999999999";
    let lines = check_with(&tenant, &tenant.keys(), |input| input.tenant_id = nowhere).await;
    assert_named(&lines, "tenant.known", "tenant.unknown", &["AADSTS90002", nowhere, "cloud"], "");
}

#[tokio::test]
async fn a_private_link_name_is_refused_before_anything_is_sent() {
    let tenant = Tenant::start().await;
    let before = tenant.standin.stats();
    let private = format!("https://{VAULT}.privatelink.vaultcore.azure.net");
    let lines = check_with(&tenant, &tenant.keys(), |input| input.vault_url = &private).await;
    assert_named(&lines, "host.allowed", "host_privatelink", &[HOST], "");
    assert_eq!(tenant.standin.stats(), before);
}

#[tokio::test]
async fn a_key_vault_of_another_tenant_is_named_with_both_tenants() {
    let tenant = Tenant::start().await;
    let other = tenant.standin.other_admin().tenant_id.clone();
    let lines = check_with(&tenant, &tenant.keys(), |input| input.tenant_id = &other).await;
    let words = [tenant.standin.admin().tenant_id.as_str(), &other];
    let command = format!("az keyvault show --name {VAULT} --query properties.tenantId");
    assert_named(&lines, "tenant.key_vault", "tenant.mismatch", &words, &command);
    // Known before anybody signed in.
    assert_eq!(find(&lines, "sign_in").status, CheckStatus::Skipped);
}

#[tokio::test]
async fn a_missing_role_is_named_with_who_what_and_where() {
    let mut tenant = Tenant::start().await;
    tenant.remove_role().await;
    let lines = check_now(&tenant).await;
    let seen = format!("read a key named {KEY}: either the name is wrong or the role is missing");
    let words = [seen.as_str(), "Microsoft.KeyVault/vaults/keys/read", "10 minutes"];
    // Whether there is such a key shows first; a role on a key that is not there helps nobody.
    let list = format!("az keyvault key list --vault-name {VAULT} --query \"[].name\" --output tsv");
    let line = assert_named(&lines, "key.readable", "key.access_removed", &words, &list);
    let told = format!("{} {}", line.cause.as_deref().unwrap_or_default(), line.fix.as_deref().unwrap_or_default());
    assert!(!told.contains("no longer"), "{told}");
    assert_eq!(assignment(line), assigns(&tenant));
    tenant.assign_role().await;
    assert_eq!(find(&check_now(&tenant).await, "key.compare").status, CheckStatus::Pass);
}

/// The command on the last line of what to do.
fn assignment(line: &CheckLine) -> String {
    line.fix.as_deref().and_then(|fix| fix.lines().last()).unwrap_or_default().to_lowercase()
}

fn assigns(tenant: &Tenant) -> String {
    let command = format!(
        "az role assignment create --role \"Key Vault Crypto Service Encryption User\" --assignee-object-id {} \
         --assignee-principal-type ServicePrincipal --scope \"{}\"",
        tenant.principal,
        tenant.key_id()
    );
    command.to_lowercase()
}

#[tokio::test]
async fn access_policies_are_named_where_a_role_has_no_effect() {
    let tenant = Tenant::start().await;
    tenant.change_key_vault(json!({"enableRbacAuthorization": false})).await;
    let lines = check_now(&tenant).await;
    let words = ["works by access policies", "keys get permission", "Give the application an access policy"];
    let command = format!(
        "az keyvault set-policy --name {VAULT} --spn {} --key-permissions get wrapKey unwrapKey",
        tenant.client_id
    );
    let line = assert_named(&lines, "key.readable", "key.access_removed", &words, &command);
    assert!(line.fix.as_deref().is_some_and(|fix| !fix.contains("Assign the role")), "{line:?}");
}

#[tokio::test]
async fn a_role_without_read_is_named_by_the_missing_action() {
    const RELEASE_USER: &str = "08bbd89e-9f13-488c-ac41-acfcb10c90ab";
    let tenant = Tenant::start().await;
    tenant.remove_role().await;
    tenant.assign(RELEASE_USER, &tenant.key_id()).await;
    let lines = check_now(&tenant).await;
    let words = ["Action: 'Microsoft.KeyVault/vaults/keys/read'"];
    let line = assert_named(&lines, "key.readable", "key.access_removed", &words, "az keyvault key list");
    assert_eq!(assignment(line), assigns(&tenant));
}

#[tokio::test]
async fn a_firewall_is_named_with_our_address_and_not_remembered() {
    let tenant = Tenant::start().await;
    tenant.change_key_vault(json!({"networkAcls": {"defaultAction": "Deny", "bypass": "None", "ipRules": []}})).await;
    let lines = check_now(&tenant).await;
    let command = format!("az keyvault network-rule add --name {VAULT} --ip-address 127.0.0.1");
    assert_named(&lines, "key.readable", "azure.firewall", &["Client address: 127.0.0.1"], &command);
    tenant.change_key_vault(json!({"networkAcls": {"defaultAction": "Allow", "bypass": "None", "ipRules": []}})).await;
    assert_eq!(find(&check_now(&tenant).await, "key.compare").status, CheckStatus::Pass);

    tenant.fault("get", Effect { preset: Some(Preset::PrivateLink), ..Effect::default() });
    let lines = check_now(&tenant).await;
    let words = ["Public network access to this Key Vault is disabled", "private endpoint, or enable public"];
    let line = assert_named(&lines, "key.readable", "azure.firewall", &words, "");
    assert_eq!(line.command, None);
    assert!(line.fix.as_deref().is_some_and(|fix| !fix.contains("address")), "{line:?}");
}

#[tokio::test]
async fn a_key_version_that_did_not_wrap_it_is_named() {
    let tenant = Tenant::start().await;
    let body =
        json!({"error": {"code": "BadParameter", "message": "Unable to decrypt specified value with this key."}});
    tenant.fault("unwrapkey", answer(400, body));
    let lines = check_now(&tenant).await;
    let words = ["Unable to decrypt specified value", &format!("The key version is https://{HOST}/keys/{KEY}/")];
    assert_named(&lines, "key.unwrap", "fault.bad_parameter", &words, "");
}

#[tokio::test]
async fn a_disabled_older_key_version_is_listed() {
    let tenant = Tenant::start().await;
    tenant.set_enabled(false).await;
    tenant.rotate_key().await;
    tenant.set_enabled(true).await;
    let lines = check_now(&tenant).await;
    let line = find(&lines, "key.versions");
    assert_eq!(line.status, CheckStatus::Pass, "{line:?}");
    assert!(line.cause.as_deref().is_some_and(|cause| cause.contains("2 key versions: 1 enabled, 1 disabled (")));
}

#[tokio::test]
async fn an_expired_key_is_named_with_what_stops() {
    let tenant = Tenant::start().await;
    tenant.change_key(json!({"attributes": {"exp": 1_600_000_000}})).await;
    let lines = check_now(&tenant).await;
    let words = ["2020-09-13", "Items stay readable; new vaults, rotation and rewrap wait"];
    let command = format!("az keyvault key rotate --vault-name {VAULT} --name {KEY}");
    assert_named(&lines, "key.dates", "key.expired", &words, &command);
}

#[tokio::test]
async fn a_disabled_key_is_named_with_the_command_that_enables_it() {
    let tenant = Tenant::start().await;
    tenant.set_enabled(false).await;
    let lines = check_now(&tenant).await;
    let command = format!("az keyvault key set-attributes --vault-name {VAULT} --name {KEY} --version ");
    let line = assert_named(&lines, "key.enabled", "key.disabled", &["switched off"], &command);
    assert!(line.command.as_deref().is_some_and(|command| command.ends_with("--enabled true")), "{line:?}");
}

#[tokio::test]
async fn operations_that_the_key_lacks_are_named() {
    let tenant = Tenant::start().await;
    tenant.change_key(json!({"key_ops": ["sign", "verify"]})).await;
    let lines = check_now(&tenant).await;
    let words = ["it lacks wrapKey and unwrapKey"];
    assert_named(&lines, "key.operations", "key.operation_forbidden", &words, "--ops sign verify wrapKey unwrapKey");
}

#[tokio::test]
async fn a_deleted_key_is_named_with_the_command_that_recovers_it() {
    let tenant = Tenant::start().await;
    tenant.delete_key().await;
    let lines = check_now(&tenant).await;
    let command = format!("az keyvault key recover --vault-name {VAULT} --name {KEY}");
    assert_named(&lines, "key.readable", "key.not_found", &["deleted"], &command);
    tenant.recover_key().await;
    assert_eq!(find(&check_now(&tenant).await, "key.compare").status, CheckStatus::Pass);
}

#[tokio::test]
async fn an_html_page_is_named_with_the_path_that_was_sent() {
    let tenant = Tenant::start().await;
    tenant.fault(
        "get",
        answer(404, json!("<!DOCTYPE html><html><body>404 - File or directory not found.</body></html>")),
    );
    let lines = check_now(&tenant).await;
    let words = ["answered 404 with an HTML page", &format!("GET /keys/{KEY}")];
    assert_named(&lines, "key.readable", "azure.unreadable", &words, "");
}

#[tokio::test]
async fn what_is_pasted_with_an_id_is_taken_off_or_named() {
    let tenant = Tenant::start().await;
    let (keys, client) = (tenant.keys(), tenant.client_id.clone());
    for pasted in [format!("{{{client}}}"), format!(" \"{client}\" "), client.to_uppercase()] {
        let lines = check_with(&tenant, &keys, |input| input.client_id = &pasted).await;
        assert_eq!(find(&lines, "sign_in").status, CheckStatus::Pass, "{pasted}");
    }
    let encoded = format!("%7B{client}%7D");
    let lines = check_with(&tenant, &keys, |input| input.client_id = &encoded).await;
    assert_named(&lines, "form.client_id", "not_a_guid", &[], "");
}

#[tokio::test]
async fn a_key_that_can_be_purged_is_a_warning_with_the_command() {
    let tenant = Tenant::start().await;
    let lines = check_now(&tenant).await;
    let line = find(&lines, "key.recovery");
    assert_eq!((line.status, line.reason), (CheckStatus::Warn, Some("key.purgeable")), "{line:?}");
    let command = format!("az keyvault update --name {VAULT} --enable-purge-protection true");
    assert_eq!(line.command.as_deref(), Some(command.as_str()));
}

#[tokio::test]
async fn conditional_access_is_named() {
    let tenant = Tenant::start().await;
    tenant.fault("token", Effect { preset: Some(Preset::ConditionalAccess), ..Effect::default() });
    let lines = check_now(&tenant).await;
    assert_named(&lines, "sign_in", "credential.blocked", &["AADSTS53003", "exempt this application"], "");
}

#[tokio::test]
async fn four_causes_that_others_lump_together_are_told_apart() {
    let mut tenant = Tenant::start().await;
    tenant.remove_role().await;
    let revoked = check_now(&tenant).await;
    tenant.assign_role().await;
    tenant.set_enabled(false).await;
    let disabled = check_now(&tenant).await;
    tenant.set_enabled(true).await;
    tenant.delete_key().await;
    let deleted = check_now(&tenant).await;
    tenant.recover_key().await;
    tenant.create_key(KEY, "EC", 0).await;
    let wrong = check_now(&tenant).await;
    let reasons = [&revoked, &disabled, &deleted, &wrong].map(|lines| first_failure(lines).reason);
    assert_eq!(
        reasons,
        [Some("key.access_removed"), Some("key.disabled"), Some("key.not_found"), Some("key.wrong_type")]
    );
}
