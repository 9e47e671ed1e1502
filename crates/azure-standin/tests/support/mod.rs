//! A plain HTTP client of the stand-in, and the set-up that most tests start from.
#![allow(dead_code, reason = "each test binary uses its own part of this")]

use std::sync::Arc;
use std::time::Duration;

use azure_standin::{Admin, Config, ManualClock, Settings, Standin, test_keys};
use jiff::Timestamp;
use reqwest::{Certificate, Method, Proxy};
use serde_json::{Value, json};

pub const CRYPTO_OFFICER: &str = "14b46e9e-c2b7-41b4-b07b-48a6ebf60603";
pub const ENCRYPTION_USER: &str = "e147488a-f6f5-4113-8e2d-b22465e65bf6";
pub const VAULT: &str = "https://kv-one.vault.azure.net";
pub const ARM: &str = "https://management.azure.com";
pub const GRAPH: &str = "https://graph.microsoft.com/v1.0";

pub struct Answer {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub text: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error} in {:?}", self.text))
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub fn code(&self) -> String {
        self.json()["error"]["code"].as_str().unwrap_or_default().to_owned()
    }

    pub fn inner(&self) -> String {
        self.json()["error"]["innererror"]["code"].as_str().unwrap_or_default().to_owned()
    }

    pub fn message(&self) -> String {
        self.json()["error"]["message"].as_str().unwrap_or_default().to_owned()
    }

    /// Panics with the body unless the status is as expected.
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.text);
        self
    }
}

/// Who may use the key `app-key` in `kv-one`, as steps 1 to 4 of a customer's set-up make it.
pub struct App {
    pub tenant: String,
    pub client: String,
    pub secret: String,
    pub object_id: String,
    pub key_id: String,
    pub application: String,
}

pub struct Azure {
    pub standin: Standin,
    pub clock: Arc<ManualClock>,
    pub http: reqwest::Client,
}

impl Azure {
    pub async fn start() -> Self {
        Self::with(Settings::default()).await
    }

    pub async fn with(settings: Settings) -> Self {
        let clock = Arc::new(ManualClock::new(Timestamp::now()));
        let config = Config { clock: clock.clone(), rsa_pool: test_keys(), settings, ..Config::default() };
        let standin = Standin::start(config).await.unwrap();
        let http = client(&standin);
        Self { standin, clock, http }
    }

    /// The present second, as the stand-in sees it.
    pub fn standin_now(&self) -> i64 {
        use azure_standin::Clock;
        self.clock.now().as_second()
    }

    pub async fn send(&self, method: &str, url: &str, token: Option<&str>, body: Value) -> Answer {
        self.try_send(method, url, token, body).await.unwrap()
    }

    pub async fn try_send(&self, method: &str, url: &str, token: Option<&str>, body: Value) -> reqwest::Result<Answer> {
        let mut request = self.http.request(Method::from_bytes(method.as_bytes()).unwrap(), url);
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        if !body.is_null() {
            request = request.json(&body);
        }
        let response = request.send().await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Ok(Answer { status, headers, text: response.text().await? })
    }

    pub async fn sign_in(&self, tenant: &str, client: &str, secret: &str, scope: &str) -> Answer {
        sign_in(&self.http, tenant, client, secret, scope).await
    }

    pub async fn token(&self, admin: &Admin, resource: &str) -> String {
        token(&self.http, admin, resource).await
    }

    pub async fn app_token(&self, app: &App) -> String {
        let answer = self.sign_in(&app.tenant, &app.client, &app.secret, "https://vault.azure.net/.default").await;
        answer.expect(200).json()["access_token"].as_str().unwrap().to_owned()
    }

    pub async fn admin_token(&self, resource: &str) -> String {
        self.token(self.standin.admin(), resource).await
    }

    /// A call of ARM as the administrator; `path` follows the subscription.
    pub async fn arm(&self, method: &str, path: &str, body: Value) -> Answer {
        let token = self.admin_token(ARM).await;
        let separator = if path.contains('?') { '&' } else { '?' };
        let subscription = &self.standin.admin().subscription_id;
        let url = format!("{ARM}/subscriptions/{subscription}{path}{separator}api-version=2022-04-01");
        self.send(method, &url, Some(&token), body).await
    }

    pub async fn graph(&self, method: &str, path: &str, body: Value) -> Answer {
        let token = self.admin_token("https://graph.microsoft.com").await;
        self.send(method, &format!("{GRAPH}{path}"), Some(&token), body).await
    }

    /// A call of the Key Vault `kv-one`; `path` starts with `/keys`.
    pub async fn vault(&self, method: &str, path: &str, token: &str, body: Value) -> Answer {
        let separator = if path.contains('?') { '&' } else { '?' };
        self.send(method, &format!("{VAULT}{path}{separator}api-version=7.5"), Some(token), body).await
    }

    /// A call of the Key Vault as the administrator.
    pub async fn officer(&self, method: &str, path: &str, body: Value) -> Answer {
        let token = self.admin_token("https://vault.azure.net").await;
        self.vault(method, path, &token, body).await
    }

