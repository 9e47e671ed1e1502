//! A typed client of the REST API, for the command line.

use std::net::IpAddr;
use std::time::Duration;

use reqwest::{Method, RequestBuilder, StatusCode, header, redirect};
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;
use url::{Host, Url};
use uuid::Uuid;

use crate::http::api::types::{
    AuditCheckpoint, AuditEvent, AuditProof, AuditQuery, Census, ChangeKey, ChangedKeyVault, Check, CheckNews,
    CheckVault, Checks, CreateItem, CreateVault, CreateWebhook, DeleteVault, Delivery, EditItem, EditVault, ExportPage,
    ExportPlan, ExportQuery, Item, ItemPage, ItemQuery, Job, JobKind, KeyChange, KeyChanges, KeyHealth, LoginAnswer,
    LoginRequest, Member, MoveItems, MovePlan, NewCredential, NewKeyVault, NewWebhook, Notice, NoticeQuery, Page,
    PageQuery, PlanExport, Problem, PurgeItems, PurgedItems, ReadNotices, ReplacedCredential, Revealed, SearchItems,
    StartExport, Vault, Webhook, WebhookTest, Workspace,
};
use crate::secret_text::SecretText;

/// How long an export may take in all.
const EXPORT_TIME: Duration = Duration::from_secs(4 * 3600);

/// One server, one workspace, one member's token.
pub struct Client {
    server: Server,
    workspace: String,
    token: SecretText,
}

/// A server that nobody is signed in to.
pub struct Server {
    http: reqwest::Client,
    url: Url,
}

#[derive(Debug, Error)]
pub enum ClientError {
    /// The server said no, and why.
    #[error("{}", .0.title)]
    Problem(Box<Problem>),
    #[error("no server answers at {url}: {reason}")]
    Unreachable { url: String, reason: String },
    #[error("what answers at {url} is not a Strongroom server (status {status})")]
    NotStrongroom { url: String, status: u16 },
    /// Less came than was to come.
    #[error("the answer of {url} broke off")]
    BrokenOff { url: String },
    #[error("{url} is not a server's address: {reason}")]
    BadUrl { url: String, reason: &'static str },
}

impl Server {
    /// `url` is scheme, host and port. `http:` is taken for this machine only, because a token would cross the network
    /// in the clear.
    pub fn new(url: &str) -> Result<Self, ClientError> {
        let url = server_url(url)?;
        // An error means that a provider is installed already, and there is only this one in the program.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let http = reqwest::Client::builder()
            .user_agent(concat!("strongroom/", env!("CARGO_PKG_VERSION")))
            // A redirect would carry the token to another host.
            .redirect(redirect::Policy::none())
            .connect_timeout(Duration::from_secs(5))
            .timeout(Duration::from_secs(60))
            .build()
            .expect("the settings above are sound");
        Ok(Self { http, url })
    }

    pub fn url(&self) -> &Url {
        &self.url
    }

    pub async fn login(&self, request: &LoginRequest) -> Result<LoginAnswer, ClientError> {
        self.send(self.request(Method::POST, &["login"]).json(request)).await
    }

    pub fn sign_in(self, workspace: String, token: SecretText) -> Client {
        Client { server: self, workspace, token }
    }

    /// The workspaces that a token opens.
    pub async fn workspaces(&self, token: &SecretText) -> Result<Page<Workspace>, ClientError> {
        self.send(self.request(Method::GET, &["workspaces"]).bearer_auth(token.expose())).await
    }

    fn request(&self, method: Method, path: &[&str]) -> RequestBuilder {
        let mut url = self.url.clone();
        url.path_segments_mut().expect("http: and https: URLs have a path").clear().extend(["api", "v1"]).extend(path);
        self.http.request(method, url)
    }

    async fn send<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, ClientError> {
        let answer = self.answered(request).await?;
        let status = answer.status();
        let body = answer.bytes().await.map_err(|error| self.unreachable(error))?;
        // An answer without a body, 204, is `()`.
        let body = if body.is_empty() { &b"null"[..] } else { &body };
        serde_json::from_slice(body).map_err(|_| self.foreign(status))
    }

