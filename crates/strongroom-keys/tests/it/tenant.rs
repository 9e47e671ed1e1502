//! A customer's Azure in the stand-in, set up over the wire as an administrator's tools do it.

use std::collections::BTreeMap;

use azure_standin::{Admin, Config, Effect, Fault, Match, Settings, Standin, test_keys};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use strongroom_keys::azure::{AzureAccess, AzureConfig, AzureKeys, AzureProvider, Cloud};
use strongroom_keys::{ClientId, Credential, CredentialInput, KeyName, TenantId, VaultUrl};
use uuid::Uuid;

pub const VAULT: &str = "acme-kv";
pub const HOST: &str = "acme-kv.vault.azure.net";
pub const KEY: &str = "strongroom-kek";
const CRYPTO_OFFICER: &str = "14b46e9e-c2b7-41b4-b07b-48a6ebf60603";
const SERVICE_ENCRYPTION_USER: &str = "e147488a-f6f5-4113-8e2d-b22465e65bf6";

/// A tenant with an application, a Key Vault and an RSA-4096 key that the application may wrap and unwrap with.
pub struct Tenant {
    pub standin: Standin,
    http: reqwest::Client,
    tokens: BTreeMap<&'static str, String>,
    application_object: String,
    pub client_id: String,
    pub principal: String,
    pub secret: String,
    assignment: String,
}

impl Tenant {
    pub async fn start() -> Tenant {
        Tenant::with(Settings { service_limits: None, ..Settings::default() }).await
    }

    pub async fn with(settings: Settings) -> Tenant {
        Tenant::of(Config { settings, ..Config::default() }).await
    }

    /// With the clock or settings of `config`.
    pub async fn of(config: Config) -> Tenant {
        let config = Config { rsa_pool: test_keys(), ..config };
        let standin = Standin::start(config).await.expect("a stand-in");
        let http = administrators_client(&standin);
        let admin = standin.admin().clone();
        let mut tokens = BTreeMap::new();
        for resource in ["https://graph.microsoft.com", "https://management.azure.com", "https://vault.azure.net"] {
            tokens.insert(resource, sign_in(&http, &admin, resource).await);
        }
        let mut tenant = Tenant {
            standin,
            http,
            tokens,
            application_object: String::new(),
            client_id: String::new(),
            principal: String::new(),
            secret: String::new(),
            assignment: String::new(),
        };
        tenant.make_application().await;
        tenant.make_key_vault(&admin).await;
        tenant.create_key(KEY, "RSA", 4096).await;
        tenant.assign_role().await;
        tenant
    }

    async fn make_application(&mut self) {
        let graph = "https://graph.microsoft.com/v1.0";
        let app = self.ask("POST", &format!("{graph}/applications"), json!({"displayName": "Strongroom"})).await;
        self.application_object = text(&app, "id");
        self.client_id = text(&app, "appId");
        let body = json!({"appId": self.client_id});
        self.principal = text(&self.ask("POST", &format!("{graph}/servicePrincipals"), body).await, "id");
        self.secret = self.add_secret(json!({"displayName": "strongroom"})).await.0;
    }

    /// A further secret: its Value and its ID.
    pub async fn add_secret(&self, credential: Value) -> (String, String) {
        let url = format!("https://graph.microsoft.com/v1.0/applications/{}/addPassword", self.application_object);
        let made = self.ask("POST", &url, json!({"passwordCredential": credential})).await;
        (text(&made, "secretText"), text(&made, "keyId"))
    }

    /// Registers a new certificate on the application, in place of any other, and returns it with its key as PEM.
    pub async fn register_certificate(&self) -> String {
        let (pem, der) = certificate();
        let entry = json!({"type": "AsymmetricX509Cert", "usage": "Verify", "key": STANDARD.encode(der)});
        self.change_application(json!({"keyCredentials": [entry]})).await;
        pem
    }

    /// The thumbprint that Graph shows of the registered certificate.
    pub async fn thumbprint(&self) -> String {
        let url = format!("https://graph.microsoft.com/v1.0/applications/{}", self.application_object);
        text(&self.ask("GET", &url, Value::Null).await["keyCredentials"][0], "customKeyIdentifier")
    }

    pub async fn remove_certificates(&self) {
        self.change_application(json!({"keyCredentials": []})).await;
    }

    async fn change_application(&self, change: Value) {
        let url = format!("https://graph.microsoft.com/v1.0/applications/{}", self.application_object);
        self.ask("PATCH", &url, change).await;
    }

    /// Lets the application trust `subject` of the issuer that the stand-in plays.
    pub async fn trust(&self, subject: &str) {
        self.trust_made_out_to(subject, "api://AzureADTokenExchange").await;
    }

    pub async fn trust_made_out_to(&self, subject: &str, audience: &str) {
        let (issuer, _) = self.standin.federated_token(subject);
        let audiences = [audience];
        let body = json!({"name": "strongroom", "issuer": issuer, "subject": subject, "audiences": audiences});
        self.ask("POST", &self.federations(), body).await;
    }

