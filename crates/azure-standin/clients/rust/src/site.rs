//! Where the suite works: the administrator's sign-in, and a Key Vault made for it.

use std::sync::Arc;

use azure_core::Uuid;
use azure_core::credentials::{Secret, TokenCredential};
use azure_core::http::policies::Policy;
use azure_core::http::policies::auth::BearerTokenAuthorizationPolicy;
use azure_core::http::{ClientOptions, Context, Method, Pipeline, Request, Url};
use azure_identity::ClientSecretCredential;
use serde_json::{Value, json};

use super::Result;

const ARM: &str = "https://management.azure.com";
const GRAPH: &str = "https://graph.microsoft.com";
const CRYPTO_OFFICER: &str = "14b46e9e-c2b7-41b4-b07b-48a6ebf60603";

/// From the variables that `azure-standin env` prints.
pub struct Site {
    tenant: String,
    client: String,
    pub secret: Secret,
    subscription: String,
}

impl Site {
    pub fn from_environment() -> Result<Self> {
        let variable = |name: &str| std::env::var(name).map_err(|error| format!("{name}: {error}"));
        Ok(Self {
            tenant: variable("AZURE_TENANT_ID")?,
            client: variable("AZURE_CLIENT_ID")?,
            secret: variable("AZURE_CLIENT_SECRET")?.into(),
            subscription: format!("/subscriptions/{}", variable("AZURE_SUBSCRIPTION_ID")?),
        })
    }

    /// The administrator's sign-in, with `secret`.
    pub fn credential(&self, secret: &Secret) -> Result<Arc<ClientSecretCredential>> {
        Ok(ClientSecretCredential::new(&self.tenant, self.client.clone(), secret.clone(), None)?)
    }

    /// A Key Vault of its own under RBAC, in which the administrator holds Crypto Officer. Returns its URL.
    pub async fn make_key_vault(&self, credential: &Arc<ClientSecretCredential>) -> Result<String> {
        let arm = Service::new(ARM, credential.clone());
        let group = format!("{}/resourceGroups/rust", self.subscription);
        arm.ask(Method::Put, &format!("{group}?api-version=2021-04-01"), &json!({"location": "westeurope"})).await?;
        let name = format!("rust-{}", &Uuid::new_v4().simple().to_string()[..12]);
        let scope = format!("{group}/providers/Microsoft.KeyVault/vaults/{name}");
        let vault = json!({"location": "westeurope", "properties": {
            "tenantId": self.tenant, "sku": {"family": "A", "name": "standard"},
            "accessPolicies": [], "enableRbacAuthorization": true,
        }});
        arm.ask(Method::Put, &format!("{scope}?api-version=2023-07-01"), &vault).await?;
        let graph = Service::new(GRAPH, credential.clone());
        let query = format!("/v1.0/servicePrincipals?$filter=appId eq '{}'", self.client);
        let principals = graph.ask(Method::Get, &query, &Value::Null).await?;
        let role = format!("{}/providers/Microsoft.Authorization/roleDefinitions/{CRYPTO_OFFICER}", self.subscription);
        let assignment = json!({"properties": {
            "roleDefinitionId": role, "principalId": principals["value"][0]["id"], "principalType": "ServicePrincipal",
        }});
        let id = Uuid::new_v4();
        let path = format!("{scope}/providers/Microsoft.Authorization/roleAssignments/{id}?api-version=2022-04-01");
        arm.ask(Method::Put, &path, &assignment).await?;
        Ok(format!("https://{name}.vault.azure.net"))
    }
}

/// Resource Manager or Graph, on the pipeline that the SDK's own clients are made of.
struct Service {
    origin: &'static str,
    pipeline: Pipeline,
}

impl Service {
    fn new(origin: &'static str, credential: Arc<dyn TokenCredential>) -> Self {
        let sign_in = BearerTokenAuthorizationPolicy::new(credential, [format!("{origin}/.default")]);
        let policies: Vec<Arc<dyn Policy>> = vec![Arc::new(sign_in)];
        let options = ClientOptions::default();
        Self { origin, pipeline: Pipeline::new(None, None, options, Vec::new(), policies, None) }
    }

    async fn ask(&self, method: Method, path: &str, body: &Value) -> Result<Value> {
        let mut request = Request::new(Url::parse(&format!("{}{path}", self.origin))?, method);
        if !body.is_null() {
            request.insert_header("content-type", "application/json");
            request.set_body(body.to_string());
        }
        let response = self.pipeline.send(&Context::new(), &mut request, None).await?;
        Ok(serde_json::from_slice(response.body().as_ref())?)
    }
}