    /// Checks that the server sends one a line, as they are made.
    async fn checks(&self, request: RequestBuilder, mut tell: impl FnMut(&Check)) -> Result<Checks, ClientError> {
        let mut answer = self.answered(request.header(header::ACCEPT, "application/x-ndjson")).await?;
        let status = answer.status();
        let (mut checks, mut unread) = (Vec::new(), Vec::new());
        while let Some(chunk) = answer.chunk().await.map_err(|error| self.unreachable(error))? {
            unread.extend_from_slice(&chunk);
            while let Some(end) = unread.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = unread.drain(..=end).collect();
                match serde_json::from_slice(&line).map_err(|_| self.foreign(status))? {
                    CheckNews::Check(check) => {
                        tell(&check);
                        checks.push(check);
                    }
                    CheckNews::Problem { problem } => return Err(ClientError::Problem(problem)),
                    CheckNews::End { end: true } => return Ok(Checks { checks }),
                    CheckNews::End { end: false } => return Err(self.foreign(status)),
                }
            }
        }
        Err(ClientError::BrokenOff { url: self.url.to_string() })
    }

    /// An answer that is not a refusal.
    async fn answered(&self, request: RequestBuilder) -> Result<reqwest::Response, ClientError> {
        let answer = request.send().await.map_err(|error| self.unreachable(error))?;
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let body = answer.bytes().await.map_err(|error| self.unreachable(error))?;
        match serde_json::from_slice::<Problem>(&body) {
            Ok(problem) => Err(ClientError::Problem(Box::new(problem))),
            Err(_) => Err(self.foreign(status)),
        }
    }

    fn unreachable(&self, error: reqwest::Error) -> ClientError {
        ClientError::Unreachable { url: self.url.to_string(), reason: innermost(&error.without_url()) }
    }

    /// Something other than our API answered: with a gateway's status the server behind it is away.
    fn foreign(&self, status: StatusCode) -> ClientError {
        let url = self.url.to_string();
        match status {
            StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => {
                ClientError::Unreachable { url, reason: format!("a proxy in front answers {status}") }
            }
            _ => ClientError::NotStrongroom { url, status: status.as_u16() },
        }
    }
}

impl Client {
    pub async fn vaults(&self) -> Result<Vec<Vault>, ClientError> {
        self.all(&["vaults"]).await
    }

    pub async fn vault(&self, id: Uuid) -> Result<Vault, ClientError> {
        self.send(self.request(Method::GET, &["vaults", &id.to_string()])).await
    }

    pub async fn create_vault(&self, request: &CreateVault) -> Result<Vault, ClientError> {
        self.send(self.request(Method::POST, &["vaults"]).json(request)).await
    }

    /// Tries a key that no vault uses yet. `tell` gets each check as soon as it is made.
    pub async fn check_azure(&self, request: &CheckVault, tell: impl FnMut(&Check)) -> Result<Checks, ClientError> {
        self.server.checks(self.request(Method::POST, &["vaults", "check"]).json(request), tell).await
    }

    /// Tries an existing vault's key with the stored credentials, as [`Client::check_azure`].
    pub async fn check_vault(&self, id: Uuid, tell: impl FnMut(&Check)) -> Result<Checks, ClientError> {
        self.server.checks(self.request(Method::POST, &["vaults", &id.to_string(), "check"]), tell).await
    }

    /// Tries an existing vault's key with another credential, as [`Client::check_azure`].
    pub async fn check_credential(
        &self,
        id: Uuid,
        request: &NewCredential,
        tell: impl FnMut(&Check),
    ) -> Result<Checks, ClientError> {
        let path = ["vaults", &id.to_string(), "credential", "check"];
        self.server.checks(self.request(Method::POST, &path).json(request), tell).await
    }

    pub async fn replace_credential(
        &self,
        id: Uuid,
        request: &NewCredential,
    ) -> Result<ReplacedCredential, ClientError> {
        self.send(self.request(Method::PUT, &["vaults", &id.to_string(), "credential"]).json(request)).await
    }

    /// Changes a vault's key, or says what that comes to.
    pub async fn change_key(&self, id: Uuid, kind: JobKind, request: ChangeKey) -> Result<KeyChange, ClientError> {
        self.send(self.request(Method::POST, &["vaults", &id.to_string(), kind.word()]).json(&request)).await
    }

    pub async fn rewrap_all(&self, request: ChangeKey) -> Result<KeyChanges, ClientError> {
        self.send(self.request(Method::POST, &["vaults", "rewrap"]).json(&request)).await
    }

    pub async fn census(&self, id: Uuid) -> Result<Census, ClientError> {
        self.send(self.request(Method::GET, &["vaults", &id.to_string(), "census"])).await
    }

    pub async fn retire_generation(&self, id: Uuid, generation: u32) -> Result<(), ClientError> {
        let path = ["vaults", &id.to_string(), "generations", &generation.to_string()];
        self.send(self.request(Method::DELETE, &path)).await
    }

