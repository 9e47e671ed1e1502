//! Signed-in requests to Graph, Resource Manager and Key Vault, as an administrator. For set-up only: the key
//! operations of vaults go through `strongroom_keys`.

use std::collections::HashMap;
use std::sync::Mutex;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::Method;
use serde_json::Value;
use strongroom_keys::azure::{Cloud, token_claims};
use url::Url;

use super::{
    sign_in::SignIn,
    way::{Kind, SetupError, Way},
};
use crate::secret_text::SecretText;

/// A service principal that does the set-up, with Owner on the subscription and rights in Graph.
pub struct Admin {
    pub tenant_id: String,
    pub client_id: String,
    pub client_secret: SecretText,
    pub subscription_id: String,
}

/// Which of Azure's faces a request goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target<'a> {
    Graph,
    Arm,
    /// A Key Vault, by its URL.
    KeyVault(&'a str),
}

/// One request, as data: the run sends it, the dry run prints it.
pub(super) struct Request<'a> {
    pub target: Target<'a>,
    pub method: &'static str,
    pub path: String,
    /// Not encoded yet.
    pub query: Vec<(&'static str, String)>,
    pub body: Option<Value>,
}

/// A subscription as its tenant's members see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    pub id: String,
    pub name: String,
    pub tenant_id: String,
}

/// Who is signed in, as role assignments name them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub object_id: String,
    /// `User` or `ServicePrincipal`.
    pub kind: &'static str,
    /// For a person to recognise: a user principal name, or an application's id.
    pub name: String,
}

/// An administrator's way to Azure.
pub struct Client {
    way: Way,
    sign_in: SignIn,
    tenant_id: String,
    subscription_id: String,
    /// By the host they are for.
    tokens: Mutex<HashMap<String, SecretText>>,
}

impl Client {
    /// As a service principal, through `proxy`, trusting `ca_pem` beside the platform's roots. Sends nothing.
    pub fn new(admin: Admin, cloud: Cloud, proxy: Option<&Url>, ca_pem: Option<&[u8]>) -> Result<Self, SetupError> {
        let way = Way::new(cloud, proxy, ca_pem)?;
        let sign_in = SignIn::service_principal(admin.client_id, admin.client_secret);
        Ok(Self { subscription_id: admin.subscription_id, ..Self::signed_in(way, sign_in, admin.tenant_id) })
    }

    /// As whoever `sign_in` stands for in that tenant. No subscription is chosen yet.
    pub fn signed_in(way: Way, sign_in: SignIn, tenant_id: String) -> Self {
        Self { way, sign_in, tenant_id, subscription_id: String::new(), tokens: Mutex::default() }
    }

    #[must_use]
    pub fn with_subscription(mut self, subscription: &Subscription) -> Self {
        self.subscription_id.clone_from(&subscription.id);
        self
    }

    pub fn tenant(&self) -> &str {
        &self.tenant_id
    }

    pub fn subscription(&self) -> &str {
        &self.subscription_id
    }

