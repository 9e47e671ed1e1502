//! Leaks: marked secrets go through every feature of the API, the command line's import and every kind of refusal; then
//! nothing that Strongroom leaves behind may hold one of them: database, WAL, every line of a log at its most talkative,
//! audit events, error bodies, keys and configuration. `search` knows the spellings.

mod search;

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use reqwest::Method;
use rusqlite::{Connection, types::ValueRef};
use serde_json::{Value, json};
use strongroom::{
    azure_setup,
    member::{Join, Origin},
    secret_text::SecretText,
};

use self::search::{Found, Mark, Searcher};
use crate::{
    child::{Answer, Api, Server, log_file},
    credentials::{certificate, register},
    site::{OWNER, PATIENCE, SLUG, Site, Wishes, close},
};

const GUEST: &str = "guest@example.com";
/// Half of every mark, so that none is a word that anybody else writes.
const SALT: &str = "q7Zp4d1c8e77";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_marked_secret_is_left_behind_anywhere() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let database = format!("sqlite:{}", folder.path().join("strongroom.db").display());
    let wishes = Wishes { folder: folder.path(), database, owner_password: &mark("owner password") };
    let site = Site::build(wishes).await;
    let mut run = Run { api: Api::of(&site), marks: Vec::new(), refused: Vec::new(), answered: Vec::new() };
    for (name, minted) in [
        ("API token", &site.token),
        ("setup link", &site.setup_link),
        ("session", &site.session),
        ("client secret", &site.azure.client_secret),
    ] {
        run.minted(name, minted.expose());
    }
    run.marks.push(Mark { name: "owner password".into(), text: mark("owner password") });
    let server = Server::start(&site, "trace").await;
    let item = run.items(&site).await;
    let link = run.members(&item).await;
    run.refusals(&site, &item).await;
    run.import(&site, folder.path());
    server.kill();
    run.join(&site, &link).await;
    let server = Server::start_with(&site, &[("STRONGROOM_LOG", "trace"), ("STRONGROOM_LOG_FORMAT", "json")]).await;
    run.sign_in(&item).await;
    run.dark(&site, &item).await;
    server.kill();
    run.nothing_is_left(folder.path());
}

/// Text that nobody else writes, with what programs stumble over when they quote.
fn mark(name: &str) -> String {
    format!("LEAKMARK {name} ä\"\\ {SALT}")
}

/// One way through the product, and what was seen on it.
struct Run {
    api: Api,
    marks: Vec<Mark>,
    /// Error bodies, with the request that they answered.
    refused: Vec<(String, String)>,
    /// Bodies of answers that may hold what was typed.
    answered: Vec<String>,
}

impl Run {
    /// A mark that the test makes, remembered.
    fn mark(&mut self, name: &str) -> String {
        self.marked(name, mark(name))
    }

    fn marked(&mut self, name: &str, text: String) -> String {
        self.marks.push(Mark { name: name.to_owned(), text: text.clone() });
        text
    }

    /// A secret that the product or Azure made: its last part is what nobody can guess.
    fn minted(&mut self, name: &str, secret: &str) {
        let part = secret.rsplit(['/', '_', '.']).find(|part| part.len() >= 16).unwrap_or(secret);
        self.marks.push(Mark { name: name.to_owned(), text: part.to_owned() });
    }

    async fn send(&mut self, method: Method, path: &str, revision: Option<u64>, body: Value) -> Answer {
        let raw = (!body.is_null()).then(|| body.to_string().into_bytes());
        self.send_raw(method, &format!("/api/v1/workspaces/{SLUG}{path}"), revision, raw).await
    }

    async fn send_raw(&mut self, method: Method, path: &str, revision: Option<u64>, body: Option<Vec<u8>>) -> Answer {
        let answer = self.api.try_raw(method.clone(), path, revision, body).await;
        let answer = answer.unwrap_or_else(|| panic!("no answer to {method} {path}"));
        match answer.status {
            200..=299 => self.answered.push(answer.text.clone()),
            status => self.refused.push((format!("{method} {path} ({status})"), answer.text.clone())),
        }
        answer
    }

    /// The same, and it has to be refused with `status`.
    async fn refuse(&mut self, status: u16, method: Method, path: &str, revision: Option<u64>, body: Value) {
        self.send(method, path, revision, body).await.expect(status);
    }