    /// Fails with `412` if the vault's revision is not `revision` any more.
    pub async fn edit_vault(&self, id: Uuid, revision: u64, request: &EditVault) -> Result<Vault, ClientError> {
        let patch = self.request(Method::PATCH, &["vaults", &id.to_string()]);
        self.send(patch.header(header::IF_MATCH, format!("\"{revision}\"")).json(request)).await
    }

    /// Deletes an empty vault; `name` is its own, typed again.
    pub async fn delete_vault(&self, id: Uuid, name: &str) -> Result<(), ClientError> {
        let query = DeleteVault { name: name.to_owned() };
        let delete = self.with_query(Method::DELETE, &["vaults", &id.to_string()], &query);
        let _: serde_json::Value = self.send(delete).await?;
        Ok(())
    }

    /// Tries another key for an existing vault, as [`Client::check_azure`].
    pub async fn check_key_vault(
        &self,
        id: Uuid,
        request: &NewKeyVault,
        tell: impl FnMut(&Check),
    ) -> Result<Checks, ClientError> {
        let path = ["vaults", &id.to_string(), "key-vault", "check"];
        self.server.checks(self.request(Method::POST, &path).json(request), tell).await
    }

    pub async fn change_key_vault(&self, id: Uuid, request: &NewKeyVault) -> Result<ChangedKeyVault, ClientError> {
        self.send(self.request(Method::PUT, &["vaults", &id.to_string(), "key-vault"]).json(request)).await
    }

    pub async fn trash(&self, query: &ItemQuery) -> Result<ItemPage, ClientError> {
        self.send(self.query(&["trash"], query)).await
    }

    pub async fn restore_item(&self, id: Uuid) -> Result<(), ClientError> {
        let _: serde_json::Value =
            self.send(self.request(Method::POST, &["items", &id.to_string(), "restore"])).await?;
        Ok(())
    }

    /// Deletes forever all that the member owns in the trash.
    pub async fn empty_trash(&self) -> Result<PurgedItems, ClientError> {
        self.send(self.request(Method::DELETE, &["trash"])).await
    }

    pub async fn key_health(&self, vault: Uuid) -> Result<KeyHealth, ClientError> {
        self.send(self.request(Method::GET, &["vaults", &vault.to_string(), "health"])).await
    }

    pub async fn members(&self) -> Result<Vec<Member>, ClientError> {
        self.all(&["members"]).await
    }

    pub async fn items(&self, query: &ItemQuery) -> Result<ItemPage, ClientError> {
        self.send(self.query(&["items"], query)).await
    }

    pub async fn search(&self, request: &SearchItems) -> Result<ItemPage, ClientError> {
        self.send(self.request(Method::POST, &["items", "search"]).json(request)).await
    }

    pub async fn item(&self, id: Uuid) -> Result<Item, ClientError> {
        self.send(self.request(Method::GET, &["items", &id.to_string()])).await
    }

    pub async fn create_item(&self, request: &CreateItem) -> Result<Item, ClientError> {
        self.send(self.request(Method::POST, &["items"]).json(request)).await
    }

    /// Fails with `412` if the item's revision is not `revision` any more.
    pub async fn edit_item(&self, id: Uuid, revision: u64, request: &EditItem) -> Result<Item, ClientError> {
        let patch = self.request(Method::PATCH, &["items", &id.to_string()]);
        self.send(patch.header(header::IF_MATCH, format!("\"{revision}\"")).json(request)).await
    }

    /// Moves the item to the trash.
    pub async fn trash_item(&self, id: Uuid) -> Result<(), ClientError> {
        let _: serde_json::Value = self.send(self.request(Method::DELETE, &["items", &id.to_string()])).await?;
        Ok(())
    }

    /// Deletes items that are in the trash forever, at most 500.
    pub async fn purge_items(&self, items: Vec<Uuid>) -> Result<PurgedItems, ClientError> {
        self.send(self.request(Method::POST, &["trash", "purge"]).json(&PurgeItems { items })).await
    }

    pub async fn reveal(&self, id: Uuid) -> Result<Revealed, ClientError> {
        self.send(self.request(Method::POST, &["items", &id.to_string(), "reveal"])).await
    }

    /// What an export would hold.
    pub async fn plan_export(&self, request: &PlanExport) -> Result<ExportPlan, ClientError> {
        self.send(self.request(Method::POST, &["exports", "plan"]).json(request)).await
    }

    /// An export's file, each piece handed to `take` as it comes; `Ok` only when all of it came.
    pub async fn export<E: From<ClientError>>(
        &self,
        request: &StartExport,
        mut take: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let post = self.request(Method::POST, &["exports"]).json(request).timeout(EXPORT_TIME);
        let mut answer = self.server.answered(post).await?;
        let broken = |_| ClientError::BrokenOff { url: self.server.url.to_string() };
        while let Some(piece) = answer.chunk().await.map_err(broken)? {
            take(&piece)?;
        }
        Ok(())
    }