    pub(super) fn graph_host(&self) -> &'static str {
        self.way.hosts().graph
    }

    /// The enabled subscriptions that the account sees in its tenant.
    pub async fn subscriptions(&self) -> Result<Vec<Subscription>, SetupError> {
        let answer = self.send(Target::Arm, "GET", "/subscriptions?api-version=2022-12-01", None).await?;
        let rows = answer.get("value").and_then(Value::as_array).cloned().unwrap_or_default();
        let text = |row: &Value, name: &str| row.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let enabled = rows.iter().filter(|row| row.get("state").is_none_or(|state| state == "Enabled"));
        let subscriptions = enabled.map(|row| Subscription {
            id: text(row, "subscriptionId"),
            name: text(row, "displayName"),
            tenant_id: text(row, "tenantId"),
        });
        Ok(subscriptions.filter(|found| found.tenant_id == self.tenant_id).collect())
    }

    /// Who is signed in, from the claims of the account's own token.
    pub async fn identity(&self) -> Result<Identity, SetupError> {
        let host = self.way.hosts().arm;
        self.with_token(host, |token| {
            let claims: Value = token_claims(token.as_bytes())
                .ok_or_else(|| SetupError::answer("the account's token cannot be read"))?;
            let text = |name: &str| claims.get(name).and_then(Value::as_str).map(str::to_owned);
            let object_id = text("oid").ok_or_else(|| SetupError::answer("the account's token names no object id"))?;
            // Only a person's token carries scopes; Entra marks an application's as such.
            let person = text("idtyp").as_deref() != Some("app") && text("scp").is_some();
            let name = ["upn", "unique_name", "preferred_username", "appid"].into_iter().find_map(text);
            Ok(Identity {
                kind: if person { "User" } else { "ServicePrincipal" },
                name: name.unwrap_or_else(|| object_id.clone()),
                object_id,
            })
        })
        .await
    }

    /// One request, signed in. `path` starts with a slash and carries its own query.
    pub async fn send(
        &self,
        target: Target<'_>,
        method: &str,
        path: &str,
        body: Option<Value>,
    ) -> Result<Value, SetupError> {
        let answer = self.send_once(target, method, path, body.as_ref()).await;
        if !answer.as_ref().is_err_and(SetupError::is_unauthorized) {
            return answer;
        }
        // A token is good for an hour or so, and a person may take longer than that over a question.
        self.tokens.lock().expect("no holder panics").remove(self.audience(target));
        self.send_once(target, method, path, body.as_ref()).await
    }

    async fn send_once(
        &self,
        target: Target<'_>,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, SetupError> {
        let method = Method::from_bytes(method.as_bytes()).expect("callers write HTTP's own words");
        let mut request = self.way.request(method, &format!("{}{path}", self.origin(target)))?;
        request = self.with_token(self.audience(target), |token| Ok(request.bearer_auth(token))).await?;
        if let Some(body) = body {
            request = request.json(body);
        }
        self.way.send(request).await
    }

    pub(super) async fn ask(&self, request: &Request<'_>) -> Result<Value, SetupError> {
        let path = format!("{}{}", request.path, request.query(|value| utf8_percent_encode(value, NON_ALPHANUMERIC)));
        self.send(request.target, request.method, &path, request.body.clone()).await
    }

    /// Where a request goes: `https://graph.microsoft.com`.
    pub(super) fn origin(&self, target: Target<'_>) -> String {
        match target {
            Target::KeyVault(url) => url.to_owned(),
            other => format!("https://{}", self.audience(other)),
        }
    }

    fn audience(&self, target: Target<'_>) -> &'static str {
        let hosts = self.way.hosts();
        match target {
            Target::Graph => hosts.graph,
            Target::Arm => hosts.arm,
            Target::KeyVault(_) => hosts.key_vault,
        }
    }

    /// Hands out the token for a host, which is asked for once.
    async fn with_token<T>(
        &self,
        host: &str,
        use_it: impl FnOnce(&str) -> Result<T, SetupError>,
    ) -> Result<T, SetupError> {
        let known = self.tokens.lock().expect("no holder panics").contains_key(host);
        if !known {
            let token = self.sign_in.token(&self.way, &self.tenant_id, host).await?;
            self.tokens.lock().expect("no holder panics").insert(host.to_owned(), token);
        }
        use_it(self.tokens.lock().expect("no holder panics")[host].expose())
    }
}

impl Request<'_> {
    /// `?name=value&…`, each value as `encode` writes it.
    pub fn query<'v, V: std::fmt::Display>(&'v self, encode: impl Fn(&'v str) -> V) -> String {
        let pairs: Vec<String> = self.query.iter().map(|(name, value)| format!("{name}={}", encode(value))).collect();
        if pairs.is_empty() { String::new() } else { format!("?{}", pairs.join("&")) }
    }
}

/// A text of an answer by its JSON pointer.
pub(super) fn text(answer: &Value, pointer: &str) -> Result<String, SetupError> {
    let found = answer.pointer(pointer).and_then(Value::as_str);
    found.map(str::to_owned).ok_or_else(|| SetupError::new(Kind::Other, format!("Azure's answer lacks {pointer}")))
}