    pub async fn assign(&self, scope: &str, role: &str, principal: &str) -> Answer {
        let name = uuid::Uuid::new_v4();
        let subscription = &self.standin.admin().subscription_id;
        let role = format!("/subscriptions/{subscription}/providers/Microsoft.Authorization/roleDefinitions/{role}");
        let body = json!({"properties": {
            "roleDefinitionId": role, "principalId": principal, "principalType": "ServicePrincipal",
        }});
        self.arm("PUT", &format!("{scope}/providers/Microsoft.Authorization/roleAssignments/{name}"), body).await
    }

    /// Resource group, Key Vault, and the administrator's right to make keys in it.
    pub async fn make_vault(&self, properties: Value) {
        self.arm("PUT", "/resourcegroups/rg", json!({"location": "westeurope"})).await;
        let mut wanted = json!({
            "tenantId": self.standin.admin().tenant_id, "sku": {"family": "A", "name": "standard"},
            "enableRbacAuthorization": true,
        });
        for (name, value) in properties.as_object().into_iter().flatten() {
            wanted[name] = value.clone();
        }
        let body = json!({"location": "westeurope", "properties": wanted});
        self.arm("PUT", VAULT_PATH, body).await.expect(200);
        let admin = self.standin.admin().object_id.clone();
        self.assign(VAULT_PATH, CRYPTO_OFFICER, &admin).await.expect(201);
    }

    /// The whole set-up, with a key of 2048 bits.
    pub async fn set_up(&self) -> App {
        self.make_vault(json!({})).await;
        let application = self.graph("POST", "/applications", json!({"displayName": "app"})).await.expect(201).json();
        let (id, client) = (text(&application["id"]), text(&application["appId"]));
        let principal = self.graph("POST", "/servicePrincipals", json!({"appId": client})).await.expect(201).json();
        let password = self.graph("POST", &format!("/applications/{id}/addPassword"), json!({})).await.expect(200);
        let key =
            self.officer("POST", "/keys/app-key/create", json!({"kty": "RSA", "key_size": 2048})).await.expect(200);
        let app = App {
            tenant: self.standin.admin().tenant_id.clone(),
            client,
            secret: text(&password.json()["secretText"]),
            object_id: text(&principal["id"]),
            key_id: text(&key.json()["key"]["kid"]),
            application: id,
        };
        self.assign(&format!("{VAULT_PATH}/keys/app-key"), ENCRYPTION_USER, &app.object_id).await.expect(201);
        app
    }

    pub async fn wrap(&self, token: &str, value: &[u8]) -> Answer {
        let body = json!({"alg": "RSA-OAEP-256", "value": b64(value)});
        self.vault("POST", "/keys/app-key//wrapkey", token, body).await
    }

    /// Unwraps with the key version of `kid`.
    pub async fn unwrap(&self, token: &str, kid: &str, value: &Value) -> Answer {
        let path = kid.strip_prefix(VAULT).unwrap();
        self.vault("POST", &format!("{path}/unwrapkey"), token, json!({"alg": "RSA-OAEP-256", "value": value})).await
    }
}

pub const VAULT_PATH: &str = "/resourceGroups/rg/providers/Microsoft.KeyVault/vaults/kv-one";

/// A client that knows the stand-in as any program knows a corporate proxy, and nothing else of it.
pub fn client(standin: &Standin) -> reqwest::Client {
    client_of(&standin.proxy_url(), standin.ca_pem().as_bytes())
}

pub fn client_of(proxy: &str, ca: &[u8]) -> reqwest::Client {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    reqwest::Client::builder()
        .proxy(Proxy::https(proxy).unwrap())
        .tls_certs_only([Certificate::from_pem(ca).unwrap()])
        .timeout(Duration::from_secs(20))
        .build()
        .unwrap()
}

pub async fn sign_in(http: &reqwest::Client, tenant: &str, client: &str, secret: &str, scope: &str) -> Answer {
    let url = format!("https://login.microsoftonline.com/{tenant}/oauth2/v2.0/token");
    let form =
        [("grant_type", "client_credentials"), ("client_id", client), ("client_secret", secret), ("scope", scope)];
    post_form(http, &url, &form).await
}

pub async fn post_form(http: &reqwest::Client, url: &str, fields: &[(&str, &str)]) -> Answer {
    let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
    let kind = "application/x-www-form-urlencoded";
    let response = http.post(url).header("content-type", kind).body(body).send().await.unwrap();
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    Answer { status, headers, text: response.text().await.unwrap() }
}

pub async fn token(http: &reqwest::Client, admin: &Admin, resource: &str) -> String {
    let scope = format!("{resource}/.default");
    let answer = sign_in(http, &admin.tenant_id, &admin.client_id, &admin.client_secret, &scope).await.expect(200);
    text(&answer.json()["access_token"])
}

pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}

pub fn b64(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes)
}
