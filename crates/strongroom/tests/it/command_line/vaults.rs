//! `vault edit`, `delete`, `key-vault` and `credential`: what they do, what they refuse, and the examples of their help.

use std::process::Stdio;

use strongroom::azure_setup::{self, Plan};

use super::{Desk, Ended, end, finish};

/// What a refusal for failed checks begins with.
const CHECKS_FAILED: &str = "check";

#[tokio::test(flavor = "multi_thread")]
async fn a_vault_is_renamed_closed_and_opened_and_every_mistake_is_named() {
    let desk = Desk::open().await;
    let cloud = desk.cloud().await;
    for (arguments, code, words) in [
        (&["vault", "edit", "Nothing", "--name", "Crew"][..], 3, "Nothing"),
        (&["vault", "edit", &cloud], 2, "--name"),
        (&["vault", "edit", &cloud, "--state", "open"], 2, "closed"),
        (&["vault", "edit", &cloud, "--name", "Azure"], 1, "name"),
        (&["vault", "edit", &cloud, "--lease-seconds", "1"], 1, "From 15 to 300 seconds"),
        (&["vault", "edit", &cloud, "--may-leave", "on"], 1, "have something to leave"),
        (&["vault", "edit", "Azure", "--state", "closed"], 1, "Make another vault the default one first"),
    ] {
        let ended = desk.run(arguments).await;
        assert_eq!(ended.code, code, "{arguments:?}: {}", ended.err);
        assert!(ended.err.contains(words), "{arguments:?}: {}", ended.err);
    }
    let edited = desk.json(&["vault", "edit", &cloud, "--name", "Crew", "--lease-seconds", "60", "--default"]).await;
    assert_eq!((&edited["name"], &edited["lease_seconds"]), (&"Crew".into(), &60.into()));
    assert_eq!(edited["default"], true);
    for state in ["closed", "disabled", "active"] {
        let said = desk.run(&["vault", "edit", "Azure", "--state", state]).await;
        assert!(said.code == 0 && said.out.starts_with("Changed Azure ("), "{} {}", said.out, said.err);
        assert_eq!(desk.vault("Azure").await["state"], state);
    }
    assert_eq!(desk.run(&["vault", "edit", "Azure", "--may-leave", "on"]).await.code, 0);
    assert_eq!(desk.vault("Azure").await["may_leave"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_an_empty_vault_is_deleted_and_by_its_name() {
    let desk = Desk::open().await;
    let world = &desk.world;
    let cloud = desk.cloud().await;
    let id = desk.vault(&cloud).await["id"].as_str().expect("an id").parse().map(strongroom::id::VaultId);
    let content = crate::azure::account("Mail", "tide-and-lamp");
    world.app.create_item(&world.owner, Some(id.expect("a UUID")), content).await.expect("created");
    for (arguments, code, words) in [
        (&["vault", "delete", "Nothing", "--name", "Nothing"][..], 3, "Nothing"),
        (&["vault", "delete", &cloud], 2, "give --name"),
        (&["vault", "delete", &cloud, "--name", "cloud?"], 1, "exactly as it is shown"),
        (&["vault", "delete", &cloud, "--name", &cloud], 1, "still holds 1 item"),
        (&["vault", "delete", "Azure", "--name", "Azure"], 1, "Make another vault the default one first"),
    ] {
        let ended = desk.run(arguments).await;
        assert_eq!(ended.code, code, "{arguments:?}: {}", ended.err);
        assert!(ended.err.contains(words), "{arguments:?}: {}", ended.err);
    }
    assert_eq!(desk.run(&["vault", "create", "Short-lived", "--strategy", "cloud"]).await.code, 0);
    let deleted = desk.run(&["vault", "delete", "Short-lived", "--name", "Short-lived"]).await;
    assert!(deleted.code == 0 && deleted.out.starts_with("Deleted Short-lived ("), "{} {}", deleted.out, deleted.err);
    assert_eq!(desk.run(&["vault", "check", "Short-lived"]).await.code, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_key_vault_is_checked_and_then_the_vault_goes_there() {
    let desk = Desk::open().await;
    let plan = Plan::new("Elsewhere", "keys-2", "other-keys", "westeurope", "elsewhere");
    let other = azure_setup::set_up(&desk.world.administrator, &plan, &|_| {}).await.expect("steps 1 to 4");
    let kid = desk.vault("Azure").await["key"]["kid"].clone();
    let key_vault = async |key: &str, more: &[&str]| {
        let place = ["vault", "key-vault", "Azure", "--vault-url", &other.vault_url, "--vault-key-name", key];
        let whose = ["--client-id", &other.client_id, "--client-secret-stdin"];
        desk.with_secret(other.client_secret.expose(), &[&place[..], &whose, more].concat()).await
    };

    let wrong = key_vault("nothing", &["--check"]).await;
    assert_eq!(wrong.code, 1, "{} {}", wrong.out, wrong.err);
    assert!(wrong.out.contains("FAIL") && wrong.err.contains("checks failed"), "{} {}", wrong.out, wrong.err);
    let checked = key_vault(&other.vault_key_name, &["--check"]).await;
    assert_eq!(checked.code, 0, "{} {}", checked.out, checked.err);
    assert!(checked.out.contains("pass       key.compare"), "{}", checked.out);
    assert_eq!(desk.vault("Azure").await["key"]["kid"], kid, "checking changes nothing");
    assert_eq!(desk.json(&["jobs", "list"]).await["items"], serde_json::json!([]));

    let refused = key_vault("nothing", &[]).await;
    assert!(refused.code == 1 && refused.err.contains(CHECKS_FAILED), "{} {}", refused.code, refused.err);
    let both = key_vault(&other.vault_key_name, &["--workload-identity"]).await;
    assert_eq!(both.code, 2, "{}", both.err);
    let cloud = desk.cloud().await;
    let place = ["--vault-url", &other.vault_url, "--vault-key-name", &other.vault_key_name];
    let no_key = desk.run(&[&["vault", "key-vault", &cloud], &place[..]].concat()).await;
    assert!(no_key.code == 1 && no_key.err.contains("A Cloud vault has no key in Azure to change"), "{}", no_key.err);

    let changed = key_vault(&other.vault_key_name, &["--accept-warnings"]).await;
    assert_eq!(changed.code, 0, "{} {}", changed.out, changed.err);
    assert!(changed.out.contains("Azure goes to the new key by the job"), "{}", changed.out);
    let jobs = desk.json(&["jobs", "list"]).await;
    assert_eq!((&jobs["items"][0]["kind"], jobs["items"].as_array().map(Vec::len)), (&"rewrap".into(), Some(1)));
    let again = key_vault(&other.vault_key_name, &["--accept-warnings"]).await;
    assert!(
        again.code == 1 && again.err.contains("This is the key that the vault uses already"),
        "{} {}",
        again.code,
        again.err
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_is_checked_replaced_and_its_end_noted() {
    let desk = Desk::open().await;
    let credential = ["vault", "credential", "Azure"];
    for (more, code, words) in [
        (&[][..], 2, "--client-secret-stdin"),
        (&["--expiry-only"], 2, "--client-secret-expires"),
        (&["--workload-identity", "--client-secret-stdin"], 2, "cannot be used with"),
        (&["--client-certificate", "/no/such/file.pem"], 1, "cannot read /no/such/file.pem"),
        (&["--expiry-only", "--client-secret-expires", "soon"], 1, "2027-05-01"),
    ] {
        let ended = desk.run(&[&credential[..], more].concat()).await;
        assert_eq!(ended.code, code, "{more:?}: {}", ended.err);
        assert!(ended.err.contains(words), "{more:?}: {}", ended.err);
    }
    let (wrong, right) = ("not-the-secret", desk.world.values.client_secret.expose());
    let piped = async |secret: &str, more: &[&str]| {
        desk.with_secret(secret, &[&credential[..], &["--client-secret-stdin"], more].concat()).await
    };
    let refused = piped(wrong, &["--check"]).await;
    assert!(refused.code == 1 && refused.out.contains("[credential.refused]"), "{} {}", refused.out, refused.err);
    let refused = piped(wrong, &[]).await;
    assert!(refused.code == 1 && refused.err.contains(CHECKS_FAILED), "{} {}", refused.code, refused.err);
    assert!(!format!("{} {}", refused.out, refused.err).contains("not-the-secret"));

    let checked = piped(right, &["--check"]).await;
    assert_eq!(checked.code, 0, "{} {}", checked.out, checked.err);
    let replaced = piped(right, &["--accept-warnings", "--client-secret-expires", "2030-05-01"]).await;
    assert_eq!(replaced.code, 0, "{} {}", replaced.out, replaced.err);
    assert!(replaced.out.contains("Azure has a new credential."), "{}", replaced.out);
    let noted = [&credential[..], &["--expiry-only", "--client-secret-expires", "2031-05-01"]].concat();
    let noted = desk.json(&noted).await;
    assert_eq!(noted["vault"]["key"]["credential_expires"], "2031-05-01T00:00:00Z");
    let said = desk.run(&[&credential[..], &["--expiry-only", "--client-secret-expires", "2032-05-01"]].concat()).await;
    assert!(said.out.contains("Noted when the credential of Azure ends."), "{} {}", said.out, said.err);
    let cloud = desk.cloud().await;
    let none = desk.run(&["vault", "credential", &cloud, "--workload-identity"]).await;
    assert_eq!(none.code, 1, "{}", none.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_example_of_the_help_is_a_command_that_there_is() {
    for command in ["edit", "delete", "key-vault", "credential"] {
        let help = bare(&["vault", command, "--help"]).await;
        let joined = help.out.replace("\\\n", " ");
        let examples: Vec<&str> =
            joined.lines().map(str::trim).filter(|line| line.starts_with("strongroom ")).collect();
        assert!(!examples.is_empty(), "{command}: {}", help.out);
        for example in examples {
            let typed = example.split_once(" <").map_or(example, |(typed, _)| typed);
            let arguments: Vec<&str> = typed.split_whitespace().skip(1).collect();
            // Past the reading of its arguments, nobody is signed in: that is the end of it.
            let ended = bare(&arguments).await;
            assert_ne!(ended.code, 2, "{example}: {}", ended.err);
            assert_ne!(ended.code, 0, "{example}: {}", ended.err);
        }
    }
}

/// A command that knows of no server.
async fn bare(arguments: &[&str]) -> Ended {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_strongroom"));
    command.env("STRONGROOM_URL", "http://127.0.0.1:9").env("STRONGROOM_TOKEN", "srm_nobody").kill_on_drop(true);
    command.env_remove("STRONGROOM_WORKSPACE").env_remove("STRONGROOM_FORMAT").args(arguments);
    finish(command).await
}

impl Desk {
    /// The name of the built-in vault.
    async fn cloud(&self) -> String {
        let vaults = self.json(&["vault", "list"]).await;
        let cloud = vaults["items"].as_array().expect("a list").iter().find(|vault| vault["strategy"] == "cloud");
        cloud.expect("the built-in vault")["name"].as_str().expect("a name").to_owned()
    }

    async fn vault(&self, name: &str) -> serde_json::Value {
        let vaults = self.json(&["vault", "list"]).await;
        let named = vaults["items"].as_array().expect("a list").iter().find(|vault| vault["name"] == name);
        named.expect("a vault of this name").clone()
    }

    /// A command into which a client secret is piped.
    async fn with_secret(&self, secret: &str, arguments: &[&str]) -> Ended {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), secret).expect("written");
        let mut command = self.command(&self.url, &self.token);
        command.args(arguments).stdin(Stdio::from(std::fs::File::open(file.path()).expect("opened")));
        end(command).await
    }
}
