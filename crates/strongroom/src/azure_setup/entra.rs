//! The identity in Entra ID: an application and its service principal, through Microsoft Graph v1.0.

use serde_json::{Value, json};

use super::{
    client::{Request, Target, text},
    plan::Plan,
    script::{Quoted, odata},
    step::{Facts, Found, Namesake, Part, Step},
    way::{Kind, SetupError},
};

/// The app registration.
pub(super) struct Application;

impl Step for Application {
    fn part(&self) -> Part {
        Part::Identity
    }

    fn thing(&self, plan: &Plan) -> String {
        match &plan.client_id {
            Some(id) => format!("application {id}"),
            None => format!("application \"{}\"", plan.application),
        }
    }

    fn why(&self, _: &Plan) -> &'static str {
        "Strongroom's identity in your tenant"
    }

    fn look<'a>(&self, plan: &Plan, _: &'a Facts) -> Option<Request<'a>> {
        let path = "/v1.0/applications".to_owned();
        Some(Request { target: Target::Graph, method: "GET", path, query: vec![("$filter", filter(plan))], body: None })
    }

    fn read(&self, plan: &Plan, answer: &Value, facts: &mut Facts) -> Result<Found, SetupError> {
        let found = answer.get("value").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let (application, rest) = match (found, &plan.client_id) {
            ([], None) => return Ok(Found::Missing),
            ([], Some(id)) => {
                let message = format!("tenant {} has no application with the client id {id}", facts.tenant);
                return Err(SetupError::new(Kind::NotFound, message)
                    .advise("copy Application (client) ID from its overview page, or leave --client-id out"));
            }
            ([first, rest @ ..], _) => (first, rest),
        };
        if !rest.is_empty() {
            let ids: Vec<&str> = found.iter().filter_map(|one| one["appId"].as_str()).collect();
            let message =
                format!("{} applications are called \"{}\": {}", found.len(), plan.application, ids.join(", "));
            return Err(SetupError::new(Kind::Usage, message)
                .advise("say which with --client-id, or choose another name with --application"));
        }
        self.made(application, facts)?;
        if plan.client_id.is_none() {
            let created = application["createdDateTime"].as_str().and_then(|time| time.split('T').next());
            facts.namesake = Some(Namesake {
                created: created.unwrap_or("an unknown day").to_owned(),
                credentials: credentials(application),
            });
        }
        Ok(Found::There(Vec::new()))
    }

    fn make<'a>(&self, plan: &Plan, _: &'a Facts) -> Request<'a> {
        let body = json!({"displayName": plan.application, "signInAudience": "AzureADMyOrg"});
        let path = "/v1.0/applications".to_owned();
        Request { target: Target::Graph, method: "POST", path, query: vec![], body: Some(body) }
    }

    fn made(&self, answer: &Value, facts: &mut Facts) -> Result<(), SetupError> {
        facts.application = Some(text(answer, "/id")?);
        facts.client_id = Some(text(answer, "/appId")?);
        Ok(())
    }

    fn advice(&self, _: &Plan, error: &SetupError) -> Option<String> {
        error.is_forbidden().then(|| {
            "your account may not register applications here: ask for the role Application Developer, or name an \
             application that you own with --client-id"
                .to_owned()
        })
    }

    fn script(&self, plan: &Plan) -> String {
        if plan.client_id.is_some() {
            let filter = Quoted(&filter(plan)).to_string();
            return format!(
                "CLIENT_ID=$(az ad app list --filter {filter} --query '[].appId' --output tsv)\n\
                if [ -z \"$CLIENT_ID\" ]; then\n  \
                  echo \"The tenant has no application with that client id.\" >&2\n  \
                  exit 1\n\
                fi\n"
            );
        }
        // OData doubles a quote within a string.
        "QUOTE=\"'\"\n\
             KNOWN=$(az ad app list --filter \"displayName eq '${APPLICATION//$QUOTE/$QUOTE$QUOTE}'\" \\\n    \
               --query '[].appId' --output tsv)\n\
             CLIENT_ID=$KNOWN\n\
             if [ -z \"$KNOWN\" ]; then\n  \
               CLIENT_ID=$(az ad app create --display-name \"$APPLICATION\" --sign-in-audience AzureADMyOrg \\\n    \
                 --query appId --output tsv)\n\
             fi\n"
            .to_owned()
    }
}

fn filter(plan: &Plan) -> String {
    match &plan.client_id {
        Some(id) => format!("appId eq {}", odata(id)),
        None => format!("displayName eq {}", odata(&plan.application)),
    }
}

/// The administrator as the one owner of the application. By default every member of a tenant may register an
/// application under any name, so that a name proves nothing; and Entra makes some who register one its owner, some not.
pub(super) struct Owner;

impl Step for Owner {
    fn part(&self) -> Part {
        Part::Identity
    }

    fn thing(&self, plan: &Plan) -> String {
        match &plan.client_id {
            Some(_) => "its owners, whoever they are: you named it yourself".to_owned(),
            None => "you as its only owner".to_owned(),
        }
    }

