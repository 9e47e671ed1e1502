//! The same steps as a bash script for the Azure CLI, for those who want to read and run it themselves.

use std::fmt;

use strongroom_keys::azure::Cloud;

use super::{
    plan::{CredentialPlan, Plan},
    step::STEPS,
};

/// Where the script shall work, as far as that was said; otherwise it goes where `az` is.
#[derive(Default)]
pub struct Place<'a> {
    /// Directory (tenant) ID.
    pub tenant: Option<&'a str>,
    /// Subscription by its id or name.
    pub subscription: Option<&'a str>,
}

/// Written for Azure CLI 2.91. It may be run again: it makes only what is missing.
pub fn script(plan: &Plan, place: &Place<'_>) -> String {
    let mut text = head(plan, place);
    let mut part = None;
    for step in STEPS {
        if part != Some(step.part()) {
            text += &format!("\n# {}\n", step.part().title());
        }
        part = Some(step.part());
        // A line end in a name would end the comment.
        let thing = capitalised(&step.thing(plan)).replace(char::is_control, " ");
        text += &format!("\n# {thing}: {}.\n", step.why(plan));
        text += &step.script(plan);
    }
    text + &tail(plan)
}

fn head(plan: &Plan, place: &Place<'_>) -> String {
    let named = |name: &str, value: &str| format!("{name}={}\n", Quoted(value));
    let mut text = "#!/usr/bin/env bash\n\
         # Sets up Azure for a Strongroom vault with the strategy Azure External Keys. Sign in first: az login.\n\
         # It may be run again: it makes only what is missing, and changes nothing that is there.\n\
         set -eu\n\n"
        .to_owned();
    text += &named("APPLICATION", &plan.application);
    text += &named("RESOURCE_GROUP", &plan.resource_group);
    text += &named("LOCATION", &plan.location);
    text += &named("KEY_VAULT", &plan.key_vault);
    text += &named("KEY", &plan.key);
    text += match plan.cloud {
        Cloud::Public => "",
        Cloud::Government => "az cloud set --name AzureUSGovernment\n",
        Cloud::China => "az cloud set --name AzureChinaCloud\n",
    };
    if let Some(subscription) = place.subscription {
        text += &format!("az account set --subscription {}\n", Quoted(subscription));
    }
    text += "ACCOUNT=$(az account show --query \"join(' ', [tenantId, user.type, user.name])\" --output tsv)\n\
        read -r TENANT_ID ME_KIND ME <<< \"$ACCOUNT\"\n";
    if let Some(tenant) = place.tenant {
        text += &format!(
            "if [ \"${{TENANT_ID,,}}\" != {} ]; then\n  \
               echo \"az is signed in to tenant $TENANT_ID. Sign in to the one that you want: az login --tenant\" {} >&2\n  \
               exit 1\n\
             fi\n",
            Quoted(&tenant.to_lowercase()),
            Quoted(tenant)
        );
    }
    text + "\
        if [ \"$ME_KIND\" = servicePrincipal ]; then\n  \
          ME_KIND=ServicePrincipal\n  \
          ME=$(az ad sp show --id \"$ME\" --query id --output tsv)\n\
        else\n  \
          ME_KIND=User\n  \
          ME=$(az ad signed-in-user show --query id --output tsv)\n\
        fi\n\
        \n\
        # New objects and roles may take up to ten minutes to count: tries a command for as long as Azure says something\n\
        # that such a wait may mend.\n\
        patiently() {\n  \
          local tries=0 said\n  \
          until { said=$(\"$@\" 2>&1 >&3); } 3>&1; do\n    \
            printf '%s\\n' \"$said\" >&2\n    \
            case \"$said\" in\n      \
              *ForbiddenByFirewall* | *ForbiddenByConnection*) return 1 ;;\n      \
              *Forbidden* | *'does not exist'* | *'does not reference'* | *'local tenant'* | *resolve*) ;;\n      \
              *) return 1 ;;\n    \
            esac\n    \
            tries=$((tries + 1))\n    \
            if [ \"$tries\" -ge 60 ]; then return 1; fi\n    \
            echo \"Not yet; trying again in 10 s ($tries of 60, Ctrl-C ends it)\" >&2\n    \
            sleep 10\n  \
          done\n\
        }\n"
}

fn tail(plan: &Plan) -> String {
    let (label, value, option) = match &plan.credential {
        CredentialPlan::Secret => (
            "Client Secret  ",
            "\"$CLIENT_SECRET\"",
            "--client-secret-stdin \\\n\
             #      --client-secret-expires DATE\n\
             #    The date: az ad app credential list --id \"$CLIENT_ID\" --query '[].endDateTime'",
        ),
        CredentialPlan::Certificate(_) => {
            ("Certificate    ", "\"$CERTIFICATE\"", "--client-certificate \"$CERTIFICATE\"")
        }
        CredentialPlan::WorkloadIdentity { .. } => ("Credential     ", "'workload identity'", "--workload-identity"),
    };
    format!(
        "\n# 5. What to enter in Strongroom; or, signed in to it:\n\
         #    strongroom vault create Azure --strategy azure-external-keys --client-id \"$CLIENT_ID\" \\\n\
         #      --tenant-id \"$TENANT_ID\" --vault-url \"$VAULT_URL\" --vault-key-name \"$KEY\" {option}\n\
         printf '%s  %s\\n' 'Client ID      ' \"$CLIENT_ID\" 'Tenant ID      ' \"$TENANT_ID\" \\\n  \
           '{label}' {value} 'Vault URL      ' \"$VAULT_URL\" 'Vault Key Name ' \"$KEY\"\n"
    )
}

/// One word of a POSIX shell, whatever is in it.
pub struct Quoted<'a>(pub &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "'{}'", self.0.replace('\'', "'\\''"))
    }
}

/// A string of an OData filter.
pub(super) fn odata(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_gets_out_of_its_quotes() {
        let name = "O'Brien \"$(id)\" `id` \\";
        let script = script(&Plan::new(name, "rg", "kv-one", "westeurope", "k"), &Place::default());
        let first = script.lines().find(|line| line.starts_with("APPLICATION=")).expect("a line");
        assert_eq!(first, "APPLICATION='O'\\''Brien \"$(id)\" `id` \\'");
        assert!(!script.lines().any(|line| line.contains("$(id)") && !line.starts_with(['#', 'A'])), "{script}");
    }
}