    /// Everything that can be done with an item, in both vaults; returns the path of the Azure vault's.
    async fn items(&mut self, site: &Site) -> String {
        let mut last = String::new();
        for (vault, id) in [("cloud", site.cloud_vault), ("azure", site.azure_vault)] {
            let mut body = self.whole_item(vault);
            body["vault_id"] = id.to_string().into();
            let made = self.send(Method::POST, "/items", None, body).await.expect(201).json();
            let item = format!("/items/{}", made["id"].as_str().expect("an id"));
            self.send(Method::GET, &item, None, Value::Null).await.expect(200);
            self.send(Method::POST, &format!("{item}/reveal"), None, Value::Null).await.expect(200);
            let title = self.mark(&format!("{vault} edited title"));
            let value = self.mark(&format!("{vault} edited value"));
            let edit = json!({"title": title, "fields": [{"name": "Password", "kind": "password", "value": value}]});
            self.send(Method::PATCH, &item, Some(1), edit).await.expect(200);
            self.send(Method::GET, &format!("{item}/history"), None, Value::Null).await.expect(200);
            for revision in 1..=2 {
                let older = format!("{item}/history/{revision}/reveal");
                self.send(Method::POST, &older, None, Value::Null).await.expect(200);
            }
            self.send(Method::POST, &format!("{item}/history/1/restore"), None, Value::Null).await.expect(200);
            self.send(Method::DELETE, &item, None, Value::Null).await.expect(204);
            self.send(Method::GET, "/trash", None, Value::Null).await.expect(200);
            self.send(Method::POST, &format!("{item}/restore"), None, Value::Null).await.expect(204);
            last = item;
        }
        let query = self.mark("search query");
        self.send(Method::POST, "/items/search", None, json!({"query": query})).await.expect(200);
        self.send(Method::POST, "/items/search", None, json!({"query": "LEAKMARK"})).await.expect(200);
        self.send(Method::GET, "/items", None, Value::Null).await.expect(200);
        let import = json!({"items": [self.whole_item("imported")]});
        self.send(Method::POST, "/items/import", None, import).await.expect(200);
        let passphrase = self.mark("export passphrase");
        self.send(Method::POST, "/exports", None, json!({"passphrase": passphrase})).await.expect(200);
        self.send(Method::POST, "/exports", None, json!({"format": "json"})).await.expect(200);
        self.send(Method::GET, "/audit", None, Value::Null).await.expect(200);
        last
    }

    /// An item with a mark wherever something can be typed.
    fn whole_item(&mut self, prefix: &str) -> Value {
        let letters: String = prefix.to_uppercase().chars().filter(char::is_ascii_uppercase).collect();
        let code = self.marked(&format!("{prefix} TOTP secret"), format!("LEAKMARKTOTP{letters}Q2XW7RZ5KLMNOPQR"));
        let host = self.marked(&format!("{prefix} URL"), format!("leakmark-{prefix}-{SALT}.example.com"));
        let mut mark = |name: &str| self.mark(&format!("{prefix} {name}"));
        json!({
            "type": "account",
            "title": mark("title"),
            "urls": [format!("https://{host}/sign-in")],
            "usernames": [mark("username")],
            "labels": [mark("label")],
            "fields": [
                {"name": mark("field name"), "kind": "password", "value": mark("field value")},
                {"name": "Notes", "kind": "notes", "value": mark("notes").repeat(1500)},
                {"name": "One-time code", "kind": "totp", "value": code},
                {"name": "Key", "kind": "private_key", "value": mark("private key")},
            ],
        })
    }

    /// Invites somebody and shares the item with them; returns the secret of their link.
    async fn members(&mut self, item: &str) -> String {
        let invite = json!({"email": GUEST, "name": "Gus Guest", "role": "guest"});
        let invited = self.send(Method::POST, "/members", None, invite).await.expect(201).json();
        let link = invited["link"].as_str().expect("a link");
        self.minted("invitation link", link);
        let member = invited["member"]["id"].as_str().expect("an id");
        let grant = format!("{item}/roles/{member}");
        self.send(Method::PUT, &grant, None, json!({"role": "viewer"})).await.expect(204);
        link.rsplit('/').next().expect("a link has a path").to_owned()
    }

