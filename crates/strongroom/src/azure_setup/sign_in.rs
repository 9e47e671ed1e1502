//! The administrator's own sign-in: the Azure CLI's, a device code, or a service principal.
//!
//! Sources: Microsoft identity platform, OAuth 2.0 device authorization grant and client credentials flow;
//! `az account get-access-token`.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Mutex;
use std::time::Duration;

use reqwest::Method;
use serde_json::Value;
use strongroom_keys::azure::token_claims;
use tokio::{process::Command, time::Instant};
use url::form_urlencoded::Serializer;

use super::{
    client::text,
    way::{Kind, SetupError, Way},
};
use crate::secret_text::SecretText;

/// The Azure CLI's own public client, which every tenant knows and which may use Graph, Resource Manager and Key Vault
/// on a person's behalf.
const AZURE_CLI: &str = "04b07795-8ddb-461a-bbee-02f9e1bf7b46";
/// Where a person of any tenant signs in.
const ANY_TENANT: &str = "organizations";
const DEVICE_GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";
/// Longer than az needs to start on a slow machine and to refresh a token.
const AZ_PATIENCE: Duration = Duration::from_secs(60);

/// How tokens are come by.
pub struct SignIn(How);

enum How {
    ServicePrincipal {
        client_id: String,
        client_secret: SecretText,
    },
    AzureCli(AzureCli),
    /// A person who has entered a device code; the refresh token gives tokens for every face.
    Person {
        refresh_token: Mutex<SecretText>,
    },
}

impl SignIn {
    pub fn service_principal(client_id: String, client_secret: SecretText) -> Self {
        Self(How::ServicePrincipal { client_id, client_secret })
    }

    /// An access token for `https://HOST`.
    pub(super) async fn token(&self, way: &Way, tenant: &str, host: &str) -> Result<SecretText, SetupError> {
        let scope = format!("https://{host}/.default");
        match &self.0 {
            How::AzureCli(az) => az.token(host).await.map(|(token, _)| token),
            How::ServicePrincipal { client_id, client_secret } => {
                let form = [
                    ("grant_type", "client_credentials"),
                    ("client_id", client_id),
                    ("client_secret", client_secret.expose()),
                    ("scope", &scope),
                ];
                let answer = post(way, tenant, "token", &form).await?;
                text(&answer, "/access_token").map(SecretText::from)
            }
            How::Person { refresh_token } => {
                let refresh = SecretText::from(refresh_token.lock().expect("no holder panics").expose());
                let scope = format!("{scope} offline_access openid profile");
                let form = [
                    ("grant_type", "refresh_token"),
                    ("client_id", AZURE_CLI),
                    ("refresh_token", refresh.expose()),
                    ("scope", &scope),
                ];
                let answer = post(way, tenant, "token", &form).await?;
                if let Ok(newer) = text(&answer, "/refresh_token") {
                    *refresh_token.lock().expect("no holder panics") = newer.into();
                }
                text(&answer, "/access_token").map(SecretText::from)
            }
        }
    }
}

/// The `az` on this machine, and what its requests need to reach Azure.
pub struct AzureCli {
    program: PathBuf,
    /// Another than az would choose.
    tenant: Option<String>,
    arm_host: &'static str,
    environment: Vec<(&'static str, OsString)>,
}

impl AzureCli {
    /// The first `az` of `path`, which is the value of PATH; `None` if there is none. `tenant` is one other than az
    /// would choose.
    pub fn find(way: &Way, path: &OsStr, tenant: Option<String>) -> Option<Self> {
        let program = std::env::split_paths(path).map(|folder| folder.join("az")).find(|file| file.is_file())?;
        Some(Self { program, tenant, arm_host: way.hosts().arm, environment: Vec::new() })
    }

    /// Lets az go the same way as we do, where it was named on our command line.
    pub fn through(&mut self, proxy: Option<&url::Url>, ca_file: Option<&Path>) {
        self.environment.extend(proxy.map(|proxy| ("HTTPS_PROXY", proxy.as_str().into())));
        self.environment.extend(ca_file.map(|file| ("REQUESTS_CA_BUNDLE", file.into())));
    }

    /// Signs in as whoever is signed in to az; also tells the tenant.
    ///
    /// # Errors
    /// az fails, or nobody is signed in to it.
    pub async fn sign_in(self) -> Result<(SignIn, String), SetupError> {
        let (_, answer) = self.token(self.arm_host).await?;
        let tenant = text(&answer, "/tenant")?;
        Ok((SignIn(How::AzureCli(self)), tenant))
    }

