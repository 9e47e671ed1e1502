//! Rights beyond the needed: what the application may do besides reading, wrapping and unwrapping with the one key. Asked
//! by calls without effect, so it is an inference, and the lines say from what.

use super::signing_in::object_id;
use super::{ANSWER, CheckLine, CheckStatus, Run};
use crate::azure::probe::{Beyond, ListedVersion, May, SignedIn, Told};
use crate::azure::{AzureAccess, AzureProvider, is_resource_id};
use crate::{Code, KeyDescription, KeyFailure, Receipts};

/// All that is needed, on the one key.
const ENOUGH: &str = "Key Vault Crypto Service Encryption User";

/// Roles that manage keys.
const OFFICER: &str = "Key Vault Crypto Officer";
const ADMINISTRATOR: &str = "Key Vault Administrator";

/// The list of key versions, or why there is none.
pub(super) type Versions = Result<Told<(Vec<ListedVersion>, bool)>, KeyFailure>;

struct Found<'a> {
    access: &'a AzureAccess,
    /// The service principal in commands: by its object id where the token told it.
    assignee: String,
    /// None where nothing is tried out.
    sign: Option<Result<Told<May>, KeyFailure>>,
    rotation: Result<Told<May>, KeyFailure>,
    secrets: Result<Told<May>, KeyFailure>,
    keys: Result<Told<May>, KeyFailure>,
}

/// Asks all of it at once, and for the key versions with it.
pub(super) async fn check(
    run: &mut Run<'_>,
    provider: &AzureProvider,
    key: &KeyDescription,
    by: &SignedIn,
) -> Versions {
    let limit = run.limit(ANSWER);
    let may = |beyond| provider.may(beyond, &key.kid, by, limit);
    let with_trial = run.with_trial;
    let sign = async {
        match with_trial {
            true => Some(may(Beyond::Sign).await),
            false => None,
        }
    };
    let (sign, rotation, secrets, keys, versions) = tokio::join!(
        sign,
        may(Beyond::RotationPolicy),
        may(Beyond::Secrets),
        may(Beyond::Keys),
        provider.key_versions(by, limit)
    );
    let access = provider.access();
    let assignee = by.claims.as_ref().and_then(object_id).unwrap_or_else(|| access.client.to_string());
    let found = Found { access, assignee, sign, rotation, secrets, keys };
    for answer in found.answers() {
        run.saw(receipts(answer));
    }
    run.saw(versions.as_ref().map_or_else(|failure| &failure.receipts, |told| &told.receipts));
    run.report.add(found.role());
    run.report.add(found.scope());
    versions
}

fn receipts(answer: &Result<Told<May>, KeyFailure>) -> &Receipts {
    answer.as_ref().map_or_else(|failure| &failure.receipts, |told| &told.receipts)
}

fn allowed(answer: &Result<Told<May>, KeyFailure>) -> Option<bool> {
    answer.as_ref().ok().map(|told| told.value.allowed)
}