    fn why(&self, _: &Plan) -> &'static str {
        "anybody may give an application this name, so only one that is yours alone is taken for the one you mean"
    }

    fn look<'a>(&self, _: &Plan, facts: &'a Facts) -> Option<Request<'a>> {
        let path = format!("/v1.0/applications/{}/owners", facts.application.as_deref()?);
        Some(Request { target: Target::Graph, method: "GET", path, query: vec![], body: None })
    }

    fn read(&self, plan: &Plan, answer: &Value, facts: &mut Facts) -> Result<Found, SetupError> {
        let owners = answer.get("value").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let mine = |owner: &Value| owner["id"] == facts.me.object_id.as_str();
        match &facts.namesake {
            Some(namesake) if !owners.iter().any(mine) => {
                Err(facts.not_by_name(plan, namesake, "which you do not own"))
            }
            Some(namesake) if owners.len() > 1 => Err(facts.not_by_name(plan, namesake, "which others own with you")),
            None if plan.client_id.is_none() && !owners.iter().any(mine) => Ok(Found::Missing),
            _ => Ok(Found::There(Vec::new())),
        }
    }

    fn make<'a>(&self, _: &Plan, facts: &'a Facts) -> Request<'a> {
        let path = format!("/v1.0/applications/{}/owners/$ref", facts.application());
        let me = format!("https://{}/v1.0/directoryObjects/{}", facts.graph_host, facts.me.object_id);
        Request { target: Target::Graph, method: "POST", path, query: vec![], body: Some(json!({"@odata.id": me})) }
    }

    fn made(&self, _: &Value, _: &mut Facts) -> Result<(), SetupError> {
        Ok(())
    }

    fn waits_for(&self, error: &SetupError) -> Option<&'static str> {
        error.is_not_found().then_some("the new application to be known everywhere in Entra ID")
    }

    fn is_there_already(&self, error: &SetupError) -> bool {
        error.says("added object references already exist")
    }

    fn script(&self, plan: &Plan) -> String {
        if plan.client_id.is_some() {
            return String::new();
        }
        "if [ -z \"$KNOWN\" ]; then\n  \
           patiently az ad app owner add --id \"$CLIENT_ID\" --owner-object-id \"$ME\"\n\
         else\n  \
           OWNERS=$(az ad app owner list --id \"$CLIENT_ID\" --query '[].id' --output tsv)\n  \
           if [ \"$OWNERS\" != \"$ME\" ]; then\n    \
             echo \"There is an application of that name that is not yours alone: $KNOWN\" >&2\n    \
             echo 'If it is the one you mean, print this script with its --client-id; otherwise with another --application.' >&2\n    \
             exit 1\n  \
           fi\n\
         fi\n"
            .to_owned()
    }
}

/// The client secrets and certificates of an application or a service principal.
fn credentials(object: &Value) -> usize {
    let count = |name: &str| object[name].as_array().map_or(0, Vec::len);
    count("passwordCredentials") + count("keyCredentials")
}

/// The application as this tenant's role assignments know it.
pub(super) struct ServicePrincipal;

impl Step for ServicePrincipal {
    fn part(&self) -> Part {
        Part::Identity
    }

    fn thing(&self, _: &Plan) -> String {
        "its service principal".to_owned()
    }

    fn why(&self, _: &Plan) -> &'static str {
        "what a role can be assigned to"
    }

    fn look<'a>(&self, _: &Plan, facts: &'a Facts) -> Option<Request<'a>> {
        let filter = format!("appId eq {}", odata(facts.client_id.as_ref()?));
        let path = "/v1.0/servicePrincipals".to_owned();
        Some(Request { target: Target::Graph, method: "GET", path, query: vec![("$filter", filter)], body: None })
    }

    fn read(&self, _: &Plan, answer: &Value, facts: &mut Facts) -> Result<Found, SetupError> {
        let Some(principal) = answer.pointer("/value/0") else { return Ok(Found::Missing) };
        self.made(principal, facts)?;
        if let Some(namesake) = &mut facts.namesake {
            // A service principal may have credentials of its own.
            namesake.credentials += credentials(principal);
        }
        if principal.get("accountEnabled") == Some(&Value::Bool(false)) {
            let enable = format!("az ad sp update --id {} --set accountEnabled=true", facts.client_id());
            return Ok(Found::There(vec![format!("it is disabled: nobody can sign in as it. Enable it: {enable}")]));
        }
        Ok(Found::There(Vec::new()))
    }

    fn make<'a>(&self, _: &Plan, facts: &'a Facts) -> Request<'a> {
        let body = json!({"appId": facts.client_id(), "accountEnabled": true});
        let path = "/v1.0/servicePrincipals".to_owned();
        Request { target: Target::Graph, method: "POST", path, query: vec![], body: Some(body) }
    }

    fn made(&self, answer: &Value, facts: &mut Facts) -> Result<(), SetupError> {
        facts.principal = Some(text(answer, "/id")?);
        Ok(())
    }

    /// What `az ad sp create-for-rbac` goes by, too.
    fn waits_for(&self, error: &SetupError) -> Option<&'static str> {
        let replicating = error.says(" does not reference ") || error.says(" does not exist ");
        replicating.then_some("the new application to be known everywhere in Entra ID")
    }

    fn script(&self, _: &Plan) -> String {
        "PRINCIPAL=$(az ad sp list --filter \"appId eq '$CLIENT_ID'\" --query '[0].id' --output tsv)\n\
         if [ -z \"$PRINCIPAL\" ]; then\n  \
           PRINCIPAL=$(patiently az ad sp create --id \"$CLIENT_ID\" --query id --output tsv)\n\
         fi\n"
            .to_owned()
    }
}