    /// Moves, or says what a move comes to.
    pub async fn start_move(&self, request: &MoveItems) -> Result<MovePlan, ClientError> {
        self.send(self.request(Method::POST, &["moves"]).json(request)).await
    }

    pub async fn jobs(&self) -> Result<Vec<Job>, ClientError> {
        self.all(&["jobs"]).await
    }

    pub async fn job(&self, id: Uuid) -> Result<Job, ClientError> {
        self.send(self.request(Method::GET, &["jobs", &id.to_string()])).await
    }

    /// `how` is `pause`, `resume` or `cancel`.
    pub async fn steer_job(&self, id: Uuid, how: &str) -> Result<Job, ClientError> {
        self.send(self.request(Method::POST, &["jobs", &id.to_string(), how])).await
    }

    pub async fn export_audit(&self, query: &ExportQuery) -> Result<ExportPage, ClientError> {
        self.send(self.query(&["audit", "export"], query)).await
    }

    pub async fn audit_checkpoint(&self) -> Result<AuditCheckpoint, ClientError> {
        self.send(self.request(Method::GET, &["audit", "checkpoint"])).await
    }

    pub async fn audit_proof(&self, event: Uuid) -> Result<AuditProof, ClientError> {
        self.send(self.request(Method::GET, &["audit", &event.to_string(), "proof"])).await
    }

    pub async fn audit(&self, query: &AuditQuery) -> Result<Page<AuditEvent>, ClientError> {
        self.send(self.query(&["audit"], query)).await
    }

    /// One page of notices, newest first.
    pub async fn notices(&self, query: &NoticeQuery) -> Result<Page<Notice>, ClientError> {
        self.send(self.query(&["notices"], query)).await
    }

    pub async fn read_notices(&self, request: &ReadNotices) -> Result<(), ClientError> {
        self.send(self.request(Method::POST, &["notices", "read"]).json(request)).await
    }

    pub async fn webhooks(&self) -> Result<Vec<Webhook>, ClientError> {
        self.all(&["webhooks"]).await
    }

    pub async fn create_webhook(&self, request: &CreateWebhook) -> Result<NewWebhook, ClientError> {
        self.send(self.request(Method::POST, &["webhooks"]).json(request)).await
    }

    pub async fn remove_webhook(&self, id: Uuid) -> Result<(), ClientError> {
        self.send(self.request(Method::DELETE, &["webhooks", &id.to_string()])).await
    }

    pub async fn test_webhook(&self, id: Uuid) -> Result<WebhookTest, ClientError> {
        self.send(self.request(Method::POST, &["webhooks", &id.to_string(), "test"])).await
    }

    pub async fn deliveries(&self, id: Uuid) -> Result<Vec<Delivery>, ClientError> {
        self.all(&["webhooks", &id.to_string(), "deliveries"]).await
    }

    /// All pages of a list.
    async fn all<T: DeserializeOwned>(&self, path: &[&str]) -> Result<Vec<T>, ClientError> {
        let mut query = PageQuery { cursor: None, limit: Some(200) };
        let mut all = Vec::new();
        loop {
            let page: Page<T> = self.send(self.query(path, &query)).await?;
            all.extend(page.items);
            query.cursor = page.next_cursor;
            if query.cursor.is_none() {
                return Ok(all);
            }
        }
    }

    /// The server's address, the workspace's slug and the token: for another client of the same.
    pub fn place(&self) -> (&Url, &str, &SecretText) {
        (&self.server.url, &self.workspace, &self.token)
    }

    fn request(&self, method: Method, path: &[&str]) -> RequestBuilder {
        let path = [&["workspaces", self.workspace.as_str()], path].concat();
        self.server.request(method, &path).bearer_auth(self.token.expose())
    }

    fn query(&self, path: &[&str], query: &impl Serialize) -> RequestBuilder {
        self.with_query(Method::GET, path, query)
    }

    fn with_query(&self, method: Method, path: &[&str], query: &impl Serialize) -> RequestBuilder {
        let mut url = self.server.url.clone();
        url.path_segments_mut()
            .expect("http: and https: URLs have a path")
            .clear()
            .extend(["api", "v1", "workspaces", &self.workspace])
            .extend(path);
        url.query_pairs_mut().extend_pairs(pairs(query));
        self.server.http.request(method, url).bearer_auth(self.token.expose())
    }