impl Found<'_> {
    fn role(&self) -> CheckLine {
        const LINE: &str = "rights.role";
        let signing = self.sign.iter().map(|answer| (answer, "sign with the key"));
        let reading = [(&self.rotation, "read its rotation policy"), (&self.secrets, "list the Key Vault's secrets")];
        let asked: Vec<_> = signing.chain(reading).collect();
        let receipt = receipts(self.sign.as_ref().unwrap_or(&self.rotation)).last();
        let also: Vec<&str> =
            asked.iter().filter(|(answer, _)| allowed(answer) == Some(true)).map(|(_, words)| *words).collect();
        if also.is_empty() {
            let unclear = asked.iter().find_map(|(answer, words)| Some((answer.as_ref().err()?, *words)));
            return match unclear {
                Some((failure, words)) => self.unknown(LINE, failure, words),
                None => CheckLine::new(LINE, CheckStatus::Pass).seen_in(receipt),
            };
        }
        let role = self.narrowest();
        let named = match role {
            Some(role @ (OFFICER | ADMINISTRATOR)) => format!(
                " {role} is the narrowest built-in role that allows all of this, and it may delete the key and switch it \
                 off as well."
            ),
            Some(role) => format!(" {role} is the narrowest built-in role that allows all of this."),
            None => String::new(),
        };
        let cause = format!("The application may also {}.{named} {ENOUGH} is enough.", joined(&also));
        let line = CheckLine::new(LINE, CheckStatus::Warn).seen_in(receipt).because("rights.wider_role", cause);
        if self.by_policies() {
            return line.advise("Leave the application only what it needs.", Some(self.narrower_policy()));
        }
        self.narrowing(line, role)
    }

    fn scope(&self) -> CheckLine {
        const LINE: &str = "rights.scope";
        let receipt = receipts(&self.keys).last();
        let key = &self.access.key_name;
        match &self.keys {
            Err(failure) => self.unknown(LINE, failure, "list the Key Vault's keys"),
            Ok(_) if self.by_policies() => {
                let cause = "This Key Vault works by access policies; those hold for every key in it.";
                let vault = self.access.vault_url.vault_name();
                let then = format!(
                    "Wait ten minutes, in which it takes effect, and give roles to everybody else who uses this Key \
                     Vault. Then switch it to roles, at which all access policies end:\n\
                     az keyvault update --name {vault} --enable-rbac-authorization true"
                );
                let line = CheckLine::new(LINE, CheckStatus::Warn).seen_in(receipt);
                let line = line.because("rights.access_policies", cause);
                line.advise("Roles can be on the one key. Assign the role first.", Some(self.assign())).advising(&then)
            }
            Ok(told) if told.value.allowed => {
                let cause = format!(
                    "The application may list the Key Vault's keys, so it has rights on the whole Key Vault or above, not \
                     on the key {key} alone."
                );
                let line = CheckLine::new(LINE, CheckStatus::Warn).seen_in(receipt);
                let line = line.because("rights.whole_key_vault", cause);
                self.narrowing(line, self.narrowest())
            }
            Ok(_) => CheckLine::new(LINE, CheckStatus::Pass).seen_in(receipt),
        }
    }

    /// The narrowest built-in role that allows exactly what was found, where one does and all of it is known.
    fn narrowest(&self) -> Option<&'static str> {
        match (allowed(self.sign.as_ref()?)?, allowed(&self.rotation)?, allowed(&self.secrets)?) {
            (false, false, false) => Some(ENOUGH),
            (true, false, false) => Some("Key Vault Crypto User"),
            (true, true, false) => Some(OFFICER),
            (true, true, true) => Some(ADMINISTRATOR),
            _ => None,
        }
    }

    fn unknown(&self, line: &'static str, failure: &KeyFailure, words: &str) -> CheckLine {
        let cause = match failure.code {
            Code::OperationForbidden => format!(
                "Whether the application may {words} cannot be seen: the key itself permits no signature, whoever asks."
            ),
            _ => format!("Whether the application may {words} was not answered: {failure}."),
        };
        let line = CheckLine::new(line, CheckStatus::CouldNotCheck).seen_in(failure.receipts.last());
        line.because(failure.code.as_str(), cause).advise("See what is assigned to it.", Some(self.list()))
    }

    fn answers(&self) -> impl Iterator<Item = &Result<Told<May>, KeyFailure>> {
        self.sign.iter().chain([&self.rotation, &self.secrets, &self.keys])
    }

    /// Whether a refusal said that the Key Vault works by access policies.
    fn by_policies(&self) -> bool {
        self.answers().flatten().any(|told| told.value.facts.access_policies)
    }

    /// What leaves the application the least role only. The wider assignment goes once the narrow one holds, so its
    /// deletion is no part of the command. Where no single role gives what was found, they are listed first.
    fn narrowing(&self, line: CheckLine, role: Option<&str>) -> CheckLine {
        let Some(role) = role else {
            let then = format!("Then assign {ENOUGH} on the key, and delete the others:\n{}", self.assign());
            return line.advise("See which roles give this.", Some(self.list())).advising(&then);
        };
        let scope = if allowed(&self.keys) == Some(true) { self.key_vault() } else { self.key() };
        let then = format!(
            "Ten minutes later, when it holds, delete the wider one:\n\
             az role assignment delete --assignee {} --role \"{role}\" --scope {scope}\n\
             If that one is above the Key Vault, this finds it:\n{}",
            self.assignee,
            self.list()
        );
        line.advise("Assign the narrow role on the key.", Some(self.assign())).advising(&then)
    }

    fn assign(&self) -> String {
        format!(
            "az role assignment create --role \"{ENOUGH}\" --assignee-object-id {} --assignee-principal-type \
             ServicePrincipal --scope {}",
            self.assignee,
            self.key()
        )
    }

    fn list(&self) -> String {
        format!(
            "az role assignment list --assignee {} --scope {} --include-inherited --output table",
            self.assignee,
            self.key()
        )
    }

    fn narrower_policy(&self) -> String {
        let vault = self.access.vault_url.vault_name();
        let client = self.access.client;
        format!("az keyvault set-policy --name {vault} --spn {client} --key-permissions get wrapKey unwrapKey")
    }

    fn key(&self) -> String {
        let key_vault = self.key_vault();
        format!("{}/keys/{}\"", key_vault.trim_end_matches('"'), self.access.key_name)
    }

    /// The Key Vault's resource id, quoted: as one of Azure's refusals told it, or as a command that finds it.
    fn key_vault(&self) -> String {
        let vault = self.access.vault_url.vault_name();
        let told = self.answers().flatten().find_map(|told| told.value.facts.resource.as_deref());
        let id = told.filter(|resource| is_resource_id(resource)).and_then(|resource| up_to(resource, vault));
        match id {
            Some(id) => format!("\"{id}\""),
            None => format!("\"$(az keyvault show --name {vault} --query id --output tsv)\""),
        }
    }
}

/// The part of a resource id up to and with the Key Vault's name.
fn up_to<'a>(resource: &'a str, vault: &str) -> Option<&'a str> {
    let end = format!("/vaults/{vault}").to_ascii_lowercase();
    let at = resource.to_ascii_lowercase().find(&end)? + end.len();
    matches!(resource.as_bytes().get(at), None | Some(b'/')).then(|| &resource[..at])
}

/// `a, b and c`.
fn joined(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_vault_is_cut_out_of_any_resource_id_below_it() {
        let vault = "/subscriptions/s/resourcegroups/rg/providers/microsoft.keyvault/vaults/Acme";
        for below in ["", "/keys/kek", "/secrets"] {
            assert_eq!(up_to(&format!("{vault}{below}"), "acme"), Some(vault));
        }
        assert_eq!(up_to("/subscriptions/s/vaults/acme-2/keys/kek", "acme"), None);
        assert_eq!(up_to("/subscriptions/s", "acme"), None);
    }

    #[test]
    fn lists_read_as_a_person_writes_them() {
        assert_eq!(joined(&["a"]), "a");
        assert_eq!(joined(&["a", "b", "c"]), "a, b and c");
    }
}