    pub async fn trust_nobody(&self) {
        self.ask("DELETE", &format!("{}/strongroom", self.federations()), Value::Null).await;
    }

    fn federations(&self) -> String {
        format!(
            "https://graph.microsoft.com/v1.0/applications/{}/federatedIdentityCredentials",
            self.application_object
        )
    }

    /// Switches the service principal off or on.
    pub async fn enable_principal(&self, enabled: bool) {
        let url = format!("https://graph.microsoft.com/v1.0/servicePrincipals/{}", self.principal);
        self.ask("PATCH", &url, json!({"accountEnabled": enabled})).await;
    }

    pub async fn delete_principal(&self) {
        let url = format!("https://graph.microsoft.com/v1.0/servicePrincipals/{}", self.principal);
        self.ask("DELETE", &url, Value::Null).await;
    }

    pub async fn delete_application(&self) {
        let url = format!("https://graph.microsoft.com/v1.0/applications/{}", self.application_object);
        self.ask("DELETE", &url, Value::Null).await;
    }

    async fn make_key_vault(&self, admin: &Admin) {
        let group = format!("/subscriptions/{}/resourcegroups/rg", admin.subscription_id);
        self.arm("PUT", &group, "2024-11-01", json!({"location": "westeurope"})).await;
        let properties = json!({
            "tenantId": admin.tenant_id,
            "sku": {"family": "A", "name": "standard"},
            "enableRbacAuthorization": true,
        });
        let body = json!({"location": "westeurope", "properties": properties});
        self.arm("PUT", &self.vault_id(), "2026-02-01", body).await;
        self.put_assignment(&self.vault_id(), CRYPTO_OFFICER, &admin.object_id).await;
    }

    pub fn vault_id(&self) -> String {
        let subscription = &self.standin.admin().subscription_id;
        format!("/subscriptions/{subscription}/resourceGroups/rg/providers/Microsoft.KeyVault/vaults/{VAULT}")
    }

    /// Changes properties of the Key Vault.
    pub async fn change_key_vault(&self, properties: Value) {
        let body = json!({"properties": properties});
        self.arm("PATCH", &self.vault_id(), "2026-02-01", body).await;
    }

    pub async fn delete_key_vault(&self) {
        self.arm("DELETE", &self.vault_id(), "2026-02-01", Value::Null).await;
    }

    pub async fn assign_role(&mut self) {
        self.assignment = self.put_assignment(&self.key_id(), SERVICE_ENCRYPTION_USER, &self.principal).await;
    }

    pub fn key_id(&self) -> String {
        format!("{}/keys/{KEY}", self.vault_id())
    }

    pub async fn remove_role(&self) {
        self.take_back(&self.assignment).await;
    }

    pub async fn take_back(&self, assignment: &str) {
        self.arm("DELETE", assignment, "2022-04-01", Value::Null).await;
    }

    /// Assigns a built-in role to the application; gives the assignment's resource id.
    pub async fn assign(&self, role: &str, scope: &str) -> String {
        self.put_assignment(scope, role, &self.principal).await
    }

    async fn put_assignment(&self, scope: &str, role: &str, principal: &str) -> String {
        let path = format!("{scope}/providers/Microsoft.Authorization/roleAssignments/{}", Uuid::new_v4());
        let subscription = &self.standin.admin().subscription_id;
        let role = format!("/subscriptions/{subscription}/providers/Microsoft.Authorization/roleDefinitions/{role}");
        let properties =
            json!({"roleDefinitionId": role, "principalId": principal, "principalType": "ServicePrincipal"});
        self.arm("PUT", &path, "2022-04-01", json!({"properties": properties})).await;
        path
    }

    /// Makes a key, or a further key version of it.
    pub async fn create_key(&self, name: &str, kty: &str, bits: u32) {
        self.key_vault("POST", &format!("/keys/{name}/create"), json!({"kty": kty, "key_size": bits})).await;
    }

    pub async fn rotate_key(&self) {
        self.key_vault("POST", &format!("/keys/{KEY}/rotate"), Value::Null).await;
    }

    pub async fn set_enabled(&self, enabled: bool) {
        self.change_key(json!({"attributes": {"enabled": enabled}})).await;
    }

    /// Changes the newest key version.
    pub async fn change_key(&self, body: Value) {
        self.key_vault("PATCH", &format!("/keys/{KEY}"), body).await;
    }

    /// Switches one key version off or on.
    pub async fn set_version_enabled(&self, key_version: &str, enabled: bool) {
        let body = json!({"attributes": {"enabled": enabled}});
        self.key_vault("PATCH", &format!("/keys/{KEY}/{key_version}"), body).await;
    }

    pub async fn delete_key(&self) {
        self.key_vault("DELETE", &format!("/keys/{KEY}"), Value::Null).await;
    }

    pub async fn recover_key(&self) {
        self.key_vault("POST", &format!("/deletedkeys/{KEY}/recover"), Value::Null).await;
    }

    async fn arm(&self, method: &str, path: &str, dated: &str, body: Value) -> Value {
        self.ask(method, &format!("https://management.azure.com{path}?api-version={dated}"), body).await
    }