    async fn send<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, ClientError> {
        self.server.send(request).await
    }
}

fn server_url(text: &str) -> Result<Url, ClientError> {
    let bad = |reason| ClientError::BadUrl { url: text.to_owned(), reason };
    let url = Url::parse(text).map_err(|_| bad("write it as https://strongroom.example.com"))?;
    let local = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => IpAddr::from(address).is_loopback(),
        Some(Host::Ipv6(address)) => IpAddr::from(address).is_loopback(),
        None => return Err(bad("it names no host")),
    };
    match url.scheme() {
        "https" => {}
        "http" if local => {}
        "http" => return Err(bad("http: is for this machine only; a token needs https:")),
        _ => return Err(bad("write it as https://strongroom.example.com")),
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(bad("leave out name and password; sign in with `strongroom login`"));
    }
    if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
        return Err(bad("it ends after host and port"));
    }
    Ok(url)
}

/// A query type as name and value; what is `None` is left out by its own serde attributes.
fn pairs(query: &impl Serialize) -> Vec<(String, String)> {
    let value = serde_json::to_value(query).expect("query types are flat structs of strings and numbers");
    let fields = value.as_object().cloned().unwrap_or_default();
    fields
        .into_iter()
        .map(|(name, value)| {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            (name, text)
        })
        .collect()
}

/// reqwest says "error sending request"; the last cause says "connection refused".
fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::http::api::types::{AuditOutcome, ItemType};

    #[test]
    fn a_token_never_goes_over_plain_http_to_another_machine() {
        assert!(server_url("http://127.0.0.1:8470").is_ok());
        assert!(server_url("http://[::1]:8470/").is_ok());
        assert!(server_url("http://localhost:8470").is_ok());
        assert!(server_url("https://strongroom.example.com").is_ok());
        for url in [
            "http://strongroom.example.com",
            "http://localhost.example.com",
            "http://10.0.0.1",
            "strongroom.example.com",
            "ftp://127.0.0.1",
            "https://u:p@strongroom.example.com",
            "https://strongroom.example.com/app",
        ] {
            assert!(server_url(url).is_err(), "{url} was taken");
        }
    }

    #[test]
    fn queries_leave_out_what_is_absent() {
        let query = ItemQuery { item_type: Some(ItemType::Secret), limit: Some(9), ..ItemQuery::default() };
        let mut found = pairs(&query);
        found.sort();
        assert_eq!(found, [("limit".into(), "9".into()), ("type".into(), "secret".into())]);
        let query = AuditQuery { outcome: Some(AuditOutcome::Failed), ..AuditQuery::default() };
        assert_eq!(pairs(&query), [("outcome".into(), "failed".into())]);
    }

    /// A server that answers one request with these lines and hangs up, as a proxy does that gives up on it.
    async fn answers(lines: &str) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("its address"));
        let kind = "content-type: application/x-ndjson\r\nconnection: close";
        let answer = format!("HTTP/1.1 200 OK\r\n{kind}\r\ncontent-length: {}\r\n\r\n{lines}", lines.len());
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a caller");
            let mut asked = [0; 4096];
            assert_ne!(stream.read(&mut asked).await.expect("a request"), 0);
            stream.write_all(answer.as_bytes()).await.expect("an answer");
        });
        url
    }

    #[tokio::test]
    async fn checks_that_nothing_ended_do_not_count_however_well_they_look() {
        let line = r#"{"code":"key.compare","title":"t","status":"pass"}"#;
        for (lines, whole) in
            [(format!("{line}\n{{\"end\":true}}\n"), true), (format!("{line}\n"), false), (String::new(), false)]
        {
            let client =
                Server::new(&answers(&lines).await).expect("a URL").sign_in("demo".into(), SecretText::from("srm_x"));
            let mut told = 0;
            match client.check_vault(Uuid::nil(), |_| told += 1).await {
                Ok(checks) if whole => assert_eq!((checks.checks.len(), told), (1, 1)),
                Err(ClientError::BrokenOff { .. }) if !whole => {}
                other => panic!("{lines:?}: {other:?}"),
            }
        }
    }

    #[tokio::test]
    async fn a_closed_port_is_unreachable_with_the_reason() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("its address"));
        drop(listener);
        let client = Server::new(&url).expect("a good URL").sign_in("demo".into(), SecretText::from("srm_x"));
        match client.vaults().await {
            Err(ClientError::Unreachable { reason, .. }) => {
                assert!(reason.to_lowercase().contains("connection refused"), "{reason}");
            }
            _ => panic!("a closed port answered"),
        }
    }
}
