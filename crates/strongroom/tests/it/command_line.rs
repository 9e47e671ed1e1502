//! The command line as a script meets it: the real binary, the real server, the documented exit codes.

use std::{io::Write, process::Stdio, sync::Arc, time::Duration};

use strongroom::{access::Role, server};
use strongroom_keys::TokenUse;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpListener,
    process::Command,
    sync::oneshot,
};

use crate::{
    azure::AzureWorld,
    credentials::{certificate, register},
};

mod audit;
mod vaults;

const SAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/samples");

/// A served world and a token of its Owner.
struct Desk {
    world: AzureWorld,
    url: String,
    token: String,
    _stop: oneshot::Sender<()>,
}

/// How a command ended.
struct Ended {
    code: i32,
    out: String,
    err: String,
}

#[tokio::test(flavor = "multi_thread")]
async fn a_field_is_read_by_its_reference_and_nothing_else_is_printed() {
    let desk = Desk::open().await;
    desk.world.account("Mail", "tide-and-lamp").await;
    let read = desk.run(&["read", "strongroom://Azure/Mail/Password"]).await;
    assert_eq!((read.code, read.out.trim_end(), read.err.as_str()), (0, "tide-and-lamp", ""));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_way_to_fail_has_its_exit_code_and_says_what_to_do() {
    let desk = Desk::open().await;
    desk.world.account("Mail", "tide-and-lamp").await;
    for (arguments, code) in [
        (&["read", "mail"][..], 2),
        (&["no-such-command"], 2),
        (&["read", "strongroom://Azure/Nothing/Password"], 3),
        (&["read", "strongroom://Azure/Mail/Nothing"], 3),
        (&["item", "get", "Nothing"], 3),
    ] {
        let ended = desk.run(arguments).await;
        assert_eq!(ended.code, code, "{arguments:?}: {}", ended.err);
        assert!(!ended.err.is_empty() && !ended.err.contains("tide-and-lamp"), "{arguments:?}: {}", ended.err);
    }
    let stranger = desk.run_as("srm_nobody", &["vault", "list"]).await;
    assert_eq!(stranger.code, 4, "{}", stranger.err);
    let nowhere = desk.run_at("http://127.0.0.1:9", &["vault", "list"]).await;
    assert_eq!(nowhere.code, 6, "{}", nowhere.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_prints_its_lines_and_as_json_one_document() {
    let desk = Desk::open().await;
    let table = desk.run(&["vault", "check", "Azure"]).await;
    assert_eq!(table.code, 0, "{}", table.err);
    assert!(table.out.contains("pass       key.compare"), "{}", table.out);
    let document = desk.run(&["--format", "json", "vault", "check", "Azure"]).await;
    let document: serde_json::Value = serde_json::from_str(&document.out).expect("one document");
    let checks = document["checks"].as_array().expect("a list");
    for check in checks {
        assert!(table.out.contains(check["title"].as_str().expect("a title")), "{check}");
    }

    desk.world.enable_key(false).await;
    let failed = desk.run(&["vault", "check", "Azure"]).await;
    let mended_by =
        "\n           az keyvault key set-attributes --vault-name customer-keys --name strongroom --version ";
    assert!(failed.code != 0 && failed.out.contains(mended_by), "{}", failed.out);
    assert!(failed.out.contains("[key.disabled]"), "{}", failed.out);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dark_vault_ends_with_5_and_names_the_command_that_mends_it() {
    let desk = Desk::open().await;
    desk.world.account("Mail", "tide-and-lamp").await;
    desk.world.enable_key(false).await;
    desk.world.app.keyring.canary_round(TokenUse::Cached).await.expect("a round");
    let read = desk.run(&["read", "strongroom://Azure/Mail/Password"]).await;
    assert_eq!(read.code, 5, "{}", read.err);
    assert!(read.err.contains("az keyvault key set-attributes --vault-name customer-keys"), "{}", read.err);
    assert!(!read.out.contains("tide-and-lamp"));
}

#[tokio::test(flavor = "multi_thread")]
async fn run_puts_values_into_the_environment_masks_them_and_passes_the_exit_code() {
    let desk = Desk::open().await;
    desk.world.account("Mail", "tide-and-lamp").await;
    let mut command = desk.command(&desk.url, &desk.token);
    command.env("MAIL", "strongroom://Azure/Mail/Password");
    command.args(["run", "--", "sh", "-c", "test \"$MAIL\" = tide-and-lamp && echo \"it is $MAIL\"; exit 7"]);
    let ended = finish(command).await;
    assert_eq!(ended.code, 7, "{}", ended.err);
    assert!(ended.out.starts_with("it is ") && !ended.out.contains("tide-and-lamp"), "{}", ended.out);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_says_what_became_of_each_row_and_can_be_repeated() {
    let desk = Desk::open().await;
    let file = format!("{SAMPLES}/chrome.csv");
    let dry = desk.run(&["--format", "json", "import", &file, "--dry-run"]).await;
    assert_eq!((dry.code, desk.items().await), (0, 0), "{}", dry.err);
    let first: serde_json::Value = desk.json(&["import", &file]).await;
    let (imported, skipped) = (first["imported"].as_u64(), first["skipped"].as_array().map(Vec::len));
    assert_eq!((imported, skipped), (Some(488), Some(12)));
    assert_eq!(desk.items().await, 488);
    let again: serde_json::Value = desk.json(&["import", &file]).await;
    assert_eq!(again["imported"].as_u64(), Some(0));
    assert_eq!(desk.items().await, 488);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_file_is_refused_with_the_place_of_the_trouble() {
    let desk = Desk::open().await;
    for (name, text, wanted) in [
        ("column.csv", &b"name,url,username,note\na,b,c,d\n"[..], "password"),
        ("bytes.csv", b"name,url,username,password,note\na,b,c,\xff\xfe,d\n", "UTF-8"),
        ("empty.csv", b"", "empty"),
    ] {
        let mut file = tempfile::Builder::new().suffix(name).tempfile().expect("a file");
        file.write_all(text).expect("written");
        let ended = desk.run(&["import", &file.path().display().to_string()]).await;
        assert_ne!(ended.code, 0);
        assert!(ended.err.contains(wanted), "{name}: {}", ended.err);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_sees_what_was_shared_and_no_more() {
    let desk = Desk::open().await;
    let (mail, _bank) = (desk.world.account("Mail", "tide-and-lamp").await, desk.world.account("Bank", "oar").await);
    let guest = desk.world.member("Grace", Role::Guest).await;
    let app = &desk.world.app;
    app.share_item(&desk.world.owner, mail, guest.member, strongroom::access::ItemRole::Viewer).await.expect("shared");
    let token = app.create_token(&guest, "test", 1).await.expect("a token");
    let list = desk.run_as(token.secret.expose(), &["item", "list"]).await;
    assert_eq!(list.code, 0, "{}", list.err);
    assert!(list.out.contains("Mail") && !list.out.contains("Bank"), "{}", list.out);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_comes_from_a_file_and_mistakes_with_it_are_named() {
    let desk = Desk::over(AzureWorld::without_vault(None).await).await;
    let values = &desk.world.values;
    let (pem, der) = certificate();
    register(&desk.world.administrator, &values.client_id, &der).await;
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str, content: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, content).expect("written");
        path.display().to_string()
    };
    let (good, pfx) = (file("good.pem", pem.as_bytes()), file("bad.pfx", &[0x30, 0x82, 0xff, 0xfe]));
    let connection = [
        ["--client-id", &values.client_id, "--tenant-id", &values.tenant_id],
        ["--vault-url", &values.vault_url, "--vault-key-name", &values.vault_key_name],
    ]
    .concat();
    let check =
        async |credential: &[&str]| desk.run(&[&["vault", "check"], &connection[..], credential].concat()).await;

    let refused = check(&["--client-certificate", &pfx]).await;
    assert_eq!(refused.code, 2, "{}", refused.err);
    assert!(refused.err.contains("openssl pkcs12"), "{}", refused.err);
    for both in [&["--workload-identity"][..], &["--client-secret-stdin"], &["--client-secret-expires", "2027-05-01"]] {
        let refused = check(&[&["--client-certificate", &good], both].concat()).await;
        assert_eq!(refused.code, 2, "{both:?}: {}", refused.err);
    }
    let nobody = check(&["--workload-identity"]).await;
    assert_eq!(nobody.code, 1, "{}", nobody.err);
    assert!(nobody.out.contains("azure.federated_token_file"), "{}", nobody.out);
    let passed = check(&["--client-certificate", &good]).await;
    assert_eq!(passed.code, 0, "{} {}", passed.out, passed.err);

    let create = ["vault", "create", "Azure", "--strategy", "azure-external-keys", "--client-certificate", &good];
    let made = desk.json(&[&create[..], &connection].concat()).await;
    let key = &made["key"];
    assert_eq!(
        (&key["credential_kind"], &key["credential_expires"]),
        (&"certificate".into(), &"2040-01-01T00:00:00Z".into())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vault_whose_checks_only_warn_is_made_once_that_is_accepted() {
    let desk = Desk::over(AzureWorld::without_vault(None).await).await;
    let values = &desk.world.values;
    let soon = (jiff::Timestamp::now() + jiff::SignedDuration::from_hours(240)).strftime("%Y-%m-%d").to_string();
    let create = [
        ["vault", "create", "Azure", "--strategy", "azure-external-keys", "--client-secret-stdin"].as_slice(),
        &["--client-id", &values.client_id, "--tenant-id", &values.tenant_id, "--client-secret-expires", &soon],
        &["--vault-url", &values.vault_url, "--vault-key-name", &values.vault_key_name],
    ]
    .concat();
    let made = async |more: &[&str]| {
        let secret = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(secret.path(), values.client_secret.expose()).expect("written");
        let mut command = desk.command(&desk.url, &desk.token);
        command.args(&create).args(more).stdin(std::fs::File::open(secret.path()).expect("opened"));
        end(command).await
    };

    let warned = made(&[]).await;
    assert_eq!(warned.code, 1, "{}", warned.err);
    assert!(warned.err.contains("credential.expiry") && warned.err.contains("--accept-warnings"), "{}", warned.err);
    assert!(!warned.err.contains("fail"), "nothing failed: {}", warned.err);
    let accepted = made(&["--accept-warnings"]).await;
    assert_eq!(accepted.code, 0, "{}", accepted.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vault_is_moved_its_progress_shown_and_its_account_told() {
    let desk = Desk::open().await;
    let world = &desk.world;
    let vaults = world.app.vaults(&world.owner).await.expect("listed");
    let cloud = vaults.iter().find(|vault| vault.id != world.vault).expect("the built-in vault");
    let content = crate::azure::account("Mail", "tide-and-lamp");
    world.app.create_item(&world.owner, Some(cloud.id), content).await.expect("created");
    let plan = desk.run(&["vault", "move", &cloud.name, "Azure", "--dry-run"]).await;
    assert_eq!(plan.code, 0, "{}", plan.err);
    assert!(plan.out.contains("would move 1 item with 1 revision"), "{}", plan.out);
    // The loop that works on jobs sleeps on this clock.
    let turning = async {
        loop {
            world.clock.advance(Duration::from_secs(1));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let arguments = ["vault", "move", &cloud.name, "Azure", "--wait"];
    let moved = tokio::select! {
        moved = desk.run(&arguments) => moved,
        () = turning => unreachable!("it turns until the other ends"),
    };
    assert_eq!(moved.code, 0, "{}", moved.err);
    let account = "found 1, came meanwhile 0: moved 1, kept 0, gone meanwhile 0, left 0";
    assert!(moved.out.contains(account) && moved.err.contains("1 of 1"), "{} {}", moved.out, moved.err);
    let jobs = desk.json(&["jobs", "list"]).await;
    assert_eq!((&jobs["items"][0]["kind"], &jobs["items"][0]["state"]), (&"move".into(), &"done".into()));
    let shown = desk.json(&["jobs", "show", jobs["items"][0]["id"].as_str().expect("an id")]).await;
    assert_eq!(shown["account"]["done"], 1);
    let back = desk.run(&["item", "move", "Mail", "--to", &cloud.name, "--weaken"]).await;
    assert_eq!(back.code, 1, "the vault's policy forbids it");
    assert!(back.err.contains("its policy forbids it"), "{}", back.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_is_written_whole_read_again_and_imported_again() {
    let desk = Desk::open().await;
    desk.world.account("Mail", "tide-and-lamp").await;
    desk.world.account("Post", "sail-and-oar").await;
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("acme.json").display().to_string();
    let plan = desk.json(&["export", "--dry-run"]).await;
    assert_eq!((plan["items"].as_u64(), plan["format"].as_str()), (Some(2), Some("encrypted_json")));
    let asked = desk.run(&["export", &file]).await;
    assert_eq!(asked.code, 2, "no terminal, no passphrase: {}", asked.err);
    let written = desk.piped("tide and lamp and six\n", &["export", &file, "--passphrase-stdin"]).await;
    assert_eq!(written.code, 0, "{}", written.err);
    assert!(written.out.contains("2 items, read again and whole"), "{}", written.out);
    assert!(written.err.contains("Not in the file:") && written.err.contains("earlier revisions"), "{}", written.err);
    let bytes = std::fs::read(&file).expect("written");
    assert!(!String::from_utf8_lossy(&bytes).contains("Mail"));
    let again = desk.piped("tide and lamp and six\n", &["export", &file, "--passphrase-stdin"]).await;
    assert_eq!((again.code, std::fs::read(&file).expect("there")), (2, bytes), "nothing is overwritten");
    let wrong = desk.piped("tide and lamb and six", &["import", &file, "--passphrase-stdin"]).await;
    assert!(wrong.code == 1 && wrong.err.contains("another one"), "{}", wrong.err);
    let arguments = ["import", &file, "--passphrase-stdin", "--allow-duplicates"];
    let imported = desk.piped("tide and lamp and six", &arguments).await;
    assert!(imported.code == 0 && imported.out.starts_with("Imported 2 into"), "{} {}", imported.out, imported.err);
    assert_eq!(desk.items().await, 4);

    let table = folder.path().join("acme.csv").display().to_string();
    let readable = desk.run(&["export", &table, "--plaintext", "csv"]).await;
    assert!(readable.code == 0 && readable.err.contains("WARNING"), "{}", readable.err);
    assert!(std::fs::read_to_string(&table).expect("written").contains("tide-and-lamp"));
    desk.world.enable_key(false).await;
    desk.world.app.keyring.canary_round(TokenUse::Cached).await.expect("a round");
    let dark = folder.path().join("dark.json").display().to_string();
    let dark_run = ["export", &dark, "--vault", "Azure", "--passphrase-stdin"];
    let refused = desk.piped("tide and lamp and six", &dark_run).await;
    assert_eq!(refused.code, 5, "{}", refused.err);
    assert!(!std::fs::exists(&dark).expect("looked"), "nothing is left behind");
    desk.world.clock.advance(Duration::from_secs(16 * 60));
    let stale = desk.run(&["export", "x.csv", "--plaintext", "csv"]).await;
    assert!(stale.code == 4 && stale.err.contains("strongroom login"), "{} {}", stale.code, stale.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_that_is_interrupted_leaves_nothing_behind() {
    let desk = Desk::open().await;
    desk.world.account("Mail", "tide-and-lamp").await;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("acme.json").display().to_string();
    let mut command = desk.command(&desk.url, &desk.token);
    command.args(["export", &path, "--passphrase-stdin"]).stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("started");
    let mut said = BufReader::new(child.stderr.take().expect("piped")).lines();
    while !said.next_line().await.expect("readable").expect("more").starts_with("Not in the file") {}
    // The export's first event waits for the one writer, and so does the command for its first bytes.
    let held = rusqlite::Connection::open(desk.world.database_file()).expect("the same file");
    held.execute_batch("BEGIN IMMEDIATE").expect("nobody writes");
    child.stdin.take().expect("piped").write_all(b"tide and lamp and six\n").await.expect("it reads");
    let left = || std::fs::read_dir(folder.path()).expect("ours").count();
    let end = std::time::Instant::now() + Duration::from_secs(20);
    while left() == 0 {
        assert!(std::time::Instant::now() < end, "it never began to write");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let pid = rustix::process::Pid::from_raw(child.id().expect("running").cast_signed()).expect("a process");
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("it is ours");
    assert_eq!(child.wait().await.expect("ended").code(), Some(1));
    assert_eq!(left(), 0);
    let mut last = String::new();
    while let Some(line) = said.next_line().await.expect("readable") {
        last += &line;
    }
    assert!(last.contains("no file was written"), "{last}");
}

impl Desk {
    async fn open() -> Self {
        Self::over(AzureWorld::start(None).await).await
    }

    async fn over(world: AzureWorld) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let (stop, stopped) = oneshot::channel::<()>();
        tokio::spawn(server::serve(Arc::clone(&world.app), listener, None, async {
            let _ = stopped.await;
        }));
        let token = world.app.create_token(&world.owner, "test", 1).await.expect("a token");
        Self { url, token: token.secret.expose().to_owned(), world, _stop: stop }
    }

    async fn run(&self, arguments: &[&str]) -> Ended {
        self.run_as(&self.token, arguments).await
    }

    /// With `input` on standard input.
    async fn piped(&self, input: &str, arguments: &[&str]) -> Ended {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(input.as_bytes()).expect("written");
        std::io::Seek::rewind(&mut file).expect("rewound");
        let mut command = self.command(&self.url, &self.token);
        command.args(arguments).stdin(Stdio::from(file));
        end(command).await
    }

    async fn run_as(&self, token: &str, arguments: &[&str]) -> Ended {
        let mut command = self.command(&self.url, token);
        command.args(arguments);
        finish(command).await
    }

    async fn run_at(&self, url: &str, arguments: &[&str]) -> Ended {
        let mut command = self.command(url, &self.token);
        command.args(arguments);
        finish(command).await
    }

    async fn json(&self, arguments: &[&str]) -> serde_json::Value {
        let ended = self.run(&[&["--format", "json"], arguments].concat()).await;
        serde_json::from_str(&ended.out).unwrap_or_else(|error| panic!("{error}: {} {}", ended.out, ended.err))
    }

    async fn items(&self) -> usize {
        let filter = strongroom::item::Filter { limit: usize::MAX, ..Default::default() };
        self.world.app.find_items(&self.world.owner, filter).await.expect("a list").total
    }

    fn command(&self, url: &str, token: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_strongroom"));
        command.env("STRONGROOM_URL", url).env("STRONGROOM_TOKEN", token).env_remove("STRONGROOM_FORMAT");
        command.env_remove("STRONGROOM_WORKSPACE").kill_on_drop(true);
        command
    }
}

async fn finish(mut command: Command) -> Ended {
    command.stdin(Stdio::null());
    end(command).await
}

/// The same, where something is piped in.
async fn end(mut command: Command) -> Ended {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = tokio::time::timeout(Duration::from_secs(20), command.output()).await;
    let output = output.expect("within 20 s").expect("it starts");
    Ended {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