    async fn token(&self, host: &str) -> Result<(SecretText, Value), SetupError> {
        let mut command = Command::new(&self.program);
        command.args(["account", "get-access-token", "--output", "json", "--resource", &format!("https://{host}")]);
        command.args(self.tenant.iter().flat_map(|tenant| ["--tenant", tenant]));
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).kill_on_drop(true);
        let ran = tokio::time::timeout(AZ_PATIENCE, command.output()).await;
        let ran = ran.map_err(|_| az_failed("it gave no token within 60 s"))?;
        let ran = ran.map_err(|error| az_failed(&error.to_string()))?;
        if !ran.status.success() {
            return Err(az_refused(&String::from_utf8_lossy(&ran.stderr)));
        }
        let answer: Value = serde_json::from_slice(&ran.stdout).map_err(|_| az_failed("its answer is not JSON"))?;
        let token = text(&answer, "/accessToken").map_err(|_| az_failed("its answer holds no token"))?;
        Ok((token.into(), answer))
    }
}

fn az_failed(why: &str) -> SetupError {
    SetupError::answer(format!("the Azure CLI did not work: {why}"))
        .advise("try `az account get-access-token`, or sign in otherwise: --sign-in device-code")
}

fn az_refused(said: &str) -> SetupError {
    if said.contains("az login") {
        return SetupError::new(Kind::Denied, "nobody is signed in to the Azure CLI")
            .advise("run `az login`, or sign in otherwise: --sign-in device-code");
    }
    let line = said.lines().find(|line| line.starts_with("ERROR")).or_else(|| said.lines().last());
    az_failed(line.unwrap_or("it ended without a word").trim_start_matches("ERROR: "))
}

/// A sign-in that waits for a person at a browser.
pub struct DeviceCode {
    /// Microsoft's own words, with the address and the code.
    pub message: String,
    code: SecretText,
    tenant: String,
    interval: Duration,
    until: Instant,
}

impl DeviceCode {
    /// Asks for a code, good in `tenant`, or in the person's own.
    pub async fn begin(way: &Way, tenant: Option<&str>) -> Result<Self, SetupError> {
        let tenant = tenant.unwrap_or(ANY_TENANT).to_owned();
        let scope = format!("https://{}/.default offline_access openid profile", way.hosts().arm);
        let answer = post(way, &tenant, "devicecode", &[("client_id", AZURE_CLI), ("scope", &scope)]).await?;
        let seconds = |name: &str, default: u64| answer.get(name).and_then(Value::as_u64).unwrap_or(default);
        Ok(Self {
            message: text(&answer, "/message")?,
            code: text(&answer, "/device_code")?.into(),
            tenant,
            // The grant's own defaults, RFC 8628.
            interval: Duration::from_secs(seconds("interval", 5).max(1)),
            until: Instant::now() + Duration::from_secs(seconds("expires_in", 900)),
        })
    }

    /// Waits until the person has signed in; also tells their tenant.
    ///
    /// # Errors
    /// The person declined, or the code's time ended.
    pub async fn wait(mut self, way: &Way) -> Result<(SignIn, String), SetupError> {
        loop {
            tokio::time::sleep(self.interval).await;
            let form = [("grant_type", DEVICE_GRANT), ("client_id", AZURE_CLI), ("device_code", self.code.expose())];
            let late = || SetupError::new(Kind::Denied, "the device code's time has ended").advise("start again");
            match post(way, &self.tenant, "token", &form).await {
                Ok(answer) => return person(&answer),
                Err(error) if error.is_code("authorization_pending") && Instant::now() < self.until => {}
                Err(error) if error.is_code("slow_down") && Instant::now() < self.until => {
                    self.interval += Duration::from_secs(5);
                }
                Err(error) if error.is_code("authorization_declined") => {
                    return Err(SetupError::new(Kind::Denied, "the sign-in was declined in the browser"));
                }
                Err(error)
                    if ["authorization_pending", "slow_down", "expired_token"]
                        .iter()
                        .any(|code| error.is_code(code)) =>
                {
                    return Err(late());
                }
                // A dropped connection is no answer; the code is still good.
                Err(error) if error.kind() == Kind::Unreachable && Instant::now() < self.until => {}
                Err(error) => return Err(error),
            }
        }
    }
}

fn person(answer: &Value) -> Result<(SignIn, String), SetupError> {
    let token = SecretText::from(text(answer, "/access_token")?);
    let claims: Option<Value> = token_claims(token.expose().as_bytes());
    let tenant = claims.as_ref().and_then(|claims| claims.get("tid")).and_then(Value::as_str);
    let tenant = tenant.ok_or_else(|| SetupError::answer("the token names no tenant"))?.to_owned();
    let refresh_token = Mutex::new(text(answer, "/refresh_token")?.into());
    Ok((SignIn(How::Person { refresh_token }), tenant))
}

/// A form to Entra: `https://LOGIN/TENANT/oauth2/v2.0/FACE`.
async fn post(way: &Way, tenant: &str, face: &str, form: &[(&str, &str)]) -> Result<Value, SetupError> {
    let url = format!("https://{}/{tenant}/oauth2/v2.0/{face}", way.cloud.login_host());
    let body = zeroize::Zeroizing::new(Serializer::new(String::new()).extend_pairs(form).finish());
    let request = way.request(Method::POST, &url)?.header("content-type", "application/x-www-form-urlencoded");
    way.send(request.body(body.as_bytes().to_vec())).await
}