    /// Every kind of no.
    async fn refusals(&mut self, site: &Site, item: &str) {
        let secret = self.mark("refused value");
        let field = |value: Value| json!([{"name": "a", "kind": "hidden", "value": value}]);
        self.refuse(412, Method::PATCH, item, Some(99), json!({"title": secret})).await;
        self.refuse(428, Method::PATCH, item, None, json!({"title": secret})).await;
        for body in [
            json!({"type": secret, "title": secret}),
            json!({"type": "account", "title": secret, "unknown": secret}),
            json!({"type": "account", "title": [secret]}),
            json!({"type": "account", "title": secret.repeat(40)}),
            json!({"type": "account", "title": "a", "fields": secret}),
            json!({"type": "account", "title": "a", "fields": [{"name": "a", "kind": secret, "value": secret}]}),
            json!({"type": "account", "title": "a", "fields": field(json!({"is": secret}))}),
            json!({"type": "account", "title": "a", "fields": field(secret.repeat(4000).into())}),
        ] {
            self.refuse(422, Method::POST, "/items", None, body).await;
        }
        let items = format!("/api/v1/workspaces/{SLUG}/items");
        let broken = format!("{{\"type\": \"account\", \"title\": {}", json!(secret));
        let latin = [b"{\"title\": \"LEAKMARK ".as_slice(), SALT.as_bytes(), b" \xff\"}"].concat();
        self.marked("not UTF-8", format!("LEAKMARK {SALT}"));
        for body in [broken.into_bytes(), latin] {
            self.send_raw(Method::POST, &items, None, Some(body)).await.expect(400);
        }
        let huge = format!("{{\"title\": {}}}", json!(secret.repeat(70_000)));
        self.too_large(&items, huge.into_bytes()).await;
        let in_path = self.marked("path", format!("leakmark-path-{SALT}"));
        self.refuse(404, Method::GET, &format!("/items/{in_path}"), None, Value::Null).await;
        self.refuse(404, Method::GET, &format!("/{in_path}"), None, Value::Null).await;
        self.refuse(422, Method::GET, &format!("/items?cursor={in_path}"), None, Value::Null).await;
        self.refuse(422, Method::GET, &format!("/items?limit={in_path}"), None, Value::Null).await;
        self.wrong_keys(site).await;
        self.wrong_people().await;
    }