    async fn key_vault(&self, method: &str, path: &str, body: Value) -> Value {
        self.ask(method, &format!("https://{HOST}{path}?api-version=7.6"), body).await
    }

    async fn ask(&self, method: &str, url: &str, body: Value) -> Value {
        let token = match url {
            url if url.starts_with("https://graph.") => &self.tokens["https://graph.microsoft.com"],
            url if url.starts_with("https://management.") => &self.tokens["https://management.azure.com"],
            _ => &self.tokens["https://vault.azure.net"],
        };
        let mut request = self.http.request(method.parse().expect("a method"), url).bearer_auth(token);
        if !body.is_null() {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        let answer = request.send().await.expect("an answer");
        let (status, bytes) = (answer.status(), answer.bytes().await.expect("a body"));
        assert!(status.is_success(), "{method} {url}: {status} {}", String::from_utf8_lossy(&bytes));
        serde_json::from_slice(&bytes).unwrap_or(Value::Null)
    }

    pub fn config(&self) -> AzureConfig {
        AzureConfig {
            cloud: Cloud::Public,
            proxy: Some(self.standin.proxy_url().parse().expect("a URL")),
            ca_pem: Some(self.standin.ca_pem().as_bytes().to_vec()),
            federated_token_file: None,
            request_ids: None,
        }
    }

    pub fn keys(&self) -> AzureKeys {
        AzureKeys::new(&self.config()).expect("a configuration")
    }

    /// What Strongroom is given, all of it right.
    pub fn access(&self) -> AzureAccess {
        AzureAccess {
            tenant: TenantId::parse(&self.standin.admin().tenant_id).expect("a tenant"),
            client: ClientId::parse(&self.client_id).expect("a client"),
            credential: secret(&self.secret),
            vault_url: VaultUrl::parse(&format!("https://{HOST}"), Cloud::Public).expect("a Key Vault"),
            key_name: KeyName::parse(KEY).expect("a key name"),
        }
    }

    pub fn provider(&self) -> AzureProvider {
        self.keys().provider(self.access())
    }

    /// Orders a fault for one operation (`unwrapkey`, `wrapkey`, `get`, `token`), until cleared.
    pub fn fault(&self, operation: &str, effect: Effect) {
        self.fault_times(operation, effect, None);
    }

    /// Orders a fault for one host, until cleared.
    pub fn fault_at(&self, host: &str, effect: Effect) {
        let matching = Match { host: Some(host.to_owned()), ..Match::default() };
        self.standin.set_fault(Fault { matching, effect, ..Fault::default() });
    }

    pub fn fault_times(&self, operation: &str, effect: Effect, times: Option<u64>) {
        let matching = Match { operation: Some(operation.to_owned()), ..Match::default() };
        self.standin.set_fault(Fault { matching, effect, times, ..Fault::default() });
    }
}

pub fn secret(value: &str) -> Credential {
    parsed(&CredentialInput::Secret(value))
}

pub fn parsed(input: &CredentialInput<'_>) -> Credential {
    Credential::parse(input).unwrap_or_else(|error| panic!("{error}"))
}

/// A new RSA key and its certificate: together as PEM, and the certificate as DER.
pub fn certificate() -> (String, Vec<u8>) {
    let key = rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048).expect("a key");
    let certificate = rcgen::CertificateParams::default().self_signed(&key).expect("a certificate");
    (format!("{}{}", key.serialize_pem(), certificate.pem()), certificate.der().to_vec())
}

/// An answer with this status and body in place of Azure's.
pub fn answer(status: u16, body: Value) -> Effect {
    Effect { status: Some(status), body: Some(body), ..Effect::default() }
}

fn administrators_client(standin: &Standin) -> reqwest::Client {
    // Fails when another test of the same process was first, which is as good.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    reqwest::Client::builder()
        .no_proxy()
        .proxy(reqwest::Proxy::all(standin.proxy_url()).expect("a proxy"))
        .tls_certs_merge([reqwest::Certificate::from_pem(standin.ca_pem().as_bytes()).expect("a CA")])
        .build()
        .expect("a client")
}

async fn sign_in(http: &reqwest::Client, admin: &Admin, resource: &str) -> String {
    let form = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("grant_type", "client_credentials")
        .append_pair("client_id", &admin.client_id)
        .append_pair("client_secret", &admin.client_secret)
        .append_pair("scope", &format!("{resource}/.default"))
        .finish();
    let answer = http
        .post(format!("https://login.microsoftonline.com/{}/oauth2/v2.0/token", admin.tenant_id))
        .header("content-type", "application/x-www-form-urlencoded")
        .body(form)
        .send()
        .await
        .expect("an answer");
    let bytes = answer.bytes().await.expect("a body");
    text(&serde_json::from_slice(&bytes).expect("JSON"), "access_token")
}

fn text(value: &Value, field: &str) -> String {
    value[field].as_str().unwrap_or_else(|| panic!("no {field} in {value}")).to_owned()
}