    /// The server says no before it has read everything, so the answer may be lost with the connection: it is asked
    /// again until it arrives.
    async fn too_large(&mut self, path: &str, body: Vec<u8>) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            assert!(Instant::now() < deadline, "no answer to a body that is too large arrives");
            if let Some(answer) = self.api.try_raw(Method::POST, path, None, Some(body.clone())).await {
                let answer = answer.expect(413);
                self.refused.push((format!("POST {path} (413)"), answer.text));
                return;
            }
        }
    }

    /// Azure's own refusals, which come back through the checks.
    async fn wrong_keys(&mut self, site: &Site) {
        let secret = self.marked("wrong client secret", format!("leakmark~{SALT}~client-secret~0123456789"));
        let azure = json!({
            "client_id": site.azure.client_id, "tenant_id": site.azure.tenant_id, "client_secret": secret,
            "vault_url": site.azure.vault_url, "vault_key_name": site.azure.vault_key_name,
        });
        self.send(Method::POST, "/vaults/check", None, json!({"azure": azure})).await.expect(200);
        self.with_certificate(site).await;
        let vault = json!({"name": "Third", "strategy": "azure_external_keys", "azure": azure});
        self.refuse(422, Method::POST, "/vaults", None, vault).await;
        let mut swapped = azure.clone();
        swapped["tenant_id"] = self.mark("secret typed as tenant id").into();
        self.send(Method::POST, "/vaults/check", None, json!({"azure": swapped})).await.expect(200);
        let check = format!("/vaults/{}/check", site.azure_vault);
        self.send(Method::POST, &check, None, Value::Null).await.expect(200);
    }

    /// A vault that signs in with a certificate, and the ways to mistake one.
    async fn with_certificate(&mut self, site: &Site) {
        let (pem, der) = certificate();
        register(&site.admin, &site.azure.client_id, &der).await;
        let line = pem.lines().nth(3).expect("a key of many lines");
        self.marked("certificate's key", line.to_owned());
        let mut azure = json!({
            "client_id": site.azure.client_id, "tenant_id": site.azure.tenant_id, "client_certificate": pem,
            "vault_url": site.azure.vault_url, "vault_key_name": site.azure.vault_key_name,
        });
        let vault =
            json!({"name": "Second", "strategy": "azure_external_keys", "azure": azure, "accept_warnings": true});
        let made = self.send(Method::POST, "/vaults", None, vault).await.expect(201).json();
        let check = format!("/vaults/{}/check", made["id"].as_str().expect("an id"));
        self.send(Method::POST, &check, None, Value::Null).await.expect(200);
        azure["client_certificate"] = pem.split("-----END").next().expect("a beginning").into();
        self.send(Method::POST, "/vaults/check", None, json!({"azure": azure})).await.expect(200);
        azure["client_secret"] = pem.into();
        self.refuse(422, Method::POST, "/vaults/check", None, json!({"azure": azure})).await;
    }

    async fn wrong_people(&mut self) {
        let password = self.mark("wrong password");
        let mut login = json!({"email": OWNER, "password": password, "token_name": "test"});
        self.send_raw(Method::POST, "/api/v1/login", None, Some(login.to_string().into())).await.expect(401);
        // Who types the password where the address belongs.
        login["email"] = self.mark("password typed as address").into();
        self.send_raw(Method::POST, "/api/v1/login", None, Some(login.to_string().into())).await;
        let token = self.marked("unknown token", format!("leakmarktoken{SALT}"));
        let stranger = self.api.with_token(&format!("srm_{token}"));
        let known = std::mem::replace(&mut self.api, stranger);
        self.refuse(401, Method::GET, "/items", None, Value::Null).await;
        self.api = known;
    }

    /// The command line's import, with a row that it takes and one that it cannot take.
    fn import(&mut self, site: &Site, folder: &Path) {
        let (good, bad) = (self.mark("import row"), self.mark("failed import row"));
        let quoted = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
        let rows = [
            "name,url,username,password,note".to_owned(),
            format!("Mail,https://mail.example.com,ada,{},", quoted(&good)),
            format!("{},https://mail.example.com,ada,x,", quoted(&bad.repeat(30))),
        ];
        // Beside the folder that is searched: the file is the user's own.
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        fs::write(file.path(), rows.join("\n")).expect("the file is ours");
        let ran = Command::new(env!("CARGO_BIN_EXE_strongroom"))
            .args(["--server", &site.url, "--workspace", SLUG, "import", "--from", "chrome"])
            .arg(file.path())
            .env("STRONGROOM_TOKEN", site.token.expose())
            .stdin(Stdio::null())
            .output()
            .expect("the command runs");
        fs::write(folder.join("import.out"), [ran.stdout, ran.stderr].concat()).expect("the folder is ours");
    }

    /// The invited member takes up the link.
    async fn join(&mut self, site: &Site, link: &str) {
        let app = site.open().await;
        let password = SecretText::from(self.mark("member password"));
        let origin = Origin { address: [127, 0, 0, 1].into(), agent: "test".into() };
        let session = app.join(link, Join { name: "Gus Guest".into(), password }, &origin).await.expect("joined");
        self.minted("member session", session.token.expose());
        close(app).await;
    }

    async fn sign_in(&mut self, item: &str) {
        let login = json!({"email": GUEST, "password": mark("member password"), "token_name": "test"});
        let answer = self.send_raw(Method::POST, "/api/v1/login", None, Some(login.to_string().into())).await;
        let token = answer.expect(200).json()["token"].as_str().expect("a token").to_owned();
        self.minted("member token", &token);
        let guest = self.api.with_token(&token);
        let owner = std::mem::replace(&mut self.api, guest);
        self.send(Method::POST, &format!("{item}/reveal"), None, Value::Null).await.expect(200);
        let secret = self.mark("forbidden edit");
        self.refuse(403, Method::PATCH, item, Some(3), json!({"title": secret})).await;
        self.api = owner;
    }

    /// The key is switched off while the vault is in use.
    async fn dark(&mut self, site: &Site, item: &str) {
        let (url, key) = (&site.azure.vault_url, &site.azure.vault_key_name);
        azure_setup::set_enabled(&site.admin, url, key, false).await.expect("the key is switched off");
        let deadline = Instant::now() + PATIENCE;
        while self.send(Method::POST, &format!("{item}/reveal"), None, Value::Null).await.status != 423 {
            assert!(Instant::now() < deadline, "the vault does not go dark");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        let secret = self.mark("written in the dark");
        self.refuse(423, Method::PATCH, item, Some(3), json!({"title": secret})).await;
        let vault = site.azure_vault;
        let body = json!({"vault_id": vault, "type": "account", "title": secret});
        self.refuse(423, Method::POST, "/items", None, body).await;
        let export = json!({"vault_id": vault, "passphrase": secret});
        self.refuse(423, Method::POST, "/exports", None, export).await;
        self.refuse(423, Method::GET, item, None, Value::Null).await;
        self.refuse(423, Method::DELETE, item, None, Value::Null).await;
        self.send(Method::GET, "/items", None, Value::Null).await.expect(200);
        let check = format!("/vaults/{vault}/check");
        self.send(Method::POST, &check, None, Value::Null).await.expect(200);
    }

    fn nothing_is_left(&self, folder: &Path) {
        let searcher = Searcher::of(&self.marks);
        let answered = searcher.search("answers", self.answered.join("\n").as_bytes());
        for name in ["cloud title", "azure field value", "imported title", "azure edited value"] {
            assert!(answered.iter().any(|found| found.mark == name), "{name} never came back, so nothing is proven");
        }
        let log = fs::read_to_string(log_file(folder)).expect("the server wrote a log");
        assert!(log.contains(" TRACE ") && log.contains("request"), "the log is not as talkative as it should be");
        let structured = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()).collect::<Vec<_>>();
        let of = |field: &str, value: &str| structured.iter().any(|line| line[field] == value);
        assert!(
            of("level", "TRACE") && of("route", "/api/v1/login"),
            "the JSON log is not as talkative as it should be"
        );
        let mut found: Vec<Found> = files_of(folder)
            .into_iter()
            .flat_map(|(name, bytes)| searcher.search(&name, &bytes))
            .chain(rows_of(&folder.join("strongroom.db")).into_iter().flat_map(|(at, row)| searcher.search(&at, &row)))
            .chain(self.refused.iter().flat_map(|(request, body)| searcher.search(request, body.as_bytes())))
            .collect();
        found.sort();
        found.dedup();
        let told: Vec<_> =
            found.iter().map(|Found { mark, spelling, place }| format!("{mark}, {spelling}: {place}")).collect();
        assert!(found.is_empty(), "{} leaks:\n{}", found.len(), told.join("\n"));
        assert!(!has_azure_token(&log), "the log holds an access token of Azure");
    }
}

/// Every file that the server or the command line left.
fn files_of(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(folder).expect("the folder is ours").map(|entry| entry.expect("readable").path());
    let files: Vec<_> = entries
        .map(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            (name, fs::read(&path).expect("the folder holds files only"))
        })
        .collect();
    let names: Vec<_> = files.iter().map(|(name, _)| name.as_str()).collect();
    for wanted in
        ["strongroom.db", "strongroom.db-wal", "strongroom.key", "strongroom.toml", "server.log", "import.out"]
    {
        assert!(names.contains(&wanted), "{wanted} is missing among {names:?}");
    }
    files
}

/// Every value of every table: in the file itself a long one may be cut in two by a page's end.
fn rows_of(database: &Path) -> Vec<(String, Vec<u8>)> {
    let connection = Connection::open(database).expect("the database opens");
    let mut names = connection.prepare("SELECT name FROM sqlite_master WHERE type = 'table'").expect("a schema");
    let names = names.query_map([], |row| row.get::<_, String>(0)).expect("tables");
    let mut values = Vec::new();
    for table in names.map(|name| name.expect("a name")) {
        let mut statement = connection.prepare(&format!("SELECT * FROM {table}")).expect("a table");
        let columns: Vec<_> = statement.column_names().map(|column| format!("{table}.{column}")).collect();
        let mut rows = statement.query([]).expect("rows");
        while let Some(row) = rows.next().expect("a row") {
            for (index, column) in columns.iter().enumerate() {
                if let ValueRef::Text(bytes) | ValueRef::Blob(bytes) = row.get_ref(index).expect("a value") {
                    values.push((column.clone(), bytes.to_vec()));
                }
            }
        }
    }
    assert!(values.iter().any(|(column, _)| column == "audit_events.bytes"), "no audit events were read");
    values
}

/// A JSON Web Token begins with the base64url of `{"`.
fn has_azure_token(log: &str) -> bool {
    regex::Regex::new(r"eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}\.").expect("a pattern").is_match(log)
}
